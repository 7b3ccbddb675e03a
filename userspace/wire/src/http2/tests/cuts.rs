//! However the bytes of a stream come in pieces, the hits are the same.

use super::{super::frame::*, streams::*};
use crate::testing::{same_by_head_and_tail, same_when_cut};

/// One of everything, with the same fields over and over, so that the tables are used.
pub fn session() -> Vec<Turn> {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let block =
        client.block(&[(":method", "PUT"), (":scheme", "http"), (":path", "/put"), (":authority", "a.example")]);
    let put = [
        frame(HEADERS, WITH_PRIORITY, 1, &[&[0, 0, 0, 0, 9][..], &block[..4]].concat()),
        frame(CONTINUATION, END_HEADERS, 1, &block[4..]),
        data(1, b"body", false),
        data(1, &[b'y'; 50], true),
    ];
    let mut turns = opening();
    turns.extend([
        Client(put.concat()),
        Client([client.get(3, "/a"), client.get(5, "/b")].concat()),
        Server([server.page(5, 40), window(0), server.status(1, "500", true)].concat()),
        Server([ping(), server.status(3, "200", false), data(3, &[b'z'; 30], false)].concat()),
        Client([client.call(7, "/p.S/M"), data(7, &message(b"17"), true), frame(PING, 1, 0, b"12345678")].concat()),
        Server(data(3, b"", true)),
        Server(server.result(7, &[b"one", b"two"], &[("grpc-status", "0")])),
        Client([client.call(9, "/p.S/M"), data(9, &message(b"18"), true), client.get(11, "/a")].concat()),
        Server(server.result(9, &[], &[("grpc-status", "13"), ("grpc-message", "no%20way")])),
        Client(reset(11, 8)),
        Client([client.call(13, "/p.S/N"), data(13, &message(b"19"), true)].concat()),
        Server([server.result(13, &[b"three"], &[("grpc-status", "0")]), go_away(13, 0)].concat()),
    ]);
    turns
}

const HITS: &[&str] = &[
    "ok http2 GET /b",
    "500 http2 PUT /put",
    "ok http2 GET /a",
    "ok grpc /p.S/M",
    "INTERNAL grpc /p.S/M",
    "aborted CANCEL http2 GET /a",
    "ok grpc /p.S/N",
];

#[test]
fn cut_at_every_byte() {
    for client in [false, true] {
        let outcomes = same_when_cut(&session(), client);
        assert_eq!(outcomes.iter().map(say).collect::<Vec<_>>(), HITS);
    }
}

#[test]
fn cut_at_every_byte_and_met_in_the_middle() {
    // As long as nothing refers to what came before.
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let turns = [
        Client([client.get(101, "/a"), client.get(103, "/b")].concat()),
        Server([server.page(103, 40), server.status(101, "404", true)].concat()),
    ];
    for observed in [false, true] {
        let outcomes = same_when_cut(&turns, observed);
        assert_eq!(outcomes.iter().map(say).collect::<Vec<_>>(), ["ok http2 GET /b", "404 http2 GET /a"]);
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    same_by_head_and_tail(&session());
}
