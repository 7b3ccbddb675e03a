//! Recorded sessions, gone through again without privileges: what comes out is what came out when they were added.
//!
//! `replays/<name>.rec` is a recording, `replays/<name>.json` the rows that it makes. Where a change is meant to change the
//! rows, `HITSCOPE_BLESS=1 cargo xtask test replays` writes the new ones, to be looked at before they are committed. Where a
//! kernel record or the format changed, make new recordings, as root:
//! `cargo run --release --workspace --bin record-replays`, and then the rows.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value};

use crate::{daemon::query, host::binary, postgres::succeed};

/// What is compared, in an order that does not depend on how the rows came.
const QUERIES: [(&str, &str); 5] = [
    ("hits", "SELECT * FROM hits ORDER BY end_time, side, pid, operation"),
    ("operations", "SELECT * FROM operations ORDER BY window_start, service, side, operation"),
    ("hitmap", "SELECT * FROM hitmap ORDER BY window_start, service, side, bucket_low_ns"),
    (
        "processes",
        "SELECT time, pid, start_time, parent_pid, command, arguments, cpu_user_ns, cpu_system_ns, runqueue_ns, exited, \
         exit_code FROM processes ORDER BY time, pid, start_time, exited",
    ),
    ("syscalls", "SELECT * FROM syscalls ORDER BY window_start, pid, syscall"),
];

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("replays");
    let files = fs::read_dir(folder).expect("the recordings").map(|entry| entry.expect("a recording").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "rec")).collect();
    files.sort();
    files
}

fn replay(recording: &Path) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    succeed(Command::new(binary()).arg("replay").arg(recording).arg("--data-dir").arg(folder.path()));
    let table = |(name, sql): &(&str, &str)| ((*name).to_owned(), Value::Array(query(folder.path(), sql)));
    Value::Object(QUERIES.iter().map(table).collect::<Map<String, Value>>())
}

#[test]
fn replays_give_the_rows_of_old() {
    let recordings = recordings();
    assert!(!recordings.is_empty());
    for recording in recordings {
        let rows = replay(&recording);
        let golden = recording.with_extension("json");
        if env::var_os("HITSCOPE_BLESS").is_some() {
            // A row per line, so that a difference is read at once.
            let text = serde_json::to_string(&rows).expect("JSON").replace("},{", "},\n{").replace(":[{", ":[\n{");
            fs::write(&golden, text + "\n").expect("the rows are written");
            continue;
        }
        let text = fs::read_to_string(&golden).expect("the rows of old");
        let old: Value = serde_json::from_str(&text).expect("JSON");
        for (table, _) in QUERIES {
            let (new, old) = (rows[table].as_array().expect("rows"), old[table].as_array().expect("rows"));
            let name = recording.display();
            assert_eq!(new.len(), old.len(), "{name}: number of {table}");
            for (index, (new, old)) in new.iter().zip(old).enumerate() {
                assert_eq!(new, old, "{name}: {table}, row {index}");
            }
        }
    }
}

#[test]
fn replays_are_small() {
    for recording in recordings() {
        assert!(recording.metadata().expect("its size").len() < 200_000, "{}", recording.display());
    }
}
