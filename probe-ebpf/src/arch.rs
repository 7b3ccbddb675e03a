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
    /// `execve`, `execveat`: what comes next may be code of the other kind.
    Exec,
    /// Nothing.
    Other,
}

impl Class {
    /// Which way a call of this class moves bytes, if it does.
    #[inline(always)]
    pub fn direction(self) -> Option<u32> {
        match self {
            Self::Buffer(direction)
            | Self::Vector(direction)
            | Self::Message(direction)
            | Self::Messages(direction) => Some(direction),
            Self::File => Some(SENT),
            Self::Close | Self::Accept | Self::Exec | Self::Other => None,
        }
    }
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

#[allow(dead_code, reason = "of the other architecture")]
mod numbers;

#[cfg(bpf_target_arch = "aarch64")]
use numbers::AARCH64 as HERE;
#[cfg(bpf_target_arch = "x86_64")]
use numbers::X86_64 as HERE;

/// Syscall numbers are below this; a power of two.
const SYSCALLS: usize = 512;

/// Byte offset of each argument in `pt_regs` at the exit of a syscall.
pub const ARGUMENTS: [usize; 5] = HERE.arguments;

/// What may sleep, by what it waits for. Old calls that an architecture never had (`poll` on aarch64) are no matter there.
#[rustfmt::skip]
const WAITING: &[(u8, &[&str])] = &[
    (wait::LOCK, &["futex", "futex_waitv", "futex_wait", "semop", "semtimedop", "flock", "fcntl"]),
    (wait::NETWORK, &[
        "connect", "accept", "accept4", "sendto", "recvfrom", "sendmsg", "recvmsg", "recvmmsg", "sendmmsg", "sendfile",
    ]),
    (wait::DISK, &["io_getevents", "io_pgetevents"]),
    (wait::AWAITED, &[
        "read", "write", "readv", "writev", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait",
        "epoll_pwait2",
    ]),
    (wait::MEMORY, &["mmap", "mprotect", "munmap", "brk", "mremap", "madvise"]),
    (wait::PROCESS, &["clone", "fork", "vfork", "clone3", "exit", "exit_group", "wait4", "waitid"]),
];

/// `wait::*` by syscall number; the upper half is that of 32-bit code, of which nothing is known.
static WAITS: [u8; 2 * SYSCALLS] = {
    let mut waits = [wait::OTHER; 2 * SYSCALLS];
    let mut class = 0;
    while class < WAITING.len() {
        let (wait, names) = WAITING[class];
        let mut name = 0;
        while name < names.len() {
            if let Some(number) = find(HERE.syscalls, names[name]) {
                waits[number as usize] = wait;
            }
            name += 1;
        }
        class += 1;
    }
    waits
};

const fn find(syscalls: &[(&str, u32)], name: &str) -> Option<u32> {
    let mut index = 0;
    while index < syscalls.len() {
        if same(syscalls[index].0.as_bytes(), name.as_bytes()) {
            return Some(syscalls[index].1);
        }
        index += 1;
    }
    None
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// The number of a syscall that every architecture has.
const fn number(name: &str) -> u32 {
    find(HERE.syscalls, name).expect("in the table")
}

const READ: u32 = number("read");
const WRITE: u32 = number("write");
const CLOSE: u32 = number("close");
const READV: u32 = number("readv");
const WRITEV: u32 = number("writev");
const SENDFILE: u32 = number("sendfile");
const SENDTO: u32 = number("sendto");
const RECVFROM: u32 = number("recvfrom");
const SENDMSG: u32 = number("sendmsg");
const RECVMSG: u32 = number("recvmsg");
const RECVMMSG: u32 = number("recvmmsg");
const SENDMMSG: u32 = number("sendmmsg");
const ACCEPT: u32 = number("accept");
const ACCEPT4: u32 = number("accept4");
const EXECVE: u32 = number("execve");
const EXECVEAT: u32 = number("execveat");
const COMPAT_EXECVE: u32 = COMPAT | HERE.compat_execs[0].1;
const COMPAT_EXECVEAT: u32 = COMPAT | HERE.compat_execs[1].1;

use hitscope_schemas::{
    sockets::{RECEIVED, SENT},
    syscalls::COMPAT,
};

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

/// The first argument of a syscall, as it begins or as it returns.
#[inline(always)]
pub fn first_argument(registers: Address) -> Option<u64> {
    read(registers, ARGUMENTS[0] as u32)
}

/// Which syscall returns, with [`COMPAT`].
#[inline(always)]
pub fn returning(registers: Address) -> Option<u32> {
    let number: u32 = read(registers, HERE.number as u32)?;
    Some(number & (COMPAT - 1) | mode(registers))
}

/// [`COMPAT`] when the thread whose `pt_regs` these are is 32-bit code, which calls by the numbers of another table; else 0.
/// (64-bit code on x86 may do so too, by `int 0x80`; it does not, and would be taken for what it is.)
#[inline(always)]
pub fn mode(registers: Address) -> u32 {
    let state = read::<u16>(registers, HERE.mode.offset);
    if state.is_some_and(|state| state & HERE.mode.mask == HERE.mode.compat) { COMPAT } else { 0 }
}

/// The class of a syscall number; of 32-bit code's, whose buffers are laid out otherwise, only those that matter to all.
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
        EXECVE | EXECVEAT | COMPAT_EXECVE | COMPAT_EXECVEAT => Class::Exec,
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
    let upper = if syscall & COMPAT != 0 { SYSCALLS } else { 0 };
    WAITS[syscall as usize & (SYSCALLS - 1) | upper]
}

/// Which argument of a call that receives into one buffer takes the sender's address.
#[inline(always)]
pub fn source_argument(syscall: u32) -> Option<usize> {
    (syscall == RECVFROM).then_some(4)
}
