use std::{collections::VecDeque, io, net::SocketAddr};

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

use crate::testing::S;

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
        slack,
        public_url: Some("https://hitscope.example".into()),
        history: hitscope_history::Settings::keep_all(),
    }
}

/// One more event: an odd number of them is an alert, an even number none.
fn happen(data_dir: &Path, service: &str) {
    let mut writer =
        Writer::open(data_dir, "db1", &[tables::Event::table()], hitscope_history::Settings::keep_all()).unwrap().0;
    let event = tables::Event {
        time: crate::testing::CUBE,
        kind: "oom".into(),
        pid: 0,
        service: service.into(),
        detail: "killed".into(),
    };
    writer.append(vec![event]);
    writer.flush(crate::testing::CUBE.unsigned_abs()).unwrap();
}

fn catalog(data_dir: &Path) -> Catalog {
    Catalog::open(data_dir, Options::default()).unwrap()
}

/// State and delivery of the rows of the table `alerts`, oldest first.
async fn recorded(alerts: &Alerts, catalog: &Catalog, now_ns: i64) -> Vec<(String, String)> {
    alerts.flush(now_ns);
    let answer = catalog.query("SELECT CAST(state AS VARCHAR) AS state, CAST(delivery AS VARCHAR) AS delivery FROM alerts ORDER BY time, rule, labels").await.unwrap();
    let mut rows = Vec::new();
    for batch in &answer.batches {
        let text = |index: usize| arrow::compute::cast(batch.column(index), &arrow::datatypes::DataType::Utf8).unwrap();
        let (states, deliveries) = (text(0), text(1));
        for row in 0..batch.num_rows() {
            rows.push((
                states.as_string::<i32>().value(row).to_owned(),
                deliveries.as_string::<i32>().value(row).to_owned(),
            ));
        }
    }
    rows
}

fn rows(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(state, delivery)| ((*state).to_owned(), (*delivery).to_owned())).collect()
}

const NOW: i64 = crate::testing::CUBE;

#[tokio::test]
async fn an_alert_from_the_first_row_to_the_last_message() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[]).await;
    let catalog = catalog(dir.path());
    let alerts = Alerts::open(config(dir.path(), vec![rule(60)], slack.settings()), NOW).unwrap();
    alerts.evaluate(&catalog, NOW).await;
    assert_eq!(alerts.overview()[0]["state"], "ok");

    happen(dir.path(), "<db>");
    alerts.evaluate(&catalog, NOW + 5 * S).await;
    assert_eq!(alerts.overview()[0]["state"], "ok", "it is not due yet");
    alerts.evaluate(&catalog, NOW + 10 * S).await;
    assert_eq!(alerts.overview()[0]["state"], "pending");
    assert_eq!(alerts.deliver(NOW + 10 * S).await, None);
    alerts.evaluate(&catalog, NOW + 70 * S).await;
    assert_eq!(alerts.deliver(NOW + 70 * S).await, None);
    let firing = slack.taken.lock().unwrap()[0].clone();
    assert_eq!((&firing["channel"], &firing["text"]), (&json!("#ops"), &json!("events: firing")));
    let text = firing["attachments"][0].to_string();
    for part in ["service=&lt;db&gt;: 1", "critical", "<https://hitscope.example|open hitscope>"] {
        assert!(text.contains(part), "{part} in {text}");
    }

    happen(dir.path(), "<db>");
    alerts.evaluate(&catalog, NOW + 80 * S).await;
    assert_eq!(alerts.deliver(NOW + 80 * S).await, None);
    assert_eq!(slack.titles(), ["events: firing", "events: resolved"]);
    let expected = rows(&[("pending", "none"), ("firing", "sent"), ("resolved", "sent")]);
    assert_eq!(recorded(&alerts, &catalog, NOW + 90 * S).await, expected);
    assert_eq!(hitscope_engine::views::alerts::read(&catalog, 2).await.unwrap().rows(), 2);
}

