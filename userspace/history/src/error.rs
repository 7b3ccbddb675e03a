//! What can go wrong with the history folder, told so that the user can mend it.

use std::{io, path::PathBuf};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// A failure to read or write history. Each says what, why, and what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {cause}{}", path.display(), advice(cause))]
    Io {
        /// A verb: `read`, `write`, …
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The disk has less room than is left to others.
    #[error(
        "No space left for history: {} has {} MiB free, and {} MiB are left to others; free some space",
        path.display(), free >> 20, kept_free >> 20
    )]
    NoRoom {
        /// The data folder.
        path: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// What is not used by history, in bytes.
        kept_free: u64,
    },
    /// Another process writes the same tables.
    #[error(
        "another hitscope{} writes to {}: stop it, or give this one another folder with --data-dir",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who, where known.
        pid: Option<u32>,
    },
    /// A listed file has been closed, merged or evicted since; list again.
    #[error("{} has been replaced since it was listed; list again", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A file's content is not what it should be.
    #[error("{} cannot be read ({cause}); it is damaged or of another hitscope version: move it away to go on without it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        cause: String,
    },
    /// Rows could not be put into their columns.
    #[error("rows of {table} cannot be stored: {cause}")]
    Rows {
        /// The table.
        table: &'static str,
        /// Why.
        cause: ArrowError,
    },
    /// The host's name cannot be a folder's name.
    #[error("the host name {0:?} cannot name a folder: set `host` to letters, digits, dots and dashes")]
    Host(String),
    /// `status.json` is not what the collector writes.
    #[error("{} is not a status file ({cause}); a running collector writes it anew each second", path.display())]
    Status {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        cause: serde_json::Error,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { action, path, cause }
    }

    /// For `map_err`, on a file that a writer may replace at any time: not found means gone.
    pub(crate) fn listed(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| match cause.kind() {
            io::ErrorKind::NotFound => Self::Gone { path },
            _ => Self::Io { action, path, cause },
        }
    }

    /// For `map_err`, on what a Parquet or Arrow file holds.
    pub(crate) fn damaged<E: std::fmt::Display>(path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |cause| Self::Damaged { path, cause: cause.to_string() }
    }

    /// For `map_err`, where writing a Parquet file failed: mostly the disk.
    pub(crate) fn parquet(path: impl Into<PathBuf>) -> impl FnOnce(ParquetError) -> Self {
        let path = path.into();
        move |cause| match cause {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(cause) => Self::Io { action: "write", path, cause: *cause },
                Err(cause) => Self::Damaged { path, cause: cause.to_string() },
            },
            cause => Self::Damaged { path, cause: cause.to_string() },
        }
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or lower `max_bytes` or `max_age` in [history]"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; run as a user that may, or give another folder with --data-dir"
        }
        _ => "",
    }
}
