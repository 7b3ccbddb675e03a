use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use arrow::datatypes::UInt64Type;
use hitscope_base::{Size, Span};
use hitscope_schemas::tables::{Alert, Event, Hitmap, VERSION_KEY};
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    file::{
        reader::{FileReader, SerializedFileReader},
        statistics::Statistics,
    },
};

use super::*;
use crate::{
    list, read,
    testing::{Random, event, hitmap},
};

const HOST: &str = "db1";
const WINDOW_NS: u64 = 5_000_000_000;
const WINDOWS: u64 = CUBE_NS / WINDOW_NS;
/// A moment at which the first cubes since the epoch are long over.
const LATER_NS: u64 = 100 * CUBE_NS;

fn tables() -> [Table; 2] {
    [Hitmap::table(), Event::table()]
}

fn open(data_dir: &Path) -> (Writer, Recovery) {
    Writer::open(data_dir, HOST, &tables(), Settings::keep_all()).unwrap()
}

fn sum(batches: &[RecordBatch], column: &str) -> u64 {
    let sums =
        batches.iter().flat_map(|batch| batch.column_by_name(column).unwrap().as_primitive::<UInt64Type>().values());
    sums.sum()
}

fn hits(data_dir: &Path) -> u64 {
    sum(&read(data_dir, "hitmap", 0..u64::MAX).unwrap(), "hits")
}

fn rows(data_dir: &Path, table: &str) -> usize {
    read(data_dir, table, 0..u64::MAX).unwrap().iter().map(RecordBatch::num_rows).sum()
}

fn files(data_dir: &Path, table: &str) -> Vec<(u64, Option<u32>)> {
    let listed = list(data_dir, table, 0..u64::MAX).unwrap();
    listed.iter().map(|file| (file.cube_start_ns / CUBE_NS, file.part)).collect()
}

/// Flushes until a cube has been closed, or the given number of them.
fn flush_until_closed(writer: &mut Writer, mut now_ns: u64, cubes: usize) -> Vec<Closed> {
    let mut closed = Vec::new();
    let begin = Instant::now();
    while closed.len() < cubes {
        assert!(begin.elapsed() < Duration::from_secs(60), "cubes are closed in time");
        let flushed = writer.flush(now_ns).unwrap();
        assert_eq!(flushed.notes, [""; 0]);
        closed.extend(flushed.closed);
        now_ns += GRACE_NS;
        std::thread::sleep(Duration::from_millis(5));
    }
    closed
}

fn everything_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for (name, path) in folder::entries(folder).unwrap() {
        names.extend(if path.is_dir() { everything_in(&path) } else { vec![name] });
    }
    names
}

#[test]
fn rows_are_readable_from_their_flush_on_and_close_into_sorted_merged_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, recovery) = open(dir.path());
    assert_eq!(recovery, Recovery::default());
    for window in 0..WINDOWS {
        writer.append(vec![hitmap(window, "b", 2), hitmap(window, "a", 4), hitmap(window, "b", 6)]);
        writer.append(vec![event(window * WINDOW_NS, "x")]);
        let flushed = writer.flush(window * WINDOW_NS).unwrap();
        assert_eq!((flushed.rows, hits(dir.path())), (4, 12 * (window + 1)));
    }
    assert_eq!((files(dir.path(), "hitmap"), files(dir.path(), "events")), (vec![(0, Some(0))], vec![(0, Some(0))]));

    let closed = flush_until_closed(&mut writer, LATER_NS, 2);
    assert_eq!(
        closed.iter().map(|closed| (closed.table, closed.rows)).collect::<Vec<_>>(),
        [("hitmap", 2 * WINDOWS), ("events", WINDOWS)]
    );
    assert_eq!((files(dir.path(), "hitmap"), files(dir.path(), "events")), (vec![(0, None)], vec![(0, None)]));
    assert_eq!((hits(dir.path()), rows(dir.path(), "events")), (12 * WINDOWS, WINDOWS as usize));
    let expected: Vec<Hitmap> = (0..WINDOWS)
        .map(|window| hitmap(window, "a", 4))
        .chain((0..WINDOWS).map(|window| hitmap(window, "b", 8)))
        .collect();
    assert_eq!(read(dir.path(), "hitmap", 0..1).unwrap()[0].columns(), Hitmap::batch(&expected).columns());
}

