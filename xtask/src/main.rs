//! Sets up, builds, runs, tests and measures hitscope: `cargo xtask <verb>`.
//!
//! Each verb does the set-up it needs, says what it does and why, and skips what is there.

mod apt;
mod arm64;
mod bench;
mod build;
mod fuzz;
mod kernels;
mod package;
mod probes;
mod process;
mod setup;
mod stamp;
mod tally;
mod test;
mod web;
mod workspace;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::process::{as_root, say};
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, runs, tests and measures hitscope")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install all that building and testing need; the other verbs imply their part of it
    Setup,
    /// Compile the kernel programs
    Probes,
    /// Build the web page
    Web,
    /// Build the programs: target/release/hitscope and hitscope-server
    Build,
    /// Build, and start `hitscope run` as root: `cargo xtask run -- --listen 127.0.0.1:7460`
    Run {
        /// Arguments for `hitscope run`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Every check and test; the last line is the sum
    Test {
        /// Only tests whose name contains this, and no other checks
        filter: Option<String>,
    },
    /// Run live tests on other kernels, in virtual machines; prints tables for docs/kernels.md
    TestKernels {
        /// Kernels by version, such as 6.12 or newest; without any, the whole matrix
        versions: Vec<String>,
        /// Only start hitscope by its systemd unit, on the newest kernel or these
        #[arg(long)]
        unit: bool,
        /// Use KVM, where it boots a kernel within 20 s
        #[arg(long)]
        kvm: bool,
        /// Compile all for arm64, and emulate that
        #[arg(long, conflicts_with_all = ["unit", "kvm"])]
        arm64: bool,
    },
    /// Compile for arm64 on another machine, and run unit tests under emulation
    CheckArm64,
    /// Build, and make what people install: deb, rpm, tarball and container image, in target/packages
    Package,
    /// Measure; prints a table for docs/measurements.md
    Bench(bench::Bench),
    /// Write docs/tables.md anew from the schemas
    Docs,
    /// Fuzz the decoders
    Fuzz {
        /// In all
        #[arg(default_value_t = 60)]
        seconds: u64,
    },
    /// Remove what builds left: in the clone, and the caches outside it
    Clean {
        /// Keep the caches, which take long to fill
        #[arg(long)]
        keep_cache: bool,
    },
}

fn main() -> ExitCode {
    match Workspace::find().and_then(|workspace| carry_out(&workspace, Cli::parse().verb)) {
        Ok(code) => code,
        Err(error) => {
            say!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(workspace: &Workspace, verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Setup => {
            let toolchain = probes::setup(workspace)?;
            setup::node(workspace)?;
            setup::tests(workspace)?;
            say!("all there: probes by {}, caches in {}", toolchain.version(), workspace.cache.display());
        }
        Verb::Probes => println!("{}", probes::build(workspace)?.display()),
        Verb::Web => println!("{}", web::build(workspace)?.display()),
        Verb::Build => println!("{}", build::build(workspace)?.display()),
        Verb::Run { arguments } => {
            let binary = build::build(workspace)?;
            let mut command = as_root(binary)?;
            command.arg("run").args(arguments);
            say!("{}", process::describe(&command));
            return Err(command.exec()).context("starting hitscope");
        }
        Verb::Test { filter } => return Ok(exit_code(test::run_all(workspace, filter.as_deref()))),
        Verb::TestKernels { versions, arm64: true, .. } => {
            return Ok(exit_code(kernels::run_arm64(workspace, &versions)?));
        }
        Verb::TestKernels { versions, unit, kvm, .. } => {
            return Ok(exit_code(kernels::run_all(workspace, &versions, unit, kvm)?));
        }
        Verb::Package => println!("{}", package::package(workspace)?.display()),
        Verb::CheckArm64 => return Ok(exit_code(arm64::run_all(workspace))),
        Verb::Bench(bench) => bench::run(workspace, bench)?,
        Verb::Docs => {
            setup::compiler()?;
            let mut command = build::cargo(workspace, "test");
            process::run(command.args(["--quiet", "--test", "reference"]).env("HITSCOPE_WRITE_DOCS", "1"))?;
        }
        Verb::Fuzz { seconds } => return Ok(exit_code(fuzz::run_all(workspace, Duration::from_secs(seconds)))),
        Verb::Clean { keep_cache } => clean(workspace, keep_cache)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn clean(workspace: &Workspace, keep_cache: bool) -> Result<()> {
    let mut folders = vec![workspace.web_dist(), workspace.web().join("node_modules"), workspace.root.join("target")];
    if !keep_cache {
        folders.push(workspace.cache.clone());
    }
    for folder in folders.into_iter().filter(|folder| folder.exists()) {
        say!("remove {}", folder.display());
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}
