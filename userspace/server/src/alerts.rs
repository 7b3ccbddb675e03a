//! Alert rules: SQL over the catalog, evaluated again and again; what it finds becomes alerts that are kept across a
//! restart, written to the table `alerts`, and told to Slack.

mod book;
mod outbox;
mod rule;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hitscope_base::time;
use hitscope_config::Rule;
use hitscope_engine::{
    question::{Ask, Kind},
    workers::{Lane, Workers},
};
use hitscope_history::Writer;
use hitscope_schemas::tables::{self, Row};
use hitscope_slack::{RetryPolicy, Slack};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

pub use self::{
    book::{Alert, Change, State},
    rule::{Finding, test},
};
use self::{
    book::{Book, Outcome},
    outbox::Outbox,
};

/// How often due rules are looked for, and written rows brought to disk.
const TICK: Duration = Duration::from_secs(1);
/// A message is tried until it arrives or Slack refuses it for good.
const RETRIES: RetryPolicy =
    RetryPolicy { attempts: u32::MAX, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(300) };

/// The client for where alerts go, or `None` when neither token nor webhook is set.
///
/// # Errors
/// When a secret is malformed.
pub fn slack_client(settings: &hitscope_config::Slack) -> Result<Option<Slack>, hitscope_slack::Error> {
    let slack = match (&settings.token, &settings.webhook_url) {
        (None, None) => return Ok(None),
        (Some(token), _) => Slack::with_token(token.clone())?,
        (None, Some(url)) => Slack::with_webhook(url.clone())?,
    };
    Ok(Some(match &settings.api_url {
        Some(url) => slack.api_url(url),
        None => slack,
    }))
}

/// Why there can be no alerts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two rules have one name.
    #[error("two rules are named {0:?}: a rule's name tells its alerts from the others'")]
    Name(String),
    /// A rule would run all the time.
    #[error("rule {0:?}: its interval is shorter than a second")]
    Interval(String),
    /// Slack is configured wrongly.
    #[error("{0}")]
    Slack(#[from] hitscope_slack::Error),
}

/// What the alerts are made of.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The host's name in the table `alerts`.
    pub host: String,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Where messages go.
    pub slack: hitscope_config::Slack,
    /// Where people reach the page.
    pub public_url: Option<String>,
    /// How long the table `alerts` is kept.
    pub history: hitscope_history::Settings,
}

/// The rules and the state of their alerts.
pub struct Alerts {
    rules: Vec<Rule>,
    path: PathBuf,
    slack: Option<Slack>,
    channel: Option<String>,
    public_url: Option<String>,
    inner: Mutex<Inner>,
    wake: Notify,
}

/// What is kept across a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    alerts: Book,
    outbox: Outbox,
    /// Changes that are not in the table `alerts` yet, with what became of their message.
    unrecorded: Vec<(Change, String)>,
}

struct Inner {
    stored: Stored,
    /// Per rule: when it is due, and why its statement failed.
    due_ns: Vec<i64>,
    errors: Vec<Option<String>>,
    writer: Option<Writer>,
    /// How many of the unrecorded changes the writer has been given.
    given: usize,
    /// Messages that Slack refused for good, since the start.
    refused: u64,
    /// What keeps alerts from being recorded or kept, by what it is.
    troubles: BTreeMap<&'static str, String>,
}

