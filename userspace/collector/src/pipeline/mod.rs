//! From events to rows: the one path that live probes, recordings and tests all take.
//!
//! Nothing here reads a file or a clock: all that it knows comes in as an [`Input`] or as an answer of [`Facts`]. The
//! same inputs give the same rows.

mod connections;
mod losses;
mod threads;

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

use hitscope_schemas::{
    connections::{RemoteKey, RemoteStats},
    sched::{ExecEvent, ExitEvent},
    sockets::{
        CloseEvent, PLAINTEXT, PLAINTEXT_KEY, SENT, SegmentEvent, SocketEvent, ThreadTimes, VERDICT_DECODED,
        VERDICT_ENCRYPTED, VERDICT_IGNORED, VERDICT_UNKNOWN,
    },
    syscalls::{SyscallKey, SyscallStats},
    tables,
};
use hitscope_wire::{Direction, Exchange, Facts as Session, Mark, Outcome, Segment, Times, Verdict};

use self::{
    connections::{Connection, Connections, Grouped, Plaintext, is_decoded},
    losses::Losses,
    threads::{Open, Threads},
};
use crate::{
    clocks::Clocks,
    event::Event,
    facts::{Facts, HostSample, ProcessSample},
    hosts,
    names::Names,
    processes::{Info, Processes, exit_code},
    remotes,
    rows::Rows,
    settings::{Settings, window_start},
    syscalls,
    windows::{Measures, Origin, Windows},
};

/// The syscall counts that come with a second's tick are of the second before, ns.
const HALF_SECOND_NS: i64 = 500_000_000;

