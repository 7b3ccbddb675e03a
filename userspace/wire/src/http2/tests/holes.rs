use super::{cuts::session, streams::*};
use crate::{Outcome, Settings};

#[test]
fn large_answers_and_requests() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    for observed in [false, true] {
        let mut player = Player::new(Settings::default(), observed);
        player.whole(&opening());
        for (n, frame_bytes) in [16384, 8192, 1000, 100].into_iter().enumerate() {
            let id = 100 * n as u32 + 1;
            let mut answer = server.status(id, "200", false);
            for _ in 0..20 {
                answer.extend(data(id, &vec![b'x'; frame_bytes], false));
            }
            answer.extend(data(id, b"end", true));
            player.whole(&[Client(client.get(id, "/large"))]);
            for call in answer.chunks(8192) {
                player.part(false, call, 128, 512);
            }
            player.whole(&[Client(client.get(id + 50, "/next")), Server(server.page(id + 50, 3))]);
            // The request's path is an entry of the table, which holes of the other direction leave alone.
            assert_eq!(said(&player), ["ok http2 GET /large", "ok http2 GET /next"], "{observed} {frame_bytes}");
            player.outcomes.clear();
            server = Peer::new();
        }
        client = Peer::new();
    }
}

#[test]
fn an_answer_whose_end_is_not_captured() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings::default(), false);
    player.whole(&opening());
    player.whole(&[Client([client.get(1, "/a"), client.get(3, "/b")].concat())]);
    let answer = [server.page(1, 500), data(3, &[b'x'; 100], false)].concat();
    player.part(false, &answer, 60, 20);
    let mut server = Peer::new();
    player.whole(&[Server(server.status(3, "404", true)), Client(client.get(5, "/c")), Server(server.page(5, 9))]);
    player.close();
    // Of the first, the frame that ends it was seen to begin.
    assert_eq!(said(&player), ["ok http2 GET /a", "404 http2 GET /b", "ok http2 GET /c"]);
}

#[test]
fn a_missed_end_is_no_end() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings::default(), false);
    player.whole(&opening());
    player.whole(&[Client([client.get(1, "/a"), client.get(3, "/b")].concat())]);
    player.lose(&Server(server.page(1, 50)));
    player.whole(&[Server(server.page(3, 50)), Client(client.get(5, "/a")), Server(server.page(5, 50))]);
    player.close();
    assert_eq!(said(&player), ["ok http2 GET /b", "ok http2 GET /a", "lost 1 answer_missed"]);
}

#[test]
fn a_path_is_right_or_unresolved() {
    let words = ["carts", "orders", "items", "people", "prices"];
    let paths: Vec<_> =
        (0..40).map(|n| format!("/{}/{}{}", words[n / 10], words[n % 5], ["", "/all"][n % 2])).collect();
    for lost in 0..40 {
        let (mut client, mut server) = (Peer::new(), Peer::new());
        let mut player = Player::new(Settings::default(), false);
        player.whole(&opening());
        let mut expected = Vec::new();
        for n in 0..120_u32 {
            let path = &paths[(n as usize * 7) % (10 + n as usize / 4)];
            let request = Client(client.get(2 * n + 1, path));
            if n == lost || n == lost + 45 {
                player.lose(&request);
                player.lose(&Server(server.page(2 * n + 1, 5)));
            } else {
                player.whole(&[request, Server(server.page(2 * n + 1, 5))]);
                expected.push(format!("GET {path}"));
            }
        }
        let hits = player.hits();
        assert_eq!(hits.len(), expected.len());
        let mut resolved = 0;
        for (hit, expected) in hits.iter().zip(&expected) {
            assert!(
                *hit.operation == **expected || &*hit.operation == "GET <unresolved>",
                "{}: {expected}",
                hit.operation
            );
            resolved += usize::from(*hit.operation == **expected);
        }
        assert!(resolved >= 40, "{resolved}");
        // All was entered anew by the end of the first stretch.
        assert!(lost > 20 || hits[30].operation.starts_with("GET /"));
    }
}

#[test]
fn each_segment_left_out() {
    let turns = session();
    for observed in [false, true] {
        let mut player = Player::new(Settings::default(), observed);
        player.whole(&turns);
        let all = said(&player);
        for lost in 0..turns.len() {
            let mut player = Player::new(Settings::default(), observed);
            for (n, turn) in turns.iter().enumerate() {
                match n == lost {
                    true => player.lose(turn),
                    false => player.whole(std::slice::from_ref(turn)),
                }
            }
            // Nothing that was not there, but for what is unresolved.
            let hits = player.hits();
            for hit in &hits {
                let said = say(&Outcome::Hit((*hit).clone()));
                let same = all.iter().any(|all| *all == said || hit.operation.contains("<unresolved>"));
                let unknown_status = all.iter().any(|all| all.ends_with(&*hit.operation));
                assert!(same || unknown_status, "{lost}: {said}");
            }
            assert!(hits.len() + 2 >= all.len(), "{observed} {lost}: {:?}", said(&player));
            // And all is well again.
            player.outcomes.clear();
            let (mut client, mut server) = (Peer::new(), Peer::new());
            for id in [901, 903] {
                player.whole(&[Client(client.get(id, "/new")), Server(server.page(id, 7))]);
            }
            let said = said(&player);
            assert_eq!(said.iter().filter(|said| *said == "ok http2 GET /new").count(), 2, "{lost}: {said:?}");
        }
    }
}

