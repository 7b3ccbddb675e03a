//! Whatever comes: no panic, no memory beyond the bound, and good again soon after.

use super::{cuts::session, streams::*};
use crate::{
    Settings,
    testing::{Random, Stream, good_after_harm},
};

#[test]
fn harmed_streams() {
    let turns = session();
    let stream = |_: &mut Random| Stream {
        first: login(),
        // Without login and Terminate.
        turns: turns[4..turns.len() - 1].to_vec(),
        good: (1..4)
            .flat_map(|n| [Client(query(&format!("select good{n}"))), Server([select(n), ready(b'I')].concat())])
            .collect(),
    };
    good_after_harm(stream, |hit| hit.rows == Some(3) && &*hit.operation == "select good3");
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
