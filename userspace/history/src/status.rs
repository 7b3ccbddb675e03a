//! `status.json`: what the collector says of itself each second, for the server and the command line.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    folder::{self, Access},
};

/// Name of the file in the data folder.
pub const FILE: &str = "status.json";

/// The collector's state. Fields that an older collector did not write read as their defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of hitscope.
    pub version: String,
    /// The host, as in the folders' names.
    pub host: String,
    /// The collector's process.
    pub pid: u32,
    /// When it started, ns since the epoch.
    pub started_ns: u64,
    /// When this was written, ns since the epoch.
    pub updated_ns: u64,
    /// CPU the collector used since its start, user and kernel mode, ns.
    pub cpu_ns: u64,
    /// The collector's resident memory.
    pub rss_bytes: u64,
    /// The largest it has been.
    pub peak_rss_bytes: u64,
    /// Each probe of the registry.
    pub probes: Vec<ProbeStatus>,
    /// What was dropped since the start, by reason.
    pub lost: BTreeMap<String, u64>,
    /// What was seen since the start, by name.
    pub counters: BTreeMap<String, u64>,
    /// Things the user should know, one sentence each.
    pub notes: Vec<String>,
}

/// A probe's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeStatus {
    /// Name in the registry and in the configuration.
    pub name: String,
    /// Whether it collects.
    pub running: bool,
    /// Why not, or with what limits.
    pub reason: Option<String>,
}

impl Status {
    /// How long ago this was written, ns; 0 where the clock was set back.
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.updated_ns)
    }
}

/// Replaces `<data-dir>/status.json` in one step, so that a reader sees the old or the new one, never a part.
///
/// # Errors
/// [`Error::Io`].
pub fn write(data_dir: &Path, status: &Status, access: Access) -> Result<(), Error> {
    let path = data_dir.join(FILE);
    let temporary = folder::temporary(&path);
    let text = serde_json::to_vec_pretty(status).map_err(|cause| Error::Status { path: path.clone(), cause })?;
    let written = access
        .create_file(&temporary)
        .and_then(|mut file| io::Write::write_all(&mut file, &text).map_err(Error::io("write", &temporary)))
        .and_then(|()| fs::rename(&temporary, &path).map_err(Error::io("replace", &path)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Reads `<data-dir>/status.json`; `None` where no collector has ever run.
///
/// # Errors
/// [`Error::Io`]; [`Error::Status`] where the file is not what [`write`] writes.
pub fn read(data_dir: &Path) -> Result<Option<Status>, Error> {
    let path = data_dir.join(FILE);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|cause| Error::Status { path, cause }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let status = Status {
            host: "db1".into(),
            probes: vec![ProbeStatus { name: "sched".into(), running: false, reason: Some("no BTF".into()) }],
            lost: [("ring_full".to_owned(), 7)].into(),
            ..Status::default()
        };
        write(dir.path(), &status, Access::default()).unwrap();
        write(dir.path(), &status, Access::default()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(status));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_older_status_reads_with_defaults_and_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), r#"{"pid": 4, "unknown": true}"#).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap().pid, 4);
        fs::write(dir.path().join(FILE), r#"{"pid": "#).unwrap();
        assert!(matches!(read(dir.path()), Err(Error::Status { .. })));
    }
}
