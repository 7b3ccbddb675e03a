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
