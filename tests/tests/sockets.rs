//! TCP connections by process and remote, against what their two ends did.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
};

use hitscope_tests::{Daemon, host::python, needs_probes, number, process::ends_with_us, skip};
use serde_json::Value;

/// A script of `tests/clients` in network and mount namespaces of its own.
struct Peers {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peers {
    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]).arg(python()).args(["-c", script]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        ends_with_us(&mut command, libc::SIGKILL);
        let mut child = command.spawn().expect("unshare starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn connections(what: &str) -> Self {
        Self::start(include_str!("../clients/connections.py"), &[what])
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line it says.
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("its output");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("it listens");
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process's rows of one side and remote sum up to: connects, failures, time-outs, resets, retransmits, bytes sent and
/// received.
fn sums(daemon: &Daemon, pid: u32, side: &str, remote: &str) -> [u64; 7] {
    let columns = ["connects", "connect_failures", "timeouts", "resets", "retransmits", "sent_bytes", "received_bytes"];
    let sums = columns.map(|column| format!("coalesce(sum({column}), 0) AS {column}")).join(", ");
    let rows = daemon.query(&format!(
        "SELECT {sums} FROM sockets WHERE pid = {pid} AND side = '{side}' AND remote_address = '{remote}'"
    ));
    columns.map(|column| number(&rows[0][column]))
}

/// As [`sums`], but for retransmits: where a busy machine acknowledges late, TCP sends again though nothing was lost.
fn moved(daemon: &Daemon, pid: u32, side: &str, remote: &str) -> [u64; 7] {
    let mut sums = sums(daemon, pid, side, remote);
    sums[4] = 0;
    sums
}

/// Both ends are this process's.
#[test]
fn exchanges() {
    needs_probes!();
    let mut daemon = Daemon::start();
    // Addresses of their own tell them from the other connections of this process.
    let listener = TcpListener::bind("127.0.9.1:0").expect("it listens");
    let address = listener.local_addr().expect("its address");
    for _ in 0..5 {
        let mut client = TcpStream::connect(address).expect("a connection");
        let (mut server, _) = listener.accept().expect("the connection");
        client.write_all(&[1; 3000]).expect("it is sent");
        server.read_exact(&mut [0; 3000]).expect("it arrives");
        server.write_all(&[2; 5000]).expect("it is sent");
        drop(server);
        assert_eq!(client.read_to_end(&mut Vec::new()).expect("it arrives"), 5000);
    }
    assert!(TcpStream::connect(("127.0.9.2", address.port())).is_err());
    daemon.settle();
    let pid = std::process::id();
    assert_eq!(moved(&daemon, pid, "client", "127.0.9.1"), [5, 0, 0, 0, 0, 15_000, 25_000]);
    assert_eq!(moved(&daemon, pid, "server", "127.0.0.1"), [5, 0, 0, 0, 0, 25_000, 15_000]);
    assert_eq!(sums(&daemon, pid, "client", "127.0.9.2"), [1, 1, 0, 0, 0, 0, 0], "refused");
}

#[test]
fn outcomes() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let mut peers = Peers::connections("outcomes");
    let pid = peers.pid();
    if let Some(reason) = peers.hear()["skip"].as_str() {
        skip!(reason);
    }
    let early_s = peers.hear()["waited_s"].as_f64().expect("a time");
    let retransmits = number(&peers.hear()["retransmits"]);
    assert!(retransmits > 0);
    assert_eq!(peers.hear()["done"], true);
    daemon.settle();
    let sums = |side, remote| sums(&daemon, pid, side, remote);
    let moved = |side, remote| moved(&daemon, pid, side, remote);
    assert_eq!(moved("client", "127.0.1.1"), [7, 0, 0, 0, 0, 7 * 3000, 7 * 5000], "exchanges");
    assert_eq!(moved("client", "::1"), [2, 0, 0, 0, 0, 200_000, 400_000], "exchanges over IPv6");
    assert_eq!(moved("server", "::1"), [2, 0, 0, 0, 0, 400_000, 200_000], "exchanges over IPv6, answering");
    assert_eq!(sums("client", "127.0.1.2"), [3, 3, 0, 0, 0, 0, 0], "refused");
    assert_eq!(sums("client", "127.0.1.3"), [2, 0, 0, 2, 0, 0, 0], "reset");
    for (remote, what) in [("127.0.2.1", "timed out"), ("127.0.2.2", "given up late")] {
        // How often a connect is tried again, and when, is the kernel's affair.
        let [connects, failures, timeouts, resets, again, sent, received] = sums("client", remote);
        assert_eq!([connects, failures, timeouts, resets, sent, received], [1, 1, 1, 0, 0, 0], "{what}");
        assert!(again > 0, "{what}");
    }
    let early = sums("client", "127.0.2.3");
    assert_eq!(early[..2], [1, 1], "given up early");
    if early_s < 0.9 {
        assert_eq!(early, [1, 1, 0, 0, 0, 0, 0], "given up early");
    }
    assert_eq!(sums("client", "127.0.3.1"), [1, 0, 0, 0, retransmits, 1000, 0], "lost and sent again");
    let [connects, failures, timeouts, _, again, sent, received] = sums("client", "127.0.3.2");
    assert_eq!([connects, failures, timeouts, sent, received], [1, 0, 1, 1000, 0], "lost for good");
    assert!(again > 0);
    let [connects, failures, _, resets, _, sent, received] = sums("server", "127.0.0.1");
    assert_eq!([connects, failures, resets], [7 + 2 + 2, 0, 2 + 1], "accepted");
    assert_eq!([sent, received], [7 * 5000, 7 * 3000 + 1000], "answered");

    let row = &daemon.query(&format!(
        "SELECT max(remote_port) AS port, sum(connect_total_ns) AS total, max(connect_max_ns) AS longest FROM sockets \
         WHERE pid = {pid} AND remote_address = '127.0.2.1'"
    ))[0];
    assert_eq!(number(&row["port"]), 4000);
    assert!(number(&row["longest"]) > 1_000_000_000 && row["longest"] == row["total"], "{row}");
    let row = &daemon.query(&format!(
        "SELECT max(remote_port) AS port, max(rtt_ns) AS rtt FROM sockets WHERE pid = {pid} AND side = 'server'"
    ))[0];
    assert_eq!(number(&row["port"]), 0);
    assert!(number(&row["rtt"]) > 0, "{row}");
}

#[test]
fn long_lived() {
    needs_probes!();
    let mut peers = Peers::connections("long-lived");
    assert_eq!(peers.hear()["open"], true);
    let mut daemon = Daemon::start();
    let pid = peers.pid();
    peers.go_on();
    assert_eq!(peers.hear()["talked"], true);
    // Both ends are open, and were before the probes; their bytes are there when the window ends.
    let both = format!("SELECT side FROM sockets WHERE pid = {pid} GROUP BY side HAVING count(DISTINCT side) = 1");
    while daemon.wait_for(&both).len() < 2 {}
    assert_eq!(moved(&daemon, pid, "client", "127.0.4.1"), [0, 0, 0, 0, 0, 30_000, 4_000_000]);
    assert_eq!(moved(&daemon, pid, "server", "127.0.0.1"), [0, 0, 0, 0, 0, 4_000_000, 30_000]);
    peers.go_on();
    assert_eq!(peers.hear()["closed"], true);
    daemon.settle();
    assert_eq!(moved(&daemon, pid, "client", "127.0.4.1"), [0, 0, 0, 0, 0, 30_005, 4_000_007]);
    assert_eq!(moved(&daemon, pid, "server", "127.0.0.1"), [0, 0, 0, 0, 0, 4_000_007, 30_005]);
}

#[test]
fn a_process_for_each_connection() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let mut peers = Peers::connections("forking");
    let children = peers.hear()["children"].as_array().expect("two").clone();
    daemon.settle();
    assert_eq!(moved(&daemon, peers.pid(), "server", "127.0.0.1"), [2, 0, 0, 0, 0, 0, 0]);
    for (child, sent) in children.iter().zip([1000, 2000]) {
        let pid = u32::try_from(number(child)).expect("a pid");
        assert_eq!(moved(&daemon, pid, "server", "127.0.0.1"), [0, 0, 0, 0, 0, sent, 0]);
    }
}

