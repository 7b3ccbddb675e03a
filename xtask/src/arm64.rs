//! Compiles for arm64 on another machine.
//!
//! `cargo xtask check-arm64` compiles and links the probes as for a release; of user space, what has to do with the
//! architecture, and runs unit tests under emulation. The suite has of it what a change breaks that was made on another machine:
//! the probes and the types of what calls the kernel. The SQL engine and what stands on it would take as long again as the
//! build for this machine: that does `cargo xtask test-kernels --arm64`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::apt::{self, Package, Shown};
use crate::probes::{self, Toolchain};
use crate::process::{find_program, read, run, say};
use crate::tally::Tally;
use crate::test::{self, Runner};
use crate::web;
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "aarch64";
const TRIPLE: &str = "aarch64-unknown-linux-gnu";
/// Where Debian's cross compiler keeps the C library.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// Crates whose unit tests run.
const TESTED: [&str; 2] = ["hitscope-schemas", "hitscope-wire"];
/// Crates whose types are checked, tests included. The suite has the first: it calls the kernel.
const CHECKED: [&str; 3] = ["hitscope-collector", "hitscope-history", "hitscope-slack"];

/// Crates that are built whole, always both: alone, they would want other features of what they depend on.
const BUILT: [&str; 3] = ["hitscope", "hitscope-server", "hitscope-tests"];

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Runs the checks; false when one failed.
pub fn run_all(workspace: &Workspace) -> bool {
    let mut tally = Tally::default();
    if let Some((toolchain, object)) = compile_probes(workspace, &mut tally) {
        check_types(workspace, &toolchain, &object, &CHECKED, &mut tally);
        run_tests(workspace, &toolchain, &object, &mut tally);
    }
    tally.finish()
}

/// What the suite has of them.
pub fn run_in(workspace: &Workspace, tally: &mut Tally) {
    if let Some((toolchain, object)) = compile_probes(workspace, tally) {
        check_types(workspace, &toolchain, &object, &CHECKED[..1], tally);
    }
}

/// The toolchain and the probes' object; nothing where it cannot be, which is in the tally.
fn compile_probes(workspace: &Workspace, tally: &mut Tally) -> Option<(Toolchain, PathBuf)> {
    const NAME: &str = "arm64";
    if env::consts::ARCH == ARCHITECTURE {
        tally.skip(NAME, "this machine is arm64: all the other tests are of it");
        return None;
    }
    if find_program("apt-get").is_none() && !packages().iter().all(Package::is_there) {
        tally.skip(NAME, "no cross compiler, and no apt-get to install it");
        return None;
    }
    let mut set_up = None;
    if !tally.check("set-up for arm64", || {
        apt::install(&packages())?;
        set_up = Some(probes::setup(workspace)?);
        Ok(())
    }) {
        return None;
    }
    let toolchain = set_up?;
    let mut object = PathBuf::new();
    let compiled = tally.check("probes for arm64", || {
        object = probes(workspace, &toolchain)?;
        Ok(())
    });
    compiled.then_some((toolchain, object))
}

fn check_types(
    workspace: &Workspace,
    toolchain: &Toolchain,
    object: &Path,
    names: &'static [&'static str],
    tally: &mut Tally,
) {
    tally.check("types of user space for arm64", || {
        run(cargo(workspace, toolchain, "check", object).arg("--tests").args(crates(names)))
    });
}

fn run_tests(workspace: &Workspace, toolchain: &Toolchain, object: &Path, tally: &mut Tally) {
    let mut runners = Vec::new();
    let built = tally.check("build of unit tests for arm64", || {
        let mut command = cargo(workspace, toolchain, "test", object);
        // They run under emulation, where the decoders' random ones would take long.
        for package in ["hitscope-wire", "zlib-rs"] {
            command.arg("--config").arg(format!("profile.dev.package.{package}.opt-level=2"));
        }
        command.args(["--no-run", "--message-format=json-render-diagnostics"]).args(crates(&TESTED));
        runners = test::runners(&read(&mut command)?)?;
        Ok(())
    });
    if built {
        for runner in runners {
            let mut command = Command::new("qemu-aarch64");
            command.args(["-L", SYSROOT]).arg(&runner.executable);
            command.current_dir(&runner.package).env("CARGO_MANIFEST_DIR", &runner.package);
            tally.runner(&format!("arm64: {}", test::name(workspace, &runner)), LIMIT, &mut command);
        }
    }
}

