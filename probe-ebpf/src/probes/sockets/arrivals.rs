//! When what a process reads from a socket had arrived there: from then on it lay in the socket.
//!
//! The tracepoint `sk_data_ready` (Linux 6.3 on) tells of bytes that became readable, also on sockets that nobody has
//! accepted yet. Where the kernel lacks it, `tcp_probe` (4.16 on) tells of each packet of an established TCP connection, and
//! nothing is known of Unix sockets.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{map, raw_tracepoint},
    maps::LruHashMap,
    programs::RawTracePointContext,
};
use hitscope_schemas::sockets::{FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, SocketState};

use super::{SOCK_STREAM, SOCKETS};
use crate::{
    kernel::{Address, read, read_or_zero},
    ring::argument,
};

/// `TCP_LISTEN` (include/net/tcp_states.h): such a socket becomes ready when there is a connection to accept.
const LISTEN: u8 = 10;

/// The first bytes that arrived on a socket on which no call was seen yet.
#[repr(C)]
#[derive(Clone, Copy)]
struct Arrival {
    time_ns: u64,
    /// See [`connection`].
    connection: u64,
}

/// By the socket's address.
#[map]
static ARRIVALS: LruHashMap<u64, Arrival> = LruHashMap::with_max_entries(4096, 0);

copies!(ready: sockets_arrival = 0, arrival_1 = 1, arrival_2 = 2, arrival_3 = 3);

/// Bytes can be read from a socket. A further copy finds the moment noted.
#[inline(always)]
fn ready<const COPY: u32>(context: &RawTracePointContext) -> Option<()> {
    arrival(argument(context, 0))
}

/// A packet came to an established TCP connection.
#[raw_tracepoint]
pub fn tcp_arrival(context: RawTracePointContext) -> i32 {
    let sock = argument(&context, 0);
    if is_next(sock, argument(&context, 1)) == Some(true) {
        arrival(sock);
    }
    0
}

/// Whether a packet has bytes for the reader: payload that is next in order. Neither what came before, nor what comes too early
/// and so cannot be read yet, nor mere acknowledgements. Its data begins with the TCP header (RFC 9293, 3.1).
#[inline(always)]
fn is_next(sock: Address, packet: Address) -> Option<bool> {
    let length: u32 = read(packet, offset!(skb_len))?;
    let header: Address = read(packet, offset!(skb_data))?;
    let first = u32::from_be(read(header, 4)?);
    let header_bytes = u32::from(read::<u8>(header, 12)? >> 4) * 4;
    let next: u32 = read(sock, offset!(tcp_rcv_nxt))?;
    // Sequence numbers go round.
    let seen = next.wrapping_sub(first);
    Some(seen < length.wrapping_sub(header_bytes) && length > header_bytes)
}

#[inline(always)]
fn arrival(sock: Address) -> Option<()> {
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let socket: Address = read(sock, offset!(sock_socket))?;
    if socket != 0 {
        let inode: u64 = read(socket + u64::from(offset!(socket_inode)), offset!(inode_ino))?;
        if let Some(state) = SOCKETS.get_ptr_mut(inode) {
            // SAFETY: map values stay valid for the program's run.
            let state = unsafe { &mut *state };
            if state.unread_since == 0 {
                state.unread_since = now;
            }
            return None;
        }
    }
    let (kind, state) = (read::<u16>(sock, offset!(sock_type))?, read::<u8>(sock, offset!(sock_state))?);
    if kind != SOCK_STREAM || state == LISTEN {
        return None;
    }
    let connection = connection(sock);
    if connection == 0 {
        return None;
    }
    // SAFETY: the value is copied at once.
    match unsafe { ARRIVALS.get(sock) } {
        Some(first) if first.connection == connection => {}
        _ => drop(ARRIVALS.insert(sock, Arrival { time_ns: now, connection }, 0)),
    }
    Some(())
}

/// What tells a connection from an earlier one whose socket had the same address: both ports, or the other end; 0: neither.
#[inline(always)]
fn connection(sock: Address) -> u64 {
    match read::<u16>(sock, offset!(sock_family)).unwrap_or(0) {
        FAMILY_INET | FAMILY_INET6 => read::<u32>(sock, offset!(sock_ports)).unwrap_or(0).into(),
        FAMILY_UNIX => read_or_zero(sock, offset!(unix_peer)),
        _ => 0,
    }
}

/// When the first bytes arrived on a socket whose first call is seen now; 0: unknown, or there are none.
#[inline(always)]
pub fn first_arrival(sock: Address) -> u64 {
    // SAFETY: the value is copied at once.
    let Some(Arrival { time_ns, connection: of }) = (unsafe { ARRIVALS.get(sock) }).copied() else { return 0 };
    let _ = ARRIVALS.remove(sock);
    if connection(sock) == of { time_ns } else { 0 }
}

/// How long the first of the bytes that were just read had lain in the socket, ns; 0: unknown. What is read without anything
/// having arrived since the last read had arrived before that.
#[inline(always)]
pub fn queued_ns(state: &mut SocketState, now: u64) -> u64 {
    if state.unread_since != 0 {
        state.arrived_ns = state.unread_since;
        state.unread_since = 0;
    }
    if state.arrived_ns != 0 && state.arrived_ns < now { now - state.arrived_ns } else { 0 }
}
