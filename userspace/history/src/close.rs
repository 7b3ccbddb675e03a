//! Closes a cube: the parts of the open cube, and what of it has been closed before, become one sorted Parquet file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{RecordBatch, RecordBatchOptions, new_null_array},
    compute::cast,
    datatypes::SchemaRef,
    error::ArrowError,
};
use hitscope_schemas::tables::Table;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::metadata::ParquetMetaDataReader,
};

use crate::{
    Error,
    encoding::{self, PARTS_KEY},
    folder::{self, Access},
    open::OpenReader,
    sort::Sorter,
};

/// A cube of one table of one host.
#[derive(Clone, Debug)]
pub(crate) struct Cube<'a> {
    pub(crate) data_dir: &'a Path,
    pub(crate) host: &'a str,
    pub(crate) table: &'a Table,
    pub(crate) start_ns: u64,
}

/// A cube that was closed, or closed again because rows came late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its table.
    pub table: &'static str,
    /// Its start, ns since the epoch.
    pub cube_start_ns: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
}

impl Cube<'_> {
    /// Where it lies when closed.
    pub(crate) fn path(&self) -> PathBuf {
        folder::closed_path(self.data_dir, self.table.name, self.host, self.start_ns)
    }

    /// The files of the open cube with their numbers, in order.
    pub(crate) fn parts(&self) -> Result<Vec<(u32, PathBuf)>, Error> {
        let folder = folder::open_folder(self.data_dir, self.table.name, self.host);
        let mut parts: Vec<(u32, PathBuf)> = folder::entries(&folder)?
            .into_iter()
            .filter_map(|(name, path)| {
                let (start, part) = folder::parse_part(&name)?;
                (start == self.start_ns).then_some((part, path))
            })
            .collect();
        parts.sort_unstable();
        Ok(parts)
    }

    /// The number for a new file of the open cube: above those that are there or went into the closed file.
    pub(crate) fn next_part(&self) -> Result<u32, Error> {
        // In this order: a part that is closed in between is then in the closed file.
        let above_open = self.parts()?.last().map_or(0, |(part, _)| part.saturating_add(1));
        match closed_parts(&self.path()) {
            Ok(closed) => Ok(above_open.max(closed.unwrap_or(0))),
            // It is put aside when the cube is closed again; until then its numbers do not matter.
            Err(Error::Damaged { .. }) => Ok(above_open),
            Err(error) => Err(error),
        }
    }

    /// Closes the parts up to and with `last`. What cannot be read is put aside under another name and told in `notes`.
    pub(crate) fn close(&self, last: u32, access: Access, notes: &mut Vec<String>) -> Result<Option<Closed>, Error> {
        let path = self.path();
        let closed_before = match closed_parts(&path) {
            Err(error @ Error::Damaged { .. }) => {
                put_aside(&path, &error, notes)?;
                None
            }
            parts => parts?,
        };
        let mut parts = self.parts()?;
        parts.retain(|(part, _)| *part <= last);
        let (done, parts): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|(part, _)| closed_before.is_some_and(|closed| *part < closed));
        let closed =
            if parts.is_empty() { None } else { self.write(&path, closed_before.is_some(), &parts, access, notes)? };
        for (_, part) in done.iter().chain(&parts) {
            match fs::remove_file(part) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", part)(error));
                }
                _ => {}
            }
        }
        Ok(closed)
    }

    fn write(
        &self,
        path: &Path,
        merge: bool,
        parts: &[(u32, PathBuf)],
        access: Access,
        notes: &mut Vec<String>,
    ) -> Result<Option<Closed>, Error> {
        let schema = self.table.schema();
        let failed = |cause| Error::Rows { table: self.table.name, cause };
        let Some((first, last)) = parts.first().zip(parts.last()) else { return Ok(None) };
        let mut sorter = Sorter::new(self.table, &first.1).map_err(failed)?;
        if merge {
            let file = File::open(path).map_err(Error::io("open", path))?;
            let batches = ParquetRecordBatchReaderBuilder::try_new(file)
                .and_then(|builder| builder.with_batch_size(4096).build())
                .map_err(Error::damaged(path))?;
            for batch in batches {
                let batch = batch.map_err(Error::damaged(path))?;
                sorter.push(conform(batch, &schema).map_err(Error::damaged(path))?)?;
            }
        }
        for (_, part) in parts {
            if let Err(error) = push_part(part, &schema, &mut sorter) {
                let Error::Damaged { .. } = error else { return Err(error) };
                put_aside(part, &error, notes)?;
            }
        }
        let parent = path.parent().unwrap_or(path);
        access.create_folder(parent)?;
        let temporary = Temporary(folder::temporary(path));
        let file = access.create_file(&temporary.0)?;
        let properties = encoding::properties(self.table, last.0.saturating_add(1)).map_err(Error::parquet(path))?;
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(Error::parquet(&temporary.0))?;
        let mut rows = 0;
        sorter.finish(&mut |chunk| {
            rows += chunk.num_rows() as u64;
            writer.write(&chunk).map_err(Error::parquet(&temporary.0))
        })?;
        let file = writer.into_inner().map_err(Error::parquet(&temporary.0))?;
        if rows == 0 {
            return Ok(None);
        }
        file.sync_all().map_err(Error::io("write", &temporary.0))?;
        let bytes = file.metadata().map_err(Error::io("read", &temporary.0))?.len();
        fs::rename(&temporary.0, path).map_err(Error::io("replace", path))?;
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(Error::io("write", parent))?;
        Ok(Some(Closed { table: self.table.name, cube_start_ns: self.start_ns, rows, bytes }))
    }
}

/// What is complete in a part goes to the sorter, also where something behind it is damaged.
fn push_part(part: &Path, schema: &SchemaRef, sorter: &mut Sorter<'_>) -> Result<(), Error> {
    let mut reader = OpenReader::open(part)?;
    while let Some(batch) = reader.next_batch()? {
        sorter.push(conform(batch, schema).map_err(Error::damaged(part))?)?;
    }
    Ok(())
}

/// Rows as another version of hitscope wrote them, in this version's schema: columns are found by name, new ones are null.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<_, _>>()?, &options)
}

/// Of a closed file, below which number parts of the open cube are in it; `None` where there is no such file.
pub(crate) fn closed_parts(path: &Path) -> Result<Option<u32>, Error> {
    match File::open(path) {
        Ok(file) => parts_in(&file, path).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

/// As [`closed_parts`], of a file that is already open.
pub(crate) fn parts_in(file: &File, path: &Path) -> Result<u32, Error> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).map_err(Error::damaged(path))?;
    let values = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let value = values.filter(|pair| pair.key == PARTS_KEY).filter_map(|pair| pair.value.as_ref()).next();
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}

fn put_aside(path: &Path, why: &Error, notes: &mut Vec<String>) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.damaged"));
    fs::copy(path, &aside).map_err(Error::io("copy", path))?;
    notes.push(format!("{why}; what could not be read is kept in {}", aside.display()));
    Ok(())
}

/// A file that goes unless it has been renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
