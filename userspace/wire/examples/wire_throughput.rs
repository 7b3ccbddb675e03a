//! How fast the PostgreSQL decoder is without a kernel, for `cargo xtask bench wire`: one thread, one connection, server
//! side, statements as pgbench sends them, in the sizes of one call each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hitscope_wire::{Connection, Direction, Mark, Outcome, Segment, Settings};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(500);

fn main() -> Result<(), String> {
    println!(
        "One thread, one connection, server side; {ROUNDS} rounds of {} ms in turn; medians.\n",
        ROUND.as_millis()
    );
    println!("| exchange | bytes | statements/s | ns per statement | MiB/s |");
    println!("|---|---|---|---|---|");
    let mut loads = [
        Load::new("simple query, as pgbench -S", &[], simple, answer()),
        Load::new(
            "extended: Parse, Bind, Describe, Execute, Sync",
            &[],
            extended,
            [b"1\0\0\0\x042\0\0\0\x04", &*answer()].concat(),
        ),
        Load::new(
            "prepared: Bind, Describe, Execute, Sync",
            &parse("P0"),
            prepared,
            [b"2\0\0\0\x04", &*answer()].concat(),
        ),
    ];
    for _ in 0..ROUNDS {
        for load in &mut loads {
            load.round()?;
        }
    }
    for load in &mut loads {
        load.per_statement_ns.sort_by(f64::total_cmp);
        let ns = load.per_statement_ns[ROUNDS / 2];
        let bytes = (load.request)(12345).len() + load.answer.len();
        let mib_per_second = bytes as f64 / ns * 1e9 / f64::from(1 << 20);
        println!("| {} | {bytes} | {:.0} | {ns:.0} | {mib_per_second:.0} |", load.name, 1e9 / ns);
    }
    Ok(())
}

/// One kind of exchange, over and over on one connection.
struct Load {
    name: &'static str,
    request: fn(u64) -> Vec<u8>,
    answer: Vec<u8>,
    stream: Stream,
    per_statement_ns: Vec<f64>,
}

impl Load {
    fn new(name: &'static str, before: &[u8], request: fn(u64) -> Vec<u8>, answer: Vec<u8>) -> Self {
        let mut stream = Stream::new();
        // StartupMessage: length, version 3.0, parameters. AuthenticationOk, ReadyForQuery.
        stream.call(Direction::Received, b"\0\0\0\x23\0\x03\0\0user\0bench\0database\0bench\0\0");
        stream.call(Direction::Sent, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
        if !before.is_empty() {
            stream.call(Direction::Received, &[before, b"S\0\0\0\x04"].concat());
            stream.call(Direction::Sent, b"1\0\0\0\x04Z\0\0\0\x05I");
        }
        Self { name, request, answer, stream, per_statement_ns: Vec::new() }
    }

    fn round(&mut self) -> Result<(), String> {
        let requests: Vec<Vec<u8>> = (0..1000).map(|number| (self.request)(10_000 + number)).collect();
        let (hits, mut statements) = (self.stream.hits, 0);
        let start = Instant::now();
        while start.elapsed() < ROUND {
            for request in &requests {
                self.stream.call(Direction::Received, request);
                self.stream.call(Direction::Sent, &self.answer);
            }
            statements += requests.len() as u64;
        }
        self.per_statement_ns.push(start.elapsed().as_nanos() as f64 / statements as f64);
        match self.stream.hits - hits {
            seen if seen == statements => Ok(()),
            seen => Err(format!("{}: {seen} hits of {statements} statements", self.name)),
        }
    }
}

/// A connection as its server sees it.
struct Stream {
    connection: Connection,
    offsets: [u64; 2],
    time_ns: u64,
    hits: u64,
}

impl Stream {
    fn new() -> Self {
        let settings = Arc::new(Settings::default());
        Self { connection: Connection::new(settings), offsets: [0; 2], time_ns: 0, hits: 0 }
    }

    /// One receive or send call.
    fn call(&mut self, direction: Direction, bytes: &[u8]) {
        self.time_ns += 1000;
        let offset = &mut self.offsets[direction.index()];
        let segment = Segment {
            direction,
            enter_ns: self.time_ns,
            mark: Mark { time_ns: self.time_ns + 100, ..Mark::default() },
            offset: *offset,
            length: bytes.len() as u64,
            head: bytes,
            tail: &[],
        };
        *offset += bytes.len() as u64;
        let hits = &mut self.hits;
        self.connection.feed(&segment, &mut |outcome| *hits += u64::from(matches!(outcome, Outcome::Hit(_))));
    }
}

/// A message of the protocol: its type, the length that counts itself, the body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

fn simple(number: u64) -> Vec<u8> {
    message(b'Q', format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number};\0").as_bytes())
}

fn parse(name: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0").as_bytes())
}

/// Bind with one text parameter, Describe of the portal, Execute, Sync.
fn bind(name: &str, number: u64) -> Vec<u8> {
    let number = number.to_string();
    let mut body = format!("\0{name}\0\0\0\0\x01").into_bytes();
    body.extend((number.len() as u32).to_be_bytes());
    body.extend(number.as_bytes());
    body.extend([0, 0]);
    [message(b'B', &body), message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat()
}

fn extended(number: u64) -> Vec<u8> {
    [parse(""), bind("", number)].concat()
}

fn prepared(number: u64) -> Vec<u8> {
    bind("P0", number)
}

/// One row of one column, and ready for the next.
fn answer() -> Vec<u8> {
    let column = b"\0\x01abalance\0\0\0\x40\x02\0\x04\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    let row = message(b'D', b"\0\x01\0\0\0\x010");
    [message(b'T', column), row, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}
