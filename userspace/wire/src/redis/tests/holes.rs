use super::*;
use crate::Outcome;

fn list(elements: usize) -> Vec<u8> {
    let elements: Vec<_> = (0..elements).map(|n| format!("element {n}")).collect();
    array(&elements.iter().map(String::as_bytes).collect::<Vec<_>>())
}

#[test]
fn large_strings() {
    // Value and answer are passed over by their lengths.
    for client in [false, true] {
        for call in [40_000, 8192, 1000] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&[asks("PING"), says("+PONG\r\n")]);
            let value = vec![b'x'; 30_000];
            for part in array(&[b"SET", b"blob:1", &value]).chunks(call) {
                player.part(true, part, 128, 64);
            }
            player.whole(&[says("+OK\r\n"), asks("GET blob:1")]);
            for part in string(&value).chunks(call) {
                player.part(false, part, 128, 64);
            }
            player.whole(&[asks("GET b"), says("$-1\r\n")]);
            let said = player.said();
            assert_eq!(said[1..], ["ok - SET blob:{id}", "ok 1 GET blob:{id}", "ok 0 GET b"], "{call}");
        }
    }
}

#[test]
fn a_large_list() {
    let answer = list(3000);
    for client in [false, true] {
        for call in [answer.len(), 8192, 1000] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&[asks("LRANGE l 0 -1")]);
            for part in answer.chunks(call) {
                player.part(false, part, 128, 64);
            }
            let end = player.time_ns() - if client { 0 } else { 100 };
            player.whole(&[asks("GET b"), says("$-1\r\n")]);
            assert_eq!(player.said(), ["ok 3000 LRANGE l", "ok 0 GET b"], "{call}");
            let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
            assert_eq!((hit.end.time_ns, hit.response_bytes), (end, answer.len() as u64));
        }
    }
    // It is told even if nothing more is asked.
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[asks("LRANGE l 0 -1")]);
    player.part(false, &answer, 128, 64);
    player.close();
    assert_eq!(player.said(), ["ok 3000 LRANGE l"]);
}

#[test]
fn large_lists_of_a_pipeline() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client([command("GET a"), command("LRANGE l 0 -1"), command("GET b"), command("INCR c")].concat())]);
    player.part(false, &[string(b"1"), list(3000), string(b"2"), b":1\r\n".to_vec()].concat(), 128, 64);
    player.whole(&[asks("GET d"), says("$-1\r\n")]);
    let expected =
        ["ok 1 GET a", "ok 3000 LRANGE l", "ok - GET b", "ok - INCR c", "lost 2 answer_incomplete", "ok 0 GET d"];
    assert_eq!(player.said(), expected);
}

#[test]
fn commands_within_a_hole() {
    // A pipeline too long to be captured whole: every command is counted, and the last ones are known again.
    let many = 500;
    let pipeline: Vec<u8> = (0..many).flat_map(|n| command(&format!("SET user:{n} x"))).collect();
    let pipeline = [pipeline, command("GET last")].concat();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[asks("PING"), says("+PONG\r\n")]);
    player.outcomes.clear();
    player.part(true, &pipeline, 200, 100);
    player.whole(&[Server([b"+OK\r\n".repeat(many), string(b"1")].concat()), asks("GET d"), says("$-1\r\n")]);
    let said = player.said();
    assert_eq!(said.len(), many + 2, "{said:?}");
    assert_eq!(said[0], "ok - SET user:{id}");
    assert_eq!(said.iter().filter(|said| **said == "ok - <unresolved>").count(), many - 8, "{said:?}");
    assert_eq!(said[many - 1..], ["ok - SET user:{id}", "ok 1 GET last", "ok 0 GET d"]);
}

#[test]
fn a_command_with_very_many_arguments() {
    let numbers: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
    let words: Vec<&[u8]> =
        [&b"RPUSH"[..], b"list:1"].into_iter().chain(numbers.iter().map(String::as_bytes)).collect();
    let bytes = array(&words);
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[asks("PING"), says("+PONG\r\n")]);
    for part in bytes.chunks(8192) {
        player.part(true, part, 128, 64);
    }
    let asked = player.time_ns();
    player.whole(&[says(":5000\r\n"), asks("GET d"), says("$-1\r\n")]);
    assert_eq!(player.said(), ["ok - PING", "ok - RPUSH list:{id}", "ok 0 GET d"]);
    let Outcome::Hit(hit) = &player.outcomes[1] else { panic!() };
    assert_eq!((hit.start.time_ns, hit.end.time_ns), (asked, asked + 900));
}

