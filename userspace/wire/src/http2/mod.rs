//! HTTP/2 and gRPC, both sides, in plain text: with prior knowledge, or as a TLS library has it.
//!
//! What is a hit: each stream that the client opened, from its header block to the end of its answer; of gRPC each
//! call, however many messages it streams. A stream that was reset, that a GOAWAY left out, or that the connection's
//! end cut off is aborted, with the name of the error code where there is one. What a server pushes is no hit, for
//! nobody asked.
//!
//! The operation is method and path template; of gRPC the path as it is: `/package.Service/Method`. An error is a
//! status from 400 on; of gRPC each but `OK`, by its name. An answer of gRPC without a status is what clients take it
//! for, by its HTTP status.
//!
//! A connection met in the middle, or of which something was missed, has header tables of unknown content. Fields that
//! refer to it are `<unresolved>`; what is literal, well known or entered anew is right. A status that is not known
//! counts as ok, and as `answer_incomplete`.
//!
//! Of headers only those that hits are made of are kept: neither cookies nor credentials.
mod frame;
mod frames;
mod grpc;
mod hpack;
mod session;
mod streams;
#[cfg(test)]
mod tests;

use self::{
    frame::{END_HEADERS, HEADERS, Header, PREFACE, Role, Run, block},
    frames::{Event, Frames, Reader},
    hpack::{Fields, Name, Table},
    session::{Passing, Session},
};
use crate::{
    connection::{Context, Decoder, Detection, Opening},
    outcome::{Protocol, Side, Verdict},
    reassembly::{Piece, Reassembly},
    segment::{Direction, Moment, Segment},
    settings::Settings,
};

/// How far from the front of unknown bytes frames may begin.
const MAX_SKIPPED: usize = 1024;

/// Tells HTTP/2 by the first bytes of one direction.
pub fn detect(opening: &Opening<'_>, settings: &Settings) -> Detection {
    let Opening { direction, front, total } = *opening;
    let is = |role, opened| {
        let side = match (role, direction) {
            (Role::Requests, Direction::Received) | (Role::Answers, Direction::Sent) => Side::Server,
            _ => Side::Client,
        };
        Detection::Is(Protocol::Http2, side, Box::new(Http2::new(side, opened, settings)))
    };
    if front.starts_with(PREFACE) {
        return is(Role::Requests, true);
    }
    if !front.is_empty() && PREFACE.starts_with(front) {
        return if total.is_none() { Detection::Maybe } else { Detection::No };
    }
    // Met in the middle: frames, of which header blocks tell who speaks.
    match Header::parse(front) {
        Some(_) => {
            let mut maybe = false;
            for from in 0..(front.len() + 1).saturating_sub(frame::HEADER_BYTES).min(MAX_SKIPPED) {
                let (role, whole, run) = speaker(&front[from..]);
                match role {
                    Some(role) if from == 0 || whole >= 2 => return is(role, false),
                    _ => maybe |= run && from == 0,
                }
            }
            if maybe && total.is_none() { Detection::Maybe } else { Detection::No }
        }
        None if !front.is_empty() && total.is_none() && may_begin(front) => Detection::Maybe,
        None => Detection::No,
    }
}

/// Whether a frame's header may begin with these few bytes.
fn may_begin(front: &[u8]) -> bool {
    front.iter().zip([0, 0x40, 0xff, 16, 0x2d]).all(|(byte, most)| *byte <= most)
}

/// Who speaks in a run of frames, how many of them are whole, and whether it is one.
fn speaker(bytes: &[u8]) -> (Option<Role>, usize, bool) {
    // Only a server's frames can be among the pushed.
    let mut run = Run::new(bytes, Role::Answers, u32::MAX);
    let mut role = None;
    for (header, payload) in run.by_ref() {
        if role.is_none() && header.kind == HEADERS && header.has(END_HEADERS) {
            role = block(&header, payload).and_then(speaker_of_block);
            if role.is_none() {
                // A block of nothing but references says nothing; one that is none ends it.
                let mut fields = Fields::default();
                let decoded = block(&header, payload).map(|block| Table::new(0, None, 64).decode(block, &mut fields));
                if decoded != Some(Ok(())) {
                    return (None, 0, false);
                }
            }
        }
    }
    match run.broken {
        true => (None, 0, false),
        false => (role, run.whole, true),
    }
}

