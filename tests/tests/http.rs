//! Every HTTP/1.1 request is a hit: hitscope's counts are the server's own.

use std::{collections::BTreeMap, fs, process::Command};

use hitscope_tests::{
    Daemon,
    calls::lost,
    host::{free_port, python},
    http, needs_probes,
    nginx::{Answers, Nginx, answer},
    number,
    postgres::succeed,
    server::{Server, folder},
};
use serde_json::Value;

/// Hits of one side of the connections to a port, as the kept ones and their weights count them.
fn answers_by_hits(daemon: &Daemon, side: &str, port: u16) -> Answers {
    let column = if side == "server" { "local_port" } else { "remote_port" };
    let rows = daemon.query(&format!(
        "SELECT operation, status, error_code, sum(weight) AS hits FROM hits WHERE protocol = 'http1' \
         AND side = '{side}' AND {column} = {port} GROUP BY operation, status, error_code"
    ));
    let answer = |row: &Value| {
        let text = |column: &str| row[column].as_str().expect("a text").to_owned();
        let status = if row["status"] == "error" { text("error_code") } else { text("status") };
        (format!("{} {status}", text("operation")), number(&row["hits"]))
    };
    rows.iter().map(answer).collect()
}

/// Both sides' hits are what the server counted.
fn assert_answers(daemon: &mut Daemon, expected: &Answers, sides: &[&str], port: u16) {
    daemon.settle();
    for side in sides {
        let answers = answers_by_hits(daemon, side, port);
        assert_eq!(&answers, expected, "{side}; lost: {}", lost(daemon));
    }
    println!("{} requests, {} kinds of answers: equal", expected.values().sum::<u64>(), expected.len());
}

fn curl(arguments: &[&str]) {
    succeed(
        Command::new("curl").args(["--silent", "--show-error", "--http1.1", "--output", "/dev/null"]).args(arguments),
    );
}

#[test]
fn curl_and_nginx() {
    needs_probes!();
    let nginx = Nginx::start();
    let mut daemon = Daemon::start();
    let upload = nginx.folder().join("upload");
    fs::write(&upload, vec![b'u'; 1 << 20]).expect("a file");
    let upload = format!("@{}", upload.display());
    for n in 0..20 {
        curl(&[&nginx.url(&format!("/items/{n}?page={n}"))]);
        curl(&["--head", &nginx.url("/small")]);
        curl(&[&nginx.url("/missing")]);
        curl(&[&nginx.url("/broken")]);
    }
    // On one connection.
    let urls: Vec<String> = (0..100).map(|n| nginx.url(&format!("/items/{n}"))).collect();
    let outputs = urls.iter().flat_map(|url| ["--output", "/dev/null", url]).collect::<Vec<_>>();
    curl(&outputs[2..]);
    for _ in 0..3 {
        // By sendfile; then what is sent after `100 Continue`, and in chunks.
        curl(&[&nginx.url("/large")]);
        curl(&["--header", "Expect: 100-continue", "--data-binary", &upload, &nginx.url("/upload")]);
        curl(&["--header", "Transfer-Encoding: chunked", "--data-binary", &upload, &nginx.url("/upload")]);
    }
    let expected = nginx.answers();
    assert_eq!(expected.get("GET /large ok"), Some(&3), "{expected:?}");
    assert_eq!(expected.get("GET /items/{id} ok"), Some(&120), "{expected:?}");
    assert_answers(&mut daemon, &expected, &["server", "client"], nginx.port());

    let rows = daemon.query(&format!(
        "SELECT side, operation, authority, request_bytes, response_bytes FROM hits WHERE protocol = 'http1' AND \
         (local_port = {0} OR remote_port = {0}) AND operation IN ('GET /large', 'POST /upload')",
        nginx.port()
    ));
    for row in rows {
        assert_eq!(row["authority"], nginx.address(), "{row}");
        let column = if row["operation"] == "GET /large" { "response_bytes" } else { "request_bytes" };
        assert!(number(&row[column]) >= 1 << 20, "{row}");
    }
}

