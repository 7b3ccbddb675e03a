//! Seeds for the fuzz target.

use super::{compressed::sessions, cuts::session, streams::*};
use crate::testing::{check_seeds, seed, seed_segment};

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (request, answer) = (Client(query("select a from t where b in (1, 'two')")), Server(rows(OLD, 100)));
    let holes = [
        vec![0],
        seed_segment(&request, 64, 0, 0),
        seed_segment(&answer, 100, 60, 0),
        seed_segment(&request, 64, 0, 40),
        seed_segment(&answer, 100, 60, 300),
    ];
    vec![
        ("mysql-session", seed(&session(OLD))),
        ("mysql-modern", seed(&session(MODERN))),
        ("mysql-middle", seed(&session(OLD)[3..])),
        ("mysql-tls", seed(&[Server(greeting()), Client(tls_request(1))])),
        ("mysql-plaintext", seed(&[Client(login_reply(2, CACHING, b"")), Server(packet(3, &ok(0))), request.clone()])),
        ("mysql-compressed", seed(&sessions(MODERN, 300)[0])),
        ("mysql-holes", holes.concat()),
    ]
}

#[test]
fn seeds_are_these_streams() {
    check_seeds(seeds());
}
