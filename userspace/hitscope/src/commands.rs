//! One module for each command.

pub mod check;
pub mod config;
pub mod helper;
pub mod record;
pub mod replay;
pub mod run;
pub mod status;

use std::{fs, io, path::Path};

use hitscope_collector::{
    kernel::calls::{Answer, Calls},
    probes::{self, Probes},
};

use hitscope_base::{Explain, Failure};
use hitscope_config::{Config, Invalid, Sources, did_you_mean};

use crate::{
    capabilities::Capabilities,
    host::{self, Fact, Host},
    os,
};

/// The configuration in effect, checked.
fn valid(sources: &Sources) -> Result<Config, Failure> {
    let config = sources.valid()?;
    let names: Vec<&str> = probes::REGISTRY.iter().map(|probe| probe.name).collect();
    match config.probes.disabled.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(config),
        Some(unknown) => {
            let invalid = Invalid::new("probes.disabled", format!("probes.disabled names no probe: {unknown}"));
            Err(sources.blame(&invalid.help(did_you_mean(unknown, &names))))
        }
    }
}

/// Looks at the host; fails where it cannot be traced at all.
fn require_host() -> Result<Host, Failure> {
    let host = Host::here();
    host::missing(&host).map_or(Ok(host), |fact| Err(cannot_trace(fact)))
}

fn cannot_trace(fact: Fact) -> Failure {
    let failure = Failure::new(format!("cannot trace this host: {}", fact.reason));
    fact.mend.into_iter().fold(failure, Failure::help)
}

/// From here on kernels were seen to skip programs in which a thread had lost its CPU: in 7.3, and in none up to 6.18.
const SKIPS_PROGRAMS: (u32, u32) = (7, 0);

/// Loads the probes, of which at least one must run, and gives up every privilege that is not needed from then on, but for
/// those that are needed `beside`. Threads that run already keep theirs: so this comes before any is started.
fn load_probes(host: &Host, settings: &probes::Settings, beside: Capabilities) -> Result<Probes, Failure> {
    const PRIVILEGES: &str = "cannot give up privileges";
    Capabilities::LOADING.and(beside).keep_only().explain(PRIVILEGES)?;
    let mut probes = Probes::load(settings).map_err(|error| cannot_trace(host::not_loaded(host, &error)))?;
    if probes.states().iter().all(|state| !state.running) {
        let reasons: Vec<String> = probes
            .states()
            .iter()
            .map(|state| host::probe(host, state))
            .map(|fact| format!("{}: {}", fact.name, fact.reason))
            .collect();
        return Err(Failure::new(format!("cannot trace this host: no probe runs ({})", reasons.join("; ")))
            .help("`hitscope check` tells what to do about each"));
    }
    if host.at_least(SKIPS_PROGRAMS) == Some(true) {
        probes.attach_next_copies();
    }
    needed_on(&mut probes).explain(PRIVILEGES)?.and(beside).keep_only().explain(PRIVILEGES)?;
    os::close_to_debuggers().explain(PRIVILEGES)?;
    Ok(probes)
}

/// Whether files that processes have mapped can be opened as such: so are libraries that an upgrade has removed meanwhile.
fn files_in_use_open() -> bool {
    let files = fs::read_dir("/proc/self/map_files").into_iter().flatten().flatten();
    files.take(1).any(|file| fs::metadata(file.path()).is_ok())
}

/// What the loaded probes need for as long as they run. The kernel says so itself: each capability is laid aside and the calls
/// are made that come later.
fn needed_on(probes: &mut Probes) -> io::Result<Capabilities> {
    let attaches = probes.states().iter().any(|state| state.name == "tls" && state.running);
    let uprobes =
        || !attaches || (Calls::ask(Path::new("/sys")).uprobe == Some(Answer::Allowed) && files_in_use_open());
    // CAP_SYS_ADMIN goes first: where it must stay, it stands for the others, too.
    let mut needed = Capabilities::READING;
    for capability in [Capabilities::SYS_ADMIN, Capabilities::PERFMON] {
        needed = needed.and(capability.unless_it_works(uprobes)?);
    }
    // Before 5.19, bpf() is closed to everybody else where kernel.unprivileged_bpf_disabled is set, for what is loaded as well.
    Ok(needed.and(Capabilities::BPF.unless_it_works(|| probes.usable())?))
}
