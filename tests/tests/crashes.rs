//! What survives a crash, a full disk, and the server's end.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use hitscope_tests::{
    Daemon, Postgres, Via, assert_calls,
    calls::{assert_tables_agree, lost},
    calls_by_postgres,
    daemon::now_ns,
    http, needs_probes, number,
    postgres::succeed,
    process::{signal, start_ticks},
    skip, wait_until,
};

/// pgbench that runs until it is dropped.
struct Load(Child);

impl Load {
    fn start(postgres: &Postgres) -> Self {
        let mut pgbench = postgres.pgbench(Via::Socket, &["-S", "-c", "2", "-T", "3600", "-M", "prepared"]);
        Self(pgbench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgbench starts"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn seen(daemon: &Daemon) -> u64 {
    daemon.status().map_or(0, |status| number(&status["counters"]["hits"]))
}

#[test]
fn the_collector_is_killed_again_and_again() {
    needs_probes!();
    let postgres = Postgres::with("log_min_duration_statement = -1");
    postgres.pgbench_init();
    let _load = Load::start(&postgres);
    let mut daemon = Daemon::prepare("");
    let (mut before, mut written) = (0, 0);
    for round in 1..=6_u64 {
        daemon.run();
        // Killed at another moment within the second each time.
        wait_until("there are hits", || (seen(&daemon) > 2000 * round).then_some(()));
        let server = daemon.server_pid();
        let server_started = start_ticks(server);
        assert!(server_started.is_some());
        daemon.kill();
        let killed_ns = now_ns();
        wait_until("the server is gone", || (start_ticks(server) != server_started).then_some(()));

        // What the last status counts was written before it.
        written += seen(&daemon);
        let (server, client) = (assert_tables_agree(&daemon, "server"), assert_tables_agree(&daemon, "client"));
        let hits = server.0 + client.0;
        let last = daemon.query("SELECT CAST(max(end_time) AS BIGINT) AS ns FROM hits");
        let missing_ms = killed_ns.saturating_sub(number(&last[0]["ns"])) / 1_000_000;
        println!("round {round}: {hits} hits read of {written} told, newest {missing_ms} ms before the kill");
        assert!(hits >= written && hits > before, "{hits} hits, {written} told, {before} before");
        before = hits;
    }
    // An orderly end, and another start over the same folder.
    daemon.run();
    for table in ["processes", "syscalls", "hosts", "events"] {
        daemon.wait_for(&format!("SELECT 1 AS there FROM {table} LIMIT 1"));
    }
    assert!(daemon.stop().expect("it ends in time").success());
    let rows = daemon.query("SELECT count(*) AS n FROM events WHERE kind = 'start'");
    assert_eq!(number(&rows[0]["n"]), 7);
}

#[test]
fn the_server_is_killed() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    let first = daemon.server_pid();
    postgres.reset_calls();
    postgres.psql("select 1 as before_kill");
    signal(first, libc::SIGKILL);
    for _ in 0..20 {
        postgres.psql("select 1 as meanwhile");
    }
    let second = wait_until("another server answers", || {
        let answer = http::get(daemon.address(), "/api/v1/status")?;
        Some(answer.json()["server"]["pid"].clone()).filter(|pid| number(pid) != u64::from(first))
    });
    postgres.psql("select 1 as after_kill");
    assert_calls(&mut daemon, &calls_by_postgres(&postgres), &["server", "client"]);
    let second = u32::try_from(number(&second)).expect("a pid");
    assert!(daemon.stop().expect("it ends in time").success());
    assert_eq!(start_ticks(second), None, "the server outlived hitscope run");
}

/// A file system of its own, until it is dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// Such as `-t tmpfs tmpfs`; `None` where nothing may be mounted.
    fn mount(at: &'a Path, what: &[&str]) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder to mount at");
        Command::new("mount").args(what).arg(at).status().expect("mount starts").success().then_some(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Lazily: hitscope may still be there when a test failed.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// A file system on which every write waits, until it is dropped.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Self {
        drop(succeed(Command::new("fsfreeze").arg("--freeze").arg(at)));
        Self(at)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(self.0).status();
    }
}

#[test]
fn the_disk_hangs_for_a_while() {
    needs_probes!();
    let postgres = Postgres::start();
    postgres.pgbench_init();
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image");
    drop(succeed(Command::new("mkfs.ext4").arg("-q").arg(&image)));
    let mut daemon = Daemon::prepare("");
    let data_dir = daemon.data_dir().to_owned();
    let image = image.to_str().expect("a path");
    let Some(_disk) = Disk::mount(&data_dir, &["-o", "loop", image]) else { skip!("may not mount a file system") };
    daemon.run();
    postgres.reset_calls();
    postgres.psql("select 1 as before");
    daemon.settle();

    let frozen = Frozen::new(&data_dir);
    // More than the ring buffer holds.
    drop(succeed(postgres.pgbench(Via::Socket, &["-S", "-c", "2", "-t", "10000"]).stdout(Stdio::null())));
    wait_until("the collector has waited for 3 s", || {
        let updated_ns = number(&daemon.status()?["updated_ns"]);
        (now_ns().saturating_sub(updated_ns) > 3_000_000_000).then_some(())
    });
    drop(frozen);
    postgres.psql("select 1 as afterwards");
    assert_calls(&mut daemon, &calls_by_postgres(&postgres), &["server", "client"]);
    let lost = lost(&daemon);
    assert!(lost.as_object().is_some_and(|lost| !lost.contains_key("segment_ring_full")), "{lost}");
    assert!(daemon.stop().expect("it ends in time").success());
}

#[test]
fn the_disk_is_full_for_a_while() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::prepare("");
    let data_dir = daemon.data_dir().to_owned();
    let Some(_disk) = Disk::mount(&data_dir, &["-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs"]) else {
        skip!("may not mount a file system")
    };
    daemon.run();
    postgres.reset_calls();
    postgres.psql("select 1 as before_full");
    daemon.settle();

    let ballast = data_dir.join("ballast");
    let full = fs::write(&ballast, vec![1; 16 << 20]);
    assert_eq!(full.expect_err("a full disk").kind(), std::io::ErrorKind::StorageFull);
    for _ in 0..100 {
        postgres.psql("select 1 as while_full");
    }
    wait_until("hitscope notices", || daemon.log().contains("No space left").then_some(()));
    assert!(daemon.ended().is_none(), "{}", daemon.log());
    // Reading goes on.
    assert!(!daemon.query("SELECT * FROM hits WHERE operation = 'select ? as before_full'").is_empty());

    fs::remove_file(&ballast).expect("the ballast goes");
    postgres.psql("select 1 as after_full");
    daemon.settle();
    let lost = lost(&daemon);
    println!("lost while the disk was full: {lost}");
    // Rows wait in memory, which is enough for this while; what could not would be counted.
    if lost.as_object().is_some_and(|lost| lost.keys().all(|reason| !reason.starts_with("history"))) {
        assert_calls(&mut daemon, &calls_by_postgres(&postgres), &["server", "client"]);
    }
    assert_eq!(daemon.query("SELECT * FROM hits WHERE operation = 'select ? as after_full'").len(), 2);
    assert!(daemon.stop().expect("it ends in time").success());
    drop(succeed(Command::new("sync").arg("--file-system").arg(&data_dir)));
}
