//! Embeds the built page, `HITSCOPE_WEB_DIST` or else `web/dist` of the clone, as a list of its files; and how the program is
//! linked, the same as hitscope.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture == "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    println!("cargo::rerun-if-env-changed=HITSCOPE_WEB_DIST");
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../web/dist");
    let dist = env::var_os("HITSCOPE_WEB_DIST").map_or_else(default, PathBuf::from);
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        find(&dist, &mut files).expect("the built page can be read");
    } else {
        let missing = format!("the page is not built ({} has no index.html): run `cargo xtask build`", dist.display());
        // `cargo xtask` says where it put the page; a bare `cargo build` may do without.
        assert!(env::var_os("HITSCOPE_WEB_DIST").is_none(), "{missing}");
        println!("cargo::warning={missing}");
    }
    files.sort();
    write(&dist, &files).expect("the build folder is writable");
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn write(dist: &Path, files: &[PathBuf]) -> io::Result<()> {
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut list = fs::File::create(folder.join("files.rs"))?;
    writeln!(list, "&[")?;
    for path in files {
        let name = path.strip_prefix(dist).expect("it was found there").to_string_lossy().replace('\\', "/");
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", path.canonicalize()?)?;
    }
    writeln!(list, "]")
}
