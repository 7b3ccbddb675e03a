//! What processes used, against what the kernel tells their parent.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use hitscope_tests::{
    Daemon, host, needs_probes, number,
    process::{Ended, ended, run_measured, signal},
    skip, wait_until,
};
use serde_json::Value;

const WORKLOAD: &str = env!("CARGO_BIN_EXE_workload");

fn workload(arguments: &[&str]) -> Command {
    let mut command = Command::new(WORKLOAD);
    command.args(arguments);
    command
}

/// The rows at a process's end.
fn exits(daemon: &Daemon, pid: u32) -> Vec<Value> {
    daemon.wait_for(&format!("SELECT * FROM processes WHERE pid = {pid} AND exited ORDER BY start_time"))
}

/// CPU in all rows of a process since it was started by us, ns, and the number of rows.
fn cpu_ns(daemon: &Daemon, pid: u32, start_time: &Value) -> (u64, u64) {
    let rows = daemon.query(
        &format!(
            "SELECT sum(cpu_user_ns + cpu_system_ns) AS cpu_ns, count(*) AS n FROM processes WHERE pid = {pid} AND \
         start_time = {start_time}"
        )
        .replace('"', "'"),
    );
    (number(&rows[0]["cpu_ns"]), number(&rows[0]["n"]))
}

/// Both read the scheduler's own account; ours goes on to the last switch, a little after the parent was told.
fn assert_close(seen_ns: u64, process: &Ended) {
    let after_ns = if host::is_slow() { 20_000_000 } else { 1_000_000 };
    let close = seen_ns + 100_000 >= process.cpu_ns && seen_ns <= process.cpu_ns + after_ns;
    assert!(close, "hitscope: {seen_ns} ns, wait4: {} ns", process.cpu_ns);
}

#[test]
fn short_lives() {
    needs_probes!();
    let daemon = Daemon::start();
    let processes: Vec<Ended> =
        (1..=20_i32).map(|code| run_measured(&mut workload(&["burn", "20", "1", &code.to_string()]))).collect();
    let (mut seen, mut used) = (0, 0);
    for (process, code) in processes.iter().zip(1..) {
        assert_eq!(process.exit_code, code);
        let rows = exits(&daemon, process.pid);
        assert_eq!(rows.len(), 1, "{rows:?}");
        let row = &rows[0];
        assert_eq!(row["exit_code"], code);
        assert_eq!(row["state"], "exited");
        assert_eq!(row["command"], "workload");
        assert_eq!(row["arguments"], format!("{WORKLOAD} burn 20 1 {code}"));
        assert_eq!(number(&row["parent_pid"]), u64::from(std::process::id()));
        assert_eq!(row["user"], "root");
        let (cpu_ns, _) = cpu_ns(&daemon, process.pid, &row["start_time"]);
        assert_close(cpu_ns, process);
        (seen, used) = (seen + cpu_ns, used + process.cpu_ns);
    }
    println!("20 processes of 20 ms: hitscope {:.3} ms, wait4 {:.3} ms", seen as f64 / 1e6, used as f64 / 1e6);
}

#[test]
fn a_long_life() {
    needs_probes!();
    let daemon = Daemon::start();
    let process = run_measured(&mut workload(&["burn", "6000", "2", "0"]));
    let rows = exits(&daemon, process.pid);
    let (cpu_ns, count) = cpu_ns(&daemon, process.pid, &rows[0]["start_time"]);
    println!("{count} rows: hitscope {:.3} ms, wait4 {:.3} ms", cpu_ns as f64 / 1e6, process.cpu_ns as f64 / 1e6);
    assert!(count >= 2, "{count}");
    assert_close(cpu_ns, &process);
}

/// What a process used before hitscope started is not counted.
#[test]
fn a_life_begun_before() {
    needs_probes!();
    let child = workload(&["burn", "4000", "1", "5"]).spawn().expect("it starts");
    let ticks = |child: &Child| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("its stat");
        let fields = stat.rsplit_once(") ").expect("its fields").1.split(' ').skip(11).take(2);
        fields.map(|field| field.parse::<u64>().expect("ticks")).sum::<u64>()
    };
    wait_until("it has used a second of CPU", || (ticks(&child) >= 100).then_some(()));
    let daemon = Daemon::start();
    let process = ended(child);
    let rows = exits(&daemon, process.pid);
    assert_eq!(rows[0]["exit_code"], 5);
    let (cpu_ns, _) = cpu_ns(&daemon, process.pid, &rows[0]["start_time"]);
    assert!(cpu_ns + 1_000_000_000 <= process.cpu_ns + 100_000_000, "{cpu_ns} of {}", process.cpu_ns);
}

#[test]
fn ends_by_signal() {
    needs_probes!();
    let daemon = Daemon::start();
    for number in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV] {
        let child = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        signal(child.id(), number);
        let process = ended(child);
        assert_eq!(process.exit_code, 128 + number);
        let rows = exits(&daemon, process.pid);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["exit_code"], 128 + number);
    }
}

