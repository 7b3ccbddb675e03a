//! What this host is and what it lets hitscope do: the facts. What follows from them, [`causes`] decides; `check` shows that, and
//! `run` refuses to start over something that is missing.

mod causes;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

pub use causes::{facts, missing, not_loaded, probe};
use hitscope_collector::kernel::{calls::Calls, config::BuildConfig};
use serde::Serialize;

use crate::capabilities::Capabilities;

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

/// What was found out about the host and this process in it.
#[derive(Debug)]
pub struct Host {
    /// Of the kernel, such as `6.1.0-26-amd64`.
    release: String,
    config: BuildConfig,
    privileges: io::Result<Privileges>,
    /// Some filter of system calls is on.
    seccomp: bool,
    /// Pids here are not the kernel's own.
    own_pids: bool,
    /// Why the kernel's types cannot be read, if so.
    btf: Option<io::ErrorKind>,
    sysfs: bool,
    /// Of the kernel; `None` where it does not tell.
    lockdown: Option<String>,
    perf_event_paranoid: Option<i32>,
    /// Limit of locked memory, bytes; `None` where there is none.
    locked_memory: Option<u64>,
    /// `/proc/self/cgroup`
    cgroup: String,
    /// Where the file systems are mounted.
    tracefs: Option<String>,
    bpffs: Option<String>,
    calls: Calls,
}

/// What this process may do.
#[derive(Clone, Copy, Debug)]
struct Privileges {
    effective: Capabilities,
    /// What it could get at most.
    bounding: Capabilities,
    /// They only count inside a user namespace.
    user_namespace: bool,
}

/// Link of `/proc/self/ns/pid` where pids are the kernel's own (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

impl Host {
    /// This host.
    pub fn here() -> Self {
        Self::look(Path::new("/"), Calls::ask(Path::new("/sys")))
    }

    /// The host whose `/proc`, `/sys` and `/boot` lie below `root`, with the kernel's answers to the calls.
    fn look(root: &Path, calls: Calls) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default().trim().to_owned();
        let release = text("proc/sys/kernel/osrelease");
        let mounts = text("proc/self/mounts");
        let mount = |kind: &str| {
            let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(kind))?;
            line.split(' ').nth(1).map(str::to_owned)
        };
        let status = text("proc/self/status");
        let lockdown = text("sys/kernel/security/lockdown");
        let pids = fs::read_link(root.join("proc/self/ns/pid"));
        Self {
            config: BuildConfig::read(root, &release),
            release,
            privileges: Self::privileges(&root.join("proc")),
            seccomp: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
            own_pids: pids.is_ok_and(|link| link.as_os_str() != FIRST_PID_NAMESPACE),
            btf: fs::File::open(root.join("sys/kernel/btf/vmlinux")).err().map(|error| error.kind()),
            sysfs: mount("sysfs").is_some(),
            // The mode in effect is in brackets: none [integrity] confidentiality
            lockdown: lockdown.split(['[', ']']).nth(1).map(str::to_owned),
            perf_event_paranoid: text("proc/sys/kernel/perf_event_paranoid").parse().ok(),
            locked_memory: locked_memory(&text("proc/self/limits")),
            cgroup: text("proc/self/cgroup"),
            tracefs: mount("tracefs"),
            bpffs: mount("bpf"),
            calls,
        }
    }

    fn privileges(proc: &Path) -> io::Result<Privileges> {
        let users = fs::read_to_string(proc.join("self/uid_map")).unwrap_or_default();
        let all = ["0", "0", "4294967295"];
        Ok(Privileges {
            effective: Capabilities::effective(proc)?,
            bounding: Capabilities::bounding(proc)?,
            user_namespace: !users.is_empty() && !users.split_whitespace().eq(all),
        })
    }

    /// Whether the kernel is at least of this version; none where its release cannot be read.
    pub fn at_least(&self, version: (u32, u32)) -> Option<bool> {
        let mut numbers = self.release.split(['.', '-']).map(|number| number.parse::<u32>().ok());
        let found = (numbers.next()??, numbers.next()??);
        Some(found >= version)
    }
}

/// The soft limit in `/proc/self/limits`: `Max locked memory  65536  65536  bytes`.
fn locked_memory(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.split_whitespace().next()?.parse().ok()
}
