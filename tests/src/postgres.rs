//! A PostgreSQL of Debian's, in a folder of its own.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    host::free_port,
    server::{Server, folder},
};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Socket,
    Tcp,
}

/// A running server; dropped, it ends and its folder goes.
pub struct Postgres {
    server: Option<Server>,
    folder: TempDir,
    port: u16,
    user: (u32, u32),
}

impl Postgres {
    /// A fresh cluster, which logs the duration of each statement and counts them in `pg_stat_statements`.
    pub fn start() -> Self {
        Self::with("")
    }

    /// With more lines for `postgresql.conf`.
    pub fn with(settings: &str) -> Self {
        let user = user("postgres", "postgresql-15");
        let folder = folder("hitscope-pg-", Some(user));
        let mut postgres = Self { folder, port: free_port(), server: None, user };
        postgres.make_cluster();
        let (socket, port) = (postgres.folder.path().display(), postgres.port);
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{socket}'\n\
             shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track = top\nmax_connections = 300\n\
             log_min_duration_statement = 0\nlog_line_prefix = '%p '\nfsync = off\nautovacuum = off\n{settings}\n"
        );
        let path = postgres.data().join("postgresql.conf");
        let defaults = fs::read_to_string(&path).expect("its configuration");
        fs::write(path, defaults + &settings).expect("its configuration");
        if settings.contains("ssl = on") {
            postgres.certificate();
        }
        postgres.run();
        postgres.psql("create extension pg_stat_statements");
        postgres
    }

    /// A new cluster, or a copy of one, where making one would take long.
    fn make_cluster(&self) {
        let mut make = match env::var_os("HITSCOPE_POSTGRES_CLUSTER") {
            Some(cluster) => {
                let mut copy = self.as_server("/bin/cp");
                copy.arg("-a").arg(cluster);
                copy
            }
            None => {
                let mut initdb = self.as_server("initdb");
                let settings = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"];
                initdb.arg("--no-sync").args(settings).arg("--pgdata");
                initdb
            }
        };
        succeed(make.arg(self.data()));
    }

    fn certificate(&self) {
        let file = |name: &str| self.data().join(name).display().to_string();
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
        ]);
        succeed(openssl.args([&file("server.key"), "-out", &file("server.crt")]).uid(self.user.0).gid(self.user.1));
    }

    /// Starts the server over its folder.
    pub fn run(&mut self) {
        let mut command = self.as_server("postgres");
        // Ends in good order, and with its children.
        let mut server = Server::start(command.arg("-D").arg(self.data()), libc::SIGINT, &self.log_path());
        server.ready(|| {
            let ready = self.client("pg_isready", Via::Socket).arg("-q").status().expect("pg_isready starts");
            ready.success().then_some(())
        });
        self.server = Some(server);
    }

    /// Ends the server, and every connection with it.
    pub fn stop(&mut self) {
        self.server = None;
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).expect("its log")).into_owned()
    }

    /// A folder that server and clients may write to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Process of the server.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("it runs").pid()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn as_server(&self, program: &str) -> Command {
        // `join` leaves an absolute path as it is.
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        command.uid(self.user.0).gid(self.user.1).env_clear().env("LC_ALL", "C").current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A client that finds the server through libpq's variables.
    pub fn client(&self, program: impl AsRef<Path>, via: Via) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        self.reaches(&mut command, via);
        command.stdin(Stdio::null());
        command
    }

    /// Sets libpq's variables.
    pub fn reaches(&self, command: &mut Command, via: Via) {
        let host = match via {
            Via::Socket => self.folder.path().display().to_string(),
            Via::Tcp => "127.0.0.1".into(),
        };
        command.env("PGHOST", host).env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command.env("PGDATABASE", "postgres").env("LC_ALL", "C").env_remove("PGSSLMODE");
    }

    /// `psql` that reads nothing but its arguments, and prints bare values.
    pub fn psql_command(&self, via: Via) -> Command {
        let mut command = self.client("psql", via);
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        command
    }

    /// Runs statements, each in its own message, over the socket; returns what they print.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_via(Via::Socket, sql)
    }

    /// Runs one message of statements.
    pub fn psql_via(&self, via: Via, sql: &str) -> String {
        let output = succeed(self.psql_command(via).args(["--command", sql]));
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    /// Runs statements that may fail.
    pub fn psql_unchecked(&self, via: Via, sql: &str) -> Output {
        self.psql_command(via).args(["--command", sql]).output().expect("psql starts")
    }

    /// The rows of a statement, as objects.
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        let json = self.psql(&format!("select coalesce(json_agg(r), '[]') from ({sql}) r"));
        serde_json::from_str(&json).expect("JSON")
    }

    /// Makes pgbench's tables.
    pub fn pgbench_init(&self) {
        succeed(self.client("pgbench", Via::Socket).args(["--initialize", "--quiet"]));
    }

    /// pgbench without its vacuum; more arguments say what to do.
    pub fn pgbench(&self, via: Via, arguments: &[&str]) -> Command {
        let mut command = self.client("pgbench", via);
        command.arg("--no-vacuum").args(arguments);
        command
    }
}

/// Runs to the end.
///
/// # Panics
/// With everything that the command said, when it fails.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let Output { status, stdout, stderr } = &output;
    let (stdout, stderr) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    output
}

/// User and group ids by name; `package` makes it.
pub(crate) fn user(name: &str, package: &str) -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let fields = fields.unwrap_or_else(|| panic!("no user {name}: install {package}"));
    (fields[2].parse().expect("a user id"), fields[3].parse().expect("a group id"))
}
