//! `boot.json` in the data folder: by what start times are told on this boot of the host. A process is its pid and its start, so
//! that must be the same number after a restart of hitscope, whatever was corrected on the wall clock meanwhile.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use hitscope_base::{Durability, replace_file};
use serde::{Deserialize, Serialize};

use crate::clocks::Boot;

const FILE: &str = "boot.json";
/// The file is no longer, bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What is kept of a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    boot_id: String,
    /// By what start times are told.
    pub boot: Boot,
}

impl Kept {
    /// What was kept of this boot of the host; what is of another, or cannot be read, begins anew.
    pub fn read(data_dir: &Path, procfs: &Path) -> Self {
        let boot_id =
            fs::read_to_string(procfs.join("sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned();
        let kept = || {
            let mut text = Vec::new();
            File::open(data_dir.join(FILE)).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
            serde_json::from_slice::<Self>(&text).ok()
        };
        match kept() {
            Some(kept) if kept.boot_id == boot_id && !boot_id.is_empty() => kept,
            _ => Self { boot_id, boot: Boot::default() },
        }
    }

    /// Writes it, replacing what is there.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        replace_file(&data_dir.join(FILE), 0o600, Durability::Synced, |file| {
            file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clocks::Clocks, testing};

    #[test]
    fn what_is_kept_is_of_this_boot() {
        let (data, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = proc.path().join("sys/kernel/random/boot_id");
        fs::create_dir_all(id.parent().unwrap()).unwrap();
        fs::write(&id, "one\n").unwrap();
        let mut kept = Kept::read(data.path(), proc.path());
        assert_eq!((&*kept.boot_id, &kept.boot), ("one", &Boot::default()));
        let mut clocks = Clocks::default();
        clocks.set(testing::clock(5_000_000_000));
        kept.boot = clocks.boot().clone();
        kept.write(data.path()).unwrap();
        assert_eq!(Kept::read(data.path(), proc.path()), kept);
        fs::write(&id, "two\n").unwrap();
        assert_eq!(Kept::read(data.path(), proc.path()).boot, Boot::default());
        fs::write(&id, "one\n").unwrap();
        fs::write(data.path().join(FILE), "{\"boot_id\":").unwrap();
        assert_eq!(Kept::read(data.path(), proc.path()).boot, Boot::default());
    }
}
