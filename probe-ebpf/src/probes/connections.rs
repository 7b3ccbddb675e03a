//! `connections`: whom each process has TCP connections with: connects and how they ended, bytes, retransmits, round-trip
//! times.
//!
//! A connection's state lies in a map by the address of its `struct sock`, with the process that connected or accepted,
//! since most of what happens to it happens in interrupts. The kernel's own counters are read where it ends, and by a
//! walk over all open files, which user space starts for each window; what they grew by goes to the process and remote.
//! The walk also finds connections that were open before the probes were loaded, or changed hands.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_probe_read_user},
    macros::{btf_tracepoint, map, raw_tracepoint},
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use hitscope_schemas::{
    connections::{CLIENT, ConnectionState, DNS_LEN, DnsEvent, RemoteKey, RemoteStats, SERVER},
    event::{KIND_DNS, lost},
    sockets::{COPIES, FAMILY_INET, FAMILY_INET6, RECEIVED},
};

use super::{
    add, generation,
    sockets::{
        S_IFMT, S_IFSOCK, open_file,
        pieces::{Iovec, read_user},
        register,
    },
};
use crate::{
    arch::{Class, class, source_argument},
    kernel::{Address, read, read_or_zero},
    lost::count,
    ring::{self, argument, header},
    thread,
};

#[map]
static REMOTES: PerCpuHashMap<RemoteKey, RemoteStats> = PerCpuHashMap::with_max_entries(8192, 0);

/// By the address of the `struct sock`.
#[map]
static CONNECTIONS: HashMap<u64, ConnectionState> = HashMap::with_max_entries(32768, 0);

/// Number of the walk over open files, counted by user space.
#[map]
static ROUND: Array<u32> = Array::with_max_entries(1, 0);

/// What a freshly inserted entry holds.
static EMPTY: RemoteStats = RemoteStats {
    connects: 0,
    connect_failures: 0,
    connect_total_ns: 0,
    connect_max_ns: 0,
    received_bytes: 0,
    sent_bytes: 0,
    retransmits: 0,
    resets: 0,
    timeouts: 0,
    rtt_ns: 0,
};

const IPPROTO_TCP: u16 = 6;
/// `SOCK_DONE` of `enum sock_flags` (include/net/sock.h): the other end's end mark has come.
const SOCK_DONE: u64 = 1 << 1;

// include/net/tcp_states.h
const SYN_SENT: u32 = 2;
const FIN_WAIT1: u32 = 4;
const FIN_WAIT2: u32 = 5;
const CLOSE: u32 = 7;
const LAST_ACK: u32 = 9;
const LISTEN: u32 = 10;
const CLOSING: u32 = 11;

// include/uapi/asm-generic/errno.h
const EPIPE: i32 = 32;
const ENETUNREACH: i32 = 101;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const EHOSTUNREACH: i32 = 113;

/// A connect that its process gives up after this long has timed out, ns: no answer came to the first attempt.
const GIVEN_UP_NS: u64 = 1_000_000_000;

/// A TCP socket changes its state, in a process or in an interrupt.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn connections_state(context: BtfTracePointContext) -> i32 {
    let sock = argument(&context, 0);
    let (old, new) = (argument(&context, 1) as u32, argument(&context, 2) as u32);
    if new == SYN_SENT {
        connect(sock);
    } else if let Some(state) = state(sock) {
        if old == SYN_SENT {
            connected(sock, state, new);
        } else if new == CLOSE {
            closed(sock, state);
        } else if new == FIN_WAIT1 || new == LAST_ACK {
            // Only a process ends its side: the one that had it last.
            state.pid = current_pid();
            account(sock, state);
        }
    }
    0
}

/// A process begins to connect.
#[inline(always)]
fn connect(sock: Address) -> Option<()> {
    let mut state = describe(sock, current_pid(), CLIENT)?;
    // SAFETY: the helper takes no arguments.
    state.begin_ns = unsafe { bpf_ktime_get_ns() };
    remember(sock, &state);
    Some(())
}

/// A connect has ended.
#[inline(always)]
fn connected(sock: Address, state: &mut ConnectionState, new: u32) {
    // SAFETY: the helper takes no arguments.
    let duration_ns = unsafe { bpf_ktime_get_ns() }.saturating_sub(state.begin_ns);
    let begun = state.begin_ns != 0;
    state.begin_ns = 0;
    account(sock, state);
    let Some(stats) = stats(state) else { return };
    add(&mut stats.connects, 1);
    if begun {
        add(&mut stats.connect_total_ns, duration_ns);
        stats.connect_max_ns = larger(stats.connect_max_ns, duration_ns);
    }
    if new == CLOSE {
        add(&mut stats.connect_failures, 1);
        let error: i32 = read(sock, offset!(sock_err)).unwrap_or(0);
        if error == ETIMEDOUT || (error == 0 && begun && duration_ns >= GIVEN_UP_NS) {
            add(&mut stats.timeouts, 1);
        }
    }
}

