//! How the program is linked; the same as hitscope-server.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture == "x86_64") {
        // A position-independent program's relocations in a twentieth of the room; read by glibc from 2.36 on.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        // Functions that were compiled to the same code are one. The linker is Rust's own there, which knows how.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
