//! The data folder, as `run` makes it: the collector writes, the server's group reads, and the few parts that the server writes
//! itself belong to it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
};

use hitscope_base::{Explain, Failure};

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

/// Makes the account the owner of the folder and of what lies in it, from the time when another account was used.
fn give(folder: &Path, account: &Account) -> io::Result<()> {
    let (uid, gid) = (account.ids.user, account.ids.group);
    let meta = fs::symlink_metadata(folder)?;
    if (meta.uid(), meta.gid()) == (uid, gid) {
        return Ok(());
    }
    // The parents are root's, so that nobody can put a link in this place in the meantime; links inside are not followed.
    for entry in walk(folder)? {
        lchown(&entry, Some(uid), Some(gid))?;
    }
    fs::set_permissions(folder, Permissions::from_mode(0o750))
}

/// The folder and all that lies in it; does not follow links.
fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if fs::symlink_metadata(&found[next])?.is_dir() {
            for entry in fs::read_dir(&found[next])? {
                found.push(entry?.path());
            }
        }
        next += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::own_ids;

    #[test]
    fn made_with_the_servers_parts() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("a/data");
        let account = Account { name: "me".into(), ids: own_ids() };
        prepare(&data_dir, Some(&account)).unwrap();
        prepare(&data_dir, Some(&account)).unwrap();
        let mode = |path: &str| fs::metadata(data_dir.join(path)).unwrap().mode() & 0o777;
        assert_eq!(mode(""), 0o750);
        for part in SERVERS_PARTS {
            assert!(data_dir.join(part).is_dir(), "{part}");
        }
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 3);
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
