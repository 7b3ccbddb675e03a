//! Sorts a cube's rows in bounded memory, and merges partial rows of one key on the way.
//!
//! Rows are gathered up to [`RUN_ROWS`] or [`RUN_BYTES`] and sorted; where there are more, each such run goes to a
//! temporary file, and the runs are then merged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use arrow::{
    array::{Array, RecordBatch},
    compute::interleave_record_batch,
    error::ArrowError,
    row::{Row, RowConverter, Rows, SortField},
};
use hitscope_schemas::tables::{Role, Table};

use crate::{
    Error,
    folder::Access,
    merge::combine,
    open::{OpenReader, OpenWriter},
};

/// Rows of a run.
const RUN_ROWS: usize = 64 * 1024;
/// Arrow memory of a run's rows.
const RUN_BYTES: usize = 16 << 20;
/// Rows handed on at once, and of a run's batches.
const CHUNK_ROWS: usize = 4096;
/// Runs that are merged at once.
const FAN_IN: usize = 24;

/// What takes sorted chunks.
pub(crate) type Sink<'a> = dyn FnMut(RecordBatch) -> Result<(), Error> + 'a;

/// Takes rows in any order and hands them on sorted.
pub(crate) struct Sorter<'a> {
    table: &'a Table,
    /// Positions of the columns that rows are ordered by.
    keys: Vec<usize>,
    converter: RowConverter,
    gathered: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    runs: Vec<Run>,
    scratch: &'a Path,
    spilled: usize,
}

impl<'a> Sorter<'a> {
    /// `scratch`: the stem of the temporary files' names.
    pub(crate) fn new(table: &'a Table, scratch: &'a Path) -> Result<Self, ArrowError> {
        let keys = order(table);
        let fields = keys.iter().map(|key| SortField::new(table.columns[*key].field.data_type().clone())).collect();
        Ok(Self {
            table,
            keys,
            converter: RowConverter::new(fields)?,
            gathered: Vec::new(),
            rows: 0,
            bytes: 0,
            runs: Vec::new(),
            scratch,
            spilled: 0,
        })
    }

