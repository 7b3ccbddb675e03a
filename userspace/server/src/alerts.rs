//! Alert rules: SQL over the catalog, evaluated again and again; what it finds becomes alerts that are kept across a
//! restart, written to the table `alerts`, and told to Slack.
//!
//! Of all servers over a folder one tells people, and none does over a copy ([`folder`], [`keeper`]). Rules are evaluated while
//! the collector writes ([`liveness`]), and what they find is kept in a [`book`]; messages wait in an [`outbox`].

mod book;
mod clock;
mod folder;
mod keeper;
mod liveness;
mod outbox;
mod rule;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use hitscope_base::{Span, time};
use hitscope_config::{BUILT_IN, Rule, Severity};
use hitscope_engine::{
    question::{Ask, Kind},
    workers::{Lane, Workers},
};
use hitscope_schemas::tables;
use hitscope_slack::{RetryPolicy, Slack};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

pub use self::{
    book::{Alert, Change, State},
    clock::Now,
    folder::adopt,
    rule::{Finding, test},
};
use self::{
    book::{Book, Labels},
    folder::Identity,
    keeper::{Keeper, Kept, Role},
    liveness::{Data, Liveness},
    outbox::{Failed, Next, Outbox, Style},
};

/// How often due rules are looked for, and the folder is looked at.
const TICK: Duration = Duration::from_secs(1);
/// After a panic it is waited so long.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// A message is tried until it arrives, Slack refuses it for good, or it is folded with others.
const RETRIES: RetryPolicy =
    RetryPolicy { attempts: u32::MAX, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(300) };
/// A rule that was not evaluated for two intervals, but at least for so long, was not held meanwhile.
const GAP_NS: i64 = 30 * S;
/// A rule whose evaluation fails so often, and for so long, is told of. One whose statement is wrong is told of at once.
const FAILURES: u32 = 3;
const FAILING_NS: i64 = 300 * S;
/// A tick that comes so late was held up: the host slept, or this process was stopped. That is no silence of the collector's.
const ASLEEP_NS: i64 = 10 * S;
/// How often the state is kept while an alert is pending.
const KEEP_EVERY_NS: i64 = 15 * S;
/// Changes that are not in the table yet, at most; then the oldest are given up.
const MOST_UNRECORDED: usize = 2000;
const S: i64 = 1_000_000_000;

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
    /// The host has no room for a thread.
    #[error("cannot start the thread that keeps the alerts: {0}")]
    Thread(io::Error),
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
    /// What is alerted of beside the rules.
    pub settings: hitscope_config::Alerts,
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
    built_in: [Rule; 3],
    collector_silent: Duration,
    slack: Option<Slack>,
    style: Style,
    keeper: Keeper,
    inner: Mutex<Inner>,
    wake: Notify,
    panics: AtomicU64,
}

/// What is kept across a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    /// The folder that this came to be in; none: it was written before folders were told apart.
    folder: Option<Identity>,
    /// The start of the host that the steady times below belong to.
    boot: String,
    alerts: Book,
    /// When a rule was evaluated last, ns by the steady clock.
    evaluated: BTreeMap<String, i64>,
    outbox: Outbox,
    /// Changes that are not in the table `alerts` yet, with what became of their message.
    unrecorded: VecDeque<(Change, String)>,
}

struct Inner {
    stored: Stored,
    role: Role,
    liveness: Liveness,
    /// The last tick, ns by the steady clock, and for how long there was none although there should have been.
    ticked_ns: i64,
    asleep_ns: i64,
    /// Of each rule.
    watches: Vec<Watch>,
    /// Changes whenever the state does.
    version: u64,
    /// The newest that the keeper was given, and when that was, ns by the steady clock.
    given: u64,
    given_ns: i64,
    /// The number of the first unrecorded change.
    first_unrecorded: u64,
    messages: Messages,
    /// Changes that never came to the table, since the start.
    not_recorded: u64,
}

