//! One direction of a connection as messages.

use super::message::{
    CANCEL_REQUEST, Credit, End, GSSENC_REQUEST, HEADER_BYTES, MAX_STARTUP_BYTES, SSL_REQUEST, STARTUP, credit,
    is_header, needed, regain, u32_at,
};
use crate::segment::Moment;

/// A message, or what there is of it.
pub struct Message<'a> {
    /// Its type byte, or [`STARTUP`].
    pub kind: u8,
    /// With type byte and length.
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
    /// Messages without a type byte, before the session.
    Startup,
    Typed,
    /// Looking for the begin of a message. `front`: the bytes kept may begin with one.
    Seek {
        front: bool,
    },
    /// The one byte that answers a request for encryption; kept by the session's wish.
    OneByte,
}

/// A message whose end is still to come.
#[derive(Debug)]
struct Partial {
    kind: u8,
    bytes: u64,
    left: u64,
    /// Kept at most.
    needed: usize,
    /// Something within was not captured, so nothing more is kept.
    holed: bool,
}

#[derive(Debug)]
pub struct Stream {
    end: End,
    framing: Framing,
    statement_bytes: usize,
    /// Bytes that went by.
    position: u64,
    header: [u8; HEADER_BYTES],
    header_len: usize,
    partial: Option<Partial>,
    /// The front of the partial message, or the bytes that are sought in.
    kept: Vec<u8>,
    /// When the first byte of the header, partial message or sought bytes passed.
    first: Moment,
}

impl Stream {
    /// A direction that is first seen here. `startup`: at its very begin.
    pub fn new(end: End, startup: bool, statement_bytes: usize) -> Self {
        Self {
            end,
            framing: match (startup, end) {
                (true, End::Frontend) => Framing::Startup,
                (true, End::Backend) => Framing::Typed,
                (false, _) => Framing::Seek { front: true },
            },
            statement_bytes,
            position: 0,
            header: [0; HEADER_BYTES],
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

    /// The next byte is one that answers a request for encryption.
    pub fn expect_one_byte(&mut self) {
        self.forget();
        self.framing = Framing::OneByte;
    }

    /// The other direction spoke in between, then came `bytes`: here a message may begin. If it does though
    /// another was not at its end, that was none.
    pub fn turn(&mut self, bytes: &[u8], on: &mut dyn FnMut(Event<'_>)) {
        match self.framing {
            Framing::Seek { front: false } => {
                self.kept.clear();
                self.framing = Framing::Seek { front: true };
            }
            Framing::Typed if self.partial.is_some() || self.header_len > 0 => {
                let ends_here = self.partial.as_ref().is_some_and(|partial| partial.left <= bytes.len() as u64);
                if !ends_here && bytes.len() > HEADER_BYTES && credit(self.end, bytes, None) == Credit::Yes {
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

    /// Takes captured bytes.
    pub fn data(&mut self, mut bytes: &[u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        while !bytes.is_empty() {
            match self.framing {
                Framing::Seek { front } => bytes = self.seek(bytes, front, moment, on),
                Framing::OneByte => {
                    let (body, rest) = bytes.split_at(1);
                    self.framing = Framing::Typed;
                    self.position = self.position.wrapping_add(1);
                    let end = self.position;
                    on(Event::Message(Message {
                        kind: STARTUP,
                        bytes: 1,
                        body,
                        whole: true,
                        first: moment,
                        last: moment,
                        end,
                    }));
                    bytes = rest;
                }
                Framing::Startup | Framing::Typed if self.partial.is_some() => bytes = self.fill(bytes, moment, on),
                Framing::Startup | Framing::Typed => match self.begin(bytes, moment, on) {
                    Some(rest) => bytes = rest,
                    None => self.lose(on),
                },
            }
        }
    }

    /// Takes note of bytes that were not captured, and why.
    pub fn gap(&mut self, bytes: Option<u64>, why: Missed, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
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
        let typed = self.framing == Framing::Typed;
        // Most messages come whole.
        if let [kind, a, b, c, d, ref rest @ ..] = *bytes
            && typed
            && self.header_len == 0
            && let length = u32::from_be_bytes([a, b, c, d])
            && is_header(self.end, kind, length)
            && let Some((body, rest)) = rest.split_at_checked(length as usize - 4)
        {
            let needed = needed(self.end, kind, self.statement_bytes).min(body.len());
            let total = (HEADER_BYTES + body.len()) as u64;
            self.position = self.position.wrapping_add(total);
            let (whole, body) = (needed == body.len(), &body[..needed]);
            let end = self.position;
            on(Event::Message(Message { kind, bytes: total, body, whole, first: moment, last: moment, end }));
            return Some(rest);
        }
        let header_bytes = if typed { HEADER_BYTES } else { HEADER_BYTES - 1 };
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
        let (kind, length) = match typed {
            true => (self.header[0], u32_at(&self.header, 1)?),
            false => (STARTUP, u32_at(&self.header, 0)?),
        };
        let credible =
            if typed { is_header(self.end, kind, length) } else { (8..=MAX_STARTUP_BYTES).contains(&length) };
        if !credible {
            return None;
        }
        let size = length as usize - 4;
        let total = (size + header_bytes) as u64;
        let needed = needed(self.end, kind, self.statement_bytes);
        if rest.len() >= size {
            let (body, rest) = rest.split_at(size);
            self.position = self.position.wrapping_add(size as u64);
            let (first, end) = (self.first, self.position);
            let body = &body[..needed.min(size)];
            self.message(
                Message { kind, bytes: total, body, whole: size <= needed, first: &first, last: moment, end },
                on,
            );
            return Some(rest);
        }
        self.partial = Some(Partial { kind, bytes: total, left: size as u64, needed: needed.min(size), holed: false });
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
        let Some(Partial { kind, bytes, .. }) = self.partial.take() else { return };
        let kept = std::mem::take(&mut self.kept);
        let header_bytes = if kind == STARTUP { HEADER_BYTES - 1 } else { HEADER_BYTES } as u64;
        let whole = bytes - header_bytes == kept.len() as u64;
        let (first, end) = (self.first, self.position);
        self.message(Message { kind, bytes, body: &kept, whole, first: &first, last, end }, on);
        self.kept = kept;
        self.kept.clear();
        self.kept.shrink_to(SEEK_BYTES);
    }

    fn message(&mut self, message: Message<'_>, on: &mut dyn FnMut(Event<'_>)) {
        if message.kind == STARTUP {
            match u32_at(message.body, 0) {
                Some(SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST) => {}
                _ => self.framing = Framing::Typed,
            }
        }
        on(Event::Message(message));
    }

    /// Looks for the begin of a message in what was kept and `bytes`; returns what of these is still to be taken.
    fn seek<'a>(&mut self, bytes: &'a [u8], front: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        if front && self.kept.is_empty() {
            self.first = *moment;
            match credit(self.end, bytes, None) {
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
            match credit(self.end, &self.kept, None) {
                Credit::Yes => from = Some(0),
                Credit::Maybe if last && self.kept.len() >= 16 => from = Some(0),
                Credit::Maybe if !last => {}
                _ => self.framing = Framing::Seek { front: false },
            }
        }
        if from.is_none() {
            from = regain(self.end, &self.kept);
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
        self.framing = Framing::Typed;
        self.forget();
        on(Event::Regained { rest: bytes, position: self.position, front });
        self.data(bytes, moment, on);
        if self.partial.is_some() || self.header_len > 0 {
            self.first = first;
        }
    }
}
