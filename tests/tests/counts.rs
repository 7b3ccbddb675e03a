//! Every statement is a hit: hitscope's counts are PostgreSQL's own.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
};

use hitscope_tests::{
    Calls, Daemon, Postgres, Via, assert_calls, calls::normalise, calls_by_postgres, host::python, needs_probes,
    postgres::succeed, wait_until,
};

const BOTH: &[&str] = &["server", "client"];

#[test]
fn psql_over_socket_and_tcp() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    for via in [Via::Socket, Via::Tcp] {
        postgres.psql_via(via, "create table if not exists t (a int, b text)");
        for number in 0..20 {
            postgres.psql_via(via, &format!("insert into t values ({number}, 'it''s')"));
            postgres.psql_via(via, &format!("select a, b from t where a = {number} -- a comment"));
        }
    }
    assert_calls(&mut daemon, &calls_by_postgres(&postgres), BOTH);
}

fn pgbench(mode: &str, via: Via) {
    let postgres = Postgres::start();
    postgres.pgbench_init();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    succeed(&mut postgres.pgbench(via, &["-M", mode, "-c", "4", "-j", "2", "-t", "200"]));
    let mut calls = calls_by_postgres(&postgres);
    if mode == "prepared" {
        // Of a prepared BEGIN, pg_stat_statements 15 counts only the first use.
        calls.extend(["begin", "end"].map(|statement| (statement.to_owned(), 4 * 200)));
    }
    assert!(calls.values().sum::<u64>() >= 4 * 200 * 7, "{calls:?}");
    assert_calls(&mut daemon, &calls, BOTH);
}

#[test]
fn pgbench_simple_socket() {
    needs_probes!();
    pgbench("simple", Via::Socket);
}

#[test]
fn pgbench_simple_tcp() {
    needs_probes!();
    pgbench("simple", Via::Tcp);
}

#[test]
fn pgbench_extended_socket() {
    needs_probes!();
    pgbench("extended", Via::Socket);
}

#[test]
fn pgbench_extended_tcp() {
    needs_probes!();
    pgbench("extended", Via::Tcp);
}

#[test]
fn pgbench_prepared_socket() {
    needs_probes!();
    pgbench("prepared", Via::Socket);
}

#[test]
fn pgbench_prepared_tcp() {
    needs_probes!();
    pgbench("prepared", Via::Tcp);
}

/// Lets clients start and then wait for a lock, so that all their connections are open, and each has a statement running,
/// when hitscope starts.
fn pgbench_before_the_start(mode: &str, via: Via) {
    const CLIENTS: u64 = 4;
    const TRANSACTIONS: u64 = 100;
    let postgres = Postgres::start();
    let mut locker =
        postgres.psql_command(Via::Socket).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("psql starts");
    let key = locker.stdin.as_mut().expect("a pipe");
    key.write_all(b"begin;\nselect pg_advisory_xact_lock(1);\n").expect("psql reads");
    let waits = |locks: &str, count| {
        wait_until("the lock is taken", || {
            let found = postgres.psql(&format!("select count(*) from pg_locks where locktype = 'advisory' {locks}"));
            (found == count).then_some(())
        });
    };
    waits("and granted", "1");
    let script = postgres.folder().join("script.sql");
    std::fs::write(&script, "select pg_advisory_xact_lock_shared(1);\nselect 1 as after_gate;\n").expect("the script");
    let arguments = ["-M", mode, "-c", "4", "-j", "2", "-t", "100", "-f"];
    let mut load =
        postgres.pgbench(via, &arguments).arg(&script).stdout(Stdio::null()).spawn().expect("pgbench starts");
    waits("and not granted", "4");

    let mut daemon = Daemon::start();
    postgres.reset_calls();
    drop(locker.stdin.take());
    assert!(locker.wait().expect("psql ends").success() && load.wait().expect("pgbench ends").success());

    let mut calls = calls_by_postgres(&postgres);
    assert_eq!(calls.values().sum::<u64>(), 2 * CLIENTS * TRANSACTIONS, "{calls:?}");
    // Those that ran when hitscope started began before.
    *calls.get_mut("selectpg_advisory_xact_lock_shared(?)").expect("the first statement") -= CLIENTS;
    if mode == "prepared" {
        // The other one was prepared at its first use, which was later.
        let count = calls.remove("selectpg_advisory_xact_lock_shared(?)").expect("it was counted");
        calls.insert(normalise("<unresolved> P_0"), count);
    }
    assert_calls(&mut daemon, &calls, BOTH);
}