/// Messages since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Messages {
    sent: u64,
    /// Attempts that are repeated.
    failed: u64,
    /// Refused by Slack for good, or given up.
    refused: u64,
    /// Folded into another.
    folded: u64,
}

/// A rule's evaluations since the start.
#[derive(Clone, Debug, Default)]
struct Watch {
    /// When it is due, ns by the steady clock.
    due_ns: i64,
    /// When it was evaluated last, ns since the epoch, and how long that took.
    last_ns: Option<i64>,
    took_ns: i64,
    evaluations: u64,
    /// That were due, and came too late for the next.
    missed: u64,
    failures: u64,
    /// That were due while there were no data.
    without_data: u64,
    /// Rows that were left out of the last, and of all.
    left_out: usize,
    all_left_out: u64,
    failing: Option<Failing>,
    no_data: bool,
    /// Rows of an evaluation after which alerts may be over, and when it began: whether they are is known once the collector
    /// has been heard of again. Until then what it saw may be on its way. The time is [`Inner::awake`]'s.
    unsettled: Option<(i64, BTreeSet<Labels>)>,
}

/// Evaluations that fail, one after the other.
#[derive(Clone, Debug)]
struct Failing {
    error: String,
    /// The statement is wrong, whatever the data are.
    broken: bool,
    since_ns: i64,
    times: u32,
}

impl Failing {
    fn to_be_told(&self, now: Now) -> bool {
        let for_long = now.steady_ns.saturating_sub(self.since_ns) >= FAILING_NS;
        self.broken || (self.times >= FAILURES && for_long)
    }
}

impl Alerts {
    /// Checks the rules, and starts what keeps the alerts. A folder that cannot be written (a copy, for instance) is no
    /// error: [`Self::health`] says so, and nobody is told of alerts.
    ///
    /// # Errors
    /// Those of the configuration.
    pub fn open(config: Config, now: Now) -> Result<Self, Error> {
        let Config { data_dir, host, rules, settings, slack, public_url, history } = config;
        for (index, rule) in rules.iter().enumerate() {
            let before = rules[..index].iter().map(|other| other.name.as_str());
            if before.chain(BUILT_IN).any(|name| rule.name == name) {
                return Err(Error::Name(rule.name.clone()));
            }
            if rule.interval.0 < Duration::from_secs(1) {
                return Err(Error::Interval(rule.name.clone()));
            }
        }
        let client = slack_client(&slack)?;
        let collector_silent = settings.collector_silent.0;
        let built_in = BUILT_IN.map(|name| Rule {
            name: name.into(),
            sql: String::new(),
            interval: Span(TICK),
            hold: Span(if name == BUILT_IN[0] { collector_silent } else { Duration::ZERO }),
            severity: if name == BUILT_IN[0] { Severity::Critical } else { Severity::Warning },
        });
        let keeper = Keeper::start(Kept { data_dir, host, history, collector_silent }, now).map_err(Error::Thread)?;
        let inner = Inner {
            stored: Stored::default(),
            role: Role::Starting,
            liveness: keeper.report().2,
            ticked_ns: now.steady_ns,
            asleep_ns: 0,
            watches: vec![Watch { due_ns: now.steady_ns, ..Watch::default() }; rules.len()],
            version: 0,
            given: 0,
            given_ns: now.steady_ns,
            first_unrecorded: 0,
            messages: Messages::default(),
            not_recorded: 0,
        };
        let alerts = Self {
            rules,
            built_in,
            collector_silent,
            slack: client,
            style: Style { channel: slack.channel, public_url },
            keeper,
            inner: Mutex::new(inner),
            wake: Notify::new(),
            panics: AtomicU64::new(0),
        };
        alerts.poke(now);
        Ok(alerts)
    }

