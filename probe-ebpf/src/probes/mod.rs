//! One file per probe, of the same name as its records in `schemas` and its user side in `collector`.

pub mod connections;
pub mod sched;
pub mod sockets;
pub mod syscalls;
pub mod tls;

use aya_ebpf::{macros::map, maps::Array};

/// Which half of the per-process maps is being filled; user space switches it and then empties the other.
#[map]
static GENERATION: Array<u32> = Array::with_max_entries(1, 0);

/// The half being filled.
#[inline(always)]
fn generation() -> u32 {
    GENERATION.get(0).copied().unwrap_or(0)
}
