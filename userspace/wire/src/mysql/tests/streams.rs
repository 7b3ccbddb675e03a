//! Builds packet streams, by the protocol's documentation.

use super::super::packet::{capability, command, status::*};
pub use crate::testing::{Client, Player, Server, Turn, play};

/// What newer ends can do.
pub const MODERN: u64 = capability::MYSQL
    | capability::CONNECT_WITH_DB
    | capability::PROTOCOL_41
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::CONNECT_ATTRS
    | capability::PLUGIN_AUTH_LENENC
    | capability::DEPRECATE_EOF;
pub const OLD: u64 = MODERN & !capability::DEPRECATE_EOF;
const CACHE_METADATA: u64 = 1 << 36;
/// MariaDB's client, whose results can leave out their columns.
pub const CACHING: u64 = MODERN & !capability::MYSQL | CACHE_METADATA;

pub fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..3], &[number], body].concat()
}

pub fn request(command: u8, body: &[u8]) -> Vec<u8> {
    packet(0, &[&[command], body].concat())
}

pub fn query(sql: &str) -> Vec<u8> {
    request(command::QUERY, sql.as_bytes())
}

/// Packets of one turn, numbered from `first` on.
pub fn many(first: u8, bodies: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut number = first;
    let mut bytes = Vec::new();
    for body in bodies {
        bytes.extend(packet(number, &body));
        number = number.wrapping_add(1);
    }
    bytes
}

pub fn text(value: &str) -> Vec<u8> {
    [&[value.len() as u8], value.as_bytes()].concat()
}

pub fn ok_with(marker: u8, affected: u8, status: u16) -> Vec<u8> {
    [&[marker, affected, 0][..], &status.to_le_bytes(), &[0, 0]].concat()
}

pub fn ok(affected: u8) -> Vec<u8> {
    ok_with(0, affected, AUTOCOMMIT)
}

pub fn error(errno: u16, state: &str, message: &str) -> Vec<u8> {
    [&[0xff][..], &errno.to_le_bytes(), b"#", state.as_bytes(), message.as_bytes()].concat()
}

pub fn column(name: &str) -> Vec<u8> {
    let texts = ["def", "shop", "t", "t", name, name].map(text).concat();
    [&texts[..], &[0x0c, 0x3f, 0, 11, 0, 0, 0, 3, 1, 0x50, 0, 0, 0]].concat()
}

/// How an end says that definitions or rows are over.
pub fn eof(capabilities: u64, status: u16) -> Vec<u8> {
    match capabilities & capability::DEPRECATE_EOF {
        0 => [&[0xfe, 0, 0][..], &status.to_le_bytes()].concat(),
        _ => ok_with(0xfe, 0, status),
    }
}

/// Between definitions and rows.
fn columns_eof(capabilities: u64) -> Vec<Vec<u8>> {
    if capabilities & capability::DEPRECATE_EOF == 0 { vec![eof(OLD, AUTOCOMMIT)] } else { Vec::new() }
}

/// Packets of a result with two columns.
pub fn result(capabilities: u64, rows: u32, status: u16) -> Vec<Vec<u8>> {
    let flag = if capabilities & CACHE_METADATA != 0 { vec![1] } else { Vec::new() };
    let mut bodies = vec![[vec![2], flag].concat(), column("a"), column("b")];
    bodies.extend(columns_eof(capabilities));
    bodies.extend((0..rows).map(|n| [text(&n.to_string()), vec![0xfb]].concat()));
    bodies.push(eof(capabilities, AUTOCOMMIT | status));
    bodies
}

/// The answer to a query that gives rows.
pub fn rows(capabilities: u64, count: u32) -> Vec<u8> {
    many(1, result(capabilities, count, 0))
}

pub fn prepare(sql: &str) -> Vec<u8> {
    request(command::PREPARE, sql.as_bytes())
}

pub fn prepare_answer(capabilities: u64, id: u32, parameters: u16, columns: u16) -> Vec<u8> {
    let head = [&[0][..], &id.to_le_bytes(), &columns.to_le_bytes(), &parameters.to_le_bytes(), &[0, 0, 0]].concat();
    let mut bodies = vec![head];
    for count in [parameters, columns] {
        bodies.extend((0..count).map(|_| column("?")));
        if count > 0 {
            bodies.extend(columns_eof(capabilities));
        }
    }
    many(1, bodies)
}

/// `types`: with the types of the values; later executions leave them out.
pub fn execute(id: u32, flags: u8, types: bool) -> Vec<u8> {
    let bound: &[u8] = if types { &[0, 1, 3, 0] } else { &[0, 0] };
    request(command::EXECUTE, &[&id.to_le_bytes()[..], &[flags, 1, 0, 0, 0], bound, &5_u32.to_le_bytes()].concat())
}

pub fn binary_rows(capabilities: u64, count: u8, status: u16) -> Vec<Vec<u8>> {
    let mut bodies = vec![vec![1], column("a")];
    bodies.extend(columns_eof(capabilities));
    bodies.extend((0..count).map(|n| vec![0, 0, n, 0, 0, 0]));
    bodies.push(eof(capabilities, AUTOCOMMIT | status));
    bodies
}

pub fn by_id(command: u8, id: u32) -> Vec<u8> {
    request(command, &id.to_le_bytes())
}

pub fn fetch(id: u32) -> Vec<u8> {
    request(command::FETCH, &[id.to_le_bytes(), 2_u32.to_le_bytes()].concat())
}

pub fn greeting() -> Vec<u8> {
    let body = [
        &[10][..],
        b"5.5.5-10.11.6-MariaDB-0+deb12u1\0",
        &7_u32.to_le_bytes(),
        b"saltsalt\0",
        &[0xfe, 0xf7, 0x2d, 2, 0, 0xff, 0x81, 21, 0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0],
        b"saltsaltsalt\0",
        b"mysql_native_password\0",
    ];
    packet(0, &body.concat())
}

fn fixed(capabilities: u64) -> Vec<u8> {
    let own = if capabilities & capability::MYSQL == 0 { (capabilities >> 32) as u32 } else { 0 };
    [&(capabilities as u32).to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[45], &[0; 19], &own.to_le_bytes()]
        .concat()
}

pub fn tls_request(number: u8) -> Vec<u8> {
    packet(number, &fixed(MODERN | capability::SSL))
}

pub fn login_reply(number: u8, capabilities: u64, secret: &[u8]) -> Vec<u8> {
    let attributes = ["_client_name", "libmariadb", "program_name", "till"].map(text).concat();
    let body = [
        &fixed(capabilities)[..],
        b"ann\0",
        &[secret.len() as u8],
        secret,
        if capabilities & capability::CONNECT_WITH_DB != 0 { b"shop\0" } else { b"" },
        b"mysql_native_password\0",
        &[attributes.len() as u8],
        &attributes,
    ];
    packet(number, &body.concat())
}

/// A connection's begin.
pub fn login(capabilities: u64) -> Vec<Turn> {
    vec![Server(greeting()), Client(login_reply(1, capabilities, b"scrambledscrambledsc")), Server(packet(2, &ok(0)))]
}
