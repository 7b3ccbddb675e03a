//! From requests and ends of streams to hits.

use std::sync::Arc;

use super::{Headers, Passing, Session};
use crate::{
    connection::Context,
    http2::{
        frame, grpc,
        hpack::{Field, Fields, Name},
        streams::{End, Grpc, Open, Request},
    },
    outcome::{Exchange, Protocol, Status},
    path,
    sql::{Operation, strip_literals},
};

/// What stands for a method or path that is in no part of the table that was seen.
const UNRESOLVED: &str = "<unresolved>";
/// What stands for a method or path without a letter.
const EMPTY: &str = "<empty>";
/// Of a gRPC method's path, bytes.
const MAX_CALL_BYTES: usize = 256;
/// Of an error message, bytes.
const MAX_MESSAGE_BYTES: usize = 512;

/// A text for people, cut at a letter's end.
fn cut(mut text: String, limit: usize) -> Arc<str> {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text.into()
}

/// The text of a `grpc-message`.
pub fn message(value: &[u8], keep_literals: bool) -> Arc<str> {
    let text = grpc::message(value);
    cut(if keep_literals { text } else { strip_literals(&text) }, MAX_MESSAGE_BYTES)
}

impl Session {
    pub(super) fn request(
        &mut self,
        headers: &Headers<'_>,
        fields: &Fields,
        passing: Passing<'_>,
        context: &mut Context<'_>,
    ) {
        let id = headers.stream;
        let early = match self.streams.get_mut(id) {
            // Its trailers.
            Some(Open { request: Some(_), request_bytes, unsure, .. }) => {
                *request_bytes += headers.frame_bytes;
                *unsure = false;
                return;
            }
            Some(_) => true,
            // Trailers of a stream that was answered before its end.
            None if id <= self.last_stream => return,
            None => false,
        };
        self.settle(context);
        self.last_stream = self.last_stream.max(id);
        let open = match early {
            true => {
                self.streams.drop_early(id);
                self.streams.remove(id).unwrap_or_else(Open::new)
            }
            false => Open::new(),
        };
        // What was answered first was under way before.
        let alone = !early && self.streams.is_empty();
        let (request, grpc) = self.read(fields, passing, context);
        let request = Request { id, alone, ..request };
        let grpc = if open.grpc == Grpc::Yes { open.grpc } else { grpc };
        let request_bytes = open.request_bytes + headers.frame_bytes;
        let mut open = Open { request: Some(request), request_bytes, grpc, ..open };
        if let Some(end) = open.end.take() {
            self.streams.set_closed(id);
            return self.hit(open, end, context);
        }
        let mut open = Some(open);
        while let Some(pending) = open.take() {
            let Err(pending) = self.streams.insert(id, pending) else { break };
            // One whose end was missed makes room.
            let Some(doubtful) = self.streams.doubtful() else {
                context.lost("pipeline_full", 1);
                self.unfollowed += 1;
                break;
            };
            let requested = self.streams.remove(doubtful).is_some_and(|open| open.request.is_some());
            context.lost("answer_missed", u64::from(requested));
            open = Some(*pending);
        }
    }

    /// What a request's fields say.
    fn read(&mut self, fields: &Fields, passing: Passing<'_>, context: &mut Context<'_>) -> (Request, Grpc) {
        let start = self.side.start(passing.first, passing.last);
        let grpc = match fields.get(Name::ContentType) {
            Field::Value { bytes, .. } if grpc::is_content_type(bytes) => Grpc::Yes,
            Field::Unresolved => Grpc::Unknown,
            _ => Grpc::No,
        };
        let (method, path) = (fields.get(Name::Method), fields.get(Name::Path));
        let method = method.bytes().unwrap_or(UNRESOLVED.as_bytes());
        let (operation, call) = match grpc {
            Grpc::Yes => (call(path, context), None),
            Grpc::No => (operation(method, path, start.time_ns, context), None),
            Grpc::Unknown => (operation(method, path, start.time_ns, context), Some(call(path, context))),
        };
        let text = path.bytes().filter(|_| context.settings.keep_literals).map(|path| {
            let text = format!("{} {}", String::from_utf8_lossy(method), String::from_utf8_lossy(path));
            cut(text, self.path_bytes)
        });
        let authority = fields.get(Name::Authority).bytes().or(fields.get(Name::Host).bytes());
        let authority = authority.filter(|authority| !authority.is_empty()).map(|authority| match &self.authority {
            Some(latest) if latest.as_bytes() == authority => latest.clone(),
            _ => self.authority.insert(String::from_utf8_lossy(authority).into()).clone(),
        });
        (Request { id: 0, start, alone: false, operation, method: call, authority, text }, grpc)
    }

