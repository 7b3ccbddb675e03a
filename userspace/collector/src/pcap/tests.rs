use std::{fs, net::SocketAddr};

use hitscope_schemas::tables::Hit;

use super::*;

const START: u64 = 1_700_000_000_000_000_000;
const CLIENT: &str = "10.0.0.9:40000";
const SERVER: &str = "10.0.0.5:6379";

/// Link types and what precedes the packet there; `%`: the protocol's number.
const LINKS: [(u32, &[u8]); 7] = [
    (1, &[1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 0x81, 0, 0, 7, 0x81, 0, 0, 8, 0xee, 0xee]),
    (1, &[1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 0xee, 0xee]),
    (113, &[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0xee, 0xee]),
    (276, &[0xee, 0xee, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0]),
    (0, &[2, 0, 0, 0]),
    (108, &[0, 0, 0, 2]),
    (101, &[]),
];

/// A file in the making, and where the two directions stand.
struct Capture {
    bytes: Vec<u8>,
    link: &'static [u8],
    snap: usize,
    time_ns: u64,
    sequence: [u32; 2],
    ends: [SocketAddr; 2],
}

impl Capture {
    fn new(link: usize) -> Self {
        let (link_type, link) = LINKS[link];
        let mut bytes = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
        bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(65535_u32.to_le_bytes());
        bytes.extend(link_type.to_le_bytes());
        let ends = [CLIENT, SERVER].map(|end| end.parse().unwrap());
        Self { bytes, link, snap: usize::MAX, time_ns: START, sequence: [u32::MAX - 20, 77], ends }
    }

    /// A packet from the client (0) or the server (1).
    fn packet(&self, from: usize, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = self.ends[from].port().to_be_bytes().to_vec();
        tcp.extend(self.ends[1 - from].port().to_be_bytes());
        tcp.extend(sequence.to_be_bytes());
        tcp.extend(self.sequence[1 - from].to_be_bytes());
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(payload);
        let (kind, ip) = match (self.ends[from].ip(), self.ends[1 - from].ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip = vec![0x45, 0];
                ip.extend((20 + tcp.len() as u16).to_be_bytes());
                ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                (0x0800_u16, ip)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend((8 + tcp.len() as u16).to_be_bytes());
                // A header of options to the destination, then TCP.
                ip.extend([60, 64]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip.extend([6, 0, 1, 4, 0, 0, 0, 0]);
                (0x86dd, ip)
            }
            _ => unreachable!(),
        };
        let mut link = self.link.to_vec();
        if let Some(at) = link.windows(2).position(|pair| pair == [0xee, 0xee]) {
            link[at..at + 2].copy_from_slice(&kind.to_be_bytes());
        }
        [link, ip, tcp].concat()
    }

    fn frame(&mut self, frame: &[u8]) {
        self.time_ns += 1_000_000;
        let captured = frame.len().min(self.snap);
        self.bytes.extend(((self.time_ns / 1_000_000_000) as u32).to_le_bytes());
        self.bytes.extend(((self.time_ns % 1_000_000_000) as u32).to_le_bytes());
        self.bytes.extend((captured as u32).to_le_bytes());
        self.bytes.extend((frame.len() as u32).to_le_bytes());
        self.bytes.extend(&frame[..captured]);
    }

    /// Bytes in order, as packets of so many.
    fn packets(&mut self, from: usize, bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for part in bytes.chunks(size) {
            packets.push(self.packet(from, self.sequence[from], 0x18, part));
            self.sequence[from] = self.sequence[from].wrapping_add(part.len() as u32);
        }
        packets
    }

    fn send(&mut self, from: usize, bytes: &[u8]) {
        for packet in self.packets(from, bytes, 10) {
            self.frame(&packet);
        }
    }

    fn open(&mut self) {
        for (from, flags) in [(0, 0x02), (1, 0x12)] {
            let packet = self.packet(from, self.sequence[from], flags, b"");
            self.sequence[from] = self.sequence[from].wrapping_add(1);
            self.frame(&packet);
        }
    }

