//! Where the time of a hit went.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use hitscope_tests::{
    Daemon, Postgres, Via, needs_probes, number,
    process::{ends_with_us, signal},
    wait_until,
};
use serde_json::Value;

const MS: u64 = 1_000_000;
const PARTS: [&str; 5] = ["cpu_ns", "runqueue_ns", "disk_ns", "lock_ns", "network_ns"];

/// Where the time of one hit went: the parts, and `other_ns`.
struct Times {
    row: Value,
    duration_ns: u64,
}

impl Times {
    /// Of the only hit that the condition holds for.
    fn of(daemon: &Daemon, condition: &str) -> Self {
        let rows = daemon.query(&format!("SELECT * FROM hits WHERE {condition}"));
        assert_eq!(rows.len(), 1, "{condition}: {rows:?}");
        let times = Self { duration_ns: number(&rows[0]["duration_ns"]), row: rows[0].clone() };
        let words: Vec<_> = PARTS.iter().map(|part| format!("{part} {}", times.row[part])).collect();
        println!("{condition}: of {} ns {}", times.duration_ns, words.join(", "));
        times
    }

    fn is_measured(&self) -> bool {
        let measured = PARTS.iter().filter(|part| !self.row[**part].is_null()).count();
        assert!(measured == 0 || measured == PARTS.len(), "{}", self.row);
        measured > 0
    }

    fn ns(&self, part: &str) -> u64 {
        if part == "other_ns" {
            let sum: u64 = PARTS.iter().map(|part| number(&self.row[part])).sum();
            return self.duration_ns.checked_sub(sum).expect("the parts are at most the duration");
        }
        number(&self.row[part])
    }

    /// Most of the time went there, and at least so much.
    fn assert_mostly(&self, part: &str, least_ns: u64) {
        assert!(self.ns("other_ns") <= self.duration_ns);
        assert!(self.ns(part) >= least_ns && 2 * self.ns(part) > self.duration_ns, "{part}: {}", self.row);
    }
}

/// `stand-in`; ends with the test.
struct StandIn {
    child: Child,
    port: u16,
}

impl StandIn {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stand-in"));
        ends_with_us(command.args(arguments).stdout(Stdio::piped()), libc::SIGKILL);
        let mut child = command.spawn().expect("stand-in starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("its port");
        Self { port: line.trim().parse().expect("its port"), child }
    }

    fn connect(&self) -> Client {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.write_all(b"\0\0\0\x12\0\x03\0\0user\0app\0\0").expect("it takes the startup");
        let mut client = Client(stream);
        client.answered();
        client
    }

    /// Its hit of this operation.
    fn times(&self, daemon: &Daemon, operation: &str) -> Times {
        Times::of(daemon, &format!("side = 'server' AND pid = {} AND operation = '{operation}'", self.child.id()))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(TcpStream);

impl Client {
    fn send(&mut self, statement: &str) {
        let length = (statement.len() as u32 + 5).to_be_bytes();
        self.0.write_all(&[b"Q", &length[..], statement.as_bytes(), b"\0"].concat()).expect("it takes a statement");
    }

    /// Reads on to a ready-for-query.
    fn answered(&mut self) {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"Z\0\0\0\x05I") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("an answer");
            bytes.push(byte[0]);
        }
    }

    fn ask(&mut self, statement: &str) {
        self.send(statement);
        self.answered();
    }
}

#[test]
fn each_wait_has_its_class() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let server = StandIn::start(&[]);
    let mut client = server.connect();
    let waits = [
        ("sleep", "other_ns"),
        ("poll", "other_ns"),
        ("mutex", "lock_ns"),
        ("flock", "lock_ns"),
        ("eventfd", "lock_ns"),
        ("socket", "network_ns"),
    ];
    for (what, _) in waits {
        client.ask(&format!("{what} 200"));
    }
    client.ask("burn 200");
    client.ask("fsync 200");
    daemon.settle();
    for (what, part) in waits {
        // The other thread may have got ahead by part of the time.
        server.times(&daemon, &format!("{what} ?")).assert_mostly(part, 100 * MS);
    }
    let burnt = server.times(&daemon, "burn ?");
    assert!(burnt.ns("cpu_ns") > 0 && burnt.ns("cpu_ns") + burnt.ns("runqueue_ns") > 100 * MS, "{}", burnt.row);
    let synced = server.times(&daemon, "fsync ?");
    assert!(synced.ns("disk_ns") > 0 && synced.ns("other_ns") < 100 * MS, "{}", synced.row);
    // The asking thread slept for the answer.
    let operations = daemon.query(&format!(
        "SELECT network_ns FROM hits WHERE side = 'client' AND remote_port = {} AND operation = 'sleep ?'",
        server.port
    ));
    assert!(number(&operations[0]["network_ns"]) > 100 * MS, "{operations:?}");
    let sums = daemon.query(&format!(
        "SELECT sum(lock_ns) AS lock_ns, sum(cpu_ns) AS cpu_ns FROM operations WHERE side = 'server' AND \
         operation IN ('mutex ?', 'burn ?') AND service = '{}'",
        burnt.row["service"].as_str().expect("a service")
    ));
    assert!(number(&sums[0]["lock_ns"]) > 100 * MS && number(&sums[0]["cpu_ns"]) > 0, "{sums:?}");
}

