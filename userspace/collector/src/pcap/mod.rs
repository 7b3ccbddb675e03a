//! Packet captures through the same pipeline: `hitscope replay FILE.pcap`.
//!
//! A capture sees connections from outside. Each is told once, as its server saw it, where the server is the end that
//! did not begin it, or, of a connection that was met in the middle, the end with the lower port. There is no process: the
//! pid is 0, and the service is the server's address and port. A request's time runs from its last packet to its
//! answer's last packet.
//!
//! What is read: pcap and pcapng, of Ethernet (with VLAN tags), Linux cooked captures (SLL, SLL2), loopback and raw IP;
//! IPv4 and IPv6, TCP. What is dropped is counted: `pcap_gap` (stretches that were not captured), `pcap_cut_off` (packets
//! captured in part), `pcap_fragment`, `pcap_damaged`, `pcap_unknown_link` (packets), `pcap_connections_over_limit`.

mod flow;
mod packet;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use bytemuck::Zeroable;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hitscope_schemas::{
    event::{EventHeader, KIND_CLOSE, KIND_SEGMENT, KIND_SOCKET},
    sockets::{CloseEvent, FAMILY_INET, FAMILY_INET6, RECEIVED, SENT, SegmentEvent, SocketEvent, ThreadTimes},
};

pub use self::reader::{Error, is_capture};
use self::{
    flow::{Flow, Piece},
    packet::{Frame, Packet},
    reader::Reader,
};
use crate::{
    event::{Clock, Event},
    facts::{Facts, Identity, ProcessFacts, Stat},
    pipeline::{Input, Pipeline},
    replay::Replayed,
    rows::Rows,
    settings::Settings,
};

const SECOND_NS: u64 = 1_000_000_000;
/// Memory for segments that wait for others before them, all connections together, bytes.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Servers told apart; further ones are one service, `pcap`.
const MAX_SERVERS: usize = 4096;
/// A connection that was silent for longer makes room first, ns.
const IDLE_NS: u64 = 60 * SECOND_NS;
/// Seconds without packets that are gone through one by one; a longer pause is passed over.
const MAX_PAUSE: u64 = 60;

/// Both ends, the lower one first.
type Ends = (SocketAddr, SocketAddr);

struct Connection {
    /// As the pipeline knows it.
    socket: u64,
    server: SocketAddr,
    /// Pipeline's number of the server.
    pid: u32,
    /// What the server received, and what it sent.
    flows: [Flow; 2],
    last_ns: u64,
}

/// Servers under the numbers by which the pipeline asks for them.
#[derive(Default)]
struct Servers {
    numbers: HashMap<SocketAddr, u32, FixedState>,
    addresses: Vec<SocketAddr>,
}

impl Servers {
    /// The first number stands for all that there is no room for.
    fn number(&mut self, server: SocketAddr) -> u32 {
        if let Some(number) = self.numbers.get(&server) {
            return *number;
        }
        if self.addresses.len() >= MAX_SERVERS {
            return 1;
        }
        self.addresses.push(server);
        let number = 1 + self.addresses.len() as u32;
        self.numbers.insert(server, number);
        number
    }
}

