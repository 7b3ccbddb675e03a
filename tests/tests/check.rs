//! `hitscope check` under conditions that are really made: it names the cause and what to do, and changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::Command,
};

use aya::programs::loaded_programs;
use hitscope_tests::{
    Daemon, Postgres,
    confined::{Checked, NEEDED, STRANGER, UNIT, binary_for_all, command, filter, stranger, with_mounts},
    host::binary,
    needs_probes, number, skip, wait_until,
};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SeccompCmpOp::MaskedEq, SeccompCondition, SeccompRule,
};

const PROBES: [&str; 5] = ["probe syscalls", "probe sched", "probe sockets", "probe connections", "probe tls"];

/// What is wanting on this host as it is, such as a version 1 cgroup.
fn wanting_anyway() -> Vec<String> {
    Checked::by(&mut Command::new(binary())).wanting().into_iter().map(str::to_owned).collect()
}

#[track_caller]
fn assert_wanting(checked: &Checked, expected: &[&str]) {
    let anyway = wanting_anyway();
    let wanting: Vec<&str> = checked.wanting().into_iter().filter(|name| !anyway.iter().any(|it| it == name)).collect();
    assert_eq!(wanting, expected, "{checked:#?}");
}

/// From Linux 6.6 on, uprobes are attached without the kernel's performance events.
fn attaches_by_links(checked: &Checked) -> bool {
    checked.say("uprobes").starts_with("ok: ")
}

#[test]
fn as_root_every_probe_attaches() {
    needs_probes!();
    let checked = Checked::by(&mut Command::new(binary()));
    assert_eq!(checked.code, Some(0));
    for probe in PROBES {
        checked.assert_says(probe, &["ok: "]);
    }
}

#[test]
fn a_user_without_capabilities_is_told_which_to_get() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = binary_for_all(folder.path());
    let nowhere = folder.path().join("never-made");
    let checked = Checked::by(Command::new(&program).uid(STRANGER).gid(STRANGER));
    assert_eq!(checked.code, Some(1));
    checked.assert_says("privileges", &["missing: without CAP_", "CAP_BPF", "CAP_PERFMON", "mend: run it with sudo"]);
    let words = Command::new(&program).arg("check").uid(STRANGER).gid(STRANGER).output().expect("hitscope starts");
    let words = String::from_utf8_lossy(&words.stdout);
    assert!(words.contains("mend: run it with sudo") && words.contains("does not work here"), "{words}");
    for arguments in [&["run", "--data-dir"][..], &["record"]] {
        let mut command = Command::new(&program);
        let output =
            command.args(arguments).arg(&nowhere).uid(STRANGER).gid(STRANGER).output().expect("hitscope starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        for part in ["error: cannot trace this host: without ", "CAP_BPF", "CAP_PERFMON", "help: run it with sudo"] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        assert_eq!(error.lines().count(), 2, "{error}");
    }
    assert!(!nowhere.exists());
}

