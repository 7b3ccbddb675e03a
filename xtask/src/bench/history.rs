//! What history costs on disk, and how fast one process's day comes out of it.
//!
//! Two examples of `userspace/history` write made-up rows by the very writer of the collector: `size` looks at the files
//! alone, `history_week` makes a host's week for the SQL engine to ask.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Folder, query, spread};
use crate::process::{self, say};
use crate::workspace::Workspace;

const SIZE: &str = "size";
const WEEK: &str = "history_week";
const TURNS: usize = 7;

pub fn build(workspace: &Workspace) -> Result<()> {
    process::run(crate::build::cargo(workspace, "build").args(["--example", SIZE, "--example", WEEK]))
}

pub fn run(workspace: &Workspace, folder: &Folder, processes: u32, days: u32) -> Result<()> {
    let examples = workspace.target().join("release/examples");
    process::run(Command::new(examples.join(SIZE)).arg(folder.path()))?;
    say!("write {days} days of {processes} processes, sampled every 5 s");
    let start = Instant::now();
    process::run(Command::new(examples.join(WEEK)).arg(folder.path()).args([processes.to_string(), days.to_string()]))?;
    let written = start.elapsed().as_secs_f64();
    let mut rows = Vec::new();
    for table in ["processes", "hits"] {
        let answer = query(workspace, folder.path(), &format!("SELECT CAST(count(*) AS BIGINT) AS n FROM {table}"))?;
        let count = answer[0]["n"].as_u64().with_context(|| format!("`hitscope query` gave {answer}"))?;
        let (files, bytes) = size(&folder.path().join("history").join(table))?;
        rows.push((table, count, files, bytes));
    }
    let day = "SELECT time, cpu_user_ns, cpu_system_ns, rss_bytes FROM processes
               WHERE date = '2026-01-02' AND pid = 1007 ORDER BY time";
    let nothing = "SELECT 1 AS one";
    let (mut whole, mut start_up) = (Vec::new(), Vec::new());
    let mut found = 0;
    for _ in 0..TURNS {
        let start = Instant::now();
        query(workspace, folder.path(), nothing)?;
        start_up.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        found = query(workspace, folder.path(), day)?.as_array().map_or(0, Vec::len);
        whole.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("\n{processes} processes for {days} days, one sample per 5 s; written in {written:.0} s.\n");
    println!("| what | measured | to reach |");
    println!("|---|---|---|");
    for (table, count, files, bytes) in rows {
        let each = bytes as f64 / count as f64;
        println!(
            "| bytes per row of `{table}` | {each:.1} ({count} rows, {files} files, {} MiB) | ≤ 12 |",
            bytes >> 20
        );
    }
    println!("| one process's day ({found} rows), `hitscope query` in all | {} ms | ≤ 100 ms |", spread(&whole, 0));
    println!("| of that, start and `SELECT 1` | {} ms | |", spread(&start_up, 0));
    Ok(())
}

/// Number of files below the folder, and their bytes.
fn size(folder: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let (more_files, more_bytes) = size(&entry.path())?;
            files += more_files;
            bytes += more_bytes;
        } else {
            files += 1;
            bytes += entry.metadata()?.len();
        }
    }
    Ok((files, bytes))
}
