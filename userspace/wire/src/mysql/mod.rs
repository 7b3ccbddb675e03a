//! MySQL and MariaDB, protocol 10, both sides.
//!
//! What is a hit: every command that is answered.
//! - Each statement of a query, as far as the answer tells them apart; an error ends the query, and what follows never
//!   ran. All results of a `CALL` are one hit.
//! - Each execution of a prepared statement, as that statement. One that was prepared unseen is `<unresolved>`:
//!   numbers of statements say nothing beyond their connection.
//! - What prepares (`<prepare> SELECT …`) takes a round trip of its own, so it is a hit of its own; so is a fetch
//!   from a cursor (`<resumed> SELECT …`), a reset (`<reset> SELECT …`), and what runs no statement (`<ping>`,
//!   `<init db>`, `<change user>`, …). Closing a statement, sending values ahead, and quitting have no answer.
//!
//! Rows are those of the results, counted, and those that OK packets say were changed. MySQL ends rows without
//! telling their number, so after a hole in them it is not known.
//!
//! How an answer reads depends on what both ends can do. That is learnt from the login, or where the connection was
//! met later, from the answers: no packet of one form passes for the other.
//!
//! What authenticates is never kept: see [`frames::Packets`].
mod compression;
mod entry;
mod frames;
mod login;
mod packet;
mod session;
#[cfg(test)]
mod tests;

use std::iter;

use self::{
    compression::Compressed,
    frames::{End, Packets, detect_requests},
    login::{Reply, is_greeting, is_reply, reply},
    packet::HEADER_BYTES,
    session::{Compression, Regained, Session},
};
use crate::{
    connection::{Context, Decoder, Detection, Opening},
    outcome::{Outcome, Protocol, Side, Verdict},
    reassembly::{Piece, Reassembly},
    segment::{Direction, Moment, Segment},
    settings::Settings,
    stream::{Credit, Event, Stream},
};

/// Tells MySQL by the first bytes of one direction.
pub fn detect(opening: &Opening<'_>, settings: &Settings) -> Detection {
    let front = opening.front;
    let is = |end, start| {
        let side = match (end, opening.direction) {
            (End::Client, Direction::Received) | (End::Server, Direction::Sent) => Side::Server,
            _ => Side::Client,
        };
        Detection::Is(Protocol::Mysql, side, Box::new(Mysql::new(side, start, settings)))
    };
    let (greeting, reply, requests) = (is_greeting(front), is_reply(front), detect_requests(front));
    let compressed = compression::detect(front);
    match (greeting, reply, requests) {
        _ if compressed == Credit::Yes => is(End::Client, Start::Compressed),
        (Some(true), ..) => is(End::Server, Start::Login),
        (_, Some(true), _) => is(End::Client, Start::Login),
        (.., Credit::Yes) => is(End::Client, Start::Middle),
        (Some(false), Some(false), Credit::No) if compressed == Credit::No => Detection::No,
        _ if opening.total.is_some() => Detection::No,
        _ => Detection::Maybe,
    }
}

/// Where a connection is met.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    Login,
    Middle,
    /// In the middle of a compressed one.
    Compressed,
}

struct Mysql {
    side: Side,
    streams: [Reassembly; 2],
    client: Stream<Packets>,
    server: Stream<Packets>,
    /// The client's and the server's.
    compressed: Option<Box<[Compressed; 2]>>,
    session: Session,
    last_direction: Option<Direction>,
    verdict: Verdict,
}

impl Mysql {
    fn new(side: Side, start: Start, settings: &Settings) -> Self {
        let login = start == Start::Login;
        let packets = |end| Packets::new(end, login, settings.statement_bytes());
        Self {
            side,
            streams: Default::default(),
            client: Stream::new(packets(End::Client), login),
            server: Stream::new(packets(End::Server), login),
            compressed: (start == Start::Compressed)
                .then(|| Box::new([true, false].map(|begins| Compressed::new(begins, settings)))),
            session: Session::new(side, login, settings),
            last_direction: None,
            verdict: Verdict::Decoded,
        }
    }

