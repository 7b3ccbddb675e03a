//! A process's row: what it used between two readings.

use std::sync::Arc;

use hitscope_schemas::{
    sched::{ExitEvent, ProcessTimes},
    tables,
};

use super::{Info, Process};
use crate::facts::{Stat, TICK_NS, Usage};

/// Totals over a process's life at the end of its last interval.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    user_ns: u64,
    system_ns: u64,
    minor_faults: u64,
    major_faults: u64,
    read_bytes: Option<u64>,
    written_bytes: Option<u64>,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

impl Totals {
    /// Of a process that has not begun.
    pub(super) const ZERO: Self = Self {
        user_ns: 0,
        system_ns: 0,
        minor_faults: 0,
        major_faults: 0,
        read_bytes: Some(0),
        written_bytes: Some(0),
        voluntary_switches: 0,
        involuntary_switches: 0,
    };

    pub(super) fn observed(stat: &Stat, usage: &Usage) -> Self {
        Self {
            user_ns: stat.user_ticks * TICK_NS,
            system_ns: stat.system_ticks * TICK_NS,
            minor_faults: stat.minor_faults,
            major_faults: stat.major_faults,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
            voluntary_switches: usage.voluntary_switches.unwrap_or(0),
            involuntary_switches: usage.involuntary_switches.unwrap_or(0),
        }
    }

    fn at_exit(event: &ExitEvent) -> Self {
        // What the kernel has no field for comes as the largest number.
        let known = |total: u64| (total != u64::MAX).then_some(total);
        let or_zero = |total| known(total).unwrap_or(0);
        Self {
            user_ns: or_zero(event.user_ns),
            system_ns: or_zero(event.system_ns),
            minor_faults: or_zero(event.minor_faults),
            major_faults: or_zero(event.major_faults),
            read_bytes: known(event.read_bytes),
            written_bytes: known(event.written_bytes),
            voluntary_switches: or_zero(event.voluntary_switches),
            involuntary_switches: or_zero(event.involuntary_switches),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let known = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self {
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
            minor_faults: self.minor_faults.saturating_sub(before.minor_faults),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
            read_bytes: known(self.read_bytes, before.read_bytes),
            written_bytes: known(self.written_bytes, before.written_bytes),
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
        }
    }
}

/// Divides the scheduler's exact CPU time between the modes as the kernel's accounting does: in the interval, else over the
/// process's life.
fn split(cpu_ns: u64, used: &Totals, life: &Totals, kernel_thread: bool) -> (u64, u64) {
    let (user, system) = match (used.user_ns + used.system_ns, life.user_ns + life.system_ns) {
        (0, 0) => (u64::from(!kernel_thread), u64::from(kernel_thread)),
        (0, _) => (life.user_ns, life.system_ns),
        _ => (used.user_ns, used.system_ns),
    };
    let user_ns = (u128::from(cpu_ns) * u128::from(user) / u128::from(user + system)) as u64;
    (user_ns, cpu_ns - user_ns)
}

/// Names of the states, made once.
pub(super) struct States {
    names: [(char, Arc<str>); 8],
    pub(super) exited: Arc<str>,
}

impl States {
    pub(super) fn new() -> Self {
        let names = [
            ('S', "sleeping"),
            ('R', "running"),
            ('I', "idle"),
            ('D', "disk"),
            ('Z', "zombie"),
            ('T', "stopped"),
            ('t', "stopped"),
            ('X', "exited"),
        ];
        Self { names: names.map(|(letter, name)| (letter, name.into())), exited: "exited".into() }
    }

