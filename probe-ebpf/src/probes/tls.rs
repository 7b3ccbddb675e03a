//! `tls`: what programs hand to their TLS library and get from it, as plaintext of the socket it goes over.
//!
//! Uprobes at the begin and the return of a library's functions. The socket is known
//! - from the read and write calls that the thread makes within the library's call; for what comes out of the
//!   library's own buffer, from an earlier call on the same handle;
//! - where the program moves the bytes itself (Node.js, asyncio): the handle's first call belongs to the
//!   encrypted socket that the thread received from just before, with no other such call in between. A handle that
//!   cannot be tied so has a number of its own in the place of an inode, and no address.
//!
//! A program here can be preempted by another on the same CPU, so there is no per-CPU memory: what a call needs is kept
//! with its thread, and records are made in the ring buffer itself.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_probe_read_user},
    macros::{map, uprobe, uretprobe},
    maps::{LruHashMap, ProgramArray},
    programs::{ProbeContext, RetProbeContext},
};
use hitscope_schemas::{
    event::{KIND_CLOSE, KIND_SEGMENT, lost},
    sockets::{
        CloseEvent, PLAINTEXT, PLAINTEXT_KEY, RECEIVED, SENT, SegmentEvent, SocketState, TlsKey, UNTIED,
        VERDICT_IGNORED, VERDICT_UNKNOWN,
    },
};

use super::sockets::{
    RUN_BYTES, SOCKETS, VERDICTS,
    pieces::{HEAD_BYTES, TAIL_BYTES, UNKNOWN_BYTES, read_user},
    turn,
};
use crate::{
    kernel::current_task,
    lost::count,
    ring::{self, header},
    thread::{self, Thread},
};

/// A call of a TLS library, kept with its thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// The library's handle of the connection; 0 outside of calls.
    pub handle: u64,
    /// The plaintext.
    buffer: u64,
    /// Where the call leaves how many bytes it moved, if it does so in memory.
    moved: u64,
    /// When it began, ns.
    enter_ns: u64,
    /// The socket over which the thread moved bytes in the call; 0: none yet.
    pub socket: u64,
    /// The encrypted socket that the thread last received from by itself, until a call takes the bytes; 0: none.
    pub received: u64,
    /// When the first of the bytes that it decrypts had arrived at the socket, ns; 0: it has not read any; [`NEVER`]: unknown.
    arrived_ns: u64,
    /// After the return: plaintext that is not yet sent to user space.
    left: u64,
    /// After the return: `RECEIVED` or `SENT`, and pieces so far.
    direction: u32,
    pieces: u32,
}

impl Call {
    pub const NONE: Self = Self {
        handle: 0,
        buffer: 0,
        moved: 0,
        enter_ns: 0,
        socket: 0,
        received: 0,
        arrived_ns: 0,
        left: 0,
        direction: 0,
        pieces: 0,
    };

    /// The library has read from this socket bytes that had arrived then, ns; 0: unknown.
    #[inline(always)]
    pub fn has_read(&mut self, socket: u64, arrived_ns: u64) {
        if self.socket != socket || self.arrived_ns == 0 {
            self.arrived_ns = if arrived_ns == 0 { NEVER } else { arrived_ns };
        }
        self.socket = socket;
    }

    /// The program has received from this encrypted socket by itself.
    #[inline(always)]
    pub fn has_received(&mut self, socket: u64, arrived_ns: u64) {
        self.arrived_ns = if arrived_ns == 0 { NEVER } else { arrived_ns };
        self.received = socket;
    }
}

/// In [`Call::arrived_ns`].
const NEVER: u64 = u64::MAX;

/// In [`Call::socket`]: one that is not followed, such as a datagram socket.
pub const NOT_FOLLOWED: u64 = u64::MAX;

/// The socket of each handle.
#[map]
static TLS_SOCKETS: LruHashMap<TlsKey, u64> = LruHashMap::with_max_entries(16384, 0);

/// The handle of each socket.
#[map]
static TLS_HANDLES: LruHashMap<u64, TlsKey> = LruHashMap::with_max_entries(16384, 0);

