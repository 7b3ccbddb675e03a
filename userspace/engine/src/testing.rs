//! Small history folders for the tests.

use std::path::Path;

use hitscope_history::{CUBE_NS, Settings, Writer};
use hitscope_schemas::{
    latency,
    tables::{self, Hit, Hitmap, Host, Process, Row},
};

pub const S: i64 = 1_000_000_000;
/// Start of a cube: 2023-11-14T22:15:00Z.
pub const CUBE: i64 = 1_700_000_100 * S;
/// Length of a cube.
pub const CUBE_LENGTH: i64 = CUBE_NS as i64;

/// A writer of all tables that evicts nothing.
pub fn writer(data_dir: &Path, host: &str) -> Writer {
    Writer::open(data_dir, host, &tables::all(), Settings::keep_all()).unwrap().0
}

/// Writes rows into closed cubes.
pub fn close<R: Row + Send + 'static>(data_dir: &Path, host: &str, rows: Vec<R>) {
    let mut writer = writer(data_dir, host);
    writer.append(rows);
    writer.finish().unwrap();
}

/// Writes rows into open cubes and gives the writer, so that more can follow.
pub fn leave_open<R: Row + Send + 'static>(data_dir: &Path, host: &str, rows: Vec<R>) -> Writer {
    let mut writer = writer(data_dir, host);
    let newest = CUBE.unsigned_abs();
    writer.append(rows);
    writer.flush(newest).unwrap();
    writer
}

/// A hit that ended then.
pub fn hit(end_time: i64, service: &str, duration_ns: u64) -> Hit {
    Hit {
        end_time,
        duration_ns,
        protocol: "postgres".into(),
        side: "server".into(),
        service: service.into(),
        pid: 7,
        thread_id: 7,
        container: None,
        remote_address: "unix".into(),
        remote_port: 0,
        local_port: 5432,
        encrypted: false,
        user: None,
        database: None,
        application: None,
        authority: None,
        operation: "SELECT pg_sleep(?)".into(),
        operation_id: u64::MAX - 1,
        status: if duration_ns.is_multiple_of(2) { "ok" } else { "error" }.into(),
        error_code: None,
        error_message: None,
        rows: Some(1),
        request_bytes: 10,
        response_bytes: 20,
        cpu_ns: Some(5),
        runqueue_ns: None,
        disk_ns: None,
        lock_ns: None,
        network_ns: None,
        queued_ns: None,
        text: None,
        weight: 1,
    }
}

/// Hits of one window and the bucket that a duration belongs to.
pub fn cell(window_start: i64, service: &str, duration_ns: u64, hits: u64) -> Hitmap {
    let (bucket_low_ns, bucket_high_ns) = latency::bounds(latency::bucket(duration_ns));
    Hitmap {
        window_start,
        service: service.into(),
        protocol: "postgres".into(),
        side: "server".into(),
        bucket_low_ns,
        bucket_high_ns,
        hits,
        errors: hits / 2,
    }
}

/// A sample of a process.
pub fn process(time: i64, pid: u32, cpu_user_ns: u64, exited: bool) -> Process {
    Process {
        time,
        interval_ns: 5_000_000_000,
        pid,
        start_time: CUBE - i64::from(pid) * S - 123,
        parent_pid: 1,
        command: "postgres".into(),
        arguments: "postgres: checkpointer".into(),
        user: "postgres".into(),
        service: "postgresql.service".into(),
        container: None,
        state: if exited { "exited" } else { "sleeping" }.into(),
        cpu_user_ns,
        cpu_system_ns: 1,
        runqueue_ns: None,
        rss_bytes: 1000 + cpu_user_ns,
        pss_bytes: None,
        swap_bytes: Some(0),
        virtual_bytes: None,
        threads: 1,
        open_files: None,
        read_bytes: None,
        written_bytes: Some(3),
        received_bytes: None,
        sent_bytes: None,
        minor_faults: 0,
        major_faults: 0,
        voluntary_switches: 0,
        involuntary_switches: 0,
        exited,
        exit_code: exited.then_some(0),
    }
}

/// A sample of the host.
pub fn host(time: i64) -> Host {
    Host {
        time,
        interval_ns: 5_000_000_000,
        cpus: 2,
        cpu_user_ns: 1,
        cpu_system_ns: 1,
        cpu_idle_ns: 1,
        cpu_steal_ns: 0,
        load1: 0.5,
        memory_total_bytes: 1 << 30,
        memory_available_bytes: 1 << 29,
        memory_cached_bytes: 0,
        swap_total_bytes: 0,
        swap_used_bytes: 0,
        disk_read_bytes: 0,
        disk_written_bytes: 0,
        disk_busy_ns: 0,
        network_received_bytes: 0,
        network_sent_bytes: 0,
        pressure_cpu_some_ns: None,
        pressure_memory_some_ns: None,
        pressure_memory_full_ns: None,
        pressure_io_some_ns: None,
        pressure_io_full_ns: None,
    }
}