    /// Evaluates and sends until the server ends. Should that panic, it begins anew.
    pub async fn run(self: Arc<Self>, workers: Arc<Workers>, shutdown: watch::Receiver<bool>) {
        let work = || {
            self.inner().stored.outbox.interrupted();
            self.work(&workers, shutdown.clone())
        };
        until_it_ends(work, AFTER_PANIC, &self.panics).await;
        self.close(Now::read()).await;
    }

    async fn work(&self, workers: &Workers, shutdown: watch::Receiver<bool>) {
        let lane = workers.lane(Lane::Alerts);
        let looking = async {
            loop {
                self.tick(Now::read());
                tokio::time::sleep(TICK).await;
            }
        };
        let evaluating = async {
            loop {
                self.evaluate(&lane, &Now::read).await;
                tokio::time::sleep(TICK / 2).await;
            }
        };
        let mut ending = shutdown.clone();
        let until_the_end = async {
            tokio::select! {
                _ = ending.wait_for(|ending| *ending) => {}
                ((), ()) = async { tokio::join!(looking, evaluating) } => {}
            }
        };
        let mut ending = shutdown;
        let sending = async {
            // What is being sent is not cut off.
            while !*ending.borrow() {
                let pause = self.send_next(&Now::read).await;
                tokio::select! {
                    _ = ending.wait_for(|ending| *ending) => {}
                    () = tokio::time::sleep(pause.unwrap_or(Duration::from_secs(3600))) => {}
                    () = self.wake.notified(), if pause.is_none() => {}
                }
            }
        };
        tokio::join!(until_the_end, sending);
    }

    /// Keeps what there is, and lets others have the folder.
    pub async fn close(&self, now: Now) {
        self.poke(now);
        self.keeper.settled().await;
        // What has come to the table is not brought there again.
        self.inner().version += 1;
        self.tick(now);
        self.keeper.settled().await;
        self.keeper.end();
        self.keeper.wait_for(|done| done.ended).await;
    }

