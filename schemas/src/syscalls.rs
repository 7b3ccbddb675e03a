//! Records of the `syscalls` probe: one entry per process and syscall in a per-CPU map.

use bytemuck::{Pod, Zeroable};

use crate::record;

/// Buckets of [`SyscallStats::histogram`]: bucket `i` counts calls of `2^(i+7)` ns up to twice that;
/// the first also those below, the last those above (275 s). A power of two, so that a mask bounds the index.
pub const HISTOGRAM_BUCKETS: usize = 32;

/// In a syscall's number: it was called by 32-bit code, which has a table of its own.
pub const COMPAT: u32 = 1 << 15;

/// Key: a process and a syscall number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct SyscallKey {
    /// Process (kernel `tgid`).
    pub pid: u32,
    /// Syscall number of the host's architecture, or one of its 32-bit programs and [`COMPAT`].
    pub syscall: u16,
    /// See [`crate::sched::ProcessKey::generation`].
    pub generation: u16,
}
record!(SyscallKey, 8);

/// Value, per CPU, of one generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SyscallStats {
    /// Calls that returned.
    pub calls: u64,
    /// Calls that returned an error (-4095 to -1).
    pub errors: u64,
    /// Sum of their durations, ns.
    pub total_ns: u64,
    /// The longest, ns.
    pub max_ns: u64,
    /// Calls by duration, see [`HISTOGRAM_BUCKETS`].
    pub histogram: [u32; HISTOGRAM_BUCKETS],
}
record!(SyscallStats, 32 + 4 * HISTOGRAM_BUCKETS);

/// The histogram bucket of a duration in ns.
#[inline(always)]
pub fn histogram_bucket(duration_ns: u64) -> usize {
    let log2 = 63 - (duration_ns | 128).leading_zeros() as usize;
    (log2 - 7).min(HISTOGRAM_BUCKETS - 1)
}
