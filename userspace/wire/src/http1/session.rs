//! Which answer belongs to which request.

use std::sync::Arc;

use super::{
    head::{Fields, RequestLine, Upgrade, request_line, status_line},
    stream::{Body, Messages, Place, Stream},
};
use crate::{
    connection::Context,
    outcome::{Exchange, Protocol, Side, Status, Verdict},
    path,
    queue::{Queue, Queued},
    segment::{Mark, Moment},
    settings::Settings,
    sql::Operation,
    sql::strip_literals,
    stream::Missed,
};

/// The operation of a request that found no room.
const UNRESOLVED: &str = "<unresolved>";
/// A host's name is not longer, with its port.
const MAX_AUTHORITY_BYTES: usize = 270;
/// The reason phrase of an error, at most.
const MAX_REASON_BYTES: usize = 100;

/// What of a method decides about the body of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Head,
    Connect,
    Other,
}

/// A request that becomes a hit.
#[derive(Debug)]
struct Pending {
    operation: Operation,
    text: Option<Arc<str>>,
    authority: Option<Arc<str>>,
    method: Method,
    start: Mark,
    request_bytes: u64,
    /// The segment that completed its head.
    segment: u64,
    /// The client had heard something since its last request.
    turned: bool,
}

#[derive(Debug)]
enum Entry {
    Pending(Pending),
    /// A request that found no room.
    Full(Mark),
    /// From here on it is not known which answer is whose.
    Gap,
}

impl Queued for Entry {
    fn text_bytes(&self) -> usize {
        let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Entry::Pending(pending) => {
                pending.operation.text.len() + length(&pending.text) + length(&pending.authority)
            }
            Entry::Full(_) | Entry::Gap => 0,
        }
    }

    fn stand_in(&self) -> Self {
        Entry::Full(match self {
            Entry::Pending(pending) => pending.start,
            Entry::Full(start) => *start,
            Entry::Gap => Mark::default(),
        })
    }

    fn is_stand_in(&self) -> bool {
        matches!(self, Entry::Full(_))
    }
}

/// The request whose head is under way.
#[derive(Debug)]
struct Building {
    operation: Operation,
    text: Option<Arc<str>>,
    authority: Option<Arc<str>>,
    /// The target named it.
    absolute: bool,
    method: Method,
    begin: u64,
    turned: bool,
}

/// The answer under way.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    /// Of errors.
    reason: Option<Arc<str>>,
    /// `1xx`: the answer is still to come.
    interim: bool,
    /// It answers the first in the queue.
    matched: bool,
}

#[derive(Debug)]
pub struct Session {
    side: Side,
    queue: Queue<Entry>,
    building: Option<Building>,
    /// The last request in the queue is still being sent; where it begins.
    open: Option<u64>,
    answer: Option<Answer>,
    /// Where the first in the queue's answer begins, with what came before it (`100 Continue`).
    answer_begin: u64,
    /// Answers were missed, and whether surely a part of one that had not begun.
    gap: Option<bool>,
    /// Something was missed, so the first in the queue may be answered already.
    unsure: bool,
    /// Requests never came, since all were answered.
    requests_gone: bool,
    /// The client asks before it is answered.
    pipelines: bool,
    /// The latest host, for it is mostly the same.
    authority: Option<Arc<str>>,
    /// Segments that went by.
    segment: u64,
    /// Hits there were.
    hits: u64,
    /// This is no HTTP/1 any more, or never was.
    pub switched: Option<Verdict>,
    last: Mark,
}

