//! Packet captures of live traffic: `hitscope replay` finds in them what Wireshark's dissectors find.
//!
//! Both are given the same file. Texts are compared as they are, literals included.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::Command,
};

use hitscope_tests::{
    Mariadb, Postgres, Redis, Via,
    capture::{Capture, dissect, replay},
    differences,
    nginx::{Nginx, answer},
    number,
    postgres::succeed,
    server::folder,
};
use serde_json::Value;

/// How often each request was made.
type Counts = BTreeMap<String, u64>;

/// Records what `load` does to a port.
fn record(port: u16, load: impl FnOnce()) -> (tempfile::TempDir, PathBuf) {
    let folder = folder("hitscope-capture-", None);
    let capture = Capture::start(folder.path(), port);
    load();
    let file = capture.end();
    (folder, file)
}

fn counts(requests: impl IntoIterator<Item = String>) -> Counts {
    let mut counts = Counts::new();
    requests.into_iter().for_each(|request| *counts.entry(request).or_default() += 1);
    counts
}

/// Prints each difference; there must be none.
fn assert_equal(what: &str, ours: &Counts, theirs: &Counts) {
    for (request, count) in ours.iter().chain(theirs) {
        let (ours, theirs) = (ours.get(request).unwrap_or(&0), theirs.get(request).unwrap_or(&0));
        if ours != theirs {
            println!("{what}: {request}: hitscope {ours}, tshark {theirs} (of {count})");
        }
    }
    assert!(ours == theirs, "{what}: see above");
    assert!(!ours.is_empty(), "{what}: nothing was seen");
    println!("{what}: {} requests, {} kinds: equal", ours.values().sum::<u64>(), ours.len());
}

fn text(row: &Value, column: &str) -> String {
    row[column].as_str().unwrap_or_default().to_owned()
}

/// One value, or nothing.
fn one(values: &[String]) -> String {
    values.first().cloned().unwrap_or_default()
}

/// What hitscope has of each statement: its text, and its error's code.
fn statements(rows: &[Value]) -> Counts {
    let statement = |row: &Value| {
        let prepare = if text(row, "operation").starts_with("<prepare>") { "<prepare> " } else { "" };
        format!("{prepare}{} {}", text(row, "text"), text(row, "error_code")).trim_end().to_owned()
    };
    counts(rows.iter().map(statement))
}

/// Statements as they are executed, by their messages: a simple query, or an `Execute` of what was bound to a portal,
/// with its text from the `Parse` before. An error belongs to what was executed last. hitscope leaves out the semicolon at
/// a statement's end.
fn statements_by_tshark(file: &std::path::Path, port: u16) -> Counts {
    let fields =
        ["tcp.stream", "pgsql.type", "pgsql.query", "pgsql.statement", "pgsql.portal", "pgsql.code", "tcp.srcport"];
    let mut prepared: HashMap<(String, String), String> = HashMap::new();
    let mut portals: HashMap<(String, String), String> = HashMap::new();
    let mut executed: Vec<(String, String)> = Vec::new();
    for packet in dissect(file, port, "pgsql", "pgsql", &fields) {
        let stream = one(&packet[0]);
        let mut queries = packet[2].iter();
        let mut names = packet[3].iter();
        let mut portal_names = packet[4].iter();
        let next = |values: &mut std::slice::Iter<'_, String>| values.next().cloned().unwrap_or_default();
        for kind in &packet[1] {
            match kind.as_str() {
                "Simple query" => {
                    executed.push((stream.clone(), next(&mut queries).trim_end_matches(';').to_owned()));
                }
                "Parse" => {
                    let text = next(&mut queries).trim_end_matches(';').to_owned();
                    prepared.insert((stream.clone(), next(&mut names)), text);
                }
                "Bind" => {
                    let statement = prepared.get(&(stream.clone(), next(&mut names))).cloned();
                    portals.insert((stream.clone(), next(&mut portal_names)), statement.unwrap_or_default());
                }
                "Execute" => {
                    let portal = (stream.clone(), next(&mut portal_names));
                    executed.push((stream.clone(), portals.get(&portal).cloned().unwrap_or_default()));
                }
                "Describe" => drop(next(&mut portal_names)),
                "Error" => {
                    let last = executed.iter_mut().rfind(|(of, _)| *of == stream).expect("what failed");
                    last.1 = format!("{} {}", last.1, one(&packet[5]));
                }
                _ => {}
            }
        }
    }
    counts(executed.into_iter().map(|(_, text)| text))
}

fn postgres(mode: &str) {
    let postgres = Postgres::start();
    postgres.pgbench_init();
    let (_folder, file) = record(postgres.port(), || {
        succeed(&mut postgres.pgbench(Via::Tcp, &["-M", mode, "-c", "3", "-j", "1", "-t", "50"]));
        postgres.psql_unchecked(Via::Tcp, "select 1 / 0");
        postgres.psql_unchecked(Via::Tcp, "select 'it''s' as text, nothing");
    });
    let rows = replay(&file, "postgres", "operation, text, error_code");
    assert_equal(&format!("PostgreSQL, {mode}"), &statements(&rows), &statements_by_tshark(&file, postgres.port()));
}

