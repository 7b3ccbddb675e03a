use std::{
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use hitscope_collector::run::{Output, Place, run as collect, tables};
use hitscope_history::{Writer, folder::Access};

use hitscope_base::{
    Explain, Failure,
    manager::{State, tell_manager},
};
use hitscope_config::{Config, ListenError};

use crate::{
    account::Account,
    capabilities::Capabilities,
    child::{Keeper, Launch, Order},
    cli, folder, host, os, signals,
};

/// `hitscope run`
pub fn run(arguments: &cli::Run, verbose: u8) -> Result<ExitCode, Failure> {
    let host = super::require_host()?;
    let sources = arguments.place.sources(arguments.listen.as_deref())?;
    let config = super::valid(&sources)?;
    let have = Capabilities::effective(Path::new("/proc")).explain("cannot tell the privileges of this process")?;
    let account = Account::for_server(&config.server.user, &config.data_dir, have)?;
    if !arguments.no_serve {
        check_port(&config)?;
    }
    folder::prepare(&config.data_dir, account.as_ref())?;
    let stop = signals::flag()?;
    let reloads = signals::Reloads::catch()?;
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
    reload(reloads, arguments, keeper.as_ref().map(Keeper::orders))?;
    tell_manager(State::Ready);

    let output = Output { writer, data_dir: config.data_dir.clone(), access, notes: noted };
    let collected = collect(&config.collector, &Place::here(&config.host), probes, Some(output), None, &stop);
    tell_manager(State::Stopping);
    if let Some(keeper) = keeper {
        keeper.stop();
    }
    collected.explain("the collector ended")?;
    Ok(ExitCode::SUCCESS)
}

/// At each SIGHUP looks at the configuration anew, and gives it to the server if it is valid. What the collector itself goes by
/// stays as it is: tracing goes on without a gap.
fn reload(
    mut reloads: signals::Reloads,
    arguments: &cli::Run,
    server: Option<mpsc::Sender<Order>>,
) -> Result<(), Failure> {
    let (place, listen) = (arguments.place.clone(), arguments.listen.clone());
    let read = move || {
        let sources = place.sources(listen.as_deref())?;
        super::valid(&sources).map(|_| sources)
    };
    let wait = move || {
        while reloads.next() {
            match (read(), &server) {
                (Ok(sources), Some(server)) => {
                    println!(
                        "the configuration was read anew; what is not the server's takes effect at the next start"
                    );
                    // It ends when `run` does.
                    let _ = server.send(Order::Configure(Box::new(sources)));
                }
                (Ok(_), None) => println!("the configuration is valid; it takes effect at the next start"),
                (Err(failure), _) => {
                    tracing::error!("the new configuration is refused, and the old one stays: {}", failure.report());
                }
            }
        }
    };
    // It ends with the process: it waits for a signal.
    thread::Builder::new().name("reload".into()).spawn(wait).map(drop).explain("cannot start a thread")
}

fn user(account: Option<&Account>) -> String {
    match account {
        Some(account) if account.is_transient => {
            let name = &account.name;
            format!(
                "{name}, who is there while it runs; `useradd --system --user-group hitscope` gives it one of its own"
            )
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