#[test]
fn a_pipeline_without_end() {
    // As `redis-cli --pipe` does: it writes on while answers come.
    let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, false);
    for _ in 0..20_000 {
        player.whole(&[asks("INCR a")]);
    }
    let said = player.said();
    assert!(said.iter().all(|said| said == "lost 1 pipeline_full"));
    assert!(said.len() < 20_000);
    player.outcomes.clear();
    player.whole(&[Server(b":1\r\n".repeat(20_000)), asks("GET d"), says("$-1\r\n")]);
    let said = player.said();
    assert_eq!(said.len(), 20_001);
    assert_eq!((&*said[0], &*said[19_999], &*said[20_000]), ("ok - INCR a", "ok - <unresolved>", "ok 0 GET d"));
}

fn exchanges(count: usize) -> Vec<Turn> {
    (1..=count).flat_map(|n| [asks(&format!("LRANGE a{n} 0 -1")), Server(list(n))]).collect()
}

#[test]
fn lost_segments() {
    let turns = exchanges(5);
    for client in [false, true] {
        for from in 0..turns.len() {
            for to in from + 1..turns.len().min(from + 5) {
                let mut player = Player::new(Settings::default(), client);
                player.whole(&[asks("PING"), says("+PONG\r\n")]);
                player.outcomes.clear();
                for (index, turn) in turns.iter().enumerate() {
                    match (from..to).contains(&index) {
                        true => player.lose(turn),
                        false => player.whole(std::slice::from_ref(turn)),
                    }
                }
                player.whole(&[asks("PING"), says("+PONG\r\n"), asks("PING"), says("+PONG\r\n")]);
                // Each exchange of which nothing was lost is a hit, and no other is.
                let whole = |exchange: &usize| !(from..to).any(|lost| lost / 2 == *exchange);
                let hits = (0..5).filter(whole).map(|n| format!("ok {0} LRANGE a{0}", n + 1));
                let expected: Vec<_> = hits.chain(["ok - PING".into(), "ok - PING".into()]).collect();
                let said = player.said();
                let (lost, hits): (Vec<_>, Vec<_>) = said.iter().cloned().partition(|said| said.starts_with("lost"));
                assert_eq!(hits, expected, "{from}..{to} {said:?}");
                assert!(lost.len() <= 2, "{lost:?}");
            }
        }
    }
}

#[test]
fn each_segment_left_out() {
    // Whatever is left out: the rest is as it was, but for what was lost, and what hangs on it.
    let turns = session();
    for client in [false, true] {
        for left_out in 0..turns.len() {
            let mut player = Player::new(Settings::default(), client);
            for (index, turn) in turns.iter().enumerate() {
                match index == left_out {
                    true => player.lose(turn),
                    false => player.whole(std::slice::from_ref(turn)),
                }
            }
            // What comes right after a lost command is told when the next one comes.
            player.whole(&[asks("GET y"), says("$-1\r\n"), asks("GET z"), says("$-1\r\n")]);
            let said = player.said();
            assert_eq!(said.last().map(String::as_str), Some("ok 0 GET z"), "{left_out}: {said:#?}");
            let hits = said.iter().filter(|said| !said.starts_with("lost")).count();
            assert!(hits + 3 >= SESSION.len(), "{left_out}: {said:#?}");
        }
    }
}

#[test]
fn a_lost_part_of_an_answer() {
    let answer = list(500);
    for client in [false, true] {
        for size in [1, 5, 7, 100, 3000] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&[asks("LRANGE a 0 -1"), Server(answer[..1000].to_vec())]);
            player.lose(&Server(answer[1000..1000 + size].to_vec()));
            player.whole(&[Server(answer[1000 + size..].to_vec()), asks("GET b"), says("$-1\r\n")]);
            let said = player.said();
            assert_eq!(said.last().map(String::as_str), Some("ok 0 GET b"), "{size} {said:?}");
        }
    }
}
