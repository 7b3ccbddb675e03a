//! Rows on their way to the history.

use std::collections::BTreeMap;

use hitscope_history::{Error, Flushed, Writer};
use hitscope_schemas::tables::{self, Row, Table};

/// Rows of every table that the collector writes, in the order in which they came about.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Rows {
    pub hits: Vec<tables::Hit>,
    pub hitmap: Vec<tables::Hitmap>,
    pub operations: Vec<tables::Operation>,
    pub processes: Vec<tables::Process>,
    pub syscalls: Vec<tables::Syscall>,
    pub sockets: Vec<tables::Socket>,
    pub hosts: Vec<tables::Host>,
    pub events: Vec<tables::Event>,
}

impl Rows {
    /// Moves all rows of `other` behind these.
    pub fn append(&mut self, other: &mut Self) {
        self.hits.append(&mut other.hits);
        self.hitmap.append(&mut other.hitmap);
        self.operations.append(&mut other.operations);
        self.processes.append(&mut other.processes);
        self.syscalls.append(&mut other.syscalls);
        self.sockets.append(&mut other.sockets);
        self.hosts.append(&mut other.hosts);
        self.events.append(&mut other.events);
    }

    /// Drops what takes more room than `bytes`: the newest rows, and rather hits than what sums them up. Returns how many, by
    /// table.
    pub fn shed(&mut self, bytes: usize) -> BTreeMap<&'static str, u64> {
        let (mut room, mut lost) = (bytes, BTreeMap::new());
        shed(&mut self.hosts, &mut room, &mut lost);
        shed(&mut self.events, &mut room, &mut lost);
        shed(&mut self.hitmap, &mut room, &mut lost);
        shed(&mut self.operations, &mut room, &mut lost);
        shed(&mut self.processes, &mut room, &mut lost);
        shed(&mut self.sockets, &mut room, &mut lost);
        shed(&mut self.syscalls, &mut room, &mut lost);
        shed(&mut self.hits, &mut room, &mut lost);
        lost
    }

    /// Hands all rows to the history and has it write them. `now_ns`: wall clock, ns since the epoch.
    ///
    /// # Errors
    /// Of [`Writer::flush`]; the rows wait in the writer then.
    pub fn write(self, writer: &mut Writer, now_ns: u64) -> Result<Flushed, Error> {
        let Self { hits, hitmap, operations, processes, syscalls, sockets, hosts, events } = self;
        writer.append(hits);
        writer.append(hitmap);
        writer.append(operations);
        writer.append(processes);
        writer.append(syscalls);
        writer.append(sockets);
        writer.append(hosts);
        writer.append(events);
        writer.flush(now_ns)
    }
}

fn shed<R: Row>(rows: &mut Vec<R>, room: &mut usize, lost: &mut BTreeMap<&'static str, u64>) {
    let kept = rows.len().min(*room / size_of::<R>());
    if kept < rows.len() {
        lost.insert(R::table().name, (rows.len() - kept) as u64);
        rows.truncate(kept);
    }
    *room -= kept * size_of::<R>();
}

/// The tables that the collector writes, to open a [`Writer`] with.
pub fn tables() -> Vec<Table> {
    vec![
        tables::Hit::table(),
        tables::Hitmap::table(),
        tables::Operation::table(),
        tables::Process::table(),
        tables::Syscall::table(),
        tables::Socket::table(),
        tables::Host::table(),
        tables::Event::table(),
    ]
}
