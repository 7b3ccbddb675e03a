//! However the bytes of a stream come in pieces, the hits are the same.

use super::*;
use crate::testing::{same_by_head_and_tail, same_when_cut, say};

/// One of everything.
pub fn session() -> Vec<Turn> {
    let upload = b"PUT /files/a%20b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    vec![
        Client(get("/users/17?tab=a")),
        Server(answer("200 OK", b"HTTP/1.1 200 OK\r\n\r\n")),
        Client(upload.to_vec()),
        Server(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Client([chunk(b"hello"), chunk(&[b'x'; 40]), b"0\r\nDigest: x\r\n\r\n".to_vec()].concat()),
        Server(answer("404 Not Found", b"no")),
        Client([b"HEAD /a HTTP/1.1\r\nhost:b\r\n\r\n".to_vec(), get("/b"), post("/c", b"GET / HTTP/1.1\r\n")].concat()),
        Server(
            [
                b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec(),
                chunked(&[b"some", b"more"]),
                answer("500 Oh", b"sorry"),
            ]
            .concat(),
        ),
        Client(get("/last")),
        Server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end".to_vec()),
    ]
}

#[test]
fn cut_at_every_byte() {
    let hits = [
        "ok - GET /users/{id}",
        "404 - PUT /files/a%20b",
        "ok - HEAD /a",
        "ok - GET /b",
        "500 - POST /c",
        "ok - GET /last",
    ];
    for client in [false, true] {
        let outcomes = same_when_cut(&session(), client);
        assert_eq!(outcomes.iter().map(say).collect::<Vec<_>>(), hits);
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    same_by_head_and_tail(&session());
}
