//! Compressed connections: after the login, packets come within others, which are compressed by zlib where that makes them
//! smaller.
//!
//! Source: MySQL documentation, "Compression" and "Compressed Packet".

use flate2::{Decompress, FlushDecompress, Status};

use super::{frames::detect_requests, packet::HEADER_BYTES};
use crate::{
    reassembly::Piece,
    segment::Moment,
    settings::Settings,
    stream::{Credit, Event, Frames, Header, Message, Stream},
};

/// After a header like that of all packets: how long the rest was before it was compressed, 0 where it was not.
const LENGTH_BYTES: usize = 3;
/// Of one packet no more is uncompressed; the rest passes for not captured.
const MAX_BYTES: u64 = 1 << 20;

/// One direction of a compressed connection.
#[derive(Debug)]
pub struct Compressed {
    stream: Stream<Packed>,
    /// Something was missed, and nothing came since.
    missed: bool,
}

impl Compressed {
    /// `begins`: with a packet for sure.
    pub fn new(begins: bool, settings: &Settings) -> Self {
        let frames = Packed { needed: settings.connection_bytes() / 16 };
        Self { stream: Stream::new(frames, begins), missed: false }
    }

    /// Gives what was in the pieces of a segment, and whether the other direction spoke before it.
    pub fn take<'a>(
        &mut self,
        pieces: impl Iterator<Item = Piece<'a>>,
        turned: bool,
        moment: &Moment,
        on: &mut dyn FnMut(Piece<'_>, bool),
    ) {
        let Self { stream, missed } = self;
        let mut first = turned;
        stream.take(pieces, turned, moment, &mut |event| match event {
            Event::Message(message) => {
                uncompress(&message, &mut |piece| {
                    let turned = std::mem::take(&mut first) | std::mem::take(missed);
                    on(piece, turned);
                });
            }
            Event::Missed { .. } => {
                on(Piece::Missing(None), false);
                *missed = true;
            }
            Event::Regained { .. } => {}
        });
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.stream.memory_bytes()
    }
}

/// How much `bytes` look like requests that are compressed.
pub fn detect(bytes: &[u8]) -> Credit {
    if bytes.get(3).is_some_and(|number| *number != 0) {
        return Credit::No;
    }
    let judged = judge(bytes);
    let (Credit::Yes, Some(size)) = (judged, length(bytes)) else { return judged };
    let rest = &bytes[HEADER_BYTES..];
    let mut within = Vec::new();
    contents(&rest[..rest.len().min(size + LENGTH_BYTES)], &mut |bytes| within.extend_from_slice(bytes));
    // Of what is compressed, nothing may be there yet.
    if within.is_empty() { Credit::Maybe } else { detect_requests(&within) }
}

fn uncompress(message: &Message<'_>, on: &mut dyn FnMut(Piece<'_>)) {
    let size = message.bytes - (HEADER_BYTES + LENGTH_BYTES) as u64;
    let Some(length) = length(message.body) else { return on(Piece::Missing(None)) };
    let length = if length == 0 { size } else { length as u64 };
    let mut given = 0;
    contents(message.body, &mut |bytes| {
        let bytes = &bytes[..bytes.len().min((length - given) as usize)];
        given += bytes.len() as u64;
        if !bytes.is_empty() {
            on(Piece::Data(bytes));
        }
    });
    if given < length {
        on(Piece::Uncaptured(length - given));
    }
}

/// What a packet's body holds.
fn contents(body: &[u8], on: &mut dyn FnMut(&[u8])) {
    let Some((header, mut rest)) = body.split_at_checked(LENGTH_BYTES) else { return };
    if length(header) == Some(0) {
        return on(rest);
    }
    let mut zlib = Decompress::new(true);
    let mut chunk = [0; 4 << 10];
    while zlib.total_out() < MAX_BYTES {
        let (before_in, before_out) = (zlib.total_in(), zlib.total_out());
        let status = zlib.decompress(rest, &mut chunk, FlushDecompress::None);
        on(&chunk[..(zlib.total_out() - before_out) as usize]);
        rest = &rest[(zlib.total_in() - before_in) as usize..];
        let stands = (zlib.total_in(), zlib.total_out()) == (before_in, before_out);
        // What is no zlib ends here, too.
        if stands || !matches!(status, Ok(Status::Ok)) {
            return;
        }
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    let [a, b, c] = *bytes.first_chunk()?;
    Some(u32::from_le_bytes([a, b, c, 0]) as usize)
}

/// How much `bytes` look like a packet.
fn judge(bytes: &[u8]) -> Credit {
    let (size, before) = match (length(bytes), bytes.get(HEADER_BYTES..).and_then(length)) {
        (Some(0), _) => return Credit::No,
        (Some(size), Some(before)) => (size, before),
        _ => return Credit::Maybe,
    };
    let rest = &bytes[HEADER_BYTES + LENGTH_BYTES..];
    let fits = match before {
        // One or several packets that are whole, as short requests and answers are.
        0 => length(rest).map(|within| within > 0 && within + HEADER_BYTES <= size),
        // The header of zlib (RFC 1950): its method, and a check.
        _ => rest
            .first_chunk()
            .map(|zlib| zlib[0] == 0x78 && u16::from_be_bytes(*zlib).is_multiple_of(31) && (1..before).contains(&size)),
    };
    match fits {
        None => Credit::Maybe,
        Some(true) => Credit::Yes,
        Some(false) => Credit::No,
    }
}

/// The packets that hold others. A packet's kind is its number.
#[derive(Debug)]
struct Packed {
    needed: usize,
}

impl Frames for Packed {
    fn header_bytes(&self) -> usize {
        HEADER_BYTES
    }

    fn header(&self, header: &[u8]) -> Option<Header> {
        let size = length(header).filter(|size| *size > 0)? + LENGTH_BYTES;
        Some(Header { kind: header[3], size: size as u64, needed: self.needed })
    }

    fn credit(&self, bytes: &[u8], _total: Option<u64>) -> Credit {
        judge(bytes)
    }

    fn regain(&self, bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|from| {
            let bytes = &bytes[*from..];
            let size = length(bytes).unwrap_or(0) + HEADER_BYTES + LENGTH_BYTES;
            // The last of a turn.
            judge(bytes) == Credit::Yes && size == bytes.len()
        })
    }
}
