//! Durations beside those that the servers measure themselves.
//!
//! Each server's clock starts and stops a little elsewhere than ours, so what is printed is how the differences are
//! distributed. What is asserted is that both are of the same statements, one by one, and where a server's measure is a
//! part of ours, that it is not longer.

use std::{collections::BTreeMap, process::Command};

use hitscope_tests::{
    Daemon, Mariadb, Postgres, Redis, Via, calls::lost, differences, needs_probes, nginx::Nginx, number,
    postgres::succeed,
};
use serde_json::Value;

/// Every hit is kept.
const EVERY_HIT: &str = "[collector]\nsampled_per_second = 1000000\n";

/// What PostgreSQL logged for each process's statements, in their order, ns.
///
/// A statement of the extended protocol has lines for its parts, the last of them `execute`.
fn logged(log: &str) -> BTreeMap<u32, Vec<u64>> {
    let mut durations: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut parts: BTreeMap<u32, f64> = BTreeMap::new();
    for line in log.lines() {
        let Some((pid, rest)) = line.split_once(" LOG:  duration: ") else { continue };
        let (pid, (ms, what)) = (pid.parse().expect("a pid"), rest.split_once(" ms  ").expect("what it was"));
        let ns: f64 = ms.parse::<f64>().expect("a number") * 1e6;
        if what.starts_with("bind") {
            parts.insert(pid, ns);
        } else if what.starts_with("statement") || what.starts_with("execute") {
            durations.entry(pid).or_default().push((ns + parts.remove(&pid).unwrap_or(0.0)).round() as u64);
        }
    }
    durations
}

/// Prints how both durations of each hit differ, ns.
fn print(what: &str, pairs: impl Iterator<Item = (u64, u64)>) {
    differences::print(what, &mut pairs.map(|(ours, theirs)| (ours as f64 - theirs as f64) / 1e3).collect::<Vec<_>>());
}

fn durations(rows: &[Value], column: &str) -> Vec<u64> {
    rows.iter().map(|row| number(&row[column])).collect()
}

fn compare(mode: &str, via: Via) {
    let postgres = Postgres::start();
    postgres.pgbench_init();
    let skip = postgres.log().len();
    let mut daemon = Daemon::with(EVERY_HIT);
    succeed(&mut postgres.pgbench(via, &["-M", mode, "-c", "2", "-t", "300"]));
    succeed(&mut postgres.pgbench(via, &["-M", mode, "-c", "2", "-t", "1000", "-S"]));
    postgres.psql_via(via, "select pg_sleep(0.2)");

    daemon.settle();
    let mut seen: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for row in daemon.query("SELECT pid, duration_ns FROM hits WHERE side = 'server' ORDER BY pid, end_time") {
        seen.entry(number(&row["pid"]) as u32).or_default().push(number(&row["duration_ns"]));
    }
    let logged = logged(&postgres.log()[skip..]);
    // Whatever else there is belongs to the clients, or to another server of this host.
    seen.retain(|pid, _| logged.contains_key(pid));
    let counts = |all: &BTreeMap<u32, Vec<u64>>| all.iter().map(|(pid, one)| (*pid, one.len())).collect::<Vec<_>>();
    assert_eq!(counts(&seen), counts(&logged));

    let pairs = seen.into_values().flatten().zip(logged.into_values().flatten());
    print(&format!("{mode} over {via:?}, hitscope less PostgreSQL's log"), pairs);
    // Not how long it took, but that it is the statement's own duration: what slept 0.2 s did not take less.
    let slept = daemon.query("SELECT side, duration_ns FROM hits WHERE operation = 'select pg_sleep(?)'");
    assert_eq!(slept.len(), 2, "{slept:?}");
    assert!(slept.iter().all(|row| number(&row["duration_ns"]) >= 200_000_000), "{slept:?}");
}

#[test]
fn simple_statements() {
    needs_probes!();
    compare("simple", Via::Socket);
    compare("simple", Via::Tcp);
}

#[test]
fn prepared_statements() {
    needs_probes!();
    compare("prepared", Via::Socket);
}

