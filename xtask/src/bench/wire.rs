//! Decoding alone: `userspace/wire/examples/throughput.rs`.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

const EXAMPLE: &str = "throughput";

pub fn build(workspace: &Workspace) -> Result<()> {
    process::run(crate::build::cargo(workspace, "build").args(["--example", EXAMPLE]))
}

pub fn run(workspace: &Workspace) -> Result<()> {
    process::run(&mut Command::new(workspace.target().join("release/examples").join(EXAMPLE)))
}