/// An established connection, or what is left of it, has ended.
#[inline(always)]
fn closed(sock: Address, state: &mut ConnectionState) {
    account(sock, state);
    match read(sock, offset!(sock_err)).unwrap_or(0) {
        ECONNRESET | EPIPE => reset(state),
        // The last two: no answer, and routers said why.
        ETIMEDOUT | EHOSTUNREACH | ENETUNREACH => {
            if let Some(stats) = stats(state) {
                add(&mut stats.timeouts, 1);
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn reset(state: &mut ConnectionState) {
    if state.reset == 0 {
        state.reset = 1;
        if let Some(stats) = stats(state) {
            add(&mut stats.resets, 1);
        }
    }
}

/// The kernel sends a reset. No socket, or not one of ours: nobody listens there, or it was never accepted.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn connections_reset(context: BtfTracePointContext) -> i32 {
    let sock = argument(&context, 0);
    if sock != 0 {
        if let Some(state) = state(sock) {
            if state.begin_ns == 0 {
                reset(state);
            }
        }
    }
    0
}

/// A socket is freed. Resets can go out on it until then.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn connections_end(context: BtfTracePointContext) -> i32 {
    let _ = CONNECTIONS.remove(argument(&context, 0));
    0
}

/// `accept` returns: a tail call of the `syscalls` programs.
#[raw_tracepoint]
pub fn connections_accept(context: RawTracePointContext) -> i32 {
    accept(argument(&context, 1) as u32);
    0
}

#[inline(always)]
fn accept(descriptor: u32) -> Option<()> {
    let file = open_file(descriptor)?;
    let socket: Address = read(file, offset!(file_private_data))?;
    let sock: Address = read(socket, offset!(socket_sk))?;
    let accepted = describe(sock, current_pid(), SERVER)?;
    remember(sock, &accepted);
    let state = state(sock)?;
    if let Some(stats) = stats(state) {
        add(&mut stats.connects, 1);
    }
    if sock_state(sock) == CLOSE {
        closed(sock, state);
    }
    Some(())
}

/// One open file of one process, in the walk over all of them that reading from the iterator makes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn connections_walk(context: *mut c_void) -> i32 {
    // `struct bpf_iter__task_file`: meta, task, fd, file; at the end of the walk without the last three.
    let context = BtfTracePointContext::new(context);
    let task = argument(&context, 1);
    if task == 0 {
        return 0;
    }
    let file = argument(&context, 3);
    if file == 0 {
        return 0;
    }
    visit(task, file);
    0
}

#[inline(always)]
fn visit(task: Address, file: Address) -> Option<()> {
    let inode: Address = read(file, offset!(file_inode))?;
    let mode: u16 = read(inode, offset!(inode_mode))?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: Address = read(file, offset!(file_private_data))?;
    let sock: Address = read(socket, offset!(socket_sk))?;
    if read::<u16>(sock, offset!(sock_protocol))? != IPPROTO_TCP || matches!(sock_state(sock), CLOSE | LISTEN) {
        return None;
    }
    let pid: u32 = read(task, offset!(task_tgid))?;
    let round = ROUND.get(0).copied().unwrap_or(0);
    match state(sock) {
        Some(state) if state.round == round => {
            if pid == state.pid {
                state.holder = pid;
            }
        }
        Some(state) => {
            // In the whole walk before, its owner did not have it open, but another process did.
            if state.round + 1 == round && state.holder != 0 {
                state.pid = state.holder;
            }
            (state.round, state.holder) = (round, pid);
            account(sock, state);
        }
        None => adopt(sock, pid, round)?,
    }
    Some(())
}

/// Remembers a connection whose begin was not seen. What went over it before counts for nobody.
#[inline(always)]
fn adopt(sock: Address, pid: u32, round: u32) -> Option<()> {
    let mut state = describe(sock, pid, SERVER)?;
    let counters = counters(sock);
    state.received_bytes = counters.received_bytes;
    state.sent_bytes = counters.sent_bytes;
    state.retransmits = counters.retransmits;
    (state.round, state.holder) = (round, pid);
    // The sequence numbers sent are the payload, the end mark, and, counted for whom connects only, the begin mark.
    let (next, acknowledged): (u32, u32) = (read(sock, offset!(tcp_snd_nxt))?, read(sock, offset!(tcp_snd_una))?);
    let numbers = read_or_zero(sock, offset!(tcp_bytes_acked)) + u64::from(next.wrapping_sub(acknowledged));
    let now = sock_state(sock);
    let ended = matches!(now, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING);
    if now == SYN_SENT || numbers == counters.sent_bytes + u64::from(ended) + 1 {
        state.side = CLIENT;
        state.port = u16::from_be(read(sock, offset!(sock_dport))?);
    }
    remember(sock, &state);
    Some(())
}

/// A DNS answer on its way to user space. Twice the room lets a mask bound what is written.
#[repr(C)]
struct DnsScratch {
    event: DnsEvent,
    bytes: [u8; 2 * DNS_LEN],
}

/// One for each copy of the programs.
#[map]
static DNS: PerCpuArray<DnsScratch> = PerCpuArray::with_max_entries(COPIES, 0);

const DNS_PORT: u16 = 53;
/// `QR`, in the third byte of a DNS message: an answer.
const DNS_RESPONSE: u8 = 0x80;

copies!(datagram: connections_datagram = 0, datagram_1 = 1, datagram_2 = 2, datagram_3 = 3);

/// A call on a datagram socket returns, a tail call of the `sockets` programs: sends DNS answers to user space. Of several datagrams
/// received at once, the first.
#[inline(always)]
fn datagram<const COPY: u32>(context: &RawTracePointContext) -> Option<()> {
    let (registers, result) = (argument(context, 0), argument(context, 1));
    let syscall = thread::get(bpf_get_current_pid_tgid() as u32)?.syscall;
    // Where the sender's address lies, if the process asked for it: that tells the port of a socket not connected.
    let (source, buffer) = match class(syscall) {
        Class::Buffer(RECEIVED) => {
            let source = source_argument(syscall).map_or(0, |index| register(registers, index));
            (source, Iovec { base: register(registers, 1), length: result })
        }
        Class::Message(RECEIVED) => message(register(registers, 1), result)?,
        Class::Messages(RECEIVED) => {
            let first = register(registers, 1);
            message(first, u64::from(read_user::<u32>(first + 56)?))?
        }
        _ => return None,
    };
    let file = open_file(register(registers, 0) as u32)?;
    let socket: Address = read(file, offset!(file_private_data))?;
    let sock: Address = read(socket, offset!(socket_sk))?;
    let port = match read::<u16>(sock, offset!(sock_dport))? {
        0 if source != 0 => read_user(source + 2)?,
        port => port,
    };
    if u16::from_be(port) != DNS_PORT || read_user::<u8>(buffer.base + 2)? & DNS_RESPONSE == 0 {
        return None;
    }
    let scratch = DNS.get_ptr_mut(COPY)?;
    let waiting = ring::waiting_bytes();
    if waiting >= global!(ring::SEGMENT_LIMIT_BYTES) {
        count(lost::SEGMENT_RING_FULL);
        return None;
    }
    let length = if buffer.length < DNS_LEN as u64 { buffer.length } else { DNS_LEN as u64 };
    // The mask changes nothing; it is what the verifier bounds the write by.
    let length = core::hint::black_box(length) & (2 * DNS_LEN as u64 - 1);
    // SAFETY: this CPU's element, which nothing else uses meanwhile; `length` lies within `bytes`, and the helper checks
    // the user's address.
    unsafe {
        let bytes = (&raw mut (*scratch).bytes).cast();
        if bpf_probe_read_user(bytes, length as u32, buffer.base as *const _) != 0 {
            count(lost::BUFFER_UNREADABLE);
            return None;
        }
        let size = size_of::<DnsEvent>() as u64 + length;
        (*scratch).event = DnsEvent { header: header(KIND_DNS, size as usize), length: length as u32, padding: 0 };
        ring::output(scratch, size, ring::flags(waiting), lost::SEGMENT_RING_FULL);
    }
    Some(())
}

/// Sender's address and first buffer of a `struct user_msghdr` (include/linux/socket.h): the sender's at 0, the vector at 16.
#[inline(always)]
fn message(header: u64, length: u64) -> Option<(u64, Iovec)> {
    let vector: Iovec = read_user(read_user(header + 16)?)?;
    let length = if length < vector.length { length } else { vector.length };
    Some((read_user(header)?, Iovec { base: vector.base, length }))
}

#[inline(always)]
fn current_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn sock_state(sock: Address) -> u32 {
    u32::from(read::<u8>(sock, offset!(sock_state)).unwrap_or(0))
}

/// What is remembered of a connection.
#[inline(always)]
fn state(sock: Address) -> Option<&'static mut ConnectionState> {
    // SAFETY: map values stay valid for the program's run. A walk and an interrupt that read one connection's counters
    // in the same instant would account them twice; without an atomic exchange, which 5.10 lacks, that is not excluded.
    CONNECTIONS.get_ptr_mut(sock).map(|state| unsafe { &mut *state })
}

