//! What goes over TLS is read where programs hand it to their TLS library, and belongs to its socket.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use hitscope_tests::{
    Daemon, Mariadb, Postgres, Via, assert_calls, assert_calls_of,
    calls::{lost, normalise},
    calls_by_postgres,
    host::{free_port, python},
    needs_probes,
    nginx::{Answers, Nginx},
    number,
    postgres::succeed,
    process::signal,
    wait_until,
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

/// A certificate and its key, in a folder that every server may read.
fn certificate(folder: &std::path::Path) -> [String; 2] {
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.join(name).display().to_string());
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    succeed(openssl.args(["-keyout", &key, "-out", &certificate]));
    for (path, mode) in [(folder.to_str().expect("a path"), 0o755), (&key, 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("readable to all");
    }
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

/// A server that is stopped takes no request; what lies unread is encrypted.
#[test]
fn requests_lie_unread() {
    needs_probes!();
    let postgres = Postgres::with("ssl = on");
    let mut daemon = Daemon::start();
    let mut psql = postgres.psql_command(Via::Tcp);
    psql.env("PGSSLMODE", "require").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut psql = psql.spawn().expect("psql starts");
    let mut answers = BufReader::new(psql.stdout.take().expect("a pipe"));
    let mut answer = || {
        let mut line = String::new();
        answers.read_line(&mut line).expect("psql answers");
        line.trim().to_owned()
    };
    let mut ask = |sql: &str| psql.stdin.as_mut().expect("a pipe").write_all(sql.as_bytes()).expect("psql reads");
    ask("select pg_backend_pid() as at_once;\n");
    let backend = answer().parse().expect("a pid");
    signal(backend, libc::SIGSTOP);
    wait_until("the server is stopped", || {
        fs::read_to_string(format!("/proc/{backend}/stat")).ok()?.contains(") T ").then_some(())
    });
    ask("select 7 as later;\n");
    thread::sleep(Duration::from_millis(200));
    signal(backend, libc::SIGCONT);
    assert_eq!(answer(), "7");
    drop(psql.stdin.take());
    assert!(psql.wait().expect("psql ends").success());
    daemon.settle();
    let queued = |side: &str, operation: &str| {
        let rows = daemon.query(&format!(
            "SELECT queued_ns, encrypted FROM hits WHERE side = '{side}' AND operation LIKE '%{operation}'"
        ));
        assert!(rows.len() == 1 && rows[0]["encrypted"] == true, "{side} {operation}: {rows:?}");
        (!rows[0]["queued_ns"].is_null()).then(|| number(&rows[0]["queued_ns"]))
    };
    let (later, at_once) = (queued("server", "as later"), queued("server", "as at_once"));
    println!("queued_ns of later: {later:?}, of at_once: {at_once:?}");
    let Some(later) = later else {
        hitscope_tests::skip!("this kernel lacks the tracepoint sk_data_ready");
    };
    // It is sent some time after psql has read it.
    assert!(later >= 150_000_000 && at_once.is_some_and(|at_once| at_once < later), "{later}, {at_once:?}");
    assert_eq!(queued("client", "as later"), None);
}

/// MariaDB counts what its clients ask over TLS, and so does hitscope on both sides.
#[test]
fn mariadb() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [certificate, key] = certificate(folder.path());
    let options = [&format!("--ssl-cert={certificate}"), &format!("--ssl-key={key}"), "--require-secure-transport=ON"];
    let mariadb = Mariadb::with(&options);
    let mut daemon = Daemon::start();
    mariadb.count_calls();
    let run = |sql: &str| {
        let mut client = mariadb.mariadb(Via::Tcp);
        client.args(["--ssl", "shop", "--force", "--execute", sql]).stderr(Stdio::null());
        client.output().expect("mariadb starts")
    };
    run("create table t (a int, b text)");
    for number in 0..10 {
        let shown = run(&format!("insert into t values ({number}, 'its'); select a, b from t where a = {number}"));
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), format!("{number}\tits"));
        run("select nothing from t");
    }
    let cipher = run("show status like 'ssl_cipher'");
    assert!(String::from_utf8_lossy(&cipher.stdout).contains("TLS_"), "{cipher:?}");
    let python = "import sys, pymysql\n\
        c = pymysql.connect(host=sys.argv[1], port=int(sys.argv[2]), user='root', database='shop', ssl={'check_hostname': False})\n\
        for n in range(20):\n    with c.cursor() as k: k.execute('select a from t where a = %s', (n,))\n";
    succeed(&mut mariadb.python(python));
    let calls = mariadb.calls();
    assert_eq!(calls.get(&normalise("insert into t values (?, ?)")), Some(&10), "{calls:?}");
    assert_eq!(calls.get(&normalise("select a from t where a = ?")), Some(&20), "{calls:?}");
    assert_calls_of(&mut daemon, "mysql", &calls, BOTH);
    for side in BOTH {
        let found = encrypted(&daemon, side, "insert into t %", mariadb.port());
        assert_eq!(found, [(true, 10, 10)], "{side}; lost: {}", lost(&daemon));
        let failed = daemon.query(&format!(
            "SELECT error_code FROM hits WHERE side = '{side}' AND protocol = 'mysql' AND encrypted \
             AND operation = 'select nothing from t' AND status = 'error'"
        ));
        assert!(failed.len() == 10 && failed.iter().all(|row| row["error_code"] == "1054"), "{side}: {failed:?}");
    }
}