#[test]
fn each_capability_that_is_held_back_is_named() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = binary_for_all(folder.path());
    for (missing, purpose) in NEEDED.iter().zip(["load", "attach", "have open", "other users'"]) {
        let rest: Vec<&str> = NEEDED.into_iter().filter(|name| name != missing).collect();
        let checked = Checked::by(&mut command(&stranger(&rest), &program));
        let name = format!("CAP_{}", missing.to_uppercase());
        assert_eq!(checked.code, Some(1), "{checked:#?}");
        checked.assert_says(
            "privileges",
            &[
                &format!("missing: without {name} (to "),
                purpose,
                &format!("holds {name} back"),
                &format!("`--cap-add {}`", missing.to_uppercase()),
            ],
        );
        checked.assert_says("probe sched", &["not tried"]);
        let output = command(&stranger(&rest), &program).args(["run", "--no-serve"]).output().expect("hitscope starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(&format!("without {name} (")), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn what_the_unit_gives_is_enough_and_uprobes_say_what_they_lack() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = binary_for_all(folder.path());
    let checked = Checked::by(&mut command(&stranger(&UNIT), &program));
    assert_eq!(checked.code, Some(0));
    assert_wanting(&checked, &[]);

    let checked = Checked::by(&mut command(&stranger(&NEEDED), &program));
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    for probe in &PROBES[..4] {
        checked.assert_says(probe, &["ok: "]);
    }
    // Kernels differ in what they ask for.
    let tls = checked.say("probe tls");
    assert!(tls.starts_with("ok: ") || tls.contains("unit holds CAP_SYS_ADMIN back"), "{tls}");
    assert_eq!(tls.starts_with("ok: "), checked.say("uprobes").starts_with("ok: "), "{checked:#?}");
}

#[test]
fn a_seccomp_filter_is_the_cause() {
    needs_probes!();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let filtered = |call| {
            let mut command = Command::new(binary());
            filter(&mut command, [(call, Vec::new())].into(), SeccompAction::Errno(errno.cast_unsigned()));
            Checked::by(&mut command)
        };
        let checked = filtered(libc::SYS_bpf);
        assert_eq!(checked.code, Some(1));
        checked.assert_says("bpf", &["missing: bpf(): a seccomp filter", "seccomp=unconfined", "SystemCallFilter="]);
        checked.assert_says("probe sockets", &["not tried"]);

        let checked = filtered(libc::SYS_perf_event_open);
        assert_eq!(checked.code, Some(0), "{checked:#?}");
        checked.assert_says("perf events", &["limited: perf_event_open(): a seccomp filter"]);
        let wanting: &[&str] = if attaches_by_links(&checked) {
            &["perf events", "probe sched"]
        } else {
            &["perf events", "uprobes", "probe sched", "probe tls"]
        };
        for probe in wanting.iter().filter(|name| name.starts_with("probe ")) {
            checked.assert_says(probe, &["limited: ", "a seccomp filter", "seccomp=unconfined"]);
        }
        assert_wanting(&checked, wanting);
    }
    // `run` says the same before it does anything.
    let mut run = Command::new(binary());
    run.args(["run", "--no-serve", "--data-dir", "/tmp/hitscope-never-made"]);
    filter(&mut run, [(libc::SYS_bpf, Vec::new())].into(), SeccompAction::Errno(libc::EPERM.cast_unsigned()));
    let output = run.output().expect("hitscope starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("a seccomp filter") && error.contains("help: allow bpf and perf_event_open"), "{error}");
}

/// No file system of the kernel's tracing is mounted; there is nothing where they would be.
const NO_TRACEFS: &str = "for place in /sys/kernel/debug /sys/kernel/tracing /sys/fs/bpf; do
    while mountpoint -q $place; do umount -l $place; done
    [ ! -d $place ] || mount -t tmpfs none $place
done";

#[test]
fn neither_tracefs_nor_bpffs_is_needed() {
    needs_probes!();
    let checked = Checked::by(&mut command(&with_mounts(NO_TRACEFS), binary()));
    assert_eq!(checked.code, Some(0));
    checked.assert_says("file systems", &["ok: tracefs not mounted, bpf not mounted; neither is needed"]);
    assert_wanting(&checked, &[]);

    let postgres = Postgres::start();
    let mut daemon = Daemon::prepare("").under(with_mounts(NO_TRACEFS));
    daemon.run();
    postgres.psql("select 1 as without_tracefs");
    let rows = daemon.settled("SELECT sum(calls) AS n FROM operations WHERE operation = 'select ? as without_tracefs'");
    assert_eq!(number(&rows[0]["n"]), 2);
    assert!(daemon.stop().expect("it ends in time").success());
}

#[test]
fn mounted_tracefs_and_bpffs_are_told() {
    needs_probes!();
    let script = "mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
                  mountpoint -q /sys/fs/bpf || mount -t bpf none /sys/fs/bpf";
    let checked = Checked::by(&mut command(&with_mounts(script), binary()));
    checked.assert_says("file systems", &["tracefs at /sys/kernel/tracing, bpf at /sys/fs/bpf"]);
    assert_wanting(&checked, &[]);
}

#[test]
fn hidden_parts_of_sysfs_are_named() {
    needs_probes!();
    let hidden = |path: &str| Checked::by(&mut command(&with_mounts(&format!("mount -t tmpfs none {path}")), binary()));
    let checked = hidden("/sys/kernel/btf");
    assert_eq!(checked.code, Some(1));
    // Whether the kernel tells its options decides how much can be said.
    checked.assert_says("btf", &["missing: ", "CONFIG_DEBUG_INFO_BTF", "hides", "/sys/kernel/btf:/sys/kernel/btf:ro"]);

    let checked = hidden("/sys/bus/event_source");
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    if attaches_by_links(&checked) {
        assert_wanting(&checked, &[]);
    } else {
        let mend = ["limited: ", "/sys/bus/event_source/devices/uprobe", "unmount what lies over it"];
        checked.assert_says("probe tls", &mend);
        assert_wanting(&checked, &["uprobes", "probe tls"]);
    }

    let checked = Checked::by(&mut command(&with_mounts("umount -l -R /sys"), binary()));
    assert_eq!(checked.code, Some(1));
    checked.assert_says("btf", &["missing: no /sys/kernel/btf/vmlinux, for /sys is not mounted", "mount -t sysfs"]);
}

#[test]
fn namespaces_of_containers_are_told() {
    needs_probes!();
    let start = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let pids = start(&["unshare", "--pid", "--fork", "--mount-proc", "--"]);
    let checked = Checked::by(&mut command(&pids, binary()));
    assert_eq!(checked.code, Some(1));
    checked.assert_says("process ids", &["missing: those of a container", "--pid=host"]);

    let users = start(&["unshare", "--user", "--map-root-user", "--"]);
    let possible = command(&users, "/bin/true").status().expect("unshare starts").success();
    if !possible {
        skip!("this kernel gives no user namespace");
    }
    let checked = Checked::by(&mut command(&users, binary()));
    assert_eq!(checked.code, Some(1));
    checked.assert_says("privileges", &["missing: ", "user namespace", "not rootless"]);
}

/// Where the kernel counts maps as locked memory, hitscope is told to raise the limit; where not, there is nothing to say.
#[test]
fn a_low_limit_of_locked_memory() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = binary_for_all(folder.path());
    let mut start = vec!["prlimit".to_owned(), "--memlock=65536:65536".to_owned()];
    start.extend(stranger(&UNIT));
    let checked = Checked::by(&mut command(&start, &program));
    if checked.wanting().contains(&"locked memory") {
        checked.assert_says("locked memory", &["limited: ", "only 64.0 KiB", "LimitMEMLOCK=infinity"]);
    } else {
        assert_eq!(checked.code, Some(0), "{checked:#?}");
        assert_wanting(&checked, &[]);
    }
}

/// Rules for a call that opens a file with flags in that argument: they apply where it could be written to.
fn writes(flags: u8) -> Vec<SeccompRule> {
    let has = |mask: libc::c_int, value: libc::c_int| {
        let mask = MaskedEq(u64::from(mask.cast_unsigned()));
        let condition =
            SeccompCondition::new(flags, Dword, mask, u64::from(value.cast_unsigned())).expect("a condition");
        SeccompRule::new(vec![condition]).expect("a rule")
    };
    vec![
        has(libc::O_ACCMODE, libc::O_WRONLY),
        has(libc::O_ACCMODE, libc::O_RDWR),
        has(libc::O_CREAT, libc::O_CREAT),
        has(libc::O_TRUNC, libc::O_TRUNC),
    ]
}

/// Calls that change what is mounted, a file, or what a file system holds of the kernel's programs.
fn changes() -> BTreeMap<i64, Vec<SeccompRule>> {
    const BPF_OBJ_PIN: u64 = 6;
    let pin = SeccompCondition::new(0, Dword, Eq, BPF_OBJ_PIN).expect("a condition");
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        [(libc::SYS_openat, writes(2)), (libc::SYS_bpf, vec![SeccompRule::new(vec![pin]).expect("a rule")])].into();
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_open, writes(1))]);
    #[cfg(target_arch = "x86_64")]
    let old = [
        libc::SYS_creat,
        libc::SYS_mkdir,
        libc::SYS_rmdir,
        libc::SYS_unlink,
        libc::SYS_rename,
        libc::SYS_link,
        libc::SYS_symlink,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_mknod,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let old = [];
    let new = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_openat2,
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_fchmodat,
        libc::SYS_fchmod,
        libc::SYS_fchownat,
        libc::SYS_fchown,
        libc::SYS_mknodat,
        libc::SYS_truncate,
        libc::SYS_sethostname,
        libc::SYS_init_module,
        libc::SYS_finit_module,
    ];
    calls.extend(old.into_iter().chain(new).map(|call| (call, Vec::new())));
    calls
}

