//! Makes the recordings in `tests/replays` anew; as root. See `src/replays.rs`.
//!
//! A recording is of the whole host: only what belongs to the PostgreSQL and the clients started here is kept.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use hitscope_schemas::{
    connections::{RemoteKey, RemoteStats},
    event::EventHeader,
    sched::{ProcessKey, ProcessTimes},
    syscalls::{SyscallKey, SyscallStats},
};
use hitscope_tests::{
    Postgres, Via,
    host::{binary, wait_until},
    process::{run_measured, signal},
    raw::{self, Raw},
};
use serde_json::Value;

fn main() {
    record("simple", |session| {
        for via in [Via::Socket, Via::Tcp] {
            session.psql(via, &["create table if not exists t (a int primary key, b text)"]);
            session
                .psql(via, &["insert into t values (1, 'one'), (2, 'two') on conflict do nothing", "select * from t"]);
            session.psql(via, &["select 1 as first; select 2 as second; select 1 / 0 as third; select 4 as fourth"]);
            session.psql(via, &["select * from missing", "insert into t values (1)", "select pg_sleep(0.12)"]);
            session.psql(via, &["copy (select generate_series(1, 3000)) to stdout"]);
            session.psql(via, &["begin", "update t set b = 'three' where a = 1", "rollback"]);
        }
    });
    record("extended", |session| {
        for mode in ["simple", "extended", "prepared"] {
            let arguments = ["-M", mode, "-c", "2", "-t", "4"];
            session.run(&mut session.postgres.pgbench(Via::Tcp, &arguments));
        }
        let mut raw = Raw::connect(session.postgres.port());
        let run = |sql: &str| [raw::parse("", sql), raw::bind("", ""), raw::execute("", 0)].concat();
        raw.send(&[run("select 1 as a"), run("select 2 as b"), run("select 3 as c"), raw::sync()]);
        raw.until_ready();
        raw.send(&[run("select 1 as before"), run("select 1 / 0 as wrong"), run("select 1 as after"), raw::sync()]);
        raw.until_ready();
        raw.send(&[raw::parse("s", "select generate_series(1, 25)"), raw::bind("p", "s"), raw::execute("p", 10)]);
        raw.send(&[raw::execute("p", 10), raw::execute("p", 10), raw::sync()]);
        raw.until_ready();
    });
}

struct Session {
    postgres: Postgres,
    pids: BTreeSet<u32>,
}

impl Session {
    fn psql(&mut self, via: Via, statements: &[&str]) {
        let mut command = self.postgres.psql_command(via);
        command.args(statements.iter().flat_map(|sql| ["--command", sql]));
        self.run(&mut command);
    }

    fn run(&mut self, command: &mut Command) {
        let ended = run_measured(command.stdout(Stdio::null()).stderr(Stdio::null()));
        self.pids.insert(ended.pid);
    }
}

fn record(name: &str, act: impl FnOnce(&mut Session)) {
    let postgres = Postgres::with("log_connections = on");
    postgres.pgbench_init();
    let mut session = Session { postgres, pids: BTreeSet::new() };
    let whole = session.postgres.folder().join("whole.rec");
    let mut recorder =
        Command::new(binary()).arg("record").arg(&whole).stdin(Stdio::null()).spawn().expect("hitscope starts");
    // Its first process sample shows that the probes collect.
    wait_until("it records", || {
        let bytes = fs::read(&whole).ok()?;
        frames(&bytes).1.iter().any(|(kind, _)| *kind == PROCESSES).then_some(())
    });
    act(&mut session);
    signal(recorder.id(), libc::SIGINT);
    assert!(recorder.wait().expect("its end").success());

    let log = session.postgres.log();
    let backends = log.lines().filter_map(|line| line.split(' ').next()?.parse::<u32>().ok());
    session.pids.extend(backends);
    let bytes = trimmed(&fs::read(&whole).expect("the recording"), &session.pids);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("replays").join(name).with_extension("rec");
    fs::write(&path, &bytes).expect("the recording is written");
    println!("{}: {} bytes", path.display(), bytes.len());
}