fn speaker_of_block(block: &[u8]) -> Option<Role> {
    let mut fields = Fields::default();
    Table::new(0, None, 64).decode(block, &mut fields).ok()?;
    let has = |name| fields.get(name).bytes().is_some();
    match () {
        () if has(Name::Status) || has(Name::GrpcStatus) => Some(Role::Answers),
        () if has(Name::Method) || has(Name::Path) || has(Name::Authority) => Some(Role::Requests),
        () => None,
    }
}

struct Http2 {
    side: Side,
    streams: [Reassembly; 2],
    requests: Frames,
    answers: Frames,
    session: Session,
    last_direction: Option<Direction>,
}

impl Http2 {
    fn new(side: Side, opened: bool, settings: &Settings) -> Self {
        let block_bytes = Session::block_bytes(settings);
        Self {
            side,
            streams: Default::default(),
            requests: Frames::new(Role::Requests, opened, block_bytes),
            answers: Frames::new(Role::Answers, opened, block_bytes),
            session: Session::new(side, opened, settings),
            last_direction: None,
        }
    }
}

/// Passes what one direction says on to the session.
struct Passer<'s, 'c> {
    session: &'s mut Session,
    context: &'s mut Context<'c>,
    role: Role,
    sent: bool,
    moment: Moment,
}

impl Reader for Passer<'_, '_> {
    fn take(&mut self, event: Event<'_>) {
        let Self { role, sent, moment, .. } = *self;
        match event {
            Event::Frame(frame) => {
                let passing = Passing { role, sent, first: frame.first, last: frame.last };
                self.session.frame(&frame, passing, self.context);
            }
            Event::Missed { unexpected } => {
                self.session.missed(unexpected, Passing { role, sent, first: &moment, last: &moment }, self.context);
            }
        }
    }

    fn is_open(&self, stream: u32) -> bool {
        self.session.is_open(stream)
    }
}

impl Decoder for Http2 {
    fn feed(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) -> Verdict {
        let (moment, sent) = (segment.moment(), segment.direction == Direction::Sent);
        let mut turned = self.last_direction.replace(segment.direction) != Some(segment.direction);
        let Self { session, requests, answers, streams, side, .. } = self;
        session.seen(&segment.mark);
        let (role, frames) = match (*side == Side::Server) == sent {
            true => (Role::Answers, answers),
            false => (Role::Requests, requests),
        };
        let mut passer = Passer { session, context, role, sent, moment };
        let mut front = true;
        for piece in streams[segment.direction.index()].pieces(segment) {
            match piece {
                Piece::Data(bytes) => {
                    if std::mem::take(&mut turned) {
                        frames.turn(bytes, &mut passer);
                    }
                    frames.data(bytes, front, &moment, &mut passer);
                }
                Piece::Uncaptured(bytes) => frames.gap(Some(bytes), &moment, &mut passer),
                Piece::Missing(bytes) => {
                    frames.gap(bytes, &moment, &mut passer);
                    continue;
                }
            }
            front = false;
        }
        if role == Role::Answers {
            self.session.answered(&moment, self.answers.take_unseen());
        }
        // A server speaks on the streams that were opened.
        if role == Role::Requests && self.side == Side::Server && self.session.last_stream() > 0 {
            self.answers.max_stream = self.session.last_stream();
        }
        Verdict::Decoded
    }

    fn close(&mut self, time_ns: u64, context: &mut Context<'_>) {
        self.session.close(time_ns, context);
    }

    fn is_busy(&self) -> Option<bool> {
        Some(self.session.is_busy())
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.requests.memory_bytes() + self.answers.memory_bytes() + self.session.memory_bytes()
    }
}
