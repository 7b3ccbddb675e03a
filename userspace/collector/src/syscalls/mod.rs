//! Syscalls summed in the kernel become rows.

mod names;

use std::sync::Arc;

use hashbrown::HashMap;
use hitscope_schemas::{
    syscalls::{SyscallKey, SyscallStats},
    tables::Syscall,
};

/// Names of one architecture's syscalls.
pub struct Names {
    known: names::Runs,
    cached: HashMap<u32, Arc<str>>,
}

impl Names {
    /// `architecture` as [`std::env::consts::ARCH`] names it.
    pub fn new(architecture: &str) -> Self {
        let known: names::Runs = match architecture {
            "x86_64" => names::X86_64,
            "aarch64" | "riscv64" | "loongarch64" => names::AARCH64,
            _ => &[],
        };
        Self { known, cached: HashMap::new() }
    }

    /// Name of a syscall, or its number where the name is not known.
    pub fn get(&mut self, number: u32) -> Arc<str> {
        let known = self.known;
        let name = || {
            let run = known.iter().rev().find(|(first, _)| *first <= number);
            let name = run.and_then(|(first, names)| names.get((number - first) as usize));
            name.map_or_else(|| number.to_string().into(), |name| Arc::from(*name))
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
            (libc::SYS_futex, "futex"),
            (libc::SYS_recvmmsg, "recvmmsg"),
            (libc::SYS_io_uring_enter, "io_uring_enter"),
            (libc::SYS_mseal, "mseal"),
        ] {
            assert_eq!(&*names.get(number as u32), name);
        }
        assert_eq!(&*names.get(4000), "4000");
        assert_eq!(&*Names::new("aarch64").get(63), "read");
        assert_eq!(&*Names::new("aarch64").get(80), "fstat");
        assert_eq!(&*Names::new("aarch64").get(260), "wait4");
        assert_eq!(&*Names::new("sparc64").get(3), "3");
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