/// The release, the live tests in these files, and where the programs are that they start.
pub struct Built {
    pub live: Vec<Runner>,
    pub programs: PathBuf,
}

/// Builds them whole.
pub fn build<'a>(workspace: &Workspace, files: impl Iterator<Item = &'a str>) -> Result<Built> {
    apt::install(&packages())?;
    let toolchain = probes::setup(workspace)?;
    web::build(workspace)?;
    let object = probes(workspace, &toolchain)?;
    let cargo = |verb| {
        let mut command = cargo(workspace, &toolchain, verb, &object);
        command.arg("--release").env("HITSCOPE_WEB_DIST", workspace.web_dist());
        command
    };
    let programs = folder(workspace).join("target").join(TRIPLE).join("release");
    if !programs.exists() {
        say!("first build for arm64: the SQL engine alone takes about 20 minutes on 2 cores");
    }
    run(cargo("build").args(crates(&BUILT)))?;
    let mut command = cargo("test");
    command.args(["--no-run", "--message-format=json-render-diagnostics"]).args(crates(&BUILT));
    let live = test::runners(&read(command.args(files.flat_map(|file| ["--test", file])))?)?;
    Ok(Built { live, programs })
}

fn packages() -> [Package; 3] {
    [
        Package {
            name: "gcc-aarch64-linux-gnu",
            shown_by: Shown::Program(&["aarch64-linux-gnu-gcc"]),
            why: "links for arm64",
        },
        Package {
            name: "libc6-dev-arm64-cross",
            shown_by: Shown::Files(&["/usr/aarch64-linux-gnu/lib/crt1.o"]),
            why: "the C library for arm64",
        },
        Package { name: "qemu-user", shown_by: Shown::Program(&["qemu-aarch64"]), why: "runs unit tests for arm64" },
    ]
}

pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.cache.join("arm64")
}

/// Compiles the probes; they must be the same programs as this machine's, and not the same code.
fn probes(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    let here = probes::build(workspace)?;
    let there = probes::compile(workspace, toolchain, ARCHITECTURE, &folder(workspace).join("probes-target"))?;
    let (programs_here, programs_there) = (programs(&here)?, programs(&there)?);
    ensure!(!programs_here.is_empty(), "no programs in {}", here.display());
    ensure!(
        programs_here == programs_there,
        "other programs: {:?}",
        programs_here.symmetric_difference(&programs_there)
    );
    ensure!(fs::read(&here)? != fs::read(&there)?, "{} is what runs here", there.display());
    Ok(there)
}

/// Names of the programs in an object.
fn programs(object: &Path) -> Result<BTreeSet<String>> {
    let symbols = read(Command::new("readelf").args(["--symbols", "--wide"]).arg(object))
        .with_context(|| format!("reading {}", object.display()))?;
    Ok(global_functions(&symbols).map(str::to_owned).collect())
}

/// Of a listing by `readelf --symbols`; without the few that every library of Rust's brings along (`memcpy`).
fn global_functions(symbols: &str) -> impl Iterator<Item = &str> {
    symbols.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, _, _, "FUNC", "GLOBAL", _, _, name] if !name.starts_with("mem") => Some(name),
        _ => None,
    })
}

/// Cargo for user space. The target's standard library is built from the same sources as that of the probes.
fn cargo(workspace: &Workspace, toolchain: &Toolchain, verb: &str, probes: &Path) -> Command {
    let mut command = toolchain.cargo();
    command
        .args([verb, "--locked", "-Zbuild-std=std,panic_unwind", "--target", TRIPLE])
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", folder(workspace).join("target"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("HITSCOPE_PROBES", probes);
    command
}

fn crates(names: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    names.iter().flat_map(|name| ["--package", name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_the_global_functions() {
        let listing = "\nSymbol table '.symtab' contains 4 entries:\n   Num:    Value          Size Type    Bind   Vis      Ndx Name\n     \
                       1: 0000000000000000     0 SECTION LOCAL  DEFAULT    3 raw_tp\n     \
                       2: 0000000000000000   120 FUNC    LOCAL  DEFAULT    3 insert\n     \
                       3: 0000000000000078   816 FUNC    GLOBAL DEFAULT    3 sys_enter\n     \
                       4: 0000000000000000     4 OBJECT  GLOBAL DEFAULT    9 OFFSETS\n";
        assert_eq!(global_functions(listing).collect::<Vec<_>>(), ["sys_enter"]);
    }
}
