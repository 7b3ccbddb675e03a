//! The one ring buffer. Records come out in the order they went in, so an exec is known before what the program sends.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_ringbuf_output},
    macros::map,
    maps::{RingBuf, ring_buf::RingBufEntry},
};
use hitscope_schemas::event::{EventHeader, lost};

use crate::lost::count;

/// User space sets the size at load.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// The reader is woken when this many bytes wait; until then it looks by itself from time to time.
#[unsafe(no_mangle)]
static WAKE_BYTES: u64 = 256 << 10;

/// Segments are dropped when this many bytes wait in the ring buffer, so that life-cycle records still find room.
#[unsafe(no_mangle)]
pub static SEGMENT_LIMIT_BYTES: u64 = 7 << 20;

/// A CPU that adds segments asks anew how many bytes wait when it has added this many itself.
const ASK_BYTES: u64 = 4 << 10;

/// What a CPU knows of the ring buffer, since to ask is to take a cache line from the reader.
#[repr(C)]
pub struct Fill {
    /// Bytes that waited when it last asked.
    waiting: u64,
    /// Bytes that it has added since then.
    added: u64,
}

impl Fill {
    /// Flags of a segment of `size` bytes; `None` where it has to be dropped.
    #[inline(always)]
    pub fn flags(&mut self, size: u64) -> Option<u64> {
        self.added += size;
        if self.added < ASK_BYTES && self.waiting < global!(SEGMENT_LIMIT_BYTES) {
            return Some(u64::from(BPF_RB_NO_WAKEUP));
        }
        (self.waiting, self.added) = (waiting_bytes(), 0);
        if self.waiting < global!(SEGMENT_LIMIT_BYTES) { Some(flags(self.waiting)) } else { None }
    }
}

/// Bytes that the reader has not taken yet.
#[inline(always)]
pub fn waiting_bytes() -> u64 {
    EVENTS.query(u64::from(BPF_RB_AVAIL_DATA))
}

/// Flags of a record that goes in while so many bytes wait.
#[inline(always)]
pub fn flags(waiting: u64) -> u64 {
    let wake = waiting >= global!(WAKE_BYTES);
    u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// Appends `size` bytes at `record` with [`flags`], or counts `reason`.
///
/// # Safety
/// `record` points at `size` readable bytes, which the verifier checks.
#[inline(always)]
pub unsafe fn output<T>(record: *const T, size: u64, flags: u64, reason: u32) {
    let ring = (&raw const EVENTS).cast_mut().cast();
    // SAFETY: as the caller says.
    let result = unsafe { bpf_ringbuf_output(ring, record.cast_mut().cast(), size, flags) };
    if result != 0 {
        count(reason);
    }
}

/// Room for a record, to be submitted with [`flags`].
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    EVENTS.reserve::<T>(0)
}

/// Appends a life-cycle record.
#[inline(always)]
pub fn emit<T>(record: &T) {
    // SAFETY: a reference covers its size.
    unsafe { output(record, size_of::<T>() as u64, flags(waiting_bytes()), lost::EVENT_RING_FULL) }
}

/// The header of a record about the running thread.
#[inline(always)]
pub fn header(kind: u32, size: usize) -> EventHeader {
    let pid_tgid = bpf_get_current_pid_tgid();
    EventHeader {
        kind,
        size: size as u32,
        // SAFETY: the helper takes no arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        pid: (pid_tgid >> 32) as u32,
        thread_id: pid_tgid as u32,
    }
}

/// A raw tracepoint's argument as an address or number.
#[inline(always)]
pub fn argument<C: EbpfContext>(context: &C, index: usize) -> u64 {
    // SAFETY: the context of raw and BTF tracepoints is an array of 64-bit arguments; the verifier checks the index.
    unsafe { *context.as_ptr().cast::<u64>().add(index) }
}
