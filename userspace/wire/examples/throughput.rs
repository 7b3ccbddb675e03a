//! What a statement costs the decoder: nanoseconds per statement of streams like those of pgbench and sysbench, one thread.
//!
//! `cargo run --release -p hitscope-wire --example throughput [--json]`
use std::sync::Arc;

#[path = "throughput/http2.rs"]
mod http2;

use hitscope_wire::{Connection, Direction, Mark, Outcome, Segment, Settings};

const STATEMENTS: usize = 400_000;
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 5;

fn message(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
}

/// A request and its answer.
struct Exchange {
    request: Vec<u8>,
    answer: Vec<u8>,
}

fn row_answer(start: &[Vec<u8>]) -> Vec<u8> {
    let columns = message(b'T', &[&[0, 1], b"abalance\0", &[0; 18]]);
    let row = message(b'D', &[&[0, 1, 0, 0, 0, 5], b"12345"]);
    let complete = message(b'C', &[b"SELECT 1\0"]);
    [start.concat(), columns, row, complete, message(b'Z', &[b"I"])].concat()
}

fn simple_select(n: usize) -> Exchange {
    let sql = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {};\0", n * 7919 % 100_000);
    Exchange { request: message(b'Q', &[sql.as_bytes()]), answer: row_answer(&[]) }
}

fn simple_update(n: usize) -> Exchange {
    let (delta, account) = (n as i64 % 10_000 - 5000, n * 7919 % 100_000);
    let sql = format!("UPDATE pgbench_accounts SET abalance = abalance + {delta} WHERE aid = {account};\0");
    let answer = [message(b'C', &[b"UPDATE 1\0"]), message(b'Z', &[b"T"])].concat();
    Exchange { request: message(b'Q', &[sql.as_bytes()]), answer }
}

fn bind_and_execute(statement: &str, n: usize) -> Vec<u8> {
    let value = (n * 7919 % 100_000).to_string();
    let length = (value.len() as u32).to_be_bytes();
    [
        message(b'B', &[b"\0", statement.as_bytes(), &[0, 0, 0, 0, 1], &length, value.as_bytes(), &[0, 1, 0, 0]]),
        message(b'D', &[b"P\0"]),
        message(b'E', &[b"\0", &[0; 4]]),
        message(b'S', &[]),
    ]
    .concat()
}

fn prepared(n: usize) -> Exchange {
    Exchange { request: bind_and_execute("P0_1", n), answer: row_answer(&[message(b'2', &[])]) }
}

fn extended(n: usize) -> Exchange {
    let parse = message(b'P', &[b"\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0", &[0, 0]]);
    let request = [parse, bind_and_execute("", n)].concat();
    Exchange { request, answer: row_answer(&[message(b'1', &[]), message(b'2', &[])]) }
}

fn redis_get(n: usize) -> Exchange {
    let key = format!("user:{}", n * 7919 % 100_000);
    let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
    Exchange { request: request.into(), answer: b"$5\r\nhello\r\n".to_vec() }
}

fn mysql_packet(number: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(body.len() as u32).to_le_bytes()[..3], &[number], &body].concat()
}

/// Columns, one row, and an OK packet in the end.
fn mysql_row(row: &[u8]) -> Vec<u8> {
    let column =
        [b"\x03def\x04shop\x06sbtest\x07sbtest1\x01c\x01c" as &[u8], &[12, 45, 0, 224, 1, 0, 0, 254, 0, 0, 0, 0, 0]];
    let end = [&[0xfe, 0, 0, 2, 0, 0, 0][..]];
    [mysql_packet(1, &[&[1]]), mysql_packet(2, &column), mysql_packet(3, &[row]), mysql_packet(4, &end)].concat()
}

fn mysql_query(n: usize) -> Exchange {
    let sql = format!("SELECT c FROM sbtest1 WHERE id = {}", n * 7919 % 100_000);
    Exchange {
        request: mysql_packet(0, &[&[3], sql.as_bytes()]),
        answer: mysql_row(&[b"\x78", &[b'x'; 120][..]].concat()),
    }
}

fn mysql_execute(n: usize) -> Exchange {
    let id = ((n * 7919 % 100_000) as u32).to_le_bytes();
    let request = mysql_packet(0, &[&[0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0], &id]);
    Exchange { request, answer: mysql_row(&[b"\0\0\x78", &[b'x'; 120][..]].concat()) }
}

