//! What the command lines of both programs share: arguments, logging, progress, and how figures are printed.

mod arguments;
mod generate;
pub mod print;
mod progress;

use std::{ffi::CStr, io::IsTerminal};

pub use arguments::{Alerts, AlertsAdopt, AlertsTest, Place, Query, QueryFormat, Serve, address};
pub use generate::Generate;
pub use progress::Progress;

/// Warnings and errors of all crates; RUST_LOG or `--verbose` for more.
pub fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::{EnvFilter, filter::LevelFilter};
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    // How the probes' object is put together is for whoever asks by name.
    let filter = match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(_) => EnvFilter::builder().with_default_directive(level.into()).from_env_lossy(),
        None => EnvFilter::new(format!("{level},aya=warn,aya_obj=warn")),
    };
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(verbose > 0)
        .init();
}

/// Lets `hitscope query … | head` end quietly, as other programs do, when nobody reads on.
pub fn end_with_reader() {
    // SAFETY: the default action of SIGPIPE needs no handler; no other thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Names the calling thread, and on the main thread the process, in `ps` and `/proc`.
pub fn name_process(name: &CStr) {
    let none: libc::c_ulong = 0;
    // SAFETY: the option takes a pointer to a text that ends in zero, which this is; it fails only for one that is not.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr() as libc::c_ulong, none, none, none) };
}
