//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{cuts::session, *};
use crate::{Settings, Verdict};

/// SplitMix64 (Steele, Lea, Flood).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}

#[test]
fn harmed_streams() {
    // Without the answer that would end with the connection.
    let turns = session();
    let turns = &turns[..turns.len() - 2];
    for seed in 0..3000 {
        let mut random = Random(seed);
        let client = random.below(2) == 0;
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, client);
        player.whole(turns);
        for turn in turns.iter().cycle().take(4 * turns.len()) {
            let (from_client, bytes) = turn.parts();
            let size = bytes.len();
            // What never was on the wire can pass for a message; then only the bounds are asked for.
            match random.below(if seed % 3 == 0 { 12 } else { 10 }) {
                0 => player.lose(turn),
                1 => player.part(from_client, bytes, random.below(size), 0),
                2 => player.part(from_client, bytes, random.below(size), random.below(size)),
                3 => {
                    let cut = random.below(size);
                    player.part(from_client, &bytes[..cut], cut, 0);
                    player.lose(&if from_client {
                        Client(bytes[cut..].to_vec())
                    } else {
                        Server(bytes[cut..].to_vec())
                    });
                }
                4 => {
                    player.whole(std::slice::from_ref(turn));
                    player.again(turn);
                }
                10 => {
                    let mut harmed = bytes.to_vec();
                    for _ in 0..random.below(8) {
                        harmed[random.below(size)] = random.below(256) as u8;
                    }
                    player.part(from_client, &harmed, size, 0);
                }
                11 => {
                    let noise: Vec<u8> = (0..random.below(300)).map(|_| random.below(256) as u8).collect();
                    player.part(random.below(2) == 0, &noise, 300, 0);
                }
                _ => player.whole(std::slice::from_ref(turn)),
            }
        }
        if seed % 3 == 0 {
            continue;
        }
        assert_eq!(player.verdict, Verdict::Decoded);
        player.outcomes.clear();
        for n in 1..4 {
            player.whole(&[Client(get(&format!("/good{n}"))), Server(answer("200 OK", b"good"))]);
        }
        let said = player.said();
        assert!(said.iter().any(|said| said == "ok - GET /good3"), "seed {seed}: {said:#?}");
        player.close();
    }
}

#[test]
fn noise() {
    let words: &[&[u8]] = &[
        b"GET ",
        b"/a",
        b" HTTP/1.1\r\n",
        b"HTTP/1.1 ",
        b"200 OK\r\n",
        b"100 x\r\n",
        b"101 x\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"Content-Length: ",
        b"5",
        b"99999999999999999999",
        b"18446744073709551615",
        b"Transfer-Encoding: chunked\r\n",
        b"0",
        b"ffffffffffffffff",
        b"1a\r\n",
        b"HEAD ",
        b"CONNECT ",
        b"Upgrade: h2c\r\n",
        b"Host: a\r\n",
        b"\0\xff",
        b"x",
    ];
    for seed in 0..4000 {
        let mut random = Random(seed);
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, seed % 2 == 0);
        if seed % 3 == 0 {
            player.whole(&[Client(get("/a")), Server(answer("200 OK", b"good"))]);
        }
        for _ in 0..50 {
            let mut bytes = Vec::new();
            while random.below(8) > 0 {
                bytes.extend(words[random.below(words.len())]);
            }
            match random.below(8) {
                0 => player.lose(&if random.below(2) == 0 { Client(bytes) } else { Server(bytes) }),
                _ => player.part(random.below(2) == 0, &bytes, random.below(300), random.below(100)),
            }
        }
        player.close();
    }
}