#[inline(always)]
fn remember(sock: Address, state: &ConnectionState) {
    if CONNECTIONS.insert(&sock, state, 0).is_err() {
        count(lost::CONNECTION_MAP_FULL);
    }
}

/// State of a connection on which nothing has happened; `None` for what is not TCP over IP.
#[inline(always)]
fn describe(sock: Address, pid: u32, side: u16) -> Option<ConnectionState> {
    if read::<u16>(sock, offset!(sock_protocol))? != IPPROTO_TCP {
        return None;
    }
    let mut state = ConnectionState {
        address: [0; 16],
        pid,
        port: 0,
        side,
        begin_ns: 0,
        received_bytes: 0,
        sent_bytes: 0,
        retransmits: 0,
        reset: 0,
        round: 0,
        holder: 0,
    };
    match read::<u16>(sock, offset!(sock_family))? {
        FAMILY_INET => {
            state.address[10..12].copy_from_slice(&[0xff, 0xff]);
            state.address[12..].copy_from_slice(&read::<[u8; 4]>(sock, offset!(sock_daddr))?);
        }
        FAMILY_INET6 => state.address = read(sock, offset!(sock_v6_daddr))?,
        _ => return None,
    }
    if side == CLIENT {
        state.port = u16::from_be(read(sock, offset!(sock_dport))?);
    }
    Some(state)
}

