//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{cuts::session, streams::*};
use crate::{
    Settings,
    testing::{Random, Stream, good_after_harm},
};

#[test]
fn harmed_streams() {
    let stream = |random: &mut Random| {
        let capabilities = [MODERN, OLD][random.below(2)];
        let turns = session(capabilities);
        Stream {
            first: login(capabilities),
            // Without login and quit.
            turns: turns[3..turns.len() - 1].to_vec(),
            good: (1..4)
                .flat_map(|n| [Client(query(&format!("select good{n}"))), Server(rows(capabilities, n))])
                .collect(),
        }
    };
    good_after_harm(stream, |hit| hit.rows == Some(3) && &*hit.operation == "select good3");
}

#[test]
fn noise() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, seed % 2 == 0);
        if seed % 3 == 0 {
            player.whole(&login(OLD));
        }
        for _ in 0..50 {
            let mut bytes = Vec::new();
            let mut number = random.below(2) as u8;
            while random.below(4) > 0 {
                let firsts = b"\0\x01\x02\x03\x16\x17\x1c\xfa\xfb\xfe\xff\x0a";
                let mut body = vec![firsts[random.below(firsts.len())]];
                body.extend((0..random.below(30)).map(|_| random.below(256) as u8));
                bytes.extend(packet(number, &body));
                number += random.below(2) as u8;
            }
            player.part(random.below(2) == 0, &bytes, random.below(200), random.below(100));
        }
        player.close();
    }
}
