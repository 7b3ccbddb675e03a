//! The `[collector]` section of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is kept and how much room it may take; the defaults suit a busy database host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Store each kept hit's request with its literals (column `hits.text`).
    pub keep_literals: bool,
    /// A hit that takes at least this long, in milliseconds, is kept whole.
    pub slow_ms: u64,
    /// How many of the fast hits of each operation are kept per second, each with the weight of those it stands for.
    pub sampled_per_second: usize,
    /// How many of the slowest among the fast hits of each operation are kept whole per second.
    pub slowest_per_second: usize,
    /// Up to how many failed, and as many slow, hits of each operation are kept whole per second; above, sampled.
    pub whole_per_second: usize,
    /// Operations followed at a time; further ones are counted together as `<other>`.
    pub max_operations: usize,
    /// Connections followed at a time; the one unused for longest makes room.
    pub max_connections: usize,
    /// Memory for one connection's unfinished requests, bytes.
    pub connection_bytes: usize,
    /// Rows per second in `events` for programs started and processes ended; above, counted as lost.
    pub events_per_second: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_literals: false,
            slow_ms: 100,
            sampled_per_second: 4,
            slowest_per_second: 2,
            whole_per_second: 1000,
            max_operations: 4096,
            max_connections: 16384,
            connection_bytes: 256 * 1024,
            events_per_second: 100,
        }
    }
}

impl Settings {
    /// `slow_ms` in ns.
    pub(crate) fn slow_ns(&self) -> u64 {
        self.slow_ms.saturating_mul(1_000_000)
    }
}

/// Length of a window.
pub const WINDOW: Duration = Duration::from_secs(5);

/// Length of a window, ns.
pub(crate) const WINDOW_NS: i64 = WINDOW.as_nanos() as i64;

/// Start of the window that a moment belongs to; both wall clock, ns since the epoch.
pub(crate) fn window_start(time_ns: i64) -> i64 {
    time_ns.div_euclid(WINDOW_NS) * WINDOW_NS
}
