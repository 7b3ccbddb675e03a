//! Who connects: the greeting and the client's answer to it. What authenticates is stepped over.

use std::sync::Arc;

use super::packet::{HEADER_BYTES, capability, counted, header, text, u16_at, u32_at};
use crate::outcome::Facts;

/// What the client's first packet says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply {
    /// It goes on encrypted.
    Tls,
    Login {
        capabilities: u64,
    },
}

/// A client's reply takes no more, but for made-up attributes (which servers limit to 64 KiB).
pub const MAX_LOGIN_BYTES: usize = 4096;
/// Of a reply: capabilities, largest packet, character set, filler.
const FIXED_BYTES: usize = 32;
const MAX_NAME_BYTES: usize = 512;

/// Whether `bytes` begin with a server's greeting (protocol 10); `None`: more will tell.
pub fn is_greeting(bytes: &[u8]) -> Option<bool> {
    let Some((size, number)) = header(bytes) else {
        return (!bytes.is_empty() && bytes[0] < 35).then_some(false);
    };
    if number != 0 || !(35..=512).contains(&size) {
        return Some(false);
    }
    let body = &bytes[HEADER_BYTES..bytes.len().min(HEADER_BYTES + size)];
    let [protocol, rest @ ..] = body else { return None };
    let Some((version, rest)) = text(rest) else {
        let begins = *protocol == 10 && is_version(rest);
        return (!begins).then_some(false);
    };
    // Thread (4), begin of the challenge (8), a NUL, capabilities (2).
    let filler = rest.get(12).is_none_or(|filler| *filler == 0);
    let capabilities = u16_at(rest, 13).is_none_or(|low| u64::from(low) & capability::PROTOCOL_41 != 0);
    if *protocol != 10 || !is_version(version) || version.is_empty() || !filler || !capabilities {
        return Some(false);
    }
    (rest.len() >= 15).then_some(true)
}

fn is_version(bytes: &[u8]) -> bool {
    bytes.len() < 100 && bytes.first().is_none_or(u8::is_ascii_digit) && bytes.iter().all(u8::is_ascii_graphic)
}

/// Whether `bytes` begin with a client's reply to the greeting; `None`: more will tell.
pub fn is_reply(bytes: &[u8]) -> Option<bool> {
    let Some((size, number)) = header(bytes) else {
        return (bytes.len() > 2 && bytes[2] != 0).then_some(false);
    };
    // Numbered 2 where it follows a request for encryption.
    if !matches!(number, 1 | 2) || !(FIXED_BYTES..=66_000).contains(&size) {
        return Some(false);
    }
    let body = &bytes[HEADER_BYTES..bytes.len().min(HEADER_BYTES + size)];
    let flags = u64::from(u32_at(body, 0)?);
    if flags & capability::PROTOCOL_41 == 0 || u32_at(body, 4).is_some_and(|largest| largest > 1 << 30) {
        return Some(false);
    }
    // Before MariaDB's own capabilities.
    if body.iter().take(28).skip(9).any(|filler| *filler != 0) {
        return Some(false);
    }
    if body.len() < FIXED_BYTES {
        return None;
    }
    if size == FIXED_BYTES {
        return Some(flags & capability::SSL != 0);
    }
    match text(&body[FIXED_BYTES..]) {
        Some((user, _)) => Some(user.len() <= MAX_NAME_BYTES && super::packet::is_text(user)),
        None if body.len() < size => None,
        None => Some(false),
    }
}

/// Takes the facts from a client's reply; `size`: the whole packet's.
pub fn reply(body: &[u8], size: u64, facts: &mut Facts) -> Option<Reply> {
    let mut capabilities = u64::from(u32_at(body, 0)?);
    if capabilities & capability::MYSQL == 0 {
        capabilities |= u64::from(u32_at(body, 28)?) << 32;
    }
    if size == FIXED_BYTES as u64 && capabilities & capability::SSL != 0 {
        return Some(Reply::Tls);
    }
    let login = Some(Reply::Login { capabilities });
    let Some((user, rest)) = body.get(FIXED_BYTES..).and_then(text) else { return login };
    facts.user = name(user);
    let secret = if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
        counted(rest).map(|(_, rest)| rest)
    } else if capabilities & capability::SECURE_CONNECTION != 0 {
        rest.split_first().and_then(|(size, rest)| rest.get(usize::from(*size)..))
    } else {
        text(rest).map(|(_, rest)| rest)
    };
    let Some(mut rest) = secret else { return login };
    if capabilities & capability::CONNECT_WITH_DB != 0 {
        let Some((database, after)) = text(rest) else { return login };
        facts.database = name(database);
        rest = after;
    }
    plugin_and_attributes(rest, capabilities, facts);
    login
}

/// The user that a connection changes to, with what else is said of it.
pub fn change_user(body: &[u8], capabilities: u64) -> Facts {
    let mut facts = Facts::default();
    let Some((user, rest)) = text(body) else { return facts };
    facts.user = name(user);
    let Some(rest) = rest.split_first().and_then(|(size, rest)| rest.get(usize::from(*size)..)) else { return facts };
    let Some((database, rest)) = text(rest) else { return facts };
    facts.database = name(database);
    // The character set.
    if let Some(rest) = rest.get(2..) {
        plugin_and_attributes(rest, capabilities, &mut facts);
    }
    facts
}

fn plugin_and_attributes(rest: &[u8], capabilities: u64, facts: &mut Facts) {
    let rest = match capabilities & capability::PLUGIN_AUTH {
        0 => Some(rest),
        _ => text(rest).map(|(_, rest)| rest),
    };
    if capabilities & capability::CONNECT_ATTRS == 0 {
        return;
    }
    // All of them may not be there; those that are count.
    let Some((size, rest)) = rest.and_then(super::packet::number) else { return };
    let mut rest = &rest[..rest.len().min(usize::try_from(size).unwrap_or(usize::MAX))];
    while let Some((key, (value, after))) = counted(rest).and_then(|(key, rest)| Some((key, counted(rest)?))) {
        if key == b"program_name" {
            facts.application = name(value);
        }
        rest = after;
    }
}

pub fn name(bytes: &[u8]) -> Option<Arc<str>> {
    let bytes = &bytes[..bytes.len().min(MAX_NAME_BYTES)];
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into())
}
