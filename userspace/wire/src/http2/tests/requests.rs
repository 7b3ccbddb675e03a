use super::{super::frame::*, streams, streams::*};
use crate::{Settings, Verdict};

#[test]
fn streams_interleaved() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    for observed in [false, true] {
        let mut player = Player::new(Settings::default(), observed);
        player.whole(&opening());
        let post =
            [(":method", "POST"), (":scheme", "http"), (":path", "/c?x=secret"), (":authority", "other.example")];
        player.whole(&[
            Client([client.get(1, "/a"), client.get(3, "/b?token=1")].concat()),
            Client(client.headers(5, &post, false)),
            Server([server.status(3, "200", false), data(3, b"hello", false)].concat()),
            Client(data(5, b"body", true)),
            Server(server.page(1, 10)),
            Server([server.status(5, "503", true), data(3, b"", true)].concat()),
        ]);
        assert_eq!(said(&player), ["ok http2 GET /a", "503 http2 POST /c", "ok http2 GET /b"], "{observed}");
        assert_eq!(player.verdict, Verdict::Decoded);
        let times: Vec<_> = player.hits().iter().map(|hit| (hit.start.time_ns, hit.end.time_ns)).collect();
        // 3 turns before; the server's side from return to begin of a call, the client's the other way round.
        match observed {
            false => assert_eq!(times, [(4000, 7900), (5000, 8900), (4000, 8900)]),
            true => assert_eq!(times, [(3900, 8000), (4900, 9000), (3900, 9000)]),
        }
        let hits = player.hits();
        assert_eq!(hits[0].authority.as_deref(), Some("shop.example"));
        assert_eq!(hits[1].authority.as_deref(), Some("other.example"));
        assert_eq!((hits[0].text.as_deref(), hits[0].rows), (None, None));
        assert_eq!(hits[1].request_bytes, client_post_bytes() + 13);
        (client, server) = (Peer::new(), Peer::new());
    }
}

/// What of each hit was told, and whether it is shared.
fn shared(player: &Player) -> Vec<(&str, bool)> {
    player.hits().iter().map(|hit| (&*hit.operation, hit.shared)).collect()
}

#[test]
fn streams_that_overlap_share_their_thread() {
    for observed in [false, true] {
        let (mut client, mut server) = (Peer::new(), Peer::new());
        let mut player = Player::new(Settings::default(), observed);
        player.whole(&opening());
        player.whole(&[
            Client(client.get(1, "/alone")),
            Server(server.page(1, 10)),
            Client(client.get(3, "/long")),
            Client(client.get(5, "/within")),
            Server(server.page(5, 10)),
            Server(server.page(3, 10)),
            Client(client.get(7, "/first")),
            Server(server.status(7, "200", false)),
            Client(client.get(9, "/second")),
            Server([data(7, b"end", true), server.page(9, 10)].concat()),
            Client([client.get(11, "/beside"), client.get(13, "/beside")].concat()),
            Server([server.page(11, 10), server.page(13, 10)].concat()),
            Client(client.get(15, "/reset")),
            Client([reset(15, 8), client.get(17, "/after")].concat()),
            Server(server.page(17, 10)),
        ]);
        let expected = [
            ("GET /alone", false),
            ("GET /within", true),
            ("GET /long", true),
            ("GET /first", true),
            ("GET /second", true),
            ("GET /beside", true),
            ("GET /beside", true),
            ("GET /reset", false),
            ("GET /after", false),
        ];
        assert_eq!(shared(&player), expected, "{observed}");
        assert_eq!(player.connection.is_busy(), Some(false));
    }
}

#[test]
fn an_answer_that_came_first_is_of_another_request() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings::default(), true);
    player.whole(&opening());
    let (first, second) = (client.get(1, "/first"), client.get(3, "/second"));
    player.whole(&[Client(first), Server(server.status(3, "200", true)), Server(server.page(1, 10)), Client(second)]);
    assert_eq!(shared(&player), [("GET /first", true), ("GET /second", true)]);
}

fn client_post_bytes() -> u64 {
    let mut client = Peer::new();
    client.get(1, "/a");
    client.get(3, "/b?token=1");
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/c?x=secret"), (":authority", "other.example")];
    client.headers(5, &post, false).len() as u64
}

#[test]
fn literals_where_they_are_allowed() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings { keep_literals: true, ..Settings::default() }, false);
    player.whole(&opening());
    player.whole(&[Client(client.get(1, "/a?b=c")), Server(server.page(1, 1))]);
    assert_eq!(player.hits()[0].text.as_deref(), Some("GET /a?b=c"));
}

#[test]
fn padding_priority_and_continuation() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let block = client.block(&[(":method", "GET"), (":scheme", "http"), (":path", "/long"), (":authority", "a")]);
    let padded = [&[4][..], &[0x80, 0, 0, 0, 16], &block[..3], &[0; 4]].concat();
    let flags = END_STREAM | PADDED | WITH_PRIORITY;
    let request = [
        frame(HEADERS, flags, 1, &padded),
        frame(CONTINUATION, 0, 1, &block[3..5]),
        frame(CONTINUATION, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 1, &block[5..]),
        frame(PRIORITY, 0, 1, &[0; 5]),
        // A type of the future.
        frame(0xbe, 0xff, 77, b"whatever"),
    ];
    let promised = [&2_u32.to_be_bytes()[..], &server.block(&[(":method", "GET"), (":path", "/pushed")])].concat();
    let answer = [
        frame(PUSH_PROMISE, END_HEADERS, 1, &promised),
        server.page(2, 100),
        server.status(1, "103", false),
        server.status(1, "404", false),
        frame(DATA, END_STREAM | PADDED, 1, b"\x03abc\0\0\0"),
    ];
    assert_eq!(play(&[Client(request.concat()), Server(answer.concat())]), ["404 http2 GET /long"]);
}

