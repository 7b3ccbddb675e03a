//! Which alerts there are, and how they come and go: pending, firing, resolved. No clock and no I/O of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use hitscope_base::time;
use hitscope_config::{Rule, Severity};

use super::rule::Finding;

/// The label of the alert that a rule raises on itself when its statement fails.
const PROBLEM: &str = "problem";

/// An alert's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There is a row, but not long enough yet.
    Pending,
    /// It has held.
    Firing,
    /// There is no row any more.
    Resolved,
}

impl State {
    /// As in the table `alerts`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert that is pending or firing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its rule.
    pub rule: String,
    /// What tells it from the rule's others.
    pub labels: BTreeMap<String, String>,
    /// The last value.
    pub value: Option<f64>,
    /// Pending or firing.
    pub state: State,
    /// When the first row came, ns since the epoch.
    pub since_ns: i64,
}

/// A change of an alert's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When, ns since the epoch.
    pub time_ns: i64,
    /// The rule.
    pub rule: String,
    /// Its severity.
    pub severity: Severity,
    /// The new state.
    pub state: State,
    /// Which alert.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: Option<f64>,
    /// When the first row came, ns since the epoch.
    pub since_ns: i64,
    /// Whether people are told: it fires, or it fired before it was resolved.
    pub tell: bool,
    /// In words.
    pub message: String,
}

/// What became of a rule's statement.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Its rows.
    Found(Vec<Finding>),
    /// It failed in a way that may pass.
    Failed(String),
    /// It can never work as it is written.
    Broken(String),
}

/// All alerts that are pending or firing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Book {
    alerts: Vec<Alert>,
}

impl Book {
    /// The alerts.
    pub fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// Takes in what a rule's statement gave.
    pub fn step(&mut self, rule: &Rule, outcome: &Outcome, now_ns: i64) -> Vec<Change> {
        let problem = |text: &str| {
            let labels = BTreeMap::from([(PROBLEM.to_owned(), "the rule's statement fails".to_owned())]);
            (vec![Finding { labels, value: None }], Some(text.to_owned()))
        };
        let hold_ns = i64::try_from(rule.hold.0.as_nanos()).unwrap_or(i64::MAX);
        let (findings, problem, hold_ns) = match outcome {
            Outcome::Found(findings) => (findings.clone(), None, hold_ns),
            Outcome::Failed(text) => {
                let (findings, problem) = problem(text);
                // Once is no reason to wake anyone.
                (findings, problem, hold_ns.max(i64::try_from(rule.interval.0.as_nanos()).unwrap_or(i64::MAX)))
            }
            Outcome::Broken(text) => {
                let (findings, problem) = problem(text);
                (findings, problem, 0)
            }
        };
        let mut changes = Vec::new();
        let mut seen = BTreeSet::new();
        for finding in findings {
            if !seen.insert(finding.labels.clone()) {
                continue;
            }
            let known = self.alerts.iter().position(|alert| alert.rule == rule.name && alert.labels == finding.labels);
            let new = known.is_none();
            let index = known.unwrap_or_else(|| {
                self.alerts.push(Alert {
                    rule: rule.name.clone(),
                    labels: finding.labels,
                    value: None,
                    state: State::Pending,
                    since_ns: now_ns,
                });
                self.alerts.len() - 1
            });
            let alert = &mut self.alerts[index];
            alert.value = finding.value;
            let fires = alert.state == State::Pending && now_ns.saturating_sub(alert.since_ns) >= hold_ns;
            if fires {
                alert.state = State::Firing;
            }
            if fires || new {
                changes.push(change(rule, alert, alert.state, fires, problem.as_deref(), now_ns));
            }
        }
        // A statement that fails says nothing about the alerts that were there before.
        let unknown = problem.is_some();
        self.alerts.retain(|alert| {
            let gone = alert.rule == rule.name && !seen.contains(&alert.labels) && !unknown;
            if gone {
                let fired = alert.state == State::Firing;
                changes.push(change(rule, alert, State::Resolved, fired, None, now_ns));
            }
            !gone
        });
        changes
    }

    /// Resolves the alerts of rules that are not configured any more.
    pub fn retire(&mut self, rules: &[Rule], now_ns: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        self.alerts.retain(|alert| {
            let kept = rules.iter().any(|rule| rule.name == alert.rule);
            if !kept {
                changes.push(Change {
                    time_ns: now_ns,
                    rule: alert.rule.clone(),
                    severity: Severity::Info,
                    state: State::Resolved,
                    labels: alert.labels.clone(),
                    value: alert.value,
                    since_ns: alert.since_ns,
                    tell: alert.state == State::Firing,
                    message: format!("{}: the rule is not configured any more", alert.rule),
                });
            }
            kept
        });
        changes
    }
}

