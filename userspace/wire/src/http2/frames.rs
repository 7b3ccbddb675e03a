//! One direction of a connection as frames.

use super::frame::{
    CONTINUATION, DATA, GOAWAY, HEADER_BYTES, HEADERS, Header, PREFACE, PUSH_PROMISE, RST_STREAM, Role, Run, SETTINGS,
};
use crate::segment::Moment;

/// A frame, or what there is of it.
pub struct Frame<'a> {
    pub header: Header,
    /// Its first bytes, as many as are needed and were captured.
    pub payload: &'a [u8],
    /// When its first byte passed.
    pub first: &'a Moment,
    /// When its last byte passed.
    pub last: &'a Moment,
    /// Bytes since the frame before of which no frame was seen.
    pub unseen: u64,
}

impl Frame<'_> {
    /// `payload` is all of it.
    pub fn is_whole(&self) -> bool {
        self.payload.len() == self.header.length as usize
    }
}

/// What a direction has to say.
pub enum Event<'a> {
    Frame(Frame<'a>),
    /// Frames were missed. `unexpected`: what came is none.
    Missed {
        unexpected: bool,
    },
}

/// Who is told.
pub trait Reader {
    fn take(&mut self, event: Event<'_>);
    /// Whether a stream is under way.
    fn is_open(&self, stream: u32) -> bool;
}

/// Enough of DATA to see a gRPC message begin.
pub const DATA_BYTES: usize = 6;
/// Enough for all settings there are.
const SETTINGS_BYTES: usize = 128;
/// A run of so many frames is one, wherever it begins.
const SURE_RUN: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    /// So much of the preface passed.
    Preface(usize),
    Framed,
    /// Looking for the begin of a frame.
    Seek,
}

/// A frame whose end is still to come.
#[derive(Debug)]
struct Partial {
    header: Header,
    left: u64,
    /// Something within was not captured, so nothing more is kept.
    holed: bool,
}

#[derive(Debug)]
pub struct Frames {
    role: Role,
    framing: Framing,
    /// Kept at most of a header block.
    block_bytes: usize,
    header: [u8; HEADER_BYTES],
    header_len: usize,
    partial: Option<Partial>,
    /// The front of the partial frame.
    kept: Vec<u8>,
    /// When the first byte of the header or the partial frame passed.
    first: Moment,
    /// No higher stream is in use.
    pub max_stream: u32,
    /// Bytes of which no frame was seen, since they were asked for.
    unseen: u64,
}

impl Frames {
    /// A direction that is first seen here. `opened`: at its very begin.
    pub fn new(role: Role, opened: bool, block_bytes: usize) -> Self {
        Self {
            role,
            framing: match (opened, role) {
                (true, Role::Requests) => Framing::Preface(0),
                (true, Role::Answers) => Framing::Framed,
                (false, _) => Framing::Seek,
            },
            block_bytes,
            header: [0; HEADER_BYTES],
            header_len: 0,
            partial: None,
            kept: Vec::new(),
            first: Moment::default(),
            max_stream: u32::MAX,
            unseen: 0,
        }
    }

    /// How many bytes passed since the last time of which no frame was seen.
    pub fn take_unseen(&mut self) -> u64 {
        std::mem::take(&mut self.unseen)
    }

    pub fn memory_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// How much of a frame's payload is needed.
    fn needed(&self, header: &Header) -> usize {
        let bytes = match header.kind {
            HEADERS | CONTINUATION | PUSH_PROMISE => self.block_bytes,
            DATA => DATA_BYTES,
            RST_STREAM => 4,
            GOAWAY => 8,
            SETTINGS => SETTINGS_BYTES,
            _ => 0,
        };
        bytes.min(header.length as usize)
    }

    /// The other direction spoke in between, then came `bytes`: frames, though another was not at its end? Then that was
    /// none.
    pub fn turn(&mut self, bytes: &[u8], reader: &mut dyn Reader) {
        let goes_on = match &self.partial {
            Some(partial) => partial.left <= bytes.len() as u64,
            None => self.header_len == 0,
        };
        if self.framing == Framing::Framed && !goes_on {
            let run = Run::new(bytes, self.role, self.max_stream).walk();
            if run.ends && !run.broken {
                self.lose(reader);
            }
        }
    }

