//! HTTP/1.0 and 1.1, both sides.
//!
//! A hit is a request with its final answer; answers `1xx` on the way (`100 Continue`) belong to it. Its operation is
//! the method and the template of its path ([`path`](crate::path)); answers from 400 on are errors with the status as
//! their code and the reason phrase as their message. A request whose connection ends before its answer does is
//! aborted, but for one whose body ends with the connection: that one is complete.
//!
//! Times: on the server side from the return of the receive that completed the request's head (so the time that an
//! upload takes belongs to it) to the begin of the send that carried the last byte of the answer's body; on the client
//! side from the begin of the send with the request's first byte to the return of the receive that completed the
//! answer. With `sendfile` that last send is the one that moved the last byte into the socket. Streams of events and long
//! downloads last as long as they take.
//!
//! Bodies are skipped by their lengths and never kept, captured or not. After `101 Switching Protocols`, which is
//! the answer, and after a `CONNECT` that succeeded, there is no HTTP/1 any more: WebSocket connections are ignored from
//! there on, what else follows (HTTP/2, TLS, another HTTP/1) is told apart anew. None of this is a loss.
mod head;
mod session;
mod stream;
#[cfg(test)]
mod tests;

use self::{
    head::{End, credit},
    session::{Answers, Requests, Session},
    stream::Stream,
};
use crate::{
    connection::{Context, Decoder, Detection, Opening},
    outcome::{Protocol, Side, Verdict},
    reassembly::Reassembly,
    segment::{Direction, Segment},
    settings::Settings,
    stream::Credit,
};

/// After so many turns of the client that came to nothing, this is taken for no HTTP/1.
const MAX_MISSES: u32 = 16;

/// Tells HTTP/1 by a request line or a status line.
pub fn detect(opening: &Opening<'_>, settings: &Settings) -> Detection {
    let is = |end| {
        let side = match (end, opening.direction) {
            (End::Client, Direction::Received) | (End::Server, Direction::Sent) => Side::Server,
            _ => Side::Client,
        };
        Detection::Is(Protocol::Http1, side, Box::new(Http1::new(side, settings)))
    };
    let judge = |end| credit(end, opening.front, opening.total);
    match (judge(End::Client), judge(End::Server)) {
        (Credit::Yes, _) => is(End::Client),
        (_, Credit::Yes) => is(End::Server),
        (Credit::No, Credit::No) => Detection::No,
        _ => Detection::Maybe,
    }
}

struct Http1 {
    side: Side,
    reassembly: [Reassembly; 2],
    requests: Stream,
    answers: Stream,
    session: Session,
    last_direction: Option<Direction>,
    misses: u32,
    hits: u64,
}

impl Http1 {
    fn new(side: Side, settings: &Settings) -> Self {
        Self {
            side,
            reassembly: Default::default(),
            requests: Stream::new(End::Client, settings.statement_bytes()),
            answers: Stream::new(End::Server, settings.statement_bytes().min(1024)),
            session: Session::new(side, settings),
            last_direction: None,
            misses: 0,
            hits: 0,
        }
    }

    /// The client's turn begins: whether anything came of the last ones.
    fn makes_sense(&mut self) -> bool {
        let seeks = self.requests.is_seeking() || self.answers.is_seeking();
        let hits = std::mem::replace(&mut self.hits, self.session.hits());
        self.misses = if seeks && hits == self.hits { self.misses + 1 } else { 0 };
        self.misses <= MAX_MISSES
    }
}

impl Decoder for Http1 {
    fn feed(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) -> Verdict {
        let moment = segment.moment();
        self.session.seen(&segment.mark);
        let turned = self.last_direction.replace(segment.direction) != Some(segment.direction);
        let asks = matches!(
            (self.side, segment.direction),
            (Side::Server, Direction::Received) | (Side::Client, Direction::Sent)
        );
        if asks && turned && !self.makes_sense() {
            return Verdict::Unknown;
        }
        let Self { reassembly, requests, answers, session, .. } = self;
        let pieces = reassembly[segment.direction.index()].pieces(segment);
        if asks {
            requests.take(pieces, turned, &moment, &mut Requests { session, context, answers });
        } else {
            let requests_position = requests.position();
            answers.take(pieces, turned, &moment, &mut Answers { session, context, requests_position });
        }
        self.session.switched.unwrap_or(Verdict::Decoded)
    }

    fn close(&mut self, time_ns: u64, context: &mut Context<'_>) {
        let Self { requests, answers, session, .. } = self;
        answers.end_lost(&mut Answers { session, context, requests_position: requests.position() });
        let completed = answers.is_until_close().then_some(answers.last());
        session.close(time_ns, completed, answers.position(), context);
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.requests.memory_bytes() + self.answers.memory_bytes() + self.session.memory_bytes()
    }
}
