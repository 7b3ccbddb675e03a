//! A captured packet as a TCP segment.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// What a packet of TCP says.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub sequence: u32,
    /// Everything before it has arrived at the sender of this packet.
    pub acknowledged: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub reset: bool,
    /// As much of the payload as was captured.
    pub captured: &'a [u8],
    /// Bytes of the payload.
    pub length: u32,
}

/// What there is in a captured frame.
#[derive(Debug)]
pub enum Frame<'a> {
    Tcp(Packet<'a>),
    /// Another protocol.
    Other,
    /// A part of a packet that was sent in several.
    Fragment,
    /// Its headers are cut off or make no sense.
    Damaged,
    /// A kind of link that is not known.
    UnknownLink,
}

/// `LINKTYPE_*` (tcpdump.org/linktypes.html).
mod link {
    pub const NULL: i32 = 0;
    pub const ETHERNET: i32 = 1;
    /// Raw IP, as BSD, OpenBSD and others number it.
    pub const RAW: [i32; 5] = [12, 14, 101, 228, 229];
    pub const LOOP: i32 = 108;
    pub const LINUX_SLL: i32 = 113;
    pub const LINUX_SLL2: i32 = 276;
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLANS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const MAX_VLANS: usize = 4;

/// Reads a frame of which `bytes` were captured and `length` were on the wire.
pub fn read(link_type: i32, bytes: &[u8], length: u32) -> Frame<'_> {
    let ip = match link_type {
        link::ETHERNET => typed(bytes, 12),
        link::LINUX_SLL => typed(bytes, 14),
        link::LINUX_SLL2 => number(bytes, 0).map(|kind| tagged(kind, bytes, 20)),
        // The family that precedes the packet is the capturing host's own number; the version says as much.
        link::NULL | link::LOOP => bytes.get(4..).map(Some),
        other if link::RAW.contains(&other) => Some(Some(bytes)),
        _ => return Frame::UnknownLink,
    };
    match ip {
        None => Frame::Damaged,
        Some(None) => Frame::Other,
        Some(Some(ip)) => internet(ip, length.saturating_sub((bytes.len() - ip.len()) as u32)),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// What follows the type at this place, if it is IP; `None`: cut off.
fn typed(bytes: &[u8], at: usize) -> Option<Option<&[u8]>> {
    number(bytes, at).map(|kind| tagged(kind, bytes, at + 2))
}

/// As [`typed`], of a known type, past the tags of virtual networks.
fn tagged(mut kind: u16, bytes: &[u8], mut at: usize) -> Option<&[u8]> {
    for _ in 0..MAX_VLANS {
        if !VLANS.contains(&kind) {
            break;
        }
        kind = number(bytes, at + 2)?;
        at += 4;
    }
    bytes.get(at..).filter(|_| matches!(kind, IPV4 | IPV6))
}

fn internet(ip: &[u8], length: u32) -> Frame<'_> {
    let Ok(packet) = LaxSlicedPacket::from_ip(ip) else { return Frame::Damaged };
    let (from, to, total, fragment): (IpAddr, IpAddr, u32, bool) = match &packet.net {
        Some(LaxNetSlice::Ipv4(net)) => {
            let header = net.header();
            let total = u32::from(header.total_len());
            (header.source().into(), header.destination().into(), total, net.is_payload_fragmented())
        }
        Some(LaxNetSlice::Ipv6(net)) => {
            let header = net.header();
            let total = match header.payload_length() {
                0 => 0,
                payload => 40 + u32::from(payload),
            };
            (header.source().into(), header.destination().into(), total, net.is_payload_fragmented())
        }
        _ => return Frame::Other,
    };
    if fragment {
        return Frame::Fragment;
    }
    let tcp = match (&packet.transport, &packet.stop_err) {
        (Some(TransportSlice::Tcp(tcp)), _) => tcp,
        (None, Some(_)) => return Frame::Damaged,
        _ => return Frame::Other,
    };
    // A packet that the network card is to divide says nothing, or too little, of its length.
    let total = if total == 0 { length } else { total.min(length) };
    let captured = tcp.payload();
    let headers = (captured.as_ptr() as usize).saturating_sub(ip.as_ptr() as usize) as u32;
    let length = total.saturating_sub(headers);
    Frame::Tcp(Packet {
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        sequence: tcp.sequence_number(),
        acknowledged: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        reset: tcp.rst(),
        captured: &captured[..captured.len().min(length as usize)],
        length,
    })
}