/// What [`mysql_execute`] runs.
fn mysql_prepare() -> Exchange {
    let column = [b"\x03def\0\0\0\x01?\0" as &[u8], &[12, 63, 0, 0, 0, 0, 0, 253, 128, 0, 0, 0, 0]];
    let answer =
        [mysql_packet(1, &[&[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]]), mysql_packet(2, &column), mysql_packet(3, &column)];
    Exchange { request: mysql_packet(0, &[b"\x16SELECT c FROM sbtest1 WHERE id = ?"]), answer: answer.concat() }
}

/// A browser's request and an API's answer.
fn http_get(n: usize) -> Exchange {
    let request = format!(
        "GET /api/v1/users/{}/orders?page=2 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux \
         x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: application/json\r\nAccept-Language: \
         en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\nCookie: \
         session=0123456789abcdef0123456789abcdef\r\n\r\n",
        n * 7919 % 100_000
    );
    let body = "x".repeat(500);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n{body}",
        body.len()
    );
    Exchange { request: request.into_bytes(), answer: answer.into_bytes() }
}

/// The median of some rounds, ns per statement.
fn measure(exchanges: &[Exchange], first: Option<&Exchange>) -> f64 {
    let settings = Arc::new(Settings::default());
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Stream::new(&settings)).collect();
    let mut hits = 0;
    for connection in &mut connections {
        first.into_iter().chain(&exchanges[..1]).for_each(|exchange| connection.play(exchange, &mut hits));
    }
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            hits = 0;
            let start = cpu_ns();
            for n in 0..STATEMENTS {
                connections[n % CONNECTIONS].play(&exchanges[n % exchanges.len()], &mut hits);
            }
            let time = cpu_ns() - start;
            assert_eq!(hits, STATEMENTS);
            time as f64 / STATEMENTS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// The thread's time on a CPU, ns: other load on the host does not count.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
    schedstat.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

struct Stream {
    connection: Connection,
    offsets: [u64; 2],
    time_ns: u64,
}

impl Stream {
    fn new(settings: &Arc<Settings>) -> Self {
        Self { connection: Connection::new(settings.clone()), offsets: [0; 2], time_ns: 0 }
    }

    fn play(&mut self, exchange: &Exchange, hits: &mut usize) {
        for (direction, bytes) in [(Direction::Received, &exchange.request), (Direction::Sent, &exchange.answer)] {
            self.time_ns += 1000;
            let offset = &mut self.offsets[direction.index()];
            let segment = Segment {
                direction,
                enter_ns: self.time_ns,
                mark: Mark { time_ns: self.time_ns + 500, ..Mark::default() },
                offset: *offset,
                length: bytes.len() as u64,
                head: bytes,
                tail: &[],
            };
            *offset += bytes.len() as u64;
            self.connection.feed(&segment, &mut |outcome, _| match outcome {
                Outcome::Hit(hit) => {
                    std::hint::black_box(hit);
                    *hits += 1;
                }
                other => panic!("{other:?}"),
            });
        }
    }
}

fn main() {
    let many = |make: fn(usize) -> Exchange| (0..4096).map(make).collect::<Vec<_>>();
    let parse = message(b'P', &[b"P0_1\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0", &[0, 0]]);
    let parse = Exchange {
        request: [parse, message(b'S', &[])].concat(),
        answer: [message(b'1', &[]), message(b'Z', &[b"I"])].concat(),
    };
    let figures = [
        ("simple_select", measure(&many(simple_select), None)),
        ("simple_update", measure(&many(simple_update), None)),
        ("extended", measure(&many(extended), None)),
        ("prepared", measure(&many(prepared), Some(&parse))),
        ("mysql_query", measure(&many(mysql_query), None)),
        ("mysql_execute", measure(&many(mysql_execute), Some(&mysql_prepare()))),
        ("redis_get", measure(&many(redis_get), None)),
        ("http2_get", http2::measure(http2::get)),
        ("http2_coded", http2::measure(http2::get_coded)),
        ("grpc_call", http2::measure(http2::call)),
        ("http_get", measure(&many(http_get), None)),
    ];
    if std::env::args().any(|argument| argument == "--json") {
        let fields: Vec<_> = figures.iter().map(|(name, ns)| format!("\"{name}_ns\": {ns:.1}")).collect();
        println!("{{{}}}", fields.join(", "));
    } else {
        for (name, ns) in figures {
            println!("{name:14} {ns:6.0} ns per statement");
        }
    }
}
