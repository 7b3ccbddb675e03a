//! The commands of `hitscope-server`, a module for each.

pub mod alerts;
pub mod query;
pub mod rules;
pub mod serve;

use std::path::Path;

use hitscope_base::{Explain, Failure};
use hitscope_engine::catalog::{self, Catalog};
use tokio::runtime::Runtime;

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().explain("cannot start the runtime")
}

/// The catalog over a folder.
fn open(data_dir: &Path, options: catalog::Options) -> Result<Catalog, Failure> {
    require_folder(data_dir)?;
    Catalog::open(data_dir, options).explain("cannot open the history")
}

fn require_folder(data_dir: &Path) -> Result<(), Failure> {
    if data_dir.is_dir() {
        return Ok(());
    }
    Err(Failure::new(format!("cannot read the data folder {}: there is none", data_dir.display()))
        .help("name the folder that `hitscope run` writes to with --data-dir"))
}

/// A statement's error with its hint.
fn explain(error: catalog::Error) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(format!("the query failed: {error}"));
    hint.into_iter().fold(failure, Failure::help)
}
