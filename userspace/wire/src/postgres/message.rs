//! The messages of PostgreSQL's protocol 3: how long, how much of each is needed, and what looks like one.
//!
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats".

use crate::stream::Credit;

/// Which end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Frontend,
    Backend,
}

/// Type byte and length.
pub const HEADER_BYTES: usize = 5;
/// The kind given to messages without a type byte: start-up, `SSLRequest`, `GSSENCRequest`, `CancelRequest`.
pub const STARTUP: u8 = 0;
/// Request codes of such messages.
pub const CANCEL_REQUEST: u32 = 80_877_102;
pub const SSL_REQUEST: u32 = 80_877_103;
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// Servers take no longer start-up message (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP_BYTES: u32 = 10_000;
/// No message is longer (`PQ_LARGE_MESSAGE_LIMIT`, `MaxAllocSize`).
const MAX_LENGTH: u32 = 0x3fff_ffff;
/// What an error or notice may take; larger ones are cut.
const MAX_FIELDS_BYTES: usize = 2048;
const MAX_NAME_BYTES: usize = 128;

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Splits off a NUL-terminated text; all that is there, where the NUL is missing.
pub fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// How many bytes of a body are needed. Passwords (`p`), keys (`K`) and rows are none of our business.
pub fn needed(end: End, kind: u8, statement_bytes: usize) -> usize {
    match (end, kind) {
        (_, STARTUP) => 1024,
        (End::Frontend, b'Q') => statement_bytes + 1,
        (End::Frontend, b'P') => statement_bytes + MAX_NAME_BYTES,
        (End::Frontend, b'B' | b'E' | b'D' | b'C') => 2 * MAX_NAME_BYTES,
        (End::Frontend, b'F') => 4,
        (End::Backend, b'E') => MAX_FIELDS_BYTES,
        (End::Backend, b'S') => 256,
        (End::Backend, b'C') => 64,
        (End::Backend, b'R') => 4,
        (End::Backend, b'Z') => 1,
        _ => 0,
    }
}

/// Whether a message of this type may have this length (which counts itself, not the type).
pub fn is_header(end: End, kind: u8, length: u32) -> bool {
    let least = match end {
        End::Frontend => match kind {
            b'S' | b'H' | b'X' | b'c' => return length == 4,
            b'd' => 4,
            b'Q' | b'f' | b'p' => 5,
            b'P' => 8,
            b'B' => 12,
            b'E' => 9,
            b'D' | b'C' => 6,
            b'F' => 14,
            _ => return false,
        },
        End::Backend => match kind {
            b'1' | b'2' | b'3' | b's' | b'n' | b'I' | b'c' => return length == 4,
            b'Z' => return length == 5,
            b'd' => 4,
            b'E' | b'N' => 6,
            b'C' => return (6..=128).contains(&length),
            b'D' | b'T' | b't' | b'S' => 6,
            b'R' => 8,
            b'K' => return (12..=264).contains(&length),
            b'A' => 10,
            b'G' | b'H' | b'W' => 7,
            b'V' => 8,
            b'v' => 12,
            _ => return false,
        },
    };
    (least..=MAX_LENGTH).contains(&length)
}