#[test]
fn mariadb_and_its_performance_schema() {
    needs_probes!();
    for prepared in ["auto", "disable"] {
        let mariadb = Mariadb::start();
        succeed(mariadb.sysbench("oltp_read_write", Via::Tcp, &[]).arg("prepare"));
        mariadb.sql("truncate performance_schema.events_statements_history_long");
        let mut daemon = Daemon::with(EVERY_HIT);
        let mode = format!("--db-ps-mode={prepared}");
        succeed(mariadb.sysbench("oltp_read_write", Via::Tcp, &["--threads=1", "--events=200", &mode]).arg("run"));
        succeed(mariadb.mariadb(Via::Tcp).args(["--execute", "select sleep(0.2)"]));

        let ours = daemon.settled(&format!(
            "SELECT duration_ns FROM hits WHERE side = 'server' AND protocol = 'mysql' AND local_port = {} \
             AND operation NOT LIKE '%sleep%' AND operation NOT LIKE '%@@%' ORDER BY end_time",
            mariadb.port()
        ));
        let thread = mariadb.sql(
            "select thread_id from performance_schema.events_statements_history_long group by thread_id \
             order by count(*) desc limit 1",
        );
        let theirs = mariadb.objects(&format!(
            "select json_object('ns', cast(timer_wait / 1000 as unsigned)) \
             from performance_schema.events_statements_history_long where thread_id = {thread} \
             and event_name not in ('statement/com/Close stmt', 'statement/com/Quit') order by event_id"
        ));
        let (ours, theirs) = (durations(&ours, "duration_ns"), durations(&theirs, "ns"));
        assert_eq!(ours.len(), theirs.len());
        let what = format!("prepared statements {prepared}, hitscope less MariaDB's performance schema");
        print(&what, ours.into_iter().zip(theirs));
        let slept = daemon.query(&format!(
            "SELECT duration_ns FROM hits WHERE operation = 'select sleep(?)' AND (local_port = {0} OR remote_port = {0})",
            mariadb.port()
        ));
        let slept = durations(&slept, "duration_ns");
        assert!(slept.len() == 2 && slept.iter().all(|ns| *ns >= 200_000_000), "{slept:?}");
    }
}

/// nginx's clock has steps of 1 ms, and its time starts with the request's first byte.
#[test]
fn nginx_and_its_access_log() {
    needs_probes!();
    let nginx = Nginx::start();
    let mut daemon = Daemon::with(EVERY_HIT);
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        succeed(curl.args(["--silent", "--show-error", "--http1.1", "--output", "/dev/null"]).args(arguments));
    };
    // Each takes as long as the client reads.
    for rate in ["8M", "20M", "40M"] {
        curl(&["--limit-rate", rate, &nginx.url("/large")]);
    }
    for n in 0..20 {
        curl(&[&nginx.url(&format!("/items/{n}"))]);
    }
    let rows = daemon.settled(&format!(
        "SELECT duration_ns FROM hits WHERE protocol = 'http1' AND side = 'server' AND local_port = {} ORDER BY end_time",
        nginx.port()
    ));
    let accesses = nginx.accesses();
    assert_eq!(rows.len(), accesses.len(), "{}", lost(&daemon));
    let theirs = accesses.iter().map(|access| access.duration_ms * 1_000_000);
    print("hitscope less nginx's access log", durations(&rows, "duration_ns").into_iter().zip(theirs));
}

/// Redis' slow log has how long each command ran, which is a part of its hit: reading the command and writing its answer
/// come on top, and those that other clients asked for meanwhile.
#[test]
fn redis_and_its_slow_log() {
    needs_probes!();
    let redis = Redis::start();
    let mut daemon = Daemon::with(EVERY_HIT);
    redis.ask(&["SLOWLOG", "RESET"]);
    let tests = "set,get,incr,lrange_100,lrange_600,mset";
    succeed(&mut redis.benchmark(Via::Tcp, &["-c", "4", "-n", "500", "-t", tests]));
    succeed(redis.cli(Via::Tcp).args(["DEBUG", "SLEEP", "0.2"]));
    let mut theirs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let log: Value = serde_json::from_str(&redis.ask(&["--json", "SLOWLOG", "GET", "-1"])).expect("JSON");
    // The latest is the first.
    for entry in log.as_array().expect("the slow log").iter().rev() {
        let address = entry[4].as_str().expect("an address");
        // By the socket comes what asks for this.
        let Some(port) = address.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok()) else { continue };
        theirs.entry(port).or_default().push(number(&entry[2]) * 1000);
    }
    let mut ours: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for row in daemon.settled(&format!(
        "SELECT remote_port, duration_ns FROM hits WHERE protocol = 'redis' AND side = 'server' AND local_port = {} \
         ORDER BY end_time",
        redis.port()
    )) {
        ours.entry(number(&row["remote_port"])).or_default().push(number(&row["duration_ns"]));
    }
    let counts = |all: &BTreeMap<u64, Vec<u64>>| all.iter().map(|(port, one)| (*port, one.len())).collect::<Vec<_>>();
    assert_eq!(counts(&ours), counts(&theirs), "{}", lost(&daemon));
    let pairs: Vec<(u64, u64)> = ours.into_values().flatten().zip(theirs.into_values().flatten()).collect();
    print("hitscope less Redis' slow log", pairs.iter().copied());
    // It has whole microseconds.
    let longer = pairs.iter().filter(|(ours, theirs)| ours + 1000 < *theirs).collect::<Vec<_>>();
    assert!(longer.is_empty(), "{longer:?}");
    assert!(pairs.iter().any(|(ours, _)| *ours >= 200_000_000), "what slept 0.2 s took less");
}
