use super::*;
use crate::Settings;

fn only_hits(player: &Player) -> Vec<String> {
    player.said().into_iter().filter(|said| !said.starts_with("lost")).collect()
}

#[test]
fn large_bodies_are_skipped_by_their_length() {
    let body = vec![b'x'; 300_000];
    for client in [false, true] {
        for call in [400_000, 65_536, 8192, 1000] {
            let mut player = Player::new(Settings::default(), client);
            player.whole(&[Client(get("/small")), Server(answer("200 OK", b""))]);
            let request = post("/up", &body);
            for part in request.chunks(call) {
                player.part(true, part, 128, 512);
            }
            let download = answer("200 OK", &body);
            for part in download.chunks(call) {
                player.part(false, part, 128, 512);
            }
            assert_eq!(player.said(), ["ok - GET /small", "ok - POST /up"], "{call}");
            let hit = &hits(&player)[1];
            assert_eq!((hit.request_bytes, hit.response_bytes), (request.len() as u64, download.len() as u64));
            assert_eq!(hit.end.time_ns, player.time_ns() - if client { 0 } else { 100 });
        }
    }
}

#[test]
fn bodies_sent_from_a_file() {
    let mut player = Player::new(Settings::default(), false);
    let whole = answer("200 OK", &[b'x'; 100_000]);
    let (head, body) = whole.split_at(whole.len() - 100_000);
    player.whole(&[Client(get("/file")), Server(head.to_vec())]);
    for part in body.chunks(40_000) {
        player.part(false, part, 0, 0);
    }
    player.whole(&[Client(get("/next")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["ok - GET /file", "ok - GET /next"]);
    // In chunks: sizes are written, the bytes are sent from the file.
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(get("/file"))]);
    player.whole(&[Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9c40\r\n".to_vec())]);
    player.part(false, &[b'x'; 40_000], 0, 0);
    player.whole(&[Server(b"\r\n0\r\n\r\n".to_vec()), Client(get("/next")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["ok - GET /file", "ok - GET /next"]);
}

#[test]
fn large_chunked_answers() {
    let body = vec![b'x'; 50_000];
    for client in [false, true] {
        for (chunk_bytes, call) in [(50_000, 60_000), (8000, 8006), (8000, 20_000), (1000, 60_000), (1000, 5000)] {
            let chunks: Vec<&[u8]> = body.chunks(chunk_bytes).collect();
            let mut player = Player::new(Settings::default(), client);
            player.whole(&[Client(get("/big"))]);
            for part in chunked(&chunks).chunks(call) {
                player.part(false, part, 128, 512);
            }
            player.whole(&[Client(get("/next")), Server(answer("200 OK", b""))]);
            assert_eq!(player.said(), ["ok - GET /big", "ok - GET /next"], "{chunk_bytes} {call}");
        }
    }
}

#[test]
fn large_chunked_uploads() {
    let chunks: Vec<u8> = [b'x'; 50_000].chunks(8000).flat_map(chunk).collect();
    let head = b"PUT /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = [head, &chunks[..], b"0\r\n\r\n"].concat();
    for call in [60_000, 16_384, 5000] {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&[Client(get("/small")), Server(answer("200 OK", b""))]);
        for part in whole.chunks(call) {
            player.part(true, part, 128, 100);
        }
        player.whole(&[Server(answer("200 OK", b"")), Client(get("/next")), Server(answer("200 OK", b""))]);
        assert_eq!(player.said(), ["ok - GET /small", "ok - PUT /up", "ok - GET /next"], "{call}");
        assert_eq!(hits(&player)[1].request_bytes, whole.len() as u64, "{call}");
    }
}

#[test]
fn chunked_answers_whose_end_was_not_captured() {
    let body = vec![b'x'; 50_000];
    let whole = chunked(&body.chunks(1000).collect::<Vec<_>>());
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(get("/big"))]);
    player.part(false, &whole, 128, 2);
    player.whole(&[Client(get("/next")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["lost 1 answer_incomplete", "ok - GET /big", "ok - GET /next"]);
    // The end is that call's.
    assert_eq!(hits(&player)[0].end.time_ns, 1900);
    // In a call that never came: when it ended is not known.
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(get("/big")), Server(whole[..500].to_vec())]);
    player.lose(&Server(whole[500..].to_vec()));
    player.whole(&[Client(get("/next")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["lost 1 answer_missed", "ok - GET /next"]);
}

/// Requests `/a1`, `/a2`, …, each with its answer of one status.
fn exchanges(count: usize) -> Vec<Turn> {
    let exchange = |n| {
        let status = format!("{} Oh", 400 + n);
        let body = vec![b'x'; 40 * n];
        [Client(get(&format!("/a{n}"))), Server(if n % 2 == 0 { answer(&status, &body) } else { odd(&status, &body) })]
    };
    (1..=count).flat_map(exchange).collect()
}

/// An answer in chunks.
fn odd(status: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunk(body), b"0\r\n\r\n"].concat()
}

#[test]
fn lost_segments() {
    let turns = exchanges(6);
    for client in [false, true] {
        for from in 0..turns.len() {
            for to in from + 1..turns.len().min(from + 5) {
                let mut player = Player::new(Settings::default(), client);
                player.whole(&[Client(get("/first")), Server(answer("200 OK", b""))]);
                for (index, turn) in turns.iter().enumerate() {
                    match (from..to).contains(&index) {
                        true => player.lose(turn),
                        false => player.whole(std::slice::from_ref(turn)),
                    }
                }
                // Each exchange of which nothing was lost is a hit, and no other is.
                let whole = |exchange: &usize| !(from..to).any(|lost| lost / 2 == *exchange);
                let expected: Vec<_> = (0..6).filter(whole).map(|n| format!("{} - GET /a{}", 401 + n, n + 1)).collect();
                assert_eq!(only_hits(&player)[1..], expected, "{from}..{to} {:#?}", player.said());
                let lost = player.said().len() - expected.len() - 1;
                assert!(lost <= 2, "{:?}", player.said());
            }
        }
    }
}

#[test]
fn a_lost_part_of_a_message() {
    let whole = answer("200 OK", &[b'x'; 500]);
    for from in 1..whole.len() {
        for size in [1, 40, 100] {
            let to = (from + size).min(whole.len());
            let mut player = Player::new(Settings::default(), from % 2 == 0);
            player.whole(&[Client(get("/a")), Server(whole[..from].to_vec())]);
            player.lose(&Server(whole[from..to].to_vec()));
            if to < whole.len() {
                player.whole(&[Server(whole[to..].to_vec())]);
            }
            player.whole(&[Client(get("/b")), Server(answer("201 OK", b"b"))]);
            let hits = only_hits(&player);
            assert_eq!(hits.last().map(String::as_str), Some("ok - GET /b"), "{from} {:?}", player.said());
            // What is lost of a body alone costs nothing.
            let within = from >= whole.len() - 500 && to < whole.len();
            assert_eq!(hits.len(), if within { 2 } else { 1 }, "{from}..{to} {:?}", player.said());
        }
    }
}

#[test]
fn a_lost_part_of_a_request() {
    let whole = post("/a", &[b'x'; 300]);
    for from in 1..whole.len() {
        for size in [1, 40] {
            let to = (from + size).min(whole.len());
            let mut player = Player::new(Settings::default(), from % 2 == 0);
            player.whole(&[Client(get("/first")), Server(answer("200 OK", b"")), Client(whole[..from].to_vec())]);
            player.lose(&Client(whole[from..to].to_vec()));
            if to < whole.len() {
                player.whole(&[Client(whole[to..].to_vec())]);
            }
            player.whole(&[Server(answer("200 OK", b"a")), Client(get("/b")), Server(answer("200 OK", b"b"))]);
            player.close();
            let hits = only_hits(&player);
            assert_eq!(hits.last().map(String::as_str), Some("ok - GET /b"), "{from} {:?}", player.said());
            let within = from >= whole.len() - 300;
            assert_eq!(hits.len(), if within { 3 } else { 2 }, "{from}..{to} {:?}", player.said());
        }
    }
}

#[test]
fn lost_answers_of_a_pipeline() {
    let requests = |n: usize| Client((0..5).map(|m| get(&format!("/b{n}x{m}"))).collect::<Vec<_>>().concat());
    for lost in 0..5 {
        let mut player = Player::new(Settings::default(), false);
        for n in 0..3 {
            player.whole(&[requests(n)]);
            for m in 0..5 {
                let turn = Server(answer(&format!("{} Oh", 400 + 10 * n + m), &[b'x'; 20]));
                if n == 1 && m == lost { player.lose(&turn) } else { player.whole(&[turn]) }
            }
        }
        for hit in only_hits(&player) {
            // No answer goes to another request.
            let (code, operation) = (hit[..3].parse::<usize>().unwrap() - 400, hit.split("/b").nth(1).unwrap());
            assert_eq!(operation, format!("{}x{}", code / 10, code % 10));
        }
        assert_eq!(only_hits(&player).len(), 10 + lost, "{:?}", player.said());
    }
}

#[test]
fn requests_within_a_hole() {
    let requests: Vec<u8> = (0..50).flat_map(|n| get(&format!("/r{n}x"))).collect();
    let answers: Vec<u8> = (0..50).flat_map(|n| answer(&format!("{} Oh", 400 + n), b"x")).collect();
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(get("/first")), Server(answer("200 OK", b""))]);
    player.part(true, &requests, 400, 200);
    player.whole(&[Server(answers), Client(get("/next")), Server(answer("200 OK", b""))]);
    let hits = only_hits(&player);
    assert_eq!(hits.first().map(String::as_str), Some("ok - GET /first"));
    assert_eq!(hits.last().map(String::as_str), Some("ok - GET /next"));
    assert!((3..10).contains(&hits.len()), "{hits:?}");
    for (n, hit) in hits[1..hits.len() - 1].iter().enumerate() {
        assert_eq!(*hit, format!("{} - GET /r{n}x", 400 + n));
    }
}

#[test]
fn heads_with_a_hole() {
    let long = format!("GET /a HTTP/1.1\r\nCookie: {}\r\nHost: a\r\n\r\n", "x".repeat(5000));
    let mut player = Player::new(Settings::default(), false);
    player.part(true, long.as_bytes(), 128, 20);
    player.whole(&[Server(answer("200 OK", b"")), Client(get("/b")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["ok - GET /a", "ok - GET /b"]);
    let long = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {}\r\nContent-Length: 5\r\n\r\nhello", "x".repeat(5000));
    let mut player = Player::new(Settings::default(), false);
    player.whole(&[Client(get("/a"))]);
    player.part(false, long.as_bytes(), 128, 100);
    player.whole(&[Client(get("/b")), Server(answer("200 OK", b""))]);
    assert_eq!(player.said(), ["lost 1 answer_incomplete", "ok - GET /a", "ok - GET /b"]);
}
