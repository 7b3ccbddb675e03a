//! Connections summed in the kernel become rows of `sockets`.

use std::{net::Ipv6Addr, sync::Arc};

use hitscope_schemas::{
    connections::{RemoteKey, RemoteStats, SERVER},
    tables::Socket,
};

use crate::names::Names;

/// One process's connections with one remote in a window. `now_ns`: monotonic.
pub fn row(
    key: &RemoteKey,
    stats: &RemoteStats,
    window_start: i64,
    service: Arc<str>,
    names: &mut Names,
    now_ns: u64,
) -> Socket {
    let address = Ipv6Addr::from(key.address).to_canonical();
    let server = key.side == SERVER;
    Socket {
        window_start,
        pid: key.pid,
        service,
        side: if server { "server" } else { "client" }.into(),
        remote_address: address.to_string().into(),
        remote_port: key.port,
        remote_name: if server { None } else { names.get(key.pid, address, now_ns) },
        connects: stats.connects,
        connect_failures: stats.connect_failures,
        connect_total_ns: stats.connect_total_ns,
        connect_max_ns: stats.connect_max_ns,
        received_bytes: stats.received_bytes,
        sent_bytes: stats.sent_bytes,
        retransmits: stats.retransmits,
        resets: stats.resets,
        timeouts: stats.timeouts,
        rtt_ns: (stats.rtt_ns > 0).then_some(stats.rtt_ns),
    }
}
