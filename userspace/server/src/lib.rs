//! The unprivileged half: it serves the API and the page over the history folder, and evaluates alert rules.

pub mod alerts;
mod serve;
#[cfg(test)]
#[path = "../../engine/src/testing.rs"]
mod testing;
mod web;

use hitscope_engine::workers;

pub use serve::{Config, Error, serve};

/// What the configuration says that queries may use.
pub fn limits(settings: &hitscope_config::Server) -> workers::Limits {
    workers::Limits { memory_bytes: settings.query_memory.bytes(), time: settings.query_timeout.0 }
}
