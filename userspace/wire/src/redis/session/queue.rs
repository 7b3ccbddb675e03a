//! Commands that wait for their answers, in order, with at most one hole between them.

use std::{collections::VecDeque, sync::Arc};

use super::effect::Effect;
use crate::{segment::Mark, sql::Operation};

/// A mark on the heap, with its counters.
const MARK_BYTES: usize = size_of::<Mark>() + 2 * size_of::<usize>();
/// Places of the queue that are kept when it is empty.
const IDLE_ENTRIES: usize = 32;

/// A command that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    /// `None`: it was not captured.
    pub operation: Option<Operation>,
    pub text: Option<Arc<str>>,
    /// Shared by the commands of one call.
    pub start: Arc<Mark>,
    /// It is the first that shares it.
    pub first: bool,
    pub request_bytes: u64,
    pub effect: Option<Box<Effect>>,
}

impl Pending {
    /// A command that was not captured.
    pub fn unseen(start: Arc<Mark>) -> Self {
        Self { operation: None, text: None, start, first: false, request_bytes: 0, effect: None }
    }
}

/// What was missed between two commands.
#[derive(Debug)]
pub struct Hole {
    /// Commands, as from then on.
    pub start: Option<Arc<Mark>>,
    /// Commands that are answered, one at least.
    pub answered: bool,
}

#[derive(Debug)]
enum Entry {
    Pending(Pending),
    /// So many commands that there was no room for.
    Crowd(u64, Arc<Mark>),
    /// What belongs to what behind it is found at the end of the turn.
    Hole(Hole),
}

impl Entry {
    /// Commands that it stands for, where that is known.
    fn count(&self) -> u64 {
        match self {
            Entry::Pending(_) => 1,
            Entry::Crowd(count, _) => *count,
            Entry::Hole(_) => 0,
        }
    }

    fn text_bytes(&self) -> usize {
        let Entry::Pending(pending) = self else { return 0 };
        pending.operation.as_ref().map_or(0, |operation| operation.text.len())
            + pending.text.as_ref().map_or(0, |text| text.len())
            + pending.effect.as_ref().map_or(0, |effect| effect.memory_bytes())
            + usize::from(pending.first) * MARK_BYTES
    }
}

/// The queue, bounded in memory.
#[derive(Debug)]
pub struct Queue {
    entries: VecDeque<Entry>,
    text_bytes: usize,
    max_bytes: usize,
    /// Commands followed behind a hole, at most.
    max_behind: usize,
    /// Never more than one.
    has_hole: bool,
}

