use std::process::ExitCode;

use hitscope_base::{Explain, Failure};
use hitscope_cli::{Progress, print};
use hitscope_collector::{pcap, record::Player, replay::replay as play, run::tables};
use hitscope_history::{Settings, Writer};

use crate::cli;

/// The host of what was captured: a capture does not say where.
const PCAP_HOST: &str = "pcap";

/// `hitscope replay`
pub fn replay(arguments: &cli::Replay) -> Result<ExitCode, Failure> {
    let config = arguments.place.sources(None)?.resolve()?;
    let what = || format!("cannot replay {}", arguments.file.display());
    let host = match pcap::is_capture(&arguments.file) {
        Ok(true) => PCAP_HOST.into(),
        // What else it may be, or why it cannot be read, its player says.
        _ => Player::open(&arguments.file).explain(what())?.header().host.clone(),
    };
    let (writer, _) =
        Writer::open(&config.data_dir, &host, &tables(), Settings::keep_all()).explain("cannot open the history")?;
    let progress = Progress::of(format!("replaying {}", arguments.file.display()));
    let replayed = play(&config.collector, &arguments.file, writer).explain(what())?;
    drop(progress);
    if let Some(warning) = &replayed.warning {
        eprintln!("warning: {warning}");
    }
    let length_ns = u64::try_from(replayed.to_ns - replayed.from_ns).unwrap_or(0);
    println!(
        "{} hits in {} of {host}, now in {}",
        replayed.hits,
        print::duration(length_ns),
        config.data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
