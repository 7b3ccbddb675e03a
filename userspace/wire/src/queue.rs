//! What was asked and is not answered yet, in order.

use std::collections::VecDeque;

/// A place in a [`Queue`].
pub trait Queued: Sized {
    /// Memory it holds beside itself.
    fn text_bytes(&self) -> usize;
    /// What stands in its place where there is no room: a request of which nothing is known.
    fn stand_in(&self) -> Self;
    fn is_stand_in(&self) -> bool;
}

/// The queue, bounded in memory.
#[derive(Debug)]
pub struct Queue<E> {
    entries: VecDeque<E>,
    text_bytes: usize,
    max_bytes: usize,
}

/// Kept when the queue is empty.
const IDLE_ENTRIES: usize = 32;

impl<E: Queued> Queue<E> {
    const ENTRY_BYTES: usize = size_of::<E>();

    pub fn new(max_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), text_bytes: 0, max_bytes }
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * Self::ENTRY_BYTES + self.text_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn front(&mut self) -> Option<&mut E> {
        self.entries.front_mut()
    }

    pub fn back(&mut self) -> Option<&mut E> {
        self.entries.back_mut()
    }

    pub fn get(&self, index: usize) -> Option<&E> {
        self.entries.get(index)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut E> {
        self.entries.get_mut(index)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &E> + ExactSizeIterator {
        self.entries.iter()
    }

    /// `false`: no room; an unknown request stands for it.
    pub fn push(&mut self, entry: E) -> bool {
        let bytes = entry.text_bytes();
        let capacity = self.entries.capacity();
        let grows = self.entries.len() + 1 >= capacity;
        let grown = if grows { (2 * capacity).max(8) } else { capacity };
        if grown * Self::ENTRY_BYTES + self.text_bytes + bytes > self.max_bytes {
            // One place is always left for this.
            if !self.entries.back().is_some_and(E::is_stand_in) && self.entries.len() < capacity {
                self.entries.push_back(entry.stand_in());
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

    pub fn pop(&mut self) -> Option<E> {
        let entry = self.entries.pop_front()?;
        self.text_bytes -= entry.text_bytes();
        if self.entries.is_empty() && self.entries.capacity() > 4 * IDLE_ENTRIES {
            self.entries.shrink_to(IDLE_ENTRIES);
        }
        Some(entry)
    }

    pub fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.remove(index) {
            self.text_bytes -= entry.text_bytes();
        }
    }
}
