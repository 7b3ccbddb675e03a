//! However the bytes of a stream come in pieces, the hits are the same.

use super::*;
use crate::{Mark, Settings};

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

fn without_times(player: &mut Player) -> Vec<Outcome> {
    player.close();
    let outcomes = player.outcomes.iter().cloned().map(|outcome| match outcome {
        Outcome::Hit(hit) => Outcome::Hit(Exchange { start: Mark::default(), end: Mark::default(), ..hit }),
        outcome => outcome,
    });
    outcomes.collect()
}

#[test]
fn cut_at_every_byte() {
    let turns = session();
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&turns);
        let expected = without_times(&mut player);
        let said = [
            "ok - GET /users/{id}",
            "404 - PUT /files/a%20b",
            "ok - HEAD /a",
            "ok - GET /b",
            "500 - POST /c",
            "ok - GET /last",
        ];
        assert_eq!(player.said(), said);
        for cut_turn in 0..turns.len() {
            let (from_client, bytes) = turns[cut_turn].parts();
            for cut in 1..bytes.len() {
                let mut player = Player::new(Settings::default(), client);
                player.whole(&turns[..cut_turn]);
                player.part(from_client, &bytes[..cut], cut, 0);
                player.part(from_client, &bytes[cut..], bytes.len(), 0);
                player.whole(&turns[cut_turn + 1..]);
                assert_eq!(without_times(&mut player), expected, "turn {cut_turn} cut at {cut}");
            }
        }
        for size in [1, 2, 3, 5, 7] {
            let mut player = Player::new(Settings::default(), client);
            for turn in &turns {
                let (from_client, bytes) = turn.parts();
                for part in bytes.chunks(size) {
                    player.part(from_client, part, size, 0);
                }
            }
            assert_eq!(without_times(&mut player), expected, "parts of {size}");
        }
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    let turns = session();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&turns);
    let expected = without_times(&mut player);
    for head in 0..200 {
        let mut player = Player::new(Settings::default(), false);
        for turn in &turns {
            let (from_client, bytes) = turn.parts();
            player.part(from_client, bytes, head, bytes.len());
        }
        assert_eq!(without_times(&mut player), expected, "{head}");
    }
}
