//! The servers and what loads them.

use std::{
    process::{Command, Output},
    time::Instant,
};

use hitscope_tests::{Mariadb, Postgres, Redis, Via, nginx::Nginx, postgres::succeed};

/// A server that counts what it serves.
pub trait Server {
    /// Loads it for so long; requests per second by the client's own account.
    fn load(&self, seconds: u64) -> f64;
    /// Requests served so far, by the server's own count.
    fn served(&self) -> u64;
    /// Which rows of `operations` these requests are, as a condition of SQL.
    fn operations(&self) -> &'static str;
}

/// The server of a load's name.
pub fn start(name: &str) -> Box<dyn Server> {
    match name {
        "postgres" => Box::new(Pgbench::start(Via::Socket, "simple", false)),
        "postgres-prepared" => Box::new(Pgbench::start(Via::Socket, "prepared", false)),
        "postgres-tls" => Box::new(Pgbench::start(Via::Tcp, "simple", true)),
        "mysql" => Box::new(Sysbench::start()),
        "http1" => Box::new(Wrk(Nginx::start())),
        "http2" => Box::new(H2load(Nginx::with("http2", ""))),
        "redis" => Box::new(Benchmark { server: Redis::start(), pipeline: "1" }),
        "redis-pipeline" => Box::new(Benchmark { server: Redis::start(), pipeline: "16" }),
        _ => panic!("no load {name}"),
    }
}

/// The number that follows `before` in what a client printed.
fn printed(output: &Output, before: &str) -> f64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in:\n{text}"));
    let number: String = rest.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    number.parse().unwrap_or_else(|_| panic!("no number after {before:?} in:\n{text}"))
}

/// `pgbench -S -c 4 -j 2`.
struct Pgbench {
    server: Postgres,
    via: Via,
    mode: &'static str,
    tls: bool,
}

impl Pgbench {
    fn start(via: Via, mode: &'static str, tls: bool) -> Self {
        let ssl = if tls { "ssl = on" } else { "" };
        let server = Postgres::with(&format!("log_min_duration_statement = -1\nshared_buffers = 256MB\n{ssl}"));
        succeed(server.client("pgbench", Via::Socket).args(["--initialize", "--quiet", "--scale=10"]));
        Self { server, via, mode, tls }
    }
}

impl Server for Pgbench {
    fn load(&self, seconds: u64) -> f64 {
        let seconds = seconds.to_string();
        let mut command = self.server.pgbench(self.via, &["-S", "-c", "4", "-j", "2", "-M", self.mode, "-T", &seconds]);
        if self.tls {
            command.env("PGSSLMODE", "require");
        }
        printed(&succeed(&mut command), "tps = ")
    }

    fn served(&self) -> u64 {
        let count = "select coalesce(sum(calls), 0) from pg_stat_statements where query like '%abalance%'";
        self.server.psql(count).parse().expect("a count")
    }

    fn operations(&self) -> &'static str {
        "protocol = 'postgres' AND operation LIKE '%abalance%'"
    }
}

/// `sysbench oltp_point_select --threads=4`.
struct Sysbench(Mariadb);

impl Sysbench {
    fn start() -> Self {
        let sysbench = Self(Mariadb::with(&["--performance-schema=OFF"]));
        succeed(sysbench.command().arg("prepare"));
        sysbench
    }

    fn command(&self) -> Command {
        self.0.sysbench("oltp_point_select", Via::Socket, &["--threads=4", "--db-ps-mode=disable"])
    }
}

impl Server for Sysbench {
    fn load(&self, seconds: u64) -> f64 {
        let output = succeed(self.command().arg(format!("--time={seconds}")).arg("run"));
        printed(&output, "queries:") / printed(&output, "total time:")
    }

    fn served(&self) -> u64 {
        let row = self.0.sql("show global status like 'Com_select'");
        row.split_whitespace().last().and_then(|count| count.parse().ok()).expect("a count")
    }

    fn operations(&self) -> &'static str {
        "protocol = 'mysql' AND operation LIKE 'SELECT c FROM sbtest%'"
    }
}

/// `wrk -c 4 -t 2` of a small file.
struct Wrk(Nginx);

impl Server for Wrk {
    fn load(&self, seconds: u64) -> f64 {
        let mut wrk = Command::new("wrk");
        wrk.args(["-c", "4", "-t", "2", "-d"]).arg(format!("{seconds}s")).arg(self.0.url("/small"));
        printed(&succeed(&mut wrk), "Requests/sec:")
    }

    fn served(&self) -> u64 {
        small(&self.0)
    }

    fn operations(&self) -> &'static str {
        "protocol = 'http1' AND operation = 'GET /small'"
    }
}

/// `h2load -c 4 -m 8` of a small file.
struct H2load(Nginx);

impl Server for H2load {
    fn load(&self, seconds: u64) -> f64 {
        let mut h2load = Command::new("h2load");
        h2load.args(["-c", "4", "-m", "8", "-D", &seconds.to_string()]).arg(self.0.url("/small"));
        let output = succeed(&mut h2load);
        printed(&output, "requests:") / seconds as f64
    }

    fn served(&self) -> u64 {
        small(&self.0)
    }

    fn operations(&self) -> &'static str {
        "protocol = 'http2' AND operation = 'GET /small'"
    }
}

/// Requests of the small file in nginx's log.
fn small(nginx: &Nginx) -> u64 {
    nginx.answers().get("GET /small ok").copied().unwrap_or(0)
}

/// `redis-benchmark -t get`, by so many commands at a time.
struct Benchmark {
    server: Redis,
    pipeline: &'static str,
}

impl Benchmark {
    /// Commands for each second asked for.
    const PER_SECOND: u64 = 25_000;
}

impl Server for Benchmark {
    fn load(&self, seconds: u64) -> f64 {
        let commands = (seconds * Self::PER_SECOND).to_string();
        let arguments = ["-t", "get", "-c", "4", "-r", "1000", "-P", self.pipeline, "-n", &commands];
        let start = Instant::now();
        succeed(&mut self.server.benchmark(Via::Socket, &arguments));
        (seconds * Self::PER_SECOND) as f64 / start.elapsed().as_secs_f64()
    }

    fn served(&self) -> u64 {
        self.server.commands().get("get").copied().unwrap_or(0)
    }

    fn operations(&self) -> &'static str {
        "protocol = 'redis' AND operation LIKE 'GET %'"
    }
}
