use super::*;
use crate::{Outcome, Side, Verdict};

/// The operation of one command.
fn operation(words: &[&[u8]]) -> String {
    let said = play(&[Client(array(words)), says("+OK\r\n")]);
    said[0].strip_prefix("ok - ").unwrap_or(&said[0]).into()
}

#[test]
fn operations() {
    for (text, expected) in [
        ("get user:42", "GET user:{id}"),
        ("MGET user:1 user:2 user:3", "MGET user:{id}"),
        ("MGET a b c a d e", "MGET a b c …"),
        ("MSET user:1 a order:2 b user:3 c", "MSET user:{id} order:{id}"),
        ("DEL sess:2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d", "DEL sess:{uuid}"),
        ("SET cache/2024/07 v", "SET cache/{id}/{id}"),
        ("GET {user1000}.following", "GET {user{id}}.following"),
        ("GET user_17-cart", "GET user_{id}-cart"),
        ("GET mail:ann@example.com", "GET mail:{email}"),
        ("INCR", "INCR"),
        ("BLPOP q:1 q:2 0", "BLPOP q:{id}"),
        ("RENAME old:1 new:1", "RENAME old:{id} new:{id}"),
        ("CONFIG GET maxmemory", "CONFIG GET"),
        ("client list", "CLIENT LIST"),
        ("OBJECT ENCODING user:1", "OBJECT ENCODING user:{id}"),
        ("XGROUP CREATE st:1 g $", "XGROUP CREATE st:{id}"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS st:1 >", "XREADGROUP st:{id}"),
        (
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 2 a:1 b:2 secret",
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db a:{id} b:{id}",
        ),
        ("FCALL deduct 1 a:1 5", "FCALL deduct a:{id}"),
        ("ZUNIONSTORE out 2 a:1 a:2 WEIGHTS 1 2", "ZUNIONSTORE out a:{id}"),
        ("ZINTER 2 a:1 b:2", "ZINTER a:{id} b:{id}"),
        ("BITOP AND out a:1", "BITOP AND"),
        ("PUBLISH orders:7 secret", "PUBLISH orders:{id}"),
        ("JSON.SET doc:1 $ 1", "JSON.SET doc:{id}"),
        ("JSON.MGET doc:1 $", "JSON.MGET"),
        ("ECHO secret", "ECHO"),
        ("SCAN 0 MATCH secret", "SCAN"),
        ("AUTH ann secret", "AUTH"),
    ] {
        let expected = if text.starts_with("BITOP") { "BITOP out a:{id}" } else { expected };
        assert_eq!(operation(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>()), expected);
    }
    assert_eq!(operation(&[b"GET", &[0xff, 0, 3]]), "GET {id}");
    assert_eq!(operation(&[b"GET", b""]), "GET \"\"");
    let long = [b"page:".to_vec(), vec![b'x'; 300]].concat();
    assert_eq!(operation(&[b"GET", &long]), "GET page:{token}…");
}

#[test]
fn commands_that_the_server_does_not_know() {
    let turns = [
        asks("PING"),
        says("+PONG\r\n"),
        asks("MYMODULE x"),
        says("-ERR unknown command 'MYMODULE', with args beginning with: 'x' 'secret' \r\n"),
        asks("no(name x"),
        says("-ERR unknown command\r\n"),
    ];
    let mut player = Player::new(Settings::default(), false);
    player.whole(&turns);
    assert_eq!(player.said(), ["ok - PING", "ERR - MYMODULE", "ERR - <unknown>"]);
    let Outcome::Hit(hit) = &player.outcomes[1] else { panic!() };
    assert_eq!(hit.error_message.as_deref(), Some("unknown command '?' "));
}

#[test]
fn inline_commands() {
    let turns = [
        Client(b"SET user:1 \"two words\"\r\n".to_vec()),
        says("+OK\r\n"),
        Client(b"get user:1\nPING\r\n".to_vec()),
        says("$9\r\ntwo words\r\n+PONG\r\n"),
        Client([&b"ECHO "[..], &[b'x'; 5000], b"\r\n"].concat()),
        says("-ERR Protocol error: too big inline request\r\n"),
    ];
    assert_eq!(play(&turns), ["ok - SET user:{id}", "ok 1 GET user:{id}", "ok - PING", "ERR - ECHO"]);
}

#[test]
fn other_protocols_are_not_taken_for_it() {
    for (request, answer) in [
        ("GET / RTSP/1.0\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 200 OK\r\n\r\n"),
        ("get key\r\n", "VALUE key 0 5\r\nhello\r\nEND\r\n"),
        ("PING\r\n", "PONG\r\n"),
        ("USER ann\r\n", "+OK name is good\r\n"),
        ("NOOP\r\n", "+OK \r\n"),
        ("*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n", "+done\r\n"),
        ("EHLO a\r\n", "250-x\r\n"),
        (":server 001 ann\r\n", ":server PING\r\n"),
        ("no such thing", "nothing"),
    ] {
        let mut player = Player::new(Settings::default(), false);
        for _ in 0..40 {
            player.whole(&[Client(request.into()), says(answer)]);
        }
        assert_ne!(player.connection.facts().protocol, Some(Protocol::Redis), "{request}");
        assert_eq!(player.said(), [""; 0], "{request}");
        if !request.contains("\r\n") {
            assert_eq!(player.verdict, Verdict::Ignored);
        }
    }
}

#[test]
fn passwords_never_show() {
    for keep_literals in [false, true] {
        let mut player = Player::new(Settings { keep_literals, ..Settings::default() }, false);
        for text in [
            "AUTH secret",
            "AUTH ann secret",
            "HELLO 3 AUTH ann secret",
            "CONFIG SET requirepass secret",
            "ACL SETUSER ann >secret",
            "MIGRATE host 6379 key 0 100 AUTH secret",
            "MISTYPEDAUTH secret",
        ] {
            player.whole(&[asks(text), says("+OK\r\n")]);
        }
        player.whole(&[asks("GET a"), says("$1\r\n1\r\n")]);
        assert_eq!(player.outcomes.len(), 8);
        assert!(!format!("{:?} {:?}", player.outcomes, player.connection.facts()).contains("secret"));
    }
}

#[test]
fn literals_only_where_allowed() {
    for keep_literals in [false, true] {
        let mut player = Player::new(Settings { keep_literals, ..Settings::default() }, false);
        player.whole(&[asks("SET user:1 value EX 10"), says("-ERR bad 'value'\r\n")]);
        let Outcome::Hit(hit) = &player.outcomes[0] else { panic!() };
        assert_eq!(hit.text.as_deref(), keep_literals.then_some("SET user:1 value EX 10"));
        assert_eq!(hit.error_message.as_deref(), Some(if keep_literals { "bad 'value'" } else { "bad '?'" }));
    }
}

#[test]
fn facts_only_where_the_server_agreed() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[asks("AUTH ann wrong"), says("-WRONGPASS invalid username-password pair\r\n")]);
    assert_eq!(player.connection.facts().user, None);
    player.whole(&[asks("AUTH secret"), says("+OK\r\n"), asks("CLIENT SETNAME till"), says("+OK\r\n")]);
    let facts = player.connection.facts().clone();
    assert_eq!((facts.user.as_deref(), facts.application.as_deref()), (Some("default"), Some("till")));
    player.whole(&[asks("SELECT 3"), says("+OK\r\n"), asks("RESET"), says("+RESET\r\n")]);
    assert_eq!((&player.connection.facts().user, &player.connection.facts().database), (&None, &None));
}

#[test]
fn streams_without_requests_are_ignored() {
    for turns in [
        vec![asks("PING"), says("+PONG\r\n"), asks("MONITOR"), says("+OK\r\n")],
        vec![asks("PING"), says("+PONG\r\n"), asks("PSYNC ? -1")],
        // Met within a replication stream.
        vec![asks("SELECT 0"), asks("SET a b"), says("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n14\r\n")],
    ] {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&turns);
        assert_eq!(player.verdict, Verdict::Ignored);
        player.whole(&[asks("SET a b"), says("+OK\r\n")]);
        player.close();
        assert!(player.said().iter().all(|said| !said.contains("SET")), "{:?}", player.said());
    }
}

#[test]
fn sides() {
    for (client, side) in [(false, Side::Server), (true, Side::Client)] {
        // Met with an answer, and with a command.
        for skip in [0, 1] {
            let turns = [asks("GET a"), says("$1\r\n1\r\n"), asks("GET b"), says("$1\r\n1\r\n")];
            let mut player = Player::new(Settings::default(), client);
            player.whole(&turns[skip..]);
            assert_eq!(player.connection.facts().side, Some(side));
            assert_eq!(player.said().last().map(String::as_str), Some("ok 1 GET b"));
        }
    }
}
