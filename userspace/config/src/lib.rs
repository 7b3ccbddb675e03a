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

use std::{fmt::Display, path::PathBuf, time::Duration};

use hitscope_base::{Failure, Size, Span};
use serde::{Deserialize, Serialize};

pub use alerts::Alerts;
pub use collector::{Arguments, Collector, Http, Pattern};
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

/// What is wrong with a configuration that can be read.
#[derive(Debug)]
pub struct Invalid {
    /// The key to blame, such as `server.listen` or `rules.NAME`.
    pub key: String,
    /// A sentence.
    pub message: String,
    /// What to do, where it does not say so itself.
    pub help: Option<String>,
}

impl Invalid {
    /// At this key.
    pub fn new(key: impl Into<String>, message: impl Display) -> Self {
        Self { key: key.into(), message: message.to_string(), help: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// For the user, at that place.
    pub fn failure(&self, place: &str) -> Failure {
        let failure = Failure::new(format!("{place}{}", self.message));
        self.help.iter().fold(failure, |failure, help| failure.help(help.clone()))
    }
}

/// Refuses a value that would make hitscope useless, or endless.
fn within<T: PartialOrd + Display>(key: &str, value: &T, least: &T, most: &T) -> Result<(), Invalid> {
    let (few, many) = (value < least, value > most);
    if !few && !many {
        return Ok(());
    }
    let word = if few { "little" } else { "much" };
    Err(Invalid::new(key, format!("{key} is {value}: that is too {word}"))
        .help(format!("set it to something from {least} to {most}, or leave it out for the default")))
}

impl Config {
    /// Checks what the types cannot: that settings make sense, and do not contradict each other. The names of probes and the
    /// SQL of rules are for those who know them.
    ///
    /// # Errors
    /// For the first thing that is wrong.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.limits()?;
        let wrong = |error| Invalid::new("server.listen", format!("cannot serve the page: {error}"));
        self.server.listen_address().map_err(wrong)?;
        self.server.check_public_url().map_err(|reason| Invalid::new("server.public_url", reason))?;
        let wrong = |reason| {
            Invalid::new("slack.token", format!("the section [slack] of the configuration is wrong: {reason}"))
        };
        self.slack.validate().map_err(wrong)?;
        for (index, rule) in self.rules.iter().enumerate() {
            let key = format!("rules.{}", rule.name);
            if self.rules[..index].iter().any(|other| other.name == rule.name) {
                return Err(Invalid::new(key, format!("two rules are named {}", rule.name))
                    .help("give each of [[rules]] a name of its own; its alerts are told apart by it"));
            }
            if BUILT_IN.contains(&rule.name.as_str()) {
                return Err(Invalid::new(key, format!("a rule is named {}, as one that is built in", rule.name))
                    .help("give it another name; the section [alerts] configures what is built in"));
            }
            if rule.interval < Span(Duration::from_secs(1)) {
                return Err(Invalid::new(
                    key,
                    format!("rule {}: its interval of {} is shorter than a second", rule.name, rule.interval),
                )
                .help("a rule is asked once in 30s where none is said"));
            }
        }
        Ok(())
    }

    /// Figures of which far too small or too large ones are slips.
    fn limits(&self) -> Result<(), Invalid> {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        const MOST: u64 = 1 << 30;
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        let (probes, collector, http) = (&self.probes, &self.collector, &self.http);
        let (history, server) = (&self.history, &self.server);
        for (key, value, least, most) in [
            ("probes.ring_buffer_bytes", probes.ring_buffer_bytes, 64 * KIB, MOST),
            ("probes.capture_bytes", probes.capture_bytes, 4 * KIB, MOST),
            ("collector.connection_bytes", collector.connection_bytes, 4 * KIB, MOST),
            ("history.max_bytes", history.max_bytes, 16 * MIB, u64::MAX),
            ("server.query_memory", server.query_memory, 16 * MIB, 1 << 40),
        ] {
            within(key, &value, &Size(least), &Size(most))?;
        }
        for (key, value, least, most) in [
            ("history.max_age", history.max_age, seconds(600), seconds(86_400 * 36_500)),
            ("server.query_timeout", server.query_timeout, seconds(1), seconds(86_400)),
        ] {
            within(key, &value, &least, &most)?;
        }
        for (key, value) in [
            ("probes.max_sockets", u64::from(probes.max_sockets)),
            ("probes.max_processes", u64::from(probes.max_processes)),
            ("probes.max_syscalls", u64::from(probes.max_syscalls)),
            ("probes.max_tcp_connections", u64::from(probes.max_tcp_connections)),
            ("probes.max_remotes", u64::from(probes.max_remotes)),
            ("collector.max_operations", collector.max_operations as u64),
            ("collector.max_connections", collector.max_connections as u64),
            ("http.max_operations", http.max_operations as u64),
        ] {
            within(key, &value, &16, &(1 << 24))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Invalid {
        toml::from_str::<Config>(text).unwrap().validate().unwrap_err()
    }

    #[test]
    fn the_defaults_make_sense() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn absurd_figures_are_refused_at_their_key() {
        for (section, key, value) in [
            ("server", "query_memory", "\"0B\""),
            ("server", "query_timeout", "\"0s\""),
            ("server", "query_timeout", "\"30d\""),
            ("history", "max_age", "\"0s\""),
            ("history", "max_bytes", "\"1MiB\""),
            ("probes", "ring_buffer_bytes", "0"),
            ("probes", "ring_buffer_bytes", "\"1TiB\""),
            ("probes", "max_sockets", "0"),
            ("collector", "max_operations", "0"),
            ("http", "max_operations", "999999999"),
        ] {
            let invalid = wrong(&format!("[{section}]\n{key} = {value}\n"));
            assert_eq!(invalid.key, format!("{section}.{key}"));
            let report = invalid.failure("").report();
            assert!(report.contains("that is too") && report.contains("help: set it to something from"), "{report}");
        }
    }

    #[test]
    fn what_the_server_would_refuse_is_refused_before() {
        let rule = "[[rules]]\nname = \"a\"\nsql = \"SELECT 1\"\ninterval = \"10ms\"\n";
        assert_eq!(wrong(rule).key, "rules.a");
        for url in ["foo", "ftp://a/", "https://", "http:///x"] {
            assert_eq!(wrong(&format!("[server]\npublic_url = \"{url}\"\n")).key, "server.public_url", "{url}");
        }
        toml::from_str::<Config>("[server]\npublic_url = \"https://a.example/h\"\n").unwrap().validate().unwrap();
    }
}
