use super::{
    super::packet::{command, status::*},
    streams::*,
};
use crate::{Outcome, Settings};

fn at(capabilities: u64, turns: Vec<Turn>) -> Vec<String> {
    play(&[login(capabilities), turns].concat())
}

#[test]
fn prepared_once_and_run_often() {
    for capabilities in [MODERN, OLD] {
        let ran = |count| Server(many(1, binary_rows(capabilities, count, 0)));
        let turns = vec![
            Client(prepare("select a from t where b = ? and c = 'x'")),
            Server(prepare_answer(capabilities, 1, 1, 1)),
            Client(execute(1, 0, true)),
            ran(2),
            // Without new types.
            Client(execute(1, 0, false)),
            ran(0),
            Client(prepare("update t set a = ?")),
            Server(prepare_answer(capabilities, 2, 1, 0)),
            Client(execute(2, 0, true)),
            Server(packet(1, &ok(7))),
            Client(prepare("do 1")),
            Server(prepare_answer(capabilities, 3, 0, 0)),
            Client([by_id(command::CLOSE, 1), execute(1, 0, false)].concat()),
            Server(packet(1, &error(1243, "HY000", "Unknown prepared statement handler (1)"))),
            Client(by_id(command::RESET, 2)),
            Server(packet(1, &ok(0))),
            Client(prepare("selec ?")),
            Server(packet(1, &error(1064, "42000", "syntax"))),
            Client(execute(2, 0, false)),
            Server(packet(1, &error(1062, "23000", "Duplicate entry"))),
        ];
        let select = "select a from t where b = ? and c = ?";
        assert_eq!(
            at(capabilities, turns),
            [
                &format!("ok - <prepare> {select}"),
                &format!("ok 2 {select}"),
                &format!("ok 0 {select}"),
                "ok - <prepare> update t set a = ?",
                "ok 7 update t set a = ?",
                "ok - <prepare> do ?",
                "1243 - <unresolved>",
                "ok - <reset> update t set a = ?",
                "1064 - <prepare> selec ?",
                "1062 - update t set a = ?"
            ]
        );
    }
}

#[test]
fn values_sent_ahead() {
    let ahead = request(command::LONG_DATA, &[&1_u32.to_le_bytes()[..], &[0, 0], &[b'x'; 5000]].concat());
    let size = (2 * ahead.len() + execute(1, 0, true).len()) as u64;
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(MODERN));
    player.whole(&[
        Client(prepare("insert into t values (?)")),
        Server(prepare_answer(MODERN, 1, 1, 0)),
        Client(ahead.clone()),
        Client([ahead, execute(1, 0, true)].concat()),
        Server(packet(1, &ok(1))),
    ]);
    assert_eq!(player.said()[1..], ["ok 1 insert into t values (?)"]);
    let Outcome::Hit(hit) = &player.outcomes[1] else { panic!() };
    assert_eq!(hit.request_bytes, size);
}

#[test]
fn cursors() {
    for capabilities in [MODERN, OLD] {
        let opened = many(1, vec![vec![1], column("a"), eof(capabilities, AUTOCOMMIT | CURSOR_EXISTS)]);
        let fetched = |rows: u8, status| {
            let mut bodies: Vec<_> = (0..rows).map(|n| vec![0, 0, n, 0, 0, 0]).collect();
            bodies.push(eof(capabilities, AUTOCOMMIT | status));
            Server(many(1, bodies))
        };
        let turns = vec![
            Client(prepare("select a from t")),
            Server(prepare_answer(capabilities, 1, 0, 1)),
            Client(execute(1, 1, false)),
            Server(opened),
            Client(fetch(1)),
            fetched(2, CURSOR_EXISTS),
            Client(fetch(1)),
            fetched(1, 0x80),
            Client(fetch(9)),
            Server(packet(1, &error(1243, "HY000", "Unknown prepared statement handler (9)"))),
        ];
        assert_eq!(
            at(capabilities, turns),
            [
                "ok - <prepare> select a from t",
                "ok 0 select a from t",
                "ok 2 <resumed> select a from t",
                "ok 1 <resumed> select a from t",
                "1243 - <resumed> <unresolved>"
            ]
        );
    }
}

#[test]
fn results_without_columns() {
    // MariaDB leaves them out where they are as at the prepare.
    let ran = many(1, vec![vec![1, 0], vec![0, 0, 5, 0, 0, 0], eof(MODERN, AUTOCOMMIT)]);
    let bulk = request(command::BULK_EXECUTE, &[1, 0, 0, 0, 0x80, 0, 3, 0, 0, 5, 0, 0, 0, 0, 6, 0, 0, 0]);
    let turns = vec![
        Client(prepare("select ?")),
        Server(prepare_answer(MODERN, 1, 1, 1)),
        Client(execute(1, 0, true)),
        Server(ran),
        Client(prepare("insert into t values (?)")),
        Server(prepare_answer(MODERN, 1, 1, 0)),
        Client(bulk),
        Server(packet(1, &ok(2))),
    ];
    assert_eq!(
        at(CACHING, turns),
        [
            "ok - <prepare> select ?",
            "ok 1 select ?",
            "ok - <prepare> insert into t values (?)",
            "ok 2 insert into t values (?)"
        ]
    );
}

#[test]
fn prepared_and_run_in_one_go() {
    // MariaDB's connectors run what was prepared last without waiting for its number.
    for capabilities in [MODERN, OLD] {
        let answer = [prepare_answer(capabilities, 5, 1, 1), many(1, binary_rows(capabilities, 2, 0))].concat();
        let turns = vec![
            Client([prepare("select a from t where b = ?"), execute(u32::MAX, 0, true)].concat()),
            Server(answer),
            Client(execute(u32::MAX, 0, true)),
            Server(many(1, binary_rows(capabilities, 1, 0))),
            Client(execute(5, 0, true)),
            Server(many(1, binary_rows(capabilities, 1, 0))),
        ];
        let select = "select a from t where b = ?";
        let expected = [
            format!("ok - <prepare> {select}"),
            format!("ok 2 {select}"),
            format!("ok 1 {select}"),
            format!("ok 1 {select}"),
        ];
        assert_eq!(at(capabilities, turns), expected);
    }
}

#[test]
fn statements_are_the_connections_own() {
    // The same number on two connections is two statements.
    for (sql, expected) in [("select a", "ok 1 select a"), ("select b", "ok 1 select b")] {
        let turns = vec![
            Client(prepare(sql)),
            Server(prepare_answer(MODERN, 1, 0, 1)),
            Client(execute(1, 0, false)),
            Server(many(1, binary_rows(MODERN, 1, 0))),
        ];
        assert_eq!(at(MODERN, turns)[1], expected);
    }
}
