//! Builds the binary: probes and page first, then the workspace.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{run, say};
use crate::workspace::Workspace;
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

/// Builds everything; the binary lies in `target/release/hitscope` of the clone.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    prepare(workspace)?;
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
    web::build(workspace)?;
    if !workspace.target().join("release").exists() {
        say!(
            "first build into {}: the SQL engine alone takes about 20 minutes on 2 cores",
            workspace.target().display()
        );
    }
    Ok(())
}

/// Links the built binary into the clone, atomically: it may be running.
pub fn publish(workspace: &Workspace) -> Result<PathBuf> {
    let built = workspace.target().join("release/hitscope");
    let binary = workspace.binary();
    let folder = binary.parent().context("the binary lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let next = binary.with_extension("next");
    let _ = fs::remove_file(&next);
    // Another file system takes no link.
    if fs::hard_link(&built, &next).is_err() {
        fs::copy(&built, &next).with_context(|| format!("copying {}", built.display()))?;
    }
    fs::rename(&next, &binary).with_context(|| format!("replacing {}", binary.display()))?;
    // A rename between two links of one file does nothing and leaves both.
    let _ = fs::remove_file(&next);
    Ok(binary)
}
