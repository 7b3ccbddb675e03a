//! Alerts that tell the truth: of several servers, with a collector that stops, over a copied folder.

use std::{fs, path::Path, process::Command};

use hitscope_tests::{
    Daemon, host::binary, host::free_port, http, needs_probes, postgres::succeed, process::signal, server::Server,
    slack::FakeSlack, wait_until,
};
use serde_json::Value;

/// Has a row while the collector writes, and none some time after.
const SQL: &str =
    "SELECT count(*) AS value FROM processes WHERE time > now() - INTERVAL '20 seconds' HAVING count(*) > 0";
const SILENT: &str = "[alerts]\ncollector_silent = \"10s\"\n";

/// A `hitscope serve` of its own.
struct Served {
    server: Server,
    address: String,
}

impl Served {
    fn start(folder: &Path, data_dir: &Path) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", &address, "--config"]).arg(folder.join("hitscope.toml"));
        command.arg("--data-dir").arg(data_dir);
        let mut server = Server::start(&mut command, libc::SIGTERM, &folder.join("log"));
        server.ready(|| http::get(&address, "/healthz"));
        Self { server, address }
    }

    fn alerts(&self) -> Value {
        http::get(&self.address, "/api/v1/alerts").expect("an answer").json()
    }

    /// Whether it tells people, once it knows.
    fn tells(&self) -> bool {
        wait_until("it knows whether it tells", || {
            let alerts = self.alerts();
            (alerts["why_not"] != "it is starting").then(|| alerts["telling"] == true)
        })
    }

    fn waits_for_state(&self, rule: usize, state: &str) {
        wait_until(state, || (self.alerts()["rules"][rule]["state"] == state).then_some(()));
    }
}

#[test]
fn one_server_tells_and_only_what_is_so() {
    needs_probes!();
    let slack = FakeSlack::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rule = format!("[[rules]]\nname = \"written\"\nsql = \"{SQL}\"\ninterval = \"1s\"\n");
    let config = format!("[slack]\nwebhook_url = \"{}\"\n{SILENT}{rule}", slack.url);
    fs::write(folder.path().join("hitscope.toml"), config).expect("the configuration");
    let texts = |count| wait_until("a message comes", || Some(slack.texts()).filter(|texts| texts.len() >= count));
    let mut daemon = Daemon::prepare("").with_arguments(&["--no-serve"]);
    daemon.run();

    let first = Served::start(folder.path(), daemon.data_dir());
    wait_until("it tells", || first.tells().then_some(()));
    let second = Served::start(folder.path(), daemon.data_dir());
    for served in [&first, &second] {
        served.waits_for_state(0, "firing");
    }
    let alerts = second.alerts();
    assert_eq!(alerts["telling"], false);
    assert!(alerts["why_not"].as_str().expect("a reason").contains(&first.server.pid().to_string()), "{alerts}");
    assert_eq!(texts(1), ["written: firing"]);

    // Once that is in the table, it is known to have been told.
    daemon.wait_for("SELECT * FROM alerts WHERE state = 'firing' AND delivery = 'sent'");
    // The first dies, the second takes over what it knew.
    signal(first.server.pid(), libc::SIGKILL);
    wait_until("the second tells", || second.tells().then_some(()));
    second.waits_for_state(0, "firing");

    // The collector stands still, and goes on.
    signal(daemon.pid(), libc::SIGSTOP);
    assert_eq!(texts(2), ["written: firing", "collector-silent: firing"]);
    second.waits_for_state(0, "no_data");
    signal(daemon.pid(), libc::SIGCONT);
    assert_eq!(texts(3)[2], "collector-silent: resolved");
    second.waits_for_state(0, "firing");
    daemon.settle();
    assert_eq!(slack.texts().len(), 3, "{:?}", slack.texts());

    // It dies.
    daemon.kill();
    assert_eq!(texts(4)[3], "collector-silent: firing");
    second.waits_for_state(0, "no_data");
    wait_until("nothing speaks for the alert any more", || daemon.query(SQL).is_empty().then_some(()));
    let turns = || second.alerts()["rules"][0]["evaluations"]["no_data"].as_u64();
    let before = turns();
    wait_until("the rule has had its turn since", || (turns() > before.map(|turns| turns + 2)).then_some(()));
    second.waits_for_state(0, "no_data");
    drop(second);
    let recorded = "SELECT DISTINCT state FROM alerts WHERE rule = 'written' ORDER BY state";
    let states: Vec<Value> = daemon.query(recorded).iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["firing", "no_data"]);

    // A copy is looked at, and is then to take the place of the original.
    let copy = folder.path().join("copy");
    succeed(Command::new("cp").arg("-a").arg(daemon.data_dir()).arg(&copy));
    let served = Served::start(folder.path(), &copy);
    assert!(!served.tells());
    wait_until("its rules had their turn", || {
        (served.alerts()["rules"][0]["evaluations"]["no_data"].as_u64() > Some(2)).then_some(())
    });
    let status = http::get(&served.address, "/api/v1/status").expect("an answer").json();
    assert!(status["alerts"]["troubles"].to_string().contains("hitscope alerts adopt"), "{status}");
    let metrics = http::get(&served.address, "/metrics").expect("an answer").body;
    assert!(metrics.contains("\nhitscope_alerts_telling 0\n"), "{metrics}");
    succeed(Command::new(binary()).args(["alerts", "adopt", "--data-dir"]).arg(&copy));
    wait_until("the copy tells", || served.tells().then_some(()));
    let metrics = http::get(&served.address, "/metrics").expect("an answer").body;
    assert!(metrics.contains("\nhitscope_alerts_telling 1\n"), "{metrics}");
    assert_eq!(slack.texts().len(), 4, "{:?}", slack.texts());
}
