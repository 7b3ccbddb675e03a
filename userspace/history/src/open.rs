//! Open cubes: Arrow IPC streams that are appended to, and read while that happens.
//!
//! Each append is one write of whole messages, dictionaries first, a record batch last, and needs nothing of the
//! appends before but the schema. So whatever moment the writer dies at, the file is whole up to its last record batch;
//! what follows is a torn tail, which readers leave alone.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        CompressionType, MetadataVersion,
        reader::StreamDecoder,
        root_as_message,
        writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message},
    },
};

use crate::{Error, folder::Access};

/// Appends to one file.
#[derive(Debug)]
pub(crate) struct OpenWriter {
    file: File,
    path: PathBuf,
    /// Up to where the file is whole.
    end: u64,
    /// Whether a torn tail could not be cut off; nothing may follow it.
    broken: bool,
}

impl OpenWriter {
    pub(crate) fn create(path: PathBuf, access: Access) -> Result<Self, Error> {
        Ok(Self { file: access.create_file(&path)?, path, end: 0, broken: false })
    }

    /// Appends rows; where that fails, the file is as before.
    pub(crate) fn append(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let bytes = encode(batch, self.end == 0).map_err(Error::damaged(&self.path))?;
        if let Err(error) = self.file.write_all_at(&bytes, self.end) {
            self.broken = self.file.set_len(self.end).is_err();
            return Err(Error::io("write", &self.path)(error));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Whether nothing more can be appended.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }
}

fn encode(batch: &RecordBatch, with_schema: bool) -> Result<Vec<u8>, ArrowError> {
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?
        .try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let generator = IpcDataGenerator::default();
    let mut context = IpcWriteContext::default();
    // A tracker of its own for each append, so that all its dictionaries are written with it.
    let mut tracker = DictionaryTracker::new(false);
    let schema = generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut tracker, &options);
    let (dictionaries, rows) = generator.encode(batch, &mut tracker, &options, &mut context)?;
    let mut bytes = Vec::new();
    if with_schema {
        write_message(&mut bytes, schema, &options)?;
    }
    for dictionary in dictionaries {
        write_message(&mut bytes, dictionary, &options)?;
    }
    write_message(&mut bytes, rows, &options)?;
    Ok(bytes)
}

/// Reads an open cube from its beginning on, and later what has been appended since.
#[derive(Debug)]
pub struct OpenReader {
    path: PathBuf,
    file: File,
    decoder: StreamDecoder,
    position: u64,
}

/// Whole messages up to and with a record batch.
struct Frame {
    end: u64,
    rows: u64,
}

