//! Writes the history of a made-up host, for `cargo xtask bench history`: `history_week FOLDER PROCESSES DAYS`.
//!
//! Most processes idle, every 20th works, every 100th works hard; on the first day a database keeps 20 hits per second.

use std::{error::Error, path::PathBuf, sync::Arc};

use hitscope_history::{CUBE_NS, Settings, Writer};
use hitscope_schemas::tables::{Hit, Process, Row};

/// 2026-01-01 00:00 UTC.
const START_NS: u64 = 1_767_225_600_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const INTERVAL_NS: u64 = 5 * SECOND_NS;
const DAY_NS: u64 = 86_400 * SECOND_NS;
const PAGE: u64 = 4096;
const HITS_PER_SECOND: u64 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or_else(|| format!("{name} is missing"));
    let folder = PathBuf::from(next("FOLDER")?);
    let count: u32 = next("PROCESSES")?.parse()?;
    let days: u64 = next("DAYS")?.parse()?;

    let tables = [Process::table(), Hit::table()];
    let (mut writer, _) = Writer::open(&folder, "made-up", &tables, Settings::keep_all())?;
    let mut random = Random(0x5eed);
    let mut processes: Vec<Sampled> = (0..count).map(|index| Sampled::new(index, &mut random)).collect();
    let operations: Vec<Arc<str>> =
        (0..40).map(|index| format!("SELECT * FROM table_{index} WHERE id = ?").into()).collect();
    let words = Words::new();
    for cube in (START_NS..START_NS + days * DAY_NS).step_by(CUBE_NS as usize) {
        for time in (cube..cube + CUBE_NS).step_by(INTERVAL_NS as usize) {
            writer.append(processes.iter_mut().map(|process| process.sample(time, &words, &mut random)).collect());
            if time < START_NS + DAY_NS {
                let hits = 0..HITS_PER_SECOND * (INTERVAL_NS / SECOND_NS);
                writer.append(hits.map(|_| hit(time, &operations, &words, &mut random)).collect());
            }
        }
        let flushed = writer.flush(cube + CUBE_NS)?;
        if !flushed.lost.is_empty() {
            return Err(format!("rows were lost: {:?}", flushed.lost).into());
        }
    }
    writer.finish()?;
    Ok(())
}

/// xorshift64: the same history each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

struct Words {
    user: Arc<str>,
    sleeping: Arc<str>,
    database: Arc<str>,
    protocol: Arc<str>,
    side: Arc<str>,
    ok: Arc<str>,
    unix: Arc<str>,
}

impl Words {
    fn new() -> Self {
        Self {
            user: "app".into(),
            sleeping: "sleeping".into(),
            database: "postgresql.service".into(),
            protocol: "postgres".into(),
            side: "server".into(),
            ok: "ok".into(),
            unix: "unix".into(),
        }
    }
}

struct Sampled {
    pid: u32,
    command: Arc<str>,
    arguments: Arc<str>,
    service: Arc<str>,
    start_ns: u64,
    rss_pages: u64,
    /// Of 1000 intervals, in how many it does something.
    busy: u64,
}

impl Sampled {
    fn new(index: u32, random: &mut Random) -> Self {
        let busy = match index {
            _ if index % 100 == 7 => 1000,
            _ if index % 20 == 3 => 500,
            _ => 20,
        };
        Self {
            pid: 1000 + index,
            command: format!("command-{}", index % 50).into(),
            arguments: format!("/usr/bin/command-{} --instance {index}", index % 50).into(),
            service: format!("unit-{}.service", index % 30).into(),
            start_ns: START_NS - random.below(DAY_NS),
            rss_pages: 500 + random.below(50_000),
            busy,
        }
    }

    fn sample(&mut self, time: u64, words: &Words, random: &mut Random) -> Process {
        let works = random.below(1000) < self.busy;
        let mut used = |most: u64| if works { random.below(most) } else { 0 };
        let (user, system, waited) = (used(2_000_000_000), used(500_000_000), used(50_000_000));
        let (read, written, received, sent) = (used(64) * PAGE, used(256) * PAGE, used(1 << 20), used(1 << 20));
        let (faults, voluntary, involuntary) = (used(1000), used(5000), used(200));
        if works && random.one_in(3) {
            self.rss_pages = (self.rss_pages + random.below(64)).saturating_sub(random.below(64));
        }
        let rss_bytes = self.rss_pages * PAGE;
        Process {
            time: time as i64,
            interval_ns: INTERVAL_NS,
            pid: self.pid,
            start_time: self.start_ns as i64,
            parent_pid: 1,
            command: self.command.clone(),
            arguments: self.arguments.clone(),
            user: words.user.clone(),
            service: self.service.clone(),
            container: None,
            state: words.sleeping.clone(),
            cpu_user_ns: user,
            cpu_system_ns: system,
            runqueue_ns: Some(waited),
            rss_bytes,
            pss_bytes: None,
            swap_bytes: Some(0),
            virtual_bytes: Some(4 * rss_bytes),
            threads: 4,
            open_files: Some(32),
            read_bytes: Some(read),
            written_bytes: Some(written),
            received_bytes: Some(received),
            sent_bytes: Some(sent),
            minor_faults: faults,
            major_faults: 0,
            voluntary_switches: voluntary,
            involuntary_switches: involuntary,
            exited: false,
            exit_code: None,
        }
    }
}

fn hit(time: u64, operations: &[Arc<str>], words: &Words, random: &mut Random) -> Hit {
    let operation = random.below(operations.len() as u64) as usize;
    let duration_ns = 50_000 + random.below(400_000);
    Hit {
        end_time: (time + random.below(INTERVAL_NS)) as i64,
        duration_ns,
        protocol: words.protocol.clone(),
        side: words.side.clone(),
        service: words.database.clone(),
        pid: 5000 + random.below(20) as u32,
        thread_id: 5000,
        container: None,
        remote_address: words.unix.clone(),
        remote_port: 0,
        local_port: 0,
        encrypted: false,
        user: None,
        database: None,
        application: None,
        authority: None,
        operation: operations[operation].clone(),
        operation_id: 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(operation as u64 + 1),
        status: words.ok.clone(),
        error_code: None,
        error_message: None,
        rows: Some(1),
        request_bytes: 40 + random.below(10),
        response_bytes: 100 + random.below(400),
        cpu_ns: Some(duration_ns / 2 + random.below(20_000)),
        runqueue_ns: Some(random.below(20_000)),
        disk_ns: None,
        lock_ns: None,
        network_ns: None,
        queued_ns: None,
        text: None,
        weight: 1 + random.below(500),
    }
}
