use super::*;
use crate::{Facts, Protocol, Settings, Side, Status, Verdict};

#[test]
fn kept_alive() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&[
            Client(get("/users/17?tab=a")),
            Server(answer("200 OK", b"hello")),
            Client(post("/users", b"name=ann")),
            Server(answer("201 Created", b"")),
        ]);
        assert_eq!(player.said(), ["ok - GET /users/{id}", "ok - POST /users"]);
        let hits = hits(&player);
        let hit = &hits[0];
        assert_eq!((hit.protocol, hit.side), (Protocol::Http1, if client { Side::Client } else { Side::Server }));
        assert_eq!(hit.authority.as_deref(), Some("shop.example"));
        assert_eq!((&hit.text, &hit.error_code, hit.rows), (&None, &None, None));
        // Received at 1000, answered by the call from 1900 to 2000; sent by the call from 900, received at 2000.
        let times = if client { (900, 2000) } else { (1000, 1900) };
        assert_eq!((hit.start.time_ns, hit.end.time_ns), times);
        assert_eq!(hits[1].request_bytes, post("/users", b"name=ann").len() as u64);
        assert_eq!(hit.response_bytes, answer("200 OK", b"hello").len() as u64);
        let facts = Facts {
            protocol: Some(Protocol::Http1),
            side: Some(if client { Side::Client } else { Side::Server }),
            ..Facts::default()
        };
        assert_eq!(*player.connection.facts(), facts);
    }
}

#[test]
fn errors_have_their_status() {
    let said = play(&[
        Client(get("/a")),
        Server(answer("404 Not Found", b"no")),
        Client(get("/b")),
        Server(answer("503", b"")),
        Client(get("/c")),
        Server(answer("304 Not Modified", b"")),
        Client(get("/d")),
        Server(answer("302 Found", b"")),
    ]);
    assert_eq!(said, ["404 - GET /a", "503 - GET /b", "ok - GET /c", "ok - GET /d"]);
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(get("/a")), Server(answer("404 Not Found", b""))]);
    let hits = hits(&player);
    assert_eq!((hits[0].status, hits[0].error_message.as_deref()), (Status::Error, Some("Not Found")));
}

#[test]
fn targets_as_written_only_where_allowed() {
    for keep_literals in [false, true] {
        let mut player = Player::new(Settings { keep_literals, ..Settings::default() }, false);
        player.whole(&[Client(get("/a?token=secret")), Server(answer("200 OK", b""))]);
        assert_eq!(hits(&player)[0].text.as_deref(), keep_literals.then_some("GET /a?token=secret"));
        assert!(keep_literals || !format!("{:?}", player.outcomes).contains("secret"));
    }
}

#[test]
fn pipelined() {
    let requests = [get("/a"), post("/b", b"xyz"), get("/c")].concat();
    let answers = [answer("200 OK", b"a"), chunked(&[b"b", b"bb"]), answer("500 Oh", b"c")].concat();
    let expected = ["ok - GET /a", "ok - POST /b", "500 - GET /c"];
    assert_eq!(play(&[Client(requests.clone()), Server(answers.clone())]), expected);
    let (front, rest) = answers.split_at(10);
    assert_eq!(play(&[Client(requests), Server(front.to_vec()), Server(rest.to_vec())]), expected);
    let said = play(&[Client(get("/a")), Client(get("/b")), Server(answer("200 OK", b"a")), Client(get("/c"))]);
    assert_eq!(said, ["ok - GET /a", "aborted - GET /b"]);
}

#[test]
fn chunked_both_ways() {
    let head = b"PUT /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let request = [head, chunk(&[b'x'; 300]), b"5;name=\"v\"\r\nhello\r\n0\r\nDigest: x\r\n\r\n".to_vec()].concat();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(request.clone()), Server(chunked(&[b"GET / HTTP/1.1\r\n\r\n"])), Client(get("/next"))]);
    player.whole(&[Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["ok - PUT /up", "ok - GET /next"]);
    assert_eq!(hits(&player)[0].request_bytes, request.len() as u64);
}

#[test]
fn interim_answers_are_not_the_answer() {
    let (head, body) = (post("/up", b"hello"), b"hello");
    let head = &head[..head.len() - body.len()];
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    let turns = [
        Client(head.to_vec()),
        Server(interim.clone()),
        Client(body.to_vec()),
        Server([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec(), answer("200 OK", b"")].concat()),
        Client(get("/b")),
        Server(answer("200 OK", b"")),
    ];
    let mut player = Player::new(Settings::default(), false);
    player.whole(&turns);
    assert_eq!(player.said(), ["ok - POST /up", "ok - GET /b"]);
    let hit = &hits(&player)[0];
    // From the head, not from the body's end.
    assert_eq!((hit.start.time_ns, hit.end.time_ns), (1000, 3900));
    assert_eq!(hit.request_bytes, (head.len() + body.len()) as u64);
    assert_eq!(hit.response_bytes, (interim.len() + turns[3].parts().1.len()) as u64);
    // Declined: the body does not come.
    let said = play(&[
        Client(head.to_vec()),
        Server(answer("417 Expectation Failed", b"")),
        Client(get("/b")),
        Server(answer("200 OK", b"")),
    ]);
    assert_eq!(said, ["417 - POST /up", "ok - GET /b"]);
}

