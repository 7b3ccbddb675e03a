//! `hitscope`: the command line, and the processes with their privileges.

mod account;
mod capabilities;
mod child;
mod cli;
mod commands;
mod folder;
mod host;
mod os;
mod sibling;
mod signals;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use hitscope_base::Failure;
use hitscope_cli::{end_with_reader, log_to_stderr};

use crate::cli::{Cli, Command, Config};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    // By what started this process, whatever lies at its path meanwhile.
    hitscope_helper::use_program("/proc/self/exe".into());
    let daemon = matches!(cli.command, Command::Run(_));
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
        Command::Check(arguments) => commands::check::check(&arguments),
        Command::Status(arguments) => commands::status::status(&arguments),
        Command::Record(arguments) => commands::record::record(&arguments),
        Command::Replay(arguments) => commands::replay::replay(&arguments),
        Command::Helper => commands::helper::helper(),
        Command::Config(Config::Check(arguments)) => commands::config::check(&arguments),
        Command::Generate(arguments) => arguments.write(&Cli::command()).map(|()| ExitCode::SUCCESS),
        Command::Serve(_) | Command::Query(_) | Command::Alerts(_) => Err(sibling::hand_over()),
    }
}
