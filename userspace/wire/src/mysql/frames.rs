//! Which bytes are packets, and what looks like a request or an answer.

use super::{
    login::MAX_LOGIN_BYTES,
    packet::{
        Done, FULL_BYTES, Failure, HEADER_BYTES, after_attributes, columns, command, header, is_text, prepared, u16_at,
        u32_at,
    },
};
use crate::stream::{Credit, Frames, Header};

/// Which end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

/// The packets of one direction. A packet's kind is its number.
#[derive(Debug)]
pub struct Packets {
    end: End,
    /// The client has not logged in.
    pub login: bool,
    /// Number after that of the other direction's latest packet.
    pub peer_next: u8,
    /// Number after the latest.
    pub next: u8,
    /// What comes next may have any number.
    pub anew: bool,
    statement_bytes: usize,
}

/// Of an error's message.
const MAX_MESSAGE_BYTES: usize = 1024;
/// Of an answer's first packet: an OK packet with a changed schema.
const MAX_ANSWER_BYTES: usize = 2 * MAX_MESSAGE_BYTES;
/// Before a query's text: the command and attributes.
const MAX_ATTRIBUTE_BYTES: usize = 256;

impl Packets {
    pub fn new(end: End, login: bool, statement_bytes: usize) -> Self {
        Self { end, login, peer_next: 0, next: 0, anew: login, statement_bytes }
    }
}

impl Frames for Packets {
    fn header_bytes(&self) -> usize {
        HEADER_BYTES
    }

    fn header(&self, bytes: &[u8]) -> Option<Header> {
        let (size, kind) = header(bytes)?;
        // An answer begins with 1; a request, and what a server says unasked, with 0.
        let follows = self.anew || kind == self.next || kind == self.peer_next || kind == 0;
        if !follows && (self.end == End::Client || kind != 1) {
            return None;
        }
        let needed = match (self.end, kind) {
            (End::Server, _) => MAX_ANSWER_BYTES,
            (End::Client, 0) => self.statement_bytes + MAX_ATTRIBUTE_BYTES,
            (End::Client, 1 | 2) if self.login => MAX_LOGIN_BYTES,
            // What authenticates, files' contents, the rest of long requests.
            (End::Client, _) => 0,
        };
        Some(Header { kind, size: size as u64, needed })
    }

    fn credit(&self, bytes: &[u8], _total: Option<u64>) -> Credit {
        match self.end {
            End::Client => requests(bytes, false),
            End::Server => answer(bytes, self.peer_next),
        }
    }

    fn regain(&self, bytes: &[u8]) -> Option<usize> {
        match self.end {
            End::Client => (0..bytes.len().saturating_sub(HEADER_BYTES))
                .find(|from| bytes.get(from + 3) == Some(&0) && requests(&bytes[*from..], true) == Credit::Yes),
            End::Server => {
                (0..bytes.len().saturating_sub(HEADER_BYTES)).find(|from| ends(&bytes[*from..], self.peer_next))
            }
        }
    }

    fn regained(&mut self) {
        self.login = false;
        self.anew = true;
    }

    fn passed(&mut self, kind: u8, _body: &[u8]) {
        self.next = kind.wrapping_add(1);
        self.anew = false;
    }
}

/// How much a packet looks like a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fit {
    No,
    /// Others could look like it.
    Weak,
    Strong,
    /// Too little of it is there.
    Open,
}

