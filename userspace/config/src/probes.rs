//! `[probes]`

use std::collections::BTreeSet;

use hitscope_base::Size;
use serde::{Deserialize, Serialize};

/// What is looked at in the kernel, and how much room that may take there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Probes {
    /// Names of probes to leave off.
    pub disabled: BTreeSet<String>,
    /// Size of the ring buffer, rounded up to a power of two of pages.
    pub ring_buffer_bytes: Size,
    /// Sockets followed at a time; beyond that the one longest idle makes room.
    pub max_sockets: u32,
    /// Processes counted in one window.
    pub max_processes: u32,
    /// Pairs of process and syscall counted in one window.
    pub max_syscalls: u32,
    /// Open TCP connections that are followed.
    pub max_tcp_connections: u32,
    /// Pairs of process and remote counted in one window.
    pub max_remotes: u32,
    /// Bytes in one direction without a turn that are captured whole; beyond that only heads and tails.
    pub capture_bytes: Size,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            disabled: BTreeSet::new(),
            ring_buffer_bytes: Size(8 << 20),
            max_sockets: 16384,
            max_processes: 16384,
            max_syscalls: 16384,
            max_tcp_connections: 32768,
            max_remotes: 8192,
            capture_bytes: Size(64 << 10),
        }
    }
}
