//! A pair of programs that do nothing: what any probe of every syscall costs at the least. For `cargo xtask bench overhead`.
#![no_std]
#![no_main]

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

/// A syscall begins.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(_context: RawTracePointContext) -> i32 {
    0
}

/// A syscall returns.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(_context: RawTracePointContext) -> i32 {
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
