//! From facts to what they mean for the user: whether it works, why not, and what to do. Pure.

use hitscope_collector::{
    kernel::calls::Answer,
    probes::{Error, ProbeState, Refusal},
};

use super::{Fact, Host, Privileges};
use crate::capabilities::Capabilities;

/// Oldest kernel whose interfaces hitscope uses.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// From here on maps and programs are charged to the cgroup, no longer to the limit of locked memory.
const UNLIMITED_MEMORY: (u32, u32) = (5, 11);
/// The maps of the default settings take about this, bytes.
const MEMORY: u64 = 128 << 20;

const SECCOMP: &str = "a seccomp filter, as containers have one, refuses it";
const ALLOW_CALLS: &str = "allow bpf and perf_event_open in the filter: `--security-opt seccomp=unconfined` or a profile of \
                           your own (Docker, Podman), `seccompProfile: {type: Unconfined}` (Kubernetes), \
                           `SystemCallFilter=bpf perf_event_open` (systemd)";

/// What the host's facts mean, the ones that decide first.
pub fn facts(host: &Host) -> Vec<Fact> {
    let mut facts = vec![
        privileges(host),
        kernel(host),
        btf(host),
        bpf(host),
        perf_events(host),
        uprobes(host),
        lockdown(host),
        process_ids(host),
        cgroup(host),
        file_systems(host),
    ];
    facts.extend(locked_memory(host));
    facts
}

/// The first thing without which nothing can be traced.
pub fn missing(host: &Host) -> Option<Fact> {
    facts(host).into_iter().find(|fact| fact.state == super::State::Missing)
}

fn privileges(host: &Host) -> Fact {
    const NAME: &str = "privileges";
    let have = match &host.privileges {
        Err(error) => {
            return Fact::missing(NAME, format!("/proc/self/status cannot be read: {error}"), "mount /proc");
        }
        Ok(have) => have,
    };
    if have.user_namespace {
        return Fact::missing(
            NAME,
            "the capabilities count only inside a user namespace, such as that of a rootless container",
            "start it outside of it: on the host itself, or in a container that is not rootless",
        );
    }
    let lacking = Capabilities::NEEDED.without(have.effective.and_implied());
    if lacking.is_empty() {
        return Fact::ok(NAME, Capabilities::NEEDED.names().join(", "));
    }
    let reason = lacking.names_and_purposes().join(", ");
    Fact::missing(NAME, format!("without {reason}"), get(have, lacking))
}

/// How to get capabilities.
fn get(have: &Privileges, lacking: Capabilities) -> String {
    let held_back = lacking.without(have.bounding);
    if held_back.is_empty() {
        return format!(
            "run it with sudo, or by a systemd unit with AmbientCapabilities={}",
            lacking.names().join(" ")
        );
    }
    let add: Vec<String> =
        held_back.names().iter().map(|name| format!("--cap-add {}", name.trim_start_matches("CAP_"))).collect();
    format!(
        "sudo does not help, for the container or unit holds {} back: `{}` (Docker, Podman), \
         `securityContext.capabilities.add` (Kubernetes), CapabilityBoundingSet= and AmbientCapabilities= (systemd)",
        held_back.names().join(", "),
        add.join(" ")
    )
}

fn kernel(host: &Host) -> Fact {
    const NAME: &str = "kernel";
    match host.at_least(OLDEST_KERNEL) {
        Some(true) => Fact::ok(NAME, &host.release),
        Some(false) => {
            let (major, minor) = OLDEST_KERNEL;
            Fact::limited(
                NAME,
                format!("{} is older than {major}.{minor}; some probes may not load", host.release),
                format!("boot a kernel of {major}.{minor} or later"),
            )
        }
        None => Fact::limited(NAME, "its release cannot be read in /proc/sys/kernel/osrelease", "mount /proc"),
    }
}

/// Whether the kernel describes its types, without which no field can be found.
fn btf(host: &Host) -> Fact {
    const NAME: &str = "btf";
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    const OPTION: &str = "CONFIG_DEBUG_INFO_BTF";
    const KERNELS: &str = "as those of Debian 11, Ubuntu 20.10, Fedora 31, RHEL 8.2 and later are";
    let Some(error) = host.btf else { return Fact::ok(NAME, PATH) };
    let hidden =
        "let hitscope see it: `-v /sys/kernel/btf:/sys/kernel/btf:ro` (Docker, Podman), or unmount what lies over it";
    let built = format!("boot a kernel built with {OPTION}=y, {KERNELS}");
    match (error, host.config.has(OPTION)) {
        (std::io::ErrorKind::NotFound, _) if !host.sysfs => {
            Fact::missing(NAME, format!("no {PATH}, for /sys is not mounted"), "mount -t sysfs sysfs /sys")
        }
        (std::io::ErrorKind::NotFound, Some(false)) => {
            Fact::missing(NAME, format!("the kernel does not describe its types: it was built without {OPTION}"), built)
        }
        (std::io::ErrorKind::NotFound, Some(true)) => Fact::missing(
            NAME,
            format!("the kernel was built with {OPTION}, but {PATH} is not to be seen here: something hides it"),
            hidden,
        ),
        (std::io::ErrorKind::NotFound, None) => Fact::missing(
            NAME,
            format!("no {PATH}: the kernel was built without {OPTION}, or something hides the file"),
            format!("{built}; or {hidden}"),
        ),
        (error, _) => Fact::missing(NAME, format!("{PATH} cannot be read: {error}"), hidden),
    }
}