#[test]
fn trailers_and_early_answers() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/up"), (":authority", "a")];
    let turns = [
        Client([client.headers(1, &fields, false), data(1, b"abc", false)].concat()),
        Client(client.headers(1, &[("checksum", "1")], true)),
        Server([server.status(1, "201", false), server.headers(1, &[("took", "1")], true)].concat()),
        Client([client.headers(3, &fields, false), data(3, b"abc", false)].concat()),
        // Refused before the client is done.
        Server(server.status(3, "413", true)),
        Client([data(3, b"abc", false), client.headers(3, &[("checksum", "1")], true)].concat()),
        Client(client.get(5, "/next")),
        Server([reset(3, 0), server.page(5, 1)].concat()),
    ];
    assert_eq!(play(&turns), ["ok http2 POST /up", "413 http2 POST /up", "ok http2 GET /next"]);
}

#[test]
fn aborted() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings::default(), false);
    player.whole(&opening());
    player.whole(&[
        Client([client.get(1, "/a"), client.get(3, "/b"), client.get(5, "/c"), client.get(7, "/d")].concat()),
        Server([server.status(1, "200", false), reset(3, 7)].concat()),
        Client(reset(1, 8)),
        // Was under way when the client gave up.
        Server([data(1, b"late", true), go_away(5, 0)].concat()),
    ]);
    let said = ["aborted REFUSED_STREAM http2 GET /b", "aborted CANCEL http2 GET /a", "aborted http2 GET /d"];
    assert_eq!(streams::said(&player), said);
    player.close();
    assert_eq!(streams::said(&player)[3..], ["aborted http2 GET /c"]);
    // When the client sent its reset.
    assert_eq!(player.hits()[1].end.time_ns, 6000);
}

#[test]
fn a_client_whose_receive_returns_before_its_send() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings::default(), true);
    player.whole(&opening());
    let (first, second) = (client.get(1, "/a"), client.get(3, "/b"));
    player.whole(&[
        Server([server.page(1, 5), server.status(3, "404", false)].concat()),
        Client(first),
        Client(second),
        Server(data(3, b"", true)),
    ]);
    assert_eq!(said(&player), ["ok http2 GET /a", "404 http2 GET /b"]);
    // Never asked for.
    for id in (5..).step_by(2).take(100) {
        player.whole(&[Server(server.page(id, 5))]);
    }
    player.close();
    let lost = said(&player)[2..].iter().filter(|said| *said == "lost 1 request_missed").count();
    assert_eq!(lost, 68);
    assert_eq!(said(&player).last().unwrap(), "lost 32 request_missed");
}

#[test]
fn settings_grow_the_table() {
    let mut server = Peer::new();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&opening());
    for grown in [false, true] {
        if grown {
            player.whole(&[Server(settings(&[(1, 65536)]))]);
        }
        player.outcomes.clear();
        // 200 entries of the least size: more than fit into 4096 bytes.
        let entries = b"\x40\x00\x00".repeat(200);
        let id = if grown { 5 } else { 1 };
        let first = [&[0x82, 0x44, 2][..], b"/a", &entries].concat();
        // The path's index is 62 + 200.
        let second = [0x82, 0xff, 0x87, 0x01];
        player.whole(&[
            Client(frame(HEADERS, END_HEADERS | END_STREAM, id, &first)),
            Client(frame(HEADERS, END_HEADERS | END_STREAM, id + 2, &second)),
            Server([server.status(id, "200", true), server.status(id + 2, "200", true)].concat()),
        ]);
        let second = if grown { "ok http2 GET /a" } else { "ok http2 GET <unresolved>" };
        assert_eq!(said(&player), ["ok http2 GET /a", second]);
    }
}

#[test]
fn more_streams_than_there_is_room_for() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, false);
    player.whole(&opening());
    let ids = (1..).step_by(2).take(300);
    for id in ids.clone() {
        player.whole(&[Client(client.get(id, "/a"))]);
    }
    for id in ids {
        player.whole(&[Server(server.page(id, 5))]);
    }
    player.close();
    let said = said(&player);
    let (full, hits) = (said.iter().filter(|said| *said == "lost 1 pipeline_full").count(), player.hits().len());
    assert_eq!(full + hits, 300, "{said:?}");
    assert_eq!(said.len(), 300);
    assert!(hits >= 50, "{hits}");
}

#[test]
fn secrets_are_not_kept() {
    let mut client = Peer::new();
    let request = client.headers(
        1,
        &[(":method", "GET"), (":path", "/"), ("authorization", "Bearer hunter2"), ("cookie", "hunter2")],
        true,
    );
    let mut table = super::super::hpack::Table::new(4096, None, 256);
    let mut fields = super::super::hpack::Fields::default();
    table.decode(&request[HEADER_BYTES..], &mut fields).unwrap();
    assert!(!format!("{table:?} {fields:?}").contains(format!("{:?}", b"hunter2").trim_matches(['[', ']'])));
}
