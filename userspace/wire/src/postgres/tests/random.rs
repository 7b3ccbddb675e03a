//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{cuts::session, streams::*};
use crate::{Settings, Verdict, testing::Random};

#[test]
fn harmed_streams() {
    let turns = session();
    for seed in 0..3000 {
        let mut random = Random(seed);
        let client = random.below(2) == 0;
        let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, client);
        player.whole(&login());
        // Without login and Terminate, so that it ends with an answer.
        let turns = &turns[4..turns.len() - 1];
        for turn in turns.iter().cycle().take(4 * turns.len()) {
            player.harm(turn, &mut random, seed % 3 == 0);
        }
        if seed % 3 == 0 {
            continue;
        }
        assert_eq!(player.verdict, Verdict::Decoded);
        player.outcomes.clear();
        for n in 1..4 {
            player.whole(&[Client(query(&format!("select good{n}"))), Server([select(n), ready(b'I')].concat())]);
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
            player.whole(&login());
        }
        for _ in 0..50 {
            let kinds = b"QPBEDCSHXFdcfpRKZTCNA123sntIGHWVv\0\x16";
            let mut bytes = Vec::new();
            while random.below(4) > 0 {
                bytes.push(kinds[random.below(kinds.len())]);
                bytes.extend((random.below(30) as u32).to_be_bytes());
                bytes.extend((0..random.below(30)).map(|_| random.below(256) as u8));
            }
            player.part(random.below(2) == 0, &bytes, random.below(200), random.below(100));
        }
        player.close();
    }
}
