use std::slice;

use super::streams::*;
use crate::{Outcome, Settings};

fn big_answer(rows: u32) -> Vec<u8> {
    [select(rows), ready(b'I')].concat()
}

/// Plays the answer in calls of `call` bytes, of each only head and tail.
fn headed_and_tailed(request: &[u8], answer: &[u8], call: usize, client: bool) -> Player {
    let mut player = Player::new(Settings::default(), client);
    player.whole(&login());
    player.part(true, request, request.len(), 0);
    for part in answer.chunks(call) {
        player.part(false, part, 100, 60);
    }
    player
}

#[test]
fn large_answers() {
    let answer = big_answer(4000);
    for client in [false, true] {
        for call in [answer.len(), 8192, 5000, 1000, 161] {
            let mut player = headed_and_tailed(&query("select 1"), &answer, call, client);
            assert_eq!(player.said(), ["ok 4000 select ?"], "{call}");
            let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
            assert_eq!(hit.response_bytes, answer.len() as u64 - 6);
            assert_eq!(hit.end.time_ns, player.time_ns() - if client { 0 } else { 100 });
            player.whole(&[Client(query("select 2")), Server(big_answer(1))]);
            assert_eq!(player.said()[1..], ["ok 1 select ?"]);
        }
    }
}

#[test]
fn an_answer_whose_end_is_cut_anywhere() {
    let answer = big_answer(1000);
    for cut in 1..40 {
        let mut player = Player::new(Settings::default(), false);
        let (front, end) = answer.split_at(answer.len() - cut);
        player.whole(&[Client(query("select 1"))]);
        player.part(false, front, 100, 60);
        player.whole(&[Server(end.to_vec()), Client(query("select 2")), Server(big_answer(1))]);
        assert_eq!(player.said(), ["ok 1000 select ?", "ok 1 select ?"], "{cut}");
    }
}

#[test]
fn large_answers_of_several_statements() {
    let request = query("select 1; select 2; update t set a = 3");
    let answer = [select(2), select(1000), complete("UPDATE 7"), ready(b'I')].concat();
    let player = headed_and_tailed(&request, &answer, answer.len(), false);
    assert_eq!(player.said(), ["ok 2 select ?", "ok 1000 select ?", "ok 7 update t set a = ?"]);
    // The first completion lies in the hole: the statement ran, its rows are not known.
    let answer = [select(1000), select(1000), complete("UPDATE 7"), ready(b'I')].concat();
    let player = headed_and_tailed(&request, &answer, answer.len(), false);
    let unseen = ["ok - select ?", "lost 1 answer_incomplete", "ok 1000 select ?", "ok 7 update t set a = ?"];
    assert_eq!(player.said(), unseen);
    // An error at the end.
    let answer = [columns(&["a"]), row(&[&[b'x'; 3000]]).repeat(3), error("22012", "division by zero"), ready(b'I')];
    let player = headed_and_tailed(&query("select 1"), &answer.concat(), 9000, false);
    assert_eq!(player.said(), ["22012 - select ?"]);
}

#[test]
fn answers_without_a_known_end() {
    // Only ReadyForQuery was captured.
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(query("select 1"))]);
    player.part(false, &big_answer(1000), 30, 6);
    player.whole(&[Client(query("select 2")), Server(big_answer(1))]);
    assert_eq!(player.said(), ["ok - select ?", "lost 1 answer_incomplete", "ok 1 select ?"]);
    // Nothing of the end was captured: no time to be known, no hit.
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(query("select 1"))]);
    player.part(false, &big_answer(1000), 30, 0);
    player.whole(&[Client(query("select 2")), Server(big_answer(1))]);
    assert_eq!(player.said(), ["lost 1 answer_missed", "ok 1 select ?"]);
}

#[test]
fn large_requests() {
    let large =
        [parse("", "select $1"), bind("", "", &[b'x'; 20_000]), describe(b'P', ""), execute("", 0), sync()].concat();
    let answer = [parse_complete(), bind_complete(), select(1), ready(b'I')].concat();
    for call in [large.len(), 8192] {
        let mut player = Player::new(Settings::default(), false);
        for part in large.chunks(call) {
            player.part(true, part, 64, 64);
        }
        player.whole(&[Server(answer.clone())]);
        assert_eq!(player.said(), ["ok 1 select $1"]);
    }
    let text = format!("select 1 -- {}", "x".repeat(50_000));
    let mut player = Player::new(Settings::default(), false);
    player.part(true, &query(&text), 128, 64);
    player.whole(&[Server(big_answer(1))]);
    assert_eq!(player.said(), ["ok 1 select ? …"]);
}

