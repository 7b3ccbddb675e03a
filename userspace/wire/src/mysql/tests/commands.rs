use super::{
    super::packet::{capability, command, status::*},
    streams::*,
};
use crate::{Outcome, Settings};

fn at(capabilities: u64, turns: Vec<Turn>) -> Vec<String> {
    play(&[login(capabilities), turns].concat())
}

#[test]
fn queries() {
    for capabilities in [MODERN, OLD, CACHING] {
        let turns = vec![
            Client(query("SELECT `a`, \"x\" FROM t WHERE b IN (1, 2) # why")),
            Server(rows(capabilities, 300)),
            Client(query("select 1 from t where 0")),
            Server(rows(capabilities, 0)),
            Client(query("update t set a = 'it\\'s'")),
            Server(packet(1, &ok(3))),
            Client(query("select 1 +")),
            Server(packet(1, &error(1064, "42000", "You have an error near 'secret' at line 1"))),
            Client(query(" ")),
            Server(packet(1, &error(1065, "42000", "Query was empty"))),
            // An error amid rows.
            Client(query("select a from t")),
            Server(many(1, [&result(capabilities, 5, 0)[..5], &[error(1317, "70100", "Interrupted")]].concat())),
            Client(request(command::QUIT, b"")),
        ];
        assert_eq!(
            at(capabilities, turns),
            [
                "ok 300 SELECT `a`, ? FROM t WHERE b IN (?)",
                "ok 0 select ? from t where ?",
                "ok 3 update t set a = ?",
                "1064 - select ? +",
                "1065 - <empty>",
                "1317 - select a from t"
            ]
        );
    }
}

#[test]
fn errors_are_told_with_their_state() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(OLD));
    player.whole(&[
        Client(query("insert into t values (1)")),
        Server(packet(1, &error(1062, "23000", "Duplicate entry 'ann' for key 'mail'"))),
    ]);
    let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
    assert_eq!(hit.error_code.as_deref(), Some("1062"));
    assert_eq!(hit.error_message.as_deref(), Some("(23000) Duplicate entry '?'"));
    let literal = Settings { keep_literals: true, ..Settings::default() };
    let mut player = Player::new(literal, false);
    player.whole(&login(OLD));
    player.whole(&[
        Client(query("insert into t values (1)")),
        Server(packet(1, &error(1062, "23000", "Duplicate entry 'ann' for key 'mail'"))),
    ]);
    let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
    assert_eq!(hit.text.as_deref(), Some("insert into t values (1)"));
    assert_eq!(hit.error_message.as_deref(), Some("(23000) Duplicate entry 'ann' for key 'mail'"));
}

#[test]
fn times_and_sizes() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&login(MODERN));
        let (asked, said) = (query("select 1"), rows(MODERN, 2));
        player.whole(&[Client(asked.clone()), Server(said.clone())]);
        let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
        assert_eq!((hit.request_bytes, hit.response_bytes), (asked.len() as u64, said.len() as u64));
        let expected = if client { (3900, 5000) } else { (4000, 4900) };
        assert_eq!((hit.start.time_ns, hit.end.time_ns), expected);
    }
}

#[test]
fn several_statements() {
    for capabilities in [MODERN, OLD, CACHING] {
        let both = |ends: &[Vec<Vec<u8>>]| many(1, ends.concat());
        let more = |affected| vec![ok_with(0, affected, AUTOCOMMIT | MORE_RESULTS)];
        let turns = vec![
            Client(query("select 1; update t set a = 2; select 3")),
            Server(both(&[result(capabilities, 2, MORE_RESULTS), more(4), result(capabilities, 1, 0)])),
            // An error ends it.
            Client(query("select 1; selec; select 2")),
            Server(both(&[result(capabilities, 2, MORE_RESULTS), vec![error(1064, "42000", "syntax")]])),
            // A procedure's results are its own.
            Client(query("call p(1); do 1")),
            Server(both(&[
                result(capabilities, 2, MORE_RESULTS),
                result(capabilities, 5, MORE_RESULTS),
                more(0),
                vec![ok(0)],
            ])),
            Client(query("call p(1)")),
            Server(both(&[result(capabilities, 2, MORE_RESULTS), vec![ok(1)]])),
            // What only looks like several.
            Client(query("create procedure p() begin select 1; select 2; end")),
            Server(packet(1, &ok(0))),
        ];
        assert_eq!(
            at(capabilities, turns),
            [
                "ok 2 select ?",
                "ok 4 update t set a = ?",
                "ok 1 select ?",
                "ok 2 select ?",
                "1064 - selec",
                "ok 7 call p(?)",
                "ok 0 do ?",
                "ok 3 call p(?)",
                "ok 0 create procedure p() begin select ?; select ?; end"
            ]
        );
    }
}

