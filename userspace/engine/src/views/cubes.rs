//! What times there is history of.

use std::collections::BTreeMap;

use hitscope_history::{CUBE_NS, HistoryFile};
use serde::Serialize;

use crate::catalog::{Catalog, Error};

/// What the folder holds.
#[derive(Debug, Serialize)]
pub struct Cubes {
    /// Length of a cube, in ms.
    pub cube_ms: u64,
    /// By table and host.
    pub tables: Vec<TableCubes>,
}

/// What it holds of one table and host.
#[derive(Debug, Serialize)]
pub struct TableCubes {
    /// Table.
    pub table: &'static str,
    /// Host.
    pub host: String,
    /// Files, open cubes included.
    pub files: u64,
    /// Files of open cubes.
    pub open: u64,
    /// Their size on disk.
    pub bytes: u64,
    /// Times with cubes, from and to, in ms since the epoch.
    pub ranges: Vec<(u64, u64)>,
}

/// Lists the folder.
pub fn read(catalog: &Catalog) -> Result<Cubes, Error> {
    let mut tables = Vec::new();
    for table in catalog.tables() {
        let mut hosts: BTreeMap<String, Vec<HistoryFile>> = BTreeMap::new();
        for file in hitscope_history::list(catalog.data_dir(), table.name, 0..u64::MAX)? {
            hosts.entry(file.host.clone()).or_default().push(file);
        }
        for (host, mut files) in hosts {
            files.sort_by_key(|file| file.cube_start_ns);
            tables.push(TableCubes {
                table: table.name,
                host,
                files: files.len() as u64,
                open: files.iter().filter(|file| file.is_open()).count() as u64,
                bytes: files.iter().map(|file| file.bytes).sum(),
                ranges: ranges(files.iter().map(|file| file.cube_start_ns)),
            });
        }
    }
    Ok(Cubes { cube_ms: CUBE_NS / 1_000_000, tables })
}

/// Joins cubes that follow each other.
fn ranges(starts_ns: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for start_ns in starts_ns {
        let (from, to) = (start_ns / 1_000_000, (start_ns + CUBE_NS) / 1_000_000);
        match ranges.last_mut() {
            Some((_, end)) if *end >= from => *end = to.max(*end),
            _ => ranges.push((from, to)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_that_follow_each_other_are_one_range() {
        let cube = |index: u64| index * CUBE_NS;
        let ms = |index: u64| index * CUBE_NS / 1_000_000;
        let found = ranges([cube(1), cube(1), cube(2), cube(5)].into_iter());
        assert_eq!(found, [(ms(1), ms(3)), (ms(5), ms(6))]);
        assert!(ranges(std::iter::empty()).is_empty());
    }
}
