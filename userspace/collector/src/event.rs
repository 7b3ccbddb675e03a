//! What the pipeline is fed: by live probes, by a recorded file, by tests.

use hitscope_schemas::{
    connections::{DnsEvent, RemoteKey, RemoteStats},
    sched::{ExecEvent, ExitEvent, ProcessKey, ProcessTimes},
    sockets::{CloseEvent, SegmentEvent, SocketEvent},
    syscalls::{SyscallKey, SyscallStats},
};

/// One thing that happened, as the source tells it. Times in kernel records are `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// How the clocks stand to each other; comes first, and again as the wall clock is corrected.
    Clock(Clock),
    /// A process replaced its program.
    Exec(&'a ExecEvent),
    /// A process ended.
    Exit(&'a ExitEvent),
    /// First traffic on a socket.
    Socket(&'a SocketEvent),
    /// Bytes moved over a socket: the record, the captured head, the captured tail.
    Segment(&'a SegmentEvent, &'a [u8], &'a [u8]),
    /// A socket was closed.
    Close(&'a CloseEvent),
    /// Syscalls since the last such event, summed over the CPUs.
    Syscalls(&'a [(SyscallKey, SyscallStats)]),
    /// Times of processes since the last such event, summed over the CPUs.
    ProcessTimes(&'a [(ProcessKey, ProcessTimes)]),
    /// TCP connections by process and remote since the last such event, summed over the CPUs.
    Remotes(&'a [(RemoteKey, RemoteStats)]),
    /// A process received a datagram from port 53: the record and the datagram's bytes.
    Dns(&'a DnsEvent, &'a [u8]),
    /// Something was dropped since the last such event: the reason's name and how often.
    Lost(&'a [(&'a str, u64)]),
}

/// One instant on three clocks, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: u64,
    /// Wall clock since the epoch.
    pub realtime_ns: u64,
}