// The format is that of the collector's `record.rs`.
const EXEC: u32 = 2;
const CLOSE: u32 = 6;
const SYSCALLS: u32 = 7;
const PROCESS_TIMES: u32 = 8;
const PROCESSES: u32 = 10;
const HOST: u32 = 11;
const FACT_PROCESS: u32 = 15;
const REMOTES: u32 = 17;
const DNS: u32 = 18;

/// The header and the whole frames, each its kind and payload.
fn frames(bytes: &[u8]) -> (Value, Vec<(u32, &[u8])>) {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let Some(length) = number(12).map(|length| length as usize) else { return (Value::Null, Vec::new()) };
    let header = bytes.get(16..16 + length).and_then(|header| serde_json::from_slice(header).ok());
    let (mut at, mut frames) = (16 + length, Vec::new());
    while let (Some(kind), Some(length)) = (number(at), number(at + 4)) {
        let Some(payload) = bytes.get(at + 8..at + 8 + length as usize) else { break };
        frames.push((kind, payload));
        at += 8 + length as usize;
    }
    (header.unwrap_or_default(), frames)
}

/// The recording of these processes alone, on a host without a name.
fn trimmed(bytes: &[u8], pids: &BTreeSet<u32>) -> Vec<u8> {
    let (mut header, frames) = frames(bytes);
    header["host"] = "recorded".into();
    let header = header.to_string();
    let mut trimmed = bytes[..12].to_vec();
    trimmed.extend((header.len() as u32).to_le_bytes());
    trimmed.extend(header.as_bytes());
    for (kind, payload) in frames {
        let payload = match kind {
            EXEC..=CLOSE | DNS => {
                let header: EventHeader = bytemuck::pod_read_unaligned(&payload[..size_of::<EventHeader>()]);
                pids.contains(&header.pid).then(|| payload.to_vec())
            }
            // Of one process, for they are large.
            SYSCALLS => Some(pairs::<SyscallKey, SyscallStats>(payload, |key| pids.first() == Some(&key.pid))),
            PROCESS_TIMES => Some(pairs::<ProcessKey, ProcessTimes>(payload, |key| pids.contains(&key.pid))),
            REMOTES => Some(pairs::<RemoteKey, RemoteStats>(payload, |key| pids.contains(&key.pid))),
            PROCESSES => {
                let mut sample: Value = serde_json::from_slice(payload).expect("a sample");
                let processes = sample["processes"].as_array_mut().expect("processes");
                processes.retain(|process| is_of(pids, &process["stat"]["pid"]));
                processes.iter_mut().for_each(unplaced);
                Some(sample.to_string().into_bytes())
            }
            HOST => None,
            FACT_PROCESS => {
                let mut answer: Value = serde_json::from_slice(payload).expect("an answer");
                unplaced(&mut answer[1]);
                is_of(pids, &answer[0]).then(|| answer.to_string().into_bytes())
            }
            _ => Some(payload.to_vec()),
        };
        if let Some(payload) = payload {
            trimmed.extend(kind.to_le_bytes());
            trimmed.extend((payload.len() as u32).to_le_bytes());
            trimmed.write_all(&payload).expect("memory takes all");
        }
    }
    trimmed
}

fn is_of(pids: &BTreeSet<u32>, pid: &Value) -> bool {
    pid.as_u64().and_then(|pid| u32::try_from(pid).ok()).is_some_and(|pid| pids.contains(&pid))
}

/// Takes out the control group, which is the recording machine's.
fn unplaced(process: &mut Value) {
    if let Some(cgroup) = process.pointer_mut("/identity/cgroup") {
        *cgroup = "".into();
    }
}

fn pairs<K: bytemuck::Pod, V>(payload: &[u8], keep: impl Fn(&K) -> bool) -> Vec<u8> {
    let pairs = payload.chunks_exact(size_of::<K>() + size_of::<V>());
    pairs.filter(|pair| keep(&bytemuck::pod_read_unaligned(&pair[..size_of::<K>()]))).flatten().copied().collect()
}
