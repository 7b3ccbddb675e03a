//! The kernel's capabilities: which a process has, and giving them up.

use std::{fs, io, path::Path};

/// A set of capabilities, bit by number as in `linux/capability.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

/// Numbers and names that hitscope has a use for (`include/uapi/linux/capability.h`).
const NAMES: &[(u32, &str)] = &[
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (3, "CAP_FOWNER"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (8, "CAP_SETPCAP"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (24, "CAP_SYS_RESOURCE"),
    (34, "CAP_SYSLOG"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

impl Capabilities {
    pub const NONE: Self = Self(0);
    pub const CHOWN: Self = Self(1 << 0);
    pub const DAC_OVERRIDE: Self = Self(1 << 1);
    pub const DAC_READ_SEARCH: Self = Self(1 << 2);
    pub const FOWNER: Self = Self(1 << 3);
    pub const KILL: Self = Self(1 << 5);
    pub const SETGID: Self = Self(1 << 6);
    pub const SETUID: Self = Self(1 << 7);
    pub const SETPCAP: Self = Self(1 << 8);
    pub const SYS_PTRACE: Self = Self(1 << 19);
    pub const SYS_ADMIN: Self = Self(1 << 21);
    pub const SYS_RESOURCE: Self = Self(1 << 24);
    pub const SYSLOG: Self = Self(1 << 34);
    pub const PERFMON: Self = Self(1 << 38);
    pub const BPF: Self = Self(1 << 39);

    /// What the collector cannot do without: load and attach probes, and read every process's `/proc`.
    pub const NEEDED: Self = Self::BPF.and(Self::PERFMON).and(Self::SYS_PTRACE).and(Self::DAC_READ_SEARCH);

    /// What tracing uses: what it needs, and what helps it on older kernels.
    pub const TRACING: Self = Self::NEEDED.and(Self::SYS_RESOURCE).and(Self::SYSLOG);

    /// What `run` keeps: tracing, and starting and ending the server as another user.
    pub const RUNNING: Self = Self::TRACING
        .and(Self::CHOWN)
        .and(Self::FOWNER)
        .and(Self::KILL)
        .and(Self::SETGID)
        .and(Self::SETUID)
        .and(Self::SETPCAP);

    /// What uprobes need beside, where a probe wants them: Linux 6.16 and its stable siblings ask for this where
    /// `CAP_PERFMON` was enough before (kernel/events/core.c, `perf_uprobe_event_init`).
    pub fn for_uprobes(probes: &hitscope_collector::probes::Settings) -> Self {
        if probes.disabled.contains("tls") { Self::NONE } else { Self::SYS_ADMIN }
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when all of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names; numbers for those without a name here.
    pub fn names(self) -> Vec<String> {
        (0..64)
            .filter(|bit| self.0 >> bit & 1 == 1)
            .map(|bit| match NAMES.iter().find(|(number, _)| *number == bit) {
                Some((_, name)) => (*name).to_owned(),
                None => format!("capability {bit}"),
            })
            .collect()
    }

    /// The effective capabilities of this process.
    ///
    /// # Errors
    /// Where `<proc>/self/status` cannot be read or lacks the line `CapEff`.
    pub fn effective(proc: &Path) -> io::Result<Self> {
        let status = fs::read_to_string(proc.join("self/status"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .map(Self)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no CapEff in /proc/self/status"))
    }

    /// Makes these the effective and permitted capabilities of the calling thread; threads that it starts later get the same.
    /// Asks for nothing that the thread does not have. Safe between fork and exec.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keep_only(self) -> io::Result<()> {
        // struct __user_cap_header_struct and __user_cap_data_struct[2], version 3 (64 bits), capget(2).
        #[repr(C)]
        struct Header {
            version: u32,
            pid: i32,
        }
        #[repr(C)]
        #[derive(Clone, Copy, Default)]
        struct Data {
            effective: u32,
            permitted: u32,
            inheritable: u32,
        }
        const VERSION_3: u32 = 0x2008_0522;
        let mut header = Header { version: VERSION_3, pid: 0 };
        let mut data = [Data::default(); 2];
        // SAFETY: header and data have the kernel's layout and outlive the call.
        if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        for (word, kept) in data.iter_mut().zip([self.0 as u32, (self.0 >> 32) as u32]) {
            word.permitted &= kept;
            word.effective = word.permitted;
            word.inheritable = 0;
        }
        // SAFETY: as above; the kernel only reads both.
        if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Empties the calling thread's bounding and ambient sets, as far as it may: no later exec gets a capability back. Safe
/// between fork and exec.
pub fn drop_bounding_set() {
    // SAFETY: prctl with plain integers. It fails past the last capability, and without CAP_SETPCAP; the set then stays as it
    // was, and no_new_privs keeps it from mattering.
    unsafe {
        let none: libc::c_ulong = 0;
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, none, none, none);
        for capability in 0..64 as libc::c_ulong {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, none, none, none) != 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_from_status_and_named() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        fs::write(proc.path().join("self/status"), "Name:\tx\nCapEff:\t000000c000000004\nCapBnd:\tff\n").unwrap();
        let capabilities = Capabilities::effective(proc.path()).unwrap();
        assert_eq!(capabilities.names(), ["CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(Capabilities::NEEDED.without(capabilities).names(), ["CAP_SYS_PTRACE"]);
        assert!(Capabilities::RUNNING.has(Capabilities::NEEDED) && !capabilities.has(Capabilities::NEEDED));
        assert!(Capabilities::effective(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn given_up_for_good() {
        // On a thread of its own, since the set is the thread's.
        std::thread::spawn(|| {
            Capabilities::NONE.keep_only().unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("CapEff:\t0000000000000000") && status.contains("CapPrm:\t0000000000000000"));
        })
        .join()
        .unwrap();
    }
}
