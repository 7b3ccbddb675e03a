//! What a statement costs on its way from the ring buffer to the windows: `cargo run --release --example hits [statements]`.
//!
//! Feeds both sides of 4 connections with one short statement after the other, a tick each 25,000, and prints the CPU
//! time per hit: decoding, counting and keeping together, and of that the counting and keeping.

use std::sync::Arc;

use bytemuck::Zeroable;
use hitscope_collector::{
    Settings,
    event::{Clock, Event},
    facts::{Facts, ProcessFacts},
    pipeline::{Input, Pipeline},
    rows::Rows,
    windows::{Measures, Origin, Windows},
};
use hitscope_schemas::sockets::{FAMILY_INET, RECEIVED, SENT, SegmentEvent, SocketEvent};
use hitscope_wire::{Exchange, Facts as Session, Mark, Protocol, Side, Status, Times};

const CONNECTIONS: usize = 4;
const PER_SECOND: u64 = 25_000;

struct Nobody;

impl Facts for Nobody {
    fn process(&mut self, _pid: u32) -> Option<ProcessFacts> {
        None
    }

    fn user(&mut self, _user_id: u32) -> Option<Arc<str>> {
        None
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

/// One side of one connection.
struct Stream {
    socket: u64,
    offsets: [u64; 2],
}

impl Stream {
    fn moved(&mut self, pipeline: &mut Pipeline, now_ns: u64, direction: u32, bytes: &[u8]) {
        let mut event = SegmentEvent::zeroed();
        event.header.time_ns = now_ns;
        event.header.pid = self.socket as u32;
        event.header.thread_id = self.socket as u32;
        event.socket = self.socket;
        event.enter_ns = now_ns - 500;
        event.offset = self.offsets[direction as usize];
        event.length = bytes.len() as u64;
        event.times.cpu_ns = now_ns / 2;
        event.direction = direction;
        event.head_len = bytes.len() as u32;
        self.offsets[direction as usize] += bytes.len() as u64;
        pipeline.handle_with(Input::Event(Event::Segment(&event, bytes, b"")), &mut Nobody);
    }
}

/// CPU time of this process, ns: other load on the machine does not count.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn main() {
    let statements: u64 = std::env::args().nth(1).map_or(1_000_000, |argument| argument.parse().expect("a number"));
    let mut pipeline = Pipeline::new(&Settings::default(), std::env::consts::ARCH);
    let clock = Clock { monotonic_ns: 0, boottime_ns: 0, realtime_ns: 1_700_000_000_000_000_000 };
    pipeline.handle_with(Input::Event(Event::Clock(clock)), &mut Nobody);
    let mut now_ns = 1_000_000_000;
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend(b"user\0app\0database\0shop\0\0");
    startup[3] = startup.len() as u8;
    let ready = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    let mut streams = Vec::new();
    for index in 0..2 * CONNECTIONS {
        let (request, answer) = if index % 2 == 0 { (RECEIVED, SENT) } else { (SENT, RECEIVED) };
        let mut socket = SocketEvent::zeroed();
        socket.header.pid = index as u32 + 1;
        socket.socket = index as u64 + 1;
        socket.family = FAMILY_INET;
        pipeline.handle_with(Input::Event(Event::Socket(&socket)), &mut Nobody);
        let mut stream = Stream { socket: socket.socket, offsets: [0; 2] };
        stream.moved(&mut pipeline, now_ns, request, &startup);
        stream.moved(&mut pipeline, now_ns + 1000, answer, &ready);
        streams.push((stream, request, answer));
    }
    let query = |index: u64| message(b'Q', format!("SELECT abalance FROM accounts WHERE aid = {index};\0").as_bytes());
    let queries: Vec<Vec<u8>> = (0..1000).map(query).collect();
    let answer =
        [message(b'T', &[0; 30]), message(b'D', &[0; 12]), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    let mut kept = 0;
    let begin = cpu_ns();
    for index in 0..statements {
        let chosen = index as usize % CONNECTIONS * 2;
        for (stream, request, response) in &mut streams[chosen..chosen + 2] {
            now_ns += 10_000;
            stream.moved(&mut pipeline, now_ns, *request, &queries[index as usize % queries.len()]);
            stream.moved(&mut pipeline, now_ns + 5_000 + index % 977, *response, &answer);
        }
        if index % PER_SECOND == PER_SECOND - 1 {
            pipeline.handle_with(Input::Tick(now_ns), &mut Nobody);
            kept += pipeline.take_rows().hits.len();
        }
    }
    let hits = pipeline.counters()["hits"];
    let each = (cpu_ns() - begin) / hits.max(1);
    println!("{hits} hits of {statements} statements, {kept} kept: {each} ns per hit, decoding included");
    count(statements);
}

/// The windows alone.
fn count(statements: u64) {
    let mut windows = Windows::new(&Settings::default());
    let group = windows.group(&"db".into(), "postgres", "server");
    let operations: Vec<Arc<str>> = (0..20).map(|index| format!("select {index}").into()).collect();
    let origin = Origin { pid: 42, container: None, remote_address: "unix".into(), remote_port: 0, local_port: 0 };
    let mut rows = Rows::default();
    let begin = cpu_ns();
    for index in 0..statements {
        let exchange = Exchange {
            protocol: Protocol::Postgres,
            side: Side::Server,
            start: Mark::default(),
            end: Mark::default(),
            shared: false,
            operation: operations[index as usize % operations.len()].clone(),
            operation_id: index % operations.len() as u64 + 1,
            status: Status::Ok,
            error_code: None,
            error_message: None,
            rows: Some(1),
            request_bytes: 10,
            response_bytes: 20,
            authority: None,
            text: None,
        };
        let measures = Measures {
            end_ns: index as i64 * 40_000,
            duration_ns: 50_000 + index % 977,
            split: Some(Times { cpu_ns: 1, runqueue_ns: 1, ..Times::default() }),
            queued_ns: None,
        };
        windows.add(&group, &origin, &Session::default(), measures, exchange);
        if index % PER_SECOND == PER_SECOND - 1 {
            windows.flush(&mut rows);
            rows = Rows::default();
        }
    }
    println!("{} ns of that in the windows", (cpu_ns() - begin) / statements.max(1));
}
