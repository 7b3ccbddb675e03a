//! Builds the kernel programs.
//!
//! They need a rustc with its library's sources and the same LLVM as the linker's: rustup's nightly with rust-src, or
//! the newer rustc that Debian 12 keeps for building browsers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::apt::{self, Package, Shown};
use crate::process::{find_program, run, say, version};
use crate::setup;
use crate::stamp::{self, Inputs};
use crate::workspace::Workspace;

const LINKER_VERSION: &str = "0.13.0";
const LLVM_MAJOR: u32 = 22;
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const OBJCOPY: &str = "/usr/lib/llvm-22/bin/llvm-objcopy";
/// `rust-version` of the workspace.
const OLDEST_RUSTC: (u32, u32) = (1, 94);

/// The compiler of the probes.
pub enum Toolchain {
    /// `cargo +nightly`, with rust-src.
    RustupNightly { version: String },
    /// Debian's rustc-web, which our cargo drives.
    Debian { version: String },
}

impl Toolchain {
    /// What is there; rustup's nightly first.
    pub fn detect() -> Option<Self> {
        rustup_nightly().or_else(debian)
    }

    pub fn version(&self) -> &str {
        match self {
            Self::RustupNightly { version } | Self::Debian { version } => version,
        }
    }

    /// Cargo with this compiler.
    pub fn cargo(&self) -> Command {
        // Rustup's cargo sets these for what it starts, which has another compiler here.
        let mut command = Command::new("cargo");
        for name in ["RUSTC", "RUSTDOC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO"] {
            command.env_remove(name);
        }
        match self {
            Self::RustupNightly { .. } => {
                command.env("RUSTUP_TOOLCHAIN", "nightly");
            }
            Self::Debian { .. } => {
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc").env("RUSTC_BOOTSTRAP", "1");
            }
        }
        command
    }
}

/// `cargo build` for the BPF target.
const BUILD: [&str; 6] = ["build", "-Zbuild-std=core", "--target", "bpfel-unknown-none", "--release", "--locked"];

fn flags(architecture: &str) -> String {
    format!("{} -Clink-arg=--btf", architecture_flag(architecture))
}

/// Flags for looking at the probes with a host compiler.
pub fn host_flags() -> String {
    architecture_flag(env::consts::ARCH)
}

fn architecture_flag(architecture: &str) -> String {
    format!("--cfg=bpf_target_arch=\"{architecture}\"")
}

fn linker(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("bin/bpf-linker")
}

fn rustup_nightly() -> Option<Toolchain> {
    find_program("rustup")?;
    // Asked of the files, not of rustup, which takes long and may want to download.
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup")))?;
    let sysroot = home.join("toolchains").join(format!("nightly-{}-unknown-linux-gnu", env::consts::ARCH));
    has_source(&sysroot).then_some(())?;
    let version = rustc_version(&sysroot.join("bin/rustc"))?;
    Some(Toolchain::RustupNightly { version })
}

fn debian() -> Option<Toolchain> {
    has_source(Path::new("/usr")).then_some(())?;
    let version = rustc_version(Path::new("/usr/bin/rustc"))?;
    Some(Toolchain::Debian { version })
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
}

/// The compiler's version when it is new enough for the sources, and the linker's LLVM can read what it writes.
fn rustc_version(rustc: &Path) -> Option<String> {
    let output = Command::new(rustc).arg("-vV").output().ok()?;
    usable(&String::from_utf8(output.stdout).ok()?)
}

/// The first line of `rustc -vV`, if it is a compiler for the probes.
fn usable(text: &str) -> Option<String> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let llvm: u32 = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    let release = setup::parse_version(field("release: ")?)?;
    (llvm <= LLVM_MAJOR && release >= OLDEST_RUSTC).then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// Makes sure that compiler and linker of the probes are there.
pub fn setup(workspace: &Workspace) -> Result<Toolchain> {
    setup::compiler()?;
    let toolchain = match Toolchain::detect() {
        Some(toolchain) => toolchain,
        None => {
            say!(
                "no rustup nightly with rust-src for LLVM {LLVM_MAJOR}: taking Debian's rustc-web and rust-web-src to compile the probes"
            );
            apt::install_newest(&["rustc-web", "rust-web-src"].into())?;
            Toolchain::detect()
                .context("Debian's rustc-web is installed, but is no rustc 1.94 or later with sources and LLVM 22")?
        }
    };
    install_linker(workspace)?;
    apt::install(&[Package { name: "llvm-22", shown_by: Shown::Files(&[OBJCOPY]), why: "strips the probes" }])?;
    Ok(toolchain)
}

