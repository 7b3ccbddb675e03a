//! `connections`.

use hitscope_schemas::connections::RemoteStats;

use super::{Definition, ProgramState, Refusal, copies, load::Loader};

pub(super) const DEFINITION: Definition = Definition {
    name: "connections",
    doc: "Each process's TCP connections by remote: connects, failures, bytes, round-trip times; and DNS names.",
    needs: &[
        "task_tgid",
        "task_files",
        "files_fdt",
        "fdt_max_fds",
        "fdt_fd",
        "file_inode",
        "file_private_data",
        "inode_mode",
        "socket_sk",
        "sock_family",
        "sock_dport",
        "sock_daddr",
        "sock_v6_daddr",
        "sock_state",
        "sock_protocol",
        "sock_err",
        "sock_flags",
        "tcp_bytes_received",
        "tcp_bytes_sent",
        "tcp_bytes_retrans",
        "tcp_bytes_acked",
        "tcp_total_retrans",
        "tcp_srtt_us",
        "tcp_snd_nxt",
        "tcp_snd_una",
    ],
    attach,
};

/// The program that walks over open files.
pub(super) const WALK: &str = "connections_walk";

/// Two of its programs are tail calls of the `syscalls` programs, in the order of `TAIL_*` in `probe-ebpf`.
fn attach(loader: &mut Loader) -> Result<Vec<ProgramState>, Refusal> {
    loader.attach_syscall_programs()?;
    let mut programs = vec![
        loader.load_iterator(WALK, "task_file")?,
        // What frees an entry comes before what makes one.
        loader.attach_btf_tracepoint("connections_end", "tcp_destroy_sock")?,
        loader.attach_btf_tracepoint("connections_reset", "tcp_send_reset")?,
        loader.attach_btf_tracepoint("connections_state", "inet_sock_set_state")?,
    ];
    programs.extend(loader.attach_tail(["connections_accept"; copies::COUNT], 3)?);
    programs.extend(loader.attach_tail(copies::DATAGRAM, 4)?);
    Ok(programs)
}

/// One value out of those of all CPUs.
pub(super) fn sum(values: &[RemoteStats]) -> RemoteStats {
    values.iter().fold(RemoteStats::default(), |sum, value| RemoteStats {
        connects: sum.connects + value.connects,
        connect_failures: sum.connect_failures + value.connect_failures,
        connect_total_ns: sum.connect_total_ns + value.connect_total_ns,
        connect_max_ns: sum.connect_max_ns.max(value.connect_max_ns),
        received_bytes: sum.received_bytes + value.received_bytes,
        sent_bytes: sum.sent_bytes + value.sent_bytes,
        retransmits: sum.retransmits + value.retransmits,
        resets: sum.resets + value.resets,
        timeouts: sum.timeouts + value.timeouts,
        rtt_ns: sum.rtt_ns.max(value.rtt_ns),
    })
}
