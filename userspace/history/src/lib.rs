//! Writes and reads the history folder, the interface between the collector and everything that shows history.
//!
//! What is coming, to code against:
//! ```text
//! impl Writer {
//!     pub fn open(data_dir: &Path, host: &str, tables: &[Table], settings: Settings) -> Result<(Self, Recovery), Error>;
//!     pub fn append<R: Row + Send + 'static>(&mut self, rows: Vec<R>);    // in memory only; cheap, one row at a time is fine
//!     pub fn flush(&mut self, now_ns: u64) -> Result<Flushed, Error>;     // each second; now_ns: wall clock, in replays the replayed one
//!     pub fn finish(self) -> Result<Flushed, Error>;                      // closes every cube; dropping leaves them open
//! }
//! pub struct Flushed { rows: u64, lost: BTreeMap<&'static str /* table */, u64>, closed: Vec<…>, evicted: …, notes: Vec<String> }
//! pub struct Recovery { parts: u64, rows: u64, torn_bytes: u64, notes: Vec<String> }
//!
//! pub struct HistoryFile { path, table, host, cube_start_ns, part: Option<u32> /* Some: open, Arrow IPC stream */, bytes, inode }
//! impl HistoryFile { pub fn is_open(&self) -> bool; pub fn open(&self) -> Result<File, Error /* Gone: list again */> }
//! pub fn list(data_dir: &Path, table: &str, times_ns: Range<u64> /* 0..u64::MAX for all */) -> Result<Vec<HistoryFile>, Error>;
//! pub fn read_open(path: &Path) -> Result<(SchemaRef, Vec<RecordBatch>), Error>;   // all complete batches, torn tail ignored
//! pub struct OpenReader;  // keeps its position, for tailing
//! impl OpenReader { pub fn open(path: &Path) -> Result<Self, Error>; pub fn schema(&self) -> Option<SchemaRef>; pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> }
//! ```

pub mod error;
pub mod folder;
pub mod settings;
pub mod status;

pub use error::Error;
pub use settings::Settings;

/// Length of a cube: 5 minutes of wall clock, aligned to the epoch, in ns.
pub const CUBE_NS: u64 = 300_000_000_000;
