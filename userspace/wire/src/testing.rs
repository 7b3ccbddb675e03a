//! What the decoders' tests share: turns played to a connection, cut, harmed, and written as fuzz seeds.

use std::{fs, path::Path, sync::Arc};

use crate::{Connection, Direction, Exchange, Mark, Outcome, Segment, Settings, Status, Times, Verdict};

/// What one end wrote at once. The client's are even, the server's odd.
#[derive(Clone, Debug)]
pub enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

pub use Turn::{Client, Server};

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
        let direction = self.direction(from_client);
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

    fn direction(&self, from_client: bool) -> Direction {
        if from_client == self.client { Direction::Sent } else { Direction::Received }
    }

    /// Where the direction of a turn stands.
    fn offset(&mut self, turn: &Turn) -> &mut u64 {
        let direction = self.direction(turn.parts().0);
        &mut self.offsets[direction.index()]
    }

    /// Bytes that go by unseen.
    pub fn lose(&mut self, turn: &Turn) {
        *self.offset(turn) += turn.parts().1.len() as u64;
    }

    /// Bytes that go by unseen, how many is not known.
    pub fn miss(&mut self, turn: &Turn) {
        // As the probe counts it.
        *self.offset(turn) += 1 << 40;
    }

    /// The same segment once more.
    pub fn again(&mut self, turn: &Turn) {
        let (from_client, bytes) = turn.parts();
        *self.offset(turn) -= bytes.len() as u64;
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

    /// The hits alone.
    pub fn hits(&self) -> Vec<&Exchange> {
        let hits = self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Hit(hit) => Some(hit),
            _ => None,
        });
        hits.collect()
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

/// Closes the connection; what came of it, without when.
fn end(mut player: Player) -> Vec<Outcome> {
    player.close();
    let outcomes = player.outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Hit(hit) => Outcome::Hit(Exchange { start: Mark::default(), end: Mark::default(), ..hit }),
        outcome => outcome,
    });
    outcomes.collect()
}

/// Asserts that the same comes of the turns however they are cut, and returns it.
pub fn same_when_cut(turns: &[Turn], client: bool) -> Vec<Outcome> {
    let new = || Player::new(Settings::default(), client);
    let mut player = new();
    player.whole(turns);
    let expected = end(player);
    for cut_turn in 0..turns.len() {
        let (from_client, bytes) = turns[cut_turn].parts();
        for cut in 1..bytes.len() {
            let mut player = new();
            player.whole(&turns[..cut_turn]);
            player.part(from_client, &bytes[..cut], cut, 0);
            player.part(from_client, &bytes[cut..], bytes.len(), 0);
            player.whole(&turns[cut_turn + 1..]);
            assert_eq!(end(player), expected, "turn {cut_turn} cut at {cut}");
        }
    }
    for size in [1, 2, 3, 5, 7, 11] {
        let mut player = new();
        for turn in turns {
            let (from_client, bytes) = turn.parts();
            for part in bytes.chunks(size) {
                player.part(from_client, part, size, 0);
            }
        }
        assert_eq!(end(player), expected, "parts of {size}");
    }
    expected
}

/// Asserts that without a hole it is the same where the head ends and the tail begins.
pub fn same_by_head_and_tail(turns: &[Turn]) {
    let mut player = Player::new(Settings::default(), false);
    player.whole(turns);
    let expected = end(player);
    for head in 0..200 {
        let mut player = Player::new(Settings::default(), false);
        for turn in turns {
            let (from_client, bytes) = turn.parts();
            player.part(from_client, bytes, head, bytes.len());
        }
        assert_eq!(end(player), expected, "{head}");
    }
}

/// A stream to harm.
pub struct Stream {
    /// What is left whole.
    pub first: Vec<Turn>,
    /// What is harmed, over and over; it ends with an answer.
    pub turns: Vec<Turn>,
    /// Requests with their answers, by which it is good again.
    pub good: Vec<Turn>,
}

