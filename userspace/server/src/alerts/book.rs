//! Which alerts there are, and how they come and go: pending, firing, resolved, and without data. No clock and no I/O of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use hitscope_base::time;
use hitscope_config::{Rule, Severity};

use super::{clock::Now, rule::Finding};

/// A rule has at most so many alerts at once; the rows beyond are left out.
const MOST_ALERTS: usize = 100;

/// What tells an alert from its rule's others.
pub type Labels = BTreeMap<String, String>;

/// An alert's state, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is a row, but not long enough yet.
    Pending,
    /// It fired, and there are no data that would say whether it still would.
    NoData,
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
            Self::NoData => "no_data",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert that is not resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its rule.
    pub rule: String,
    /// What tells it from the rule's others.
    pub labels: Labels,
    /// The last value.
    pub value: Option<f64>,
    /// Its state.
    pub state: State,
    /// When the first row came, ns since the epoch.
    pub since_ns: i64,
    /// The same by the steady clock, by which it is held.
    #[serde(default)]
    pub held_from_ns: i64,
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
    pub labels: Labels,
    /// Its value.
    pub value: Option<f64>,
    /// When the first row came, ns since the epoch.
    pub since_ns: i64,
    /// Whether people are told: it fires, or it fired before it was resolved.
    pub tell: bool,
    /// In words.
    pub message: String,
    /// What labels and value do not say.
    #[serde(default)]
    pub detail: Option<String>,
}

/// All alerts that are not resolved.
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

    /// A rule's alerts.
    pub fn of<'a>(&'a self, rule: &'a str) -> impl Iterator<Item = &'a Alert> {
        self.alerts.iter().filter(move |alert| alert.rule == rule)
    }

    /// Takes in the rows that a rule's statement gave: alerts come, and fire when they have held. None goes; see [`Self::settle`].
    /// After a `gap`, in which the rule was not evaluated, nobody knows that a row was there all the time: what is pending
    /// starts anew. Gives how many rows were left out, too: those of known alerts come first, then the others by their labels.
    pub fn raise(&mut self, rule: &Rule, findings: Vec<Finding>, gap: bool, now: Now) -> (Vec<Change>, usize) {
        let hold_ns = i64::try_from(rule.hold.0.as_nanos()).unwrap_or(i64::MAX);
        if gap {
            self.start_anew(|alert| alert.rule == rule.name, now);
        }
        let (mut findings, new): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| self.of(&rule.name).any(|alert| alert.labels == finding.labels));
        let room = MOST_ALERTS.saturating_sub(findings.len());
        let left_out = new.len().saturating_sub(room);
        findings.extend(new.into_iter().take(room));

        let mut changes = Vec::new();
        for Finding { labels, value, detail } in findings {
            let known = self.alerts.iter().position(|alert| alert.rule == rule.name && alert.labels == labels);
            let index = known.unwrap_or_else(|| {
                self.alerts.push(Alert {
                    rule: rule.name.clone(),
                    labels,
                    value: None,
                    state: State::Pending,
                    since_ns: now.wall_ns,
                    held_from_ns: now.steady_ns,
                });
                self.alerts.len() - 1
            });
            let alert = &mut self.alerts[index];
            alert.value = value;
            let before = alert.state;
            // One that fired before the data went away fires on, and has been told.
            let held = now.steady_ns.saturating_sub(alert.held_from_ns) >= hold_ns;
            if held || before == State::NoData {
                alert.state = State::Firing;
            }
            if alert.state != before || known.is_none() {
                let tell = alert.state == State::Firing && before == State::Pending;
                changes.push(change(rule, alert, alert.state, tell, detail, now));
            }
        }
        (changes, left_out)
    }

    /// Resolves the alerts of a rule whose row did not come. Those without data are resolved only when `trusted`.
    pub fn settle(&mut self, rule: &Rule, rows: &BTreeSet<Labels>, trusted: bool, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        self.alerts.retain(|alert| {
            let stays =
                alert.rule != rule.name || rows.contains(&alert.labels) || (alert.state == State::NoData && !trusted);
            if !stays {
                let fired = alert.state != State::Pending;
                changes.push(change(rule, alert, State::Resolved, fired, None, now));
            }
            stays
        });
        changes
    }

    /// There are no data to evaluate a rule by: what fires does so no longer, and is not resolved either.
    pub fn lose(&mut self, rule: &Rule, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        for alert in &mut self.alerts {
            if alert.rule == rule.name && alert.state == State::Firing {
                alert.state = State::NoData;
                changes.push(change(rule, alert, State::NoData, false, None, now));
            }
        }
        changes
    }

    /// Resolves the alerts of rules that there are no more.
    pub fn retire<'a>(&mut self, rules: impl Iterator<Item = &'a Rule> + Clone, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        self.alerts.retain(|alert| {
            let kept = rules.clone().any(|rule| rule.name == alert.rule);
            if !kept {
                let detail = "the rule is not configured any more";
                changes.push(Change {
                    time_ns: now.wall_ns,
                    rule: alert.rule.clone(),
                    severity: Severity::Info,
                    state: State::Resolved,
                    labels: alert.labels.clone(),
                    value: alert.value,
                    since_ns: alert.since_ns,
                    tell: alert.state != State::Pending,
                    message: format!("{}: {detail}", alert.rule),
                    detail: Some(detail.into()),
                });
            }
            kept
        });
        changes
    }

    /// After a start of the host: its steady clock began anew, and with it what is pending.
    pub fn after_boot(&mut self, now: Now) {
        self.start_anew(|_| true, now);
    }

    fn start_anew(&mut self, which: impl Fn(&Alert) -> bool, now: Now) {
        for alert in self.alerts.iter_mut().filter(|alert| alert.state == State::Pending && which(alert)) {
            (alert.since_ns, alert.held_from_ns) = (now.wall_ns, now.steady_ns);
        }
    }
}

