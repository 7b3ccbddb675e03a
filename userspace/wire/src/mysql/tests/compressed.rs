//! Connections that are compressed say the same as those that are not.

use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};

use super::{super::packet::capability, cuts::session, streams::*};
use crate::testing::{Random, Stream, good_after_harm, same_by_head_and_tail, same_when_cut, say};

/// Shorter ones are sent as they are.
const LEAST_BYTES: usize = 50;

fn packed(number: u8, bytes: &[u8]) -> Vec<u8> {
    if bytes.len() < LEAST_BYTES {
        return [&packet(number, bytes)[..HEADER], &[0; 3], bytes].concat();
    }
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(bytes).unwrap();
    let zlib = zlib.finish().unwrap();
    [&packet(number, &zlib)[..HEADER], &(bytes.len() as u32).to_le_bytes()[..3], &zlib].concat()
}

const HEADER: usize = 4;

/// What was said, each turn in packets of so many bytes.
fn compressed(turns: &[Turn], size: usize) -> Vec<Turn> {
    let turn = |turn: &Turn| {
        let (from_client, bytes) = turn.parts();
        let first = u8::from(!from_client);
        let packets = bytes.chunks(size).zip(first..).map(|(bytes, number)| packed(number, bytes));
        let bytes = packets.collect::<Vec<_>>().concat();
        if from_client { Client(bytes) } else { Server(bytes) }
    };
    turns.iter().map(turn).collect()
}

/// The session of [`cuts`](super::cuts), and what of it follows the login.
pub fn sessions(capabilities: u64, size: usize) -> [Vec<Turn>; 2] {
    let middle = compressed(&session(capabilities)[3..], size);
    [[login(capabilities | capability::COMPRESS), middle.clone()].concat(), middle]
}

#[test]
fn says_the_same() {
    for capabilities in [MODERN, OLD] {
        let expected = play(&session(capabilities));
        for size in [60, 300, 16 << 10] {
            let [whole, middle] = sessions(capabilities, size);
            assert_eq!(play(&whole), expected, "packets of {size}");
            // It is known by a request that is whole within a packet.
            if size > 60 {
                assert_eq!(play(&middle), expected, "packets of {size}, from the middle on");
            }
        }
    }
}

#[test]
fn cut_at_every_byte() {
    for client in [false, true] {
        for turns in sessions(OLD, 200) {
            let outcomes = same_when_cut(&turns, client);
            assert_eq!(outcomes.len(), 11, "{:?}", outcomes.iter().map(say).collect::<Vec<_>>());
        }
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    same_by_head_and_tail(&sessions(MODERN, 1000)[0]);
}

#[test]
fn harmed_streams() {
    let stream = |random: &mut Random| {
        let capabilities = [MODERN, OLD][random.below(2)];
        let turns = session(capabilities);
        let size = 60 + random.below(1000);
        let good = (1..4).flat_map(|n| [Client(query(&format!("select good{n}"))), Server(rows(capabilities, n))]);
        Stream {
            first: login(capabilities | capability::COMPRESS),
            // Without login and quit.
            turns: compressed(&turns[3..turns.len() - 1], size),
            good: compressed(&good.collect::<Vec<_>>(), size),
        }
    };
    good_after_harm(stream, |hit| hit.rows == Some(3) && &*hit.operation == "select good3");
}
