//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{cuts::session, streams::*};
use crate::{Settings, testing::Random};

#[test]
fn harmed_streams() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let capabilities = [MODERN, OLD][random.below(2)];
        let turns = session(capabilities);
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, random.below(2) == 0);
        player.whole(&login(capabilities));
        // Without login and quit, so that it ends with an answer.
        let turns = &turns[3..turns.len() - 1];
        for turn in turns.iter().cycle().take(4 * turns.len()) {
            player.harm(turn, &mut random, seed % 3 == 0);
        }
        if seed % 3 == 0 {
            continue;
        }
        player.outcomes.clear();
        for n in 1..4 {
            player.whole(&[Client(query(&format!("select good{n}"))), Server(rows(capabilities, n))]);
        }
        let said = player.said();
        assert!(said.iter().any(|said| said == "ok 3 select good3"), "seed {seed}: {said:#?}");
        player.close();
    }
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
