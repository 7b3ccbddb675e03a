//! Messages as HTTP/1.1 clients and servers write them, and what they must come to.
mod corpus;
mod cuts;
mod exchanges;
mod holes;
mod random;

use crate::{
    Exchange, Outcome,
    postgres::tests::streams::{Client, Player, Server, Turn},
};

/// A request without a body.
pub fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n").into_bytes()
}

pub fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// An answer with this status line and body.
pub fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nServer: test\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// An answer in these chunks.
pub fn chunked(chunks: &[&[u8]]) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunks: Vec<Vec<u8>> = chunks.iter().map(|bytes| chunk(bytes)).collect();
    [head, chunks.concat(), b"0\r\n\r\n".to_vec()].concat()
}

pub fn hits(player: &Player) -> Vec<Exchange> {
    let hit = |outcome: &Outcome| match outcome {
        Outcome::Hit(hit) => Some(hit.clone()),
        _ => None,
    };
    player.outcomes.iter().filter_map(hit).collect()
}

/// Plays whole turns and says what came of it.
pub fn play(turns: &[Turn]) -> Vec<String> {
    let mut player = Player::new(crate::Settings::default(), false);
    player.whole(turns);
    player.close();
    player.said()
}
