//! TLS from outside: told apart, not read. Its plaintext comes as a connection of its own
//! ([`Connection::plaintext`](crate::Connection::plaintext)), where the process's TLS library lets it be seen.

use crate::{
    connection::{Detection, Opening},
    outcome::Protocol,
    settings::Settings,
};

/// The name of PostgreSQL in the application protocols that a client offers, with its length: it asks for TLS at once.
const POSTGRES: &[u8] = b"\x0apostgresql";

/// Record types, and how long a record may be (RFC 8446, section 5; 2048 more before TLS 1.3).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const MAX_RECORD_BYTES: usize = (1 << 14) + 2048;
/// The least that an encrypted record or a hello has.
const MIN_RECORD_BYTES: usize = 17;
const HEADER_BYTES: usize = 5;

/// Tells TLS by the header of a record, which may be one in the middle of a connection.
pub fn detect(opening: &Opening<'_>, _: &Settings) -> Detection {
    let front = opening.front;
    let more = opening.total.is_none();
    let (kind, size) = match *front {
        [kind, 3, 1..=4, high, low, ..] => (kind, usize::from(u16::from_be_bytes([high, low]))),
        [HANDSHAKE | DATA | CHANGE_CIPHER_SPEC]
        | [HANDSHAKE | DATA | CHANGE_CIPHER_SPEC, 3]
        | [HANDSHAKE | DATA | CHANGE_CIPHER_SPEC, 3, 1..=4]
        | [HANDSHAKE | DATA | CHANGE_CIPHER_SPEC, 3, 1..=4, _]
            if more =>
        {
            return Detection::Maybe;
        }
        _ => return Detection::No,
    };
    match kind {
        CHANGE_CIPHER_SPEC if size == 1 => Detection::Encrypted(Protocol::Tls),
        DATA if (MIN_RECORD_BYTES..=MAX_RECORD_BYTES).contains(&size) => Detection::Encrypted(Protocol::Tls),
        HANDSHAKE if (MIN_RECORD_BYTES..=MAX_RECORD_BYTES).contains(&size) => {
            if front.windows(POSTGRES.len()).any(|window| window == POSTGRES) {
                Detection::Encrypted(Protocol::Postgres)
            } else if front.len() < HEADER_BYTES + size && more {
                Detection::Maybe
            } else {
                Detection::Encrypted(Protocol::Tls)
            }
        }
        _ => Detection::No,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{Connection, Direction, Mark, Outcome, Protocol, Segment, Settings, Verdict};

    /// The outcomes of bytes that came in pieces of a size, and the last verdict.
    fn feed(bytes: &[u8], size: usize) -> (Vec<Outcome>, Verdict) {
        let mut connection = Connection::new(Arc::new(Settings::default()));
        let (mut outcomes, mut verdict, mut offset) = (Vec::new(), Verdict::Unknown, 0);
        for head in bytes.chunks(size) {
            let length = head.len() as u64;
            let mark = Mark { time_ns: offset + 2, ..Mark::default() };
            let segment =
                Segment { direction: Direction::Sent, enter_ns: offset + 1, mark, offset, length, head, tail: b"" };
            verdict = connection.feed(&segment, &mut |outcome, facts| {
                assert!(facts.encrypted);
                outcomes.push(outcome);
            });
            offset += length;
        }
        (outcomes, verdict)
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3], &(body.len() as u16).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn a_hello_is_tls_however_it_is_cut() {
        let hello = record(22, &[1; 90]);
        let named = record(22, &[&[1; 60][..], b"\x00\x0b\x0apostgresql", &[0; 30]].concat());
        for size in 1..=130 {
            assert_eq!(feed(&hello, size), (vec![Outcome::Encrypted(Protocol::Tls)], Verdict::Ignored), "{size}");
            assert_eq!(feed(&named, size).0, [Outcome::Encrypted(Protocol::Postgres)], "{size}");
        }
    }

    #[test]
    fn so_is_a_record_in_the_middle() {
        for record in [record(23, &[9; 64]), record(20, &[1])] {
            assert_eq!(feed(&record, 1000).0, [Outcome::Encrypted(Protocol::Tls)]);
        }
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        // MySQL: a command of 790 bytes, and one of 66326.
        for bytes in [&[0x16, 3, 0, 0, 3, b's', b'e', b'l'][..], &[0x16, 3, 1, 0, 3, b's', b'e'], &[0x17, 3, 3, 0, 3]] {
            assert_eq!(feed(bytes, 100), (vec![], Verdict::Unknown), "{bytes:?}");
        }
    }
}
