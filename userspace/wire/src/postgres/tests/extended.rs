use super::streams::*;
use crate::{Outcome, Settings};

/// `Bind`, `Execute` of a prepared statement.
fn run(statement: &str) -> Vec<u8> {
    [bind("", statement, b"5"), execute("", 0)].concat()
}

fn ran(tag: &str) -> Vec<u8> {
    [bind_complete(), complete(tag)].concat()
}

fn at_once(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", b"5"), describe(b'P', ""), execute("", 0)].concat()
}

fn at_once_answer(rows: u32) -> Vec<u8> {
    [parse_complete(), bind_complete(), select(rows)].concat()
}

#[test]
fn prepared_once_and_run_often() {
    let turns = [
        login(),
        vec![
            Client([parse("S_1", "update t set a = $1 where b = 'x'"), describe(b'S', "S_1"), sync()].concat()),
            Server([parse_complete(), message(b't', &[0, 0]), message(b'n', b""), ready(b'I')].concat()),
            Client([run("S_1"), sync()].concat()),
            Server([ran("UPDATE 1"), ready(b'I')].concat()),
            Client([run("S_1"), sync()].concat()),
            Server([ran("UPDATE 2"), ready(b'I')].concat()),
            Client([at_once("select $1"), sync()].concat()),
            Server([at_once_answer(1), ready(b'I')].concat()),
            Client([parse("", " "), run(""), sync()].concat()),
            Server([parse_complete(), bind_complete(), message(b'I', b""), ready(b'I')].concat()),
            Client([close(b'S', "S_1"), run("S_1"), sync()].concat()),
            Server([message(b'3', b""), error("26000", "no such statement"), ready(b'I')].concat()),
        ],
    ];
    let update = "update t set a = $1 where b = ?";
    assert_eq!(
        play(&turns.concat()),
        [
            &format!("ok 1 {update}"),
            &format!("ok 2 {update}"),
            "ok 1 select $1",
            "ok - <empty>",
            "26000 - <unresolved> S_1"
        ]
    );
}

#[test]
fn flushed_instead_of_synced() {
    let turns = [
        Client([parse("s", "select 1"), describe(b'S', "s"), message(b'H', b"")].concat()),
        Server([parse_complete(), message(b't', &[0, 0]), columns(&["a"])].concat()),
        Client([run("s"), sync()].concat()),
        Server([ran("SELECT 1"), ready(b'I')].concat()),
        Client([bind("p", "s", b""), describe(b'P', "p"), message(b'H', b"")].concat()),
        Server([bind_complete(), columns(&["a"])].concat()),
        Client([execute("p", 0), message(b'H', b"")].concat()),
        Server([row(&[b"1"]), complete("SELECT 1")].concat()),
        Client([close(b'P', "p"), sync()].concat()),
        Server([message(b'3', b""), ready(b'I')].concat()),
    ];
    let mut player = Player::new(Settings::default(), false);
    player.whole(&turns);
    assert_eq!(player.said(), ["ok 1 select ?", "ok 1 select ?"]);
    let starts = player.outcomes.iter().map(|outcome| match outcome {
        Outcome::Hit(hit) => hit.start.time_ns,
        _ => 0,
    });
    assert_eq!(starts.collect::<Vec<_>>(), [3000, 7000]);
}

