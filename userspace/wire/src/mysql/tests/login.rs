use super::{super::packet::capability, streams::*};
use crate::{Protocol, Settings, Side, Verdict};

fn facts(player: &Player) -> [Option<&str>; 3] {
    let facts = player.connection.facts();
    [facts.user.as_deref(), facts.database.as_deref(), facts.application.as_deref()]
}

#[test]
fn facts_from_the_login() {
    for client in [false, true] {
        for capabilities in [MODERN, OLD, CACHING] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&login(capabilities));
            assert_eq!(player.verdict, Verdict::Decoded);
            assert_eq!(facts(&player), [Some("ann"), Some("shop"), Some("till")]);
            assert_eq!(player.connection.facts().protocol, Some(Protocol::Mysql));
            assert_eq!(player.connection.facts().side, Some(if client { Side::Client } else { Side::Server }));
            player.whole(&[Client(query("select 1")), Server(rows(capabilities, 3))]);
            assert_eq!(player.said(), ["ok 3 select ?"]);
        }
        let mut player = Player::new(Settings::default(), client);
        player.whole(&login(MODERN & !capability::CONNECT_WITH_DB));
        assert_eq!(facts(&player), [Some("ann"), None, Some("till")]);
    }
}

#[test]
fn ways_to_authenticate() {
    let switch = [b"\xfecaching_sha2_password\0", &[b'x'; 20][..], b"\0"].concat();
    let ways = [
        // Switched to another plugin; a fast check, or the password itself.
        vec![
            Server(packet(2, &switch)),
            Client(packet(3, &[7; 32])),
            Server(packet(4, &[1, 3])),
            Server(packet(5, &ok(0))),
        ],
        vec![
            Server(packet(2, &switch)),
            Client(packet(3, &[7; 32])),
            Server(packet(4, &[1, 4])),
            Client(packet(5, b"password\0")),
            Server(packet(6, &ok(0))),
        ],
        vec![Server(packet(2, &ok(0)))],
    ];
    for way in ways {
        let turns = [&login(OLD)[..2], &way, &[Client(query("select 1")), Server(rows(OLD, 1))]].concat();
        assert_eq!(play(&turns), ["ok 1 select ?"]);
    }
    let refused = [&login(OLD)[..2], &[Server(packet(2, &error(1045, "28000", "Access denied")))]].concat();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&refused);
    player.close();
    assert_eq!(player.said(), [""; 0]);
}

#[test]
fn encrypted() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&[Server(greeting()), Client(tls_request(1)), Client(vec![0x16, 3, 1, 2, 0])]);
        assert_eq!(player.said(), ["encrypted mysql"]);
        assert_eq!(player.verdict, Verdict::Ignored);
        assert!(player.connection.facts().encrypted);
    }
}

#[test]
fn plaintext_from_within_tls() {
    // It begins behind the request for encryption.
    for client in [false, true] {
        for capabilities in [MODERN, OLD, CACHING] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&[
                Client(login_reply(2, capabilities, b"")),
                Server(packet(3, &ok(0))),
                Client(query("select a from t where b = 'x'")),
                Server(rows(capabilities, 3)),
            ]);
            assert_eq!(player.said(), ["ok 3 select a from t where b = ?"]);
            assert_eq!(facts(&player), [Some("ann"), Some("shop"), Some("till")]);
        }
    }
}

#[test]
fn compressed_by_zstd() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(MODERN | capability::ZSTD));
    assert_eq!(player.said(), ["lost 1 compressed"]);
    assert_eq!(player.verdict, Verdict::Ignored);
}

#[test]
fn replication_is_ignored() {
    let mut player = Player::new(Settings::default(), false);
    player.whole(&login(MODERN));
    player.whole(&[Client(request(0x12, &[0; 14])), Server(packet(1, &[0; 50]))]);
    assert_eq!((player.verdict, player.said().len()), (Verdict::Ignored, 0));
}
