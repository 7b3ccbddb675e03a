//! What was asked and is not answered yet, in order.

use std::{collections::VecDeque, sync::Arc};

use crate::{segment::Mark, sql::Operation};

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

/// The queue, bounded in memory.
#[derive(Debug)]
pub struct Queue {
    entries: VecDeque<Entry>,
    text_bytes: usize,
    max_bytes: usize,
}

const ENTRY_BYTES: usize = size_of::<Entry>();
/// Kept when the queue is empty.
const IDLE_ENTRIES: usize = 32;

fn text_bytes(entry: &Entry) -> usize {
    match entry {
        Entry::Pending(pending) => pending.operation.text.len() + pending.text.as_ref().map_or(0, |text| text.len()),
        _ => 0,
    }
}

impl Queue {
    pub fn new(max_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), text_bytes: 0, max_bytes }
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * ENTRY_BYTES + self.text_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn front(&mut self) -> Option<&mut Entry> {
        self.entries.front_mut()
    }

    pub fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The last one, if it is a request.
    pub fn last_pending(&mut self) -> Option<&mut Pending> {
        match self.entries.back_mut() {
            Some(Entry::Pending(pending)) => Some(pending),
            _ => None,
        }
    }

    /// `false`: no room; an unknown request stands for it.
    pub fn push(&mut self, entry: Entry) -> bool {
        let bytes = text_bytes(&entry);
        let capacity = self.entries.capacity();
        let grows = self.entries.len() + 1 >= capacity;
        let grown = if grows { (2 * capacity).max(8) } else { capacity };
        if grown * ENTRY_BYTES + self.text_bytes + bytes > self.max_bytes {
            // One place is always left for this.
            if !matches!(self.entries.back(), Some(Entry::Unknown(_))) && self.entries.len() < capacity {
                let start = match entry {
                    Entry::Pending(pending) => pending.start,
                    Entry::Unknown(start) => start,
                    Entry::Sync | Entry::QueryEnd => Mark::default(),
                };
                self.entries.push_back(Entry::Unknown(start));
            }
            return false;
        }
        if grows {
            self.entries.reserve_exact(grown - self.entries.len());
        }
        self.text_bytes += bytes;
        self.entries.push_back(entry);
        true
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.text_bytes -= text_bytes(&entry);
        if self.entries.is_empty() && self.entries.capacity() > 4 * IDLE_ENTRIES {
            self.entries.shrink_to(IDLE_ENTRIES);
        }
        Some(entry)
    }

    pub fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.remove(index) {
            self.text_bytes -= text_bytes(&entry);
        }
    }

    /// Whether a `Sync` is there.
    pub fn has_sync(&self) -> bool {
        self.iter().any(|entry| matches!(entry, Entry::Sync))
    }
}