#[test]
fn frames_that_begin_anywhere_in_a_call() {
    // A receiver's buffer ends anywhere, so the calls do not begin where frames do.
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut bytes = Vec::new();
    for id in (1001..1101).step_by(2) {
        bytes.extend(client.get(id, "/a"));
    }
    for skipped in 1..40 {
        let mut player = Player::new(Settings::default(), false);
        player.whole(&[Client(bytes[skipped..].to_vec())]);
        for id in (1001..1101).step_by(2) {
            player.whole(&[Server(server.status(id, "200", true))]);
        }
        assert!(player.hits().len() >= 48, "{skipped}: {:?}", said(&player));
        server = Peer::new();
    }
}

/// An answer of which so much is said at its head.
fn sized(server: &mut Peer, id: u32, bytes: usize, frame_bytes: usize) -> Vec<u8> {
    let mut answer = server.headers(id, &[(":status", "200"), ("content-length", &bytes.to_string())], false);
    let body = vec![b'x'; bytes];
    let frames = bytes.div_ceil(frame_bytes);
    for (n, part) in body.chunks(frame_bytes).enumerate() {
        answer.extend(data(id, part, n + 1 == frames));
    }
    answer
}

#[test]
fn an_answer_alone_ends_by_its_length() {
    for observed in [false, true] {
        for (call_bytes, frame_bytes) in [(8192, 8192), (8192, 16384), (16384, 8192), (5000, 1000), (100_000, 16384)] {
            let (mut client, mut server) = (Peer::new(), Peer::new());
            let mut player = Player::new(Settings::default(), observed);
            player.whole(&opening());
            let mut ends = Vec::new();
            for n in 0..20 {
                let id = 2 * n + 1;
                player.whole(&[Client(client.get(id, "/large"))]);
                let answer = sized(&mut server, id, 300_000 + n as usize, frame_bytes);
                let (front, rest) = answer.split_at(65_536);
                player.part(false, front, front.len(), 0);
                for call in rest.chunks(call_bytes) {
                    player.part(false, call, 128, 512);
                }
                ends.push(player.time_ns() - if observed { 0 } else { 100 });
                player.whole(&[Client(window(0))]);
            }
            player.close();
            let case = format!("{observed} {call_bytes} {frame_bytes}");
            assert_eq!(said(&player), vec!["ok http2 GET /large"; 20], "{case}");
            assert_eq!(player.hits().iter().map(|hit| hit.end.time_ns).collect::<Vec<_>>(), ends, "{case}");
            assert!(player.hits().iter().all(|hit| hit.response_bytes > 300_000), "{case}");
        }
    }
}

#[test]
fn answers_side_by_side_end_where_it_is_seen_or_are_counted() {
    for observed in [false, true] {
        let (mut client, mut server) = (Peer::new(), Peer::new());
        let mut player = Player::new(Settings::default(), observed);
        player.whole(&opening());
        let (mut asked, mut id) = (0, 1);
        for round in 0..10 {
            let ids: Vec<u32> = (0..5).map(|n| id + 2 * n).collect();
            id += 10;
            asked += ids.len() as u64;
            player.whole(&[Client(ids.iter().flat_map(|id| client.get(*id, "/large")).collect())]);
            let mut answers: Vec<_> = ids.iter().map(|id| sized(&mut server, *id, 100_000 + round, 8192)).collect();
            let mut bytes = Vec::new();
            while answers.iter().any(|answer| !answer.is_empty()) {
                for answer in &mut answers {
                    // The header block's frame, or one of data.
                    let length = u32::from_be_bytes([
                        0,
                        answer.first().copied().unwrap_or(0),
                        answer.get(1).copied().unwrap_or(0),
                        answer.get(2).copied().unwrap_or(0),
                    ]);
                    let frame = (length as usize + 9).min(answer.len());
                    bytes.extend(answer.drain(..frame));
                }
            }
            for call in bytes.chunks(8192) {
                player.part(false, call, 128, 512);
            }
        }
        player.close();
        let lost: u64 = player
            .outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Lost { reason: "answer_missed", count } => *count,
                _ => 0,
            })
            .sum();
        let hits = player.hits();
        assert!(hits.iter().all(|hit| &*hit.operation == "GET /large" && hit.shared), "{observed}");
        assert_eq!(hits.len() as u64 + lost, asked, "{observed}: {:?}", said(&player));
    }
}

#[test]
fn a_frame_of_a_stream_under_way_is_known_alone() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut player = Player::new(Settings::default(), true);
    player.whole(&opening());
    player.whole(&[Client([client.get(1, "/a"), client.get(3, "/b")].concat())]);
    let heads = [server.status(1, "200", false), server.status(3, "200", false)].concat();
    player.whole(&[Server(heads)]);
    let large = [data(1, &[b'x'; 4000], false), data(1, &[b'y'; 4000], false), data(3, &[b'z'; 3000], true)].concat();
    // The last frame begins in the tail, and goes on in the next call.
    let cut = large.len() - 2900;
    player.part(false, &large[..cut], 128, 512);
    player.whole(&[Server([&large[cut..], &data(1, b"end", true)].concat())]);
    assert_eq!(said(&player), ["ok http2 GET /b", "ok http2 GET /a"]);
}
