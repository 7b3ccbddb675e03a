//! The folder's names, who may read it, and the lock that keeps a second writer out.
//!
//! ```text
//! <data-dir>/status.json
//! <data-dir>/history/<table>/date=YYYY-MM-DD/host=<host>/<cube start>.parquet    closed cubes
//! <data-dir>/open/<table>/host=<host>/<cube start>.<part>.arrows                 open cubes, Arrow IPC streams
//! <data-dir>/server/…                                                            the same, of what the server writes
//! ```
//! A name with a leading dot is never data: temporary files and locks.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use chrono::{DateTime, NaiveDateTime};

use crate::{CUBE_NS, Error};

/// Who may read what is written. The default leaves it to the umask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A group that may read: files become 0640 and folders 0750, of that group.
    pub group: Option<u32>,
}

impl Access {
    /// Creates or empties a file.
    pub(crate) fn create_file(self, path: &Path) -> Result<File, Error> {
        let mode = if self.group.is_some() { 0o640 } else { 0o666 };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(path)
            .map_err(Error::io("create", path))?;
        self.apply(&file, mode).map_err(Error::io("set the group of", path))?;
        Ok(file)
    }

    /// Creates a folder and those above it where missing.
    pub(crate) fn create_folder(self, path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_folder(parent)?;
        }
        let mode = if self.group.is_some() { 0o750 } else { 0o777 };
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            created => created.map_err(Error::io("create", path))?,
        }
        let folder = File::open(path).map_err(Error::io("open", path))?;
        self.apply(&folder, mode).map_err(Error::io("set the group of", path))
    }

    fn apply(self, file: &File, mode: u32) -> io::Result<()> {
        if let Some(group) = self.group {
            fchown(file, None, Some(group))?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// The tables that the server writes, into a part of the folder that is its own: it need not be able to write anywhere else.
pub(crate) const SERVERS_TABLES: [&str; 1] = ["alerts"];

/// The part of a data folder that is the server's own.
pub fn servers_part(data_dir: &Path) -> PathBuf {
    data_dir.join("server")
}

/// The start of the cube that a time belongs to, both in ns since the epoch.
pub fn cube_start(time_ns: u64) -> u64 {
    time_ns - time_ns % CUBE_NS
}

/// Where a table's open cubes lie.
pub(crate) fn open_folder(data_dir: &Path, table: &str, host: &str) -> PathBuf {
    data_dir.join("open").join(table).join(format!("host={host}"))
}

/// Where a table's closed cubes lie.
pub(crate) fn history_folder(data_dir: &Path, table: &str) -> PathBuf {
    data_dir.join("history").join(table)
}

/// A part of an open cube.
pub(crate) fn part_path(data_dir: &Path, table: &str, host: &str, cube_start_ns: u64, part: u32) -> PathBuf {
    open_folder(data_dir, table, host).join(format!("{}.{part}.arrows", cube_name(cube_start_ns)))
}

/// A closed cube.
pub(crate) fn closed_path(data_dir: &Path, table: &str, host: &str, cube_start_ns: u64) -> PathBuf {
    let date = DateTime::from_timestamp_nanos(cube_start_ns.cast_signed()).format("date=%Y-%m-%d").to_string();
    history_folder(data_dir, table)
        .join(date)
        .join(format!("host={host}"))
        .join(format!("{}.parquet", cube_name(cube_start_ns)))
}

/// The name under which a file is written before it is renamed to `path`.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Removes a file that a crash kept from being renamed, or merged.
pub(crate) fn remove_temporary(name: &str, path: &Path) -> Result<(), Error> {
    if name.starts_with('.') && name.ends_with(".tmp") {
        fs::remove_file(path).map_err(Error::io("remove", path))?;
    }
    Ok(())
}

fn cube_name(cube_start_ns: u64) -> String {
    DateTime::from_timestamp_nanos(cube_start_ns.cast_signed()).format(CUBE_FORMAT).to_string()
}

const CUBE_FORMAT: &str = "%Y%m%dT%H%M%SZ";

fn parse_cube(name: &str) -> Option<u64> {
    let time = NaiveDateTime::parse_from_str(name, CUBE_FORMAT).ok()?;
    u64::try_from(time.and_utc().timestamp_nanos_opt()?).ok()
}

/// Cube start and part of an open file's name.
pub(crate) fn parse_part(name: &str) -> Option<(u64, u32)> {
    let (cube, part) = name.strip_suffix(".arrows")?.split_once('.')?;
    Some((parse_cube(cube)?, part.parse().ok()?))
}

/// Cube start of a closed file's name.
pub(crate) fn parse_closed(name: &str) -> Option<u64> {
    parse_cube(name.strip_suffix(".parquet")?)
}

/// Names and paths in a folder; none where it does not exist.
pub(crate) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(Error::io("list", folder))?,
    };
    listing
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect::<io::Result<_>>()
        .map_err(Error::io("list", folder))
}

