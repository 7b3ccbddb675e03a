//! What the frames of both directions say about each stream.

mod hits;

use super::{
    frame::{
        self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PUSH_PROMISE, RST_STREAM, Role,
        SETTINGS,
    },
    frames::Frame,
    grpc,
    hpack::{DEFAULT_TABLE_BYTES, Field, Fields, Name, Table},
    streams::{End, Grpc, Open, Streams},
};
use crate::{
    connection::Context,
    outcome::Side,
    segment::{Mark, Moment},
    settings::Settings,
};
use std::{str::FromStr, sync::Arc};

const HEADER_TABLE_SIZE: u16 = 1;

/// A header block that goes on in the next frame.
#[derive(Debug)]
struct Block {
    stream: u32,
    kind: u8,
    end_stream: bool,
    bytes: Vec<u8>,
    /// There was more.
    cut: bool,
    first: Moment,
    frame_bytes: u64,
}

/// One direction.
#[derive(Debug)]
struct Half {
    table: Table,
    block: Option<Block>,
}

#[derive(Debug)]
pub struct Session {
    side: Side,
    requests: Half,
    answers: Half,
    block_bytes: usize,
    path_bytes: usize,
    fields: Fields,
    streams: Streams,
    /// The highest stream that was requested.
    last_stream: u32,
    /// The authority of the latest request, as most have the same.
    authority: Option<Arc<str>>,
    /// Requests that found no room.
    unfollowed: u64,
    /// Bytes of answers since the latest request of which no frame was seen.
    unseen: u64,
    /// When the last of the answers passed.
    answered: Mark,
    last: Mark,
}

/// Where a frame passed.
#[derive(Clone, Copy)]
pub struct Passing<'a> {
    pub role: Role,
    /// The observed process sent it.
    pub sent: bool,
    pub first: &'a Moment,
    pub last: &'a Moment,
}

impl Passing<'_> {
    /// When a stream ends with this.
    fn end(&self) -> Mark {
        if self.sent { self.last.entered() } else { self.last.returned() }
    }
}

/// A block that is complete, or of which no more will come.
struct Headers<'a> {
    stream: u32,
    kind: u8,
    end_stream: bool,
    bytes: &'a [u8],
    cut: bool,
    frame_bytes: u64,
}

impl Session {
    /// `opened`: seen from its begin.
    pub fn new(side: Side, opened: bool, settings: &Settings) -> Self {
        let bytes = settings.connection_bytes();
        let path_bytes = settings.statement_bytes();
        let table_bytes = opened.then_some(DEFAULT_TABLE_BYTES);
        let half = || Half { table: Table::new(bytes / 16, table_bytes, path_bytes), block: None };
        Self {
            side,
            requests: half(),
            answers: half(),
            block_bytes: Self::block_bytes(settings),
            path_bytes,
            fields: Fields::default(),
            streams: Streams::new(bytes / 2),
            last_stream: 0,
            authority: None,
            unfollowed: 0,
            unseen: 0,
            answered: Mark::default(),
            last: Mark::default(),
        }
    }

    /// Bytes of a header block that are kept.
    pub fn block_bytes(settings: &Settings) -> usize {
        settings.connection_bytes() / 32
    }

    pub fn memory_bytes(&self) -> usize {
        let block = |half: &Half| half.block.as_ref().map_or(0, |block| block.bytes.capacity());
        [&self.requests, &self.answers].map(|half| half.table.memory_bytes() + block(half)).iter().sum::<usize>()
            + self.fields.memory_bytes()
            + self.streams.memory_bytes()
    }

    /// The latest that is known of the thread.
    pub fn seen(&mut self, mark: &Mark) {
        self.last = *mark;
    }

    /// Answers passed; of so many bytes no frame was seen.
    pub fn answered(&mut self, moment: &Moment, unseen: u64) {
        self.answered = self.side.end(moment);
        self.unseen += unseen;
    }

    /// The client goes on, or the connection ends. Where one stream alone was under way and as much went by unseen as its answer
    /// still had to come, it ended there.
    fn settle(&mut self, context: &mut Context<'_>) {
        let (unseen, id) = (self.unseen, self.last_stream);
        if let Some(Open { request: Some(request), left: Some(left), unsure: true, .. }) = self.streams.get_mut(id) {
            let frames = left.div_ceil(frame::USUAL_FRAME_BYTES.into());
            if request.alone && unseen >= *left + frames * frame::HEADER_BYTES as u64 {
                self.end(id, End { time: self.answered, aborted: None }, context);
            }
        }
        self.unseen = 0;
    }

    /// Whether a stream is under way.
    pub fn is_open(&self, id: u32) -> bool {
        self.streams.is_open(id)
    }

    /// The highest stream that was requested; 0 if none was seen.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Whether requests may be under way.
    pub fn is_busy(&self) -> bool {
        !self.streams.is_empty()
    }

