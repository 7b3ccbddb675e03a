//! Requests under way: the streams that are open.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use crate::{segment::Mark, sql::Operation};

/// Whether a stream is a call of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grpc {
    Yes,
    No,
    /// Its content type was not seen.
    Unknown,
}

/// What the request said.
#[derive(Debug)]
pub struct Request {
    /// The stream.
    pub id: u32,
    pub start: Mark,
    /// No other was under way when it came.
    pub alone: bool,
    pub operation: Operation,
    /// Its operation should it be a call of gRPC after all.
    pub method: Option<Operation>,
    pub authority: Option<Arc<str>>,
    pub text: Option<Arc<str>>,
}

/// A stream of which the last of the answer has not been seen yet.
#[derive(Debug)]
pub struct Open {
    /// `None`: the answer was seen first. Where threads of a client send and receive at the same time, a receive may
    /// return before the send that it answers.
    pub request: Option<Request>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// What of the answer's body was not seen yet, where its head said its length, bytes.
    pub left: Option<u64>,
    pub grpc: Grpc,
    /// Of HTTP.
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
    pub message: Option<Arc<str>>,
    /// The answer's end, where it was seen first.
    pub end: Option<End>,
    /// The status may be in fields that were not resolved, or in what was missed.
    pub unresolved: bool,
    /// Something was missed, and nothing seen of it since: it may be over.
    pub unsure: bool,
}

/// How and when a stream ended.
#[derive(Clone, Debug)]
pub struct End {
    pub time: Mark,
    /// It was reset, or never to be answered; with the code.
    pub aborted: Option<u32>,
}

impl Open {
    pub fn new() -> Self {
        Self {
            request: None,
            request_bytes: 0,
            response_bytes: 0,
            left: None,
            grpc: Grpc::Unknown,
            status: None,
            grpc_status: None,
            message: None,
            end: None,
            unresolved: false,
            unsure: false,
        }
    }

    fn heap_bytes(&self) -> usize {
        let request = self.request.as_ref().map_or(0, |request| {
            let texts = [&request.authority, &request.text].into_iter().flatten().map(|text| text.len()).sum::<usize>();
            texts + request.operation.text.len() + request.method.as_ref().map_or(0, |method| method.text.len())
        });
        request + self.message.as_ref().map_or(0, |message| message.len())
    }
}

const ENTRY_BYTES: usize = size_of::<(u32, Open)>() + 1;
/// Kept when none is open.
const IDLE_STREAMS: usize = 14;
/// Streams whose end is remembered, since the other end may go on for a while.
const CLOSED: usize = 32;
/// More than a message has.
const MAX_TEXT_BYTES: usize = 1024;
/// Answers seen before their requests.
const MAX_EARLY: usize = 32;

/// Those open, bounded in memory.
#[derive(Debug)]
pub struct Streams {
    open: HashMap<u32, Open>,
    heap_bytes: usize,
    max_bytes: usize,
    closed: VecDeque<u32>,
    early: VecDeque<u32>,
}

impl Streams {
    pub fn new(max_bytes: usize) -> Self {
        Self { open: HashMap::new(), heap_bytes: 0, max_bytes, closed: VecDeque::new(), early: VecDeque::new() }
    }

    pub fn memory_bytes(&self) -> usize {
        let places = self.closed.capacity() + self.early.capacity();
        self.open.allocation_size() + self.heap_bytes + places * size_of::<u32>()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn is_open(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    pub fn was_closed(&self, id: u32) -> bool {
        self.closed.contains(&id)
    }

    /// The ends of the stream that is `id` were seen; more of it is of no interest.
    pub fn set_closed(&mut self, id: u32) {
        if self.closed.len() >= CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(id);
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut Open> {
        self.open.get_mut(&id)
    }

    /// Gives it back where there is no room.
    pub fn insert(&mut self, id: u32, open: Open) -> Result<(), Box<Open>> {
        let heap_bytes = open.heap_bytes();
        let full = self.open.len() == self.open.capacity();
        let held = self.open.allocation_size();
        let grown = if full { 2 * held.max(2 * ENTRY_BYTES) } else { held };
        if grown + self.heap_bytes + heap_bytes > self.max_bytes {
            return Err(Box::new(open));
        }
        self.heap_bytes += heap_bytes;
        self.open.insert(id, open);
        Ok(())
    }

    pub fn remove(&mut self, id: u32) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.heap_bytes = self.heap_bytes.saturating_sub(open.heap_bytes());
        if self.open.is_empty() && self.open.capacity() > 4 * IDLE_STREAMS {
            self.open.shrink_to(IDLE_STREAMS);
        }
        Some(open)
    }

    /// Changes one, and keeps count of what it holds.
    pub fn update(&mut self, id: u32, change: impl FnOnce(&mut Open)) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        let before = open.heap_bytes();
        change(open);
        self.heap_bytes = (self.heap_bytes + open.heap_bytes()).saturating_sub(before);
        true
    }

    /// Whether one of them may hold a message.
    pub fn has_room_for_text(&self) -> bool {
        self.open.allocation_size() + self.heap_bytes + MAX_TEXT_BYTES <= self.max_bytes
    }

    /// Something was missed: any of them may be over.
    pub fn doubt(&mut self) {
        for open in self.open.values_mut() {
            (open.unsure, open.unresolved) = (true, true);
        }
    }

    /// One that may be over.
    pub fn doubtful(&self) -> Option<u32> {
        self.open.iter().filter(|(_, open)| open.unsure).map(|(id, _)| *id).min()
    }

    /// In the order they were opened in.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<_> = self.open.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Remembers that an answer came first; returns one that has waited for its request for too long.
    pub fn push_early(&mut self, id: u32) -> Option<u32> {
        self.early.push_back(id);
        (self.early.len() > MAX_EARLY).then(|| self.early.pop_front()).flatten()
    }

    /// The request came.
    pub fn drop_early(&mut self, id: u32) {
        self.early.retain(|early| *early != id);
    }
}
