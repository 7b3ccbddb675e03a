//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{cuts::session, *};
use crate::{Settings, Verdict, testing::Random};

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
            player.harm(turn, &mut random, seed % 3 == 0);
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
