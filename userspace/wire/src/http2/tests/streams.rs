//! Builds streams of frames, plays them to a connection, and says in short what came of it.

use httlib_hpack::Encoder;

use super::super::frame::*;
pub use crate::testing::{Client, Player, Server, Turn};
use crate::{Outcome, Settings, Status};

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn data(stream: u32, payload: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, u8::from(end), stream, payload)
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let setting = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &settings.iter().flat_map(setting).collect::<Vec<_>>())
}

pub fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, 1, 0, b"")
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code.to_be_bytes(), b"bye"].concat())
}

pub fn window(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0x7f, 0xff])
}

pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"12345678")
}

/// A message of gRPC.
pub fn message(body: &[u8]) -> Vec<u8> {
    [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat()
}

/// Names and values.
pub type List<'a> = &'a [(&'a str, &'a str)];

/// One end's header table.
pub struct Peer(Encoder<'static>);

impl Peer {
    pub fn new() -> Self {
        Self(Encoder::default())
    }

    pub fn block(&mut self, fields: List<'_>) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            let flags = Encoder::BEST_FORMAT | Encoder::WITH_INDEXING | Encoder::HUFFMAN_NAME | Encoder::HUFFMAN_VALUE;
            self.0.encode((name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags), &mut block).unwrap();
        }
        block
    }

    pub fn headers(&mut self, stream: u32, fields: List<'_>, end: bool) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | u8::from(end), stream, &self.block(fields))
    }

    pub fn get(&mut self, stream: u32, path: &str) -> Vec<u8> {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop.example")];
        self.headers(stream, &[&fields[..], &[("user-agent", "tests"), ("cookie", "secret")]].concat(), true)
    }

    /// A call's header block, without its message.
    pub fn call(&mut self, stream: u32, method: &str) -> Vec<u8> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "shop.example"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ];
        self.headers(stream, &fields, false)
    }

    pub fn status(&mut self, stream: u32, status: &str, end: bool) -> Vec<u8> {
        self.headers(stream, &[(":status", status), ("server", "tests")], end)
    }

    /// An answer with so many bytes.
    pub fn page(&mut self, stream: u32, bytes: usize) -> Vec<u8> {
        [self.status(stream, "200", false), data(stream, &vec![b'x'; bytes], true)].concat()
    }

    /// A call's answer: messages, and the status.
    pub fn result(&mut self, stream: u32, messages: &[&[u8]], trailers: List<'_>) -> Vec<u8> {
        let mut bytes = self.headers(stream, &[(":status", "200"), ("content-type", "application/grpc")], false);
        for body in messages {
            bytes.extend(data(stream, &message(body), false));
        }
        bytes.extend(self.headers(stream, trailers, true));
        bytes
    }
}

pub fn preface() -> Vec<u8> {
    [PREFACE, &settings(&[(3, 100), (4, 65535)]), &window(0)].concat()
}

/// What both ends say first.
pub fn opening() -> Vec<Turn> {
    vec![Client(preface()), Server([settings(&[(3, 128)]), settings_ack()].concat()), Client(settings_ack())]
}

/// One line per hit: status, code, protocol, operation; `lost` lines for what was lost.
pub fn said(player: &Player) -> Vec<String> {
    player.outcomes.iter().map(say).collect()
}

pub fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Hit(hit) => {
            let code = hit.error_code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
            let status = if hit.status == Status::Error { code.trim_start() } else { hit.status.as_str() };
            let code = if hit.status == Status::Aborted { &code } else { "" };
            format!("{status}{code} {} {}", hit.protocol.as_str(), hit.operation)
        }
        Outcome::Encrypted(protocol) => format!("encrypted {}", protocol.as_str()),
        Outcome::Lost { reason, count } => format!("lost {count} {reason}"),
    }
}

/// Plays whole turns, after what both ends say first, and says what came of it.
pub fn play(turns: &[Turn]) -> Vec<String> {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&opening());
    player.whole(turns);
    said(&player)
}
