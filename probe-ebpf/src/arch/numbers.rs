//! What is a matter of numbers, by architecture. Plain data, so that the collector's tests hold it against the kernel's own
//! tables (`userspace/collector/src/syscalls/mod.rs`).

/// One architecture.
pub struct Architecture {
    /// Byte offset in `pt_regs` of each of a syscall's arguments, as they stand at its exit.
    pub arguments: [usize; 5],
    /// Byte offset in `pt_regs` of the syscall's number, as it stands at its exit.
    pub number: usize,
    /// Where `pt_regs` tells 32-bit code from 64-bit code.
    pub mode: Mode,
    /// Syscalls that the probes know by name.
    pub syscalls: &'static [(&'static str, u32)],
    /// Those with which 32-bit code replaces its program, by the numbers of its own table.
    pub compat_execs: &'static [(&'static str, u32)],
}

/// A bit of the saved state.
pub struct Mode {
    /// Byte offset in `pt_regs` of the 16 bits that hold it.
    pub offset: u32,
    /// The bit.
    pub mask: u16,
    /// What it is in 32-bit code.
    pub compat: u16,
}

/// `di`, `si`, `dx`, `r10`, `r8`; `orig_ax` (arch/x86/include/asm/ptrace.h). In 64-bit code `cs` is 0x33, in 32-bit code 0x23; a
/// Xen guest's are 0xe033 and 0xe023 (arch/x86/include/asm/segment.h).
pub const X86_64: Architecture = Architecture {
    arguments: [112, 104, 96, 56, 72],
    number: 120,
    mode: Mode { offset: 136, mask: 0x10, compat: 0 },
    #[rustfmt::skip]
    syscalls: &[
        ("read", 0), ("write", 1), ("close", 3), ("poll", 7), ("mmap", 9), ("mprotect", 10), ("munmap", 11),
        ("brk", 12), ("readv", 19), ("writev", 20), ("select", 23), ("mremap", 25), ("madvise", 28), ("sendfile", 40),
        ("connect", 42), ("accept", 43), ("sendto", 44), ("recvfrom", 45), ("sendmsg", 46), ("recvmsg", 47),
        ("clone", 56), ("fork", 57), ("vfork", 58), ("execve", 59), ("exit", 60), ("wait4", 61), ("semop", 65),
        ("fcntl", 72), ("flock", 73), ("futex", 202), ("io_getevents", 208), ("semtimedop", 220), ("exit_group", 231),
        ("epoll_wait", 232), ("waitid", 247), ("pselect6", 270), ("ppoll", 271), ("epoll_pwait", 281),
        ("accept4", 288), ("recvmmsg", 299), ("sendmmsg", 307), ("execveat", 322), ("io_pgetevents", 333),
        ("clone3", 435), ("epoll_pwait2", 441), ("futex_waitv", 449), ("futex_wait", 455),
    ],
    compat_execs: &[("execve", 11), ("execveat", 358)],
};

/// `orig_x0`, since `x0` holds the result, then `x1` to `x4`; `syscallno` (arch/arm64/include/asm/ptrace.h); `PSR_MODE32_BIT` of
/// `pstate` (arch/arm64/include/uapi/asm/ptrace.h).
pub const AARCH64: Architecture = Architecture {
    arguments: [272, 8, 16, 24, 32],
    number: 280,
    mode: Mode { offset: 264, mask: 0x10, compat: 0x10 },
    #[rustfmt::skip]
    syscalls: &[
        ("io_getevents", 4), ("epoll_pwait", 22), ("fcntl", 25), ("flock", 32), ("close", 57), ("read", 63),
        ("write", 64), ("readv", 65), ("writev", 66), ("sendfile", 71), ("pselect6", 72), ("ppoll", 73), ("exit", 93),
        ("exit_group", 94), ("waitid", 95), ("futex", 98), ("semtimedop", 192), ("semop", 193), ("accept", 202),
        ("connect", 203), ("sendto", 206), ("recvfrom", 207), ("sendmsg", 211), ("recvmsg", 212), ("brk", 214),
        ("munmap", 215), ("mremap", 216), ("clone", 220), ("execve", 221), ("mmap", 222), ("mprotect", 226),
        ("madvise", 233), ("accept4", 242), ("recvmmsg", 243), ("wait4", 260), ("sendmmsg", 269), ("execveat", 281),
        ("io_pgetevents", 292), ("clone3", 435), ("epoll_pwait2", 441), ("futex_waitv", 449), ("futex_wait", 455),
    ],
    compat_execs: &[("execve", 11), ("execveat", 387)],
};
