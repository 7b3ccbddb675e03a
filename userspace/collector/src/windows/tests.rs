use std::collections::BTreeMap;

use hitscope_wire::{Mark, Protocol, Side};

use super::*;
use crate::settings::WINDOW_NS;

const MS: u64 = 1_000_000;

pub(crate) fn origin() -> Origin {
    Origin { pid: 42, container: None, remote_address: "10.0.0.7".into(), remote_port: 4711, local_port: 5432 }
}

pub(crate) fn exchange(operation: &str, status: Status) -> Exchange {
    Exchange {
        protocol: Protocol::Postgres,
        side: Side::Server,
        start: Mark::default(),
        end: Mark { thread_id: 43, ..Mark::default() },
        shared: false,
        operation: operation.into(),
        operation_id: operation.bytes().map(u64::from).sum::<u64>() + 1,
        status,
        error_code: None,
        error_message: None,
        rows: Some(1),
        request_bytes: 10,
        response_bytes: 20,
        authority: None,
        text: None,
    }
}

fn measures(end_ns: i64, duration_ns: u64) -> Measures {
    let split = Times { cpu_ns: duration_ns / 2, disk_ns: duration_ns / 4, ..Times::default() };
    Measures { end_ns, duration_ns, split: Some(split), queued_ns: None }
}

fn flush(windows: &mut Windows) -> Rows {
    let mut rows = Rows::default();
    windows.flush(&mut rows);
    rows
}

#[test]
fn counts_are_exact_and_weights_sum_to_them() {
    let mut windows = Windows::new(&Settings { whole_per_second: 20, ..Settings::default() });
    let db = windows.group(&"db".into(), "postgres", "server");
    let web = windows.group(&"web".into(), "postgres", "client");
    // By operation: calls, errors, and the time of all.
    let mut expected: BTreeMap<(String, String), (u64, u64, u64)> = BTreeMap::new();
    for index in 0..10_000_u64 {
        let (name, group) = if index % 7 == 0 { ("web", &web) } else { ("db", &db) };
        let operation = format!("select {}", index % 13 % 5);
        let status = if index % 31 == 0 { Status::Error } else { Status::Ok };
        let duration = if index % 97 == 0 { 150 * MS } else { 1000 * (index % 501) };
        let entry = expected.entry((name.into(), operation.clone())).or_default();
        entry.0 += 1;
        entry.1 += u64::from(status == Status::Error);
        entry.2 += duration;
        windows.add(
            group,
            &origin(),
            &Facts::default(),
            measures(5 * WINDOW_NS + index as i64, duration),
            exchange(&operation, status),
        );
    }
    let rows = flush(&mut windows);
    assert_eq!(windows.hits(), 10_000);
    assert_eq!(rows.hitmap.iter().map(|row| row.hits).sum::<u64>(), 10_000);
    assert_eq!(rows.operations.len(), expected.len());
    for row in &rows.operations {
        let (calls, errors, total) = expected[&(row.service.to_string(), row.operation.to_string())];
        assert_eq!((row.calls, row.errors, row.total_ns, row.rows), (calls, errors, total, calls));
        assert_eq!((row.request_bytes, row.response_bytes, row.window_start), (10 * calls, 20 * calls, 5 * WINDOW_NS));
        let kept = || rows.hits.iter().filter(|hit| hit.service == row.service && hit.operation == row.operation);
        assert_eq!(kept().map(|hit| hit.weight).sum::<u64>(), calls);
        let failed = kept().filter(|hit| &*hit.status == "error");
        assert_eq!(failed.map(|hit| hit.weight).sum::<u64>(), errors);
        assert_eq!(kept().map(|hit| hit.duration_ns).max(), Some(row.max_ns));
        assert!(kept().count() <= 20 + 20 + 4 + 2);
    }
    let errors = rows.hitmap.iter().map(|row| row.errors).sum::<u64>();
    assert_eq!(errors, rows.operations.iter().map(|row| row.errors).sum::<u64>());
    // Nothing is told twice.
    assert_eq!(flush(&mut windows), Rows::default());
}

