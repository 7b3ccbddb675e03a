//! Which answer belongs to which request.

mod answers;
mod requests;

pub use answers::{Compression, Regained};

use super::entry::Entry;
use crate::{
    connection::Context,
    names::Names,
    outcome::{Facts, Side, Status},
    queue::Queue,
    segment::Mark,
    settings::Settings,
};

/// The operation of what was prepared unseen.
const UNRESOLVED: &str = "<unresolved>";
/// Contradictions without a hit between them, after which this is taken for another protocol.
const MAX_CONTRADICTIONS: u32 = 8;

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

/// What of the present answer comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Its first packet, or that of its next result.
    First,
    /// Definitions of columns.
    Columns {
        left: u64,
    },
    /// Rows, or what ends the columns before them.
    ColumnsEnd,
    Rows,
    /// Definitions of parameters, then of columns.
    Prepared {
        left: u64,
    },
    /// What a field list gives.
    Fields,
    /// The end of an answer after a hole; messages up to `end` are known to reach to one.
    Tail {
        end: u64,
    },
    /// Made no sense: nothing counts up to the next request.
    Skipped,
}

#[derive(Debug)]
pub struct Session {
    side: Side,
    /// Whether the connection has logged in.
    pub login: bool,
    /// As far as it is known, from the login.
    capabilities: u64,
    /// No EOF packet ends definitions; `None` where that was not seen yet.
    deprecates_eof: Option<bool>,
    statements: Names,
    /// The statement that was prepared last.
    last_prepared: Option<u32>,
    /// Of values sent ahead of the next execution.
    long_data_bytes: u64,
    queue: Queue<Entry>,
    /// Whom the connection is changing to.
    change: Option<Facts>,
    phase: Phase,
    /// The last packet is continued by the next.
    request_continues: bool,
    answer_continues: bool,
    /// Where the present answer begins in its direction.
    answer_start: u64,
    /// Its rows.
    answer_rows: u64,
    rows_missed: bool,
    /// The client sends a file's content.
    copies_in: bool,
    /// Requests or answers were missed, so the queue's head may be answered already.
    unsure: bool,
    /// Number of the present answer's next packet, where it is known.
    next: Option<u8>,
    /// The answer's end may have been in what was not captured of a packet.
    end_missed: bool,
    gap: Option<Gap>,
    /// Requests never came, since the last answer.
    requests_gone: bool,
    /// The server's last packet ended an answer.
    ready: bool,
    /// Definitions were the last that came, and an EOF packet may follow them.
    defined: bool,
    /// An answer fitted its request, or the login was seen.
    confirmed: bool,
    contradictions: u32,
    last: Mark,
}

impl Session {
    pub fn new(side: Side, login: bool, settings: &Settings) -> Self {
        let bytes = settings.connection_bytes();
        Self {
            side,
            login,
            capabilities: 0,
            deprecates_eof: None,
            statements: Names::new(bytes / 4),
            last_prepared: None,
            long_data_bytes: 0,
            queue: Queue::new(bytes / 4),
            change: None,
            phase: Phase::First,
            request_continues: false,
            answer_continues: false,
            answer_start: 0,
            answer_rows: 0,
            rows_missed: false,
            copies_in: false,
            unsure: false,
            next: None,
            end_missed: false,
            gap: None,
            requests_gone: false,
            ready: false,
            defined: false,
            confirmed: login,
            contradictions: 0,
            last: Mark::default(),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.statements.memory_bytes() + self.queue.memory_bytes()
    }

    /// Whether what came cannot be this protocol.
    pub fn is_contradicted(&self) -> bool {
        self.contradictions > if self.confirmed { MAX_CONTRADICTIONS } else { 0 }
    }

    /// The client's turn to speak begins.
    ///
    /// A client that waits for its answers asks anew only when all before is answered. After something was missed
    /// that is taken for granted, so that no answer goes to an old request for good.
    pub fn turn(&mut self, context: &mut Context<'_>) {
        let idle = self.ready || self.end_missed || self.phase == Phase::Skipped;
        if self.unsure && idle && !self.queue.is_empty() {
            self.drop_requests(usize::MAX, context);
        }
    }

    /// The latest that is known of the thread.
    pub fn seen(&mut self, mark: &Mark) {
        self.last = *mark;
    }

    /// Something came that the protocol does not know.
    fn contradict(&mut self, context: &mut Context<'_>) {
        self.contradictions += 1;
        self.unsure = true;
        context.lost("unexpected_message", 1);
    }

    /// The connection ended: what ran was aborted, and what waited behind it never ran.
    pub fn close(&mut self, time_ns: u64, position: u64, context: &mut Context<'_>) {
        if let Some(Entry::Pending(pending)) = self.queue.pop() {
            let exchange = self.exchange(pending, Status::Aborted, Mark { time_ns, ..self.last }, position);
            context.hit(exchange);
        }
        while self.queue.pop().is_some() {}
    }
}
