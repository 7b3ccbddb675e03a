//! One file per probe, of the same name as its records in `schemas` and its user side in `collector`.

/// Defines a program and its further copies, which run after it and do what it could not: in recent kernels a thread can lose its
/// CPU within a program of a tracepoint, and the kernel then skips that program for other threads on the CPU. Of what is kept
/// for each CPU, each copy has its own. User space attaches a copy where the one before was skipped.
macro_rules! copies {
    ($body:ident: $($name:ident = $copy:literal),+) => {$(
        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $name(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            let _ = $body::<$copy>(&context);
            0
        }
    )+};
}

pub mod connections;
pub mod sched;
pub mod sockets;
pub mod syscalls;
pub mod tls;

use aya_ebpf::{macros::map, maps::Array};

/// Adds in one instruction, since an interrupt on this CPU, or another CPU, may count there, too.
#[inline(always)]
fn add(counter: &mut u64, value: u64) {
    // SAFETY: the address is that of a live, aligned counter.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) value);
    }
}

/// Which half of the per-process maps is being filled; user space switches it and then empties the other.
#[map]
static GENERATION: Array<u32> = Array::with_max_entries(1, 0);

/// The half being filled.
#[inline(always)]
fn generation() -> u32 {
    GENERATION.get(0).copied().unwrap_or(0)
}
