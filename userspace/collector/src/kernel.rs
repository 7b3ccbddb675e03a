//! What the running kernel is and can do. Takes paths, so that tests feed it fixtures.

pub mod btf;
pub mod calls;
pub mod config;

use crate::event::Clock;

/// Reads the three clocks, as near to each other as user space can.
pub fn clock() -> Clock {
    Clock {
        monotonic_ns: read_clock(libc::CLOCK_MONOTONIC),
        boottime_ns: read_clock(libc::CLOCK_BOOTTIME),
        realtime_ns: read_clock(libc::CLOCK_REALTIME),
    }
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call; these clocks exist on every kernel hitscope runs on.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
