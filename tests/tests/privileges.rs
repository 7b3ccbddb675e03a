//! What hitscope may do, while it starts and afterwards: as root, and as a user of its own with the capabilities of the unit.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use hitscope_tests::{
    Daemon, Postgres,
    confined::{NEEDED, STRANGER, UNIT, command, stranger, units_filter},
    host::{binary, python},
    needs_probes, number, skip, wait_until,
};

/// Numbers of the capabilities, linux/capability.h.
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
/// What giving the server its files takes: CHOWN, FOWNER.
const GIVING: u64 = 1 | 1 << 3;
/// That, and what starting and ending the server as another user takes: KILL, SETGID, SETUID, SETPCAP.
const SERVING: u64 = GIVING | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;

/// A line of a `status` file of `/proc`.
fn line(status: &Path, key: &str) -> String {
    let text = fs::read_to_string(status).expect("its status");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of_process(pid: u32, key: &str) -> String {
    line(Path::new(&format!("/proc/{pid}/status")), key)
}

fn set(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("a set of capabilities")
}

/// The permitted capabilities of a process, which every thread of it has.
fn permitted(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten();
    let sets: Vec<u64> = threads.map(|thread| set(&line(&thread.path().join("status"), "CapPrm"))).collect();
    assert!(sets.len() > 3 && sets.iter().all(|set| *set == sets[0]), "{sets:x?}");
    sets[0]
}

#[track_caller]
fn assert_no_capabilities(pid: u32, sets: &[&str]) {
    for name in sets {
        assert_eq!(set(&of_process(pid, name)), 0, "{name}");
    }
    assert_eq!(of_process(pid, "NoNewPrivs"), "1");
}

#[test]
fn as_root_the_server_is_an_ordinary_user_without_capabilities() {
    needs_probes!();
    let mut daemon = Daemon::prepare("");
    // Closed to everybody else, as root's home is: the server gets in all the same.
    let above = daemon.data_dir().parent().expect("a folder").to_owned();
    fs::set_permissions(&above, fs::Permissions::from_mode(0o700)).expect("a closed folder");
    daemon.run();
    let server = daemon.server_pid();
    assert_eq!(of_process(server, "Name"), "hitscope-server");
    for ids in ["Uid", "Gid", "Groups"] {
        let ids = of_process(server, ids);
        assert!(ids.split(' ').all(|id| id != "0"), "{ids}");
    }
    assert_no_capabilities(server, &["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]);
    // The collector has what goes on to be needed, and nothing else.
    let collector = permitted(daemon.pid());
    let most = SERVING | SYS_PTRACE | DAC_READ_SEARCH | SYS_ADMIN | PERFMON | BPF;
    assert_eq!(collector & !most, 0, "{collector:x}");
    assert_eq!(collector & (SYS_PTRACE | DAC_READ_SEARCH | SERVING), SYS_PTRACE | DAC_READ_SEARCH | SERVING);

    // The server reads what the collector writes, through the folder that is closed to it.
    assert_eq!(daemon.get("/api/v1/status").json()["data"], "live");
    let mode = |path: &str| fs::metadata(daemon.data_dir().join(path)).expect("it").permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("status.json"), mode("open")), (0o750, 0o640, 0o750));
    let mut second = Command::new(binary());
    let second = second.args(["run", "--no-serve", "--data-dir"]).arg(daemon.data_dir()).output().expect("it starts");
    let error = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1));
    assert!(error.contains(&format!("another hitscope (pid {})", daemon.pid())), "{error}");
}