impl Queue {
    pub fn new(max_bytes: usize, max_behind: usize) -> Self {
        Self { entries: VecDeque::new(), text_bytes: 0, max_bytes, max_behind, has_hole: false }
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.text_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Commands that wait, as far as their number is known.
    pub fn count(&self) -> u64 {
        self.entries.iter().map(Entry::count).sum()
    }

    /// The hole, where nothing is before it.
    pub fn front_hole(&self) -> Option<&Hole> {
        match self.entries.front()? {
            Entry::Hole(hole) => Some(hole),
            _ => None,
        }
    }

    /// What the first command does.
    pub fn front_effect(&mut self) -> Option<&mut Effect> {
        match self.entries.front_mut()? {
            Entry::Pending(pending) => pending.effect.as_deref_mut(),
            _ => None,
        }
    }

    /// The last command before the hole.
    pub fn before_hole(&mut self) -> Option<&mut Pending> {
        let before = self.hole()?.checked_sub(1)?;
        match self.entries.get_mut(before)? {
            Entry::Pending(pending) => Some(pending),
            _ => None,
        }
    }

    pub fn has_hole(&self) -> bool {
        self.hole().is_some()
    }

    fn hole(&self) -> Option<usize> {
        let is_hole = |entry: &Entry| matches!(entry, Entry::Hole(_));
        if self.has_hole { self.entries.iter().position(is_hole) } else { None }
    }

    /// `false`: there is no room for more than the number of such commands.
    pub fn push(&mut self, pending: Pending) -> bool {
        let start = pending.start.clone();
        let entry = Entry::Pending(pending);
        let bytes = entry.text_bytes();
        if matches!(self.entries.back(), Some(Entry::Crowd(..))) || !self.make_room(bytes) {
            match self.entries.back_mut() {
                Some(Entry::Crowd(count, since)) => (*count, *since) = (*count + 1, start),
                _ => self.entries.push_back(Entry::Crowd(1, start)),
            }
            return false;
        }
        self.text_bytes += bytes;
        self.entries.push_back(entry);
        if let Some(hole) = self.hole()
            && self.entries.len() - hole > self.max_behind
        {
            let first = self.entries.remove(hole + 1);
            self.text_bytes -= first.map_or(0, |entry| entry.text_bytes());
        }
        true
    }

    /// Commands were missed behind the last one, as from `start` on. What stands between two holes cannot be told apart
    /// from what was missed.
    pub fn hole_at_back(&mut self, mut start: Option<Arc<Mark>>) {
        if let Some(at) = self.hole() {
            if let Some(Entry::Hole(hole)) = self.entries.get(at) {
                start = hole.start.as_ref().and(start.or(hole.start.clone()));
            }
            while self.entries.len() > at {
                let entry = self.entries.pop_back();
                self.text_bytes -= entry.map_or(0, |entry| entry.text_bytes());
            }
        }
        self.has_hole = self.make_room(0);
        if self.has_hole {
            self.entries.push_back(Entry::Hole(Hole { start, answered: false }));
        }
    }

    /// Answers were missed, from that of the first command on.
    pub fn hole_at_front(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        // What was answered may be what was missed before.
        let old = self.hole().and_then(|hole| self.entries.remove(hole));
        let answered = matches!(old, None | Some(Entry::Hole(Hole { answered: true, .. })));
        self.has_hole = self.make_room(0);
        if self.has_hole {
            self.entries.push_front(Entry::Hole(Hole { start: None, answered }));
        }
    }

    /// The first command, taken out; `None` at a hole.
    pub fn take(&mut self) -> Option<Pending> {
        match self.entries.front_mut()? {
            Entry::Pending(_) => match self.pop() {
                Some(Entry::Pending(pending)) => Some(pending),
                _ => None,
            },
            Entry::Crowd(count, start) => {
                let start = start.clone();
                *count -= 1;
                if *count == 0 {
                    self.pop();
                }
                Some(Pending::unseen(start))
            }
            Entry::Hole(_) => None,
        }
    }

    /// Takes out all up to the hole, itself included, and says how many commands went with it.
    pub fn take_hole(&mut self) -> Option<(u64, Hole)> {
        let hole = self.hole()?;
        self.has_hole = false;
        let before = (0..hole).filter_map(|_| self.pop()).map(|entry| entry.count()).sum();
        match self.pop()? {
            Entry::Hole(hole) => Some((before, hole)),
            _ => None,
        }
    }

    /// Empties the queue; returns how many commands were in it.
    pub fn clear(&mut self) -> u64 {
        let count = self.count();
        while self.pop().is_some() {}
        self.has_hole = false;
        count
    }

    /// Makes room for one more; one place stays free for a crowd, and one for a hole.
    fn make_room(&mut self, bytes: usize) -> bool {
        let (length, capacity) = (self.entries.len(), self.entries.capacity());
        let fits = |capacity: usize, text: usize| capacity * size_of::<Entry>() + text + bytes <= self.max_bytes;
        if length + 3 <= capacity {
            return fits(capacity, self.text_bytes);
        }
        let most = self.max_bytes / size_of::<Entry>();
        let grown = (2 * capacity).clamp(8, most);
        if grown <= capacity || !fits(grown, self.text_bytes) {
            return false;
        }
        self.entries.reserve_exact(grown - length);
        true
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.text_bytes -= entry.text_bytes();
        if self.entries.is_empty() && self.entries.capacity() > 4 * IDLE_ENTRIES {
            self.entries.shrink_to(IDLE_ENTRIES);
        }
        Some(entry)
    }
}
