//! One kind of load with hitscope on and off, in turn: `load-bench NAME PAIRS SECONDS`, as root. Each turn is a line of JSON;
//! `cargo xtask bench load` makes tables of them.

mod programs;
mod servers;

use std::{collections::BTreeMap, env, fs, path::Path, thread::sleep, time::Duration};

use hitscope_collector::{facts::TICK_NS, hosts};
use hitscope_tests::{Daemon, number};
use serde_json::{Value, json};

use crate::{programs::Counting, servers::Server};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, pairs, seconds] = &arguments[..] else { panic!("load-bench NAME PAIRS SECONDS") };
    let (pairs, seconds): (usize, u64) = (pairs.parse().expect("pairs"), seconds.parse().expect("seconds"));
    let server = servers::start(name);
    // Fills the caches.
    server.load(seconds);
    for pair in 0..pairs {
        // Each comes first every other time.
        for turn in 0..2 {
            if (pair + turn) % 2 == 0 {
                let Load { per_second, host_cpu_ns, .. } = Load::run(&*server, seconds);
                say(&json!({ "turn": "off", "per_second": per_second, "host_cpu_ns_per_request": host_cpu_ns }));
            } else {
                say(&on(&*server, seconds));
            }
        }
    }
    say(&by_program(&*server, seconds));
}

fn say(line: &Value) {
    println!("{line}");
}

/// What came of a load.
struct Load {
    per_second: f64,
    /// As the server counts.
    served: u64,
    /// CPU of everything on this host per request, ns.
    host_cpu_ns: f64,
}

impl Load {
    fn run(server: &dyn Server, seconds: u64) -> Self {
        let (cpu, served) = (host_cpu_ns(), server.served());
        let per_second = server.load(seconds);
        let (cpu, served) = (host_cpu_ns() - cpu, server.served() - served);
        assert!(served > 0, "the server counted nothing");
        Self { per_second, served, host_cpu_ns: cpu as f64 / served as f64 }
    }
}

fn on(server: &dyn Server, seconds: u64) -> Value {
    let mut daemon = Daemon::start();
    // Its first look at the processes of the host is not part of what a request costs.
    sleep(Duration::from_secs(2));
    let cpu = cpu_ns(daemon.pid());
    let Load { per_second, served, host_cpu_ns } = Load::run(server, seconds);
    daemon.settle();
    let cpu = cpu_ns(daemon.pid()) - cpu;
    let rows = daemon.query(&format!(
        "SELECT CAST(coalesce(sum(calls), 0) AS BIGINT) AS calls FROM operations WHERE side = 'server' AND {}",
        server.operations()
    ));
    let status = daemon.status().expect("a status");
    json!({
        "turn": "on",
        "per_second": per_second,
        "host_cpu_ns_per_request": host_cpu_ns,
        "served": served,
        "captured": number(&rows[0]["calls"]),
        "lost": status["lost"],
        "cpu_ns_per_request": cpu as f64 / served as f64,
        "collector_peak_bytes": peak_bytes(daemon.pid()),
        "server_peak_bytes": peak_bytes(daemon.server_pid()),
    })
}

/// Once more, with the kernel's own count of what each program takes; counting itself costs, so the pairs do without.
fn by_program(server: &dyn Server, seconds: u64) -> Value {
    let daemon = Daemon::start();
    let counting = Counting::start();
    let served = server.served();
    server.load(seconds);
    let served = server.served() - served;
    let programs = programs::of(&daemon);
    drop(counting);
    let programs: Vec<Value> = programs
        .iter()
        .map(|program| {
            let ns = program.time.as_nanos() as f64;
            json!({
                "name": program.name,
                "runs_per_request": program.runs as f64 / served as f64,
                "ns_per_run": ns / program.runs as f64,
                "ns_per_request": ns / served as f64,
            })
        })
        .collect();
    json!({ "turn": "programs", "programs": programs })
}

/// CPU time of everything on this host so far, in ticks of 10 ms.
fn host_cpu_ns() -> u64 {
    let host = hosts::sample(Path::new("/proc"), 0);
    (host.user_ticks + host.system_ticks) * TICK_NS
}

/// CPU time of a process so far.
fn cpu_ns(pid: u32) -> u64 {
    // Exact, where `stat` has ticks; of all threads, those that ended included.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let times: BTreeMap<_, u64> = threads
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            Some((thread.file_name(), text.split(' ').next()?.parse().ok()?))
        })
        .collect();
    times.values().sum()
}

/// Most memory that a process had resident.
fn peak_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
