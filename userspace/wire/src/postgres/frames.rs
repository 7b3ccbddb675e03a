//! How PostgreSQL's messages are framed.

use super::message::{
    CANCEL_REQUEST, End, GSSENC_REQUEST, HEADER_BYTES, MAX_STARTUP_BYTES, SSL_REQUEST, STARTUP, credit, is_header,
    needed, regain, u32_at,
};
use crate::stream::{Credit, Frames, Header};

#[derive(Debug)]
pub struct Messages {
    end: End,
    framing: Framing,
    statement_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    /// Messages without a type byte, before the session.
    Startup,
    Typed,
    /// The one byte that answers a request for encryption.
    OneByte,
}

impl Messages {
    /// `startup`: from the connection's very begin.
    pub fn new(end: End, startup: bool, statement_bytes: usize) -> Self {
        let framing = if startup && end == End::Frontend { Framing::Startup } else { Framing::Typed };
        Self { end, framing, statement_bytes }
    }

    /// The next byte is one that answers a request for encryption.
    pub fn expect_one_byte(&mut self) {
        self.framing = Framing::OneByte;
    }
}

impl Frames for Messages {
    fn header_bytes(&self) -> usize {
        match self.framing {
            Framing::Startup => HEADER_BYTES - 1,
            Framing::Typed => HEADER_BYTES,
            Framing::OneByte => 0,
        }
    }

    fn header(&self, header: &[u8]) -> Option<Header> {
        let (kind, length) = match self.framing {
            Framing::Startup => (STARTUP, u32_at(header, 0).filter(|length| (8..=MAX_STARTUP_BYTES).contains(length))?),
            Framing::Typed => {
                let (kind, length) = (*header.first()?, u32_at(header, 1)?);
                (kind, Some(length).filter(|length| is_header(self.end, kind, *length))?)
            }
            Framing::OneByte => return Some(Header { kind: STARTUP, size: 1, needed: 1 }),
        };
        Some(Header { kind, size: u64::from(length) - 4, needed: needed(self.end, kind, self.statement_bytes) })
    }

    fn credit(&self, bytes: &[u8], total: Option<u64>) -> Credit {
        credit(self.end, bytes, total)
    }

    fn regain(&self, bytes: &[u8]) -> Option<usize> {
        regain(self.end, bytes)
    }

    fn regained(&mut self) {
        self.framing = Framing::Typed;
    }

    fn passed(&mut self, kind: u8, body: &[u8]) {
        let asks = matches!(u32_at(body, 0), Some(SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST));
        if kind == STARTUP && !asks {
            self.framing = Framing::Typed;
        }
    }
}
