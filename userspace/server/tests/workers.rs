//! Statements of strangers: whatever they ask, it ends with a clear refusal, and others are answered meanwhile.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hitscope_engine::{
    question::{Ask, Form, Kind, Question, Refusal},
    worker::{ASKED, Asked, END, PIECE, Setup, write_frame},
    workers::{Answer, Lane, Limits, Workers},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hitscope-server");
/// Nothing takes longer that ends at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn workers(data_dir: &Path, time: Duration) -> Workers {
    Workers::new(PROGRAM.as_ref(), data_dir, Limits { memory_bytes: 96 << 20, time }).unwrap()
}

async fn ask(workers: &Workers, sql: &str) -> Result<Answer, Refusal> {
    let asked = workers.ask(Lane::Statements, Question::Sql(sql.to_owned()), Form::Json);
    tokio::time::timeout(PATIENCE, asked).await.expect("an end")
}

async fn refused(workers: &Workers, sql: &str) -> Kind {
    let refusal = ask(workers, sql).await.expect_err("a refusal");
    assert!(refusal.hint.is_some(), "{refusal:?}");
    refusal.kind
}

fn endless() -> &'static str {
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
}

/// One call of a function, computed while planning: the engine itself cannot be stopped amid it.
fn in_one_go() -> &'static str {
    "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))"
}

fn deep() -> String {
    format!("SELECT {}", ["1"; 100_000].join("+"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_much_is_refused_and_the_next_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let workers = workers(dir.path(), Duration::from_secs(20));
    assert_eq!(refused(&workers, "SELECT length(repeat('x', 1000000000))").await, Kind::Memory);
    assert_eq!(refused(&workers, &deep()).await, Kind::Statement);
    assert_eq!(refused(&workers, "SELECT value FROM generate_series(1, 100000000)").await, Kind::Memory);
    let many = "SELECT repeat('x', 1000000) FROM generate_series(1, 90)";
    assert_eq!(refused(&workers, many).await, Kind::Large);
    let refusal = ask(&workers, "SELECT 1 / (value - 1) FROM generate_series(1, 3)").await.unwrap_err();
    assert_eq!(refusal.kind, Kind::Rows);
    assert_eq!(&ask(&workers, "SELECT 1 AS n").await.unwrap().bytes[..], b"[{\"n\":1}]");
    assert_eq!(workers.counters().refused()[&Kind::Memory], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_statement_is_answered_beside_five_that_do_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let workers = workers(dir.path(), Duration::from_secs(15));
    let bad = async |sql: &str| (refused(&workers, sql).await, Instant::now());
    let plain = async {
        // All five are asked before.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut last = Instant::now();
        for _ in 0..10 {
            ask(&workers, "SELECT count(*) FROM hits").await.unwrap();
            last = Instant::now();
        }
        last
    };
    let (one, two, three, four, five, answered) =
        tokio::join!(bad(in_one_go()), bad(in_one_go()), bad(in_one_go()), bad(in_one_go()), bad(endless()), plain,);
    for (kind, ended) in [one, two, three, four, five] {
        assert!([Kind::Busy, Kind::Time, Kind::Memory].contains(&kind), "{kind:?}");
        assert!(ended > answered, "the plain ones came in between");
    }
    // The page and the alerts did not wait for any of it either, nor do they now.
    workers.ask(Lane::Page, Question::Cubes, Form::Json).await.unwrap();
    workers.lane(Lane::Alerts).rows("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_killed_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let workers = workers(dir.path(), Duration::from_secs(1));
    for lane in [Lane::Page, Lane::Alerts, Lane::Statements] {
        let asked = workers.ask(lane, Question::Sql(in_one_go().to_owned()), Form::Json);
        let refusal = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap_err();
        assert_eq!(refusal.kind, Kind::Time, "{refusal:?}");
        gone(&workers).await;
        assert_eq!(workers.lane(lane).rows("SELECT 1").await.unwrap()[0].num_rows(), 1);
        for pid in workers.pids() {
            kill(pid);
        }
        // One that died while it was idle is replaced, too.
        assert_eq!(workers.lane(lane).rows("SELECT 1").await.unwrap()[0].num_rows(), 1);
        for pid in workers.pids() {
            kill(pid);
        }
        gone(&workers).await;
    }
}

fn kill(pid: u32) {
    // SAFETY: plain integers; the pid is that of a child of this process.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

/// Waits until no worker runs any more.
async fn gone(workers: &Workers) {
    let deadline = Instant::now() + PATIENCE;
    let runs = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
    };
    while workers.pids().iter().any(runs) {
        assert!(Instant::now() < deadline, "{:?}", workers.pids());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_waits_for_ends() {
    let dir = tempfile::tempdir().unwrap();
    let workers = workers(dir.path(), Duration::from_secs(600));
    let asked = ask(&workers, endless());
    assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err(), "it does not end");
    gone(&workers).await;
    assert_eq!(workers.counters().killed.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_worker_ends_with_its_server_amid_a_question() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Command::new(PROGRAM).arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = worker.stdin.take().unwrap();
    let setup = Setup { data_dir: dir.path().into(), memory_bytes: 96 << 20 };
    let asked = |sql: &str| Asked { question: Question::Sql(sql.to_owned()), form: Form::Json };
    for frame in [serde_json::to_vec(&setup), serde_json::to_vec(&asked("SELECT 7 AS n"))] {
        write_frame(&mut input, ASKED, &frame.unwrap()).unwrap();
    }
    let mut output = worker.stdout.take().unwrap();
    let mut answer = Vec::new();
    loop {
        let mut head = [0; 5];
        output.read_exact(&mut head).unwrap();
        if head[0] == END {
            break;
        }
        assert_eq!(head[0], PIECE);
        let mut piece = vec![0; head[1].into()];
        output.read_exact(&mut piece).unwrap();
        answer.extend(piece);
    }
    assert_eq!(answer, b"[{\"n\":7}]");
    write_frame(&mut input, ASKED, &serde_json::to_vec(&asked(endless())).unwrap()).unwrap();
    input.flush().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(worker.try_wait().unwrap().is_none());
    drop(input);
    let deadline = Instant::now() + PATIENCE;
    while worker.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}