#[test]
fn closed_files_are_plain_parquet_with_version_order_and_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append((0..WINDOWS).flat_map(|window| [hitmap(window, "a", 1), hitmap(window, "b", 1)]).collect::<Vec<_>>());
    writer.finish().unwrap();
    let path = dir.path().join("history/hitmap/date=1970-01-01/host=db1/19700101T000000Z.parquet");
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let metadata = reader.metadata();
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    assert!(pairs.iter().any(|pair| pair.key == VERSION_KEY && pair.value.as_deref() == Some("1")));
    let group = metadata.row_group(0);
    let sorted: Vec<i32> = group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
    assert_eq!(sorted, [1, 0]);
    let Some(Statistics::Int64(times)) = group.column(0).statistics() else { panic!("no statistics of time") };
    assert_eq!((times.min_opt(), times.max_opt()), (Some(&0), Some(&295_000_000_000)));
    let Some(Statistics::ByteArray(services)) = group.column(1).statistics() else {
        panic!("no statistics of service")
    };
    assert_eq!((services.min_bytes_opt(), services.max_bytes_opt()), (Some(&b"a"[..]), Some(&b"b"[..])));
    assert_eq!(reader.get_row_iter(None).unwrap().count() as u64, 2 * WINDOWS);
}

#[test]
fn late_rows_are_merged_into_the_closed_cube() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let mut given = 0;
    for round in 1..5 {
        for part in 0..3 {
            writer.append(vec![hitmap(3, "a", round), hitmap(4 + round, "b", part)]);
            given += round + part;
            writer.flush(LATER_NS).unwrap();
            assert_eq!(hits(dir.path()), given, "rows beside the closed file count too");
        }
        let closed = flush_until_closed(&mut writer, LATER_NS + GRACE_NS, 1);
        assert_eq!(closed[0].rows, 1 + round);
        assert_eq!((files(dir.path(), "hitmap"), hits(dir.path())), (vec![(0, None)], given));
    }
}

#[test]
fn a_restart_goes_on_in_the_same_cube() {
    let dir = tempfile::tempdir().unwrap();
    for start in 0..3 {
        let (mut writer, recovery) = open(dir.path());
        assert_eq!((recovery.parts, recovery.rows, recovery.torn_bytes), (start, start, 0));
        writer.append(vec![hitmap(1, "a", 1)]);
        writer.flush(0).unwrap();
    }
    assert_eq!(files(dir.path(), "hitmap"), [(0, Some(0)), (0, Some(1)), (0, Some(2))]);
    let (writer, _) = open(dir.path());
    writer.finish().unwrap();
    assert_eq!((files(dir.path(), "hitmap"), rows(dir.path(), "hitmap"), hits(dir.path())), (vec![(0, None)], 1, 3));
}

#[test]
fn a_crash_between_closing_and_removing_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(vec![hitmap(1, "a", 5)]);
    writer.flush(0).unwrap();
    let part = list(dir.path(), "hitmap", 0..1).unwrap()[0].path.clone();
    let bytes = fs::read(&part).unwrap();
    writer.finish().unwrap();
    fs::write(&part, &bytes).unwrap();
    assert_eq!((files(dir.path(), "hitmap"), hits(dir.path())), (vec![(0, None)], 5));
    // Rows that come late now go to a part that is not hidden.
    let (mut writer, recovery) = open(dir.path());
    assert_eq!((recovery, part.exists()), (Recovery::default(), false));
    writer.append(vec![hitmap(1, "a", 2)]);
    writer.flush(0).unwrap();
    assert_eq!((files(dir.path(), "hitmap"), hits(dir.path())), (vec![(0, None), (0, Some(1))], 7));
    writer.finish().unwrap();
    assert_eq!((files(dir.path(), "hitmap"), hits(dir.path())), (vec![(0, None)], 7));
}

