//! Writes history: rows into open cubes each second, finished cubes into Parquet on another thread.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    fs, mem,
    path::{Path, PathBuf},
};

use arrow::{
    array::{AsArray, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::TimestampNanosecondType,
};
use hitscope_schemas::tables::{Row, Table};

use crate::{
    CUBE_NS, Error, Settings,
    close::{Closed, Cube, closed_parts},
    closer::{Closer, Done, Job},
    folder::{self, Lock},
    open::{self, OpenWriter},
    retention::{Catalogue, Evicted, Room},
};

/// How long after its end, and after its last rows, a cube is closed.
const GRACE_NS: u64 = 10_000_000_000;
/// After a failure to close a cube, when it is tried again.
const RETRY_NS: u64 = 30_000_000_000;
/// Cubes of a table that are open at once; beyond them, the one longest without rows is closed.
const OPEN_CUBES: usize = 4;
/// Rows that wait in memory while the disk takes none; what comes beyond them is lost, and counted.
const WAITING_BYTES: usize = 32 << 20;
/// Rows of a record batch in an open cube.
const BATCH_ROWS: usize = 16 * 1024;

/// What an earlier run left, which is now in history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Files of open cubes.
    pub parts: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes cut off that a crash left half written.
    pub torn_bytes: u64,
}

/// What has happened since the flush before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Rows that are now in the open cubes.
    pub rows: u64,
    /// Rows lost by table, since the disk took none and no more could wait.
    pub lost: BTreeMap<&'static str, u64>,
    /// Cubes closed.
    pub closed: Vec<Closed>,
    /// Cubes evicted.
    pub evicted: Evicted,
    /// Things that the user should know, such as failures to close a cube, which is tried again.
    pub notes: Vec<String>,
}

/// Writes the history of one host.
pub struct Writer {
    // First, so that it has ended before another writer may begin.
    closer: Closer,
    data_dir: PathBuf,
    host: String,
    tables: Vec<Table>,
    settings: Settings,
    waiting: HashMap<TypeId, Box<dyn Waiting>>,
    waiting_bytes: usize,
    /// By the table's position and start.
    cubes: BTreeMap<(u8, u64), OpenCube>,
    report: Flushed,
    now_ns: u64,
    /// What the disk has, where that is less than is left to others.
    lacking: Option<Room>,
    _locks: Vec<Lock>,
}

/// A cube that rows go to.
#[derive(Debug, Default)]
struct OpenCube {
    /// The file that is written to; `None` until rows come.
    writer: Option<OpenWriter>,
    /// The number of the newest file.
    last_part: Option<u32>,
    /// Rows that the disk did not take yet.
    unwritten: Vec<RecordBatch>,
    /// When rows came last.
    touched_ns: u64,
    /// Not to be closed before.
    retry_ns: u64,
}

impl Writer {
    /// Opens the history of `host` for writing of `tables`, and takes over what an earlier run left open.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process writes one of the tables; [`Error::Host`]; [`Error::Io`].
    pub fn open(data_dir: &Path, host: &str, tables: &[Table], settings: Settings) -> Result<(Self, Recovery), Error> {
        folder::check_host(host)?;
        let access = settings.access;
        access.create_folder(data_dir)?;
        let locks = tables.iter().map(|table| Lock::take(data_dir, table.name, access)).collect::<Result<_, _>>()?;
        let mut recovery = Recovery::default();
        let mut cubes = BTreeMap::new();
        for (index, table) in (0..).zip(tables) {
            let folder = folder::open_folder(data_dir, table.name, host);
            access.create_folder(&folder)?;
            access.create_folder(&folder::history_folder(data_dir, table.name))?;
            for (start, last_part) in recover(data_dir, host, table, &mut recovery)? {
                cubes.insert((index, start), OpenCube { last_part: Some(last_part), ..OpenCube::default() });
            }
        }
        let catalogue = Catalogue::read(data_dir, tables)?;
        let closer = Closer::start(data_dir.to_owned(), host.to_owned(), tables.to_vec(), settings.clone(), catalogue)
            .map_err(Error::io("start a thread for", data_dir))?;
        let writer = Self {
            closer,
            data_dir: data_dir.to_owned(),
            host: host.to_owned(),
            tables: tables.to_vec(),
            settings,
            waiting: HashMap::new(),
            waiting_bytes: 0,
            cubes,
            report: Flushed::default(),
            now_ns: 0,
            lacking: None,
            _locks: locks,
        };
        Ok((writer, recovery))
    }

