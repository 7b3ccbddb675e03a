use super::*;
use crate::{Outcome, Status, Verdict};

#[test]
fn times_and_bytes() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&[asks("PING"), says("+PONG\r\n")]);
        player.outcomes.clear();
        let (request, answer) = (command("GET user:1"), string(b"value"));
        let begin = player.time_ns();
        player.part(true, &request[..9], 9, 0);
        player.part(true, &request[9..], 99, 0);
        player.part(false, &answer[..3], 20, 0);
        player.part(false, &answer[3..], 999, 0);
        let [Outcome::Hit(hit)] = &player.outcomes[..] else { panic!("{:?}", player.outcomes) };
        let times = if client { (begin + 900, begin + 4000) } else { (begin + 2000, begin + 3900) };
        assert_eq!((hit.start.time_ns, hit.end.time_ns), times);
        assert_eq!((hit.request_bytes, hit.response_bytes), (request.len() as u64, answer.len() as u64));
    }
}

#[test]
fn a_pipeline_answered_in_parts() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client([command("GET a"), command("GET b"), command("GET c")].concat())]);
    player.whole(&[says("$1\r\na\r\n$1\r"), says("\nb\r\n"), says("$-1\r\n")]);
    let ends: Vec<_> = player
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Hit(hit) => (hit.start.time_ns, hit.end.time_ns, hit.response_bytes),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [(1000, 1900, 7), (1000, 2900, 7), (1000, 3900, 5)]);
}

#[test]
fn channels() {
    // RESP2: messages look like arrays.
    let turns = [
        asks("SUBSCRIBE a b"),
        says("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"),
        says("*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"),
        asks("PING"),
        says("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
        asks("PSUBSCRIBE x*"),
        says(
            "*4\r\n$8\r\npmessage\r\n$2\r\nx*\r\n$1\r\nx\r\n$2\r\nhi\r\n*3\r\n$10\r\npsubscribe\r\n$2\r\nx*\r\n:3\r\n",
        ),
        asks("UNSUBSCRIBE"),
        says("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n"),
        asks("GET a"),
        says("$1\r\n1\r\n"),
    ];
    let expected = ["ok 3 SUBSCRIBE a b", "ok 2 PING", "ok 3 PSUBSCRIBE x*", "ok 3 UNSUBSCRIBE", "ok 1 GET a"];
    assert_eq!(play(&turns), expected);
    // Met when it was subscribed already.
    let messages = says("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
    assert_eq!(play(&[messages.clone(), messages]), [""; 0]);
    // A list that looks like a message is a list.
    let turns = [asks("LRANGE l 0 2"), says("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n")];
    assert_eq!(play(&turns), ["ok 3 LRANGE l"]);
    let refused = [asks("SUBSCRIBE a"), says("-NOPERM no permissions\r\n"), asks("GET a"), says("$-1\r\n")];
    assert_eq!(play(&refused), ["NOPERM - SUBSCRIBE a", "ok 0 GET a"]);
}

#[test]
fn told_unasked() {
    let invalidate = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n";
    let turns = [
        asks("GET a"),
        says(&format!("{invalidate}$1\r\n1\r\n")),
        says(invalidate),
        asks("GET b"),
        says(&format!("$1\r\n1\r\n{invalidate}")),
    ];
    assert_eq!(play(&turns), ["ok 1 GET a", "ok 1 GET b"]);
}

#[test]
fn transactions() {
    let turns = [
        asks("WATCH a:1"),
        says("+OK\r\n"),
        asks("MULTI"),
        says("+OK\r\n"),
        asks("GET"),
        says("-ERR wrong number of arguments for 'get' command\r\n"),
        asks("EXEC"),
        says("-EXECABORT Transaction discarded because of previous errors.\r\n"),
        asks("MULTI"),
        says("+OK\r\n"),
        asks("EXEC"),
        says("*-1\r\n"),
        // An error within another answer is none of the command.
        asks("SCRIPT EXISTS"),
        says("*2\r\n:1\r\n-ERR no\r\n"),
    ];
    let expected = [
        "ok - WATCH a:{id}",
        "ok - MULTI",
        "ERR - GET",
        "EXECABORT - EXEC",
        "ok - MULTI",
        "ok 0 EXEC",
        "ok 2 SCRIPT EXISTS",
    ];
    assert_eq!(play(&turns), expected);
}

#[test]
fn commands_without_answers() {
    let turns = [
        Client([command("GET a"), command("CLIENT REPLY SKIP"), command("SET a 1"), command("GET a")].concat()),
        says("$-1\r\n$1\r\n1\r\n"),
        Client(
            [command("CLIENT REPLY OFF"), command("SET a 1"), command("CLIENT REPLY ON"), command("GET c")].concat(),
        ),
        says("+OK\r\n$1\r\n1\r\n"),
        Client(b"*0\r\n*-1\r\n".to_vec()),
        asks("GET d"),
        says("$-1\r\n"),
    ];
    assert_eq!(play(&turns), ["ok 0 GET a", "ok 1 GET a", "ok - CLIENT REPLY", "ok 1 GET c", "ok 0 GET d"]);
}

#[test]
fn errors() {
    let turns = [
        asks("GET a"),
        says("-MOVED 3999 127.0.0.1:6381\r\n"),
        asks("GET a"),
        says("-lower case\r\n"),
        asks("EVAL x 0"),
        says(&format!("-ERR {}\r\n", "long ".repeat(2000))),
        asks("GET b"),
        says("$-1\r\n"),
    ];
    let mut player = Player::new(Settings::default(), false);
    player.whole(&turns);
    assert_eq!(player.said(), ["MOVED - GET a", "ERR - GET a", "ERR - EVAL ?", "ok 0 GET b"]);
    let message = |index: usize| match &player.outcomes[index] {
        Outcome::Hit(hit) => hit.error_message.clone().unwrap_or_default(),
        other => panic!("{other:?}"),
    };
    assert_eq!(&*message(0), "3999 127.0.0.1:6381");
    assert_eq!(&*message(1), "lower case");
    assert_eq!(message(2).len(), 508);
}

#[test]
fn aborted() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[asks("GET a"), says("$-1\r\n"), Client([command("BLPOP q 0"), command("GET b")].concat())]);
    player.close();
    player.close();
    assert_eq!(player.said(), ["ok 0 GET a", "aborted - BLPOP q", "lost 1 answer_missed"]);
    let Outcome::Hit(hit) = &player.outcomes[1] else { panic!() };
    assert_eq!(hit.status, Status::Aborted);
}

#[test]
fn an_answer_that_never_ends() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[asks("GET a"), says("$-1\r\n"), asks("LRANGE l 0 -1"), says("*100000\r\n$1\r\na\r\n")]);
    for _ in 0..20 {
        player.whole(&[asks("GET b"), says("$-1\r\n")]);
    }
    assert_eq!(player.said().iter().filter(|said| **said == "ok 0 GET b").count(), 12, "{:?}", player.said());
}

#[test]
fn a_stranger_after_all() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[asks("GET a"), says("$-1\r\n")]);
    for _ in 0..40 {
        player.whole(&[asks("GET a"), says("$5\r\nlonger than that\r\n")]);
    }
    assert!(player.verdict != Verdict::Ignored);
    player.whole(&[asks("GET b"), says("$-1\r\n"), asks("GET c"), says("$-1\r\n")]);
    assert_eq!(player.said().last().map(String::as_str), Some("ok 0 GET c"));
}
