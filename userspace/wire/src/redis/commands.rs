//! The shape of a command: its name, and the patterns of its keys.

use super::requests::Arguments;
use crate::path;

/// Which arguments are keys, or channels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keys {
    No,
    /// The first one.
    One,
    /// The first two.
    Two,
    /// All.
    All,
    /// All but the last one.
    AllButLast,
    /// Every other one.
    Pairs,
    /// All from the second on.
    FromSecond,
    /// The third one.
    Third,
    /// As many as that argument says, after it.
    Counted(usize),
    /// The first one, and as many as the second says.
    StoreCounted,
    /// The first half of what follows `STREAMS`.
    Streams,
    /// The second one says what, the keys follow it: a subcommand.
    AfterSubcommand,
    /// As `AfterSubcommand`, of a subcommand without keys.
    Subcommand,
    /// A script, then counted keys.
    Script,
    /// A function's or script's name, then counted keys.
    Function,
}

/// The server's own commands, names of each kind (redis.io/commands; Redis 8 and Valkey 8).
const COMMANDS: &[(Keys, &str)] = &[
    (
        Keys::One,
        "APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DUMP EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST GEOHASH \
         GEOPOS GEORADIUS GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE \
         GETSET HDEL HEXISTS HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN \
         HMGET HMSET HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL \
         HVALS INCR INCRBY INCRBYFLOAT LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MOVE PERSIST \
         PEXPIRE PEXPIREAT PEXPIRETIME PFADD PSETEX PTTL PUBLISH RESTORE RESTORE-ASKING RPOP RPUSH RPUSHX SADD SCARD SET \
         SETBIT SETEX SETNX SETRANGE SISMEMBER SMEMBERS SMISMEMBER SORT SORT_RO SPOP SPUBLISH SRANDMEMBER SREM SSCAN \
         STRLEN SUBSTR TTL TYPE XACK XACKDEL XADD XAUTOCLAIM XCLAIM XDEL XDELEX XLEN XPENDING XRANGE XREVRANGE XSETID \
         XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE \
         ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK \
         ZSCAN ZSCORE VADD VCARD VDIM VEMB VGETATTR VINFO VISMEMBER VLINKS VRANDMEMBER VREM VSETATTR VSIM",
    ),
    (Keys::Two, "BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE"),
    (
        Keys::All,
        "DEL EXISTS MGET PFCOUNT PFMERGE PSUBSCRIBE PUNSUBSCRIBE SDIFF SDIFFSTORE SINTER SINTERSTORE SSUBSCRIBE SUBSCRIBE \
         SUNION SUNIONSTORE SUNSUBSCRIBE TOUCH UNLINK UNSUBSCRIBE WATCH",
    ),
    (Keys::AllButLast, "BLPOP BRPOP BZPOPMAX BZPOPMIN"),
    (Keys::Pairs, "MSET MSETNX"),
    (Keys::FromSecond, "BITOP PFDEBUG"),
    (Keys::Third, "MIGRATE"),
    (Keys::Counted(1), "LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION"),
    (Keys::Counted(2), "BLMPOP BZMPOP"),
    (Keys::StoreCounted, "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE"),
    (Keys::Streams, "XREAD XREADGROUP"),
    (Keys::AfterSubcommand, "MEMORY OBJECT XGROUP XINFO"),
    (
        Keys::Subcommand,
        "ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION LATENCY MODULE PUBSUB SCRIPT SENTINEL SLOWLOG",
    ),
    (Keys::Script, "EVAL EVAL_RO"),
    (Keys::Function, "EVALSHA EVALSHA_RO FCALL FCALL_RO"),
    (
        Keys::No,
        "ASKING AUTH BGREWRITEAOF BGSAVE DBSIZE DISCARD ECHO EXEC FAILOVER FLUSHALL FLUSHDB HELLO INFO KEYS LASTSAVE \
         LOLWUT MONITOR MULTI PING PSYNC QUIT RANDOMKEY READONLY READWRITE REPLCONF REPLICAOF RESET ROLE SAVE SCAN SELECT \
         SHUTDOWN SLAVEOF SWAPDB SYNC TIME UNWATCH WAIT WAITAOF",
    ),
];

/// Commands of modules that name no key first.
const MODULES_WITHOUT_KEY: &[&str] = &[
    "FT._LIST",
    "FT.CONFIG",
    "FT.CURSOR",
    "GRAPH.CONFIG",
    "GRAPH.LIST",
    "JSON.DEBUG",
    "JSON.MGET",
    "TS.MADD",
    "TS.MGET",
    "TS.MRANGE",
    "TS.MREVRANGE",
    "TS.QUERYINDEX",
];