#[test]
fn connections_from_before_simple() {
    needs_probes!();
    pgbench_before_the_start("simple", Via::Socket);
    pgbench_before_the_start("simple", Via::Tcp);
}

#[test]
fn connections_from_before_extended() {
    needs_probes!();
    pgbench_before_the_start("extended", Via::Socket);
    pgbench_before_the_start("extended", Via::Tcp);
}

#[test]
fn connections_from_before_prepared() {
    needs_probes!();
    pgbench_before_the_start("prepared", Via::Socket);
    pgbench_before_the_start("prepared", Via::Tcp);
}

/// Of one connection, what was prepared before is known by its name only, and what is prepared after by its text.
#[test]
fn statements_prepared_before_and_after() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut client = postgres.client(python(), Via::Tcp);
    client.args(["-c", include_str!("../clients/prepared.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().expect("python starts");
    first_line(&mut client);
    let mut daemon = Daemon::start();
    writeln!(client.stdin.as_mut().expect("a pipe")).expect("python reads");
    assert!(client.wait().expect("python ends").success());
    let calls = [("<unresolved> _pg3_0", 50), ("select $1::int as late", 50)];
    let calls: Calls = calls.into_iter().map(|(text, count)| (normalise(text), count)).collect();
    assert_calls(&mut daemon, &calls, BOTH);
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    line
}

#[test]
fn two_hundred_clients_at_once() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    let start = |number| {
        let via = if number % 2 == 0 { Via::Socket } else { Via::Tcp };
        let mut psql = postgres.psql_command(via);
        psql.args(["--command", &format!("select {number} as parallel")]).stdout(Stdio::null()).spawn().expect("psql")
    };
    let clients: Vec<Child> = (0..200).map(start).collect();
    assert!(clients.into_iter().all(|mut client| client.wait().expect("psql ends").success()));
    let calls = calls_by_postgres(&postgres);
    assert_eq!(calls.get("select?"), Some(&200));
    assert_calls(&mut daemon, &calls, BOTH);
}

#[test]
fn pipelines() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    for via in [Via::Socket, Via::Tcp] {
        succeed(postgres.client(python(), via).args(["-c", include_str!("../clients/pipeline.py")]));
    }
    let calls = calls_by_postgres(&postgres);
    assert_eq!(calls.get("select?::int"), Some(&200), "{calls:?}");
    assert_calls(&mut daemon, &calls, BOTH);
    for side in BOTH {
        let rows = daemon.query(&format!(
            "SELECT operation, error_code FROM hits WHERE side = '{side}' AND status <> 'ok' AND operation LIKE '%error%'"
        ));
        let failed: Vec<_> = rows.iter().map(|row| (row["operation"].as_str(), row["error_code"].as_str())).collect();
        assert_eq!(failed, [(Some("select ? / ? as in_error"), Some("22012")); 2], "{side}");
        let skipped =
            daemon.query(&format!("SELECT * FROM hits WHERE side = '{side}' AND operation LIKE '%after_error%'"));
        assert!(skipped.is_empty(), "{skipped:?}");
    }
}

#[test]
fn postgres_restarted() {
    needs_probes!();
    let mut postgres = Postgres::start();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    for _ in 0..3 {
        for via in [Via::Socket, Via::Tcp] {
            postgres.psql_via(via, "select 1 as restarted");
        }
        // An orderly end keeps PostgreSQL's counts.
        postgres.stop();
        postgres.run();
    }
    let calls = calls_by_postgres(&postgres);
    assert_eq!(calls.get("select?"), Some(&6));
    assert_calls(&mut daemon, &calls, BOTH);
}