    fn exchanges(&mut self) {
        self.send(0, b"*2\r\n$3\r\nGET\r\n$6\r\nuser:1\r\n");
        self.send(1, b"$5\r\nhello\r\n");
        self.send(0, b"*1\r\n$4\r\nPING\r\n");
        self.send(1, b"+PONG\r\n");
    }
}

/// Hits and losses of a file.
fn replay(bytes: &[u8]) -> Result<(Vec<Hit>, Vec<String>, Replayed), Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcap");
    fs::write(&path, bytes).unwrap();
    let (mut hits, mut lost) = (Vec::new(), Vec::new());
    let replayed = rows::<Error>(&Settings::default(), &path, |rows, _| {
        hits.extend(rows.hits);
        lost.extend(rows.events.into_iter().map(|event| event.detail.to_string()));
        assert!(rows.processes.is_empty());
        Ok(())
    })?;
    hits.sort_by_key(|hit| hit.end_time);
    Ok((hits, lost, replayed))
}

fn operations(bytes: &[u8]) -> Vec<String> {
    replay(bytes).unwrap().0.iter().map(|hit| hit.operation.to_string()).collect()
}

const BOTH: [&str; 2] = ["GET user:{id}", "PING"];

#[test]
fn every_link_and_both_versions() {
    for link in 0..LINKS.len() {
        for ends in [[CLIENT, SERVER], ["[fe80::9]:40000", "[fe80::5]:6379"]] {
            let mut capture = Capture::new(link);
            capture.ends = ends.map(|end| end.parse().unwrap());
            capture.open();
            capture.exchanges();
            let (hits, lost, replayed) = replay(&capture.bytes).unwrap();
            assert_eq!(hits.len(), 2, "{link} {lost:?}");
            let hit = &hits[0];
            assert_eq!((&*hit.operation, &*hit.service, &*hit.side, hit.pid), ("GET user:{id}", ends[1], "server", 0));
            assert_eq!((hit.remote_port, hit.local_port), (40000, 6379));
            // Three packets, then two.
            assert_eq!((hit.end_time - START as i64, hit.duration_ns), (7_000_000, 2_000_000));
            assert!(lost.is_empty(), "{lost:?}");
            assert_eq!((replayed.hits, replayed.warning), (2, None));
        }
    }
}

#[test]
fn disorder() {
    let request = b"*2\r\n$3\r\nGET\r\n$6\r\nuser:1\r\n";
    for order in [[2, 0, 1], [1, 2, 0], [2, 1, 0], [0, 2, 1]] {
        let mut capture = Capture::new(1);
        capture.open();
        let packets = capture.packets(0, request, 10);
        // One of them twice.
        for index in order.iter().chain(&order[..1]) {
            capture.frame(&packets[*index]);
        }
        capture.send(1, b"$5\r\nhello\r\n");
        capture.send(0, b"*1\r\n$4\r\nPING\r\n");
        capture.send(1, b"+PONG\r\n");
        assert_eq!(operations(&capture.bytes), BOTH, "{order:?}");
    }
}

#[test]
fn met_in_the_middle_and_used_again() {
    let mut capture = Capture::new(1);
    capture.exchanges();
    let packet = capture.packet(0, capture.sequence[0], 0x04, b"");
    capture.frame(&packet);
    capture.sequence = [5, 6];
    capture.open();
    capture.exchanges();
    // The next one begins without an end of this one.
    capture.sequence = [500, 600];
    capture.open();
    capture.exchanges();
    assert_eq!(operations(&capture.bytes), [BOTH, BOTH, BOTH].concat());
}

