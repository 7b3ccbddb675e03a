//! Requests of HTTP/2 and calls of gRPC, as `h2load` and gRPC's own client write them.

use std::sync::Arc;

use hitscope_wire::{Connection, Direction, Mark, Outcome, Segment, Settings};

use super::{CONNECTIONS, ROUNDS, STATEMENTS, cpu_ns};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags, 0, 0, 0, 0], payload].concat()
}

/// A text without Huffman code.
fn text(text: &str) -> Vec<u8> {
    [&[text.len() as u8][..], text.as_bytes()].concat()
}

/// What both ends say of one stream, but for its number.
#[derive(Default)]
pub struct Frames {
    request: Vec<Vec<u8>>,
    answer: Vec<Vec<u8>>,
}

/// Paths as literals, the rest from the table after the first time.
pub fn get(n: usize) -> Frames {
    let path = text(&format!("/items/{}?page=2", n * 7919 % 100_000));
    let fields = [&[0x82, 0x86, 0x04][..], &path, b"\x41", &text("shop.example:8080")].concat();
    Frames {
        request: vec![frame(1, 5, &fields)],
        answer: vec![frame(1, 4, &[&[0x88, 0x0f, 0x0d][..], &text("612")].concat()), frame(0, 1, &[b'x'; 612])],
    }
}

/// As [`get`], with Huffman codes.
pub fn get_coded(n: usize) -> Frames {
    let mut path = Vec::new();
    let plain = format!("/items/{}?page=2", n * 7919 % 100_000);
    httlib_huffman::encode(plain.as_bytes(), &mut path).expect("all bytes have a code");
    let fields = [&[0x82, 0x86, 0x04, 0x80 | path.len() as u8][..], &path, b"\x41", &text("shop.example:8080")];
    Frames { request: vec![frame(1, 5, &fields.concat())], ..get(n) }
}

/// Everything from the table: nine entries, then one byte each.
pub fn call(n: usize) -> Frames {
    let message = [&[0, 0, 0, 0, 20][..], &[b'm'; 20]].concat();
    let entry = |name: &str, value: &str| [&b"\x40"[..], &text(name), &text(value)].concat();
    let answer = vec![
        frame(
            1,
            4,
            &[&[0x88][..], &if n == 0 { entry("content-type", "application/grpc") } else { vec![0xbf] }].concat(),
        ),
        frame(0, 0, &message),
        frame(1, 5, &if n == 0 { entry("grpc-status", "0") } else { vec![0xbe] }),
    ];
    let fields = match n {
        0 => [
            entry(":path", "/shop.v1.Catalog/GetItem"),
            entry(":authority", "shop.example:8080"),
            entry("content-type", "application/grpc"),
            entry("te", "trailers"),
            entry("grpc-accept-encoding", "identity, deflate, gzip"),
            entry("user-agent", "grpc-c++/1.85.1"),
        ]
        .concat(),
        _ => (0xbe..=0xc3).collect(),
    };
    Frames { request: vec![frame(1, 4, &[&[0x83, 0x86][..], &fields].concat()), frame(0, 1, &message)], answer }
}

struct Stream {
    connection: Connection,
    offsets: [u64; 2],
    time_ns: u64,
    id: u32,
    bytes: Vec<u8>,
}

impl Stream {
    fn feed(&mut self, direction: Direction, hits: &mut usize) {
        self.time_ns += 1000;
        let offset = &mut self.offsets[direction.index()];
        let segment = Segment {
            direction,
            enter_ns: self.time_ns,
            mark: Mark { time_ns: self.time_ns + 500, ..Mark::default() },
            offset: *offset,
            length: self.bytes.len() as u64,
            head: &self.bytes,
            tail: &[],
        };
        *offset += self.bytes.len() as u64;
        self.connection.feed(&segment, &mut |outcome, _| match outcome {
            Outcome::Hit(hit) => *hits += usize::from(std::hint::black_box(hit).error_code.is_none()),
            other => panic!("{other:?}"),
        });
    }

    fn play(&mut self, frames: &Frames, hits: &mut usize) {
        for (direction, frames) in [(Direction::Received, &frames.request), (Direction::Sent, &frames.answer)] {
            self.bytes.clear();
            for frame in frames {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(frame);
                self.bytes[start + 5..start + 9].copy_from_slice(&self.id.to_be_bytes());
            }
            self.feed(direction, hits);
        }
        self.id += 2;
    }
}

/// The median of some rounds, ns per request.
pub fn measure(make: fn(usize) -> Frames) -> f64 {
    let settings = Arc::new(Settings::default());
    let streams: Vec<_> = (0..4096).map(make).collect();
    let mut hits = 0;
    let mut connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let connection = Connection::new(settings.clone());
            let mut stream = Stream { connection, offsets: [0; 2], time_ns: 0, id: 1, bytes: PREFACE.to_vec() };
            stream.feed(Direction::Received, &mut hits);
            stream.play(&streams[0], &mut hits);
            stream
        })
        .collect();
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            hits = 0;
            let start = cpu_ns();
            for n in 0..STATEMENTS {
                connections[n % CONNECTIONS].play(&streams[1 + n % (streams.len() - 1)], &mut hits);
            }
            let time = cpu_ns() - start;
            assert_eq!(hits, STATEMENTS);
            time as f64 / STATEMENTS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
