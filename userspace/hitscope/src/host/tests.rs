//! Hosts as fixtures, and what `check` says of each.

use std::os::unix::fs::symlink;

use hitscope_collector::{
    kernel::calls::Answer,
    probes::{ProbeState, Refusal},
};

use super::*;

const ALLOWED: Calls = Calls { bpf: Answer::Allowed, perf_event: Answer::Allowed, uprobe: Some(Answer::Allowed) };
const ALL: &str = "CapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\nSeccomp:\t0\n";
/// The capabilities of the unit but CAP_SYS_ADMIN.
const FEW: &str = "CapEff:\t000000c000080004\nCapBnd:\t000000c000080004\nSeccomp:\t0\n";

const CONFIG_PATH: &str = "boot/config-6.1.0-26-amd64";
const CONFIG: &str = "CONFIG_BPF_SYSCALL=y\nCONFIG_BPF_EVENTS=y\nCONFIG_DEBUG_INFO_BTF=y\nCONFIG_FTRACE_SYSCALLS=y\n\
                      CONFIG_PERF_EVENTS=y\nCONFIG_UPROBE_EVENTS=y\n";

/// A host that has everything, but for the files that are given.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        for (path, text) in [
            ("proc/self/status", ALL),
            ("proc/self/uid_map", "         0          0 4294967295\n"),
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("proc/self/limits", "Max locked memory         8388608              8388608              bytes     \n"),
            ("proc/self/mounts", "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"),
            ("proc/sys/kernel/osrelease", "6.1.0-26-amd64\n"),
            ("proc/sys/kernel/perf_event_paranoid", "3\n"),
            (CONFIG_PATH, CONFIG),
            ("sys/kernel/btf/vmlinux", ""),
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ]
        .iter()
        .chain(files)
        {
            fixture.write(path, text);
        }
        fs::create_dir_all(fixture.0.path().join("proc/self/ns")).unwrap();
        symlink(FIRST_PID_NAMESPACE, fixture.0.path().join("proc/self/ns/pid")).unwrap();
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn without(self, path: &str) -> Self {
        fs::remove_file(self.0.path().join(path)).unwrap();
        self
    }

    fn host(&self, calls: Calls) -> Host {
        Host::look(self.0.path(), calls)
    }
}

/// The one fact that is not ok: its name, state, reason and mend in one text.
#[track_caller]
fn only(host: &Host) -> String {
    let facts: Vec<Fact> = facts(host).into_iter().filter(|fact| fact.state != State::Ok).collect();
    let [fact] = &facts[..] else { panic!("{facts:#?}") };
    say(fact)
}

