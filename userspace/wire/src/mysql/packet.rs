//! The packets of MySQL's protocol and what they say.
//!
//! Source: MySQL documentation, "Client/Server Protocol"; MariaDB documentation, "MariaDB Protocol Reference".

/// Length (3 bytes, little endian) and number.
pub const HEADER_BYTES: usize = 4;
/// A packet of this size is continued by the next.
pub const FULL_BYTES: u64 = 0xff_ffff;

/// What the ends can do, as the client says in its answer to the greeting.
pub mod capability {
    /// The client is no MariaDB one; without, there are MariaDB's own capabilities.
    pub const MYSQL: u64 = 1;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const COMPRESS: u64 = 1 << 5;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const SSL: u64 = 1 << 11;
    pub const SECURE_CONNECTION: u64 = 1 << 15;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const CONNECT_ATTRS: u64 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
    pub const DEPRECATE_EOF: u64 = 1 << 24;
    pub const OPTIONAL_METADATA: u64 = 1 << 25;
    pub const ZSTD: u64 = 1 << 26;
}

/// Server status flags.
pub mod status {
    pub const IN_TRANSACTION: u16 = 1;
    pub const AUTOCOMMIT: u16 = 2;
    pub const MORE_RESULTS: u16 = 8;
    pub const CURSOR_EXISTS: u16 = 0x40;
    pub const SESSION_STATE_CHANGED: u16 = 0x4000;
}

/// What a client asks: the first byte of its packet numbered 0.
pub mod command {
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const CREATE_DB: u8 = 0x05;
    pub const DROP_DB: u8 = 0x06;
    pub const REFRESH: u8 = 0x07;
    pub const SHUTDOWN: u8 = 0x08;
    pub const STATISTICS: u8 = 0x09;
    pub const PROCESS_INFO: u8 = 0x0a;
    pub const PROCESS_KILL: u8 = 0x0c;
    pub const DEBUG: u8 = 0x0d;
    pub const PING: u8 = 0x0e;
    pub const CHANGE_USER: u8 = 0x11;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const TABLE_DUMP: u8 = 0x13;
    pub const REGISTER_REPLICA: u8 = 0x15;
    pub const PREPARE: u8 = 0x16;
    pub const EXECUTE: u8 = 0x17;
    pub const LONG_DATA: u8 = 0x18;
    pub const CLOSE: u8 = 0x19;
    pub const RESET: u8 = 0x1a;
    pub const SET_OPTION: u8 = 0x1b;
    pub const FETCH: u8 = 0x1c;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
    pub const RESET_CONNECTION: u8 = 0x1f;
    /// MariaDB's: a statement with many sets of values.
    pub const BULK_EXECUTE: u8 = 0xfa;

    /// The operation of commands that run no statement.
    pub fn name(command: u8) -> Option<&'static str> {
        Some(match command {
            INIT_DB => "<init db>",
            FIELD_LIST => "<field list>",
            CREATE_DB => "<create db>",
            DROP_DB => "<drop db>",
            REFRESH => "<refresh>",
            SHUTDOWN => "<shutdown>",
            STATISTICS => "<statistics>",
            PROCESS_INFO => "<process info>",
            PROCESS_KILL => "<process kill>",
            DEBUG => "<debug>",
            PING => "<ping>",
            CHANGE_USER => "<change user>",
            SET_OPTION => "<set option>",
            RESET_CONNECTION => "<reset connection>",
            _ => return None,
        })
    }
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A packet's length and number, from its header.
pub fn header(bytes: &[u8]) -> Option<(usize, u8)> {
    let [a, b, c, number, ..] = *bytes else { return None };
    Some((u32::from_le_bytes([a, b, c, 0]) as usize, number))
}

