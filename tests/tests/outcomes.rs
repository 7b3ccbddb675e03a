//! What a statement came to: errors, ends before the answer, rows, and answers and statements of unusual form.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
};

use hitscope_tests::{
    Daemon, Postgres, Via, assert_calls,
    calls::assert_tables_agree,
    calls_by_postgres, needs_probes, number,
    postgres::succeed,
    process::signal,
    raw::{self, Raw},
    wait_until,
};
use serde_json::Value;

const BOTH: &[&str] = &["server", "client"];

/// The hits whose operation is like this on a side, oldest first, as (status, error code, rows).
fn outcomes(daemon: &Daemon, side: &str, like: &str) -> Vec<(String, Option<String>, Option<u64>)> {
    let sql = format!(
        "SELECT status, error_code, rows FROM hits WHERE side = '{side}' AND operation LIKE '{like}' ORDER BY end_time"
    );
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let outcome = |row: &Value| {
        let rows = (!row["rows"].is_null()).then(|| number(&row["rows"]));
        (text(&row["status"]).expect("a status"), text(&row["error_code"]), rows)
    };
    daemon.query(&sql).iter().map(outcome).collect()
}

fn error(code: &str) -> (String, Option<String>, Option<u64>) {
    ("error".into(), Some(code.into()), None)
}

fn aborted() -> (String, Option<String>, Option<u64>) {
    ("aborted".into(), None, None)
}

fn ok(rows: u64) -> (String, Option<String>, Option<u64>) {
    ("ok".into(), None, Some(rows))
}

/// Starts a statement that sleeps, and returns its backend's process beside the client.
fn sleeper(postgres: &Postgres, via: Via, name: &str) -> (Child, u32) {
    let sql = format!("select pg_sleep(600) as {name}");
    let mut psql = postgres.psql_command(via);
    let client =
        psql.args(["--command", &sql]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql starts");
    let backend = wait_until("the statement runs", || {
        postgres
            .psql(&format!("select pid from pg_stat_activity where query = '{sql}' and state = 'active'"))
            .parse()
            .ok()
    });
    (client, backend)
}

#[test]
fn errors_have_their_sqlstate() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    for via in [Via::Socket, Via::Tcp] {
        postgres.psql_via(via, "create table if not exists once (a int primary key)");
        postgres.psql_via(via, "insert into once values (1) on conflict do nothing");
        for sql in ["select * from missing", "select 1 / 0 as never", "insert into once values (1)", "selec wrong"] {
            assert!(!postgres.psql_unchecked(via, sql).status.success());
        }
    }
    daemon.settle();
    for side in BOTH {
        assert_eq!(outcomes(&daemon, side, "select * from missing"), [error("42P01"), error("42P01")]);
        assert_eq!(outcomes(&daemon, side, "%as never"), [error("22012"), error("22012")]);
        assert_eq!(outcomes(&daemon, side, "insert into once values (?)"), [error("23505"), error("23505")]);
        assert_eq!(outcomes(&daemon, side, "selec %"), [error("42601"), error("42601")]);
        assert!(assert_tables_agree(&daemon, side).1 >= 8, "{side}");
    }
    let messages = daemon.query("SELECT error_message FROM hits WHERE error_code = '42P01'");
    assert!(messages.iter().all(|row| row["error_message"] == "relation \"missing\" does not exist"), "{messages:?}");
}