#[test]
fn files_loaded_from_the_client() {
    let content: Vec<Turn> = (0..300_u32).map(|n| Client(packet((n + 2) as u8, b"\x03elect 1\n"))).collect();
    let last = 302_u32 as u8;
    let turns = [
        vec![Client(query("load data local infile 'x' into table t")), Server(packet(1, b"\xfb/etc/x"))],
        content,
        vec![
            Client(packet(last, b"")),
            Server(packet(last.wrapping_add(1), &ok(200))),
            Client(query("select 1")),
            Server(rows(MODERN, 1)),
            // The client refuses.
            Client(query("load data local infile 'x' into table t")),
            Server(packet(1, b"\xfb/etc/x")),
            Client(packet(2, b"")),
            Server(packet(3, &error(2, "HY000", "File not found"))),
            Client(query("select 2")),
            Server(rows(MODERN, 1)),
        ],
    ];
    let expected = [
        "ok 200 load data local infile ? into table t",
        "ok 1 select ?",
        "2 - load data local infile ? into table t",
        "ok 1 select ?",
    ];
    assert_eq!(at(MODERN, turns.concat()), expected);
}

#[test]
fn commands_without_a_statement() {
    for capabilities in [MODERN, OLD] {
        let fields = many(1, [column("a"), column("b"), eof(capabilities, AUTOCOMMIT)]);
        let turns = vec![
            Client(request(command::PING, b"")),
            Server(packet(1, &ok(0))),
            Client(request(command::STATISTICS, b"")),
            Server(packet(1, b"Uptime: 5  Threads: 1")),
            Client(request(command::FIELD_LIST, b"t\0%")),
            Server(fields),
            Client(request(command::FIELD_LIST, b"nope\0")),
            Server(packet(1, &error(1146, "42S02", "Table 'shop.nope' doesn't exist"))),
            Client(request(command::SET_OPTION, &[0, 0])),
            Server(packet(1, &eof(capabilities, AUTOCOMMIT))),
            Client(request(command::PROCESS_INFO, b"")),
            Server(rows(capabilities, 4)),
            Client(request(command::PROCESS_KILL, &[7, 0, 0, 0])),
            Server(packet(1, &error(1094, "HY000", "Unknown thread id: 7"))),
            Client(request(command::RESET_CONNECTION, b"")),
            Server(packet(1, &ok(0))),
        ];
        assert_eq!(
            at(capabilities, turns),
            [
                "ok - <ping>",
                "ok - <statistics>",
                "ok - <field list>",
                "1146 - <field list>",
                "ok - <set option>",
                "ok 4 <process info>",
                "1094 - <process kill>",
                "ok - <reset connection>"
            ]
        );
    }
}

#[test]
fn the_database_moves() {
    let database = |turns: &[Turn]| {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&login(OLD));
        player.whole(turns);
        player.connection.facts().database.as_deref().map(str::to_string)
    };
    let moved = |request| database(&[Client(request), Server(packet(1, &ok(0)))]);
    assert_eq!(moved(request(command::INIT_DB, b"other")).as_deref(), Some("other"));
    assert_eq!(moved(query("use `other`;")).as_deref(), Some("other"));
    assert_eq!(moved(query("user")).as_deref(), Some("shop"));
    let refused = [Client(request(command::INIT_DB, b"nope")), Server(packet(1, &error(1049, "42000", "Unknown")))];
    assert_eq!(database(&refused).as_deref(), Some("shop"));
    // As the server tells.
    let mut told = ok_with(0, 0, AUTOCOMMIT | SESSION_STATE_CHANGED);
    told.extend(b"\0\x07\x01\x05\x04told");
    assert_eq!(database(&[Client(query("set @a = 1")), Server(packet(1, &told))]).as_deref(), Some("told"));
}

