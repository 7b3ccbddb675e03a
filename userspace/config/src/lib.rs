//! The configuration, `hitscope.toml`: one module for each section, and where it all comes from.
//!
//! Both programs read it; it depends on neither.

mod alerts;
mod collector;
mod probes;
mod rules;
mod server;
mod slack;
mod sources;

use std::path::PathBuf;

use hitscope_base::{Explain, Failure};
use serde::{Deserialize, Serialize};

pub use alerts::Alerts;
pub use collector::{Collector, Http, Pattern};
pub use probes::Probes;
pub use rules::{BUILT_IN, Rule, Severity};
pub use server::{ListenError, Server};
pub use slack::Slack;
pub use sources::{DEFAULT_FILE, Sources, did_you_mean};

/// Where the history lies when nothing else is said.
const DEFAULT_DATA_DIR: &str = "/var/lib/hitscope";

/// `hitscope.toml`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder with the history.
    pub data_dir: PathBuf,
    /// The host's name in the history; its hostname when empty.
    pub host: String,
    /// What is looked at in the kernel.
    pub probes: Probes,
    /// What is kept of it.
    pub collector: Collector,
    /// Paths of HTTP requests.
    pub http: Http,
    /// How long it is kept.
    pub history: hitscope_history::Settings,
    /// The page and the API.
    pub server: Server,
    /// Where alerts are told.
    pub slack: Slack,
    /// What is alerted of by itself.
    pub alerts: Alerts,
    /// What else is alerted of.
    pub rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: DEFAULT_DATA_DIR.into(),
            host: String::new(),
            probes: Probes::default(),
            collector: Collector::default(),
            http: Http::default(),
            history: hitscope_history::Settings::default(),
            server: Server::default(),
            slack: Slack::default(),
            alerts: Alerts::default(),
            rules: Vec::new(),
        }
    }
}

impl Config {
    /// Checks what the types cannot: that settings do not contradict each other. The names of probes and the SQL of rules are
    /// for those who know them.
    ///
    /// # Errors
    /// For the first thing that is wrong.
    pub fn validate(&self) -> Result<(), Failure> {
        self.server.listen_address().explain("cannot serve the page")?;
        let wrong = |reason| Failure::new(format!("the section [slack] of the configuration is wrong: {reason}"));
        self.slack.validate().map_err(wrong)?;
        for (index, rule) in self.rules.iter().enumerate() {
            if self.rules[..index].iter().any(|other| other.name == rule.name) {
                return Err(Failure::new(format!("two rules are named {}", rule.name))
                    .help("give each of [[rules]] a name of its own; its alerts are told apart by it"));
            }
            if BUILT_IN.contains(&rule.name.as_str()) {
                return Err(Failure::new(format!("a rule is named {}, as one that is built in", rule.name))
                    .help("give it another name; the section [alerts] configures what is built in"));
            }
        }
        Ok(())
    }
}