    /// Takes in what the keeper found out, sees to the rules that are built in, and to alerts that may be over.
    pub fn tick(&self, now: Now) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let since_ns = now.steady_ns.saturating_sub(inner.ticked_ns);
        inner.ticked_ns = now.steady_ns;
        if since_ns > ASLEEP_NS {
            inner.asleep_ns += since_ns - 1_000_000_000;
        }
        let (role, stored, liveness) = self.keeper.report();
        inner.liveness = liveness;
        if inner.role != role {
            inner.role = role;
            // What is known from before belongs to another role: who begins to tell begins with what was kept.
            inner.stored = Stored::default();
            inner.watches.iter_mut().for_each(|watch| watch.unsettled = None);
        }
        if let Some(stored) = stored {
            self.take_up(inner, stored, now);
        }
        let done = self.keeper.done();
        let recorded = usize::try_from(done.rows.saturating_sub(inner.first_unrecorded)).unwrap_or(usize::MAX);
        if recorded > 0 && inner.role == Role::Teller {
            inner.first_unrecorded = done.rows;
            inner.stored.unrecorded.drain(..recorded.min(inner.stored.unrecorded.len()));
            inner.version += 1;
        }
        if inner.role != Role::Starting {
            self.look_at_collector(inner, now);
            self.look_at_data(inner, now);
            self.settle(inner, now);
            self.look_at_rules(inner, now);
        }
        let pending = inner.stored.alerts.alerts().iter().any(|alert| alert.state == State::Pending);
        if pending && now.steady_ns.saturating_sub(inner.given_ns) >= KEEP_EVERY_NS {
            inner.version += 1;
        }
        drop(guard);
        self.poke(now);
    }

    fn take_up(&self, inner: &mut Inner, mut stored: Stored, now: Now) {
        let boot = clock::boot();
        let same_boot = stored.boot == boot;
        if !same_boot {
            stored.alerts.after_boot(now);
            stored.evaluated.clear();
            stored.boot = boot;
        }
        stored.outbox.take_up(same_boot, now);
        inner.first_unrecorded = inner.first_unrecorded.max(self.keeper.done().rows);
        inner.stored = stored;
        if inner.role == Role::Teller {
            let changes = inner.stored.alerts.retire(self.all_rules(), now);
            self.take_in(inner, changes, now);
            inner.version += 1;
            self.wake.notify_one();
        }
    }

    fn look_at_collector(&self, inner: &mut Inner, now: Now) {
        let rule = &self.built_in[0];
        let awake = inner.awake(now);
        let Some(silent_ns) = inner.liveness.silent_ns(awake) else { return };
        let delay_ns = i64::try_from(self.collector_silent.as_nanos()).unwrap_or(i64::MAX);
        let changes = if inner.liveness.data(awake) == Data::Live || delay_ns == 0 {
            inner.stored.alerts.settle(rule, &BTreeSet::new(), true, now)
        } else if silent_ns >= delay_ns {
            let (host, newest_ns) = inner.liveness.newest().unwrap_or_default();
            let detail = format!(
                "the collector has written nothing since {}; no rule is evaluated meanwhile",
                time::format_seconds(newest_ns.cast_signed())
            );
            let labels = [("host".to_owned(), host.to_owned())].into();
            let finding = Finding { labels, value: None, detail: Some(detail) };
            // It was silent for that long already.
            let rule = Rule { hold: Span(Duration::ZERO), ..rule.clone() };
            inner.stored.alerts.raise(&rule, vec![finding], false, now).0
        } else {
            return;
        };
        self.take_in(inner, changes, now);
    }

    /// Without data, no rule fires, and none is resolved.
    fn look_at_data(&self, inner: &mut Inner, now: Now) {
        let no_data = inner.liveness.data(inner.awake(now)) == Data::Silent;
        let mut changes = Vec::new();
        for (rule, watch) in self.rules.iter().zip(&mut inner.watches) {
            watch.no_data = no_data;
            if no_data {
                watch.unsettled = None;
                changes.extend(inner.stored.alerts.lose(rule, now));
            }
        }
        self.take_in(inner, changes, now);
    }

    /// Resolves what was absent from an evaluation, now that the collector was heard of since.
    fn settle(&self, inner: &mut Inner, now: Now) {
        let trusted = inner.liveness.settled(inner.awake(now));
        let mut changes = Vec::new();
        for (rule, watch) in self.rules.iter().zip(&mut inner.watches) {
            if let Some((_, rows)) = watch.unsettled.take_if(|(began_ns, _)| inner.liveness.heard_after(*began_ns)) {
                changes.extend(inner.stored.alerts.settle(rule, &rows, trusted, now));
            }
        }
        self.take_in(inner, changes, now);
    }

    /// Rules that fail, and rules with more rows than alerts.
    fn look_at_rules(&self, inner: &mut Inner, now: Now) {
        let labels = |rule: &Rule| Labels::from([("rule".to_owned(), rule.name.clone())]);
        let (mut failing, mut overflowing) = (Vec::new(), Vec::new());
        for (rule, watch) in self.rules.iter().zip(&inner.watches) {
            if let Some(failure) = watch.failing.as_ref().filter(|failure| failure.to_be_told(now)) {
                let detail = Some(failure.error.clone());
                failing.push(Finding { labels: labels(rule), value: Some(failure.times.into()), detail });
            }
            if watch.left_out > 0 {
                let detail = Some("rows beyond the alerts that a rule may have are left out".into());
                overflowing.push(Finding { labels: labels(rule), value: Some(watch.left_out as f64), detail });
            }
        }
        for (rule, findings) in self.built_in[1..].iter().zip([failing, overflowing]) {
            let rows = findings.iter().map(|finding| finding.labels.clone()).collect();
            let (mut changes, _) = inner.stored.alerts.raise(rule, findings, false, now);
            changes.extend(inner.stored.alerts.settle(rule, &rows, true, now));
            self.take_in(inner, changes, now);
        }
    }

    /// Runs the statements of the rules that are due, one after the other, the one first that has been due for longest.
    pub async fn evaluate(&self, history: &impl Ask, clock: &impl Fn() -> Now) {
        let mut due: Vec<(i64, usize)> =
            self.inner().watches.iter().enumerate().map(|(index, watch)| (watch.due_ns, index)).collect();
        due.sort_unstable();
        for (_, index) in due {
            let began = clock();
            if self.begins(index, began) {
                let found = test(&self.rules[index], history).await;
                self.evaluated(index, found, began, clock());
            }
        }
    }

    /// Whether the rule is to be evaluated now.
    fn begins(&self, index: usize, now: Now) -> bool {
        let rule = &self.rules[index];
        let mut guard = self.inner();
        let inner = &mut *guard;
        let late_ns = now.steady_ns.saturating_sub(inner.watches[index].due_ns);
        if late_ns < 0 {
            return false;
        }
        let data = inner.liveness.data(inner.awake(now));
        let watch = &mut inner.watches[index];
        if data == Data::Unknown || inner.role == Role::Starting {
            watch.due_ns = now.steady_ns;
            return false;
        }
        let interval_ns = i64::try_from(rule.interval.0.as_nanos()).unwrap_or(i64::MAX);
        let missed = late_ns / interval_ns.max(1);
        watch.missed += missed.unsigned_abs();
        watch.due_ns = watch.due_ns.saturating_add(interval_ns.saturating_mul(missed.saturating_add(1)));
        watch.without_data += u64::from(data == Data::Silent);
        data == Data::Live
    }

    fn evaluated(
        &self,
        index: usize,
        found: Result<Vec<Finding>, hitscope_engine::question::Refusal>,
        began: Now,
        ended: Now,
    ) {
        let rule = &self.rules[index];
        let mut guard = self.inner();
        let inner = &mut *guard;
        let watch = &mut inner.watches[index];
        watch.evaluations += 1;
        watch.last_ns = Some(began.wall_ns);
        watch.took_ns = ended.steady_ns.saturating_sub(began.steady_ns);
        let live = inner.liveness.data(inner.awake(ended)) == Data::Live;
        let watch = &mut inner.watches[index];
        let findings = match found {
            Ok(findings) if live => findings,
            // The data went away meanwhile.
            Ok(_) => {
                watch.without_data += 1;
                return;
            }
            Err(error) => {
                // It says nothing about the alerts that there are, nor is it one.
                watch.failures += 1;
                let before = watch.failing.take();
                if before.as_ref().is_none_or(|before| before.error != error.message) {
                    tracing::error!(rule = rule.name, error = error.message, "a rule could not be evaluated");
                }
                watch.failing = Some(Failing {
                    broken: error.kind == Kind::Statement,
                    error: error.message,
                    since_ns: before.as_ref().map_or(began.steady_ns, |before| before.since_ns),
                    times: before.map_or(1, |before| before.times.saturating_add(1)),
                });
                return;
            }
        };
        watch.failing = None;
        let rows: BTreeSet<Labels> = findings.iter().map(|finding| finding.labels.clone()).collect();
        let interval_ns = i64::try_from(rule.interval.0.as_nanos()).unwrap_or(i64::MAX);
        let gap = inner.stored.evaluated.insert(rule.name.clone(), ended.steady_ns).is_some_and(|before| {
            let since_ns = began.steady_ns.saturating_sub(before);
            since_ns < 0 || since_ns > GAP_NS.max(interval_ns.saturating_mul(2))
        });
        let (changes, left_out) = inner.stored.alerts.raise(rule, findings, gap, began);
        watch.left_out = left_out;
        watch.all_left_out += left_out as u64;
        let absent = inner.stored.alerts.of(&rule.name).any(|alert| !rows.contains(&alert.labels));
        let began_ns = inner.awake(began).steady_ns;
        inner.watches[index].unsettled = absent.then_some((began_ns, rows));
        self.take_in(inner, changes, ended);
        drop(guard);
        self.poke(ended);
    }

    /// Sends the next message. Gives how long to wait before the next attempt; none: nothing waits.
    async fn send_next(&self, clock: &impl Fn() -> Now) -> Option<Duration> {
        let slack = self.slack.as_ref()?;
        let letter = {
            let mut guard = self.inner();
            let inner = &mut *guard;
            if inner.role != Role::Teller {
                return None;
            }
            let now = clock();
            let folded = inner.stored.outbox.fold(&self.style, now);
            if !folded.is_empty() {
                inner.messages.folded += folded.len() as u64;
                inner.version += 1;
            }
            for letter in folded {
                inner.record_letter(Some(letter), "not sent in time, and folded into one message with others");
            }
            match inner.stored.outbox.next(now) {
                Next::Nothing => return None,
                Next::Wait(pause) => return Some(pause),
                Next::Send(letter) => letter,
            }
        };
        self.poke(clock());
        // So that it is not forgotten, nor sent anew under another id, should the server die now. A disk that hangs keeps nobody
        // from being told.
        self.keeper.wait_for(|done| done.version >= letter.version).await;
        let sent = slack.post_message(letter.message).send().await;
        let now = clock();
        let mut pause = Duration::ZERO;
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.version += 1;
        let outbox = &mut inner.stored.outbox;
        match sent {
            Ok(_) => {
                inner.messages.sent += 1;
                let letter = outbox.sent(letter.id);
                inner.record_letter(letter, "sent");
            }
            Err(error) => match RETRIES.pause(outbox.failures(), &error) {
                Some(wait) => {
                    tracing::warn!(failed = outbox.failures(), pause = ?wait, %error, "a message to Slack is tried again");
                    inner.messages.failed += 1;
                    pause = wait;
                    let blamed = error.retry_after().is_none();
                    match outbox.failed(letter.id, blamed, wait, error.to_string(), now) {
                        Failed::Gone => {}
                        Failed::Again(changes) => inner.record(changes, &format!("not sent yet: {error}")),
                        Failed::GivenUp(letter) => {
                            tracing::error!(%error, "a message that Slack does not take is given up");
                            inner.messages.refused += 1;
                            inner.record_letter(Some(*letter), &format!("given up: {error}"));
                        }
                    }
                }
                None => {
                    tracing::error!(%error, "Slack refuses a message for good");
                    inner.messages.refused += 1;
                    let letter = outbox.refused(letter.id, error.to_string());
                    inner.record_letter(letter, &error.to_string());
                }
            },
        }
        drop(guard);
        self.poke(now);
        Some(pause)
    }

    /// The rules with their alerts, for the API.
    pub fn overview(&self) -> Value {
        let inner = self.inner();
        let watches = inner.watches.iter().map(Some).chain([None; BUILT_IN.len()]);
        let rules = self.all_rules().zip(watches).map(|(rule, watch)| {
            let alerts: Vec<&Alert> = inner.stored.alerts.of(&rule.name).collect();
            let worst = alerts.iter().map(|alert| alert.state).max();
            let since_ns = alerts.iter().filter(|alert| Some(alert.state) == worst).map(|alert| alert.since_ns).min();
            let failing = watch.and_then(|watch| watch.failing.as_ref());
            let state = match worst {
                Some(State::Firing) => State::Firing.as_str(),
                _ if watch.is_some_and(|watch| watch.no_data) => State::NoData.as_str(),
                _ if failing.is_some() => "failed",
                worst => worst.map_or("ok", State::as_str),
            };
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
                "built_in": watch.is_none(),
                "severity": rule.severity,
                "interval": rule.interval,
                "hold": rule.hold,
                "sql": rule.sql,
                "state": state,
                "since": since_ns.map(time::format_seconds),
                "error": failing.map(|failing| &failing.error),
                "alerts": alerts,
                "evaluations": watch.map(|watch| json!({
                    "last": watch.last_ns.map(time::format_seconds),
                    "last_ms": watch.took_ns as f64 / 1e6,
                    "count": watch.evaluations,
                    "failed": watch.failures,
                    "missed": watch.missed,
                    "no_data": watch.without_data,
                    "rows_left_out": watch.all_left_out,
                })),
            })
        });
        rules.collect()
    }

    /// Whether alerts are evaluated, recorded and delivered, for the API.
    pub fn health(&self) -> Value {
        let inner = self.inner();
        let mut troubles = self.keeper.troubles(inner.awake(Now::read()));
        let failing = self.rules.iter().zip(&inner.watches).filter_map(|(rule, watch)| {
            let failing = watch.failing.as_ref()?;
            Some(json!({ "rule": rule.name, "error": failing.error }))
        });
        let why_not = inner.role.why_not();
        if let Some(why_not) = why_not.as_ref().filter(|_| inner.role != Role::Starting) {
            troubles.push(format!("This server tells nobody of alerts: {why_not}."));
        }
        let panics = self.panics.load(Ordering::Relaxed);
        if panics > 0 {
            troubles.push(format!("The alerts broke down and began anew, {panics} times so far; the log says why."));
        }
        let slack = self.slack.as_ref().map(|_| {
            let outbox = &inner.stored.outbox;
            let Messages { refused, folded, .. } = inner.messages;
            json!({ "waiting": outbox.letters.len(), "refused": refused, "folded": folded, "error": outbox.error })
        });
        json!({
            "rules": self.rules.len(),
            "failing": failing.collect::<Vec<_>>(),
            "telling": inner.role == Role::Teller,
            "why_not": why_not,
            "slack": slack,
            "troubles": troubles,
        })
    }

    /// Why this server tells nobody of alerts; none: it does.
    pub fn why_not(&self) -> Option<String> {
        self.inner().role.why_not()
    }

    /// Figures for Prometheus.
    pub fn figures(&self) -> Figures {
        let inner = self.inner();
        let states = [State::Pending, State::NoData, State::Firing];
        let count =
            |rule: &Rule, state| inner.stored.alerts.of(&rule.name).filter(|alert| alert.state == state).count();
        let alerts = self
            .all_rules()
            .flat_map(|rule| states.map(|state| (rule.name.clone(), state.as_str(), count(rule, state))))
            .collect();
        let rules = self.rules.iter().zip(&inner.watches).map(|(rule, watch)| RuleFigures {
            name: rule.name.clone(),
            evaluations: watch.evaluations,
            failures: watch.failures,
            missed: watch.missed,
            without_data: watch.without_data,
            left_out: watch.all_left_out,
            took_ns: watch.took_ns.unsigned_abs(),
            last_ns: watch.last_ns,
        });
        let Messages { sent, failed, refused, folded } = inner.messages;
        Figures {
            telling: inner.role == Role::Teller,
            alerts,
            rules: rules.collect(),
            waiting: inner.stored.outbox.letters.len(),
            messages: [("sent", sent), ("failed", failed), ("refused", refused), ("folded", folded)],
            not_recorded: inner.not_recorded,
            panics: self.panics.load(Ordering::Relaxed),
        }
    }

    fn all_rules(&self) -> impl Iterator<Item = &Rule> + Clone {
        self.rules.iter().chain(&self.built_in)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands to the keeper what is new.
    fn poke(&self, now: Now) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let (mut state, mut rows) = (None, Vec::new());
        if inner.role == Role::Teller {
            if inner.version > inner.given {
                match serde_json::to_vec(&inner.stored) {
                    Ok(text) => state = Some((inner.version, text)),
                    Err(error) => tracing::error!(%error, "the state of the alerts cannot be written"),
                }
                (inner.given, inner.given_ns) = (inner.version, now.steady_ns);
            }
            rows = (inner.first_unrecorded..).zip(inner.stored.unrecorded.iter().map(row)).collect();
        }
        let awake = inner.awake(now);
        drop(guard);
        self.keeper.poke(awake, state, rows);
    }

    /// Puts changes on their way: to the outbox when people are to be told, and else straight to the table. A server that does
    /// not tell only shows them.
    fn take_in(&self, inner: &mut Inner, changes: Vec<Change>, now: Now) {
        if changes.is_empty() {
            return;
        }
        inner.version += 1;
        if inner.role != Role::Teller {
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
        for mut letter in letters.into_values().filter_map(|changes| outbox::letter(changes, &self.style)) {
            letter.version = inner.version;
            inner.stored.outbox.push(letter, now);
        }
        inner.record(quiet, "none");
        self.wake.notify_one();
    }
}