impl Facts for Servers {
    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        let address = (pid as usize).checked_sub(2).and_then(|index| self.addresses.get(index));
        let command = address.map_or_else(|| "pcap".into(), |address| canonical(*address).to_string());
        let stat = Stat { pid, start_ticks: 1, command: command.into(), state: 'S', ..Stat::default() };
        Some(ProcessFacts { read_ns: 0, stat, identity: Identity::default() })
    }

    fn user(&mut self, _: u32) -> Option<Arc<str>> {
        None
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where captured packets become the pipeline's inputs.
struct Source {
    pipeline: Pipeline,
    servers: Servers,
    connections: HashMap<Ends, Connection, FixedState>,
    max_connections: usize,
    waiting_bytes: usize,
    sockets: u64,
}

/// Goes through the capture at `path` and hands the rows of each of its seconds to `sink`, with that second's end: wall
/// clock, ns since the epoch.
///
/// # Errors
/// [`Error`] for what is no capture or cannot be read, and whatever `sink` says. One that is cut short is good up to there,
/// which [`Replayed::warning`] tells.
pub fn rows<E: From<Error>>(
    settings: &Settings,
    path: &Path,
    mut sink: impl FnMut(Rows, i64) -> Result<(), E>,
) -> Result<Replayed, E> {
    let mut reader = Reader::open(path)?;
    let mut source = Source {
        pipeline: Pipeline::new(settings, std::env::consts::ARCH),
        servers: Servers::default(),
        connections: HashMap::default(),
        max_connections: settings.max_connections.max(1),
        waiting_bytes: 0,
        sockets: 0,
    };
    let mut replayed = Replayed::default();
    let (mut now_ns, mut next_ns) = (0, 0);
    while let Some(captured) = reader.next()? {
        // A capture of several CPUs can be out of order; the pipeline's time only goes on.
        now_ns = captured.time_ns.max(now_ns);
        if next_ns == 0 {
            next_ns = (now_ns / SECOND_NS + 1) * SECOND_NS;
            replayed.from_ns = now_ns as i64;
            source.event(Event::Clock(Clock { monotonic_ns: now_ns, boottime_ns: now_ns, realtime_ns: now_ns }));
        }
        if now_ns > next_ns + MAX_PAUSE * SECOND_NS {
            sink(source.tick(next_ns), next_ns as i64)?;
            next_ns = now_ns / SECOND_NS * SECOND_NS;
        }
        while now_ns >= next_ns {
            sink(source.tick(next_ns), next_ns as i64)?;
            next_ns += SECOND_NS;
        }
        source.frame(packet::read(captured.link_type, captured.bytes, captured.length), captured.is_whole(), now_ns);
    }
    source.finish(now_ns);
    sink(source.rows(), now_ns as i64)?;
    replayed.to_ns = now_ns as i64;
    replayed.hits = source.pipeline.counters().get("hits").copied().unwrap_or(0);
    replayed.warning = reader.warning();
    Ok(replayed)
}

impl Source {
    fn event(&mut self, event: Event<'_>) {
        self.pipeline.handle_with(Input::Event(event), &mut self.servers);
        // Nobody is there to be told.
        self.pipeline.commands().for_each(drop);
    }

    fn tick(&mut self, now_ns: u64) -> Rows {
        self.pipeline.handle_with(Input::Tick(now_ns), &mut self.servers);
        self.rows()
    }

    /// The rows so far: the servers' numbers are no pids, and nothing is known of processes.
    fn rows(&mut self) -> Rows {
        let mut rows = self.pipeline.take_rows();
        rows.processes.clear();
        rows.hits.iter_mut().for_each(|hit| hit.pid = 0);
        rows.events.iter_mut().for_each(|event| event.pid = 0);
        rows
    }

    fn frame(&mut self, frame: Frame<'_>, whole: bool, now_ns: u64) {
        match frame {
            Frame::Tcp(packet) => {
                let cut_off = !whole && packet.captured.len() < packet.length as usize;
                self.pipeline.lost("pcap_cut_off", u64::from(cut_off));
                self.packet(&packet, now_ns);
            }
            Frame::Other => {}
            Frame::Fragment => self.pipeline.lost("pcap_fragment", 1),
            Frame::Damaged => self.pipeline.lost("pcap_damaged", 1),
            Frame::UnknownLink => self.pipeline.lost("pcap_unknown_link", 1),
        }
    }

    fn packet(&mut self, packet: &Packet<'_>, now_ns: u64) {
        let ends = if packet.from <= packet.to { (packet.from, packet.to) } else { (packet.to, packet.from) };
        if packet.syn
            && let Some(connection) = self.connections.get(&ends)
            && connection.flows[direction(connection, packet)].is_another(packet.sequence)
        {
            self.close(&ends, now_ns);
        }
        if !self.connections.contains_key(&ends) {
            if packet.length == 0 && !packet.syn {
                return;
            }
            self.open(packet, ends, now_ns);
        }
        let Self { pipeline, servers, connections, waiting_bytes, .. } = self;
        let Some(connection) = connections.get_mut(&ends) else { return };
        connection.last_ns = now_ns;
        let at = direction(connection, packet);
        let Connection { socket, pid, ref mut flows, .. } = *connection;
        let waited: usize = flows.iter().map(Flow::waiting_bytes).sum();
        let mut hand_over = |at: usize, piece: Piece<'_>| {
            let (event, captured) = segment(socket, pid, at, &piece, now_ns);
            pipeline.handle_with(Input::Event(Event::Segment(&event, captured, &[])), servers);
            pipeline.commands().for_each(drop);
        };
        if packet.syn {
            flows[at].begin(packet.sequence);
        }
        if let Some(acknowledged) = packet.acknowledged {
            flows[1 - at].confirm(acknowledged, &mut |piece| hand_over(1 - at, piece));
        }
        let sequence = packet.sequence.wrapping_add(u32::from(packet.syn));
        flows[at].take(sequence, packet.captured, packet.length, packet.fin, &mut |piece| hand_over(at, piece));
        let waits: usize = flows.iter().map(Flow::waiting_bytes).sum();
        *waiting_bytes = *waiting_bytes + waits - waited;
        if *waiting_bytes > MAX_WAITING_BYTES {
            *waiting_bytes -= waits;
            flows[at].finish(&mut |piece| hand_over(at, piece));
            flows[1 - at].finish(&mut |piece| hand_over(1 - at, piece));
        }
        let gaps: u64 = flows.iter_mut().map(|flow| std::mem::take(&mut flow.gaps)).sum();
        let ended = packet.reset || flows.iter().all(Flow::ended);
        pipeline.lost("pcap_gap", gaps);
        if ended {
            self.close(&ends, now_ns);
        }
    }

    fn open(&mut self, packet: &Packet<'_>, ends: Ends, now_ns: u64) {
        if self.connections.len() >= self.max_connections {
            self.make_room(now_ns);
        }
        let from_client = match (packet.syn, packet.acknowledged) {
            (true, None) => true,
            (true, Some(_)) => false,
            _ => packet.from.port() >= packet.to.port(),
        };
        let (client, server) = if from_client { (packet.from, packet.to) } else { (packet.to, packet.from) };
        self.sockets += 1;
        let (socket, pid) = (self.sockets, self.servers.number(server));
        let mut event = SocketEvent {
            header: header(KIND_SOCKET, pid, now_ns),
            socket,
            local_port: server.port(),
            remote_port: client.port(),
            ..SocketEvent::zeroed()
        };
        (event.family, event.local_address) = address(server.ip());
        (_, event.remote_address) = address(client.ip());
        self.event(Event::Socket(&event));
        let flows = Default::default();
        self.connections.insert(ends, Connection { socket, server, pid, flows, last_ns: now_ns });
    }

    /// The connections that were silent for longest go.
    fn make_room(&mut self, now_ns: u64) {
        let mut silent: Vec<(u64, Ends)> = self.connections.iter().map(|(ends, it)| (it.last_ns, *ends)).collect();
        silent.sort_unstable();
        let quarter = self.connections.len() / 4 + 1;
        for (index, (last_ns, ends)) in silent.into_iter().enumerate() {
            let idle = now_ns.saturating_sub(last_ns) > IDLE_NS;
            if index >= quarter && !idle {
                break;
            }
            self.pipeline.lost("pcap_connections_over_limit", u64::from(!idle));
            self.close(&ends, now_ns);
        }
    }

    fn close(&mut self, ends: &Ends, now_ns: u64) {
        let Some(Connection { socket, pid, mut flows, .. }) = self.connections.remove(ends) else { return };
        self.waiting_bytes -= flows.iter().map(Flow::waiting_bytes).sum::<usize>();
        for (at, flow) in flows.iter_mut().enumerate() {
            flow.finish(&mut |piece| {
                let (event, captured) = segment(socket, pid, at, &piece, now_ns);
                self.event(Event::Segment(&event, captured, &[]));
            });
            self.pipeline.lost("pcap_gap", flow.gaps);
        }
        self.event(Event::Close(&CloseEvent { header: header(KIND_CLOSE, pid, now_ns), socket }));
    }

    fn finish(&mut self, now_ns: u64) {
        // The capture ended, not its connections: what is under way is not aborted. Its answer was not seen.
        for (_, Connection { socket, pid, mut flows, .. }) in std::mem::take(&mut self.connections) {
            for (at, flow) in flows.iter_mut().enumerate() {
                flow.finish(&mut |piece| {
                    let (event, captured) = segment(socket, pid, at, &piece, now_ns);
                    self.event(Event::Segment(&event, captured, &[]));
                });
                self.pipeline.lost("pcap_gap", flow.gaps);
            }
        }
        self.pipeline.handle_with(Input::End, &mut self.servers);
    }
}

/// 0: the server received it, 1: it sent it.
fn direction(connection: &Connection, packet: &Packet<'_>) -> usize {
    usize::from(packet.from == connection.server)
}

fn header(kind: u32, pid: u32, time_ns: u64) -> EventHeader {
    EventHeader { kind, size: 0, time_ns, pid, thread_id: 0 }
}

fn segment<'a>(socket: u64, pid: u32, at: usize, piece: &Piece<'a>, time_ns: u64) -> (SegmentEvent, &'a [u8]) {
    let event = SegmentEvent {
        header: header(KIND_SEGMENT, pid, time_ns),
        socket,
        enter_ns: time_ns,
        offset: piece.offset,
        length: piece.length.into(),
        times: ThreadTimes::zeroed(),
        queued_ns: 0,
        direction: if at == 0 { RECEIVED } else { SENT },
        head_len: piece.captured.len() as u32,
        tail_len: 0,
        flags: 0,
    };
    (event, piece.captured)
}

fn address(address: IpAddr) -> (u16, [u8; 16]) {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            (FAMILY_INET, bytes)
        }
        IpAddr::V6(address) => (FAMILY_INET6, address.octets()),
    }
}