/// A longer name is none.
const MAX_NAME: usize = 32;
/// Keys that are looked at.
const MAX_KEYS: usize = 16;
/// Patterns that are shown.
const MAX_PATTERNS: usize = 3;

/// The table by name, made at compile time: names sorted, with what their keys are.
static TABLE: Table = table();

const NAMES: usize = count();

struct Table {
    names: [(&'static [u8], Keys); NAMES],
}

const fn count() -> usize {
    let (mut names, mut kind) = (0, 0);
    while kind < COMMANDS.len() {
        let text = COMMANDS[kind].1.as_bytes();
        let mut at = 0;
        while at < text.len() {
            if text[at] != b' ' && (at == 0 || text[at - 1] == b' ') {
                names += 1;
            }
            at += 1;
        }
        kind += 1;
    }
    names
}

const fn less(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

const fn table() -> Table {
    let mut names: [(&'static [u8], Keys); NAMES] = [(b"", Keys::No); NAMES];
    let (mut kind, mut filled) = (0, 0);
    while kind < COMMANDS.len() {
        let mut rest = COMMANDS[kind].1.as_bytes();
        while !rest.is_empty() {
            let mut end = 0;
            while end < rest.len() && rest[end] != b' ' {
                end += 1;
            }
            let (name, after) = rest.split_at(end);
            if end > 0 {
                let mut place = filled;
                while place > 0 && less(name, names[place - 1].0) {
                    names[place] = names[place - 1];
                    place -= 1;
                }
                names[place] = (name, COMMANDS[kind].0);
                filled += 1;
            }
            rest = if after.is_empty() { after } else { after.split_at(1).1 };
        }
        kind += 1;
    }
    Table { names }
}

/// A command's name in capitals.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl Name {
    /// `None`: no command is called so.
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_NAME];
        let good = !name.is_empty() && name.len() <= MAX_NAME && name.iter().all(|byte| in_name(*byte));
        good.then(|| {
            bytes[..name.len()].copy_from_slice(name);
            bytes.make_ascii_uppercase();
            Self { bytes, len: name.len() }
        })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push_to(&self, text: &mut String) {
        text.extend(self.as_bytes().iter().map(|byte| char::from(*byte)));
    }
}

/// Whether a byte is found in names of commands.
pub fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn find(name: &Name) -> Option<Keys> {
    let at = TABLE.names.binary_search_by(|(known, _)| (*known).cmp(name.as_bytes())).ok()?;
    Some(TABLE.names[at].1)
}

/// Whether this is a command of the server or, by its dot, of one of its modules.
pub fn is_known(name: &[u8]) -> bool {
    Name::new(name).is_some_and(|name| find(&name).is_some() || module(name.as_bytes()))
}

/// `JSON.SET`, `FT._LIST`: letters, a dot, more.
fn module(name: &[u8]) -> bool {
    let prefix = name.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(name.len());
    (2..=8).contains(&prefix) && name.get(prefix) == Some(&b'.') && name.len() > prefix + 2
}

/// Appends the operation: name, subcommand, and the patterns of the keys, each once.
pub fn operation(text: &mut String, arguments: &Arguments) {
    let Some(name) = arguments.get(0).and_then(Name::new) else { return text.push_str("<unknown>") };
    name.push_to(text);
    let keys = match find(&name) {
        Some(keys) => keys,
        None if MODULES_WITHOUT_KEY.iter().any(|known| known.as_bytes() == name.as_bytes()) => Keys::No,
        None if module(name.as_bytes()) => Keys::One,
        None => Keys::No,
    };
    let count = arguments.count as usize;
    let number = |index: usize| {
        let count = arguments.whole(index).and_then(super::values::number);
        count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0).min(MAX_KEYS)
    };
    let mut patterns = Patterns { text, arguments, keys: 0, shown: [(0, 0); MAX_PATTERNS], patterns: 0, more: false };
    match keys {
        Keys::No => {}
        Keys::One => patterns.add(1..2, 1),
        Keys::Two => patterns.add(1..3, 1),
        Keys::All => patterns.add(1..count, 1),
        Keys::AllButLast => patterns.add(1..count.max(1) - 1, 1),
        Keys::Pairs => patterns.add(1..count, 2),
        Keys::FromSecond => patterns.add(2..count, 1),
        Keys::Third => patterns.add(3..4, 1),
        Keys::Counted(at) => patterns.add(at + 1..at + 1 + number(at), 1),
        Keys::StoreCounted => {
            patterns.add(1..2, 1);
            patterns.add(3..3 + number(2), 1);
        }
        Keys::Streams => {
            let streams = (1..arguments.kept())
                .find(|at| arguments.get(*at).is_some_and(|word| word.eq_ignore_ascii_case(b"STREAMS")));
            if let Some(streams) = streams {
                patterns.add(streams + 1..streams + 1 + count.saturating_sub(streams + 1) / 2, 1);
            }
        }
        Keys::AfterSubcommand | Keys::Subcommand => {
            if let Some(sub) = arguments.get(1).and_then(Name::new) {
                patterns.text.push(' ');
                sub.push_to(patterns.text);
            }
            if keys == Keys::AfterSubcommand {
                patterns.add(2..3, 1);
            }
        }
        Keys::Script => {
            patterns.text.push_str(" ?");
            patterns.add(3..3 + number(2), 1);
        }
        Keys::Function => {
            if let Some(function) = arguments.whole(1).filter(|name| name.iter().all(|byte| in_name(*byte))) {
                patterns.text.push(' ');
                patterns.text.extend(function.iter().map(|byte| char::from(*byte)));
            }
            patterns.add(3..3 + number(2), 1);
        }
    }
}

/// Whether the arguments hold, or may hold, a password.
pub fn has_secrets(name: &[u8], arguments: &Arguments) -> bool {
    match name {
        b"AUTH" | b"HELLO" | b"ACL" | b"MIGRATE" => true,
        b"CONFIG" => !arguments.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"GET")),
        b"SENTINEL" => true,
        _ => Name::new(name).is_none_or(|name| find(&name).is_none() && !module(name.as_bytes())),
    }
}

