//! The requests that the queue holds.

use std::sync::Arc;

use crate::{names::Prepared, queue::Queued, segment::Mark, sql::Operation};

/// A request that becomes a hit: one statement of a query, or another command.
#[derive(Debug)]
pub struct Pending {
    pub command: u8,
    pub operation: Operation,
    pub text: Option<Arc<str>>,
    pub start: Mark,
    pub request_bytes: u64,
    /// The next one is of the same query.
    pub followed: bool,
    /// A `CALL`: it gives any number of results, and then says OK.
    pub calls: bool,
    /// What it prepares.
    pub prepares: Option<Prepared>,
    /// The database it goes to.
    pub schema: Option<Arc<str>>,
}

#[derive(Debug)]
pub enum Entry {
    Pending(Pending),
    /// A request that was not captured, or found no room.
    Unknown(Mark),
}

impl Queued for Entry {
    fn text_bytes(&self) -> usize {
        let Entry::Pending(pending) = self else { return 0 };
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        pending.operation.text.len()
            + text(&pending.text)
            + text(&pending.schema)
            + pending.prepares.as_ref().map_or(0, Prepared::bytes)
    }

    fn stand_in(&self) -> Self {
        match self {
            Entry::Pending(Pending { start, .. }) | Entry::Unknown(start) => Entry::Unknown(*start),
        }
    }

    fn is_stand_in(&self) -> bool {
        matches!(self, Entry::Unknown(_))
    }
}
