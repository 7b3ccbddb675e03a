//! Where things are: the clone, and the caches outside it that survive it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub struct Workspace {
    /// The clone.
    pub root: PathBuf,
    /// Build folder, tools and Python environment: kept when the clone is removed.
    pub cache: PathBuf,
}

/// What is built for users.
pub const PROGRAMS: [&str; 2] = ["hitscope", "hitscope-server"];

impl Workspace {
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?.to_owned();
        Ok(Self { root, cache: cache_dir(|name| env::var_os(name).filter(|value| !value.is_empty()))? })
    }

    /// Cargo's build folder for everything but xtask itself.
    pub fn target(&self) -> PathBuf {
        self.cache.join("target")
    }

    pub fn probes_target(&self) -> PathBuf {
        self.cache.join("probes-target")
    }

    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    pub fn venv(&self) -> PathBuf {
        self.cache.join("venv")
    }

    /// Kernels to test with, a folder for each.
    pub fn kernels(&self) -> PathBuf {
        self.cache.join("kernels")
    }

    /// The compiled probes, which the collector embeds.
    pub fn probes_object(&self) -> PathBuf {
        self.root.join("target/probes/hitscope-probes.o")
    }

    /// One of [`PROGRAMS`] as users of the clone find it: without symbols, which lie beside it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("target/release").join(name)
    }

    /// The program that people start.
    pub fn binary(&self) -> PathBuf {
        self.program("hitscope")
    }

    pub fn web(&self) -> PathBuf {
        self.root.join("web")
    }

    pub fn web_dist(&self) -> PathBuf {
        self.root.join("web/dist")
    }
}

fn cache_dir(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf> {
    if let Some(dir) = variable("HITSCOPE_CACHE") {
        return std::path::absolute(PathBuf::from(dir)).context("HITSCOPE_CACHE");
    }
    if let Some(dir) = variable("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("hitscope"));
    }
    let home = variable("HOME").context("neither HITSCOPE_CACHE nor XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/hitscope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_dir_takes_the_most_specific_variable() {
        let from = |set: &'static [(&str, &str)]| {
            cache_dir(move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(from(&[("HOME", "/h")]).unwrap(), Path::new("/h/.cache/hitscope"));
        assert_eq!(from(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(), Path::new("/x/hitscope"));
        assert_eq!(from(&[("XDG_CACHE_HOME", "/x"), ("HITSCOPE_CACHE", "/c")]).unwrap(), Path::new("/c"));
        assert!(from(&[]).is_err());
    }
}
