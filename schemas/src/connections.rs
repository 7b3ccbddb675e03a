//! Records of the `connections` probe: counts per process and remote in a per-CPU map, DNS answers in the ring buffer.

use bytemuck::{Pod, Zeroable};

use crate::{event::EventHeader, record};

/// The process connected.
pub const CLIENT: u16 = 0;
/// The process accepted.
pub const SERVER: u16 = 1;

/// Key: whom a process has or had TCP connections with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct RemoteKey {
    /// IPv6, or IPv4 as `::ffff:a.b.c.d`; network byte order.
    pub address: [u8; 16],
    /// Process (kernel `tgid`).
    pub pid: u32,
    /// Host byte order; 0 where the process accepted, since there every connection has another.
    pub port: u16,
    /// [`CLIENT`] or [`SERVER`].
    pub side: u16,
    /// See [`crate::sched::ProcessKey::generation`].
    pub generation: u32,
}
record!(RemoteKey, 28);

/// Value, per CPU, of one generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RemoteStats {
    /// Connects that ended, or connections accepted.
    pub connects: u64,
    /// Those connects that failed.
    pub connect_failures: u64,
    /// Sum of the times from the begin of a connect to its end, ns.
    pub connect_total_ns: u64,
    /// The longest of them, ns.
    pub connect_max_ns: u64,
    /// Payload received.
    pub received_bytes: u64,
    /// Payload sent, each byte once.
    pub sent_bytes: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Established connections that either end reset.
    pub resets: u64,
    /// Connects and connections given up for want of an answer.
    pub timeouts: u64,
    /// The longest smoothed round-trip time of a connection, ns; 0: none measured.
    pub rtt_ns: u64,
}
record!(RemoteStats, 80);

/// The kernel side's state of a TCP connection: whose it is, and what of its counters was accounted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ConnectionState {
    /// `RemoteKey::address`.
    pub address: [u8; 16],
    /// Whose it is.
    pub pid: u32,
    /// `RemoteKey::port`.
    pub port: u16,
    /// [`CLIENT`] or [`SERVER`].
    pub side: u16,
    /// When the connect began, `CLOCK_MONOTONIC`, ns; 0 where it was not seen or has ended.
    pub begin_ns: u64,
    /// Payload received that was accounted.
    pub received_bytes: u64,
    /// Payload sent that was accounted.
    pub sent_bytes: u64,
    /// Retransmitted segments that were accounted.
    pub retransmits: u32,
    /// 1: a reset was counted.
    pub reset: u32,
    /// The last round of the walk over open files that met it.
    pub round: u32,
    /// A process that had it open in that round: the owner, where that one did.
    pub holder: u32,
}
record!(ConnectionState, 64);

/// Bytes of a DNS answer that are captured.
pub const DNS_LEN: usize = 4096;

/// A process received a datagram from port 53. `length` captured bytes follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct DnsEvent {
    /// Kind is `KIND_DNS`.
    pub header: EventHeader,
    /// Captured bytes, at most [`DNS_LEN`].
    pub length: u32,
    /// Zero.
    pub padding: u32,
}
record!(DnsEvent, 32);