#[test]
fn postgres_simple() {
    postgres("simple");
}

#[test]
fn postgres_extended() {
    postgres("extended");
}

#[test]
fn postgres_prepared() {
    postgres("prepared");
}

/// `COM_QUERY` and `COM_STMT_EXECUTE`, whose text stands in the `COM_STMT_PREPARE` that was answered with its number.
fn mysql_by_tshark(file: &std::path::Path, port: u16) -> Counts {
    let fields = ["tcp.stream", "tcp.dstport", "mysql.command", "mysql.query", "mysql.stmt_id", "mysql.error_code"];
    let mut prepares: HashMap<String, String> = HashMap::new();
    let mut prepared: HashMap<(String, String), String> = HashMap::new();
    let mut executed: Vec<(String, String)> = Vec::new();
    for packet in dissect(file, port, "mysql", "mysql", &fields) {
        let (stream, to_server) = (one(&packet[0]), one(&packet[1]) == port.to_string());
        if !to_server {
            if let (Some(text), Some(id)) = (prepares.remove(&stream), packet[4].first()) {
                prepared.insert((stream.clone(), id.clone()), text);
            }
            if let Some(code) = packet[5].first() {
                let last = executed.iter_mut().rfind(|(of, _)| *of == stream).expect("what failed");
                last.1 = format!("{} {code}", last.1);
            }
            continue;
        }
        // Several commands may lie in one packet: what closes a statement has no answer, so the next one follows.
        let (mut queries, mut ids) = (packet[3].iter(), packet[4].iter());
        for command in &packet[2] {
            match command.as_str() {
                "3" => executed.push((stream.clone(), queries.next().cloned().unwrap_or_default())),
                "22" => {
                    let text = queries.next().cloned().unwrap_or_default();
                    prepares.insert(stream.clone(), text.clone());
                    executed.push((stream.clone(), format!("<prepare> {text}")));
                }
                "23" => {
                    let id = ids.next().cloned().unwrap_or_default();
                    let text = prepared.get(&(stream.clone(), id)).cloned();
                    executed.push((stream.clone(), text.unwrap_or_else(|| "<unresolved>".into())));
                }
                // Closes a statement.
                "25" => drop(ids.next()),
                "1" => {}
                command => panic!("command {command} is not looked at"),
            }
        }
    }
    counts(executed.into_iter().map(|(_, text)| text))
}

fn mariadb(prepared: &str) {
    let mariadb = Mariadb::start();
    succeed(mariadb.sysbench("oltp_read_write", Via::Socket, &[]).arg("prepare"));
    let (_folder, file) = record(mariadb.port(), || {
        let mode = format!("--db-ps-mode={prepared}");
        succeed(mariadb.sysbench("oltp_read_write", Via::Tcp, &["--threads=2", "--events=40", &mode]).arg("run"));
        for wrong in ["select nothing from shop.sbtest1", "selec 1"] {
            let failed = mariadb.mariadb(Via::Tcp).args(["--execute", wrong]).output().expect("mariadb starts");
            assert!(!failed.status.success(), "{wrong}");
        }
    });
    let rows = replay(&file, "mysql", "operation, text, error_code");
    assert_equal(&format!("MariaDB, {prepared}"), &statements(&rows), &mysql_by_tshark(&file, mariadb.port()));
}

#[test]
fn mariadb_text() {
    mariadb("disable");
}

#[test]
fn mariadb_prepared() {
    mariadb("auto");
}

/// A request and its answer.
type Exchange = (String, f64);

