//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::*;
use crate::Verdict;

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
    let turns = session();
    for seed in 0..3000 {
        let mut random = Random(seed);
        let client = random.below(2) == 0;
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, client);
        player.whole(&[asks("PING"), says("+PONG\r\n")]);
        for turn in turns.iter().cycle().take(3 * turns.len()) {
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
                    let rest = bytes[cut..].to_vec();
                    player.lose(&if from_client { Client(rest) } else { Server(rest) });
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
        assert_ne!(player.verdict, Verdict::Ignored);
        player.outcomes.clear();
        for n in 1..5 {
            player.whole(&[asks(&format!("LRANGE good{n} 0 -1")), Server(array(&vec![&b"x"[..]; n]))]);
        }
        let said = player.said();
        assert!(said.iter().any(|said| said == "ok 4 LRANGE good4"), "seed {seed}: {said:#?}");
        player.close();
    }
}

#[test]
fn noise() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, seed % 2 == 0);
        if seed % 3 == 0 {
            player.whole(&[asks("PING"), says("+PONG\r\n")]);
        }
        for _ in 0..50 {
            let pieces: [&[u8]; 16] = [
                b"*",
                b"$",
                b"\r\n",
                b"%",
                b"|1\r\n",
                b"~",
                b">",
                b"-ERR ",
                b"+OK\r\n",
                b"?\r\n",
                b".\r\n",
                b";4\r\n",
                b"=",
                b"GET",
                b"SUBSCRIBE",
                b"\n",
            ];
            let mut bytes = Vec::new();
            while random.below(12) > 0 {
                match random.below(3) {
                    0 => bytes.extend(random.below(20).to_string().bytes()),
                    1 => bytes.extend(format!("*{}\r\n$3\r\nGET\r\n", random.below(4)).bytes()),
                    _ => bytes.extend(pieces[random.below(pieces.len())]),
                }
            }
            player.part(random.below(2) == 0, &bytes, random.below(200), random.below(100));
        }
        player.close();
    }
}
