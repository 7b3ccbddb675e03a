//! The table of processes: who each is, and what it used since its last row.
//!
//! It is fed by samples of `/proc`, by the scheduler's exact times, by exec and exit records, and by asking `/proc` about
//! a process that is first met on a socket, which is answered later. A process is its pid and its start in ticks, as far as `/proc` tells it. That is
//! enough: the kernel gives pids in turn, so one comes again within a tick of 10 ms only to who asks for it by `set_tid`.
//!
//! Precision: with the `sched` probe, CPU, run queue and switches are exact, and divided between user and kernel mode as
//! the kernel's accounting divides them; without it they come from `/proc`, to the tick of 10 ms, run queue unknown,
//! switches of the first thread only, and a process's end is noticed up to 10 s late, without exit code.

mod rows;

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hitscope_schemas::{
    sched::{ExecEvent, ExitEvent, ProcessKey, ProcessTimes},
    tables,
};

pub(crate) use self::rows::exit_code;
use self::rows::{Interval, States, Totals};
use hitscope_config::Arguments;

use crate::{
    arguments::stored,
    clocks::Clocks,
    facts::{Identity, ProcessFacts, ProcessSample, Question, Stat, TICK_NS, Usage},
    sampler::arguments,
    services::{Placement, placement},
};

/// How long a thread may still use CPU after the record of its process's end, ns: the row waits for it.
const EXIT_GRACE_NS: u64 = 200_000_000;
/// A row at exit waits no longer for the scheduler's times, ns.
const EXIT_WAIT_NS: u64 = 5_000_000_000;
/// Processes read from `/proc` per second because something else than a sample met them first.
const READS_PER_SECOND: u32 = 256;
/// Processes asked about whose answers are waited for; and ticks after which they are no more.
const MAX_PENDING: usize = 4096;
const PENDING_TICKS: u8 = 2;
/// Users whose names are remembered.
const MAX_USERS: usize = 1 << 16;
/// What starts services and containers: the children are about to move to a cgroup of their own.
const MANAGERS: [&str; 8] = ["systemd", "containerd-shim", "runc", "crun", "conmon", "dockerd", "kubelet", "init"];

/// Who a process is.
#[derive(Debug, PartialEq, Eq)]
pub struct Info {
    /// Process.
    pub pid: u32,
    /// Start since boot, ticks.
    pub start_ticks: u64,
    /// Start on the wall clock, ns since the epoch.
    pub start_time_ns: i64,
    /// The process that started it.
    pub parent_pid: u32,
    /// The kernel's `comm`.
    pub command: Arc<str>,
    /// Separated by blanks.
    pub arguments: Arc<str>,
    /// Effective user: name, or number.
    pub user: Arc<str>,
    /// The group that it belongs to.
    pub service: Arc<str>,
    /// Container id, where it is in one.
    pub container: Option<Arc<str>>,
    /// Whether more than the pid is known.
    known: bool,
    /// `/proc` was asked who it is, and the answer is waited for.
    waits: Cell<bool>,
    /// Set when the process became something else: who holds this should ask again.
    superseded: Cell<bool>,
}

impl Info {
    /// Whether more than the pid is known, and no better answer is on its way.
    pub fn is_known(&self) -> bool {
        self.known && !self.waits.get()
    }

    /// Whether more than the pid is known.
    pub fn is_named(&self) -> bool {
        self.known
    }

    /// The same, for who did not hold it before.
    fn again(&self) -> Self {
        Self {
            command: self.command.clone(),
            arguments: self.arguments.clone(),
            user: self.user.clone(),
            service: self.service.clone(),
            container: self.container.clone(),
            waits: self.waits.clone(),
            superseded: Cell::new(false),
            ..*self
        }
    }

    /// Whether the process has become something else since.
    pub fn superseded(&self) -> bool {
        self.superseded.get()
    }
}

type Key = (u32, u64);

