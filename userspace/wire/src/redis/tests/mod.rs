//! What Redis and its clients say, and what it must come to.
mod answers;
mod benchmark;
mod commands;
mod corpus;
mod cuts;
mod holes;
mod random;

use crate::{
    Protocol, Settings,
    testing::{Client, Player, Server, Turn, play},
};

/// A command as clients send it: words split at blanks.
pub fn command(text: &str) -> Vec<u8> {
    array(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// An array of strings.
pub fn array(strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", strings.len()).into_bytes();
    strings.iter().for_each(|string| bytes.extend(self::string(string)));
    bytes
}

pub fn string(string: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", string.len()).as_bytes(), string, b"\r\n"].concat()
}

pub fn asks(text: &str) -> Turn {
    Client(command(text))
}

pub fn says(text: &str) -> Turn {
    Server(text.as_bytes().to_vec())
}

/// One of everything that is told apart, every turn answered.
pub fn session() -> Vec<Turn> {
    let pipeline = ["SET user:1 x", "GET user:17", "INCR visits", "LPUSH user:1 y"].map(command).concat();
    vec![
        asks("HELLO 3 AUTH ann secret SETNAME till"),
        says("%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"),
        asks("SELECT 4"),
        says("+OK\r\n"),
        Client(pipeline),
        says("+OK\r\n$-1\r\n:7\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        asks("HGETALL cart:0123456789abcdef"),
        says("%2\r\n$1\r\na\r\n$0\r\n\r\n+b\r\n,1.5e3\r\n"),
        Client([command("MULTI"), command("SET a:1 \r\n*1\r\n"), command("INCR n"), command("EXEC")].concat()),
        says("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n-ERR value is not an integer or out of range\r\n"),
        asks("SUBSCRIBE news:1 news:2"),
        says(">3\r\n$9\r\nsubscribe\r\n$6\r\nnews:1\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$6\r\nnews:2\r\n:2\r\n"),
        says(">3\r\n$7\r\nmessage\r\n$6\r\nnews:1\r\n$5\r\nhello\r\n"),
        asks("XREAD COUNT 2 STREAMS s:1 s:2 0 0"),
        says("|1\r\n+ttl\r\n:5\r\n*2\r\n*2\r\n$3\r\ns:1\r\n*0\r\n~2\r\n#t\r\n(123456789012345678901234567890\r\n"),
        asks("LOLWUT"),
        says("=15\r\ntxt:Some string\r\n"),
        asks("EVAL return_1 1 user:9"),
        says("!21\r\nSYNTAX invalid syntax\r\n"),
        asks("ZRANGE board 0 -1"),
        says("*?\r\n:1\r\n$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n_\r\n.\r\n"),
        Client(b"PING\r\n".to_vec()),
        says("+PONG\r\n"),
    ]
}

/// What [`session`] comes to.
pub const SESSION: &[&str] = &[
    "ok 2 HELLO",
    "ok - SELECT",
    "ok - SET user:{id}",
    "ok 0 GET user:{id}",
    "ok - INCR visits",
    "WRONGTYPE - LPUSH user:{id}",
    "ok 2 HGETALL cart:{hash}",
    "ok - MULTI",
    "ok - SET a:{id}",
    "ok - INCR n",
    "ERR - EXEC",
    "ok 3 SUBSCRIBE news:{id}",
    "ok 2 XREAD s:{id}",
    "ok 1 LOLWUT",
    "SYNTAX - EVAL ? user:{id}",
    "ok 3 ZRANGE board",
    "ok - PING",
];

#[test]
fn one_of_everything() {
    assert_eq!(play(&session()), SESSION);
    let mut player = Player::new(Settings::default(), true);
    player.whole(&session());
    assert_eq!(player.said(), SESSION);
    let facts = player.connection.facts();
    assert_eq!(facts.protocol, Some(Protocol::Redis));
    assert_eq!((facts.user.as_deref(), facts.database.as_deref()), (Some("ann"), Some("4")));
    assert_eq!(facts.application.as_deref(), Some("till"));
}
