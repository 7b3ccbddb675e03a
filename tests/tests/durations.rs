//! Durations beside those that PostgreSQL logs.

use std::collections::BTreeMap;

use hitscope_tests::{Daemon, Postgres, Via, needs_probes, number, postgres::succeed};

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

fn compare(mode: &str, via: Via) {
    let postgres = Postgres::start();
    postgres.pgbench_init();
    let skip = postgres.log().len();
    // Every hit is kept.
    let mut daemon = Daemon::with("[collector]\nsampled_per_second = 1000000\n");
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

    let pairs: Vec<(u64, u64)> = seen.into_values().flatten().zip(logged.into_values().flatten()).collect();
    let (ours, theirs) = pairs.iter().fold((0, 0), |sum, (a, b)| (sum.0 + a, sum.1 + b));
    let mut differences: Vec<i64> = pairs.iter().map(|(a, b)| *a as i64 - *b as i64).collect();
    differences.sort_unstable();
    let at = |share: f64| differences[((differences.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!(
        "{mode} over {via:?}: {} statements; hitscope {:.1} ms, PostgreSQL's log {:.1} ms; difference per statement: \
         least {:.1} µs, median {:.1} µs, p90 {:.1} µs, most {:.1} µs",
        pairs.len(),
        ours as f64 / 1e6,
        theirs as f64 / 1e6,
        at(0.0),
        at(0.5),
        at(0.9),
        at(1.0)
    );
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
