//! What the probes' programs take of the traced processes' time, as the kernel counts it.

use std::{cmp::Reverse, fs, time::Duration};

use hitscope_tests::Daemon;

/// Since when the kernel counts how often and how long each program runs; dropped, it stops.
pub struct Counting;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Counting {
    pub fn start() -> Self {
        fs::write(SWITCH, "1").expect(SWITCH);
        Self
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        fs::write(SWITCH, "0").expect(SWITCH);
    }
}

/// A program, or several that the kernel does not tell apart.
pub struct Program {
    pub name: String,
    pub runs: u64,
    pub time: Duration,
}

/// Those that a running hitscope holds, the costliest first; tail programs count for the one that calls them.
pub fn of(daemon: &Daemon) -> Vec<Program> {
    let status = daemon.status().expect("a status");
    // The kernel names no program in fdinfo, but says how many instructions its verifier walked through, as the status does.
    let names = |verified: u64| {
        let probes = status["probes"].as_array().into_iter().flatten();
        let programs = probes.flat_map(|probe| probe["programs"].as_array().into_iter().flatten());
        let mut names: Vec<_> = programs
            .filter(|program| program["verified_instructions"].as_u64() == Some(verified))
            .filter_map(|program| program["name"].as_str())
            .collect();
        names.dedup();
        names.join(", ")
    };
    let mut programs = Vec::<Program>::new();
    for descriptor in fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).expect("its descriptors").flatten() {
        let text = fs::read_to_string(descriptor.path()).unwrap_or_default();
        let number = |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
            line.trim().parse::<u64>().ok()
        };
        let Some((runs, ns)) = number("run_cnt").zip(number("run_time_ns")) else { continue };
        if runs == 0 || number("link_id").is_some() {
            continue;
        }
        let name = names(number("verified_insns").unwrap_or(0));
        let time = Duration::from_nanos(ns);
        match programs.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.runs += runs;
                known.time += time;
            }
            None => programs.push(Program { name, runs, time }),
        }
    }
    programs.sort_by_key(|program| Reverse(program.time));
    programs
}