#[tokio::test]
async fn neither_a_restart_nor_a_slow_slack_loses_or_doubles_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let slack = FakeSlack::start(&[LIMITED, BROKEN]).await;
    let catalog = catalog(dir.path());
    let open = |now_ns| Alerts::open(config(dir.path(), vec![rule(0)], slack.settings()), now_ns).unwrap();
    happen(dir.path(), "a");
    happen(dir.path(), "b");
    let alerts = open(NOW);
    alerts.evaluate(&catalog, NOW).await;
    let pause = alerts.deliver(NOW).await.unwrap();
    assert!(pause >= Duration::from_secs(30), "{pause:?}");
    // Before the time that Slack asked for, nothing is sent.
    assert!(alerts.deliver(NOW + 29 * S).await.unwrap() > Duration::ZERO);
    assert_eq!(slack.answers.lock().unwrap().len(), 1);
    let health = alerts.health();
    assert_eq!(health["slack"]["waiting"], 1, "{health}");
    drop(alerts);

    let alerts = open(NOW + 31 * S);
    alerts.evaluate(&catalog, NOW + 31 * S).await;
    let pause = alerts.deliver(NOW + 60 * S).await.unwrap();
    drop(alerts);
    let alerts = open(NOW + 60 * S);
    let later = NOW + 60 * S + i64::try_from(pause.as_nanos()).unwrap();
    assert_eq!(alerts.deliver(later).await, None);
    assert_eq!(slack.titles(), ["events: firing (2 alerts)"]);
    drop(alerts);
    let alerts = open(later);
    alerts.evaluate(&catalog, later).await;
    assert_eq!(alerts.deliver(later + 600 * S).await, None);
    assert_eq!(slack.taken.lock().unwrap().len(), 1);
    // Each change is in the table once, with what became of the first attempt.
    let found = recorded(&alerts, &catalog, later).await;
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
    let catalog = catalog(dir.path());
    happen(dir.path(), "a");
    let alerts = Alerts::open(config(dir.path(), vec![rule(0)], slack.settings()), NOW).unwrap();
    alerts.evaluate(&catalog, NOW).await;
    happen(dir.path(), "a");
    alerts.evaluate(&catalog, NOW + 10 * S).await;
    assert_eq!(alerts.deliver(NOW + 10 * S).await, None);
    assert_eq!(slack.titles(), ["events: resolved"]);
    assert_eq!(alerts.health()["slack"]["refused"], 1);
    let found = recorded(&alerts, &catalog, NOW + 10 * S).await;
    assert!(found[0].1.contains("channel_not_found"), "{found:?}");
    assert_eq!(found[1].1, "sent");
}

#[tokio::test]
async fn a_broken_rule_says_so_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(dir.path());
    happen(dir.path(), "a");
    let broken = Rule { name: "broken".into(), sql: "SELECT * FROM hit".into(), ..rule(60) };
    let alerts = Alerts::open(config(dir.path(), vec![broken, rule(0)], Default::default()), NOW).unwrap();
    alerts.evaluate(&catalog, NOW).await;
    let overview = alerts.overview();
    assert_eq!((&overview[0]["state"], &overview[1]["state"]), (&json!("firing"), &json!("firing")));
    assert!(overview[0]["error"].as_str().unwrap().contains("hit"), "{overview}");
    assert_eq!(alerts.health()["failing"][0]["rule"], "broken");
    assert_eq!(recorded(&alerts, &catalog, NOW).await, rows(&[("firing", "none"), ("firing", "none")]));
    assert_eq!(alerts.counts()[1], ("broken".to_owned(), "firing", 1));
    drop(alerts);
    let alerts = Alerts::open(config(dir.path(), Vec::new(), Default::default()), NOW + S).unwrap();
    assert_eq!(recorded(&alerts, &catalog, NOW + S).await.len(), 4, "rules that went are resolved");
}

#[tokio::test]
async fn a_folder_that_takes_no_writes_keeps_alerts_in_memory() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    happen(dir.path(), "a");
    // Files where folders should be: not even root can write there.
    fs::write(dir.path().join("server"), "")?;
    fs::write(dir.path().join("open/alerts"), "")?;
    let alerts = Alerts::open(config(dir.path(), vec![rule(0)], Default::default()), NOW).unwrap();
    alerts.evaluate(&catalog(dir.path()), NOW).await;
    assert_eq!(alerts.overview()[0]["state"], "firing");
    assert_eq!(alerts.health()["troubles"].as_array().unwrap().len(), 2, "{}", alerts.health());
    Ok(())
}

#[test]
fn rules_that_make_no_sense_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let open = |rules| Alerts::open(config(dir.path(), rules, Default::default()), NOW);
    assert!(matches!(open(vec![rule(0), rule(1)]), Err(Error::Name(_))));
    let hasty = Rule { interval: Span(Duration::from_millis(10)), ..rule(0) };
    assert!(matches!(open(vec![hasty]), Err(Error::Interval(_))));
    fs::create_dir(dir.path().join("server")).unwrap();
    fs::write(dir.path().join("server/alerts.json"), "{").unwrap();
    let alerts = open(vec![rule(0)]).unwrap();
    assert!(alerts.health()["troubles"][0].as_str().unwrap().contains("alerts.json"));
    assert!(dir.path().join("server/alerts.json.broken").exists());
}
