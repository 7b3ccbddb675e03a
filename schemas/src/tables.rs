//! The stored tables: for each its columns with Arrow type, unit and a sentence, its row type, and how rows merge.
//!
//! Every table has a `host` column besides, which is not in the files but in their folder's name.

mod column;
mod text;

use std::{string::String, sync::Arc, vec::Vec};

use arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema, SchemaRef},
};
use column::Column as ColumnType;
pub use column::{Bool, F64, Histogram, I32, LongText, Opt, Text, Timestamp, U16, U32, U64};
pub use text::printable;

/// Key of the schema version in every file's metadata.
pub const VERSION_KEY: &str = "hitscope.schema_version";

/// How a column's values combine when the partial rows of one key are merged at the close of a cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Rows with equal keys are one row. In a table with nothing to merge, every column is a key.
    Key,
    /// Values add up (histograms element by element).
    Sum,
    /// The smallest stays.
    Min,
    /// The largest stays.
    Max,
}

/// One column of a stored table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Name in files, SQL, API and UI.
    pub name: &'static str,
    /// Unit, or empty.
    pub unit: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// How it merges.
    pub role: Role,
    /// Arrow field.
    pub field: Field,
}

/// One stored table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name of the folder and of the SQL table.
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Raised when a column changes its meaning or goes.
    pub version: u32,
    /// The column of time.
    pub time: &'static str,
    /// What closed files are sorted by.
    pub sort: &'static [&'static str],
    /// In the order of the files.
    pub columns: Vec<Column>,
}

impl Table {
    /// The Arrow schema of the files.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(|column| column.field.clone()).collect();
        let metadata = [(VERSION_KEY.into(), std::format!("{}", self.version))];
        Arc::new(Schema::new_with_metadata(fields, metadata.into()))
    }

    /// Whether rows of one key are merged at the close of a cube.
    pub fn merges(&self) -> bool {
        self.columns.iter().any(|column| column.role != Role::Key)
    }
}

/// A row of a stored table.
pub trait Row: Sized {
    /// Its table.
    fn table() -> Table;
    /// Rows as columns, in the table's schema.
    fn batch(rows: &[Self]) -> RecordBatch;
}

macro_rules! role {
    () => {
        Role::Key
    };
    ($role:ident) => {
        Role::$role
    };
}

