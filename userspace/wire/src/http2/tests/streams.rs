//! Builds streams of frames, plays them to a connection, and says in short what came of it.

use std::sync::Arc;

use httlib_hpack::Encoder;

use super::super::frame::*;
use crate::{Connection, Direction, Exchange, Mark, Outcome, Segment, Settings, Status, Times, Verdict};

/// What one end wrote at once.
#[derive(Clone, Debug)]
pub enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

pub use Turn::{Client, Server};

impl Turn {
    pub fn parts(&self) -> (bool, &[u8]) {
        match self {
            Client(bytes) => (true, bytes),
            Server(bytes) => (false, bytes),
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn data(stream: u32, payload: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, u8::from(end), stream, payload)
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let setting = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &settings.iter().flat_map(setting).collect::<Vec<_>>())
}

pub fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, 1, 0, b"")
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code.to_be_bytes(), b"bye"].concat())
}

pub fn window(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0x7f, 0xff])
}

pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"12345678")
}

/// A message of gRPC.
pub fn message(body: &[u8]) -> Vec<u8> {
    [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat()
}

/// Names and values.
pub type List<'a> = &'a [(&'a str, &'a str)];

/// One end's header table.
pub struct Peer(Encoder<'static>);

impl Peer {
    pub fn new() -> Self {
        Self(Encoder::default())
    }

    pub fn block(&mut self, fields: List<'_>) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            let flags = Encoder::BEST_FORMAT | Encoder::WITH_INDEXING | Encoder::HUFFMAN_NAME | Encoder::HUFFMAN_VALUE;
            self.0.encode((name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags), &mut block).unwrap();
        }
        block
    }

    pub fn headers(&mut self, stream: u32, fields: List<'_>, end: bool) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | u8::from(end), stream, &self.block(fields))
    }

    pub fn get(&mut self, stream: u32, path: &str) -> Vec<u8> {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop.example")];
        self.headers(stream, &[&fields[..], &[("user-agent", "tests"), ("cookie", "secret")]].concat(), true)
    }

    /// A call's header block, without its message.
    pub fn call(&mut self, stream: u32, method: &str) -> Vec<u8> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "shop.example"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ];
        self.headers(stream, &fields, false)
    }

    pub fn status(&mut self, stream: u32, status: &str, end: bool) -> Vec<u8> {
        self.headers(stream, &[(":status", status), ("server", "tests")], end)
    }

    /// An answer with so many bytes.
    pub fn page(&mut self, stream: u32, bytes: usize) -> Vec<u8> {
        [self.status(stream, "200", false), data(stream, &vec![b'x'; bytes], true)].concat()
    }

    /// A call's answer: messages, and the status.
    pub fn result(&mut self, stream: u32, messages: &[&[u8]], trailers: List<'_>) -> Vec<u8> {
        let mut bytes = self.headers(stream, &[(":status", "200"), ("content-type", "application/grpc")], false);
        for body in messages {
            bytes.extend(data(stream, &message(body), false));
        }
        bytes.extend(self.headers(stream, trailers, true));
        bytes
    }
}

pub fn preface() -> Vec<u8> {
    [PREFACE, &settings(&[(3, 100), (4, 65535)]), &window(0)].concat()
}

/// What both ends say first.
pub fn opening() -> Vec<Turn> {
    vec![Client(preface()), Server([settings(&[(3, 128)]), settings_ack()].concat()), Client(settings_ack())]
}

/// Plays segments to a connection and keeps what comes of it.
pub struct Player {
    pub connection: Connection,
    pub outcomes: Vec<Outcome>,
    pub verdict: Verdict,
    limit: usize,
    offsets: [u64; 2],
    client: bool,
    time_ns: u64,
}

impl Player {
    pub fn new(settings: Settings, client: bool) -> Self {
        let limit = settings.connection_bytes.max(Settings::MIN_CONNECTION_BYTES);
        let connection = Connection::new(Arc::new(settings));
        Self { connection, outcomes: Vec::new(), verdict: Verdict::Unknown, limit, offsets: [0; 2], client, time_ns: 0 }
    }