/// Why a call is refused to who has the capabilities for it, and what to do.
fn refused(host: &Host, call: &str, errno: i32, option: &str) -> (String, String) {
    let built = || format!("boot a kernel built with {option}=y");
    match (errno, host.config.has(option)) {
        (libc::ENOSYS | libc::EOPNOTSUPP, Some(false)) => {
            (format!("no {call}: the kernel was built without {option}"), built())
        }
        (libc::ENOSYS | libc::EOPNOTSUPP, None) if !host.seccomp => {
            (format!("no {call}: it seems the kernel was built without {option}"), built())
        }
        _ if host.seccomp => (format!("{call}: {SECCOMP} ({})", describe(errno)), ALLOW_CALLS.into()),
        _ => (
            format!(
                "{call} is refused ({}), though the capabilities are there: it seems by SELinux or AppArmor",
                describe(errno)
            ),
            "find the denial in the audit log (`journalctl -k --grep denied`) and allow it for hitscope".into(),
        ),
    }
}

fn describe(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".into(),
        libc::EACCES => "EACCES".into(),
        libc::ENOSYS => "ENOSYS".into(),
        libc::EOPNOTSUPP => "EOPNOTSUPP".into(),
        other => std::io::Error::from_raw_os_error(other).to_string(),
    }
}

/// What cannot be told before the capability is there.
fn unknown(name: &str, capability: Capabilities) -> Fact {
    let capability = capability.names().join(", ");
    Fact::limited(name, format!("cannot be told without {capability}"), "see to the privileges first, then check again")
}

impl Host {
    fn may(&self, capability: Capabilities) -> bool {
        self.privileges.as_ref().is_ok_and(|it| it.effective.and_implied().has(capability) && !it.user_namespace)
    }
}

fn bpf(host: &Host) -> Fact {
    const NAME: &str = "bpf";
    match host.calls.bpf {
        _ if !host.may(Capabilities::BPF) => unknown(NAME, Capabilities::BPF),
        Answer::Allowed => Fact::ok(NAME, "bpf() may be called"),
        Answer::Refused(errno) => {
            let (reason, mend) = refused(host, "bpf()", errno, "CONFIG_BPF_SYSCALL");
            Fact::missing(NAME, reason, mend)
        }
    }
}

fn perf_events(host: &Host) -> Fact {
    const NAME: &str = "perf events";
    match (host.calls.perf_event, host.perf_event_paranoid) {
        _ if !host.may(Capabilities::PERFMON) => unknown(NAME, Capabilities::PERFMON),
        (Answer::Allowed, _) => Fact::ok(NAME, "perf_event_open() may be called"),
        // Debian and Ubuntu patch their kernels so, some of them without regard for CAP_PERFMON.
        (Answer::Refused(libc::EACCES), Some(level @ 3..)) if !host.may(Capabilities::SYS_ADMIN) => Fact::limited(
            NAME,
            format!(
                "this kernel asks for CAP_SYS_ADMIN, because kernel.perf_event_paranoid is {level}; without it `sched` does not run, nor does `tls` before Linux 6.6"
            ),
            "`sysctl kernel.perf_event_paranoid=2`, or give it CAP_SYS_ADMIN",
        ),
        (Answer::Refused(errno), _) => {
            let (reason, mend) = refused(host, "perf_event_open()", errno, "CONFIG_PERF_EVENTS");
            Fact::limited(
                NAME,
                format!("{reason}; without it `sched` does not run, nor does `tls` before Linux 6.6"),
                mend,
            )
        }
    }
}