/// Judges a request of `size` bytes of which `body` is there.
fn request(body: &[u8], size: usize) -> Fit {
    let Some((command, rest)) = body.split_first() else { return if size == 0 { Fit::No } else { Fit::Open } };
    let whole = body.len() == size;
    let when = |fits: bool, fit| if fits { fit } else { Fit::No };
    match *command {
        command::QUERY => match after_attributes(rest) {
            Some(sql) => is_sql(sql, whole),
            None if whole => Fit::No,
            None => Fit::Open,
        },
        command::PREPARE => is_sql(rest, whole),
        command::EXECUTE if size < 10 => Fit::No,
        command::EXECUTE => match (rest.get(4), u32_at(rest, 5)) {
            (Some(flags), Some(runs)) => when(*flags <= 0x0f && runs == 1, Fit::Strong),
            _ => Fit::Open,
        },
        command::BULK_EXECUTE => when(size >= 7 && u16_at(rest, 4).is_none_or(|flags| flags & !0xc0 == 0), Fit::Weak),
        command::PING | command::RESET_CONNECTION => when(size == 1, Fit::Strong),
        command::QUIT | command::STATISTICS | command::PROCESS_INFO | command::DEBUG => when(size == 1, Fit::Weak),
        command::REFRESH | command::SHUTDOWN => when(size <= 2, Fit::Weak),
        command::SET_OPTION => when(size == 3 && rest.iter().all(|byte| *byte <= 1), Fit::Weak),
        command::PROCESS_KILL | command::CLOSE | command::RESET => when(size == 5, Fit::Weak),
        command::FETCH => when(size == 9, Fit::Weak),
        command::LONG_DATA => when(size >= 7, Fit::Weak),
        command::INIT_DB | command::CREATE_DB | command::DROP_DB => {
            when((2..=512).contains(&size) && is_text(rest), Fit::Weak)
        }
        command::FIELD_LIST | command::CHANGE_USER => {
            let name = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            when(size >= 2 && is_text(&rest[..name]) && (!whole || name < rest.len()), Fit::Weak)
        }
        command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::REGISTER_REPLICA => when(size >= 11, Fit::Weak),
        _ => Fit::No,
    }
}

/// Words that statements begin with.
const VERBS: &[&str] = &[
    "alter",
    "analyze",
    "backup",
    "begin",
    "binlog",
    "cache",
    "call",
    "change",
    "check",
    "checksum",
    "close",
    "commit",
    "create",
    "deallocate",
    "declare",
    "delete",
    "desc",
    "describe",
    "do",
    "drop",
    "execute",
    "explain",
    "flush",
    "get",
    "grant",
    "handler",
    "help",
    "insert",
    "install",
    "kill",
    "load",
    "lock",
    "open",
    "optimize",
    "prepare",
    "purge",
    "release",
    "rename",
    "repair",
    "replace",
    "reset",
    "resignal",
    "revoke",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "shutdown",
    "signal",
    "start",
    "stop",
    "table",
    "truncate",
    "uninstall",
    "unlock",
    "update",
    "use",
    "values",
    "with",
    "xa",
];

fn is_sql(sql: &[u8], whole: bool) -> Fit {
    let begin = sql.trim_ascii_start();
    let word = begin.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let looked_at = &begin[..begin.len().min(64)];
    if !is_text(looked_at) || sql.len() - begin.len() > 256 {
        return Fit::No;
    }
    if begin.is_empty() || (!whole && begin.len() < 12) {
        return if whole { Fit::Weak } else { Fit::Open };
    }
    let is_verb = || VERBS.iter().any(|verb| verb.as_bytes().eq_ignore_ascii_case(&begin[..word]));
    match begin[0] {
        b'/' if begin.starts_with(b"/*") => Fit::Strong,
        b'-' | b'#' | b'(' | b';' | b'{' => Fit::Weak,
        _ if word > 0 => {
            if is_verb() {
                Fit::Strong
            } else {
                Fit::Weak
            }
        }
        _ => Fit::No,
    }
}

/// Judges `bytes` as requests from their first one on. `strict`: they must end with one.
pub fn requests(bytes: &[u8], strict: bool) -> Credit {
    let (mut rest, mut strong, mut any) = (bytes, false, false);
    loop {
        let told = if strong || any { Credit::Yes } else { Credit::Maybe };
        if rest.is_empty() {
            return told;
        }
        let Some((size, number)) = header(rest) else {
            return if strict { Credit::No } else { told };
        };
        let body = &rest[HEADER_BYTES..rest.len().min(HEADER_BYTES + size)];
        let whole = body.len() == size;
        if number != 0 || (strict && !whole) {
            return Credit::No;
        }
        match request(body, size) {
            Fit::No => return Credit::No,
            Fit::Open => return told,
            Fit::Weak => any |= whole,
            Fit::Strong => strong = true,
        }
        if !whole {
            return if strong { Credit::Yes } else { Credit::Maybe };
        }
        rest = &rest[HEADER_BYTES + size..];
        if size as u64 == FULL_BYTES {
            return if strong { Credit::Yes } else { Credit::No };
        }
    }
}

