//! Writes and reads the history folder, the interface between the collector and everything that shows history.
//!
//! [`Writer`] is the collector's side: rows go to the open cube each second, and into Parquet when the cube is over.
//! [`list()`] and [`OpenReader`] are for those who read it, at the same time and without asking. [`folder`] has the layout.

mod close;
mod closer;
mod encoding;
pub mod error;
pub mod folder;
mod list;
mod merge;
mod open;
mod retention;
mod settings;
mod sort;
pub mod status;
#[cfg(test)]
mod testing;
mod writer;

pub use close::Closed;
pub use error::Error;
pub use list::{HistoryFile, list, read};
pub use open::{OpenReader, read_open};
pub use retention::Evicted;
pub use settings::Settings;
pub use writer::{Flushed, Recovery, Writer};

/// Length of a cube: 5 minutes of wall clock, aligned to the epoch, in ns.
pub const CUBE_NS: u64 = 300_000_000_000;
