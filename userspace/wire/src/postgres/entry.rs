//! The requests that the queue holds.

use std::sync::Arc;

use crate::{queue::Queued, segment::Mark, sql::Operation};

/// A request that becomes a hit: a statement of a `Query`, or messages of the extended protocol up to an `Execute`.
#[derive(Debug)]
pub struct Pending {
    pub operation: Operation,
    pub text: Option<Arc<str>>,
    pub start: Mark,
    pub request_bytes: u64,
    /// Answers still to come before that of the `Execute`.
    pub replies: u32,
    /// It ends in a completion; without, it only prepares.
    pub executes: bool,
    /// Of the extended protocol.
    pub extended: bool,
}

#[derive(Debug)]
pub enum Entry {
    Pending(Pending),
    /// Requests that were not captured, from then on.
    Unknown(Mark),
    /// `ReadyForQuery` answers.
    Sync,
    /// `ReadyForQuery` answers, but an error of the extended protocol skips it.
    QueryEnd,
}

impl Queued for Entry {
    fn text_bytes(&self) -> usize {
        match self {
            Entry::Pending(pending) => {
                pending.operation.text.len() + pending.text.as_ref().map_or(0, |text| text.len())
            }
            _ => 0,
        }
    }

    fn stand_in(&self) -> Self {
        Entry::Unknown(match self {
            Entry::Pending(pending) => pending.start,
            Entry::Unknown(start) => *start,
            Entry::Sync | Entry::QueryEnd => Mark::default(),
        })
    }

    fn is_stand_in(&self) -> bool {
        matches!(self, Entry::Unknown(_))
    }
}