/// Splits off a NUL-terminated text; `None` where the NUL is missing.
pub fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Splits off a length-encoded number.
pub fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let size = match first {
        0..=0xfa => return Some((u64::from(*first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(size)?;
    Some((digits.iter().rev().fold(0, |number, digit| number << 8 | u64::from(*digit)), rest))
}

/// Splits off a text with its length before it.
pub fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = number(bytes)?;
    rest.split_at_checked(usize::try_from(size).ok()?)
}

/// An OK packet, or the EOF packet that older ends use in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done<'a> {
    pub affected: u64,
    pub status: u16,
    /// Info and session state, of an OK packet.
    rest: &'a [u8],
}

impl<'a> Done<'a> {
    /// `size`: that of the whole body.
    pub fn ok(body: &'a [u8], size: u64) -> Option<Self> {
        if size < 7 || !matches!(body.first(), Some(0 | 0xfe)) || size >= FULL_BYTES {
            return None;
        }
        let (affected, rest) = number(&body[1..])?;
        let (_, rest) = number(rest)?;
        let status = u16_at(rest, 0)?;
        u16_at(rest, 2)?;
        Some(Self { affected, status, rest: &rest[4..] })
    }

    /// What ends columns and rows: an EOF packet, or an OK packet marked as one. No row looks so.
    pub fn eof(body: &'a [u8], size: u64) -> Option<Self> {
        if body.first() != Some(&0xfe) {
            return None;
        }
        match size {
            5 => Some(Self { affected: 0, status: u16_at(body, 3)?, rest: &[] }),
            _ => Self::ok(body, size),
        }
    }

    pub fn more_results(&self) -> bool {
        self.status & status::MORE_RESULTS != 0
    }

    /// The schema that a `USE` went to, where the client asked to be told.
    pub fn schema(&self) -> Option<&'a [u8]> {
        if self.status & status::SESSION_STATE_CHANGED == 0 {
            return None;
        }
        let (_info, rest) = counted(self.rest)?;
        let (mut changes, _) = counted(rest)?;
        let mut schema = None;
        while let Some((kind, rest)) = changes.split_first() {
            let (change, rest) = counted(rest)?;
            if *kind == 1 {
                schema = Some(counted(change)?.0);
            }
            changes = rest;
        }
        schema
    }
}

/// An ERR packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failure<'a> {
    pub errno: u16,
    pub state: Option<&'a [u8]>,
    pub message: &'a [u8],
}

/// MariaDB's progress report has the shape of an error.
pub const PROGRESS: u16 = 0xffff;

impl<'a> Failure<'a> {
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        if body.first() != Some(&0xff) {
            return None;
        }
        let errno = u16_at(body, 1)?;
        match body.get(3..) {
            Some([b'#', rest @ ..]) if rest.len() >= 5 => {
                Some(Self { errno, state: Some(&rest[..5]), message: &rest[5..] })
            }
            rest => Some(Self { errno, state: None, message: rest.unwrap_or_default() }),
        }
    }

    /// Whether it can be one: errors are numbered from 1000 on, and have a text.
    pub fn is_credible(&self) -> bool {
        let state = self.state.is_none_or(|state| state.iter().all(u8::is_ascii_alphanumeric));
        self.errno == PROGRESS || (self.errno >= 1000 && state && is_text(self.message) && !self.message.is_empty())
    }
}

/// The statement's number, its columns and parameters, from the answer to a prepare.
pub fn prepared(body: &[u8]) -> Option<(u32, u16, u16)> {
    if body.first() != Some(&0) || body.len() < 12 {
        return None;
    }
    Some((u32_at(body, 1)?, u16_at(body, 5)?, u16_at(body, 7)?))
}

/// A result's columns, and whether their definitions follow. MariaDB says so behind the number, MySQL before it
/// (`optional`: with `CLIENT_OPTIONAL_RESULTSET_METADATA`).
pub fn columns(body: &[u8], optional: bool) -> Option<(u64, bool)> {
    let (before, body) = match body.split_first() {
        Some((follows @ 0..=1, rest)) if optional => (Some(*follows), rest),
        _ => (None, body),
    };
    let (count, rest) = number(body)?;
    let follows = match *rest {
        [] => before.unwrap_or(1),
        [follows @ 0..=1] if before.is_none() => follows,
        _ => return None,
    };
    // No table has more than 4096.
    (1..=0xffff).contains(&count).then_some((count, follows == 1))
}

/// Without control characters but blanks.
pub fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c))
}