#[test]
fn pipelines() {
    // Several before one Sync, and each in a call of its own.
    let together = vec![
        Client([parse("s", "select $1"), run("s"), run("s"), at_once("update t set a = 1"), sync()].concat()),
        Server([parse_complete(), ran("SELECT 1"), ran("SELECT 2"), at_once_answer(3), ready(b'I')].concat()),
    ];
    let expected = ["ok 1 select $1", "ok 2 select $1", "ok 3 update t set a = ?"];
    assert_eq!(play(&together), expected);
    let apart = [
        Client([parse("s", "select $1"), run("s")].concat()),
        Client(run("s")),
        Client(at_once("update t set a = 1")),
        Client(sync()),
        Server([parse_complete(), ran("SELECT 1")].concat()),
        Server(ran("SELECT 2")),
        Server([at_once_answer(3), ready(b'I')].concat()),
    ];
    let mut player = Player::new(Settings::default(), false);
    player.whole(&apart);
    assert_eq!(player.said(), expected);
    let times = player.outcomes.iter().map(|outcome| match outcome {
        Outcome::Hit(hit) => (hit.start.time_ns, hit.end.time_ns),
        _ => (0, 0),
    });
    assert_eq!(times.collect::<Vec<_>>(), [(1000, 4900), (2000, 5900), (3000, 6900)]);
    // Several Syncs under way.
    let synced = [
        Client([run("a"), sync(), run("b"), sync()].concat()),
        Client([query("select 1; select 2"), run("c"), sync()].concat()),
        Server([ran("SELECT 1"), ready(b'I')].concat()),
        Server([ran("SELECT 2"), ready(b'I'), select(3)].concat()),
        Server([select(4), ready(b'I'), ran("SELECT 5"), ready(b'I')].concat()),
    ];
    let expected =
        ["ok 1 <unresolved> a", "ok 2 <unresolved> b", "ok 3 select ?", "ok 4 select ?", "ok 5 <unresolved> c"];
    assert_eq!(play(&synced), expected);
}

#[test]
fn after_an_error_the_rest_never_ran() {
    let failing = [parse("s", "select $1"), run("s"), run("s"), run("s")].concat();
    let turns = [
        Client([failing.clone(), query("select 'skipped'"), sync(), run("s"), sync()].concat()),
        Server(
            [parse_complete(), ran("SELECT 1"), bind_complete(), error("22012", "division by zero"), ready(b'I')]
                .concat(),
        ),
        Server([ran("SELECT 2"), ready(b'I')].concat()),
        // What comes before the Sync, but after the error was sent.
        Client([run("s"), message(b'H', b"")].concat()),
        Server([bind_complete(), error("22012", "division by zero")].concat()),
        Client([run("s"), query("select 'skipped'"), sync(), run("s"), sync()].concat()),
        Server([ready(b'I'), ran("SELECT 3"), ready(b'I')].concat()),
        // A Parse that fails.
        Client([parse("", "selec 1"), run(""), sync()].concat()),
        Server([error("42601", "syntax error at or near \"selec\""), ready(b'I')].concat()),
        Client([parse("x", "selec 1"), describe(b'S', "x"), sync()].concat()),
        Server([error("42601", "syntax error at or near \"selec\""), ready(b'I')].concat()),
        // One of several that fails.
        Client([parse("a", "select 1"), parse("b", "select 1, 1 +"), parse("c", "select 1, 1"), sync()].concat()),
        Server([parse_complete(), error("42601", "syntax error"), ready(b'I')].concat()),
    ];
    assert_eq!(
        play(&turns),
        [
            "ok 1 select $1",
            "22012 - select $1",
            "ok 2 select $1",
            "22012 - select $1",
            "ok 3 select $1",
            "42601 - selec ?",
            "42601 - selec ?",
            "42601 - select ?, ? +"
        ]
    );
}

#[test]
fn a_commit_that_fails_at_the_sync() {
    let turns = [
        Client([at_once("insert into t values (1)"), sync()].concat()),
        Server([parse_complete(), bind_complete(), message(b'n', b""), complete("INSERT 0 1")].concat()),
        Server([error("23503", "violates foreign key constraint \"fk\""), ready(b'I')].concat()),
    ];
    assert_eq!(play(&turns), ["23503 1 insert into t values (?)"]);
}

