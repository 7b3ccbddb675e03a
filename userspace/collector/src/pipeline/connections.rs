//! The table of connections: whose each is, where it leads, and its decoder.

use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
    net::{Ipv4Addr, Ipv6Addr},
    rc::Rc,
    sync::Arc,
};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hitscope_schemas::sockets::{
    FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, SocketEvent, VERDICT_DECODED, VERDICT_UNKNOWN,
};

use super::threads::Open;
use crate::{
    processes::Info,
    windows::{GroupId, Origin},
};

/// Records of an ignored socket that were on their way when the kernel was told arrive within this, ns.
const IGNORED_NS: u64 = 2_000_000_000;

/// The group that a connection's hits count for.
pub(super) struct Grouped {
    pub(super) protocol: &'static str,
    pub(super) side: &'static str,
    pub(super) id: GroupId,
}

/// The plaintext of an encrypted connection.
pub(super) struct Plaintext {
    pub(super) decoder: hitscope_wire::Connection,
    /// What the kernel was told.
    pub(super) verdict: u16,
}

/// One connection that is or may be decoded.
pub(super) struct Connection {
    pub(super) info: Rc<Info>,
    pub(super) origin: Origin,
    pub(super) decoder: hitscope_wire::Connection,
    pub(super) group: Option<Grouped>,
    /// What the kernel was told.
    pub(super) verdict: u16,
    /// Its request that waits for an answer.
    pub(super) open: Open,
    /// Whether it was found to be encrypted.
    pub(super) encrypted: bool,
    /// Set once its plaintext is seen; who judges later holds the other end.
    pub(super) read: Rc<Cell<bool>>,
    /// What a TLS library says of it.
    pub(super) plaintext: Option<Box<Plaintext>>,
    /// Last traffic, monotonic, ns.
    used_ns: u64,
}

impl Connection {
    /// With nothing known of where it leads.
    pub(super) fn new(info: Rc<Info>, end: End, decoder: hitscope_wire::Connection, now_ns: u64) -> Self {
        let origin = Origin {
            pid: info.pid,
            container: info.container.clone(),
            remote_address: end.remote_address,
            remote_port: end.remote_port,
            local_port: end.local_port,
        };
        Self {
            info,
            origin,
            decoder,
            group: None,
            verdict: VERDICT_UNKNOWN,
            open: None,
            encrypted: false,
            read: Rc::default(),
            plaintext: None,
            used_ns: now_ns,
        }
    }

    /// Whether it is the same as the one that the kernel tells of (again).
    pub(super) fn is(&self, pid: u32, end: &End) -> bool {
        self.info.pid == pid
            && self.origin.remote_address == end.remote_address
            && (self.origin.remote_port, self.origin.local_port) == (end.remote_port, end.local_port)
    }

    pub(super) fn set_info(&mut self, info: Rc<Info>) {
        self.origin.pid = info.pid;
        self.origin.container = info.container.clone();
        self.decoder.set_service(&info.service);
        self.info = info;
        self.group = None;
    }
}

/// Where a connection leads.
pub(super) struct End {
    remote_address: Arc<str>,
    remote_port: u16,
    local_port: u16,
}