#[test]
fn gaps_and_cut_off_packets_are_counted() {
    let mut capture = Capture::new(1);
    capture.open();
    capture.exchanges();
    capture.packets(0, b"*1\r\n$4\r\nPING\r\n", 100);
    capture.exchanges();
    capture.exchanges();
    let (hits, lost, _) = replay(&capture.bytes).unwrap();
    assert!(hits.len() >= 4, "{}", hits.len());
    assert!(lost.iter().any(|lost| lost.starts_with("pcap_gap: 1")), "{lost:?}");

    let mut capture = Capture::new(1);
    capture.snap = 14 + 40 + 20;
    capture.open();
    capture.exchanges();
    let large = [b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$300\r\n".to_vec(), vec![b'x'; 300], b"\r\n".to_vec()].concat();
    for packet in capture.packets(0, &large, 1000) {
        capture.frame(&packet);
    }
    capture.send(1, b"+OK\r\n");
    capture.exchanges();
    capture.exchanges();
    let (hits, lost, _) = replay(&capture.bytes).unwrap();
    assert!(hits.len() >= 4, "{}", hits.len());
    assert!(lost.iter().any(|lost| lost.starts_with("pcap_cut_off: 1")), "{lost:?}");
}

#[test]
fn pcapng() {
    let mut capture = Capture::new(1);
    capture.open();
    capture.exchanges();
    let block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len().next_multiple_of(4)) as u32;
        let mut block = [kind.to_le_bytes(), length.to_le_bytes()].concat();
        block.extend(body);
        block.resize(length as usize - 4, 0);
        block.extend(length.to_le_bytes());
        block
    };
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let mut bytes = block(0x0a0d_0d0a, &section);
    // Nanoseconds.
    bytes.extend(block(1, &[1, 0, 0, 0, 0, 0, 1, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]));
    let mut rest = &capture.bytes[24..];
    while !rest.is_empty() {
        let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let time = u64::from(number(0)) * 1_000_000_000 + u64::from(number(4));
        let length = number(8) as usize;
        let mut body = vec![0; 4];
        body.extend(((time >> 32) as u32).to_le_bytes());
        body.extend((time as u32).to_le_bytes());
        body.extend([number(8).to_le_bytes(), number(12).to_le_bytes()].concat());
        body.extend(&rest[16..16 + length]);
        bytes.extend(block(6, &body));
        rest = &rest[16 + length..];
    }
    let (hits, ..) = replay(&bytes).unwrap();
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0].end_time - START as i64, 7_000_000);
    for cut in (0..bytes.len()).step_by(7) {
        let _ = replay(&bytes[..cut]);
    }
}

#[test]
fn cut_short_anywhere() {
    let mut capture = Capture::new(1);
    capture.open();
    capture.exchanges();
    for cut in 0..capture.bytes.len() {
        match replay(&capture.bytes[..cut]) {
            Ok((hits, _, replayed)) => {
                assert!(cut >= 24 && hits.len() <= 2);
                // At a packet's end it is whole, as far as it goes.
                assert!(replayed.warning.is_none_or(|warning| warning.contains("cut short")));
            }
            Err(error) => assert!(cut < 24 && error.to_string().contains("no packet capture"), "{cut} {error}"),
        }
    }
}

#[test]
fn garbage_is_no_panic() {
    let mut capture = Capture::new(1);
    capture.open();
    capture.exchanges();
    // SplitMix64 (Steele, Lea, Flood).
    let mut state = 0_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    };
    for _ in 0..400 {
        let mut bytes = capture.bytes.clone();
        for _ in 0..1 + below(20) {
            let at = 4 + below(bytes.len() - 4);
            bytes[at] = below(256) as u8;
        }
        let _ = replay(&bytes);
    }
}

#[test]
fn connections_are_bounded() {
    let mut capture = Capture::new(1);
    for port in 1..200 {
        capture.ends[0].set_port(10_000 + port);
        capture.open();
        capture.exchanges();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcap");
    fs::write(&path, &capture.bytes).unwrap();
    let settings = Settings { max_connections: 16, ..Settings::default() };
    let replayed = rows::<Error>(&settings, &path, |_, _| Ok(())).unwrap();
    assert_eq!(replayed.hits, 2 * 199);
}