fn say(fact: &Fact) -> String {
    let mend = fact.mend.as_ref().expect("a mend for what is not ok");
    format!("{} {:?}: {} | {mend}", fact.name, fact.state, fact.reason)
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_host_that_has_everything() {
    let host = Fixture::new(&[]).host(ALLOWED);
    let facts = facts(&host);
    assert!(facts.iter().all(|fact| fact.state == State::Ok && fact.mend.is_none()), "{facts:#?}");
    assert_eq!(missing(&host), None);
    let said = facts.iter().find(|fact| fact.name == "file systems").unwrap();
    assert_eq!(said.reason, "tracefs not mounted, bpf at /sys/fs/bpf; neither is needed");
}

#[test]
fn capabilities_by_name_and_purpose() {
    let status = |effective, bounding| format!("CapEff:\t{effective:016x}\nCapBnd:\t{bounding:016x}\n");
    let sudo = Fixture::new(&[("proc/self/status", &status(0xc000000004_u64, u64::MAX))]);
    let text = only(&sudo.host(ALLOWED));
    has(&text, &["Missing: without CAP_SYS_PTRACE (to see what processes have open and mapped) | run it with sudo"]);
    let held_back = Fixture::new(&[("proc/self/status", &status(0xc000000004_u64, 0xc000000004))]);
    let text = only(&held_back.host(ALLOWED));
    has(&text, &["holds CAP_SYS_PTRACE back", "`--cap-add SYS_PTRACE`", "CapabilityBoundingSet="]);
    let nothing = Fixture::new(&[("proc/self/status", &status(0, u64::MAX))]);
    let refused = Calls { bpf: Answer::Refused(libc::EPERM), ..ALLOWED };
    let fact = missing(&nothing.host(refused)).unwrap();
    has(
        &say(&fact),
        &["privileges Missing: without CAP_DAC_READ_SEARCH", "CAP_BPF (to load probes) | run it with sudo"],
    );
    let bpf = facts(&nothing.host(refused)).into_iter().find(|fact| fact.name == "bpf").unwrap();
    has(&say(&bpf), &["cannot be told without CAP_BPF"]);
}

/// As on kernels that know no others, and in containers with `--cap-add SYS_ADMIN`.
#[test]
fn cap_sys_admin_stands_for_two_others() {
    let status = "CapEff:\t0000000000280004\nCapBnd:\t0000000000280004\n";
    let host = Fixture::new(&[("proc/self/status", status)]).host(ALLOWED);
    assert_eq!(facts(&host).iter().find(|fact| fact.state != State::Ok), None);
}

#[test]
fn rootless_containers_are_no_root() {
    let host = Fixture::new(&[("proc/self/uid_map", "0 1000 1\n1 100000 65536\n")]).host(ALLOWED);
    has(&say(&missing(&host).unwrap()), &["user namespace", "not rootless"]);
}

#[test]
fn a_seccomp_filter_is_told_from_what_the_kernel_lacks() {
    let filtered = Fixture::new(&[("proc/self/status", &ALL.replace("Seccomp:\t0", "Seccomp:\t2"))]);
    for errno in [libc::EPERM, libc::ENOSYS] {
        let text = only(&filtered.host(Calls { bpf: Answer::Refused(errno), ..ALLOWED }));
        has(&text, &["bpf Missing: bpf(): a seccomp filter", "seccomp=unconfined", "SystemCallFilter="]);
    }
    let refused = Answer::Refused(libc::EPERM);
    let both = filtered.host(Calls { perf_event: refused, uprobe: Some(refused), ..ALLOWED });
    let facts: Vec<Fact> = facts(&both).into_iter().filter(|fact| fact.state != State::Ok).collect();
    assert_eq!(facts.iter().map(|fact| fact.name.as_str()).collect::<Vec<_>>(), ["perf events", "uprobes"]);
    has(&say(&facts[0]), &["Limited: perf_event_open(): a seccomp filter", "`sched` does not run, nor does `tls`"]);

    let bare = Fixture::new(&[(CONFIG_PATH, "CONFIG_DEBUG_INFO_BTF=y\n")]);
    let text = only(&bare.host(Calls { bpf: Answer::Refused(libc::ENOSYS), ..ALLOWED }));
    has(&text, &["built without CONFIG_BPF_SYSCALL", "CONFIG_BPF_SYSCALL=y"]);
    let text = only(&bare.host(Calls { perf_event: Answer::Refused(libc::ENOSYS), ..ALLOWED }));
    has(&text, &["built without CONFIG_PERF_EVENTS"]);
    let text = only(&bare.host(Calls { bpf: Answer::Refused(libc::EPERM), ..ALLOWED }));
    has(&text, &["SELinux or AppArmor", "audit log"]);
}

#[test]
fn debians_perf_events_and_new_uprobes_ask_for_more() {
    let few = Fixture::new(&[("proc/self/status", FEW)]);
    let refused = Answer::Refused(libc::EACCES);
    let text = only(&few.host(Calls { uprobe: Some(refused), ..ALLOWED }));
    has(&text, &["uprobes Limited: this kernel asks for CAP_SYS_ADMIN", "`--cap-add SYS_ADMIN`", "probes.disabled"]);
    let host = few.host(Calls { perf_event: refused, uprobe: Some(refused), ..ALLOWED });
    let text = say(facts(&host).iter().find(|fact| fact.name == "perf events").unwrap());
    has(&text, &["kernel.perf_event_paranoid is 3", "`sysctl kernel.perf_event_paranoid=2`", "CAP_SYS_ADMIN"]);
    assert_eq!(missing(&host), None);
}

#[test]
fn types_that_are_hidden_are_told_from_types_that_are_not_there() {
    const BTF: &str = "sys/kernel/btf/vmlinux";
    let text = only(&Fixture::new(&[]).without(BTF).host(ALLOWED));
    has(&text, &["btf Missing", "was built with CONFIG_DEBUG_INFO_BTF, but", "-v /sys/kernel/btf"]);
    let text = only(&Fixture::new(&[(CONFIG_PATH, "CONFIG_UPROBE_EVENTS=y\n")]).without(BTF).host(ALLOWED));
    has(&text, &["built without CONFIG_DEBUG_INFO_BTF", "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"]);
    let text = only(&Fixture::new(&[]).without(BTF).without(CONFIG_PATH).host(ALLOWED));
    has(&text, &["or something hides the file"]);
    let bare = Fixture::new(&[("proc/self/mounts", "")]).without(BTF).host(ALLOWED);
    has(&say(&missing(&bare).unwrap()), &["/sys is not mounted", "mount -t sysfs"]);
}

#[test]
fn uprobes_that_are_not_there() {
    let none = Calls { uprobe: None, ..ALLOWED };
    has(&only(&Fixture::new(&[]).host(none)), &["was built with CONFIG_UPROBE_EVENTS, but", "is not to be seen"]);
    let config = (CONFIG_PATH, "CONFIG_DEBUG_INFO_BTF=y\n");
    has(&only(&Fixture::new(&[config]).host(none)), &["built without CONFIG_UPROBE_EVENTS; without it `tls`"]);
    has(&only(&Fixture::new(&[("proc/self/mounts", "")]).host(none)), &["/sys is not mounted"]);
    let unknown = Fixture::new(&[]).without(CONFIG_PATH).host(none);
    has(&only(&unknown), &["or something hides it"]);
}

#[test]
fn lockdown_old_kernels_containers_and_cgroups() {
    let locked = Fixture::new(&[("sys/kernel/security/lockdown", "none integrity [confidentiality]\n")]);
    has(&only(&locked.host(ALLOWED)), &["lockdown Missing", "boot with lockdown=integrity"]);
    let old = Fixture::new(&[("proc/sys/kernel/osrelease", "4.19.0\n"), ("proc/self/limits", "")]);
    has(&only(&old.host(ALLOWED)), &["kernel Limited: 4.19.0 is older than 5.10", "boot a kernel of 5.10 or later"]);
    let container = Fixture::new(&[]).without("proc/self/ns/pid");
    symlink("pid:[4026532180]", container.0.path().join("proc/self/ns/pid")).unwrap();
    has(&only(&container.host(ALLOWED)), &["process ids Missing", "--pid=host", "hostPID: true"]);
    let old_cgroup = Fixture::new(&[("proc/self/cgroup", "2:cpu:/\n1:name=systemd:/system.slice\n0::/\n")]);
    assert!(facts(&old_cgroup.host(ALLOWED)).iter().any(|fact| fact.reason.starts_with("version 1")));
    has(&only(&Fixture::new(&[]).without("proc/self/cgroup").host(ALLOWED)), &["CONFIG_CGROUPS"]);
}

#[test]
fn old_kernels_lock_the_maps_memory() {
    let old = |status: &str| {
        let few = "Max locked memory         65536                65536                bytes     \n";
        let release = ("proc/sys/kernel/osrelease", "5.10.0-30-amd64\n");
        Fixture::new(&[release, ("proc/self/limits", few), ("proc/self/status", status)])
    };
    let text = only(&old(FEW).host(ALLOWED));
    has(&text, &["locked memory Limited", "only 64.0 KiB are allowed", "LimitMEMLOCK=infinity", "ulimit -l"]);
    assert_eq!(facts(&old(ALL).host(ALLOWED)).iter().find(|fact| fact.state != State::Ok), None);
    let refused = kernel("x", "", Some(libc::EPERM), "Operation not permitted");
    has(&say(&probe(&old(FEW).host(ALLOWED), &refused)), &["count the probes' maps as locked memory", "ulimit -l"]);
    // From 5.11 on that limit is nothing to hitscope.
    let new = Fixture::new(&[("proc/self/limits", "Max locked memory  1  1  bytes\n")]);
    assert!(facts(&new.host(ALLOWED)).iter().all(|fact| fact.state == State::Ok));
}

fn state(name: &'static str, refusal: Refusal) -> ProbeState {
    let reason = Some(refusal.to_string());
    ProbeState { name, doc: "", running: false, reason, refusal: Some(refusal), programs: Vec::new() }
}

fn kernel(program: &str, call: &'static str, errno: Option<i32>, text: &str) -> ProbeState {
    state("sched", Refusal::Kernel { program: program.into(), call, errno, text: text.into() })
}

#[test]
fn each_refusal_of_a_probe_has_a_mend_of_its_own() {
    let host = Fixture::new(&[]).host(ALLOWED);
    let of = |state: &ProbeState| say(&probe(&host, state));
    has(&of(&state("tls", Refusal::Disabled)), &["probe tls Limited: turned off", "remove it from probes.disabled"]);
    has(&of(&state("tls", Refusal::Needs("sockets"))), &["see to the probe sockets first"]);
    has(&of(&state("tls", Refusal::Other("odd".into()))), &["odd", "report this line", "6.1.0-26-amd64"]);
    has(
        &of(&kernel("p", "bpf_prog_load", None, "the kernel's verifier refused it: R1 invalid")),
        &["report this line"],
    );
    let helper = "the kernel's verifier refused it: program of this type cannot use helper bpf_probe_read_kernel#113";
    has(&of(&kernel("p", "bpf_prog_load", Some(libc::EINVAL), helper)), &["locked down", "lockdown=integrity"]);
    let no_hook = kernel("sys_enter", "bpf_raw_tracepoint_open", Some(libc::ENOENT), "No such file");
    has(&of(&no_hook), &["no tracepoint for sys_enter", "CONFIG_FTRACE_SYSCALLS=y"]);
    has(&of(&kernel("p", "bpf_map_create", Some(libc::ENOMEM), "out")), &["no memory", "probes.max_*"]);
    has(&of(&kernel("p", "bpf_link_create", Some(libc::EMFILE), "many")), &["LimitNOFILE=65536"]);

    let lacks = |line: &str, call: &'static str| {
        let config = CONFIG.replace(line, "");
        let state =
            kernel("sys_enter", call, Some(if call.contains("raw") { libc::ENOENT } else { libc::EINVAL }), "no");
        say(&probe(&Fixture::new(&[(CONFIG_PATH, &config)]).host(ALLOWED), &state))
    };
    has(
        &lacks("CONFIG_FTRACE_SYSCALLS=y\n", "bpf_raw_tracepoint_open"),
        &["it was built without CONFIG_FTRACE_SYSCALLS"],
    );
    has(&lacks("CONFIG_BPF_EVENTS=y\n", "bpf_prog_load"), &["built without CONFIG_BPF_EVENTS"]);
    let old = Fixture::new(&[("proc/sys/kernel/osrelease", "5.4.0\n")]).host(ALLOWED);
    let text = say(&probe(&old, &kernel("p", "bpf_prog_load", Some(libc::EINVAL), "no")));
    has(&text, &["too old", "5.10 or later"]);
}

#[test]
fn a_refused_event_is_told_by_the_hosts_facts() {
    let few = Fixture::new(&[("proc/self/status", FEW)]);
    let refused = Answer::Refused(libc::EACCES);
    let tick =
        kernel("sched_tick", "perf_event_open", Some(libc::EACCES), "`perf_event_open` failed: Permission denied");
    let host = few.host(Calls { perf_event: refused, uprobe: Some(refused), ..ALLOWED });
    has(
        &say(&probe(&host, &tick)),
        &["probe sched Limited: sched_tick: ", "perf_event_paranoid is 3", "sysctl kernel"],
    );
    let tls = state("tls", Refusal::Other("/usr/lib/libssl.so.3: tls_enter: Permission denied".into()));
    let host = few.host(Calls { uprobe: Some(refused), ..ALLOWED });
    has(&say(&probe(&host, &tls)), &["libssl", "asks for CAP_SYS_ADMIN", "AmbientCapabilities="]);
}
