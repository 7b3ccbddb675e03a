//! `cargo xtask check-arm64`: compiles for arm64 on another machine, and runs unit tests under emulation.
//!
//! The probes are compiled and linked as for a release. Of user space, what has to do with the architecture; the SQL engine
//! and what stands on it would take as long again as the build for this machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::apt::{self, Package, Shown};
use crate::probes::{self, Toolchain};
use crate::process::{find_program, read, run};
use crate::tally::Tally;
use crate::test;
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "aarch64";
const TRIPLE: &str = "aarch64-unknown-linux-gnu";
/// Where Debian's cross compiler keeps the C library.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// Crates whose unit tests run.
const TESTED: [&str; 2] = ["hitscope-schemas", "hitscope-wire"];
/// Crates that are compiled up to the machine's code, tests included.
const CHECKED: [&str; 3] = ["hitscope-collector", "hitscope-history", "hitscope-slack"];

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Runs the checks; false when one failed.
pub fn run_all(workspace: &Workspace) -> bool {
    let mut tally = Tally::default();
    run_in(workspace, &mut tally);
    tally.finish()
}

pub fn run_in(workspace: &Workspace, tally: &mut Tally) {
    const NAME: &str = "arm64";
    if env::consts::ARCH == ARCHITECTURE {
        return tally.skip(NAME, "this machine is arm64: all the other tests are of it");
    }
    if find_program("apt-get").is_none() && !packages().iter().all(Package::is_there) {
        return tally.skip(NAME, "no cross compiler, and no apt-get to install it");
    }
    let mut set_up = None;
    if !tally.check("set-up for arm64", || {
        apt::install(&packages())?;
        set_up = Some(probes::setup(workspace)?);
        Ok(())
    }) {
        return;
    }
    let Some(toolchain) = set_up else { return };
    let mut object = PathBuf::new();
    if !tally.check("probes for arm64", || {
        object = probes(workspace, &toolchain)?;
        Ok(())
    }) {
        return;
    }
    let cargo = |verb| cargo(workspace, &toolchain, verb, &object);
    tally.check("types of user space for arm64", || run(cargo("check").arg("--tests").args(crates(&CHECKED))));
    let mut runners = Vec::new();
    let built = tally.check("build of unit tests for arm64", || {
        let mut command = cargo("test");
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

fn folder(workspace: &Workspace) -> PathBuf {
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
        // The tests run under emulation, where the decoders' random ones would take long.
        .args(["--config", "profile.dev.package.hitscope-wire.opt-level=2"])
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
