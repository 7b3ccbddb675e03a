//! What history there is: for everything that reads it.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use arrow::array::RecordBatch;
use chrono::{DateTime, NaiveDate};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    CUBE_NS, Error,
    close::parts_in,
    folder,
    open::{OpenReader, read_whole},
};

/// A file with rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The host that its rows are of.
    pub host: String,
    /// Start of its cube, ns since the epoch.
    pub cube_start_ns: u64,
    /// Of an open cube the number of the part: an Arrow IPC stream. `None`: closed, Parquet.
    pub part: Option<u32>,
    /// Its size when it was listed; open cubes grow.
    pub bytes: u64,
    /// The file system's number of it: another where late rows have been merged into it since.
    pub inode: u64,
}

impl HistoryFile {
    /// Whether it is an Arrow IPC stream that may grow, rather than a Parquet file.
    pub fn is_open(&self) -> bool {
        self.part.is_some()
    }

    /// Opens the file that was listed.
    ///
    /// # Errors
    /// [`Error::Gone`] where it has been closed, replaced or evicted since, so that the list no longer fits together.
    pub fn open(&self) -> Result<File, Error> {
        let file = File::open(&self.path).map_err(Error::listed("open", &self.path))?;
        let metadata = file.metadata().map_err(Error::io("read", &self.path))?;
        if metadata.ino() != self.inode {
            return Err(Error::Gone { path: self.path.clone() });
        }
        Ok(file)
    }
}

/// A table's files with rows of cubes that overlap `times_ns` (`0..u64::MAX` for all), oldest first; each row is in
/// exactly one of them. A writer may replace files at any moment: where one is [`Error::Gone`], list again.
///
/// # Errors
/// [`Error::Io`] where a folder cannot be read; a folder that does not exist has no files.
pub fn list(data_dir: &Path, table: &str, times_ns: Range<u64>) -> Result<Vec<HistoryFile>, Error> {
    let mut files = list_in(data_dir, table, &times_ns)?;
    if folder::SERVERS_TABLES.contains(&table) {
        // Versions that kept them beside the collector's left files there.
        files.extend(list_in(&folder::servers_part(data_dir), table, &times_ns)?);
    }
    files.sort_by(|a, b| (a.cube_start_ns, &a.host, a.part).cmp(&(b.cube_start_ns, &b.host, b.part)));
    Ok(files)
}

fn list_in(data_dir: &Path, table: &str, times_ns: &Range<u64>) -> Result<Vec<HistoryFile>, Error> {
    // First the open cubes: one that is closed in between is then in both lists, and hidden.
    let mut open = Vec::new();
    for (host, folder) in hosts(&data_dir.join("open").join(table))? {
        for (name, path) in folder::entries(&folder)? {
            let Some((cube_start_ns, part)) = folder::parse_part(&name) else { continue };
            if overlaps(cube_start_ns, times_ns)
                && let Some(file) = stat(path, &host, cube_start_ns, Some(part))?
            {
                open.push(file);
            }
        }
    }
    let mut files = Vec::new();
    for (name, folder) in folder::entries(&folder::history_folder(data_dir, table))? {
        if !name.strip_prefix("date=").is_some_and(|date| day_overlaps(date, times_ns)) {
            continue;
        }
        for (host, folder) in hosts(&folder)? {
            for (name, path) in folder::entries(&folder)? {
                let Some(cube_start_ns) = folder::parse_closed(&name) else { continue };
                if !overlaps(cube_start_ns, times_ns) {
                    continue;
                }
                let same = |file: &HistoryFile| file.cube_start_ns == cube_start_ns && file.host == host;
                let listed = if open.iter().any(same) {
                    hide(&mut open, path, &host, cube_start_ns)?
                } else {
                    stat(path, &host, cube_start_ns, None)?
                };
                files.extend(listed);
            }
        }
    }
    files.append(&mut open);
    Ok(files)
}

/// Takes off the list the parts of a cube that are in its closed file.
fn hide(
    open: &mut Vec<HistoryFile>,
    path: PathBuf,
    host: &str,
    cube_start_ns: u64,
) -> Result<Option<HistoryFile>, Error> {
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("open", &path))?,
    };
    let metadata = file.metadata().map_err(Error::io("read", &path))?;
    match parts_in(&file, &path) {
        Ok(closed) => open.retain(|part| {
            part.cube_start_ns != cube_start_ns || part.host != host || part.part.is_none_or(|part| part >= closed)
        }),
        // Who reads it will say so.
        Err(Error::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    let (bytes, inode) = (metadata.len(), metadata.ino());
    Ok(Some(HistoryFile { path, host: host.to_owned(), cube_start_ns, part: None, bytes, inode }))
}

fn stat(path: PathBuf, host: &str, cube_start_ns: u64, part: Option<u32>) -> Result<Option<HistoryFile>, Error> {
    match path.metadata() {
        Ok(metadata) => {
            let (bytes, inode) = (metadata.len(), metadata.ino());
            Ok(Some(HistoryFile { path, host: host.to_owned(), cube_start_ns, part, bytes, inode }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

fn hosts(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let named = |(name, path): (String, PathBuf)| Some((name.strip_prefix("host=")?.to_owned(), path));
    Ok(folder::entries(folder)?.into_iter().filter_map(named).collect())
}

fn overlaps(cube_start_ns: u64, times_ns: &Range<u64>) -> bool {
    cube_start_ns < times_ns.end && cube_start_ns.saturating_add(CUBE_NS) > times_ns.start
}

fn day_overlaps(date: &str, times_ns: &Range<u64>) -> bool {
    let Ok(date) = date.parse::<NaiveDate>() else { return false };
    let day =
        |time_ns: u64| DateTime::from_timestamp_secs((time_ns / 1_000_000_000).cast_signed()).map(|t| t.date_naive());
    day(times_ns.start).is_none_or(|first| date >= first) && day(times_ns.end).is_none_or(|last| date <= last)
}

/// All rows of the cubes that overlap `times_ns`, as of one moment: for tests and small tools, since it holds them all.
///
/// # Errors
/// [`Error::Damaged`]; [`Error::Io`]; [`Error::Gone`] where files were replaced faster than they could be listed.
pub fn read(data_dir: &Path, table: &str, times_ns: Range<u64>) -> Result<Vec<RecordBatch>, Error> {
    let mut tries = 20;
    loop {
        match read_once(data_dir, table, times_ns.clone()) {
            Err(Error::Gone { .. }) if tries > 0 => tries -= 1,
            read => return read,
        }
    }
}

fn read_once(data_dir: &Path, table: &str, times_ns: Range<u64>) -> Result<Vec<RecordBatch>, Error> {
    let listed = list(data_dir, table, times_ns)?;
    // All are opened before the first is read: what is open stays as it was.
    let files: Vec<(&HistoryFile, File)> =
        listed.iter().map(|file| Ok((file, file.open()?))).collect::<Result<_, Error>>()?;
    let mut batches = Vec::new();
    for (listed, file) in files {
        if listed.is_open() {
            batches.extend(read_whole(OpenReader::from_file(file, &listed.path))?.1);
            continue;
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(Error::damaged(&listed.path))?;
        for batch in reader {
            batches.push(batch.map_err(Error::damaged(&listed.path))?);
        }
    }
    Ok(batches)
}
