//! `hitscope-server`: SQL over the history, the page and its API, and the alerts. It has no privileges, and needs none.

mod commands;

use std::{process::ExitCode, thread};

use clap::{CommandFactory, Parser, Subcommand};
use hitscope_base::{Explain, Failure};
use hitscope_cli::{Alerts, Generate, Query, Serve, end_with_reader, log_to_stderr, name_process};
use hitscope_engine::worker;

const STACK_BYTES: usize = 64 << 20;

/// Serve the page, and answer SQL: what `hitscope serve`, `query` and `alerts` hand over to.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    /// Say more on stderr; twice for even more. RUST_LOG chooses in detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Serve),
    Query(Query),
    #[command(subcommand)]
    Alerts(Alerts),
    #[command(hide = true)]
    Generate(Generate),
    /// Answer queries of the server that started it
    #[command(hide = true)]
    Worker,
    /// Plan the SQL of all rules; the configuration comes on stdin
    #[command(hide = true)]
    CheckRules,
}

fn main() -> ExitCode {
    // `hitscope run` starts it by a descriptor, by whose number it would be called; its threads take the name over.
    name_process(c"hitscope-server");
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    if !matches!(cli.command, Command::Serve(_)) {
        end_with_reader();
    }
    // Planning a statement of some thousand terms takes more stack than a process's first thread has.
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        dispatch(cli.command).unwrap_or_else(|failure| {
            eprintln!("{}", failure.report());
            ExitCode::FAILURE
        })
    });
    // It panicked, and has said so.
    thread.map_or(ExitCode::FAILURE, |thread| thread.join().unwrap_or(ExitCode::FAILURE))
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(arguments) => commands::serve::serve(&arguments),
        Command::Query(arguments) => commands::query::query(&arguments),
        Command::Alerts(Alerts::Test(arguments)) => commands::alerts::test(&arguments),
        Command::Alerts(Alerts::Adopt(arguments)) => commands::alerts::adopt(&arguments),
        Command::Generate(arguments) => arguments.write(&Cli::command()).map(|()| ExitCode::SUCCESS),
        Command::Worker => worker::run().map(|()| ExitCode::SUCCESS).explain("the query worker ended"),
        Command::CheckRules => commands::rules::check(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
