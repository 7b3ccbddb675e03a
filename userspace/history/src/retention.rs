//! Which closed cubes go when they are too old or too many, or when the disk has no room.

use std::{collections::BTreeMap, ffi::CString, fs, io, os::unix::ffi::OsStrExt, path::Path, time::Duration};

use hitscope_schemas::tables::Table;

use crate::{CUBE_NS, Error, Settings, close::Cube, folder};

/// Cubes that were evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Files of closed cubes.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Start of the oldest cube that is still there, ns since the epoch; 0 where none is.
    pub oldest_ns: u64,
}

/// Whatever the disk lacks, so much of the newest history stays.
const NEWEST_NS: u64 = 12 * CUBE_NS;

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// What users may still write.
    pub(crate) free: u64,
    /// What it holds in all.
    pub(crate) size: u64,
}

impl Room {
    /// Asks the file system that a folder lies on. statvfs(3)
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let path = CString::new(folder.as_os_str().as_bytes())?;
        // SAFETY: statvfs is plain integers, for which zero is a valid value.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends in zero, and both pointers are valid for the call.
        if unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { free: found.f_bavail * found.f_frsize, size: found.f_blocks * found.f_frsize })
    }

    /// What is left to others: a gibibyte or a twentieth, whichever is more; of a small disk no more than a fifth.
    pub(crate) fn kept_free(self) -> u64 {
        (1 << 30).max(self.size / 20).min(self.size / 5)
    }

    /// What is missing of it.
    fn missing(self) -> u64 {
        self.kept_free().saturating_sub(self.free)
    }
}

/// Tells a clock that goes from one that was set: a jump ahead, even for a second, must not make everything look old.
#[derive(Debug, Default)]
pub(crate) struct SteadyClock {
    /// Moments by both clocks, since when they went together.
    since: Option<(Duration, u64)>,
}

/// For so long the wall clock must have gone as the one that nobody sets.
const STEADY: Duration = Duration::from_secs(3600);
/// So far they may be apart meanwhile.
const APART_NS: u64 = 60_000_000_000;

impl SteadyClock {
    /// Whether the wall clock can be gone by. `up`: of a clock that is never set; `now_ns`: the wall clock's, since the epoch.
    pub(crate) fn is_steady(&mut self, up: Duration, now_ns: u64) -> bool {
        let (first_up, first_ns) = *self.since.get_or_insert((up, now_ns));
        let gone = up.saturating_sub(first_up);
        let expected_ns = first_ns.saturating_add(u64::try_from(gone.as_nanos()).unwrap_or(u64::MAX));
        if expected_ns.abs_diff(now_ns) > APART_NS {
            self.since = Some((up, now_ns));
            return false;
        }
        gone >= STEADY
    }
}

/// The sizes of all closed cubes in a folder, of whatever host: one that has another name now is no reason to keep them.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    hosts: Vec<String>,
    /// By cube start, the table's position and the host's.
    bytes: BTreeMap<(u64, u8, u16), u64>,
    total: u64,
}

impl Catalogue {
    /// Reads the folders, and removes temporary files that a crash left in them.
    pub(crate) fn read(data_dir: &Path, tables: &[Table]) -> Result<Self, Error> {
        let mut catalogue = Self::default();
        for (index, table) in (0..).zip(tables) {
            for (_, date) in folder::entries(&folder::history_folder(data_dir, table.name))? {
                for (host, folder) in folder::entries(&date)? {
                    let Some(host) = host.strip_prefix("host=") else { continue };
                    for (name, path) in folder::entries(&folder)? {
                        if let Some(cube) = folder::parse_closed(&name) {
                            let data = path.metadata().map_err(Error::io("read", &path))?;
                            catalogue.set(cube, index, host, data.len());
                        } else {
                            folder::remove_temporary(&name, &path)?;
                        }
                    }
                }
            }
        }
        Ok(catalogue)
    }

    /// A cube has been closed.
    pub(crate) fn set(&mut self, cube: u64, table: u8, host: &str, bytes: u64) {
        let place = self.hosts.iter().position(|known| known == host).unwrap_or_else(|| {
            self.hosts.push(host.to_owned());
            self.hosts.len() - 1
        });
        // A folder with more hosts than that is nobody's own any more; those beyond are kept.
        let Ok(place) = u16::try_from(place) else { return };
        self.total += bytes;
        self.total -= self.bytes.insert((cube, table, place), bytes).unwrap_or(0);
    }