/// Skips the attributes that newer clients put before a query's text.
///
/// They begin with their number and that of their sets, which is 1: no SQL begins with such bytes.
pub fn after_attributes(body: &[u8]) -> Option<&[u8]> {
    if body.first().is_none_or(|first| *first > 8) {
        return Some(body);
    }
    let (count, rest) = number(body)?;
    let (1, rest) = number(rest)? else { return None };
    if count == 0 {
        return Some(rest);
    }
    let (_nulls, rest) = rest.split_at_checked(count.div_ceil(8) as usize)?;
    let ([1], mut rest) = rest.split_at_checked(1)? else { return None };
    let mut kinds = [0; 8];
    for kind in kinds.iter_mut().take(count as usize) {
        *kind = u16_at(rest, 0)? & 0x7fff;
        rest = counted(rest.get(2..)?)?.1;
    }
    for kind in &kinds[..(count as usize).min(8)] {
        let size = match kind {
            6 => 0,
            1 => 1,
            2 | 13 => 2,
            3 | 4 | 9 => 4,
            5 | 8 => 8,
            7 | 10..=12 => 1 + usize::from(*rest.first()?),
            _ => {
                rest = counted(rest)?.1;
                continue;
            }
        };
        rest = rest.get(size..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"\x05rest"), Some((5, &b"rest"[..])));
        assert_eq!(number(b"\xfc\x01\x02"), Some((0x201, &b""[..])));
        assert_eq!(number(b"\xfd\x01\x02\x03x"), Some((0x3_0201, &b"x"[..])));
        assert_eq!(number(b"\xfe\x01\0\0\0\0\0\0\x80"), Some((1 | 1 << 63, &b""[..])));
        assert_eq!((number(b"\xfb"), number(b"\xff"), number(b"\xfc\x01"), number(b"")), (None, None, None, None));
        assert_eq!(counted(b"\x03abcd"), Some((&b"abc"[..], &b"d"[..])));
        assert_eq!(counted(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffab"), None);
    }

    #[test]
    fn ends_of_answers() {
        let ok = Done::ok(b"\0\x05\0\x02\0\0\0", 7).unwrap();
        assert_eq!((ok.affected, ok.status, ok.schema()), (5, 2, None));
        assert_eq!(Done::eof(b"\xfe\0\0\x0a\0", 5).map(|eof| eof.more_results()), Some(true));
        assert_eq!(Done::eof(b"\xfe\0\0\x02\0\0\0", 7).map(|eof| eof.more_results()), Some(false));
        // A row whose first value takes 16 MiB.
        assert_eq!(Done::eof(b"\xfe\0\0\0\x01\0\0\0\0", FULL_BYTES), None);
        let moved = Done::ok(b"\0\0\0\x02\x40\0\0\0\x07\x01\x05\x04shop", 16).unwrap();
        assert_eq!(moved.schema(), Some(&b"shop"[..]));
        let failure = Failure::parse(b"\xff\x7a\x04#42S02Table 't' doesn't exist").unwrap();
        assert_eq!((failure.errno, failure.state, failure.is_credible()), (1146, Some(&b"42S02"[..]), true));
        assert!(!Failure::parse(b"\xff\x10\x00oops").unwrap().is_credible());
    }

    #[test]
    fn column_counts() {
        assert_eq!(columns(b"\x03", false), Some((3, true)));
        assert_eq!(columns(b"\x03\0", false), Some((3, false)));
        assert_eq!(columns(b"\0\x03", true), Some((3, false)));
        assert_eq!(columns(b"\x01\x03", true), Some((3, true)));
        assert_eq!(columns(b"\xfc\x2c\x01\x01", false), Some((300, true)));
        assert_eq!(columns(b"\x03def", false), None);
    }

    #[test]
    fn attributes_before_a_query() {
        assert_eq!(after_attributes(b"select 1"), Some(&b"select 1"[..]));
        assert_eq!(after_attributes(b"\0\x01select 1"), Some(&b"select 1"[..]));
        let two = b"\x02\x01\0\x01\xfe\0\x05trace\x08\0\x01n\x03abc\x01\0\0\0\0\0\0\0select 1";
        assert_eq!(after_attributes(two), Some(&b"select 1"[..]));
        assert_eq!(after_attributes(&two[..20]), None);
    }
}
