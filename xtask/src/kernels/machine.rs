//! The kinds of machines that guests are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arm64;
use crate::process::find_program;
use crate::workspace::Workspace;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Arm64,
}

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Emulation: slow, and works everywhere.
    Tcg,
    Kvm,
}

impl Machine {
    /// Debian's name of it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// In the cache: a folder for each of its kernels, where apt has its own.
    pub fn kernels(self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::X86_64 => workspace.kernels(),
            Self::Arm64 => arm64::folder(workspace).join("kernels"),
        }
    }

    /// Where its programs and their libraries lie as in the guest.
    pub fn root(self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::X86_64 => "/".into(),
            Self::Arm64 => arm64::folder(workspace).join("root"),
        }
    }

    /// QEMU, up to the kernel.
    pub fn qemu(self, accelerator: Accelerator) -> Result<Command> {
        let (program, machine, package) = match self {
            Self::X86_64 => ("qemu-system-x86_64", "pc", "qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "virt", "qemu-system-arm"),
        };
        let path = find_program(program).with_context(|| format!("no {program} here: install {package}"))?;
        let mut command = Command::new(path);
        command.args(["-M", machine]).args(match (accelerator, self) {
            // One thread for all CPUs: with more, a CPU may never see that the kernel has changed the code it is in, and trap for ever.
            (Accelerator::Tcg, Self::X86_64) => ["-accel", "tcg,thread=single", "-cpu", "max"],
            // Signing pointers in the architecture's own way would take most of the time.
            (Accelerator::Tcg, Self::Arm64) => ["-accel", "tcg,thread=single", "-cpu", "max,pauth-impdef=on"],
            (Accelerator::Kvm, _) => ["-accel", "kvm", "-cpu", "host"],
        });
        Ok(command)
    }

    /// Its serial line, as the kernel names it.
    pub fn serial(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }

    /// The libraries that a program names, in `ldd`'s words.
    pub fn ldd(self, root: &Path, program: &Path) -> Result<String> {
        let mut command = match self {
            Self::X86_64 => Command::new("ldd"),
            Self::Arm64 => {
                let paths =
                    ["lib", "usr/lib"].map(|path| root.join(path).join("aarch64-linux-gnu").display().to_string());
                let mut command = Command::new("qemu-aarch64");
                command.arg(root.join("lib/ld-linux-aarch64.so.1")).args([
                    "--library-path",
                    &paths.join(":"),
                    "--list",
                ]);
                command
            }
        };
        let output = command.arg(program).output().with_context(|| format!("starting {:?}", command.get_program()))?;
        if self == Self::Arm64 && !output.status.success() {
            bail!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        // Of this machine's programs it fails for those without any.
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