impl Session {
    pub fn new(side: Side, settings: &Settings) -> Self {
        Self {
            side,
            queue: Queue::new(settings.connection_bytes() / 2),
            building: None,
            open: None,
            answer: None,
            answer_begin: 0,
            gap: None,
            unsure: false,
            requests_gone: false,
            pipelines: false,
            authority: None,
            segment: 0,
            hits: 0,
            switched: None,
            last: Mark::default(),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let text = |text: Option<&Arc<str>>| text.map_or(0, |text| text.len());
        let building = self.building.as_ref();
        self.queue.memory_bytes()
            + text(self.authority.as_ref())
            + text(building.and_then(|building| building.text.as_ref()))
            + building.map_or(0, |building| building.operation.text.len())
    }

    /// The latest that is known of the thread.
    pub fn seen(&mut self, mark: &Mark) {
        self.segment += 1;
        self.last = *mark;
    }

    /// Hits there were.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// The connection ended. `completed`: so did the answer under way, at that moment.
    pub fn close(&mut self, time_ns: u64, completed: Option<&Moment>, position: u64, context: &mut Context<'_>) {
        let answer = self.answer.take();
        if let (Some(answer), Some(moment)) = (answer.filter(|answer| answer.matched), completed) {
            self.complete(&answer, self.side.end(moment), position, context);
        } else if let Some(Entry::Pending(pending)) = self.queue.pop()
            && !self.unsure
        {
            let end = Mark { time_ns, ..self.last };
            let exchange = self.exchange(pending, Status::Aborted, end, position);
            self.hit(exchange, context);
        }
        // What waited behind it never ran.
        while self.queue.pop().is_some() {}
    }

    fn hit(&mut self, exchange: Exchange, context: &mut Context<'_>) {
        self.hits += 1;
        context.hit(exchange);
    }

    fn exchange(&mut self, pending: Pending, status: Status, end: Mark, position: u64) -> Exchange {
        let Pending { operation, text, authority, start, request_bytes, .. } = pending;
        let response_bytes = position.saturating_sub(std::mem::replace(&mut self.answer_begin, position));
        let exchange = Exchange::new(Protocol::Http1, self.side, operation, status, [start, end]);
        Exchange { request_bytes, response_bytes, authority, text, ..exchange }
    }

    /// The first in the queue was answered.
    fn complete(&mut self, answer: &Answer, end: Mark, position: u64, context: &mut Context<'_>) {
        let pending = match self.queue.pop() {
            Some(Entry::Pending(pending)) => pending,
            Some(Entry::Full(start)) => Pending {
                operation: context.settings.operations.named(UNRESOLVED),
                text: None,
                authority: None,
                method: Method::Other,
                start,
                request_bytes: 0,
                segment: 0,
                turned: false,
            },
            Some(Entry::Gap) | None => return,
        };
        let failed = answer.status >= 400;
        let mut exchange = self.exchange(pending, if failed { Status::Error } else { Status::Ok }, end, position);
        if failed {
            exchange.error_code = Some(answer.status.to_string().into());
            exchange.error_message.clone_from(&answer.reason);
        }
        self.hit(exchange, context);
        if self.queue.iter().all(|entry| matches!(entry, Entry::Gap)) {
            self.requests_gone = false;
            self.open = None;
        }
    }

    /// The request that is still being sent, the last one, came to `position`.
    fn sent(&mut self, position: u64) {
        let Some(begin) = self.open else { return };
        let behind = usize::from(matches!(self.queue.back(), Some(Entry::Gap)));
        let last = self.queue.len().checked_sub(1 + behind).and_then(|last| self.queue.get_mut(last));
        if let Some(Entry::Pending(pending)) = last {
            pending.request_bytes = position.saturating_sub(begin);
        }
    }

    /// Forgets the first `count` requests.
    fn drop_requests(&mut self, count: usize, context: &mut Context<'_>) {
        let mut dropped = 0;
        for _ in 0..count {
            match self.queue.pop() {
                Some(Entry::Pending(_) | Entry::Full(_)) => dropped += 1,
                Some(Entry::Gap) => {}
                None => break,
            }
        }
        if self.queue.is_empty() {
            self.open = None;
        }
        context.lost("answer_missed", dropped);
    }

    /// Before a request that a client sends after it heard something.
    ///
    /// A client that waits for its answers asks anew only when all before is answered. After something was missed
    /// that is taken for granted, so that no answer goes to an old request for good.
    fn turn(&mut self, answers: &mut Stream, context: &mut Context<'_>) {
        if self.unsure && self.answer.as_ref().is_none_or(|answer| !answer.matched) {
            self.drop_requests(usize::MAX, context);
            self.unsure = false;
            self.gap = None;
            self.answer = None;
            answers.begin_anew();
        }
    }

    /// Drops what was answered unseen, before an answer that begins after a hole.
    ///
    /// A client that waits for its answers has one request under way, so the answer is the last one's. If there is
    /// only one, the missing bytes must be something's: this answers a request that was missed with the answer before.
    fn settle(&mut self, sure: bool, context: &mut Context<'_>) {
        let count = self.queue.len();
        let pendings =
            || self.queue.iter().map(|entry| if let Entry::Pending(pending) = entry { Some(pending) } else { None });
        // Before it heard of something that was answered later, it had all its answers.
        let old = pendings().rposition(|pending| pending.is_some_and(|pending| pending.turned)).unwrap_or_default();
        let last = pendings().next_back().flatten().map(|pending| pending.segment);
        let same = |pending: &Option<&Pending>| pending.is_some_and(|pending| Some(pending.segment) == last);
        let together = pendings().rev().take_while(same).count();
        let dropped = match count {
            0 => 0,
            1 => usize::from(sure && !self.requests_gone),
            _ if old > 0 => old,
            _ if together == 1 && !self.pipelines => count - 1,
            _ => count,
        };
        let open = self.open;
        self.drop_requests(dropped, context);
        if dropped < count {
            self.open = open;
        } else if count > 1 {
            self.queue.push(Entry::Gap);
        }
        self.unsure = true;
    }
}

/// The requests of a connection.
pub struct Requests<'s, 'c> {
    pub session: &'s mut Session,
    pub context: &'s mut Context<'c>,
    pub answers: &'s mut Stream,
}

impl Messages for Requests<'_, '_> {
    fn line(&mut self, line: &[u8], cut: bool, turned: bool, first: Place<'_>) -> bool {
        let Some(RequestLine { method, target }) = request_line(line, cut) else { return false };
        let operation = path::operation(method, target, cut, first.moment.mark.time_ns, self.context);
        let method_kind = match method {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        let named = if method_kind == Method::Connect { Some(target) } else { path::authority(target) };
        let text = self.context.settings.keep_literals.then(|| {
            let end = if cut { "…" } else { "" };
            format!("{} {}{end}", String::from_utf8_lossy(method), String::from_utf8_lossy(target)).into()
        });
        self.session.building = Some(Building {
            operation,
            text,
            authority: None,
            absolute: named.is_some(),
            method: method_kind,
            begin: first.position,
            turned,
        });
        if let Some(named) = named {
            self.authority(named);
        }
        true
    }

    fn host(&mut self, value: &[u8]) {
        // An absolute target wins over the field (RFC 9112, 3.2.2).
        if self.session.building.as_ref().is_some_and(|building| !building.absolute) {
            self.authority(value);
        }
    }

    fn head(&mut self, fields: &Fields, first: &Moment, last: Place<'_>) -> Body {
        let Self { session, context, answers } = self;
        let Some(building) = session.building.take() else { return Body::Unknown };
        let Building { operation, text, authority, method, begin, turned, .. } = building;
        if turned {
            // The client has all of the answer, so its end was the last that was seen of it.
            answers.end_lost(&mut Answers { session, context, requests_position: begin });
            session.turn(answers, context);
        }
        let (start, segment) = (session.side.start(first, last.moment), session.segment);
        let beside = matches!(session.queue.back(), Some(Entry::Pending(pending)) if pending.segment == segment);
        let turned = turned && !beside;
        let pending = Pending { operation, text, authority, method, start, request_bytes: 0, segment, turned };
        if session.queue.push(Entry::Pending(pending)) {
            session.open = Some(begin);
        } else {
            session.open = None;
            session.unsure = true;
            context.lost("pipeline_full", 1);
        }
        match *fields {
            Fields { cut: true, .. } => Body::Unknown,
            Fields { chunked: Some(true), .. } => Body::Chunked,
            Fields { chunked: Some(false), .. } => Body::UntilClose,
            Fields { content_length, .. } => Body::Length(content_length.unwrap_or_default()),
        }
    }

    fn end(&mut self, last: Place<'_>) {
        self.ended(last.position);
    }

    fn end_missed(&mut self, _moment: Option<&Moment>, position: u64) {
        self.session.building = None;
        self.ended(position);
    }

    fn missed(&mut self, why: Missed, _sure: bool, _moment: &Moment) {
        let Self { session, context, .. } = self;
        context.lost("unexpected_message", u64::from(why == Missed::Unexpected));
        session.building = None;
        session.unsure = true;
        match why {
            // Their answers may have gone by already.
            Missed::Calls => session.requests_gone = true,
            Missed::Uncaptured => {
                session.queue.push(Entry::Gap);
            }
            Missed::Unexpected if session.hits == 0 => session.switched = Some(Verdict::Unknown),
            Missed::Unexpected => {}
        }
    }
}

impl Requests<'_, '_> {
    fn authority(&mut self, value: &[u8]) {
        let value = &value[..value.len().min(MAX_AUTHORITY_BYTES)];
        let latest = &mut self.session.authority;
        if latest.as_ref().is_none_or(|latest| latest.as_bytes() != value) {
            *latest = Some(String::from_utf8_lossy(value).into());
        }
        if let Some(building) = &mut self.session.building {
            building.authority.clone_from(latest);
        }
    }

