use super::{
    super::packet::{command, status::*},
    streams::*,
};
use crate::{Outcome, Settings};

#[test]
fn large_answers() {
    for capabilities in [MODERN, OLD] {
        let answer = rows(capabilities, 4000);
        for client in [false, true] {
            for call in [answer.len(), 16_384, 5000, 1000, 161] {
                let mut player = Player::new(Settings::default(), client);
                player.whole(&login(capabilities));
                player.whole(&[Client(query("select 1"))]);
                for part in answer.chunks(call) {
                    player.part(false, part, 100, 60);
                }
                // What rows there were is not told where they end.
                assert_eq!(player.said(), ["ok - select ?"], "{call}");
                let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
                assert_eq!(hit.response_bytes, answer.len() as u64);
                assert_eq!(hit.end.time_ns, player.time_ns() - if client { 0 } else { 100 });
                player.whole(&[Client(query("select 2")), Server(rows(capabilities, 1))]);
                assert_eq!(player.said()[1..], ["ok 1 select ?"]);
            }
        }
    }
}

#[test]
fn a_large_row_is_still_one() {
    let bodies = [&result(MODERN, 2, 0)[..4], &[text("x"), vec![b'y'; 50_000], eof(MODERN, AUTOCOMMIT)]].concat();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(MODERN));
    player.whole(&[Client(query("select 1"))]);
    for part in many(1, bodies).chunks(8192) {
        player.part(false, part, 200, 100);
    }
    assert_eq!(player.said(), ["ok 3 select ?"]);
}

#[test]
fn an_answer_whose_end_is_cut_anywhere() {
    for capabilities in [MODERN, OLD] {
        let answer = rows(capabilities, 1000);
        for cut in 1..40 {
            let mut player = Player::new(Settings::default(), false);
            player.whole(&login(capabilities));
            let (front, end) = answer.split_at(answer.len() - cut);
            player.whole(&[Client(query("select 1"))]);
            player.part(false, front, 100, 60);
            player.whole(&[Server(end.to_vec()), Client(query("select 2")), Server(rows(capabilities, 1))]);
            assert_eq!(player.said(), ["ok - select ?", "ok 1 select ?"], "{cut}");
        }
    }
}

#[test]
fn large_answers_of_several_results() {
    let bodies = |end: Vec<u8>| [result(OLD, 2, MORE_RESULTS), result(OLD, 900, MORE_RESULTS), vec![end]].concat();
    let request = query("select 1; select 2; update t set a = 3");
    let play = |answer: &[u8]| {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&login(OLD));
        player.whole(&[Client(request.clone())]);
        player.part(false, answer, 300, 100);
        player.whole(&[Client(query("select 4")), Server(rows(OLD, 1))]);
        player.said()
    };
    let expected = ["ok 2 select ?", "ok - select ?", "ok 7 update t set a = ?", "ok 1 select ?"];
    assert_eq!(play(&many(1, bodies(ok(7)))), expected);
    let expected = ["ok 2 select ?", "ok - select ?", "1205 - update t set a = ?", "ok 1 select ?"];
    assert_eq!(play(&many(1, bodies(error(1205, "HY000", "Lock wait timeout")))), expected);
    // The ends of the results before are not seen.
    let bodies = [result(OLD, 200, MORE_RESULTS), result(OLD, 900, MORE_RESULTS), result(OLD, 900, 0)].concat();
    let unseen =
        ["ok - select ?", "ok - select ?", "ok - update t set a = ?", "lost 2 answer_incomplete", "ok 1 select ?"];
    assert_eq!(play(&many(1, bodies)), unseen);
}

#[test]
fn large_requests() {
    let large = request(command::EXECUTE, &[&1_u32.to_le_bytes()[..], &[0, 1, 0, 0, 0], &[b'x'; 20_000]].concat());
    for call in [large.len(), 8192] {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&login(MODERN));
        player.whole(&[Client(prepare("insert into t values (?)")), Server(prepare_answer(MODERN, 1, 1, 0))]);
        for part in large.chunks(call) {
            player.part(true, part, 64, 64);
        }
        player.whole(&[Server(packet(1, &ok(1)))]);
        assert_eq!(player.said()[1..], ["ok 1 insert into t values (?)"]);
    }
    let text = format!("insert into t values (1){}", ", (2)".repeat(10_000));
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(MODERN));
    player.part(true, &query(&text), 128, 64);
    player.whole(&[Server(packet(1, &ok(100)))]);
    assert_eq!(player.said(), ["ok 100 insert into t values (?) …"]);
}

#[test]
fn files_with_holes() {
    let line = vec![b'x'; 4000];
    let file: Vec<_> = (0..30).map(|_| line.clone()).chain([Vec::new()]).collect();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(MODERN));
    player.whole(&[Client(query("load data local infile 'x' into table t")), Server(packet(1, b"\xfb/x"))]);
    for part in many(2, file).chunks(16_384) {
        player.part(true, part, 128, 64);
    }
    player.whole(&[Server(packet(33, &ok(200))), Client(query("select 1")), Server(rows(MODERN, 1))]);
    assert_eq!(player.said(), ["ok 200 load data local infile ? into table t", "ok 1 select ?"]);
}

#[test]
fn lost_segments() {
    for capabilities in [MODERN, OLD] {
        let turns: Vec<Turn> =
            (1..=5).flat_map(|n| [Client(query(&format!("select a{n}"))), Server(rows(capabilities, n))]).collect();
        for client in [false, true] {
            for from in 0..turns.len() {
                for to in from + 1..turns.len().min(from + 5) {
                    let mut player = Player::new(Settings::default(), client);
                    player.whole(&login(capabilities));
                    for (index, turn) in turns.iter().enumerate() {
                        match (from..to).contains(&index) {
                            true => player.lose(turn),
                            false => player.whole(std::slice::from_ref(turn)),
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
}

#[test]
fn a_lost_part_of_an_answer() {
    for capabilities in [MODERN, OLD] {
        let answer = rows(capabilities, 500);
        for client in [false, true] {
            for size in [1, 5, 7, 100, 3000] {
                let mut player = Player::new(Settings::default(), client);
                player.whole(&login(capabilities));
                player.whole(&[Client(query("select 1"))]);
                player.whole(&[Server(answer[..1000].to_vec())]);
                player.lose(&Server(answer[1000..1000 + size].to_vec()));
                player.whole(&[Server(answer[1000 + size..].to_vec())]);
                player.whole(&[Client(query("select 2")), Server(rows(capabilities, 1))]);
                let hits: Vec<_> = player.said().into_iter().filter(|said| !said.starts_with("lost")).collect();
                assert_eq!(hits, ["ok - select ?", "ok 1 select ?"], "{size}");
            }
        }
    }
}