/// `tls_piece`.
#[map]
static TLS_TAILS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Largest piece in one record: one less than a power of two, so that a mask bounds it.
const PIECE_BYTES: u64 = (8 << 10) - 1;
/// Pieces of one call that are followed.
const PIECES: u32 = 30;

/// `SSL_read(handle, buffer, size)`, `SSL_read_ex(…, moved)`, `SSL_write`, `SSL_write_ex`, `gnutls_record_recv`,
/// `gnutls_record_send`, and those that shake hands or say good-bye.
#[uprobe]
pub fn tls_enter(context: ProbeContext) -> i32 {
    enter(&context);
    0
}

/// `SSL_free`, `gnutls_deinit`: the handle's address may come back as another connection's.
#[uprobe]
pub fn tls_free(context: ProbeContext) -> i32 {
    let key = key(context.arg(0).unwrap_or(0));
    // SAFETY: the value is copied at once.
    if let Some(socket) = unsafe { TLS_SOCKETS.get(&key) } {
        let socket = *socket;
        let _ = TLS_HANDLES.remove(socket);
        let _ = TLS_SOCKETS.remove(&key);
    }
    let socket = untied(&key);
    if SOCKETS.get_ptr(socket | PLAINTEXT_KEY).is_some() {
        let _ = SOCKETS.remove(socket | PLAINTEXT_KEY);
        let _ = VERDICTS.remove(socket | PLAINTEXT_KEY);
        ring::emit(&CloseEvent { header: header(KIND_CLOSE, size_of::<CloseEvent>()), socket });
    }
    0
}

/// The return of a function that says by its result how much was received.
#[uretprobe]
pub fn tls_received(context: RetProbeContext) -> i32 {
    let moved = context.ret::<i32>();
    returned(&context, RECEIVED, |_| moved as i64)
}

/// As `tls_received`, for sent.
#[uretprobe]
pub fn tls_sent(context: RetProbeContext) -> i32 {
    let moved = context.ret::<i32>();
    returned(&context, SENT, |_| moved as i64)
}

/// The return of a function that leaves in memory how much was received.
#[uretprobe]
pub fn tls_received_ex(context: RetProbeContext) -> i32 {
    let done = context.ret::<i32>();
    returned(&context, RECEIVED, |call| moved(call, done))
}

/// As `tls_received_ex`, for sent.
#[uretprobe]
pub fn tls_sent_ex(context: RetProbeContext) -> i32 {
    let done = context.ret::<i32>();
    returned(&context, SENT, |call| moved(call, done))
}

/// The return of a handshake or a good-bye: it moves no plaintext, but may have told the socket.
#[uretprobe]
pub fn tls_shaken(context: RetProbeContext) -> i32 {
    returned(&context, RECEIVED, |_| 0)
}

/// Another piece of the same call.
#[uretprobe]
pub fn tls_piece(context: RetProbeContext) -> i32 {
    if let Some(thread) = thread::get(bpf_get_current_pid_tgid() as u32) {
        step(&context, thread);
    }
    0
}

#[inline(always)]
fn key(handle: u64) -> TlsKey {
    TlsKey { handle, pid: (bpf_get_current_pid_tgid() >> 32) as u32, padding: 0 }
}

/// In the place of an inode number where none is known.
#[inline(always)]
fn untied(key: &TlsKey) -> u64 {
    UNTIED | ((u64::from(key.pid) << 40 ^ key.handle) & (UNTIED - 1))
}

#[inline(always)]
fn enter(context: &ProbeContext) -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let thread = thread::get_or_insert(pid_tgid as u32, (pid_tgid >> 32) as u32, current_task)?;
    let handle: u64 = context.arg(0)?;
    let call = &mut thread.tls;
    call.handle = handle;
    call.buffer = context.arg(1)?;
    call.moved = context.arg(3)?;
    // SAFETY: the helper takes no arguments.
    call.enter_ns = unsafe { bpf_ktime_get_ns() };
    call.socket = 0;
    if call.received == 0 {
        call.arrived_ns = 0;
    } else {
        tie_by_order(call, &key(handle));
    }
    Some(())
}

