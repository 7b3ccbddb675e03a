//! `sockets`: what goes over TCP and Unix stream sockets through the read and write calls, whoever opened them and when.
//!
//! Runs as tail calls of the `syscalls` programs, at the call's return: the arguments still stand in `pt_regs`, the
//! buffer still holds what was sent, and the result says how much. The socket is found from the file descriptor.
//!
//! Captured is a run of bytes in one direction up to [`RUN_BYTES`], whole; of what exceeds it, each call's head and
//! tail, which is where a large answer ends. Nothing is captured of a socket that user space has no decoder for.

mod arrivals;
pub mod pieces;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{map, raw_tracepoint},
    maps::LruHashMap,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use hitscope_schemas::{
    event::{EventHeader, KIND_CLOSE, KIND_SEGMENT, KIND_SOCKET, lost},
    sockets::{
        CloseEvent, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, MISSED_BYTES, PLAINTEXT_KEY, RECEIVED, SENT, SocketEvent,
        SocketState, VERDICT_DATAGRAM, VERDICT_DECODED, VERDICT_ENCRYPTED, VERDICT_IGNORED, VERDICT_UNKNOWN,
    },
};

use crate::{
    arch::{ARGUMENTS, Class, arguments, class, flags_argument},
    kernel::{Address, Typed, current_task, read},
    lost::count,
    probes::syscalls::{TAIL_DATAGRAM, tail_call},
    ring::{self, argument, header},
    thread::{self, Thread},
};

/// Bytes in one direction without a turn that are captured whole.
#[unsafe(no_mangle)]
pub static RUN_BYTES: u64 = 64 << 10;

/// Sockets by inode number, and their plaintext.
#[map]
pub static SOCKETS: LruHashMap<u64, SocketState> = LruHashMap::with_max_entries(16384, 0);

/// What user space decided about a socket, by inode number; it writes here, and only the probe writes the socket's state.
#[map]
pub static VERDICTS: LruHashMap<u64, u16> = LruHashMap::with_max_entries(16384, 0);

pub(super) const S_IFMT: u16 = 0o170_000;
pub(super) const S_IFSOCK: u16 = 0o140_000;
const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
const MSG_PEEK: u64 = 2;

copies!(transfer: sockets_transfer = 0, transfer_1 = 1, transfer_2 = 2, transfer_3 = 3);

/// A call that moved bytes returns.
#[inline(always)]
fn transfer<const COPY: u32>(context: &RawTracePointContext) -> Option<()> {
    let arguments = arguments(argument(context, 0))?;
    let result = argument(context, 1);
    let pid_tgid = bpf_get_current_pid_tgid();
    let thread = thread::get(pid_tgid as u32)?;
    let syscall = thread.syscall;
    if let Some(index) = flags_argument(syscall) {
        if arguments[index & 3] & MSG_PEEK != 0 {
            return None;
        }
    }
    let file = open_file(arguments[0] as u32)?;
    let inode: Address = read(file, offset!(file_inode))?;
    let is_socket = is_socket(inode)?;
    if thread.awaited_ns != 0 {
        settle(thread, file, is_socket);
    }
    if !is_socket {
        return None;
    }
    let socket: u64 = read(inode, offset!(inode_ino))?;
    let state = state(socket, file)?;
    if state.verdict == VERDICT_DATAGRAM {
        tail_call::<COPY>(context, TAIL_DATAGRAM);
        return None;
    }
    let buffer = arguments[1];
    let direction = class(syscall).direction()?;
    if thread.tls.handle != 0 {
        return by_tls_library(&mut thread.tls, state, socket, file, direction);
    }
    turn(state, socket, direction);
    if matches!(class(syscall), Class::Buffer(_)) && may_begin_tls(state, direction) && is_tls_record(buffer, result) {
        state.tls = 1;
    }
    // What a program decrypts of its own memory it has most often just received.
    if direction == RECEIVED && state.tls != 0 {
        thread.tls.has_received(socket, arrived_ns(state));
    } else {
        thread.tls.received = 0;
    }
    if matches!(state.verdict, VERDICT_IGNORED | VERDICT_ENCRYPTED) {
        return None;
    }
    state.pid = (pid_tgid >> 32) as u32;
    let event = &mut pieces::scratch::<COPY>()?.event;
    let time_ns = thread.exit_ns;
    event.header = EventHeader { kind: KIND_SEGMENT, size: 0, time_ns, pid: state.pid, thread_id: pid_tgid as u32 };
    event.socket = socket;
    event.enter_ns = thread.enter_ns;
    event.direction = direction;
    event.flags = 0;
    event.queued_ns = if direction == SENT { 0 } else { arrivals::queued_ns(state, time_ns) };
    event.times = if direction == SENT { thread.entered } else { thread.times(time_ns) };
    let cursor = &mut pieces::scratch::<COPY>()?.cursor;
    cursor.clear(result);
    match class(syscall) {
        Class::Buffer(_) => (cursor.address, cursor.left) = (buffer, result),
        Class::Vector(_) => (cursor.vectors, cursor.vector_count) = (buffer, arguments[2]),
        Class::Message(_) => pieces::open_message(cursor, buffer),
        Class::Messages(_) => {
            (cursor.messages, cursor.message_count, cursor.message_left) = (buffer, result, 0);
        }
        // Nothing to read: the decoder learns the length alone.
        _ => cursor.left = result,
    }
    pieces::step::<COPY>(context, state, pieces::scratch::<COPY>()?)
}

