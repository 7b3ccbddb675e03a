use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    thread,
};

use hitscope_base::{Explain, Failure};
use hitscope_cli::Progress;
use hitscope_collector::{
    record::{Header, Recorder},
    run::{Place, run},
};
use hitscope_config::Sources;

use crate::{capabilities::Capabilities, cli, signals};

/// `hitscope record`
pub fn record(arguments: &cli::Record) -> Result<ExitCode, Failure> {
    let host = super::require_host()?;
    let config = super::valid(&Sources::gather(arguments.config.as_deref())?)?;
    let stop = signals::flag()?;
    let recorder = Recorder::create(&arguments.file, &Header::here(&config.host)).explain("cannot record")?;
    let probes = super::load_probes(&host, &config.probes, Capabilities::NONE)?;
    if let Some(duration) = arguments.duration {
        let stop = Arc::clone(&stop);
        // Ends with the process, should that end earlier.
        thread::spawn(move || {
            thread::sleep(duration.0);
            stop.store(true, Ordering::Relaxed);
        });
    }
    let progress = Progress::of(match arguments.duration {
        Some(duration) => format!("recording for {duration}"),
        None => "recording until Ctrl-C".into(),
    });
    let recorded = run(&config.collector, &Place::here(&config.host), probes, None, Some(recorder), &stop);
    drop(progress);
    recorded.explain("cannot record")?;
    println!("recorded to {}; see it with `hitscope replay`", arguments.file.display());
    Ok(ExitCode::SUCCESS)
}