/// Statements of others, also encrypted ones by a library that comes later; their processes with all that is told of them.
#[test]
fn a_user_of_its_own_with_the_units_capabilities_sees_everything() {
    needs_probes!();
    let postgres = Postgres::with("ssl = on");
    let mut daemon = Daemon::prepare("").under_as_stranger(&UNIT);
    daemon.run();
    for number in 0..20 {
        postgres.psql(&format!("select {number} as by_unit"));
    }
    let calls = "SELECT side, sum(calls) AS n FROM operations WHERE operation = 'select ? as by_unit' \
                 GROUP BY side ORDER BY side";
    let rows = daemon.settled(calls);
    assert_eq!(rows.iter().map(|row| number(&row["n"])).collect::<Vec<_>>(), [20, 20], "{rows:?}");

    let script = format!(
        "import psycopg, time\nwith psycopg.connect('host=127.0.0.1 port={} user=postgres dbname=postgres \
         sslmode=require') as c:\n while True:\n  c.execute('select 1 as encrypted_later', prepare=False); time.sleep(0.1)",
        postgres.port()
    );
    let mut client = Command::new(python()).args(["-c", &script]).spawn().expect("python starts");
    let later = "SELECT 1 FROM hits WHERE side = 'client' AND encrypted AND operation LIKE '%encrypted_later'";
    wait_until("a library that came later is read", || (!daemon.query(later).is_empty()).then_some(()));
    client.kill().expect("it ends");
    client.wait().expect("its end");

    let row = &daemon.wait_for(
        "SELECT * FROM processes WHERE \"user\" = 'postgres' AND command = 'postgres' AND NOT exited AND \
         open_files IS NOT NULL AND read_bytes IS NOT NULL LIMIT 1",
    )[0];
    assert!(number(&row["open_files"]) > 3, "{row}");

    // The server runs as the same user. It has no capability, and no way to those of the collector.
    let (collector, server) = (daemon.pid(), daemon.server_pid());
    for pid in [collector, server] {
        assert_eq!(of_process(pid, "Uid"), [STRANGER.to_string().as_str(); 4].join(" "));
    }
    assert_no_capabilities(server, &["CapInh", "CapPrm", "CapEff", "CapAmb"]);
    assert_eq!(fs::metadata(daemon.data_dir().join("status.json")).expect("a status").uid(), STRANGER);
    let workload = Path::new(env!("CARGO_BIN_EXE_workload"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder open to all");
    let copy = folder.path().join("workload");
    fs::copy(workload, &copy).expect("a program for all");
    let attach =
        |pid: u32| command(&stranger(&[]), &copy).args(["attach", &pid.to_string()]).status().expect("it starts");
    assert_eq!(attach(collector).code(), Some(libc::EPERM));
    let mut other = command(&stranger(&[]), "sleep").arg("600").spawn().expect("sleep starts");
    wait_until("it is the other user's", || (of_process(other.id(), "Name") == "sleep").then_some(()));
    // Nothing else keeps this user from its own processes, here.
    assert_eq!(attach(other.id()).code(), Some(0));
    other.kill().expect("it ends");
    other.wait().expect("its end");
    for file in ["mem", "environ", "maps"] {
        let mut read = command(&stranger(&[]), "head");
        let read = read.args(["-c", "1", &format!("/proc/{collector}/{file}")]).stdout(Stdio::null()).output();
        assert!(!read.expect("head starts").status.success(), "{file}");
    }
    assert!(daemon.stop().expect("it ends in time").success());
}

/// Once the probes are loaded, what the kernel asks of who goes on is kept, and no more.
#[test]
fn what_is_not_needed_on_is_given_up() {
    needs_probes!();
    let mut daemon = Daemon::prepare("[probes]\ndisabled = [\"tls\"]").under_as_stranger(&UNIT);
    daemon.run();
    let kept = permitted(daemon.pid());
    // BPF only where the kernel closes bpf() to others as a whole, which ended with Linux 5.19.
    assert_eq!(kept & !BPF, SYS_PTRACE | DAC_READ_SEARCH, "{kept:x}");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) >= (Some(5), Some(19)) {
        assert_eq!(kept & BPF, 0, "{kept:x}");
    }
    // It goes on to write to the maps, and to walk over connections.
    daemon.settle();
    let status = daemon.status().expect("a status");
    assert_eq!(status["lost"].get("connection_walks_failed"), None, "{status}");
}

#[test]
fn without_server_nothing_is_kept_for_it() {
    needs_probes!();
    let mut daemon = Daemon::prepare("").with_arguments(&["--no-serve"]);
    daemon.run();
    let kept = permitted(daemon.pid());
    assert_eq!(kept & SERVING, GIVING, "{kept:x}");
}

#[test]
fn without_cap_sys_admin_all_but_uprobes_run() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::prepare("").under_as_stranger(&NEEDED);
    let off = daemon.run_with_what_works();
    assert!(off.iter().all(|(name, _)| name == "tls"), "{off:?}");
    if !off.is_empty() {
        assert!(daemon.log().contains("unit holds CAP_SYS_ADMIN back"), "{}", daemon.log());
    }
    postgres.psql("select 1 as by_few");
    let rows = daemon.settled("SELECT sum(calls) AS n FROM operations WHERE operation = 'select ? as by_few'");
    assert_eq!(number(&rows[0]["n"]), 2);
    assert_eq!(permitted(daemon.pid()) & SYS_ADMIN, 0);
}

/// That each of the two that reading takes is truly needed: without it, what it is for is closed.
#[test]
fn reading_other_processes_takes_both_capabilities() {
    needs_probes!();
    let postgres = Postgres::start();
    let pid = postgres.pid();
    let may = |capabilities: &[&str], program: &str, arguments: &[&str]| {
        let mut command = command(&stranger(capabilities), program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts").success()
    };
    let (files, io, exe) = (format!("/proc/{pid}/fd"), format!("/proc/{pid}/io"), format!("/proc/{pid}/exe"));
    for (program, arguments) in [("ls", [files.as_str()]), ("cat", [&io])] {
        assert!(may(&["sys_ptrace", "dac_read_search"], program, &arguments), "{arguments:?}");
        assert!(!may(&["sys_ptrace"], program, &arguments), "{arguments:?}");
    }
    assert!(may(&["sys_ptrace", "dac_read_search"], "readlink", &[&exe]));
    assert!(!may(&["dac_read_search"], "readlink", &[&exe]));
    assert!(!may(&["dac_read_search"], "cat", &[&io]));
}

#[test]
fn within_what_systemd_makes_of_the_unit_it_works() {
    needs_probes!();
    let Some(filter) = units_filter() else { skip!("there is no systemd-analyze") };
    let postgres = Postgres::start();
    let prepared = || Daemon::prepare("").under_as_stranger(&UNIT);
    for (mut daemon, seccomp) in [(prepared().with_units_mounts(), "0"), (prepared().under_filter(filter), "2")] {
        daemon.run();
        postgres.psql("select 1 as within_unit");
        let rows = daemon.settled("SELECT sum(calls) AS n FROM operations WHERE operation = 'select ? as within_unit'");
        assert_eq!(number(&rows[0]["n"]), 2);
        assert_eq!(of_process(daemon.pid(), "Seccomp"), seccomp);
        assert_eq!(daemon.get("/api/v1/status").json()["data"], "live");
        assert!(daemon.stop().expect("it ends in time").success());
    }
}
