//! Servers under load with hitscope on and off, in turn: tables of what `tests/src/bin/load-bench` measured.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::spread;
use crate::process::say;
use crate::workspace::Workspace;

/// The loads: name, and what is run.
const LOADS: [(&str, &str); 8] = [
    ("postgres", "`pgbench -S -c 4 -j 2` over a unix socket"),
    ("postgres-prepared", "`pgbench -S -c 4 -j 2 -M prepared` over a unix socket"),
    ("postgres-tls", "`pgbench -S -c 4 -j 2` over TCP with TLS"),
    ("mysql", "`sysbench oltp_point_select --threads=4` over a unix socket"),
    ("http1", "`wrk -c 4 -t 2` of a small file of nginx"),
    ("http2", "`h2load -c 4 -m 8` of a small file of nginx"),
    ("redis", "`redis-benchmark -t get -c 4` over a unix socket"),
    ("redis-pipeline", "`redis-benchmark -t get -c 4 -P 16` over a unix socket"),
];

pub const NAMES: [&str; LOADS.len()] = {
    let mut names = [""; LOADS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = LOADS[index].0;
        index += 1;
    }
    names
};

pub fn run(workspace: &Workspace, names: &[String], pairs: usize, seconds: u64) -> Result<()> {
    for (name, what) in LOADS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            let turns = measure(workspace, name, pairs, seconds)?;
            println!("{what}, {pairs} pairs of {seconds} s, in turn; medians (least–most).\n");
            report(&turns);
            report_programs(&turns);
        }
    }
    Ok(())
}

/// What was measured in each turn.
fn measure(workspace: &Workspace, name: &str, pairs: usize, seconds: u64) -> Result<Vec<Value>> {
    let mut command = Command::new(workspace.target().join("release/load-bench"));
    command.args([name, &pairs.to_string(), &seconds.to_string()]).env("HITSCOPE_BINARY", workspace.binary());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting load-bench")?;
    let mut turns = Vec::new();
    for line in BufReader::new(child.stdout.take().context("its output")?).lines() {
        let turn: Value = serde_json::from_str(&line?).context("reading what load-bench printed")?;
        let per_second = number(&turn, "per_second");
        match turn["turn"].as_str() {
            Some("off") => say!("{name}: off {per_second:.0} requests/s"),
            Some("on") => say!(
                "{name}: on {per_second:.0} requests/s; captured {} of {}, lost: {}",
                turn["captured"],
                turn["served"],
                words(lost(&turn))
            ),
            _ => {}
        }
        turns.push(turn);
    }
    let status = child.wait()?;
    ensure!(status.success(), "load-bench failed ({status})");
    Ok(turns)
}

fn number(turn: &Value, field: &str) -> f64 {
    turn[field].as_f64().unwrap_or(f64::NAN)
}

fn lost(turn: &Value) -> impl Iterator<Item = (&str, u64)> {
    turn["lost"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(reason, count)| Some((reason.as_str(), count.as_u64()?)))
}

/// Losses as text.
fn words<'a>(lost: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let words: Vec<String> = lost.into_iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

fn report(turns: &[Value]) {
    let of = |turn: &str, field: &str| -> Vec<f64> {
        turns.iter().filter(|it| it["turn"] == turn).map(|it| number(it, field)).collect()
    };
    let sum = |field: &str| of("on", field).iter().sum::<f64>();
    let most = |field: &str| of("on", field).into_iter().fold(0.0, f64::max) / f64::from(1 << 20);
    let (off, on) = (of("off", "per_second"), of("on", "per_second"));
    let ratios = |on: &[f64], off: &[f64]| -> Vec<f64> { on.iter().zip(off).map(|(on, off)| on / off).collect() };
    let (cpu_off, cpu_on) = (of("off", "host_cpu_ns_per_request"), of("on", "host_cpu_ns_per_request"));
    println!("| what | measured | to reach |");
    println!("|---|---|---|");
    println!("| requests/s, off | {} | |", spread(&off, 0));
    println!("| requests/s, all probes on | {} | |", spread(&on, 0));
    println!("| on against off, by pair | {} | ≥ 0.95 |", spread(&ratios(&on, &off), 3));
    println!("| CPU of the whole host per request, off | {} ns | |", spread(&cpu_off, 0));
    println!("| the same, on against off, by pair | {} | |", spread(&ratios(&cpu_on, &cpu_off), 3));
    let (captured, served) = (sum("captured"), sum("served"));
    let share = 100.0 * captured / served;
    println!("| captured of served | {captured} of {served} ({share:.3} %) | 100 %, or counted as lost |");
    let mut losses = BTreeMap::<&str, u64>::new();
    for (reason, count) in turns.iter().flat_map(lost) {
        *losses.entry(reason).or_default() += count;
    }
    println!("| lost on the whole host, by hitscope's own count | {} | |", words(losses));
    println!("| collector's CPU per request | {} ns | |", spread(&of("on", "cpu_ns_per_request"), 0));
    println!("| collector's peak memory | {:.0} MiB | ≤ 150 MiB |", most("collector_peak_bytes"));
    println!("| server's peak memory, no page open | {:.0} MiB | ≤ 200 MiB |", most("server_peak_bytes"));
}

fn report_programs(turns: &[Value]) {
    println!("\n| program | runs per request | ns per run | ns per request |");
    println!("|---|---|---|---|");
    let mut sum = 0.0;
    for program in turns.iter().flat_map(|turn| turn["programs"].as_array().into_iter().flatten()) {
        let [runs, each, ns] = ["runs_per_request", "ns_per_run", "ns_per_request"].map(|field| number(program, field));
        sum += ns;
        println!("| `{}` | {runs:.2} | {each:.0} | {ns:.0} |", program["name"].as_str().unwrap_or_default());
    }
    println!("| all, of the whole host | | | {sum:.0} |\n");
}
