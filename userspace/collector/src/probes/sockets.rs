//! `sockets`.

use super::{Definition, ProgramState, Refusal, copies, load::Loader};

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
    let mut programs = loader
        .attach_copies(copies::ARRIVAL, "sk_data_ready")
        .or_else(|_| loader.attach_raw_tracepoint("tcp_arrival", "tcp_probe").map(|program| vec![program]))
        .unwrap_or_default();
    // What starts the others comes last.
    programs.extend(loader.attach_tail(copies::PIECE, 2)?);
    programs.extend(loader.attach_tail(["sockets_close"; copies::COUNT], 1)?);
    programs.extend(loader.attach_tail(copies::TRANSFER, 0)?);
    Ok(programs)
}
