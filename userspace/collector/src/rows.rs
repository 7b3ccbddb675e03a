//! Rows on their way to the history.

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
