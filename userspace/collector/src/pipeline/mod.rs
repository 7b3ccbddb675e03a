//! From events to rows: the one path that live probes, recordings and tests all take.
//!
//! Nothing here reads a file or a clock: all that it knows comes in as an [`Input`]. What it wants to know it asks by a
//! [`Question`], and goes on; the answer comes as an input, too. The same inputs give the same rows.

mod connections;
mod encrypted;
mod held;
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

use self::{
    connections::Connections,
    encrypted::Suspect,
    held::{Holding, Waiting},
    losses::Losses,
    threads::Threads,
};
use crate::{
    clocks::{Boot, Clocks},
    event::Event,
    facts::{Fact, Facts, HostSample, ProcessSample, Question},
    hosts,
    names::Names,
    processes::{Processes, exit_code},
    rows::Rows,
    settings::{Settings, window_start},
    syscalls,
    windows::Windows,
};

/// Counts come each second, as a rule, ns.
const SECOND_NS: i64 = 1_000_000_000;
/// What seems to be longer than this is a step of the wall clock, ns.
const LONGEST_COUNT_NS: i64 = 60_000_000_000;
/// What was found to be encrypted is judged no earlier than this, ns: its plaintext comes within.
const JUDGED_NS: u64 = 500_000_000;

/// Anything that goes into the pipeline; a recording is a list of these.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// From the kernel.
    Event(Event<'a>),
    /// From `/proc`: every process.
    Processes(&'a ProcessSample),
    /// From `/proc`: the host.
    Host(&'a HostSample),
    /// An answer to a question.
    Fact(&'a Fact),
    /// Comes first, if at all: what an earlier run on the same boot told start times by.
    Boot(&'a Boot),
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

/// Why a process's TLS cannot be read; `None` where it can.
type WhyNot = Option<Arc<str>>;

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
    /// What waits for who it belongs to.
    holding: Holding,
    questions: Vec<Question>,
    /// Up to when counts were taken, wall clock, ns.
    counted_ns: Option<i64>,
    syscall_names: syscalls::Names,
    host: Option<HostSample>,
    losses: Losses,
    overflowed: u64,
    events_left: u32,
    counters: Counters,
    commands: Vec<SocketCommand>,
    notes: Vec<String>,
    /// Why the TLS of processes cannot be read, where it is known whether it can, and when that was asked, monotonic, ns.
    unreadable: BTreeMap<u32, (u64, Option<WhyNot>)>,
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
            processes: Processes::new(settings.arguments),
            names: Names::default(),
            holding: Holding::default(),
            questions: Vec::new(),
            counted_ns: None,
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
    pub fn handle(&mut self, input: Input<'_>) {
        match input {
            Input::Event(event) => self.event(event),
            Input::Processes(sample) => {
                self.processes.sample(sample, &self.clocks, &mut self.rows.processes);
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
            Input::Fact(Fact::Process(pid, found)) => {
                self.processes.answer(*pid, found.as_ref(), &self.clocks);
                self.release_answered(*pid);
            }
            Input::Fact(Fact::User(user_id, name)) => self.processes.name_user(*user_id, name.as_ref()),
            Input::Fact(Fact::Unreadable(pid, reason)) => self.explain(*pid, reason.as_ref()),
            Input::Boot(boot) => self.clocks.set_boot(boot.clone()),
            Input::Note(kind, detail) => {
                let time = self.clocks.wall(self.now_ns);
                self.rows.events.push(row(time, kind, 0, "".into(), detail));
            }
            Input::Tick(now_ns) => self.tick(now_ns),
            Input::End => {
                self.tick(self.now_ns);
                self.release_late(u64::MAX);
                self.windows.flush(&mut self.rows);
                self.judge(self.now_ns, true);
                self.processes.finish(&self.clocks, &mut self.rows.processes);
                self.losses.report(self.clocks.wall(self.now_ns), &mut self.rows.events);
            }
        }
    }

    /// Takes in whatever comes next, and the answers to the questions that it raises, as soon as they are raised.
    pub fn handle_with(&mut self, input: Input<'_>, facts: &mut dyn Facts) {
        self.handle(input);
        loop {
            let questions: Vec<Question> = self.questions().collect();
            if questions.is_empty() {
                return;
            }
            questions.into_iter().for_each(|question| self.handle(Input::Fact(&facts.answer(question))));
        }
    }

    /// What it wants to know.
    pub fn questions(&mut self) -> impl Iterator<Item = Question> + '_ {
        self.processes.questions().chain(self.questions.drain(..))
    }

    /// What start times are told by.
    pub fn boot(&self) -> &Boot {
        self.clocks.boot()
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
            ("rows_held", self.holding.len() as u64),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Clock(clock) => {
                self.clocks.set(clock);
                self.now_ns = self.now_ns.max(clock.monotonic_ns);
                self.processes.begin(self.clocks.wall(clock.monotonic_ns));
            }
            Event::Exec(event) => self.exec(event),
            Event::Exit(event) => self.exit(event),
            Event::Socket(event) => self.socket(event),
            Event::Segment(event, head, tail) => self.segment(event, head, tail),
            Event::Close(CloseEvent { header, socket }) => {
                self.now_ns = self.now_ns.max(header.time_ns);
                self.close(*socket, header.time_ns);
            }
            Event::Syscalls(counts) => self.syscalls(counts),
            Event::ProcessTimes(times) => {
                self.processes.times(times, self.now_ns, &self.clocks, &mut self.rows.processes);
            }
            Event::Remotes(remotes) => self.remotes(remotes),
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
        self.release_late(self.now_ns);
        self.windows.flush(&mut self.rows);
        self.counted_ns = Some(self.clocks.wall(self.now_ns));
        self.processes.tick(self.now_ns, &self.clocks, &mut self.rows.processes);
        let unanswered = self.processes.unanswered();
        self.losses.add("process_facts_late", unanswered);
        self.connections.expire(self.now_ns);
        self.threads.expire(self.now_ns);
        self.judge(now_ns.saturating_sub(JUDGED_NS), false);
        self.events_left = self.settings.events_per_second;
        let overflowed = self.windows.overflowed();
        self.losses.add("operations_over_limit", overflowed - std::mem::replace(&mut self.overflowed, overflowed));
        let wall_ns = self.clocks.wall(self.now_ns);
        if std::mem::replace(&mut self.window, window_start(wall_ns)) != self.window {
            self.losses.report(wall_ns, &mut self.rows.events);
        }
    }

    fn exec(&mut self, event: &ExecEvent) {
        self.counters.executed += 1;
        self.now_ns = self.now_ns.max(event.header.time_ns);
        let pid = event.header.pid;
        if let Some(before) = self.processes.info(pid).filter(|before| before.is_named()) {
            // What waits is of the program that it was.
            self.release(pid, Some(&before));
        }
        let info = self.processes.exec(event, &self.clocks);
        if self.may_write_event() {
            self.hold(info.pid, Waiting::Exec(self.clocks.wall(event.header.time_ns)));
        }
    }

    fn exit(&mut self, event: &ExitEvent) {
        let ended_ns = event.header.time_ns;
        self.now_ns = self.now_ns.max(ended_ns);
        for socket in self.connections.of_process(event.header.pid) {
            self.remove(socket, ended_ns);
        }
        self.unreadable.remove(&event.header.pid);
        let (info, first) = self.processes.exit(event, &self.clocks);
        self.counters.exited += u64::from(first);
        self.release(info.pid, Some(&info));
        if first && self.may_write_event() {
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
        let window = self.counted_window();
        for (key, stats) in counts {
            if self.processes.info(key.pid).is_none() {
                self.processes.lookup(key.pid);
            }
            self.hold(key.pid, Waiting::Syscalls(*key, *stats, window));
        }
    }

    fn remotes(&mut self, remotes: &[(RemoteKey, RemoteStats)]) {
        let window = self.counted_window();
        for (key, stats) in remotes {
            self.processes.lookup(key.pid);
            self.hold(key.pid, Waiting::Remote(*key, *stats, window));
        }
    }

    /// The window of counts that come now: that in which most of the time lies since they came last.
    fn counted_window(&self) -> i64 {
        let now_ns = self.clocks.wall(self.now_ns);
        // After a step of the wall clock, as if a second had passed.
        let since_ns = self.counted_ns.filter(|since_ns| (0..=LONGEST_COUNT_NS).contains(&(now_ns - since_ns)));
        window_start(now_ns - (now_ns - since_ns.unwrap_or(now_ns - SECOND_NS)) / 2)
    }
}

fn row(time: i64, kind: &str, pid: u32, service: Arc<str>, detail: &str) -> tables::Event {
    tables::Event { time, kind: kind.into(), pid, service, detail: detail.into() }
}

#[cfg(test)]
mod tests;