/// A call that moves bytes returned unseen; whether it moved any is not known.
#[inline(never)]
pub fn missed(descriptor: u32, direction: u32) -> i32 {
    let _ = leave_gap(descriptor, direction);
    0
}

#[inline(always)]
fn leave_gap(descriptor: u32, direction: u32) -> Option<()> {
    let inode: Address = read(open_file(descriptor)?, offset!(file_inode))?;
    if is_socket(inode)? {
        let socket: u64 = read(inode, offset!(inode_ino))?;
        // SAFETY: as in `state`.
        unsafe { (*SOCKETS.get_ptr_mut(socket)?).offset[(direction & 1) as usize] += MISSED_BYTES };
    }
    Some(())
}

/// Notes the direction, and from time to time what user space decided.
#[inline(always)]
pub fn turn(state: &mut SocketState, key: u64, direction: u32) {
    let turned = u32::from(state.last_direction) != direction;
    // Looking takes a while, so where a decoder follows it is done at every other turn only.
    let may_have_changed = match state.verdict {
        VERDICT_UNKNOWN => true,
        VERDICT_DECODED => turned && direction == RECEIVED,
        _ => false,
    };
    if may_have_changed {
        // SAFETY: the value is copied at once.
        if let Some(verdict) = unsafe { VERDICTS.get(key) } {
            state.verdict = *verdict;
            state.tls |= u8::from(*verdict == VERDICT_ENCRYPTED);
        }
    }
    if turned {
        state.last_direction = direction as u8;
        state.run_bytes = 0;
    }
}

/// A call within one of a TLS library, which so is found to use this socket; what it moves is encrypted.
#[inline(always)]
fn by_tls_library(
    call: &mut super::tls::Call,
    state: &mut SocketState,
    socket: u64,
    file: Address,
    direction: u32,
) -> Option<()> {
    // One that user space no longer knows, or that is none of its kind.
    if state.verdict == VERDICT_IGNORED && describe(socket, file).is_none() {
        call.socket = super::tls::NOT_FOLLOWED;
        return None;
    }
    state.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    state.verdict = VERDICT_ENCRYPTED;
    state.tls = 1;
    if direction == RECEIVED {
        call.has_read(socket, arrived_ns(state));
    } else {
        call.socket = socket;
    }
    None
}

/// When the first of the bytes that were just read had arrived, ns; 0: unknown.
#[inline(always)]
fn arrived_ns(state: &mut SocketState) -> u64 {
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let queued_ns = arrivals::queued_ns(state, now);
    if queued_ns == 0 { 0 } else { now.saturating_sub(queued_ns) }
}

/// Bytes that a protocol may exchange before it turns to TLS.
const BEFORE_TLS_BYTES: u64 = 64;