/// Every connection by its socket's inode number, and those ignored of late.
pub(super) struct Connections {
    table: HashMap<u64, Connection, FixedState>,
    /// Sorted, since one process may have very many, and each of them goes on its own.
    by_process: HashMap<u32, BTreeSet<u64>, FixedState>,
    /// Ignored, and since when.
    ignored: HashMap<u64, u64, FixedState>,
    /// Every connection once, with when it was last found used: the first to make room.
    order: VecDeque<(u64, u64)>,
    unix: Arc<str>,
    unknown: Arc<str>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            table: HashMap::default(),
            by_process: HashMap::default(),
            ignored: HashMap::default(),
            order: VecDeque::new(),
            unix: "unix".into(),
            unknown: "unknown".into(),
        }
    }
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn is_ignored(&self, socket: u64) -> bool {
        !self.ignored.is_empty() && self.ignored.contains_key(&socket)
    }

    /// The connection, marked as used.
    pub(super) fn get(&mut self, socket: u64, now_ns: u64) -> Option<&mut Connection> {
        let connection = self.table.get_mut(&socket)?;
        connection.used_ns = now_ns;
        Some(connection)
    }

    /// Adds a connection in a place that is free.
    pub(super) fn insert(&mut self, socket: u64, connection: Connection) {
        self.ignored.remove(&socket);
        self.by_process.entry(connection.info.pid).or_default().insert(socket);
        self.order.push_back((socket, connection.used_ns));
        self.table.insert(socket, connection);
        if self.order.len() > 2 * self.table.len() + 64 {
            let table = &self.table;
            self.order.retain(|(socket, _)| table.contains_key(socket));
        }
    }

    /// Another process uses the connection now.
    pub(super) fn hand_over(&mut self, socket: u64, info: Rc<Info>) {
        let Some(connection) = self.table.get_mut(&socket) else { return };
        let before = connection.info.pid;
        let now = info.pid;
        connection.set_info(info);
        if before != now {
            self.leave(before, socket);
            self.by_process.entry(now).or_default().insert(socket);
        }
    }

    pub(super) fn remove(&mut self, socket: u64) -> Option<Connection> {
        let connection = self.table.remove(&socket)?;
        self.leave(connection.info.pid, socket);
        Some(connection)
    }

    /// Nothing more is wanted of this socket.
    pub(super) fn ignore(&mut self, socket: u64, now_ns: u64) -> Option<Connection> {
        self.ignored.insert(socket, now_ns);
        self.remove(socket)
    }

    /// Forgets ignored sockets of which nothing more can come. To be called each second.
    pub(super) fn expire(&mut self, now_ns: u64) {
        self.ignored.retain(|_, since_ns| *since_ns + IGNORED_NS > now_ns);
    }

    /// The connection unused for longest, or nearly so.
    pub(super) fn oldest(&mut self) -> Option<u64> {
        for _ in 0..self.order.len() {
            let (socket, found_ns) = self.order.pop_front()?;
            match self.table.get(&socket) {
                Some(connection) if connection.used_ns > found_ns => self.order.push_back((socket, connection.used_ns)),
                Some(_) => return Some(socket),
                None => {}
            }
        }
        self.order.pop_front().map(|(socket, _)| socket)
    }

    /// Connections last used by a process.
    pub(super) fn of_process(&self, pid: u32) -> Vec<u64> {
        self.by_process.get(&pid).into_iter().flatten().copied().collect()
    }

    /// Connections last used by a process that is gone.
    pub(super) fn orphans(&self, alive: impl Fn(u32) -> bool) -> Vec<u64> {
        self.by_process.iter().filter(|(pid, _)| !alive(**pid)).flat_map(|(_, sockets)| sockets).copied().collect()
    }

    /// Where a socket leads, as its record says; nothing is known without one.
    pub(super) fn end(&self, event: Option<&SocketEvent>) -> End {
        let Some(event) = event else {
            return End { remote_address: self.unknown.clone(), remote_port: 0, local_port: 0 };
        };
        let remote_address = match event.family {
            FAMILY_UNIX => self.unix.clone(),
            FAMILY_INET => {
                let [a, b, c, d, ..] = event.remote_address;
                Ipv4Addr::new(a, b, c, d).to_string().into()
            }
            FAMILY_INET6 => Ipv6Addr::from(event.remote_address).to_canonical().to_string().into(),
            _ => self.unknown.clone(),
        };
        End { remote_address, remote_port: event.remote_port, local_port: event.local_port }
    }

    fn leave(&mut self, pid: u32, socket: u64) {
        if let Some(sockets) = self.by_process.get_mut(&pid) {
            sockets.remove(&socket);
            if sockets.is_empty() {
                self.by_process.remove(&pid);
            }
        }
    }
}

/// Whether losing it loses hits.
pub(super) fn is_decoded(connection: &Connection) -> bool {
    connection.verdict == VERDICT_DECODED
        || connection.plaintext.as_ref().is_some_and(|plaintext| plaintext.verdict == VERDICT_DECODED)
}
