//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{cuts::session, *};
use crate::{
    Settings,
    testing::{Random, Stream, good_after_harm},
};

#[test]
fn harmed_streams() {
    // Without the answer that would end with the connection.
    let turns = session();
    let turns = &turns[..turns.len() - 2];
    let stream = |_: &mut Random| Stream {
        first: turns.to_vec(),
        turns: turns.to_vec(),
        good: (1..4).flat_map(|n| [Client(get(&format!("/good{n}"))), Server(answer("200 OK", b"good"))]).collect(),
    };
    good_after_harm(stream, |hit| &*hit.operation == "GET /good3");
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