#[inline(always)]
fn may_begin_tls(state: &SocketState, direction: u32) -> bool {
    state.tls == 0 && (state.verdict == VERDICT_UNKNOWN || state.offset[(direction & 1) as usize] <= BEFORE_TLS_BYTES)
}

/// Whether a call's bytes begin with a record's header (RFC 8446, section 5.1).
#[inline(always)]
fn is_tls_record(buffer: u64, length: u64) -> bool {
    if length < 5 {
        return false;
    }
    let Some([kind, major, minor, high, low]) = pieces::read_user::<[u8; 5]>(buffer) else { return false };
    let size = u32::from(high) << 8 | u32::from(low);
    let fits = if kind == 20 { size == 1 } else { matches!(kind, 22 | 23) && (17..=0x4800).contains(&size) };
    fits && major == 3 && (1..=4).contains(&minor)
}

#[inline(always)]
pub(super) fn register(registers: Address, index: usize) -> u64 {
    read(registers, ARGUMENTS[index] as u32).unwrap_or(0)
}

/// Gives the time that the thread slept for whatever comes first to the class of what came.
#[inline(always)]
fn settle(thread: &mut Thread, file: Address, is_socket: bool) {
    let awaited_ns = thread.awaited_ns;
    thread.awaited_ns = 0;
    if is_socket {
        thread.times.network_ns += awaited_ns;
        // If this call sends, it began after the sleep.
        thread.entered.network_ns += awaited_ns;
    } else if is_signalled(file) {
        thread.times.lock_ns += awaited_ns;
        thread.entered.lock_ns += awaited_ns;
    }
}

/// Whether a file is an eventfd or a signalfd, through which another thread or process says that it has gone on. They have no
/// inode of their own; what names them is their directory entry (fs/eventfd.c, fs/signalfd.c).
#[inline(always)]
fn is_signalled(file: Address) -> bool {
    let name = read::<Address>(file, offset!(file_dentry))
        .and_then(|dentry| read::<Address>(dentry, offset!(dentry_name)))
        .and_then(|name| read::<u32>(name, 0));
    // As a number, since comparing bytes would be a function's call.
    name.is_some_and(|name| name == u32::from_ne_bytes(*b"[eve") || name == u32::from_ne_bytes(*b"[sig"))
}

/// The running process's table of file descriptors: how many it has room for, and where it lies.
#[inline(always)]
fn table() -> Option<(u32, Address)> {
    if let Some(task) = Typed::current_task() {
        let table = task.follow(offset!(task_files))?.follow(offset!(files_fdt))?;
        return Some((table.read(offset!(fdt_max_fds))?, table.read(offset!(fdt_fd))?));
    }
    let files: Address = read(current_task(), offset!(task_files))?;
    let table: Address = read(files, offset!(files_fdt))?;
    Some((read(table, offset!(fdt_max_fds))?, read(table, offset!(fdt_fd))?))
}

/// The open file behind a file descriptor.
#[inline(always)]
pub(super) fn open_file(descriptor: u32) -> Option<Address> {
    let (size, entries) = table()?;
    if descriptor >= size {
        return None;
    }
    read(entries + u64::from(descriptor) * 8, 0)
}

#[inline(always)]
fn is_socket(inode: Address) -> Option<bool> {
    let mode: u16 = read(inode, offset!(inode_mode))?;
    Some(mode & S_IFMT == S_IFSOCK)
}

/// The socket's state; made, and user space told of it, at its first traffic.
#[inline(always)]
fn state(socket: u64, file: Address) -> Option<&'static mut SocketState> {
    let state = match SOCKETS.get_ptr_mut(socket) {
        Some(state) => state,
        None => {
            introduce(socket, file);
            SOCKETS.get_ptr_mut(socket)?
        }
    };
    // SAFETY: map values stay valid for the program's run. Two threads in one socket at once may mix their
    // offsets up; the decoder then sees a gap.
    Some(unsafe { &mut *state })
}

