//! What the collector says of itself each second.

use std::{collections::BTreeMap, path::Path};

use hitscope_history::status::{ProbeStatus, Status};

use crate::{event::Clock, facts::TICK_NS, probes::ProbeState, sampler::Proc};

/// The notes kept; older ones go.
const NOTES: usize = 20;

/// Makes the status.
pub struct Reporter {
    status: Status,
    proc: Proc,
}

impl Reporter {
    /// `procfs` is `/proc`; `clock` is now.
    pub fn new(host: &str, procfs: &Path, clock: Clock) -> Self {
        let mut proc = Proc::new(procfs);
        // That of the process, whose CPU is told, not that of the collecting, before which it has loaded the probes.
        let started = proc.stat(std::process::id()).map_or(clock.boottime_ns, |own| own.start_ticks * TICK_NS);
        let started_ns = clock.realtime_ns.saturating_sub(clock.boottime_ns.saturating_sub(started));
        let status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            host: host.into(),
            pid: std::process::id(),
            started_ns,
            ..Status::default()
        };
        Self { status, proc }
    }

    /// Something that the user should know.
    pub fn note(&mut self, note: String) {
        let notes = &mut self.status.notes;
        if notes.last() != Some(&note) {
            notes.push(note);
            notes.drain(..notes.len().saturating_sub(NOTES));
        }
    }

    /// The status as of now.
    pub fn report(
        &mut self,
        now_ns: u64,
        probes: &[ProbeState],
        lost: BTreeMap<String, u64>,
        counters: BTreeMap<String, u64>,
    ) -> Status {
        let status = &mut self.status;
        status.updated_ns = now_ns;
        if let Some(own) = self.proc.stat(status.pid) {
            status.cpu_ns = (own.user_ticks + own.system_ticks) * TICK_NS;
            status.rss_bytes = own.rss_bytes;
            status.peak_rss_bytes = self.proc.peak_rss_bytes(status.pid).unwrap_or(own.rss_bytes);
        }
        let probe = |state: &ProbeState| ProbeStatus {
            name: state.name.into(),
            running: state.running,
            reason: state.reason.clone(),
        };
        status.probes = probes.iter().map(probe).collect();
        status.lost = lost;
        status.counters = counters;
        status.clone()
    }
}