/// Why a process cannot be read is asked anew after this, ns: it may have loaded a library meanwhile.
const UNREADABLE_NS: u64 = 5_000_000_000;
/// Processes of which the answer is remembered.
const MAX_UNREADABLE: usize = 4096;

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
            connection_bytes: settings.connection_bytes,
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

    fn socket(&mut self, event: &SocketEvent, facts: &mut dyn Facts) {
        let (socket, pid, now_ns) = (event.socket, event.header.pid, event.header.time_ns);
        self.now_ns = self.now_ns.max(now_ns);
        let end = self.connections.end(Some(event));
        if let Some(connection) = self.connections.get(socket, now_ns) {
            if connection.is(pid, &end) {
                // The kernel's entry had to make room meanwhile: it does not know the verdict any more.
                if connection.verdict != VERDICT_UNKNOWN {
                    self.commands.push(SocketCommand::Verdict(socket, connection.verdict));
                }
                if let Some(plaintext) = connection.plaintext.as_ref().filter(|it| it.verdict != VERDICT_UNKNOWN) {
                    self.commands.push(SocketCommand::Verdict(socket | PLAINTEXT_KEY, plaintext.verdict));
                }
                return;
            }
            self.close(socket, now_ns);
        }
        self.connect(socket, pid, end, now_ns, facts);
    }

    fn connect(&mut self, socket: u64, pid: u32, end: connections::End, now_ns: u64, facts: &mut dyn Facts) {
        while self.connections.len() >= self.settings.max_connections.max(1) {
            let Some(oldest) = self.connections.oldest() else { break };
            let decoded = self.connections.get(oldest, now_ns).is_some_and(|connection| is_decoded(connection));
            self.losses.add("connections_over_limit", u64::from(decoded));
            self.remove(oldest, now_ns);
        }
        self.counters.connections += 1;
        let info = self.processes.lookup(pid, &self.clocks, facts);
        let mut decoder = hitscope_wire::Connection::new(self.wire.clone());
        decoder.set_service(&info.service);
        self.connections.insert(socket, Connection::new(info, end, decoder, now_ns));
    }

    fn segment(&mut self, event: &SegmentEvent, head: &[u8], tail: &[u8], facts: &mut dyn Facts) {
        let (socket, pid, now_ns) = (event.socket, event.header.pid, event.header.time_ns);
        self.now_ns = self.now_ns.max(now_ns);
        self.counters.segments += 1;
        self.counters.segment_bytes += event.length;
        let is_plaintext = event.flags & PLAINTEXT != 0;
        if !is_plaintext && self.connections.is_ignored(socket) {
            return;
        }
        match self.connections.get(socket, now_ns) {
            Some(connection) if connection.info.pid == pid && !connection.info.superseded() => {}
            Some(_) => {
                let info = self.processes.lookup(pid, &self.clocks, facts);
                self.connections.hand_over(socket, info);
            }
            // Its first record was lost.
            None => self.connect(socket, pid, self.connections.end(None), now_ns, facts),
        }
        let Some(connection) = self.connections.get(socket, now_ns) else { return };
        let segment = Segment {
            direction: if event.direction == SENT { Direction::Sent } else { Direction::Received },
            enter_ns: event.enter_ns,
            mark: Mark {
                time_ns: now_ns,
                thread_id: event.header.thread_id,
                times: times(&event.times),
                queued_ns: event.queued_ns,
            },
            offset: event.offset,
            length: event.length,
            head,
            tail,
        };
        if is_plaintext {
            if !std::mem::replace(&mut connection.encrypted, true) {
                self.counters.encrypted += 1;
            }
            if connection.plaintext.is_none() {
                self.counters.decrypted += 1;
                connection.read.set(true);
                let decoder = hitscope_wire::Connection::plaintext(self.wire.clone());
                connection.plaintext = Some(Box::new(Plaintext { decoder, verdict: VERDICT_UNKNOWN }));
            }
        }
        let (decoder, told) = match &mut connection.plaintext {
            Some(plaintext) if is_plaintext => (&mut plaintext.decoder, &mut plaintext.verdict),
            _ => (&mut connection.decoder, &mut connection.verdict),
        };
        let mut sink = Sink {
            windows: &mut self.windows,
            held: &mut self.held,
            losses: &mut self.losses,
            threads: &self.threads,
            open: connection.open,
            socket,
            clocks: &self.clocks,
            info: &connection.info,
            origin: &connection.origin,
            group: &mut connection.group,
            found_encrypted: None,
        };
        let verdict = decoder.feed(&segment, &mut |outcome, session| sink.take(outcome, session));
        let newly_encrypted = sink.found_encrypted.filter(|_| !std::mem::replace(&mut connection.encrypted, true));
        let verdict = match verdict {
            Verdict::Unknown => VERDICT_UNKNOWN,
            Verdict::Decoded => VERDICT_DECODED,
            Verdict::Ignored if connection.encrypted && !is_plaintext => VERDICT_ENCRYPTED,
            Verdict::Ignored => VERDICT_IGNORED,
        };
        let side = decoder.facts().side.filter(|_| verdict != VERDICT_IGNORED);
        if verdict != *told {
            *told = verdict;
            let key = if is_plaintext { socket | PLAINTEXT_KEY } else { socket };
            self.commands.push(SocketCommand::Verdict(key, verdict));
        }
        let unwanted = verdict == VERDICT_IGNORED && !is_plaintext;
        if let Some(side) = side {
            let (thread_id, direction) = (event.header.thread_id, segment.direction);
            self.threads.moved(thread_id, socket, side, direction, now_ns, &mut connection.open);
        }
        if let Some(protocol) = newly_encrypted {
            self.encrypted(socket, protocol, now_ns, facts);
        }
        if unwanted && let Some(mut connection) = self.connections.ignore(socket, now_ns) {
            self.threads.close(&mut connection.open);
        }
    }

    /// A connection turned out to be encrypted.
    fn encrypted(&mut self, socket: u64, protocol: &'static str, now_ns: u64, facts: &mut dyn Facts) {
        self.counters.encrypted += 1;
        let Some(connection) = self.connections.get(socket, now_ns) else { return };
        let pid = connection.info.pid;
        let known = self.unreadable.get(&pid).filter(|(asked_ns, _)| asked_ns + UNREADABLE_NS > now_ns);
        let reason = match known {
            Some((_, reason)) => reason.clone(),
            None => {
                let reason = facts.unreadable(pid);
                if self.unreadable.len() >= MAX_UNREADABLE {
                    self.unreadable.clear();
                }
                self.unreadable.insert(pid, (now_ns, reason.clone()));
                reason
            }
        };
        let Some(reason) = reason else { return };
        if self.suspects.len() >= MAX_UNREADABLE {
            self.judge(now_ns);
        }
        let Some(connection) = self.connections.get(socket, now_ns) else { return };
        let remote = (connection.origin.remote_address.clone(), connection.origin.remote_port);
        let read = connection.read.clone();
        self.suspects.push(Suspect { since_ns: now_ns, info: connection.info.clone(), protocol, reason, remote, read });
    }

    /// Counts the connections that were found to be encrypted before a moment and of which no plaintext has come since.
    fn judge(&mut self, before_ns: u64) {
        let mut told = Vec::new();
        for suspect in self.suspects.extract_if(.., |suspect| suspect.since_ns <= before_ns).collect::<Vec<_>>() {
            let Suspect { since_ns, info, protocol, reason, remote: (address, port), read } = suspect;
            if read.get() {
                continue;
            }
            self.counters.unreadable += 1;
            self.losses.add("encrypted_unreadable", 1);
            // Of a process that has ended meanwhile nobody remembers.
            let first = self.processes.first_encrypted(&info, protocol);
            if first.unwrap_or_else(|| !told.contains(&(info.pid, protocol))) {
                told.push((info.pid, protocol));
                let detail = format!(
                    "encrypted, not readable, because {reason}: {protocol} connections of this process, first one with \
                     {address} port {port}"
                );
                let (pid, service) = (info.pid, info.service.clone());
                self.notes.push(format!("{} ({service}, process {pid}): {detail}", info.command));
                self.rows.events.push(row(self.clocks.wall(since_ns), "lost", pid, service, &detail));
            }
        }
    }

    /// Takes a connection out; what it had begun and not finished becomes aborted hits.
    fn close(&mut self, socket: u64, time_ns: u64) {
        let Some(mut connection) = self.connections.remove(socket) else { return };
        let mut sink = Sink {
            windows: &mut self.windows,
            held: &mut self.held,
            losses: &mut self.losses,
            threads: &self.threads,
            open: connection.open,
            socket,
            clocks: &self.clocks,
            info: &connection.info,
            origin: &connection.origin,
            group: &mut connection.group,
            found_encrypted: None,
        };
        connection.decoder.close(time_ns, &mut |outcome, session| sink.take(outcome, session));
        if let Some(plaintext) = &mut connection.plaintext {
            plaintext.decoder.close(time_ns, &mut |outcome, session| sink.take(outcome, session));
        }
        self.threads.close(&mut connection.open);
    }

    /// Counts a hit that was held back.
    fn release(&mut self, held: Held, service: &Arc<str>) {
        let Held { origin, session, measures, exchange } = held;
        let group = self.windows.group(service, exchange.protocol.as_str(), exchange.side.as_str());
        self.windows.add(&group, &origin, &session, measures, exchange);
    }

    /// As [`Self::close`], where the kernel does not know that the socket is gone.
    fn remove(&mut self, socket: u64, time_ns: u64) {
        self.close(socket, time_ns);
        self.commands.push(SocketCommand::Forget(socket));
    }
}

