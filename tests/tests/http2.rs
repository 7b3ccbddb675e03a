//! HTTP/2 and gRPC in plain text: hits are what nginx logs, or what the clients count themselves.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hitscope_tests::{
    Daemon,
    calls::lost,
    host::python,
    needs_probes,
    nginx::{self, Nginx},
    number,
    postgres::succeed,
    skip,
    talk::Talker,
};
use serde_json::{Value, json};

/// How often, by operation and status.
type Counts = BTreeMap<String, u64>;

/// Hits of a server's port on one side: `ok`, `aborted` or the error's code behind the operation.
fn hits(daemon: &Daemon, side: &str, port: u16, protocol: &str) -> Counts {
    let column = if side == "server" { "local_port" } else { "remote_port" };
    let rows = daemon.query(&format!(
        "SELECT operation, status, coalesce(error_code, '') AS error_code, sum(weight) AS hits FROM hits \
         WHERE side = '{side}' AND {column} = {port} AND protocol = '{protocol}' GROUP BY 1, 2, 3"
    ));
    let mut counts = Counts::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().expect("a text").to_owned();
        let status = if text("status") == "error" { text("error_code") } else { text("status") };
        *counts.entry(format!("{} {status}", text("operation"))).or_default() += number(&row["hits"]);
    }
    counts
}

/// Both sides' hits are those expected; prints how many, and each difference.
fn assert_hits(daemon: &mut Daemon, port: u16, protocol: &str, sides: &[&str], expected: &Counts) {
    daemon.settle();
    for side in sides {
        let found = hits(daemon, side, port, protocol);
        for (what, count) in expected.iter().chain(&found) {
            let (expected, found) = (expected.get(what).unwrap_or(&0), found.get(what).unwrap_or(&0));
            if expected != found {
                println!("{side}: {what}: {found} hits of {expected}, of {count}");
            }
        }
        assert_eq!(&found, expected, "{side}; lost: {}", lost(daemon));
        println!("{side}: {} hits of {} operations: equal", found.values().sum::<u64>(), found.len());
    }
}

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

fn start(program: impl AsRef<std::ffi::OsStr>, script: &str, arguments: &[&str]) -> Talker {
    let script = client(script).display().to_string();
    Talker::start(program, &[&[&*script], arguments].concat())
}

