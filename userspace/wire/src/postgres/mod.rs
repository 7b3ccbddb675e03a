//! PostgreSQL, protocol 3, both sides.
//!
//! What is a hit:
//! - each statement of a simple `Query` that was answered; an error ends the query, and what follows never ran;
//! - each `Execute` with the `Parse` and `Bind` before it. Those that the server skips after an error never ran. A
//!   `Parse` or `Bind` that fails is a hit of its statement, for the error is its answer;
//! - each function call, as `<function> OID`; an empty query, as `<empty>`.
//!
//! An `Execute` that resumes a portal is an exchange of its own with its own latency, but no new run of the
//! statement (`pg_stat_statements` counts one call per run): its operation is `<resumed> SELECT …`. A statement that
//! was prepared unseen is `<unresolved> its_name`, or `<unresolved>` where nothing is known of it.
//!
//! In a pipeline every `Execute` has its own start, when its first message came, and its own end, when its
//! completion was sent; servers send what they have at a `Sync` or when 8 KiB are full, so that short answers of
//! one pipeline end together.
//!
//! Passwords and keys are never kept: see [`message::needed`].
mod entry;
mod frames;
mod message;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use self::{
    frames::Messages,
    message::{CANCEL_REQUEST, End, GSSENC_REQUEST, SSL_REQUEST, STARTUP, credit, text, u32_at},
    session::{Regained, Session},
};
use crate::{
    connection::{Context, Decoder, Detection, Opening},
    outcome::{Facts, Outcome, Protocol, Side, Verdict},
    reassembly::Reassembly,
    segment::{Direction, Segment},
    settings::Settings,
    stream::{Credit, Event, Message, Stream},
};

/// Tells PostgreSQL by the first bytes of one direction.
pub fn detect(opening: &Opening<'_>, settings: &Settings) -> Detection {
    let front = opening.front;
    let is = |end, startup| {
        let side = match (end, opening.direction) {
            (End::Frontend, Direction::Received) | (End::Backend, Direction::Sent) => Side::Server,
            _ => Side::Client,
        };
        Detection::Is(Protocol::Postgres, side, Box::new(Postgres::new(side, startup, settings)))
    };
    if front.first() == Some(&0) {
        let begins = front.iter().skip(1).take(1).all(|byte| *byte == 0);
        return match u32_at(front, 0).zip(u32_at(front, 4)) {
            Some((8, SSL_REQUEST | GSSENC_REQUEST) | (12..=264, CANCEL_REQUEST)) => is(End::Frontend, true),
            Some((9..=message::MAX_STARTUP_BYTES, version)) if version >> 16 == 3 => is(End::Frontend, true),
            None if begins && opening.total.is_none() => Detection::Maybe,
            _ => Detection::No,
        };
    }
    let frontend = credit(End::Frontend, front, opening.total);
    let backend = credit(End::Backend, front, opening.total);
    match (frontend, backend) {
        (Credit::Yes, _) => is(End::Frontend, false),
        (_, Credit::Yes) => is(End::Backend, false),
        (Credit::No, Credit::No) => Detection::No,
        _ => Detection::Maybe,
    }
}

struct Postgres {
    side: Side,
    streams: [Reassembly; 2],
    frontend: Stream<Messages>,
    backend: Stream<Messages>,
    session: Session,
    last_direction: Option<Direction>,
    verdict: Verdict,
}

/// What the messages of one segment asked for beside hits.
#[derive(Default)]
struct Asked {
    encryption: bool,
    ignore: bool,
    encrypted: bool,
}

impl Postgres {
    fn new(side: Side, startup: bool, settings: &Settings) -> Self {
        let statement_bytes = settings.statement_bytes();
        Self {
            side,
            streams: Default::default(),
            frontend: Stream::new(Messages::new(End::Frontend, startup, statement_bytes), startup),
            backend: Stream::new(Messages::new(End::Backend, startup, statement_bytes), startup),
            session: Session::new(side, settings),
            last_direction: None,
            verdict: Verdict::Decoded,
        }
    }

    fn requests(&mut self, segment: &Segment<'_>, turned: bool, context: &mut Context<'_>, asked: &mut Asked) {
        let moment = segment.moment();
        if turned {
            self.session.turn(context);
        }
        let Self { frontend, session, streams, .. } = self;
        let on = &mut |event: Event<'_>| match event {
            Event::Message(message) if message.kind == STARTUP => startup(&message, context.facts, asked),
            Event::Message(message) => session.request(&message, context),
            Event::Missed { why, .. } => session.requests_missed(why, &moment, context),
            Event::Regained { .. } => {}
        };
        frontend.take(streams[segment.direction.index()].pieces(segment), turned, &moment, on);
    }

    fn answers(&mut self, segment: &Segment<'_>, turned: bool, context: &mut Context<'_>, asked: &mut Asked) {
        let moment = segment.moment();
        let Self { backend, session, streams, .. } = self;
        if turned {
            session.answers_turn();
        }
        let on = &mut |event: Event<'_>| match event {
            Event::Message(message) if message.kind == STARTUP => {
                asked.encrypted |= matches!(message.body, b"S" | b"G")
            }
            Event::Message(message) => asked.ignore |= !session.answer(&message, context),
            Event::Missed { why, position } => session.answers_missed(why, position, context),
            Event::Regained { rest, position, front } => {
                session.answers_regained(&Regained { rest, position, front, moment: &moment }, context);
            }
        };
        backend.take(streams[segment.direction.index()].pieces(segment), turned, &moment, on);
    }
}

impl Decoder for Postgres {
    fn feed(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) -> Verdict {
        let mut asked = Asked::default();
        self.session.seen(&segment.mark);
        let turned = self.last_direction.replace(segment.direction) != Some(segment.direction);
        match (self.side, segment.direction) {
            (Side::Server, Direction::Received) | (Side::Client, Direction::Sent) => {
                self.requests(segment, turned, context, &mut asked);
            }
            _ => self.answers(segment, turned, context, &mut asked),
        }
        if asked.encryption {
            self.backend.frames.expect_one_byte();
            self.backend.begin_anew();
        }
        if asked.encrypted {
            context.facts.encrypted = true;
            (context.sink)(Outcome::Encrypted(Protocol::Postgres), context.facts);
        }
        if asked.encrypted || asked.ignore {
            self.verdict = Verdict::Ignored;
        }
        self.verdict
    }

    fn close(&mut self, time_ns: u64, context: &mut Context<'_>) {
        self.session.close(time_ns, self.backend.position(), context);
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.frontend.memory_bytes() + self.backend.memory_bytes() + self.session.memory_bytes()
    }
}

/// The messages before the session.
fn startup(message: &Message<'_>, facts: &mut Facts, asked: &mut Asked) {
    let Some(code) = u32_at(message.body, 0) else { return };
    match code {
        SSL_REQUEST | GSSENC_REQUEST => return asked.encryption = true,
        CANCEL_REQUEST => return asked.ignore = true,
        _ => {}
    }
    let mut rest = &message.body[4..];
    while !rest.is_empty() {
        let (name, after) = text(rest);
        let (value, after) = text(after);
        rest = after;
        let value = || Some(Arc::from(String::from_utf8_lossy(value)));
        match name {
            b"user" => facts.user = value(),
            b"database" => facts.database = value(),
            b"application_name" => facts.application = value(),
            // A replication stream, in which only the server's own kind asks.
            b"replication" => {
                asked.ignore |= !matches!(value().as_deref(), Some("false" | "off" | "no" | "0" | "f" | "n"));
            }
            _ => {}
        }
    }
    if facts.database.is_none() {
        facts.database = facts.user.clone();
    }
}
