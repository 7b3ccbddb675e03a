//! The built program's manners: exit statuses, and errors that say what, why and what to do.

mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{Outcome, clean, eventually, free_address, get, hitscope, program, terminate};

#[track_caller]
fn refused(outcome: &Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    for part in parts {
        assert!(outcome.stderr.contains(part), "{part:?} is not in {outcome:?}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    refused(&hitscope(&[]), 2, &["Usage: hitscope"]);
    refused(&hitscope(&["rum"]), 2, &["error: ", "'rum'"]);
    refused(&hitscope(&["query"]), 2, &["error: ", "<SQL>"]);
    refused(&hitscope(&["query", "SELECT 1", "--format", "xml"]), 2, &["possible values: table, csv, json, parquet"]);
    refused(&hitscope(&["run", "--listen", "7460"]), 2, &["such as 127.0.0.1:7460"]);
    refused(&hitscope(&["record", "x", "--duration", "soon"]), 2, &["is not a duration"]);
}

#[test]
fn help_teaches_by_example() {
    for command in ["run", "serve", "check", "status", "query", "record", "replay"] {
        let outcome = hitscope(&[command, "--help"]);
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.stdout.contains("Examples:\n  "), "{outcome:?}");
        assert!(outcome.stdout.contains(&format!("hitscope {command}")), "{outcome:?}");
    }
    assert!(hitscope(&["--help"]).stdout.contains("sudo hitscope run"));
}

#[test]
fn a_broken_configuration_is_1_with_place_and_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hitscope.toml");
    let path = file.to_str().unwrap();
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        hitscope(&["config", "check", path])
    };
    refused(
        &check("[server]\nlisten = \"127.0.0.1:1\"\nlisen = 1\n"),
        1,
        &[&format!("error: {path}:3:1: unknown key `lisen`\n"), "help: did you mean `listen`?"],
    );
    refused(&check("[history]\nmax_age = 5\n"), 1, &[&format!("error: {path}:2:11: ")]);
    refused(&check("[probes]\ndisabled = [\"shed\"]\n"), 1, &["names no probe: shed", "did you mean `sched`?"]);
    refused(&check("[server]\nlisten = \"0.0.0.0:7460\"\n"), 1, &["token"]);
    refused(&check("[slack]\ntoken = \"xoxb-1\"\n"), 1, &["slack.channel is missing"]);
    let rule = "[[rules]]\nname = \"slow\"\nsql = \"SELECT nothing FROM hits\"\n";
    refused(&check(rule), 1, &["the SQL of the rule slow is wrong", "nothing"]);
    refused(&check("[[rules]]\nname = \"wild\"\nsql = \"DROP TABLE hits\"\n"), 1, &["rule wild"]);
    // The same goes for every command that reads it.
    fs::write(&file, "hots = \"a\"").unwrap();
    refused(&hitscope(&["status", "--config", path]), 1, &["did you mean `host`?"]);
    refused(&hitscope(&["status", "--config", "/nonexistent.toml"]), 1, &["cannot read the configuration", "help: "]);
}

#[test]
fn config_check_prints_what_is_in_effect_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hitscope.toml");
    let token = dir.path().join("token");
    fs::write(&token, "xoxb-from-file\n").unwrap();
    let text = format!(
        "host = \"db7\"\n[server]\ntoken = \"hush\"\n[slack]\ntoken_file = {token:?}\nchannel = \"#ops\"\n\
         [[rules]]\nname = \"slow\"\nsql = \"SELECT service, max(duration_ns) FROM hits GROUP BY service\"\n"
    );
    fs::write(&file, text).unwrap();
    let outcome = hitscope(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for part in ["host = \"db7\"", "listen = \"127.0.0.1:7460\"", "max_age = \"30d\"", "name = \"slow\"", "<hidden>"] {
        assert!(outcome.stdout.contains(part), "{part} is not in {outcome:?}");
    }
    assert!(!outcome.stdout.contains("hush") && !outcome.stdout.contains("xoxb"), "{outcome:?}");
}

#[test]
fn check_tells_the_facts_as_json_too() {
    let outcome = hitscope(&["check", "--format", "json"]);
    let facts: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let names: Vec<&str> = facts.as_array().unwrap().iter().map(|fact| fact["name"].as_str().unwrap()).collect();
    for name in ["privileges", "kernel", "btf", "bpf", "perf events", "uprobes", "lockdown", "process ids", "cgroup"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    for fact in facts.as_array().unwrap() {
        let keys: Vec<&str> = fact.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 4, "{fact}");
        assert!(["name", "state", "reason", "mend"].iter().all(|key| keys.contains(key)), "{fact}");
        assert_eq!(fact["state"] == "ok", fact["mend"].is_null(), "{fact}");
    }
    let missing = facts.as_array().unwrap().iter().any(|fact| fact["state"] == "missing");
    assert_eq!(outcome.code, Some(i32::from(missing)), "{outcome:?}");
}

