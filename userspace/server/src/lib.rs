//! The unprivileged half: it serves the API and the page over the history folder, and evaluates alert rules.

pub mod alerts;
mod serve;
#[cfg(test)]
#[path = "../../engine/src/testing.rs"]
mod testing;
pub mod views;
mod web;

use hitscope_engine::catalog;

pub use serve::{Config, Error, serve};

/// What the configuration says that queries may use.
pub fn limits(settings: &hitscope_config::Server) -> catalog::Options {
    catalog::Options {
        memory_bytes: settings.query_memory.bytes(),
        timeout: Some(settings.query_timeout.0),
        ..catalog::Options::default()
    }
}
