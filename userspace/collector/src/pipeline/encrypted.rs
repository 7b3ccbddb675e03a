//! Encrypted connections, and those of them that cannot be read.

use std::{cell::Cell, rc::Rc, sync::Arc};

use super::{Pipeline, row};
use crate::{facts::Question, processes::Info};

/// Why a process cannot be read is asked anew after this, ns: it may have loaded a library meanwhile.
const UNREADABLE_NS: u64 = 5_000_000_000;
/// Processes of which the answer is remembered.
const MAX_UNREADABLE: usize = 4096;

/// An encrypted connection of a process whose TLS cannot be read, by what is known of it.
pub(super) struct Suspect {
    since_ns: u64,
    info: Rc<Info>,
    protocol: &'static str,
    /// Not known yet where there is none.
    reason: Option<Arc<str>>,
    remote: (Arc<str>, u16),
    read: Rc<Cell<bool>>,
}

impl Pipeline {
    /// A connection turned out to be encrypted.
    pub(super) fn encrypted(&mut self, socket: u64, protocol: &'static str, now_ns: u64) {
        self.counters.encrypted += 1;
        let Some(connection) = self.connections.get(socket, now_ns) else { return };
        let pid = connection.info.pid;
        let known = self.unreadable.get(&pid).filter(|(asked_ns, _)| asked_ns + UNREADABLE_NS > now_ns);
        let reason = match known {
            Some((_, Some(None))) => return,
            Some((_, Some(reason))) => reason.clone(),
            Some((_, None)) => None,
            None => {
                if self.unreadable.len() >= MAX_UNREADABLE {
                    self.unreadable.clear();
                }
                self.unreadable.insert(pid, (now_ns, None));
                self.questions.push(Question::Unreadable(pid));
                None
            }
        };
        if self.suspects.len() >= MAX_UNREADABLE {
            self.judge(now_ns, true);
        }
        let Some(connection) = self.connections.get(socket, now_ns) else { return };
        let remote = (connection.origin.remote_address.clone(), connection.origin.remote_port);
        let read = connection.read.clone();
        self.suspects.push(Suspect { since_ns: now_ns, info: connection.info.clone(), protocol, reason, remote, read });
    }

    /// Takes in why a process's TLS cannot be read, or that it can.
    pub(super) fn explain(&mut self, pid: u32, reason: Option<&Arc<str>>) {
        if let Some((_, known)) = self.unreadable.get_mut(&pid) {
            *known = Some(reason.cloned());
        }
        self.suspects.retain_mut(|suspect| {
            if suspect.info.pid != pid || suspect.reason.is_some() {
                return true;
            }
            suspect.reason = reason.cloned();
            suspect.reason.is_some()
        });
    }

    /// Counts the connections that were found to be encrypted before a moment and of which no plaintext has come since. Where
    /// it is not known yet why, that is waited for, but not at the end.
    pub(super) fn judge(&mut self, before_ns: u64, at_end: bool) {
        let mut told = Vec::new();
        let due = |suspect: &mut Suspect| {
            let patience_ns = if suspect.reason.is_some() || at_end { 0 } else { UNREADABLE_NS };
            suspect.since_ns + patience_ns <= before_ns
        };
        for suspect in self.suspects.extract_if(.., due).collect::<Vec<_>>() {
            let Suspect { since_ns, info, protocol, reason, remote: (address, port), read } = suspect;
            if read.get() {
                continue;
            }
            let info = if info.is_named() { info } else { self.processes.info(info.pid).unwrap_or(info) };
            let reason = reason.unwrap_or_else(|| "that was not found out in time".into());
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
}
