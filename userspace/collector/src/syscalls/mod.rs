//! Syscalls summed in the kernel become rows.

use std::sync::Arc;

use hashbrown::HashMap;
use hitscope_schemas::{
    syscalls::{COMPAT, SyscallKey, SyscallStats},
    tables::Syscall,
};

/// What the probes hold of each architecture.
#[cfg(test)]
#[path = "../../../../probe-ebpf/src/arch/numbers.rs"]
mod numbers;

/// The name of a number in one table.
type Table = fn(usize) -> Option<&'static str>;

/// The table of an architecture, of the crate `syscalls`.
macro_rules! table {
    ($architecture:ident) => {
        // A name that is a word of Rust has a mark before it.
        |number| syscalls::$architecture::Sysno::new(number).map(|syscall| syscall.name().trim_start_matches("r#"))
    };
}

/// As `table!(aarch64)`, which has one name that is not the kernel's for 64 bits (include/uapi/asm-generic/unistd.h).
fn aarch64(number: usize) -> Option<&'static str> {
    let table: Table = table!(aarch64);
    if number == 79 { Some("newfstatat") } else { table(number) }
}

/// Names of one architecture's syscalls.
pub struct Names {
    known: Table,
    /// Of the 32-bit programs that its kernels run as well.
    compat: Table,
    cached: HashMap<u32, Arc<str>>,
}

impl Names {
    /// `architecture` as [`std::env::consts::ARCH`] names it.
    pub fn new(architecture: &str) -> Self {
        let (known, compat): (Table, Table) = match architecture {
            "x86_64" => (table!(x86_64), table!(x86)),
            "aarch64" => (aarch64, table!(arm)),
            _ => (|_| None, |_| None),
        };
        Self { known, compat, cached: HashMap::new() }
    }

    /// Name of a syscall, or its number where the name is not known. `number` may hold [`COMPAT`]; those of 32-bit
    /// programs have the names of their own table, `mmap2` for instance.
    pub fn get(&mut self, number: u32) -> Arc<str> {
        let (known, compat) = (self.known, self.compat);
        let name = || {
            let (table, prefix) = if number & COMPAT == 0 { (known, "") } else { (compat, "32-bit ") };
            let number = number & !COMPAT;
            table(number as usize).map_or_else(|| format!("{prefix}{number}").into(), Arc::from)
        };
        self.cached.entry(number).or_insert_with(name).clone()
    }
}

