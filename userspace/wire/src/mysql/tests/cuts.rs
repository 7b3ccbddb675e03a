use super::{
    super::packet::{command, status::*},
    streams::*,
};
use crate::testing::{same_by_head_and_tail, same_when_cut};

/// One of everything; the login are the first three turns.
pub fn session(capabilities: u64) -> Vec<Turn> {
    let ran = |count| Server(many(1, binary_rows(capabilities, count, 0)));
    let several = [
        result(capabilities, 2, MORE_RESULTS),
        vec![ok_with(0, 4, AUTOCOMMIT | MORE_RESULTS)],
        vec![error(1365, "22012", "Division by 0")],
    ];
    let opened = many(1, vec![vec![1], column("a"), eof(capabilities, AUTOCOMMIT | CURSOR_EXISTS)]);
    let fetched = many(1, vec![vec![0, 0, 1, 0, 0, 0], eof(capabilities, AUTOCOMMIT | 0x80)]);
    [
        login(capabilities),
        vec![
            Client(query("select 1; update t set a = 'x' where b in (1, 2); select 3; select 4")),
            Server(many(1, several.concat())),
            Client(prepare("select a from t where b = ?")),
            Server(prepare_answer(capabilities, 1, 1, 1)),
            Client(execute(1, 0, true)),
            ran(3),
            Client(execute(1, 1, false)),
            Server(opened),
            Client(fetch(1)),
            Server(fetched),
            Client(by_id(command::RESET, 1)),
            Server(packet(1, &ok(0))),
            Client(query("load data local infile 'x' into table t")),
            Server(packet(1, b"\xfb/etc/x")),
            Client([packet(2, b"\x03elect 1;\n"), packet(3, b"one\n"), packet(4, b"")].concat()),
            Server(packet(5, &ok(2))),
            Client([by_id(command::CLOSE, 1), query("call p(1)")].concat()),
            Server(many(1, [result(capabilities, 2, MORE_RESULTS), vec![ok(0)]].concat())),
            Client(request(command::STATISTICS, b"")),
            Server(packet(1, b"Uptime: 5  Threads: 1")),
            Client(request(command::QUIT, b"")),
        ],
    ]
    .concat()
}

#[test]
fn cut_at_every_byte() {
    for capabilities in [MODERN, OLD] {
        let turns = session(capabilities);
        for client in [false, true] {
            // From the login on, and met after it.
            for skipped in [0, 3] {
                assert_eq!(same_when_cut(&turns[skipped..], client).len(), 11);
            }
        }
    }
}

#[test]
fn captured_as_head_and_tail_of_any_size() {
    same_by_head_and_tail(&session(OLD));
    same_by_head_and_tail(&session(MODERN));
}