    /// Takes rows in the table's schema.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), Error> {
        self.rows += batch.num_rows();
        // Not `get_array_memory_size`: slices of one message's buffer would each count all of it.
        for column in batch.columns() {
            self.bytes += column.to_data().get_slice_memory_size().map_err(self.failed())?;
        }
        self.gathered.push(batch);
        if self.rows >= RUN_ROWS || self.bytes >= RUN_BYTES {
            self.spill()?;
        }
        Ok(())
    }

    /// Hands all rows on, sorted.
    pub(crate) fn finish(mut self, sink: &mut Sink<'_>) -> Result<(), Error> {
        if self.runs.is_empty() {
            return self.sort_gathered(sink);
        }
        self.spill()?;
        let runs = std::mem::take(&mut self.runs);
        self.merge_runs(runs, sink)
    }

    fn spill(&mut self) -> Result<(), Error> {
        let (run, mut writer) = self.new_run()?;
        self.sort_gathered(&mut |chunk| writer.append(&chunk))?;
        self.gathered.clear();
        (self.rows, self.bytes) = (0, 0);
        self.runs.push(run);
        if self.runs.len() >= FAN_IN {
            let (run, mut writer) = self.new_run()?;
            let runs = std::mem::take(&mut self.runs);
            self.merge_runs(runs, &mut |chunk| writer.append(&chunk))?;
            self.runs.push(run);
        }
        Ok(())
    }

    fn new_run(&mut self) -> Result<(Run, OpenWriter), Error> {
        let name = self.scratch.file_name().unwrap_or_default().to_string_lossy();
        let path = self.scratch.with_file_name(format!(".{name}.run{}.tmp", self.spilled));
        self.spilled += 1;
        let writer = OpenWriter::create(path.clone(), Access::default())?;
        Ok((Run(path), writer))
    }

    fn sort_gathered(&self, sink: &mut Sink<'_>) -> Result<(), Error> {
        let mut rows = self.converter.empty_rows(self.rows, 0);
        let mut places = Vec::with_capacity(self.rows);
        for (index, batch) in self.gathered.iter().enumerate() {
            self.converter.append(&mut rows, &self.key_columns(batch)).map_err(self.failed())?;
            places.extend((0..batch.num_rows()).map(|row| (index, row)));
        }
        let mut order: Vec<u32> = (0..places.len() as u32).collect();
        // Stable: rows of equal keys stay in the order in which they came.
        order.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
        let batches: Vec<&RecordBatch> = self.gathered.iter().collect();
        let mut chunk = Chunk::new(self.table);
        for (position, index) in order.iter().enumerate() {
            let row = rows.row(*index as usize);
            let new = position == 0 || row != rows.row(order[position - 1] as usize);
            if new && chunk.is_full() {
                sink(chunk.take(&batches).map_err(self.failed())?)?;
            }
            chunk.push(places[*index as usize], new);
        }
        if !chunk.is_empty() {
            sink(chunk.take(&batches).map_err(self.failed())?)?;
        }
        Ok(())
    }

    fn merge_runs(&self, runs: Vec<Run>, sink: &mut Sink<'_>) -> Result<(), Error> {
        // Batches that rows of the current chunk lie in, and those that cursors stand in.
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut cursors = Vec::with_capacity(runs.len());
        for run in &runs {
            if let Some(cursor) = Cursor::open(self, run, &mut batches)? {
                cursors.push(cursor);
            }
        }
        let mut chunk = Chunk::new(self.table);
        let mut last: Vec<u8> = Vec::new();
        while let Some(least) = least(&cursors) {
            let cursor = &mut cursors[least];
            let new = chunk.is_empty() || cursor.key().data() != &last[..];
            if new && chunk.is_full() {
                sink(chunk.take(&batches.iter().collect::<Vec<_>>()).map_err(self.failed())?)?;
                let mut current = Vec::with_capacity(cursors.len());
                for cursor in &mut cursors {
                    current.push(batches[cursor.batch].clone());
                    cursor.batch = current.len() - 1;
                }
                batches = current;
            }
            let cursor = &mut cursors[least];
            if new {
                last.clear();
                last.extend_from_slice(cursor.key().data());
            }
            chunk.push((cursor.batch, cursor.row), new);
            cursor.row += 1;
            if cursor.row == cursor.rows.num_rows() && !cursor.advance(self, &mut batches)? {
                cursors.remove(least);
            }
        }
        if !chunk.is_empty() {
            sink(chunk.take(&batches.iter().collect::<Vec<_>>()).map_err(self.failed())?)?;
        }
        Ok(())
    }

    fn key_columns(&self, batch: &RecordBatch) -> Vec<arrow::array::ArrayRef> {
        self.keys.iter().map(|key| batch.column(*key).clone()).collect()
    }

    fn failed(&self) -> impl FnOnce(ArrowError) -> Error + use<> {
        let table = self.table.name;
        move |cause| Error::Rows { table, cause }
    }
}

/// The table's sort columns; where partial rows merge, then all other columns of their key.
fn order(table: &Table) -> Vec<usize> {
    let position = |name: &str| table.columns.iter().position(|column| column.name == name);
    let mut keys: Vec<usize> = table.sort.iter().filter_map(|name| position(name)).collect();
    if table.merges() {
        for (index, column) in table.columns.iter().enumerate() {
            if column.role == Role::Key && !keys.contains(&index) {
                keys.push(index);
            }
        }
    }
    keys
}

/// The first of the cursors with the least key.
fn least(cursors: &[Cursor]) -> Option<usize> {
    (0..cursors.len()).reduce(|least, next| if cursors[next].key() < cursors[least].key() { next } else { least })
}

/// Sorted rows in a temporary file, which goes with it.
struct Run(PathBuf);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Where the merge stands in a run.
struct Cursor {
    reader: OpenReader,
    rows: Rows,
    batch: usize,
    row: usize,
}

impl Cursor {
    fn open(sorter: &Sorter<'_>, run: &Run, batches: &mut Vec<RecordBatch>) -> Result<Option<Self>, Error> {
        let mut cursor =
            Self { reader: OpenReader::open(&run.0)?, rows: sorter.converter.empty_rows(0, 0), batch: 0, row: 0 };
        Ok(cursor.advance(sorter, batches)?.then_some(cursor))
    }

