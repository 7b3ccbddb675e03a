use std::{collections::VecDeque, fs, io, net::SocketAddr, path::Path};

use arrow::array::AsArray;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use hitscope_base::Span;
use hitscope_config::Severity;
use hitscope_engine::catalog::{Catalog, Options};
use hitscope_history::{Writer, status};
use hitscope_schemas::tables::Row;

use crate::testing::CUBE;

/// Answers as Slack does, and keeps what it took.
struct FakeSlack {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Value>>>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
const LIMITED: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n{\"ok\":false,\"error\":\"channel_not_found\"}";

impl FakeSlack {
    async fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slack = Self {
            address: listener.local_addr().unwrap(),
            taken: Arc::default(),
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
        };
        let (taken, answers) = (slack.taken.clone(), slack.answers.clone());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let (taken, answers) = (taken.clone(), answers.clone());
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    while let Ok(count @ 1..) = connection.read_buf(&mut bytes).await {
                        let _ = count;
                        let Some(request) = whole(&bytes) else { continue };
                        bytes.clear();
                        let answer = answers.lock().unwrap().pop_front().unwrap_or(OK);
                        if answer == OK {
                            taken.lock().unwrap().push(request);
                        }
                        if connection.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        slack
    }

    fn titles(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }

    fn settings(&self) -> hitscope_config::Slack {
        hitscope_config::Slack {
            token: Some(hitscope_base::Secret::new("xoxb-1")),
            channel: Some("#ops".into()),
            api_url: Some(format!("http://{}", self.address)),
            ..Default::default()
        }
    }
}

/// The body, when the request is there as a whole.
fn whole(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length: usize =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    (body.len() == length).then(|| serde_json::from_str(body).unwrap())
}

/// A rule that finds a service for each row of `events`.
fn rule(hold_s: u64) -> Rule {
    Rule {
        name: "events".into(),
        sql:
            "SELECT service, count(*) AS count FROM events WHERE kind = 'oom' GROUP BY service HAVING count(*) % 2 = 1"
                .into(),
        interval: Span(Duration::from_secs(10)),
        hold: Span(Duration::from_secs(hold_s)),
        severity: Severity::Critical,
    }
}

fn config(data_dir: &Path, rules: Vec<Rule>, slack: hitscope_config::Slack) -> Config {
    Config {
        data_dir: data_dir.into(),
        host: "db1".into(),
        rules,
        settings: hitscope_config::Alerts::default(),
        slack,
        public_url: Some("https://hitscope.example".into()),
        history: hitscope_history::Settings::keep_all(),
    }
}

/// One more event: an odd number of them is an alert, an even number none.
fn happen(data_dir: &Path, service: &str) {
    let mut writer =
        Writer::open(data_dir, "db1", &[tables::Event::table()], hitscope_history::Settings::keep_all()).unwrap().0;
    let event =
        tables::Event { time: CUBE, kind: "oom".into(), pid: 0, service: service.into(), detail: "killed".into() };
    writer.append(vec![event]);
    writer.flush(CUBE.unsigned_abs()).unwrap();
}

fn catalog(data_dir: &Path) -> Catalog {
    Catalog::open(data_dir, Options::default()).unwrap()
}

/// So many seconds after the start, by both clocks.
fn at(seconds: i64) -> Now {
    Now { wall_ns: CUBE + seconds * S, steady_ns: (1000 + seconds) * S }
}

/// The collector writes its status.
fn beat(data_dir: &Path, now: Now) {
    let status = status::Status {
        host: "db1".into(),
        pid: 7,
        updated_ns: now.wall_ns.unsigned_abs(),
        ..status::Status::default()
    };
    status::write(data_dir, &status, hitscope_history::Settings::keep_all().access).unwrap();
}

/// A server's alerts over a folder.
struct Server<'a> {
    alerts: Alerts,
    dir: &'a Path,
    catalog: Catalog,
}

impl<'a> Server<'a> {
    fn of(dir: &'a Path, config: Config, now: Now) -> Self {
        Self { alerts: Alerts::open(config, now).unwrap(), dir, catalog: catalog(dir) }
    }

    /// Over a folder whose collector writes.
    async fn open(dir: &'a Path, rules: Vec<Rule>, slack: &FakeSlack, now: Now) -> Self {
        beat(dir, Now { wall_ns: now.wall_ns - 1, ..now });
        let server = Self::of(dir, config(dir, rules, slack.settings()), now);
        server.hear(now).await;
        server.beat(now).await;
        server
    }