/// Ties a handle that nothing is known of to the encrypted socket just received from, unless that is another's. A program
/// hands on what it receives before it receives more; a first call may also be a send, which ends the handshake within.
#[inline(always)]
fn tie_by_order(call: &mut Call, key: &TlsKey) {
    let socket = call.received;
    // SAFETY: the value is copied at once.
    let known = unsafe { TLS_SOCKETS.get(key) }.copied();
    // It may be closed by now, with what it brought last not taken.
    let open = SOCKETS.get_ptr(socket).is_some();
    if open && known.is_none() && TLS_HANDLES.get_ptr(socket).is_none() {
        tie(key, socket);
    }
    // A call on another connection takes nothing.
    if known.is_none() || known == Some(socket) {
        call.received = 0;
    } else {
        call.arrived_ns = NEVER;
    }
}

#[inline(always)]
fn tie(key: &TlsKey, socket: u64) {
    // LRU maps make room by themselves; what an insert can lack is memory for a moment.
    let _ = TLS_SOCKETS.insert(key, &socket, 0);
    let _ = TLS_HANDLES.insert(&socket, key, 0);
}

/// The socket is closed.
#[inline(always)]
pub fn untie(socket: u64) {
    // SAFETY: the value is copied at once.
    if let Some(key) = unsafe { TLS_HANDLES.get(socket) } {
        let key = *key;
        let _ = TLS_SOCKETS.remove(&key);
        let _ = TLS_HANDLES.remove(socket);
    }
}

#[inline(always)]
fn moved(call: &Call, done: i32) -> i64 {
    if done == 1 { read_user::<u64>(call.moved).unwrap_or(0) as i64 } else { 0 }
}

#[inline(always)]
fn returned(context: &RetProbeContext, direction: u32, moved: impl FnOnce(&Call) -> i64) -> i32 {
    let Some(thread) = thread::get(bpf_get_current_pid_tgid() as u32) else { return 0 };
    let call = &mut thread.tls;
    // Of nested calls the inner one's; or the begin was not seen.
    if call.handle == 0 {
        return 0;
    }
    let key = key(call.handle);
    call.handle = 0;
    // SAFETY: the value is copied at once.
    let known = unsafe { TLS_SOCKETS.get(&key) }.copied();
    let socket = match (call.socket, known) {
        (NOT_FOLLOWED, _) => return 0,
        (0, Some(known)) => known,
        (0, None) => untied(&key),
        (socket, known) => {
            if known != Some(socket) {
                tie(&key, socket);
            }
            socket
        }
    };
    let moved = moved(call);
    if moved <= 0 {
        return 0;
    }
    call.socket = socket;
    call.left = moved as u64;
    call.direction = direction;
    call.pieces = 0;
    step(context, thread);
    0
}

/// The state of a socket's plaintext.
#[inline(always)]
fn state(socket: u64) -> Option<&'static mut SocketState> {
    let key = socket | PLAINTEXT_KEY;
    if SOCKETS.get_ptr(key).is_none() && SOCKETS.insert(key, SocketState::default(), 0).is_err() {
        count(lost::SOCKET_MAP_FULL);
    }
    // SAFETY: as that of the socket itself.
    SOCKETS.get_ptr_mut(key).map(|state| unsafe { &mut *state })
}

