//! What history costs: bytes per hit and per process sample, CPU to write them, memory to close a cube, time to read one
//! process's day out of a week. `size [FOLDER]`: works in a new folder below `FOLDER` (default: the temporary folder).
//!
//! The rows are made up as pgbench on a busy host would make them, and a host of mostly idle processes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use arrow::{
    array::{AsArray, BooleanArray},
    datatypes::UInt32Type,
};
use hitscope_history::{CUBE_NS, Settings, Writer, list};
use hitscope_schemas::tables::{Hit, Process, Row, Table};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter,
            RowSelection, RowSelector,
        },
    },
    file::{metadata::PageIndexPolicy, page_index::column_index::ColumnIndexMetaData},
};

const SECOND_NS: u64 = 1_000_000_000;
const DAY_NS: u64 = 86_400 * SECOND_NS;
/// 2026-01-01, the first of the made-up days.
const START_NS: u64 = 1_767_225_600 * SECOND_NS;
const HITS: u64 = 1_000_000;
const PROCESSES: u32 = 570;
/// Of them, those that use CPU in every interval.
const BUSY: u32 = 30;
const WEEK_DAYS: u64 = 7;
/// How often the day is read, for a stable mean.
const ROUNDS: usize = 5;

fn main() {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join(format!("hitscope-size-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    // Each in a process of its own where memory is measured: the peak is a process's.
    match std::env::var("HITSCOPE_SIZE_PART").as_deref() {
        Ok("hits") => hits(&parent),
        _ => {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .arg(&folder)
                .env("HITSCOPE_SIZE_PART", "hits")
                .status();
            assert!(status.unwrap().success());
            processes(&folder);
        }
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// A cube of a million hits.
fn hits(folder: &Path) {
    let mut random = Random(1);
    let shapes: Vec<Shape> = (0..40).map(|n| Shape::new(n, &mut random)).collect();
    let (mut writer, _) = open(folder, Hit::table());
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let per_second = HITS / 300;
    for second in 0..300 {
        let at = START_NS + second * SECOND_NS;
        writer.append((0..per_second).map(|n| hit(&mut random, &shapes, at + n * SECOND_NS / per_second)).collect());
        writer.flush(at).unwrap();
    }
    let made = cpu_seconds() - cpu;
    let open: u64 = list(folder, "hits", 0..u64::MAX).unwrap().iter().map(|file| file.bytes).sum();
    let before = peak_memory_mib();
    let cpu = cpu_seconds();
    writer.finish().unwrap();
    let closed = list(folder, "hits", 0..u64::MAX).unwrap();
    let rows = (per_second * 300) as f64;
    println!("hits: {:.2} bytes each closed, {:.1} open", closed[0].bytes as f64 / rows, open as f64 / rows);
    println!(
        "hits: {:.2} µs of CPU each to make up and append, {:.2} to close",
        made * 1e6 / rows,
        (cpu_seconds() - cpu) * 1e6 / rows
    );
    println!(
        "hits: peak memory {before:.0} MiB while appending, {:.0} MiB with closing {HITS} rows",
        peak_memory_mib()
    );
    columns(&closed[0].path, rows);
    println!("hits: {:.1} s in all", began.elapsed().as_secs_f64());
}

/// A day of processes, and one process's day out of a week.
fn processes(folder: &Path) {
    let mut random = Random(2);
    let (mut writer, _) = open(folder, Process::table());
    let mut processes: Vec<Process> = (0..PROCESSES).map(process).collect();
    let cpu = cpu_seconds();
    let mut rows = 0u64;
    // One hour is made, the other hours of the week are copies of its files.
    for sample in 0..3600 / 5 {
        let at = START_NS + sample * 5 * SECOND_NS + random.below(2_000_000);
        writer.append(processes.iter_mut().map(|process| sample_of(process, at, &mut random)).collect());
        rows += u64::from(PROCESSES);
        writer.flush(at).unwrap();
    }
    writer.finish().unwrap();
    let closed = list(folder, "processes", 0..u64::MAX).unwrap();
    let bytes: u64 = closed.iter().map(|file| file.bytes).sum();
    println!(
        "processes: {:.2} bytes a sample, {:.0} KiB a cube",
        bytes as f64 / rows as f64,
        bytes as f64 / closed.len() as f64 / 1024.0
    );
    println!(
        "processes: {:.2} µs of CPU a sample to make up, append and close",
        (cpu_seconds() - cpu) * 1e6 / rows as f64
    );
    columns(&closed[1].path, rows as f64 / 12.0);

    let hour = &closed[..12];
    for file in 0..WEEK_DAYS * 288 {
        // Names only: the copies' rows keep the first hour's times, which does not matter to how long they take to read.
        let start = START_NS + file * CUBE_NS;
        let path = folder.join("week").join(format!("{}", start / DAY_NS));
        fs::create_dir_all(&path).unwrap();
        fs::copy(&hour[(file % 12) as usize].path, path.join(format!("{start}.parquet"))).unwrap();
    }
    let day = START_NS / DAY_NS + 3;
    let read = |what: &str, one: &dyn Fn(&Path) -> usize| {
        let (began, cpu, mut found) = (Instant::now(), cpu_seconds(), 0);
        for entry in (0..ROUNDS).flat_map(|_| fs::read_dir(folder.join("week").join(day.to_string())).unwrap()) {
            found += one(&entry.unwrap().path());
        }
        let (wall, cpu) = (began.elapsed().as_secs_f64() * 1e3, (cpu_seconds() - cpu) * 1e3);
        let rounds = ROUNDS as f64;
        println!("processes: {what} ({} rows): {:.0} ms, CPU {:.0} ms", found / ROUNDS, wall / rounds, cpu / rounds);
    };
    read("one process's day out of a week", &|path| rows_of(path, 1000 + 77));
    read("of that, footers alone", &|path| {
        ArrowReaderMetadata::load(&File::open(path).unwrap(), ArrowReaderOptions::new()).map(|_| 0).unwrap()
    });
}

/// Time, CPU and memory of one process: reads the pages that may have rows of it, as a query engine does.
fn rows_of(path: &Path, pid: u32) -> usize {
    let file = File::open(path).unwrap();
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&file, options).unwrap();
    let schema = metadata.metadata().file_metadata().schema_descr_ptr();
    let of_pid = schema.columns().iter().position(|column| column.name() == "pid").unwrap();
    let mut selected = Vec::new();
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let pages = &metadata.metadata().offset_index().unwrap()[index][of_pid].page_locations;
        let ColumnIndexMetaData::INT32(bounds) = &metadata.metadata().column_index().unwrap()[index][of_pid] else {
            panic!("no page statistics of pid")
        };
        let ends = pages.iter().skip(1).map(|page| page.first_row_index).chain([group.num_rows()]);
        for (page, end) in ends.enumerate() {
            let rows = (end - pages[page].first_row_index) as usize;
            let pids =
                bounds.min_value(page).unwrap().cast_unsigned()..=bounds.max_value(page).unwrap().cast_unsigned();
            selected.push(if pids.contains(&pid) { RowSelector::select(rows) } else { RowSelector::skip(rows) });
        }
    }
    let mask = ProjectionMask::columns(&schema, ["time", "cpu_user_ns", "cpu_system_ns", "rss_bytes"]);
    let predicate = ArrowPredicateFn::new(ProjectionMask::columns(&schema, ["pid"]), move |batch| {
        let pids = batch.column(0).as_primitive::<UInt32Type>();
        Ok(BooleanArray::from_unary(pids, |value| value == pid))
    });
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_projection(mask)
        .with_row_selection(RowSelection::from(selected))
        .with_row_filter(RowFilter::new(vec![Box::new(predicate)]))
        .build()
        .unwrap();
    reader.map(|batch| batch.unwrap().num_rows()).sum()
}

fn open(folder: &Path, table: Table) -> (Writer, hitscope_history::Recovery) {
    Writer::open(folder, "db1", &[table], Settings::keep_all()).unwrap()
}

/// An operation and what its hits are like.
struct Shape {
    operation: Arc<str>,
    service: Arc<str>,
    weight: u64,
    base_ns: u64,
    request_bytes: u64,
    response_bytes: u64,
    rows: u64,
}

impl Shape {
    fn new(n: u64, random: &mut Random) -> Self {
        Self {
            operation: format!("select column_{n}, other from table_{} where id = $1 and state = $2", n % 11).into(),
            service: ["postgresql@15-main", "postgresql@16-reports"][usize::from(n.is_multiple_of(8))].into(),
            weight: 1000 / (n + 1),
            base_ns: 20_000 << (n % 9),
            request_bytes: 60 + random.below(100),
            response_bytes: 100 + random.below(400),
            rows: 1 + n % 3,
        }
    }
}

fn hit(random: &mut Random, shapes: &[Shape], at: u64) -> Hit {
    let total: u64 = shapes.iter().map(|shape| shape.weight).sum();
    let mut pick = random.below(total);
    let index = shapes.iter().position(|shape| {
        let found = pick < shape.weight;
        pick = pick.saturating_sub(shape.weight);
        found
    });
    let shape = &shapes[index.unwrap()];
    let connection = random.below(64) as u32;
    // Long-tailed: most near the base, some far off.
    let duration_ns = shape.base_ns / 2 + random.below(shape.base_ns) + random.tail(shape.base_ns);
    let failed = random.below(500) == 0;
    let disk_ns = if random.below(50) == 0 { duration_ns / 2 + random.below(duration_ns / 10) } else { 0 };
    let cpu_ns = (duration_ns - disk_ns) * (80 + random.below(20)) / 100;
    Hit {
        end_time: (at + random.below(300_000)).cast_signed(),
        duration_ns,
        protocol: "postgres".into(),
        side: "server".into(),
        service: shape.service.clone(),
        pid: 20_000 + connection,
        thread_id: 20_000 + connection,
        container: None,
        remote_address: format!("10.0.0.{}", connection % 4).into(),
        remote_port: 40_000 + (connection * 37 % 9000) as u16,
        local_port: 5432,
        encrypted: false,
        user: None,
        database: None,
        application: None,
        authority: None,
        operation: shape.operation.clone(),
        operation_id: shape.base_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ shape.request_bytes,
        status: if failed { "error" } else { "ok" }.into(),
        error_code: failed.then(|| "40001".into()),
        error_message: failed.then(|| "could not serialize access due to concurrent update".into()),
        rows: Some(shape.rows),
        request_bytes: shape.request_bytes,
        response_bytes: shape.response_bytes + random.below(8),
        cpu_ns: Some(cpu_ns),
        runqueue_ns: Some(duration_ns - disk_ns - cpu_ns),
        disk_ns: Some(disk_ns),
        lock_ns: Some(0),
        network_ns: Some(0),
        queued_ns: None,
        text: None,
        weight: 1,
    }
}

fn process(n: u32) -> Process {
    let command: Arc<str> =
        ["kworker/u8", "postgres", "java", "sshd", "nginx", "systemd-journal"][n as usize % 6].into();
    let kernel = n.is_multiple_of(6);
    Process {
        time: 0,
        interval_ns: 5 * SECOND_NS,
        pid: 1000 + n,
        start_time: (START_NS - u64::from(n) * SECOND_NS * 977).cast_signed(),
        parent_pid: 1 + n % 7,
        arguments: if kernel {
            "".into()
        } else {
            format!("/usr/bin/{command} --config /etc/{command}/{n}.conf --instance {n}").into()
        },
        command: command.clone(),
        user: ["root", "postgres", "www-data"][n as usize % 3].into(),
        service: if kernel { "kernel".into() } else { format!("{command}-{}.service", n % 40).into() },
        container: (n % 9 == 1).then(|| format!("{:064x}", u128::from(n) << 64).into()),
        state: if kernel { "idle" } else { "sleeping" }.into(),
        cpu_user_ns: 0,
        cpu_system_ns: 0,
        runqueue_ns: Some(0),
        rss_bytes: if kernel { 0 } else { u64::from(n) * 1_048_576 },
        pss_bytes: None,
        swap_bytes: Some(0),
        virtual_bytes: Some(if kernel { 0 } else { u64::from(n) * 10_485_760 }),
        threads: 1 + n % 5,
        open_files: Some(n % 60),
        read_bytes: Some(0),
        written_bytes: Some(0),
        received_bytes: None,
        sent_bytes: None,
        minor_faults: 0,
        major_faults: 0,
        voluntary_switches: 0,
        involuntary_switches: 0,
        exited: false,
        exit_code: None,
    }
}

/// The process an interval later: busy ones change in all they use, one in twenty of the others a little.
fn sample_of(process: &mut Process, at: u64, random: &mut Random) -> Process {
    let mut row = process.clone();
    row.time = at.cast_signed();
    row.interval_ns = 5 * SECOND_NS;
    let busy = (process.pid - 1000) % (PROCESSES / BUSY) == 5;
    if busy || random.below(20) == 0 {
        let scale = if busy { 1_000_000_000 } else { 300_000 };
        row.cpu_user_ns = random.below(scale);
        row.cpu_system_ns = random.below(scale / 4);
        row.runqueue_ns = Some(random.below(scale / 20));
        row.voluntary_switches = 1 + random.below(scale / 200_000);
    }
    if busy {
        process.rss_bytes = 100 << 20 | random.below(4096) << 12;
        row.rss_bytes = process.rss_bytes;
        row.written_bytes = Some(random.below(1000) << 12);
        row.minor_faults = random.below(500);
        row.involuntary_switches = random.below(50);
        row.open_files = Some(50 + random.below(10) as u32);
        row.state = ["running", "sleeping"][random.below(2) as usize].into();
    }
    row
}

/// The columns that take most.
fn columns(path: &Path, rows: f64) {
    let file = File::open(path).unwrap();
    let total = file.metadata().unwrap().len();
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).unwrap();
    let mut sizes: Vec<(String, i64)> = Vec::new();
    for group in metadata.metadata().row_groups() {
        for column in group.columns() {
            let name = column.column_path().string();
            match sizes.iter_mut().find(|(other, _)| *other == name) {
                Some((_, size)) => *size += column.compressed_size(),
                None => sizes.push((name, column.compressed_size())),
            }
        }
    }
    sizes.sort_by_key(|(_, size)| -size);
    let data: i64 = sizes.iter().map(|(_, size)| size).sum();
    let shown = sizes.iter().take(9).map(|(name, size)| format!("{name} {:.2}", *size as f64 / rows));
    println!("  bytes a row: {}", shown.collect::<Vec<_>>().join(", "));
    println!("  of {total} bytes, {} are not data (schema, footer, indexes)", total as i64 - data);
}

fn cpu_seconds() -> f64 {
    // Fields 14 and 15, in ticks of 10 ms; the name before them may hold blanks.
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_memory_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Numbers that look random and are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }

    /// Mostly a little, seldom much: exponentially distributed.
    fn tail(&mut self, mean: u64) -> u64 {
        let uniform = (self.below(1 << 30) + 1) as f64 / (1u64 << 30) as f64;
        (-uniform.ln() * mean as f64 / 4.0) as u64
    }
}
