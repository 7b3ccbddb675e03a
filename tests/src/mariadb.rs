//! A MariaDB of Debian's, in a folder of its own.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    calls::{Calls, add, number},
    host::{free_port, python},
    postgres::{Via, succeed, user},
    server::{Server, folder},
};

/// A running server with the schema `shop`; dropped, it ends and its folder goes.
pub struct Mariadb {
    server: Option<Server>,
    folder: TempDir,
    port: u16,
    user: (u32, u32),
}

impl Mariadb {
    /// A fresh server, which keeps the times of its latest statements.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more options.
    pub fn with(options: &[&str]) -> Self {
        let user = user("mysql", "mariadb-server");
        let folder = folder("hitscope-db-", Some(user));
        let mut mariadb = Self { folder, port: free_port(), server: None, user };
        let mut install = mariadb.as_server("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        succeed(install.arg("--skip-name-resolve").arg(mariadb.option("datadir", "data")));
        mariadb.run(options);
        mariadb.sql("create database shop");
        mariadb
    }

    fn run(&mut self, options: &[&str]) {
        let mut server = self.as_server("mariadbd");
        server.arg("--no-defaults").args([self.option("datadir", "data"), self.option("socket", "socket")]);
        server.arg(self.option("pid-file", "pid")).arg(format!("--port={}", self.port)).args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--local-infile=1",
            "--max-connections=300",
            "--log-output=TABLE",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0",
            "--performance-schema=ON",
            "--performance-schema-instrument=statement/%=ON",
            "--performance-schema-consumer-events-statements-current=ON",
            "--performance-schema-consumer-events-statements-history=ON",
            "--performance-schema-consumer-events-statements-history-long=ON",
            "--performance-schema-events-statements-history-long-size=20000",
        ]);
        let mut server = Server::start(server.args(options), libc::SIGKILL, &self.folder.path().join("log"));
        server.ready(|| {
            let mut ping = self.client("mariadb-admin", Via::Socket);
            let ready = ping.arg("ping").stdout(Stdio::null()).stderr(Stdio::null()).status();
            ready.expect("mariadb-admin starts").success().then_some(())
        });
        self.server = Some(server);
    }

    fn option(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.folder.path().join(file).display())
    }

    /// A folder that all may read.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("it runs").pid()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn as_server(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.uid(self.user.0).gid(self.user.1).current_dir(self.folder.path()).env("LC_ALL", "C");
        command.env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A client of MariaDB's that finds the server.
    pub fn client(&self, program: &str, via: Via) -> Command {
        let mut command = Command::new(program);
        command.args(["--no-defaults", "--user=root"]).stdin(Stdio::null());
        match via {
            Via::Socket => command.arg(format!("--socket={}", self.socket().display())),
            Via::Tcp => command.args(["--protocol=TCP", "--host=127.0.0.1", &format!("--port={}", self.port)]),
        };
        command
    }

    /// The command-line client in the schema `shop`, which prints bare values.
    pub fn mariadb(&self, via: Via) -> Command {
        let mut command = self.client("mariadb", via);
        command.args(["--batch", "--raw", "--skip-column-names", "--no-auto-rehash", "--local-infile=1"]);
        command
    }

    /// Runs statements over the socket; returns what they print.
    pub fn sql(&self, sql: &str) -> String {
        let output = succeed(self.mariadb(Via::Socket).args(["--execute", sql]));
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    /// The rows of a statement that makes objects.
    pub fn objects(&self, sql: &str) -> Vec<Value> {
        self.sql(sql).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Runs a Python program, which gets host, port and socket as arguments.
    pub fn python(&self, program: &str) -> Command {
        let mut command = Command::new(python());
        command.args(["-c", program, "127.0.0.1", &self.port.to_string()]).arg(self.socket());
        command.stdin(Stdio::null());
        command
    }

    /// A script of sysbench's, such as `oltp_read_write`.
    pub fn sysbench(&self, script: &str, via: Via, arguments: &[&str]) -> Command {
        let mut command = Command::new("sysbench");
        command.args([script, "--mysql-user=root", "--mysql-db=shop", "--tables=2", "--table-size=500"]);
        match via {
            Via::Socket => command.arg(format!("--mysql-socket={}", self.socket().display())),
            Via::Tcp => command.args(["--mysql-host=127.0.0.1", &format!("--mysql-port={}", self.port)]),
        };
        command.args(["--time=0"]).args(arguments).stdin(Stdio::null());
        command
    }

    /// Has MariaDB log what it is asked, from now on.
    pub fn count_calls(&self) {
        self.sql(
            "set global general_log = 0; truncate mysql.general_log; set global general_log = 1; \
             truncate performance_schema.events_statements_summary_global_by_event_name",
        );
    }

    /// How often each operation was asked for since [`Mariadb::count_calls`]: statements by the general log, in which
    /// several of one query are one; commands that run none by the performance schema.
    pub fn calls(&self) -> Calls {
        self.sql("set global general_log = 0");
        let mut calls = Calls::new();
        let log = "select json_object('type', command_type, 'text', convert(argument using utf8mb4), 'count', count(*)) \
                   from mysql.general_log where command_type in ('Query', 'Execute', 'Prepare') \
                   group by command_type, argument";
        for row in self.objects(log) {
            let text = row["text"].as_str().expect("a text");
            let prepare = if row["type"] == "Prepare" { "<prepare> " } else { "" };
            add(&mut calls, &format!("{prepare}{text}"), number(&row["count"]));
        }
        let commands = "select json_object('name', event_name, 'count', count_star) \
                        from performance_schema.events_statements_summary_global_by_event_name \
                        where event_name in ('statement/com/Ping', 'statement/com/Statistics', 'statement/com/Init DB')";
        for row in self.objects(commands) {
            let name = row["name"].as_str().expect("a text").trim_start_matches("statement/com/").to_lowercase();
            add(&mut calls, &format!("<{name}>"), number(&row["count"]));
        }
        calls
    }
}
