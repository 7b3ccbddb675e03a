//! What is learnt from `/proc`, as plain values: the pipeline never reads files itself, so that a recording, which holds
//! these beside the kernel's records, replays to the same rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// `/proc` counts process times in ticks of 1/100 s on every architecture that hitscope knows (`USER_HZ`), ns.
pub const TICK_NS: u64 = 10_000_000;

/// `/proc/<pid>/stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Process.
    pub pid: u32,
    /// Start since boot, ticks; with the pid, its identity.
    pub start_ticks: u64,
    /// The process that started it.
    pub parent_pid: u32,
    /// The kernel's `comm`.
    pub command: Arc<str>,
    /// The kernel's letter of its state.
    pub state: char,
    /// Whether it is a thread of the kernel.
    pub kernel_thread: bool,
    /// CPU in user mode over its life, ticks.
    pub user_ticks: u64,
    /// CPU in kernel mode over its life, ticks.
    pub system_ticks: u64,
    /// Page faults without I/O over its life.
    pub minor_faults: u64,
    /// Page faults with I/O over its life.
    pub major_faults: u64,
    /// Threads.
    pub threads: u32,
    /// Address space, bytes.
    pub virtual_bytes: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}

/// Who a process is: what changes only when it executes another program or is moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Effective user.
    pub user_id: u32,
    /// Arguments, kept apart by NUL, or where somebody else has joined them, by blanks; as they were, with secrets.
    pub arguments: Arc<str>,
    /// `/proc/<pid>/cgroup`, empty where it could not be read.
    pub cgroup: Arc<str>,
    /// Its own `/etc/hostname`, asked for only in Kubernetes pods, where it is the pod's name.
    pub host_name: Option<Arc<str>>,
}

/// What costs more to read than [`Stat`]; totals over the process's life where not said otherwise, `None` where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Swapped out now, bytes.
    pub swap_bytes: Option<u64>,
    /// Resident memory now with shared pages divided, bytes; seldom read.
    pub pss_bytes: Option<u64>,
    /// Open file descriptors now.
    pub open_files: Option<u32>,
    /// Read from storage, bytes.
    pub read_bytes: Option<u64>,
    /// Sent to storage, bytes.
    pub written_bytes: Option<u64>,
    /// Voluntary context switches of the first thread.
    pub voluntary_switches: Option<u64>,
    /// Involuntary context switches of the first thread.
    pub involuntary_switches: Option<u64>,
}

/// One process, read because the pipeline asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// When it was read, monotonic, ns; 0: unknown. What the process became later, this does not know.
    #[serde(default)]
    pub read_ns: u64,
    /// Its figures.
    pub stat: Stat,
    /// Who it is.
    pub identity: Identity,
}

/// One process in a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Always read.
    pub stat: Stat,
    /// Read where the process is new or may have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Read where the process is new or did something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Every process of the host at the end of an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// End of the interval, wall clock, ns since the epoch.
    pub end_ns: i64,
    /// Sorted by pid.
    pub processes: Vec<Observed>,
}

/// The host's totals since boot at the end of an interval; `None` where the kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSample {
    /// End of the interval, wall clock, ns since the epoch.
    pub end_ns: i64,
    /// CPUs.
    pub cpus: u32,
    /// All CPUs in user mode, ticks.
    pub user_ticks: u64,
    /// All CPUs in kernel mode, interrupts included, ticks.
    pub system_ticks: u64,
    /// All CPUs idle or waiting for disk, ticks.
    pub idle_ticks: u64,
    /// Taken by the hypervisor, ticks.
    pub steal_ticks: u64,
    /// Load average over a minute.
    pub load1: f64,
    /// Memory in all, bytes.
    pub memory_total_bytes: u64,
    /// Memory to be had without swapping, bytes.
    pub memory_available_bytes: u64,
    /// Memory that holds file contents, bytes.
    pub memory_cached_bytes: u64,
    /// Swap in all, bytes.
    pub swap_total_bytes: u64,
    /// Swap not in use, bytes.
    pub swap_free_bytes: u64,
    /// Read from disks, bytes.
    pub disk_read_bytes: u64,
    /// Written to disks, bytes.
    pub disk_written_bytes: u64,
    /// Time that disks had a request in work, summed over the disks, ns.
    pub disk_busy_ns: u64,
    /// Received by all interfaces but loopback, bytes.
    pub network_received_bytes: u64,
    /// Sent by all interfaces but loopback, bytes.
    pub network_sent_bytes: u64,
    /// Some task waited for a CPU, ns.
    pub pressure_cpu_some_ns: Option<u64>,
    /// Some task waited for memory, ns.
    pub pressure_memory_some_ns: Option<u64>,
    /// All tasks waited for memory, ns.
    pub pressure_memory_full_ns: Option<u64>,
    /// Some task waited for disk, ns.
    pub pressure_io_some_ns: Option<u64>,
    /// All tasks waited for disk, ns.
    pub pressure_io_full_ns: Option<u64>,
}

/// What the pipeline wants to know, but does not wait for: to find it out may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which process has this pid now?
    Process(u32),
    /// What is this user called?
    User(u32),
    /// Why can what this process encrypts not be read?
    Unreadable(u32),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The process that has this pid; `None` when there is none.
    Process(u32, Option<ProcessFacts>),
    /// Name of a user; `None` when it has none.
    User(u32, Option<Arc<str>>),
    /// Why what a process encrypts cannot be read; `None` where its TLS library is looked into.
    Unreadable(u32, Option<Arc<str>>),
}

/// Answers the pipeline's questions.
pub trait Facts {
    /// The answer to a question.
    fn answer(&mut self, question: Question) -> Fact {
        match question {
            Question::Process(pid) => Fact::Process(pid, self.process(pid)),
            Question::User(user_id) => Fact::User(user_id, self.user(user_id)),
            Question::Unreadable(pid) => Fact::Unreadable(pid, self.unreadable(pid)),
        }
    }
    /// The process that has this pid now; `None` when there is none.
    fn process(&mut self, pid: u32) -> Option<ProcessFacts>;
    /// Name of a user; `None` when it has none.
    fn user(&mut self, user_id: u32) -> Option<Arc<str>>;
    /// Why what a process encrypts cannot be read; `None` where its TLS library is looked into.
    fn unreadable(&mut self, _pid: u32) -> Option<Arc<str>> {
        None
    }
}