/// Takes what a decoder finds on one connection.
struct Sink<'a> {
    windows: &'a mut Windows,
    held: &'a mut Vec<Held>,
    losses: &'a mut Losses,
    threads: &'a Threads,
    /// The connection's.
    open: Open,
    socket: u64,
    clocks: &'a Clocks,
    info: &'a Info,
    origin: &'a Origin,
    group: &'a mut Option<Grouped>,
    found_encrypted: Option<&'static str>,
}

impl Sink<'_> {
    fn take(&mut self, outcome: Outcome, session: &Session) {
        match outcome {
            Outcome::Hit(exchange) => self.hit(exchange, session),
            Outcome::Encrypted(protocol) => self.found_encrypted = Some(protocol.as_str()),
            Outcome::Lost { reason, count } => self.losses.add(reason, count),
        }
    }

    fn hit(&mut self, exchange: Exchange, session: &Session) {
        let start = &exchange.start;
        let shared = self.threads.shared(start.thread_id, self.socket, exchange.side, start.time_ns, self.open);
        let measures = measures(&exchange, shared, self.clocks);
        if !self.info.is_known() {
            self.held.push(Held { origin: self.origin.clone(), session: session.clone(), measures, exchange });
            return;
        }
        let (protocol, side) = (exchange.protocol.as_str(), exchange.side.as_str());
        let grouped = match self.group.take() {
            Some(grouped) if grouped.protocol == protocol && grouped.side == side => grouped,
            _ => Grouped { protocol, side, id: self.windows.group(&self.info.service, protocol, side) },
        };
        let grouped = self.group.insert(grouped);
        self.windows.add(&grouped.id, self.origin, session, measures, exchange);
    }
}

