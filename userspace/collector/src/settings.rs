//! The sections `[collector]` and `[http]` of the configuration, and the length of a window.

use std::time::Duration;

pub use hitscope_config::{Collector as Settings, Http};

/// Length of a window.
pub const WINDOW: Duration = Duration::from_secs(5);

/// Length of a window, ns.
pub(crate) const WINDOW_NS: i64 = WINDOW.as_nanos() as i64;

/// Start of the window that a moment belongs to; both wall clock, ns since the epoch.
pub(crate) fn window_start(time_ns: i64) -> i64 {
    time_ns.div_euclid(WINDOW_NS) * WINDOW_NS
}