    fn ended(&mut self, position: u64) {
        self.session.sent(position);
        self.session.open = None;
    }
}

/// The answers of a connection.
pub struct Answers<'s, 'c> {
    pub session: &'s mut Session,
    pub context: &'s mut Context<'c>,
    /// How far the requests went.
    pub requests_position: u64,
}

impl Messages for Answers<'_, '_> {
    fn line(&mut self, line: &[u8], _cut: bool, _turned: bool, first: Place<'_>) -> bool {
        let Some((status, reason)) = status_line(line) else { return false };
        let session = &mut *self.session;
        let interim = (100..200).contains(&status) && status != 101;
        if let Some(sure) = session.gap.take() {
            session.settle(sure, self.context);
            session.answer_begin = first.position;
        }
        let matched = matches!(session.queue.front(), Some(Entry::Pending(_) | Entry::Full(_)));
        if !matched && !interim {
            self.context.lost("request_missed", 1);
            // What asked may have been a HEAD, whose answer has no body.
            session.unsure = true;
        }
        if !matched {
            session.answer_begin = first.position;
        }
        session.pipelines |= matched && !session.unsure && session.queue.len() > 1;
        let reason = &reason[..reason.len().min(MAX_REASON_BYTES)];
        let reason =
            (status >= 400 && !reason.is_empty()).then(|| strip_literals(&String::from_utf8_lossy(reason)).into());
        session.answer = Some(Answer { status, reason, interim, matched });
        true
    }

