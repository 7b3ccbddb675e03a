//! "Is this step still done?": a file with a hash of what the step was made from.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a step's result depends on.
#[derive(Default)]
pub struct Inputs(DefaultHasher);

impl Inputs {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn value(mut self, value: impl Hash) -> Self {
        value.hash(&mut self.0);
        self
    }

    /// Names and contents of the file, or of all files below the folder; nothing there is an input too.
    pub fn path(mut self, path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        collect(path, &mut files)?;
        files.sort();
        for file in files {
            file.strip_prefix(path).unwrap_or(&file).hash(&mut self.0);
            fs::read(&file).with_context(|| format!("reading {}", file.display()))?.hash(&mut self.0);
        }
        Ok(self)
    }

    pub fn is_done(&self, stamp: &Path) -> bool {
        fs::read_to_string(stamp).is_ok_and(|text| text == self.hash())
    }

    pub fn mark_done(&self, stamp: &Path) -> Result<()> {
        if let Some(folder) = stamp.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(stamp, self.hash()).with_context(|| format!("writing {}", stamp.display()))
    }

    fn hash(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}

/// Folders that hold results, not inputs.
const RESULTS: [&str; 4] = ["node_modules", "target", "dist", "build"];

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
    } else if path.is_dir() && !path.file_name().is_some_and(|name| RESULTS.iter().any(|result| name == *result)) {
        for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            collect(&entry?.path(), files)?;
        }
    }
    Ok(())
}

/// Copies only when the contents differ, so that nothing is rebuilt for a newer date; replaces atomically.
pub fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let contents = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == contents) {
        return Ok(false);
    }
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let next = to.with_extension("next");
    fs::write(&next, contents).with_context(|| format!("writing {}", next.display()))?;
    fs::rename(&next, to).with_context(|| format!("replacing {}", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_name_or_content_undoes_a_stamp() {
        let folder = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        let inputs = || Inputs::new().value("1.0").path(&folder.join("in")).unwrap();
        fs::create_dir_all(folder.join("in/node_modules")).unwrap();
        fs::write(folder.join("in/a"), "one").unwrap();
        let stamp = folder.join("stamp");
        assert!(!inputs().is_done(&stamp));
        inputs().mark_done(&stamp).unwrap();
        assert!(inputs().is_done(&stamp));
        fs::write(folder.join("in/node_modules/x"), "a result").unwrap();
        assert!(inputs().is_done(&stamp));
        fs::write(folder.join("in/a"), "two").unwrap();
        assert!(!inputs().is_done(&stamp));
        fs::write(folder.join("in/a"), "one").unwrap();
        fs::rename(folder.join("in/a"), folder.join("in/b")).unwrap();
        assert!(!inputs().is_done(&stamp));
        fs::remove_dir_all(&folder).unwrap();
    }
}