#[test]
fn names() {
    needs_probes!();
    let mut daemon = Daemon::start();
    let mut peers = Peers::start(include_str!("../clients/names.py"), &[]);
    let pids = peers.hear();
    daemon.settle();
    let names = |who: &str| -> Vec<Value> {
        let rows = daemon.query(&format!(
            "SELECT remote_address, remote_name FROM sockets WHERE pid = {} AND side = 'client' AND connects > 0",
            pids[who]
        ));
        rows.iter().map(|row| serde_json::json!([row["remote_address"], row["remote_name"]])).collect()
    };
    assert_eq!(names("resolver"), [serde_json::json!(["127.0.6.1", "pay.example.test"])]);
    assert_eq!(names("recvfrom"), [serde_json::json!(["127.0.6.2", "stock.example.test"])]);
    assert_eq!(names("recvmsg"), [serde_json::json!(["127.0.6.3", "mail.example.test"])]);
    assert_eq!(names("other"), [serde_json::json!(["127.0.6.1", "other.example.test"])]);
    assert_eq!(names("literal"), [serde_json::json!(["127.0.6.2", "stock.example.test"])], "as told to the host");

    // The query of the manual, with its provider's name replaced by ours.
    let manual = include_str!("../../docs/operations.md");
    let query = manual.split("```sql\n").find_map(|part| {
        let query = part.split("```").next()?;
        query.contains("FROM sockets").then(|| query.trim().trim_end_matches(';').replace("%payments%", "pay.%"))
    });
    let rows = daemon.query(&query.expect("the manual has it"));
    let row = rows.iter().find(|row| row["remote_name"] == "pay.example.test").expect("a row");
    assert_eq!((number(&row["connects"]), number(&row["timeouts"])), (1, 0), "{row}");
}