    /// A stream that is open has ended.
    pub(super) fn end(&mut self, id: u32, end: End, context: &mut Context<'_>) {
        if self.streams.get_mut(id).is_some_and(|open| open.request.is_none()) {
            // Its request is still to be told of.
            self.streams.update(id, |open| open.end = Some(end));
            return;
        }
        if let Some(open) = self.streams.remove(id) {
            self.streams.set_closed(id);
            self.hit(open, end, context);
        }
    }

    pub(super) fn hit(&self, open: Open, end: End, context: &mut Context<'_>) {
        let Open { request, request_bytes, response_bytes, message, unresolved, .. } = open;
        let Some(Request { id, start, alone, operation, method, authority, text }) = request else { return };
        let is_grpc = open.grpc == Grpc::Yes;
        let name = |code: u32| frame::error_name(code).map_or_else(|| code.to_string(), str::to_owned);
        let (status, error_code) = match (end.aborted, is_grpc) {
            (Some(0), _) => (Status::Aborted, None),
            (Some(code), _) => (Status::Aborted, Some(name(code))),
            (None, true) => match (open.grpc_status, open.status) {
                (Some(grpc::OK), _) => (Status::Ok, None),
                (Some(status), _) => (Status::Error, Some(grpc::status_name(status))),
                (None, Some(200) | None) if unresolved => (Status::Ok, None),
                (None, status) => {
                    let status = grpc::status_of_http(status.unwrap_or_default());
                    (Status::Error, Some(grpc::status_name(status)))
                }
            },
            (None, false) => match open.status {
                Some(status @ 400..) => (Status::Error, Some(status.to_string())),
                _ => (Status::Ok, None),
            },
        };
        let told = if is_grpc { open.grpc_status } else { open.status };
        context.lost("answer_incomplete", u64::from(end.aborted.is_none() && status == Status::Ok && told.is_none()));
        let operation = method.filter(|_| is_grpc).unwrap_or(operation);
        let shared = !alone || self.last_stream > id || !self.streams.is_empty();
        let protocol = if is_grpc { Protocol::Grpc } else { Protocol::Http2 };
        context.hit(Exchange {
            shared,
            error_code: error_code.map(Arc::from),
            error_message: message.filter(|_| status != Status::Ok),
            request_bytes,
            // What passed unseen was its own.
            response_bytes: if shared { response_bytes } else { response_bytes + self.unseen },
            authority,
            text,
            ..Exchange::new(protocol, self.side, operation, status, [start, end.time])
        });
    }
}

/// The path of a call, as it is.
fn call(path: Field<'_>, context: &mut Context<'_>) -> Operation {
    let text = match path {
        Field::Value { bytes: [], .. } => EMPTY.into(),
        Field::Value { bytes, .. } => cut(String::from_utf8_lossy(bytes).into_owned(), MAX_CALL_BYTES),
        _ => UNRESOLVED.into(),
    };
    context.settings.operations.named(&text)
}

/// Method and path template.
fn operation(method: &[u8], target: Field<'_>, time_ns: u64, context: &mut Context<'_>) -> Operation {
    let text = match target {
        Field::Value { bytes, cut } => return path::operation(method, bytes, cut, time_ns, context),
        // CONNECT has none.
        Field::Absent if method.is_empty() => EMPTY.into(),
        Field::Absent => cut(String::from_utf8_lossy(method).into_owned(), MAX_CALL_BYTES),
        Field::Unresolved => format!("{} {UNRESOLVED}", String::from_utf8_lossy(method)).into(),
    };
    context.settings.operations.named(&text)
}
