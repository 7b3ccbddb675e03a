//! Servers of a test: each in a folder and on a port of its own, and ended by its pid.

use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    host::wait_until,
    process::{ends_with_us, signal},
};

/// A temporary folder that all may read, and that belongs to a user and group where they are said.
pub fn folder(prefix: &str, owner: Option<(u32, u32)>) -> TempDir {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp").expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder open to all");
    if let Some((user, group)) = owner {
        chown(folder.path(), Some(user), Some(group)).expect("a folder of its user");
    }
    folder
}

/// A running server; dropped, it ends.
#[derive(Debug)]
pub struct Server {
    child: Child,
    end: i32,
    log: PathBuf,
}

impl Server {
    /// Starts it; `end` is the signal that ends it, also when the test ends before. What it says on standard error is
    /// added to `log`.
    pub fn start(command: &mut Command, end: i32, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the server's log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        ends_with_us(command, end);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, end, log: log.to_owned() }
    }

    /// Waits until it is ready, by `look`.
    ///
    /// # Panics
    /// When it ends instead, with its log.
    pub fn ready<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> T {
        wait_until("the server is ready", || {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "the server ended ({ended:?}): {}", self.log());
            look()
        })
    }

    /// Waits until it listens on a port of 127.0.0.1.
    pub fn listens(&mut self, port: u16) {
        self.ready(|| TcpStream::connect(("127.0.0.1", port)).ok());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(self.pid(), self.end);
        let _ = self.child.wait();
    }
}
