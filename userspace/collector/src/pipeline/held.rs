//! What waits until it is known whose it is: hits and counts of a process that `/proc` was asked about, or that was gone before
//! it could be, of which the record of its end tells.

use std::{collections::BTreeMap, sync::Arc};

use hitscope_schemas::{
    connections::{RemoteKey, RemoteStats},
    syscalls::{SyscallKey, SyscallStats},
};

use super::{Pipeline, hits::Held, row};
use crate::{processes::Info, remotes, syscalls};

/// How long something is held, ns; with the tick at which this is found out, up to a second longer.
const HELD_NS: u64 = 1_000_000_000;
/// What is held at most, and of one process.
const MAX_HELD: usize = 16 << 10;

/// Something that waits.
pub(super) enum Waiting {
    Hit(Box<Held>),
    /// A program was started: when, wall clock, ns.
    Exec(i64),
    /// With the window that they are for.
    Syscalls(SyscallKey, SyscallStats, i64),
    Remote(RemoteKey, RemoteStats, i64),
}

/// What waits, by process.
#[derive(Default)]
pub(super) struct Holding {
    /// With since when, monotonic, ns.
    by_process: BTreeMap<u32, (u64, Vec<Waiting>)>,
    count: usize,
}

impl Holding {
    /// Holds something; gives it back when there is no room.
    pub(super) fn hold(&mut self, pid: u32, now_ns: u64, waiting: Waiting) -> Option<Waiting> {
        if self.count >= MAX_HELD {
            return Some(waiting);
        }
        self.count += 1;
        self.by_process.entry(pid).or_insert_with(|| (now_ns, Vec::new())).1.push(waiting);
        None
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn take(&mut self, pid: u32) -> Vec<Waiting> {
        let taken = self.by_process.remove(&pid).map_or_else(Vec::new, |(_, waiting)| waiting);
        self.count -= taken.len();
        taken
    }

    fn held_since(&self, before_ns: u64) -> Vec<u32> {
        self.by_process.iter().filter(|(_, (since_ns, _))| *since_ns <= before_ns).map(|(pid, _)| *pid).collect()
    }
}

impl Pipeline {
    /// Holds something of a process, where it is worth while: it is not known yet, and asked about.
    pub(super) fn hold(&mut self, pid: u32, waiting: Waiting) {
        let back = match self.processes.is_pending(pid) {
            true => self.holding.hold(pid, self.now_ns, waiting),
            false => Some(waiting),
        };
        if let Some(waiting) = back {
            let info = self.processes.info(pid);
            self.write(pid, waiting, info.as_deref());
        }
    }

    /// Writes what was held of a process, as this one's, or as nobody's.
    pub(super) fn release(&mut self, pid: u32, info: Option<&Info>) {
        for waiting in self.holding.take(pid) {
            self.write(pid, waiting, info);
        }
    }

    /// Writes what was held of a process of which there is an answer now.
    pub(super) fn release_answered(&mut self, pid: u32) {
        if let Some(info) = self.processes.info(pid).filter(|info| info.is_known()) {
            self.release(pid, Some(&info));
        }
    }

    /// Writes what was held for long enough.
    pub(super) fn release_late(&mut self, now_ns: u64) {
        for pid in self.holding.held_since(now_ns.saturating_sub(HELD_NS)) {
            let info = self.processes.info(pid);
            self.release(pid, info.as_deref());
        }
    }

    fn write(&mut self, pid: u32, waiting: Waiting, info: Option<&Info>) {
        let service: Arc<str> = info.map_or_else(|| self.processes.unknown(), |info| info.service.clone());
        match waiting {
            Waiting::Hit(held) => {
                let Held { mut origin, session, measures, exchange } = *held;
                if info.is_none_or(|info| !info.is_named()) {
                    self.losses.add("hits_of_unknown_process", 1);
                }
                if let Some(info) = info {
                    origin.container = info.container.clone();
                }
                let group = self.windows.group(&service, exchange.protocol.as_str(), exchange.side.as_str());
                self.windows.add(&group, &origin, &session, measures, exchange);
            }
            Waiting::Exec(time) => {
                let Some(info) = info else { return };
                let detail = if info.arguments.is_empty() { &info.command } else { &info.arguments };
                self.rows.events.push(row(time, "exec", pid, service, detail));
            }
            Waiting::Syscalls(key, stats, window) => {
                self.rows.syscalls.push(syscalls::row(&key, &stats, window, service, &mut self.syscall_names));
            }
            Waiting::Remote(key, stats, window) => {
                self.rows.sockets.push(remotes::row(&key, &stats, window, service, &mut self.names, self.now_ns));
            }
        }
    }
}
