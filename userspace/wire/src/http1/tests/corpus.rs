//! The fuzz target's seeds of this protocol (`tests/fuzz/corpus/wire/http1-…`) are these streams.

use std::{fs, path::Path};

use super::{cuts::session, *};

/// Whole segments, cut into parts of a length that one byte holds, as `tests/fuzz/targets/wire.rs` reads them.
fn whole(turns: &[Turn]) -> Vec<u8> {
    let parts = turns.iter().flat_map(|turn| {
        let (from_client, bytes) = turn.parts();
        bytes.chunks(255).flat_map(move |part| [&[u8::from(!from_client), part.len() as u8, 0], part].concat())
    });
    [0].into_iter().chain(parts).collect()
}

/// A segment of which so much in the middle was not captured.
fn holed(from_client: bool, head: &[u8], middle: u16, tail: &[u8]) -> Vec<u8> {
    let header = [u8::from(!from_client) | 2, head.len() as u8, tail.len() as u8];
    [&header[..], &middle.to_be_bytes(), head, tail].concat()
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let upgrade = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n".to_vec();
    let connect = b"CONNECT a:443 HTTP/1.1\r\n\r\n".to_vec();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n";
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n";
    let mut holes = whole(&[Client(get("/a"))]);
    holes.extend(holed(false, head, 1900, &[b'x'; 100]));
    holes.extend(&whole(&[Client(get("/b"))])[1..]);
    holes.extend(holed(false, chunks, 3000, b"x\r\n0\r\n\r\n"));
    holes.extend(&whole(&[Client(get("/c")), Server(answer("200 OK", b""))])[1..]);
    vec![
        ("http1-session", whole(&session())),
        ("http1-holes", holes),
        ("http1-upgrade", whole(&[Client(upgrade), Server(b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n".to_vec())])),
        ("http1-connect", whole(&[Client(connect), Server(b"HTTP/1.1 200 x\r\n\r\n".to_vec()), Client(get("/x"))])),
        ("http1-middle", whole(&[Server(answer("200 OK", b"a")), Client(get("/a")), Server(answer("200 OK", b"a"))])),
    ]
}

#[test]
fn seeds_are_as_committed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/wire");
    for (name, bytes) in seeds() {
        let path = folder.join(name);
        // Set `HITSCOPE_BLESS` to write it anew.
        if std::env::var_os("HITSCOPE_BLESS").is_some() {
            fs::write(&path, &bytes).expect("a writable folder");
        }
        assert_eq!(fs::read(&path).expect("a seed"), bytes, "{name}");
    }
}