impl Alerts {
    /// Reads what was kept, and resolves what belongs to no rule any more.
    ///
    /// A folder that cannot be written (a copy, for instance) is no error: the alerts live in memory then, and
    /// [`Self::health`] says so.
    ///
    /// # Errors
    /// Those of the configuration.
    pub fn open(config: Config, now_ns: i64) -> Result<Self, Error> {
        let Config { data_dir, host, rules, slack, public_url, history } = config;
        for (index, rule) in rules.iter().enumerate() {
            if rules[..index].iter().any(|other| other.name == rule.name) {
                return Err(Error::Name(rule.name.clone()));
            }
            if rule.interval.0 < Duration::from_secs(1) {
                return Err(Error::Interval(rule.name.clone()));
            }
        }
        let client = slack_client(&slack)?;
        let path = data_dir.join("server").join("alerts.json");
        let mut troubles = BTreeMap::new();
        let stored = read(&path).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "the state of the alerts cannot be read; they start anew");
            troubles.insert("state", format!("{} could not be read and was set aside: {error}", path.display()));
            let _ = fs::rename(&path, path.with_extension("json.broken"));
            Stored::default()
        });
        let writes = !rules.is_empty() || !stored.is_empty();
        let writer = writes.then(|| Writer::open(&data_dir, &host, &[tables::Alert::table()], history));
        let writer = writer.and_then(|opened| match opened {
            Ok((writer, _)) => Some(writer),
            Err(error) => {
                tracing::error!(%error, "alerts are not recorded in the table `alerts`");
                troubles.insert("history", format!("alerts are not recorded: {error}"));
                None
            }
        });
        let (due_ns, errors) = (vec![now_ns; rules.len()], vec![None; rules.len()]);
        let inner = Mutex::new(Inner { stored, due_ns, errors, writer, given: 0, refused: 0, troubles });
        let (channel, wake) = (slack.channel, Notify::new());
        let alerts = Self { rules, path, slack: client, channel, public_url, inner, wake };
        let mut inner = alerts.inner();
        let changes = inner.stored.alerts.retire(&alerts.rules, now_ns);
        alerts.take_in(&mut inner, changes);
        drop(inner);
        Ok(alerts)
    }

    /// Evaluates and sends until the server ends.
    pub async fn run(self: Arc<Self>, workers: Arc<Workers>, shutdown: watch::Receiver<bool>) {
        let (mut ending, sender) = (shutdown.clone(), self.clone());
        let evaluating = async {
            loop {
                self.evaluate(&workers.lane(Lane::Alerts), time::now_ns()).await;
                self.flush(time::now_ns());
                tokio::select! {
                    _ = ending.wait_for(|ending| *ending) => break,
                    () = tokio::time::sleep(TICK) => {}
                }
            }
        };
        let mut ending = shutdown;
        let sending = async {
            loop {
                let pause = sender.deliver(time::now_ns()).await;
                tokio::select! {
                    _ = ending.wait_for(|ending| *ending) => break,
                    () = tokio::time::sleep(pause.unwrap_or(Duration::from_secs(3600))) => {}
                    () = sender.wake.notified(), if pause.is_none() => {}
                }
            }
        };
        tokio::join!(evaluating, sending);
        self.flush(time::now_ns());
    }

    /// Runs the statements of the rules that are due.
    pub async fn evaluate(&self, history: &impl Ask, now_ns: i64) {
        for (index, rule) in self.rules.iter().enumerate() {
            if self.inner().due_ns[index] > now_ns {
                continue;
            }
            let outcome = match test(rule, history).await {
                Ok(findings) => Outcome::Found(findings),
                Err(error) if error.kind == Kind::Statement => Outcome::Broken(error.to_string()),
                Err(error) => Outcome::Failed(error.to_string()),
            };
            let mut inner = self.inner();
            inner.due_ns[index] = now_ns.saturating_add(i64::try_from(rule.interval.0.as_nanos()).unwrap_or(i64::MAX));
            let error = match &outcome {
                Outcome::Found(_) => None,
                Outcome::Broken(error) | Outcome::Failed(error) => Some(error.clone()),
            };
            if error.is_some() && error != inner.errors[index] {
                tracing::error!(rule = rule.name, error, "the rule's statement fails");
            }
            inner.errors[index] = error;
            let changes = inner.stored.alerts.step(rule, &outcome, now_ns);
            self.take_in(&mut inner, changes);
        }
    }

    /// Sends what waits, in order. Gives how long to wait before the next attempt; none: nothing waits.
    pub async fn deliver(&self, now_ns: i64) -> Option<Duration> {
        let slack = self.slack.as_ref()?;
        loop {
            let message = {
                let inner = self.inner();
                let outbox = &inner.stored.outbox;
                let first = outbox.letters.front()?;
                if let Ok(wait_ns @ 1..) = u64::try_from(outbox.not_before_ns.saturating_sub(now_ns)) {
                    return Some(Duration::from_nanos(wait_ns));
                }
                first.message.clone()
            };
            let sent = slack.post_message(message).send().await;
            let mut inner = self.inner();
            let failed = inner.stored.outbox.failed + 1;
            let (delivery, again) = match sent {
                Ok(_) => {
                    inner.stored.outbox.error = None;
                    ("sent".to_owned(), None)
                }
                Err(error) => match RETRIES.pause(failed, &error) {
                    Some(pause) => (format!("not sent yet: {error}"), Some((pause, error.to_string()))),
                    None => {
                        tracing::error!(%error, "Slack refuses a message for good");
                        inner.refused += 1;
                        inner.stored.outbox.error = Some(error.to_string());
                        (error.to_string(), None)
                    }
                },
            };
            if let Some((pause, error)) = again {
                tracing::warn!(failed, ?pause, error, "a message to Slack failed and is tried again");
                let outbox = &mut inner.stored.outbox;
                outbox.failed = failed;
                outbox.not_before_ns = now_ns.saturating_add(i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX));
                outbox.error = Some(error);
                // The change is recorded once, with what became of the first attempt.
                let first = outbox.letters.front_mut()?;
                let changes = (!std::mem::replace(&mut first.recorded, true)).then(|| first.changes.clone());
                inner.stored.record(changes.unwrap_or_default(), &delivery);
                self.store(&mut inner);
                return Some(pause);
            }
            let letter = inner.stored.outbox.done()?;
            if !letter.recorded {
                inner.stored.record(letter.changes, &delivery);
            }
            self.store(&mut inner);
        }
    }

    /// Brings changes to the table `alerts`. They are forgotten only once they are on disk there, so a crash in between
    /// may double a row, and loses none.
    pub fn flush(&self, now_ns: i64) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let unrecorded = &mut inner.stored.unrecorded;
        let Some(writer) = &mut inner.writer else { return unrecorded.clear() };
        if unrecorded.len() > inner.given {
            writer.append(unrecorded[inner.given..].iter().map(row).collect());
            inner.given = unrecorded.len();
        }
        match writer.flush(now_ns.unsigned_abs()) {
            Ok(_) => {
                inner.troubles.remove("history");
                inner.given = 0;
                if !std::mem::take(unrecorded).is_empty() {
                    self.store(inner);
                }
            }
            Err(error) => {
                let text = format!("alerts are not recorded: {error}");
                if inner.troubles.insert("history", text.clone()).is_none() {
                    tracing::error!("{text}");
                }
            }
        }
    }

    /// The rules with their alerts, for the API.
    pub fn overview(&self) -> Value {
        let inner = self.inner();
        let rules = self.rules.iter().zip(&inner.errors).map(|(rule, error)| {
            let alerts: Vec<&Alert> =
                inner.stored.alerts.alerts().iter().filter(|alert| alert.rule == rule.name).collect();
            let worst = alerts.iter().map(|alert| alert.state).max();
            let since_ns = alerts.iter().filter(|alert| Some(alert.state) == worst).map(|alert| alert.since_ns).min();
            let alerts: Vec<Value> = alerts
                .iter()
                .map(|alert| {
                    json!({
                        "labels": alert.labels,
                        "value": alert.value,
                        "state": alert.state,
                        "since": time::format_seconds(alert.since_ns),
                    })
                })
                .collect();
            json!({
                "name": rule.name,
                "severity": rule.severity,
                "interval": rule.interval,
                "hold": rule.hold,
                "sql": rule.sql,
                "state": worst.map_or("ok", State::as_str),
                "since": since_ns.map(time::format_seconds),
                "error": error,
                "alerts": alerts,
            })
        });
        rules.collect()
    }

    /// Whether alerts are evaluated, recorded and delivered, for the API.
    pub fn health(&self) -> Value {
        let inner = self.inner();
        let failing = self
            .rules
            .iter()
            .zip(&inner.errors)
            .filter_map(|(rule, error)| error.as_ref().map(|error| json!({ "rule": rule.name, "error": error })));
        let slack = self.slack.as_ref().map(|_| {
            let outbox = &inner.stored.outbox;
            json!({ "waiting": outbox.letters.len(), "refused": inner.refused, "error": outbox.error })
        });
        json!({
            "rules": self.rules.len(),
            "failing": failing.collect::<Vec<_>>(),
            "slack": slack,
            "troubles": inner.troubles.values().collect::<Vec<_>>(),
        })
    }

    /// How many alerts each rule has in each state.
    pub fn counts(&self) -> Vec<(String, &'static str, usize)> {
        let inner = self.inner();
        let count = |rule: &Rule, state| {
            inner.stored.alerts.alerts().iter().filter(|alert| alert.rule == rule.name && alert.state == state).count()
        };
        let states = [State::Pending, State::Firing];
        let rules = self
            .rules
            .iter()
            .flat_map(|rule| states.map(|state| (rule.name.clone(), state.as_str(), count(rule, state))));
        rules.collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts changes on their way: to the outbox when people are to be told, and else straight to the table.
    fn take_in(&self, inner: &mut Inner, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            tracing::info!(rule = change.rule, state = change.state.as_str(), "{}", change.message);
        }
        let (told, quiet): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.tell && self.slack.is_some());
        let mut letters: BTreeMap<(String, State), Vec<Change>> = BTreeMap::new();
        for change in told {
            letters.entry((change.rule.clone(), change.state)).or_default().push(change);
        }
        for changes in letters.into_values() {
            let letter = outbox::letter(changes, self.channel.as_deref(), self.public_url.as_deref());
            let gone = letter.map(|letter| inner.stored.outbox.push(letter)).unwrap_or_default();
            for letter in gone.into_iter().filter(|letter| !letter.recorded) {
                inner.stored.record(letter.changes, "given up: too many messages wait");
            }
        }
        inner.stored.record(quiet, "none");
        self.store(inner);
        self.wake.notify_one();
    }

    /// Keeps the state for the next start.
    fn store(&self, inner: &mut Inner) {
        match write(&self.path, &inner.stored) {
            Ok(()) => drop(inner.troubles.remove("state")),
            Err(error) => {
                let text = format!("the state of the alerts cannot be kept in {}: {error}", self.path.display());
                if inner.troubles.insert("state", text.clone()).is_none() {
                    tracing::error!("{text}");
                }
            }
        }
    }
}

impl Stored {
    fn is_empty(&self) -> bool {
        self.alerts.alerts().is_empty() && self.outbox.letters.is_empty() && self.unrecorded.is_empty()
    }

    fn record(&mut self, changes: Vec<Change>, delivery: &str) {
        self.unrecorded.extend(changes.into_iter().map(|change| (change, delivery.to_owned())));
    }
}

fn row((change, delivery): &(Change, String)) -> tables::Alert {
    tables::Alert {
        time: change.time_ns,
        rule: change.rule.as_str().into(),
        severity: change.severity.as_str().into(),
        state: change.state.as_str().into(),
        labels: json!(change.labels).to_string().into(),
        value: change.value,
        message: change.message.as_str().into(),
        delivery: delivery.as_str().into(),
    }
}

fn read(path: &Path) -> io::Result<Stored> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stored::default()),
        Err(error) => Err(error),
    }
}

/// Replaces the file in one step, and has it on disk before this returns.
fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("json.tmp");
    // Messages may name hosts and operations.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(stored)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(folder)?.sync_all()
}