    fn half(&mut self, role: Role) -> &mut Half {
        match role {
            Role::Requests => &mut self.requests,
            Role::Answers => &mut self.answers,
        }
    }

    /// Frames were missed.
    pub fn missed(&mut self, unexpected: bool, passing: Passing<'_>, context: &mut Context<'_>) {
        context.lost("unexpected_message", u64::from(unexpected));
        self.interrupt(passing, context);
        self.half(passing.role).table.clear();
        self.streams.doubt();
    }

    /// The block under way gets no more.
    fn interrupt(&mut self, passing: Passing<'_>, context: &mut Context<'_>) {
        let Some(block) = self.half(passing.role).block.take() else { return };
        let Block { stream, kind, end_stream, first, frame_bytes, .. } = block;
        let headers = Headers { stream, kind, end_stream, bytes: &block.bytes, cut: true, frame_bytes };
        self.headers(headers, Passing { first: &first, ..passing }, context);
    }

    pub fn frame(&mut self, frame: &Frame<'_>, passing: Passing<'_>, context: &mut Context<'_>) {
        let header = frame.header;
        if passing.role == Role::Answers {
            self.unseen += frame.unseen;
        }
        if header.kind == CONTINUATION {
            return self.continuation(frame, passing, context);
        }
        self.interrupt(passing, context);
        match header.kind {
            DATA => self.data(frame, passing, context),
            HEADERS | PUSH_PROMISE => {
                let (bytes, cut) = match frame::block(&header, frame.payload) {
                    Some(bytes) => (bytes, !frame.is_whole()),
                    None => (&[][..], true),
                };
                let (stream, kind, end_stream) = (header.stream, header.kind, header.has(END_STREAM));
                let frame_bytes = header.bytes();
                if header.has(END_HEADERS) {
                    let headers = Headers { stream, kind, end_stream, bytes, cut, frame_bytes };
                    return self.headers(headers, passing, context);
                }
                let (bytes, first) = (bytes.to_vec(), *passing.first);
                self.half(passing.role).block =
                    Some(Block { stream, kind, end_stream, bytes, cut, first, frame_bytes });
            }
            RST_STREAM => {
                let code = frame.payload.first_chunk().map(|code| u32::from_be_bytes(*code));
                self.reset(header.stream, code.unwrap_or_default(), passing, context);
            }
            GOAWAY if passing.role == Role::Answers => {
                let number = |at: usize| frame.payload.get(at..at + 4)?.first_chunk().map(|n| u32::from_be_bytes(*n));
                if let (Some(last), Some(code)) = (number(0), number(4)) {
                    self.go_away(last & (u32::MAX >> 1), code, passing, context);
                }
            }
            SETTINGS => {
                let opposite = match passing.role {
                    Role::Requests => &mut self.answers,
                    Role::Answers => &mut self.requests,
                };
                for setting in frame.payload.chunks_exact(6) {
                    let value = setting[2..].iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
                    if setting[..2] == HEADER_TABLE_SIZE.to_be_bytes() {
                        opposite.table.allow(value);
                    }
                }
            }
            _ => {}
        }
    }

    fn continuation(&mut self, frame: &Frame<'_>, passing: Passing<'_>, context: &mut Context<'_>) {
        let max_bytes = self.block_bytes;
        let half = self.half(passing.role);
        let Some(block) = half.block.as_mut().filter(|block| block.stream == frame.header.stream) else {
            // Its begin was missed, so what it puts into the table, too.
            self.interrupt(passing, context);
            return self.half(passing.role).table.clear();
        };
        block.frame_bytes += frame.header.bytes();
        if !block.cut {
            let take = (max_bytes - block.bytes.len().min(max_bytes)).min(frame.payload.len());
            block.bytes.reserve_exact(take);
            block.bytes.extend_from_slice(&frame.payload[..take]);
            block.cut = !frame.is_whole() || take < frame.payload.len();
        }
        if frame.header.has(END_HEADERS)
            && let Some(block) = half.block.take()
        {
            let Block { stream, kind, end_stream, cut, first, frame_bytes, .. } = block;
            let headers = Headers { stream, kind, end_stream, bytes: &block.bytes, cut, frame_bytes };
            self.headers(headers, Passing { first: &first, ..passing }, context);
        }
    }

    fn headers(&mut self, headers: Headers<'_>, passing: Passing<'_>, context: &mut Context<'_>) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        let half = self.half(passing.role);
        let invalid = half.table.decode(headers.bytes, &mut fields).is_err();
        if invalid || headers.cut {
            half.table.clear();
            fields.unresolved = true;
        }
        context.lost("unexpected_message", u64::from(invalid && !headers.cut));
        // What the server pushes, on even streams, nobody asked for.
        if headers.kind == HEADERS && headers.stream % 2 == 1 {
            match passing.role {
                Role::Requests => self.request(&headers, &fields, passing, context),
                Role::Answers => self.answer(&headers, &fields, passing, context),
            }
        }
        self.fields = fields;
    }