#[test]
fn portals_resumed() {
    let rows = |count: u32| (0..count).flat_map(|n| row(&[n.to_string().as_bytes()])).collect::<Vec<_>>();
    let turns = [
        Client(query("begin")),
        Server([complete("BEGIN"), ready(b'T')].concat()),
        Client([parse("", "select 1"), bind("C_1", "", b""), execute("C_1", 2), sync()].concat()),
        Server([parse_complete(), bind_complete(), rows(2), message(b's', b""), ready(b'T')].concat()),
        Client([execute("C_1", 2), sync()].concat()),
        Server([rows(2), message(b's', b""), ready(b'T')].concat()),
        Client([execute("C_1", 2), sync()].concat()),
        Server([rows(1), complete("SELECT 1"), ready(b'T')].concat()),
        Client([execute("C_9", 2), sync()].concat()),
        Server([rows(1), complete("SELECT 1"), ready(b'I')].concat()),
    ];
    let expected =
        ["ok - begin", "ok 2 select ?", "ok 2 <resumed> select ?", "ok 1 <resumed> select ?", "ok 1 <unresolved>"];
    assert_eq!(play(&turns), expected);
}

#[test]
fn copies() {
    let line = message(b'd', b"1\n");
    let turns = [
        // The server takes no notice of the first Sync.
        Client([at_once("copy t from stdin"), sync()].concat()),
        Server([parse_complete(), bind_complete(), message(b'n', b""), message(b'G', &[0, 0, 1, 0, 0])].concat()),
        Client([line.clone(), sync(), line.clone()].concat()),
        Client([message(b'c', b""), sync()].concat()),
        Server([complete("COPY 2"), ready(b'I')].concat()),
        Client([at_once("copy t to stdout"), sync()].concat()),
        Server([parse_complete(), bind_complete(), message(b'n', b""), message(b'H', &[0, 0, 1, 0, 0])].concat()),
        Server([line.clone(), line, message(b'c', b""), complete("COPY 2"), ready(b'I')].concat()),
        Client([run("s"), sync()].concat()),
        Server([ran("SELECT 1"), ready(b'I')].concat()),
    ];
    assert_eq!(play(&turns), ["ok 2 copy t from stdin", "ok 2 copy t to stdout", "ok 1 <unresolved> s"]);
}

#[test]
fn aborted_pipeline() {
    let mut player = Player::new(Settings::default(), false);
    let turns = [
        Client([parse("s", "select $1"), run("s"), run("s"), sync()].concat()),
        Server([parse_complete(), ran("SELECT 1")].concat()),
    ];
    player.whole(&turns);
    player.close();
    assert_eq!(player.said(), ["ok 1 select $1", "aborted - select $1"]);
}

#[test]
fn the_table_of_statements_is_bounded() {
    let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, false);
    for n in 0..2000 {
        let name = format!("S_{n}");
        player.whole(&[
            Client([parse(&name, &format!("select a{n}")), run(&name), sync()].concat()),
            Server([parse_complete(), ran("SELECT 1"), ready(b'I')].concat()),
        ]);
    }
    let hits = player.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Hit(_))).count();
    let evicted: u64 = player
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Lost { reason: "statement_evicted", count } => *count,
            _ => 0,
        })
        .sum();
    assert_eq!(hits, 2000);
    assert!(evicted > 1500);
    player.outcomes.clear();
    let turns = |name| [Client([run(name), sync()].concat()), Server([ran("SELECT 1"), ready(b'I')].concat())];
    player.whole(&[turns("S_1"), turns("S_1999")].concat());
    assert_eq!(player.said(), ["ok 1 <unresolved> S_1", "ok 1 select a1999"]);
}

#[test]
fn a_pipeline_without_end_is_bounded() {
    let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, false);
    for _ in 0..5000 {
        player.whole(&[Client(run("s"))]);
    }
    player.whole(&[Client(sync())]);
    for _ in 0..5000 {
        player.whole(&[Server(ran("SELECT 1"))]);
    }
    player.whole(&[Server(ready(b'I'))]);
    let hits = player.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Hit(_))).count();
    assert_eq!(hits, 5000);
    player.outcomes.clear();
    player.whole(&[Client([run("s"), sync()].concat()), Server([ran("SELECT 1"), ready(b'I')].concat())]);
    assert_eq!(player.said(), ["ok 1 <unresolved> s"]);
}