#[test]
fn http() {
    let nginx = Nginx::start();
    let (_folder, file) = record(nginx.port(), || {
        for path in ["/small", "/items/17?page=2", "/missing", "/broken", "/large"] {
            let urls = [nginx.url(path), nginx.url(path)];
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--http1.1", "--output", "/dev/null", "--output", "/dev/null"]);
            succeed(curl.args(urls));
        }
        let upload = "a".repeat(100_000);
        succeed(
            Command::new("curl")
                .args(["--silent", "--output", "/dev/null", "--data", &upload])
                .arg(nginx.url("/upload")),
        );
        succeed(Command::new("h2load").args(["--h1", "-c", "4", "-n", "2000"]).arg(nginx.url("/items/5")));
    });
    let mut ours: BTreeMap<u64, Vec<Exchange>> = BTreeMap::new();
    for row in replay(&file, "http1", "remote_port, text, operation, status, error_code, duration_ns") {
        let status = if row["status"] == "error" { text(&row, "error_code") } else { text(&row, "status") };
        let exchange = (format!("{} {status}", text(&row, "operation")), number(&row["duration_ns"]) as f64 / 1e3);
        ours.entry(number(&row["remote_port"])).or_default().push(exchange);
    }
    let mut theirs: BTreeMap<u64, Vec<Exchange>> = BTreeMap::new();
    let fields =
        ["tcp.dstport", "http.request.method", "http.request.uri", "http.response.code", "http.time", "tcp.srcport"];
    let mut asked: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for packet in dissect(&file, nginx.port(), "http", "http.request or http.response", &fields) {
        let port = |column: usize| packet[column][0].parse::<u64>().expect("a port");
        if let Some(method) = packet[1].first() {
            asked.entry(port(5)).or_default().push(format!("{method} {}", packet[2][0]));
            continue;
        }
        let requests = asked.get_mut(&port(0)).expect("what was asked");
        // `100 Continue` and its like answer nothing.
        let code: u16 = packet[3][0].parse().expect("a status");
        if code < 200 {
            continue;
        }
        let request = requests.remove(0);
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let us = packet[4][0].parse::<f64>().expect("a time") * 1e6;
        theirs.entry(port(0)).or_default().push((answer(method, path, code), us));
    }
    assert!(asked.values().all(Vec::is_empty), "{asked:?}");
    let all = |exchanges: &BTreeMap<u64, Vec<Exchange>>| counts(exchanges.values().flatten().map(|one| one.0.clone()));
    assert_equal("HTTP/1.1", &all(&ours), &all(&theirs));
    let mut differences: Vec<f64> = Vec::new();
    for (port, exchanges) in &theirs {
        for (ours, theirs) in ours[port].iter().zip(exchanges) {
            assert_eq!(ours.0, theirs.0, "port {port}");
            differences.push(ours.1 - theirs.1);
        }
    }
    differences::print("HTTP/1.1, hitscope less tshark's http.time", &mut differences);
    // Both take the packets' times; tshark writes them in steps of 1 ns, a capture has them in steps of 1 µs.
    assert!(differences[differences.len() / 2].abs() <= 1.0);
}

#[test]
fn http2() {
    let nginx = Nginx::with("http2", "");
    let paths = ["/small", "/items/17?a=b", "/items/18", "/missing", "/broken"];
    let (_folder, file) = record(nginx.port(), || {
        let urls = paths.map(|path| nginx.url(path));
        succeed(Command::new("h2load").args(["-c", "3", "-m", "8", "-n", "300"]).args(&urls));
    });
    let rows = replay(&file, "http2", "operation, status, error_code");
    let path = |uri: &str| answer("", uri, 200).trim().trim_end_matches(" ok").to_owned();
    let ours = counts(rows.iter().map(|row| text(row, "operation")));
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    let fields = ["http2.headers.method", "http2.headers.path", "http2.headers.status"];
    for packet in dissect(&file, nginx.port(), "http2", "http2.headers", &fields) {
        assert_eq!(packet[0].len(), packet[1].len(), "{packet:?}");
        requests.extend(packet[0].iter().zip(&packet[1]).map(|(method, uri)| format!("{method} {}", path(uri))));
        answers.extend(packet[2].clone());
    }
    assert_equal("HTTP/2, requests", &ours, &counts(requests));
    let status = |row: &Value| if row["status"] == "ok" { "200".to_owned() } else { text(row, "error_code") };
    assert_equal("HTTP/2, answers", &counts(rows.iter().map(status)), &counts(answers));
}

/// tshark has the commands of a client as arrays of strings, flat: each array's length, and all strings in order.
fn redis_by_tshark(file: &std::path::Path, port: u16) -> (Counts, u64) {
    let fields = ["resp.array.length", "resp.bulk_string.value"];
    let mut commands = Vec::new();
    for packet in dissect(file, port, "resp", &format!("resp && tcp.dstport == {port}"), &fields) {
        let mut strings = packet[1].iter().map(|hex| {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
            String::from_utf8((0..hex.len()).step_by(2).map(byte).collect()).expect("text")
        });
        for length in &packet[0] {
            let words: Vec<String> = strings.by_ref().take(length.parse().expect("a number")).collect();
            // hitscope never keeps what may be followed by a password.
            commands.push(if words[0] == "HELLO" { "HELLO".into() } else { words.join(" ") });
        }
        assert_eq!(strings.next(), None, "{packet:?}");
    }
    let filter = format!("resp.error && tcp.srcport == {port}");
    let errors = dissect(file, port, "resp", &filter, &["resp.error"]);
    (counts(commands), errors.iter().map(|packet| packet[0].len() as u64).sum())
}

#[test]
fn redis() {
    let redis = Redis::start();
    let (_folder, file) = record(redis.port(), || {
        let tests = "set,get,incr,lpush,sadd,hset,zadd,lrange_100";
        succeed(&mut redis.benchmark(Via::Tcp, &["-P", "16", "-c", "4", "-n", "640", "-t", tests]));
        redis.say(Via::Tcp, &[], "INCR mylist\nNOTHING\nGET\n");
        succeed(redis.cli(Via::Tcp).args(["-3", "GET", "a key"]));
    });
    let rows = replay(&file, "redis", "coalesce(text, operation) AS text, status");
    let (commands, errors) = redis_by_tshark(&file, redis.port());
    assert_equal("Redis", &counts(rows.iter().map(|row| text(row, "text"))), &commands);
    assert_eq!(rows.iter().filter(|row| row["status"] == "error").count() as u64, errors);
    assert_eq!(errors, 3);
}
