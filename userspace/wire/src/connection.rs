//! One connection: which protocol, then its decoder.

use std::sync::Arc;

use crate::{
    http1, http2, mysql,
    outcome::{Exchange, Facts, Outcome, Protocol, Side, Verdict},
    postgres, redis,
    segment::{Direction, Mark, Segment},
    settings::Settings,
    sql::fnv1a,
    tls,
};

/// The protocols; each says whether bytes are its own.
const PROTOCOLS: &[fn(&Opening<'_>, &Settings) -> Detection] =
    &[mysql::detect, postgres::detect, http1::detect, http2::detect, redis::detect, tls::detect];

/// The first bytes seen of one direction since it last made no sense.
pub(crate) struct Opening<'a> {
    pub direction: Direction,
    /// Without a hole.
    pub front: &'a [u8],
    /// Bytes there were, where a hole follows those captured.
    pub total: Option<u64>,
}

pub(crate) enum Detection {
    Is(Protocol, Side, Box<dyn Decoder>),
    Encrypted(Protocol),
    /// More bytes will tell.
    Maybe,
    /// Not these bytes; but the connection may have been met in the middle of something.
    No,
}

/// Takes what comes of the segments, with what is known of the connection by then.
pub type Sink<'a> = &'a mut dyn FnMut(Outcome, &Facts);

/// What a decoder works with during one segment.
pub(crate) struct Context<'a> {
    pub settings: &'a Settings,
    /// Which service the observed process belongs to: see [`Connection::set_service`].
    pub scope: u64,
    pub facts: &'a mut Facts,
    pub sink: Sink<'a>,
}

impl Context<'_> {
    pub fn hit(&mut self, exchange: Exchange) {
        (self.sink)(Outcome::Hit(exchange), self.facts);
    }

    pub fn lost(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            (self.sink)(Outcome::Lost { reason, count }, self.facts);
        }
    }
}

/// Follows a connection of one protocol.
pub(crate) trait Decoder: Send {
    fn feed(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) -> Verdict;
    fn close(&mut self, time_ns: u64, context: &mut Context<'_>);
    /// See [`Connection::is_busy`].
    fn is_busy(&self) -> Option<bool> {
        None
    }
    fn memory_bytes(&self) -> usize;
}

/// Decodes one connection as one process sees it.
pub struct Connection {
    settings: Arc<Settings>,
    scope: u64,
    facts: Facts,
    state: State,
}

enum State {
    Unknown(Unknown),
    Decoded(Box<dyn Decoder>),
    Ignored,
}

/// Segments kept until they tell the protocol, and how often they did not.
#[derive(Default)]
struct Unknown {
    records: Vec<Record>,
    bytes: Vec<u8>,
    last_direction: Option<Direction>,
    segments: u32,
    misses: u32,
}

struct Record {
    direction: Direction,
    enter_ns: u64,
    mark: Mark,
    offset: u64,
    length: u64,
    head: usize,
    tail: usize,
}

/// Segments kept at most, and bytes of them: as much as the probe captures of a call before it knows the protocol.
const MAX_RECORDS: usize = 128;
const MAX_BYTES: usize = 8 << 10;
/// After so many turns that begin with something unknown, the connection is ignored: requests begin where a turn
/// does, so a decoder would have known one of them.
const MAX_MISSES: u32 = 8;
/// After so many segments without a turn it is ignored, too.
const MAX_SEGMENTS: u32 = 4096;

impl Connection {
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, scope: 0, facts: Facts::default(), state: State::Unknown(Unknown::default()) }
    }

    /// Says which service the observed process belongs to, for what is bounded per service ([`Paths`](crate::Paths)).
    pub fn set_service(&mut self, service: &str) {
        self.scope = fnv1a(service.as_bytes());
    }

    /// What goes through a connection that is encrypted, as plaintext.
    pub fn plaintext(settings: Arc<Settings>) -> Self {
        let mut connection = Self::new(settings);
        connection.facts.encrypted = true;
        connection
    }

    /// Takes a segment; `sink` gets what comes of it.
    pub fn feed(&mut self, segment: &Segment<'_>, sink: Sink<'_>) -> Verdict {
        let verdict = match &mut self.state {
            State::Decoded(decoder) => {
                let context =
                    &mut Context { settings: &self.settings, scope: self.scope, facts: &mut self.facts, sink };
                decoder.feed(segment, context)
            }
            State::Unknown(_) => self.detect(segment, sink),
            State::Ignored => return Verdict::Ignored,
        };
        match (verdict, &self.state) {
            (Verdict::Ignored, _) => self.state = State::Ignored,
            // What it took for its protocol turned out not to be: another may know it.
            (Verdict::Unknown, State::Decoded(_)) => {
                self.facts = Facts { encrypted: self.facts.encrypted, ..Facts::default() };
                self.state = State::Unknown(Unknown::default());
            }
            _ => {}
        }
        verdict
    }

    /// The connection ended: what was not answered is aborted.
    pub fn close(&mut self, time_ns: u64, sink: Sink<'_>) {
        if let State::Decoded(decoder) = &mut self.state {
            decoder.close(
                time_ns,
                &mut Context { settings: &self.settings, scope: self.scope, facts: &mut self.facts, sink },
            );
        }
        self.state = State::Ignored;
    }

    /// What is known so far.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether requests are under way, of a protocol that answers them in any order. `None`: they are answered in order, one
    /// after the other as a rule, so the last that was said tells.
    pub fn is_busy(&self) -> Option<bool> {
        match &self.state {
            State::Decoded(decoder) => decoder.is_busy(),
            State::Unknown(_) | State::Ignored => None,
        }
    }

    /// Memory held, bytes; at most [`Settings::connection_bytes`].
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.state {
                State::Unknown(unknown) => unknown.records.capacity() * size_of::<Record>() + unknown.bytes.capacity(),
                State::Decoded(decoder) => decoder.memory_bytes(),
                State::Ignored => 0,
            }
    }

    fn detect(&mut self, segment: &Segment<'_>, sink: Sink<'_>) -> Verdict {
        let State::Unknown(unknown) = &mut self.state else { return Verdict::Unknown };
        let turned = unknown.last_direction.replace(segment.direction) != Some(segment.direction);
        unknown.segments = if turned { 1 } else { unknown.segments + 1 };
        let fits = unknown.keep(segment);
        let detection = if fits { unknown.judge(segment, &self.settings) } else { Detection::No };
        match detection {
            Detection::Is(protocol, side, mut decoder) => {
                self.facts.protocol = Some(protocol);
                self.facts.side = Some(side);
                let mut verdict = Verdict::Decoded;
                let context =
                    &mut Context { settings: &self.settings, scope: self.scope, facts: &mut self.facts, sink };
                unknown.replay(|segment| {
                    if verdict == Verdict::Decoded {
                        verdict = decoder.feed(segment, context);
                    }
                });
                self.state = State::Decoded(decoder);
                verdict
            }
            Detection::Encrypted(protocol) => {
                self.facts = Facts { protocol: Some(protocol), encrypted: true, ..Facts::default() };
                sink(Outcome::Encrypted(protocol), &self.facts);
                Verdict::Ignored
            }
            Detection::Maybe => Verdict::Unknown,
            Detection::No => {
                unknown.records.clear();
                unknown.bytes.clear();
                unknown.misses += u32::from(turned);
                if unknown.misses > MAX_MISSES || unknown.segments > MAX_SEGMENTS {
                    return Verdict::Ignored;
                }
                Verdict::Unknown
            }
        }
    }
}