/// Asserts that nothing panics or takes memory beyond the bound, and that soon after the harm it is good again: that the
/// last of what is good is a hit.
pub fn good_after_harm(stream: impl Fn(&mut Random) -> Stream, last: impl Fn(&Exchange) -> bool) {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let foreign = seed % 3 == 0;
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, random.below(2) == 0);
        let Stream { first, turns, good } = stream(&mut random);
        player.whole(&first);
        for turn in turns.iter().cycle().take(4 * turns.len()) {
            player.harm(turn, &mut random, foreign);
        }
        if !foreign {
            player.outcomes.clear();
            player.whole(&good);
            assert!(player.hits().into_iter().any(&last), "seed {seed}: {:#?}", player.said());
        }
        player.close();
    }
}

/// SplitMix64 (Steele, Lea, Flood).
pub struct Random(pub u64);

impl Random {
    /// Below `limit`, which 0 is where `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}

impl Player {
    /// Plays a turn, but for what happens to it. `foreign`: also what never was on the wire, which can pass for a
    /// message.
    pub fn harm(&mut self, turn: &Turn, random: &mut Random, foreign: bool) {
        let (from_client, bytes) = turn.parts();
        let size = bytes.len();
        match random.below(if foreign { 12 } else { 10 }) {
            0 => self.lose(turn),
            1 => self.part(from_client, bytes, random.below(size), 0),
            2 => self.part(from_client, bytes, random.below(size), random.below(size)),
            3 => {
                let cut = random.below(size);
                self.part(from_client, &bytes[..cut], cut, 0);
                let rest = bytes[cut..].to_vec();
                self.lose(&if from_client { Client(rest) } else { Server(rest) });
            }
            4 => {
                self.whole(std::slice::from_ref(turn));
                self.again(turn);
            }
            5 => self.miss(turn),
            10 => {
                let mut harmed = bytes.to_vec();
                for _ in 0..random.below(8) {
                    harmed[random.below(size)] = random.below(256) as u8;
                }
                self.part(from_client, &harmed, size, 0);
            }
            11 => {
                let noise: Vec<u8> = (0..random.below(300)).map(|_| random.below(256) as u8).collect();
                self.part(random.below(2) == 0, &noise, 300, 0);
            }
            _ => self.whole(std::slice::from_ref(turn)),
        }
    }
}

/// A segment as `tests/fuzz/targets/wire.rs` reads it.
pub fn seed_segment(turn: &Turn, head: usize, tail: usize, lost: u16) -> Vec<u8> {
    let (from_client, bytes) = turn.parts();
    // Lengths count in fours; what is left over goes uncaptured.
    let (head, tail) = (head.min(bytes.len()) / 4, tail.min(bytes.len() - head.min(bytes.len())) / 4);
    let middle = bytes.len() - 4 * (head + tail);
    let flags = u8::from(!from_client) | 16 | if middle > 0 { 2 } else { 0 } | if lost > 0 { 4 } else { 0 };
    let mut segment = vec![flags, head.min(255) as u8, tail.min(255) as u8];
    if middle > 0 {
        segment.extend((middle as u16).to_be_bytes());
    }
    if lost > 0 {
        segment.extend(lost.to_be_bytes());
    }
    segment.extend(&bytes[..4 * head.min(255)]);
    segment.extend(&bytes[bytes.len() - 4 * tail.min(255)..]);
    segment
}

/// Whole segments, cut into parts of a length that one byte holds.
pub fn seed(turns: &[Turn]) -> Vec<u8> {
    let parts = turns.iter().flat_map(|turn| {
        let (from_client, bytes) = turn.parts();
        bytes.chunks(255).flat_map(move |part| {
            let header = [u8::from(!from_client), part.len() as u8, 0];
            [&header[..], part].concat()
        })
    });
    [0].into_iter().chain(parts).collect()
}

/// Asserts that the committed corpus is these seeds; `HITSCOPE_BLESS` writes it anew.
pub fn check_seeds(seeds: Vec<(&'static str, Vec<u8>)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/wire");
    for (name, seed) in seeds {
        let path = folder.join(name);
        if std::env::var_os("HITSCOPE_BLESS").is_some() {
            fs::write(&path, &seed).unwrap();
        }
        assert!(fs::read(&path).unwrap() == seed, "{name} is not what the streams are");
    }
}
