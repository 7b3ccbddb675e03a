//! pgbench with hitscope on and off, in turn.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::daemon::Daemon;
use super::programs::{Counting, programs};
use super::{Folder, query, spread};
use crate::process::{read, run as run_command, say};
use crate::workspace::Workspace;

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Only a name within the socket's folder: it listens on no network address.
const PORT: &str = "54329";

/// What one turn with hitscope on showed.
struct On {
    per_second: f64,
    captured: u64,
    executed: u64,
    lost: BTreeMap<String, u64>,
    cpu_ns_per_statement: f64,
    collector_peak: u64,
    server_peak: u64,
}

pub fn run(workspace: &Workspace, folder: &Folder, pairs: usize, seconds: u64) -> Result<()> {
    let server = Server::start(folder)?;
    run_command(server.client("pgbench").args(["-q", "-i", "-s", "10"]).stderr(Stdio::null()))?;
    // Fills the caches.
    server.load(seconds)?;
    let (mut off, mut on): (Vec<f64>, Vec<On>) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Each comes first every other time.
        if pair % 2 == 0 {
            off.push(server.load(seconds)?);
            on.push(measure_on(workspace, folder, &server, seconds)?);
        } else {
            on.push(measure_on(workspace, folder, &server, seconds)?);
            off.push(server.load(seconds)?);
        }
        if let (Some(off), Some(on)) = (off.last(), on.last()) {
            say!(
                "pair {}/{pairs}: off {off:.0}, on {:.0} statements/s; captured {} of {}, lost: {}",
                pair + 1,
                on.per_second,
                on.captured,
                on.executed,
                words(&on.lost)
            );
        }
    }
    report(pairs, seconds, &off, &on);
    report_programs(workspace, folder, &server, seconds)
}

/// Once more, with the kernel's own count of what each program takes; counting itself costs, so the pairs do without.
fn report_programs(workspace: &Workspace, folder: &Folder, server: &Server, seconds: u64) -> Result<()> {
    let daemon = Daemon::start(workspace, folder.path(), &[], &["--no-serve"])?;
    let counting = Counting::start()?;
    let statements = server.load(seconds)? * seconds as f64;
    let programs = programs(&daemon)?;
    drop(counting);
    daemon.stop()?;
    println!("\n| program | runs per statement | ns per run | ns per statement |");
    println!("|---|---|---|---|");
    let mut sum = 0.0;
    for program in &programs {
        let ns = program.time.as_nanos() as f64;
        sum += ns / statements;
        let (runs, each) = (program.runs as f64 / statements, ns / program.runs as f64);
        println!("| `{}` | {runs:.2} | {each:.0} | {:.0} |", program.name, ns / statements);
    }
    println!("| all, of the whole host | | | {sum:.0} |");
    Ok(())
}

fn report(pairs: usize, seconds: u64, off: &[f64], on: &[On]) {
    let of = |value: fn(&On) -> f64| on.iter().map(value).collect::<Vec<_>>();
    let ratios: Vec<f64> = on.iter().zip(off).map(|(on, off)| on.per_second / off).collect();
    let sum = |value: fn(&On) -> u64| on.iter().map(value).sum::<u64>();
    let (captured, executed) = (sum(|on| on.captured), sum(|on| on.executed));
    let most = |value: fn(&On) -> u64| on.iter().map(value).max().unwrap_or(0) as f64 / f64::from(1 << 20);
    println!(
        "`pgbench -S -c 4 -j 2` over a unix socket, {pairs} pairs of {seconds} s, in turn; medians (least–most).\n"
    );
    println!("| what | measured | to reach |");
    println!("|---|---|---|");
    println!("| statements/s, off | {} | |", spread(off, 0));
    println!("| statements/s, all probes on | {} | |", spread(&of(|on| on.per_second), 0));
    println!("| on against off, by pair | {} | ≥ 0.95 |", spread(&ratios, 3));
    let share = 100.0 * captured as f64 / executed as f64;
    println!("| captured of executed | {captured} of {executed} ({share:.3} %) | 100 %, or counted as lost |");
    let mut lost = BTreeMap::<&str, u64>::new();
    for (reason, count) in on.iter().flat_map(|on| &on.lost) {
        *lost.entry(reason).or_default() += count;
    }
    println!("| lost on the whole host, by hitscope's own count | {} | |", words(lost));
    println!("| collector's CPU per statement | {} ns | |", spread(&of(|on| on.cpu_ns_per_statement), 0));
    println!("| collector's peak memory | {:.0} MiB | ≤ 150 MiB |", most(|on| on.collector_peak));
    println!("| server's peak memory, no page open | {:.0} MiB | ≤ 200 MiB |", most(|on| on.server_peak));
}