/// A server that says its port first.
fn serve(program: impl AsRef<std::ffi::OsStr>, script: &str) -> (Talker, u16) {
    let mut server = start(program, script, &[]);
    let port = server.hear()["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    (server, port)
}

/// What a client counted, with errors as hits have them.
fn counts(counted: &Value) -> Counts {
    let status = |key: &str| {
        let (what, status) = key.rsplit_once(' ').expect("a status");
        let status = match status {
            "OK" => "ok".to_owned(),
            "reset" => "aborted".to_owned(),
            status if status.parse().is_ok_and(|status: u16| status < 400) => "ok".to_owned(),
            status => status.to_owned(),
        };
        format!("{what} {status}")
    };
    let mut counts = Counts::new();
    for (key, count) in counted.as_object().expect("an object") {
        *counts.entry(status(key)).or_default() += number(count);
    }
    counts
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Of what a connection moves in one direction without a turn beyond `capture_bytes`, frames go uncaptured.
const WHOLE: &str = "[probes]\ncapture_bytes = 16777216\n";

#[test]
fn nginx_under_h2load() {
    needs_probes!();
    if let Some(reason) = missing() {
        skip!(reason);
    }
    let nginx = Nginx::with("http2", "");
    let mut daemon = Daemon::start();
    let paths = ["/small", "/items/17?a=b", "/items/18", "/missing", "/broken"];
    let urls = paths.map(|path| nginx.url(path));
    let mut all = 0;
    for (arguments, requests) in [(["-c", "1", "-m", "1"], 500), (["-c", "4", "-m", "32"], 10_000)] {
        succeed(Command::new("h2load").args(arguments).args(["-n", &requests.to_string()]).args(&urls));
        all += requests;
    }
    nginx.logs(all as usize);
    let expected = nginx.answers();
    assert_eq!(expected.values().sum::<u64>(), all);
    assert_hits(&mut daemon, nginx.port(), "http2", &["server", "client"], &expected);
}

/// Answers of 1 MiB, of which most goes uncaptured, by writev and by sendfile.
#[test]
fn large_answers_of_nginx() {
    needs_probes!();
    if let Some(reason) = missing() {
        skip!(reason);
    }
    let nginx = Nginx::with("http2", "location /copied { sendfile off; }");
    let files = nginx.folder().join("files");
    for name in ["copied", "sent"] {
        fs::write(files.join(name), vec![b'x'; 1 << 20]).expect("a file");
    }
    let mut daemon = Daemon::with("[probes]\nring_buffer_bytes = 67108864\n");
    let (mut alone, mut all) = (0, 0);
    for (streams, requests) in [("1", 40), ("10", 100)] {
        for name in ["copied", "sent"] {
            let url = format!("http://127.0.0.1:{}/{name}", nginx.port());
            succeed(Command::new("h2load").args(["-c", "1", "-m", streams, "-n", &requests.to_string(), &url]));
            all += requests;
            alone += if streams == "1" { requests } else { 0 };
        }
    }
    nginx.logs(all as usize);
    let expected = nginx.answers();
    assert_eq!(expected.values().sum::<u64>(), all);
    // Who writes says of each frame where it begins.
    assert_hits(&mut daemon, nginx.port(), "http2", &["server"], &expected);
    let bytes = daemon.query(&format!(
        "SELECT min(response_bytes) AS least, max(response_bytes) AS most FROM hits WHERE local_port = {}",
        nginx.port()
    ));
    assert!(number(&bytes[0]["least"]) > 1 << 20 && number(&bytes[0]["most"]) < (1 << 20) + (16 << 10), "{bytes:?}");
    // Who reads gets them anywhere in its buffers: an answer that is alone ends by its length, of those side by side some ends
    // are not captured.
    let found = hits(&daemon, "client", nginx.port(), "http2");
    let missed = lost(&daemon)["answer_missed"].as_u64().unwrap_or_default();
    let count = found.values().sum::<u64>();
    println!("client: {count} hits of {all}, {missed} counted as lost: {found:?}");
    assert!(found.iter().all(|(what, count)| expected.get(what).is_some_and(|all| count <= all)), "{found:?}");
    assert!(count >= alone && count + missed >= all, "lost: {}", lost(&daemon));
}

/// What is not installed, if so.
fn missing() -> Option<&'static str> {
    match () {
        () if !Path::new(nginx::PROGRAM).exists() => Some("no nginx: install nginx-light"),
        () if !runs("h2load") => Some("no h2load: install nghttp2-client"),
        () => None,
    }
}

#[test]
fn node_both_sides_and_connections_before_the_start() {
    needs_probes!();
    if !runs("node") {
        skip!("no node");
    }
    let (mut server, port) = serve("node", "http2_server.mjs");
    let mut early = start("node", "http2_client.mjs", &[&format!("http://127.0.0.1:{port}")]);
    let known = json!([["GET", "/", 3, 1], ["GET", "/known", 5, 5]]);
    early.tell(&known.to_string());
    let mut daemon = Daemon::start();
    // What was said before cannot be known; what is new is.
    let mut expected = counts(&early.tell(&json!([["GET", "/new", 1, 1], ["GET", "/new", 40, 10]]).to_string()));
    assert_hits(&mut daemon, port, "http2", &["server", "client"], &expected);
    let unknown = counts(&early.tell(&json!([["GET", "/known", 50, 10]]).to_string()));
    daemon.settle();
    for side in ["server", "client"] {
        let found = hits(&daemon, side, port, "http2");
        let right = ["GET /new ok", "GET /known ok", "GET <unresolved> ok"];
        assert!(found.keys().all(|what| right.contains(&&**what)), "{side}: {found:?}");
        let total = expected.values().chain(unknown.values()).sum::<u64>();
        assert_eq!(found.values().sum::<u64>(), total, "{side}: {found:?}; lost: {}", lost(&daemon));
        println!("{side}, met in the middle: {found:?}");
    }
    // A connection that is seen whole, on another port so that the counts are its own.
    let (mut second, port) = serve("node", "http2_server.mjs");
    let mut late = start("node", "http2_client.mjs", &[&format!("http://127.0.0.1:{port}")]);
    expected = counts(
        &late.tell(
            &json!([
                ["GET", "/", 100, 5],
                ["GET", "/missing", 20, 5],
                ["PUT", "/broken", 10, 5],
                ["POST", "/upload", 20, 4],
                ["GET", "/large", 12, 4],
                ["GET", "/reset", 5, 1],
                ["DELETE", "/orders/1234", 30, 6],
            ])
            .to_string(),
        ),
    );
    let deleted = expected.remove("DELETE /orders/1234 ok").expect("deleted");
    expected.insert("DELETE /orders/{id} ok".into(), deleted);
    assert_hits(&mut daemon, port, "http2", &["server", "client"], &expected);
    // Where part of an upload went uncaptured, what the tables of headers hold is not known for sure.
    let known = format!("SELECT DISTINCT authority FROM hits WHERE local_port = {port} AND authority IS NOT NULL");
    let rows = daemon.query(&known);
    assert_eq!(rows, [json!({ "authority": format!("127.0.0.1:{port}") })]);
    for client in [&mut early, &mut late, &mut server, &mut second] {
        client.end();
    }
}

#[test]
fn grpc_calls() {
    needs_probes!();
    let (mut server, port) = serve(python(), "grpc_server.py");
    let address = format!("127.0.0.1:{port}");
    let mut early = start(python(), "grpc_client.py", &[&address]);
    early.tell(&json!([["Get", 5, 1]]).to_string());
    let mut daemon = Daemon::with(WHOLE);
    let mut late = start(python(), "grpc_client.py", &[&address]);
    let methods = [
        ("Get", 300, 1),
        ("Get", 500, 16),
        ("List", 40, 8),
        ("Upload", 40, 1),
        ("Chat", 40, 2),
        ("Missing", 30, 5),
        ("Fail", 10, 5),
        ("Nowhere", 5, 1),
    ];
    let expected = counts(&late.tell(&json!(methods).to_string()));
    assert!(expected.contains_key("/shop.v1.Catalog/Nowhere UNIMPLEMENTED"), "{expected:?}");
    assert_hits(&mut daemon, port, "grpc", &["server", "client"], &expected);
    let message = daemon.query(&format!(
        "SELECT DISTINCT error_message FROM hits WHERE local_port = {port} AND error_code = 'NOT_FOUND'"
    ));
    assert_eq!(message, [json!({ "error_message": "no item \"?\": ä" })]);

    // A deadline: the client gives up, and the server may say so, too.
    let gave_up = counts(&late.tell(&json!([["Slow", 4, 4]]).to_string()));
    assert_eq!(gave_up, Counts::from([("/shop.v1.Catalog/Slow DEADLINE_EXCEEDED".into(), 4)]));
    daemon.settle();
    for side in ["server", "client"] {
        let found = hits(&daemon, side, port, "grpc");
        let slow = ["aborted", "DEADLINE_EXCEEDED"].map(|status| found.get(&format!("/shop.v1.Catalog/Slow {status}")));
        assert_eq!(slow.into_iter().flatten().sum::<u64>(), 4, "{side}: {found:?}");
    }

    // The other connection was there before: what it says for the first time is known, all is counted.
    let before: Counts = [hits(&daemon, "server", port, "grpc"), hits(&daemon, "client", port, "grpc")]
        .iter()
        .zip(["server", "client"])
        .map(|(found, side)| (side.to_owned(), found.values().sum()))
        .collect();
    let told = counts(&early.tell(&json!([["Get", 100, 10], ["GetAgain", 50, 10], ["Missing", 20, 5]]).to_string()));
    daemon.settle();
    for side in ["server", "client"] {
        let found = hits(&daemon, side, port, "grpc");
        println!("{side}, met in the middle: {found:?}");
        assert_eq!(found.values().sum::<u64>() - before[side], told.values().sum::<u64>(), "{side}: {found:?}");
        assert_eq!(found.get("/shop.v1.Catalog/GetAgain ok"), Some(&50), "{side}: {found:?}");
        // The name of its status may be a reference that is not known.
        let missing = ["NOT_FOUND", "ok"].map(|status| found.get(&format!("/shop.v1.Catalog/Missing {status}")));
        assert_eq!(missing.into_iter().flatten().sum::<u64>(), 50, "{side}: {found:?}");
    }
    for talker in [&mut early, &mut late, &mut server] {
        talker.end();
    }
}
