use std::{net::SocketAddr, path::Path, time::Duration};

use hitscope_config::{ListenError, Server as Settings};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::routes::ROUTES;
use crate::{
    Config, Error, serve,
    testing::{CUBE, CUBE_LENGTH, S, cell, close, hit, host, leave_open, process},
};

/// The built hitscope-server, which lies above the runners of tests.
fn program() -> std::path::PathBuf {
    let runner = std::env::current_exe().unwrap();
    runner.ancestors().nth(2).unwrap().join("hitscope-server")
}

struct Server {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), Error>>,
    client: Client,
    config: Config,
    reload: mpsc::UnboundedSender<Config>,
}

impl Server {
    async fn start(data_dir: &Path, settings: Settings) -> Self {
        hitscope_slack::Slack::with_token(hitscope_base::Secret::new("installs-the-provider")).unwrap();
        let config = Config {
            program: program(),
            data_dir: data_dir.into(),
            host: "db1".into(),
            server: settings,
            ..Config::default()
        };
        let (end, ending) = oneshot::channel::<()>();
        let (listening, address) = oneshot::channel();
        let (reload, reloads) = mpsc::unbounded_channel();
        let ended = tokio::spawn(serve(config.clone(), |address| listening.send(address).unwrap(), reloads, async {
            ending.await.unwrap_or_default()
        }));
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { address: address.await.unwrap(), end: Some(end), ended, client, config, reload }
    }

    async fn on(data_dir: &Path) -> Self {
        Self::start(data_dir, Settings { listen: "127.0.0.1:0".into(), ..Settings::default() }).await
    }

