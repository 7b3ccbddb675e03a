//! What the probes' programs take of the traced processes' time, as the kernel counts it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fs,
    time::Duration,
};

use aya::programs::loaded_programs;
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

/// A program; its name as the kernel keeps it, 15 bytes.
pub struct Program {
    pub name: String,
    pub runs: u64,
    pub time: Duration,
}

/// Those that a running hitscope holds, the costliest first; tail programs count for the one that calls them.
pub fn of(daemon: &Daemon) -> Vec<Program> {
    let names: HashMap<u32, String> = loaded_programs()
        .flatten()
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut programs = BTreeMap::new();
    for descriptor in fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).expect("its descriptors").flatten() {
        let text = fs::read_to_string(descriptor.path()).unwrap_or_default();
        let number = |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
            line.trim().parse::<u64>().ok()
        };
        let Some((runs, ns)) = number("run_cnt").zip(number("run_time_ns")) else { continue };
        // Its links tell of it, too.
        if runs == 0 || number("link_id").is_some() {
            continue;
        }
        let id = number("prog_id").and_then(|id| u32::try_from(id).ok()).expect("a program's id");
        let name = names.get(&id).cloned().expect("a program's name");
        programs.insert(id, Program { name, runs, time: Duration::from_nanos(ns) });
    }
    let mut programs: Vec<Program> = programs.into_values().collect();
    programs.sort_by_key(|program| Reverse(program.time));
    programs
}