fn uprobes(host: &Host) -> Fact {
    const NAME: &str = "uprobes";
    const OPTION: &str = "CONFIG_UPROBE_EVENTS";
    const PATH: &str = "/sys/bus/event_source/devices/uprobe";
    const WITHOUT: &str = "without it `tls` does not run";
    let hidden = format!("let hitscope see {PATH}: unmount what lies over it, or give the container the host's /sys");
    match (host.calls.uprobe, host.config.has(OPTION)) {
        (None, _) if !host.sysfs => {
            Fact::limited(NAME, format!("no {PATH}, for /sys is not mounted; {WITHOUT}"), "mount -t sysfs sysfs /sys")
        }
        (None, Some(false)) => Fact::limited(
            NAME,
            format!("the kernel was built without {OPTION}; {WITHOUT}"),
            format!("boot a kernel built with {OPTION}=y"),
        ),
        (None, Some(true)) => Fact::limited(
            NAME,
            format!("the kernel was built with {OPTION}, but {PATH} is not to be seen here; {WITHOUT}"),
            hidden,
        ),
        (None, None) => Fact::limited(
            NAME,
            format!("no {PATH}: the kernel was built without {OPTION}, or something hides it; {WITHOUT}"),
            format!("boot a kernel built with {OPTION}=y; or {hidden}"),
        ),
        (Some(Answer::Allowed), _) => Fact::ok(NAME, "they may be attached"),
        _ if !host.may(Capabilities::PERFMON) => unknown(NAME, Capabilities::PERFMON),
        (Some(Answer::Refused(_)), _) if host.calls.perf_event != Answer::Allowed => Fact::limited(
            NAME,
            format!("they are perf events, which are refused; {WITHOUT}"),
            "see to that first, then check again",
        ),
        (Some(Answer::Refused(libc::EACCES)), _) if !host.may(Capabilities::SYS_ADMIN) => {
            let get = host.privileges.as_ref().map(|have| get(have, Capabilities::SYS_ADMIN)).unwrap_or_default();
            Fact::limited(
                NAME,
                format!("this kernel asks for CAP_SYS_ADMIN of who attaches them (Linux since July 2025); {WITHOUT}"),
                format!("{get}; or name `tls` in probes.disabled"),
            )
        }
        (Some(Answer::Refused(errno)), _) => {
            let (reason, mend) = refused(host, "perf_event_open() for uprobes", errno, OPTION);
            Fact::limited(NAME, format!("{reason}; {WITHOUT}"), mend)
        }
    }
}

const LOCKED_DOWN: &str = "the kernel is locked down (confidentiality): no program may read its memory";
const UNLOCK: &str =
    "boot with lockdown=integrity or without lockdown, or turn Secure Boot off where it brings the lockdown";

fn lockdown(host: &Host) -> Fact {
    const NAME: &str = "lockdown";
    match host.lockdown.as_deref() {
        Some("confidentiality") => Fact::missing(NAME, LOCKED_DOWN, UNLOCK),
        Some(mode) => Fact::ok(NAME, mode),
        None => Fact::ok(NAME, "none to be seen"),
    }
}

fn process_ids(host: &Host) -> Fact {
    const NAME: &str = "process ids";
    if host.own_pids {
        Fact::missing(
            NAME,
            "those of a container: the kernel tells of processes by other ids, and /proc shows few of them",
            "give it the host's: `--pid=host` (Docker, Podman), `hostPID: true` (Kubernetes)",
        )
    } else {
        Fact::ok(NAME, "the host's own")
    }
}

fn cgroup(host: &Host) -> Fact {
    const NAME: &str = "cgroup";
    let old = host.cgroup.lines().any(|line| !line.starts_with("0::"));
    match (host.cgroup.is_empty(), old) {
        (true, _) => Fact::limited(
            NAME,
            "processes have none: services are told apart by command name only",
            "boot a kernel built with CONFIG_CGROUPS=y",
        ),
        (false, true) => Fact::ok(NAME, "version 1; services are told apart by it as well"),
        (false, false) => Fact::ok(NAME, "version 2"),
    }
}

fn file_systems(host: &Host) -> Fact {
    let at = |name: &str, place: &Option<String>| match place {
        Some(place) => format!("{name} at {place}"),
        None => format!("{name} not mounted"),
    };
    let reason = format!("{}, {}; neither is needed", at("tracefs", &host.tracefs), at("bpf", &host.bpffs));
    Fact::ok("file systems", reason)
}

/// Only where the kernel charges maps to it.
fn locked_memory(host: &Host) -> Option<Fact> {
    const NAME: &str = "locked memory";
    if host.at_least(UNLIMITED_MEMORY) != Some(false) {
        return None;
    }
    Some(match host.locked_memory {
        None => Fact::ok(NAME, "not limited"),
        Some(bytes) if host.may(Capabilities::SYS_RESOURCE) => {
            Fact::ok(NAME, format!("limited to {}; hitscope raises that", hitscope_cli::print::bytes(bytes)))
        }
        Some(bytes) if bytes >= MEMORY => Fact::ok(NAME, format!("limited to {}", hitscope_cli::print::bytes(bytes))),
        Some(bytes) => Fact::limited(NAME, little_memory(bytes), MORE_MEMORY),
    })
}