/// Whether `body`, the first bytes of a message's body of `length` bytes, looks like one.
fn is_body(end: End, kind: u8, body: &[u8], length: usize) -> bool {
    let whole = body.len() >= length;
    // A text that fills the body, NUL at its very end.
    let is_text = |bytes: &[u8]| {
        let length = if whole { bytes.len().saturating_sub(1) } else { bytes.len() };
        bytes[..length].iter().all(|b| *b >= b' ' || matches!(b, b'\t' | b'\n' | b'\r' | 0x0c))
            && (!whole || bytes.last() == Some(&0))
    };
    // Ends exactly after `size` bytes of `rest`.
    let ends = |rest: &[u8], size: usize| !whole || rest.len() == size;
    match end {
        End::Frontend => match kind {
            b'Q' => is_text(body),
            b'P' => {
                let (name, rest) = text(body);
                let (_, types) = text(rest);
                is_printable(name)
                    && (!whole || u16_at(types, 0).is_some_and(|count| types.len() == 2 + 4 * usize::from(count)))
            }
            b'B' => {
                let (portal, rest) = text(body);
                let (statement, rest) = text(rest);
                is_printable(portal) && is_printable(statement) && (!whole || rest.len() >= 6)
            }
            b'E' => {
                let (portal, rest) = text(body);
                is_printable(portal) && ends(rest, 4)
            }
            b'D' | b'C' => {
                matches!(body.first(), None | Some(b'S' | b'P')) && is_text(body.get(1..).unwrap_or_default())
            }
            b'f' => is_text(body),
            _ => true,
        },
        End::Backend => match kind {
            b'Z' => matches!(body, [] | [b'I' | b'T' | b'E']),
            b'C' => {
                body.first().is_none_or(u8::is_ascii_uppercase)
                    && is_text(body)
                    && body.iter().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'_' | 0))
            }
            b'T' => u16_at(body, 0).is_none_or(|count| (2 + 19 * usize::from(count)) <= length && count <= 1664),
            b'D' => is_row(body, length),
            b'E' | b'N' => is_fields(body, whole),
            b'S' => {
                let (name, rest) = text(body);
                is_printable(name) && (rest.is_empty() || is_text(rest))
            }
            b'R' => u32_at(body, 0).is_none_or(|code| code <= 12),
            b't' => u16_at(body, 0).is_none_or(|count| length == 2 + 4 * usize::from(count)),
            b'G' | b'H' | b'W' => {
                body.first().is_none_or(|format| *format <= 1)
                    && u16_at(body, 1).is_none_or(|count| length == 3 + 2 * usize::from(count))
            }
            b'A' => is_text(text(body.get(4..).unwrap_or_default()).1),
            _ => true,
        },
    }
}

fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte >= b' ' && *byte != 0x7f)
}

/// The columns of a `DataRow`, each with its length.
fn is_row(body: &[u8], length: usize) -> bool {
    let Some(count) = u16_at(body, 0) else { return true };
    let mut at = 2_usize;
    for _ in 0..count {
        match u32_at(body, at) {
            None => return at + 4 <= length,
            Some(u32::MAX) => at += 4,
            Some(size) => at = at.saturating_add(4).saturating_add(size as usize),
        }
        if at > length {
            return false;
        }
    }
    at == length
}

/// The fields of an error or notice: each a letter and a text; severity comes first.
fn is_fields(body: &[u8], whole: bool) -> bool {
    if body.first().is_some_and(|field| *field != b'S') {
        return false;
    }
    let mut rest = body;
    while let Some((field, value)) = rest.split_first() {
        if *field == 0 {
            return value.is_empty();
        }
        if !field.is_ascii_alphabetic() {
            return false;
        }
        rest = text(value).1;
    }
    !whole
}

/// Judges `bytes`, the captured front of `total` bytes (`None`: more may follow) from one end.
pub fn credit(end: End, bytes: &[u8], total: Option<u64>) -> Credit {
    let (mut rest, mut left) = (bytes, total);
    let mut telling = false;
    loop {
        if rest.is_empty() && left.is_none_or(|left| left == 0) {
            return if telling { Credit::Yes } else { Credit::Maybe };
        }
        let Some((kind, length)) = rest.first().zip(u32_at(rest, 1)) else {
            // Part of a header.
            let begins =
                rest.first().is_none_or(|kind| is_kind(end, *kind)) && rest.get(1).is_none_or(|high| *high <= 0x3f);
            return if !begins {
                Credit::No
            } else if telling {
                Credit::Yes
            } else {
                Credit::Maybe
            };
        };
        let size = length as usize + 1;
        let body = &rest[HEADER_BYTES..size.clamp(HEADER_BYTES, rest.len())];
        if !is_header(end, *kind, length) || !is_body(end, *kind, body, size - HEADER_BYTES) {
            return Credit::No;
        }
        // Copy data and passwords look like anything.
        let tells = !matches!(kind, b'd' | b'p');
        if rest.len() < size {
            let fills = left == Some(size as u64);
            return if telling || (tells && (fills || body.len() >= 32)) { Credit::Yes } else { Credit::Maybe };
        }
        telling |= tells;
        rest = &rest[size..];
        left = left.map(|left| left.saturating_sub(size as u64));
    }
}

/// Whether messages of this type exist.
fn is_kind(end: End, kind: u8) -> bool {
    [4, 5, 12, 100].iter().any(|length| is_header(end, kind, *length))
}

