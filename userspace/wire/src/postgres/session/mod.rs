//! Which answer belongs to which request.

mod answers;
mod requests;

pub use answers::Regained;

use super::entry::Entry;
use crate::{
    connection::Context,
    names::Names,
    outcome::{Exchange, Side, Status},
    queue::Queue,
    segment::Mark,
    settings::Settings,
};

/// The operation of what was prepared or bound unseen.
const UNRESOLVED: &str = "<unresolved>";

/// Answers that were missed and not yet regained.
#[derive(Debug)]
struct Gap {
    /// Whole calls never came.
    calls: bool,
    /// The client spoke since.
    turned: bool,
    /// The answer had begun.
    begun: bool,
}

#[derive(Debug)]
pub struct Session {
    side: Side,
    statements: Names,
    portals: Names,
    queue: Queue<Entry>,
    /// The last request in the queue can take more messages of the extended protocol.
    open: bool,
    /// Portal that the open request bound.
    open_portal: Option<Vec<u8>>,
    /// A hit that the answer to the `Sync` behind it may still turn into an error: that is where it is committed.
    held: Option<Exchange>,
    /// Where the present answer begins in its direction.
    answer_start: u64,
    /// Its rows.
    answer_rows: u64,
    rows_missed: bool,
    /// The server skips to the next `Sync`, and so do we.
    skips: bool,
    /// The client copies in.
    copies_in: bool,
    /// Requests or answers were missed, so the queue's head may be answered already.
    unsure: bool,
    gap: Option<Gap>,
    /// Requests never came, since the last `ReadyForQuery`.
    requests_gone: bool,
    /// `ReadyForQuery` was the last that the server said.
    ready: bool,
    backslashes: bool,
    last: Mark,
}

impl Session {
    pub fn new(side: Side, settings: &Settings) -> Self {
        let bytes = settings.connection_bytes();
        Self {
            side,
            statements: Names::new(bytes / 4),
            portals: Names::new(bytes / 8),
            queue: Queue::new(bytes / 4),
            open: false,
            open_portal: None,
            held: None,
            answer_start: 0,
            answer_rows: 0,
            rows_missed: false,
            skips: false,
            copies_in: false,
            unsure: false,
            gap: None,
            requests_gone: false,
            ready: false,
            backslashes: false,
            last: Mark::default(),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.statements.memory_bytes()
            + self.portals.memory_bytes()
            + self.queue.memory_bytes()
            + self.open_portal.as_ref().map_or(0, Vec::capacity)
    }

    /// The client's turn to speak begins.
    ///
    /// A client that waits for its answers asks anew only when all before is answered. After something was missed
    /// that is taken for granted, so that no answer goes to an old request for good.
    pub fn turn(&mut self, context: &mut Context<'_>) {
        if self.unsure && self.ready && !self.queue.is_empty() {
            self.drop_requests(usize::MAX, context);
        }
    }

    /// The latest that is known of the thread.
    pub fn seen(&mut self, mark: &Mark) {
        self.last = *mark;
    }

    /// The connection ended: what ran was aborted, and what waited behind it never ran.
    pub fn close(&mut self, time_ns: u64, position: u64, context: &mut Context<'_>) {
        self.release(context);
        while let Some(entry) = self.queue.pop() {
            if let Entry::Pending(pending) = entry
                && pending.executes
            {
                let exchange = self.exchange(pending, Status::Aborted, Mark { time_ns, ..self.last }, position);
                context.hit(exchange);
                break;
            }
        }
        while self.queue.pop().is_some() {}
    }
}
