//! The fuzz target's seeds (`tests/fuzz/corpus/wire`) are these streams.

use super::{
    cuts::session,
    streams::{request as request_for, *},
};
use crate::{
    postgres::message::{GSSENC_REQUEST, SSL_REQUEST},
    testing::{check_seeds, seed, seed_segment},
};

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let answer = Server([select(300), ready(b'I')].concat());
    let request = Client(query("select a from t where b in (1, 'two')"));
    let large = [parse("s", "select $1"), bind("", "s", &[b'x'; 2000]), execute("", 0), sync()].concat();
    let holes = [
        vec![0],
        seed_segment(&request, 64, 0, 0),
        seed_segment(&answer, 100, 60, 0),
        seed_segment(&Client(large), 64, 64, 0),
        seed_segment(&answer, 100, 60, 300),
        seed_segment(&request, 64, 0, 40),
        seed_segment(&answer, 100, 60, 0),
    ];
    let declined = [Client(request_for(SSL_REQUEST)), Server(b"N".to_vec())];
    let accepted = [Client(request_for(GSSENC_REQUEST)), Server(b"G".to_vec())];
    let portal = [bind("p", "", b""), execute("p", 2), execute("p", 2), close(b'P', "p"), sync()].concat();
    let row = row(&[b"1"]);
    let suspended = [bind_complete(), row.repeat(2), message(b's', b""), row, complete("SELECT 1"), message(b'3', b"")];
    vec![
        ("session", seed(&session())),
        ("middle", seed(&session()[4..])),
        ("holes", holes.concat()),
        ("declined", seed(&[&declined[..], &login()].concat())),
        ("accepted", seed(&accepted)),
        ("portal", seed(&[Client(portal), Server([suspended.concat(), ready(b'T')].concat())])),
        ("tls", seed(&[Client([&[0x16, 3, 1, 0, 40][..], &[1; 20], b"\x0apostgresql", &[2; 9]].concat())])),
    ]
}

#[test]
fn seeds_are_these_streams() {
    check_seeds(seeds());
}