    /// What the next second brings.
    async fn hear(&self, now: Now) {
        self.alerts.tick(now);
        self.alerts.keeper.settled().await;
        self.alerts.tick(now);
    }

    /// The same with a collector that writes.
    async fn beat(&self, now: Now) {
        // What was heard before is heard at its own time.
        self.alerts.keeper.settled().await;
        beat(self.dir, now);
        self.hear(now).await;
    }

    async fn evaluate(&self, now: Now) {
        self.alerts.evaluate(&self.catalog, &|| now).await;
    }

    /// A second with an evaluation, over data that come before and after.
    async fn step(&self, now: Now) {
        self.beat(now).await;
        self.evaluate(now).await;
        self.beat(later(now, 1)).await;
    }

    /// Sends all that can be sent.
    async fn deliver(&self, now: Now) -> Option<Duration> {
        loop {
            let pause = self.alerts.send_next(&|| now).await;
            if pause != Some(Duration::ZERO) {
                return pause;
            }
        }
    }

    fn state(&self, rule: usize) -> String {
        self.alerts.overview()[rule]["state"].as_str().unwrap().to_owned()
    }

    /// State and delivery of the rows of the table `alerts`, oldest first.
    async fn recorded(&self, now: Now) -> Vec<(String, String)> {
        self.hear(now).await;
        let sql = "SELECT CAST(state AS VARCHAR) AS state, CAST(delivery AS VARCHAR) AS delivery FROM alerts \
                   ORDER BY time, rule, labels";
        let mut rows = Vec::new();
        for batch in &self.catalog.query(sql).await.unwrap().batches {
            let text =
                |index: usize| arrow::compute::cast(batch.column(index), &arrow::datatypes::DataType::Utf8).unwrap();
            let (states, deliveries) = (text(0), text(1));
            let text = |column: &arrow::array::ArrayRef, row| column.as_string::<i32>().value(row).to_owned();
            rows.extend((0..batch.num_rows()).map(|row| (text(&states, row), text(&deliveries, row))));
        }
        rows
    }
}

fn later(now: Now, seconds: i64) -> Now {
    Now { wall_ns: now.wall_ns + seconds * S, steady_ns: now.steady_ns + seconds * S }
}

fn rows(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(state, delivery)| ((*state).to_owned(), (*delivery).to_owned())).collect()
}

/// Copies a folder, its files and what lies in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn an_alert_from_the_first_row_to_the_last_message() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    let server = Server::open(dir.path(), vec![rule(60)], &slack, at(0)).await;
    server.evaluate(at(0)).await;
    assert_eq!(server.state(0), "ok");

    happen(dir.path(), "<db>");
    server.step(at(5)).await;
    assert_eq!(server.state(0), "ok", "it is not due yet");
    server.step(at(10)).await;
    assert_eq!(server.state(0), "pending");
    assert_eq!(server.deliver(at(10)).await, None);
    for seconds in [20, 30, 40, 50, 60, 70] {
        server.step(at(seconds)).await;
    }
    assert_eq!(server.deliver(at(71)).await, None);
    let firing = slack.taken.lock().unwrap()[0].clone();
    assert_eq!((&firing["channel"], &firing["text"]), (&json!("#ops"), &json!("events: firing")));
    let text = firing["attachments"][0].to_string();
    for part in ["service=`&lt;db&gt;`: 1", "critical", "<https://hitscope.example|open hitscope>"] {
        assert!(text.contains(part), "{part} in {text}");
    }

    happen(dir.path(), "<db>");
    server.step(at(80)).await;
    assert_eq!(server.deliver(at(81)).await, None);
    assert_eq!(slack.titles(), ["events: firing", "events: resolved"]);
    let expected = rows(&[("pending", "none"), ("firing", "sent"), ("resolved", "sent")]);
    assert_eq!(server.recorded(at(90)).await, expected);
    assert_eq!(hitscope_engine::views::alerts::read(&server.catalog, 2).await.unwrap().rows(), 2);
    let evaluations = server.alerts.overview()[0]["evaluations"].clone();
    assert_eq!((&evaluations["count"], &evaluations["missed"]), (&json!(9), &json!(0)), "{evaluations}");
}

