//! Puts the compiled probes where the collector embeds them. `cargo xtask build` makes them and says where they are.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=HITSCOPE_PROBES");
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("hitscope-probes.o");
    let source = env::var_os("HITSCOPE_PROBES").map(PathBuf::from);
    let copied = source.as_ref().map(|source| {
        println!("cargo::rerun-if-changed={}", source.display());
        fs::copy(source, &target)
    });
    match copied {
        Some(Ok(_)) => {}
        Some(Err(error)) => {
            println!("cargo::error=cannot copy the probes from {:?}: {error}", source.unwrap_or_default());
        }
        None => println!("cargo::error=the probes are not built: run `cargo xtask build`, which sets HITSCOPE_PROBES"),
    }
}