/// Encrypted hits on a port by operation, on one side: all of them, and those that were answered.
fn requests(daemon: &Daemon, side: &str, port: u16) -> BTreeMap<String, (u64, u64)> {
    let column = if side == "server" { "local_port" } else { "remote_port" };
    let rows = daemon.query(&format!(
        "SELECT operation, sum(weight) AS hits, sum(CASE WHEN status = 'aborted' THEN 0 ELSE weight END) AS answered \
         FROM hits WHERE protocol = 'http1' AND encrypted AND side = '{side}' AND {column} = {port} GROUP BY operation"
    ));
    let row = |row: &serde_json::Value| {
        let operation = row["operation"].as_str().expect("a text").to_owned();
        (operation, (number(&row["hits"]), number(&row["answered"])))
    };
    rows.iter().map(row).collect()
}

/// An nginx that answers on a second port over TLS, and that port.
fn nginx(folder: &std::path::Path) -> (Nginx, u16) {
    let ([certificate, key], port) = (certificate(folder), free_port());
    let nginx = Nginx::with(
        "",
        &format!("listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"),
    );
    (nginx, port)
}

/// What nginx counted, without the statuses.
fn counted(answers: &Answers) -> BTreeMap<String, (u64, u64)> {
    let mut counted = BTreeMap::new();
    for (answer, count) in answers {
        let (operation, _) = answer.rsplit_once(' ').expect("an operation and a status");
        let entry: &mut (u64, u64) = counted.entry(operation.to_owned()).or_default();
        *entry = (entry.0 + count, entry.1 + count);
    }
    counted
}

/// By curl (OpenSSL) and wget (GnuTLS): keep-alive, large answers, uploads, errors.
#[test]
fn nginx_and_its_clients() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (nginx, port) = nginx(folder.path());
    let mut daemon = Daemon::start();
    let upload = nginx.folder().join("upload");
    fs::write(&upload, vec![b'u'; 1 << 20]).expect("a file");
    let upload = format!("@{}", upload.display());
    let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--insecure", "--http1.1", "--output", "/dev/null"]);
        succeed(curl.args(arguments));
    };
    for n in 0..10 {
        curl(&[&url(&format!("/items/{n}?page={n}"))]);
        curl(&[&url("/missing")]);
        let mut wget = Command::new("wget");
        wget.args(["--quiet", "--no-check-certificate", "--output-document=/dev/null"]);
        succeed(wget.args([url("/small"), url(&format!("/items/{n}"))]));
    }
    // On one connection.
    let urls: Vec<String> = (0..50).map(|n| url(&format!("/items/{n}"))).collect();
    let outputs = urls.iter().flat_map(|url| ["--output", "/dev/null", url]).collect::<Vec<_>>();
    curl(&outputs[2..]);
    for _ in 0..3 {
        curl(&[&url("/large")]);
        curl(&["--header", "Expect:", "--data-binary", &upload, &url("/upload")]);
    }
    let expected = counted(&nginx.answers());
    assert_eq!(expected.get("GET /items/{id}"), Some(&(70, 70)), "{expected:?}");
    daemon.settle();
    for side in BOTH {
        assert_eq!(requests(&daemon, side, port), expected, "{side}; lost: {}", lost(&daemon));
    }
    let missing = daemon.query(&format!(
        "SELECT DISTINCT side, status, error_code FROM hits WHERE operation = 'GET /missing' AND encrypted \
         AND (local_port = {port} OR remote_port = {port})"
    ));
    assert!(missing.len() == 2 && missing.iter().all(|row| row["error_code"] == "404"), "{missing:?}");
}