    /// Takes rows, in memory; cheap also for one at a time. Rows of a table that was not opened are lost, and counted.
    pub fn append<R: Row + Send + 'static>(&mut self, rows: Vec<R>) {
        let waiting = self.waiting.entry(TypeId::of::<R>()).or_insert_with(|| {
            let name = R::table().name;
            let table = (0..).zip(&self.tables).find(|(_, table)| table.name == name).map(|(index, _)| index);
            Box::new(WaitingRows::<R> { name, table, rows: Vec::new() })
        });
        let Some(waiting) = waiting.as_any().downcast_mut::<WaitingRows<R>>() else { return };
        let room = match waiting.table {
            Some(_) => (WAITING_BYTES - self.waiting_bytes.min(WAITING_BYTES)) / size_of::<R>().max(1),
            None => 0,
        };
        if rows.len() > room {
            *self.report.lost.entry(waiting.name).or_default() += (rows.len() - room) as u64;
        }
        self.waiting_bytes += rows.len().min(room) * size_of::<R>();
        waiting.rows.extend(rows.into_iter().take(room));
    }

    /// Writes what was appended to the open cubes, and has finished cubes closed. To be called each second with the wall
    /// clock, ns since the epoch; in a replay, with the replayed one.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk did not take rows. They wait for the next flush; what came to pass so far is told by
    /// the next one that succeeds.
    pub fn flush(&mut self, now_ns: u64) -> Result<Flushed, Error> {
        self.now_ns = now_ns;
        self.collect_closed();
        self.closer.evict(now_ns, self.lacking.is_some());
        let written = self.write_rows();
        self.close_due();
        written?;
        Ok(mem::take(&mut self.report))
    }

    /// Writes what was appended, and closes every cube: at the end of a replay.
    ///
    /// # Errors
    /// As of [`Writer::flush`]; what could not be closed is taken over by the next start.
    pub fn finish(mut self) -> Result<Flushed, Error> {
        self.write_rows()?;
        for (key, cube) in mem::take(&mut self.cubes) {
            self.close(key, &cube);
        }
        self.closer.evict(self.now_ns, false);
        self.closer.finish();
        let mut failure = None;
        while let Some(done) = self.closer.next_done() {
            if let Done::Failed { error, .. } = done {
                failure.get_or_insert(error);
            } else {
                self.take_done(done);
            }
        }
        failure.map_or_else(|| Ok(mem::take(&mut self.report)), Err)
    }

    fn collect_closed(&mut self) {
        while let Some(done) = self.closer.next_done() {
            self.take_done(done);
        }
    }

    fn take_done(&mut self, done: Done) {
        match done {
            Done::Closed(closed) => self.report.closed.push(closed),
            Done::Note(note) => self.report.notes.push(note),
            Done::Room(lacking) => self.lacking = lacking,
            Done::Evicted(evicted) => {
                let before = self.report.evicted;
                self.report.evicted = Evicted {
                    files: before.files + evicted.files,
                    bytes: before.bytes + evicted.bytes,
                    oldest_ns: evicted.oldest_ns,
                };
            }
            Done::Failed { job, error } => {
                self.report.notes.push(format!("{error}; trying again in 30 s"));
                let cube = self.cubes.entry((job.table, job.start_ns)).or_default();
                cube.last_part = cube.last_part.max(Some(job.last_part));
                cube.retry_ns = self.now_ns.saturating_add(RETRY_NS);
            }
        }
    }

    fn write_rows(&mut self) -> Result<(), Error> {
        // First what the disk did not take before; only then are more rows made into batches.
        self.write_batches()?;
        for waiting in self.waiting.values_mut() {
            let Some(table) = waiting.table() else { continue };
            for batch in waiting.take() {
                let time = self.tables[usize::from(table)].time;
                for (start, batch) in
                    split(&batch, time).map_err(|cause| Error::Rows { table: waiting.name(), cause })?
                {
                    let cube = self.cubes.entry((table, start)).or_default();
                    cube.touched_ns = self.now_ns;
                    cube.unwritten.push(batch);
                }
            }
        }
        self.waiting_bytes = 0;
        self.write_batches()
    }

    /// Writes what it can: where a file cannot be written, the others still are. Gives the first failure.
    fn write_batches(&mut self) -> Result<(), Error> {
        if let Some(room) = self.lacking {
            return Err(Error::NoRoom { path: self.data_dir.clone(), free: room.free, kept_free: room.kept_free() });
        }
        let mut failure = None;
        let keys: Vec<(u8, u64)> = self.cubes.keys().copied().collect();
        for key in keys {
            if let Err(error) = self.write_cube(key) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn write_cube(&mut self, (table, start_ns): (u8, u64)) -> Result<(), Error> {
        if let Some(cube) = self.cubes.get_mut(&(table, start_ns)) {
            while let Some(batch) = cube.unwritten.first() {
                let writer = match &mut cube.writer {
                    Some(writer) if !writer.is_broken() => writer,
                    _ => {
                        let table = &self.tables[usize::from(table)];
                        let place = Cube { data_dir: &self.data_dir, host: &self.host, table, start_ns };
                        let part = place.next_part()?;
                        let path = folder::part_path(&self.data_dir, table.name, &self.host, start_ns, part);
                        cube.last_part = Some(part);
                        cube.writer.insert(OpenWriter::create(path, self.settings.access)?)
                    }
                };
                writer.append(batch)?;
                self.report.rows += batch.num_rows() as u64;
                cube.unwritten.remove(0);
            }
        }
        Ok(())
    }

    fn close_due(&mut self) {
        let now_ns = self.now_ns;
        let mut due: Vec<(u8, u64)> = Vec::new();
        for (&(table, start), cube) in &self.cubes {
            let ended = start.saturating_add(CUBE_NS + GRACE_NS) <= now_ns;
            // `abs_diff`, since the clock may have been set back.
            if ended && cube.touched_ns.abs_diff(now_ns) >= GRACE_NS && cube.retry_ns <= now_ns {
                due.push((table, start));
            }
        }
        for key in due {
            if let Some(cube) = self.cubes.remove(&key) {
                self.close(key, &cube);
            }
        }
        for table in (0..).take(self.tables.len()) {
            let open = || (table, 0)..=(table, u64::MAX);
            while self.cubes.range(open()).count() > OPEN_CUBES {
                let idle = self.cubes.range(open()).min_by_key(|(key, cube)| (cube.touched_ns, key.1));
                let Some(key) = idle.map(|(key, _)| *key) else { break };
                if let Some(cube) = self.cubes.remove(&key) {
                    self.close(key, &cube);
                }
            }
        }
    }

    fn close(&mut self, (table, start_ns): (u8, u64), cube: &OpenCube) {
        if let Some(last_part) = cube.last_part {
            self.closer.close(Job { table, start_ns, last_part });
        }
    }
}

/// Takes over a table's open files; returns each cube with the number of its newest file.
fn recover(data_dir: &Path, host: &str, table: &Table, recovery: &mut Recovery) -> Result<BTreeMap<u64, u32>, Error> {
    let mut cubes: BTreeMap<u64, u32> = BTreeMap::new();
    for (name, path) in folder::entries(&folder::open_folder(data_dir, table.name, host))? {
        let Some((start_ns, part)) = folder::parse_part(&name) else {
            folder::remove_temporary(&name, &path)?;
            continue;
        };
        let closed = closed_parts(&Cube { data_dir, host, table, start_ns }.path());
        // Closed, but the crash came before it was removed.
        if closed.ok().flatten().is_some_and(|closed| part < closed) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            continue;
        }
        let recovered = open::recover(&path)?;
        recovery.torn_bytes += recovered.torn_bytes;
        if recovered.rows == 0 {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            continue;
        }
        recovery.parts += 1;
        recovery.rows += recovered.rows;
        let last = cubes.entry(start_ns).or_default();
        *last = part.max(*last);
    }
    Ok(cubes)
}

