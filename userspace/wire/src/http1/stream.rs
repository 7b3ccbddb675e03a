//! One direction of a connection as messages: start line, fields, body. Nothing of a body is kept, nor more than a
//! line of a head.

use super::head::{End, Fields, chunk_size, credit, is_prefix, without_return};
use crate::{
    reassembly::Piece,
    segment::Moment,
    stream::{Credit, Missed},
};

/// How the end of a message's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Length(u64),
    Chunked,
    /// The connection's end is its end.
    UntilClose,
    /// Its fields were not seen.
    Unknown,
    /// What follows is no HTTP/1 any more.
    Switched,
}

/// Where something is in the direction, and when it passed.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub position: u64,
    pub moment: &'a Moment,
}

/// Takes what a stream finds.
pub trait Messages {
    /// The line that a message begins with; `turned`: the other end spoke before. `false`: it is none.
    fn line(&mut self, line: &[u8], cut: bool, turned: bool, first: Place<'_>) -> bool;
    /// Whom it is addressed to.
    fn host(&mut self, _value: &[u8]) {}
    /// The head is complete, or will not be seen to its end ([`Fields::cut`]).
    fn head(&mut self, fields: &Fields, first: &Moment, last: Place<'_>) -> Body;
    fn end(&mut self, last: Place<'_>);
    /// The message ended, unseen: within calls that never came, or, `moment` being known, not told by the message.
    fn end_missed(&mut self, moment: Option<&Moment>, position: u64);
    /// Messages were missed; `sure`: at least a part of one that did not begin before.
    fn missed(&mut self, why: Missed, sure: bool, moment: &Moment);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// In or before a start line.
    Line,
    Fields,
    /// Bytes left.
    Body(u64),
    UntilClose,
    ChunkSize,
    /// Bytes left, with the line end after them.
    Chunk(u64),
    Trailers,
    /// Within a body of which the end is not known; in a chunked one, it can be found.
    Lost {
        chunked: bool,
        /// Whole calls are missing in it: when it ended is not known.
        calls: bool,
    },
    /// To where a segment begins with a start line.
    Skip,
    Switched,
}

#[derive(Debug)]
pub struct Stream {
    end: End,
    state: State,
    /// Looking for a message, since something was missed.
    seeking: bool,
    /// The present line, as far as it came before this segment.
    line: Vec<u8>,
    /// More of it was there than is kept.
    cut: bool,
    fields: Fields,
    /// Bytes that went by.
    position: u64,
    /// Where the message begins, when that came, and whether the other end spoke just before.
    begin: u64,
    first: Moment,
    begin_turned: bool,
    /// When anything passed last.
    last: Moment,
    max_line_bytes: usize,
}

/// Of a field's line, so much is kept; a host's name is not longer.
const MAX_FIELD_BYTES: usize = 300;
/// The end of a chunked body without trailers.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

impl Stream {
    /// A direction that is first seen here; a message may begin here.
    pub fn new(end: End, max_line_bytes: usize) -> Self {
        Self {
            end,
            state: State::Line,
            seeking: true,
            line: Vec::new(),
            cut: false,
            fields: Fields::default(),
            position: 0,
            begin: 0,
            first: Moment::default(),
            begin_turned: false,
            last: Moment::default(),
            max_line_bytes,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.line.capacity()
    }

    /// Bytes that went by.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When anything passed last.
    pub fn last(&self) -> &Moment {
        &self.last
    }

    /// No message was found since something was missed.
    pub fn is_seeking(&self) -> bool {
        self.seeking
    }

    /// The body ends where the connection does.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Ends a body of which the end is not known; what follows begins with a message.
    pub fn end_lost(&mut self, messages: &mut impl Messages) {
        if let State::Lost { calls, .. } = self.state {
            messages.end_missed((!calls).then_some(&self.last), self.position);
            self.begin_anew();
        }
    }

    /// Whatever was there, a message begins with the next byte.
    pub fn begin_anew(&mut self) {
        if self.state != State::Switched {
            self.forget();
            self.state = State::Line;
            self.seeking = false;
        }
    }

    fn forget(&mut self) {
        self.line.clear();
        self.line.shrink_to(1024);
        self.cut = false;
    }

    /// Takes the pieces of a segment. `turned`: the other end spoke before.
    pub fn take<'a>(
        &mut self,
        pieces: impl Iterator<Item = Piece<'a>>,
        turned: bool,
        moment: &Moment,
        messages: &mut impl Messages,
    ) {
        let mut front = true;
        for piece in pieces {
            match piece {
                Piece::Data(bytes) => {
                    if front {
                        self.front(bytes, turned, moment, messages);
                    }
                    self.data(bytes, turned, moment, messages);
                    front = false;
                    self.last = *moment;
                }
                Piece::Uncaptured(bytes) => {
                    self.uncaptured(bytes, moment, messages);
                    front = false;
                    self.last = *moment;
                }
                Piece::Missing(bytes) => self.missing(bytes, moment, messages),
            }
        }
    }

    /// A segment begins with `bytes`, and a message may.
    fn front(&mut self, bytes: &[u8], turned: bool, moment: &Moment, messages: &mut impl Messages) {
        let begins = || credit(self.end, bytes, None) == Credit::Yes;
        match self.state {
            State::Skip => {
                self.forget();
                self.state = State::Line;
            }
            // What was taken for the begin of a line was none.
            State::Line if self.seeking && !self.line.is_empty() && begins() => self.forget(),
            State::Lost { .. } if begins() => self.end_lost(messages),
            State::Lost { chunked: true, .. } if is_chunk(bytes) => {
                self.forget();
                self.state = State::ChunkSize;
            }
            // The other end took the message to be complete, and here is another: its length was none.
            // A client whose `Expect: 100-continue` was declined does not send the body.
            State::Body(_)
            | State::ChunkSize
            | State::Chunk(_)
            | State::Trailers
            | State::Fields
            | State::UntilClose
                if turned && begins() =>
            {
                if self.end == End::Server {
                    messages.missed(Missed::Unexpected, false, moment);
                }
                messages.end_missed(None, self.position);
                self.begin_anew();
            }
            _ => {}
        }
    }

    fn data(&mut self, mut bytes: &[u8], turned: bool, moment: &Moment, messages: &mut impl Messages) {
        while !bytes.is_empty() {
            match self.state {
                State::Line => bytes = self.start_line(bytes, turned, moment, messages),
                State::Fields => bytes = self.field(bytes, moment, messages),
                State::Body(left) => {
                    let take = left.min(bytes.len() as u64);
                    bytes = self.skip(bytes, take);
                    self.body(left - take, moment, messages);
                }
                State::ChunkSize => bytes = self.chunk_size(bytes),
                State::Chunk(left) => {
                    let take = left.min(bytes.len() as u64);
                    bytes = self.skip(bytes, take);
                    self.state = if left == take { State::ChunkSize } else { State::Chunk(left - take) };
                }
                State::Trailers => bytes = self.trailer(bytes, moment, messages),
                State::Lost { chunked, .. } => {
                    let ended = chunked && bytes.ends_with(LAST_CHUNK);
                    bytes = self.skip(bytes, bytes.len() as u64);
                    if ended {
                        self.finish(moment, messages);
                    }
                }
                State::UntilClose | State::Skip | State::Switched => bytes = self.skip(bytes, bytes.len() as u64),
            }
        }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], count: u64) -> &'a [u8] {
        self.position = self.position.wrapping_add(count);
        &bytes[(count as usize).min(bytes.len())..]
    }

    /// Takes bytes to the end of the line; `None`: that is not there yet. The line is in `self.line`, or, where it
    /// came whole, in the bytes.
    fn take_line<'a>(&mut self, bytes: &'a [u8], max_bytes: usize) -> (Option<Option<&'a [u8]>>, &'a [u8]) {
        let line_end = memchr::memchr(b'\n', bytes);
        let taken = line_end.unwrap_or(bytes.len());
        let rest = self.skip(bytes, line_end.map_or(taken, |end| end + 1) as u64);
        if line_end.is_some() && self.line.is_empty() && !self.cut && taken <= max_bytes {
            return (Some(Some(without_return(&bytes[..taken]))), rest);
        }
        let keep = taken.min(max_bytes.saturating_sub(self.line.len()));
        self.line.extend_from_slice(&bytes[..keep]);
        self.cut |= keep < taken;
        (line_end.map(|_| None), rest)
    }