/// Under load: each request that nginx counted is a hit of its side.
#[test]
fn nginx_and_wrk() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (nginx, port) = nginx(folder.path());
    let mut daemon = Daemon::start();
    let arguments = ["-t", "1", "-c", "8", "-d", "2s"];
    succeed(Command::new("wrk").args(arguments).arg(format!("https://127.0.0.1:{port}/items/5")));
    let expected = counted(&nginx.answers())["GET /items/{id}"].0;
    daemon.settle();
    for side in BOTH {
        let found = requests(&daemon, side, port);
        let (hits, answered) = found["GET /items/{id}"];
        println!("{side}: nginx {expected}, hitscope {hits}, {answered} of them answered");
        let lost = lost(&daemon);
        let missed: u64 = lost.as_object().into_iter().flatten().map(|(_, count)| number(count)).sum();
        // Each of its connections may leave a request that nginx never saw; what did not reach hitscope is counted.
        assert!(expected > 100 && expected.abs_diff(hits) <= 8 + missed, "{side}: {found:?}, lost: {lost}");
    }
}

/// Go brings a TLS of its own: its server is read, and of itself it is said why not.
#[test]
fn go_cannot_be_read() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_nginx, port) = nginx(folder.path());
    let mut daemon = Daemon::start();
    // It keeps running while hitscope looks at it.
    let mut hey = Command::new("hey");
    hey.args(["-disable-compression", "-c", "2", "-q", "10", "-n", "60"]);
    hey.arg(format!("https://127.0.0.1:{port}/items/9")).stdout(Stdio::null());
    let mut hey = hey.spawn().expect("hey starts");
    let pid = hey.id();
    assert!(hey.wait().expect("hey ends").success());
    daemon.settle();
    let found = requests(&daemon, "server", port);
    assert_eq!(found.get("GET /items/{id}"), Some(&(60, 60)), "lost: {}", lost(&daemon));
    assert!(requests(&daemon, "client", port).is_empty());
    let told = daemon.query(&format!("SELECT detail FROM events WHERE kind = 'lost' AND pid = {pid}"));
    let detail = told[0]["detail"].as_str().expect("a text");
    assert!(detail.starts_with("encrypted, not readable, because Go does TLS by itself"), "{detail}");
    let status = daemon.status().expect("a status");
    assert!(number(&status["lost"]["encrypted_unreadable"]) >= 2, "{status}");
}

/// Where the kernel has links of many places (6.6 on), nothing is attached place by place, which would take seconds to end.
#[test]
fn links_are_of_many_places() {
    needs_probes!();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(6)) {
        hitscope_tests::skip!("this kernel has no such links");
    }
    let daemon = Daemon::start();
    let descriptors = fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).expect("its descriptors");
    let texts: Vec<String> = descriptors.filter_map(|it| fs::read_to_string(it.ok()?.path()).ok()).collect();
    let of = |kind: &str| texts.iter().filter(|text| text.contains(&format!("link_type:\t{kind}"))).count();
    // The probe `sched` has a perf event on each CPU.
    let cpus = thread::available_parallelism().expect("the number of CPUs").get();
    assert!(of("uprobe_multi") > 0 && of("perf") <= cpus, "{texts:?}");
}

/// Killed while it lets go of the libraries, which processes use meanwhile, it leaves nothing behind in them.
#[test]
fn killed_while_it_ends() {
    needs_probes!();
    let leaks = || {
        let log = succeed(&mut Command::new("dmesg"));
        String::from_utf8_lossy(&log.stdout).matches("leaking uprobe").count()
    };
    let postgres = Postgres::with("ssl = on");
    let mut psql = postgres.psql_command(Via::Tcp);
    psql.env("PGSSLMODE", "require").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut psql = psql.spawn().expect("psql starts");
    let before = leaks();
    for wait in [0, 20, 60] {
        let mut daemon = Daemon::start();
        signal(daemon.pid(), libc::SIGTERM);
        thread::sleep(Duration::from_millis(wait));
        daemon.kill();
    }
    assert_eq!(leaks(), before);
    drop(psql.stdin.take());
    assert!(psql.wait().expect("psql ends").success());
}

/// A web server in Node.js, asked by curl.
#[test]
fn node_serves_https() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Command::new("node");
    node.args(["-e", include_str!("../clients/tls_https.js"), "--"]).args(certificate(folder.path()));
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node starts");
    let mut line = String::new();
    BufReader::new(node.stdout.take().expect("a pipe")).read_line(&mut line).expect("a port");
    let port: u16 = line.trim().parse().expect("a port");
    let mut daemon = Daemon::start();
    for n in 0..10 {
        let urls = [0, 1, 2].map(|item| format!("https://127.0.0.1:{port}/node/{}", 3 * n + item));
        let outputs = urls.iter().flat_map(|url| ["--output", "/dev/null", url]);
        succeed(Command::new("curl").args(["--silent", "--show-error", "--insecure", "--http1.1"]).args(outputs));
    }
    daemon.settle();
    for side in BOTH {
        let found = requests(&daemon, side, port);
        assert_eq!(found.get("GET /node/{id}"), Some(&(30, 30)), "{side}; lost: {}", lost(&daemon));
    }
    drop(node.stdin.take());
    assert!(node.wait().expect("node ends").success());
}
