//! The program with privileges has no HTTP server, no SQL engine and no TLS client: shown by its dependencies, and by what the
//! linker made of them.

use std::{fs, process::Command};

/// Crates, and what begins with their names.
const FOREIGN: [&str; 10] = [
    "axum",
    "datafusion",
    "hyper",
    "object_store",
    "reqwest",
    "ring",
    "rustls",
    "sqlparser",
    "tower",
    "hitscope-server",
];

fn tree(package: &str) -> Vec<String> {
    let output = Command::new("cargo")
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).expect("text");
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    listing.lines().map(name).collect()
}

fn is_foreign(name: &str) -> bool {
    let name = name.replace('_', "-");
    FOREIGN
        .iter()
        .map(|foreign| foreign.replace('_', "-"))
        .any(|foreign| name.strip_prefix(&foreign).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

#[test]
fn the_dependencies_have_none_of_it() {
    let all = tree("hitscope");
    assert!(all.iter().any(|name| name == "aya"), "{all:?}");
    let foreign: Vec<&String> = all.iter().filter(|name| is_foreign(name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    // The same look at the other program finds them.
    let server = tree("hitscope-server");
    for name in ["axum", "datafusion", "reqwest", "rustls"] {
        assert!(server.iter().any(|found| found == name && is_foreign(found)), "{name}");
    }
}

/// Features of what both programs depend on are those that either asks for, so the dependencies are not all of it.
#[test]
fn the_program_has_none_of_it() {
    let program = fs::read(env!("CARGO_BIN_EXE_hitscope")).expect("the program");
    // As names are mangled: with their length before them.
    let has = |name: &str| memchr::memmem::find(&program, format!("{}{name}", name.len()).as_bytes()).is_some();
    assert!(has("hitscope_collector"), "the program has its symbols");
    for name in ["axum", "datafusion", "hyper", "object_store", "reqwest", "rustls", "sqlparser", "hitscope_engine"] {
        assert!(!has(name), "{name}");
    }
}