    fn requests(&mut self, segment: &Segment<'_>, turned: bool, context: &mut Context<'_>) {
        let moment = segment.moment();
        if turned {
            self.session.turn(context);
        }
        let Self { client, server, session, streams, verdict, compressed, .. } = self;
        // Number after that of the packet before.
        let mut next = client.frames.next;
        client.frames.peer_next = server.frames.next;
        client.frames.login = session.login;
        let on = &mut |event: Event<'_>| match event {
            Event::Message(message) if session.login && message.kind != 0 => {
                let Some(reply) = matches!(message.kind, 1 | 2)
                    .then(|| reply(message.body, message.bytes - HEADER_BYTES as u64, context.facts))
                    .flatten()
                else {
                    return;
                };
                match reply {
                    Reply::Tls => {
                        context.facts.encrypted = true;
                        (context.sink)(Outcome::Encrypted(Protocol::Mysql), context.facts);
                        *verdict = Verdict::Ignored;
                    }
                    Reply::Login { capabilities } => session.logs_in(capabilities),
                }
            }
            Event::Message(message) => {
                // Else the answer to the login was not seen.
                session.login = false;
                let wraps = std::mem::replace(&mut next, message.kind.wrapping_add(1)) == message.kind;
                if !session.request(&message, wraps, context) {
                    *verdict = Verdict::Ignored;
                }
            }
            Event::Missed { why, .. } => {
                server.frames.anew = true;
                session.requests_missed(why, &moment, context);
            }
            Event::Regained { .. } => {}
        };
        let pieces = streams[segment.direction.index()].pieces(segment);
        take(client, compressed.as_mut().map(|both| &mut both[0]), pieces, turned, &moment, on);
    }

    fn answers(&mut self, segment: &Segment<'_>, turned: bool, context: &mut Context<'_>) {
        let moment = segment.moment();
        let Self { client, server, session, streams, compressed, .. } = self;
        let login = session.login;
        if turned {
            session.answers_turn();
        }
        server.frames.peer_next = client.frames.next;
        let on = &mut |event: Event<'_>| match event {
            Event::Message(message) => session.answer(&message, context),
            Event::Missed { why, position } => {
                client.frames.anew = true;
                session.answers_missed(why, position, context);
            }
            Event::Regained { rest, position, front } => {
                session.answers_regained(&Regained { rest, position, front }, context);
            }
        };
        let pieces = streams[segment.direction.index()].pieces(segment);
        take(server, compressed.as_mut().map(|both| &mut both[1]), pieces, turned, &moment, on);
        if login && !session.login {
            self.logged_in(context);
        }
    }

    /// What follows may come in another form.
    fn logged_in(&mut self, context: &mut Context<'_>) {
        match self.session.compression() {
            None => {}
            Some(Compression::Zlib) => {
                self.compressed = Some(Box::new([true; 2].map(|begins| Compressed::new(begins, context.settings))));
            }
            Some(Compression::Zstd) => {
                context.lost("compressed", 1);
                self.verdict = Verdict::Ignored;
            }
        }
    }
}

/// Gives one direction its pieces, or what was compressed in them.
fn take<'a>(
    stream: &mut Stream<Packets>,
    compressed: Option<&mut Compressed>,
    pieces: impl Iterator<Item = Piece<'a>>,
    turned: bool,
    moment: &Moment,
    on: &mut dyn FnMut(Event<'_>),
) {
    match compressed {
        None => stream.take(pieces, turned, moment, on),
        Some(compressed) => compressed.take(pieces, turned, moment, &mut |piece, turned| {
            stream.take(iter::once(piece), turned, moment, on);
        }),
    }
}

impl Decoder for Mysql {
    fn feed(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) -> Verdict {
        self.session.seen(&segment.mark);
        let turned = self.last_direction.replace(segment.direction) != Some(segment.direction);
        match (self.side, segment.direction) {
            (Side::Server, Direction::Received) | (Side::Client, Direction::Sent) => {
                self.requests(segment, turned, context);
            }
            _ => self.answers(segment, turned, context),
        }
        if self.verdict == Verdict::Decoded && self.session.is_contradicted() {
            self.verdict = Verdict::Unknown;
        }
        self.verdict
    }

    fn close(&mut self, time_ns: u64, context: &mut Context<'_>) {
        self.session.close(time_ns, self.server.position(), context);
    }

    fn memory_bytes(&self) -> usize {
        let compressed =
            self.compressed.iter().flat_map(|both| both.iter()).map(Compressed::memory_bytes).sum::<usize>();
        size_of::<Self>()
            + compressed
            + self.client.memory_bytes()
            + self.server.memory_bytes()
            + self.session.memory_bytes()
    }
}