#[test]
fn the_user_changes() {
    let attributes = ["program_name", "desk"].map(text).concat();
    let body = [
        b"bob\0\x14scrambledscrambledscstock\0\x21\0mysql_native_password\0",
        &[attributes.len() as u8][..],
        &attributes,
    ];
    let switch = packet(1, &[b"\xfemysql_native_password\0", &[b'x'; 20][..], b"\0"].concat());
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(MODERN));
    player.whole(&[
        Client(prepare("select 1")),
        Server(prepare_answer(MODERN, 1, 0, 1)),
        Client(request(command::CHANGE_USER, &body.concat())),
        Server(switch),
        Client(packet(2, &[7; 20])),
        Server(packet(3, &ok(0))),
        Client(execute(1, 0, false)),
        Server(packet(1, &error(1243, "HY000", "Unknown prepared statement handler (1)"))),
    ]);
    assert_eq!(player.said(), ["ok - <prepare> select ?", "ok - <change user>", "1243 - <unresolved>"]);
    let facts = player.connection.facts();
    assert_eq!(facts.user.as_deref(), Some("bob"));
    assert_eq!(facts.database.as_deref(), Some("stock"));
    assert_eq!(facts.application.as_deref(), Some("desk"));
}

#[test]
fn requests_and_rows_over_16_mib() {
    let size = 0xff_ffff;
    let text = format!("insert into t values ('{}')", "x".repeat(size));
    let body = [&[command::QUERY], text.as_bytes()].concat();
    let request = [packet(0, &body[..size]), packet(1, &body[size..])].concat();
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&login(MODERN));
        let whole = request.len();
        for part in request.chunks(1 << 20) {
            player.part(true, part, 4096, 512);
        }
        player.whole(&[Server(packet(2, &ok(1))), Client(query("select big"))]);
        let big = vec![b'y'; size];
        let answer = many(1, [vec![1], column("a"), big, vec![b'y'; 100], eof(MODERN, AUTOCOMMIT)]);
        for part in answer.chunks(1 << 20) {
            player.part(false, part, 4096, 512);
        }
        player.whole(&[Client(query("select 1")), Server(rows(MODERN, 1))]);
        assert_eq!(player.said(), ["ok 1 insert into t values …", "ok 1 select big", "ok 1 select ?"]);
        let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
        assert_eq!(hit.request_bytes, whole as u64);
    }
}

#[test]
fn attributes_and_progress() {
    let attributed = request(command::QUERY, b"\x01\x01\0\x01\xfe\0\x05trace\x03abcselect 1");
    let progress = packet(1, &[&[0xff, 0xff, 0xff, 1, 1, 2, 0, 0, 0][..], b"\x05stage"].concat());
    let turns = vec![
        Client(attributed),
        Server(rows(MODERN, 1)),
        Client(request(command::QUERY, b"\0\x01select 1, 2")),
        Server(rows(MODERN, 1)),
        Client(query("alter table t engine = aria")),
        Server(progress),
        Server(packet(2, &ok(0))),
    ];
    assert_eq!(at(MODERN, turns), ["ok 1 select ?", "ok 1 select ?, ?", "ok 0 alter table t engine = aria"]);
    // MySQL's own way to leave out columns.
    let optional = MODERN | capability::OPTIONAL_METADATA;
    let answer = many(1, [vec![0, 2], text("1"), eof(MODERN, AUTOCOMMIT)]);
    assert_eq!(at(optional, vec![Client(query("select 1, 2")), Server(answer)]), ["ok 1 select ?, ?"]);
}