/// A hit of a process that was gone before anything could be learnt about it: one that forked, answered and ended within
/// a batch of records. The record of its end, which follows, says who it was.
struct Held {
    origin: Origin,
    session: Session,
    measures: Measures,
    exchange: Exchange,
}

/// An encrypted connection of a process whose TLS cannot be read, by what is known of it.
struct Suspect {
    since_ns: u64,
    info: Rc<Info>,
    protocol: &'static str,
    reason: Arc<str>,
    remote: (Arc<str>, u16),
    read: Rc<Cell<bool>>,
}

/// `shared`: the thread worked on other requests meanwhile.
fn measures(exchange: &Exchange, shared: bool, clocks: &Clocks) -> Measures {
    let (start, end) = (&exchange.start, &exchange.end);
    let duration_ns = end.time_ns.saturating_sub(start.time_ns);
    // A thread that came so far has used CPU, if only a little: without the scheduler's probe all is zero.
    let measured = !shared && start.thread_id == end.thread_id && end.times.cpu_ns > 0;
    Measures {
        end_ns: clocks.wall(end.time_ns),
        duration_ns,
        split: measured.then(|| split(&start.times, &end.times, duration_ns)).flatten(),
        queued_ns: (start.queued_ns > 0).then_some(start.queued_ns),
    }
}

/// Where a thread's time went between two marks, in all at most the duration; `None` where it was counted anew in between.
fn split(start: &Times, end: &Times, duration_ns: u64) -> Option<Times> {
    let mut left_ns = duration_ns;
    // The scheduler's account of CPU and the clock differ by a little, so the sum is held to the duration.
    let mut spent = |start: u64, end: u64| {
        let spent_ns = end.checked_sub(start)?.min(left_ns);
        left_ns -= spent_ns;
        Some(spent_ns)
    };
    Some(Times {
        disk_ns: spent(start.disk_ns, end.disk_ns)?,
        lock_ns: spent(start.lock_ns, end.lock_ns)?,
        network_ns: spent(start.network_ns, end.network_ns)?,
        runqueue_ns: spent(start.runqueue_ns, end.runqueue_ns)?,
        cpu_ns: spent(start.cpu_ns, end.cpu_ns)?,
    })
}

fn times(times: &ThreadTimes) -> Times {
    let ThreadTimes { cpu_ns, runqueue_ns, disk_ns, lock_ns, network_ns } = *times;
    Times { cpu_ns, runqueue_ns, disk_ns, lock_ns, network_ns }
}

fn row(time: i64, kind: &str, pid: u32, service: Arc<str>, detail: &str) -> tables::Event {
    tables::Event { time, kind: kind.into(), pid, service, detail: detail.into() }
}

#[cfg(test)]
mod tests;
