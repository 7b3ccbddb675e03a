//! The API of a running hitscope, and its alerts.

use hitscope_tests::{
    Daemon, Postgres, Via, calls::assert_tables_agree, http, needs_probes, number, slack::FakeSlack, wait_until,
};
use serde_json::json;

#[test]
fn the_api_agrees_with_the_command_line() {
    needs_probes!();
    let postgres = Postgres::start();
    let mut daemon = Daemon::start();
    for number in 0..50 {
        postgres.psql_via(if number % 2 == 0 { Via::Socket } else { Via::Tcp }, "select 1 as asked");
    }
    daemon.settle();
    assert_eq!(daemon.get("/healthz").body, "ok\n");

    let status = daemon.get("/api/v1/status").json();
    assert_eq!((&status["data"], &status["collector"]["pid"]), (&"live".into(), &daemon.pid().into()));
    assert_eq!(status["alerts"]["rules"], 0);

    let sql = "SELECT side, operation, operation_id, sum(calls) AS calls, sum(total_ns) AS total_ns FROM operations \
               WHERE protocol = 'postgres' GROUP BY side, operation, operation_id ORDER BY side, operation";
    let answer = http::post(daemon.address(), "/api/v1/query", &json!({ "sql": sql })).expect("an answer").json();
    assert_eq!(answer, json!(daemon.query(sql)));
    assert_eq!(answer.as_array().map(Vec::len), Some(2), "{answer}");

    for side in ["server", "client"] {
        let (hits, errors) = assert_tables_agree(&daemon, side);
        assert_eq!((hits, errors), (50, 0));
        let hitmap = daemon.get(&format!("/api/v1/hitmap?from=-10m&to=now&protocol=postgres&side={side}")).json();
        let cells = hitmap["cells"]["hits"].as_array().expect("cells");
        assert_eq!(cells.iter().map(number).sum::<u64>(), hits, "{hitmap}");
        let hits = daemon.get(&format!("/api/v1/hits?from=-10m&to=now&side={side}&limit=10000")).json();
        let weights = hits.as_array().expect("rows").iter().map(|row| number(&row["weight"])).sum::<u64>();
        assert_eq!(weights, 50);
    }
    let metrics = daemon.get("/metrics").body;
    assert!(metrics.contains("hitscope_probe_running{probe=\"sockets\"} 1"), "{metrics}");
    assert!(metrics.contains("hitscope_seen_total{name=\"hits\"}"), "{metrics}");

    let refused =
        http::post(daemon.address(), "/api/v1/query", &json!({ "sql": "DROP TABLE hits" })).expect("an answer");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(daemon.get("/api/v1/nothing").status, 404);
    assert!(daemon.get("/").body.contains("<title>"));
}

/// A rule whose state statements decide, so that no time has to pass.
const RULE: &str = r#"
[[rules]]
name = "fired"
sql = """
SELECT count(*) AS value FROM operations WHERE side = 'server' AND operation IN ('select ? as fire', 'select ? as resolve')
HAVING sum(CASE WHEN operation = 'select ? as fire' THEN 1 ELSE 0 END) > 0
   AND sum(CASE WHEN operation = 'select ? as resolve' THEN 1 ELSE 0 END) = 0"""
interval = "1s"
hold = "1s"
severity = "critical"
"#;

#[test]
fn an_alert_fires_once_and_resolves_across_a_restart() {
    needs_probes!();
    let slack = FakeSlack::start();
    let postgres = Postgres::start();
    let mut daemon = Daemon::with(&format!("[slack]\nwebhook_url = \"{}\"\n{RULE}", slack.url));
    let state = |daemon: &Daemon| daemon.get("/api/v1/alerts").json()["rules"][0]["state"].clone();
    wait_until("the rule is evaluated", || (state(&daemon) == "ok").then_some(()));
    assert_eq!(slack.texts(), [""; 0]);

    postgres.psql("select 1 as fire");
    wait_until("a message comes", || (!slack.texts().is_empty()).then_some(()));
    assert_eq!(state(&daemon), "firing");
    assert!(daemon.stop().expect("it ends in time").success());
    daemon.run();
    wait_until("the rule is evaluated", || (state(&daemon) == "firing").then_some(()));

    postgres.psql("select 1 as resolve");
    wait_until("a second message comes", || (slack.texts().len() > 1).then_some(()));
    daemon.settle();
    let texts = slack.texts();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("firing") && texts[1].contains("resolved"), "{texts:?}");
    let changes = daemon.wait_for("SELECT state, severity, delivery FROM alerts WHERE state = 'resolved'");
    assert_eq!(changes.len(), 1, "{changes:?}");
    let fired = daemon.query("SELECT state, severity, delivery FROM alerts WHERE state = 'firing'");
    assert_eq!(fired, [json!({ "state": "firing", "severity": "critical", "delivery": "sent" })]);
    for output in [daemon.log(), daemon.get("/api/v1/status").body, daemon.get("/api/v1/alerts").body] {
        assert!(!output.contains("/services/"), "the webhook's URL was told: {output}");
    }
}
