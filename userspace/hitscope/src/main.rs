//! `hitscope`: the command line, the configuration, and the processes with their privileges.

mod account;
mod capabilities;
mod child;
mod cli;
mod commands;
mod config;
mod failure;
mod folder;
mod host;
mod os;
mod print;
mod progress;
mod signals;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;

use crate::{
    cli::{Alerts, Cli, Command, Config},
    failure::Failure,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    let daemon = matches!(cli.command, Command::Run(_) | Command::Serve(_));
    if !daemon {
        end_with_reader();
    }
    let code = dispatch(cli).unwrap_or_else(|failure| {
        eprintln!("{}", failure.report());
        ExitCode::FAILURE
    });
    os::await_ending_threads();
    code
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Run(arguments) => commands::run::run(&arguments, cli.verbose),
        Command::Serve(arguments) => commands::serve::serve(&arguments),
        Command::Check(arguments) => commands::check::check(&arguments),
        Command::Status(arguments) => commands::status::status(&arguments),
        Command::Query(arguments) => commands::query::query(&arguments),
        Command::Record(arguments) => commands::record::record(&arguments),
        Command::Replay(arguments) => commands::replay::replay(&arguments),
        Command::Config(Config::Check(arguments)) => commands::config::check(&arguments),
        Command::Alerts(Alerts::Test(arguments)) => commands::alerts::test(&arguments),
    }
}

/// Warnings and errors of all crates; RUST_LOG or `--verbose` for more.
fn log_to_stderr(verbose: u8) {
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
fn end_with_reader() {
    // SAFETY: the default action of SIGPIPE needs no handler; no other thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