/// Where in `bytes`, the latest after a hole, messages begin again: at the earliest place from which whole
/// messages reach to one that ends a turn (`ReadyForQuery`; `Sync`, `CopyDone`, `Terminate`, `Flush`), after which
/// nothing but messages follows.
pub fn regain(end: End, bytes: &[u8]) -> Option<usize> {
    let last = match end {
        End::Backend => {
            bytes.windows(6).rposition(|w| w.starts_with(b"Z\0\0\0\x05") && is_body(end, b'Z', &w[5..], 1))?
        }
        End::Frontend => {
            bytes.windows(5).rposition(|w| matches!(w[0], b'S' | b'c' | b'X' | b'H') && w[1..] == [0, 0, 0, 4])?
        }
    };
    let after = last + if end == End::Backend { 6 } else { 5 };
    if after < bytes.len() && credit(end, &bytes[after..], None) == Credit::No {
        return None;
    }
    (0..=last).find(|from| reaches(end, &bytes[*from..], last - from))
}

/// Whether whole messages lead from the first byte to byte `target`.
fn reaches(end: End, bytes: &[u8], target: usize) -> bool {
    let mut at = 0;
    while at < target {
        let Some(length) = u32_at(bytes, at + 1) else { return false };
        let size = length as usize + 1;
        if !is_header(end, bytes[at], length)
            || size > target - at
            || !is_body(end, bytes[at], &bytes[at + HEADER_BYTES..at + size], size - HEADER_BYTES)
        {
            return false;
        }
        at += size;
    }
    at == target
}

/// The whole messages that `bytes` begin with: kind and body.
pub fn messages(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = u32_at(rest, 1)? as usize + 1;
        let body = rest.get(HEADER_BYTES..size)?;
        let kind = rest[0];
        rest = &rest[size..];
        Some((kind, body))
    })
}

/// Rows, from a `CommandComplete`'s tag: `SELECT 5`, `INSERT 0 5`, `COPY 7`; none for `CREATE TABLE`.
pub fn rows(tag: &[u8]) -> Option<u64> {
    let tag = text(tag).0;
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (word, digits) = tag.split_at(tag.len() - digits);
    if digits.is_empty() || word.last() != Some(&b' ') {
        return None;
    }
    digits.iter().try_fold(0_u64, |rows, digit| rows.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// A field (`C`: SQLSTATE, `M`: message) of an error or notice.
pub fn field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = body;
    while let Some((field, value)) = rest.split_first().filter(|(field, _)| **field != 0) {
        let (value, after) = text(value);
        if *field == wanted {
            return Some(value);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(rows(b"SELECT 5\0"), Some(5));
        assert_eq!(rows(b"INSERT 0 12\0"), Some(12));
        assert_eq!(rows(b"CREATE TABLE\0"), None);
        assert_eq!(rows(b"SELECT 99999999999999999999999\0"), None);
        assert_eq!(rows(b"5\0"), None);
        assert_eq!(rows(b""), None);
    }

    #[test]
    fn fields() {
        let body = b"SERROR\0VERROR\0C42P01\0Mno such\0\0";
        assert_eq!(field(body, b'C'), Some(&b"42P01"[..]));
        assert_eq!(field(body, b'M'), Some(&b"no such"[..]));
        assert_eq!(field(body, b'D'), None);
        assert_eq!(field(&body[..17], b'C'), Some(&b"42"[..]));
    }

    #[test]
    fn what_looks_like_messages() {
        let query = b"Q\0\0\0\x0dselect 1\0";
        assert_eq!(credit(End::Frontend, query, None), Credit::Yes);
        assert_eq!(credit(End::Frontend, &query[..7], None), Credit::Maybe);
        assert_eq!(credit(End::Frontend, &query[..7], Some(14)), Credit::Yes);
        assert_eq!(credit(End::Backend, query, None), Credit::No);
        assert_eq!(credit(End::Frontend, b"GET / HTTP/1.1\r\n", None), Credit::No);
        assert_eq!(credit(End::Backend, b"HTTP/1.1 200 OK\r\n", None), Credit::No);
        assert_eq!(credit(End::Frontend, b"d\0\0\0\x04", None), Credit::Maybe);
        assert_eq!(credit(End::Backend, b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I", None), Credit::Yes);
        assert_eq!(credit(End::Backend, b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05X", None), Credit::No);
    }

    #[test]
    fn places_after_holes() {
        assert_eq!(regain(End::Backend, b"xyzC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"), Some(3));
        assert_eq!(regain(End::Backend, b"xyzZ\0\0\0\x05I"), Some(3));
        assert_eq!(regain(End::Backend, b"Z\0\0\0\x05Ixyz"), None);
        assert_eq!(regain(End::Frontend, b"xyE\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"), Some(2));
        assert_eq!(regain(End::Backend, b""), None);
    }
}
