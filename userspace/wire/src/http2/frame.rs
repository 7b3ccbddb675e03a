//! Frames as RFC 9113 numbers them, and what may be one.

/// What a client says first on a connection of HTTP/2.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags and stream of a frame.
pub const HEADER_BYTES: usize = 9;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// RFC 8336.
const ORIGIN: u8 = 12;
/// RFC 9218.
const PRIORITY_UPDATE: u8 = 16;

const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const WITH_PRIORITY: u8 = 0x20;

/// A frame that is longer was negotiated; those of everyone are not, bytes.
pub const USUAL_FRAME_BYTES: u32 = 16 << 10;
/// What is sought again among unknown bytes is not longer, bytes.
const MAX_SOUGHT_DATA_BYTES: u32 = 4 << 20;
/// Settings in one frame, at most; there are not half as many.
const MAX_SETTINGS: u32 = 32;

/// Who speaks in a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The client.
    Requests,
    /// The server.
    Answers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the payload, bytes.
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    reserved: bool,
}

impl Header {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g, ..] = bytes else { return None };
        let stream = u32::from_be_bytes([d, e, f, g]);
        let (length, reserved) = (u32::from_be_bytes([0, a, b, c]), stream >> 31 == 1);
        Some(Self { length, kind, flags, stream: stream & (u32::MAX >> 1), reserved })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// With its header, bytes.
    pub fn bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// What every frame fulfils where frames are known to be.
    pub fn is_valid(&self) -> bool {
        let flags = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
            PUSH_PROMISE => END_HEADERS | PADDED,
            CONTINUATION => END_HEADERS,
            SETTINGS | PING => ACK,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            // Types that are not known are to be passed over.
            _ => return self.length <= USUAL_FRAME_BYTES,
        };
        let fits = match self.kind {
            DATA | CONTINUATION => self.stream != 0,
            HEADERS => self.stream != 0 && self.length > 0,
            PRIORITY => self.stream != 0 && self.length == 5,
            RST_STREAM => self.stream != 0 && self.length == 4,
            SETTINGS if self.has(ACK) => self.stream == 0 && self.length == 0,
            SETTINGS => self.stream == 0 && self.length.is_multiple_of(6),
            PUSH_PROMISE => self.stream != 0 && self.length >= 4,
            PING => self.stream == 0 && self.length == 8,
            GOAWAY => self.stream == 0 && self.length >= 8,
            _ => self.length == 4,
        };
        // Flags that are not defined are to be ignored, but nobody sends them.
        fits && self.flags & !flags == 0
    }

    /// What tells a frame from other bytes. `max_stream`: higher ones are not in use.
    pub fn is_credible(&self, role: Role, max_stream: u32) -> bool {
        let length = match self.kind {
            DATA => MAX_SOUGHT_DATA_BYTES,
            SETTINGS => 6 * MAX_SETTINGS,
            ORIGIN | PRIORITY_UPDATE if self.stream != 0 || self.flags != 0 => return false,
            PUSH_PROMISE if role == Role::Requests => return false,
            ORIGIN | PRIORITY_UPDATE | ..=CONTINUATION => USUAL_FRAME_BYTES,
            _ => return false,
        };
        self.is_valid()
            && !self.reserved
            && self.length <= length
            && (self.stream == 0 || self.stream % 2 == 1 && self.stream <= max_stream)
    }
}

/// Frames that follow each other.
pub struct Run<'a> {
    bytes: &'a [u8],
    role: Role,
    max_stream: u32,
    /// Frames that are there as a whole.
    pub whole: usize,
    /// The last byte is a frame's last.
    pub ends: bool,
    /// What is not a frame followed.
    pub broken: bool,
}

impl<'a> Run<'a> {
    pub fn new(bytes: &'a [u8], role: Role, max_stream: u32) -> Self {
        Self { bytes, role, max_stream, whole: 0, ends: false, broken: false }
    }

    /// All of them; is it a run at all?
    pub fn walk(mut self) -> Self {
        while self.next().is_some() {}
        self
    }
}

impl<'a> Iterator for Run<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = Header::parse(self.bytes)?;
        if !header.is_credible(self.role, self.max_stream) {
            self.broken = true;
            self.bytes = &[];
            return None;
        }
        let rest = &self.bytes[HEADER_BYTES..];
        match rest.split_at_checked(header.length as usize) {
            Some((payload, rest)) => {
                self.whole += 1;
                self.ends = rest.is_empty();
                self.bytes = rest;
                Some((header, payload))
            }
            None => {
                self.bytes = &[];
                self.ends = false;
                None
            }
        }
    }
}

/// The part of a HEADERS or PUSH_PROMISE frame's payload that is a header block. `None`: it is no such payload.
pub fn block<'a>(header: &Header, payload: &'a [u8]) -> Option<&'a [u8]> {
    let (mut start, mut end) = (0, header.length as usize);
    if header.has(PADDED) {
        start = 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    start += match header.kind {
        HEADERS if header.has(WITH_PRIORITY) => 5,
        PUSH_PROMISE => 4,
        _ => 0,
    };
    payload.get(start..end.min(payload.len()).max(start)).filter(|_| start <= end)
}

/// RFC 9113, section 7.
pub fn error_name(code: u32) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_priority_are_no_part_of_the_block() {
        let header = |length, kind, flags| Header { length, kind, flags, stream: 1, reserved: false };
        let payload = b"\x02\0\0\0\x01\x10block..";
        assert_eq!(block(&header(13, HEADERS, PADDED | WITH_PRIORITY), payload), Some(&b"block"[..]));
        assert_eq!(block(&header(13, HEADERS, 0), payload), Some(&payload[..]));
        assert_eq!(block(&header(13, PUSH_PROMISE, PADDED), payload), Some(&b"\x10block"[..]));
        // Cut short, within the padding or the block.
        assert_eq!(block(&header(13, HEADERS, PADDED | WITH_PRIORITY), &payload[..9]), Some(&b"blo"[..]));
        assert_eq!(block(&header(13, HEADERS, WITH_PRIORITY), &payload[..3]), None);
        assert_eq!(block(&header(13, HEADERS, PADDED), &[]), None);
        // More padding than there is.
        assert_eq!(block(&header(2, HEADERS, PADDED), b"\x02a"), None);
        assert_eq!(block(&header(2, HEADERS, PADDED), b"\x01a"), Some(&b""[..]));
    }
}
