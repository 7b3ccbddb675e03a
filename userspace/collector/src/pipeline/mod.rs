//! From events to rows: the one path that live probes, recordings and tests all take.
//!
//! Nothing here reads a file or a clock: all that it knows comes in as an [`Input`] or as an answer of [`Facts`]. The
//! same inputs give the same rows.

mod connections;
mod encrypted;
mod hits;
mod losses;
mod segments;
mod threads;

use std::{collections::BTreeMap, sync::Arc};

use hitscope_schemas::{
    connections::{RemoteKey, RemoteStats},
    sched::{ExecEvent, ExitEvent},
    sockets::CloseEvent,
    syscalls::{SyscallKey, SyscallStats},
    tables,
};

use self::{connections::Connections, encrypted::Suspect, hits::Held, losses::Losses, threads::Threads};
use crate::{
    clocks::Clocks,
    event::Event,
    facts::{Facts, HostSample, ProcessSample},
    hosts,
    names::Names,
    processes::{Processes, exit_code},
    remotes,
    rows::Rows,
    settings::{Settings, window_start},
    syscalls,
    windows::Windows,
};

/// The syscall counts that come with a second's tick are of the second before, ns.
const HALF_SECOND_NS: i64 = 500_000_000;

/// Anything that goes into the pipeline; a recording is a list of these.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// From the kernel.
    Event(Event<'a>),
    /// From `/proc`: every process.
    Processes(&'a ProcessSample),
    /// From `/proc`: the host.
    Host(&'a HostSample),
    /// About hitscope itself, for the `events` table: kind (`start`, `stop`, `probe`) and detail.
    Note(&'a str, &'a str),
    /// A second has passed; monotonic clock, ns.
    Tick(u64),
    /// Nothing more comes.
    End,
}

/// What the kernel side should know about a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketCommand {
    /// `VERDICT_*` of a socket, by its inode number, with `PLAINTEXT_KEY` of its plaintext.
    Verdict(u64, u16),
    /// The socket is gone.
    Forget(u64),
}

/// All state between events and rows.
pub struct Pipeline {
    settings: Settings,
    wire: Arc<hitscope_wire::Settings>,
    clocks: Clocks,
    /// The latest moment heard of, monotonic, ns.
    now_ns: u64,
    window: i64,
    connections: Connections,
    threads: Threads,
    processes: Processes,
    windows: Windows,
    names: Names,
    /// Hits of processes that nothing is known of yet.
    held: Vec<Held>,
    syscall_names: syscalls::Names,
    host: Option<HostSample>,
    losses: Losses,
    overflowed: u64,
    events_left: u32,
    counters: Counters,
    commands: Vec<SocketCommand>,
    notes: Vec<String>,
    /// Why the TLS of processes cannot be read, and when that was asked, monotonic, ns.
    unreadable: BTreeMap<u32, (u64, Option<Arc<str>>)>,
    /// Encrypted connections that it seems cannot be read.
    suspects: Vec<Suspect>,
    rows: Rows,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    connections: u64,
    encrypted: u64,
    decrypted: u64,
    unreadable: u64,
    segments: u64,
    segment_bytes: u64,
    executed: u64,
    exited: u64,
}

impl Pipeline {
    /// `architecture` is that of the host where the events come from, as [`std::env::consts::ARCH`] names it.
    pub fn new(settings: &Settings, architecture: &str) -> Self {
        let wire = hitscope_wire::Settings {
            keep_literals: settings.keep_literals,
            connection_bytes: settings.connection_bytes.bytes(),
            paths: settings.http.paths(),
            ..hitscope_wire::Settings::default()
        };
        Self {
            windows: Windows::new(settings),
            events_left: settings.events_per_second,
            settings: settings.clone(),
            wire: Arc::new(wire),
            clocks: Clocks::default(),
            now_ns: 0,
            window: 0,
            connections: Connections::default(),
            threads: Threads::default(),
            processes: Processes::default(),
            names: Names::default(),
            held: Vec::new(),
            syscall_names: syscalls::Names::new(architecture),
            host: None,
            losses: Losses::default(),
            overflowed: 0,
            counters: Counters::default(),
            commands: Vec::new(),
            notes: Vec::new(),
            unreadable: BTreeMap::new(),
            suspects: Vec::new(),
            rows: Rows::default(),
        }
    }

    /// Takes in whatever comes next.
    pub fn handle(&mut self, input: Input<'_>, facts: &mut dyn Facts) {
        match input {
            Input::Event(event) => self.event(event, facts),
            Input::Processes(sample) => {
                self.processes.sample(sample, &self.clocks, facts, &mut self.rows.processes);
                let processes = &self.processes;
                for socket in self.connections.orphans(|pid| processes.alive(pid)) {
                    self.remove(socket, self.now_ns);
                }
            }
            Input::Host(sample) => {
                if let Some(before) = &self.host {
                    self.rows.hosts.push(hosts::row(before, sample));
                }
                self.host = Some(sample.clone());
            }
            Input::Note(kind, detail) => {
                let time = self.clocks.wall(self.now_ns);
                self.rows.events.push(row(time, kind, 0, "".into(), detail));
            }
            Input::Tick(now_ns) => self.tick(now_ns),
            Input::End => {
                self.tick(self.now_ns);
                self.judge(self.now_ns);
                self.processes.finish(&self.clocks, &mut self.rows.processes);
                self.losses.report(self.clocks.wall(self.now_ns), &mut self.rows.events);
            }
        }
    }

    /// Counts something that was dropped outside of the pipeline.
    pub fn lost(&mut self, reason: &str, count: u64) {
        self.losses.add(reason, count);
    }

    /// The rows made so far.
    pub fn take_rows(&mut self) -> Rows {
        std::mem::take(&mut self.rows)
    }

    /// What the kernel side should be told.
    pub fn commands(&mut self) -> impl Iterator<Item = SocketCommand> + '_ {
        self.commands.drain(..)
    }

    /// What the user should find in the status.
    pub fn notes(&mut self) -> impl Iterator<Item = String> + '_ {
        self.notes.drain(..)
    }

    /// The wall clock of the latest moment heard of, ns since the epoch.
    pub fn wall_ns(&self) -> i64 {
        self.clocks.wall(self.now_ns)
    }

    /// What was dropped since the start, by reason.
    pub fn losses(&self) -> BTreeMap<String, u64> {
        self.losses.totals()
    }

    /// What was seen since the start, and what is followed now.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let Counters { connections, encrypted, decrypted, unreadable, segments, segment_bytes, executed, exited } =
            self.counters;
        [
            ("hits", self.windows.hits()),
            ("connections", connections),
            ("connections_open", self.connections.len() as u64),
            ("connections_encrypted", encrypted),
            ("connections_decrypted", decrypted),
            ("connections_unreadable", unreadable),
            ("segments", segments),
            ("segment_bytes", segment_bytes),
            ("processes", self.processes.len() as u64),
            ("processes_executed", executed),
            ("processes_exited", exited),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    }

    fn event(&mut self, event: Event<'_>, facts: &mut dyn Facts) {
        match event {
            Event::Clock(clock) => {
                self.clocks.set(clock);
                self.now_ns = self.now_ns.max(clock.monotonic_ns);
                self.processes.begin(self.clocks.wall(clock.monotonic_ns));
            }
            Event::Exec(event) => self.exec(event, facts),
            Event::Exit(event) => self.exit(event, facts),
            Event::Socket(event) => self.socket(event, facts),
            Event::Segment(event, head, tail) => self.segment(event, head, tail, facts),
            Event::Close(CloseEvent { header, socket }) => {
                self.now_ns = self.now_ns.max(header.time_ns);
                self.close(*socket, header.time_ns);
            }
            Event::Syscalls(counts) => self.syscalls(counts),
            Event::ProcessTimes(times) => {
                self.processes.times(times, self.now_ns, &self.clocks, facts, &mut self.rows.processes);
            }
            Event::Remotes(remotes) => self.remotes(remotes, facts),
            Event::Dns(event, datagram) => {
                self.now_ns = self.now_ns.max(event.header.time_ns);
                if let Some(answer) = hitscope_wire::dns::answer(datagram) {
                    let lost = self.names.learn(event.header.pid, &answer, event.header.time_ns);
                    self.losses.add("names_over_limit", lost);
                }
            }
            Event::Lost(reasons) => {
                for (reason, count) in reasons {
                    self.losses.add(reason, *count);
                }
            }
        }
    }

    fn tick(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        for held in std::mem::take(&mut self.held) {
            let service = self.processes.service(held.origin.pid);
            self.release(held, &service);
        }
        self.windows.flush(&mut self.rows);
        self.processes.tick(self.now_ns, &self.clocks, &mut self.rows.processes);
        self.connections.expire(self.now_ns);
        self.threads.expire(self.now_ns);
        self.judge(now_ns.saturating_sub(HALF_SECOND_NS as u64));
        self.events_left = self.settings.events_per_second;
        let overflowed = self.windows.overflowed();
        self.losses.add("operations_over_limit", overflowed - std::mem::replace(&mut self.overflowed, overflowed));
        let wall_ns = self.clocks.wall(self.now_ns);
        if std::mem::replace(&mut self.window, window_start(wall_ns)) != self.window {
            self.losses.report(wall_ns, &mut self.rows.events);
        }
    }

    fn exec(&mut self, event: &ExecEvent, facts: &mut dyn Facts) {
        self.counters.executed += 1;
        self.now_ns = self.now_ns.max(event.header.time_ns);
        let info = self.processes.exec(event, &self.clocks, facts);
        if self.may_write_event() {
            let time = self.clocks.wall(event.header.time_ns);
            let detail = if info.arguments.is_empty() { &info.command } else { &info.arguments };
            self.rows.events.push(row(time, "exec", info.pid, info.service.clone(), detail));
        }
    }

    fn exit(&mut self, event: &ExitEvent, facts: &mut dyn Facts) {
        self.counters.exited += 1;
        let ended_ns = event.header.time_ns;
        self.now_ns = self.now_ns.max(ended_ns);
        for socket in self.connections.of_process(event.header.pid) {
            self.remove(socket, ended_ns);
        }
        self.unreadable.remove(&event.header.pid);
        let info = self.processes.exit(event, &self.clocks, facts);
        for held in self.held.extract_if(.., |held| held.origin.pid == info.pid).collect::<Vec<_>>() {
            self.release(held, &info.service);
        }
        if self.may_write_event() {
            let lived_ms = self.clocks.boottime(ended_ns).saturating_sub(event.start_ns) / 1_000_000;
            let detail = format!("{}: exit code {} after {lived_ms} ms", info.command, exit_code(event.exit_status));
            let time = self.clocks.wall(ended_ns);
            self.rows.events.push(row(time, "exit", info.pid, info.service.clone(), &detail));
        }
    }

    fn may_write_event(&mut self) -> bool {
        let may = self.events_left > 0;
        self.events_left = self.events_left.saturating_sub(1);
        self.losses.add("process_events_over_limit", u64::from(!may));
        may
    }

    fn syscalls(&mut self, counts: &[(SyscallKey, SyscallStats)]) {
        let window = window_start(self.clocks.wall(self.now_ns) - HALF_SECOND_NS);
        self.rows.syscalls.extend(counts.iter().map(|(key, stats)| {
            syscalls::row(key, stats, window, self.processes.service(key.pid), &mut self.syscall_names)
        }));
    }

    fn remotes(&mut self, remotes: &[(RemoteKey, RemoteStats)], facts: &mut dyn Facts) {
        let window = window_start(self.clocks.wall(self.now_ns) - HALF_SECOND_NS);
        for (key, stats) in remotes {
            let service = self.processes.lookup(key.pid, &self.clocks, facts).service.clone();
            self.rows.sockets.push(remotes::row(key, stats, window, service, &mut self.names, self.now_ns));
        }
    }
}

fn row(time: i64, kind: &str, pid: u32, service: Arc<str>, detail: &str) -> tables::Event {
    tables::Event { time, kind: kind.into(), pid, service, detail: detail.into() }
}

#[cfg(test)]
mod tests;
