//! Redis' commands: hitscope's counts are those of `INFO commandstats`, command by command.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use hitscope_tests::{
    Daemon, Redis, Via,
    calls::lost,
    needs_probes, number,
    postgres::succeed,
    redis::{Commands, UNRESOLVED, commands_by_hits},
    wait_until,
};
use serde_json::Value;

const BOTH: &[&str] = &["server", "client"];

/// Room for all that a benchmark says, however late it is read: here every command is to be counted.
const ROOM: &str = "[probes]\nring_buffer_bytes = 134217728\n";

/// Which hits are of this server's connections. Those over its Unix socket have no port; there is no other Redis.
fn whose(redis: &Redis, side: &str, via: Via) -> String {
    match (side, via) {
        ("server", _) => format!("pid = {}", redis.pid()),
        (_, Via::Tcp) => format!("remote_port = {}", redis.port()),
        (_, Via::Socket) => "remote_address = 'unix'".into(),
    }
}

/// Prints each command's counts; returns what is not accounted for: commands that ran and have no hit by their name, and
/// hits whose command was not captured.
fn compare(what: &str, executed: &Commands, hits: &Commands) -> (u64, u64) {
    let mut missing = 0;
    for (command, executed) in executed {
        let hits = hits.get(command).copied().unwrap_or_default();
        println!("{what}: {command}: ran {executed}, hits {hits}, difference {}", executed.abs_diff(hits));
        assert!(hits <= *executed, "{what}: more hits than commands: {command}");
        missing += executed - hits;
    }
    let unresolved = hits.get(UNRESOLVED).copied().unwrap_or_default();
    let strangers: Vec<_> = hits.keys().filter(|name| *name != UNRESOLVED && !executed.contains_key(*name)).collect();
    assert!(strangers.is_empty(), "{what}: never ran: {strangers:?}");
    println!(
        "{what}: {} commands; without a hit of their name: {missing}, unresolved hits: {unresolved}",
        executed.values().sum::<u64>()
    );
    (missing, unresolved)
}

/// Every command ran and is a hit, by its name.
fn assert_equal(daemon: &mut Daemon, redis: &Redis, executed: &Commands, via: Via) {
    daemon.settle();
    for side in BOTH {
        let hits = commands_by_hits(daemon, side, &whose(redis, side, via));
        let counts = compare(&format!("{side} over {via:?}"), executed, &hits);
        assert_eq!(counts, (0, 0), "{side}: {}", lost(daemon));
    }
}

/// All default tests of `redis-benchmark`, 16 commands at a time.
///
/// Answers are captured to 64 KiB of a turn, and to 8 KiB of a call while the connection's protocol is not known yet, which
/// takes up to 0.1 s. Those of `LRANGE` go beyond: they are hits all the same, and count as `answer_incomplete`, since
/// their rows are not known.
fn benchmark(via: Via, clients: &str) {
    let redis = Redis::start();
    let mut daemon = Daemon::with(ROOM);
    redis.count_commands();
    succeed(&mut redis.benchmark(via, &["-P", "16", "-c", clients, "-n", "3200"]));
    let executed = redis.commands();
    assert!(executed["lrange"] >= 4 * 3200 && executed["mset"] >= 3200, "{executed:?}");
    assert_equal(&mut daemon, &redis, &executed, via);
    println!("lost: {}", lost(&daemon));
}

#[test]
fn benchmark_tcp_one_client() {
    needs_probes!();
    benchmark(Via::Tcp, "1");
}

#[test]
fn benchmark_tcp_many_clients() {
    needs_probes!();
    benchmark(Via::Tcp, "50");
}

#[test]
fn benchmark_socket_one_client() {
    needs_probes!();
    benchmark(Via::Socket, "1");
}

#[test]
fn benchmark_socket_many_clients() {
    needs_probes!();
    benchmark(Via::Socket, "50");
}

#[test]
fn transactions_scripts_and_errors() {
    needs_probes!();
    for via in [Via::Tcp, Via::Socket] {
        let redis = Redis::start();
        let mut daemon = Daemon::start();
        redis.count_commands();
        for options in [&[][..], &["-3"]] {
            redis.say(
                via,
                options,
                "SET user:17 ann\nGET user:17\nHSET cart:1 a 1 b 2\nHGETALL cart:1\nCONFIG GET save\n",
            );
            redis.say(via, options, "MULTI\nINCR n\nLPUSH user:17 x\nSET user:18 bob\nEXEC\n");
            // Refused: the wrong number of arguments, the wrong kind of value.
            redis.say(via, options, "GET\nLPUSH user:17 x\nPING\n");
            redis.say(via, options, "EVAL \"return redis.call('incr', KEYS[1])\" 1 counted\n");
        }
        let mut executed = redis.commands();
        // The script's own call did not come over a connection.
        *executed.get_mut("incr").expect("it ran") -= 2;
        assert_eq!((executed["exec"], executed["eval"]), (2, 2), "{executed:?}");
        assert_equal(&mut daemon, &redis, &executed, via);
        for side in BOTH {
            let failed = daemon.query(&format!(
                "SELECT operation, error_code, sum(weight) AS hits FROM hits WHERE protocol = 'redis' AND side = '{side}' \
                 AND status = 'error' AND {} GROUP BY operation, error_code ORDER BY operation",
                whose(&redis, side, via)
            ));
            let failed: Vec<_> = failed
                .iter()
                .map(|row| (row["operation"].as_str(), row["error_code"].as_str(), number(&row["hits"])))
                .collect();
            let expected = [("EXEC", "WRONGTYPE"), ("GET", "ERR"), ("LPUSH user:{id}", "WRONGTYPE")];
            assert_eq!(failed, expected.map(|(operation, code)| (Some(operation), Some(code), 2)), "{side}");
        }
    }
}