#[test]
fn answers_without_a_body() {
    let head = |target: &str| format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let long = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec();
    let said = play(&[
        Client(head("/a")),
        Server(long.clone()),
        Client(head("/b")),
        Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        Client(get("/c")),
        Server(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        Client(get("/d")),
        Server(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n".to_vec()),
        Client(get("/e")),
        Server(answer("200 OK", b"e")),
    ]);
    assert_eq!(said, ["ok - HEAD /a", "ok - HEAD /b", "ok - GET /c", "ok - GET /d", "ok - GET /e"]);
}

#[test]
fn answers_that_end_with_the_connection() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&[
            Client(b"GET /old HTTP/1.0\r\n\r\n".to_vec()),
            Server(b"HTTP/1.0 200 OK\r\n\r\nhel".to_vec()),
            Server(b"lo".to_vec()),
        ]);
        assert!(player.outcomes.is_empty());
        player.close();
        assert_eq!(player.said(), ["ok - GET /old"]);
        assert_eq!(hits(&player)[0].end.time_ns, if client { 3000 } else { 2900 });
        assert_eq!(hits(&player)[0].response_bytes, 24);
    }
}

#[test]
fn connections_that_end_too_early() {
    let part = &answer("200 OK", b"hello")[..50];
    assert_eq!(play(&[Client(get("/a"))]), ["aborted - GET /a"]);
    assert_eq!(play(&[Client(get("/a")), Server(part.to_vec())]), ["aborted - GET /a"]);
    assert_eq!(play(&[Client(get("/a")), Server(chunked(&[b"x"])[..50].to_vec())]), ["aborted - GET /a"]);
    assert_eq!(play(&[Client(get("/a")[..30].to_vec())]), Vec::<String>::new());
    let two = [get("/a"), get("/b")].concat();
    assert_eq!(play(&[Client(two), Server(answer("200 OK", b"a"))]), ["ok - GET /a", "aborted - GET /b"]);
}

#[test]
fn other_forms_of_a_target() {
    let request = |line: &str| Client(format!("{line} HTTP/1.1\r\nHost: proxy:3128\r\n\r\n").into_bytes());
    let mut player = Player::new(Settings::default(), true);
    player.whole(&[
        request("GET http://ann:pw@shop.example:8080/users/1?x"),
        Server(answer("200 OK", b"")),
        request("OPTIONS *"),
        Server(answer("200 OK", b"")),
        Client([&b"\r\n"[..], &get("/a")].concat()),
        Server(answer("200 OK", b"")),
    ]);
    assert_eq!(player.said(), ["ok - GET /users/{id}", "ok - OPTIONS *", "ok - GET /a"]);
    let authorities: Vec<_> = hits(&player).iter().map(|hit| hit.authority.clone().unwrap().to_string()).collect();
    assert_eq!(authorities, ["shop.example:8080", "proxy:3128", "shop.example"]);
}