/// Sends the next piece of the call's plaintext, and runs again if there is more.
#[inline(always)]
fn step(context: &RetProbeContext, thread: &mut Thread) -> Option<()> {
    let (socket, direction) = (thread.tls.socket, thread.tls.direction & 1);
    let state = state(socket)?;
    turn(state, socket | PLAINTEXT_KEY, direction);
    if state.verdict == VERDICT_IGNORED {
        return None;
    }
    thread.tls.pieces += 1;
    let (pieces, left) = (thread.tls.pieces, thread.tls.left);
    let allowance = if state.run_bytes >= global!(RUN_BYTES) {
        HEAD_BYTES
    } else if state.verdict == VERDICT_UNKNOWN {
        UNKNOWN_BYTES
    } else if pieces < PIECES {
        PIECE_BYTES
    } else {
        HEAD_BYTES
    };
    let moved = if allowance == PIECE_BYTES && left > PIECE_BYTES { PIECE_BYTES } else { left };
    let head = if moved < allowance { moved } else { allowance };
    let rest = moved - head;
    let tail = if rest < TAIL_BYTES { rest } else { TAIL_BYTES };
    // What comes out of the library's own buffer had arrived with what was read last.
    match thread.tls.arrived_ns {
        0 => {}
        NEVER => state.arrived_ns = 0,
        arrived_ns => state.arrived_ns = arrived_ns,
    }
    let arrived_ns = if direction == RECEIVED { state.arrived_ns } else { 0 };
    let piece = Piece { socket, direction, moved, head, tail, offset: state.offset[direction as usize], arrived_ns };
    state.offset[direction as usize] += moved;
    state.run_bytes += moved;
    if tail == 0 && head < 256 {
        send::<256>(thread, &piece);
    } else if tail == 0 && head < 2048 {
        send::<2048>(thread, &piece);
    } else if head < 256 {
        send::<{ 256 + TAIL_ROOM }>(thread, &piece);
    } else {
        send::<{ PIECE_BYTES as usize + 1 + TAIL_ROOM }>(thread, &piece);
    }
    thread.tls.buffer += moved;
    thread.tls.left = left - moved;
    if left > moved {
        // SAFETY: the array's one program takes the context of a uprobe.
        unsafe { TLS_TAILS.tail_call(context, 0) };
    }
    Some(())
}

/// Room for a tail in the sizes of records that have it: a power of two above [`TAIL_BYTES`].
const TAIL_ROOM: usize = 1024;

struct Piece {
    socket: u64,
    direction: u32,
    moved: u64,
    head: u64,
    tail: u64,
    offset: u64,
    /// 0: unknown.
    arrived_ns: u64,
}

#[repr(C)]
struct Record<const SIZE: usize> {
    event: SegmentEvent,
    bytes: [u8; SIZE],
}

/// Makes the record in the ring buffer, in one of a few sizes, as the kernel wants a constant; the record says how much of
/// it counts.
#[inline(always)]
fn send<const SIZE: usize>(thread: &mut Thread, piece: &Piece) {
    let waiting = ring::waiting_bytes();
    if waiting >= global!(ring::SEGMENT_LIMIT_BYTES) {
        return count(lost::SEGMENT_RING_FULL);
    }
    let Some(mut entry) = ring::reserve::<Record<SIZE>>() else { return count(lost::SEGMENT_RING_FULL) };
    // A power of two: the room for the head.
    let room = if SIZE > 2048 || SIZE == 256 + TAIL_ROOM { SIZE - TAIL_ROOM } else { SIZE } as u64;
    // The masks change nothing; they are what the verifier bounds the writes by.
    let mut head = core::hint::black_box(piece.head) & (room - 1);
    let mut tail = core::hint::black_box(piece.tail) & (TAIL_ROOM as u64 - 1);
    let record = entry.as_mut_ptr();
    // SAFETY: head and tail lie within `bytes`; the helper checks the user's addresses; every field is written.
    unsafe {
        let bytes = (&raw mut (*record).bytes).cast::<u8>();
        let mut failed = bpf_probe_read_user(bytes.cast(), head as u32, thread.tls.buffer as *const _) != 0;
        if SIZE as u64 > room {
            let from = thread.tls.buffer + piece.moved - tail;
            failed |= bpf_probe_read_user(bytes.add(head as usize).cast(), tail as u32, from as *const _) != 0;
        }
        if failed {
            count(lost::BUFFER_UNREADABLE);
            (head, tail) = (0, 0);
        }
        let mut header = header(KIND_SEGMENT, size_of::<SegmentEvent>());
        header.size += (head + tail) as u32;
        let times = thread.times(header.time_ns);
        let arrived = piece.arrived_ns != 0 && piece.arrived_ns < header.time_ns;
        (&raw mut (*record).event).write(SegmentEvent {
            header,
            socket: piece.socket,
            enter_ns: thread.tls.enter_ns,
            offset: piece.offset,
            length: piece.moved,
            times,
            queued_ns: if arrived { header.time_ns.saturating_sub(piece.arrived_ns) } else { 0 },
            direction: piece.direction,
            head_len: head as u32,
            tail_len: tail as u32,
            flags: PLAINTEXT,
        });
    }
    entry.submit(ring::flags(waiting));
}
