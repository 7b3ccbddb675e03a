//! Field offsets of the running kernel, resolved from its BTF at start and given to the probes as a read-only global.

use bytemuck::{Pod, Zeroable};

use crate::record;

/// This kernel has no such field.
pub const ABSENT: u32 = u32::MAX;

/// Declares [`Offsets`] with the kernel's own names of each field, older names after it.
macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $struct:literal $($path:literal)|+;)*) => {
        /// Byte offsets (of a bit field the offset in bits), each [`ABSENT`] where the kernel lacks the field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
        pub struct Offsets { $($(#[$doc])* pub $name: u32,)* }

        impl Offsets {
            /// Nothing resolved.
            pub const NONE: Self = Self { $($name: ABSENT,)* };

            /// `(field here, kernel struct, dotted path in it and its names on other kernels)`.
            pub const FIELDS: &'static [(&'static str, &'static str, &'static [&'static str])] =
                &[$((stringify!($name), $struct, &[$($path),+]),)*];

            /// The offsets in the order of [`Self::FIELDS`].
            pub fn as_slice_mut(&mut self) -> &mut [u32] {
                bytemuck::cast_slice_mut(core::slice::from_mut(self))
            }
        }
        record!(Offsets, 4 * Offsets::FIELDS.len());
    };
}

offsets! {
    /// Process id.
    task_tgid = "task_struct" "tgid";
    /// Thread id.
    task_pid = "task_struct" "pid";
    /// Name.
    task_comm = "task_struct" "comm";
    /// First thread of the process.
    task_group_leader = "task_struct" "group_leader";
    /// Start since boot, ns.
    task_start_boottime = "task_struct" "start_boottime" | "real_start_time";
    /// Parent.
    task_real_parent = "task_struct" "real_parent";
    /// Open files.
    task_files = "task_struct" "files";
    /// Address space.
    task_mm = "task_struct" "mm";
    /// What the threads share.
    task_signal = "task_struct" "signal";
    /// Effective credentials.
    task_cred = "task_struct" "cred";
    /// Exit status of this thread.
    task_exit_code = "task_struct" "exit_code";
    /// CPU in user mode, ns.
    task_utime = "task_struct" "utime";
    /// CPU in kernel mode, ns.
    task_stime = "task_struct" "stime";
    /// Voluntary switches.
    task_nvcsw = "task_struct" "nvcsw";
    /// Involuntary switches.
    task_nivcsw = "task_struct" "nivcsw";
    /// Faults without I/O.
    task_min_flt = "task_struct" "min_flt";
    /// Faults with I/O.
    task_maj_flt = "task_struct" "maj_flt";
    /// Bytes read from storage.
    task_read_bytes = "task_struct" "ioac.read_bytes";
    /// Bytes sent to storage.
    task_write_bytes = "task_struct" "ioac.write_bytes";
    /// Time on CPUs so far, ns; brought up to date at each switch and tick.
    task_sum_exec_runtime = "task_struct" "se.sum_exec_runtime";
    /// Scheduler state.
    task_state = "task_struct" "__state" | "state";
    /// Whether it sleeps for a block device: a bit field, so in bits, not bytes.
    task_in_iowait = "task_struct" "in_iowait";
    /// Living threads.
    signal_live = "signal_struct" "live";
    /// Exit status of the whole process, where one was set.
    signal_group_exit_code = "signal_struct" "group_exit_code";
    /// Of the threads that ended before.
    signal_utime = "signal_struct" "utime";
    /// Of the threads that ended before.
    signal_stime = "signal_struct" "stime";
    /// Of the threads that ended before.
    signal_nvcsw = "signal_struct" "nvcsw";
    /// Of the threads that ended before.
    signal_nivcsw = "signal_struct" "nivcsw";
    /// Of the threads that ended before.
    signal_min_flt = "signal_struct" "min_flt";
    /// Of the threads that ended before.
    signal_maj_flt = "signal_struct" "maj_flt";
    /// Of the threads that ended before.
    signal_read_bytes = "signal_struct" "ioac.read_bytes";
    /// Of the threads that ended before.
    signal_write_bytes = "signal_struct" "ioac.write_bytes";
    /// Largest resident set, in pages, kept at the end of the address space.
    signal_maxrss = "signal_struct" "maxrss";
    /// Largest resident set, in pages.
    mm_hiwater_rss = "mm_struct" "hiwater_rss";
    /// Where the arguments begin.
    mm_arg_start = "mm_struct" "arg_start";
    /// Where the arguments end.
    mm_arg_end = "mm_struct" "arg_end";
    /// Effective user id.
    cred_euid = "cred" "euid";
    /// Table of open files.
    files_fdt = "files_struct" "fdt";
    /// Size of the table.
    fdt_max_fds = "fdtable" "max_fds";
    /// The table.
    fdt_fd = "fdtable" "fd";
    /// Inode of an open file.
    file_inode = "file" "f_inode";
    /// Directory entry of an open file.
    file_dentry = "file" "f_path.dentry" | "__f_path.dentry";
    /// Its name.
    dentry_name = "dentry" "d_name.name" | "__d_name.name";
    /// The `struct socket` of a socket's file.
    file_private_data = "file" "private_data";
    /// Type and mode.
    inode_mode = "inode" "i_mode";
    /// Inode number.
    inode_ino = "inode" "i_ino";
    /// The network layer's part of a socket.
    socket_sk = "socket" "sk";
    /// `SOCK_STREAM` and so on.
    socket_type = "socket" "type";
    /// The socket that holds it, once a process has accepted it.
    sock_socket = "sock" "sk_socket";
    /// The inode that lies beside a `struct socket`.
    socket_inode = "socket_alloc" "vfs_inode";
    /// `SOCK_STREAM` and so on, of the network layer's part.
    sock_type = "sock" "sk_type";
    /// State of the connection.
    sock_state = "sock" "__sk_common.skc_state";
    /// Both ports at once.
    sock_ports = "sock" "__sk_common.skc_portpair";
    /// The other end of a Unix socket.
    unix_peer = "unix_sock" "peer";
    /// Address family.
    sock_family = "sock" "__sk_common.skc_family";
    /// Remote port, network byte order.
    sock_dport = "sock" "__sk_common.skc_dport";
    /// Local port, host byte order.
    sock_num = "sock" "__sk_common.skc_num";
    /// Remote IPv4 address.
    sock_daddr = "sock" "__sk_common.skc_daddr";
    /// Local IPv4 address.
    sock_rcv_saddr = "sock" "__sk_common.skc_rcv_saddr";
    /// Remote IPv6 address.
    sock_v6_daddr = "sock" "__sk_common.skc_v6_daddr";
    /// Local IPv6 address.
    sock_v6_rcv_saddr = "sock" "__sk_common.skc_v6_rcv_saddr";
    /// `IPPROTO_TCP` and so on.
    sock_protocol = "sock" "sk_protocol";
    /// Why the connection failed.
    sock_err = "sock" "sk_err";
    /// `SOCK_DONE` and so on.
    sock_flags = "sock" "__sk_common.skc_flags";
    /// Sequence numbers received in order; its end mark counts as one.
    tcp_bytes_received = "tcp_sock" "bytes_received";
    /// Payload sent, again where it was sent again.
    tcp_bytes_sent = "tcp_sock" "bytes_sent";
    /// Payload sent again.
    tcp_bytes_retrans = "tcp_sock" "bytes_retrans";
    /// Sequence numbers acknowledged; begin and end marks count as one each.
    tcp_bytes_acked = "tcp_sock" "bytes_acked";
    /// Segments sent again.
    tcp_total_retrans = "tcp_sock" "total_retrans";
    /// Smoothed round-trip time, in eighths of a microsecond.
    tcp_srtt_us = "tcp_sock" "srtt_us";
    /// Next sequence number to send.
    tcp_snd_nxt = "tcp_sock" "snd_nxt";
    /// First sequence number not acknowledged.
    tcp_snd_una = "tcp_sock" "snd_una";
    /// Next sequence number to receive.
    tcp_rcv_nxt = "tcp_sock" "rcv_nxt";
    /// Length of a packet, from `data` on.
    skb_len = "sk_buff" "len";
    /// Where its headers not yet taken off begin.
    skb_data = "sk_buff" "data";
}
