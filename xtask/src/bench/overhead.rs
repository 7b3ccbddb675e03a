//! What tracing adds to a syscall, by a loop of the cheapest one.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::daemon::Daemon;
use super::empty::EmptyPair;
use super::{Folder, median, spread};
use crate::process::say;
use crate::workspace::Workspace;

/// The same histogram as hitscope's `syscalls` probe keeps, less its split by syscall.
const BPFTRACE: &str = "tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; } \
     tracepoint:raw_syscalls:sys_exit /@start[tid]/ { @[pid] = hist(nsecs - @start[tid]); delete(@start[tid]); }";

#[derive(Clone, Copy, PartialEq)]
enum Variant {
    Empty,
    Probe,
    All,
    Bpftrace,
}

const VARIANTS: [Variant; 4] = [Variant::Empty, Variant::Probe, Variant::All, Variant::Bpftrace];

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty raw-tracepoint pair",
            Self::Probe => "hitscope, `syscalls` probe alone",
            Self::All => "hitscope, all probes",
            Self::Bpftrace => "bpftrace, histogram per process",
        }
    }
}

/// What is attached while it lives; only held.
#[expect(dead_code, reason = "held for what dropping it does")]
enum Attached {
    Pair(EmptyPair),
    Daemon(Daemon),
    Bpftrace(Bpftrace),
}

pub fn run(workspace: &Workspace, folder: &Folder, rounds: usize) -> Result<()> {
    mount_tracefs()?;
    pin_to_last_cpu()?;
    let mut added = VARIANTS.map(|_| Vec::new());
    let mut bare = Vec::new();
    for round in 0..rounds {
        for turn in 0..VARIANTS.len() {
            // Another order each round, so that none always comes after the same.
            let index = (turn + round) % VARIANTS.len();
            let before = cost();
            let attached = match VARIANTS[index] {
                Variant::Empty => Attached::Pair(EmptyPair::attach()?),
                Variant::Probe => Attached::Daemon(Daemon::start(
                    workspace,
                    folder.path(),
                    &["sched", "sockets", "connections", "tls"],
                    &["--no-serve"],
                )?),
                Variant::All => Attached::Daemon(Daemon::start(workspace, folder.path(), &[], &["--no-serve"])?),
                Variant::Bpftrace => Attached::Bpftrace(Bpftrace::start(folder)?),
            };
            sleep(Duration::from_secs(1));
            let during = cost();
            drop(attached);
            sleep(Duration::from_millis(500));
            // The machine may have become faster or slower meanwhile.
            let without = f64::midpoint(before, cost());
            say!(
                "round {}/{rounds}: {:34} {during:6.0} ns per call, {without:6.0} without",
                round + 1,
                VARIANTS[index].name()
            );
            bare.push(without);
            added[index].push(during - without);
        }
    }
    println!("`getppid` in a loop on one CPU, {rounds} rounds in turn; untraced {} ns per call.\n", spread(&bare, 0));
    println!("| traced by | ns added per syscall: median (least–most) | × empty pair | × bpftrace |");
    println!("|---|---|---|---|");
    let ratio = |of: usize, to: Variant| {
        let to = VARIANTS.iter().position(|variant| *variant == to).unwrap_or_default();
        median(&added[of].iter().zip(&added[to]).map(|(of, to)| of / to).collect::<Vec<_>>())
    };
    for (index, variant) in VARIANTS.iter().enumerate() {
        println!(
            "| {} | {} | {:.2} | {:.2} |",
            variant.name(),
            spread(&added[index], 0),
            ratio(index, Variant::Empty),
            ratio(index, Variant::Bpftrace)
        );
    }
    println!("\nTo reach, for the `syscalls` probe alone: ≤ 2.5 × the empty pair, ≤ 0.33 × bpftrace.");
    Ok(())
}

/// CPU time per call in ns: the median of many short stretches, which leaves out those that an interrupt fell into.
fn cost() -> f64 {
    const CALLS: u32 = 20_000;
    let end = Instant::now() + Duration::from_secs(1);
    let mut stretches = Vec::new();
    while Instant::now() < end {
        let start = thread_cpu_ns();
        for _ in 0..CALLS {
            // SAFETY: getppid has no preconditions; called by number, since a C library may remember the answer.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        stretches.push((thread_cpu_ns() - start) / f64::from(CALLS));
    }
    median(&stretches)
}

/// This thread's CPU time: unlike the wall clock, it stands still while something else runs.
fn thread_cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time` only; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn pin_to_last_cpu() -> Result<()> {
    // SAFETY: an all-zero cpu_set_t is an empty set, and both calls get its size; the macros stay within it.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed) != 0 {
            bail!("sched_getaffinity: {}", std::io::Error::last_os_error());
        }
        let last =
            (0..libc::CPU_SETSIZE as usize).rev().find(|cpu| libc::CPU_ISSET(*cpu, &allowed)).context("no CPU")?;
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(last, &mut one);
        if libc::sched_setaffinity(0, size_of_val(&one), &one) != 0 {
            bail!("sched_setaffinity: {}", std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// bpftrace looks for its tracepoints there.
fn mount_tracefs() -> Result<()> {
    const PLACE: &str = "/sys/kernel/tracing";
    if fs::exists(format!("{PLACE}/events"))? || fs::exists("/sys/kernel/debug/tracing/events")? {
        return Ok(());
    }
    say!("mount tracefs at {PLACE} (bpftrace needs it)");
    crate::process::run(Command::new("mount").args(["-t", "tracefs", "tracefs", PLACE]))
}

struct Bpftrace(Child);

impl Bpftrace {
    fn start(folder: &Folder) -> Result<Self> {
        let output = folder.path().join("bpftrace.log");
        let log = fs::File::create(&output)?;
        let child = Command::new("bpftrace")
            .args(["-e", BPFTRACE])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting bpftrace")?;
        let mut bpftrace = Self(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(&output)?.contains("Attaching 2 probes") {
            if bpftrace.0.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("bpftrace does not attach: {}", fs::read_to_string(&output)?);
            }
            sleep(Duration::from_millis(50));
        }
        sleep(Duration::from_secs(1));
        Ok(bpftrace)
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
