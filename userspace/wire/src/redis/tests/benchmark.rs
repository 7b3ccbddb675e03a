//! Deep pipelines with large answers, as `redis-benchmark -P 16` makes them, captured as the probe does.

use super::*;
use crate::testing::Random;

/// What the probe captures: so much of each call before the protocol is known, ...
const UNKNOWN_BYTES: usize = PIECE_BYTES - TAIL_BYTES;
/// ... then pieces of this size, whole up to so much without a turn, ...
const PIECE_BYTES: usize = 8 << 10;
const RUN_BYTES: usize = 64 << 10;
/// ... and beyond that the two ends of each call.
const HEAD_BYTES: usize = 128;
const TAIL_BYTES: usize = 512;

/// A player whose segments are those of the probe.
struct Probe {
    player: Player,
    /// Whether the probe knows by now that the connection is decoded.
    known: bool,
    from_client: bool,
    run: usize,
}

impl Probe {
    fn new(client: bool) -> Self {
        Self { player: Player::new(Settings::default(), client), known: false, from_client: false, run: 0 }
    }

    fn call(&mut self, from_client: bool, mut bytes: &[u8]) {
        if from_client != self.from_client {
            (self.from_client, self.run) = (from_client, 0);
        }
        while !bytes.is_empty() {
            let (moved, head) = match (self.known, self.run < RUN_BYTES) {
                (false, _) => (bytes.len(), UNKNOWN_BYTES),
                (true, true) => (bytes.len().min(PIECE_BYTES), PIECE_BYTES),
                (true, false) => (bytes.len(), HEAD_BYTES),
            };
            let (now, later) = bytes.split_at(moved);
            self.player.part(from_client, now, head, TAIL_BYTES);
            self.run += moved;
            bytes = later;
        }
    }

    /// A call of which no record came.
    fn lose(&mut self, from_client: bool, bytes: &[u8]) {
        if from_client != self.from_client {
            (self.from_client, self.run) = (from_client, 0);
        }
        self.run += bytes.len();
        self.player.lose(&if from_client { Client(bytes.to_vec()) } else { Server(bytes.to_vec()) });
    }

    /// The calls by which a server writes and a client reads that much.
    fn exchange(&mut self, asks: &[u8], answers: &[u8], call: usize) {
        self.call(true, asks);
        for part in answers.chunks(call) {
            self.call(false, part);
        }
    }
}

/// Turns of a pipeline of 16; the probe learns after so many of them that they are Redis'.
fn sixteen(one: &str, answer: &[u8], turns: usize, learns: usize, call: usize, client: bool) -> Vec<String> {
    let mut probe = Probe::new(client);
    let (asks, answers) = (command(one).repeat(16), answer.repeat(16));
    for turn in 0..turns {
        probe.known = turn >= learns;
        probe.exchange(&asks, &answers, call);
    }
    probe.player.close();
    probe.player.said()
}

fn count(said: &[String], what: &str) -> usize {
    said.iter().filter(|said| said.ends_with(what)).count()
}

fn lost(said: &[String], reason: &str) -> usize {
    let count = |said: &String| said.strip_prefix("lost ")?.strip_suffix(reason)?.trim().parse::<usize>().ok();
    said.iter().filter_map(count).sum()
}

#[test]
fn large_answers() {
    for elements in [100, 300, 500, 600, 3000] {
        let answer = array(&vec![&b"VXK"[..]; elements]);
        for client in [false, true] {
            for call in [16 << 10, 77_776, 1 << 20] {
                for learns in 0..4 {
                    let said = sixteen("LRANGE mylist 0 599", &answer, 6, learns, call, client);
                    assert_eq!(count(&said, "LRANGE mylist"), 6 * 16, "{elements} {client} {call} {learns}: {said:#?}");
                    assert_eq!(said.iter().filter(|said| !said.starts_with("lost")).count(), 6 * 16, "{said:#?}");
                    let whole = learns == 0 && 16 * answer.len() <= RUN_BYTES;
                    assert!(!whole || lost(&said, "answer_incomplete") == 0, "{said:#?}");
                }
            }
        }
    }
}

#[test]
fn large_requests() {
    for keys in [10, 20] {
        let mset = (0..keys).map(|_| "key:__rand_int__ VXK".to_owned()).collect::<Vec<_>>().join(" ");
        let large = command(&format!("MSET {mset}")).len() * 16 > PIECE_BYTES;
        for client in [false, true] {
            for learns in 0..4 {
                let said = sixteen(&format!("MSET {mset}"), b"+OK\r\n", 6, learns, 16 << 10, client);
                let hits = (count(&said, "MSET key:__rand_int__"), count(&said, "<unresolved>"));
                assert_eq!(hits.0 + hits.1, 6 * 16, "{client} {learns}: {said:#?}");
                // Of each large call before the protocol is known, the middle is missed.
                assert_eq!(hits.1 > 0, large && learns > 0, "{client} {learns}: {said:#?}");
                assert!(said.iter().all(|said| !said.starts_with("lost")), "{said:#?}");
            }
        }
    }
}

/// Whole calls are lost at random, of commands, of answers, or both; what then is hits and lost, of all commands.
fn lossy(seed: u64, of_commands: bool, of_answers: bool, elements: usize, client: bool) -> [usize; 4] {
    const TURNS: usize = 30;
    let mut random = Random(seed);
    let mut probe = Probe::new(client);
    let answer = array(&vec![&b"VXK"[..]; elements]);
    probe.exchange(&command("PING"), b"+PONG\r\n", 1 << 20);
    probe.known = true;
    probe.player.outcomes.clear();
    for turn in 0..TURNS + 3 {
        let asks = (0..16).flat_map(|_| command(&format!("LRANGE l{turn} 0 -1"))).collect::<Vec<_>>();
        // The last turns are whole, so that what was open is settled.
        let mut lost = |is: bool| is && turn < TURNS && random.below(4) == 0;
        match lost(of_commands) {
            true => probe.lose(true, &asks),
            false => probe.call(true, &asks),
        }
        for part in answer.repeat(16).chunks(16 << 10) {
            match lost(of_answers) {
                true => probe.lose(false, part),
                false => probe.call(false, part),
            }
        }
    }
    probe.player.whole(&[asks("PING")]);
    let said = probe.player.said();
    let hits = said.iter().filter(|said| !said.starts_with("lost")).count();
    assert_eq!(count(&said, &format!("LRANGE l{}", TURNS + 2)), 16, "{seed}: {said:#?}");
    [hits, lost(&said, "answer_missed"), lost(&said, "request_missed"), (TURNS + 3) * 16]
}

#[test]
fn each_command_is_a_hit_or_lost() {
    for seed in 0..6 {
        for elements in [1, 100, 600] {
            for client in [false, true] {
                let [hits, answers, requests, all] = lossy(seed, false, true, elements, client);
                assert_eq!((hits + answers, requests), (all, 0), "answers lost: {seed} {elements} {client}");
                let [hits, answers, requests, all] = lossy(seed, true, false, elements, client);
                // Of 600 elements each, not all answers are seen.
                let counted = elements < 600;
                let sum = hits + answers + requests;
                assert!(sum <= all && (!counted || sum == all), "commands lost: {seed} {elements} {client}");
                // Where both were lost there is no trace.
                let [hits, answers, requests, all] = lossy(seed, true, true, elements, client);
                assert!(hits + answers + requests <= all, "both lost: {seed} {elements} {client}");
            }
        }
    }
}