impl Unknown {
    /// `false`: there is no room. The first segment has, for as much of its front as fits.
    fn keep(&mut self, segment: &Segment<'_>) -> bool {
        let Segment { direction, enter_ns, mark, offset, head, tail, .. } = *segment;
        let length = segment.length.max((head.len() as u64).saturating_add(tail.len() as u64));
        let (head, tail) = if self.records.is_empty() && head.len() + tail.len() > MAX_BYTES {
            (&head[..head.len().min(MAX_BYTES)], &tail[..0])
        } else {
            (head, tail)
        };
        if self.records.len() >= MAX_RECORDS || self.bytes.len() + head.len() + tail.len() > MAX_BYTES {
            return false;
        }
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(tail);
        let (head, tail) = (head.len(), tail.len());
        self.records.push(Record { direction, enter_ns, mark, offset, length, head, tail });
        true
    }

    /// What the bytes of the segment's direction say.
    fn judge(&self, segment: &Segment<'_>, settings: &Settings) -> Detection {
        let (mut front, mut total, mut next, mut at) = (Vec::new(), None, None, 0);
        for record in &self.records {
            let bytes = &self.bytes[at..at + record.head + record.tail];
            at += bytes.len();
            if record.direction != segment.direction {
                continue;
            }
            if next.is_some_and(|next| next != record.offset) {
                break;
            }
            next = Some(record.offset.saturating_add(record.length));
            let hole = record.length > bytes.len() as u64;
            front.extend_from_slice(&bytes[..if hole { record.head } else { bytes.len() }]);
            if hole {
                total = Some((front.len() - record.head) as u64 + record.length);
                break;
            }
        }
        let opening = Opening { direction: segment.direction, front: &front, total };
        let mut detection = Detection::No;
        for protocol in PROTOCOLS {
            match protocol(&opening, settings) {
                Detection::No => {}
                Detection::Maybe => detection = Detection::Maybe,
                found => return found,
            }
        }
        detection
    }

    fn replay(&self, mut each: impl FnMut(&Segment<'_>)) {
        let mut at = 0;
        for record in &self.records {
            let Record { direction, enter_ns, mark, offset, length, head, tail } = *record;
            let (head, rest) = self.bytes[at..].split_at(head);
            at += head.len() + tail;
            each(&Segment { direction, enter_ns, mark, offset, length, head, tail: &rest[..tail] });
        }
    }
}
