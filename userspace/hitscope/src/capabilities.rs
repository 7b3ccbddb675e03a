//! The kernel's capabilities: which a process has, and giving them up.

use std::{fs, io, path::Path};

/// A set of capabilities, bit by number as in `linux/capability.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

/// Number, name and hitscope's use of the capabilities that it has a use for (`include/uapi/linux/capability.h`).
const NAMES: &[(u32, &str, &str)] = &[
    (0, "CAP_CHOWN", "to give the server its files"),
    (1, "CAP_DAC_OVERRIDE", "to write to another user's data folder"),
    (2, "CAP_DAC_READ_SEARCH", "to read other users' processes and libraries"),
    (3, "CAP_FOWNER", "to give the server its files"),
    (5, "CAP_KILL", "to end the server"),
    (6, "CAP_SETGID", "to start the server as another user"),
    (7, "CAP_SETUID", "to start the server as another user"),
    (8, "CAP_SETPCAP", "to take every capability from the server"),
    (19, "CAP_SYS_PTRACE", "to see what processes have open and mapped"),
    (21, "CAP_SYS_ADMIN", "to attach uprobes"),
    (24, "CAP_SYS_RESOURCE", "to lock memory for maps on kernels before 5.11"),
    (38, "CAP_PERFMON", "to attach probes that read the kernel's memory"),
    (39, "CAP_BPF", "to load probes"),
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
    pub const PERFMON: Self = Self(1 << 38);
    pub const BPF: Self = Self(1 << 39);

    /// What it takes to read every process's `/proc`, for as long as the collector runs.
    pub const READING: Self = Self::SYS_PTRACE.and(Self::DAC_READ_SEARCH);

    /// What the collector cannot do without.
    pub const NEEDED: Self = Self::BPF.and(Self::PERFMON).and(Self::READING);

    /// All that a collector of its own user, as in `packaging/hitscope.service`, has a use for: what it needs, and what the
    /// kernel asks of who attaches uprobes: Linux 6.16 and the stable releases since July 2025 (kernel/events/core.c,
    /// `perf_uprobe_event_init`), and Debian and Ubuntu for every perf event while `kernel.perf_event_paranoid` is above 2.
    pub const UNIT: Self = Self::NEEDED.and(Self::SYS_ADMIN);

    /// What loading the probes may take.
    pub const LOADING: Self = Self::UNIT.and(Self::SYS_RESOURCE);

    /// What giving another user's server its files takes.
    pub const GIVING: Self = Self::CHOWN.and(Self::FOWNER);

    /// What starting and ending the server as another user takes.
    pub const SERVING: Self = Self::KILL.and(Self::SETGID).and(Self::SETUID).and(Self::SETPCAP);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With those that the kernel takes for granted of who has `CAP_SYS_ADMIN`, which was all there was before Linux 5.8.
    #[must_use]
    pub const fn and_implied(self) -> Self {
        if self.has(Self::SYS_ADMIN) { self.and(Self::BPF).and(Self::PERFMON) } else { self }
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
        self.bits()
            .map(|bit| named(bit).map_or_else(|| format!("capability {bit}"), |(name, _)| name.to_owned()))
            .collect()
    }

    /// Their names, each with what hitscope has it for.
    pub fn names_and_purposes(self) -> Vec<String> {
        self.bits().filter_map(named).map(|(name, purpose)| format!("{name} ({purpose})")).collect()
    }

    fn bits(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |bit| self.0 >> bit & 1 == 1)
    }

    /// The effective capabilities of this process.
    ///
    /// # Errors
    /// Where `<proc>/self/status` cannot be read or lacks the line `CapEff`.
    pub fn effective(proc: &Path) -> io::Result<Self> {
        Self::in_status(proc, "CapEff:")
    }

    /// Those that this process and its children could ever get.
    ///
    /// # Errors
    /// Where `<proc>/self/status` cannot be read or lacks the line `CapBnd`.
    pub fn bounding(proc: &Path) -> io::Result<Self> {
        Self::in_status(proc, "CapBnd:")
    }

    fn in_status(proc: &Path, line: &str) -> io::Result<Self> {
        let status = fs::read_to_string(proc.join("self/status"))?;
        status
            .lines()
            .find_map(|text| text.strip_prefix(line))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .map(Self)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no {line} in /proc/self/status")))
    }

    /// Makes these the effective and permitted capabilities of the calling thread; threads that it starts later get the same.
    /// Asks for nothing that the thread does not have. Safe between fork and exec.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keep_only(self) -> io::Result<()> {
        let mut sets = Sets::get()?;
        for (word, kept) in sets.0.iter_mut().zip(self.words()) {
            word.permitted &= kept;
            word.effective = word.permitted;
            word.inheritable = 0;
        }
        sets.set()
    }

    /// Lays these aside; the calling thread takes them back unless `works` is true without them. Gives those taken back.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unless_it_works(self, works: impl FnOnce() -> bool) -> io::Result<Self> {
        let before = Sets::get()?;
        let mut sets = before;
        for (word, aside) in sets.0.iter_mut().zip(self.words()) {
            word.effective &= !aside;
        }
        sets.set()?;
        if works() {
            return Ok(Self::NONE);
        }
        before.set()?;
        Ok(self)
    }

    fn words(self) -> [u32; 2] {
        [self.0 as u32, (self.0 >> 32) as u32]
    }
}