const MORE_MEMORY: &str =
    "`ulimit -l unlimited` before it, LimitMEMLOCK=infinity in the unit, or `--ulimit memlock=-1` (Docker, Podman)";

fn little_memory(bytes: u64) -> String {
    format!(
        "kernels before 5.11 count the probes' maps as locked memory, and only {} are allowed",
        hitscope_cli::print::bytes(bytes)
    )
}

/// Why no probe could be loaded at all, where the facts looked well.
pub fn not_loaded(host: &Host, error: &Error) -> Fact {
    let (reason, mend) = kernel_error(host, error.errno(), &error.to_string());
    Fact::missing("probes", reason, mend)
}

/// A probe's state, and what to do where it does not run.
pub fn probe(host: &Host, state: &ProbeState) -> Fact {
    let name = format!("probe {}", state.name);
    let Some(refusal) = &state.refusal else { return Fact::ok(&name, state.doc) };
    let text = refusal.to_string();
    let (reason, mend) = match refusal {
        Refusal::Disabled => (text, "remove it from probes.disabled in the configuration".into()),
        Refusal::Needs(other) => (text, format!("see to the probe {other} first")),
        Refusal::Kernel { call: "perf_event_open", .. } => of_event(host, state.name, &text),
        // The TLS libraries are attached to by uprobes.
        Refusal::Other(_) if state.name == "tls" => of_event(host, state.name, &text),
        Refusal::Kernel { program, call: "bpf_raw_tracepoint_open", errno: Some(libc::ENOENT), .. } => {
            no_tracepoint(host, program)
        }
        Refusal::Kernel { errno, .. } => kernel_error(host, *errno, &text),
        Refusal::Other(_) => (text, report(host)),
    };
    Fact::limited(&name, reason, mend)
}

/// Why an event of the kernel's performance counters was refused: the facts know.
fn of_event(host: &Host, probe: &str, text: &str) -> (String, String) {
    let facts = if probe == "tls" { vec![perf_events(host), uprobes(host)] } else { vec![perf_events(host)] };
    match facts.into_iter().find_map(|fact| fact.mend.map(|mend| (fact.reason, mend))) {
        Some((reason, mend)) => (format!("{text}: {reason}"), mend),
        None => (text.to_owned(), report(host)),
    }
}

fn no_tracepoint(host: &Host, program: &str) -> (String, String) {
    let option = if program.starts_with("sys_") { "CONFIG_FTRACE_SYSCALLS" } else { "CONFIG_TRACEPOINTS" };
    let told = match host.config.has(option) {
        Some(false) => format!("it was built without {option}"),
        _ => format!("it seems it was built without {option}, or is too old"),
    };
    (format!("the kernel has no tracepoint for {program}: {told}"), format!("boot a kernel built with {option}=y"))
}

/// What an error of `bpf()` means, beside what the facts have shown.
fn kernel_error(host: &Host, errno: Option<i32>, text: &str) -> (String, String) {
    let say = |reason: &str| format!("{text}: {reason}");
    match errno {
        _ if text.contains("verifier refused") && text.contains("probe_read") => (say(LOCKED_DOWN), UNLOCK.into()),
        _ if text.contains("verifier refused") => (text.to_owned(), report(host)),
        Some(libc::EPERM | libc::EACCES) => match host.locked_memory {
            Some(bytes) if host.at_least(UNLIMITED_MEMORY) == Some(false) && bytes < MEMORY => {
                (say(&little_memory(bytes)), MORE_MEMORY.into())
            }
            _ => {
                let errno = errno.unwrap_or_default();
                let (reason, mend) = refused(host, "bpf()", errno, "CONFIG_BPF_SYSCALL");
                (say(&reason), mend)
            }
        },
        Some(libc::ENOMEM | libc::ENOSPC | libc::E2BIG) => (
            say("the kernel has no memory for it"),
            "make the probes' maps smaller: probes.max_* and probes.ring_buffer_bytes in the configuration".into(),
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            say("too many open files"),
            "raise the limit: `ulimit -n 65536` before it, or LimitNOFILE=65536 in the unit".into(),
        ),
        Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP) if host.config.has("CONFIG_BPF_EVENTS") == Some(false) => {
            (
                say("the kernel was built without CONFIG_BPF_EVENTS"),
                "boot a kernel built with CONFIG_BPF_EVENTS=y".into(),
            )
        }
        Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP) if host.at_least(OLDEST_KERNEL) == Some(false) => {
            let (major, minor) = OLDEST_KERNEL;
            (say("the kernel is too old for it"), format!("boot a kernel of {major}.{minor} or later"))
        }
        _ => (text.to_owned(), report(host)),
    }
}

/// For what should not be.
fn report(host: &Host) -> String {
    format!(
        "hitscope does not know this case: report this line to the project, with the kernel's release {}; the other probes \
         run without it",
        host.release
    )
}