#[tokio::test]
async fn neither_a_restart_nor_a_slow_slack_loses_or_doubles_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[LIMITED, BROKEN]).await;
    let open = async |now| Server::open(dir.path(), vec![rule(0)], &slack, now).await;
    happen(dir.path(), "a");
    happen(dir.path(), "b");
    let server = open(at(0)).await;
    server.step(at(1)).await;
    let pause = server.deliver(at(2)).await.unwrap();
    assert!(pause >= Duration::from_secs(30), "{pause:?}");
    // Before the time that Slack asked for, nothing is sent.
    assert!(server.deliver(at(29)).await.unwrap() > Duration::ZERO);
    assert_eq!(slack.answers.lock().unwrap().len(), 1);
    let health = server.alerts.health();
    assert_eq!(health["slack"]["waiting"], 1, "{health}");
    server.alerts.close(at(30)).await;

    let server = open(at(31)).await;
    server.step(at(32)).await;
    let pause = server.deliver(at(60)).await.unwrap();
    server.alerts.close(at(60)).await;
    let server = open(at(61)).await;
    let then = Now { steady_ns: at(61).steady_ns + i64::try_from(pause.as_nanos()).unwrap(), ..at(61) };
    assert_eq!(server.deliver(then).await, None);
    assert_eq!(slack.titles(), ["events: firing (2 alerts)"]);
    server.alerts.close(at(70)).await;
    let server = open(at(71)).await;
    server.step(at(72)).await;
    assert_eq!(server.deliver(at(600)).await, None);
    assert_eq!(slack.taken.lock().unwrap().len(), 1);
    // Each change is in the table once, with what became of the first attempt.
    let found = server.recorded(at(73)).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().all(|(state, delivery)| state == "firing" && delivery.starts_with("not sent yet: ")),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_message_that_slack_refuses_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[REFUSED]).await;
    happen(dir.path(), "a");
    let server = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    server.step(at(0)).await;
    happen(dir.path(), "a");
    server.step(at(10)).await;
    assert_eq!(server.deliver(at(11)).await, None);
    assert_eq!(slack.titles(), ["events: resolved"]);
    assert_eq!(server.alerts.health()["slack"]["refused"], 1);
    let found = server.recorded(at(12)).await;
    assert!(found[0].1.contains("channel_not_found"), "{found:?}");
    assert_eq!(found[1].1, "sent");
}

#[tokio::test]
async fn one_server_tells_and_the_second_takes_over_what_the_first_knew() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    let first = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    let second = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    for server in [&first, &second] {
        server.step(at(1)).await;
        assert_eq!(server.state(0), "firing", "both show it");
        server.deliver(at(2)).await;
    }
    assert_eq!(slack.titles(), ["events: firing"]);
    let health = second.alerts.health();
    assert_eq!(health["telling"], false);
    let why = format!("another server over this folder (process {})", std::process::id());
    assert!(health["why_not"].as_str().unwrap().starts_with(&why), "{health}");
    assert_eq!(first.alerts.health()["telling"], true);

    first.alerts.close(at(10)).await;
    second.step(at(11)).await;
    assert_eq!(second.alerts.health()["telling"], true);
    second.step(at(12)).await;
    second.deliver(at(13)).await;
    assert_eq!(slack.titles(), ["events: firing"], "it was told");
    happen(dir.path(), "a");
    second.step(at(22)).await;
    second.deliver(at(23)).await;
    assert_eq!(slack.titles(), ["events: firing", "events: resolved"]);
}

#[tokio::test]
async fn a_copied_folder_tells_nobody_until_it_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copied) = (dir.path().join("a"), dir.path().join("b"));
    let slack = FakeSlack::start(&[BROKEN]).await;
    happen(&original, "a");
    let server = Server::open(&original, vec![rule(0)], &slack, at(0)).await;
    server.step(at(1)).await;
    assert!(server.deliver(at(2)).await.is_some(), "the message waits");
    server.alerts.close(at(3)).await;
    copy(&original, &copied);
    let kept = fs::read(copied.join("server/alerts.json")).unwrap();

    // A server over the copy: with data that come, without, and without its rules.
    for (rules, beats) in [(vec![rule(0)], true), (vec![rule(0)], false), (vec![], true)] {
        let server = Server::of(&copied, config(&copied, rules, slack.settings()), at(10));
        for seconds in 10..120 {
            if beats {
                server.step(at(seconds)).await;
            } else {
                server.hear(at(seconds)).await;
                server.evaluate(at(seconds)).await;
            }
            assert_eq!(server.deliver(at(seconds)).await, None);
        }
        let health = server.alerts.health();
        assert_eq!(health["telling"], false);
        assert!(health["why_not"].as_str().unwrap().contains("it is a copy. "), "{health}");
        assert!(health["troubles"].to_string().contains("hitscope alerts adopt"), "{health}");
        server.alerts.close(at(120)).await;
        assert_eq!(fs::read(copied.join("server/alerts.json")).unwrap(), kept, "nothing is written");
    }
    assert_eq!(slack.titles(), [""; 0]);

    let server = Server::open(&copied, vec![rule(0)], &slack, at(200)).await;
    adopt(&copied).unwrap();
    server.step(at(201)).await;
    assert_eq!(server.alerts.health()["telling"], true);
    assert_eq!(server.deliver(at(202)).await, None, "what waited is the original's");
    happen(&copied, "a");
    server.step(at(212)).await;
    assert_eq!(server.deliver(at(213)).await, None);
    assert_eq!(slack.titles(), ["events: resolved"]);
}