#[test]
fn ends_before_the_answer() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();

    let (mut client, backend) = sleeper(&postgres, Via::Tcp, "terminated");
    postgres.psql(&format!("select pg_terminate_backend({backend})"));
    client.wait().expect("psql ends");

    // psql sends a cancel request over a connection of its own.
    let (mut client, _) = sleeper(&postgres, Via::Socket, "cancelled");
    signal(client.id(), libc::SIGINT);
    client.wait().expect("psql ends");

    let (mut client, backend) = sleeper(&postgres, Via::Tcp, "client_killed");
    client.kill().expect("SIGKILL");
    client.wait().expect("psql ends");
    postgres.psql(&format!("select pg_cancel_backend({backend})"));

    let (mut client, backend) = sleeper(&postgres, Via::Tcp, "backend_killed");
    signal(backend, libc::SIGKILL);
    client.wait().expect("psql ends");

    daemon.settle();
    for side in BOTH {
        assert_eq!(outcomes(&daemon, side, "%as terminated"), [error("57P01")], "{side}");
        assert_eq!(outcomes(&daemon, side, "%as cancelled"), [error("57014")], "{side}");
    }
    assert_eq!(outcomes(&daemon, "client", "%as client_killed"), [aborted()]);
    assert_eq!(outcomes(&daemon, "server", "%as client_killed"), [error("57014")]);
    assert_eq!(outcomes(&daemon, "server", "%as backend_killed"), [aborted()]);
    // The postmaster may have told the client why, as another's crash is told: then it is an error.
    let client = outcomes(&daemon, "client", "%as backend_killed");
    assert!(client.len() == 1 && client[0].0 != "ok", "{client:?}");
}

#[test]
fn copy_in_and_out() {
    needs_probes!();
    let postgres = Postgres::start();
    postgres.psql("create table copied (a int, b text)");
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    for via in [Via::Socket, Via::Tcp] {
        let mut psql = postgres.psql_command(via);
        psql.args(["--command", "copy copied from stdin"]).stdin(Stdio::piped());
        let mut psql = psql.spawn().expect("psql starts");
        let mut input = psql.stdin.take().expect("a pipe");
        for number in 0..20_000 {
            writeln!(input, "{number}\tselect {number} from nowhere;").expect("psql reads");
        }
        drop(input);
        assert!(psql.wait().expect("psql ends").success());
        postgres.psql_via(via, "copy (select * from copied limit 15000) to stdout");
        assert!(!postgres.psql_unchecked(via, "copy missing from stdin").status.success());
        postgres.psql_via(via, "select 1 as after_copy");
    }
    assert_calls(&mut daemon, &calls_by_postgres(&postgres), BOTH);
    for side in BOTH {
        assert_eq!(outcomes(&daemon, side, "copy copied from%"), [ok(20_000), ok(20_000)], "{side}");
        assert_eq!(outcomes(&daemon, side, "copy (%"), [ok(15_000), ok(15_000)], "{side}");
        assert_eq!(outcomes(&daemon, side, "copy missing%"), [error("42P01"), error("42P01")], "{side}");
    }
}

#[test]
fn large_answers_and_statements() {
    needs_probes!();
    const STATEMENT: usize = 1_000_000;
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    for via in [Via::Socket, Via::Tcp] {
        let sql = "select repeat('x', 1000) as large from generate_series(1, 100000)";
        let mut psql = postgres.psql_command(via);
        assert!(psql.args(["--command", sql]).stdout(Stdio::null()).status().expect("psql starts").success());
        postgres.psql_via(via, "select 1 as after_large");

        let script = postgres.folder().join("large.sql");
        std::fs::write(&script, format!("select length('{}') as long_statement;", "y".repeat(STATEMENT)))
            .expect("a file");
        succeed(postgres.psql_command(via).arg("--file").arg(&script));
        postgres.psql_via(via, "select 1 as after_long");
    }
    daemon.settle();
    for side in BOTH {
        assert_eq!(outcomes(&daemon, side, "select repeat(%"), [ok(100_000), ok(100_000)], "{side}");
        assert_eq!(outcomes(&daemon, side, "select length(%"), [ok(1), ok(1)], "{side}");
        for after in ["%after_large", "%after_long"] {
            assert_eq!(outcomes(&daemon, side, after), [ok(1), ok(1)], "{side}, {after}");
        }
        let bytes = daemon.query(&format!(
            "SELECT max(response_bytes) AS answer, max(request_bytes) AS request FROM hits WHERE side = '{side}'"
        ));
        assert!(number(&bytes[0]["answer"]) > 100_000_000, "{side}: {bytes:?}");
        assert!(number(&bytes[0]["request"]) > STATEMENT as u64, "{side}: {bytes:?}");
    }
}