#[test]
fn status_says_when_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let outcome = hitscope(&["status", "--data-dir", path]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.starts_with("not running: "), "{outcome:?}");
    let outcome = hitscope(&["status", "--data-dir", path, "--format", "json"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), "[]\n"));

    fs::write(dir.path().join("status.json"), r#"{"host": "db1", "pid": 4194304, "updated_ns": 1000000000}"#).unwrap();
    let outcome = hitscope(&["status", "--data-dir", path]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains("not running, last seen") && outcome.stdout.contains("db1"), "{outcome:?}");
}

#[test]
fn query_over_an_empty_folder_has_all_tables_and_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let query = |more: &[&str]| hitscope(&[&["query", "--data-dir", dir.path().to_str().unwrap()], more].concat());
    for table in ["hits", "hitmap", "operations", "processes", "syscalls", "sockets", "hosts", "events", "alerts"] {
        let outcome = query(&[&format!("SELECT * FROM {table}"), "--format", "json"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "[]\n"), "{table}: {outcome:?}");
    }
    assert!(query(&["SELECT count(*) AS n FROM hits", "--format", "csv"]).stdout.ends_with("n\n0\n"));
    assert!(query(&["SELECT count(*) AS n FROM hits"]).stdout.contains("| n |"));

    let file = dir.path().join("out.parquet");
    let outcome = query(&["SELECT 1 AS one", "--format", "parquet", "--output", file.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(fs::read(&file).unwrap().starts_with(b"PAR1"));

    refused(&query(&["SELEC 1"]), 1, &["error: the query failed: "]);
    refused(&query(&["SELECT * FROM hit"]), 1, &["hit", "help: the tables are"]);
    refused(&query(&["DELETE FROM hits"]), 1, &["read-only"]);
    let nowhere = dir.path().join("nowhere");
    let outcome = hitscope(&["query", "SELECT 1", "--data-dir", nowhere.to_str().unwrap()]);
    refused(&outcome, 1, &["cannot read the data folder", "--data-dir"]);
    refused(&hitscope(&["query", "SELECT 1", "--data-dir", "s3://bucket/x"]), 1, &["not a local folder"]);
}

#[test]
fn a_rule_can_be_tried() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hitscope.toml");
    let rules = "[[rules]]\nname = \"always\"\nsql = \"SELECT 'db' AS service, 7 AS calls\"\n\
                 [[rules]]\nname = \"never\"\nsql = \"SELECT service FROM hits\"\n";
    fs::write(&file, rules).unwrap();
    let place = ["--config", file.to_str().unwrap(), "--data-dir", dir.path().to_str().unwrap()];
    let test = |more: &[&str]| hitscope(&[&["alerts", "test"], &place[..], more].concat());
    let outcome = test(&["always"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("would fire") && outcome.stdout.contains("service=db, value 7"), "{outcome:?}");
    assert!(test(&["never"]).stdout.contains("would not fire"));
    refused(&test(&["other"]), 1, &["no rule named other", "help: the rules are always, never"]);
    refused(&test(&["always", "--send"]), 1, &["no token and no webhook", "slack.webhook_url"]);
}

#[test]
fn what_is_no_recording_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    fs::write(&file, "not a recording, but long enough to be one").unwrap();
    let data_dir = dir.path().join("data");
    let outcome = hitscope(&["replay", file.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()]);
    refused(&outcome, 1, &["is not a hitscope recording"]);
    assert!(!data_dir.exists());
}

#[test]
fn a_server_alone_serves_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut command = Command::new(program());
    command.args(["serve", "--listen", &address.to_string()]).arg("--data-dir").arg(dir.path());
    let mut server = clean(&mut command).stdout(Stdio::null()).spawn().unwrap();
    eventually("the server answers", || get(address, "/healthz"));
    let second = hitscope(&["serve", "--data-dir", dir.path().to_str().unwrap(), "--listen", &address.to_string()]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("is in use"), "{second:?}");
    terminate(&server);
    assert_eq!(server.wait().unwrap().code(), Some(0));

    let open = hitscope(&["serve", "--data-dir", dir.path().to_str().unwrap(), "--listen", "0.0.0.0:0"]);
    assert_eq!(open.code, Some(1));
    assert!(open.stderr.contains("a token is needed"), "{open:?}");
}
