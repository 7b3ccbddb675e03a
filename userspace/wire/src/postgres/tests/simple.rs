use super::streams::*;
use crate::{Outcome, Settings};

#[test]
fn several_statements_and_errors() {
    let turns = [
        login(),
        vec![
            Client(query("begin; insert into t values (1, 'x'); select 2; commit")),
            Server([complete("BEGIN"), complete("INSERT 0 1"), select(1), complete("COMMIT"), ready(b'I')].concat()),
            Client(query("select 1; select 1/0; select 3")),
            Server([select(1), error("22012", "division by zero"), ready(b'I')].concat()),
            Client(query(";")),
            Server([message(b'I', b""), ready(b'I')].concat()),
            Client(query("create table t (a int)")),
            Server([message(b'N', b"SNOTICE\0C42P07\0Mexists\0\0"), complete("CREATE TABLE"), ready(b'T')].concat()),
        ],
    ]
    .concat();
    assert_eq!(
        play(&turns),
        [
            "ok - begin",
            "ok 1 insert into t values (?, ?)",
            "ok 1 select ?",
            "ok - commit",
            "ok 1 select ?",
            "22012 - select ?/?",
            "ok - <empty>",
            "ok - create table t (a int)"
        ]
    );
}

#[test]
fn times_and_bytes() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&login());
        let (request, answer) = (query("select 'secret'"), select(2));
        let begin = player.time_ns();
        player.part(true, &request[..9], 9, 0);
        player.part(true, &request[9..], 99, 0);
        player.part(false, &answer[..20], 20, 0);
        player.part(false, &answer[20..], 999, 0);
        player.whole(&[Server(ready(b'I'))]);
        let [Outcome::Hit(hit)] = &player.outcomes[..] else { panic!("{:?}", player.outcomes) };
        let times = if client { (begin + 900, begin + 4000) } else { (begin + 2000, begin + 3900) };
        assert_eq!((hit.start.time_ns, hit.end.time_ns), times);
        assert_eq!(hit.start.times.cpu_ns, (begin + if client { 1000 } else { 2000 }) / 2);
        assert_eq!((hit.request_bytes, hit.response_bytes), (request.len() as u64, answer.len() as u64));
        assert_eq!((&*hit.operation, hit.text.clone()), ("select ?", None));
    }
}

#[test]
fn literals_only_where_allowed() {
    let turns = [
        Client(query(" select 'secret' ; select 2 ")),
        Server([error("22P02", "invalid input syntax for type integer: \"secret\""), ready(b'I')].concat()),
    ];
    for keep_literals in [false, true] {
        let mut player = Player::new(Settings { keep_literals, ..Settings::default() }, false);
        player.whole(&turns);
        let [Outcome::Hit(hit)] = &player.outcomes[..] else { panic!("{:?}", player.outcomes) };
        let shown = if keep_literals { "secret" } else { "?" };
        assert_eq!(hit.error_message.as_deref(), Some(&*format!("invalid input syntax for type integer: \"{shown}\"")));
        assert_eq!(hit.text.as_deref(), keep_literals.then_some("select 'secret'"));
    }
}

#[test]
fn passwords_never_show() {
    let mut player = Player::new(Settings { keep_literals: true, ..Settings::default() }, false);
    player.whole(&login());
    player.whole(&[Client(query("select 1")), Server([select(1), ready(b'I')].concat())]);
    assert!(!format!("{:?} {:?}", player.outcomes, player.connection.facts()).contains("secret"));
}

