//! What the collector and the server are doing.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use axum::{Json, extract::State};
use hitscope_history::status;
use hitscope_schemas::tables::Table;
use serde::Serialize;
use serde_json::{Value, json};

use super::{App, Failure};
use hitscope_base::time;

/// The collector writes its status each second; after this long without, it is not running.
const STALE_NS: u64 = 10_000_000_000;

/// Whether there is something to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing was ever recorded.
    None,
    /// There is history, but no collector running; since when, in ns since the epoch, where it is known.
    Stale(Option<u64>),
    /// A collector is running.
    Live,
}

impl Data {
    /// As in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stale(_) => "stale",
            Self::Live => "live",
        }
    }
}

/// Tells from the folder whether there is something to see.
pub fn data(data_dir: &Path, tables: &[Table], now_ns: i64) -> Result<Data, hitscope_history::Error> {
    if let Some(status) = status::read(data_dir)? {
        let live = status.age_ns(now_ns.unsigned_abs()) < STALE_NS;
        return Ok(if live { Data::Live } else { Data::Stale(Some(status.updated_ns)) });
    }
    for table in tables {
        if !hitscope_history::list(data_dir, table.name, 0..u64::MAX)?.is_empty() {
            return Ok(Data::Stale(None));
        }
    }
    Ok(Data::None)
}

/// What a process of hitscope uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// CPU since its start, user and kernel mode.
    pub cpu_ns: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// The largest it has been.
    pub peak_rss_bytes: u64,
}

/// Linux gives times in /proc in hundredths of a second, on every architecture (`USER_HZ`, proc_pid_stat(5)).
const TICK_NS: u64 = 10_000_000;

/// Reads this process's figures below `proc` (`/proc`); what cannot be read is 0.
pub fn usage(proc: &Path) -> Usage {
    let read = |name: &str| std::fs::read_to_string(proc.join("self").join(name)).unwrap_or_default();
    let stat = read("stat");
    // The name in parentheses may hold blanks; behind it, utime and stime are the 12th and 13th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let status = read("status");
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Usage {
        cpu_ns: ticks * TICK_NS,
        rss_bytes: bytes("VmRSS:").unwrap_or(0),
        peak_rss_bytes: bytes("VmHWM:").unwrap_or(0),
    }
}

/// `GET /api/v1/status`
pub async fn get(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    let data_dir = app.workers.data_dir();
    // A broken status file is told, and hides nothing else.
    let mut notes = app.notes.clone();
    let collector = status::read(data_dir).unwrap_or_else(|error| {
        notes.push(error.to_string());
        None
    });
    let data = data(data_dir, app.workers.tables(), time::now_ns()).unwrap_or(Data::Stale(None));
    let stale_since = match data {
        Data::Stale(since_ns) => since_ns.map(|since_ns| since_ns / 1_000_000),
        Data::None | Data::Live => None,
    };
    let usage = usage(Path::new("/proc"));
    let counters = app.workers.counters();
    Ok(Json(json!({
        "data": data.name(),
        "stale_since": stale_since,
        "collector": collector,
        "server": {
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started_ns": app.started_ns,
            "cpu_ns": usage.cpu_ns,
            "rss_bytes": usage.rss_bytes,
            "peak_rss_bytes": usage.peak_rss_bytes,
            "queries": counters.asked.load(Ordering::Relaxed),
            "query_failures": counters.refused().values().sum::<u64>(),
            "notes": notes,
        },
        "alerts": app.alerts().health(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_given_root() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(usage(dir.path()), Usage::default());
        std::fs::create_dir(dir.path().join("self")).unwrap();
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 10";
        std::fs::write(dir.path().join("self/stat"), stat).unwrap();
        std::fs::write(dir.path().join("self/status"), "Name:\ta\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n").unwrap();
        let expected = Usage { cpu_ns: 3_000_000_000, rss_bytes: 1 << 20, peak_rss_bytes: 2 << 20 };
        assert_eq!(usage(dir.path()), expected);
    }
}
