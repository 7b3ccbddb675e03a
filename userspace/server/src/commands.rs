//! The commands of `hitscope-server`, a module for each.

pub mod alerts;
pub mod query;
pub mod rules;
pub mod serve;

use std::path::Path;

use hitscope_base::{Explain, Failure};
use hitscope_config::Config;
use hitscope_engine::{
    catalog::{self, Catalog},
    question::Refusal,
};
use tokio::runtime::Runtime;

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().explain("cannot start the runtime")
}

/// The catalog over the configuration's folder, in this process: who waits for it may let it take its time, and temporary files.
fn open(config: &Config) -> Result<Catalog, Failure> {
    require_folder(&config.data_dir)?;
    let options = catalog::Options { memory_bytes: config.server.query_memory.bytes(), spill: true };
    Catalog::open(&config.data_dir, options).explain("cannot open the history")
}

fn require_folder(data_dir: &Path) -> Result<(), Failure> {
    if data_dir.is_dir() {
        return Ok(());
    }
    Err(Failure::new(format!("cannot read the data folder {}: there is none", data_dir.display()))
        .help("name the folder that `hitscope run` writes to with --data-dir"))
}

/// A statement's error with its hint.
fn explain(refusal: impl Into<Refusal>) -> Failure {
    let Refusal { message, hint, .. } = refusal.into();
    let failure = Failure::new(format!("the query failed: {message}"));
    hint.into_iter().fold(failure, Failure::help)
}
