//! Where the main loop gets its inputs from, and whom it tells what: the probes; in tests, somebody who never stops talking.

use std::time::{Duration, Instant};

use crate::{event::Event, facts::ProcessSample, probes::ProbeState};

/// Records taken in one turn of the main loop at most.
const TURN_RECORDS: usize = 16 << 10;
/// Time that a turn takes at most, but for the record it is at.
const TURN_TIME: Duration = Duration::from_millis(20);
/// The clock is looked at once in so many records.
const LOOK_EVERY: usize = 64;

/// How much is taken in before everything else gets its turn, also where records come faster than they are taken.
#[derive(Debug)]
pub struct Turn {
    left: usize,
    until: Instant,
}

impl Default for Turn {
    fn default() -> Self {
        Self::of(TURN_RECORDS, TURN_TIME)
    }
}

impl Turn {
    /// Of so many records, and so long.
    pub fn of(records: usize, time: Duration) -> Self {
        Self { left: records, until: Instant::now() + time }
    }

    /// Whether it goes on with another record.
    pub fn goes_on(&mut self) -> bool {
        if self.left == 0 || (self.left.is_multiple_of(LOOK_EVERY) && Instant::now() >= self.until) {
            return false;
        }
        self.left -= 1;
        true
    }
}

/// What the main loop turns around.
pub trait Source {
    /// Sleeps until a batch of records waits or the time is up.
    fn wait(&self, timeout: Duration);
    /// Hands over records that wait, for a turn.
    fn poll(&mut self, turn: Turn, sink: &mut dyn FnMut(Event<'_>));
    /// Hands over what was counted since the last time, and the losses.
    fn drain(&mut self, sink: &mut dyn FnMut(Event<'_>));
    /// How each probe fares.
    fn states(&self) -> &[ProbeState];
    /// Says what to do with a socket: one of `hitscope_schemas::sockets::VERDICT_*`.
    fn set_verdict(&mut self, socket: u64, verdict: u16);
    /// A socket is gone.
    fn forget_socket(&mut self, socket: u64);
    /// A program was started.
    fn started(&self, pid: u32);
    /// Every process.
    fn processes(&self, sample: &ProcessSample);
    /// To be called each second: says what happened to a thread of the source's own that ended or is stuck, if anything did.
    fn watch(&mut self, now_ns: u64) -> Option<String>;
    /// Done with, in a process that ends, by a moment; what does not let go by then is named.
    fn leave(self, deadline: Instant) -> Vec<&'static str>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_by_records_and_by_time() {
        let mut turn = Turn::of(200, Duration::from_secs(600));
        assert_eq!((0..1000).filter(|_| turn.goes_on()).count(), 200);
        let mut late = Turn::of(200, Duration::ZERO);
        assert!((0..1000).filter(|_| late.goes_on()).count() < LOOK_EVERY);
    }
}