#[tokio::test]
async fn a_folder_without_a_collector_of_its_own_tells_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    // As after a copy of history and status alone, a moment ago.
    beat(dir.path(), at(0));
    let server = Server::of(dir.path(), config(dir.path(), vec![rule(0)], slack.settings()), at(1));
    for seconds in 1..120 {
        server.hear(at(seconds)).await;
        server.evaluate(at(seconds)).await;
        assert_eq!(server.deliver(at(seconds)).await, None);
    }
    assert_eq!(slack.titles(), [""; 0]);
    assert_eq!(server.alerts.health()["telling"], false);
    assert!(!dir.path().join("server/alerts.json").exists());
    assert_eq!((server.state(0), server.state(1)), ("no_data".into(), "firing".into()));
}

#[tokio::test]
async fn a_collectors_end_is_told_once_and_resolves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    let server = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    server.step(at(1)).await;
    server.deliver(at(2)).await;
    assert_eq!(slack.titles(), ["events: firing"]);
    // The collector ends, and the rule's rows go with it: first while nobody knows.
    happen(dir.path(), "a");
    for seconds in 3..200 {
        server.hear(at(seconds)).await;
        server.evaluate(at(seconds)).await;
        server.deliver(at(seconds)).await;
        let state = server.state(0);
        assert_eq!(state, if seconds < 33 { "firing" } else { "no_data" }, "after {seconds} s");
    }
    assert_eq!(slack.titles(), ["events: firing", "collector-silent: firing"]);
    let text = slack.taken.lock().unwrap()[1].to_string();
    assert!(text.contains("host=`db1`") && text.contains("has written nothing since 2023-11-14T22:15:02Z"), "{text}");
    let evaluations = server.alerts.overview()[0]["evaluations"].clone();
    assert!(evaluations["no_data"].as_u64() >= Some(15), "{evaluations}");
    // A restart of the server changes nothing about it.
    server.alerts.close(at(200)).await;
    let server = Server::of(dir.path(), config(dir.path(), vec![rule(0)], slack.settings()), at(201));
    for seconds in 201..300 {
        server.hear(at(seconds)).await;
        server.evaluate(at(seconds)).await;
        server.deliver(at(seconds)).await;
    }
    assert_eq!(slack.titles().len(), 2);
    // It comes back. What its first seconds say is not yet what there is.
    for seconds in 300..355 {
        server.step(at(seconds)).await;
    }
    server.deliver(at(355)).await;
    assert_eq!(slack.titles()[2..], ["collector-silent: resolved"]);
    assert_eq!(server.state(0), "no_data");
    for seconds in 355..375 {
        server.step(at(seconds)).await;
    }
    server.deliver(at(375)).await;
    assert_eq!(slack.titles()[3..], ["events: resolved"]);
    let states: Vec<String> = server.recorded(at(380)).await.into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["firing", "no_data", "firing", "resolved", "resolved"]);
}

