//! One direction of a connection as messages that tell their length.
//!
//! [`Stream`] does what all such protocols need: messages over many segments, several in one, of long ones only the
//! front, and finding the place again after a hole. How a header reads and what looks like a message is the
//! protocol's own: [`Frames`].

use crate::{reassembly::Piece, segment::Moment};

/// What bytes say about being a row of messages from their first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    Yes,
    /// Too few to tell.
    Maybe,
    No,
}

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// The protocol's own mark of the message.
    pub kind: u8,
    /// Bytes after the header.
    pub size: u64,
    /// How many of them are needed.
    pub needed: usize,
}

/// The messages of one direction.
pub trait Frames {
    /// Bytes of the next message's header, [`MAX_HEADER_BYTES`] at most.
    fn header_bytes(&self) -> usize;
    /// `None`: no message begins so.
    fn header(&self, header: &[u8]) -> Option<Header>;
    /// Judges `bytes`, the captured front of `total` bytes (`None`: more may follow).
    fn credit(&self, bytes: &[u8], total: Option<u64>) -> Credit;
    /// Where in `bytes`, the latest after a hole, messages begin again for sure.
    fn regain(&self, bytes: &[u8]) -> Option<usize>;
    /// A message begins where the stream found its place again.
    fn regained(&mut self) {}
    /// A message passed.
    fn passed(&mut self, _kind: u8, _body: &[u8]) {}
}

pub const MAX_HEADER_BYTES: usize = 16;

/// A message, or what there is of it.
pub struct Message<'a> {
    /// What its header says.
    pub kind: u8,
    /// With its header.
    pub bytes: u64,
    /// Its first bytes, as many as are needed and were captured.
    pub body: &'a [u8],
    /// `body` has all that was in the message.
    pub whole: bool,
    /// When its first byte passed.
    pub first: &'a Moment,
    /// When its last byte passed.
    pub last: &'a Moment,
    /// Where in the direction it ends.
    pub end: u64,
}

/// What a stream has to say.
pub enum Event<'a> {
    Message(Message<'a>),
    /// Messages were missed, from `position` in the direction on.
    Missed {
        why: Missed,
        position: u64,
    },
    /// The place is known again. `rest`: the bytes from there on that are there already; they begin at `position`
    /// in the direction. `front`: a segment begins with them.
    Regained {
        rest: &'a [u8],
        position: u64,
        front: bool,
    },
}

/// Why messages were missed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missed {
    /// Not captured within a call.
    Uncaptured,
    /// Whole calls never came.
    Calls,
    /// What came is no message.
    Unexpected,
}

/// How much is kept of what may be the first messages after a hole.
const SEEK_BYTES: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Messages,
    /// Looking for the begin of a message. `front`: the bytes kept may begin with one.
    Seek {
        front: bool,
    },
}

/// A message whose end is still to come.
#[derive(Debug)]
struct Partial {
    kind: u8,
    /// Of its header.
    header_bytes: usize,
    size: u64,
    left: u64,
    /// Kept at most.
    needed: usize,
    /// Something within was not captured, so nothing more is kept.
    holed: bool,
}

#[derive(Debug)]
pub struct Stream<F> {
    pub frames: F,
    framing: Framing,
    /// Bytes that went by.
    position: u64,
    header: [u8; MAX_HEADER_BYTES],
    header_len: usize,
    partial: Option<Partial>,
    /// The front of the partial message, or the bytes that are sought in.
    kept: Vec<u8>,
    /// When the first byte of the header, partial message or sought bytes passed.
    first: Moment,
}

