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

use std::path::Path;

use anyhow::{Context, Result};

use crate::apt::{self, Package, Shown};
use crate::process::say;
use crate::tally::Tally;
use crate::test::{self, Runner};
use crate::workspace::Workspace;
use crate::{arm64, build, setup};
use fetch::{Kernel, Wanted};
use guest::Outcome;
use image::Contents;
use machine::{Accelerator, Machine};
use mirror::Mirror;

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

/// The guests of `cargo xtask test`.
pub fn run_ends(workspace: &Workspace, live: &[Runner], tally: &mut Tally) -> Result<()> {
    let [oldest, .., newest] = MATRIX;
    let kernels = fetch::fetch(workspace, Machine::X86_64, &[oldest, newest])?;
    run_in(workspace, &contents(workspace, live)?, &kernels, Accelerator::Tcg, tally)?;
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
        let outcomes = run_in(workspace, &contents(workspace, &live)?, &kernels, accelerator, &mut tally)?;
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
    let contents = Contents { machine, root, release: programs.clone(), suites: tests::suites(&live)?, programs };
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
fn contents(workspace: &Workspace, live: &[Runner]) -> Result<Contents> {
    Ok(Contents {
        machine: Machine::X86_64,
        root: Machine::X86_64.root(workspace),
        release: workspace.root.join("target/release"),
        suites: tests::suites(live)?,
        programs: workspace.target().join("release"),
    })
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
    let one = |kernel| run_one(workspace, kernel, ("", tests::count()), &image, accelerator, tally);
    let outcomes = kernels.iter().map(one).collect();
    let _ = std::fs::remove_file(image);
    outcomes
}

fn run_unit(workspace: &Workspace, kernel: &Kernel, accelerator: Accelerator, tally: &mut Tally) -> Result<()> {
    let image = workspace.kernels().join("unit.cpio");
    unit::write(workspace, &image).context("making the files of a guest with systemd")?;
    let outcome = run_one(workspace, kernel, (" by its systemd unit", unit::TESTS), &image, accelerator, tally);
    let _ = std::fs::remove_file(image);
    outcome.map(drop)
}

fn run_one(
    workspace: &Workspace,
    kernel: &Kernel,
    (how, tests): (&str, u64),
    image: &Path,
    accelerator: Accelerator,
    tally: &mut Tally,
) -> Result<Outcome> {
    let log = guest::log(&workspace.root, kernel, how);
    let mut outcome = Outcome::default();
    let name = format!("Linux {}{how}", kernel.release);
    let title = format!("{name}, {accelerator:?}; its serial line goes to {}", log.display());
    tally.counted(&name, &title, || {
        outcome = guest::run(kernel, image, accelerator, &log, tests)?;
        Ok((outcome.counts, outcome.complaint.clone()))
    });
    for skip in &outcome.skips {
        tally.passed_was_skipped(&format!("{name}: {skip}"));
    }
    if outcome.probes.iter().any(|(_, attached)| !attached) {
        say!("{}: not every probe is attached: {:?}", kernel.release, outcome.probes);
    }
    Ok(outcome)
}