#[test]
fn other_protocols_take_over() {
    let upgrade = |to: &str| {
        Client(format!("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n").into_bytes())
    };
    let switched = |to: &str| {
        Server(
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n\x01")
                .into_bytes(),
        )
    };
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[upgrade("websocket"), switched("websocket")]);
    assert_eq!((player.said(), player.verdict), (vec!["ok - GET /chat".to_owned()], Verdict::Ignored));
    player.whole(&[Client(get("/x"))]);
    player.close();
    assert_eq!(player.said().len(), 1);

    let mut player = Player::new(Settings::default(), false);
    player.whole(&[upgrade("h2c"), switched("h2c")]);
    assert_eq!((player.said(), player.verdict), (vec!["ok - GET /chat".to_owned()], Verdict::Unknown));
    // Declined, it stays what it was.
    assert_eq!(play(&[upgrade("h2c"), Server(answer("200 OK", b""))]), ["ok - GET /chat"]);

    let mut player = Player::new(Settings::default(), true);
    player.whole(&[Client(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n".to_vec())]);
    player.whole(&[Server(b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec())]);
    assert_eq!((player.said(), player.verdict), (vec!["ok - CONNECT".to_owned()], Verdict::Unknown));
    assert_eq!(hits(&player)[0].authority.as_deref(), Some("a.example:443"));
    player.whole(&[Client(get("/inside")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said()[1..], ["ok - GET /inside"]);
    let refused = Server(answer("407 Proxy Authentication Required", b"x"));
    assert_eq!(play(&[Client(b"CONNECT a:443 HTTP/1.1\r\n\r\n".to_vec()), refused]), ["407 - CONNECT"]);
}

#[test]
fn met_in_the_middle() {
    for client in [false, true] {
        let mut player = Player::new(Settings::default(), client);
        player.whole(&[Server(b"rest of a body".to_vec()), Client(get("/a")), Server(answer("200 OK", b"a"))]);
        assert_eq!(player.said(), ["ok - GET /a"]);
        // An answer first: nobody knows whose.
        let mut player = Player::new(Settings::default(), client);
        player.whole(&[Server(answer("200 OK", b"a")), Client(get("/a")), Server(answer("200 OK", b"a"))]);
        assert_eq!(player.said(), ["lost 1 request_missed", "ok - GET /a"]);
        // One to a HEAD.
        let mut player = Player::new(Settings::default(), client);
        player.whole(&[Server(answer("200 OK", &[b'x'; 500])[..60].to_vec()), Client(get("/a"))]);
        player.whole(&[Server(answer("200 OK", b"a")), Client(get("/b")), Server(answer("200 OK", b"b"))]);
        assert_eq!(player.said(), ["lost 1 request_missed", "ok - GET /a", "ok - GET /b"]);
    }
}

#[test]
fn what_is_no_http_is_left_to_others() {
    // A request line, but the other end speaks otherwise.
    let mut player = Player::new(Settings::default(), false);
    for _ in 0..40 {
        player.whole(&[Client(get("/a")), Server(b"ICY 200 OK\r\n\r\nmusic".to_vec())]);
    }
    assert!(hits(&player).is_empty());
    assert!(player.said().len() <= 2, "{:?}", player.said());
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(get("/a")), Client(b"\x00\x01\x02\x03 something else".to_vec())]);
    assert_eq!(player.verdict, Verdict::Unknown);
}

#[test]
fn heads_of_any_size() {
    let cookie = "x".repeat(30_000);
    let long = format!("GET /a/{cookie}?{cookie} HTTP/1.1\r\nCookie: {cookie}\r\nHost: a\r\n\r\n");
    let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, false);
    // Of what comes before the protocol is known, not so much is kept.
    player.whole(&[Client(long.clone().into_bytes()), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["ok - GET /a/…"]);
    player.outcomes.clear();
    player.whole(&[Client(long.clone().into_bytes()), Server(answer("200 OK", b""))]);
    let mut parts = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, false);
    for part in long.as_bytes().chunks(1000) {
        parts.whole(&[Client(part.to_vec())]);
    }
    parts.whole(&[Server(answer("200 OK", b""))]);
    for player in [player, parts] {
        assert_eq!(player.said(), ["ok - GET /a/…"]);
        assert_eq!(hits(&player)[0].authority.as_deref(), Some("a"));
        assert_eq!(hits(&player)[0].request_bytes, long.len() as u64);
    }
}

#[test]
fn lengths_that_lie() {
    // Shorter than said; the client asks anew all the same.
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec();
    let said = play(&[Client(get("/a")), Server(short), Client(get("/b")), Server(answer("200 OK", b"b"))]);
    assert_eq!(said, ["lost 1 unexpected_message", "lost 1 answer_missed", "ok - GET /b"]);
    // Longer than said.
    let long = [answer("200 OK", b"a"), b"and more".to_vec()].concat();
    let said = play(&[Client(get("/a")), Server(long), Client(get("/b")), Server(answer("200 OK", b"b"))]);
    assert_eq!(said, ["ok - GET /a", "lost 1 unexpected_message", "ok - GET /b"]);
}

#[test]
fn more_requests_than_fit() {
    let mut player = Player::new(Settings { connection_bytes: 0, ..Settings::default() }, false);
    player.whole(&[Client(get("/a")), Server(answer("200 OK", b""))]);
    for _ in 0..2000 {
        player.whole(&[Client(get("/a"))]);
    }
    for _ in 0..2000 {
        player.whole(&[Server(answer("200 OK", b""))]);
    }
    let (lost, hits): (Vec<_>, Vec<_>) = player.said().into_iter().partition(|said| said.starts_with("lost"));
    assert!(
        hits.len() > 100 && hits.len() + lost.iter().filter(|lost| lost.ends_with("request_missed")).count() == 2001
    );
    player.outcomes.clear();
    player.whole(&[Client(get("/b")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["ok - GET /b"]);
}
