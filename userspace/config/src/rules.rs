//! `[[rules]]`

use std::time::Duration;

use hitscope_base::Span;
use serde::{Deserialize, Serialize};

/// Names of the rules that need no configuration: the collector is silent; a rule's statement fails; a rule has more rows than
/// alerts are made of.
pub const BUILT_IN: [&str; 3] = ["collector-silent", "rule-fails", "rule-overflow"];

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Someone should look.
    #[default]
    Warning,
    /// Someone must look now.
    Critical,
}

impl Severity {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One rule: each row that its statement gives is an alert, told from the others by its text columns; no row, no alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name, of which there is only one.
    pub name: String,
    /// The statement.
    pub sql: String,
    /// How often it is run.
    #[serde(default = "interval")]
    pub interval: Span,
    /// How long there must have been a row before the alert fires.
    #[serde(default = "hold")]
    pub hold: Span,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
}

fn interval() -> Span {
    Span(Duration::from_secs(30))
}

fn hold() -> Span {
    Span(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_defaults_and_refuse_unknown_keys() {
        let rule: Rule = serde_json::from_str(r#"{"name": "a", "sql": "SELECT 1"}"#).unwrap();
        assert_eq!((rule.interval, rule.hold, rule.severity), (interval(), hold(), Severity::Warning));
        assert!(serde_json::from_str::<Rule>(r#"{"name": "a", "sql": "SELECT 1", "for": "1m"}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"name": "a", "sql": "SELECT 1", "severity": "bad"}"#).is_err());
    }

    #[test]
    fn each_name_is_there_once_and_none_is_a_built_in_ones() {
        let rule = |name: &&str| -> Rule {
            serde_json::from_value(serde_json::json!({ "name": name, "sql": "SELECT 1" })).unwrap()
        };
        let check = |names: &[&str]| {
            let config = crate::Config { rules: names.iter().map(rule).collect(), ..crate::Config::default() };
            config.validate().map_err(|invalid| invalid.failure("").report())
        };
        assert_eq!(check(&["a", "b"]), Ok(()));
        assert!(check(&["a", "a"]).unwrap_err().contains("two rules are named a"));
        for name in BUILT_IN {
            assert!(check(&["a", name]).unwrap_err().contains("built in"), "{name}");
        }
    }
}