#[test]
fn copies() {
    let line = message(b'd', b"1\tone\n");
    let turns = [
        Client(query("copy t from stdin")),
        Server(message(b'G', &[0, 0, 2, 0, 0, 0, 0])),
        Client([line.clone(), line.clone()].concat()),
        Client([line.clone(), message(b'c', b"")].concat()),
        Server([complete("COPY 3"), ready(b'I')].concat()),
        Client(query("copy t to stdout; select 1")),
        Server(
            [message(b'H', &[0, 0, 1, 0, 0]), line.clone(), line.clone(), message(b'c', b""), complete("COPY 2")]
                .concat(),
        ),
        Server([select(1), ready(b'I')].concat()),
        Client(query("copy t from stdin")),
        Server(message(b'G', &[0, 0, 1, 0, 0])),
        Client([line.clone(), message(b'f', b"no more\0")].concat()),
        Server([error("57014", "COPY from stdin failed: no more"), ready(b'I')].concat()),
        // The server finds an error before the client is done.
        Client(query("copy t from stdin")),
        Server(message(b'G', &[0, 0, 1, 0, 0])),
        Client(line.clone()),
        Server([error("22P04", "extra data"), ready(b'I')].concat()),
        Client([line.clone(), message(b'c', b"")].concat()),
        Client(query("select 1")),
        Server([select(1), ready(b'I')].concat()),
    ];
    let mut player = Player::new(Settings::default(), false);
    player.whole(&turns);
    let expected = [
        "ok 3 copy t from stdin",
        "ok 2 copy t to stdout",
        "ok 1 select ?",
        "57014 - copy t from stdin",
        "22P04 - copy t from stdin",
        "ok 1 select ?",
    ];
    assert_eq!(player.said(), expected);
    let bytes: Vec<_> = player
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Hit(hit) => (hit.request_bytes, hit.response_bytes),
            _ => (0, 0),
        })
        .collect();
    let query_bytes = query("copy t from stdin").len() as u64;
    assert_eq!(bytes[0].0, query_bytes + 3 * line.len() as u64 + 5);
    assert_eq!(bytes[1].1, 10 + 2 * line.len() as u64 + 5 + complete("COPY 2").len() as u64);
}

#[test]
fn function_calls() {
    let call = message(b'F', &[&952_u32.to_be_bytes()[..], &[0; 8]].concat());
    let turns = [
        Client(call.clone()),
        Server([message(b'V', &[0xff; 4]), ready(b'I')].concat()),
        Client(call),
        Server([error("42883", "no such"), ready(b'I')].concat()),
    ];
    let turns = [login(), turns.to_vec()].concat();
    assert_eq!(play(&turns), ["ok - <function> 952", "42883 - <function> 952"]);
}

#[test]
fn strings_with_backslashes() {
    let turns = [
        login(),
        vec![
            Server(message(b'S', &texts(&["standard_conforming_strings", "off"]))),
            Client(query("select 'it\\'s; one'; select 2")),
            Server([select(1), select(1), ready(b'I')].concat()),
        ],
    ];
    assert_eq!(play(&turns.concat()), ["ok 1 select ?", "ok 1 select ?"]);
}

#[test]
fn aborted() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login());
    player.whole(&[Client(query("select pg_sleep(3); select 2"))]);
    player.close();
    player.close();
    assert_eq!(player.said(), ["aborted - select pg_sleep(?)"]);
    // Killed by the administrator while it ran; while nothing ran, it is no hit.
    let fatal = error("57P01", "terminating connection due to administrator command");
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[login(), vec![Client(query("select 1")), Server(fatal.clone())]].concat());
    player.close();
    assert_eq!(player.said(), ["57P01 - select ?"]);
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[login(), vec![Server(fatal), Client(message(b'X', b""))]].concat());
    player.close();
    assert_eq!(player.said(), [""; 0]);
}

#[test]
fn long_texts_are_cut() {
    let sql = format!("insert into t values {}(0, 'end'); select 1", "(1, 'some text'), ".repeat(2000));
    let turns = [Client(query(&sql)), Server([complete("INSERT 0 2001"), select(1), ready(b'I')].concat())];
    assert_eq!(play(&turns), ["ok 2001 insert into t values (?, ?) …", "ok 1 <unresolved>"]);
}
