//! Builds message streams.

pub use crate::testing::{Client, Player, Server, Turn, play};

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Texts, each with its NUL.
pub fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

pub fn startup(parameters: &[&str]) -> Vec<u8> {
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    body.extend(texts(parameters));
    body.push(0);
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

pub fn request(code: u32) -> Vec<u8> {
    [8_u32.to_be_bytes(), code.to_be_bytes()].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &texts(&[sql]))
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[texts(&[name, sql]), vec![0, 0]].concat())
}

pub fn bind(portal: &str, statement: &str, value: &[u8]) -> Vec<u8> {
    let mut body = texts(&[portal, statement]);
    body.extend([0, 0, 0, 1]);
    body.extend((value.len() as u32).to_be_bytes());
    body.extend(value);
    body.extend([0, 0]);
    message(b'B', &body)
}

pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], texts(&[name])].concat())
}

pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], texts(&[name])].concat())
}

pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[texts(&[portal]), rows.to_be_bytes().to_vec()].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &texts(&[tag]))
}

pub fn ready(state: u8) -> Vec<u8> {
    message(b'Z', &[state])
}

pub fn error(code: &str, text: &str) -> Vec<u8> {
    let mut body = texts(&["SERROR", "VERROR", &format!("C{code}"), &format!("M{text}"), "Fx.c"]);
    body.push(0);
    message(b'E', &body)
}

pub fn columns(names: &[&str]) -> Vec<u8> {
    let mut body = (names.len() as u16).to_be_bytes().to_vec();
    for name in names {
        body.extend(texts(&[name]));
        body.extend([0; 18]);
    }
    message(b'T', &body)
}

pub fn row(values: &[&[u8]]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(*value);
    }
    message(b'D', &body)
}

pub fn parse_complete() -> Vec<u8> {
    message(b'1', b"")
}

pub fn bind_complete() -> Vec<u8> {
    message(b'2', b"")
}

/// A session's begin, password included.
pub fn login() -> Vec<Turn> {
    vec![
        Client(startup(&["user", "ann", "database", "shop", "application_name", "till"])),
        Server(message(b'R', &[&5_u32.to_be_bytes()[..], b"salt"].concat())),
        Client(message(b'p', b"md5secret\0")),
        Server(
            [
                message(b'R', &[0; 4]),
                message(b'S', &texts(&["server_version", "15.8"])),
                message(b'K', &[7; 8]),
                ready(b'I'),
            ]
            .concat(),
        ),
    ]
}

pub fn select(rows: u32) -> Vec<u8> {
    let mut bytes = columns(&["a"]);
    for n in 0..rows {
        bytes.extend(row(&[n.to_string().as_bytes()]));
    }
    bytes.extend(complete(&format!("SELECT {rows}")));
    bytes
}
