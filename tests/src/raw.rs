//! A client that speaks PostgreSQL's protocol message by message, for what no ready client does.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// A connection over TCP; see the manual's chapter "Frontend/Backend Protocol".
pub struct Raw(TcpStream);

impl Raw {
    /// Connects, and waits until the server is ready.
    pub fn connect(port: u16) -> Self {
        let mut raw = Self(TcpStream::connect(("127.0.0.1", port)).expect("PostgreSQL listens"));
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        body.extend(b"user\0postgres\0database\0postgres\0\0");
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend(body);
        raw.0.write_all(&message).expect("the start-up message goes out");
        raw.until_ready();
        raw
    }

    /// Sends messages in one piece.
    pub fn send(&mut self, messages: &[Vec<u8>]) {
        self.0.write_all(&messages.concat()).expect("the messages go out");
    }

    /// Reads to `ReadyForQuery`; returns the kinds of the messages.
    pub fn until_ready(&mut self) -> String {
        let mut kinds = String::new();
        while !kinds.ends_with('Z') {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).expect("a message");
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            self.0.read_exact(&mut vec![0; length as usize - 4]).expect("its body");
            kinds.push(char::from(head[0]));
        }
        kinds
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

pub fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0], &max_rows.to_be_bytes()].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}
