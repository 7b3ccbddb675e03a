//! `sockets`.

use super::{Definition, ProgramState, Refusal, load::Loader};

pub(super) const DEFINITION: Definition = Definition {
    name: "sockets",
    doc: "What goes over TCP and Unix stream sockets, for the decoders.",
    needs: &[
        "task_files",
        "files_fdt",
        "fdt_max_fds",
        "fdt_fd",
        "file_inode",
        "file_private_data",
        "inode_mode",
        "inode_ino",
        "socket_sk",
        "socket_type",
        "sock_family",
        "sock_dport",
        "sock_num",
        "sock_daddr",
        "sock_rcv_saddr",
        "sock_v6_daddr",
        "sock_v6_rcv_saddr",
    ],
    attach,
};

/// Its programs are tail calls of the `syscalls` programs, in the order of `TAIL_*` in `probe-ebpf`.
fn attach(loader: &mut Loader) -> Result<Vec<ProgramState>, Refusal> {
    loader.attach_syscall_programs()?;
    // How long requests lie unread. Kernels before 6.3 lack the first, and tell of TCP alone.
    let arrival = loader
        .attach_raw_tracepoint("sockets_arrival", "sk_data_ready")
        .or_else(|_| loader.attach_raw_tracepoint("tcp_arrival", "tcp_probe"))
        .ok();
    // The first is what starts the others, so it comes last.
    [("sockets_piece", 2), ("sockets_close", 1), ("sockets_transfer", 0)]
        .into_iter()
        .map(|(name, index)| loader.attach_tail(name, index))
        .chain(arrival.map(Ok))
        .collect()
}