#[test]
fn requests_within_a_hole() {
    let run = [bind("", "s", &[b'x'; 100]), execute("", 0)].concat();
    let batch = [parse("s", "insert into t values ($1)"), run.repeat(50), sync()].concat();
    let answer =
        [parse_complete(), [bind_complete(), complete("INSERT 0 1")].concat().repeat(50), ready(b'I')].concat();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login());
    player.part(true, &batch, 400, 200);
    player.whole(&[Server(answer), Client([run, sync()].concat())]);
    player.whole(&[Server([bind_complete(), complete("INSERT 0 1"), ready(b'I')].concat())]);
    let said = player.said();
    assert_eq!(said.len(), 51, "{said:?}");
    assert!(said.iter().all(|said| said.starts_with("ok 1 ")));
    assert_eq!(said[0], "ok 1 insert into t values ($1)");
    assert_eq!(said[40], "ok 1 <unresolved>");
    assert_eq!(said[50], "ok 1 insert into t values ($1)");
}

#[test]
fn copies_with_holes() {
    let line = message(b'd', &[b'x'; 300]);
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(query("copy t from stdin")), Server(message(b'G', &[0, 0, 1, 0, 0]))]);
    for part in [line.repeat(200), message(b'c', b"")].concat().chunks(8192) {
        player.part(true, part, 50, 50);
    }
    player.whole(&[Server([complete("COPY 200"), ready(b'I')].concat())]);
    assert_eq!(player.said(), ["ok 200 copy t from stdin"]);
    let answer =
        [message(b'H', &[0, 0, 1, 0, 0]), line.repeat(200), message(b'c', b""), complete("COPY 200"), ready(b'I')];
    let player = headed_and_tailed(&query("copy t to stdout"), &answer.concat(), 8192, true);
    assert_eq!(player.said(), ["ok 200 copy t to stdout"]);
}

/// Statements `select a1`, `select a2`, …, each with its answer.
fn exchanges(count: usize) -> Vec<Turn> {
    (1..=count).flat_map(|n| [Client(query(&format!("select a{n}"))), Server(big_answer(n as u32))]).collect()
}

#[test]
fn lost_segments() {
    let turns = exchanges(5);
    for client in [false, true] {
        for from in 0..turns.len() {
            for to in from + 1..turns.len().min(from + 5) {
                let mut player = Player::new(Settings::default(), client);
                player.whole(&login());
                for (index, turn) in turns.iter().enumerate() {
                    match (from..to).contains(&index) {
                        true => player.lose(turn),
                        false => player.whole(slice::from_ref(turn)),
                    }
                }
                // Each exchange of which nothing was lost is a hit, and no other is.
                let whole = |exchange: &usize| !(from..to).any(|lost| lost / 2 == *exchange);
                let expected: Vec<_> = (0..5).filter(whole).map(|n| format!("ok {0} select a{0}", n + 1)).collect();
                let (lost, hits): (Vec<_>, Vec<_>) =
                    player.said().into_iter().partition(|said| said.starts_with("lost"));
                assert_eq!(hits, expected, "{from}..{to}");
                assert!(lost.len() <= 2, "{lost:?}");
            }
        }
    }
}

#[test]
fn a_lost_part_of_an_answer() {
    let answer = big_answer(500);
    for client in [false, true] {
        for size in [1, 5, 7, 100, 3000] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&[Client(query("select 1"))]);
            player.whole(&[Server(answer[..1000].to_vec())]);
            player.lose(&Server(answer[1000..1000 + size].to_vec()));
            player.whole(&[Server(answer[1000 + size..].to_vec()), Client(query("select 2")), Server(big_answer(1))]);
            let hits: Vec<_> = player.said().into_iter().filter(|said| !said.starts_with("lost")).collect();
            assert_eq!(hits, ["ok 500 select ?", "ok 1 select ?"], "{size}");
        }
    }
}

/// Of a call that was not seen it is not known how many bytes it moved. Its statement has no hit, and no other has its answer.
#[test]
fn calls_that_were_not_seen() {
    let turns = |n| [Client(query(&format!("select a{n}"))), Server([select(n), ready(b'I')].concat())];
    for client in [false, true] {
        for (unseen, lost) in [(0, "request_missed"), (1, "answer_missed")] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&login());
            player.whole(&turns(1));
            for (index, turn) in turns(2).iter().enumerate() {
                if index == unseen { player.miss(turn) } else { player.whole(slice::from_ref(turn)) }
            }
            player.whole(&[turns(3), turns(4)].concat());
            let said = ["ok 1 select a1", &format!("lost 1 {lost}"), "ok 3 select a3", "ok 4 select a4"];
            assert_eq!(player.said(), said, "{client}");
        }
    }
}
