//! Records of the `sched` probe: times per process in a per-CPU map, exec and exit in the ring buffer.

use bytemuck::{Pod, Zeroable};

use crate::{event::EventHeader, record};

/// Bytes of the arguments captured at exec.
pub const ARGUMENTS_LEN: usize = 512;
/// Bytes of the kernel's `comm`, its NUL included.
pub const COMM_LEN: usize = 16;

/// Key: a process. A pid used again is another process, since its start differs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ProcessKey {
    /// Start of the process's first thread since boot (`start_boottime`), ns.
    pub start_ns: u64,
    /// Process (kernel `tgid`).
    pub pid: u32,
    /// Which half of the map the entry belongs to: the kernel fills one while user space empties the other.
    pub generation: u32,
}
record!(ProcessKey, 16);

/// Value, per CPU, of one generation: all threads of the process together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ProcessTimes {
    /// Time on a CPU, ns.
    pub cpu_ns: u64,
    /// Time runnable but waiting for a CPU, ns.
    pub runqueue_ns: u64,
    /// Times a thread was switched out because it waited.
    pub voluntary_switches: u64,
    /// Times a thread was switched out though it could have gone on.
    pub involuntary_switches: u64,
}
record!(ProcessTimes, 32);

/// A process replaced its program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ExecEvent {
    /// Kind is `KIND_EXEC`; time, process and thread.
    pub header: EventHeader,
    /// See [`ProcessKey::start_ns`].
    pub start_ns: u64,
    /// Process that started it.
    pub parent_pid: u32,
    /// Effective user id.
    pub user_id: u32,
    /// The new `comm`, NUL-terminated.
    pub comm: [u8; COMM_LEN],
    /// Bytes used in `arguments`.
    pub arguments_len: u32,
    /// Zero.
    pub padding: u32,
    /// The arguments as they lie in memory, separated by NUL, cut at this length.
    pub arguments: [u8; ARGUMENTS_LEN],
}
record!(ExecEvent, 64 + ARGUMENTS_LEN);

/// The last thread of a process ended. Totals are over its whole life; `u64::MAX` where the kernel has no such field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ExitEvent {
    /// Kind is `KIND_EXIT`; time, process and thread.
    pub header: EventHeader,
    /// See [`ProcessKey::start_ns`].
    pub start_ns: u64,
    /// Process that started it.
    pub parent_pid: u32,
    /// Effective user id.
    pub user_id: u32,
    /// Wait status as for `wait(2)`: exit code in bits 8 to 15, signal in bits 0 to 6.
    pub exit_status: i32,
    /// Zero.
    pub padding: u32,
    /// `comm`, NUL-terminated.
    pub comm: [u8; COMM_LEN],
    /// CPU in user mode as the kernel's accounting splits it, ns.
    pub user_ns: u64,
    /// CPU in kernel mode as the kernel's accounting splits it, ns.
    pub system_ns: u64,
    /// Largest resident set of its life, bytes.
    pub max_rss_bytes: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub written_bytes: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}
record!(ExitEvent, 136);
