use super::{streams, streams::*};
use crate::Settings;

const ITEM: &str = "/shop.Catalog/GetItem";
const OK: List<'static> = &[("grpc-status", "0")];

#[test]
fn unary_and_streamed() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let turns = [
        Client([client.call(1, ITEM), data(1, &message(b"17"), true)].concat()),
        Server(server.result(1, &[b"a thing"], OK)),
        // Both ends stream.
        Client([client.call(3, "/shop.Catalog/Watch42"), data(3, &message(b"1"), false)].concat()),
        Server([server.status(3, "200", false), data(3, &message(b"one"), false)].concat()),
        Client(data(3, &message(b"2"), false)),
        Server(data(3, &message(b"two"), false)),
        Client(data(3, b"", true)),
        Server(server.headers(3, OK, true)),
    ];
    assert_eq!(play(&turns), ["ok grpc /shop.Catalog/GetItem", "ok grpc /shop.Catalog/Watch42"]);
}

#[test]
fn errors() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings::default(), false);
    player.whole(&opening());
    let mut call = |id, answer| {
        let request = [client.call(id, ITEM), data(id, &message(b"17"), true)].concat();
        player.whole(&[Client(request), Server(answer)]);
    };
    call(1, server.result(1, &[], &[("grpc-status", "5"), ("grpc-message", "no item%3A %22seventeen%22")]));
    // Trailers alone.
    let refused = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "16")];
    call(3, server.headers(3, &refused, true));
    call(5, server.result(5, &[], &[("grpc-status", "77")]));
    // A proxy's answer, and one without a status.
    call(7, server.headers(7, &[(":status", "503"), ("content-type", "text/html")], true));
    call(9, server.result(9, &[b"x"], &[("other", "1")]));
    call(11, reset(11, 8));
    let long = "é".repeat(1000);
    call(13, server.result(13, &[], &[("grpc-status", "2"), ("grpc-message", &long)]));
    let expected = ["NOT_FOUND", "UNAUTHENTICATED", "77", "UNAVAILABLE", "UNKNOWN", "aborted CANCEL", "UNKNOWN"];
    assert_eq!(said(&player), expected.map(|status| format!("{status} grpc {ITEM}")));
    let messages: Vec<_> = player.hits().iter().map(|hit| hit.error_message.clone()).collect();
    assert_eq!(messages[0].as_deref(), Some("no item: \"?\""));
    assert_eq!(messages[1], None);
    let long = messages[6].clone().unwrap();
    assert!(long.len() <= 515 && long.ends_with("é…"), "{long}");
}

#[test]
fn other_requests_beside_calls() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let turns = [
        Client([client.get(1, "/healthz"), client.call(3, ITEM), data(3, &message(b""), true)].concat()),
        Server([server.result(3, &[b""], OK), server.page(1, 3)].concat()),
    ];
    assert_eq!(play(&turns), [format!("ok grpc {ITEM}"), "ok http2 GET /healthz".into()]);
}

#[test]
fn met_in_the_middle() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut calls = |ids: &[u32], method: &str| {
        let call = |&id: &u32| {
            let request = [client.call(id, method), data(id, &message(b"17"), true)].concat();
            [Client(request), Server(server.result(id, &[b"a thing"], OK))]
        };
        ids.iter().flat_map(call).collect::<Vec<_>>()
    };
    calls(&[1, 3], ITEM);
    for observed in [false, true] {
        let mut player = Player::new(Settings::default(), observed);
        let first = if observed { 101 } else { 5 };
        player.whole(&calls(&[first, first + 2], ITEM));
        player.whole(&calls(&[first + 4], if observed { "/shop.Catalog/New2" } else { "/shop.Catalog/New" }));
        let unknown = ["ok grpc <unresolved>", "lost 1 answer_incomplete"];
        let expected = match observed {
            false => "ok grpc /shop.Catalog/New",
            true => "ok grpc /shop.Catalog/New2",
        };
        let mut said = said(&player);
        // The loss is told first.
        said.sort();
        assert_eq!(said.iter().filter(|said| *said == unknown[0]).count(), 2, "{said:?}");
        assert_eq!(said.iter().filter(|said| *said == unknown[1]).count(), 3, "{said:?}");
        assert_eq!(said.iter().filter(|said| *said == expected).count(), 1, "{said:?}");
        // A status that is said for the first time is known, and known again by its entry.
        let mut player_said = |trailers: List<'_>, id: u32| {
            player.outcomes.clear();
            let request = [client_call(id), data(id, &message(b"17"), true)].concat();
            let answer = [data(id, &message(b"x"), false), literal_trailers(id, trailers)].concat();
            player.whole(&[Client(request), Server(answer)]);
            streams::said(&player)
        };
        let id = first + 20;
        assert_eq!(player_said(&[("grpc-status", "5")], id), [format!("NOT_FOUND grpc {ITEM}")]);
    }
}

/// Without references into the table.
fn client_call(id: u32) -> Vec<u8> {
    let mut block = vec![0x83, 0x04, ITEM.len() as u8];
    block.extend(ITEM.bytes());
    block.extend(b"\x0f\x10\x10application/grpc");
    frame(1, 4, id, &block)
}

fn literal_trailers(id: u32, fields: List<'_>) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        [&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    frame(1, 5, id, &fields.iter().flat_map(field).collect::<Vec<_>>())
}