#[test]
fn temporary_files_of_a_crash_are_no_data_and_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(vec![hitmap(1, "a", 5)]);
    writer.flush(0).unwrap();
    writer.finish().unwrap();
    let closed = list(dir.path(), "hitmap", 0..1).unwrap()[0].path.clone();
    fs::write(folder::temporary(&closed), "half").unwrap();
    fs::write(dir.path().join("open/hitmap/host=db1/.19700101T000000Z.0.arrows.run0.tmp"), "half").unwrap();
    assert_eq!(files(dir.path(), "hitmap"), [(0, None)]);
    drop(open(dir.path()));
    assert_eq!(everything_in(&dir.path().join("history")), ["19700101T000000Z.parquet"]);
    assert_eq!(everything_in(&dir.path().join("open")), [".lock", ".lock"]);
}

#[test]
fn rows_of_any_time_find_their_cubes_and_few_are_open_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let mut random = Random(3);
    for second in 0..100 {
        writer.append((0..20).map(|_| hitmap(random.below(20 * WINDOWS), "a", 1)).collect());
        writer.flush(second * 1_000_000_000).unwrap();
        assert!(writer.cubes.len() <= OPEN_CUBES);
    }
    writer.finish().unwrap();
    assert_eq!(files(dir.path(), "hitmap"), (0..20).map(|cube| (cube, None)).collect::<Vec<_>>());
    assert_eq!(hits(dir.path()), 2000);
    for file in list(dir.path(), "hitmap", 0..u64::MAX).unwrap() {
        let end = file.cube_start_ns + CUBE_NS;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.open().unwrap()).unwrap().build().unwrap();
        for batch in reader {
            let (start, rest) = (split(&batch.unwrap(), "window_start").unwrap(), end - CUBE_NS);
            assert!(start.len() == 1 && start[0].0 == rest);
        }
    }
    assert_eq!(list(dir.path(), "hitmap", 3 * CUBE_NS..5 * CUBE_NS).unwrap().len(), 2);
    assert_eq!(list(dir.path(), "hitmap", 3 * CUBE_NS..3 * CUBE_NS + 1).unwrap().len(), 1);
    assert_eq!(list(dir.path(), "hitmap", 86_400_000_000_000..u64::MAX).unwrap().len(), 0);
}

#[test]
fn the_oldest_cubes_of_all_tables_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let day = 86_400_000_000_000 / CUBE_NS;
    let (mut writer, _) = open(dir.path());
    for cube in [0, 1, 2, day, day + 1] {
        writer.append(vec![hitmap(cube * WINDOWS, "a", 1)]);
        writer.append(vec![event(cube * CUBE_NS, "x")]);
    }
    let flushed = writer.finish().unwrap();
    assert_eq!(flushed.evicted, Evicted::default());
    let bytes = |from_ns: u64| {
        let cubes = flushed.closed.iter().filter(|cube| cube.cube_start_ns >= from_ns);
        cubes.map(|cube| cube.bytes).sum::<u64>()
    };
    let total = bytes(0);
    let evict = |max_age: u64, max_bytes: u64, now_ns: u64| {
        let (max_age, max_bytes) = (Span(Duration::from_nanos(max_age)), Size(max_bytes));
        let settings = Settings { max_age, max_bytes, ..Settings::default() };
        let mut catalogue = Catalogue::read(dir.path(), &tables()).unwrap();
        catalogue.evict(dir.path(), &tables(), &settings, Some(now_ns), None, &mut Vec::new())
    };
    let left = |table: &str| files(dir.path(), table).iter().map(|(cube, _)| *cube).collect::<Vec<_>>();

    assert_eq!(evict(CUBE_NS, total, 2 * CUBE_NS - 1).files, 0);
    assert_eq!(evict(CUBE_NS, total, 2 * CUBE_NS).files, 2);
    assert_eq!((left("hitmap"), left("events")), (vec![1, 2, day, day + 1], vec![1, 2, day, day + 1]));
    let evicted = evict(u64::MAX, bytes(day * CUBE_NS), 0);
    assert_eq!((evicted.files, evicted.oldest_ns), (4, day * CUBE_NS));
    assert_eq!((left("hitmap"), left("events")), (vec![day, day + 1], vec![day, day + 1]));
    assert!(!dir.path().join("history/hitmap/date=1970-01-01").exists(), "empty folders go too");
}

