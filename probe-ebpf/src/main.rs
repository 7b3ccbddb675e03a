//! The kernel side of hitscope: one file per probe in `probes/`, and what they share.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use hitscope_schemas::offsets::Offsets;

/// Given by user space at load; the verifier then knows each as a constant.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::NONE;

/// A global that user space may set at load, read so that the compiler does not fold in its first value.
macro_rules! global {
    ($($path:tt)+) => {
        // SAFETY: points at a static of integers.
        unsafe { core::ptr::read_volatile(&raw const $($path)+) }
    };
}
/// Offset of a field in the running kernel.
macro_rules! offset {
    ($field:ident) => {
        global!($crate::OFFSETS.$field)
    };
}
mod arch;
mod kernel;
mod lost;
mod probes;
mod ring;
mod thread;

/// The kernel decides by this which helpers a program may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Loops, so that the verifier refuses a program that could get here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
