//! Feeds a connection whatever segments the input describes: it must not panic, nor hold more than its bound.
//!
//! Built on stable Rust without cargo-fuzz (g++ builds libFuzzer's runtime):
//! ```text
//! cd tests/fuzz
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table" \
//!   cargo build --release --target x86_64-unknown-linux-gnu
//! target/x86_64-unknown-linux-gnu/release/wire -max_total_time=60 -max_len=4096 <writable folder> corpus/wire
//! ```
//! An input is a byte of settings, then segments: a byte of flags (1: sent; 2: a middle goes uncaptured; 4: bytes
//! were lost before; 8: the segment before comes again), head and tail length (one byte each, times 4 with flag
//! 16), where flagged two bytes for each hole's size, then head and tail. `HITSCOPE_BLESS=1 cargo test -p hitscope-wire
//! seeds` writes the committed corpus.
#![no_main]

use std::sync::Arc;

use hitscope_wire::{Connection, Direction, Facts, Mark, Outcome, Segment, Settings};
use libfuzzer_sys::fuzz_target;

/// Takes `length` bytes from the front, or what is left.
fn take<'a>(data: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (front, rest) = data.split_at(length.min(data.len()));
    *data = rest;
    front
}

fn number(data: &mut &[u8], bytes: usize) -> u64 {
    take(data, bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let flags = number(&mut data, 1);
    let settings = Settings {
        keep_literals: flags & 1 != 0,
        connection_bytes: Settings::MIN_CONNECTION_BYTES,
        ..Settings::default()
    };
    let mut connection = Connection::new(Arc::new(settings));
    let mut offsets = [0_u64; 2];
    let mut time_ns = 0;
    let mut sink = |outcome: Outcome, _: &Facts| {
        if let Outcome::Hit(hit) = outcome {
            assert!(!hit.operation.is_empty());
        }
    };
    while !data.is_empty() {
        let flags = number(&mut data, 1);
        let unit = if flags & 16 != 0 { 4 } else { 1 };
        let (head, tail) = (number(&mut data, 1) as usize * unit, number(&mut data, 1) as usize * unit);
        let middle = if flags & 2 != 0 { number(&mut data, 2) << (flags >> 5) } else { 0 };
        let lost = if flags & 4 != 0 { number(&mut data, 2) } else { 0 };
        let (head, tail) = (take(&mut data, head), take(&mut data, tail));
        let direction = if flags & 1 != 0 { Direction::Sent } else { Direction::Received };
        let length = head.len() as u64 + middle + tail.len() as u64;
        let offset = offsets[direction.index()] + lost;
        offsets[direction.index()] = offset + length;
        time_ns += 1000;
        let mark = Mark { time_ns, ..Mark::default() };
        let segment = Segment { direction, enter_ns: time_ns - 100, mark, offset, length, head, tail };
        for _ in 0..if flags & 8 != 0 { 2 } else { 1 } {
            connection.feed(&segment, &mut sink);
            let memory = connection.memory_bytes();
            assert!(memory <= Settings::MIN_CONNECTION_BYTES, "{memory} bytes");
        }
    }
    connection.close(time_ns, &mut sink);
});
