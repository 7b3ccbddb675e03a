//! Starting the built program, and watching its processes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

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

/// SIGTERM
pub fn terminate(child: &Child) {
    // SAFETY: plain integers; the child was not waited for, so that its pid is its own.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) }, 0);
}
