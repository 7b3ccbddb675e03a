//! The privileged half: probes' user side, decoding, windows, process samples, and writing them to the history folder.
//!
//! Everything between the probes and the rows is [`pipeline`]; [`run`](mod@run) feeds it from the running kernel, [`replay`]
//! from a [`record`]ing.

pub mod arguments;
pub mod boot;
pub mod clocks;
pub mod event;
pub mod facts;
pub mod helpers;
pub mod hosts;
pub mod kernel;
pub mod libraries;
pub mod names;
pub mod pcap;
pub mod pipeline;
pub mod probes;
pub mod processes;
pub mod record;
pub mod remotes;
pub mod replay;
pub mod rows;
pub mod run;
pub mod sampler;
pub mod services;
pub mod settings;
pub mod source;
pub mod status;
pub mod strangers;
pub mod syscalls;
#[cfg(test)]
mod testing;
pub mod windows;
pub mod writing;

pub use settings::{Http, Settings};