/// One process's syscall in a window.
pub fn row(key: &SyscallKey, stats: &SyscallStats, window_start: i64, service: Arc<str>, names: &mut Names) -> Syscall {
    let used = stats.histogram.iter().rposition(|&count| count != 0).map_or(0, |last| last + 1);
    Syscall {
        window_start,
        pid: key.pid,
        service,
        syscall: names.get(u32::from(key.syscall)),
        calls: stats.calls,
        errors: stats.errors,
        total_ns: stats.total_ns,
        max_ns: stats.max_ns,
        histogram: stats.histogram[..used].iter().copied().map(u64::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn names_agree_with_this_architectures_headers() {
        let mut names = Names::new(std::env::consts::ARCH);
        for (number, name) in [
            (libc::SYS_read, "read"),
            (libc::SYS_openat, "openat"),
            (libc::SYS_fstat, "fstat"),
            (libc::SYS_futex, "futex"),
            (libc::SYS_wait4, "wait4"),
            (libc::SYS_recvmmsg, "recvmmsg"),
            (libc::SYS_io_uring_enter, "io_uring_enter"),
            (libc::SYS_mseal, "mseal"),
        ] {
            assert_eq!(&*names.get(number as u32), name);
        }
        assert_eq!(&*names.get(4000), "4000");
        assert_eq!(&*names.get(libc::SYS_newfstatat as u32), "newfstatat");
        assert_eq!(&*Names::new("sparc64").get(3), "3");
    }

    #[test]
    fn code_of_32_bits_has_its_own_names() {
        assert_eq!(&*Names::new("x86_64").get(4), "stat");
        assert_eq!(&*Names::new("x86_64").get(4 | COMPAT), "write");
        assert_eq!(&*Names::new("aarch64").get(4 | COMPAT), "write");
        assert_eq!(&*Names::new("x86_64").get(17 | COMPAT), "break");
        assert_eq!(&*Names::new("x86_64").get(4000 | COMPAT), "32-bit 4000");
    }

    #[test]
    fn the_probes_numbers_are_the_kernels() {
        for (architecture, of) in [("x86_64", &numbers::X86_64), ("aarch64", &numbers::AARCH64)] {
            let mut names = Names::new(architecture);
            for &(name, number) in of.syscalls {
                assert_eq!(&*names.get(number), name, "{architecture}");
            }
            for &(name, number) in of.compat_execs {
                assert_eq!(&*names.get(number | COMPAT), name, "{architecture}");
            }
        }
        // What only x86 has, as the oldest architecture here; all else must be in both.
        let only_x86 = ["poll", "select", "fork", "vfork", "epoll_wait"];
        for (name, _) in numbers::X86_64.syscalls {
            let there = numbers::AARCH64.syscalls.iter().any(|(other, _)| other == name);
            assert_ne!(there, only_x86.contains(name), "{name}");
        }
    }

    #[test]
    fn the_bit_tells_32_bit_code_from_64_bit_code() {
        // `cs` of x86, also of a Xen guest, and `pstate` of arm64.
        for (of, native, compat) in
            [(&numbers::X86_64, 0x33, 0x23), (&numbers::X86_64, 0xe033, 0xe023), (&numbers::AARCH64, 0, 0x10)]
        {
            assert_ne!(native & of.mode.mask, of.mode.compat);
            assert_eq!(compat & of.mode.mask, of.mode.compat);
        }
    }

    /// The offsets of registers in `pt_regs`, which debuggers are given as they stand in the kernel.
    #[test]
    fn registers_lie_where_the_c_library_has_them() {
        #[cfg(target_arch = "x86_64")]
        {
            use std::mem::offset_of;
            let registers = [
                offset_of!(libc::user_regs_struct, rdi),
                offset_of!(libc::user_regs_struct, rsi),
                offset_of!(libc::user_regs_struct, rdx),
                offset_of!(libc::user_regs_struct, r10),
                offset_of!(libc::user_regs_struct, r8),
            ];
            assert_eq!(numbers::X86_64.arguments, registers);
            assert_eq!(numbers::X86_64.number, offset_of!(libc::user_regs_struct, orig_rax));
            assert_eq!(numbers::X86_64.mode.offset as usize, offset_of!(libc::user_regs_struct, cs));
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::mem::offset_of;
            assert_eq!(numbers::AARCH64.arguments[1..], [8, 16, 24, 32]);
            assert_eq!(numbers::AARCH64.mode.offset as usize, offset_of!(libc::user_regs_struct, pstate));
            // The kernel's own fields come right behind what debuggers see.
            assert_eq!(numbers::AARCH64.arguments[0], size_of::<libc::user_regs_struct>());
            assert_eq!(numbers::AARCH64.number, numbers::AARCH64.arguments[0] + 8);
        }
    }

    #[test]
    fn empty_buckets_at_the_end_are_left_off() {
        let mut stats = SyscallStats { calls: 3, errors: 1, total_ns: 900, max_ns: 600, histogram: [0; _] };
        stats.histogram[0] = 2;
        stats.histogram[2] = 1;
        let key = SyscallKey { pid: 7, ..SyscallKey::zeroed() };
        let found = row(&key, &stats, 5, "db".into(), &mut Names::new("x86_64"));
        assert_eq!(found.histogram, [2, 0, 1]);
        assert_eq!((&*found.syscall, found.calls, found.errors), ("read", 3, 1));
    }
}