#[test]
fn only_one_writer_at_a_time_but_one_for_each_table() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = open(dir.path());
    let again = Writer::open(dir.path(), HOST, &[Event::table()], Settings::default()).err().unwrap();
    assert!(matches!(again, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    Writer::open(dir.path(), HOST, &[Alert::table()], Settings::default()).unwrap();
    drop(writer);
    open(dir.path());
}

#[test]
fn rows_of_a_table_that_is_not_open_are_counted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(dir.path(), HOST, &[Event::table()], Settings::default()).unwrap();
    writer.append(vec![hitmap(0, "a", 1)]);
    assert_eq!(writer.flush(0).unwrap().lost, [("hitmap", 1)].into());
}

#[test]
fn a_damaged_closed_cube_keeps_no_late_row_from_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(vec![hitmap(1, "a", 5)]);
    writer.append(vec![event(0, "x")]);
    writer.finish().unwrap();
    let closed = list(dir.path(), "hitmap", 0..1).unwrap()[0].path.clone();
    fs::write(&closed, b"PAR1 no more").unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(vec![hitmap(1, "a", 7)]);
    writer.append(vec![event(1, "x")]);
    assert_eq!(writer.flush(0).unwrap().rows, 2);
    let notes = writer.finish().unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("is damaged"), "{notes:?}");
    assert_eq!(hits(dir.path()), 7);
}

#[test]
fn a_damaged_file_is_put_aside_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (mut writer, _) = open(dir.path());
        writer.append(vec![hitmap(1, "a", 5)]);
        writer.flush(0).unwrap();
    }
    // Within the body of the last message: its framing stays whole.
    let part = list(dir.path(), "hitmap", 0..1).unwrap()[0].path.clone();
    let mut bytes = fs::read(&part).unwrap();
    let end = bytes.len();
    bytes[end - 60..].fill(0xee);
    fs::write(&part, &bytes).unwrap();
    let (writer, _) = open(dir.path());
    let notes = writer.finish().unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("is damaged"), "{notes:?}");
    assert_eq!((files(dir.path(), "hitmap"), hits(dir.path())), (vec![(0, None)], 5));
    assert!(everything_in(&dir.path().join("open")).contains(&".19700101T000000Z.0.arrows.damaged".to_owned()));
}

#[test]
fn readers_see_each_row_once_while_cubes_are_closed_and_merged_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(vec![hitmap(0, "a", 1)]);
    writer.flush(0).unwrap();
    let (path, stop) = (dir.path().to_owned(), std::sync::atomic::AtomicBool::new(false));
    // What has been flushed for sure, and what may have been.
    let (least, most) = (std::sync::atomic::AtomicU64::new(1), std::sync::atomic::AtomicU64::new(1));
    use std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !stop.load(SeqCst) {
                let at_least = least.load(SeqCst);
                let seen = hits(&path);
                let at_most = most.load(SeqCst);
                assert!((at_least..=at_most).contains(&seen), "{at_least} <= {seen} <= {at_most}");
                reads += 1;
            }
            reads
        });
        for round in 1..100 {
            writer.append(vec![hitmap(round % WINDOWS, "a", 1)]);
            most.fetch_add(1, SeqCst);
            writer.flush(LATER_NS + 2 * round * GRACE_NS).unwrap();
            least.fetch_add(1, SeqCst);
            writer.flush(LATER_NS + (2 * round + 1) * GRACE_NS).unwrap();
        }
        stop.store(true, SeqCst);
        assert!(reader.join().unwrap() > 0);
    });
    writer.finish().unwrap();
    assert_eq!((files(dir.path(), "hitmap"), hits(dir.path())), (vec![(0, None)], 100));
}

