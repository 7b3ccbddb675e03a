//! Builds the programs: probes and page first, then the workspace.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::process::{run, say};
use crate::stamp::Inputs;
use crate::workspace::{PROGRAMS, Workspace};
use crate::{probes, web};

/// Cargo for the workspace, with the build folder outside the clone and what the build scripts embed.
///
/// Always with `--workspace`: leaving crates out changes which features their dependencies get, and the SQL engine would
/// be built anew.
pub fn cargo(workspace: &Workspace, verb: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .args([verb, "--release", "--locked", "--workspace"])
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", workspace.target())
        .env("HITSCOPE_PROBES", workspace.probes_object())
        .env("HITSCOPE_WEB_DIST", workspace.web_dist());
    command
}

/// Builds everything; the programs lie in `target/release` of the clone. Returns the one that people start.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    prepare(workspace)?;
    programs(workspace)
}

/// Builds the programs from what [`prepare`] made.
pub fn programs(workspace: &Workspace) -> Result<PathBuf> {
    if !workspace.target().join("release").exists() {
        say!(
            "first build into {}: the SQL engine alone takes about 20 minutes on 2 cores",
            workspace.target().display()
        );
    }
    run(&mut cargo(workspace, "build"))?;
    publish(workspace)
}

/// Clones share the build folder, and cargo tells their crates apart by their files' times alone: an older clone's
/// would pass for built when a younger one's were. So the crates of another clone are forgotten, not their dependencies.
fn claim_target(workspace: &Workspace) -> Result<()> {
    let owner = workspace.target().join("clone");
    let root = workspace.root.to_string_lossy();
    if fs::read_to_string(&owner).is_ok_and(|last| last == root) {
        return Ok(());
    }
    for entry in fs::read_dir(workspace.target().join("release/.fingerprint")).into_iter().flatten() {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("hitscope") {
            fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    fs::create_dir_all(workspace.target())?;
    fs::write(&owner, root.as_bytes()).with_context(|| format!("writing {}", owner.display()))
}

/// Probes and page, which the workspace's build scripts embed.
pub fn prepare(workspace: &Workspace) -> Result<()> {
    claim_target(workspace)?;
    probes::build(workspace)?;
    web::build(workspace).map(drop)
}

/// Brings the built programs into the clone, each in one step: it may be running. Their symbols, a fifth of what the linker
/// writes, go to a file beside each, where debuggers and profilers look for them.
pub fn publish(workspace: &Workspace) -> Result<PathBuf> {
    for name in PROGRAMS {
        let built = workspace.target().join("release").join(name);
        let program = workspace.program(name);
        let symbols = program.with_file_name(format!("{name}.debug"));
        let made_of = Inputs::new().value((modified(&built)?, "--strip-all"));
        let stamp = program.with_file_name(format!("{name}.stamp"));
        if made_of.is_done(&stamp) && program.exists() {
            continue;
        }
        let folder = program.parent().context("the program lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let next = program.with_file_name(format!("{name}.next"));
        run(Command::new("objcopy").arg("--only-keep-debug").arg(&built).arg(&symbols))?;
        run(Command::new("objcopy").args(["--strip-all"]).arg(link_to(&symbols)).args([&built, &next]))?;
        fs::rename(&next, &program).with_context(|| format!("replacing {}", program.display()))?;
        made_of.mark_done(&stamp)?;
    }
    Ok(workspace.binary())
}

/// `objcopy`'s option that says where the symbols are.
fn link_to(symbols: &Path) -> OsString {
    let mut option = OsString::from("--add-gnu-debuglink=");
    option.push(symbols);
    option
}

/// Size and time of a file's last change.
fn modified(path: &Path) -> Result<(u64, SystemTime)> {
    let data = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    Ok((data.len(), data.modified()?))
}
