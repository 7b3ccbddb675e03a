//! The one way to replace a file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// What a power cut may do to a replaced file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The new contents may be lost again; a reader sees the old or the new ones all the same.
    Volatile,
    /// Once it is replaced, it stays so: contents and name are on the disk.
    Synced,
}

/// Replaces a file in one step: readers see the old contents or the new ones, never a part, and a writer that fails leaves
/// the old ones. The new file has that `mode`, less the process's umask, and what `fill` writes to it or sets of it.
///
/// # Errors
/// Those of `fill`, and of the file system.
pub fn replace_file<E: From<io::Error>>(
    path: &Path,
    mode: u32,
    durability: Durability,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = Temporary::beside(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary.0)?;
    fill(&mut file)?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    drop(file);
    fs::rename(&temporary.0, path)?;
    if durability == Durability::Synced
        && let Some(folder) = path.parent()
    {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A name beside the file's that nobody else uses; what bears it is removed in the end, unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(format!(".{name}.{}.{number}.tmp", process::id()));
        // Left by an earlier process of the same number that was killed.
        let _ = fs::remove_file(&temporary);
        Self(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already after a success.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::PermissionsExt};

    use super::*;

    fn text(text: &'static str) -> impl FnOnce(&mut File) -> io::Result<()> {
        move |file| file.write_all(text.as_bytes())
    }

    #[test]
    fn replaced_whole_or_not_at_all_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace_file(&path, 0o600, Durability::Synced, text("one")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace_file(&path, 0o640, Durability::Volatile, text("two")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        let failed = replace_file(&path, 0o600, Durability::Volatile, |file| {
            file.write_all(b"thr")?;
            Err(io::Error::other("no"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_its_place_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "untouched").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        replace_file(&link, 0o600, Durability::Volatile, text("new")).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }
}
