//! Further copies of programs, for kernels that skip the first (`copies!` in the probes says why), and how often they were skipped.

use std::{collections::HashMap, os::fd::AsFd};

use aya::{Ebpf, programs::RawTracePoint};
use hitscope_schemas::sockets::COPIES;

use super::{
    load::{Refusal, explain, program},
    uprobes,
};

pub(super) const COUNT: usize = COPIES as usize;
pub(super) type Names = [&'static str; COUNT];

pub(super) const ENTER: Names = ["sys_enter", "sys_enter_1", "sys_enter_2", "sys_enter_3"];
pub(super) const EXIT: Names = ["sys_exit", "sys_exit_1", "sys_exit_2", "sys_exit_3"];
pub(super) const TRANSFER: Names = ["sockets_transfer", "transfer_1", "transfer_2", "transfer_3"];
pub(super) const PIECE: Names = ["sockets_piece", "piece_1", "piece_2", "piece_3"];
pub(super) const DATAGRAM: Names = ["connections_datagram", "datagram_1", "datagram_2", "datagram_3"];
pub(super) const ARRIVAL: Names = ["sockets_arrival", "arrival_1", "arrival_2", "arrival_3"];

/// Those that are attached, and the raw tracepoint of each.
const ATTACHED: [(Names, &str); 3] = [(ENTER, "sys_enter"), (EXIT, "sys_exit"), (ARRIVAL, "sk_data_ready")];

/// What was skipped so far.
#[derive(Default)]
pub(super) struct Skips {
    /// By program.
    before: HashMap<String, u64>,
    /// The last copy that is attached.
    last: usize,
    failed: bool,
}

impl Skips {
    /// How often since the last time a program was skipped, of those with copies the last one. Where that was, the next is attached.
    pub(super) fn take(&mut self, loaded: &mut Ebpf) -> u64 {
        let (mut skipped, mut wanted) = (0, false);
        for (name, program) in loaded.programs() {
            // Before 5.12 the kernel does not count it, and it does not happen.
            let Some(info) = program.fd().ok().and_then(|fd| uprobes::info(fd.as_fd()).ok()) else { continue };
            let before = self.before.insert(name.to_owned(), info.recursion_misses).unwrap_or(0);
            let more = info.recursion_misses.saturating_sub(before);
            match ATTACHED.iter().find_map(|(names, _)| names.iter().position(|copy| *copy == name)) {
                Some(copy) if copy < self.last => {}
                Some(_) => {
                    skipped += more;
                    wanted |= more > 0;
                }
                None => skipped += more,
            }
        }
        if wanted && !self.failed && self.last + 1 < COUNT {
            self.attach_next(loaded);
        }
        skipped
    }

    /// Attaches the next copy of each program that runs.
    pub(super) fn attach_next(&mut self, loaded: &mut Ebpf) {
        let next = self.last + 1;
        for (names, tracepoint) in ATTACHED {
            let name = names[next];
            let attached = program::<RawTracePoint>(loaded, name).and_then(|program| match program.fd() {
                Ok(_) => program.attach(tracepoint).map(drop).map_err(|error| explain(name, &error)),
                // Its probe does not run.
                Err(_) => Ok(()),
            });
            if let Err(refusal) = attached {
                tracing::warn!("this kernel skips programs, and what could do their work does not run: {refusal}");
                self.failed = true;
                return;
            }
        }
        tracing::debug!("this kernel skips programs: copy {next} of them runs, too");
        self.last = next;
    }

    /// Takes a program away while something is done, as if the kernel skipped it.
    pub(super) fn without(loaded: &mut Ebpf, name: &'static str, meanwhile: impl FnOnce()) -> Result<(), Refusal> {
        let (_, tracepoint) =
            ATTACHED.iter().find(|(names, _)| names.contains(&name)).ok_or_else(|| "it has no copies".to_owned())?;
        let program = program::<RawTracePoint>(loaded, name)?;
        let explain = |error| explain(name, &error);
        program.unload().map_err(explain)?;
        meanwhile();
        program.load().map_err(explain)?;
        program.attach(tracepoint).map(drop).map_err(explain)
    }

    /// Takes away the copies before the last, as if the kernel skipped them each time.
    pub(super) fn detach_others(&self, loaded: &mut Ebpf) -> Result<(), Refusal> {
        for name in ATTACHED.iter().flat_map(|(names, _)| &names[..self.last]) {
            let program = program::<RawTracePoint>(loaded, name)?;
            // Not loaded is what has no tracepoint here.
            if program.fd().is_ok() {
                program.unload().map_err(|error| explain(name, &error))?;
            }
        }
        Ok(())
    }
}