impl Inner {
    /// The moment by a steady clock that stands still while this does not run: by it silence is measured.
    fn awake(&self, now: Now) -> Now {
        Now { steady_ns: now.steady_ns - self.asleep_ns, ..now }
    }

    /// Has changes brought to the table `alerts`.
    fn record(&mut self, changes: Vec<Change>, delivery: &str) {
        let unrecorded = &mut self.stored.unrecorded;
        unrecorded.extend(changes.into_iter().map(|change| (change, delivery.to_owned())));
        let excess = unrecorded.len().saturating_sub(MOST_UNRECORDED);
        unrecorded.drain(..excess);
        self.first_unrecorded += excess as u64;
        self.not_recorded += excess as u64;
    }

    /// The same for those of a letter that are not there yet.
    fn record_letter(&mut self, letter: Option<outbox::Letter>, delivery: &str) {
        if let Some(letter) = letter.filter(|letter| !letter.recorded) {
            self.record(letter.changes, delivery);
        }
    }
}

impl Stored {
    /// Of a folder that takes another's place, what was to be sent is not: that other has most likely done so.
    fn forget_outbox(&mut self) {
        let outbox = std::mem::take(&mut self.outbox);
        let changes = outbox.letters.into_iter().filter(|letter| !letter.recorded).flat_map(|letter| letter.changes);
        self.unrecorded.extend(changes.map(|change| (change, "not sent: the folder was copied".to_owned())));
    }
}