macro_rules! tables {
    ($(
        $(#[doc = $table_doc:literal])+
        $row:ident = $table:literal v $version:literal time $time:literal sort $sort:tt {
            $($(#[doc = $doc:literal])+ $column:ident: $kind:ty $(, $unit:literal)? $(=> $role:ident)?;)*
        }
    )*) => {
        $(
            $(#[doc = $table_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $row { $($(#[doc = $doc])+ pub $column: <$kind as ColumnType>::Value,)* }

            impl Row for $row {
                fn table() -> Table {
                    Table {
                        name: $table,
                        doc: concat!($($table_doc),+).trim_ascii(),
                        version: $version,
                        time: $time,
                        sort: &$sort,
                        columns: std::vec![$(Column {
                            name: stringify!($column),
                            unit: concat!($($unit)?),
                            doc: concat!($($doc),+).trim_ascii(),
                            role: role!($($role)?),
                            field: Field::new(
                                stringify!($column),
                                <$kind as ColumnType>::data_type(),
                                <$kind as ColumnType>::NULLABLE,
                            ),
                        }),*],
                    }
                }

                fn batch(rows: &[Self]) -> RecordBatch {
                    let columns = std::vec![$(<$kind as ColumnType>::array(rows.iter().map(|row| &row.$column))),*];
                    RecordBatch::try_new(Self::table().schema(), columns).expect("columns follow the schema")
                }
            }
        )*

        /// Every stored table.
        pub fn all() -> Vec<Table> {
            std::vec![$($row::table()),*]
        }
    };
}

tables! {
    /// One row per hit kept: all that failed or were slow, and a sample of the fast ones with their `weight`.
    Hit = "hits" v 1 time "end_time" sort ["service", "operation_id", "pid", "end_time"] {
        /// When the answer was complete.
        end_time: Timestamp;
        /// From the request to the answer, as the process saw it.
        duration_ns: U64, "ns";
        /// `postgres`, `mysql`, `http1`, …
        protocol: Text;
        /// `server`: this process answered; `client`: it asked.
        side: Text;
        /// The group that the process belongs to.
        service: Text;
        /// Process.
        pid: U32;
        /// The thread that handled the hit.
        thread_id: U32;
        /// Container id, where the process is in one.
        container: Opt<Text>;
        /// The other end: an IP address, or `unix`.
        remote_address: Text;
        /// The other end's port; 0 for Unix sockets.
        remote_port: U16;
        /// This end's port; 0 for Unix sockets.
        local_port: U16;
        /// Whether the connection was encrypted.
        encrypted: Bool;
        /// Who logged in on the connection, where that was seen.
        user: Opt<Text>;
        /// Database or schema of the connection, where that was seen.
        database: Opt<Text>;
        /// Name that the client gave itself, where that was seen.
        application: Opt<Text>;
        /// Whom the request was addressed to: the `Host` header or `:authority`.
        authority: Opt<Text>;
        /// The hit's shape: the statement with its literals taken out, or method and path template.
        operation: Text;
        /// Hash of the operation, equal on every host.
        operation_id: U64;
        /// `ok`, `error` or `aborted`.
        status: Text;
        /// SQLSTATE, MySQL errno, HTTP status, gRPC status, the first word of a Redis error.
        error_code: Opt<Text>;
        /// The error's text.
        error_message: Opt<Text>;
        /// Rows returned or changed, where the protocol tells.
        rows: Opt<U64>;
        /// Bytes of the request.
        request_bytes: U64, "bytes";
        /// Bytes of the answer.
        response_bytes: U64, "bytes";
        /// Of the duration, the handling thread's time on a CPU. This and the next four are null where several threads handled the
        /// hit, or where the thread shared its time with other requests; what they leave of the duration went elsewhere.
        cpu_ns: Opt<U64>, "ns";
        /// Of the duration, the handling thread's time waiting for a CPU.
        runqueue_ns: Opt<U64>, "ns";
        /// Of the duration, the handling thread's time asleep for a disk.
        disk_ns: Opt<U64>, "ns";
        /// Of the duration, the handling thread's time asleep until another thread or process went on.
        lock_ns: Opt<U64>, "ns";
        /// Of the duration, the handling thread's time asleep for a socket.
        network_ns: Opt<U64>, "ns";
        /// How long the request lay in the socket before the process read it; null on the side that asks.
        queued_ns: Opt<U64>, "ns";
        /// The request with its literals; only where the configuration allows it.
        text: Opt<LongText>;
        /// How many hits this row stands for.
        weight: U64;
    }

    /// Hits counted by window and latency bucket; exact.
    Hitmap = "hitmap" v 1 time "window_start" sort ["service", "window_start"] {
        /// Start of the 5-second window.
        window_start: Timestamp;
        /// The group that the process belongs to.
        service: Text;
        /// See `hits`.
        protocol: Text;
        /// See `hits`.
        side: Text;
        /// The bucket's lower bound, included.
        bucket_low_ns: U64, "ns";
        /// The bucket's upper bound, not included.
        bucket_high_ns: U64, "ns";
        /// Hits in the bucket.
        hits: U64 => Sum;
        /// Those of them that failed.
        errors: U64 => Sum;
    }

    /// Hits summed by window and operation; exact.
    Operation = "operations" v 1 time "window_start" sort ["service", "operation_id", "window_start"] {
        /// Start of the 5-second window.
        window_start: Timestamp;
        /// The group that the process belongs to.
        service: Text;
        /// See `hits`.
        protocol: Text;
        /// See `hits`.
        side: Text;
        /// See `hits`.
        operation: Text;
        /// See `hits`.
        operation_id: U64;
        /// Hits.
        calls: U64 => Sum;
        /// Those of them that failed.
        errors: U64 => Sum;
        /// Sum of their durations.
        total_ns: U64, "ns" => Sum;
        /// The shortest.
        min_ns: U64, "ns" => Min;
        /// The longest.
        max_ns: U64, "ns" => Max;
        /// Rows returned or changed.
        rows: U64 => Sum;
        /// Bytes of the requests.
        request_bytes: U64, "bytes" => Sum;
        /// Bytes of the answers.
        response_bytes: U64, "bytes" => Sum;
        /// Time of the handling threads on a CPU, where known.
        cpu_ns: Opt<U64>, "ns" => Sum;
        /// Time of the handling threads waiting for a lock, where known.
        lock_ns: Opt<U64>, "ns" => Sum;
        /// Time of the handling threads waiting for disk, where known.
        disk_ns: Opt<U64>, "ns" => Sum;
    }

    /// What each process used in an interval of 5 s, and one row at its end.
    Process = "processes" v 1 time "time" sort ["pid", "start_time", "time"] {
        /// End of the interval.
        time: Timestamp;
        /// Length of the interval, or of the process's life in it.
        interval_ns: U64, "ns";
        /// Process.
        pid: U32;
        /// When it started; with the pid, its identity.
        start_time: Timestamp;
        /// The process that started it.
        parent_pid: U32;
        /// The kernel's name of it.
        command: Text;
        /// Its arguments, separated by blanks.
        arguments: Text;
        /// Name of its effective user, or the number.
        user: Text;
        /// The group that it belongs to.
        service: Text;
        /// Container id, where it is in one.
        container: Opt<Text>;
        /// `running`, `sleeping`, `disk`, `stopped`, `zombie`, `idle`, `exited`.
        state: Text;
        /// CPU in user mode in the interval.
        cpu_user_ns: U64, "ns";
        /// CPU in kernel mode in the interval.
        cpu_system_ns: U64, "ns";
        /// Time its threads waited for a CPU in the interval.
        runqueue_ns: Opt<U64>, "ns";
        /// Resident memory at the end of the interval; of an ended process the largest of its life.
        rss_bytes: U64, "bytes";
        /// Resident memory with shared pages divided among those that share them.
        pss_bytes: Opt<U64>, "bytes";
        /// Swapped out.
        swap_bytes: Opt<U64>, "bytes";
        /// Address space.
        virtual_bytes: Opt<U64>, "bytes";
        /// Threads.
        threads: U32;
        /// Open file descriptors.
        open_files: Opt<U32>;
        /// Read from storage in the interval.
        read_bytes: Opt<U64>, "bytes";
        /// Sent to storage in the interval.
        written_bytes: Opt<U64>, "bytes";
        /// Received over sockets in the interval.
        received_bytes: Opt<U64>, "bytes";
        /// Sent over sockets in the interval.
        sent_bytes: Opt<U64>, "bytes";
        /// Page faults without I/O in the interval.
        minor_faults: U64;
        /// Page faults with I/O in the interval.
        major_faults: U64;
        /// Times a thread gave up its CPU to wait.
        voluntary_switches: U64;
        /// Times a thread lost its CPU though it could have gone on.
        involuntary_switches: U64;
        /// Whether this is the row at the process's end.
        exited: Bool;
        /// Exit code, or 128 and the signal that killed it, as a shell shows it.
        exit_code: Opt<I32>;
    }

    /// Syscalls summed by window, process and syscall; exact.
    Syscall = "syscalls" v 1 time "window_start" sort ["service", "pid", "window_start"] {
        /// Start of the 5-second window.
        window_start: Timestamp;
        /// Process.
        pid: U32;
        /// The group that the process belongs to.
        service: Text;
        /// Name, or the number where the name is not known.
        syscall: Text;
        /// Calls that returned.
        calls: U64 => Sum;
        /// Those of them that failed.
        errors: U64 => Sum;
        /// Sum of their durations.
        total_ns: U64, "ns" => Sum;
        /// The longest.
        max_ns: U64, "ns" => Max;
        /// Calls by duration: the first element counts those below 256 ns, each next one up to twice as long.
        histogram: Histogram => Sum;
    }

    /// TCP connections summed by window, process and remote; exact. One that nothing happened on has no row.
    Socket = "sockets" v 1 time "window_start" sort ["service", "pid", "remote_address", "window_start"] {
        /// Start of the 5-second window.
        window_start: Timestamp;
        /// Process.
        pid: U32;
        /// The group that the process belongs to.
        service: Text;
        /// `client`: the process connected; `server`: it accepted.
        side: Text;
        /// The other end's IP address.
        remote_address: Text;
        /// The other end's port; 0 where the process accepted, since there every connection has another.
        remote_port: U16;
        /// DNS name whose answer led this process, or else the host, to the address; null where none was seen, and for `server`.
        remote_name: Opt<Text>;
        /// Connects that ended, well or not, or connections accepted.
        connects: U64 => Sum;
        /// Those of the connects that failed: refused, unreachable, timed out, or given up by the process.
        connect_failures: U64 => Sum;
        /// Sum of the times from the begin of each connect to its end.
        connect_total_ns: U64, "ns" => Sum;
        /// The longest of them.
        connect_max_ns: U64, "ns" => Max;
        /// Payload received, also on connections opened earlier.
        received_bytes: U64, "bytes" => Sum;
        /// Payload sent, each byte once, also on connections opened earlier.
        sent_bytes: U64, "bytes" => Sum;
        /// Segments sent again, those of connects included.
        retransmits: U64 => Sum;
        /// Established connections that either end reset.
        resets: U64 => Sum;
        /// Connects and connections that ended for want of an answer; also a connect that the process gave up after 1 s or more.
        timeouts: U64 => Sum;
        /// The longest smoothed round-trip time of a connection; null where none was measured.
        rtt_ns: Opt<U64>, "ns" => Max;
    }

    /// What the host used in an interval of 5 s.
    Host = "hosts" v 1 time "time" sort ["time"] {
        /// End of the interval.
        time: Timestamp;
        /// Length of the interval.
        interval_ns: U64, "ns";
        /// Number of CPUs.
        cpus: U32;
        /// All CPUs in user mode, in the interval.
        cpu_user_ns: U64, "ns";
        /// All CPUs in kernel mode, interrupts included, in the interval.
        cpu_system_ns: U64, "ns";
        /// All CPUs idle or waiting for disk, in the interval.
        cpu_idle_ns: U64, "ns";
        /// Taken by the hypervisor, in the interval.
        cpu_steal_ns: U64, "ns";
        /// Load average over one minute.
        load1: F64;
        /// Memory in all.
        memory_total_bytes: U64, "bytes";
        /// Memory that can be had without swapping.
        memory_available_bytes: U64, "bytes";
        /// Memory that holds file contents.
        memory_cached_bytes: U64, "bytes";
        /// Swap in all.
        swap_total_bytes: U64, "bytes";
        /// Swap in use.
        swap_used_bytes: U64, "bytes";
        /// Read from disks in the interval.
        disk_read_bytes: U64, "bytes";
        /// Written to disks in the interval.
        disk_written_bytes: U64, "bytes";
        /// Sum over the disks of the time that each had a request in work, in the interval.
        disk_busy_ns: U64, "ns";
        /// Received by all interfaces but loopback in the interval.
        network_received_bytes: U64, "bytes";
        /// Sent by all interfaces but loopback in the interval.
        network_sent_bytes: U64, "bytes";
        /// Time in the interval that some task waited for a CPU.
        pressure_cpu_some_ns: Opt<U64>, "ns";
        /// Time in the interval that some task waited for memory.
        pressure_memory_some_ns: Opt<U64>, "ns";
        /// Time in the interval that all tasks waited for memory.
        pressure_memory_full_ns: Opt<U64>, "ns";
        /// Time in the interval that some task waited for disk.
        pressure_io_some_ns: Opt<U64>, "ns";
        /// Time in the interval that all tasks waited for disk.
        pressure_io_full_ns: Opt<U64>, "ns";
    }

    /// What happened: processes, losses, hitscope's own start and stop.
    Event = "events" v 1 time "time" sort ["time"] {
        /// When.
        time: Timestamp;
        /// `exec`, `exit`, `oom`, `release`, `lost`, `probe`, `start`, `stop`.
        kind: Text;
        /// Process, or 0.
        pid: U32;
        /// The group that the process belongs to, or empty.
        service: Text;
        /// More, for people to read.
        detail: LongText;
    }

    /// Each change of an alert's state.
    Alert = "alerts" v 1 time "time" sort ["time"] {
        /// When.
        time: Timestamp;
        /// The rule's name.
        rule: Text;
        /// The rule's severity.
        severity: Text;
        /// `pending`, `firing`, `resolved`, or `no_data`: it fired, and now there are no data to tell.
        state: Text;
        /// The row's text columns, as a JSON object; they tell one alert of a rule from another.
        labels: Text;
        /// The row's first number.
        value: Opt<F64>;
        /// What was or would be said.
        message: LongText;
        /// How the message went: `none`, `sent`, or why it was not.
        delivery: LongText;
    }
}

/// The tables as a page of Markdown: `docs/tables.md`.
pub fn reference() -> String {
    use core::fmt::Write;
    let mut page = String::from(
        "# Tables\n\nGenerated from `schemas/src/tables.rs`; do not edit.\n\nEach lies under \
         `<data-dir>/history/<table>/date=YYYY-MM-DD/host=<host>/<cube start, UTC>.parquet`; `date` and `host` are \
         columns too. What the server writes, `alerts`, lies the same way under `<data-dir>/server/`.\n",
    );
    for table in all() {
        let _ = write!(page, "\n## {}\n\n{} Sorted by {}.\n\n", table.name, table.doc, table.sort.join(", "));
        page.push_str("| column | type | unit | meaning |\n|---|---|---|---|\n");
        for column in &table.columns {
            let null = if column.field.is_nullable() { ", may be null" } else { "" };
            let _ = writeln!(
                page,
                "| `{}` | {}{null} | {} | {} |",
                column.name,
                column::sql_name(column.field.data_type()),
                column.unit,
                column.doc
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_sorts_and_times_by_columns_it_has() {
        for table in all() {
            let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
            assert!(names.contains(&table.time), "{}", table.name);
            assert!(table.sort.iter().all(|column| names.contains(column)), "{}", table.name);
        }
    }

    #[test]
    fn units_follow_the_names() {
        for table in all() {
            for column in table.columns {
                let suffix = column.name.rsplit('_').next().unwrap();
                if matches!(suffix, "ns" | "bytes") {
                    assert_eq!(column.unit, suffix, "{}.{}", table.name, column.name);
                }
            }
        }
    }
}