/// Rows by the cube that their time lies in.
fn split(batch: &RecordBatch, time: &str) -> Result<Vec<(u64, RecordBatch)>, arrow::error::ArrowError> {
    let index = batch.schema_ref().index_of(time)?;
    let times = batch.column(index).as_primitive::<TimestampNanosecondType>().values();
    let mut cubes: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (row, time) in (0..).zip(times) {
        cubes.entry(folder::cube_start(u64::try_from(*time).unwrap_or(0))).or_default().push(row);
    }
    if let [start] = cubes.keys().copied().collect::<Vec<_>>()[..] {
        return Ok(vec![(start, batch.clone())]);
    }
    let part = |(start, rows)| Ok((start, take_record_batch(batch, &UInt32Array::from(rows))?));
    cubes.into_iter().map(part).collect()
}

/// Rows of one table that wait for the next flush.
trait Waiting: Send {
    fn name(&self) -> &'static str;
    fn table(&self) -> Option<u8>;
    fn take(&mut self) -> Vec<RecordBatch>;
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}

struct WaitingRows<R> {
    name: &'static str,
    /// Its position; `None` where it was not opened.
    table: Option<u8>,
    rows: Vec<R>,
}

impl<R: Row + Send + 'static> Waiting for WaitingRows<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn table(&self) -> Option<u8> {
        self.table
    }

    fn take(&mut self) -> Vec<RecordBatch> {
        let batches = self.rows.chunks(BATCH_ROWS).map(R::batch).collect();
        self.rows.clear();
        // A burst's memory is given back.
        self.rows.shrink_to(BATCH_ROWS);
        batches
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests;
