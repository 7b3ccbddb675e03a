//! What the commands take that `hitscope` hands over to `hitscope-server`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use hitscope_base::Failure;
use hitscope_config::Sources;

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

impl Place {
    /// The configuration that these name, `listen` included where the command takes one.
    ///
    /// # Errors
    /// When it cannot be read, or is not valid.
    pub fn sources(&self, listen: Option<&str>) -> Result<Sources, Failure> {
        Sources::for_command(self.config.as_deref(), self.data_dir.as_deref(), listen)
    }
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

/// Look at the alert rules
#[derive(Debug, Subcommand)]
pub enum Alerts {
    Test(AlertsTest),
    Adopt(AlertsAdopt),
}

/// Have alerts told of a folder that took another's place
///
/// A server over a copied, moved or restored folder tells nobody of alerts, so that a copy that is looked at does not speak
/// for the original. Where the folder is to take the original's place, this says so, once: the server over it begins to tell
/// within a second, or when it starts. Messages that were waiting when the copy was made are not sent.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo hitscope alerts adopt                    after the data folder was restored from a backup")]
pub struct AlertsAdopt {
    #[command(flatten)]
    pub place: Place,
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
pub fn address(text: &str) -> Result<String, String> {
    let named = || text.rsplit_once(':').is_some_and(|(name, port)| !name.contains(':') && port.parse::<u16>().is_ok());
    if text.parse::<SocketAddr>().is_ok() || named() {
        Ok(text.to_owned())
    } else {
        Err("expected an address with a port, such as 127.0.0.1:7460 or [::1]:7460".into())
    }
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
