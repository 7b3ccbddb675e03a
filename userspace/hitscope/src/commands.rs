//! One module for each command.

pub mod alerts;
pub mod check;
pub mod config;
pub mod query;
pub mod record;
pub mod replay;
pub mod run;
pub mod serve;
pub mod status;

use std::path::Path;

use hitscope_collector::probes::{self, Probes};
use tokio::runtime::Runtime;

use crate::{
    failure::{Explain, Failure},
    host::{self, Fact, State},
};

/// A runtime for the commands that read or serve.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().explain("cannot start the runtime")
}

/// Fails unless this process can load probes at all.
fn require_privileges() -> Result<(), Failure> {
    for fact in [host::privileges(Path::new("/proc")), host::btf(Path::new("/sys"))] {
        if let Fact { state: State::Missing, reason, mend, .. } = fact {
            let failure = Failure::new(format!("cannot trace this host: {reason}"));
            return Err(mend.into_iter().fold(failure, Failure::help));
        }
    }
    Ok(())
}

/// Loads the probes; at least one must run.
fn load_probes(settings: &probes::Settings) -> Result<Probes, Failure> {
    let probes = Probes::load(settings)
        .explain_help("cannot trace this host", "`hitscope check` tells what this host supports")?;
    if probes.states().iter().all(|state| !state.running) {
        let reasons =
            probes.states().iter().filter_map(|state| Some(format!("{}: {}", state.name, state.reason.as_ref()?)));
        let reasons: Vec<String> = reasons.collect();
        return Err(Failure::new(format!("cannot trace this host: no probe runs ({})", reasons.join("; ")))
            .help("`hitscope check` tells what this host supports"));
    }
    Ok(probes)
}