    /// On to the next batch; false at the end.
    fn advance(&mut self, sorter: &Sorter<'_>, batches: &mut Vec<RecordBatch>) -> Result<bool, Error> {
        let Some(batch) = self.reader.next_batch()? else { return Ok(false) };
        self.rows = sorter.converter.convert_columns(&sorter.key_columns(&batch)).map_err(sorter.failed())?;
        self.row = 0;
        self.batch = batches.len();
        batches.push(batch);
        Ok(true)
    }

    fn key(&self) -> Row<'_> {
        self.rows.row(self.row)
    }
}

/// The rows that are handed on next.
struct Chunk<'a> {
    table: &'a Table,
    merges: bool,
    /// Batch and row of each.
    places: Vec<(usize, usize)>,
    /// Where each key's rows begin, where rows merge.
    starts: Vec<u32>,
}

impl<'a> Chunk<'a> {
    fn new(table: &'a Table) -> Self {
        Self { table, merges: table.merges(), places: Vec::with_capacity(CHUNK_ROWS), starts: Vec::new() }
    }

    fn push(&mut self, place: (usize, usize), new: bool) {
        if self.merges && new {
            self.starts.push(self.places.len() as u32);
        }
        self.places.push(place);
    }

    fn is_full(&self) -> bool {
        self.places.len() >= CHUNK_ROWS
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn take(&mut self, batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
        let batch = interleave_record_batch(batches, &self.places)?;
        self.places.clear();
        let starts = std::mem::take(&mut self.starts);
        if self.merges { combine(self.table, &batch, &starts) } else { Ok(batch) }
    }
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray, compute::concat_batches, datatypes::UInt64Type};
    use hitscope_schemas::tables::{Event, Hitmap};

    use super::*;
    use crate::testing::{Random, event, hitmap};

    fn sorted<R: hitscope_schemas::tables::Row>(batches: Vec<Vec<R>>) -> RecordBatch {
        let dir = tempfile::tempdir().unwrap();
        let (table, scratch) = (R::table(), dir.path().join("cube"));
        let mut sorter = Sorter::new(&table, &scratch).unwrap();
        batches.iter().for_each(|rows| sorter.push(R::batch(rows)).unwrap());
        let mut chunks = Vec::new();
        sorter
            .finish(&mut |chunk| {
                chunks.push(chunk);
                Ok(())
            })
            .unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "runs are removed");
        concat_batches(&table.schema(), &chunks).unwrap()
    }

    #[test]
    fn partial_rows_merge_exactly_over_many_runs() {
        let mut random = Random(7);
        // Few enough keys that each has rows in several runs; enough runs that runs of runs are merged.
        let batches: Vec<Vec<Hitmap>> = (0..(FAN_IN + 3) * RUN_ROWS / 20_000)
            .map(|_| {
                let row = |random: &mut Random| hitmap(random.below(60), ["a", "b", "c"][random.below(3) as usize], 2);
                (0..20_000).map(|_| row(&mut random)).collect()
            })
            .collect();
        let given: u64 = batches.iter().flatten().map(|row| row.hits).sum();
        let merged = sorted(batches);
        assert_eq!(merged.num_rows(), 180);
        let sum = |name: &str| merged.column_by_name(name).unwrap().as_primitive::<UInt64Type>().values().iter().sum();
        let (hits, errors): (u64, u64) = (sum("hits"), sum("errors"));
        assert_eq!((hits, errors), (given, given / 2));
    }

    #[test]
    fn rows_with_equal_keys_stay_in_order_and_are_all_kept_where_nothing_merges() {
        let rows = |from: u64| (from..from + 40_000).map(|n| event(n % 10, &n.to_string())).collect::<Vec<Event>>();
        let merged = sorted(vec![rows(0), rows(40_000), rows(80_000)]);
        assert_eq!(merged.num_rows(), 120_000);
        let detail = merged.column_by_name("detail").unwrap().as_string::<i32>();
        let expected = (0..10).flat_map(|time| (time..120_000).step_by(10));
        assert!(detail.iter().flatten().eq(expected.map(|n| n.to_string()).collect::<Vec<_>>().iter()));
    }
}