    /// Removes what is older than the settings say, and the oldest while there is more, or while the disk lacks room.
    /// `now_ns`: none where the clock cannot be gone by. What cannot be removed is told in `notes`, and left alone from then on.
    pub(crate) fn evict(
        &mut self,
        data_dir: &Path,
        tables: &[Table],
        settings: &Settings,
        now_ns: Option<u64>,
        room: Option<Room>,
        notes: &mut Vec<String>,
    ) -> Evicted {
        let max_age_ns = u64::try_from(settings.max_age.0.as_nanos()).unwrap_or(u64::MAX);
        let mut missing = room.map_or(0, Room::missing);
        let mut evicted = Evicted::default();
        while let Some((&(start_ns, table, host), &bytes)) = self.bytes.first_key_value() {
            let newest_ns = self.bytes.last_key_value().map_or(0, |((start_ns, ..), _)| *start_ns);
            let expired =
                now_ns.is_some_and(|now_ns| start_ns.saturating_add(CUBE_NS).saturating_add(max_age_ns) <= now_ns);
            let in_need = missing > 0 && start_ns.saturating_add(NEWEST_NS) <= newest_ns;
            if !expired && !in_need && self.total <= settings.max_bytes.0 {
                break;
            }
            let table = &tables[usize::from(table)];
            let path = Cube { data_dir, host: &self.hosts[usize::from(host)], table, start_ns }.path();
            self.bytes.pop_first();
            self.total -= bytes;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    notes.push(Error::io("remove", path)(error).to_string());
                    continue;
                }
                _ => {}
            }
            // The host's and the day's folder, once they are empty.
            let _ = path.ancestors().skip(1).take(2).try_for_each(fs::remove_dir);
            missing = missing.saturating_sub(bytes);
            evicted.files += 1;
            evicted.bytes += bytes;
        }
        evicted.oldest_ns = self.bytes.first_key_value().map_or(0, |((start_ns, ..), _)| *start_ns);
        evicted
    }
}

#[cfg(test)]
mod tests {
    use hitscope_base::{Size, Span};
    use hitscope_schemas::tables::{Hitmap, Row};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const HOUR_NS: u64 = 3_600_000_000_000;

    #[test]
    fn a_clock_is_gone_by_once_it_has_gone_right_for_an_hour() {
        let mut clock = SteadyClock::default();
        assert!(!clock.is_steady(HOUR, 100 * HOUR_NS));
        assert!(!clock.is_steady(HOUR + HOUR / 2, 100 * HOUR_NS + HOUR_NS / 2));
        assert!(clock.is_steady(2 * HOUR, 101 * HOUR_NS + 30_000_000_000), "slewed by half a minute");
        assert!(!clock.is_steady(2 * HOUR, 9000 * HOUR_NS), "ahead by a year, for a second");
        assert!(!clock.is_steady(2 * HOUR, 101 * HOUR_NS));
        assert!(!clock.is_steady(3 * HOUR - HOUR / 10, 102 * HOUR_NS - HOUR_NS / 10));
        assert!(clock.is_steady(3 * HOUR, 102 * HOUR_NS));
    }

    #[test]
    fn room_is_left_to_others() {
        let kept = |size: u64| Room { free: 0, size }.kept_free();
        assert_eq!([kept(100 << 30), kept(10 << 30), kept(1 << 30)], [5 << 30, 1 << 30, (1 << 30) / 5]);
        let here = Room::of(Path::new("/proc/self")).unwrap();
        assert!(here.free <= here.size);
        assert!(Room::of(Path::new("/nowhere/at/all")).is_err());
    }

    fn filled(data_dir: &Path, cubes: u64) -> Catalogue {
        let tables = [Hitmap::table()];
        for (host, cube) in (0..cubes).map(|cube| (["old-name", "db1"][(cube % 2) as usize], cube)) {
            let path = Cube { data_dir, host, table: &tables[0], start_ns: cube * CUBE_NS }.path();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [0; 100]).unwrap();
        }
        Catalogue::read(data_dir, &tables).unwrap()
    }

    #[test]
    fn a_full_disk_takes_the_oldest_of_all_hosts_but_not_the_newest_hour() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalogue = filled(dir.path(), 30);
        let mut evict = |free: u64| {
            let room = Some(Room { free, size: 5000 });
            catalogue.evict(dir.path(), &[Hitmap::table()], &Settings::keep_all(), None, room, &mut Vec::new())
        };
        assert_eq!(evict(1000), Evicted::default());
        assert_eq!(evict(850), Evicted { files: 2, bytes: 200, oldest_ns: 2 * CUBE_NS });
        let evicted = evict(0);
        assert_eq!((evicted.files, evicted.oldest_ns), (10, 12 * CUBE_NS));
        let evicted = evict(0);
        assert_eq!((evicted.files, evicted.oldest_ns), (6, 18 * CUBE_NS));
        assert_eq!(evict(0).files, 0, "an hour stays");
    }

    #[test]
    fn what_cannot_be_removed_holds_up_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalogue = filled(dir.path(), 4);
        // A folder in a file's place cannot be removed as a file, not even by root.
        let tables = [Hitmap::table()];
        let stuck = Cube { data_dir: dir.path(), host: "old-name", table: &tables[0], start_ns: 0 }.path();
        fs::remove_file(&stuck).unwrap();
        fs::create_dir(&stuck).unwrap();
        let settings = Settings { max_age: Span(Duration::ZERO), max_bytes: Size(u64::MAX), ..Settings::default() };
        let mut notes = Vec::new();
        let evicted = catalogue.evict(dir.path(), &tables, &settings, Some(2 * CUBE_NS), None, &mut notes);
        assert_eq!((evicted.files, evicted.oldest_ns, notes.len()), (1, 2 * CUBE_NS, 1), "{notes:?}");
        assert!(notes[0].contains("cannot remove"), "{notes:?}");
    }
}
