//! The bytes of a call, from its buffers to the ring buffer, in pieces.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user, macros::map, maps::PerCpuArray, programs::RawTracePointContext,
};
use hitscope_schemas::{
    event::lost,
    sockets::{COPIES, SegmentEvent, SocketState, VERDICT_UNKNOWN},
};

use super::{RUN_BYTES, SOCKETS};
use crate::{
    lost::count,
    probes::syscalls::{TAIL_PIECE, tail_call},
    ring,
};

/// Captured of the front of each call before user space has made up its mind; with the tail it is a piece.
pub const UNKNOWN_BYTES: u64 = PIECE_BYTES - TAIL_BYTES;
/// Captured of the front of a call beyond the run.
pub const HEAD_BYTES: u64 = 128;
/// Captured of the end of a call whose middle is left out.
pub const TAIL_BYTES: u64 = 512;
/// Largest piece in one record; larger buffers make several.
const PIECE_BYTES: u64 = 8 << 10;
/// Pieces that one run of a program sends: with the kernel's 33 tail calls in a row, enough for the 64 buffers that nginx and
/// others write at once.
const PIECES_PER_RUN: u32 = 3;
/// Pieces of one call that are followed.
const PIECES: u32 = 30 * PIECES_PER_RUN;

/// A record and its captured bytes. The padding lets masks, not comparisons, bound what is written.
#[repr(C)]
pub struct Scratch {
    pub event: SegmentEvent,
    bytes: [u8; 2 * PIECE_BYTES as usize + 2 * TAIL_BYTES as usize],
    pub cursor: Cursor,
    fill: ring::Fill,
}

/// Where in the call's buffers the next piece begins. A run of a program sends a few pieces, so that no loop over all pieces,
/// buffers and messages has to be proved to end.
#[repr(C)]
pub struct Cursor {
    /// The buffer being sent to user space and what is left of it. Address 0: nothing to read.
    pub address: u64,
    pub left: u64,
    /// What the call moved and is not yet accounted, this message only.
    pub message_left: u64,
    /// The `struct iovec`s still to come.
    pub vectors: u64,
    pub vector_count: u64,
    /// The `struct mmsghdr`s still to come.
    pub messages: u64,
    pub message_count: u64,
    /// Pieces so far.
    pieces: u32,
    padding: u32,
}

impl Cursor {
    /// Before a call that moved so many bytes. Field by field and volatile, since the compiler would make a call of `memset`, which
    /// goes byte by byte.
    #[inline(always)]
    pub fn clear(&mut self, moved: u64) {
        // SAFETY: each is a live field of integers.
        unsafe {
            (&raw mut self.address).write_volatile(0);
            (&raw mut self.left).write_volatile(0);
            (&raw mut self.message_left).write_volatile(moved);
            (&raw mut self.vectors).write_volatile(0);
            (&raw mut self.vector_count).write_volatile(0);
            (&raw mut self.messages).write_volatile(0);
            (&raw mut self.message_count).write_volatile(0);
            (&raw mut self.pieces).write_volatile(0);
        }
    }
}

/// One for each copy of the programs.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(COPIES, 0);

copies!(piece: sockets_piece = 0, piece_1 = 1, piece_2 = 2, piece_3 = 3);

/// Another piece of the same call.
#[inline(always)]
fn piece<const COPY: u32>(context: &RawTracePointContext) -> Option<()> {
    let scratch = scratch::<COPY>()?;
    // SAFETY: as in `super::state`.
    let state = unsafe { &mut *SOCKETS.get_ptr_mut(scratch.event.socket)? };
    step::<COPY>(context, state, scratch)
}

/// Sends the pieces from the cursor on, moves the cursor on, and runs again if there are more.
#[inline(always)]
pub fn step<const COPY: u32>(
    context: &RawTracePointContext,
    state: &mut SocketState,
    scratch: &mut Scratch,
) -> Option<()> {
    for _ in 0..PIECES_PER_RUN {
        send(state, scratch);
        if scratch.cursor.message_left == 0 && scratch.cursor.message_count == 0 {
            return Some(());
        }
    }
    tail_call::<COPY>(context, TAIL_PIECE);
    Some(())
}

/// Sends the piece at the cursor and moves the cursor on. A function of its own, since in a loop the compiler would calculate with
/// the addresses, which the verifier forbids.
#[inline(never)]
fn send(state: &mut SocketState, scratch: &mut Scratch) -> i32 {
    let cursor = &mut scratch.cursor;
    if cursor.message_left == 0 && cursor.message_count > 0 {
        next_message(cursor);
    }
    if cursor.left == 0 && cursor.message_left > 0 {
        next_buffer(cursor);
    }
    cursor.pieces += 1;
    if cursor.pieces >= PIECES && cursor.message_left > cursor.left {
        count(lost::VECTOR_TOO_LONG);
        (cursor.address, cursor.left) = (0, cursor.message_left);
    }
    if cursor.left > 0 {
        let moved = segment(state, scratch);
        let cursor = &mut scratch.cursor;
        if cursor.address != 0 {
            cursor.address += moved;
        }
        cursor.left -= moved;
        cursor.message_left -= moved;
    }
    0
}

