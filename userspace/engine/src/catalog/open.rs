//! The open cubes' rows. Each file is read on from where the last query left off, so that a live page's query each
//! second costs only what came since.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, Date32Array, DictionaryArray, Int32Array, RecordBatch, StringArray, new_null_array},
    compute::cast,
    datatypes::{Int32Type, SchemaRef},
    error::ArrowError,
};
use hitscope_history::{Error, HistoryFile, OpenReader};

use super::prune::day;

/// What was read of the open cubes so far.
#[derive(Debug, Default)]
pub struct OpenCubes {
    parts: Mutex<HashMap<PathBuf, OpenPart>>,
}

struct OpenPart {
    table: &'static str,
    inode: u64,
    reader: OpenReader,
    /// It was damaged at some place; what came before that is kept.
    damaged: bool,
    batches: Vec<RecordBatch>,
}

impl std::fmt::Debug for OpenPart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OpenPart").field("table", &self.table).field("batches", &self.batches.len()).finish()
    }
}

impl OpenCubes {
    /// The rows of a table's open cubes, in the given schema (the files' columns, `host` and `date`).
    ///
    /// Fails with `Gone` when a file went away after it was listed: its cube is closed now.
    pub fn read(
        &self,
        table: &'static str,
        files: &[HistoryFile],
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>, Error> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|path, part| part.table != table || path.exists());
        let mut batches = Vec::new();
        for file in files {
            let mut part = match parts.remove(&file.path).filter(|part| part.inode == file.inode) {
                Some(part) => part,
                None => OpenPart {
                    table,
                    inode: file.inode,
                    reader: OpenReader::open(&file.path)?,
                    damaged: false,
                    batches: Vec::new(),
                },
            };
            part.read_on(file, schema);
            batches.extend_from_slice(&part.batches);
            parts.insert(file.path.clone(), part);
        }
        Ok(batches)
    }
}

impl OpenPart {
    fn read_on(&mut self, file: &HistoryFile, schema: &SchemaRef) {
        while !self.damaged {
            let next = self.reader.next_batch().map_err(|error| error.to_string());
            let next = next.and_then(|batch| {
                batch.map(|batch| in_schema(&batch, file, schema).map_err(|error| error.to_string())).transpose()
            });
            match next {
                Ok(Some(batch)) => self.batches.push(batch),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(path = %file.path.display(), error, "an open cube is damaged; its rows up to there count");
                    self.damaged = true;
                }
            }
        }
    }
}

/// The batch with the table's columns in their order, and the folder's columns after them. A column that an older
/// version did not write yet is null.
fn in_schema(batch: &RecordBatch, file: &HistoryFile, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        Ok(match field.name().as_str() {
            "host" => {
                let host = Arc::new(StringArray::from(vec![file.host.as_str()]));
                Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![0; rows]), host)?)
            }
            "date" => Arc::new(Date32Array::from(vec![day(file); rows])),
            name => match batch.column_by_name(name) {
                Some(column) if column.data_type() == field.data_type() => column.clone(),
                Some(column) => cast(column, field.data_type())?,
                None => new_null_array(field.data_type(), rows),
            },
        })
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}