impl OpenReader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Gone`] where it is not there; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::listed("open", path))?;
        Ok(Self::from_file(file, path))
    }

    /// Reads a file that is open already; `path` is for messages.
    pub fn from_file(file: File, path: &Path) -> Self {
        Self { path: path.to_owned(), file, decoder: StreamDecoder::new(), position: 0 }
    }

    /// The schema, once a batch has been read.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }

    /// The next rows; `None` where there are no more yet, or but a torn tail. The file stays readable after it has
    /// been closed into Parquet and removed.
    ///
    /// # Errors
    /// [`Error::Damaged`] where complete messages make no sense, now and at every later call; [`Error::Io`].
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        let Some(frame) = self.next_frame()? else { return Ok(None) };
        let length = usize::try_from(frame.end - self.position).map_err(Error::damaged(&self.path))?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.position).map_err(Error::io("read", &self.path))?;
        if !has_plausible_lengths(&bytes) {
            return Err(Error::damaged(&self.path)("a length that cannot be"));
        }
        // Arrow panics at a damaged schema.
        let decoder = &mut self.decoder;
        let decoded = panic::catch_unwind(AssertUnwindSafe(|| decoder.decode(&mut Buffer::from(bytes))));
        let batch = decoded
            .unwrap_or_else(|_| Err(ArrowError::IpcError("makes no sense to Arrow".into())))
            .and_then(|batch| batch.ok_or_else(|| ArrowError::IpcError("no record batch".into())))
            .map_err(Error::damaged(&self.path))?;
        self.position = frame.end;
        Ok(Some(batch))
    }

    /// Finds the end of the next record batch, where it is in the file as a whole.
    fn next_frame(&self) -> Result<Option<Frame>, Error> {
        let failed = |error| Error::io("read", &self.path)(error);
        let file_end = self.file.metadata().map_err(failed)?.len();
        let mut position = self.position;
        loop {
            if file_end.saturating_sub(position) < 8 {
                return Ok(None);
            }
            let mut head = [0; 8];
            self.file.read_exact_at(&mut head, position).map_err(failed)?;
            let [a, b, c, d, length @ ..] = head;
            let length = u32::from_le_bytes(length);
            let body = position + 8 + u64::from(length);
            // Zeros are what a power failure leaves where a write did not reach the disk.
            if [a, b, c, d] != [0xff; 4] || length == 0 || body > file_end {
                return Ok(None);
            }
            let mut header = vec![0; length as usize];
            self.file.read_exact_at(&mut header, position + 8).map_err(failed)?;
            let Ok(message) = root_as_message(&header) else { return Ok(None) };
            let Some(end) = u64::try_from(message.bodyLength()).ok().and_then(|length| body.checked_add(length)) else {
                return Ok(None);
            };
            if end > file_end {
                return Ok(None);
            }
            if let Some(batch) = message.header_as_record_batch() {
                return Ok(Some(Frame { end, rows: batch.length().cast_unsigned() }));
            }
            position = end;
        }
    }
}

/// LZ4 makes nothing smaller than this.
const LZ4_RATIO: u64 = 255;

/// Whether no compressed buffer claims to hold more than it can: Arrow would end the process for want of memory.
/// `bytes` are whole messages, as [`OpenReader::next_frame`] finds them.
fn has_plausible_lengths(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let Some((header, rest)) = rest.split_at_checked(length as usize) else { return false };
        let Ok(message) = root_as_message(header) else { return false };
        let body = usize::try_from(message.bodyLength()).ok().and_then(|length| rest.split_at_checked(length));
        let Some((body, rest)) = body else { return false };
        let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        if let Some(batch) = message.header_as_record_batch().or(dictionary) {
            for buffer in batch.buffers().into_iter().flatten() {
                let at = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
                let Some(buffer) = at.and_then(|(start, length)| body.get(start..start.checked_add(length)?)) else {
                    return false;
                };
                // Its first 8 bytes say how long it is uncompressed; -1 where it is not compressed.
                if batch.compression().is_some()
                    && let Some(length) = buffer.first_chunk()
                    && u64::try_from(i64::from_le_bytes(*length))
                        .is_ok_and(|length| length > buffer.len() as u64 * LZ4_RATIO)
                {
                    return false;
                }
            }
        }
        bytes = rest;
    }
    true
}

/// Reads the open cube's rows that are there as a whole. Where not even its first rows are, the schema is empty.
///
/// # Errors
/// [`Error::Gone`] where it has been closed since it was listed; [`Error::Io`].
pub fn read_open(path: &Path) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    read_whole(OpenReader::open(path)?)
}

pub(crate) fn read_whole(mut reader: OpenReader) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    let mut batches = Vec::new();
    loop {
        match reader.next_batch() {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => break,
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!("{error}");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((reader.schema().unwrap_or_else(|| Schema::empty().into()), batches))
}

/// What a crash left in an open file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) rows: u64,
    pub(crate) torn_bytes: u64,
}

/// Cuts the torn tail off.
pub(crate) fn recover(path: &Path) -> Result<Recovered, Error> {
    let mut reader = OpenReader::open(path)?;
    let mut rows = 0;
    while let Some(frame) = reader.next_frame()? {
        rows += frame.rows;
        reader.position = frame.end;
    }
    let bytes = reader.file.metadata().map_err(Error::io("read", path))?.len();
    if bytes > reader.position {
        let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
        file.set_len(reader.position).map_err(Error::io("truncate", path))?;
    }
    Ok(Recovered { rows, torn_bytes: bytes - reader.position })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hitscope_schemas::tables::Row;

    use super::*;
    use crate::testing::{event, hitmap};

    fn appended(batches: &[RecordBatch]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.arrows");
        let mut writer = OpenWriter::create(path.clone(), Access::default()).unwrap();
        batches.iter().for_each(|batch| writer.append(batch).unwrap());
        (dir, path)
    }

    /// Anew, since file systems flush a file that is truncated and written.
    fn write_anew(path: &Path, bytes: &[u8]) {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_torn_tail_at_every_byte_leaves_what_was_appended_before() {
        let first = Row::batch(&[hitmap(0, "a", 1), hitmap(0, "b", 2)]);
        let second = Row::batch(&[hitmap(1, "b", 3)]);
        let (_dir, path) = appended(std::slice::from_ref(&first));
        let whole_first = fs::metadata(&path).unwrap().len() as usize;
        let (_dir, path) = appended(&[first.clone(), second.clone()]);
        let bytes = fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            write_anew(&path, &bytes[..end]);
            let expected: &[RecordBatch] = if end < whole_first { &[] } else { std::slice::from_ref(&first) };
            assert_eq!(read_open(&path).unwrap().1, expected, "cut at {end}");
            let rows = expected.len() as u64 * 2;
            let kept = if end < whole_first { 0 } else { whole_first };
            assert_eq!(recover(&path).unwrap(), Recovered { rows, torn_bytes: (end - kept) as u64 });
            assert_eq!(fs::metadata(&path).unwrap().len(), kept as u64);
        }
        write_anew(&path, &bytes);
        assert_eq!(read_open(&path).unwrap(), (first.schema(), vec![first, second]));
    }

    #[test]
    fn zeros_or_noise_at_the_end_are_a_torn_tail_too() {
        let batch = Row::batch(&[event(1, "x")]);
        let (_dir, path) = appended(std::slice::from_ref(&batch));
        let bytes = fs::read(&path).unwrap();
        for tail in [vec![0; 100], vec![0xff; 100], b"noise, longer than a message's head".to_vec()] {
            write_anew(&path, &[&bytes[..], &tail].concat());
            assert_eq!(read_open(&path).unwrap().1, std::slice::from_ref(&batch));
            assert_eq!(recover(&path).unwrap().torn_bytes, tail.len() as u64);
        }
    }

    #[test]
    fn damage_within_a_body_is_an_error_and_never_a_panic() {
        let (_dir, path) = appended(&[Row::batch(&[hitmap(0, "a", 1)]), Row::batch(&[hitmap(1, "b", 1)])]);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            write_anew(&path, &damaged);
            let mut reader = OpenReader::open(&path).unwrap();
            while let Ok(Some(_)) = reader.next_batch() {}
            read_open(&path).unwrap();
        }
    }

    #[test]
    fn a_reader_follows_what_is_appended() {
        let (_dir, path) = appended(&[]);
        let mut writer = OpenWriter::create(path.clone(), Access::default()).unwrap();
        let mut reader = OpenReader::open(&path).unwrap();
        assert!(reader.next_batch().unwrap().is_none() && reader.schema().is_none());
        for time in 0..3 {
            let batch = Row::batch(&[event(time, "x"), event(time, "y")]);
            writer.append(&batch).unwrap();
            assert_eq!(reader.next_batch().unwrap(), Some(batch));
            assert_eq!(reader.next_batch().unwrap(), None);
        }
        fs::remove_file(&path).unwrap();
        writer.append(&Row::batch(&[event(4, "z")])).unwrap();
        assert_eq!(reader.next_batch().unwrap().unwrap().num_rows(), 1);
        assert!(matches!(read_open(&path), Err(Error::Gone { .. })));
    }
}