impl<F: Frames> Stream<F> {
    /// A direction that is first seen here. `begins`: with a message for sure.
    pub fn new(frames: F, begins: bool) -> Self {
        Self {
            frames,
            framing: if begins { Framing::Messages } else { Framing::Seek { front: true } },
            position: 0,
            header: [0; MAX_HEADER_BYTES],
            header_len: 0,
            partial: None,
            kept: Vec::new(),
            first: Moment::default(),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Bytes that went by.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whatever was there, a message of these frames begins with the next byte.
    pub fn begin_anew(&mut self) {
        self.forget();
        self.framing = Framing::Messages;
    }

    /// Takes the pieces of a segment. `turned`: the other direction spoke before.
    pub fn take<'a>(
        &mut self,
        pieces: impl Iterator<Item = Piece<'a>>,
        mut turned: bool,
        moment: &Moment,
        on: &mut dyn FnMut(Event<'_>),
    ) {
        for piece in pieces {
            match piece {
                Piece::Data(bytes) => {
                    if std::mem::take(&mut turned) {
                        self.turn(bytes, on);
                    }
                    self.data(bytes, moment, on);
                }
                Piece::Uncaptured(bytes) => {
                    turned = false;
                    self.gap(Some(bytes), Missed::Uncaptured, moment, on);
                }
                Piece::Missing(bytes) => {
                    // It may have spoken in the meantime.
                    turned = true;
                    self.gap(bytes, Missed::Calls, moment, on);
                }
            }
        }
    }

    /// The other direction spoke in between, then came `bytes`: here a message may begin. If it does though
    /// another was not at its end, that was none.
    fn turn(&mut self, bytes: &[u8], on: &mut dyn FnMut(Event<'_>)) {
        match self.framing {
            Framing::Seek { front: false } => {
                self.kept.clear();
                self.framing = Framing::Seek { front: true };
            }
            Framing::Messages if self.partial.is_some() || self.header_len > 0 => {
                let ends_here = self.partial.as_ref().is_some_and(|partial| partial.left <= bytes.len() as u64);
                if !ends_here
                    && bytes.len() > self.frames.header_bytes()
                    && self.frames.credit(bytes, None) == Credit::Yes
                {
                    self.lose(on);
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.header_len = 0;
        self.partial = None;
        self.kept.clear();
        if self.kept.capacity() > SEEK_BYTES {
            self.kept.shrink_to(SEEK_BYTES);
        }
    }

    /// What came is no message.
    fn lose(&mut self, on: &mut dyn FnMut(Event<'_>)) {
        self.forget();
        self.framing = Framing::Seek { front: true };
        on(Event::Missed { why: Missed::Unexpected, position: self.position });
    }

    fn data(&mut self, mut bytes: &[u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        while !bytes.is_empty() {
            match self.framing {
                Framing::Seek { front } => bytes = self.seek(bytes, front, moment, on),
                Framing::Messages if self.partial.is_some() => bytes = self.fill(bytes, moment, on),
                Framing::Messages => match self.begin(bytes, moment, on) {
                    Some(rest) => bytes = rest,
                    None => self.lose(on),
                },
            }
        }
    }

    /// Takes note of bytes that were not captured, and why.
    fn gap(&mut self, bytes: Option<u64>, why: Missed, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        if self.framing == (Framing::Seek { front: true }) && bytes.is_some() && !self.kept.is_empty() {
            // The rest of the message that the bytes kept end in is not to come: decide now.
            self.settle(true, moment, on);
        }
        let before = self.position;
        self.position = before.wrapping_add(bytes.unwrap_or_default());
        match (&mut self.partial, bytes) {
            (Some(partial), Some(bytes)) if bytes <= partial.left => {
                partial.left -= bytes;
                partial.holed = true;
                if partial.left == 0 {
                    self.finish(moment, on);
                }
            }
            (partial, _) => {
                if let Some(partial) = partial {
                    partial.holed = true;
                    let after = std::mem::replace(&mut self.position, before.wrapping_add(partial.left));
                    self.finish(moment, on);
                    self.position = after;
                }
                self.forget();
                self.framing = Framing::Seek { front: false };
                on(Event::Missed { why, position: before });
            }
        }
    }

    /// Takes the begin of a message; `None` where none can begin so.
    fn begin<'a>(&mut self, bytes: &'a [u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> Option<&'a [u8]> {
        let header_bytes = self.frames.header_bytes();
        // Most messages come whole.
        if self.header_len == 0
            && let Some((header, rest)) = bytes.split_at_checked(header_bytes)
        {
            let header = self.frames.header(header)?;
            if let Some((body, rest)) = rest.split_at_checked(header.size as usize) {
                self.position = self.position.wrapping_add((header_bytes + body.len()) as u64);
                self.message(header, header_bytes, body, moment, moment, on);
                return Some(rest);
            }
        }
        if self.header_len == 0 {
            self.first = *moment;
        }
        let take = (header_bytes - self.header_len).min(bytes.len());
        self.position = self.position.wrapping_add(take as u64);
        self.header[self.header_len..][..take].copy_from_slice(&bytes[..take]);
        self.header_len += take;
        let rest = &bytes[take..];
        if self.header_len < header_bytes {
            return Some(rest);
        }
        self.header_len = 0;
        let header = self.frames.header(&self.header[..header_bytes])?;
        if let Some((body, rest)) = rest.split_at_checked(header.size as usize) {
            self.position = self.position.wrapping_add(header.size);
            let first = self.first;
            self.message(header, header_bytes, body, &first, moment, on);
            return Some(rest);
        }
        let Header { kind, size, needed } = header;
        let needed = needed.min(size as usize);
        self.partial = Some(Partial { kind, header_bytes, size, left: size, needed, holed: false });
        self.kept.clear();
        Some(rest)
    }

    /// Takes more of the partial message.
    fn fill<'a>(&mut self, bytes: &'a [u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let Some(partial) = &mut self.partial else { return bytes };
        let take = partial.left.min(bytes.len() as u64) as usize;
        if !partial.holed && self.kept.len() < partial.needed {
            let keep = take.min(partial.needed - self.kept.len());
            self.kept.extend_from_slice(&bytes[..keep]);
        }
        partial.left -= take as u64;
        self.position = self.position.wrapping_add(take as u64);
        if partial.left == 0 {
            self.finish(moment, on);
        }
        &bytes[take..]
    }

    /// Hands out the partial message.
    fn finish(&mut self, last: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        let Some(Partial { kind, header_bytes, size, .. }) = self.partial.take() else { return };
        let mut kept = std::mem::take(&mut self.kept);
        let first = self.first;
        let header = Header { kind, size, needed: kept.len() };
        self.message(header, header_bytes, &kept, &first, last, on);
        // It may have held a secret.
        kept.fill(0);
        kept.clear();
        kept.shrink_to(SEEK_BYTES);
        self.kept = kept;
    }

    fn message(
        &mut self,
        header: Header,
        header_bytes: usize,
        body: &[u8],
        first: &Moment,
        last: &Moment,
        on: &mut dyn FnMut(Event<'_>),
    ) {
        let Header { kind, size, needed } = header;
        let body = &body[..needed.min(body.len())];
        self.frames.passed(kind, body);
        let (bytes, whole, end) = (size.saturating_add(header_bytes as u64), body.len() as u64 == size, self.position);
        on(Event::Message(Message { kind, bytes, body, whole, first, last, end }));
    }

    /// Looks for the begin of a message in what was kept and `bytes`; returns what of these is still to be taken.
    fn seek<'a>(&mut self, bytes: &'a [u8], front: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        if front && self.kept.is_empty() {
            self.first = *moment;
            match self.frames.credit(bytes, None) {
                Credit::Yes => {
                    self.regain(bytes, moment, on);
                    return &[];
                }
                Credit::Maybe => {}
                Credit::No => self.framing = Framing::Seek { front: false },
            }
        }
        if self.framing == (Framing::Seek { front: true }) {
            // Of more than is kept, what begins here must be judged by what there is.
            let room = SEEK_BYTES - self.kept.len().min(SEEK_BYTES);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.kept.extend_from_slice(now);
            self.position = self.position.wrapping_add(now.len() as u64);
            self.settle(!later.is_empty(), moment, on);
            return later;
        }
        // The latest bytes, for a turn's end is what is sought.
        let latest = &bytes[bytes.len().saturating_sub(SEEK_BYTES)..];
        let excess = (self.kept.len() + latest.len()).saturating_sub(SEEK_BYTES);
        self.kept.drain(..excess);
        self.kept.extend_from_slice(latest);
        self.position = self.position.wrapping_add(bytes.len() as u64);
        self.first = *moment;
        self.settle(false, moment, on);
        &[]
    }

    /// Decides about the bytes kept. `last`: no more will come that belong to them.
    fn settle(&mut self, last: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        let mut from = None;
        if self.framing == (Framing::Seek { front: true }) {
            match self.frames.credit(&self.kept, None) {
                Credit::Yes => from = Some(0),
                Credit::Maybe if last && self.kept.len() >= 16 => from = Some(0),
                Credit::Maybe if !last => {}
                _ => self.framing = Framing::Seek { front: false },
            }
        }
        if from.is_none() {
            from = self.frames.regain(&self.kept);
        }
        if let Some(from) = from {
            let kept = std::mem::take(&mut self.kept);
            self.position = self.position.wrapping_sub((kept.len() - from) as u64);
            self.regain(&kept[from..], moment, on);
        }
    }

    fn regain(&mut self, bytes: &[u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        let first = self.first;
        let front = self.framing == (Framing::Seek { front: true });
        self.framing = Framing::Messages;
        self.frames.regained();
        self.forget();
        on(Event::Regained { rest: bytes, position: self.position, front });
        self.data(bytes, moment, on);
        if self.partial.is_some() || self.header_len > 0 {
            self.first = first;
        }
    }
}
