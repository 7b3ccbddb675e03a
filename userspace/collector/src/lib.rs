//! The privileged half: probes' user side, decoding, windows, process samples, and writing them to the history folder.

pub mod event;
pub mod kernel;
pub mod probes;