/// Programs in the kernel that a user has loaded.
fn programs_of(user: u32) -> usize {
    loaded_programs().flatten().filter(|program| program.created_by_uid() == Some(user)).count()
}

#[test]
fn it_changes_nothing_and_leaves_nothing_behind() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = binary_for_all(folder.path());
    // The filter kills what tries.
    let mut touch = Command::new("touch");
    filter(touch.arg(folder.path().join("file")), changes(), SeccompAction::KillProcess);
    assert_eq!(touch.status().expect("touch starts").signal(), Some(libc::SIGSYS));

    let mounts = || fs::read_to_string("/proc/self/mounts").expect("mounts");
    let before = mounts();
    let mut check = command(&stranger(&UNIT), &program);
    filter(&mut check, changes(), SeccompAction::KillProcess);
    let checked = Checked::by(&mut check);
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    assert_wanting(&checked, &[]);
    assert_eq!(mounts(), before);
    // The kernel takes its time, but it takes them away.
    wait_until("no program is left", || (programs_of(STRANGER) == 0).then_some(()));

    // That the count counts, a run shows.
    let mut daemon = Daemon::prepare("").under_as_stranger(&UNIT);
    daemon.run();
    assert!(programs_of(STRANGER) > 10);
    assert!(daemon.stop().expect("it ends in time").success());
    wait_until("no program is left", || (programs_of(STRANGER) == 0).then_some(()));
}
