//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

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
}

/// Where configuration and data come from.
#[derive(Args, Clone, Debug, Default)]
pub struct Place {
    /// Configuration file [default: /etc/hitscope/hitscope.toml if there is one]
    #[arg(long, value_name = "FILE", env = "HITSCOPE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder with the history [default: data_dir of the configuration, else /var/lib/hitscope]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
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

/// Serve the page and the API over a history folder
///
/// Needs no privileges and no collector: a copied folder will do.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hitscope serve
  hitscope serve --data-dir ./incident-42 --listen 127.0.0.1:8080
Any address but loopback needs a token (server.token in the configuration, or HITSCOPE_TOKEN).")]
pub struct Serve {
    #[command(flatten)]
    pub place: Place,
    /// Address of the page and the API [default: 127.0.0.1:7460]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub listen: Option<String>,
    /// Started by `hitscope run`: the configuration comes on stdin, and the end of stdin means to end
    #[arg(long, hide = true, exclusive = true)]
    pub supervised: bool,
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

/// Run SQL over the history, the newest second included
///
/// The tables are those of the history folder; `SHOW TABLES` lists them and `DESCRIBE hits` shows a table's columns. Works
/// with and without a running collector, and only reads.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hitscope query 'SHOW TABLES'
  hitscope query \"SELECT operation, sum(calls) AS calls, sum(total_ns) / 1e9 AS seconds
                  FROM operations WHERE window_start > now() - INTERVAL '1 hour'
                  GROUP BY operation ORDER BY seconds DESC LIMIT 10\"
  hitscope query 'SELECT * FROM hits WHERE status = '\\''error'\\''' --format json
  hitscope query 'SELECT * FROM processes' --format parquet --output processes.parquet")]
pub struct Query {
    /// The statement
    #[arg(value_name = "SQL")]
    pub sql: String,
    #[command(flatten)]
    pub place: Place,
    /// How to write the rows; json is one array of objects
    #[arg(long, value_enum, default_value_t)]
    pub format: QueryFormat,
    /// Write to a file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
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
    #[arg(long, value_name = "DURATION", value_parser = hitscope_history::settings::parse_duration)]
    pub duration: Option<Duration>,
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

/// Look at the alert rules
#[derive(Debug, Subcommand)]
pub enum Alerts {
    Test(AlertsTest),
}

/// Evaluate a rule over the history, now
///
/// Prints the rows that would make it fire. The exit status is 0 whether or not it would fire.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hitscope alerts test slow-queries
  hitscope alerts test slow-queries --send      also send a test message to Slack")]
pub struct AlertsTest {
    /// The rule's name in the configuration
    #[arg(value_name = "RULE")]
    pub rule: String,
    #[command(flatten)]
    pub place: Place,
    /// Send a message, marked as a test, to where the alerts go
    #[arg(long)]
    pub send: bool,
}

/// An address with a port, or a name with one.
fn address(text: &str) -> Result<String, String> {
    let named = || text.rsplit_once(':').is_some_and(|(name, port)| !name.contains(':') && port.parse::<u16>().is_ok());
    if text.parse::<SocketAddr>().is_ok() || named() {
        Ok(text.to_owned())
    } else {
        Err("expected an address with a port, such as 127.0.0.1:7460 or [::1]:7460".into())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    #[default]
    Table,
    /// One array of objects
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum QueryFormat {
    /// For people
    #[default]
    Table,
    Csv,
    Json,
    Parquet,
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
