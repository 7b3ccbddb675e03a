//! What tells whether a server may tell people of alerts: it has the folder's lock, and the folder is the one that the alerts
//! came to be in, and no copy of it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use hitscope_base::{Durability, replace_file};
use hitscope_history::folder::servers_part;
use ring::digest;
use serde::{Deserialize, Serialize};

/// What tells a data folder from its copies, and stays the same over starts of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The host, by a hash of its machine-id, which is nobody's business (machine-id(5)); empty where it has none.
    machine: String,
    /// The folder's inode.
    inode: u64,
    /// When the folder came to be, in ns since the epoch; 0 where the file system does not say.
    born_ns: u64,
}

impl Identity {
    /// Of the folder, on this host.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn of(data_dir: &Path) -> io::Result<Self> {
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Self::on(machine.trim(), data_dir)
    }

    fn on(machine: &str, data_dir: &Path) -> io::Result<Self> {
        let hash = |id| digest::digest(&digest::SHA256, format!("hitscope {id}").as_bytes());
        let hex = |id| hash(id).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let metadata = fs::metadata(data_dir)?;
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or(0);
        let machine = if machine.is_empty() { String::new() } else { hex(machine) };
        Ok(Self { machine, inode: metadata.ino(), born_ns })
    }

    /// How this folder differs from the one that was.
    pub fn differs_from(&self, before: &Self) -> Option<&'static str> {
        if self.machine != before.machine && !self.machine.is_empty() && !before.machine.is_empty() {
            return Some("it comes from another host");
        }
        let born_elsewhere = self.born_ns != before.born_ns && self.born_ns != 0 && before.born_ns != 0;
        (self.inode != before.inode || born_elsewhere).then_some("it is a copy")
    }
}

/// Says that a folder is to be told of, although it is a copy: a server over it sees that within a second.
///
/// # Errors
/// When that cannot be written down.
pub fn adopt(data_dir: &Path) -> io::Result<()> {
    let identity = serde_json::to_vec(&Identity::of(data_dir)?)?;
    let folder = servers_part(data_dir);
    fs::create_dir_all(&folder)?;
    replace_file(&folder.join(ADOPTED), 0o644, Durability::Synced, |file| file.write_all(&identity))
}

/// Takes back what [`adopt`] wrote, if it is of this very folder.
pub fn take_adoption(data_dir: &Path, identity: &Identity) -> bool {
    let path = servers_part(data_dir).join(ADOPTED);
    let written = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Identity>(&text).ok());
    written.is_some_and(|written| written == *identity && fs::remove_file(&path).is_ok())
}

const ADOPTED: &str = "adopted";

/// Keeps other servers over a folder from telling, for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Why there is no lock.
#[derive(Debug)]
pub enum NotLocked {
    /// Another process has it.
    Taken(Option<u32>),
    /// It cannot be had.
    Failed(io::Error),
}

impl Lock {
    /// Takes it, if nobody has it.
    ///
    /// # Errors
    /// Why not.
    pub fn take(data_dir: &Path) -> Result<Self, NotLocked> {
        let folder = servers_part(data_dir);
        let path = folder.join(".lock");
        let open = || {
            fs::create_dir_all(&folder)?;
            File::options().read(true).write(true).create(true).truncate(false).mode(0o640).open(&path)
        };
        let mut file = open().map_err(NotLocked::Failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(NotLocked::Taken(holder.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(NotLocked::Failed(error)),
        }
        // Who it is is good to know, and no more.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        let lock = Self { file, path };
        // Another may have put a new file in its place meanwhile.
        if lock.holds() { Ok(lock) } else { Err(NotLocked::Taken(None)) }
    }

    /// Whether the file that is locked is still the one that others try to lock.
    pub fn holds(&self) -> bool {
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        matches!((self.file.metadata(), fs::metadata(&self.path)), (Ok(ours), Ok(there)) if same(&ours, &there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_lock_at_a_time_and_knows_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        assert!(lock.holds());
        assert!(matches!(Lock::take(dir.path()), Err(NotLocked::Taken(Some(pid))) if pid == std::process::id()));
        fs::remove_file(dir.path().join("server/.lock")).unwrap();
        assert!(!lock.holds());
        drop(lock);
        Lock::take(dir.path()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Lock::take(file.path()), Err(NotLocked::Failed(_))));
    }

    #[test]
    fn a_folder_is_told_from_its_copy_and_from_the_same_on_another_host() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&original).unwrap();
        fs::create_dir(&copy).unwrap();
        let identity = |machine, folder| Identity::on(machine, folder).unwrap();
        let before = identity("m1", &original);
        assert!(!format!("{before:?}").contains("m1"));
        assert_eq!(identity("m1", &original).differs_from(&before), None);
        assert_eq!(identity("", &original).differs_from(&before), None);
        assert_eq!(identity("m1", &copy).differs_from(&before), Some("it is a copy"));
        assert_eq!(identity("m2", &original).differs_from(&before), Some("it comes from another host"));
        // A new name is no new folder.
        let renamed = dir.path().join("c");
        fs::rename(&original, &renamed).unwrap();
        assert_eq!(identity("m1", &renamed).differs_from(&before), None);
    }

    #[test]
    fn an_adoption_counts_once_and_for_its_own_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        adopt(dir.path()).unwrap();
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("server")).unwrap();
        fs::copy(dir.path().join("server/adopted"), copy.path().join("server/adopted")).unwrap();
        assert!(!take_adoption(copy.path(), &Identity::of(copy.path()).unwrap()));
        let identity = Identity::of(dir.path()).unwrap();
        assert!(take_adoption(dir.path(), &identity));
        assert!(!take_adoption(dir.path(), &identity));
    }
}
