//! Where the time of a hit went.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hitscope_collector::{
    event::Event,
    probes::{self, Probes},
    source::Turn,
};
use hitscope_schemas::sockets::RECEIVED;
use hitscope_tests::{
    Daemon, Postgres, Via,
    host::{free_port, python},
    needs_probes, number,
    postgres::succeed,
    process::{ends_with_us, signal},
    talk::Talker,
    wait_until,
};
use serde_json::{Value, json};

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
    // Each of its threads for itself.
    wait_until("the server is stopped", || {
        let mut threads = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).ok()?.flatten();
        let stopped = |stat: String| stat.contains(") T ");
        threads.all(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(stopped)).then_some(())
    });
    client.send("later");
    thread::sleep(Duration::from_millis(200));
    signal(server.child.id(), libc::SIGCONT);
    client.answered();
    daemon.settle();
    let later = server.times(&daemon, "later");
    assert!(number(&later.row["queued_ns"]) >= 190 * MS, "{}", later.row);
    // Of the side that asks it is not known.
    let asked =
        Times::of(&daemon, &format!("side = 'client' AND remote_port = {} AND operation = 'later'", server.port));
    assert!(asked.row["queued_ns"].is_null(), "{}", asked.row);
}

/// As on kernels before 6.3, which do not tell when bytes become readable.
#[test]
fn requests_lie_unread_on_older_kernels() {
    needs_probes!();
    let disabled = ["syscalls", "sched", "tls", "connections"].map(str::to_owned).into();
    let settings = probes::Settings { disabled, ..probes::Settings::default() };
    let mut probes = Probes::load_without(&settings, &["sk_data_ready"]).expect("the probes");
    let state = probes.states().iter().find(|state| state.name == "sockets").expect("the probe");
    let names: Vec<_> = state.programs.iter().map(|program| program.name).collect();
    assert!(names.contains(&"tcp_arrival") && !names.contains(&"sockets_arrival"), "{state:?}");

    const PAUSE: Duration = Duration::from_millis(200);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    // The first lies there before anybody has accepted the connection.
    client.write_all(&[b'x'; 101]).expect("it is sent");
    thread::sleep(PAUSE);
    let mut server = listener.accept().expect("a connection").0;
    let mut read = |bytes| server.read_exact(&mut vec![0; bytes]).and_then(|()| server.write_all(b"answer"));
    read(101).expect("it comes");
    client.read_exact(&mut [0; 6]).expect("an answer");
    client.write_all(&[b'x'; 102]).expect("it is sent");
    thread::sleep(PAUSE);
    read(102).expect("it comes");
    // What acknowledges the answer is nothing to read.
    client.read_exact(&mut [0; 6]).expect("an answer");
    thread::sleep(PAUSE);
    let sent = Instant::now();
    client.write_all(&[b'x'; 103]).expect("it is sent");
    read(103).expect("it comes");
    let at_once = sent.elapsed();
    let (mut one, mut other) = UnixStream::pair().expect("a pair");
    one.write_all(&[b'x'; 104]).expect("it is sent");
    thread::sleep(PAUSE);
    other.read_exact(&mut [0; 104]).expect("it comes");

    let mut queued = [None; 4];
    wait_until("the reads are seen", || {
        probes.poll(Turn::default(), &mut |event| {
            if let Event::Segment(segment, ..) = event
                && segment.header.pid == std::process::id()
                && segment.direction == RECEIVED
                && let Some(queued) = segment.length.checked_sub(101).and_then(|at| queued.get_mut(at as usize))
            {
                *queued = Some(Duration::from_nanos(segment.queued_ns));
            }
        });
        queued.iter().all(Option::is_some).then_some(())
    });
    let queued = queued.map(Option::unwrap_or_default);
    println!("lay unread: {queued:?}; the third at most {at_once:?}");
    assert!(queued[0] >= PAUSE && queued[1] >= PAUSE);
    assert!(queued[2] > Duration::ZERO && queued[2] <= at_once);
    assert_eq!(queued[3], Duration::ZERO);
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
    assert_add_up(&daemon);
}

/// Here about one switch in a thousand goes unseen, by any tracer; the hits around it have their parts all the same.
#[test]
fn no_hit_of_a_process_per_connection_is_without_parts() {
    needs_probes!();
    let postgres = Postgres::start();
    postgres.pgbench_init();
    let mut daemon = Daemon::with("[collector]\nsampled_per_second = 1000000\n");
    succeed(&mut postgres.pgbench(Via::Socket, &["-S", "-c", "4", "-j", "2", "-R", "1500", "-T", "10"]));
    daemon.settle();
    let of_pgbench = "side = 'server' AND operation LIKE '%pgbench_accounts WHERE%'";
    let hits = daemon.query(&format!("SELECT count(*) AS hits, sum(cpu_ns) AS cpu_ns FROM hits WHERE {of_pgbench}"));
    println!("{hits:?}");
    assert!(number(&hits[0]["hits"]) > 1000 && number(&hits[0]["cpu_ns"]) > 0, "{hits:?}");
    let without = daemon.query(&format!("SELECT * FROM hits WHERE {of_pgbench} AND cpu_ns IS NULL"));
    assert!(without.is_empty(), "{without:?}");
    assert_add_up(&daemon);
}

