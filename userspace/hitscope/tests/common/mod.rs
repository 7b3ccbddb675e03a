//! Starting the built program, and watching its processes.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The user `nobody` on every Linux.
pub const NOBODY: u32 = 65_534;
/// A step that has not happened after this long does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Self {
        let output = clean(command).output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Without the variables that would change what a test sees.
pub fn clean(command: &mut Command) -> &mut Command {
    for name in ["HITSCOPE_CONFIG", "HITSCOPE_TOKEN", "HITSCOPE_SLACK_TOKEN", "HITSCOPE_SLACK_WEBHOOK_URL", "RUST_LOG"]
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null())
}

pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_hitscope")
}

/// Runs the program to its end.
pub fn hitscope(arguments: &[&str]) -> Outcome {
    Outcome::of(Command::new(program()).args(arguments))
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A copy of the program where every user may run it; the build folder may be closed to them.
pub fn program_for_everybody(folder: &Path) -> PathBuf {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("hitscope");
    fs::copy(program(), &copy).unwrap();
    copy
}

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until it gives something.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// `GET path`: status line, head and body; none when nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

/// A line of `/proc/<pid>/status`; none when the process is gone.
pub fn status_line(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().replace('\t', " "))
}

/// True while the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    status_line(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

/// The children of all threads of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .flat_map(|thread| {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// Sends a signal.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: plain integers; the tests give pids of processes that they started.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
}
