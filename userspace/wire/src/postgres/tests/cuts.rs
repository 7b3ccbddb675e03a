//! However the bytes of a stream come in pieces, the hits are the same.

use super::streams::*;
use crate::testing::{same_by_head_and_tail, same_when_cut};

/// One of everything.
pub fn session() -> Vec<Turn> {
    let run = |name| [bind("", name, b"five"), execute("", 0)].concat();
    let ran = [bind_complete(), complete("UPDATE 1")].concat();
    [
        login(),
        vec![
            Client(query("select 1; update t set a = 'x' where b in (1, 2); select 3")),
            Server([select(2), complete("UPDATE 4"), error("22012", "division by zero"), ready(b'E')].concat()),
            Client([parse("S_1", "update t set a = $1"), describe(b'S', "S_1"), sync()].concat()),
            Server([parse_complete(), message(b't', &[0, 1, 0, 0, 0, 23]), message(b'n', b""), ready(b'I')].concat()),
            Client([run("S_1"), run("S_1"), run("S_2"), sync()].concat()),
            Server([ran.clone(), ran.clone(), ran.clone(), ready(b'I')].concat()),
            Client([run("S_1"), run("S_1"), run("S_2"), sync(), run("S_1"), sync()].concat()),
            Server([ran.clone(), error("23505", "duplicate"), ready(b'I'), ran.clone(), ready(b'I')].concat()),
            Client(query("copy t from stdin")),
            Server(message(b'G', &[0, 0, 1, 0, 0])),
            Client([message(b'd', b"Q\0\0\0\x05\0"), message(b'd', b"two\n"), message(b'c', b"")].concat()),
            Server([complete("COPY 2"), message(b'S', &texts(&["TimeZone", "UTC"])), ready(b'I')].concat()),
            Client([parse("", "insert into t values ($1)"), run(""), sync()].concat()),
            Server([parse_complete(), ran, error("23503", "deferred"), ready(b'I')].concat()),
            Client(message(b'X', b"")),
        ],
    ]
    .concat()
}

#[test]
fn cut_at_every_byte() {
    let turns = session();
    for client in [false, true] {
        // From the start-up on, and met after it.
        for skipped in [0, 4] {
            assert_eq!(same_when_cut(&turns[skipped..], client).len(), 11);
        }
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    same_by_head_and_tail(&session());
}
