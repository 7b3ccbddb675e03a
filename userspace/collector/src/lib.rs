//! The privileged half: probes' user side, decoding, windows, process samples, and writing them to the history folder.

pub mod clocks;
pub mod event;
pub mod facts;
pub mod hosts;
pub mod kernel;
pub mod probes;
pub mod processes;
pub mod sampler;
pub mod services;
pub mod settings;
pub mod syscalls;
#[cfg(test)]
mod testing;

pub use settings::Settings;
