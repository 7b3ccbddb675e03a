//! The one definition of every record: what crosses from the kernel to user space, and what is stored.
//!
//! The kernel records ([`event`], [`syscalls`], [`sched`], [`sockets`], [`connections`], [`offsets`]) are `#[repr(C)]`,
//! explicit in their padding, and compiled for both sides. The stored tables ([`tables`], feature
//! `tables`) name each column once, with its unit and a sentence; docs, API and UI take them from there.
#![no_std]
#[cfg(feature = "tables")]
extern crate std;

pub mod connections;
pub mod event;
pub mod latency;
pub mod offsets;
pub mod sched;
pub mod sockets;
pub mod syscalls;
#[cfg(feature = "tables")]
pub mod tables;

/// Makes a record readable from map values and ring buffer bytes, and fixes its size at compile time.
macro_rules! record {
    ($type:ty, $size:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        // SAFETY: `repr(C)` with explicit padding, integers only: every bit pattern is a value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use record;