#[test]
fn hits_that_share_a_thread_have_no_split() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let server = StandIn::start(&["loop"]);
    let (mut first, mut second) = (server.connect(), server.connect());
    first.ask("alone");
    first.send("park");
    thread::sleep(Duration::from_millis(50));
    second.ask("within");
    first.answered();
    second.ask("after");
    daemon.settle();
    let measured = |operation| server.times(&daemon, operation).is_measured();
    assert_eq!(["alone", "park", "within", "after"].map(measured), [true, false, false, true]);
}

/// A server that is stopped takes no request.
#[test]
fn requests_lie_unread() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let server = StandIn::start(&[]);
    let mut client = server.connect();
    client.ask("at_once");
    signal(server.child.id(), libc::SIGSTOP);
    wait_until("the server is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).ok()?;
        stat.contains(") T ").then_some(())
    });
    client.send("later");
    thread::sleep(Duration::from_millis(200));
    signal(server.child.id(), libc::SIGCONT);
    client.answered();
    daemon.settle();
    let later = server.times(&daemon, "later");
    if later.row["queued_ns"].is_null() {
        hitscope_tests::skip!("this kernel lacks the tracepoint sk_data_ready");
    }
    assert!(number(&later.row["queued_ns"]) >= 190 * MS, "{}", later.row);
    // Of the side that asks it is not known.
    let asked =
        Times::of(&daemon, &format!("side = 'client' AND remote_port = {} AND operation = 'later'", server.port));
    assert!(asked.row["queued_ns"].is_null(), "{}", asked.row);
}

#[test]
fn statements_of_postgres() {
    needs_probes!();
    let postgres = Postgres::with("fsync = on\njit = off\n");
    postgres.psql("create table t (a int)");
    let mut daemon = Daemon::with("[collector]\nsampled_per_second = 1000000\n");
    postgres.psql("select pg_sleep(0.3)");
    postgres.psql("do $$ begin for i in 1..3000000 loop end loop; end $$");
    for _ in 0..20 {
        postgres.psql("insert into t values (1)");
    }
    // One session holds the table while another waits for it.
    let mut holder = postgres.psql_command(Via::Socket);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("psql starts");
    holder.stdin.as_mut().expect("a pipe").write_all(b"begin;\nlock table t;\n").expect("psql reads");
    let locks = |granted, count| {
        wait_until("the table is locked", || {
            let sql = format!(
                "select count(*) from pg_locks where relation = 't'::regclass and granted = {granted} and \
                 mode = 'AccessExclusiveLock'"
            );
            (postgres.psql(&sql) == count).then_some(())
        });
    };
    locks(true, "1");
    let mut waiter = postgres.psql_command(Via::Socket);
    let mut waiter = waiter.args(["--command", "truncate t"]).stdout(Stdio::null()).spawn().expect("psql starts");
    locks(false, "1");
    // Longer than deadlock_timeout, at which the waiting thread looks around and waits on.
    thread::sleep(Duration::from_millis(1200));
    drop(holder.stdin.take());
    assert!(holder.wait().expect("psql ends").success() && waiter.wait().expect("psql ends").success());
    daemon.settle();

    let of = |operation: &str| Times::of(&daemon, &format!("side = 'server' AND operation = '{operation}'"));
    of("select pg_sleep(?)").assert_mostly("other_ns", 290 * MS);
    of("truncate t").assert_mostly("lock_ns", 1100 * MS);
    let burnt = Times::of(&daemon, "side = 'server' AND operation LIKE 'do %'");
    assert!(2 * (burnt.ns("cpu_ns") + burnt.ns("runqueue_ns")) > burnt.duration_ns, "{}", burnt.row);
    let inserts = daemon.query(
        "SELECT sum(disk_ns) AS disk_ns, count(*) AS hits FROM hits WHERE side = 'server' AND operation LIKE 'insert into t%'",
    );
    assert_eq!(number(&inserts[0]["hits"]), 20);
    assert!(number(&inserts[0]["disk_ns"]) > 0, "{inserts:?}");
    let above =
        daemon.query("SELECT * FROM hits WHERE cpu_ns + runqueue_ns + disk_ns + lock_ns + network_ns > duration_ns");
    assert!(above.is_empty(), "{above:?}");
}