    fn data(&mut self, frame: &Frame<'_>, passing: Passing<'_>, context: &mut Context<'_>) {
        let (header, id) = (frame.header, frame.header.stream);
        match passing.role {
            Role::Requests => {
                let Some(open) = self.streams.get_mut(id) else { return };
                open.request_bytes += header.bytes();
                open.unsure = false;
                if open.grpc == Grpc::Unknown && !header.has(PADDED) && grpc::is_message(frame.payload, header.length) {
                    open.grpc = Grpc::Yes;
                }
            }
            Role::Answers => {
                let ends = header.has(END_STREAM);
                if self.streams.is_open(id) || ends && self.early(id, ends, context) {
                    if let Some(open) = self.streams.get_mut(id) {
                        open.response_bytes += header.bytes();
                        open.left = open.left.map(|left| left.saturating_sub(header.length.into()));
                        open.unsure = false;
                    }
                    if ends {
                        self.end(id, End { time: passing.end(), aborted: None }, context);
                    }
                }
            }
        }
    }

    /// An answer whose request was not seen; `ends`: with this. `true`: the request may still come.
    fn early(&mut self, id: u32, ends: bool, context: &mut Context<'_>) -> bool {
        if self.streams.was_closed(id) || id.is_multiple_of(2) {
            return false;
        }
        // On the server's side nothing comes before its request.
        if self.side == Side::Server || self.streams.insert(id, Open::new()).is_err() {
            self.unrequested(u64::from(ends), context);
            return false;
        }
        if let Some(oldest) = self.streams.push_early(id) {
            let waited = self.streams.remove(oldest).is_some();
            self.unrequested(u64::from(waited), context);
        }
        true
    }

    /// Answers without a request.
    fn unrequested(&mut self, count: u64, context: &mut Context<'_>) {
        let unfollowed = self.unfollowed.min(count);
        self.unfollowed -= unfollowed;
        context.lost("request_missed", count - unfollowed);
    }

    fn reset(&mut self, id: u32, code: u32, passing: Passing<'_>, context: &mut Context<'_>) {
        if self.streams.is_open(id) {
            self.end(id, End { time: passing.end(), aborted: Some(code) }, context);
        }
    }

    /// The server takes no stream beyond `last`.
    fn go_away(&mut self, last: u32, code: u32, passing: Passing<'_>, context: &mut Context<'_>) {
        for id in self.streams.ids() {
            if id > last {
                self.end(id, End { time: passing.end(), aborted: Some(code) }, context);
            }
        }
    }

    /// The connection ended: what ran was aborted.
    pub fn close(&mut self, time_ns: u64, context: &mut Context<'_>) {
        self.settle(context);
        let time = Mark { time_ns, ..self.last };
        let (mut missed, mut unrequested) = (0, 0);
        for id in self.streams.ids() {
            let Some(open) = self.streams.remove(id) else { continue };
            match open.request {
                None => unrequested += 1,
                // Its end may be what was missed.
                Some(_) if open.unsure => missed += 1,
                Some(_) => self.hit(open, End { time, aborted: Some(0) }, context),
            }
        }
        context.lost("answer_missed", missed);
        self.unrequested(unrequested, context);
    }

    fn answer(&mut self, headers: &Headers<'_>, fields: &Fields, passing: Passing<'_>, context: &mut Context<'_>) {
        let id = headers.stream;
        if !self.streams.is_open(id) && !self.early(id, headers.end_stream, context) {
            return;
        }
        let room = self.streams.has_room_for_text();
        self.streams.update(id, |open| {
            open.response_bytes += headers.frame_bytes;
            open.unsure = false;
            if let Some(status) = fields.get(Name::Status).bytes().and_then(number) {
                open.status = Some(status);
            }
            if let Some(length) = fields.get(Name::ContentLength).bytes().and_then(number) {
                open.left = Some(length);
            }
            if let Some(status) = fields.get(Name::GrpcStatus).bytes().and_then(number) {
                open.grpc_status = Some(status);
            }
            match fields.get(Name::ContentType) {
                Field::Value { bytes, .. } if grpc::is_content_type(bytes) => open.grpc = Grpc::Yes,
                Field::Value { .. } if open.grpc == Grpc::Unknown => open.grpc = Grpc::No,
                _ => {}
            }
            if let Field::Value { bytes, .. } = fields.get(Name::GrpcMessage)
                && !bytes.is_empty()
                && room
            {
                open.message = Some(hits::message(bytes, context.settings.keep_literals));
            }
            open.unresolved |= fields.unresolved;
        });
        if headers.end_stream {
            self.end(id, End { time: passing.end(), aborted: None }, context);
        }
    }
}

fn number<N: FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
