//! `cargo xtask bench NAME`: measures what the design promises, as ratios within one run.
//!
//! What is compared takes turns, so that a slow moment of the machine meets all of it; a median over the turns is
//! printed as a Markdown table. They belong into `docs/measurements.md`.

mod daemon;
mod empty;
mod history;
mod load;
mod overhead;
mod tls;
mod wire;

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::{fs, process};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::process::{as_root, describe, is_root, read, say, version};
use crate::workspace::Workspace;
use crate::{build, setup};

#[derive(Args)]
pub struct Bench {
    /// Measure what was built before
    #[arg(long, global = true)]
    no_build: bool,
    #[command(subcommand)]
    name: Name,
}

#[derive(Subcommand)]
enum Name {
    /// Nanoseconds added per syscall: hitscope's probe, an empty raw-tracepoint pair, bpftrace's same histogram
    Overhead {
        #[arg(long, default_value_t = 7)]
        rounds: usize,
    },
    /// Servers under load with hitscope on and off: throughput, captured requests, the collector's CPU and memory
    Load {
        /// Which loads; all unless said
        #[arg(value_parser = load::NAMES)]
        names: Vec<String>,
        /// Turns, each once on and once off
        #[arg(long, default_value_t = 10)]
        pairs: usize,
        /// Length of one turn
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Nanoseconds added per SSL_read and SSL_write
    Tls {
        #[arg(long, default_value_t = 7)]
        rounds: usize,
    },
    /// Decoding of PostgreSQL's protocol without kernel: statements and bytes per second
    Wire,
    /// Bytes on disk per hit and process sample; one process's day out of a host's week
    History {
        /// Processes of the host
        #[arg(long, default_value_t = 100)]
        processes: u32,
        /// Days of history
        #[arg(long, default_value_t = 7)]
        days: u32,
    },
}

pub fn run(workspace: &Workspace, bench: Bench) -> Result<()> {
    if !bench.no_build {
        build::build(workspace)?;
        match &bench.name {
            Name::Overhead { .. } | Name::Load { .. } | Name::Tls { .. } => setup::tests(workspace)?,
            Name::Wire => wire::build(workspace)?,
            Name::History { .. } => history::build(workspace)?,
        }
    }
    // Built as the user, measured as root.
    if matches!(bench.name, Name::Overhead { .. } | Name::Load { .. } | Name::Tls { .. }) && !is_root() {
        let mut command = as_root("env")?;
        command.arg(format!("HITSCOPE_CACHE={}", workspace.cache.display()));
        command.arg(env::current_exe().context("finding xtask itself")?).args(env::args_os().skip(1)).arg("--no-build");
        say!("{}", describe(&command));
        return Err(command.exec()).context("starting xtask as root");
    }
    let folder = Folder::create()?;
    println!("{}\n", machine());
    match bench.name {
        Name::Overhead { rounds } => overhead::run(workspace, &folder, rounds),
        Name::Load { names, pairs, seconds } => load::run(workspace, &names, pairs, seconds),
        Name::Tls { rounds } => tls::run(workspace, &folder, rounds),
        Name::Wire => wire::run(workspace),
        Name::History { processes, days } => history::run(workspace, &folder, processes, days),
    }
}

/// The line above each table.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("CPU", |(_, name)| name);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = version("uname", &["-r"]).unwrap_or_default();
    let commit =
        version("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]).unwrap_or_default();
    format!("{cpus} CPUs ({model}), Linux {kernel}, commit {commit}")
}

/// A folder for one measurement, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let path = env::temp_dir().join(format!("hitscope-bench-{}", process::id()));
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The middle of the values, or the mean of the two in the middle; NaN without values.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (0, 0) => f64::NAN,
        (middle, 1) => sorted[middle],
        (middle, _) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Median with the least and the most.
fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$}–{most:.digits$})", median(values))
}

/// `hitscope query`, as JSON.
fn query(workspace: &Workspace, data_dir: &Path, sql: &str) -> Result<serde_json::Value> {
    let text = read(
        process::Command::new(workspace.binary()).args(["query", sql, "--format", "json", "--data-dir"]).arg(data_dir),
    )?;
    serde_json::from_str(&text).context("reading what `hitscope query` printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(spread(&[1.0, 3.0, 2.0], 1), "2.0 (1.0–3.0)");
    }
}