/// Figures of the alerts, since the start where they count.
#[derive(Debug)]
pub struct Figures {
    /// Whether this server tells people.
    pub telling: bool,
    /// How many alerts each rule has in each state.
    pub alerts: Vec<(String, &'static str, usize)>,
    /// Each configured rule.
    pub rules: Vec<RuleFigures>,
    /// Messages that wait.
    pub waiting: usize,
    /// Messages, and attempts that failed, by what became of them.
    pub messages: [(&'static str, u64); 4],
    /// Changes that never came to the table.
    pub not_recorded: u64,
    /// How often all this broke down and began anew.
    pub panics: u64,
}

/// Figures of a rule's evaluations.
#[derive(Debug)]
pub struct RuleFigures {
    /// The rule.
    pub name: String,
    /// Evaluations, the failed ones included.
    pub evaluations: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that were due, and came too late for the next.
    pub missed: u64,
    /// Those that were due while there were no data.
    pub without_data: u64,
    /// Rows that were left out.
    pub left_out: u64,
    /// How long the last took, ns.
    pub took_ns: u64,
    /// When it was, ns since the epoch.
    pub last_ns: Option<i64>,
}

/// Works until the work ends by itself: when it panics, it is begun anew.
async fn until_it_ends<F: Future<Output = ()>>(work: impl Fn() -> F, pause: Duration, panics: &AtomicU64) {
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("the alerts panicked, and begin anew");
        tokio::time::sleep(pause).await;
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
