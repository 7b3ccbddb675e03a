//! What goes over TLS is read where programs hand it to their TLS library, and belongs to its socket.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use hitscope_tests::{
    Daemon, Postgres, Via, assert_calls, calls::lost, calls_by_postgres, host::python, needs_probes, number,
    postgres::succeed, wait_until,
};

const BOTH: &[&str] = &["server", "client"];

/// Hits of an operation on one side, by whether they were encrypted: count, and how many name the server's port where it
/// belongs.
fn encrypted(daemon: &Daemon, side: &str, operation: &str, port: u16) -> Vec<(bool, u64, u64)> {
    let column = if side == "server" { "local_port" } else { "remote_port" };
    let rows = daemon.query(&format!(
        "SELECT encrypted, sum(weight) AS hits, \
         sum(CASE WHEN {column} = {port} AND remote_address = '127.0.0.1' THEN weight ELSE 0 END) AS ours \
         FROM hits WHERE side = '{side}' AND operation LIKE '{operation}' GROUP BY encrypted ORDER BY encrypted"
    ));
    let row = |row: &serde_json::Value| (row["encrypted"] == true, number(&row["hits"]), number(&row["ours"]));
    rows.iter().map(row).collect()
}

fn pgbench(mode: &str, more: &[&str]) {
    let postgres = Postgres::with("ssl = on");
    postgres.pgbench_init();
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    let mut load = postgres.pgbench(Via::Tcp, &["-M", mode, "-c", "4", "-j", "2", "-t", "100"]);
    succeed(load.args(more).env("PGSSLMODE", "require"));
    let mut calls = calls_by_postgres(&postgres);
    if mode == "prepared" {
        // Of a prepared BEGIN, pg_stat_statements 15 counts only the first use.
        calls.extend(["begin", "end"].map(|statement| (statement.to_owned(), 4 * 100)));
    }
    assert!(calls.values().sum::<u64>() >= 4 * 100 * 7, "{calls:?}");
    assert_calls(&mut daemon, &calls, BOTH);
    for side in BOTH {
        let found = encrypted(&daemon, side, "%pgbench_tellers%", postgres.port());
        assert_eq!(found, [(true, 400, 400)], "{side}; lost: {}", lost(&daemon));
    }
    let status = daemon.status().expect("a status");
    assert!(number(&status["counters"]["connections_decrypted"]) >= 8, "{status}");
}

#[test]
fn pgbench_simple() {
    needs_probes!();
    pgbench("simple", &[]);
}

#[test]
fn pgbench_prepared() {
    needs_probes!();
    pgbench("prepared", &[]);
}

#[test]
fn pgbench_connection_for_each_transaction() {
    needs_probes!();
    pgbench("simple", &["--connect"]);
}

/// Server and clients start after hitscope, and the first connection counts.
#[test]
fn from_the_first_connection() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let postgres = Postgres::with("ssl = on");
    for number in 0..10 {
        let mut psql = postgres.psql_command(Via::Tcp);
        psql.env("PGSSLMODE", "require").args(["--command", &format!("select {number} as first_one")]);
        succeed(&mut psql);
    }
    postgres.psql_via(Via::Socket, "select 1 as plain_one");
    daemon.settle();
    for side in BOTH {
        let found = encrypted(&daemon, side, "%first_one", postgres.port());
        assert_eq!(found, [(true, 10, 10)], "{side}; lost: {}", lost(&daemon));
        assert!(matches!(encrypted(&daemon, side, "%plain_one", 0)[..], [(false, 1, _)]), "{side}");
    }
}

/// Answers and requests of many pieces, longer than what is captured of them.
#[test]
fn long_answers() {
    needs_probes!();
    let postgres = Postgres::with("ssl = on");
    let mut daemon = Daemon::start();
    postgres.reset_calls();
    let long = format!("select '{}' as long_request", "x".repeat(100_000));
    let sql =
        ["select repeat('x', 1000) as long_answer from generate_series(1, 3000)", &long, "select 1 as after_long"];
    for _ in 0..3 {
        let mut psql = postgres.psql_command(Via::Tcp);
        psql.env("PGSSLMODE", "require").args(sql.iter().flat_map(|sql| ["--command", sql]));
        succeed(psql.stdout(Stdio::null()));
    }
    daemon.settle();
    for side in BOTH {
        for (operation, rows) in [("%long_answer%", 3000), ("%after_long", 1)] {
            assert_eq!(encrypted(&daemon, side, operation, postgres.port()), [(true, 3, 3)], "{side} {operation}");
            let found = daemon.query(&format!(
                "SELECT DISTINCT rows FROM hits WHERE side = '{side}' AND operation LIKE '{operation}'"
            ));
            assert!(found.len() == 1 && number(&found[0]["rows"]) == rows, "{side} {operation}: {found:?}");
        }
    }
}

