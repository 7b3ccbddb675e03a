//! Puts the compiled probes where the collector embeds them: from HITSCOPE_PROBES, or where `cargo xtask probes` leaves them.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=HITSCOPE_PROBES");
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("hitscope-probes.o");
    let source = env::var_os("HITSCOPE_PROBES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/probes/hitscope-probes.o"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", source.display());
    // Not written over: where build folders are hard-linked copies of each other, it would change in all of them.
    let _ = fs::remove_file(&target);
    if let Err(error) = fs::copy(&source, &target) {
        println!(
            "cargo::error=the probes are not at {} ({error}): run `cargo xtask probes`, or `cargo xtask build` for all",
            source.display()
        );
    }
}