    /// Name of the kernel's letter (fs/proc/array.c, task_state_array).
    fn name(&self, letter: char) -> Arc<str> {
        let found = self.names.iter().find(|(known, _)| *known == letter);
        found.map_or_else(|| self.names[0].1.clone(), |(_, name)| name.clone())
    }
}

/// The interval that a row is about, wall clock, ns since the epoch.
#[derive(Clone, Copy)]
pub(super) struct Interval {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
}

impl Interval {
    fn length_ns(self) -> u64 {
        u64::try_from(self.to_ns - self.from_ns).unwrap_or(0)
    }
}

/// The row of a process that goes on. `times` are the scheduler's, where that probe runs.
pub(super) fn sampled(
    process: &Process,
    stat: &Stat,
    now: &Totals,
    before: &Totals,
    interval: Interval,
    times: Option<&ProcessTimes>,
    states: &States,
) -> tables::Process {
    let used = now.since(before);
    let (cpu_user_ns, cpu_system_ns) = match times {
        Some(times) => split(times.cpu_ns, &used, now, stat.kernel_thread),
        None => (used.user_ns, used.system_ns),
    };
    tables::Process {
        time: interval.to_ns,
        interval_ns: interval.length_ns(),
        state: states.name(stat.state),
        cpu_user_ns,
        cpu_system_ns,
        runqueue_ns: times.map(|times| times.runqueue_ns),
        rss_bytes: stat.rss_bytes,
        pss_bytes: process.usage.pss_bytes,
        swap_bytes: process.usage.swap_bytes,
        virtual_bytes: Some(stat.virtual_bytes),
        threads: stat.threads,
        open_files: process.usage.open_files,
        read_bytes: used.read_bytes,
        written_bytes: used.written_bytes,
        minor_faults: used.minor_faults,
        major_faults: used.major_faults,
        voluntary_switches: times.map_or(used.voluntary_switches, |times| times.voluntary_switches),
        involuntary_switches: times.map_or(used.involuntary_switches, |times| times.involuntary_switches),
        ..blank(&process.info)
    }
}

/// The last row of a process. Without `event`, which was lost or is never sent, only the scheduler's times are known.
pub(super) fn exited(
    process: &Process,
    event: Option<&ExitEvent>,
    interval: Interval,
    times: Option<&ProcessTimes>,
    states: &States,
) -> tables::Process {
    let before = process.totals.unwrap_or(Totals::ZERO);
    let now = event.map_or(before, Totals::at_exit);
    let used = now.since(&before);
    let (cpu_user_ns, cpu_system_ns) = match times {
        Some(times) => split(times.cpu_ns, &used, &now, false),
        None => (used.user_ns, used.system_ns),
    };
    let rss_bytes = event.map_or(0, |event| event.max_rss_bytes);
    tables::Process {
        time: interval.to_ns,
        interval_ns: interval.length_ns(),
        state: states.exited.clone(),
        cpu_user_ns,
        cpu_system_ns,
        runqueue_ns: times.map(|times| times.runqueue_ns),
        rss_bytes: if rss_bytes == u64::MAX { 0 } else { rss_bytes },
        threads: process.threads,
        read_bytes: event.and(used.read_bytes),
        written_bytes: event.and(used.written_bytes),
        minor_faults: used.minor_faults,
        major_faults: used.major_faults,
        voluntary_switches: times.map_or(used.voluntary_switches, |times| times.voluntary_switches),
        involuntary_switches: times.map_or(used.involuntary_switches, |times| times.involuntary_switches),
        exited: true,
        exit_code: event.map(|event| exit_code(event.exit_status)),
        ..blank(&process.info)
    }
}

/// As a shell shows it: the exit code, or 128 and the signal.
pub(crate) fn exit_code(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => wait_status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

/// Who it is, and nothing used.
fn blank(info: &Info) -> tables::Process {
    tables::Process {
        time: 0,
        interval_ns: 0,
        pid: info.pid,
        start_time: info.start_time_ns,
        parent_pid: info.parent_pid,
        command: info.command.clone(),
        arguments: info.arguments.clone(),
        user: info.user.clone(),
        service: info.service.clone(),
        container: info.container.clone(),
        state: info.command.clone(),
        cpu_user_ns: 0,
        cpu_system_ns: 0,
        runqueue_ns: None,
        rss_bytes: 0,
        pss_bytes: None,
        swap_bytes: None,
        virtual_bytes: None,
        threads: 0,
        open_files: None,
        read_bytes: None,
        written_bytes: None,
        received_bytes: None,
        sent_bytes: None,
        minor_faults: 0,
        major_faults: 0,
        voluntary_switches: 0,
        involuntary_switches: 0,
        exited: false,
        exit_code: None,
    }
}