/// The patterns of keys, in the order in which they first come.
struct Patterns<'a> {
    text: &'a mut String,
    arguments: &'a Arguments,
    keys: usize,
    /// Where each stands in the text.
    shown: [(usize, usize); MAX_PATTERNS],
    patterns: usize,
    more: bool,
}

impl Patterns<'_> {
    fn add(&mut self, range: std::ops::Range<usize>, step: usize) {
        for index in range.step_by(step) {
            let Some(key) = self.arguments.get(index) else { break };
            if self.keys == MAX_KEYS || self.more {
                break;
            }
            self.keys += 1;
            let start = self.text.len();
            self.text.push(' ');
            pattern(self.text, key);
            if self.arguments.whole(index).is_none() {
                self.text.push('…');
            }
            let (before, new) = self.text.split_at(start);
            if self.shown[..self.patterns].iter().any(|(from, to)| before.get(*from..*to) == Some(new)) {
                self.text.truncate(start);
            } else if self.patterns == MAX_PATTERNS {
                self.text.truncate(start);
                self.text.push_str(" …");
                self.more = true;
            } else {
                self.shown[self.patterns] = (start, self.text.len());
                self.patterns += 1;
            }
        }
    }
}

/// Appends a key with what is an id in it folded, part by part.
fn pattern(text: &mut String, key: &[u8]) {
    if key.is_empty() {
        return text.push_str("\"\"");
    }
    // What is no text is no name.
    if key.iter().any(|byte| !(b' '..=b'~').contains(byte)) && std::str::from_utf8(key).is_err() {
        return text.push_str("{id}");
    }
    let is_end = |byte: &u8| matches!(byte, b':' | b'/' | b'|' | b'#' | b'{' | b'}' | b';' | b' ');
    let mut rest = key;
    while !rest.is_empty() {
        let length = rest.iter().position(is_end).unwrap_or(rest.len());
        let (part, after) = rest.split_at(length);
        path::fold_segment(text, part);
        let ends = after.iter().position(|byte| !is_end(byte)).unwrap_or(after.len());
        text.extend(after[..ends].iter().map(|byte| char::from(*byte)));
        rest = &after[ends..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_each_name_once() {
        assert!(TABLE.names.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(TABLE.names.iter().all(|(name, _)| Name::new(name).is_some_and(|own| own.as_bytes() == *name)));
        assert!(is_known(b"get") && is_known(b"JSON.SET") && is_known(b"restore-asking"));
        assert!(!is_known(b"GE") && !is_known(b"") && !is_known(b"1.2") && !is_known(b"message"));
    }
}
