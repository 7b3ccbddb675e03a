//! The data folder, as `run` makes it: the collector writes, the server's group reads, and the few parts that the server writes
//! itself belong to it.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use hitscope_base::{Explain, Failure};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};

use crate::account::Account;

/// What the server writes: its own state, and the `alerts` table.
const SERVERS_PARTS: [&str; 3] = ["server", "open/alerts", "history/alerts"];

/// Makes the folder ready, or says why it cannot be used.
///
/// # Errors
/// When it cannot be made, is no folder, or cannot be written to.
pub fn prepare(data_dir: &Path, account: Option<&Account>) -> Result<(), Failure> {
    let help = "use another folder with --data-dir, or make this one writable for the user that hitscope runs as";
    let what = || format!("cannot use the data folder {}", data_dir.display());
    make(data_dir).explain_help(what(), help)?;
    check_writable(data_dir)?;
    if let Some(account) = account
        && !may_enter(data_dir, account).explain_help(what(), help)?
    {
        share(data_dir, account).explain_help(what(), help)?;
    }
    let Some(account) = account else { return Ok(()) };
    take_over(data_dir, account).explain_help(what(), help)?;
    for part in SERVERS_PARTS {
        let path = data_dir.join(part);
        let parent = path.parent().filter(|parent| *parent != data_dir && !parent.is_dir()).map(PathBuf::from);
        make(&path)
            .and_then(|()| parent.map_or(Ok(()), |parent| share(&parent, account)))
            .and_then(|()| give(&path, account))
            .explain_help(format!("cannot give {} to the user {}", path.display(), account.name), help)?;
    }
    Ok(())
}

/// Tries to write to the folder.
///
/// # Errors
/// When that fails.
pub fn check_writable(data_dir: &Path) -> Result<(), Failure> {
    let probe = data_dir.join(format!(".writable.{}", std::process::id()));
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).explain_help(
        format!("cannot write to the data folder {}", data_dir.display()),
        "use another folder with --data-dir, or make this one writable for the user that hitscope runs as",
    )
}

fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(folder.parent().unwrap_or(folder))?;
    DirBuilder::new().mode(0o750).create(folder)
}

/// Whether the account may list and enter the folder.
fn may_enter(folder: &Path, account: &Account) -> io::Result<bool> {
    let meta = fs::metadata(folder)?;
    let needed = if meta.uid() == account.ids.user {
        0o500
    } else if meta.gid() == account.ids.group {
        0o050
    } else {
        0o005
    };
    Ok(meta.mode() & needed == needed)
}

/// Lets the account's group, and nobody else, read the folder.
fn share(folder: &Path, account: &Account) -> io::Result<()> {
    chown(folder, None, Some(account.ids.group))?;
    fs::set_permissions(folder, Permissions::from_mode(0o750))
}