/// A pid that is used again is another process. The kernel's table of processes tells starts by hundredths of a second, so
/// the first one lives a little longer than that.
#[test]
fn pids_used_again() {
    needs_probes!();
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    if fs::read(LAST_PID).is_err() {
        skip!("this kernel does not let anybody choose a pid");
    }
    let daemon = Daemon::start();
    let run = |code: i32| run_measured(&mut workload(&["burn", "25", "1", &code.to_string()]));
    // Somebody else may get the pid in between.
    let (first, second) = wait_until("a pid is used again", || {
        let first = run(1);
        fs::write(LAST_PID, (first.pid - 1).to_string()).expect("the last pid can be set");
        let second = run(2);
        (first.pid == second.pid).then_some((first, second))
    });
    let rows = wait_until("both ends are there", || Some(exits(&daemon, first.pid)).filter(|rows| rows.len() == 2));
    assert_eq!((&rows[0]["exit_code"], &rows[1]["exit_code"]), (&1.into(), &2.into()));
    assert_ne!(rows[0]["start_time"], rows[1]["start_time"]);
    for (row, process) in rows.iter().zip([first, second]) {
        assert_close(cpu_ns(&daemon, process.pid, &row["start_time"]).0, &process);
    }
}

#[test]
fn every_process_is_sampled() {
    needs_probes!();
    let daemon = Daemon::start();
    let mut child = Command::new("sleep").arg("600").spawn().expect("sleep starts");
    let row = &daemon.wait_for(&format!("SELECT * FROM processes WHERE pid = {} AND NOT exited", child.id()))[0];
    assert_eq!((&row["command"], &row["arguments"]), (&"sleep".into(), &"sleep 600".into()));
    assert_eq!(row["state"], "sleeping");
    assert!(number(&row["rss_bytes"]) > 0);
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let processes = processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    let sampled = daemon.query("SELECT count(DISTINCT pid) AS n FROM processes WHERE NOT exited");
    println!("{} of {processes} processes sampled", sampled[0]["n"]);
    assert!(number(&sampled[0]["n"]) as usize >= processes / 2);
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
}

#[test]
fn syscalls_are_counted() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let mut command = workload(&["syscalls", "1234", "4321"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    let counts = |daemon: &Daemon| {
        let rows = daemon.query(&format!(
            "SELECT syscall, sum(calls) AS calls, sum(errors) AS errors FROM syscalls WHERE pid = {pid} AND \
             syscall IN ('close', 'getppid') GROUP BY syscall ORDER BY syscall"
        ));
        rows.iter().map(|row| (number(&row["calls"]), number(&row["errors"]))).collect::<Vec<_>>()
    };
    daemon.settle();
    let alive = counts(&daemon);
    assert_eq!(alive.len(), 2, "{alive:?}");
    assert_eq!((alive[0].1, alive[1]), (1234, (4321, 0)));
    drop(child.stdin.take());
    child.wait().expect("its end");
    daemon.settle();
    assert_eq!(counts(&daemon), alive);
}

/// A program of 32-bit x86 that calls `getppid` so many times: no compiler for it is at hand everywhere.
#[cfg(target_arch = "x86_64")]
fn program_of_32_bits(calls: u32) -> Vec<u8> {
    const ADDRESS: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    // mov $calls,%esi; 1: mov $64,%eax; int $0x80; dec %esi; jnz 1b; mov $1,%eax; xor %ebx,%ebx; int $0x80
    let code: [&[u8]; 3] = [
        &[0xbe],
        &calls.to_le_bytes(),
        &[0xb8, 64, 0, 0, 0, 0xcd, 0x80, 0x4e, 0x75, 0xf6, 0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80],
    ];
    let code = code.concat();
    let size = HEADERS + code.len() as u32;
    let halves = |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let words = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        // An executable of the 386; entry, program headers; sizes.
        halves(&[2, 3]),
        words(&[1, ADDRESS + HEADERS, 52, 0, 0]),
        halves(&[52, 32, 1, 0, 0, 0]),
        // One segment, the whole file, to read and to run.
        words(&[1, 0, ADDRESS, ADDRESS, size, size, 5, 0x1000]),
        code,
    ]
    .concat()
}

/// On x86, 64 is `getppid` of 32-bit code, and `semget` of 64-bit code.
#[cfg(target_arch = "x86_64")]
#[test]
fn syscalls_of_32_bit_programs_are_counted_by_their_own_names() {
    use std::os::unix::fs::OpenOptionsExt;
    needs_probes!();
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&program);
    std::io::Write::write_all(&mut file.expect("a file"), &program_of_32_bits(4321)).expect("the program");
    let Ok(status) = Command::new(&program).status() else {
        skip!("this kernel runs no 32-bit programs");
    };
    assert!(status.success(), "{status}");
    let mut daemon = Daemon::start();
    let mut child = Command::new(&program).spawn().expect("it starts");
    assert!(child.wait().expect("its end").success());
    let rows = daemon.settled(&format!(
        "SELECT syscall, sum(calls) AS calls FROM syscalls WHERE pid = {} AND \
         syscall IN ('getppid', 'semget', 'stat', 'write') GROUP BY syscall",
        child.id()
    ));
    let counts: Vec<_> = rows.iter().map(|row| (row["syscall"].as_str(), number(&row["calls"]))).collect();
    assert_eq!(counts, [(Some("getppid"), 4321)]);
}