struct Process {
    info: Rc<Info>,
    /// Whether anything but its key is known.
    identified: bool,
    /// From its cgroup, or its parent's.
    placement: Option<Placement>,
    /// Whether it is from its own.
    placed: bool,
    /// `/proc` was asked about it.
    asked: bool,
    /// Program started, wall clock, ns; a sample begun before knows only the one before.
    executed_ns: i64,
    /// The scheduler's, since the last row.
    times: ProcessTimes,
    usage: Usage,
    threads: u32,
    /// At the last row; `None` before the first sample.
    totals: Option<Totals>,
    /// End of the last row, wall clock, ns.
    counted_ns: i64,
    exit: Option<Box<ExitEvent>>,
    /// The row at exit is written.
    reported: bool,
    /// The last sample it was in.
    seen: u64,
    /// End of the first sample that it should have been in, but was not.
    missing_ns: Option<i64>,
    /// Protocols of which an encrypted connection was reported.
    encrypted: Vec<&'static str>,
}

/// Every process met, until its last row is written.
pub struct Processes {
    table: HashMap<Key, Process, FixedState>,
    /// Start of the process that has a pid now.
    current: HashMap<u32, u64, FixedState>,
    /// Ended, last row not written yet.
    ended: Vec<Key>,
    /// Pids that nothing could be learnt about.
    strangers: HashMap<u32, Rc<Info>, FixedState>,
    users: HashMap<u32, Arc<str>, FixedState>,
    states: States,
    kernel: Arc<str>,
    unknown: Arc<str>,
    empty: Arc<str>,
    /// What is stored of command lines.
    arguments: Arguments,
    /// Whether the scheduler's times come.
    scheduler: bool,
    /// When they last came, monotonic, ns.
    drained_ns: u64,
    sampled_ns: Option<i64>,
    /// When records began to come, wall clock, ns.
    begun_ns: i64,
    samples: u64,
    reads_left: u32,
    /// Processes that `/proc` is to be asked about, or was, since how many ticks.
    pending: BTreeMap<u32, Pending>,
    questions: Vec<Question>,
    /// Questions that were not answered in time, or not asked, since the last look.
    unanswered: u64,
}

#[derive(Clone, Copy)]
struct Pending {
    asked: bool,
    ticks: u8,
}

impl Processes {
    /// An empty table; `arguments` says what is stored of command lines.
    pub fn new(arguments: Arguments) -> Self {
        Self {
            arguments,
            table: HashMap::default(),
            current: HashMap::default(),
            ended: Vec::new(),
            strangers: HashMap::default(),
            users: HashMap::default(),
            states: States::new(),
            kernel: "kernel".into(),
            unknown: "unknown".into(),
            empty: "".into(),
            scheduler: false,
            drained_ns: 0,
            sampled_ns: None,
            begun_ns: i64::MAX,
            samples: 0,
            reads_left: READS_PER_SECOND,
            pending: BTreeMap::new(),
            questions: Vec::new(),
            unanswered: 0,
        }
    }

    /// Records come from now on, wall clock, ns: of what starts later, everything is seen.
    pub fn begin(&mut self, now_ns: i64) {
        self.begun_ns = self.begun_ns.min(now_ns);
    }

    /// Once a second.
    pub fn tick(&mut self, now_ns: u64, clocks: &Clocks, rows: &mut Vec<tables::Process>) {
        self.reads_left = READS_PER_SECOND;
        let mut late = Vec::new();
        for (pid, pending) in &mut self.pending {
            pending.ticks += 1;
            if pending.ticks >= PENDING_TICKS {
                late.push(*pid);
            } else if !pending.asked && self.reads_left > 0 {
                self.reads_left -= 1;
                pending.asked = true;
                self.questions.push(Question::Process(*pid));
            }
        }
        self.unanswered += late.len() as u64;
        late.into_iter().for_each(|pid| self.settle(pid));
        self.write_ended(now_ns, clocks, rows);
    }

