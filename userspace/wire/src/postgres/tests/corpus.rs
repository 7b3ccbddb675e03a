//! The fuzz target's seeds (`tests/fuzz/corpus/wire`) are these streams.

use std::{fs, path::Path};

use super::{
    cuts::session,
    streams::{request as request_for, *},
};
use crate::postgres::message::{GSSENC_REQUEST, SSL_REQUEST};

/// A segment as `tests/fuzz/targets/wire.rs` reads it.
fn segment(turn: &Turn, head: usize, tail: usize, lost: u16) -> Vec<u8> {
    let (from_client, bytes) = turn.parts();
    // Lengths count in fours; what is left over goes uncaptured.
    let (head, tail) = (head.min(bytes.len()) / 4, tail.min(bytes.len() - head.min(bytes.len())) / 4);
    let middle = bytes.len() - 4 * (head + tail);
    let flags = u8::from(!from_client) | 16 | if middle > 0 { 2 } else { 0 } | if lost > 0 { 4 } else { 0 };
    let mut segment = vec![flags, head.min(255) as u8, tail.min(255) as u8];
    if middle > 0 {
        segment.extend((middle as u16).to_be_bytes());
    }
    if lost > 0 {
        segment.extend(lost.to_be_bytes());
    }
    segment.extend(&bytes[..4 * head.min(255)]);
    segment.extend(&bytes[bytes.len() - 4 * tail.min(255)..]);
    segment
}

/// Whole segments, cut into parts of a length that one byte holds.
fn whole(turns: &[Turn]) -> Vec<u8> {
    let parts = turns.iter().flat_map(|turn| {
        let (from_client, bytes) = turn.parts();
        bytes.chunks(255).flat_map(move |part| {
            let header = [u8::from(!from_client), part.len() as u8, 0];
            [&header[..], part].concat()
        })
    });
    [0].into_iter().chain(parts).collect()
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let answer = Server([select(300), ready(b'I')].concat());
    let request = Client(query("select a from t where b in (1, 'two')"));
    let large = [parse("s", "select $1"), bind("", "s", &[b'x'; 2000]), execute("", 0), sync()].concat();
    let holes = [
        vec![0],
        segment(&request, 64, 0, 0),
        segment(&answer, 100, 60, 0),
        segment(&Client(large), 64, 64, 0),
        segment(&answer, 100, 60, 300),
        segment(&request, 64, 0, 40),
        segment(&answer, 100, 60, 0),
    ];
    let declined = [Client(request_for(SSL_REQUEST)), Server(b"N".to_vec())];
    let accepted = [Client(request_for(GSSENC_REQUEST)), Server(b"G".to_vec())];
    let portal = [bind("p", "", b""), execute("p", 2), execute("p", 2), close(b'P', "p"), sync()].concat();
    let row = row(&[b"1"]);
    let suspended = [bind_complete(), row.repeat(2), message(b's', b""), row, complete("SELECT 1"), message(b'3', b"")];
    vec![
        ("session", whole(&session())),
        ("middle", whole(&session()[4..])),
        ("holes", holes.concat()),
        ("declined", whole(&[&declined[..], &login()].concat())),
        ("accepted", whole(&accepted)),
        ("portal", whole(&[Client(portal), Server([suspended.concat(), ready(b'T')].concat())])),
        ("tls", whole(&[Client([&[0x16, 3, 1, 0, 40][..], &[1; 20], b"\x0apostgresql", &[2; 9]].concat())])),
    ]
}

/// Set `HITSCOPE_BLESS` to write them anew.
#[test]
fn seeds_are_these_streams() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/wire");
    for (name, seed) in seeds() {
        let path = folder.join(name);
        if std::env::var_os("HITSCOPE_BLESS").is_some() {
            fs::write(&path, &seed).unwrap();
        }
        assert!(fs::read(&path).unwrap() == seed, "{name} is not what the streams are");
    }
}
