//! From the kernel's clocks to the wall clock.

use crate::{event::Clock, facts::TICK_NS};

/// The two clocks of the kernel stand still to each other but for a step of the wall clock or a suspend; reading one
/// after the other makes them seem to move a little, which is ignored below this, ns.
const JITTER_NS: i64 = 50_000;
/// The moment of boot, from which start times are told, is moved only by a step of the wall clock above this, ns: the start
/// time is part of a process's identity.
const STEP_NS: i64 = 1_000_000_000;

/// How the clocks stand to each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    known: bool,
    /// Wall clock less monotonic clock, ns.
    wall_offset_ns: i64,
    /// Boot clock less monotonic clock, ns.
    boot_offset_ns: i64,
    /// The moment of boot on the wall clock, in whole ticks, ns.
    booted_ns: i64,
}

impl Clocks {
    /// Takes in a reading of the three clocks.
    pub fn set(&mut self, clock: Clock) {
        let difference = |later: u64, earlier: u64| later.wrapping_sub(earlier) as i64;
        let wall_offset_ns = difference(clock.realtime_ns, clock.monotonic_ns);
        let boot_offset_ns = difference(clock.boottime_ns, clock.monotonic_ns);
        if !self.known || (wall_offset_ns - self.wall_offset_ns).abs() > JITTER_NS {
            self.wall_offset_ns = wall_offset_ns;
        }
        if !self.known || (boot_offset_ns - self.boot_offset_ns).abs() > JITTER_NS {
            self.boot_offset_ns = boot_offset_ns;
        }
        let booted_ns = self.wall_offset_ns - self.boot_offset_ns;
        if !self.known || (booted_ns - self.booted_ns).abs() > STEP_NS {
            let tick = TICK_NS as i64;
            self.booted_ns = (booted_ns + tick / 2).div_euclid(tick) * tick;
        }
        self.known = true;
    }

    /// Wall clock, ns since the epoch, of a moment on the monotonic clock.
    pub fn wall(&self, monotonic_ns: u64) -> i64 {
        (monotonic_ns as i64).wrapping_add(self.wall_offset_ns)
    }

    /// Boot clock, ns, of a moment on the monotonic clock.
    pub fn boottime(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.boot_offset_ns)
    }

    /// Wall clock, ns since the epoch, of a process's start, to the tick.
    pub fn start_time(&self, start_ticks: u64) -> i64 {
        self.booted_ns + (start_ticks * TICK_NS) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_stay_while_the_clocks_jitter() {
        let mut clocks = Clocks::default();
        let at = |monotonic_ns, jitter| Clock {
            monotonic_ns,
            boottime_ns: monotonic_ns + 500,
            realtime_ns: 1_700_000_000_004_999_000 + monotonic_ns + jitter,
        };
        clocks.set(at(1_000_000_000, 0));
        let start = clocks.start_time(42);
        assert_eq!(start % TICK_NS as i64, 0);
        clocks.set(at(2_000_000_000, 3_000));
        assert_eq!(clocks.start_time(42), start);
        assert_eq!(clocks.wall(0), 1_700_000_000_004_999_000);
        assert_eq!(clocks.boottime(7), 507);
        clocks.set(at(3_000_000_000, 60_000_000_000));
        assert_eq!(clocks.start_time(42), start + 60_000_000_000);
        assert_eq!(clocks.wall(0), 1_700_000_060_004_999_000);
    }
}