/// Of every hit, the parts are all there or none is, and together at most the duration.
fn assert_add_up(daemon: &Daemon) {
    let [sum, missing] = [" + ", " IS NULL AND "].map(|between| PARTS.join(between));
    let above = daemon.query(&format!("SELECT * FROM hits WHERE {sum} > duration_ns"));
    assert!(above.is_empty(), "{above:?}");
    let partial = daemon.query(&format!("SELECT * FROM hits WHERE {sum} IS NULL AND NOT ({missing} IS NULL)"));
    assert!(partial.is_empty(), "{partial:?}");
    let counted = daemon.query(&format!("SELECT count(*) AS hits, count({sum}) AS split FROM hits"));
    println!("of all {} hits, {} have parts, none above its duration", counted[0]["hits"], counted[0]["split"]);
}

/// A script of `tests/clients` in Node.js.
fn node(script: &str, arguments: &[&str]) -> Talker {
    let script = format!("{}/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    Talker::start("node", &[&[&*script], arguments].concat())
}

#[test]
fn streams_that_overlap_have_no_split() {
    needs_probes!();
    let mut server = node("http2_server.mjs", &[]);
    let port = number(&server.hear()["port"]);
    let mut daemon = Daemon::with("[collector]\nsampled_per_second = 1000000\n");
    let mut client = node("http2_client.mjs", &[&format!("http://127.0.0.1:{port}")]);
    // One at a time, then eight at a time, and again one.
    for (path, times, at_once) in [("/alone", 60, 1), ("/beside", 80, 8), ("/after", 40, 1)] {
        client.tell(&json!([["GET", path, times, at_once]]).to_string());
    }
    daemon.settle();
    for (side, column) in [("server", "local_port"), ("client", "remote_port")] {
        for (path, hits, split) in [("/alone", 60, 60), ("/beside", 80, 0), ("/after", 40, 40)] {
            let condition =
                format!("side = '{side}' AND {column} = {port} AND operation = 'GET {path}' AND protocol = 'http2'");
            let rows = daemon.query(&format!(
                "SELECT count(*) AS hits, count(cpu_ns) AS split, sum(cpu_ns) AS cpu_ns FROM hits WHERE {condition}"
            ));
            println!("{side} {path}: {}", rows[0]);
            assert_eq!([number(&rows[0]["hits"]), number(&rows[0]["split"])], [hits, split], "{side} {path}");
            assert!(split == 0 || number(&rows[0]["cpu_ns"]) > 0, "{side} {path}");
        }
    }
    assert_add_up(&daemon);
    client.end();
    server.end();
}

#[test]
fn pipelines_add_up() {
    needs_probes!();
    let postgres = Postgres::start();
    let port = free_port();
    let mut script = Command::new("node");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/server.mjs")).arg(port.to_string());
    ends_with_us(script.stdout(Stdio::piped()), libc::SIGKILL);
    let mut server = script.spawn().expect("node starts");
    BufReader::new(server.stdout.as_mut().expect("a pipe")).read_line(&mut String::new()).expect("a line");
    let mut daemon = Daemon::with("[collector]\nsampled_per_second = 1000000\n");
    succeed(postgres.client(python(), Via::Socket).args(["-c", include_str!("../clients/pipeline.py")]));
    for _ in 0..20 {
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        let request = |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{end}\r\n");
        let requests = request("/users/1", "").repeat(9) + &request("/users/2", "Connection: close\r\n");
        client.write_all(requests.as_bytes()).expect("it is sent");
        client.read_to_string(&mut String::new()).expect("the answers");
    }
    let _ = server.kill();
    let _ = server.wait();
    daemon.settle();
    // What the thread did before, in the same pipeline, is part of the duration and so of the parts.
    for (condition, hits) in [
        (format!("protocol = 'http1' AND local_port = {port}"), 200),
        ("protocol = 'postgres' AND operation LIKE 'select % as piped'".to_owned(), 100),
    ] {
        let rows = daemon.query(&format!(
            "SELECT count(*) AS hits, count(cpu_ns) AS split FROM hits WHERE side = 'server' AND {condition}"
        ));
        println!("{condition}: {}", rows[0]);
        assert_eq!([&rows[0]["hits"], &rows[0]["split"]].map(number), [hits; 2], "{condition}");
    }
    assert_add_up(&daemon);
}