    /// A segment of `bytes` of which so much is captured from front and end. Each call takes 100 ns, and 900 pass
    /// before the next.
    pub fn part(&mut self, from_client: bool, bytes: &[u8], head: usize, tail: usize) {
        let direction = if from_client == self.client { Direction::Sent } else { Direction::Received };
        self.time_ns += 1000;
        let head = head.min(bytes.len());
        let tail = tail.min(bytes.len() - head);
        let offset = &mut self.offsets[direction.index()];
        let times = Times { cpu_ns: self.time_ns / 2, ..Times::default() };
        let segment = Segment {
            direction,
            enter_ns: self.time_ns - 100,
            mark: Mark { time_ns: self.time_ns, thread_id: 1, times, queued_ns: 0 },
            offset: *offset,
            length: bytes.len() as u64,
            head: &bytes[..head],
            tail: &bytes[bytes.len() - tail..],
        };
        *offset += bytes.len() as u64;
        let outcomes = &mut self.outcomes;
        self.verdict = self.connection.feed(&segment, &mut |outcome, _| outcomes.push(outcome));
        let memory = self.connection.memory_bytes();
        assert!(memory <= self.limit, "{memory} bytes");
    }

    fn offset(&mut self, from_client: bool) -> &mut u64 {
        let direction = if from_client == self.client { Direction::Sent } else { Direction::Received };
        &mut self.offsets[direction.index()]
    }

    /// Bytes that go by unseen.
    pub fn lose(&mut self, turn: &Turn) {
        let (from_client, bytes) = turn.parts();
        *self.offset(from_client) += bytes.len() as u64;
    }

    /// The same segment once more.
    pub fn again(&mut self, turn: &Turn) {
        let (from_client, bytes) = turn.parts();
        *self.offset(from_client) -= bytes.len() as u64;
        self.part(from_client, bytes, bytes.len(), 0);
    }

    pub fn whole(&mut self, turns: &[Turn]) {
        for turn in turns {
            let (from_client, bytes) = turn.parts();
            self.part(from_client, bytes, bytes.len(), 0);
        }
    }

    pub fn close(&mut self) {
        let outcomes = &mut self.outcomes;
        self.connection.close(self.time_ns + 1000, &mut |outcome, _| outcomes.push(outcome));
    }

    pub fn hits(&self) -> Vec<&Exchange> {
        let mut hits = Vec::new();
        for outcome in &self.outcomes {
            if let Outcome::Hit(hit) = outcome {
                hits.push(hit);
            }
        }
        hits
    }

    /// One line per hit: status, code, protocol, operation; `lost` lines for what was lost.
    pub fn said(&self) -> Vec<String> {
        self.outcomes.iter().map(say).collect()
    }
}

pub fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Hit(hit) => {
            let code = hit.error_code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
            let status = if hit.status == Status::Error { code.trim_start() } else { hit.status.as_str() };
            let code = if hit.status == Status::Aborted { &code } else { "" };
            format!("{status}{code} {} {}", hit.protocol.as_str(), hit.operation)
        }
        Outcome::Encrypted(protocol) => format!("encrypted {}", protocol.as_str()),
        Outcome::Lost { reason, count } => format!("lost {count} {reason}"),
    }
}

/// Plays whole turns, after what both ends say first, and says what came of it.
pub fn play(turns: &[Turn]) -> Vec<String> {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&opening());
    player.whole(turns);
    player.said()
}

/// Hits without their times, and losses.
pub fn without_times(player: &Player) -> Vec<Outcome> {
    let outcomes = player.outcomes.iter().cloned().map(|outcome| match outcome {
        Outcome::Hit(hit) => Outcome::Hit(Exchange { start: Mark::default(), end: Mark::default(), ..hit }),
        outcome => outcome,
    });
    outcomes.collect()
}
