//! What differs between architectures: where a syscall's arguments lie in `pt_regs`, and the numbers of the calls that move
//! bytes or wait.

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

/// What a thread that sleeps in a syscall waits for. Sleeping uninterruptibly it waits for a disk, unless it says otherwise.
pub mod wait {
    /// Nothing that has a class of its own: time, a child, a terminal.
    pub const OTHER: u8 = 0;
    /// Another thread or process, through a lock or a semaphore.
    pub const LOCK: u8 = 1;
    /// A socket.
    pub const NETWORK: u8 = 2;
    /// A disk, however it sleeps.
    pub const DISK: u8 = 3;
    /// One of several: what is read or written next tells.
    pub const AWAITED: u8 = 4;
    /// As `OTHER`; uninterruptibly, the lock of the process's memory map.
    pub const MEMORY: u8 = 5;
    /// As `OTHER`, even if uninterruptibly: until a child has its own memory, for instance.
    pub const PROCESS: u8 = 6;
}

/// Syscall numbers are below this; a power of two.
const SYSCALLS: usize = 512;

macro_rules! architecture {
    (
        $arch:literal, arguments $arguments:tt, $($name:ident = $number:literal),+;
        $($wait:ident: $($call:literal),+;)+
    ) => {
        #[cfg(bpf_target_arch = $arch)]
        mod numbers {
            /// Byte offset of each argument in `pt_regs` at the exit of a syscall.
            pub const ARGUMENTS: [usize; 5] = $arguments;
            $(pub const $name: u32 = $number;)+

            /// `wait::*` by syscall number.
            pub static WAITS: [u8; super::SYSCALLS] = {
                let mut waits = [super::wait::OTHER; super::SYSCALLS];
                $($(waits[$call] = super::wait::$wait;)+)+
                waits
            };
        }
    };
}

// arch/x86/include/asm/ptrace.h (di, si, dx, r10, r8); arch/x86/entry/syscalls/syscall_64.tbl
architecture!("x86_64", arguments [112, 104, 96, 56, 72],
    READ = 0, WRITE = 1, CLOSE = 3, READV = 19, WRITEV = 20, SENDFILE = 40, SENDTO = 44, RECVFROM = 45,
    SENDMSG = 46, RECVMSG = 47, RECVMMSG = 299, SENDMMSG = 307, ACCEPT = 43, ACCEPT4 = 288;
    // futex, futex_waitv, futex_wait, semop, semtimedop, flock, fcntl
    LOCK: 202, 449, 455, 65, 220, 73, 72;
    // connect, accept, accept4, sendto, recvfrom, sendmsg, recvmsg, recvmmsg, sendmmsg, sendfile
    NETWORK: 42, 43, 288, 44, 45, 46, 47, 299, 307, 40;
    // io_getevents, io_pgetevents
    DISK: 208, 333;
    // read, write, readv, writev, poll, ppoll, select, pselect6, epoll_wait, epoll_pwait, epoll_pwait2
    AWAITED: 0, 1, 19, 20, 7, 271, 23, 270, 232, 281, 441;
    // mmap, mprotect, munmap, brk, mremap, madvise
    MEMORY: 9, 10, 11, 12, 25, 28;
    // clone, fork, vfork, clone3, exit, exit_group, wait4, waitid
    PROCESS: 56, 57, 58, 435, 60, 231, 61, 247;
);
// arch/arm64/include/asm/ptrace.h (orig_x0, since x0 holds the result; x1, x2, x3, x4); include/uapi/asm-generic/unistd.h
architecture!("aarch64", arguments [272, 8, 16, 24, 32],
    READ = 63, WRITE = 64, CLOSE = 57, READV = 65, WRITEV = 66, SENDFILE = 71, SENDTO = 206, RECVFROM = 207,
    SENDMSG = 211, RECVMSG = 212, RECVMMSG = 243, SENDMMSG = 269, ACCEPT = 202, ACCEPT4 = 242;
    // futex, futex_waitv, futex_wait, semop, semtimedop, flock, fcntl
    LOCK: 98, 449, 455, 193, 192, 32, 25;
    // connect, accept, accept4, sendto, recvfrom, sendmsg, recvmsg, recvmmsg, sendmmsg, sendfile
    NETWORK: 203, 202, 242, 206, 207, 211, 212, 243, 269, 71;
    // io_getevents, io_pgetevents
    DISK: 4, 292;
    // read, write, readv, writev, ppoll, pselect6, epoll_pwait, epoll_pwait2
    AWAITED: 63, 64, 65, 66, 73, 72, 22, 441;
    // mmap, mprotect, munmap, brk, mremap, madvise
    MEMORY: 222, 226, 215, 214, 216, 233;
    // clone, clone3, exit, exit_group, wait4, waitid
    PROCESS: 220, 435, 93, 94, 260, 95;
);

use hitscope_schemas::sockets::{RECEIVED, SENT};
pub use numbers::ARGUMENTS;
use numbers::*;

use crate::kernel::{Address, read};

/// The first four arguments of a syscall, from its `pt_regs`.
#[inline(always)]
pub fn arguments(registers: Address) -> Option<[u64; 4]> {
    let [a, b, c, d, _] = ARGUMENTS;
    const WORDS: usize = 8;
    if a > d && a - d < 8 * WORDS && b > d && b < a && c > d && c < a {
        // Close together: one read costs less than four.
        let words: [u64; WORDS] = read(registers, d as u32)?;
        return Some([words[(a - d) / 8 % WORDS], words[(b - d) / 8 % WORDS], words[(c - d) / 8 % WORDS], words[0]]);
    }
    let argument = |offset: usize| read(registers, offset as u32);
    Some([argument(a)?, argument(b)?, argument(c)?, argument(d)?])
}

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

/// What a thread that sleeps in this syscall waits for, one of [`wait`].
#[inline(always)]
pub fn wait_of(syscall: u32) -> u8 {
    WAITS[syscall as usize & (SYSCALLS - 1)]
}

/// Whether a call of this class sends.
#[inline(always)]
pub fn sends(class: Class) -> bool {
    matches!(
        class,
        Class::Buffer(SENT) | Class::Vector(SENT) | Class::Message(SENT) | Class::Messages(SENT) | Class::File
    )
}

/// Which argument of a call that receives into one buffer takes the sender's address.
#[inline(always)]
pub fn source_argument(syscall: u32) -> Option<usize> {
    (syscall == RECVFROM).then_some(4)
}
