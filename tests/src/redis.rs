//! A Redis of Debian's, in a folder of its own.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    calls::number,
    daemon::Daemon,
    host::free_port,
    postgres::{Via, succeed},
    server::{Server, folder},
};

/// How often each command ran, by the name that `INFO commandstats` has for it: `get`, `config|get`.
pub type Commands = BTreeMap<String, u64>;

/// Stands in [`commands_by_hits`] for commands that were not captured.
pub const UNRESOLVED: &str = "<unresolved>";

/// A running server; dropped, it ends and its folder goes.
pub struct Redis {
    server: Server,
    folder: TempDir,
    port: u16,
}

impl Redis {
    /// A fresh server that keeps nothing on disk.
    pub fn start() -> Self {
        let (folder, port) = (folder("hitscope-redis-", None), free_port());
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--unixsocket").arg(folder.path().join("socket")).arg("--dir").arg(folder.path());
        // Every command is in the slow log, with its time.
        command.args(["--slowlog-log-slower-than", "0", "--slowlog-max-len", "20000", "--logfile", ""]);
        command.args(["--enable-debug-command", "local"]);
        let mut redis =
            Self { server: Server::start(&mut command, libc::SIGTERM, &folder.path().join("log")), folder, port };
        redis.server.listens(port);
        redis
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn client(&self, program: &str, via: Via) -> Command {
        let mut command = Command::new(program);
        match via {
            Via::Socket => command.arg("-s").arg(self.socket()),
            Via::Tcp => command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]),
        };
        command
    }

    /// `redis-cli`, to be told a command.
    pub fn cli(&self, via: Via) -> Command {
        self.client("redis-cli", via)
    }

    /// Has `redis-cli` say commands, one by line, on one connection.
    pub fn say(&self, via: Via, options: &[&str], lines: &str) {
        let mut command = self.cli(via);
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut cli = command.spawn().expect("redis-cli starts");
        cli.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("it reads");
        assert!(cli.wait().expect("redis-cli ends").success());
    }

    /// One command; returns what is printed of its answer.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = succeed(self.cli(Via::Socket).args(arguments));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// `redis-benchmark`, which says little.
    pub fn benchmark(&self, via: Via, arguments: &[&str]) -> Command {
        let mut command = self.client("redis-benchmark", via);
        command.arg("-q").args(arguments);
        command
    }

    /// Has Redis count from zero.
    pub fn count_commands(&self) {
        self.ask(&["CONFIG", "RESETSTAT"]);
    }

    /// Commands since [`Redis::count_commands`] that were answered, those that it refused to run included.
    pub fn commands(&self) -> Commands {
        let mut commands = Commands::new();
        for line in self.ask(&["INFO", "commandstats"]).lines() {
            let Some((name, fields)) = line.trim_end().strip_prefix("cmdstat_").and_then(|line| line.split_once(':'))
            else {
                continue;
            };
            let field = |name: &str| {
                let value = fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {name}: {line}"))
            };
            commands.insert(name.to_owned(), field("calls") + field("rejected_calls"));
        }
        // By what asks for the counts, and resets them.
        commands.remove("info");
        commands.remove("config|resetstat");
        commands
    }
}

/// Hits of one side, by the names that `commandstats` has; `where_` is a condition that tells whose they are.
pub fn commands_by_hits(daemon: &Daemon, side: &str, where_: &str) -> Commands {
    let rows = daemon.query(&format!(
        "SELECT operation, sum(weight) AS hits FROM hits WHERE protocol = 'redis' AND side = '{side}' AND {where_} \
         GROUP BY operation"
    ));
    let mut commands = Commands::new();
    for row in rows {
        *commands.entry(command_name(&row)).or_default() += number(&row["hits"]);
    }
    commands.remove("info");
    commands.remove("config|resetstat");
    commands
}

/// The command of a row's operation.
fn command_name(row: &Value) -> String {
    let operation = row["operation"].as_str().expect("a text").to_lowercase();
    let mut words = operation.split(' ');
    let first = words.next().unwrap_or_default();
    match (first, words.next()) {
        ("client" | "command" | "config" | "script" | "slowlog", Some(sub)) => format!("{first}|{sub}"),
        _ => first.to_owned(),
    }
}
