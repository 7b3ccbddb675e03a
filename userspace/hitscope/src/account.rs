//! Whom the server runs as.

use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    ops::RangeInclusive,
    path::Path,
};

use hitscope_base::{Explain, Failure};

use crate::{
    capabilities::Capabilities,
    os::{self, Ids},
};

/// The user that the server runs as when the configuration names none.
const DEFAULT: &str = "hitscope";
/// Where that does not exist, a number of those that systemd has set aside for users who are there while a service runs
/// (`DynamicUser=`, systemd.exec(5)); none that is in use.
const TRANSIENT: RangeInclusive<u32> = 61_184..=65_519;

/// An unprivileged user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub ids: Ids,
    /// No user of the system: it is one for as long as the server runs.
    pub is_transient: bool,
}

impl Account {
    /// The account for the server over that folder: the configured user; a transient one where that is the default one and
    /// does not exist; or `None`, which means the user that this process runs as, where that is not root and may not become
    /// another.
    ///
    /// # Errors
    /// When the configured user does not exist or is root.
    pub fn for_server(configured: &str, data_dir: &Path, capabilities: Capabilities) -> Result<Option<Self>, Failure> {
        if os::own_ids().user != 0 && !capabilities.has(Capabilities::SETUID.and(Capabilities::SETGID)) {
            return Ok(None);
        }
        let account = match Self::find(configured)? {
            None if configured == DEFAULT => {
                Some(Self::transient(data_dir, Path::new("/proc")).explain("cannot find a free user for the server")?)
            }
            found => found,
        };
        match account {
            Some(account) if account.ids.user == 0 => {
                Err(Failure::new(format!("cannot run the server as {configured}: it must not have root's rights"))
                    .help("name an ordinary user in server.user"))
            }
            Some(account) => Ok(Some(account)),
            None => Err(Failure::new(format!("cannot run the server as {configured}: there is no such user"))
                .help("create it with `useradd --system hitscope`, or name another in server.user")),
        }
    }

    fn find(name: &str) -> Result<Option<Self>, Failure> {
        let ids = os::find_user(name).explain(format!("cannot look up the user {name}"))?;
        Ok(ids.map(|ids| Self { name: name.to_owned(), ids, is_transient: false }))
    }

    /// A number that neither the system's users and groups nor its processes have; for one folder the same each time, where
    /// it is still free.
    fn transient(data_dir: &Path, proc: &Path) -> io::Result<Self> {
        let mut hasher = DefaultHasher::new();
        data_dir.hash(&mut hasher);
        let used = used_by_processes(proc)?;
        let count = TRANSIENT.end() - TRANSIENT.start() + 1;
        let first = (hasher.finish() % u64::from(count)) as u32;
        let candidates = (0..count).map(|step| TRANSIENT.start() + (first + step) % count);
        for id in candidates.filter(|id| !used.contains(id)) {
            if !os::is_users_or_groups(id)? {
                let ids = Ids { user: id, group: id };
                return Ok(Self { name: format!("user {id}"), ids, is_transient: true });
            }
        }
        Err(io::Error::other(format!("all from {} to {} are in use", TRANSIENT.start(), TRANSIENT.end())))
    }
}

/// The users and groups of all processes, in numbers.
fn used_by_processes(proc: &Path) -> io::Result<HashSet<u32>> {
    let mut used = HashSet::new();
    for entry in fs::read_dir(proc)?.flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // One that has just ended has none.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| line.strip_prefix("Uid:").or_else(|| line.strip_prefix("Gid:")));
        used.extend(lines.flat_map(str::split_whitespace).filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transient_user_is_a_free_number_and_the_same_for_a_folder() {
        let proc = tempfile::tempdir().unwrap();
        let find = |folder: &str| Account::transient(Path::new(folder), proc.path()).unwrap().ids;
        let first = find("/var/lib/hitscope");
        assert!(TRANSIENT.contains(&first.user) && first.group == first.user);
        assert_eq!(find("/var/lib/hitscope"), first);
        assert_ne!(find("/srv/hitscope"), first);
        // Somebody's process has it, be it only as one of its groups.
        fs::create_dir(proc.path().join("77")).unwrap();
        let status = format!("Name:\tx\nUid:\t1\t1\t1\t1\nGid:\t2\t{}\t2\t2\n", first.group);
        fs::write(proc.path().join("77/status"), status).unwrap();
        let second = find("/var/lib/hitscope");
        assert!(second != first && TRANSIENT.contains(&second.user), "{second:?}");
    }
}