#[tokio::test]
async fn clocks_that_are_set_neither_stop_nor_hasten_a_rule() {
    for hours in [-1, 1] {
        let dir = tempfile::tempdir().unwrap();
        let slack = FakeSlack::start(&[]).await;
        let server = Server::open(dir.path(), vec![rule(60)], &slack, at(0)).await;
        let set = |seconds: i64| {
            let now = at(seconds);
            Now { wall_ns: now.wall_ns + if seconds < 15 { 0 } else { hours * 3600 * S }, ..now }
        };
        for seconds in 1..70 {
            if seconds == 5 {
                happen(dir.path(), "a");
            }
            server.step(set(seconds)).await;
        }
        server.deliver(set(70)).await;
        assert_eq!((server.state(0), slack.titles()), ("pending".into(), vec![]));
        for seconds in 70..82 {
            server.step(set(seconds)).await;
        }
        server.deliver(set(82)).await;
        assert_eq!(slack.titles(), ["events: firing"]);
        let evaluations = server.alerts.overview()[0]["evaluations"].clone();
        assert_eq!((&evaluations["count"], &evaluations["missed"]), (&json!(9), &json!(0)), "{evaluations}");
    }
}

#[tokio::test]
async fn evaluations_that_come_too_late_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    let server = Server::open(dir.path(), vec![rule(60)], &slack, at(0)).await;
    server.step(at(0)).await;
    // An hour passes in which nothing ran: a suspended host, say. It was not held meanwhile.
    server.step(at(3605)).await;
    assert_eq!(server.state(0), "pending");
    let evaluations = server.alerts.overview()[0]["evaluations"].clone();
    assert_eq!((&evaluations["count"], &evaluations["missed"]), (&json!(2), &json!(359)), "{evaluations}");
    assert_eq!(server.state(1), "ok", "the collector slept as long");
    server.step(at(3610)).await;
    assert_eq!(server.alerts.figures().rules[0].evaluations, 3, "in step again");
}

#[tokio::test]
async fn a_broken_rule_says_so_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    let broken = Rule { name: "broken".into(), sql: "SELECT * FROM hit".into(), ..rule(60) };
    let server = Server::open(dir.path(), vec![broken.clone(), rule(0)], &slack, at(0)).await;
    server.step(at(0)).await;
    let overview = server.alerts.overview();
    assert_eq!((&overview[0]["state"], &overview[1]["state"]), (&json!("failed"), &json!("firing")));
    assert!(overview[0]["error"].as_str().unwrap().contains("hit"), "{overview}");
    assert_eq!(server.alerts.health()["failing"][0]["rule"], "broken");
    let fails = overview.as_array().unwrap().iter().find(|rule| rule["name"] == "rule-fails").unwrap();
    assert_eq!((&fails["state"], &fails["alerts"][0]["labels"]), (&json!("firing"), &json!({ "rule": "broken" })));
    for seconds in 1..100 {
        server.step(at(seconds)).await;
    }
    server.deliver(at(100)).await;
    assert_eq!(slack.titles(), ["events: firing", "rule-fails: firing"]);
    server.alerts.close(at(100)).await;
    let server = Server::open(dir.path(), vec![rule(0)], &slack, at(101)).await;
    server.deliver(at(102)).await;
    assert_eq!(slack.titles()[2..], ["rule-fails: resolved"], "mended by taking it away");
}

/// Answers as workers do that have too much to do.
struct Busy;

impl Ask for Busy {
    async fn rows(&self, _: &str) -> Result<Vec<arrow::array::RecordBatch>, hitscope_engine::question::Refusal> {
        Err(hitscope_engine::question::Refusal::new(Kind::Busy, "too many queries at once"))
    }
}

#[tokio::test]
async fn a_rule_that_cannot_be_evaluated_is_not_firing_and_told_of_only_when_it_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    let server = Server::open(dir.path(), vec![rule(60)], &slack, at(0)).await;
    for seconds in 0..300 {
        server.beat(at(seconds)).await;
        server.alerts.evaluate(&Busy, &|| at(seconds)).await;
    }
    assert_eq!(server.state(0), "failed");
    server.deliver(at(300)).await;
    assert_eq!(slack.titles(), [""; 0]);
    server.beat(at(301)).await;
    server.deliver(at(301)).await;
    assert_eq!(slack.titles(), ["rule-fails: firing"]);
    assert_eq!(server.alerts.figures().rules[0].failures, 30);
    // One evaluation that succeeds is enough; and the rule's alerts begin now.
    server.step(at(310)).await;
    server.deliver(at(312)).await;
    assert_eq!(slack.titles(), ["rule-fails: firing", "rule-fails: resolved"]);
    assert_eq!(server.state(0), "pending");
}