/// psycopg's wheel has a libssl of its own, here in a file system that only its process sees.
#[test]
fn a_library_in_another_mount_namespace() {
    needs_probes!();
    let postgres = Postgres::with("ssl = on");
    let mut daemon = Daemon::start();
    let wheels = succeed(Command::new(python()).args(["-c", "import psycopg; print(psycopg.__path__[0] + '/..')"]));
    let wheels = String::from_utf8(wheels.stdout).expect("a path");
    let mut client = Command::new("unshare");
    postgres.reaches(&mut client, Via::Tcp);
    client.args(["--mount", "sh", "-ec"]).arg(
        "mount -t tmpfs none /mnt; cp -r \"$1\"/psycopg* \"$1\"/typing_extensions* /mnt; \
         PYTHONPATH=/mnt exec \"$2\" -c \"$3\"",
    );
    client.args(["sh", wheels.trim()]).arg(python()).arg(include_str!("../clients/tls.py"));
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts");
    let mut answers = BufReader::new(client.stdout.take().expect("a pipe"));
    let mut once = || {
        writeln!(client.stdin.as_mut().expect("a pipe")).expect("python reads");
        answers.read_line(&mut String::new()).expect("python answers");
    };
    // The library is found some time after it was loaded.
    wait_until("the client's library is found", || {
        once();
        (!daemon.query("SELECT 1 FROM hits WHERE side = 'client' AND operation LIKE '%bundled'").is_empty())
            .then_some(())
    });
    daemon.settle();
    let before = encrypted(&daemon, "client", "%bundled", postgres.port())[0];
    (0..5).for_each(|_| once());
    daemon.settle();
    let after = encrypted(&daemon, "client", "%bundled", postgres.port());
    assert_eq!(after, [(true, before.1 + 5, before.2 + 5)]);
    drop(client.stdin.take());
    assert!(client.wait().expect("python ends").success());
}

/// A hello by hand, from a program without a TLS library.
const HELLO: &str = "
import socket, sys, time
listener = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.sendall(bytes([22, 3, 1, 0, 200]) + bytes(200))
server.recv(1000)
print('sent', flush=True)
sys.stdin.readline()
";

#[test]
fn what_cannot_be_read_says_why() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let mut stranger = Command::new(python());
    stranger.args(["-c", HELLO]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stranger = stranger.spawn().expect("python starts");
    let pid = stranger.id();
    BufReader::new(stranger.stdout.take().expect("a pipe")).read_line(&mut String::new()).expect("a line");
    let told = daemon.wait_for(&format!("SELECT detail FROM events WHERE kind = 'lost' AND pid = {pid}"));
    let detail = told[0]["detail"].as_str().expect("a text");
    assert!(
        detail.starts_with("encrypted, not readable, because its TLS library is linked in without symbols"),
        "{detail}"
    );
    daemon.settle();
    let status = daemon.status().expect("a status");
    assert!(number(&status["counters"]["connections_unreadable"]) >= 2, "{status}");
    assert!(number(&status["lost"]["encrypted_unreadable"]) >= 2, "{status}");
    let notes = status["notes"].as_array().expect("notes");
    assert!(
        notes.iter().any(|note| note.as_str().is_some_and(|note| note.contains(&format!("process {pid}")))),
        "{notes:?}"
    );
    drop(stranger.stdin.take());
    assert!(stranger.wait().expect("python ends").success());
}

/// With the probe left off, encrypted connections are counted, and what is not encrypted is decoded all the same.
#[test]
fn without_the_probe() {
    needs_probes!();
    let postgres = Postgres::with("ssl = on");
    let mut daemon = Daemon::with("[probes]\ndisabled = [\"tls\"]\n");
    for _ in 0..5 {
        let mut psql = postgres.psql_command(Via::Tcp);
        succeed(psql.env("PGSSLMODE", "require").args(["--command", "select 1 as secret_off"]));
    }
    postgres.psql_via(Via::Socket, "select 1 as plain_off");
    daemon.settle();
    for side in BOTH {
        assert_eq!(encrypted(&daemon, side, "%secret_off", postgres.port()), [], "{side}");
        assert!(matches!(encrypted(&daemon, side, "%plain_off", 0)[..], [(false, 1, _)]), "{side}");
    }
    let status = daemon.status().expect("a status");
    // Both ends of each.
    assert!(number(&status["counters"]["connections_unreadable"]) >= 10, "{status}");
    let told = daemon.query("SELECT detail FROM events WHERE detail LIKE '%the probe tls does not run%'");
    assert!(!told.is_empty());
}

fn certificate(folder: &std::path::Path) -> [String; 2] {
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.join(name).display().to_string());
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    succeed(openssl.args(["-keyout", &key, "-out", &certificate]));
    [certificate, key]
}

/// Hits on one side, and how many name the port where it belongs.
fn redis(daemon: &Daemon, side: &str, operation: &str, port: u16) -> Vec<(bool, u64, u64)> {
    encrypted(daemon, side, &format!("%{operation}%"), port)
}

/// asyncio hands OpenSSL memory and moves the bytes itself, of many connections by turns, and of both sides here.
#[test]
fn connections_through_memory() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = Daemon::start();
    let mut python = Command::new(python());
    python.args(["-c", include_str!("../clients/tls_memory.py")]).args(certificate(folder.path()));
    let port = String::from_utf8(succeed(&mut python).stdout).expect("a port").trim().parse().expect("a port");
    daemon.settle();
    for side in BOTH {
        assert_eq!(redis(&daemon, side, "tls_memory", port), [(true, 60, 60)], "{side}; lost: {}", lost(&daemon));
    }
}

/// Node.js exports the OpenSSL that is linked into it.
#[test]
fn a_library_within_the_program() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Command::new("node");
    node.args(["-e", include_str!("../clients/tls_node.js"), "--"]).args(certificate(folder.path()));
    let Ok(mut node) = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        hitscope_tests::skip!("node is not installed");
    };
    let mut answers = BufReader::new(node.stdout.take().expect("a pipe"));
    let mut line = String::new();
    answers.read_line(&mut line).expect("a port");
    let port = line.trim().parse().expect("a port");
    // It runs before hitscope starts, as servers do.
    let mut daemon = Daemon::start();
    writeln!(node.stdin.as_mut().expect("a pipe")).expect("node reads");
    answers.read_line(&mut line).expect("an answer");
    daemon.settle();
    for side in BOTH {
        assert_eq!(redis(&daemon, side, "tls_node", port), [(true, 20, 20)], "{side}; lost: {}", lost(&daemon));
    }
    drop(node.stdin.take());
    assert!(node.wait().expect("node ends").success());
}
