//! The fuzz target's seeds of HTTP/2 (`tests/fuzz/corpus/wire/http2-*`) are these streams.

use std::{fs, path::Path};

use super::{cuts::session, streams::*};

/// Whole segments as `tests/fuzz/targets/wire.rs` reads them, cut into parts of a length that one byte holds.
fn whole(turns: &[Turn]) -> Vec<u8> {
    let parts = turns.iter().flat_map(|turn| {
        let (from_client, bytes) = turn.parts();
        bytes.chunks(255).flat_map(move |part| [&[u8::from(!from_client), part.len() as u8, 0][..], part].concat())
    });
    [0].into_iter().chain(parts).collect()
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let session = session();
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let pushed = [&2_u32.to_be_bytes()[..], &server.block(&[(":method", "GET"), (":path", "/pushed")])].concat();
    let table = [
        Client([preface(), settings(&[(1, 65536)]), client.get(1, "/items/17?a=b")].concat()),
        Server([settings(&[(1, 0)]), frame(5, 4, 1, &pushed), server.page(1, 200)].concat()),
        Client(frame(1, 5, 3, &[&[0x20, 0x3f, 0xe1, 0x1f][..], &client.block(&[(":path", "/b")])].concat())),
        Server([server.page(2, 9), server.status(3, "404", true)].concat()),
    ];
    vec![("http2-session", whole(&session)), ("http2-middle", whole(&session[3..])), ("http2-table", whole(&table))]
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