#[tokio::test]
async fn too_many_rows_are_an_alert_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    let sql = "SELECT 'x' || CAST(value AS VARCHAR) AS name FROM generate_series(1, 150)";
    let many = Rule { name: "many".into(), sql: sql.into(), ..rule(0) };
    let server = Server::open(dir.path(), vec![many], &slack, at(0)).await;
    for seconds in 0..30 {
        server.step(at(seconds)).await;
    }
    server.deliver(at(30)).await;
    assert_eq!(slack.titles(), ["many: firing (100 alerts)", "rule-overflow: firing"]);
    assert_eq!(server.alerts.figures().rules[0].left_out, 150);
}

#[tokio::test]
async fn a_folder_that_takes_no_writes_shows_alerts_and_tells_nobody() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    // A file where a folder should be: not even root can write there.
    fs::write(dir.path().join("server"), "")?;
    let server = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    server.step(at(1)).await;
    assert_eq!(server.state(0), "firing");
    server.deliver(at(2)).await;
    assert_eq!(slack.titles(), [""; 0]);
    let health = server.alerts.health();
    assert!(health["why_not"].as_str().unwrap().contains("cannot make sure"), "{health}");
    Ok(())
}

#[tokio::test]
async fn a_table_that_takes_no_rows_is_told_and_holds_up_no_message() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "a");
    fs::create_dir_all(dir.path().join("server/open"))?;
    fs::write(dir.path().join("server/open/alerts"), "")?;
    let server = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    server.step(at(1)).await;
    server.deliver(at(2)).await;
    assert_eq!(slack.titles(), ["events: firing"]);
    assert!(server.alerts.health()["troubles"].to_string().contains("not recorded"), "{}", server.alerts.health());
    // It comes to the table when that can be written.
    fs::remove_file(dir.path().join("server/open/alerts"))?;
    for seconds in 3..20 {
        server.hear(at(seconds)).await;
    }
    assert_eq!(server.recorded(at(20)).await, rows(&[("firing", "sent")]));
    Ok(())
}

#[tokio::test]
async fn a_panic_is_counted_and_the_work_begins_anew() {
    let (panics, runs) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = async || assert!(runs.fetch_add(1, Ordering::Relaxed) >= 2, "the work breaks down");
    until_it_ends(work, Duration::from_millis(1), &panics).await;
    assert_eq!((panics.into_inner(), runs.into_inner()), (2, 3));
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    let open = |rules| Alerts::open(config(dir.path(), rules, Default::default()), at(0));
    assert!(matches!(open(vec![rule(0), rule(1)]), Err(Error::Name(_))));
    assert!(matches!(open(vec![Rule { name: "rule-fails".into(), ..rule(0) }]), Err(Error::Name(_))));
    let hasty = Rule { interval: Span(Duration::from_millis(10)), ..rule(0) };
    assert!(matches!(open(vec![hasty]), Err(Error::Interval(_))));
    fs::create_dir(dir.path().join("server")).unwrap();
    fs::write(dir.path().join("server/alerts.json"), "{").unwrap();
    let server = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    assert!(server.alerts.health()["troubles"][0].as_str().unwrap().contains("alerts.json"));
    assert!(dir.path().join("server/alerts.json.broken").exists());
    assert_eq!(server.alerts.health()["telling"], true);
}

#[tokio::test]
async fn the_state_of_an_earlier_version_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    happen(dir.path(), "b");
    fs::create_dir(dir.path().join("server")).unwrap();
    let labels = json!({ "service": "a" });
    let change = json!({
        "time_ns": at(-60).wall_ns, "rule": "events", "severity": "critical", "state": "firing", "labels": labels,
        "value": 1.0, "since_ns": at(-60).wall_ns, "tell": true, "message": "events is firing: service=a, value 1",
    });
    let state = json!({
        "alerts": [{ "rule": "events", "labels": labels, "value": 1.0, "state": "firing", "since_ns": at(-60).wall_ns }],
        "outbox": {
            "letters": [{ "message": { "text": "events: firing", "channel": "#ops" }, "changes": [change], "recorded": false }],
            "failed": 3, "not_before_ns": at(30).wall_ns, "error": "no",
        },
        "unrecorded": [[change, "none"]],
    });
    fs::write(dir.path().join("server/alerts.json"), state.to_string()).unwrap();
    let server = Server::open(dir.path(), vec![rule(0)], &slack, at(0)).await;
    server.step(at(1)).await;
    assert_eq!(server.deliver(at(2)).await, None);
    assert_eq!(slack.titles(), ["events: firing", "events: firing", "events: resolved"]);
}
