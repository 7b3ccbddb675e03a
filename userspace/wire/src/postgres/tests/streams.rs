//! Builds message streams, plays them to a connection, and says in short what came of it.

use std::sync::Arc;

use crate::{Connection, Direction, Mark, Outcome, Segment, Settings, Status, Times, Verdict};

/// What one end wrote at once. The client's are even, the server's odd.
#[derive(Clone, Debug)]
pub enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

pub use Turn::{Client, Server};

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Texts, each with its NUL.
pub fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

pub fn startup(parameters: &[&str]) -> Vec<u8> {
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    body.extend(texts(parameters));
    body.push(0);
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

pub fn request(code: u32) -> Vec<u8> {
    [8_u32.to_be_bytes(), code.to_be_bytes()].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &texts(&[sql]))
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[texts(&[name, sql]), vec![0, 0]].concat())
}

pub fn bind(portal: &str, statement: &str, value: &[u8]) -> Vec<u8> {
    let mut body = texts(&[portal, statement]);
    body.extend([0, 0, 0, 1]);
    body.extend((value.len() as u32).to_be_bytes());
    body.extend(value);
    body.extend([0, 0]);
    message(b'B', &body)
}

pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], texts(&[name])].concat())
}

pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], texts(&[name])].concat())
}

pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[texts(&[portal]), rows.to_be_bytes().to_vec()].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &texts(&[tag]))
}

pub fn ready(state: u8) -> Vec<u8> {
    message(b'Z', &[state])
}

pub fn error(code: &str, text: &str) -> Vec<u8> {
    let mut body = texts(&["SERROR", "VERROR", &format!("C{code}"), &format!("M{text}"), "Fx.c"]);
    body.push(0);
    message(b'E', &body)
}

pub fn columns(names: &[&str]) -> Vec<u8> {
    let mut body = (names.len() as u16).to_be_bytes().to_vec();
    for name in names {
        body.extend(texts(&[name]));
        body.extend([0; 18]);
    }
    message(b'T', &body)
}

pub fn row(values: &[&[u8]]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(*value);
    }
    message(b'D', &body)
}

pub fn parse_complete() -> Vec<u8> {
    message(b'1', b"")
}

pub fn bind_complete() -> Vec<u8> {
    message(b'2', b"")
}

/// A session's begin, password included.
pub fn login() -> Vec<Turn> {
    vec![
        Client(startup(&["user", "ann", "database", "shop", "application_name", "till"])),
        Server(message(b'R', &[&5_u32.to_be_bytes()[..], b"salt"].concat())),
        Client(message(b'p', b"md5secret\0")),
        Server(
            [
                message(b'R', &[0; 4]),
                message(b'S', &texts(&["server_version", "15.8"])),
                message(b'K', &[7; 8]),
                ready(b'I'),
            ]
            .concat(),
        ),
    ]
}

pub fn select(rows: u32) -> Vec<u8> {
    let mut bytes = columns(&["a"]);
    for n in 0..rows {
        bytes.extend(row(&[n.to_string().as_bytes()]));
    }
    bytes.extend(complete(&format!("SELECT {rows}")));
    bytes
}

/// Plays segments to a connection and keeps what comes of it.
pub struct Player {
    pub connection: Connection,
    pub outcomes: Vec<Outcome>,
    pub verdict: Verdict,
    pub limit: usize,
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
        let segment = Segment {
            direction,
            enter_ns: self.time_ns - 100,
            mark: Mark {
                time_ns: self.time_ns,
                thread_id: 1,
                times: Times { cpu_ns: self.time_ns / 2, ..Times::default() },
                queued_ns: 0,
            },
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

    /// Bytes that go by unseen.
    pub fn lose(&mut self, turn: &Turn) {
        let (from_client, bytes) = turn.parts();
        let direction = if from_client == self.client { Direction::Sent } else { Direction::Received };
        self.offsets[direction.index()] += bytes.len() as u64;
    }

    /// The same segment once more.
    pub fn again(&mut self, turn: &Turn) {
        let (from_client, bytes) = turn.parts();
        let direction = if from_client == self.client { Direction::Sent } else { Direction::Received };
        self.offsets[direction.index()] -= bytes.len() as u64;
        self.part(from_client, bytes, bytes.len(), 0);
    }

    /// Now.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
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

    /// One line per hit: status, code, rows, operation; `lost` lines for what was lost.
    pub fn said(&self) -> Vec<String> {
        self.outcomes.iter().map(say).collect()
    }
}

impl Turn {
    pub fn parts(&self) -> (bool, &[u8]) {
        match self {
            Client(bytes) => (true, bytes),
            Server(bytes) => (false, bytes),
        }
    }
}

pub fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Hit(hit) => {
            let rows = hit.rows.map_or("-".into(), |rows| rows.to_string());
            let code = hit.error_code.as_deref().unwrap_or_default();
            let status = if hit.status == Status::Error { code } else { hit.status.as_str() };
            format!("{status} {rows} {}", hit.operation)
        }
        Outcome::Encrypted(protocol) => format!("encrypted {}", protocol.as_str()),
        Outcome::Lost { reason, count } => format!("lost {count} {reason}"),
    }
}

/// Plays whole turns and says what came of it.
pub fn play(turns: &[Turn]) -> Vec<String> {
    let mut player = Player::new(Settings::default(), false);
    player.whole(turns);
    player.said()
}
