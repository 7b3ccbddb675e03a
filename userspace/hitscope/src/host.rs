//! What hitscope needs of this host, each with the reason where it is missing and the mend. `check` shows these facts, and `run`
//! refuses to start over one that is missing.

use std::{fs, path::Path};

use serde::Serialize;

use crate::capabilities::Capabilities;

/// Oldest kernel whose interfaces hitscope uses.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Something does not work, the rest does.
    Limited,
    /// `run` does not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub name: String,
    pub state: State,
    /// What was found.
    pub reason: String,
    /// What to do where it is not ok.
    pub mend: Option<String>,
}

impl Fact {
    fn ok(name: &str, reason: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, reason: reason.into(), mend: None }
    }

    fn limited(name: &str, reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Limited, reason: reason.into(), mend: Some(mend.into()) }
    }

    fn missing(name: &str, reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Missing, reason: reason.into(), mend: Some(mend.into()) }
    }
}

/// The facts of the host whose `/proc` and `/sys` are given, the ones that decide first.
pub fn facts(proc: &Path, sys: &Path) -> Vec<Fact> {
    vec![privileges(proc), kernel(proc), btf(sys), lockdown(sys), cgroup(sys), bpffs(proc)]
}

/// Whether this process may load probes and read every process.
pub fn privileges(proc: &Path) -> Fact {
    const NAME: &str = "privileges";
    const MEND: &str =
        "run it with sudo, or give it the capabilities: CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH";
    match Capabilities::effective(proc) {
        Err(error) => Fact::missing(NAME, format!("{}/self/status cannot be read: {error}", proc.display()), MEND),
        Ok(have) => {
            let missing = Capabilities::NEEDED.without(have);
            if missing.is_empty() {
                Fact::ok(NAME, Capabilities::NEEDED.names().join(", "))
            } else {
                Fact::missing(NAME, format!("without {}", missing.names().join(", ")), MEND)
            }
        }
    }
}

fn kernel(proc: &Path) -> Fact {
    const NAME: &str = "kernel";
    let release = fs::read_to_string(proc.join("sys/kernel/osrelease")).unwrap_or_default().trim().to_owned();
    let mut numbers = release.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL => Fact::ok(NAME, release),
        (Some(Ok::<u32, _>(_)), Some(Ok::<u32, _>(_))) => {
            let (major, minor) = OLDEST_KERNEL;
            Fact::limited(
                NAME,
                format!("{release} is older than {major}.{minor}; some probes may not load"),
                "use a newer kernel",
            )
        }
        _ => Fact::limited(NAME, "its release cannot be read", "mount /proc"),
    }
}

/// Whether the kernel describes its types, without which no field can be found.
pub fn btf(sys: &Path) -> Fact {
    const NAME: &str = "btf";
    let path = sys.join("kernel/btf/vmlinux");
    match fs::File::open(&path) {
        Ok(_) => Fact::ok(NAME, path.display().to_string()),
        Err(error) => Fact::missing(
            NAME,
            format!("the kernel's type information {} cannot be read: {error}", path.display()),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions' kernels are)",
        ),
    }
}

fn lockdown(sys: &Path) -> Fact {
    const NAME: &str = "lockdown";
    match fs::read_to_string(sys.join("kernel/security/lockdown")) {
        // The mode in effect is in brackets: none [integrity] confidentiality
        Ok(modes) if modes.contains("[confidentiality]") => Fact::missing(
            NAME,
            "the kernel is locked down (confidentiality): no program may read its memory",
            "boot with lockdown=integrity or none",
        ),
        Ok(modes) => {
            let mode = modes.split(['[', ']']).nth(1).unwrap_or("none").to_owned();
            Fact::ok(NAME, mode)
        }
        Err(_) => Fact::ok(NAME, "none"),
    }
}

fn cgroup(sys: &Path) -> Fact {
    const NAME: &str = "cgroup";
    if sys.join("fs/cgroup/cgroup.controllers").exists() {
        Fact::ok(NAME, "version 2")
    } else {
        Fact::limited(
            NAME,
            "no version 2 hierarchy at /sys/fs/cgroup: services are told apart by command name only, where version 1 does not help",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )
    }
}

fn bpffs(proc: &Path) -> Fact {
    const NAME: &str = "bpf file system";
    let mounts = fs::read_to_string(proc.join("self/mounts")).unwrap_or_default();
    let mounted = mounts.lines().find(|line| line.split(' ').nth(2) == Some("bpf"));
    match mounted.and_then(|line| line.split(' ').nth(1)) {
        Some(place) => Fact::ok(NAME, place),
        None => Fact::ok(NAME, "not mounted, and not needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn states(root: &Path) -> Vec<(String, State)> {
        facts(&root.join("proc"), &root.join("sys")).into_iter().map(|fact| (fact.name, fact.state)).collect()
    }

    #[test]
    fn a_host_that_has_everything() {
        let root = host(&[
            ("proc/self/status", "CapEff:\t000001ffffffffff\n"),
            ("proc/sys/kernel/osrelease", "6.1.0-26-amd64\n"),
            ("proc/self/mounts", "bpf /sys/fs/bpf bpf rw 0 0\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
        ]);
        assert!(states(root.path()).iter().all(|(_, state)| *state == State::Ok), "{:?}", states(root.path()));
    }

    #[test]
    fn what_is_missing_says_so_with_a_mend() {
        let root = host(&[
            ("proc/self/status", "CapEff:\t0000004000080004\n"),
            ("proc/sys/kernel/osrelease", "4.19.0\n"),
            ("sys/kernel/security/lockdown", "none integrity [confidentiality]\n"),
        ]);
        let facts = facts(&root.path().join("proc"), &root.path().join("sys"));
        let by_name = |name: &str| facts.iter().find(|fact| fact.name == name).unwrap();
        assert_eq!(by_name("privileges").reason, "without CAP_BPF");
        assert_eq!(by_name("privileges").state, State::Missing);
        assert_eq!(by_name("kernel").state, State::Limited);
        assert_eq!(by_name("btf").state, State::Missing);
        assert_eq!(by_name("lockdown").state, State::Missing);
        assert!(facts.iter().all(|fact| (fact.state == State::Ok) == fact.mend.is_none()));
    }
}