    fn start_line<'a>(
        &mut self,
        bytes: &'a [u8],
        turned: bool,
        moment: &Moment,
        messages: &mut impl Messages,
    ) -> &'a [u8] {
        if self.line.is_empty() {
            self.begin = self.position;
            self.first = *moment;
            self.begin_turned = turned;
        }
        let (line, rest) = self.take_line(bytes, self.max_line_bytes);
        let Some(whole) = line else {
            if !is_prefix(self.end, &self.line, !self.seeking) {
                self.lose(moment, messages);
            }
            return rest;
        };
        let kept = std::mem::take(&mut self.line);
        let line = whole.unwrap_or_else(|| without_return(&kept));
        let place = Place { position: self.begin, moment: &self.first };
        if line.is_empty() && !self.cut {
            // A client may send empty lines before a request (RFC 9112, 2.2).
            if self.seeking {
                self.state = State::Skip;
            }
        } else if is_prefix(self.end, line, !self.seeking) && messages.line(line, self.cut, self.begin_turned, place) {
            self.seeking = false;
            self.fields = Fields::default();
            self.state = State::Fields;
        } else {
            self.lose(moment, messages);
        }
        self.line = kept;
        self.forget();
        rest
    }

    fn field<'a>(&mut self, bytes: &'a [u8], moment: &Moment, messages: &mut impl Messages) -> &'a [u8] {
        let (line, rest) = self.take_line(bytes, MAX_FIELD_BYTES);
        let Some(whole) = line else { return rest };
        let kept = std::mem::take(&mut self.line);
        let line = whole.unwrap_or_else(|| without_return(&kept));
        if line.is_empty() {
            self.head(moment, messages);
        } else {
            let (fits, host) = self.fields.take(line);
            if let Some(host) = host.filter(|_| !self.cut) {
                messages.host(host);
            }
            if !fits {
                self.fields.cut = true;
                self.head(moment, messages);
            }
        }
        self.line = kept;
        self.forget();
        rest
    }

    /// The head is at its end.
    fn head(&mut self, moment: &Moment, messages: &mut impl Messages) {
        let last = Place { position: self.position, moment };
        match messages.head(&self.fields, &self.first, last) {
            Body::Length(length) => self.body(length, moment, messages),
            Body::Chunked => self.state = State::ChunkSize,
            Body::UntilClose => self.state = State::UntilClose,
            Body::Unknown => self.state = State::Lost { chunked: false, calls: false },
            Body::Switched => self.state = State::Switched,
        }
    }

    /// The head was not captured to its end, nor perhaps what followed it.
    fn cut_head(&mut self, moment: &Moment, messages: &mut impl Messages) {
        self.fields.cut = true;
        self.head(moment, messages);
        messages.missed(Missed::Uncaptured, false, moment);
    }

    fn body(&mut self, left: u64, moment: &Moment, messages: &mut impl Messages) {
        self.state = State::Body(left);
        if left == 0 {
            self.finish(moment, messages);
        }
    }

    fn finish(&mut self, moment: &Moment, messages: &mut impl Messages) {
        self.state = State::Line;
        self.seeking = false;
        self.forget();
        messages.end(Place { position: self.position, moment });
    }

    fn chunk_size<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (line, rest) = self.take_line(bytes, MAX_FIELD_BYTES);
        let Some(whole) = line else {
            // What cannot be a size is not waited for.
            if self.line.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
                self.forget();
                self.state = State::Lost { chunked: true, calls: false };
            }
            return rest;
        };
        self.state = match chunk_size(whole.unwrap_or(&self.line)) {
            Some(0) => State::Trailers,
            Some(size) => State::Chunk(size.saturating_add(2)),
            None => State::Lost { chunked: true, calls: false },
        };
        self.forget();
        rest
    }

    fn trailer<'a>(&mut self, bytes: &'a [u8], moment: &Moment, messages: &mut impl Messages) -> &'a [u8] {
        let (line, rest) = self.take_line(bytes, MAX_FIELD_BYTES);
        let Some(whole) = line else { return rest };
        let empty = whole.unwrap_or_else(|| without_return(&self.line)).is_empty();
        self.forget();
        if empty {
            self.finish(moment, messages);
        }
        rest
    }

    /// What came is no message.
    fn lose(&mut self, moment: &Moment, messages: &mut impl Messages) {
        self.forget();
        self.state = State::Skip;
        if !std::mem::replace(&mut self.seeking, true) {
            messages.missed(Missed::Unexpected, false, moment);
        }
    }

    /// Bytes of this call were not captured.
    fn uncaptured(&mut self, bytes: u64, moment: &Moment, messages: &mut impl Messages) {
        let before = self.position;
        self.position = before.wrapping_add(bytes);
        match self.state {
            State::Body(left) if bytes <= left => self.body(left - bytes, moment, messages),
            State::Body(left) => {
                messages.end(Place { position: before.wrapping_add(left), moment });
                self.missed(Missed::Uncaptured, true, moment, messages);
            }
            State::Chunk(left) if bytes < left => self.state = State::Chunk(left - bytes),
            State::Chunk(left) if bytes == left => self.state = State::ChunkSize,
            State::Chunk(_) | State::ChunkSize | State::Trailers => {
                self.forget();
                self.state = State::Lost { chunked: true, calls: false };
                messages.missed(Missed::Uncaptured, false, moment);
            }
            State::Fields => {
                self.forget();
                self.cut_head(moment, messages);
            }
            State::Line => {
                // Of a long line the front is enough.
                let line = std::mem::take(&mut self.line);
                let place = Place { position: self.begin, moment: &self.first };
                let begins = !line.is_empty()
                    && is_prefix(self.end, &line, !self.seeking)
                    && messages.line(&line, true, self.begin_turned, place);
                self.forget();
                if begins {
                    self.seeking = false;
                    self.fields = Fields::default();
                    self.cut_head(moment, messages);
                } else {
                    self.missed(Missed::Uncaptured, line.is_empty(), moment, messages);
                }
            }
            State::UntilClose | State::Lost { .. } | State::Skip | State::Switched => {}
        }
    }

    /// Calls never came.
    fn missing(&mut self, bytes: Option<u64>, moment: &Moment, messages: &mut impl Messages) {
        let before = self.position;
        self.position = before.wrapping_add(bytes.unwrap_or_default());
        let bytes = bytes.unwrap_or(u64::MAX);
        match self.state {
            State::Body(left) if bytes < left => self.state = State::Body(left - bytes),
            State::Body(left) => {
                messages.end_missed(None, before.wrapping_add(left));
                self.begin_anew();
                if bytes > left {
                    self.missed(Missed::Calls, bytes != u64::MAX, moment, messages);
                }
            }
            State::Chunk(left) if bytes < left => self.state = State::Chunk(left - bytes),
            State::Chunk(left) if bytes == left => self.state = State::ChunkSize,
            State::Chunk(_) | State::ChunkSize | State::Trailers | State::Lost { .. } => {
                let chunked = !matches!(self.state, State::Lost { chunked: false, .. });
                self.forget();
                self.state = State::Lost { chunked, calls: true };
                messages.missed(Missed::Calls, false, moment);
            }
            State::Fields => {
                messages.end_missed(None, self.position);
                self.missed(Missed::Calls, false, moment, messages);
            }
            State::Line => {
                let between = self.line.is_empty();
                if !between && !self.seeking {
                    messages.end_missed(None, self.position);
                }
                self.missed(Missed::Calls, between, moment, messages);
            }
            State::Skip => messages.missed(Missed::Calls, false, moment),
            State::UntilClose | State::Switched => {}
        }
    }

    fn missed(&mut self, why: Missed, sure: bool, moment: &Moment, messages: &mut impl Messages) {
        self.forget();
        self.state = State::Skip;
        self.seeking = true;
        messages.missed(why, sure, moment);
    }
}

/// Whether `bytes` begin with a chunk's size.
fn is_chunk(bytes: &[u8]) -> bool {
    let line_end = memchr::memchr(b'\n', &bytes[..bytes.len().min(32)]);
    line_end.is_some_and(|end| end >= 2 && bytes[end - 1] == b'\r' && chunk_size(&bytes[..end]).is_some())
}