#[inline(never)]
fn introduce(socket: u64, file: Address) -> i32 {
    let mut state = SocketState::default();
    match describe(socket, file) {
        Some(sock) => state.unread_since = arrivals::first_arrival(sock),
        None => state.verdict = if is_datagram(file) { VERDICT_DATAGRAM } else { VERDICT_IGNORED },
    }
    let what = match state.verdict {
        VERDICT_UNKNOWN => "looking for its protocol",
        VERDICT_DATAGRAM => "looking for DNS answers",
        _ => "not followed, neither TCP nor a Unix stream",
    };
    debug!(&(), "socket {} of process {}: {}", socket, bpf_get_current_pid_tgid() >> 32, what);
    if SOCKETS.insert(socket, state, 0).is_err() {
        count(lost::SOCKET_MAP_FULL);
    }
    0
}

/// Whether it is a datagram socket of IP.
#[inline(always)]
fn is_datagram(file: Address) -> bool {
    let Some(socket) = read::<Address>(file, offset!(file_private_data)) else { return false };
    let family = read::<Address>(socket, offset!(socket_sk)).and_then(|sock| read(sock, offset!(sock_family)));
    read::<u16>(socket, offset!(socket_type)) == Some(SOCK_DGRAM) && matches!(family, Some(FAMILY_INET | FAMILY_INET6))
}

/// Tells user space of a stream socket, and returns the network layer's part of it; `None` for any other.
#[inline(always)]
fn describe(inode: u64, file: Address) -> Option<Address> {
    let socket: Address = read(file, offset!(file_private_data))?;
    let kind: u16 = read(socket, offset!(socket_type))?;
    let sock: Address = read(socket, offset!(socket_sk))?;
    let family: u16 = read(sock, offset!(sock_family))?;
    if kind != SOCK_STREAM {
        return None;
    }
    let mut event = SocketEvent {
        header: header(KIND_SOCKET, size_of::<SocketEvent>()),
        socket: inode,
        family,
        local_port: 0,
        remote_port: 0,
        padding: 0,
        local_address: [0; 16],
        remote_address: [0; 16],
    };
    match family {
        FAMILY_UNIX => {}
        FAMILY_INET => {
            event.local_address[..4].copy_from_slice(&read::<[u8; 4]>(sock, offset!(sock_rcv_saddr))?);
            event.remote_address[..4].copy_from_slice(&read::<[u8; 4]>(sock, offset!(sock_daddr))?);
        }
        FAMILY_INET6 => {
            event.local_address = read(sock, offset!(sock_v6_rcv_saddr))?;
            event.remote_address = read(sock, offset!(sock_v6_daddr))?;
        }
        _ => return None,
    }
    if family != FAMILY_UNIX {
        event.local_port = read(sock, offset!(sock_num))?;
        event.remote_port = u16::from_be(read(sock, offset!(sock_dport))?);
    }
    ring::emit(&event);
    Some(sock)
}

/// A file descriptor is being closed.
#[raw_tracepoint]
pub fn sockets_close(context: RawTracePointContext) -> i32 {
    close(&context);
    0
}

#[inline(always)]
fn close(context: &RawTracePointContext) -> Option<()> {
    let [descriptor, ..] = arguments(argument(context, 0))?;
    let file = open_file(descriptor as u32)?;
    let inode: Address = read(file, offset!(file_inode))?;
    if !is_socket(inode)? {
        return None;
    }
    let socket: u64 = read(inode, offset!(inode_ino))?;
    let state = SOCKETS.get_ptr_mut(socket)?;
    let header = header(KIND_CLOSE, size_of::<CloseEvent>());
    // SAFETY: map values stay valid for the program's run.
    let (pid, verdict, tls) = unsafe { ((*state).pid, (*state).verdict, (*state).tls) };
    // Others that inherited the descriptor, such as a server's parent process, close their copy at any time.
    if pid == header.pid {
        let _ = SOCKETS.remove(socket);
        let _ = VERDICTS.remove(socket);
        if tls != 0 {
            let _ = SOCKETS.remove(socket | PLAINTEXT_KEY);
            let _ = VERDICTS.remove(socket | PLAINTEXT_KEY);
            super::tls::untie(socket);
        }
        if verdict != VERDICT_IGNORED {
            ring::emit(&CloseEvent { header, socket });
        }
    }
    Some(())
}