/// Losses as text.
fn words<R: Display>(lost: impl IntoIterator<Item = (R, impl Display)>) -> String {
    let words: Vec<String> = lost.into_iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

fn measure_on(workspace: &Workspace, folder: &Folder, server: &Server, seconds: u64) -> Result<On> {
    let daemon = Daemon::start(workspace, folder.path(), &[], &["--listen", "127.0.0.1:0"])?;
    // Its first look at the processes of the host is not part of what a statement costs.
    sleep(Duration::from_secs(2));
    server.sql("SELECT pg_stat_statements_reset()")?;
    let cpu = daemon.cpu_seconds()?;
    let per_second = server.load(seconds)?;
    // The open cube is flushed each second.
    sleep(Duration::from_secs(3));
    let cpu = daemon.cpu_seconds()? - cpu;
    let executed: u64 =
        server.sql("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%abalance%'")?.parse()?;
    ensure!(executed > 0, "pg_stat_statements counted nothing");
    let rows = query(
        workspace,
        &daemon.data_dir,
        "SELECT CAST(coalesce(sum(calls), 0) AS BIGINT) AS calls FROM operations
         WHERE protocol = 'postgres' AND side = 'server' AND operation LIKE '%abalance%'",
    )?;
    let captured = rows[0]["calls"].as_u64().with_context(|| format!("`hitscope query` gave {rows}"))?;
    let lost = match daemon.status()["lost"].as_object() {
        Some(lost) => lost.iter().filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?))).collect(),
        None => BTreeMap::new(),
    };
    let (collector_peak, server_peak) = daemon.peak_bytes();
    daemon.stop()?;
    let cpu_ns_per_statement = cpu * 1e9 / executed as f64;
    let server_peak = server_peak.unwrap_or(0);
    Ok(On { per_second, captured, executed, lost, cpu_ns_per_statement, collector_peak, server_peak })
}

/// A PostgreSQL of our own in the folder, as the user `postgres`, since it refuses to run as root.
struct Server {
    folder: PathBuf,
}

impl Server {
    fn start(folder: &Folder) -> Result<Self> {
        let own = folder.path().join("postgres");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        run_command(Command::new("install").args(["-d", "-o", "postgres", "-g", "postgres", "-m", "700"]).arg(&own))?;
        let server = Self { folder: own };
        let data = server.folder.join("data");
        run_command(
            server
                .command("initdb")
                .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "-D"])
                .arg(&data)
                .stdout(Stdio::null()),
        )?;
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c port={PORT} -c shared_buffers=256MB \
             -c shared_preload_libraries=pg_stat_statements",
            server.folder.display()
        );
        run_command(
            server
                .command("pg_ctl")
                .args(["start", "--silent", "--wait", "-o", &options, "-l"])
                .arg(server.folder.join("log"))
                .arg("-D")
                .arg(&data),
        )?;
        server.sql("CREATE EXTENSION pg_stat_statements")?;
        Ok(server)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(format!("{BIN}/{program}")).current_dir(&self.folder);
        command.stdin(Stdio::null());
        command
    }

    /// A client program that connects over the unix socket.
    fn client(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.env("PGHOST", &self.folder).env("PGPORT", PORT).env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    fn sql(&self, statement: &str) -> Result<String> {
        Ok(read(self.client("psql").args(["-XAtqc", statement]))?.trim().to_owned())
    }

    /// One run of the load; statements per second.
    fn load(&self, seconds: u64) -> Result<f64> {
        let text = read(
            self.client("pgbench")
                .args(["-n", "-S", "-c", "4", "-j", "2", "-T", &seconds.to_string()])
                .stderr(Stdio::null()),
        )?;
        let line = text.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench printed no tps")?;
        line.split_whitespace().next().unwrap_or_default().parse().context("pgbench's tps")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.join("data");
        let _ = run_command(self.command("pg_ctl").args(["stop", "--silent", "--mode=fast", "-D"]).arg(data));
    }
}