    fn forget(&mut self) {
        let begun = self.partial.take().map(|it| it.header.bytes() - it.left);
        self.unseen = self.unseen.saturating_add(begun.unwrap_or(self.header_len as u64));
        self.header_len = 0;
        self.kept = Vec::new();
    }

    /// What came is no frame.
    fn lose(&mut self, reader: &mut dyn Reader) {
        self.forget();
        self.framing = Framing::Seek;
        reader.take(Event::Missed { unexpected: true });
    }

    /// Takes captured bytes. `front`: a call's first.
    pub fn data(&mut self, mut bytes: &[u8], mut front: bool, moment: &Moment, reader: &mut dyn Reader) {
        while !bytes.is_empty() {
            bytes = match self.framing {
                Framing::Preface(at) => match self.preface(bytes, at) {
                    Some(rest) => rest,
                    None => {
                        self.lose(reader);
                        bytes
                    }
                },
                Framing::Framed if self.partial.is_some() => self.fill(bytes, moment, reader),
                Framing::Framed => match self.begin(bytes, moment, reader) {
                    Some(rest) => rest,
                    None => {
                        self.lose(reader);
                        bytes
                    }
                },
                Framing::Seek => {
                    let rest = self.seek(bytes, front, moment, reader);
                    self.unseen += (bytes.len() - rest.len()) as u64;
                    rest
                }
            };
            front = false;
        }
    }

    /// Takes note of bytes that were not captured.
    pub fn gap(&mut self, bytes: Option<u64>, moment: &Moment, reader: &mut dyn Reader) {
        match (&mut self.partial, bytes) {
            (Some(partial), Some(bytes)) if bytes <= partial.left => {
                partial.left -= bytes;
                partial.holed = true;
                if partial.left == 0 {
                    self.finish(moment, reader);
                }
            }
            (partial, bytes) => {
                self.unseen = self.unseen.saturating_add(bytes.unwrap_or_default());
                if let (Some(partial), Some(_)) = (partial, bytes) {
                    self.unseen = self.unseen.saturating_sub(partial.left);
                    partial.holed = true;
                    self.finish(moment, reader);
                }
                self.forget();
                self.framing = Framing::Seek;
                reader.take(Event::Missed { unexpected: false });
            }
        }
    }

