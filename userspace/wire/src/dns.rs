//! DNS answers (RFC 1035): which name was asked for, and the addresses it led to.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

const HEADER: usize = 12;
/// `QR`: an answer. `OPCODE`, all bits: a standard query is 0.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RCODE: u8 = 0x0f;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// Longest name, its lengths and final zero included.
const NAME_BYTES: usize = 255;

/// A positive answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name that was asked for, in lower case, without the final dot; bytes that are no printable ASCII, dots within
    /// labels and backslashes as `\DDD`.
    pub name: String,
    /// The addresses it led to, also by way of other names, and for how many seconds that holds.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Reads a message. `None` for anything but the answer to one question that led to an address. Of a message that is cut
/// short, what is there.
pub fn answer(message: &[u8]) -> Option<Answer> {
    let flags = message.get(2..4)?;
    if flags[0] & RESPONSE == 0 || flags[0] & OPCODE != 0 || flags[1] & RCODE != 0 || number(message, 4)? != 1 {
        return None;
    }
    let answers = number(message, 6)?;
    let (name, after) = name(message, HEADER)?;
    if number(message, after + 2)? != CLASS_IN {
        return None;
    }
    let mut position = after + 4;
    let mut addresses = Vec::new();
    // A name on the way to the address may hold for less long than the address itself.
    let mut shortest_ttl = u32::MAX;
    for _ in 0..answers {
        let Some((record, next)) = record(message, position) else { break };
        position = next;
        if record.class != CLASS_IN {
            continue;
        }
        shortest_ttl = shortest_ttl.min(record.ttl);
        if let Some(address) = record.address() {
            addresses.push((address, shortest_ttl));
        }
    }
    (!addresses.is_empty()).then_some(Answer { name, addresses })
}

struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

impl Record<'_> {
    fn address(&self) -> Option<IpAddr> {
        match self.kind {
            TYPE_A => <[u8; 4]>::try_from(self.data).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
            TYPE_AAAA => <[u8; 16]>::try_from(self.data).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
            _ => None,
        }
    }
}

/// A resource record and where the next begins.
fn record(message: &[u8], position: usize) -> Option<(Record<'_>, usize)> {
    let fields = skip_name(message, position)?;
    let ttl = message.get(fields + 4..fields + 8)?;
    let start = fields + 10;
    let end = start + usize::from(number(message, fields + 8)?);
    let record = Record {
        kind: number(message, fields)?,
        class: number(message, fields + 2)?,
        ttl: u32::from_be_bytes(ttl.try_into().ok()?),
        data: message.get(start..end)?,
    };
    Some((record, end))
}

fn number(message: &[u8], position: usize) -> Option<u16> {
    let bytes = message.get(position..position + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Where a name ends that may end in a pointer.
fn skip_name(message: &[u8], mut position: usize) -> Option<usize> {
    loop {
        match *message.get(position)? {
            0 => return Some(position + 1),
            length @ 1..=63 => position += 1 + usize::from(length),
            0xc0.. => return Some(position + 2),
            _ => return None,
        }
    }
}

/// The question's name, which no message points elsewhere for, and where it ends.
fn name(message: &[u8], mut position: usize) -> Option<(String, usize)> {
    let start = position;
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(position)?);
        position += 1;
        if length == 0 {
            return (!name.is_empty()).then_some((name, position));
        }
        if length > 63 || position + length + 1 - start > NAME_BYTES {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for &byte in message.get(position..position + length)? {
            match byte {
                b'.' | b'\\' => drop(write!(name, "\\{byte:03}")),
                b'!'..=b'~' => name.push(char::from(byte.to_ascii_lowercase())),
                _ => drop(write!(name, "\\{byte:03}")),
            }
        }
        position += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(name: &str) -> Vec<u8> {
        let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        labels.chain([0]).collect()
    }

    fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = owner.to_vec();
        bytes.extend(kind.to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend(ttl.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn message(question: &str, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        bytes.extend(encode(question));
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(records.concat());
        bytes
    }

    const POINTER: [u8; 2] = [0xc0, 12];

    fn chain() -> Vec<u8> {
        message(
            "Pay.Example",
            &[
                record(&POINTER, 5, 30, &encode("edge.cdn.example")),
                record(&encode("edge.cdn.example"), 1, 300, &[192, 0, 2, 1]),
                record(&encode("edge.cdn.example"), 1, 20, &[192, 0, 2, 2]),
                record(&encode("edge.cdn.example"), 28, 300, &Ipv6Addr::LOCALHOST.octets()),
            ],
        )
    }

    #[test]
    fn addresses_belong_to_the_question_whatever_lies_between() {
        let found = answer(&chain()).unwrap();
        assert_eq!(found.name, "pay.example");
        assert_eq!(
            found.addresses,
            [("192.0.2.1".parse().unwrap(), 30), ("192.0.2.2".parse().unwrap(), 20), ("::1".parse().unwrap(), 20),]
        );
    }

    #[test]
    fn what_is_no_answer_with_addresses_is_none() {
        let good = message("a.example", &[record(&POINTER, 1, 1, &[10, 0, 0, 1])]);
        assert!(answer(&good).is_some());
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            answer(&bytes)
        };
        assert_eq!(changed(2, 0x01), None, "a query");
        assert_eq!(changed(2, 0xa0), None, "an update");
        assert_eq!(changed(3, 0x83), None, "no such name");
        assert_eq!(changed(5, 2), None, "two questions");
        assert_eq!(changed(7, 0), None, "no records");
        assert_eq!(answer(&message("a.example", &[record(&POINTER, 16, 1, b"text")])), None);
        assert_eq!(answer(&message("a.example", &[record(&POINTER, 1, 1, &[10, 0, 0])])), None);
        assert_eq!(answer(&message("", &[record(&POINTER, 1, 1, &[10, 0, 0, 1])])), None);
        assert_eq!(answer(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn odd_bytes_are_written_out() {
        let found = answer(&message("a b\\.\u{e9}\n", &[record(&POINTER, 1, 1, &[10, 0, 0, 1])])).unwrap();
        assert_eq!(found.name, r"a\032b\092.\195\169\010");
    }

    #[test]
    fn cut_short_it_says_what_is_there() {
        let whole = chain();
        let mut counts: Vec<usize> =
            (0..=whole.len()).map(|end| answer(&whole[..end]).map_or(0, |found| found.addresses.len())).collect();
        assert!(counts.is_sorted());
        counts.dedup();
        assert_eq!(counts, [0, 1, 2, 3]);
    }

    #[test]
    fn damage_never_panics() {
        let whole = chain();
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() % (bytes.len() + 1));
            let _ = answer(&bytes);
        }
    }
}
