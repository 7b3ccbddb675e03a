//! Connections that were open before.

use super::{
    super::packet::{command, status::*},
    streams::*,
};
use crate::{Protocol, Settings, Verdict};

fn exchanges(capabilities: u64) -> Vec<(Vec<u8>, Vec<u8>, Vec<String>)> {
    vec![
        (query("select 1"), rows(capabilities, 2), vec!["ok 2 select ?".into()]),
        (query("/* app */ update t set a = 1"), packet(1, &ok(1)), vec!["ok 1 update t set a = ?".into()]),
        (
            [by_id(command::CLOSE, 1), execute(2, 0, false)].concat(),
            many(1, binary_rows(capabilities, 3, 0)),
            vec!["ok 3 <unresolved>".into()],
        ),
        (
            [prepare("select ?"), execute(u32::MAX, 0, false)].concat(),
            [prepare_answer(capabilities, 7, 1, 1), many(1, binary_rows(capabilities, 1, 0))].concat(),
            vec!["ok - <prepare> select ?".into(), "ok 1 select ?".into()],
        ),
        (
            query("select 1; select 2"),
            many(1, [result(capabilities, 1, MORE_RESULTS), result(capabilities, 2, 0)].concat()),
            vec!["ok 1 select ?".into(), "ok 2 select ?".into()],
        ),
        (request(command::PING, b""), packet(1, &ok(0)), vec!["ok - <ping>".into()]),
    ]
}

#[test]
fn met_at_any_request() {
    for client in [false, true] {
        for capabilities in [MODERN, OLD, CACHING] {
            let exchanges = exchanges(capabilities);
            for first in 0..exchanges.len() {
                let mut player = Player::new(Settings::default(), client);
                let mut expected = Vec::new();
                for (asked, answered, said) in exchanges.iter().cycle().skip(first).take(exchanges.len()) {
                    player.whole(&[Client(asked.clone()), Server(answered.clone())]);
                    expected.extend(said.clone());
                }
                assert_eq!(player.said(), expected, "{first} {capabilities:x}");
                assert_eq!(player.verdict, Verdict::Decoded);
            }
        }
    }
}

#[test]
fn met_within_an_answer() {
    for cut in [1, 7, 30, 100] {
        let answer = rows(OLD, 20);
        let turns = [Server(answer[cut..].to_vec()), Client(query("select a from t")), Server(rows(OLD, 4))];
        let said = play(&turns);
        assert_eq!(said.last().map(String::as_str), Some("ok 4 select a from t"), "{cut}");
    }
}

#[test]
fn other_protocols_are_not_taken_for_it() {
    // MongoDB's header begins with a length of four bytes, then a number of the client's.
    let mongo = |id: u32| {
        let body = [&id.to_le_bytes()[..], &[0; 4], &2013_u32.to_le_bytes(), &[0; 5], b"\x10\0\0\0\x10find\0"].concat();
        [&(body.len() as u32 + 4).to_le_bytes()[..], &body].concat()
    };
    let others: Vec<Vec<u8>> = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        b"\0\0\x08\x06\0\0\0\0\0abcdefgh".to_vec(),
        [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[9; 194]].concat(),
        vec![0; 64],
    ]
    .into_iter()
    .chain((0..64).map(mongo))
    .collect();
    for other in others {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&[Client(other.clone()), Server(other)]);
        assert_ne!(player.connection.facts().protocol, Some(Protocol::Mysql));
    }
}

#[test]
fn what_only_looked_like_it_is_let_go() {
    // A request that could be one, but no answer to it.
    for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], b"+PONG\r\n"] {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&[Client(query("select 1")), Server(answer.to_vec()), Client(b"GET / HTTP/1.1\r\n\r\n".to_vec())]);
        assert_eq!(player.verdict, Verdict::Unknown);
        assert!(!player.said().iter().any(|said| said.starts_with("ok")), "{:?}", player.said());
    }
}