#[test]
fn several_statements_in_one_message() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    for via in [Via::Socket, Via::Tcp] {
        postgres.psql_via(via, "select 1 as multi_a; select 'a;b' as multi_b;; select 3 as multi_c");
        // The second fails, so the third never runs.
        let output = postgres.psql_unchecked(via, "select 1 as multi_d; select 1 / 0 as multi_e; select 1 as multi_f");
        assert!(!output.status.success());
    }
    assert_calls(&mut daemon, &calls_by_postgres(&postgres), BOTH);
    for side in BOTH {
        for (name, expected) in [("a", ok(1)), ("b", ok(1)), ("c", ok(1)), ("d", ok(1)), ("e", error("22012"))] {
            assert_eq!(outcomes(&daemon, side, &format!("%multi_{name}")), [expected.clone(), expected], "{side}");
        }
        assert_eq!(outcomes(&daemon, side, "%multi_f"), [], "{side}");
    }
}

#[test]
fn cursors_and_portals() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    let statements = [
        "begin",
        "declare c cursor for select generate_series(1, 100)",
        "fetch 10 from c",
        "fetch 20 from c",
        "close c",
        "commit",
    ];
    succeed(postgres.psql_command(Via::Tcp).args(statements.iter().flat_map(|sql| ["--command", sql])));

    let mut raw = Raw::connect(postgres.port());
    let sql = "select generate_series(1, 25) as portal";
    raw.send(&[raw::parse("", sql), raw::bind("p", ""), raw::execute("p", 10), raw::execute("p", 10)]);
    raw.send(&[raw::execute("p", 10), raw::sync()]);
    let kinds = raw.until_ready();
    assert_eq!(kinds.replace('D', ""), "12ssCZ");

    let mut calls = calls_by_postgres(&postgres);
    // PostgreSQL counts a portal once; hitscope also each time that it is resumed.
    calls.insert("<resumed>selectgenerate_series(?,?)".into(), 2);
    assert_calls(&mut daemon, &calls, BOTH);
    for side in BOTH {
        assert_eq!(outcomes(&daemon, side, "fetch %"), [ok(10), ok(20)], "{side}");
        assert_eq!(outcomes(&daemon, side, "select %as portal"), [ok(10)], "{side}");
        assert_eq!(outcomes(&daemon, side, "<resumed>%"), [ok(10), ok(5)], "{side}");
    }
}

#[test]
fn listen_and_notify() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    let mut listener = postgres.psql_command(Via::Tcp).stdin(Stdio::piped()).spawn().expect("psql starts");
    let input = listener.stdin.as_mut().expect("a pipe");
    input.write_all(b"listen channel;\n").expect("psql reads");
    wait_until("it listens", || calls_by_postgres(&postgres).contains_key("listenchannel").then_some(()));
    for _ in 0..5 {
        postgres.psql("notify channel, 'hello'");
    }
    input.write_all(b"select 1 as after_notify;\n").expect("psql reads");
    drop(listener.stdin.take());
    assert!(listener.wait().expect("psql ends").success());
    assert_calls(&mut daemon, &calls_by_postgres(&postgres), BOTH);
}

#[test]
fn garbage_does_no_harm() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    let mut random = vec![0; 4096];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).expect("random bytes");
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for garbage in [&random[..], &random[..7], http, &[0; 100], b"\0\0\0\x08\x04\xd2\x16\x2fX"] {
        for _ in 0..5 {
            let mut stream = TcpStream::connect(("127.0.0.1", postgres.port())).expect("PostgreSQL listens");
            // PostgreSQL may hang up at any time.
            let _ = stream.write_all(garbage);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    // Garbage after a proper start, too.
    let mut raw = Raw::connect(postgres.port());
    raw.send(&[b"Q\xff\xff\xff\xff".to_vec(), random.clone()]);
    drop(raw);
    postgres.psql_via(Via::Tcp, "select 1 as after_garbage");
    assert_calls(&mut daemon, &calls_by_postgres(&postgres), BOTH);
    assert!(daemon.ended().is_none());
}
