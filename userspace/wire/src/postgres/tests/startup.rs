use super::streams::*;
use crate::{Protocol, Settings, Side, Verdict, postgres::message};

#[test]
fn facts_from_startup() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&login());
        assert_eq!(player.verdict, Verdict::Decoded);
        let facts = player.connection.facts();
        assert_eq!(facts.protocol, Some(Protocol::Postgres));
        assert_eq!(facts.side, Some(if client { Side::Client } else { Side::Server }));
        assert_eq!(facts.user.as_deref(), Some("ann"));
        assert_eq!(facts.database.as_deref(), Some("shop"));
        assert_eq!(facts.application.as_deref(), Some("till"));
        assert!(!facts.encrypted);
        player.whole(&[Server(message(b'S', &texts(&["application_name", "other"])))]);
        assert_eq!(player.connection.facts().application.as_deref(), Some("other"));
        assert_eq!(player.said(), [""; 0]);
    }
}

#[test]
fn the_database_is_named_as_the_user_by_default() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(startup(&["user", "ann"]))]);
    assert_eq!(player.connection.facts().database.as_deref(), Some("ann"));
}

#[test]
fn encryption_declined() {
    let turns = [
        vec![Client(request(message::GSSENC_REQUEST)), Server(b"N".to_vec())],
        vec![Client(request(message::SSL_REQUEST)), Server(b"N".to_vec())],
        login(),
        vec![Client(query("select 1")), Server([select(1), ready(b'I')].concat())],
    ]
    .concat();
    assert_eq!(play(&turns), ["ok 1 select ?"]);
}

#[test]
fn encryption_accepted() {
    for (code, answer) in [(message::SSL_REQUEST, b"S"), (message::GSSENC_REQUEST, b"G")] {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&[Client(request(code)), Server(answer.to_vec())]);
        assert_eq!(player.said(), ["encrypted postgres"]);
        assert_eq!(player.verdict, Verdict::Ignored);
        assert!(player.connection.facts().encrypted);
        player.whole(&[Client(vec![0x16, 3, 1, 2, 0]), Server(vec![0x16, 3, 3, 0, 1])]);
        assert_eq!(player.said(), ["encrypted postgres"]);
    }
}

#[test]
fn direct_tls() {
    let mut hello = vec![0x16, 3, 1, 0, 60];
    hello.resize(40, 1);
    hello.extend(b"\x0apostgresql");
    hello.resize(65, 2);
    for cut in 1..hello.len() {
        let mut player = Player::new(Settings::default(), true);
        player.whole(&[Client(hello[..cut].to_vec()), Client(hello[cut..].to_vec())]);
        assert_eq!(player.said(), ["encrypted postgres"], "{cut}");
        assert_eq!(player.verdict, Verdict::Ignored);
    }
    hello[45] = b'x';
    let mut player = Player::new(Settings::default(), true);
    player.whole(&[Client(hello)]);
    assert_eq!((player.verdict, player.said()), (Verdict::Ignored, vec!["encrypted tls".to_owned()]));
}

#[test]
fn cancel_and_replication_are_no_hits() {
    let cancel = [&16_u32.to_be_bytes()[..], &message::CANCEL_REQUEST.to_be_bytes(), &[7; 8]].concat();
    let replication = startup(&["user", "ann", "replication", "true"]);
    for first in [cancel, replication] {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&[Client(first), Client(query("IDENTIFY_SYSTEM")), Server([select(1), ready(b'I')].concat())]);
        player.close();
        assert_eq!((player.verdict, player.said().len()), (Verdict::Ignored, 0));
    }
    // Met in the middle: CopyBothResponse tells.
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(query("START_REPLICATION 0/0")), Server(message(b'W', &[0, 0, 0]))]);
    player.close();
    assert_eq!((player.verdict, player.said().len()), (Verdict::Ignored, 0));
    let off = startup(&["user", "ann", "replication", "false"]);
    let turns = [Client(off), Server([message(b'R', &[0; 4]), ready(b'I')].concat()), Client(query("select 1"))];
    assert_eq!(play(&[&turns[..], &[Server([select(1), ready(b'I')].concat())]].concat()), ["ok 1 select ?"]);
}

#[test]
fn other_protocols_are_ignored() {
    let mut player = Player::new(Settings::default(), false);
    for turn in 0.. {
        player.whole(&[Client(b"EHLO a.example\r\n".to_vec()), Server(b"250-b.example\r\n250 HELP\r\n".to_vec())]);
        if player.verdict == Verdict::Ignored {
            assert!(turn < 10);
            break;
        }
    }
    assert_eq!(player.said(), [""; 0]);
}

#[test]
fn met_in_the_middle() {
    let requests = [
        vec![Client(query("select 1")), Server([select(1), ready(b'I')].concat())],
        vec![
            Client([bind("", "S_1", b"x"), execute("", 0), sync()].concat()),
            Server([bind_complete(), complete("UPDATE 3"), ready(b'I')].concat()),
        ],
    ];
    for client in [false, true] {
        for (first, second) in [(0, 1), (1, 0)] {
            let turns = [requests[first].clone(), requests[second].clone()].concat();
            for skipped in 0..2 {
                // From the request on, or from its answer on.
                let mut player = Player::new(Settings::default(), client);
                player.whole(&turns[skipped..]);
                let said = player.said();
                let hits: Vec<_> = said.iter().filter(|said| !said.starts_with("lost")).cloned().collect();
                let expected = ["ok 1 select ?", "ok 3 <unresolved> S_1"];
                if skipped == 0 {
                    assert_eq!(said, [expected[first], expected[second]]);
                } else {
                    assert_eq!(hits, [expected[second]]);
                }
            }
        }
    }
}

#[test]
fn met_within_an_answer_or_a_copy() {
    let turns = [
        Server(row(&[&b"left over"[..]; 20])[7..].to_vec()),
        Server([row(&[b"x"]), complete("SELECT 2"), ready(b'I')].concat()),
        Client(query("select 1")),
        Server([select(1), ready(b'I')].concat()),
    ];
    let said = play(&turns);
    assert_eq!(said.last().map(String::as_str), Some("ok 1 select ?"));
    let turns = [
        Client(b"one\ttwo\n".repeat(100)),
        Client(message(b'd', b"three\tfour\n")),
        Client(message(b'c', b"")),
        Server([complete("COPY 101"), ready(b'I')].concat()),
        Client(query("select 1")),
        Server([select(1), ready(b'I')].concat()),
    ];
    assert_eq!(play(&turns).last().map(String::as_str), Some("ok 1 select ?"));
}
