//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hitscope_base::Span;
use hitscope_cli::{Alerts, Generate, Place, Query, Serve, address};

/// See every request, query and process of this host: no code change, no restart, no database password.
#[derive(Debug, Parser)]
#[command(
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  sudo hitscope run                       trace this host; the page is at http://127.0.0.1:7460
  hitscope check                          what this host supports, and what to mend
  hitscope query 'SELECT * FROM operations ORDER BY total_ns DESC LIMIT 10'

`hitscope <command> --help` says more, with examples. The exit status is 0 for success, 1 for a failure (a broken
configuration included) and 2 for a wrong command line."
)]
pub struct Cli {
    /// Say more on stderr; twice for even more. RUST_LOG chooses in detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Run),
    Serve(Serve),
    Check(Check),
    Status(Status),
    Query(Query),
    Record(Record),
    Replay(Replay),
    #[command(subcommand)]
    Config(Config),
    #[command(subcommand)]
    Alerts(Alerts),
    /// Look into the files of others for the collector that started it
    #[command(hide = true)]
    Helper,
    #[command(hide = true)]
    Generate(Generate),
}

/// Trace this host and serve the page
///
/// Loads the probes, decodes what they see and writes the history; beside it starts `hitscope serve` as an ordinary user,
/// and starts that again should it ever end. Needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
/// SIGTERM or Ctrl-C ends both.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo hitscope run
  sudo hitscope run --data-dir /srv/hitscope --listen 127.0.0.1:8080
  sudo hitscope run --no-serve            only write the history, for another host's `hitscope serve`")]
pub struct Run {
    #[command(flatten)]
    pub place: Place,
    /// Address of the page and the API [default: 127.0.0.1:7460]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub listen: Option<String>,
    /// Do not start the server
    #[arg(long)]
    pub no_serve: bool,
}

/// Say what this host supports, probe by probe
///
/// Each line has a state, the reason where something is missing, and what to do about it. The exit status is 0 when
/// `hitscope run` would work, else 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo hitscope check
  sudo hitscope check --format json | jq '.[] | select(.state != \"ok\")'")]
pub struct Check {
    #[command(flatten)]
    pub place: Place,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// Say what the running collector traces, uses and lost
///
/// The exit status is 0 when a collector is running, else 1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hitscope status
  hitscope status --format json | jq '.[0].lost'")]
pub struct Status {
    #[command(flatten)]
    pub place: Place,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// Record what the probes see to a file
///
/// The file holds the raw events, what was sent over sockets included; `hitscope replay` puts it through the same pipeline.
/// Needs the same privileges as `hitscope run`. Ctrl-C ends it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo hitscope record incident.hitscope --duration 30s
  hitscope replay incident.hitscope --data-dir ./incident")]
pub struct Record {
    /// The file to write
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Stop after this long, such as 30s or 5m [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = str::parse::<Span>)]
    pub duration: Option<Span>,
    /// Configuration file [default: /etc/hitscope/hitscope.toml if there is one]
    #[arg(long, value_name = "FILE", env = "HITSCOPE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Put a recorded file or a packet capture through the pipeline, into a history folder
///
/// Needs no privileges. Times are those of the recording. Of a capture (pcap, pcapng) the hits are those of the servers in
/// it; their service is the server's address and port, their host is "pcap".
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hitscope replay incident.hitscope --data-dir ./incident
  hitscope replay incident.pcap --data-dir ./incident
  hitscope serve --data-dir ./incident")]
pub struct Replay {
    /// The file to read
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub place: Place,
}

/// Look at the configuration
#[derive(Debug, Subcommand)]
pub enum Config {
    Check(ConfigCheck),
}

/// Check a configuration file and print what is in effect, defaults included and secrets left out
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hitscope config check
  hitscope config check ./hitscope.toml")]
pub struct ConfigCheck {
    /// The file [default: /etc/hitscope/hitscope.toml if there is one]
    #[arg(value_name = "FILE", env = "HITSCOPE_CONFIG")]
    pub file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    #[default]
    Table,
    /// One array of objects
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_teaches_by_example() {
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.is_hide_set() {
                return;
            }
            if command.has_subcommands() {
                command.get_subcommands().for_each(|sub| look(sub, &path));
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(path.trim()), "{path}: {help}");
            }
        }
        look(&Cli::command(), "");
    }
}