fn install_linker(workspace: &Workspace) -> Result<()> {
    let root = workspace.tools();
    let stamp = root.join("bpf-linker.stamp");
    let inputs = Inputs::new().value(LINKER_VERSION).value(LLVM_MAJOR);
    if inputs.is_done(&stamp) && linker(workspace).exists() {
        return Ok(());
    }
    apt::install(&[
        Package {
            name: "llvm-22-dev",
            shown_by: Shown::Files(&["/usr/lib/llvm-22/include/llvm-c/Core.h"]),
            why: "bpf-linker is made of it",
        },
        Package { name: "zlib1g-dev", shown_by: Shown::Files(&["/usr/include/zlib.h"]), why: "bpf-linker, by LLVM" },
        Package { name: "libzstd-dev", shown_by: Shown::Files(&["/usr/include/zstd.h"]), why: "bpf-linker, by LLVM" },
    ])?;
    if !linker_runs(workspace) {
        say!("install bpf-linker {LINKER_VERSION} from crates.io into {} (links the probes)", root.display());
        fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
        run(Command::new("cargo")
            .args(["install", "--locked", "--no-default-features", "--features", "llvm-22", "--force", "--root"])
            .arg(&root)
            .arg(format!("bpf-linker@={LINKER_VERSION}"))
            // Not in the clone, whose configuration is not meant for it.
            .current_dir(&root)
            .env("CARGO_TARGET_DIR", workspace.cache.join("tools-target"))
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX))?;
        if !linker_runs(workspace) {
            bail!("{} does not run", linker(workspace).display());
        }
        // Nothing else is built there.
        let _ = fs::remove_dir_all(workspace.cache.join("tools-target"));
    }
    inputs.mark_done(&stamp)
}

fn linker_runs(workspace: &Workspace) -> bool {
    version(linker(workspace), &["--version"]).is_some_and(|text| text.ends_with(LINKER_VERSION))
}

/// Everything the compiled probes depend on.
fn inputs(workspace: &Workspace, toolchain: &Toolchain) -> Result<Inputs> {
    Inputs::new()
        .value((toolchain.version(), flags(env::consts::ARCH), LINKER_VERSION, BUILD, "--strip-debug"))
        .path(&workspace.root.join("probe-ebpf"))?
        .path(&workspace.root.join("schemas"))
}

/// Compiles the probes when they changed.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let toolchain = setup(workspace)?;
    let object = workspace.probes_object();
    let stamp = object.with_extension("stamp");
    let inputs = inputs(workspace, &toolchain)?;
    if inputs.is_done(&stamp) && object.exists() {
        return Ok(object);
    }
    say!("build the probes ({})", toolchain.version());
    let built = compile(workspace, &toolchain, env::consts::ARCH, &workspace.probes_target())?;
    stamp::copy_if_changed(&built, &object)?;
    inputs.mark_done(&stamp)?;
    Ok(object)
}

/// Compiles the probes for kernels of an architecture, as [`env::consts::ARCH`] names it; returns the object.
pub fn compile(workspace: &Workspace, toolchain: &Toolchain, architecture: &str, target: &Path) -> Result<PathBuf> {
    run(toolchain
        .cargo()
        .args(BUILD)
        .current_dir(workspace.root.join("probe-ebpf"))
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker(workspace))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", flags(architecture)))?;
    let built = target.join("bpfel-unknown-none/release/hitscope-probes");
    // What debuggers read is four fifths of it, and the collector would carry it along. The kernel's BTF stays.
    let object = built.with_extension("o");
    run(Command::new(OBJCOPY).arg("--strip-debug").args([&built, &object]))?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_too_old_or_of_a_newer_llvm_is_none() {
        let text = |release: &str, llvm: &str| {
            usable(&format!("rustc {release} (x 2026-01-01)\nhost: x\nrelease: {release}\nLLVM version: {llvm}\n"))
        };
        assert_eq!(text("1.96.0", "22.1.8").unwrap(), "rustc 1.96.0 (x 2026-01-01)");
        assert_eq!(text("1.97.0-nightly", "22.0.0").unwrap(), "rustc 1.97.0-nightly (x 2026-01-01)");
        assert_eq!(text("1.85.0", "19.1.7"), None);
        assert_eq!(text("1.99.0", "23.1.0"), None);
        assert_eq!(usable("nothing of the kind"), None);
    }

    #[test]
    fn the_oldest_compiler_is_the_workspaces() {
        let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("rust-version = \"{}.{}\"", OLDEST_RUSTC.0, OLDEST_RUSTC.1)));
    }
}