/// The kernel's counters of a connection.
#[derive(Clone, Copy)]
struct Counters {
    received_bytes: u64,
    sent_bytes: u64,
    retransmits: u32,
}

#[inline(always)]
fn counters(sock: Address) -> Counters {
    let ended = u64::from(read_or_zero(sock, offset!(sock_flags)) & SOCK_DONE != 0);
    let retransmitted = read_or_zero(sock, offset!(tcp_bytes_retrans));
    Counters {
        received_bytes: read_or_zero(sock, offset!(tcp_bytes_received)).saturating_sub(ended),
        sent_bytes: read_or_zero(sock, offset!(tcp_bytes_sent)).saturating_sub(retransmitted),
        retransmits: read(sock, offset!(tcp_total_retrans)).unwrap_or(0),
    }
}

/// Gives the connection's process and remote what the kernel's counters grew by since the last time.
#[inline(always)]
fn account(sock: Address, state: &mut ConnectionState) {
    let now = counters(sock);
    let received_bytes = now.received_bytes.saturating_sub(state.received_bytes);
    let sent_bytes = now.sent_bytes.saturating_sub(state.sent_bytes);
    let retransmits = now.retransmits.saturating_sub(state.retransmits);
    if received_bytes == 0 && sent_bytes == 0 && retransmits == 0 {
        return;
    }
    state.received_bytes += received_bytes;
    state.sent_bytes += sent_bytes;
    state.retransmits += retransmits;
    let Some(stats) = stats(state) else { return };
    add(&mut stats.received_bytes, received_bytes);
    add(&mut stats.sent_bytes, sent_bytes);
    add(&mut stats.retransmits, u64::from(retransmits));
    let eighths: u32 = read(sock, offset!(tcp_srtt_us)).unwrap_or(0);
    stats.rtt_ns = larger(stats.rtt_ns, u64::from(eighths) * 125);
}

/// The counts of a connection's process and remote.
#[inline(always)]
fn stats(state: &ConnectionState) -> Option<&'static mut RemoteStats> {
    let key = RemoteKey {
        address: state.address,
        pid: state.pid,
        port: state.port,
        side: state.side,
        generation: generation(),
    };
    let stats = match REMOTES.get_ptr_mut(&key) {
        Some(stats) => stats,
        None => {
            // An interrupt on this CPU may have inserted it meanwhile; then that one stays.
            if REMOTES.insert(&key, &EMPTY, u64::from(aya_ebpf::bindings::BPF_NOEXIST)).is_err()
                && REMOTES.get_ptr_mut(&key).is_none()
            {
                count(lost::REMOTE_MAP_FULL);
            }
            REMOTES.get_ptr_mut(&key)?
        }
    };
    // SAFETY: the pointer is this CPU's value; an interrupt may change it between two of this program's instructions.
    Some(unsafe { &mut *stats })
}

#[inline(always)]
fn larger(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}