/// # Errors
/// [`Error::Host`] where it cannot be part of a path.
pub(crate) fn check_host(host: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:@".contains(&byte);
    if host.is_empty() || host.len() > 200 || host.starts_with('.') || !host.bytes().all(plain) {
        return Err(Error::Host(host.to_owned()));
    }
    Ok(())
}

/// Keeps a second writer of a table out, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks a table.
    ///
    /// # Errors
    /// [`Error::Locked`] with the pid of the process that has it.
    pub(crate) fn take(data_dir: &Path, table: &str, access: Access) -> Result<Self, Error> {
        let folder = data_dir.join("open").join(table);
        access.create_folder(&folder)?;
        let path = folder.join(".lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(Error::Locked { path: data_dir.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(Error::io("write", &path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_cube_and_part_and_can_be_read_back() {
        let cube = cube_start(1_700_000_123_000_000_000);
        let dir = Path::new("/d");
        let closed = closed_path(dir, "hits", "db1", cube);
        assert_eq!(closed, Path::new("/d/history/hits/date=2023-11-14/host=db1/20231114T221500Z.parquet"));
        let part = part_path(dir, "hits", "db1", cube, 3);
        assert_eq!(part, Path::new("/d/open/hits/host=db1/20231114T221500Z.3.arrows"));
        assert_eq!(parse_part("20231114T221500Z.3.arrows"), Some((cube, 3)));
        assert_eq!(parse_closed("20231114T221500Z.parquet"), Some(cube));
        for other in
            [".20231114T221500Z.parquet.tmp", "x.parquet", "20231114T221500Z.arrows", "99999999T000000Z.parquet"]
        {
            assert_eq!((parse_closed(other), parse_part(other)), (None, None), "{other}");
        }
        assert_eq!(parse_closed(temporary(&closed).file_name().unwrap().to_str().unwrap()), None);
    }

    #[test]
    fn a_second_writer_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), "hits", Access::default()).unwrap();
        let error = Lock::take(dir.path(), "hits", Access::default()).unwrap_err();
        assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
        Lock::take(dir.path(), "alerts", Access::default()).unwrap();
        drop(first);
        Lock::take(dir.path(), "hits", Access::default()).unwrap();
    }

    #[test]
    fn hosts_that_would_leave_the_folder_are_refused() {
        for host in ["", ".", "..", "a/b", "../x", "a b", "a\0"] {
            assert!(check_host(host).is_err(), "{host:?}");
        }
        check_host("db-1.example.org").unwrap();
    }

    #[test]
    fn a_group_that_may_read_gets_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        // A process may always give files to its own group.
        let group = std::os::unix::fs::MetadataExt::gid(&fs::metadata(dir.path()).unwrap());
        let access = Access { group: Some(group) };
        access.create_folder(&dir.path().join("a/b")).unwrap();
        access.create_file(&dir.path().join("a/b/f")).unwrap();
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("a/b"), mode("a/b/f")), (0o750, 0o750, 0o640));
    }
}
