//! A recording, or a packet capture, through the same pipeline, into a history.

use std::path::Path;

use hitscope_history::Writer;

use crate::{
    pcap,
    pipeline::{Input, Pipeline},
    record::{self, Player},
    rows::Rows,
    settings::Settings,
};

/// A recording that could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error(transparent)]
    Recording(#[from] record::Error),
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] pcap::Error),
    /// The history cannot be written.
    #[error(transparent)]
    History(#[from] hitscope_history::Error),
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Hits seen, kept or not.
    pub hits: u64,
    /// First and last second of the recording, wall clock, ns since the epoch; 0 when it has none.
    pub from_ns: i64,
    /// See `from_ns`.
    pub to_ns: i64,
    /// How the file is cut short or damaged, if it is.
    pub warning: Option<String>,
}

/// Goes through a recording and hands the rows of each of its seconds to `sink`, with that second's end: wall clock, ns since
/// the epoch.
///
/// # Errors
/// [`record::Error`], and whatever `sink` says.
pub fn rows<E: From<record::Error>>(
    settings: &Settings,
    player: &mut Player,
    mut sink: impl FnMut(Rows, i64) -> Result<(), E>,
) -> Result<Replayed, E> {
    let mut pipeline = Pipeline::new(settings, &player.header().architecture);
    let mut replayed = Replayed::default();
    let mut ended = false;
    while let Some(input) = player.next()? {
        pipeline.handle(input);
        // Nobody is there to be told or asked: the answers are in the recording.
        pipeline.commands().for_each(drop);
        pipeline.questions().for_each(drop);
        ended = matches!(input, Input::End);
        if matches!(input, Input::Tick(_)) {
            replayed.to_ns = pipeline.wall_ns();
            if replayed.from_ns == 0 {
                replayed.from_ns = replayed.to_ns;
            }
            sink(pipeline.take_rows(), replayed.to_ns)?;
        }
    }
    if !ended {
        pipeline.handle(Input::End);
    }
    sink(pipeline.take_rows(), pipeline.wall_ns())?;
    replayed.hits = pipeline.counters().get("hits").copied().unwrap_or(0);
    replayed.warning = player.warning();
    Ok(replayed)
}

/// Goes through the recording or capture at `path`, writes its rows, and closes every cube.
///
/// # Errors
/// [`Error`].
pub fn replay(settings: &Settings, path: &Path, mut writer: Writer) -> Result<Replayed, Error> {
    let write = |rows: Rows, now_ns| {
        rows.write(&mut writer, u64::try_from(now_ns).unwrap_or(0))?;
        Ok::<(), Error>(())
    };
    let replayed = if pcap::is_capture(path).unwrap_or(false) {
        pcap::rows(settings, path, write)?
    } else {
        rows(settings, &mut Player::open(path)?, write)?
    };
    writer.finish()?;
    Ok(replayed)
}
