//! Collector and server as processes: privileges, crashes, and that no orphan is left.

mod common;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::{
    children, clean, eventually, free_address, get, hitscope, is_alive, is_root, program, signal, status_line,
};
use libc::{SIGINT, SIGKILL, SIGTERM};

/// `hitscope run`, killed at the end of the test should it still run.
struct Run {
    child: Child,
    address: SocketAddr,
    data_dir: PathBuf,
}

impl Run {
    fn start(data_dir: &Path, more: &[&str]) -> Self {
        let address = free_address();
        let mut command = Command::new(program());
        command.args(["run", "--listen", &address.to_string()]).arg("--data-dir").arg(data_dir).args(more);
        let child = clean(&mut command).stdout(Stdio::null()).spawn().unwrap();
        Self { child, address, data_dir: data_dir.to_owned() }
    }

    /// The server's pid, once it answers.
    fn server(&mut self) -> u32 {
        eventually("the server answers", || {
            assert!(self.child.try_wait().unwrap().is_none(), "run ended");
            get(self.address, "/healthz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        let children = children(self.child.id());
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }

    fn status(&self) -> common::Outcome {
        hitscope(&["status", "--data-dir", self.data_dir.to_str().unwrap()])
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tracing takes root, and a kernel that lets it.
fn may_trace() -> bool {
    let may = is_root() && hitscope(&["check"]).code == Some(0);
    if !may {
        eprintln!("not root, or a host that cannot be traced: not tested");
    }
    may
}

#[test]
fn the_server_is_an_ordinary_user_without_capabilities() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Closed to everybody else, as root's home is: the server gets in all the same.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut run = Run::start(&dir.path().join("data"), &[]);
    let server = run.server();
    let line = |key| status_line(server, key).unwrap();
    assert_eq!(line("Name"), "hitscope-serve");
    assert!(line("Uid").split(' ').all(|id| id != "0"), "{}", line("Uid"));
    assert!(line("Gid").split(' ').all(|id| id != "0"), "{}", line("Gid"));
    assert!(line("Groups").split(' ').all(|id| id != "0"), "{}", line("Groups"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&line(set), 16), Ok(0), "{set}");
    }
    assert_eq!(line("NoNewPrivs"), "1");
    // And the collector has no more than it needs: CAP_NET_ADMIN (12), CAP_SYS_MODULE (16), CAP_SYS_BOOT (22) are gone.
    // CAP_SYS_ADMIN stays: uprobes, attached as programs come, ask for it on some kernels.
    let collector = u64::from_str_radix(&status_line(run.child.id(), "CapPrm").unwrap(), 16).unwrap();
    assert_eq!(collector & (1 << 12 | 1 << 16 | 1 << 22), 0, "{collector:x}");

    let status = eventually("the collector's status", || {
        let status = run.status();
        (status.code == Some(0)).then_some(status)
    });
    assert!(status.stdout.contains("running for") && status.stdout.contains("probe sched"), "{status:?}");
    // The server reads what the collector writes, through the folder that is closed to it.
    eventually("the server sees the collector", || {
        get(run.address, "/api/v1/status").filter(|body| body.contains("\"live\""))
    });
    let mode = |path: &str| fs::metadata(run.data_dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("status.json"), mode("open")), (0o750, 0o640, 0o750));

    let second = hitscope(&["run", "--no-serve", "--data-dir", run.data_dir.to_str().unwrap()]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains(&format!("another hitscope (pid {})", run.child.id())), "{second:?}");
    // Queries work beside the collector.
    let query = ["query", "SELECT DISTINCT kind FROM events", "--data-dir", run.data_dir.to_str().unwrap()];
    eventually("the start is in the events", || hitscope(&query).stdout.contains("start").then_some(()));
}

#[test]
fn sigterm_ends_both_in_order() {
    if !may_trace() {
        return;
    }
    for end in [SIGTERM, SIGINT] {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run::start(dir.path(), &[]);
        let server = run.server();
        signal(run.child.id(), end);
        assert_eq!(run.child.wait().unwrap().code(), Some(0));
        assert!(!is_alive(server));
        assert_eq!(run.status().code, Some(1));
    }
}

#[test]
fn no_server_outlives_a_killed_run() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(dir.path(), &[]);
    let server = run.server();
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    eventually("the server is gone", || (!is_alive(server)).then_some(()));
    // Nothing keeps a new one from starting over the same folder.
    let mut again = Run::start(dir.path(), &[]);
    again.server();
}

#[test]
fn a_crashed_server_is_started_again_and_the_collector_goes_on() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(dir.path(), &[]);
    let first = run.server();
    signal(first, SIGKILL);
    eventually("the first server is gone", || (!is_alive(first)).then_some(()));
    let second = run.server();
    assert_ne!(first, second);
    eventually("the collector's status", || (run.status().code == Some(0)).then_some(()));
    eventually("the crash is in the status", || run.status().stdout.contains("SIGKILL").then_some(()));
}

#[test]
fn without_server_there_is_none() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(dir.path(), &["--no-serve"]);
    eventually("the collector runs", || (run.status().code == Some(0)).then_some(()));
    assert_eq!(children(run.child.id()), []);
    assert_eq!(get(run.address, "/healthz"), None);
    signal(run.child.id(), SIGTERM);
    assert_eq!(run.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_recorded_can_be_replayed_and_queried() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let recorded = hitscope(&["record", &path("r.hitscope"), "--duration", "3s"]);
    assert_eq!(recorded.code, Some(0), "{recorded:?}");
    assert_eq!(fs::metadata(path("r.hitscope")).unwrap().mode() & 0o777, 0o600);
    let replayed = hitscope(&["replay", &path("r.hitscope"), "--data-dir", &path("data")]);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let sql = "SELECT count(*) > 0 AS there FROM processes WHERE command = 'hitscope'";
    let rows = hitscope(&["query", sql, "--data-dir", &path("data"), "--format", "json"]);
    assert_eq!(rows.stdout.trim(), r#"[{"there":true}]"#, "{rows:?}");
}

#[test]
fn a_server_alone_serves_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut command = Command::new(program());
    command.args(["serve", "--listen", &address.to_string()]).arg("--data-dir").arg(dir.path());
    let mut server = clean(&mut command).stdout(Stdio::null()).spawn().unwrap();
    eventually("the server answers", || get(address, "/healthz"));
    let second = hitscope(&["serve", "--data-dir", dir.path().to_str().unwrap(), "--listen", &address.to_string()]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("is in use"), "{second:?}");
    signal(server.id(), SIGTERM);
    assert_eq!(server.wait().unwrap().code(), Some(0));

    let open = hitscope(&["serve", "--data-dir", dir.path().to_str().unwrap(), "--listen", "0.0.0.0:0"]);
    assert_eq!(open.code, Some(1));
    assert!(open.stderr.contains("a token is needed"), "{open:?}");
}
