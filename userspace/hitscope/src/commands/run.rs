use std::{
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
    sync::{Arc, mpsc},
};

use hitscope_collector::run::{Output, Place, run as collect, tables};
use hitscope_history::{Writer, folder::Access};

use hitscope_base::{Explain, Failure};
use hitscope_config::{Config, ListenError};

use crate::{
    account::Account,
    capabilities::Capabilities,
    child::{Keeper, Launch},
    cli, folder, host, os, signals,
};

/// `hitscope run`
pub fn run(arguments: &cli::Run, verbose: u8) -> Result<ExitCode, Failure> {
    let host = super::require_host()?;
    let sources = arguments.place.sources(arguments.listen.as_deref())?;
    let config = super::valid(&sources)?;
    let have = Capabilities::effective(Path::new("/proc")).explain("cannot tell the privileges of this process")?;
    let account = Account::for_server(&config.server.user, have)?;
    if !arguments.no_serve {
        check_port(&config)?;
    }
    folder::prepare(&config.data_dir, account.as_ref())?;
    let stop = signals::flag()?;
    // Before the history, whose threads would keep the privileges that loading takes.
    let beside = beside_tracing(&config, account.is_some(), !arguments.no_serve)?;
    let probes = super::load_probes(&host, &config.probes, beside)?;

    // Operations and command lines are nobody else's business: they are for the server's group alone.
    let access = Access { group: Some(account.as_ref().map_or_else(os::own_ids, |account| account.ids).group) };
    let history = hitscope_history::Settings { access, ..config.history.clone() };
    let (writer, recovery) =
        Writer::open(&config.data_dir, &config.host, &tables(), history).explain("cannot open the history")?;
    if recovery.parts > 0 {
        tracing::info!(rows = recovery.rows, torn_bytes = recovery.torn_bytes, "the open cube of the last run goes on");
    }
    let running: Vec<&str> = probes.states().iter().filter(|probe| probe.running).map(|probe| probe.name).collect();
    println!("tracing {} with the probes {}", config.host, running.join(", "));
    for fact in probes.states().iter().filter(|probe| !probe.running).map(|probe| host::probe(&host, probe)) {
        println!("not running: {}: {}", fact.name, fact.reason);
        fact.mend.iter().for_each(|mend| println!("  mend: {mend}"));
    }

    let (notes, noted) = mpsc::channel();
    let keeper = if arguments.no_serve {
        None
    } else {
        let launch = Launch::new(&sources, &config.data_dir, account.clone(), verbose)?;
        let keeper = Keeper::start(launch, notes, Arc::clone(&stop))?;
        println!("the page is at http://{} (served as {})", config.server.listen, user(account.as_ref()));
        Some(keeper)
    };
    println!("the history is in {}", config.data_dir.display());

    let output = Output { writer, data_dir: config.data_dir.clone(), access, notes: noted };
    let collected = collect(&config.collector, &Place::here(&config.host), probes, Some(output), None, &stop);
    if let Some(keeper) = keeper {
        keeper.stop();
    }
    collected.explain("the collector ended")?;
    Ok(ExitCode::SUCCESS)
}

fn user(account: Option<&Account>) -> String {
    match account {
        Some(account) if account.is_fallback() => {
            format!("{}; `useradd --system hitscope` gives it a user of its own", account.name)
        }
        Some(account) => account.name.clone(),
        None => "this user".into(),
    }
}

/// Fails where the server could not listen. Somebody may still take the port before it does; then it says so itself.
fn check_port(config: &Config) -> Result<(), Failure> {
    let listened = || {
        let address = config.server.listen_address()?;
        TcpListener::bind(address).map_err(|cause| ListenError::of(address, cause))
    };
    listened().map(drop).explain("cannot serve the page")
}

/// What it takes beside tracing: looking after a server of another user, and writing to another user's data folder.
fn beside_tracing(config: &Config, other_user: bool, serves: bool) -> Result<Capabilities, Failure> {
    let data_dir = &config.data_dir;
    let owner =
        std::fs::metadata(data_dir).explain(format!("cannot use the data folder {}", data_dir.display()))?.uid();
    let mut beside = Capabilities::NONE;
    for (needed, capabilities) in [
        (owner != os::own_ids().user, Capabilities::DAC_OVERRIDE),
        (other_user, Capabilities::GIVING),
        (other_user && serves, Capabilities::SERVING),
    ] {
        if needed {
            beside = beside.and(capabilities);
        }
    }
    Ok(beside)
}