fn change(rule: &Rule, alert: &Alert, state: State, tell: bool, detail: Option<String>, now: Now) -> Change {
    let mut message = match state {
        State::NoData => format!("{} has no data", rule.name),
        _ => format!("{} is {}", rule.name, state.as_str()),
    };
    for (index, (name, text)) in alert.labels.iter().enumerate() {
        message += &format!("{} {name}={text}", if index == 0 { ":" } else { "," });
    }
    if let Some(value) = alert.value {
        message += &format!(", value {value}");
    }
    if let Some(detail) = &detail {
        message += &format!(": {detail}");
    }
    if alert.since_ns != now.wall_ns {
        message += &format!(", since {}", time::format_seconds(alert.since_ns));
    }
    Change {
        time_ns: now.wall_ns,
        rule: rule.name.clone(),
        severity: rule.severity,
        state,
        labels: alert.labels.clone(),
        value: alert.value,
        since_ns: alert.since_ns,
        tell,
        message,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use hitscope_base::Span;

    const S: i64 = 1_000_000_000;

    fn at(seconds: i64) -> Now {
        Now { wall_ns: seconds * S, steady_ns: seconds * S }
    }

    fn rule(hold_s: u64) -> Rule {
        Rule {
            name: "slow".into(),
            sql: String::new(),
            interval: Span(Duration::from_secs(10)),
            hold: Span(Duration::from_secs(hold_s)),
            severity: Severity::Critical,
        }
    }

    fn labels(service: &str) -> Labels {
        BTreeMap::from([("service".to_owned(), service.to_owned())])
    }

    fn found(services: &[&str]) -> Vec<Finding> {
        let finding = |service: &&str| Finding { labels: labels(service), value: Some(1.5), detail: None };
        services.iter().map(finding).collect()
    }

    /// One evaluation over data that are whole.
    fn step(book: &mut Book, rule: &Rule, services: &[&str], now: Now) -> Vec<Change> {
        let (mut changes, left_out) = book.raise(rule, found(services), false, now);
        assert_eq!(left_out, 0);
        changes.extend(book.settle(rule, &services.iter().map(|service| labels(service)).collect(), true, now));
        changes
    }

    fn states(changes: &[Change]) -> Vec<(State, bool)> {
        changes.iter().map(|change| (change.state, change.tell)).collect()
    }

    #[test]
    fn an_alert_holds_before_it_fires_and_is_resolved_once() {
        let mut book = Book::default();
        let rule = rule(60);
        assert_eq!(states(&step(&mut book, &rule, &["a"], at(0))), [(State::Pending, false)]);
        assert!(step(&mut book, &rule, &["a"], at(59)).is_empty());
        let fired = step(&mut book, &rule, &["a"], at(60));
        assert_eq!(states(&fired), [(State::Firing, true)]);
        assert_eq!(fired[0].message, "slow is firing: service=a, value 1.5, since 1970-01-01T00:00:00Z");
        assert!(step(&mut book, &rule, &["a"], at(70)).is_empty());
        assert_eq!(states(&step(&mut book, &rule, &[], at(80))), [(State::Resolved, true)]);
        assert!(step(&mut book, &rule, &[], at(90)).is_empty() && book.alerts().is_empty());
    }

    #[test]
    fn one_that_goes_before_it_fires_tells_nobody_and_starts_anew() {
        let mut book = Book::default();
        let rule = rule(60);
        step(&mut book, &rule, &["a"], at(0));
        assert_eq!(states(&step(&mut book, &rule, &[], at(30))), [(State::Resolved, false)]);
        step(&mut book, &rule, &["a"], at(40));
        assert!(step(&mut book, &rule, &["a"], at(70)).is_empty());
        assert_eq!(states(&step(&mut book, &rule, &["a"], at(100))), [(State::Firing, true)]);
    }

    #[test]
    fn held_by_the_steady_clock_whatever_the_other_says() {
        for hours in [-1, 1] {
            let mut book = Book::default();
            let rule = rule(60);
            step(&mut book, &rule, &["a"], at(7200));
            let later = |seconds: i64| Now { wall_ns: (7200 + hours * 3600) * S, steady_ns: (7200 + seconds) * S };
            assert!(step(&mut book, &rule, &["a"], later(59)).is_empty());
            assert_eq!(states(&step(&mut book, &rule, &["a"], later(60))), [(State::Firing, true)]);
            assert_eq!(states(&step(&mut book, &rule, &[], later(70))), [(State::Resolved, true)]);
        }
    }

    #[test]
    fn what_is_pending_starts_anew_after_a_gap_and_after_the_hosts_start() {
        let mut book = Book::default();
        let rule = rule(60);
        step(&mut book, &rule, &["a"], at(0));
        assert!(book.raise(&rule, found(&["a"]), true, at(3600)).0.is_empty(), "an hour's downtime is not held");
        assert_eq!(states(&step(&mut book, &rule, &["a"], at(3660))), [(State::Firing, true)]);
        assert!(book.raise(&rule, found(&["a"]), true, at(7200)).0.is_empty(), "what fires fires on");

        let mut book = Book::default();
        step(&mut book, &rule, &["a"], at(7200));
        book.after_boot(Now { wall_ns: 7300 * S, steady_ns: 5 * S });
        assert!(step(&mut book, &rule, &["a"], Now { wall_ns: 7350 * S, steady_ns: 55 * S }).is_empty());
        let fired = step(&mut book, &rule, &["a"], Now { wall_ns: 7360 * S, steady_ns: 65 * S });
        assert_eq!(states(&fired), [(State::Firing, true)]);
    }

    #[test]
    fn no_data_is_neither_firing_nor_resolved() {
        let mut book = Book::default();
        let (held, rule) = (Rule { name: "held".into(), ..rule(60) }, rule(0));
        step(&mut book, &rule, &["a", "b"], at(0));
        step(&mut book, &held, &["a"], at(0));
        assert_eq!(states(&book.lose(&rule, at(10))), [(State::NoData, false); 2]);
        assert!(book.lose(&rule, at(20)).is_empty() && book.lose(&held, at(20)).is_empty());
        // The first data that come back say that the one fires; of the other they say nothing yet.
        let (changes, _) = book.raise(&rule, found(&["a"]), false, at(30));
        assert_eq!(states(&changes), [(State::Firing, false)], "it was told before");
        assert!(book.settle(&rule, &[labels("a")].into(), false, at(30)).is_empty());
        assert_eq!(book.of("slow").map(|alert| alert.state).max(), Some(State::Firing));
        let changes = book.settle(&rule, &[labels("a")].into(), true, at(40));
        assert_eq!(states(&changes), [(State::Resolved, true)]);
        assert_eq!(changes[0].labels, labels("b"));
        assert_eq!(book.of("held").count(), 1);
    }

    #[test]
    fn labels_tell_alerts_apart_and_equal_rows_are_one() {
        let mut book = Book::default();
        let rule = rule(0);
        assert_eq!(step(&mut book, &rule, &["a", "b", "a"], at(0)).len(), 2);
        let changes = step(&mut book, &rule, &["b"], at(1));
        assert_eq!(states(&changes), [(State::Resolved, true)]);
        assert_eq!(changes[0].labels, labels("a"));
    }

    #[test]
    fn of_too_many_rows_known_alerts_stay_and_the_rest_is_counted() {
        let mut book = Book::default();
        let rule = rule(0);
        step(&mut book, &rule, &["z1", "z2"], at(0));
        let many: Vec<String> = (0..200).map(|number| format!("s{number:03}")).collect();
        let mut services: Vec<&str> = many.iter().map(String::as_str).chain(["z1", "z2"]).collect();
        let rows: BTreeSet<Labels> = services.iter().map(|service| labels(service)).collect();
        let mut evaluate = |services: &[&str], now| {
            let (mut changes, left_out) = book.raise(&rule, found(services), false, now);
            changes.extend(book.settle(&rule, &rows, true, now));
            (changes.len(), left_out)
        };
        assert_eq!(evaluate(&services, at(10)), (98, 102));
        // Another order of the same rows changes nothing.
        services.reverse();
        assert_eq!(evaluate(&services, at(20)), (0, 102));
        assert_eq!(book.of("slow").filter(|alert| alert.labels["service"].starts_with('z')).count(), 2);
    }

    #[test]
    fn a_rule_that_is_gone_resolves_its_alerts() {
        let mut book = Book::default();
        step(&mut book, &rule(0), &["a"], at(0));
        assert!(book.retire([rule(0)].iter(), at(1)).is_empty());
        assert_eq!(states(&book.retire([].iter(), at(1))), [(State::Resolved, true)]);
        assert!(book.alerts().is_empty());
    }

    #[test]
    fn a_book_survives_being_stored() {
        let mut book = Book::default();
        step(&mut book, &rule(60), &["a"], at(0));
        let mut stored: Book = serde_json::from_str(&serde_json::to_string(&book).unwrap()).unwrap();
        assert_eq!(stored, book);
        assert_eq!(states(&step(&mut stored, &rule(60), &["a"], at(60))), [(State::Firing, true)]);
    }
}
