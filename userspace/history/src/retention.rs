//! Which closed cubes go when they are too old or too many.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use hitscope_schemas::tables::Table;

use crate::{CUBE_NS, Error, Settings, folder};

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

/// The sizes of a host's closed cubes.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// By cube start and the table's position.
    bytes: BTreeMap<(u64, u8), u64>,
    total: u64,
}

impl Catalogue {
    /// Reads the folders, and removes temporary files that a crash left in them.
    pub(crate) fn read(data_dir: &Path, host: &str, tables: &[Table]) -> Result<Self, Error> {
        let mut catalogue = Self::default();
        for (index, table) in (0..).zip(tables) {
            for (_, date) in folder::entries(&folder::history_folder(data_dir, table.name))? {
                for (name, path) in folder::entries(&date.join(format!("host={host}")))? {
                    if let Some(cube) = folder::parse_closed(&name) {
                        catalogue.set(cube, index, path.metadata().map_err(Error::io("read", &path))?.len());
                    } else {
                        folder::remove_temporary(&name, &path)?;
                    }
                }
            }
        }
        Ok(catalogue)
    }

    /// A cube has been closed.
    pub(crate) fn set(&mut self, cube: u64, table: u8, bytes: u64) {
        self.total += bytes;
        self.total -= self.bytes.insert((cube, table), bytes).unwrap_or(0);
    }

    /// Removes what is older than the settings say, and the oldest while there is more. `path`: of a table's position and
    /// a cube.
    pub(crate) fn evict(
        &mut self,
        path: impl Fn(u8, u64) -> PathBuf,
        settings: &Settings,
        now_ns: u64,
    ) -> Result<Evicted, Error> {
        let max_age_ns = u64::try_from(settings.max_age.0.as_nanos()).unwrap_or(u64::MAX);
        let mut evicted = Evicted::default();
        while let Some((&(start, table), &bytes)) = self.bytes.first_key_value() {
            let expired = start.saturating_add(CUBE_NS).saturating_add(max_age_ns) <= now_ns;
            if !expired && self.total <= settings.max_bytes.0 {
                break;
            }
            let path = path(table, start);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path)(error)),
                _ => {}
            }
            // The host's and the day's folder, once they are empty.
            let _ = path.ancestors().skip(1).take(2).try_for_each(fs::remove_dir);
            self.bytes.pop_first();
            self.total -= bytes;
            evicted.files += 1;
            evicted.bytes += bytes;
        }
        evicted.oldest_ns = self.bytes.first_key_value().map_or(0, |((start, _), _)| *start);
        Ok(evicted)
    }
}
