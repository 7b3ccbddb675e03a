//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{super::frame::PREFACE, cuts::session, streams::*};
use crate::{
    Settings,
    testing::{Random, Stream, good_after_harm},
};

#[test]
fn harmed_streams() {
    let turns = session();
    let stream = |_: &mut Random| {
        let (mut client, mut server) = (Peer::new(), Peer::new());
        let good =
            [901, 903, 905].into_iter().flat_map(|id| [Client(client.get(id, "/new")), Server(server.page(id, 7))]);
        Stream { first: turns[..3].to_vec(), turns: turns[3..].to_vec(), good: good.collect() }
    };
    good_after_harm(stream, |hit| &*hit.operation == "GET /new");
}

#[test]
fn noise() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, seed % 2 == 0);
        if seed % 3 == 0 {
            player.whole(&[Client(PREFACE.to_vec())]);
        }
        for _ in 0..60 {
            let mut bytes = Vec::new();
            while random.below(4) > 0 {
                let payload: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
                let flags = [0, 1, 4, 5, 8, 13, 0x2d, 0xff][random.below(8)];
                let stream = [0, 1, 3, 5, 7, 2, 0x8000_0001, random.below(1 << 31) as u32][random.below(8)];
                bytes.extend(frame(random.below(12) as u8, flags, stream, &payload));
                if random.below(10) == 0 {
                    bytes.truncate(random.below(bytes.len()));
                }
            }
            player.part(random.below(2) == 0, &bytes, random.below(400), random.below(100));
        }
        player.close();
    }
}

/// Entries, open streams, blocks and messages as large as they come.
#[test]
fn greedy_peers() {
    for observed in [false, true] {
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, observed);
        player.whole(&opening());
        player.whole(&[Server(settings(&[(1, u32::MAX)])), Client(settings(&[(1, u32::MAX)]))]);
        for n in 0..400_u32 {
            let id = 2 * n + 1;
            let long = "x".repeat(n as usize * 40 % 9000);
            let field = |prefix: &[u8], text: &str| {
                let length = text.len() - 127.min(text.len());
                let length = match text.len() {
                    0..127 => vec![text.len() as u8],
                    _ => vec![0x7f, length as u8 | 0x80, (length >> 7) as u8],
                };
                [prefix, &length, text.as_bytes()].concat()
            };
            let request = [&[0x82][..], &field(b"\x44", &long), &field(b"\x41", &long)].concat();
            let answer = [&[0x88][..], &field(b"\x40\x0cgrpc-message", &long)].concat();
            for (from_client, block) in [(true, request), (false, answer)] {
                let parts = block.len().div_ceil(3000).max(1);
                for (part, bytes) in block.chunks(3000).enumerate() {
                    let flags = if part + 1 == parts { 4 } else { 0 };
                    let bytes = frame(if part == 0 { 1 } else { 9 }, flags, id, bytes);
                    player.part(from_client, &bytes, bytes.len(), 0);
                }
            }
        }
        player.close();
    }
}