#[test]
fn wrk_and_nginx() {
    needs_probes!();
    let nginx = Nginx::start();
    let mut daemon = Daemon::start();
    for path in ["/small", "/items/17", "/missing"] {
        let arguments = ["--threads", "1", "--connections", "8", "--duration", "2s"];
        succeed(Command::new("wrk").args(arguments).arg(nginx.url(path)));
    }
    let expected = nginx.answers();
    daemon.settle();
    let lost = lost(&daemon);
    for side in ["server", "client"] {
        let answers = answers_by_hits(&daemon, side, nginx.port());
        for (kind, count) in &expected {
            let answered = answers.get(kind).copied().unwrap_or_default();
            // wrk ends without reading what is still on its way, and such an answer's status stays unknown.
            let operation = kind.rsplit_once(' ').expect("an operation and a status").0;
            let aborted = answers.get(&format!("{operation} aborted")).copied().unwrap_or_default();
            println!("{side}: {kind}: nginx {count}, hitscope {answered} and {aborted} aborted");
            let hits = answered + aborted;
            // Each of its connections may leave a request that nginx never saw; what did not reach hitscope is counted.
            let missed = number(&lost["segment_ring_full"].as_u64().unwrap_or_default().into());
            assert!(count.abs_diff(hits) <= 8 + missed, "{side}: {answers:?}, nginx: {expected:?}, lost: {lost}");
        }
    }
}

#[test]
fn wrk_curl_and_node() {
    needs_probes!();
    let port = free_port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/server.mjs");
    let folder = folder("hitscope-node-", None);
    let mut command = Command::new("node");
    let mut node = Server::start(command.arg(script).arg(port.to_string()), libc::SIGTERM, &folder.path().join("log"));
    node.listens(port);
    let mut daemon = Daemon::start();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    for n in 0..30 {
        curl(&[&url(&format!("/users/{n}?tab=a")), "--output", "/dev/null", &url(&format!("/users/{n}/chunked"))]);
        curl(&["--data", "name=ann", &url("/upload")]);
        curl(&["--header", "Transfer-Encoding: chunked", "--data", "name=ann", &url("/upload")]);
        curl(&[&url("/missing"), "--output", "/dev/null", &url("/broken")]);
    }
    let counts = || http::get(&format!("127.0.0.1:{port}"), "/counts").expect("its counts").json();
    let expected: Answers = serde_json::from_value(counts()).expect("counts");
    daemon.settle();
    for side in ["server", "client"] {
        let mut answers = answers_by_hits(&daemon, side, port);
        answers.remove("GET /counts ok");
        assert_eq!(answers, expected, "{side}; lost: {}", lost(&daemon));
    }
    succeed(Command::new("wrk").args(["-t", "1", "-c", "4", "-d", "1s"]).arg(url("/users/5/chunked")));
    let expected: Answers = serde_json::from_value(counts()).expect("counts");
    daemon.settle();
    let kind = "GET /users/{id}/chunked ok";
    for side in ["server", "client"] {
        let hits = answers_by_hits(&daemon, side, port)[kind];
        println!("{side}: {kind}: Node.js {}, hitscope {hits}", expected[kind]);
        assert!(expected[kind].abs_diff(hits) <= 4, "{side}: {hits}, Node.js: {expected:?}, lost: {}", lost(&daemon));
    }
}

#[test]
fn aiohttp_on_both_sides() {
    needs_probes!();
    let port = free_port();
    let mut daemon = Daemon::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/asynchronous.py");
    succeed(Command::new(python()).arg(script).arg(port.to_string()));
    let expected =
        [("GET /items/{id} ok", 300), ("GET /stream ok", 50), ("GET /nothing/{id} 404", 50), ("POST /upload ok", 20)];
    let expected: Answers = expected.map(|(kind, count)| (kind.to_owned(), count)).into();
    assert_answers(&mut daemon, &expected, &["server", "client"], port);
}

/// Python's own server closes the connection after each answer, some of which end with it.
#[test]
fn pythons_http_server() {
    needs_probes!();
    let port = free_port();
    let folder = folder("hitscope-files-", None);
    fs::write(folder.path().join("page.html"), "hello").expect("a file");
    let mut command = Command::new(python());
    command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(folder.path()).arg(port.to_string());
    let mut python = Server::start(&mut command, libc::SIGTERM, &folder.path().join("log"));
    let address = format!("127.0.0.1:{port}");
    python.listens(port);
    let mut daemon = Daemon::start();
    for n in 0..20 {
        curl(&[&format!("http://{address}/page.html?{n}")]);
        curl(&[&format!("http://{address}/nothing/{n}")]);
        curl(&["--data", "a=b", &format!("http://{address}/")]);
    }
    let expected: BTreeMap<_, _> =
        [answer("GET", "/page.html", 200), answer("GET", "/nothing/1", 404), answer("POST", "/", 501)]
            .map(|kind| (kind, 20))
            .into();
    assert_answers(&mut daemon, &expected, &["server", "client"], port);
}
