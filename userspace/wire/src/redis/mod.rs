//! Redis and what speaks its protocol (Valkey, KeyDB, Dragonfly, Sentinel): RESP2 and RESP3, both sides.
//!
//! What is a hit: each command that was answered, those of a pipeline one by one. Its operation is its name, the
//! subcommand where it has one, and the patterns of its keys: `MGET user:{id}`, however many keys it names.
//! - A command within `MULTI` is answered by `+QUEUED`; that is its hit, and lasts no longer. `EXEC` is one hit: its
//!   duration is that of all, its rows are how many ran, and it has failed where one of them did.
//! - `BLPOP` and the like last as long as they wait.
//! - `SUBSCRIBE` is a hit that ends with the confirmation of its last channel. Messages of channels and what a RESP3
//!   server tells unasked are none.
//! - After `MONITOR`, `SYNC`, `PSYNC` no requests come: the connection is ignored.
//! - What comes after `CLIENT REPLY OFF` has no answer, so it is no hit.
//!
//! `rows` of a hit: elements of an aggregate answer, 1 for a string, 0 for null. The error code is an error's first
//! word.
//!
//! Answers have no mark at their end, so what was missed is mended at turns: a client is taken to ask anew only when
//! all before is answered. Then the last answers belong to the last commands. What is missed, where:
//! - **Within a string**: nothing is, its length says where it ends.
//! - **Within a call of answers** (a pipeline of large lists: only heads and tails were captured): how many answers ended
//!   there nobody can tell, for a list says how many elements come and not how many bytes. At the client's next turn
//!   every command that is open is a hit that ended with the last call of answers; the first of them has its rows, for
//!   its list had begun; of each other one neither rows nor an error is known, and it counts as `answer_incomplete`.
//! - **Within a call of commands**: what was answered and not seen to be asked is a hit, `<unresolved>`, with that call's
//!   time.
//! - **Calls of answers that never came**: of the commands behind as many are hits as answers were seen, and the others
//!   count as `answer_missed`: when they ended is not known.
//! - **Calls of commands that never came**: each answer to them counts as `request_missed`.
//! - **Both**: of what was asked and answered in calls that never came there is no trace but these calls' own count, as
//!   the source has it.
//!
//! A client that does not wait for all answers before it asks anew (`redis-cli --pipe`, one connection for many threads)
//! is decoded all the same. Where something of it was missed, a hit may end too early and the counts above be too high.
//!
//! Arguments are looked at only for names, keys and the user; passwords are never kept.
mod commands;
mod requests;
mod session;
#[cfg(test)]
mod tests;
mod values;

use self::{
    requests::{Credit, Requests},
    session::{Next, Session},
    values::{Value, Values},
};
use crate::{
    connection::{Context, Decoder, Detection, Opening},
    outcome::{Protocol, Side, Verdict},
    reassembly::{Piece, Reassembly},
    segment::{Direction, Segment},
    settings::Settings,
};

/// Kept of an argument: of a key, or, where literals are allowed, of any.
const KEY_BYTES: usize = 128;
const LITERAL_BYTES: usize = 1024;
/// After so many calls in a row that made no sense the protocol is another.
const MAX_STRIKES: u32 = 16;
/// After so many turns of the client an answer is not waited for any more: its end was missed, and the next answers are
/// taken for its elements.
const MAX_STALLED: u32 = 8;

/// Tells Redis by the first bytes of one direction.
pub fn detect(opening: &Opening<'_>, settings: &Settings) -> Detection {
    let Opening { direction, front, total } = *opening;
    let is = |side| Detection::Is(Protocol::Redis, side, Box::new(Redis::new(side, settings)));
    let (asking, answering) = match direction {
        Direction::Received => (Side::Server, Side::Client),
        Direction::Sent => (Side::Client, Side::Server),
    };
    let more = total.is_none();
    match (requests::credit(front, true), answers(front)) {
        // One line of text alone could be of many protocols; its answer will tell.
        (Credit::Yes, _) if front.first() == Some(&b'*') => is(asking),
        (Credit::Maybe, _) if front.first() == Some(&b'*') && more => Detection::Maybe,
        (_, Credit::Yes) => is(answering),
        (Credit::No, Credit::No) => Detection::No,
        _ if more => Detection::Maybe,
        _ => Detection::No,
    }
}

/// Whether bytes are answers that no other protocol has: POP3 says `+OK` and `-ERR`, too, so these tell nothing alone.
fn answers(front: &[u8]) -> Credit {
    let (mut telling, mut foreign) = (false, false);
    let mut tell = |value: &Value<'_>| match value.kind {
        b'+' => match value.first {
            b"PONG" | b"QUEUED" => telling = true,
            b"OK" => {}
            _ => foreign = true,
        },
        b'-' => match value.error.unwrap_or_default().split(|byte| *byte == b' ').next() {
            Some(b"WRONGTYPE" | b"NOAUTH" | b"NOPERM" | b"MOVED" | b"NOSCRIPT" | b"LOADING" | b"READONLY") => {
                telling = true
            }
            Some(b"ERR") => {}
            _ => foreign = true,
        },
        // Strings alone: a command that is not known looks so.
        b'*' if front.iter().filter(|byte| **byte == b'$').count() as u64 >= value.rows.unwrap_or_default() => {
            telling |= value.first.ends_with(b"message") || value.first.ends_with(b"subscribe");
        }
        _ => telling = true,
    };
    match values::credit(front, &mut tell) {
        Credit::No => Credit::No,
        _ if foreign && !telling => Credit::No,
        _ if telling => Credit::Yes,
        _ => Credit::Maybe,
    }
}

