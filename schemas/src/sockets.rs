//! Records of the `sockets` probe.

use bytemuck::{Pod, Zeroable};

use crate::{event::EventHeader, record};

/// Copies of the syscall programs, of which all but the first run only where the kernel skips the one before.
pub const COPIES: u32 = 4;
/// Programs that each copy goes on in.
pub const TAILS_PER_COPY: u32 = 5;

/// `AF_UNIX`.
pub const FAMILY_UNIX: u16 = 1;
/// `AF_INET`.
pub const FAMILY_INET: u16 = 2;
/// `AF_INET6`.
pub const FAMILY_INET6: u16 = 10;

/// The process read these bytes from the socket.
pub const RECEIVED: u32 = 0;
/// The process wrote these bytes to the socket.
pub const SENT: u32 = 1;

/// Cumulative times of one thread, ns; the difference of two says where the thread's time went between them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ThreadTimes {
    /// On a CPU.
    pub cpu_ns: u64,
    /// Runnable, waiting for a CPU.
    pub runqueue_ns: u64,
    /// Blocked on a disk or another block device, page faults included.
    pub disk_ns: u64,
    /// Blocked until another thread or process went on: on a lock, a semaphore, an eventfd or a signalfd.
    pub lock_ns: u64,
    /// Blocked on a socket.
    pub network_ns: u64,
}
record!(ThreadTimes, 40);

/// What a call that was not seen counts, in a direction's offset: more than any message is long, so that the decoder looks anew for
/// where messages begin.
pub const MISSED_BYTES: u64 = 1 << 40;

/// First traffic seen on a socket (or seen again after its entry had to make room).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SocketEvent {
    /// Kind is `KIND_SOCKET`.
    pub header: EventHeader,
    /// The socket's inode number, as in `/proc/<pid>/fd`.
    pub socket: u64,
    /// `FAMILY_*`.
    pub family: u16,
    /// Host byte order; 0 for Unix sockets.
    pub local_port: u16,
    /// Host byte order; 0 for Unix sockets.
    pub remote_port: u16,
    /// Zero.
    pub padding: u16,
    /// IPv6, or IPv4 in the first four bytes; network byte order.
    pub local_address: [u8; 16],
    /// As `local_address`.
    pub remote_address: [u8; 16],
}
record!(SocketEvent, 72);

/// Bytes that one call moved over a socket. `head_len` and then `tail_len` captured bytes follow.
///
/// What lies between head and tail (`length - head_len - tail_len` bytes) was not captured.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SegmentEvent {
    /// Kind is `KIND_SEGMENT`; the time is that of the call's return.
    pub header: EventHeader,
    /// The socket's inode number.
    pub socket: u64,
    /// When the call began, `CLOCK_MONOTONIC`, ns.
    pub enter_ns: u64,
    /// Bytes that this socket had moved in this direction before the call, as far as the probe saw them; for each call that it
    /// missed, [`MISSED_BYTES`].
    pub offset: u64,
    /// Bytes that the call moved.
    pub length: u64,
    /// The calling thread's times: of a call that sent at its begin, of one that received at its return.
    pub times: ThreadTimes,
    /// How long the first of these bytes had lain in the socket as the call returned; 0 where unknown or sent, ns.
    pub queued_ns: u64,
    /// [`RECEIVED`] or [`SENT`].
    pub direction: u32,
    /// Captured bytes from the front.
    pub head_len: u32,
    /// Captured bytes from the end.
    pub tail_len: u32,
    /// [`PLAINTEXT`] or 0.
    pub flags: u32,
}
record!(SegmentEvent, 120);

/// The bytes are what a TLS library handed to or took from the process; offsets count these, not what went over the wire.
/// The socket is then its inode number, or has the bit [`UNTIED`].
pub const PLAINTEXT: u32 = 1;

/// The process that used the socket closed it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CloseEvent {
    /// Kind is `KIND_CLOSE`.
    pub header: EventHeader,
    /// The socket's inode number.
    pub socket: u64,
}
record!(CloseEvent, 32);

/// The kernel side's state of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SocketState {
    /// Bytes moved so far, by direction.
    pub offset: [u64; 2],
    /// Bytes moved in `last_direction` since the direction last turned.
    pub run_bytes: u64,
    /// Process that last used the socket.
    pub pid: u32,
    /// `VERDICT_*`.
    pub verdict: u16,
    /// [`RECEIVED`] or [`SENT`].
    pub last_direction: u8,
    /// 1: TLS was seen on it.
    pub tls: u8,
    /// When the first bytes that arrived since the process last read became readable, `CLOCK_MONOTONIC`, ns; 0: none did.
    pub unread_since: u64,
    /// When the bytes that the process read last had become readable; 0 where that was not seen.
    pub arrived_ns: u64,
}
record!(SocketState, 48);

/// Nothing is known yet: segments are sent, cut short.
pub const VERDICT_UNKNOWN: u16 = 0;
/// A decoder follows this socket.
pub const VERDICT_DECODED: u16 = 1;
/// No decoder knows it: nothing leaves the kernel.
pub const VERDICT_IGNORED: u16 = 2;
/// What goes over it is encrypted: nothing of that leaves the kernel, but its plaintext may, by the `tls` probe.
pub const VERDICT_ENCRYPTED: u16 = 3;
/// A datagram socket: only DNS answers leave the kernel.
pub const VERDICT_DATAGRAM: u16 = 4;

/// In the kernel's maps of states and verdicts, the plaintext of a socket stands under its inode number with this bit.
pub const PLAINTEXT_KEY: u64 = 1 << 63;
/// Instead of an inode number: a connection of a TLS library of which the socket is not known.
pub const UNTIED: u64 = 1 << 62;

/// A connection of a TLS library.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TlsKey {
    /// The library's handle: the address of its `SSL` or `gnutls_session_t`.
    pub handle: u64,
    /// Process.
    pub pid: u32,
    /// Zero.
    pub padding: u32,
}
record!(TlsKey, 16);