/// Runs this test binary again for one test, which plays the named part.
fn child(test: &str, part: &str, data_dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{}::{test}", module_path!().split_once("::").unwrap().1), "--nocapture"])
        .env("HITSCOPE_TEST_CHILD", part)
        .env("HITSCOPE_TEST_FOLDER", data_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// In the child: its folder.
fn child_folder(part: &str) -> Option<PathBuf> {
    (std::env::var("HITSCOPE_TEST_CHILD").as_deref() == Ok(part))
        .then(|| std::env::var_os("HITSCOPE_TEST_FOLDER").unwrap().into())
}

/// Appends and flushes over cubes after cubes, and says after each flush what the sum is, until it is killed.
fn append_until_killed(data_dir: &Path) {
    let (mut writer, _) = open(data_dir);
    let mut random = Random(u64::from(std::process::id()));
    let (mut total, mut now_ns) = (hits(data_dir), 0);
    println!("flushed {total}");
    loop {
        let rows: Vec<Hitmap> = (0..random.below(300)).map(|n| hitmap(random.below(3 * WINDOWS), "a", n)).collect();
        total += rows.iter().map(|row| row.hits).sum::<u64>();
        writer.append(rows);
        println!("appended {total}");
        writer.flush(now_ns).unwrap();
        println!("flushed {total}");
        now_ns += GRACE_NS;
    }
}

#[test]
fn killed_at_any_moment_only_what_was_not_flushed_is_missing() {
    if let Some(folder) = child_folder("append") {
        return append_until_killed(&folder);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(11);
    let mut before = 0;
    for _ in 0..10 {
        let mut child = child("killed_at_any_moment_only_what_was_not_flushed_is_missing", "append", dir.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = |line: String| line.split_once("flushed ").map(|(_, sum)| sum.parse::<u64>().unwrap());
        let first = lines.by_ref().map_while(Result::ok).find_map(said).unwrap();
        assert!(first >= before);
        std::thread::sleep(Duration::from_micros(random.below(150_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let (mut flushed, mut appended) = (first, first);
        for line in lines.map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("flushed", sum)) => flushed = sum.parse().unwrap_or(flushed),
                Some(("appended", sum)) => appended = sum.parse().unwrap_or(appended),
                _ => {}
            }
        }
        let found = hits(dir.path());
        assert!(found >= flushed && found <= appended.max(flushed), "{flushed} <= {found} <= {appended}");
        before = found;
    }
    assert!(before > 0);
    let (writer, _) = open(dir.path());
    writer.finish().unwrap();
    assert_eq!(hits(dir.path()), before);
    assert!(files(dir.path(), "hitmap").iter().all(|(_, part)| part.is_none()));
}

/// Lets no file of this process grow beyond `bytes`, as a full disk would.
fn limit_files(bytes: u64) {
    // SAFETY: plain system calls; the pointer is to a local that lives through the call.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut limit: libc::rlimit = mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

fn fill_the_disk(data_dir: &Path) {
    let (mut writer, _) = open(data_dir);
    let mut given = 0;
    let mut give = |writer: &mut Writer, rows: u64| {
        let rows: Vec<Hitmap> = (0..rows).map(|n| hitmap(n % WINDOWS, &format!("service {n}"), n)).collect();
        given += rows.iter().map(|row| row.hits).sum::<u64>();
        writer.append(rows);
        given
    };
    let whole = give(&mut writer, 1000);
    writer.flush(0).unwrap();

    // The disk is full within a message: nothing of it stays, and nothing is lost.
    let size = list(data_dir, "hitmap", 0..1).unwrap()[0].bytes;
    limit_files(size + 1000);
    for _ in 0..3 {
        give(&mut writer, 1000);
        assert!(matches!(writer.flush(0), Err(Error::Io { action: "write", .. })));
        assert_eq!((list(data_dir, "hitmap", 0..1).unwrap()[0].bytes, hits(data_dir)), (size, whole));
    }
    limit_files(u64::MAX);
    let total = give(&mut writer, 1);
    assert_eq!(writer.flush(0).unwrap().rows, 3001);
    assert_eq!(hits(data_dir), total);

    // Full at the time of closing: the cube stays open, and is closed once there is room.
    limit_files(500);
    let mut notes = Vec::new();
    while notes.is_empty() {
        notes = writer.flush(LATER_NS).unwrap().notes;
    }
    assert!(notes[0].contains("trying again"), "{notes:?}");
    assert_eq!((files(data_dir, "hitmap"), hits(data_dir)), (vec![(0, Some(0))], total));
    assert_eq!(everything_in(&data_dir.join("history")), [""; 0]);
    limit_files(u64::MAX);
    assert_eq!(writer.flush(LATER_NS + 1).unwrap().notes, [""; 0]);
    assert!(files(data_dir, "hitmap")[0].1.is_some(), "not tried again at once");
    flush_until_closed(&mut writer, LATER_NS + RETRY_NS, 1);
    assert_eq!((files(data_dir, "hitmap"), hits(data_dir)), (vec![(0, None)], total));

    // Full for long: what waits is bounded, and what is lost is counted.
    limit_files(0);
    let room = WAITING_BYTES / size_of::<Hitmap>();
    let (mut rows, mut failures) = (0, 0);
    while rows < 3 * room {
        writer.append((0..50_000).map(|_| hitmap(0, "a", 1)).collect::<Vec<_>>());
        rows += 50_000;
        failures += u32::from(writer.flush(LATER_NS).is_err());
    }
    assert!(failures > 1);
    limit_files(u64::MAX);
    let flushed = writer.flush(LATER_NS).unwrap();
    assert_eq!(flushed.rows + flushed.lost["hitmap"], rows as u64);
    assert!(flushed.rows <= room as u64 + 50_000, "what was lost waits nowhere");
    assert_eq!(hits(data_dir), total + flushed.rows);
    println!("disk full: all well");
}

#[test]
fn a_full_disk_corrupts_nothing_and_what_it_does_not_take_waits_or_is_counted() {
    if let Some(folder) = child_folder("disk full") {
        return fill_the_disk(&folder);
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_corrupts_nothing_and_what_it_does_not_take_waits_or_is_counted";
    let output = child(test, "disk full", dir.path()).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("disk full: all well"), "{said}");
}

#[test]
fn what_the_server_writes_is_found_in_its_part_of_the_folder_and_where_it_was_before() {
    let dir = tempfile::tempdir().unwrap();
    for (root, state) in [(dir.path().to_owned(), "firing"), (folder::servers_part(dir.path()), "resolved")] {
        let mut writer = Writer::open(&root, HOST, &[Alert::table()], Settings::keep_all()).unwrap().0;
        writer.append(vec![Alert {
            time: 1,
            rule: "a".into(),
            severity: "info".into(),
            state: state.into(),
            labels: "{}".into(),
            value: None,
            message: "".into(),
            delivery: "none".into(),
        }]);
        writer.flush(1).unwrap();
    }
    assert_eq!((rows(dir.path(), "alerts"), rows(dir.path(), "events")), (2, 0));
}