/// A client that goes on until it is dropped.
struct Client(Child);

impl Client {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-cli starts"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn waits_for(redis: &Redis, what: &str, arguments: &[&str]) {
    wait_until(what, || redis.ask(arguments).contains(what).then_some(()));
}

#[test]
fn messages_are_no_hits() {
    needs_probes!();
    for options in [&[][..], &["-3"]] {
        let redis = Redis::start();
        let mut daemon = Daemon::start();
        let subscriber = Client::start(redis.cli(Via::Tcp).args(options).args(["SUBSCRIBE", "news", "weather"]));
        waits_for(&redis, "news", &["PUBSUB", "CHANNELS"]);
        for _ in 0..100 {
            succeed(redis.cli(Via::Tcp).args(["PUBLISH", "news", "what is new"]));
        }
        drop(subscriber);
        daemon.settle();
        for side in BOTH {
            let port = if *side == "server" { "local_port" } else { "remote_port" };
            let mut hits = commands_by_hits(&daemon, side, &format!("{port} = {}", redis.port()));
            hits.remove("hello");
            let expected = [("publish".to_owned(), 100), ("subscribe".to_owned(), 1)];
            assert_eq!(hits, expected.into(), "{side} {options:?}: {}", lost(&daemon));
        }
    }
}

#[test]
fn what_blocks_lasts_as_long() {
    needs_probes!();
    let redis = Redis::start();
    let mut daemon = Daemon::start();
    let mut blocked = Client::start(redis.cli(Via::Tcp).args(["BLPOP", "queue:1", "60"]));
    waits_for(&redis, "blocked_clients:1", &["INFO", "clients"]);
    thread::sleep(Duration::from_millis(200));
    succeed(redis.cli(Via::Tcp).args(["RPUSH", "queue:1", "x"]));
    assert!(blocked.0.wait().expect("redis-cli ends").success());
    let rows =
        daemon.settled("SELECT side, rows, duration_ns FROM hits WHERE operation = 'BLPOP queue:{id}' ORDER BY side");
    let whole = |row: &Value| number(&row["duration_ns"]) >= 200_000_000 && number(&row["rows"]) == 2;
    assert!(rows.len() == 2 && rows.iter().all(whole), "{rows:?}");
}

/// More than the ring buffer takes: whole calls are lost. How many commands were in one nobody can tell, so what was
/// asked and answered in such calls has no count but theirs. What is left is right, and what comes after is whole.
#[test]
fn more_than_can_be_read() {
    needs_probes!();
    let redis = Redis::start();
    let mut daemon = Daemon::with("[probes]\nring_buffer_bytes = 262144\n");
    redis.count_commands();
    let tests = "set,get,incr,lrange_600,mset";
    succeed(&mut redis.benchmark(Via::Tcp, &["-P", "16", "-c", "20", "-n", "50000", "-t", tests]));
    let executed = redis.commands();
    daemon.settle();
    let lost = lost(&daemon);
    for side in BOTH {
        let hits = commands_by_hits(&daemon, side, &whose(&redis, side, Via::Tcp));
        let (missing, unresolved) = compare(side, &executed, &hits);
        println!("{side}: {} without any hit; lost: {lost}", missing - unresolved);
        assert!(missing == unresolved || lost["segment_ring_full"].as_u64() > Some(0), "{lost}");
    }
    let before = ["server", "client"].map(|side| commands_by_hits(&daemon, side, &whose(&redis, side, Via::Tcp)));
    for _ in 0..20 {
        succeed(redis.cli(Via::Tcp).args(["ECHO", "after all"]));
    }
    daemon.settle();
    for (side, before) in BOTH.iter().zip(before) {
        let mut hits = commands_by_hits(&daemon, side, &whose(&redis, side, Via::Tcp));
        assert_eq!(hits.remove("echo"), Some(20), "{side}");
        assert_eq!(hits, before, "{side}");
    }
}