    /// Takes bytes of the preface; `None` where it is none.
    fn preface<'a>(&mut self, bytes: &'a [u8], at: usize) -> Option<&'a [u8]> {
        let left = &PREFACE[at..];
        let take = left.len().min(bytes.len());
        if left[..take] != bytes[..take] {
            return None;
        }
        self.framing = if take == left.len() { Framing::Framed } else { Framing::Preface(at + take) };
        Some(&bytes[take..])
    }

    /// Takes the begin of a frame; `None` where none can begin so.
    fn begin<'a>(&mut self, bytes: &'a [u8], moment: &Moment, reader: &mut dyn Reader) -> Option<&'a [u8]> {
        // Most frames come whole.
        if self.header_len == 0
            && let Some(header) = Header::parse(bytes)
            && let Some((payload, rest)) = bytes[HEADER_BYTES..].split_at_checked(header.length as usize)
        {
            if !header.is_valid() {
                return None;
            }
            let payload = &payload[..self.needed(&header)];
            let unseen = self.take_unseen();
            reader.take(Event::Frame(Frame { header, payload, first: moment, last: moment, unseen }));
            return Some(rest);
        }
        if self.header_len == 0 {
            self.first = *moment;
        }
        let take = (HEADER_BYTES - self.header_len).min(bytes.len());
        self.header[self.header_len..][..take].copy_from_slice(&bytes[..take]);
        self.header_len += take;
        let rest = &bytes[take..];
        if self.header_len < HEADER_BYTES {
            return Some(rest);
        }
        self.header_len = 0;
        let header = Header::parse(&self.header).filter(Header::is_valid)?;
        self.kept.clear();
        self.kept.reserve_exact(self.needed(&header));
        self.partial = Some(Partial { header, left: header.length.into(), holed: false });
        if header.length == 0 {
            self.finish(moment, reader);
        }
        Some(rest)
    }

    /// Takes more of the partial frame.
    fn fill<'a>(&mut self, bytes: &'a [u8], moment: &Moment, reader: &mut dyn Reader) -> &'a [u8] {
        let Some(partial) = &self.partial else { return bytes };
        let take = partial.left.min(bytes.len() as u64) as usize;
        let needed = self.needed(&partial.header);
        if !partial.holed && self.kept.len() < needed {
            let keep = take.min(needed - self.kept.len());
            self.kept.extend_from_slice(&bytes[..keep]);
        }
        if let Some(partial) = &mut self.partial {
            partial.left -= take as u64;
            if partial.left == 0 {
                self.finish(moment, reader);
            }
        }
        &bytes[take..]
    }

    /// Hands out the partial frame.
    fn finish(&mut self, last: &Moment, reader: &mut dyn Reader) {
        let Some(Partial { header, .. }) = self.partial.take() else { return };
        let kept = std::mem::take(&mut self.kept);
        let (first, unseen) = (self.first, self.take_unseen());
        reader.take(Event::Frame(Frame { header, payload: &kept, first: &first, last, unseen }));
    }

    /// Looks for the begin of a frame; returns what of `bytes` is still to be taken.
    fn seek<'a>(&mut self, bytes: &'a [u8], front: bool, moment: &Moment, reader: &dyn Reader) -> &'a [u8] {
        if self.header_len > 0 {
            // A call's few first bytes, which may have been the begin of a header.
            let take = (HEADER_BYTES - self.header_len).min(bytes.len());
            self.header[self.header_len..][..take].copy_from_slice(&bytes[..take]);
            self.header_len += take;
            if self.header_len < HEADER_BYTES {
                return &[];
            }
            self.header_len = 0;
            if let Some(header) = Header::parse(&self.header).filter(|header| self.is_credible(header)) {
                self.framing = Framing::Framed;
                self.partial = Some(Partial { header, left: header.length.into(), holed: false });
                self.kept.clear();
                self.kept.reserve_exact(self.needed(&header));
                return &bytes[take..];
            }
        } else if front {
            // Who writes to a socket writes whole frames, as a rule.
            if self.role == Role::Requests && PREFACE.starts_with(&bytes[..bytes.len().min(PREFACE.len())]) {
                self.framing = Framing::Preface(0);
                return bytes;
            }
            match Header::parse(bytes) {
                Some(header) if self.is_credible(&header) => {
                    let run = Run::new(bytes, self.role, self.max_stream).walk();
                    if !run.broken || run.whole >= SURE_RUN {
                        self.framing = Framing::Framed;
                        return bytes;
                    }
                }
                Some(_) => {}
                None => {
                    self.header[..bytes.len()].copy_from_slice(bytes);
                    self.header_len = bytes.len();
                    self.first = *moment;
                    return &[];
                }
            }
        }
        let from = (0..bytes.len().saturating_sub(HEADER_BYTES - 1)).find(|from| {
            let bytes = &bytes[*from..];
            let Some(header) = Header::parse(bytes).filter(|header| self.is_credible(header)) else { return false };
            is_sure(&header, reader) || {
                let run = Run::new(bytes, self.role, self.max_stream).walk();
                run.ends || run.whole >= SURE_RUN
            }
        });
        match from {
            Some(from) => {
                self.framing = Framing::Framed;
                &bytes[from..]
            }
            None => &[],
        }
    }

    fn is_credible(&self, header: &Header) -> bool {
        header.is_credible(self.role, self.max_stream)
    }
}

/// One that other bytes hardly make: of a stream that is under way, and not empty, as a few zeros might be.
fn is_sure(header: &Header, reader: &dyn Reader) -> bool {
    header.length > 0 && header.stream != 0 && reader.is_open(header.stream)
}