#[test]
fn failed_and_slow_hits_are_kept_whole() {
    let mut windows = Windows::new(&Settings::default());
    let group = windows.group(&"db".into(), "postgres", "server");
    for index in 0..500 {
        let (status, duration) = match index % 5 {
            0 => (Status::Error, MS),
            1 => (Status::Aborted, MS),
            2 => (Status::Ok, 100 * MS),
            _ => (Status::Ok, MS),
        };
        windows.add(&group, &origin(), &Facts::default(), measures(0, duration), exchange("select", status));
    }
    let rows = flush(&mut windows);
    let whole = |status: &str| rows.hits.iter().filter(|hit| &*hit.status == status && hit.weight == 1).count();
    assert_eq!((whole("error"), whole("aborted")), (100, 100));
    assert_eq!(rows.hits.iter().filter(|hit| hit.duration_ns == 100 * MS && hit.weight == 1).count(), 100);
    // The rest: 2 slowest whole, and 4 that stand for 198.
    assert_eq!(rows.hits.len(), 300 + 2 + 4);
    assert_eq!(rows.hits.iter().map(|hit| hit.weight).sum::<u64>(), 500);
}

#[test]
fn each_window_has_its_own_rows_though_hits_come_late() {
    let mut windows = Windows::new(&Settings::default());
    let group = windows.group(&"db".into(), "postgres", "server");
    for end_ns in [WINDOW_NS - 2, WINDOW_NS + 1, WINDOW_NS - 1, WINDOW_NS + 2] {
        windows.add(&group, &origin(), &Facts::default(), measures(end_ns, 10), exchange("select", Status::Ok));
    }
    let rows = flush(&mut windows);
    for window in [0, WINDOW_NS] {
        let operations = rows.operations.iter().filter(|row| row.window_start == window);
        assert_eq!(operations.map(|row| row.calls).sum::<u64>(), 2);
        let hitmap = rows.hitmap.iter().filter(|row| row.window_start == window);
        assert_eq!(hitmap.map(|row| row.hits).sum::<u64>(), 2);
        let hits = rows.hits.iter().filter(|hit| window_start(hit.end_time) == window);
        assert_eq!(hits.map(|hit| hit.weight).sum::<u64>(), 2);
    }
}

#[test]
fn too_many_operations_are_counted_together() {
    let mut windows = Windows::new(&Settings { max_operations: 3, ..Settings::default() });
    let group = windows.group(&"db".into(), "postgres", "server");
    for index in 0..50_u8 {
        let operation = format!("select {}", char::from(b'A' + index));
        windows.add(&group, &origin(), &Facts::default(), measures(0, 10), exchange(&operation, Status::Ok));
    }
    let rows = flush(&mut windows);
    assert_eq!(rows.operations.len(), 4);
    let other = rows.operations.iter().find(|row| &*row.operation == OTHER).unwrap();
    assert_eq!((other.calls, windows.overflowed()), (47, 47));
    assert_eq!(rows.hits.iter().map(|hit| hit.weight).sum::<u64>(), 50);
    // Room is made once the operations are idle.
    for _ in 0..=IDLE_OPERATION {
        flush(&mut windows);
    }
    windows.add(&group, &origin(), &Facts::default(), measures(0, 10), exchange("select z", Status::Ok));
    assert_eq!(&*flush(&mut windows).operations[0].operation, "select z");
}

#[test]
fn idle_groups_go_unless_they_are_held() {
    let mut windows = Windows::new(&Settings::default());
    let held = windows.group(&"held".into(), "postgres", "server");
    drop(windows.group(&"dropped".into(), "postgres", "server"));
    for _ in 0..=IDLE_GROUP {
        flush(&mut windows);
    }
    assert_eq!(windows.group_ids.len(), 1);
    let next = windows.group(&"next".into(), "postgres", "server");
    assert_ne!(held.0, next.0);
    windows.add(
        &held,
        &origin(),
        &Facts { encrypted: true, ..Facts::default() },
        measures(0, 10),
        exchange("select", Status::Ok),
    );
    assert_eq!(&*flush(&mut windows).hits[0].service, "held");
}
