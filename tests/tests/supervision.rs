//! Collector and server as processes: how they start and end together, and what is refused before anything is done.

use std::{fs, net::TcpListener, os::unix::fs::MetadataExt, process::Command};

use hitscope_tests::{
    Daemon,
    daemon::query,
    host::binary,
    http, needs_probes,
    postgres::succeed,
    process::{signal, start_ticks},
    wait_until,
};

#[test]
fn both_signals_end_both_in_order() {
    needs_probes!();
    for end in [libc::SIGTERM, libc::SIGINT] {
        let mut daemon = Daemon::start();
        let server = daemon.server_pid();
        signal(daemon.pid(), end);
        let status = wait_until("it ends", || daemon.ended());
        assert_eq!(status.code(), Some(0), "{}", daemon.log());
        assert_eq!(start_ticks(server), None, "the server outlived hitscope run");
        let status = Command::new(binary()).args(["status", "--data-dir"]).arg(daemon.data_dir()).output();
        assert_eq!(status.expect("it starts").status.code(), Some(1));
    }
}

#[test]
fn the_servers_crash_is_in_the_status() {
    needs_probes!();
    let daemon = Daemon::start();
    signal(daemon.server_pid(), libc::SIGKILL);
    wait_until("the crash is in the status", || {
        let status = Command::new(binary()).args(["status", "--data-dir"]).arg(daemon.data_dir()).output();
        let status = status.expect("it starts");
        (status.status.success() && String::from_utf8_lossy(&status.stdout).contains("SIGKILL")).then_some(())
    });
}

#[test]
fn without_server_there_is_none() {
    needs_probes!();
    let mut daemon = Daemon::prepare("").with_arguments(&["--no-serve"]);
    daemon.run();
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("its threads").flatten();
    let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).expect("its children"));
    assert_eq!(children.collect::<String>(), "");
    assert!(http::get(daemon.address(), "/healthz").is_none());
    assert!(daemon.stop().expect("it ends in time").success());
}

#[test]
fn what_is_recorded_can_be_replayed_and_queried() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, data_dir) = (folder.path().join("r.hitscope"), folder.path().join("data"));
    succeed(Command::new(binary()).arg("record").arg(&file).args(["--duration", "3s"]));
    assert_eq!(fs::metadata(&file).expect("a recording").mode() & 0o777, 0o600);
    succeed(Command::new(binary()).arg("replay").arg(&file).arg("--data-dir").arg(&data_dir));
    let rows = query(&data_dir, "SELECT kind FROM events WHERE kind IN ('start', 'stop') ORDER BY kind");
    assert_eq!(rows.iter().map(|row| &row["kind"]).collect::<Vec<_>>(), ["start", "stop"]);
}

#[test]
fn a_taken_port_and_an_unusable_folder_are_refused_before_anything_is_done() {
    needs_probes!();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("run").args(arguments).output().expect("hitscope starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let has =
        |error: &str, parts: &[&str]| parts.iter().for_each(|part| assert!(error.contains(part), "{part}: {error}"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let data_dir = folder.path().join("data");
    let error = run(&["--data-dir", &data_dir.to_string_lossy(), "--listen", &address]);
    has(&error, &[&format!("cannot serve the page: {address} is in use"), "--listen"]);
    assert!(!data_dir.exists());
    let error = run(&["--no-serve", "--data-dir", "/proc/hitscope"]);
    has(&error, &["cannot use the data folder /proc/hitscope: ", "help: use another folder with --data-dir"]);
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    has(&run(&["--no-serve", "--data-dir", &file.to_string_lossy()]), &["cannot use the data folder"]);
}

/// When the server gets another user, that one gets what the last has written; links are not followed.
#[test]
fn the_servers_files_are_given_over_to_its_next_user() {
    needs_probes!();
    let mut daemon = Daemon::prepare("[server]\nuser = \"nobody\"");
    daemon.run();
    assert!(daemon.stop().expect("it ends in time").success());
    let data_dir = daemon.data_dir().to_owned();
    let before = fs::metadata(data_dir.join("server")).expect("the server's part").uid();
    let state = data_dir.join("server/state");
    fs::write(&state, "x").expect("a file of the server's");
    std::os::unix::fs::symlink("/etc/hostname", data_dir.join("server/link")).expect("a link");

    daemon.configure("[server]\nuser = \"daemon\"");
    daemon.run();
    let owner = |path: &str| fs::metadata(data_dir.join(path)).expect("it").uid();
    assert_ne!(owner("server"), before);
    assert_eq!(owner("server/state"), owner("server"));
    assert_eq!(owner("open/alerts"), owner("server"));
    assert_eq!(fs::metadata("/etc/hostname").expect("it").uid(), 0);
}