fn change(rule: &Rule, alert: &Alert, state: State, tell: bool, problem: Option<&str>, now_ns: i64) -> Change {
    let mut message = format!("{} is {}", rule.name, state.as_str());
    for (index, (name, text)) in alert.labels.iter().enumerate() {
        message += &format!("{} {name}={text}", if index == 0 { ":" } else { "," });
    }
    if let Some(value) = alert.value {
        message += &format!(", value {value}");
    }
    if let Some(problem) = problem {
        message += &format!(": {problem}");
    }
    if alert.since_ns != now_ns {
        message += &format!(", since {}", time::format_seconds(alert.since_ns));
    }
    Change {
        time_ns: now_ns,
        rule: rule.name.clone(),
        severity: rule.severity,
        state,
        labels: alert.labels.clone(),
        value: alert.value,
        since_ns: alert.since_ns,
        tell,
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use hitscope_base::Span;

    const S: i64 = 1_000_000_000;

    fn rule(hold_s: u64) -> Rule {
        Rule {
            name: "slow".into(),
            sql: String::new(),
            interval: Span(Duration::from_secs(10)),
            hold: Span(Duration::from_secs(hold_s)),
            severity: Severity::Critical,
        }
    }

    fn found(services: &[&str]) -> Outcome {
        let finding = |service: &&str| Finding {
            labels: BTreeMap::from([("service".to_owned(), (*service).to_owned())]),
            value: Some(1.5),
        };
        Outcome::Found(services.iter().map(finding).collect())
    }

    fn states(changes: &[Change]) -> Vec<(State, bool)> {
        changes.iter().map(|change| (change.state, change.tell)).collect()
    }

    #[test]
    fn an_alert_holds_before_it_fires_and_is_resolved_once() {
        let mut book = Book::default();
        let rule = rule(60);
        assert_eq!(states(&book.step(&rule, &found(&["a"]), 0)), [(State::Pending, false)]);
        assert!(book.step(&rule, &found(&["a"]), 59 * S).is_empty());
        let fired = book.step(&rule, &found(&["a"]), 60 * S);
        assert_eq!(states(&fired), [(State::Firing, true)]);
        assert_eq!(fired[0].message, "slow is firing: service=a, value 1.5, since 1970-01-01T00:00:00Z");
        assert!(book.step(&rule, &found(&["a"]), 70 * S).is_empty());
        assert_eq!(states(&book.step(&rule, &found(&[]), 80 * S)), [(State::Resolved, true)]);
        assert!(book.step(&rule, &found(&[]), 90 * S).is_empty() && book.alerts().is_empty());
    }

    #[test]
    fn one_that_goes_before_it_fires_tells_nobody_and_starts_anew() {
        let mut book = Book::default();
        let rule = rule(60);
        book.step(&rule, &found(&["a"]), 0);
        assert_eq!(states(&book.step(&rule, &found(&[]), 30 * S)), [(State::Resolved, false)]);
        book.step(&rule, &found(&["a"]), 40 * S);
        assert!(book.step(&rule, &found(&["a"]), 70 * S).is_empty());
        assert_eq!(states(&book.step(&rule, &found(&["a"]), 100 * S)), [(State::Firing, true)]);
    }

    #[test]
    fn labels_tell_alerts_apart_and_equal_rows_are_one() {
        let mut book = Book::default();
        let rule = rule(0);
        assert_eq!(book.step(&rule, &found(&["a", "b", "a"]), 0).len(), 2);
        let changes = book.step(&rule, &found(&["b"]), S);
        assert_eq!(states(&changes), [(State::Resolved, true)]);
        assert_eq!(changes[0].labels["service"], "a");
    }

    #[test]
    fn a_broken_statement_is_an_alert_of_its_own_and_resolves_nothing() {
        let mut book = Book::default();
        let rule = rule(60);
        book.step(&rule, &found(&["a"]), 0);
        book.step(&rule, &found(&["a"]), 60 * S);
        let broken = book.step(&rule, &Outcome::Broken("no table `hit`".into()), 70 * S);
        assert_eq!(states(&broken), [(State::Firing, true)]);
        assert!(broken[0].message.contains("no table `hit`"), "{}", broken[0].message);
        assert!(book.step(&rule, &Outcome::Broken("no table `hit`".into()), 80 * S).is_empty());
        assert_eq!(book.alerts().len(), 2);
        let mended = book.step(&rule, &found(&["a"]), 90 * S);
        assert_eq!(states(&mended), [(State::Resolved, true)]);
        assert!(mended[0].labels.contains_key(PROBLEM));
    }

    #[test]
    fn a_failure_that_passes_tells_nobody() {
        let mut book = Book::default();
        let rule = rule(0);
        assert_eq!(states(&book.step(&rule, &Outcome::Failed("busy".into()), 0)), [(State::Pending, false)]);
        assert_eq!(states(&book.step(&rule, &found(&[]), 5 * S)), [(State::Resolved, false)]);
        book.step(&rule, &Outcome::Failed("busy".into()), 10 * S);
        assert_eq!(states(&book.step(&rule, &Outcome::Failed("busy".into()), 20 * S)), [(State::Firing, true)]);
    }

    #[test]
    fn a_rule_that_is_gone_resolves_its_alerts() {
        let mut book = Book::default();
        book.step(&rule(0), &found(&["a"]), 0);
        assert!(book.retire(&[rule(0)], S).is_empty());
        assert_eq!(states(&book.retire(&[], S)), [(State::Resolved, true)]);
        assert!(book.alerts().is_empty());
    }

    #[test]
    fn a_book_survives_being_stored() {
        let mut book = Book::default();
        book.step(&rule(60), &found(&["a"]), 0);
        let mut stored: Book = serde_json::from_str(&serde_json::to_string(&book).unwrap()).unwrap();
        assert_eq!(stored, book);
        assert_eq!(states(&stored.step(&rule(60), &found(&["a"]), 60 * S)), [(State::Firing, true)]);
    }
}
