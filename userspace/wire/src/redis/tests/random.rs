//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::*;
use crate::testing::{Random, Stream, good_after_harm};

#[test]
fn harmed_streams() {
    let turns = session();
    let stream = |_: &mut Random| Stream {
        first: vec![asks("PING"), says("+PONG\r\n")],
        turns: turns.clone(),
        good: (1..5)
            .flat_map(|n| [asks(&format!("LRANGE good{n} 0 -1")), Server(array(&vec![&b"x"[..]; n]))])
            .collect(),
    };
    good_after_harm(stream, |hit| hit.rows == Some(4) && &*hit.operation == "LRANGE good4");
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
