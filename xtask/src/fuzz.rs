//! Runs the fuzz targets of `tests/fuzz`, one after the other, each as libFuzzer binary.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::process::{run, say};
use crate::setup;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// What makes a binary report to libFuzzer which code it reached; all stable rustc.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Fuzzes for about this long in all; false when something was found.
pub fn run_all(workspace: &Workspace, time: Duration) -> bool {
    let mut tally = Tally::default();
    run_in(workspace, time, &mut tally);
    tally.finish()
}

pub fn run_in(workspace: &Workspace, time: Duration, tally: &mut Tally) {
    let mut targets = Vec::new();
    if !tally.check("build of the fuzz targets", || {
        targets = build(workspace)?;
        Ok(())
    }) {
        return;
    }
    let seconds = (time.as_secs() / targets.len() as u64).max(1);
    for (name, executable) in targets {
        tally.check(&format!("fuzz {name} for {seconds} s"), || fuzz(workspace, &name, &executable, seconds));
    }
}

/// Builds the targets; returns their names and executables.
fn build(workspace: &Workspace) -> Result<Vec<(String, PathBuf)>> {
    setup::compiler()?;
    let folder = workspace.root.join("tests/fuzz");
    let target = workspace.cache.join("fuzz-target");
    // Named, so that build scripts do without the flags.
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    run(Command::new("cargo")
        .args(["build", "--release", "--locked", "--bins", "--target", &triple])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", FLAGS))?;
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder.join("targets")).context("reading tests/fuzz/targets")? {
        if let Some(name) = entry?.file_name().to_string_lossy().strip_suffix(".rs") {
            targets.push((name.to_owned(), target.join(&triple).join("release").join(name)));
        }
    }
    if targets.is_empty() {
        bail!("tests/fuzz has no targets");
    }
    targets.sort();
    Ok(targets)
}

fn fuzz(workspace: &Workspace, name: &str, executable: &PathBuf, seconds: u64) -> Result<()> {
    // What earlier runs found to reach new code; the seeds beside the targets are only read.
    let corpus = workspace.cache.join("fuzz-corpus").join(name);
    fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
    let findings = workspace.root.join("target/fuzz");
    fs::create_dir_all(&findings)?;
    let seeds = workspace.root.join("tests/fuzz/corpus").join(name);
    let mut command = Command::new(executable);
    command.arg(&corpus);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}/{name}-", findings.display()));
    let result = run(&mut command);
    if result.is_err() {
        say!("the input is in {}; run it again with `{} FILE`", findings.display(), executable.display());
    }
    result
}