fn named(bit: u32) -> Option<(&'static str, &'static str)> {
    NAMES.iter().find(|(number, ..)| *number == bit).map(|(_, name, purpose)| (*name, *purpose))
}

/// The calling thread's, as `struct __user_cap_data_struct[2]` of version 3 (64 bits), capget(2).
#[derive(Clone, Copy)]
struct Sets([Words; 2]);

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `struct __user_cap_header_struct`
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

impl Header {
    const CALLING_THREAD: Self = Self { version: 0x2008_0522, pid: 0 };
}

impl Sets {
    fn get() -> io::Result<Self> {
        let (mut header, mut words) = (Header::CALLING_THREAD, [Words::default(); 2]);
        // SAFETY: header and words have the kernel's layout and outlive the call.
        match unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) } {
            0 => Ok(Self(words)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn set(self) -> io::Result<()> {
        let mut header = Header::CALLING_THREAD;
        // SAFETY: as above; the kernel only reads the words.
        match unsafe { libc::syscall(libc::SYS_capset, &raw mut header, self.0.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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
        assert!(Capabilities::LOADING.has(Capabilities::NEEDED) && !capabilities.has(Capabilities::NEEDED));
        assert_eq!(Capabilities::bounding(proc.path()).unwrap(), Capabilities(0xff));
        assert!(Capabilities::effective(Path::new("/nonexistent")).is_err());
    }

    /// The one list of what a collector of its own user gets.
    #[test]
    fn the_unit_gives_what_has_a_use_and_no_more() {
        let unit = include_str!("../../../packaging/hitscope.service");
        for key in ["AmbientCapabilities=", "CapabilityBoundingSet="] {
            let lines: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix(key)).collect();
            let [line] = lines[..] else { panic!("{key} {lines:?}") };
            let mut names: Vec<&str> = line.split(' ').collect();
            names.sort_unstable();
            let mut expected = Capabilities::UNIT.names();
            expected.sort_unstable();
            assert_eq!(names, expected, "{key}");
        }
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

    #[test]
    fn laid_aside_and_taken_back() {
        let effective = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("CapEff")).unwrap().to_owned()
        };
        std::thread::spawn(move || {
            let before = effective();
            assert_eq!(Capabilities::CHOWN.unless_it_works(|| false).unwrap(), Capabilities::CHOWN);
            assert_eq!(effective(), before);
            assert_eq!(Capabilities(u64::MAX).unless_it_works(|| true).unwrap(), Capabilities::NONE);
            assert_eq!(effective(), "CapEff:\t0000000000000000");
        })
        .join()
        .unwrap();
    }
}