#[inline(always)]
pub fn scratch<const COPY: u32>() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's element; the programs of one copy run one after the other on a CPU.
    SCRATCH.get_ptr_mut(COPY).map(|scratch| unsafe { &mut *scratch })
}

/// `struct iovec` (include/uapi/linux/uio.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Iovec {
    pub base: u64,
    pub length: u64,
}

#[inline(always)]
pub fn read_user<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails rather than faults.
    unsafe { aya_ebpf::helpers::bpf_probe_read_user(address as *const T).ok() }
}

/// Goes to the next buffer of the message; one that cannot be found stands for the rest of the message, unread.
#[inline(always)]
fn next_buffer(cursor: &mut Cursor) {
    cursor.address = 0;
    if cursor.vector_count > 0 {
        if let Some(iovec) = read_user::<Iovec>(cursor.vectors) {
            cursor.vectors += size_of::<Iovec>() as u64;
            cursor.vector_count -= 1;
            cursor.address = iovec.base;
            cursor.left = if iovec.length < cursor.message_left { iovec.length } else { cursor.message_left };
            return;
        }
        count(lost::BUFFER_UNREADABLE);
    }
    cursor.left = cursor.message_left;
}

/// `struct user_msghdr` (include/linux/socket.h): the vector's address at 16, its length at 24, 56 bytes in all.
#[inline(always)]
pub fn open_message(cursor: &mut Cursor, header: u64) {
    cursor.vectors = read_user(header + 16).unwrap_or(0);
    cursor.vector_count = read_user(header + 24).unwrap_or(0);
}

/// `struct mmsghdr`: a `user_msghdr`, then how many bytes it moved; 64 bytes in all.
#[inline(always)]
fn next_message(cursor: &mut Cursor) {
    let header = cursor.messages;
    cursor.messages += 64;
    cursor.message_count -= 1;
    open_message(cursor, header);
    cursor.message_left = u64::from(read_user::<u32>(header + 56).unwrap_or(0));
}

/// Sends the next bytes of the cursor's buffer to user space and moves the socket's offset on; returns by how much.
#[inline(always)]
fn segment(state: &mut SocketState, scratch: &mut Scratch) -> u64 {
    let (address, left) = (scratch.cursor.address, scratch.cursor.left);
    let allowance = if address == 0 {
        0
    } else if state.run_bytes >= global!(RUN_BYTES) {
        HEAD_BYTES
    } else if state.verdict == VERDICT_UNKNOWN {
        UNKNOWN_BYTES
    } else if scratch.cursor.pieces < PIECES - 1 {
        PIECE_BYTES
    } else {
        HEAD_BYTES
    };
    let moved = if allowance == PIECE_BYTES && left > PIECE_BYTES { PIECE_BYTES } else { left };
    let head = if moved < allowance { moved } else { allowance };
    let rest = if address == 0 { 0 } else { moved - head };
    let tail = if rest < TAIL_BYTES { rest } else { TAIL_BYTES };
    let offset = &mut state.offset[(scratch.event.direction & 1) as usize];
    scratch.event.offset = *offset;
    *offset += moved;
    state.run_bytes += moved;
    emit(scratch, address, moved, head, tail);
    moved
}

#[inline(always)]
fn emit(scratch: &mut Scratch, address: u64, moved: u64, head: u64, tail: u64) {
    let Some(flags) = scratch.fill.flags(size_of::<SegmentEvent>() as u64 + head + tail) else {
        return count(lost::SEGMENT_RING_FULL);
    };
    // The masks change nothing; they are what the verifier bounds the writes by.
    let mut head = core::hint::black_box(head) & (2 * PIECE_BYTES - 1);
    let mut tail = core::hint::black_box(tail) & (2 * TAIL_BYTES - 1);
    let bytes = scratch.bytes.as_mut_ptr();
    // SAFETY: head < 2 pieces and tail < 2 * TAIL_BYTES lie within `bytes`; the helper checks the user's addresses.
    let failed = unsafe {
        (head != 0 && bpf_probe_read_user(bytes.cast(), head as u32, address as *const _) != 0)
            || (tail != 0
                && bpf_probe_read_user(
                    bytes.add(head as usize).cast(),
                    tail as u32,
                    (address + moved - tail) as *const _,
                ) != 0)
    };
    if failed {
        count(lost::BUFFER_UNREADABLE);
        (head, tail) = (0, 0);
    }
    let size = size_of::<SegmentEvent>() as u64 + head + tail;
    scratch.event.header.size = size as u32;
    scratch.event.length = moved;
    scratch.event.head_len = head as u32;
    scratch.event.tail_len = tail as u32;
    // SAFETY: `size` lies within the scratch area.
    unsafe { ring::output(&raw const *scratch, size, flags, lost::SEGMENT_RING_FULL) }
}
