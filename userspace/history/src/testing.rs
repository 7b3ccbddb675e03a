//! Rows for the tests.

use std::sync::Arc;

use hitscope_schemas::tables::{Event, Hitmap, Operation, Syscall};

/// Numbers that look random and are the same in each run (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

const WINDOW_NS: i64 = 5_000_000_000;

/// A row of the given window that stands for so many hits, half of them failed.
pub(crate) fn hitmap(window: u64, service: &str, hits: u64) -> Hitmap {
    Hitmap {
        window_start: window.cast_signed() * WINDOW_NS,
        service: service.into(),
        protocol: "postgres".into(),
        side: "server".into(),
        bucket_low_ns: 1024,
        bucket_high_ns: 1088,
        hits,
        errors: hits / 2,
    }
}

pub(crate) fn operation(window: u64, operation: &str) -> Operation {
    Operation {
        window_start: window.cast_signed() * WINDOW_NS,
        service: "postgresql".into(),
        protocol: "postgres".into(),
        side: "server".into(),
        operation: operation.into(),
        operation_id: operation.len() as u64,
        calls: 0,
        errors: 0,
        total_ns: 0,
        min_ns: 0,
        max_ns: 0,
        rows: 0,
        request_bytes: 0,
        response_bytes: 0,
        cpu_ns: None,
        lock_ns: None,
        disk_ns: None,
    }
}

pub(crate) fn syscall(window: u64, pid: u32, syscall: &str) -> Syscall {
    Syscall {
        window_start: window.cast_signed() * WINDOW_NS,
        pid,
        service: "postgresql".into(),
        syscall: syscall.into(),
        calls: 0,
        errors: 0,
        total_ns: 1,
        max_ns: 1,
        histogram: Vec::new(),
    }
}

/// An event at so many ns.
pub(crate) fn event(time: u64, detail: &str) -> Event {
    Event { time: time.cast_signed(), kind: "start".into(), pid: 1, service: Arc::from(""), detail: detail.into() }
}
