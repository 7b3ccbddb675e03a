//! Events and facts made by hand.

use std::{collections::HashMap, sync::Arc};

use bytemuck::Zeroable;
use hitscope_schemas::{
    event::{EventHeader, KIND_EXEC, KIND_EXIT, KIND_SEGMENT, KIND_SOCKET},
    sched::{ARGUMENTS_LEN, COMM_LEN, ExecEvent, ExitEvent, ProcessKey, ProcessTimes},
    sockets::{FAMILY_INET, SegmentEvent, SocketEvent, ThreadTimes},
};

use crate::{
    event::Clock,
    facts::{Facts, Identity, Observed, ProcessFacts, Stat, Usage},
};

pub const SECOND: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;
/// Wall clock at the monotonic clock's zero; the start of a window.
pub const EPOCH: i64 = 1_700_000_000_000_000_000;

/// All clocks at a moment after boot.
pub fn clock(monotonic_ns: u64) -> Clock {
    Clock { monotonic_ns, boottime_ns: monotonic_ns, realtime_ns: EPOCH as u64 + monotonic_ns }
}

/// Processes and users that can be asked about.
#[derive(Clone, Default)]
pub struct FakeFacts {
    pub processes: HashMap<u32, ProcessFacts>,
    pub asked: Vec<u32>,
    /// Why no process's TLS can be read.
    pub unreadable: Option<Arc<str>>,
}

impl FakeFacts {
    pub fn add(&mut self, pid: u32, start_ticks: u64, command: &str, cgroup: &str) {
        let stat = Stat { pid, start_ticks, parent_pid: 1, command: command.into(), state: 'S', ..Stat::default() };
        self.processes.insert(pid, ProcessFacts { read_ns: 0, stat, identity: identity(command, cgroup) });
    }
}

impl Facts for FakeFacts {
    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        self.asked.push(pid);
        self.processes.get(&pid).cloned()
    }

    fn unreadable(&mut self, _: u32) -> Option<Arc<str>> {
        self.unreadable.clone()
    }

    fn user(&mut self, user_id: u32) -> Option<Arc<str>> {
        (user_id == 0).then(|| "root".into())
    }
}

pub fn identity(arguments: &str, cgroup: &str) -> Identity {
    Identity { user_id: 0, arguments: arguments.into(), cgroup: cgroup.into(), host_name: None }
}

/// A process in a sample, with CPU so far in ticks.
pub fn observed(pid: u32, start_ticks: u64, command: &str, ticks: (u64, u64)) -> Observed {
    let stat = Stat {
        pid,
        start_ticks,
        parent_pid: 1,
        command: command.into(),
        state: 'S',
        user_ticks: ticks.0,
        system_ticks: ticks.1,
        threads: 3,
        rss_bytes: 4096,
        virtual_bytes: 8192,
        ..Stat::default()
    };
    let usage = Usage { read_bytes: Some(1000 * (ticks.0 + ticks.1)), written_bytes: Some(0), ..Usage::default() };
    Observed { stat, identity: Some(identity(command, "0::/\n")), usage: Some(usage) }
}

pub fn header(kind: u32, time_ns: u64, pid: u32) -> EventHeader {
    EventHeader { kind, size: 0, time_ns, pid, thread_id: pid }
}

fn comm(command: &str) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    comm[..command.len()].copy_from_slice(command.as_bytes());
    comm
}

pub fn exec(time_ns: u64, pid: u32, start_ns: u64, parent_pid: u32, arguments: &str) -> ExecEvent {
    let mut event = ExecEvent {
        header: header(KIND_EXEC, time_ns, pid),
        start_ns,
        parent_pid,
        user_id: 0,
        comm: comm(arguments.split(' ').next().unwrap()),
        arguments_len: arguments.len() as u32,
        padding: 0,
        arguments: [0; ARGUMENTS_LEN],
    };
    for (to, from) in event.arguments.iter_mut().zip(arguments.bytes()) {
        *to = if from == b' ' { 0 } else { from };
    }
    event
}

/// The end of a process that used 30 ms in user and 10 ms in kernel mode.
pub fn exit(time_ns: u64, pid: u32, start_ns: u64, exit_status: i32) -> ExitEvent {
    ExitEvent {
        header: header(KIND_EXIT, time_ns, pid),
        start_ns,
        parent_pid: 1,
        user_id: 0,
        exit_status,
        padding: 0,
        comm: comm("ended"),
        user_ns: 30 * MS,
        system_ns: 10 * MS,
        max_rss_bytes: 1 << 20,
        read_bytes: 5000,
        written_bytes: u64::MAX,
        minor_faults: 77,
        major_faults: 0,
        voluntary_switches: 5,
        involuntary_switches: 6,
    }
}

pub fn times(pid: u32, start_ns: u64, cpu_ns: u64) -> (ProcessKey, ProcessTimes) {
    let times = ProcessTimes { cpu_ns, runqueue_ns: cpu_ns / 10, voluntary_switches: 2, involuntary_switches: 1 };
    (ProcessKey { start_ns, pid, ..ProcessKey::zeroed() }, times)
}

pub fn socket(time_ns: u64, pid: u32, socket: u64, remote_port: u16) -> SocketEvent {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[10, 0, 0, 7]);
    SocketEvent {
        header: header(KIND_SOCKET, time_ns, pid),
        socket,
        family: FAMILY_INET,
        local_port: 5432,
        remote_port,
        padding: 0,
        local_address: address,
        remote_address: address,
    }
}

/// A call of 1000 ns that ended at `time_ns` and moved bytes that were all captured.
pub fn segment(time_ns: u64, pid: u32, socket: u64, direction: u32, offset: u64, length: usize) -> SegmentEvent {
    SegmentEvent {
        header: header(KIND_SEGMENT, time_ns, pid),
        socket,
        enter_ns: time_ns - 1000,
        offset,
        length: length as u64,
        times: ThreadTimes { cpu_ns: time_ns / 4, runqueue_ns: time_ns / 8, ..ThreadTimes::default() },
        direction,
        head_len: length as u32,
        tail_len: 0,
        queued_ns: 0,
        flags: 0,
    }
}

/// The answer that `pay.example` is 192.0.2.1.
pub fn dns_answer() -> Vec<u8> {
    let header = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0";
    let question = b"\x03pay\x07example\0\0\x01\0\x01";
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
    [&header[..], question, record].concat()
}
