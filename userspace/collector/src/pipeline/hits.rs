//! From what a decoder finds to rows: whose a hit is, and where its time went.

use hitscope_schemas::sockets::ThreadTimes;
use hitscope_wire::{Exchange, Facts as Session, Outcome, Times};

use super::{
    connections::Grouped,
    held::{Holding, Waiting},
    losses::Losses,
    threads::{Open, Threads},
};
use crate::{
    clocks::Clocks,
    processes::Info,
    windows::{Measures, Origin, Windows},
};

/// Takes what a decoder finds on one connection.
pub(super) struct Sink<'a> {
    pub(super) windows: &'a mut Windows,
    pub(super) holding: &'a mut Holding,
    pub(super) now_ns: u64,
    pub(super) losses: &'a mut Losses,
    pub(super) threads: &'a Threads,
    /// The connection's.
    pub(super) open: Open,
    pub(super) socket: u64,
    pub(super) clocks: &'a Clocks,
    pub(super) info: &'a Info,
    pub(super) origin: &'a Origin,
    pub(super) group: &'a mut Option<Grouped>,
    pub(super) found_encrypted: Option<&'static str>,
}

impl Sink<'_> {
    pub(super) fn take(&mut self, outcome: Outcome, session: &Session) {
        match outcome {
            Outcome::Hit(exchange) => self.hit(exchange, session),
            Outcome::Encrypted(protocol) => self.found_encrypted = Some(protocol.as_str()),
            Outcome::Lost { reason, count } => self.losses.add(reason, count),
        }
    }

    fn hit(&mut self, exchange: Exchange, session: &Session) {
        let start = &exchange.start;
        let shared = exchange.shared
            || self.threads.shared(start.thread_id, self.socket, exchange.side, start.time_ns, self.open);
        let measures = measures(&exchange, shared, self.clocks);
        if !self.info.is_known() {
            let held = Held { origin: self.origin.clone(), session: session.clone(), measures, exchange };
            if let Some(Waiting::Hit(held)) =
                self.holding.hold(self.info.pid, self.now_ns, Waiting::Hit(Box::new(held)))
            {
                // No room: it counts for who it seems to be.
                self.losses.add("hits_of_unknown_process", 1);
                let (protocol, side) = (held.exchange.protocol.as_str(), held.exchange.side.as_str());
                let group = self.windows.group(&self.info.service, protocol, side);
                self.windows.add(&group, &held.origin, &held.session, held.measures, held.exchange);
            }
            return;
        }
        let (protocol, side) = (exchange.protocol.as_str(), exchange.side.as_str());
        let grouped = match self.group.take() {
            Some(grouped) if grouped.protocol == protocol && grouped.side == side => grouped,
            _ => Grouped { protocol, side, id: self.windows.group(&self.info.service, protocol, side) },
        };
        let grouped = self.group.insert(grouped);
        self.windows.add(&grouped.id, self.origin, session, measures, exchange);
    }
}

/// A hit of a process that is not known yet, or was gone before anything could be learnt about it: one that forked, answered
/// and ended within a batch of records. The record of its end, which follows, says who it was.
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) session: Session,
    pub(super) measures: Measures,
    pub(super) exchange: Exchange,
}

/// `shared`: the thread worked on other requests meanwhile.
fn measures(exchange: &Exchange, shared: bool, clocks: &Clocks) -> Measures {
    let (start, end) = (&exchange.start, &exchange.end);
    let duration_ns = end.time_ns.saturating_sub(start.time_ns);
    // A thread that came so far has used CPU, if only a little: without the scheduler's probe all is zero.
    let measured = !shared && start.thread_id == end.thread_id && end.times.cpu_ns > 0;
    Measures {
        end_ns: clocks.wall(end.time_ns),
        duration_ns,
        split: measured.then(|| split(&start.times, &end.times, duration_ns)).flatten(),
        queued_ns: (start.queued_ns > 0).then_some(start.queued_ns),
    }
}

/// Where a thread's time went between two marks, in all at most the duration; `None` where it was counted anew in between.
pub(super) fn split(start: &Times, end: &Times, duration_ns: u64) -> Option<Times> {
    let mut left_ns = duration_ns;
    // The scheduler's account of CPU and the clock differ by a little: so the sum is held to the duration, and CPU may even go back
    // where a thread used next to none. It is never counted anew.
    let cpu_end_ns = end.cpu_ns.max(start.cpu_ns);
    let mut spent = |start: u64, end: u64| {
        let spent_ns = end.checked_sub(start)?.min(left_ns);
        left_ns -= spent_ns;
        Some(spent_ns)
    };
    Some(Times {
        disk_ns: spent(start.disk_ns, end.disk_ns)?,
        lock_ns: spent(start.lock_ns, end.lock_ns)?,
        network_ns: spent(start.network_ns, end.network_ns)?,
        runqueue_ns: spent(start.runqueue_ns, end.runqueue_ns)?,
        cpu_ns: spent(start.cpu_ns, cpu_end_ns)?,
    })
}

pub(super) fn times(times: &ThreadTimes) -> Times {
    let ThreadTimes { cpu_ns, runqueue_ns, disk_ns, lock_ns, network_ns } = *times;
    Times { cpu_ns, runqueue_ns, disk_ns, lock_ns, network_ns }
}