struct Redis {
    side: Side,
    streams: [Reassembly; 2],
    requests: Requests,
    values: Values,
    session: Session,
    last_direction: Option<Direction>,
    answers_seen: bool,
    strikes: u32,
    /// Turns of the client since an answer began that has not ended.
    stalled: u32,
    verdict: Verdict,
}

impl Redis {
    fn new(side: Side, settings: &Settings) -> Self {
        let argument_bytes = if settings.keep_literals { LITERAL_BYTES } else { KEY_BYTES };
        Self {
            side,
            streams: Default::default(),
            requests: Requests::new(argument_bytes),
            values: Values::new(),
            session: Session::new(side, settings),
            last_direction: None,
            answers_seen: false,
            strikes: 0,
            stalled: 0,
            verdict: Verdict::Decoded,
        }
    }

    fn requests(&mut self, segment: &Segment<'_>, turned: bool, context: &mut Context<'_>) {
        let moment = segment.moment();
        let Self { requests, values, session, streams, strikes, stalled, verdict, .. } = self;
        if turned {
            if session.is_cut() {
                session.turn(values.begun(), values.position(), context);
                values.forget();
            } else {
                session.turn(None, values.position(), context);
            }
            requests.turn();
            *stalled = if values.within_aggregate() { *stalled + 1 } else { 0 };
            if *stalled > MAX_STALLED {
                *stalled = 0;
                values.give_up();
                session.answers_missed(false);
            }
        }
        if !requests.in_step() {
            session.goes_on(&moment);
        }
        for piece in streams[segment.direction.index()].pieces(segment) {
            let mut unexpected = 0;
            let on = &mut |event: requests::Event<'_>| match event {
                requests::Event::Command(command) => {
                    *strikes = 0;
                    if session.command(&command, context) == Next::Streams {
                        *verdict = Verdict::Ignored;
                    }
                }
                requests::Event::Unexpected => {
                    unexpected += 1;
                    session.commands_missed(Some(&moment));
                }
                requests::Event::Skipped => session.commands_missed(None),
            };
            let missed = match piece {
                Piece::Data(bytes) => {
                    requests.data(bytes, &moment, on);
                    false
                }
                Piece::Uncaptured(bytes) => !requests.gap(Some(bytes), true, &moment, on),
                Piece::Missing(bytes) => {
                    let missed = !requests.gap(bytes, false, &moment, on);
                    requests.turn();
                    missed
                }
            };
            if missed {
                session.commands_missed(matches!(piece, Piece::Uncaptured(_)).then_some(&moment));
            }
            *strikes += unexpected;
            context.lost("unexpected_message", u64::from(unexpected));
        }
    }

    fn answers(&mut self, segment: &Segment<'_>, turned: bool, context: &mut Context<'_>) {
        let moment = segment.moment();
        let Self { values, session, streams, answers_seen, strikes, stalled, verdict, .. } = self;
        if turned {
            values.turn();
        }
        session.answered(&moment);
        // Others went before the first one seen.
        if !std::mem::replace(answers_seen, true) && segment.offset > 0 {
            session.answers_missed(false);
        }
        for piece in streams[segment.direction.index()].pieces(segment) {
            let mut unexpected = 0;
            let on = &mut |event: values::Event<'_>| match event {
                values::Event::Value(value) => {
                    (*strikes, *stalled) = (0, 0);
                    if session.value(&value, context) == Next::Streams {
                        *verdict = Verdict::Ignored;
                    }
                }
                values::Event::Unexpected => {
                    unexpected += 1;
                    session.answers_missed(false);
                }
                values::Event::Skipped => session.answers_missed(false),
            };
            match piece {
                Piece::Data(bytes) => values.data(bytes, &moment, on),
                Piece::Uncaptured(bytes) => {
                    if !values.gap(Some(bytes), true, &moment, on) {
                        session.answers_missed(true);
                    }
                }
                Piece::Missing(bytes) => {
                    if !values.gap(bytes, false, &moment, on) {
                        session.answers_missed(false);
                    }
                    values.turn();
                }
            }
            *strikes += unexpected;
            context.lost("unexpected_message", u64::from(unexpected));
        }
    }
}

impl Decoder for Redis {
    fn feed(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) -> Verdict {
        self.session.seen(&segment.mark);
        let turned = self.last_direction.replace(segment.direction) != Some(segment.direction);
        match (self.side, segment.direction) {
            (Side::Server, Direction::Received) | (Side::Client, Direction::Sent) => {
                self.requests(segment, turned, context);
            }
            _ => self.answers(segment, turned, context),
        }
        if self.strikes > MAX_STRIKES && self.verdict == Verdict::Decoded {
            self.verdict = Verdict::Unknown;
        }
        self.verdict
    }

    fn close(&mut self, time_ns: u64, context: &mut Context<'_>) {
        let begun = if self.session.is_cut() { self.values.begun() } else { None };
        self.session.close(time_ns, begun, self.values.position(), context);
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.requests.memory_bytes() + self.values.memory_bytes() + self.session.memory_bytes()
    }
}
