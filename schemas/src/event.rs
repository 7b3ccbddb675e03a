//! What every ring buffer record begins with.

use bytemuck::{Pod, Zeroable};

use crate::record;

/// First field of every ring buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct EventHeader {
    /// One of the `KIND_*` constants.
    pub kind: u32,
    /// Size of the whole record, this header included, in bytes.
    pub size: u32,
    /// When the record was made, `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Process (kernel `tgid`) on whose behalf the kernel was running.
    pub pid: u32,
    /// Thread (kernel `pid`).
    pub thread_id: u32,
}
record!(EventHeader, 24);

/// A process replaced its program: [`crate::sched::ExecEvent`].
pub const KIND_EXEC: u32 = 1;
/// A process ended: [`crate::sched::ExitEvent`]. Told by each thread that ends when none is left; the largest totals are the whole.
pub const KIND_EXIT: u32 = 2;
/// First traffic seen on a socket: [`crate::sockets::SocketEvent`].
pub const KIND_SOCKET: u32 = 3;
/// Bytes that went over a socket: [`crate::sockets::SegmentEvent`] and its captured bytes.
pub const KIND_SEGMENT: u32 = 4;
/// A process closed a socket: [`crate::sockets::CloseEvent`].
pub const KIND_CLOSE: u32 = 5;
/// A process received a DNS answer: [`crate::connections::DnsEvent`] and its bytes.
pub const KIND_DNS: u32 = 16;

/// Indices into the per-CPU map of loss counters, one for each reason that the kernel side can drop something.
pub mod lost {
    /// The ring buffer had no room for a socket segment.
    pub const SEGMENT_RING_FULL: u32 = 0;
    /// The ring buffer had no room for a process or socket life-cycle record.
    pub const EVENT_RING_FULL: u32 = 1;
    /// The map of syscall counts was full.
    pub const SYSCALL_MAP_FULL: u32 = 2;
    /// The map of per-process times was full.
    pub const PROCESS_MAP_FULL: u32 = 3;
    /// The map of threads was full.
    pub const THREAD_MAP_FULL: u32 = 4;
    /// A thread's entry was taken by another between the enter and the exit of a syscall.
    pub const THREAD_SLOT_TAKEN: u32 = 5;
    /// The application's buffer could not be read (paged out).
    pub const BUFFER_UNREADABLE: u32 = 6;
    /// More buffers or messages in one call than are followed.
    pub const VECTOR_TOO_LONG: u32 = 7;
    /// The map of sockets was full.
    pub const SOCKET_MAP_FULL: u32 = 8;
    /// The map of open TCP connections was full.
    pub const CONNECTION_MAP_FULL: u32 = 9;
    /// The map of remotes was full.
    pub const REMOTE_MAP_FULL: u32 = 10;
    /// How many reasons there are.
    pub const COUNT: u32 = 11;

    /// The reasons' names as shown in `status` and in the `events` table, by index.
    pub const NAMES: [&str; COUNT as usize] = [
        "segment_ring_full",
        "event_ring_full",
        "syscall_map_full",
        "process_map_full",
        "thread_map_full",
        "thread_slot_taken",
        "buffer_unreadable",
        "vector_too_long",
        "socket_map_full",
        "connection_map_full",
        "remote_map_full",
    ];
}
