//! However the bytes of a stream come in pieces, the hits are the same.

use super::*;
use crate::{Exchange, Mark, Outcome};

fn without_times(player: &Player) -> Vec<Outcome> {
    let outcomes = player.outcomes.iter().cloned().map(|outcome| match outcome {
        Outcome::Hit(hit) => Outcome::Hit(Exchange { start: Mark::default(), end: Mark::default(), ..hit }),
        outcome => outcome,
    });
    outcomes.collect()
}

#[test]
fn cut_at_every_byte() {
    for turns in [session(), session()[2..].to_vec(), session()[20..].to_vec()] {
        for client in [false, true] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&turns);
            let expected = without_times(&player);
            for cut_turn in 0..turns.len() {
                let (from_client, bytes) = turns[cut_turn].parts();
                for cut in 1..bytes.len() {
                    let mut player = Player::new(Settings::default(), client);
                    player.whole(&turns[..cut_turn]);
                    player.part(from_client, &bytes[..cut], cut, 0);
                    player.part(from_client, &bytes[cut..], bytes.len(), 0);
                    player.whole(&turns[cut_turn + 1..]);
                    assert_eq!(without_times(&player), expected, "turn {cut_turn} cut at {cut}");
                }
            }
            for size in [1, 2, 3, 5, 7] {
                let mut player = Player::new(Settings::default(), client);
                for turn in &turns {
                    let (from_client, bytes) = turn.parts();
                    for part in bytes.chunks(size) {
                        player.part(from_client, part, size, 0);
                    }
                }
                assert_eq!(without_times(&player), expected, "parts of {size}");
            }
        }
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    // Without a hole it is the same where the head ends and the tail begins.
    for head in 0..150 {
        let mut player = Player::new(Settings::default(), false);
        for turn in session() {
            let (from_client, bytes) = turn.parts();
            player.part(from_client, bytes, head, bytes.len());
        }
        assert_eq!(player.said(), SESSION, "{head}");
    }
}
