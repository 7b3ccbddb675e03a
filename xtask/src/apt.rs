//! Installs Debian packages that are missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{as_root, find_program, run, say};

/// A Debian package, what shows that it (or another source of the same) is there, and why it is needed.
pub struct Package {
    pub name: &'static str,
    pub shown_by: Shown,
    pub why: &'static str,
}

pub enum Shown {
    /// Any of these programs is on the PATH.
    Program(&'static [&'static str]),
    /// All of these files are there.
    Files(&'static [&'static str]),
}

impl Package {
    pub fn is_there(&self) -> bool {
        match self.shown_by {
            Shown::Program(names) => names.iter().any(|name| find_program(name).is_some()),
            Shown::Files(paths) => paths.iter().all(|path| Path::new(path).exists()),
        }
    }
}

/// Installs those of `packages` that are missing; without any, costs a few file look-ups.
pub fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        say!("install {} ({})", package.name, package.why);
    }
    let names: BTreeSet<&str> = missing.iter().map(|package| package.name).collect();
    // Without lists, or with old ones, apt does not find the packages or asks for files that are gone.
    if !has_lists() || apt_install(&names).is_err() {
        install_newest(&names)?;
    }
    let absent: BTreeSet<&str> =
        missing.iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    if !absent.is_empty() {
        bail!("{} installed, but not found where expected", list(&absent));
    }
    Ok(())
}

/// Brings the packages to the newest version that Debian has, whatever is there: its lists may be from an older image.
pub fn install_newest(names: &BTreeSet<&str>) -> Result<()> {
    say!("apt-get update (package lists are missing or old)");
    run(apt(names)?.args(["update", "-qq"])).context("updating the package lists")?;
    apt_install(names).with_context(|| format!("installing {}", list(names)))
}

fn apt_install(names: &BTreeSet<&str>) -> Result<()> {
    run(apt(names)?.args(["install", "-qq", "-y", "--no-install-recommends"]).args(names))
}

/// apt-get as root, quiet and without questions, for these packages.
fn apt(names: &BTreeSet<&str>) -> Result<Command> {
    if find_program("apt-get").is_none() {
        bail!("no apt-get here: install what Debian calls {} and try again", list(names));
    }
    // Through `env`, since sudo drops variables.
    let mut command = as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"]);
    // A fresh machine may be upgrading itself.
    command.args(["-o", "DPkg::Lock::Timeout=600"]);
    // It prints a line per package even when quiet; what matters goes to stderr.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

fn has_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists")
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(" ")
}
