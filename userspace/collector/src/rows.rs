//! Rows on their way to the history.

use hitscope_schemas::tables;

/// Rows of every table that the collector writes, in the order in which they came about.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Rows {
    pub hits: Vec<tables::Hit>,
    pub hitmap: Vec<tables::Hitmap>,
    pub operations: Vec<tables::Operation>,
    pub processes: Vec<tables::Process>,
    pub syscalls: Vec<tables::Syscall>,
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
        self.hosts.append(&mut other.hosts);
        self.events.append(&mut other.events);
    }
}
