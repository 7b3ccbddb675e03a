//! What servers and clients said, recorded between them. PostgreSQL 15 and its own: `psql`, and `pgbench` in a pipeline
//! and with the extended protocol. MariaDB 10.11 with its own client, `sysbench` with prepared statements, and MySQL's
//! connector for Python.
//!
//! A capture holds the reads of a proxy: who spoke (0: the client), the length (`u32`, big endian), the bytes. The
//! file beside it has the hits that must come of it: count, rows, status, operation. They agree with what that server
//! counted (`pg_stat_statements`, the general log).

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, sync::Arc};

use hitscope_wire::{Connection, Direction, Facts, Mark, Outcome, Segment, Settings};

/// Count, rows, status and operation of the hits; `captured`: bytes captured of head and tail.
fn hits(capture: &[u8], client: bool, captured: usize) -> String {
    let mut connection = Connection::new(Arc::new(Settings::default()));
    let mut hits = BTreeMap::<_, (u64, u64)>::new();
    let mut sink = |outcome: Outcome, _: &Facts| match outcome {
        Outcome::Hit(hit) => {
            let code = hit.error_code.as_deref().unwrap_or(hit.status.as_str());
            let (count, rows) = hits.entry(format!("{code} {}", hit.operation)).or_default();
            *count += 1;
            *rows += hit.rows.unwrap_or_default();
        }
        other => panic!("{other:?}"),
    };
    let (mut rest, mut offsets, mut time_ns) = (capture, [0; 2], 0);
    while let [speaker, a, b, c, d, after @ ..] = rest {
        let (bytes, after) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        rest = after;
        let direction = if (*speaker == 0) == client { Direction::Sent } else { Direction::Received };
        let head = bytes.len().min(captured);
        let tail = (bytes.len() - head).min(captured);
        time_ns += 1000;
        let segment = Segment {
            direction,
            enter_ns: time_ns - 100,
            mark: Mark { time_ns, ..Mark::default() },
            offset: offsets[direction.index()],
            length: bytes.len() as u64,
            head: &bytes[..head],
            tail: &bytes[bytes.len() - tail..],
        };
        offsets[direction.index()] += bytes.len() as u64;
        connection.feed(&segment, &mut sink);
    }
    connection.close(time_ns, &mut sink);
    assert_eq!(connection.facts().database.as_deref(), Some("shop"));
    hits.iter().fold(String::new(), |mut text, (operation, (count, rows))| {
        writeln!(text, "{count} {rows} {operation}").expect("a string takes all");
        text
    })
}

fn without_rows(hits: &str) -> Vec<(&str, &str)> {
    let split = |line| {
        let mut fields = str::splitn(line, 3, ' ');
        (fields.next().expect("a count"), fields.nth(1).expect("what it was"))
    };
    hits.lines().map(split).collect()
}

#[test]
fn hits_of_real_clients() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    for name in ["psql", "pipeline", "extended", "mariadb", "sysbench", "connector"] {
        let capture = fs::read(folder.join(name).with_extension("bin")).expect("a capture");
        let path = folder.join(name).with_extension("hits");
        // Set `HITSCOPE_BLESS` to write it anew.
        if std::env::var_os("HITSCOPE_BLESS").is_some() {
            fs::write(&path, hits(&capture, false, usize::MAX)).expect("a writable folder");
        }
        let expected = fs::read_to_string(&path).expect("its hits");
        for client in [false, true] {
            assert_eq!(hits(&capture, client, usize::MAX), expected, "{name} {client}");
            for captured in [512, 160] {
                let hits = hits(&capture, client, captured);
                // MySQL does not tell rows at their end, so with a hole in them their number is not known.
                if ["mariadb", "sysbench", "connector"].contains(&name) {
                    assert_eq!(without_rows(&hits), without_rows(&expected), "{name} {client} {captured}");
                } else {
                    assert_eq!(hits, expected, "{name} {client} {captured}");
                }
            }
        }
    }
}
