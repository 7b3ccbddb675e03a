//! `cargo xtask test-kernels`: other kernels than this machine's, in virtual machines, with the live tests inside.
//!
//! A guest is a kernel of Debian's and one archive of files, with no disk and no network; it runs what is listed in
//! [`tests`] and says on its serial line what came of it. Guests are for correctness: they are emulated, and slow.

mod archive;
mod fetch;
mod guest;
mod image;
mod machine;
mod mirror;
mod report;
mod tests;
mod unit;

use std::num::NonZero;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::apt::{self, Package, Shown};
use crate::process::say;
use crate::tally::{Tally, show};
use crate::test::{self, Runner};
use crate::workspace::Workspace;
use crate::{arm64, build, setup};
use fetch::{Kernel, Wanted};
use guest::Outcome;
use image::Contents;
use machine::{Accelerator, Machine};
use mirror::Mirror;
use tests::{Extent, Suite};

/// Oldest first; the first and the last are those of `cargo xtask test`.
const MATRIX: [Wanted; 5] = [
    Wanted::Exactly((5, 10)),
    Wanted::Exactly((6, 1)),
    Wanted::Exactly((6, 12)),
    Wanted::About((6, 18)),
    Wanted::Newest,
];

/// Why no other kernels can be tested on here, if so.
pub fn cannot_run() -> Option<&'static str> {
    (std::env::consts::ARCH != "x86_64").then_some("other kernels are booted on x86-64 only")
}

/// Has the kernels of the whole matrix in the cache, where tests find the descriptions of their types.
pub fn fetch(workspace: &Workspace) -> Result<()> {
    fetch::fetch(workspace, Machine::X86_64, &MATRIX).map(drop)
}

/// The guests of `cargo xtask test`: there, tests that other guests' or this machine's kernel answers for are left out.
pub fn run_ends(workspace: &Workspace, live: &[Runner], tally: &mut Tally) -> Result<()> {
    let [oldest, .., newest] = MATRIX;
    let kernels = fetch::fetch(workspace, Machine::X86_64, &[oldest, newest])?;
    run_in(workspace, &contents(workspace, tests::suites(live, Extent::Ends)?), &kernels, Accelerator::Tcg, tally)?;
    kernels.last().map_or(Ok(()), |newest| run_unit(workspace, newest, Accelerator::Tcg, tally))
}

/// `cargo xtask test-kernels`; false when something failed. `unit`: the systemd unit alone.
pub fn run_all(workspace: &Workspace, versions: &[String], unit: bool, kvm: bool) -> Result<bool> {
    let wanted = match versions {
        [] if unit => vec![Wanted::Newest],
        versions => wanted(versions, &MATRIX)?,
    };
    setup::tests(workspace)?;
    let kernels = fetch::fetch(workspace, Machine::X86_64, &wanted)?;
    build::build(workspace)?;
    let accelerator = if kvm { guest::probe_kvm(workspace, &kernels[0])? } else { Accelerator::Tcg };
    let mut tally = Tally::default();
    if !unit {
        let (live, _) = test::build_tests(workspace, tests::files())?;
        let contents = contents(workspace, tests::suites(&live, Extent::Whole)?);
        let outcomes = run_in(workspace, &contents, &kernels, accelerator, &mut tally)?;
        println!("\n{}", report::tables(&outcomes));
    }
    for kernel in if unit { &kernels } else { &kernels[kernels.len() - 1..] } {
        run_unit(workspace, kernel, accelerator, &mut tally)?;
    }
    Ok(tally.finish())
}

/// `cargo xtask test-kernels --arm64`; false when something failed.
pub fn run_arm64(workspace: &Workspace, versions: &[String]) -> Result<bool> {
    // Debian's lists name a 5.10 for it, but the package is gone.
    let wanted = wanted(versions, &MATRIX[1..])?;
    setup::tests(workspace)?;
    apt::install(&[Package {
        name: "qemu-system-arm",
        shown_by: Shown::Program(&["qemu-system-aarch64"]),
        why: "emulates arm64 machines",
    }])?;
    let machine = Machine::Arm64;
    let kernels = fetch::fetch(workspace, machine, &wanted)?;
    let root = machine.root(workspace);
    Mirror::open(machine, &machine.kernels(workspace))?.unpack(&image::PACKAGES, &root)?;
    let arm64::Built { live, programs } = arm64::build(workspace, tests::files())?;
    let suites = tests::suites(&live, Extent::Whole)?;
    let contents = Contents { machine, root, release: programs.clone(), suites, programs };
    let mut tally = Tally::default();
    let outcomes = run_in(workspace, &contents, &kernels, Accelerator::Tcg, &mut tally)?;
    println!("\n{}", report::tables(&outcomes));
    Ok(tally.finish())
}