    async fn with_token(data_dir: &Path) -> Self {
        let token = Some(hitscope_base::Secret::new("s3cret"));
        Self::start(data_dir, Settings { listen: "127.0.0.1:0".into(), token, ..Settings::default() }).await
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    fn query(&self, sql: &str) -> RequestBuilder {
        self.client.post(format!("http://{}/api/v1/query", self.address)).json(&json!({ "sql": sql }))
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}: {}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    async fn stop(mut self) {
        drop(self.end.take());
        self.ended.await.unwrap().unwrap();
    }
}

async fn status_and_json(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

const RANGE: &str = "from=2023-11-14T22:15:00Z&to=2023-11-14T22:25:00Z";

#[tokio::test]
async fn queries_give_rows_as_json_or_arrow() {
    let dir = tempfile::tempdir().unwrap();
    close(dir.path(), "db1", vec![hit(CUBE + 1, "a", 10)]);
    let server = Server::on(dir.path()).await;
    let sql = "SELECT end_time, duration_ns, operation_id, container, date FROM hits";
    let (status, rows) = status_and_json(server.query(sql)).await;
    let row = json!({
        "end_time": "2023-11-14T22:15:00.000000001Z", "duration_ns": 10, "operation_id": "18446744073709551614",
        "container": null, "date": "2023-11-14",
    });
    assert_eq!((status, rows), (200, json!([row])));
    let arrow = server.query(sql).header("accept", "application/vnd.apache.arrow.stream").send().await.unwrap();
    assert_eq!(header(&arrow, "content-type"), "application/vnd.apache.arrow.stream");
    let bytes = arrow.bytes().await.unwrap();
    let read = arrow::ipc::reader::StreamReader::try_new(&bytes[..], None).unwrap();
    assert_eq!(read.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1);
    assert_eq!(status_and_json(server.query("SELECT * FROM hits WHERE false")).await, (200, json!([])));

    let (status, failure) = status_and_json(server.query("SELECT * FROM hit")).await;
    assert_eq!(status, 400);
    assert!(failure["error"].as_str().unwrap().contains("hit") && failure["hint"].as_str().unwrap().contains("hits"));
    let (status, failure) = status_and_json(server.query("DROP TABLE hits")).await;
    assert!(status == 400 && failure["error"].as_str().unwrap().contains("read-only"));
    let text = server.client.post(format!("http://{}/api/v1/query", server.address)).body("SELECT 1");
    let (status, failure) = status_and_json(text).await;
    assert!(status == 415 && failure["hint"].as_str().unwrap().contains("application/json"));
    server.stop().await;
}

#[tokio::test]
async fn the_hitmap_counts_every_hit_once() {
    let dir = tempfile::tempdir().unwrap();
    close(
        dir.path(),
        "db1",
        vec![cell(CUBE, "a", 2000, 3), cell(CUBE, "b", 2000, 5), cell(CUBE + 5 * S, "a", u64::MAX, 7)],
    );
    let _open = leave_open(dir.path(), "db1", vec![cell(CUBE + CUBE_LENGTH, "a", 2000, 11)]);
    let server = Server::on(dir.path()).await;
    let map = server.json(&format!("/api/v1/hitmap?{RANGE}")).await;
    assert_eq!((map["from"].as_i64(), map["step_ms"].as_i64()), (Some(CUBE / 1_000_000), Some(5000)));
    assert_eq!(map["newest"], (CUBE + CUBE_LENGTH) / 1_000_000);
    let cells = &map["cells"];
    let column = |name: &str| cells[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(column("hits").iter().sum::<u64>(), 26);
    assert_eq!(column("errors").iter().sum::<u64>(), 11);
    for index in 0..4 {
        let series = &map["series"][column("series")[index] as usize];
        let bucket = &map["buckets"][column("bucket")[index] as usize];
        let (service, window, hits) =
            (series["service"].as_str().unwrap(), column("window")[index], column("hits")[index]);
        assert!([("a", 0, 3), ("b", 0, 5), ("a", 1, 7), ("a", 60, 11)].contains(&(service, window, hits)));
        assert_eq!(bucket[1].is_null(), hits == 7, "{bucket}");
        assert_eq!((&series["host"], &series["side"]), (&json!("db1"), &json!("server")));
    }
    let minutes =
        server.json(&format!("/api/v1/hitmap?{RANGE}&step=1m&service=a&side=server&protocol=postgres&host=db1")).await;
    assert_eq!(minutes["step_ms"], 60_000);
    assert_eq!(minutes["cells"]["hits"].as_array().unwrap().len(), 3);
    assert_eq!(server.json(&format!("/api/v1/hitmap?{RANGE}&service=none")).await["newest"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn hits_are_filtered_and_the_slowest_come_first() {
    let dir = tempfile::tempdir().unwrap();
    close(dir.path(), "db1", vec![hit(CUBE, "a", 10), hit(CUBE + S, "a", 31), hit(CUBE + 2 * S, "b", 20)]);
    let server = Server::on(dir.path()).await;
    let durations = async |filter: &str| {
        let rows = server.json(&format!("/api/v1/hits?{RANGE}{filter}")).await;
        rows.as_array().unwrap().iter().map(|row| row["duration_ns"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(durations("").await, [31, 20, 10]);
    assert_eq!(durations("&limit=1").await, [31]);
    assert_eq!(durations("&min_ns=20&max_ns=31").await, [20]);
    assert_eq!(durations("&service=a&status=error").await, [31]);
    assert_eq!(durations("&operation_id=18446744073709551614&pid=7").await, [31, 20, 10]);
    assert_eq!(durations("&operation_id=1").await, [0; 0]);
    assert_eq!(durations("&service=a%27%20OR%20true--").await, [0; 0]);
    server.stop().await;
}

#[tokio::test]
async fn processes_of_a_moment_and_one_over_time() {
    let dir = tempfile::tempdir().unwrap();
    let sample = |index: i64| {
        [
            process(CUBE + index * 5 * S, 1, 100 + index.unsigned_abs(), false),
            process(CUBE + index * 5 * S, 2, 1, false),
        ]
    };
    let mut rows: Vec<_> = (1..=12).flat_map(sample).collect();
    rows.push(process(CUBE + 7 * S, 3, 500, true));
    close(dir.path(), "db1", rows);
    close(dir.path(), "db1", (1..=12).map(|index| host(CUBE + index * 5 * S)).collect());
    let server = Server::on(dir.path()).await;
    let pids = |moment: &Value| {
        moment["processes"].as_array().unwrap().iter().map(|row| row["pid"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // In the interval that ends at 22:15:10, a process lived and died.
    let moment = server.json("/api/v1/processes?at=2023-11-14T22:15:06Z").await;
    assert_eq!(pids(&moment), [3, 1, 2]);
    assert_eq!(
        (moment["time"].as_i64(), moment["hosts"].as_array().unwrap().len()),
        (Some(CUBE / 1_000_000 + 10_000), 1)
    );
    assert_eq!(pids(&server.json("/api/v1/processes?at=2023-11-14T22:15:05Z&host=db1").await), [1, 2]);
    // After the last sample, and long after it, the last one.
    for at in ["2023-11-14T22:16:02Z", "now"] {
        let moment = server.json(&format!("/api/v1/processes?at={at}")).await;
        assert_eq!((pids(&moment), moment["time"].as_i64()), (vec![1, 2], Some(CUBE / 1_000_000 + 60_000)), "{at}");
    }
    let none = server.json("/api/v1/processes?at=now&host=db9").await;
    assert_eq!((&none["time"], &none["processes"]), (&Value::Null, &json!([])));

    let start = "2023-11-14T22:14:58.999999877Z";
    let history = server.json(&format!("/api/v1/processes/history?pid=1&start_time={start}&{RANGE}&step=30s")).await;
    let columns = &history["columns"];
    assert_eq!(columns["time"], json!([CUBE / 1_000_000, CUBE / 1_000_000 + 30_000]));
    assert_eq!(columns["cpu_user_ns"], json!([6 * 100 + 21, 6 * 100 + 57]));
    assert_eq!(columns["rss_bytes"], json!([1106, 1112]));
    assert_eq!((&columns["read_bytes"], &columns["written_bytes"]), (&json!([null, null]), &json!([18, 18])));
    let other = server.json(&format!("/api/v1/processes/history?pid=1&start_time=2023-11-14T22:14:59Z&{RANGE}")).await;
    assert_eq!(other["columns"]["time"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn the_status_tells_no_data_from_old_and_live_data() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path()).await;
    let status = server.json("/api/v1/status").await;
    assert_eq!((&status["data"], &status["collector"]), (&json!("none"), &Value::Null));
    assert!(status["server"]["rss_bytes"].as_u64().unwrap() > 0);
    assert_eq!(server.json("/api/v1/cubes").await["tables"], json!([]));

    close(dir.path(), "db1", vec![hit(CUBE, "a", 10), hit(CUBE + CUBE_LENGTH, "a", 10)]);
    assert_eq!(server.json("/api/v1/status").await["data"], "stale");
    let cubes = server.json("/api/v1/cubes").await;
    let from = CUBE / 1_000_000;
    assert_eq!(cubes["tables"][0]["ranges"], json!([[from, from + 600_000]]));
    assert_eq!((&cubes["tables"][0]["table"], &cubes["tables"][0]["files"]), (&json!("hits"), &json!(2)));

    let mut written = hitscope_history::status::Status {
        host: "db1".into(),
        updated_ns: hitscope_base::time::now_ns().unsigned_abs(),
        lost: [("ring_full".to_owned(), 3)].into(),
        ..Default::default()
    };
    let access = hitscope_history::Settings::default().access;
    hitscope_history::status::write(dir.path(), &written, access).unwrap();
    let status = server.json("/api/v1/status").await;
    assert_eq!((&status["data"], &status["collector"]["lost"]["ring_full"]), (&json!("live"), &json!(3)));
    written.updated_ns -= 60_000_000_000;
    hitscope_history::status::write(dir.path(), &written, access).unwrap();
    let status = server.json("/api/v1/status").await;
    assert_eq!((&status["data"], &status["stale_since"]), (&json!("stale"), &json!(written.updated_ns / 1_000_000)));
    let metrics = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("hitscope_lost_total{reason=\"ring_full\"} 3\n"), "{metrics}");
    std::fs::write(dir.path().join("status.json"), "{").unwrap();
    let status = server.json("/api/v1/status").await;
    assert!(status["server"]["notes"][0].as_str().unwrap().contains("status.json"), "{status}");
    server.stop().await;
}

#[tokio::test]
async fn the_live_stream_sends_each_second_and_ends_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let now = hitscope_base::time::now_ns() / (5 * S) * (5 * S);
    let _open = leave_open(dir.path(), "db1", vec![cell(now, "a", 2000, 3)]);
    let server = Server::on(dir.path()).await;
    let mut stream = server.get("/api/v1/live?service=a").send().await.unwrap();
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    let mut text = String::new();
    while text.matches("data: ").count() < 2 || !text.ends_with("\n\n") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    let event: Value = serde_json::from_str(text.lines().next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        (&event["step_ms"], &event["cells"]["hits"], &event["data"]),
        (&json!(5000), &json!([3]), &json!("stale"))
    );
    // Without the end of the stream, the server would not end in time.
    tokio::time::timeout(Duration::from_secs(4), server.stop()).await.unwrap();
}

#[tokio::test]
async fn every_route_is_documented_and_takes_its_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path()).await;
    let document = server.json("/api/v1/openapi.json").await;
    let documented: usize =
        document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(documented, ROUTES.len());
    for route in ROUTES.iter().filter(|route| route.method == "get") {
        let parameters: Vec<String> =
            route.parameters.iter().map(|parameter| format!("{}={}", parameter.name, parameter.example)).collect();
        let response = server.get(&format!("{}?{}", route.path, parameters.join("&"))).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", route.path);
        assert!(route.content.iter().any(|kind| header(&response, "content-type").starts_with(kind)), "{}", route.path);
        drop(response);
        if !route.parameters.is_empty() {
            let (status, failure) = status_and_json(server.get(&format!("{}?nonsense=1", route.path))).await;
            assert!(status == 400 && failure["error"].is_string(), "{}", route.path);
        }
    }
    for (path, status) in [
        ("/api/v1/hitmap?from=soon", 400),
        ("/api/v1/hitmap?from=now&to=-1h", 400),
        ("/api/v1/none", 404),
        ("/api/v1/query", 405),
    ] {
        let (given, failure) = status_and_json(server.get(path)).await;
        assert!(given == status && failure["error"].is_string(), "{path}: {given} {failure}");
    }
    server.stop().await;
}

#[tokio::test]
async fn other_web_pages_do_not_reach_a_loopback_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path()).await;
    let port = server.address.port();
    let status = async |request: RequestBuilder| request.send().await.unwrap().status().as_u16();
    // Rebinding: a foreign name that resolves to 127.0.0.1.
    assert_eq!(status(server.get("/api/v1/status").header("host", format!("evil.example:{port}"))).await, 403);
    assert_eq!(status(server.get("/healthz").header("host", "evil.example")).await, 403);
    assert_eq!(status(server.get("/api/v1/status").header("host", format!("localhost:{port}"))).await, 200);
    // Forged requests, with and without the header that tells where they come from.
    assert_eq!(status(server.query("SELECT 1").header("origin", "https://evil.example")).await, 403);
    assert_eq!(status(server.query("SELECT 1").header("origin", "null")).await, 403);
    assert_eq!(status(server.query("SELECT 1").header("origin", format!("http://localhost:{port}"))).await, 403);
    assert_eq!(status(server.query("SELECT 1").header("origin", format!("http://127.0.0.1:{port}"))).await, 200);
    assert_eq!(status(server.get("/api/v1/status").header("sec-fetch-site", "cross-site")).await, 403);
    assert_eq!(status(server.get("/api/v1/status").header("sec-fetch-site", "same-origin")).await, 200);
    let link = server.get("/healthz").header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate");
    assert_eq!(status(link).await, 200);
    let answer = server.get("/healthz").send().await.unwrap();
    assert!(header(&answer, "content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    assert!(answer.headers().get("access-control-allow-origin").is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_asked_for_and_remembered_by_a_cookie() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_token(dir.path()).await;
    let (status, failure) = status_and_json(server.get("/api/v1/status")).await;
    assert!(status == 401 && failure["hint"].as_str().unwrap().contains("Bearer"));
    assert_eq!(server.get("/healthz").send().await.unwrap().status(), 200);
    assert_eq!(server.get("/metrics").send().await.unwrap().status(), 401);
    assert_eq!(server.get("/api/v1/status").bearer_auth("s3cret").send().await.unwrap().status(), 200);
    assert_eq!(server.get("/api/v1/status").bearer_auth("s3crew").send().await.unwrap().status(), 401);

    let page = server.get("/hits?from=-1h").header("accept", "text/html").send().await.unwrap();
    assert_eq!((page.status().as_u16(), header(&page, "location")), (303, "/login?next=/hits%3Ffrom%3D-1h"));
    let form = server.get(header(&page, "location")).send().await.unwrap().text().await.unwrap();
    assert!(form.contains("name=\"next\" value=\"/hits?from=-1h\""), "{form}");
    let login = |token: &str| {
        let request = server.client.post(format!("http://{}/login", server.address));
        request.header("content-type", "application/x-www-form-urlencoded").body(format!("token={token}&next=%2Fhits"))
    };
    let wrong = login("guess").send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), header(&wrong, "set-cookie")), (401, ""));
    let right = login("s3cret").send().await.unwrap();
    assert_eq!((right.status().as_u16(), header(&right, "location")), (303, "/hits"));
    let cookie = header(&right, "set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("s3cret"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    assert_eq!(server.get("/api/v1/status").header("cookie", pair).send().await.unwrap().status(), 200);
    assert_eq!(login("s3cret").header("origin", "https://evil.example").send().await.unwrap().status(), 403);
    server.stop().await;
}

#[tokio::test]
async fn a_reload_changes_the_rules_and_a_wrong_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path()).await;
    let names = async || {
        let alerts = server.json("/api/v1/alerts").await;
        let rules = alerts["rules"].as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap().to_owned());
        rules.collect::<Vec<_>>()
    };
    let comes = async |name: &str| {
        for _ in 0..600 {
            if names().await.iter().any(|found| found == name) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    };
    let with = |name: &str| {
        let rule = serde_json::from_value(json!({ "name": name, "sql": "SELECT 1 AS n" })).unwrap();
        Config { rules: vec![rule], ..server.config.clone() }
    };
    server.reload.send(with("first")).unwrap();
    assert!(comes("first").await);
    // Refused, so that the next is what comes.
    let token = Some(hitscope_base::Secret::new("not\na token"));
    let wrong = hitscope_config::Slack { token, ..Default::default() };
    server.reload.send(Config { slack: wrong, ..with("wrong") }).unwrap();
    server.reload.send(with("second")).unwrap();
    assert!(comes("second").await);
    let names = names().await;
    assert!(!names.iter().any(|name| name == "first" || name == "wrong"), "{names:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |settings: Settings| {
        let config = Config { data_dir: dir.path().into(), host: "db1".into(), server: settings, ..Config::default() };
        serve(config, |_| (), mpsc::unbounded_channel().1, async {}).await
    };
    let listening = |listen: &str| Settings { listen: listen.into(), ..Settings::default() };
    let error = start(listening("0.0.0.0:0")).await.unwrap_err();
    assert!(
        matches!(error, Error::Listen(ListenError::Token(_))) && error.to_string().contains("server.token"),
        "{error}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = start(listening(&address)).await.unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("--listen"), "{error}");
    let error = start(listening("7460")).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:7460"), "{error}");
    let public_url = Some("hitscope".into());
    assert!(matches!(start(Settings { public_url, ..listening("127.0.0.1:0") }).await, Err(Error::Setting(_))));
    start(listening("127.0.0.1:0")).await.unwrap();
}