    fn head(&mut self, fields: &Fields, _first: &Moment, last: Place<'_>) -> Body {
        let session = &mut *self.session;
        let Some(Answer { status, interim, .. }) = session.answer else { return Body::Unknown };
        let method = match session.queue.front() {
            Some(Entry::Pending(pending)) => pending.method,
            _ => Method::Other,
        };
        match status {
            101 => return self.switch(fields.upgrade, last),
            200..300 if method == Method::Connect => return self.switch(Some(Upgrade::Other), last),
            _ => {}
        }
        if interim || method == Method::Head || matches!(status, 204 | 304) {
            return Body::Length(0);
        }
        match *fields {
            Fields { cut: true, .. } => Body::Unknown,
            Fields { chunked: Some(true), .. } => Body::Chunked,
            Fields { chunked: None, content_length: Some(length), .. } => Body::Length(length),
            _ => Body::UntilClose,
        }
    }

    fn end(&mut self, last: Place<'_>) {
        let Some(answer) = self.session.answer.take() else { return };
        if answer.interim {
            return;
        }
        self.complete(&answer, last.moment, last.position);
    }

    fn end_missed(&mut self, moment: Option<&Moment>, position: u64) {
        match (self.session.answer.take(), moment) {
            (Some(Answer { matched: false, .. }), _) => self.session.answer_begin = position,
            (Some(answer), Some(moment)) if !answer.interim => {
                self.context.lost("answer_incomplete", 1);
                self.complete(&answer, moment, position);
            }
            // A status line that was not seen to its end is of the first one's answer, too.
            _ => {
                self.session.drop_requests(1, self.context);
                self.session.answer_begin = position;
            }
        }
    }

    fn missed(&mut self, why: Missed, sure: bool, _moment: &Moment) {
        let Self { session, context, .. } = self;
        context.lost("unexpected_message", u64::from(why == Missed::Unexpected));
        session.unsure = true;
        match why {
            Missed::Calls | Missed::Uncaptured => {
                session.gap = Some(sure || session.gap == Some(true));
            }
            Missed::Unexpected if session.hits == 0 => session.switched = Some(Verdict::Unknown),
            Missed::Unexpected => {}
        }
    }
}

impl Answers<'_, '_> {
    fn complete(&mut self, answer: &Answer, moment: &Moment, position: u64) {
        let session = &mut *self.session;
        if !answer.matched {
            session.answer_begin = position;
            return;
        }
        // It may be answered before it is all sent, or is seen to be.
        session.sent(self.requests_position);
        let end = session.side.end(moment);
        session.complete(answer, end, position, self.context);
    }

    /// The connection is no HTTP/1 after this head.
    fn switch(&mut self, upgrade: Option<Upgrade>, last: Place<'_>) -> Body {
        self.session.switched = Some(match upgrade {
            Some(Upgrade::Websocket) => Verdict::Ignored,
            _ => Verdict::Unknown,
        });
        if let Some(answer) = self.session.answer.take() {
            self.complete(&answer, last.moment, last.position);
        }
        Body::Switched
    }
}
