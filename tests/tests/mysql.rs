//! MariaDB's statements: hitscope's counts are its own, by its general log.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use hitscope_tests::{
    Calls, Daemon, Mariadb, Via, assert_calls_of,
    calls::{lost, normalise},
    needs_probes, number,
    postgres::succeed,
};
use serde_json::Value;

const BOTH: &[&str] = &["server", "client"];

fn assert_equal(daemon: &mut Daemon, mariadb: &Mariadb) -> Calls {
    let calls = mariadb.calls();
    assert_calls_of(daemon, "mysql", &calls, BOTH);
    calls
}

#[test]
fn its_own_client() {
    needs_probes!();
    let mariadb = Mariadb::start();
    let mut daemon = Daemon::start();
    mariadb.count_calls();
    for (via, options) in [(Via::Socket, &[][..]), (Via::Tcp, &[]), (Via::Tcp, &["--compress"])] {
        let run = |sql: &str| succeed(mariadb.mariadb(via).args(options).args(["shop", "--execute", sql]));
        run("create table if not exists t (a int, b text)");
        for number in 0..10 {
            run(&format!("insert into t values ({number}, 'its'); select a, b from t where a = {number} # comment"));
        }
        run("use shop; select seq, repeat('x', 1000) from mysql.help_topic, (select 1 as seq) s");
        succeed(mariadb.client("mariadb-admin", via).args(options).args(["ping", "ping"]));
        succeed(mariadb.client("mariadb-admin", via).args(options).arg("status"));
    }
    let calls = assert_equal(&mut daemon, &mariadb);
    assert_eq!(calls.get(&normalise("insert into t values (?, ?)")), Some(&30), "{calls:?}");
    assert_eq!(calls.get("<statistics>"), Some(&3), "{calls:?}");
    assert!(lost(&daemon).get("compressed").is_none());
    let hits = daemon.query(&format!(
        "SELECT DISTINCT \"user\", database FROM hits WHERE protocol = 'mysql' AND pid = {} AND operation LIKE 'insert%'",
        mariadb.pid()
    ));
    assert_eq!(hits.len(), 1, "{hits:?}");
    assert_eq!((hits[0]["user"].as_str(), hits[0]["database"].as_str()), (Some("root"), Some("shop")));
}

fn sysbench(prepared: &str, via: Via, compressed: bool) {
    let mariadb = Mariadb::start();
    succeed(mariadb.sysbench("oltp_read_write", via, &[]).arg("prepare"));
    let mut daemon = Daemon::start();
    mariadb.count_calls();
    let mode = format!("--db-ps-mode={prepared}");
    let compression = format!("--mysql-compression={}", if compressed { "on" } else { "off" });
    let options = ["--threads=4", "--events=100", &mode, &compression];
    succeed(mariadb.sysbench("oltp_read_write", via, &options).arg("run"));
    let calls = assert_equal(&mut daemon, &mariadb);
    assert!(calls.values().sum::<u64>() >= 2000, "{calls:?}");
    let executed = calls.keys().filter(|operation| operation.starts_with("<prepare>")).count();
    assert_eq!(executed > 0, prepared == "auto", "{calls:?}");
}

#[test]
fn sysbench_prepared_socket() {
    needs_probes!();
    sysbench("auto", Via::Socket, false);
}

#[test]
fn sysbench_prepared_tcp() {
    needs_probes!();
    sysbench("auto", Via::Tcp, false);
}

#[test]
fn sysbench_text_tcp() {
    needs_probes!();
    sysbench("disable", Via::Tcp, false);
}

#[test]
fn sysbench_compressed() {
    needs_probes!();
    sysbench("auto", Via::Tcp, true);
    sysbench("disable", Via::Socket, true);
}

#[test]
fn pymysql() {
    needs_probes!();
    let mariadb = Mariadb::start();
    let file = mariadb.folder().join("piled.txt");
    let lines: String = (100..2100).map(|id| format!("{id}\tfrom the file\n")).collect();
    std::fs::write(&file, lines).expect("the file");
    let mut daemon = Daemon::start();
    mariadb.count_calls();
    succeed(mariadb.python(include_str!("../clients/pymysql_calls.py")).arg(&file));
    // Each of a query's statements is a hit; the log has the query.
    let mut calls = mariadb.calls();
    let several =
        ["select id from piled where id > 3", "update piled set name = 'x' where id < 5", "select 7 as seven"];
    assert_eq!(calls.remove(&normalise(&several.join("; "))), Some(1), "{calls:?}");
    calls.extend(several.map(|statement| (normalise(statement), 1)));
    assert_calls_of(&mut daemon, "mysql", &calls, BOTH);
    for side in BOTH {
        let failed = daemon.query(&format!(
            "SELECT operation, error_code, error_message FROM hits WHERE protocol = 'mysql' AND side = '{side}' \
             AND status = 'error' AND application = 'till' ORDER BY end_time"
        ));
        let code = |row: &Value| row["error_code"].as_str().map(str::to_owned);
        assert_eq!(failed.iter().filter_map(code).collect::<Vec<_>>(), ["1054", "1062", "1064"], "{failed:?}");
        assert_eq!(failed[1]["error_message"], "(23000) Duplicate entry '?'", "{failed:?}");
        let rows = |operation: &str| {
            let rows = daemon.query(&format!(
                "SELECT rows FROM hits WHERE side = '{side}' AND application = 'till' AND operation LIKE '{operation}'"
            ));
            rows.iter().map(|row| number(&row["rows"])).collect::<Vec<_>>()
        };
        assert_eq!(rows("load data local%"), [2000], "{side}");
        assert_eq!(rows("update piled%"), [5], "{side}");
        assert_eq!(rows("select id from piled%"), [46], "{side}");
    }
}

#[test]
fn prepared_by_mysqls_connector() {
    needs_probes!();
    let mariadb = Mariadb::start();
    let mut daemon = Daemon::start();
    mariadb.count_calls();
    succeed(&mut mariadb.python(include_str!("../clients/connector_calls.py")));
    let mut calls = mariadb.calls();
    // The connector resets a statement before it runs it again, which the log calls so without its text.
    calls.retain(|operation, _| operation.contains("select"));
    assert!(calls.get(&normalise("select ?, ?, ?")).is_some_and(|count| *count == 50), "{calls:?}");
    assert_calls_of(&mut daemon, "mysql", &calls, BOTH);
}

/// Of one connection, what was prepared before is not known, and what is prepared after by its text.
#[test]
fn statements_prepared_before_and_after() {
    needs_probes!();
    let mariadb = Mariadb::start();
    let mut client = mariadb.python(include_str!("../clients/connector_calls.py"));
    client.arg("waits").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().expect("python starts");
    BufReader::new(client.stdout.as_mut().expect("a pipe")).read_line(&mut String::new()).expect("a line");
    let mut daemon = Daemon::start();
    writeln!(client.stdin.as_mut().expect("a pipe")).expect("python reads");
    assert!(client.wait().expect("python ends").success());
    let calls = [("<unresolved>", 50), ("select ?, ?, ?", 50)];
    let calls = calls.into_iter().map(|(text, count)| (normalise(text), count)).collect();
    assert_calls_of(&mut daemon, "mysql", &calls, BOTH);
}
