//! Programs that do as they are told on standard input, line by line, and answer each line with one of their own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::process::ends_with_us;

/// A running program; dropped, it ends.
pub struct Talker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Talker {
    pub fn start(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        ends_with_us(&mut command, libc::SIGKILL);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { input: child.stdin.take(), output, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line, JSON.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its output");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Has it do something, and hears what came of it.
    pub fn tell(&mut self, what: &str) -> Value {
        let input = self.input.as_mut().expect("it was not told to end");
        writeln!(input, "{what}").expect("it reads");
        self.hear()
    }

    /// Ends its input, and waits for its end.
    pub fn end(&mut self) {
        self.input = None;
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