/// Lets the account's group read what was written for another one's: for `nogroup`, say, before there was a user for the
/// server.
fn take_over(data_dir: &Path, account: &Account) -> io::Result<()> {
    for part in ["status.json", "open", "history"] {
        let path = data_dir.join(part);
        match fs::symlink_metadata(&path) {
            // What is read by the group already is so as a whole.
            Ok(meta) if meta.gid() != account.ids.group && !meta.is_symlink() => {
                hand_over(&path, None, account.ids.group)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the account the owner of the folder and of what lies in it, from the time when another account was used.
fn give(folder: &Path, account: &Account) -> io::Result<()> {
    hand_over(folder, Some(account.ids.user), account.ids.group)?;
    fs::set_permissions(folder, Permissions::from_mode(0o750))
}

/// Folders within each other, of which the deepest that hitscope makes has five.
const DEEPEST: usize = 16;

/// Gives a file, or a folder with all that lies in it, to a group, and to a user where one is said. What lies in it may be of
/// somebody who changes it meanwhile: each thing is opened once, without following a link, and looked at and given by its
/// descriptor. A file with a second name elsewhere is not given.
fn hand_over(path: &Path, user: Option<u32>, group: u32) -> io::Result<()> {
    let (uid, gid) = (user.map(Uid::from_raw), Gid::from_raw(group));
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut waiting = vec![(File::from(rustix::fs::open(path, flags, Mode::empty())?), 0)];
    while let Some((entry, depth)) = waiting.pop() {
        let meta = rustix::fs::fstat(&entry)?;
        let kind = FileType::from_raw_mode(meta.st_mode);
        if kind == FileType::RegularFile && meta.st_nlink > 1 {
            tracing::warn!("a file below {} has another name elsewhere, and is not given to anybody", path.display());
            continue;
        }
        if meta.st_gid != group || user.is_some_and(|user| meta.st_uid != user) {
            rustix::fs::chownat(&entry, c"", uid, Some(gid), AtFlags::EMPTY_PATH)?;
        }
        if kind != FileType::Directory {
            continue;
        }
        if depth == DEEPEST {
            return Err(io::Error::other(format!("{} has folders within folders beyond {DEEPEST}", path.display())));
        }
        let listed = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&entry, c".", listed, Mode::empty())?;
        for found in Dir::read_from(&folder)? {
            let found = found?;
            if matches!(found.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::openat(&folder, found.file_name(), flags, Mode::empty()) {
                Ok(found) => waiting.push((File::from(found), depth + 1)),
                // It was removed meanwhile.
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{self, own_ids};

    #[test]
    fn made_with_the_servers_parts() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("a/data");
        let account = Account { name: "me".into(), ids: own_ids(), is_transient: false };
        prepare(&data_dir, Some(&account)).unwrap();
        prepare(&data_dir, Some(&account)).unwrap();
        let mode = |path: &str| fs::metadata(data_dir.join(path)).unwrap().mode() & 0o777;
        assert_eq!(mode(""), 0o750);
        for part in SERVERS_PARTS {
            assert!(data_dir.join(part).is_dir(), "{part}");
        }
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 3);
    }

    /// As root, since only root gives files away; else it is handed to the same user.
    #[test]
    fn what_another_group_read_is_taken_over_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("data");
        let own = own_ids();
        let ids = if own.user == 0 { os::Ids { user: 61_184, group: 61_185 } } else { own };
        let account = Account { name: "it".into(), ids, is_transient: true };
        let closed = data_dir.join("history/hits/date=2026-01-01");
        fs::create_dir_all(&closed).unwrap();
        fs::create_dir_all(data_dir.join("server/deep")).unwrap();
        let outside = root.path().join("outside");
        for file in
            [&outside, &closed.join("x.parquet"), &data_dir.join("status.json"), &data_dir.join("server/deep/s")]
        {
            fs::write(file, "x").unwrap();
        }
        std::os::unix::fs::symlink(&outside, data_dir.join("server/link")).unwrap();
        fs::hard_link(&outside, data_dir.join("server/hard")).unwrap();
        fs::set_permissions(&data_dir, Permissions::from_mode(0o750)).unwrap();
        prepare(&data_dir, Some(&account)).unwrap();
        let owner = |path: &Path| {
            let meta = fs::symlink_metadata(path).unwrap();
            (meta.uid(), meta.gid())
        };
        for read in ["", "history", "history/hits/date=2026-01-01/x.parquet", "status.json"] {
            assert_eq!(owner(&data_dir.join(read)), (own.user, ids.group), "{read}");
        }
        for given in ["server", "server/deep", "server/deep/s", "server/link", "history/alerts"] {
            assert_eq!(owner(&data_dir.join(given)), (ids.user, ids.group), "{given}");
        }
        assert_eq!(owner(&outside), (own.user, own.group));
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("data");
        fs::write(&file, "x").unwrap();
        let report = prepare(&file, None).unwrap_err().report();
        assert!(report.contains("cannot use the data folder") && report.contains("help: "), "{report}");
    }
}
