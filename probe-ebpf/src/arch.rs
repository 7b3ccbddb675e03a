//! What differs between architectures: where a syscall's arguments lie in `pt_regs`, and the numbers of the calls that move bytes.

/// What a syscall does with a file descriptor, as far as the `sockets` probe cares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `read`, `recvfrom`, `write`, `sendto`: one buffer; the direction is that of the probe records.
    Buffer(u32),
    /// `readv`, `writev`.
    Vector(u32),
    /// `recvmsg`, `sendmsg`.
    Message(u32),
    /// `recvmmsg`, `sendmmsg`.
    Messages(u32),
    /// `sendfile`: bytes that never were in user memory.
    File,
    /// `close`.
    Close,
    /// `accept`, `accept4`.
    Accept,
    /// Nothing.
    Other,
}

macro_rules! architecture {
    ($arch:literal, arguments $arguments:tt, $($name:ident = $number:literal),+) => {
        #[cfg(bpf_target_arch = $arch)]
        mod numbers {
            /// Byte offset of each argument in `pt_regs` at the exit of a syscall.
            pub const ARGUMENTS: [usize; 5] = $arguments;
            $(pub const $name: u32 = $number;)+
        }
    };
}

// arch/x86/include/asm/ptrace.h (di, si, dx, r10, r8); arch/x86/entry/syscalls/syscall_64.tbl
architecture!("x86_64", arguments [112, 104, 96, 56, 72],
    READ = 0, WRITE = 1, CLOSE = 3, READV = 19, WRITEV = 20, SENDFILE = 40, SENDTO = 44, RECVFROM = 45,
    SENDMSG = 46, RECVMSG = 47, RECVMMSG = 299, SENDMMSG = 307, ACCEPT = 43, ACCEPT4 = 288);
// arch/arm64/include/asm/ptrace.h (orig_x0, since x0 holds the result; x1, x2, x3, x4); include/uapi/asm-generic/unistd.h
architecture!("aarch64", arguments [272, 8, 16, 24, 32],
    READ = 63, WRITE = 64, CLOSE = 57, READV = 65, WRITEV = 66, SENDFILE = 71, SENDTO = 206, RECVFROM = 207,
    SENDMSG = 211, RECVMSG = 212, RECVMMSG = 243, SENDMMSG = 269, ACCEPT = 202, ACCEPT4 = 242);

use hitscope_schemas::sockets::{RECEIVED, SENT};
pub use numbers::ARGUMENTS;
use numbers::*;

/// The class of a syscall number.
#[inline(always)]
pub fn class(syscall: u32) -> Class {
    match syscall {
        READ | RECVFROM => Class::Buffer(RECEIVED),
        WRITE | SENDTO => Class::Buffer(SENT),
        READV => Class::Vector(RECEIVED),
        WRITEV => Class::Vector(SENT),
        RECVMSG => Class::Message(RECEIVED),
        SENDMSG => Class::Message(SENT),
        RECVMMSG => Class::Messages(RECEIVED),
        SENDMMSG => Class::Messages(SENT),
        SENDFILE => Class::File,
        CLOSE => Class::Close,
        ACCEPT | ACCEPT4 => Class::Accept,
        _ => Class::Other,
    }
}

/// Which argument holds the flags of a receiving call, to see `MSG_PEEK`.
#[inline(always)]
pub fn flags_argument(syscall: u32) -> Option<usize> {
    match syscall {
        RECVFROM | RECVMMSG => Some(3),
        RECVMSG => Some(2),
        _ => None,
    }
}

/// Which argument of a call that receives into one buffer takes the sender's address.
#[inline(always)]
pub fn source_argument(syscall: u32) -> Option<usize> {
    (syscall == RECVFROM).then_some(4)
}
