//! `[collector]` and `[http]`

use hitscope_base::Size;
use hitscope_wire::{PathPattern, Paths};
use serde::{Deserialize, Serialize};

/// What is kept and how much room it may take; the defaults suit a busy database host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Collector {
    /// Store each kept hit's request with its literals (column `hits.text`).
    pub keep_literals: bool,
    /// What is stored of processes' command lines.
    pub arguments: Arguments,
    /// A hit that takes at least this long, in milliseconds, is kept whole.
    pub slow_ms: u64,
    /// How many of the fast hits of each operation are kept per second, each with the weight of those it stands for.
    pub sampled_per_second: usize,
    /// How many of the slowest among the fast hits of each operation are kept whole per second.
    pub slowest_per_second: usize,
    /// Up to how many failed, and as many slow, hits of each operation are kept whole per second; above, sampled.
    pub whole_per_second: usize,
    /// Operations followed at a time; further ones are counted together as `<other>`.
    pub max_operations: usize,
    /// Connections followed at a time; the one unused for longest makes room.
    pub max_connections: usize,
    /// Memory for one connection's unfinished requests.
    pub connection_bytes: Size,
    /// Rows per second in `events` for programs started and processes ended; above, counted as lost.
    pub events_per_second: u32,
    /// The section `[http]`.
    #[serde(skip)]
    pub http: Http,
}

/// What is stored of a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arguments {
    /// All but what looks like a secret.
    #[default]
    Redacted,
    /// The program alone.
    Program,
    /// All of it, with passwords and tokens.
    Full,
}

/// What becomes of the paths of HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Paths that are an operation each; the first that matches wins. `*` and `{name}` stand for any one segment, `**`
    /// at the end for all that follow. Paths that no pattern matches have what looks like an id folded.
    pub patterns: Vec<Pattern>,
    /// Operations told apart per service at a time; further ones are `GET /first-segment/{rest}`.
    pub max_operations: usize,
}

/// A [`PathPattern`] as it is written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(PathPattern);

impl TryFrom<String> for Pattern {
    type Error = hitscope_wire::InvalidPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        PathPattern::try_from(text).map(Self)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.into()
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { patterns: Vec::new(), max_operations: hitscope_wire::DEFAULT_MAX_OPERATIONS }
    }
}

impl Http {
    /// How paths fold, and those seen.
    pub fn paths(&self) -> Paths {
        Paths::new(self.patterns.iter().map(|pattern| pattern.0.clone()).collect(), self.max_operations)
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            keep_literals: false,
            arguments: Arguments::default(),
            slow_ms: 100,
            sampled_per_second: 4,
            slowest_per_second: 2,
            whole_per_second: 1000,
            max_operations: 4096,
            max_connections: 16384,
            connection_bytes: Size(256 << 10),
            events_per_second: 100,
            http: Http::default(),
        }
    }
}

impl Collector {
    /// `slow_ms` in ns.
    pub fn slow_ns(&self) -> u64 {
        self.slow_ms.saturating_mul(1_000_000)
    }
}
