//! Builds the page that the server embeds.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{run, say};
use crate::setup;
use crate::stamp::Inputs;
use crate::workspace::Workspace;

/// npm with a Node that is new enough, in `folder` of the clone; its packages are as the lock file says.
pub fn npm(workspace: &Workspace, folder: &str) -> Result<Command> {
    let path = setup::node(workspace)?;
    let folder = workspace.root.join(folder);
    let inputs = Inputs::new().path(&folder.join("package.json"))?.path(&folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.stamp");
    if !inputs.is_done(&stamp) {
        say!("npm ci in {} (its packages changed)", folder.display());
        let mut command = setup::with_path(Command::new("npm"), &path)?;
        run(command.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder))?;
        inputs.mark_done(&stamp)?;
    }
    let mut command = setup::with_path(Command::new("npm"), &path)?;
    command.current_dir(&folder);
    Ok(command)
}

/// Builds the page when it changed.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let dist = workspace.web_dist();
    let stamp = workspace.root.join("target/web.stamp");
    let inputs = Inputs::new().path(&workspace.web())?;
    if inputs.is_done(&stamp) && dist.join("index.html").exists() {
        return Ok(dist);
    }
    let mut command = npm(workspace, "web")?;
    say!("build the web page");
    run(command.args(["run", "--silent", "build"]))?;
    fs::metadata(dist.join("index.html")).context("the web page's build left no dist/index.html")?;
    inputs.mark_done(&stamp)?;
    Ok(dist)
}
