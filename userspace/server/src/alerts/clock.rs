//! Two clocks: one says when something was, the other how long it took.

use std::fs;

use hitscope_base::time;

/// A moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What people call it: ns since the epoch. It may be set ahead and back, so nothing is measured by it.
    pub wall_ns: i64,
    /// Since the host's start, ns, time asleep included. It never goes back, and starts anew with the host.
    pub steady_ns: i64,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a live value of the right type; the clock exists since Linux 2.6.39.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
        Self { wall_ns: time::now_ns(), steady_ns: time.tv_sec * 1_000_000_000 + time.tv_nsec }
    }
}

/// What tells this run of the host from its others; empty where it cannot be told.
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
