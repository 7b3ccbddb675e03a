//! Seeds of the fuzz target (`tests/fuzz/corpus/wire`): these streams.

use std::{fs, path::Path};

use super::*;

/// Segments as `tests/fuzz/targets/wire.rs` reads them, cut into parts of a length that one byte holds.
fn seed(turns: &[Turn]) -> Vec<u8> {
    let parts = turns.iter().flat_map(|turn| {
        let (from_client, bytes) = turn.parts();
        bytes.chunks(255).flat_map(move |part| {
            let header = [u8::from(!from_client), part.len() as u8, 0];
            [&header[..], part].concat()
        })
    });
    [0].into_iter().chain(parts).collect()
}

/// Set `HITSCOPE_BLESS` to write them anew.
#[test]
fn seeds_are_these_streams() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/wire");
    // A value of which the middle is not captured, then calls that are lost.
    let holes = [&[0, 18, 8, 2, 0, 100][..], &command("SET user:1 aaaaaaaaaa")[..32], b"aaaaaa\r\n"].concat();
    let lost = [&[5, 5, 0, 0, 40][..], b"+OK\r\n"].concat();
    for (name, seed) in [
        ("redis-session", seed(&session())),
        ("redis-middle", seed(&session()[5..])),
        ("redis-holes", [holes, lost, seed(&session()[4..8])[1..].to_vec()].concat()),
    ] {
        let path = folder.join(name);
        if std::env::var_os("HITSCOPE_BLESS").is_some() {
            fs::write(&path, &seed).unwrap();
        }
        assert!(fs::read(&path).unwrap() == seed, "{name} is not what the streams are");
    }
}