/// Whether requests that could be nothing else begin here, so that the protocol can be told by them.
pub fn detect_requests(bytes: &[u8]) -> Credit {
    let mut rest = bytes;
    loop {
        let Some((size, number)) = header(rest) else {
            return if rest.is_empty() { Credit::No } else { Credit::Maybe };
        };
        let body = &rest[HEADER_BYTES..rest.len().min(HEADER_BYTES + size)];
        if number != 0 {
            return Credit::No;
        }
        match request(body, size) {
            Fit::No => return Credit::No,
            Fit::Strong => return requests(bytes, false),
            Fit::Open => return Credit::Maybe,
            // Closing one statement and running another often go together.
            Fit::Weak if body.len() == size && body.first() == Some(&command::CLOSE) => {}
            Fit::Weak => return Credit::No,
        }
        rest = &rest[HEADER_BYTES + size..];
    }
}

/// Judges `bytes` as an answer from its first packet on.
fn answer(bytes: &[u8], peer_next: u8) -> Credit {
    let Some((size, number)) = header(bytes) else { return Credit::Maybe };
    if number != 1 && number != peer_next {
        return Credit::No;
    }
    let body = &bytes[HEADER_BYTES..bytes.len().min(HEADER_BYTES + size)];
    let (whole, size_bytes) = (body.len() == size, size as u64);
    let Some(first) = body.first() else { return if size == 0 { Credit::No } else { Credit::Maybe } };
    let strong = match first {
        0xff => match Failure::parse(body) {
            Some(failure) if body.len() >= 12.min(size) => return yes(failure.is_credible()),
            _ => return if whole { Credit::No } else { Credit::Maybe },
        },
        0 => {
            Done::ok(body, size_bytes).is_some_and(|done| is_status(done.status))
                || (size <= 13 && prepared(body).is_some())
        }
        0xfe => Done::eof(body, size_bytes).is_some(),
        0xfb => size > 1 && is_text(&body[1..]),
        _ => whole && size <= 10 && (columns(body, false).is_some() || columns(body, true).is_some()),
    };
    let mut next = number;
    let mut at = 0;
    let mut count = 0;
    while let Some((size, number)) = header(&bytes[at..]) {
        if number != next {
            // The next answer may follow.
            if number != 1 {
                return Credit::No;
            }
            break;
        }
        next = next.wrapping_add(1);
        at += HEADER_BYTES + size;
        if at > bytes.len() {
            break;
        }
        count += 1;
    }
    // A single packet of text answers a request for statistics.
    let statistics = count == 1 && at == bytes.len() && is_text(body);
    match strong || count >= 2 || statistics {
        true => Credit::Yes,
        false if !whole && body.len() < 64 => Credit::Maybe,
        false => Credit::No,
    }
}

fn yes(yes: bool) -> Credit {
    if yes { Credit::Yes } else { Credit::No }
}

/// Whether a server can have this status: in a transaction or committing by itself, mostly; or else hardly a flag.
fn is_status(flags: u16) -> bool {
    flags & 3 != 0 || flags & !(8 | 0x200) == 0
}

/// Whether numbered packets reach from the first byte to the last one, and there to what ends an answer.
fn ends(bytes: &[u8], peer_next: u8) -> bool {
    let (mut rest, mut next, mut more) = (bytes, bytes.get(3).copied().unwrap_or_default(), false);
    while let Some((size, number)) = header(rest) {
        let Some((body, after)) = rest[HEADER_BYTES..].split_at_checked(size) else { return false };
        if number != next || size == 0 {
            return false;
        }
        let eof = Done::eof(body, size as u64);
        if after.is_empty() {
            // A row of a few values can look like OK, so that must stand where it can only be that.
            let ok = more || number == peer_next;
            return eof.is_some()
                || Failure::parse(body).is_some_and(|failure| failure.is_credible())
                || (ok && Done::ok(body, size as u64).is_some_and(|done| is_status(done.status)));
        }
        more = eof.is_some_and(|eof| eof.more_results());
        next = number.wrapping_add(1);
        rest = after;
    }
    false
}