fn wanted(versions: &[String], all: &[Wanted]) -> Result<Vec<Wanted>> {
    match versions {
        [] => Ok(all.to_vec()),
        versions => versions.iter().map(|version| Wanted::parse(version)).collect(),
    }
}

/// What this machine has itself.
fn contents(workspace: &Workspace, suites: Vec<Suite>) -> Contents {
    Contents {
        machine: Machine::X86_64,
        root: Machine::X86_64.root(workspace),
        release: workspace.root.join("target/release"),
        suites,
        programs: workspace.target().join("release"),
    }
}

fn run_in(
    workspace: &Workspace,
    contents: &Contents,
    kernels: &[Kernel],
    accelerator: Accelerator,
    tally: &mut Tally,
) -> Result<Vec<Outcome>> {
    let image = contents.machine.kernels(workspace).join("guest.cpio");
    image::write(contents, &image).context("making the guests' files")?;
    let tests = contents.suites.iter().map(|suite| suite.tests.len() as u64).sum();
    let jobs: Vec<Guest<'_>> =
        kernels.iter().map(|kernel| Guest { kernel, how: "", tests, image: &image, accelerator }).collect();
    let outcomes = run_all_of(workspace, &jobs, tally);
    let _ = std::fs::remove_file(image);
    Ok(outcomes)
}

fn run_unit(workspace: &Workspace, kernel: &Kernel, accelerator: Accelerator, tally: &mut Tally) -> Result<()> {
    let image = workspace.kernels().join("unit.cpio");
    unit::write(workspace, &image).context("making the files of a guest with systemd")?;
    let guest = Guest { kernel, how: " by its systemd unit", tests: unit::TESTS, image: &image, accelerator };
    run_all_of(workspace, &[guest], tally);
    let _ = std::fs::remove_file(image);
    Ok(())
}

struct Guest<'a> {
    kernel: &'a Kernel,
    /// How it differs from the others of its kernel.
    how: &'static str,
    /// How many tests it runs.
    tests: u64,
    image: &'a Path,
    accelerator: Accelerator,
}

/// As many side by side as there are CPUs, at most two: emulated, each takes one. What the first says is shown at once, what the
/// others say when they have ended.
fn run_all_of(workspace: &Workspace, guests: &[Guest<'_>], tally: &mut Tally) -> Vec<Outcome> {
    let at_once = thread::available_parallelism().map_or(1, NonZero::get).min(2);
    let mut outcomes = Vec::new();
    for guests in guests.chunks(at_once) {
        thread::scope(|scope| {
            let started = guests.iter().enumerate().map(|(number, guest)| {
                let log = guest::log(&workspace.root, guest.kernel, guest.how);
                let Guest { kernel, how, tests, image, accelerator } = *guest;
                let name = format!("Linux {}{how}", kernel.release);
                say!("── {name}, {accelerator:?}; its serial line goes to {}", log.display());
                let running = scope.spawn(move || {
                    let (start, mut lines) = (Instant::now(), Vec::new());
                    let mut take = |line: &str| match number {
                        0 => show(line),
                        _ => lines.push(line.to_owned()),
                    };
                    let outcome = guest::run(kernel, image, accelerator, &log, tests, &mut take);
                    (outcome, start.elapsed(), lines)
                });
                (name, running)
            });
            // All of them, before the first is waited for.
            for (name, thread) in started.collect::<Vec<_>>() {
                let (outcome, time, lines) = thread.join().expect("a guest's thread does not panic");
                if !lines.is_empty() {
                    say!("── what {name} said");
                    lines.iter().for_each(|line| show(line));
                }
                match outcome {
                    Ok(outcome) => {
                        tally.counted(&name, time, Ok((outcome.counts, outcome.complaint.clone())));
                        for skip in &outcome.skips {
                            tally.passed_was_skipped(&format!("{name}: {skip}"));
                        }
                        if outcome.probes.iter().any(|(_, attached)| !attached) {
                            say!("{}: not every probe is attached: {:?}", outcome.release, outcome.probes);
                        }
                        outcomes.push(outcome);
                    }
                    Err(error) => tally.counted(&name, time, Err(error)),
                }
            }
        });
    }
    outcomes
}