    /// What it wants to know.
    pub fn questions(&mut self) -> std::vec::Drain<'_, Question> {
        self.questions.drain(..)
    }

    /// Questions that were not answered in time, or not asked, since the last look.
    pub fn unanswered(&mut self) -> u64 {
        std::mem::take(&mut self.unanswered)
    }

    /// Whether an answer is waited for that tells who has this pid.
    pub fn is_pending(&self, pid: u32) -> bool {
        self.pending.contains_key(&pid)
    }

    /// Who has this pid, as far as known.
    pub fn info(&self, pid: u32) -> Option<Rc<Info>> {
        self.current(pid).map(|process| process.info.clone())
    }

    /// How many processes are in the table.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a process with this pid is there, as far as known; one that is asked about may be.
    pub fn alive(&self, pid: u32) -> bool {
        self.is_pending(pid) || self.current(pid).is_some_and(|process| process.exit.is_none())
    }

    /// The service of a process of which nothing is known.
    pub fn unknown(&self) -> Arc<str> {
        self.unknown.clone()
    }

    /// Who has this pid; asks `/proc` where the cgroup is not known yet.
    pub fn lookup(&mut self, pid: u32) -> Rc<Info> {
        if !self.current(pid).is_some_and(|process| process.placed || process.asked) {
            self.ask(pid);
        }
        match self.current(pid) {
            Some(process) => process.info.clone(),
            None => {
                let stranger = self.stranger(pid, 0, 0);
                self.strangers.entry(pid).or_insert(stranger).clone()
            }
        }
    }

    /// Whether this is the first encrypted connection of the process and protocol; `None` when the process is gone.
    pub fn first_encrypted(&mut self, info: &Info, protocol: &'static str) -> Option<bool> {
        let process = self.table.get_mut(&(info.pid, info.start_ticks))?;
        let first = !process.encrypted.contains(&protocol);
        if first {
            process.encrypted.push(protocol);
        }
        Some(first)
    }

    /// A process replaced its program.
    pub fn exec(&mut self, event: &ExecEvent, clocks: &Clocks) -> Rc<Info> {
        let key = (event.header.pid, event.start_ns / TICK_NS);
        self.insert(key, clocks);
        let place = self.table[&key].placement.clone().or_else(|| self.inherited(event.parent_pid));
        let length = (event.arguments_len as usize).min(event.arguments.len());
        let stat = self.stat(key, event.parent_pid, &event.comm);
        let identity =
            self.described(&stat, event.user_id, arguments(&event.arguments[..length]), place.as_ref(), clocks);
        // What it was before does not matter any more.
        self.settle(key.0);
        let process = self.table.get_mut(&key).expect("inserted above");
        process.executed_ns = clocks.wall(event.header.time_ns);
        process.asked = false;
        replace(process, identity);
        let unplaced = place.is_none();
        process.placement = place;
        if unplaced {
            self.ask(key.0);
        }
        self.table[&key].info.clone()
    }

    /// The last thread of a process ended; its row follows when the scheduler's last times of it are in.
    /// True where it was not told before: each of the threads that end together tells it.
    pub fn exit(&mut self, event: &ExitEvent, clocks: &Clocks) -> (Rc<Info>, bool) {
        let key = (event.header.pid, event.start_ns / TICK_NS);
        self.insert(key, clocks);
        if !self.table[&key].identified {
            let place = self.inherited(event.parent_pid);
            let stat = self.stat(key, event.parent_pid, &event.comm);
            let arguments = self.empty.clone();
            let info = self.described(&stat, event.user_id, arguments, place.as_ref(), clocks);
            replace(self.table.get_mut(&key).expect("inserted above"), info);
        }
        let process = self.table.get_mut(&key).expect("inserted above");
        let first = process.exit.is_none();
        match &mut process.exit {
            Some(known) => complete(known, event),
            None => {
                process.exit = Some(Box::new(*event));
                self.ended.push(key);
            }
        }
        let info = process.info.clone();
        self.settle(key.0);
        (info, first)
    }

    /// The scheduler's times since it last told.
    pub fn times(
        &mut self,
        times: &[(ProcessKey, ProcessTimes)],
        now_ns: u64,
        clocks: &Clocks,
        rows: &mut Vec<tables::Process>,
    ) {
        self.scheduler = true;
        self.drained_ns = now_ns;
        for (key, times) in times.iter().filter(|(key, _)| key.pid != 0) {
            let key = (key.pid, key.start_ns / TICK_NS);
            if !self.table.contains_key(&key) {
                self.insert(key, clocks);
                self.ask(key.0);
            }
            let sum = &mut self.table.get_mut(&key).expect("inserted above").times;
            sum.cpu_ns += times.cpu_ns;
            sum.runqueue_ns += times.runqueue_ns;
            sum.voluntary_switches += times.voluntary_switches;
            sum.involuntary_switches += times.involuntary_switches;
        }
        self.write_ended(now_ns, clocks, rows);
    }

    /// All processes at the end of an interval: a row for each. At the first sample, which is where counting begins, only
    /// for those that started since records came.
    pub fn sample(&mut self, sample: &ProcessSample, clocks: &Clocks, rows: &mut Vec<tables::Process>) {
        self.samples += 1;
        for (_, stranger) in self.strangers.drain() {
            stranger.superseded.set(true);
        }
        let before = self.sampled_ns.replace(sample.end_ns);
        for observed in &sample.processes {
            let stat = &observed.stat;
            let key = (stat.pid, stat.start_ticks);
            self.insert(key, clocks);
            let process = &self.table[&key];
            let outdated = process.executed_ns > sample.end_ns;
            match &observed.identity {
                Some(identity) if !outdated => self.identify(stat, identity, clocks),
                None if !process.identified => self.ask(stat.pid),
                _ => {}
            }
            if !self.table[&key].identified {
                self.identify(stat, &Identity { user_id: u32::MAX, ..Identity::default() }, clocks);
            }
            let process = self.table.get_mut(&key).expect("inserted above");
            process.seen = self.samples;
            process.missing_ns = None;
            process.threads = stat.threads;
            if let Some(usage) = observed.usage {
                process.usage = usage;
            }
            if process.exit.is_some() && !process.reported {
                // Ended between two records; its last row is on its way.
                continue;
            }
            let now = Totals::observed(stat, &process.usage);
            let born = process.info.start_time_ns;
            if let Some(before_ns) = before.or_else(|| (born >= self.begun_ns).then_some(born)) {
                // Not in the sample before: it began since, or what it was is told by its row at exit.
                let totals = process.totals.unwrap_or(if process.reported { now } else { Totals::ZERO });
                let from_ns = process.counted_ns.max(before_ns).max(born).min(sample.end_ns);
                let interval = Interval { from_ns, to_ns: sample.end_ns };
                let times = self.scheduler.then_some(&process.times);
                rows.push(rows::sampled(process, stat, &now, &totals, interval, times, &self.states));
            }
            process.totals = Some(now);
            process.counted_ns = sample.end_ns;
            process.times = ProcessTimes::default();
        }
        self.remove_missing(sample.end_ns, rows);
    }

    /// Writes the last rows of all that ended, for nothing more comes.
    pub fn finish(&mut self, clocks: &Clocks, rows: &mut Vec<tables::Process>) {
        self.write_ended(u64::MAX, clocks, rows);
    }

    fn write_ended(&mut self, now_ns: u64, clocks: &Clocks, rows: &mut Vec<tables::Process>) {
        let (table, drained_ns) = (&mut self.table, self.drained_ns);
        let (states, scheduler) = (&self.states, self.scheduler);
        self.ended.retain(|key| {
            let Some(process) = table.get_mut(key) else { return false };
            let Some(event) = &process.exit else { return false };
            let ended_ns = event.header.time_ns;
            if drained_ns < ended_ns + EXIT_GRACE_NS && now_ns < ended_ns + EXIT_WAIT_NS {
                return true;
            }
            let to_ns = clocks.wall(ended_ns);
            // The start to the ns makes the life of a short process exact.
            let life_ns = clocks.boottime(ended_ns).saturating_sub(event.start_ns);
            let from_ns = process.counted_ns.max(to_ns - life_ns as i64).min(to_ns);
            let times = scheduler.then_some(&process.times);
            rows.push(rows::exited(process, Some(event), Interval { from_ns, to_ns }, times, states));
            process.reported = true;
            // Should it stay as a zombie, it uses nothing more.
            process.times = ProcessTimes::default();
            process.totals = None;
            process.counted_ns = to_ns;
            false
        });
    }

    /// Removes those that are in no sample any more, with a last row where no record of their end came in time.
    fn remove_missing(&mut self, end_ns: i64, rows: &mut Vec<tables::Process>) {
        let (samples, states, scheduler, current) = (self.samples, &self.states, self.scheduler, &mut self.current);
        self.table.retain(|key, process| {
            if process.seen == samples || process.counted_ns.max(process.info.start_time_ns) > end_ns {
                return true;
            }
            let missed_before = process.missing_ns.is_some();
            let to_ns = *process.missing_ns.get_or_insert(end_ns);
            let gone = if process.exit.is_some() { process.reported } else { missed_before };
            if !gone {
                return true;
            }
            if !process.reported && process.identified {
                let from_ns = process.counted_ns.max(process.info.start_time_ns).min(to_ns);
                let times = scheduler.then_some(&process.times);
                rows.push(rows::exited(process, None, Interval { from_ns, to_ns }, times, states));
            }
            process.info.superseded.set(true);
            if current.get(&key.0) == Some(&key.1) {
                current.remove(&key.0);
            }
            false
        });
    }

    fn current(&self, pid: u32) -> Option<&Process> {
        self.table.get(&(pid, *self.current.get(&pid)?))
    }

    /// Makes an entry where there is none; nothing is known of it yet.
    fn insert(&mut self, key: Key, clocks: &Clocks) {
        if self.table.contains_key(&key) {
            return;
        }
        let info = self.stranger(key.0, key.1, clocks.start_time(key.1));
        let process = Process {
            counted_ns: info.start_time_ns,
            info,
            identified: false,
            placement: None,
            placed: false,
            asked: false,
            executed_ns: i64::MIN,
            times: ProcessTimes::default(),
            usage: Usage::default(),
            threads: 1,
            totals: None,
            exit: None,
            reported: false,
            seen: 0,
            missing_ns: None,
            encrypted: Vec::new(),
        };
        self.table.insert(key, process);
        if let Some(stranger) = self.strangers.remove(&key.0) {
            stranger.superseded.set(true);
        }
        let start = self.current.entry(key.0).or_insert(key.1);
        *start = key.1.max(*start);
    }

    /// Somebody of whom only the pid is known.
    fn stranger(&self, pid: u32, start_ticks: u64, start_time_ns: i64) -> Rc<Info> {
        Rc::new(Info {
            pid,
            start_ticks,
            start_time_ns,
            parent_pid: 0,
            command: self.unknown.clone(),
            arguments: self.empty.clone(),
            user: self.unknown.clone(),
            service: self.unknown.clone(),
            container: None,
            known: false,
            waits: Cell::new(false),
            superseded: Cell::new(false),
        })
    }

    /// Takes in what `/proc` says about a process that was asked about.
    pub fn answer(&mut self, pid: u32, found: Option<&ProcessFacts>, clocks: &Clocks) {
        if let Some(found) = found {
            let key = (pid, found.stat.start_ticks);
            let outdated = |process: &Process| process.executed_ns > clocks.wall(found.read_ns);
            if found.read_ns != 0 && self.table.get(&key).is_some_and(outdated) {
                // It was another program then; that it is this one now, it was asked about again.
                return;
            }
            self.insert(key, clocks);
            self.identify(&found.stat, &found.identity, clocks);
        }
        self.settle(pid);
    }

    /// Takes in the name of a user.
    pub fn name_user(&mut self, user_id: u32, name: Option<&Arc<str>>) {
        let Some(name) = name else { return };
        let Some(number) = self.users.insert(user_id, name.clone()) else { return };
        for process in self.table.values_mut().filter(|process| process.info.user == number) {
            process.info.superseded.set(true);
            process.info = Rc::new(Info { user: name.clone(), ..process.info.again() });
        }
    }

    /// No answer is waited for any more.
    fn settle(&mut self, pid: u32) {
        if self.pending.remove(&pid).is_some()
            && let Some(process) = self.current(pid)
        {
            process.info.waits.set(false);
        }
    }

    /// Has `/proc` asked about the process that has a pid now.
    fn ask(&mut self, pid: u32) {
        if self.pending.contains_key(&pid) {
            return;
        }
        if self.pending.len() >= MAX_PENDING {
            self.unanswered += 1;
            return;
        }
        let asked = self.reads_left > 0;
        if asked {
            self.reads_left -= 1;
            self.questions.push(Question::Process(pid));
        }
        self.pending.insert(pid, Pending { asked, ticks: 0 });
        if let Some(start) = self.current.get(&pid) {
            let process = self.table.get_mut(&(pid, *start)).expect("current processes are in the table");
            process.asked = true;
            process.info.waits.set(true);
        }
    }

    /// Takes in what `/proc` says about a process that is in the table.
    fn identify(&mut self, stat: &Stat, identity: &Identity, clocks: &Clocks) {
        let own = (!identity.cgroup.is_empty()).then(|| placement(&identity.cgroup, identity.host_name.as_deref()));
        let placed = own.is_some();
        let place = own.or_else(|| self.inherited(stat.parent_pid));
        let info = self.described(stat, identity.user_id, identity.arguments.clone(), place.as_ref(), clocks);
        if let Some(process) = self.table.get_mut(&(stat.pid, stat.start_ticks)) {
            process.placement = place;
            process.placed = placed;
            process.asked = true;
            process.threads = stat.threads;
            replace(process, info);
        }
    }

    /// The parent's placement: a child begins in its parent's cgroup, and few leave it.
    fn inherited(&self, parent_pid: u32) -> Option<Placement> {
        let parent = self.current(parent_pid)?;
        let manager = parent_pid == 1 || MANAGERS.iter().any(|name| parent.info.command.starts_with(name));
        parent.placement.clone().filter(|_| !manager)
    }

    /// What an exec or exit record says, in the form of `/proc`.
    fn stat(&self, key: Key, parent_pid: u32, comm: &[u8]) -> Stat {
        let length = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
        let command = String::from_utf8_lossy(&comm[..length]).into();
        Stat { pid: key.0, start_ticks: key.1, parent_pid, command, ..Stat::default() }
    }

    fn described(
        &mut self,
        stat: &Stat,
        user_id: u32,
        arguments: Arc<str>,
        place: Option<&Placement>,
        clocks: &Clocks,
    ) -> Info {
        let service = match place.and_then(|place| place.service.clone()) {
            _ if stat.kernel_thread => self.kernel.clone(),
            Some(service) => service,
            None => stat.command.clone(),
        };
        let user = match self.users.get(&user_id) {
            Some(user) => user.clone(),
            None => {
                let number: Arc<str> = user_id.to_string().into();
                if self.users.len() < MAX_USERS {
                    self.users.insert(user_id, number.clone());
                    self.questions.push(Question::User(user_id));
                }
                number
            }
        };
        Info {
            pid: stat.pid,
            start_ticks: stat.start_ticks,
            start_time_ns: clocks.start_time(stat.start_ticks),
            parent_pid: stat.parent_pid,
            command: stat.command.clone(),
            arguments: stored(&arguments, self.arguments),
            user,
            service,
            container: place.and_then(|place| place.container.clone()),
            known: true,
            waits: Cell::new(false),
            superseded: Cell::new(false),
        }
    }
}

/// Takes in what another of the threads tells that ended together: totals only grow, and the largest number stands for unknown.
fn complete(known: &mut ExitEvent, event: &ExitEvent) {
    for (known, told) in [
        (&mut known.user_ns, event.user_ns),
        (&mut known.system_ns, event.system_ns),
        (&mut known.max_rss_bytes, event.max_rss_bytes),
        (&mut known.read_bytes, event.read_bytes),
        (&mut known.written_bytes, event.written_bytes),
        (&mut known.minor_faults, event.minor_faults),
        (&mut known.major_faults, event.major_faults),
        (&mut known.voluntary_switches, event.voluntary_switches),
        (&mut known.involuntary_switches, event.involuntary_switches),
    ] {
        *known = told.max(*known);
    }
}

/// Gives a process another identity; what is the same stays the same object.
fn replace(process: &mut Process, info: Info) {
    // The start time once told stays, whatever the wall clock does.
    let info = Info { start_time_ns: process.info.start_time_ns, waits: process.info.waits.clone(), ..info };
    process.identified = true;
    if *process.info != info {
        process.info.superseded.set(true);
        process.info = Rc::new(info);
    }
}

#[cfg(test)]
mod tests;
