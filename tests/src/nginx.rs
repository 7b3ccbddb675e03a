//! An nginx of Debian's, with a configuration and a folder of its own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    host::{free_port, wait_until},
    server::{Server, folder},
};

pub const PROGRAM: &str = "/usr/sbin/nginx";

/// A running server; dropped, it ends and its folder goes.
pub struct Nginx {
    _server: Server,
    folder: TempDir,
    port: u16,
}

/// One line of its access log.
#[derive(Clone, Debug)]
pub struct Access {
    pub method: String,
    pub path: String,
    pub status: u16,
    /// From the first byte of the request to the last of the answer, in steps of 1 ms.
    pub duration_ms: u64,
    pub response_bytes: u64,
}

/// How often each request was answered how: `GET /items/{id} 404`, with `ok` for each status below 400.
pub type Answers = BTreeMap<String, u64>;

impl Nginx {
    /// Serves `/small`, `/large` (by sendfile), `/items/…`, `/upload` (reads what it is sent), `/broken` (a 500); anything
    /// else is a 404.
    pub fn start() -> Self {
        Self::with("", "")
    }

    /// More for the directive `listen`, such as `http2`, and more of what stands in its `server` block.
    pub fn with(listen: &str, more: &str) -> Self {
        let (folder, port) = (folder("hitscope-nginx-", None), free_port());
        let path = folder.path().display();
        fs::create_dir(folder.path().join("files")).expect("a folder");
        fs::write(folder.path().join("files/small"), "hello\n").expect("a file");
        fs::write(folder.path().join("files/large"), vec![b'x'; 8 << 20]).expect("a file");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {path}/{name};\n"))
            .concat();
        let config = format!(
            "user root;\nworker_processes 2;\ndaemon off;\npid {path}/pid;\nerror_log stderr;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
             log_format plain '$request_method $request_uri $status $request_time $bytes_sent';\n\
             access_log {path}/access.log plain;\n{temporary}\
             sendfile on;\nkeepalive_requests 1000000;\nclient_max_body_size 100m;\n\
             server {{\n\
             listen 127.0.0.1:{port} {listen};\nlisten unix:{path}/sink;\nroot {path}/files;\n\
             {more}\n\
             location /items/ {{ return 200 'an item\n'; }}\n\
             location /broken {{ return 500 'broken\n'; }}\n\
             location /sink {{ access_log off; return 200 'taken\n'; }}\n\
             location /upload {{ proxy_request_buffering on; proxy_pass http://unix:{path}/sink:/sink; }}\n\
             }}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("its configuration");
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path()).args(["-e", "stderr"]);
        let mut server = Server::start(&mut command, libc::SIGTERM, &folder.path().join("error.log"));
        server.listens(port);
        Self { _server: server, folder, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://…` of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// The log so far.
    pub fn accesses(&self) -> Vec<Access> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let access = |line: &str| {
            let mut fields = line.split(' ');
            let mut next = || fields.next().unwrap_or_default().to_owned();
            let (method, path, status) = (next(), next(), next().parse().expect("a status"));
            let duration_ms = next().replace('.', "").parse().expect("a time");
            Access { method, path, status, duration_ms, response_bytes: next().parse().expect("a size") }
        };
        log.lines().map(access).collect()
    }

    /// Waits until it has logged so many requests.
    pub fn logs(&self, requests: usize) -> Vec<Access> {
        wait_until("nginx has logged all requests", || Some(self.accesses()).filter(|all| all.len() >= requests))
    }

    /// The log so far, counted.
    pub fn answers(&self) -> Answers {
        let mut answers = Answers::new();
        for access in self.accesses() {
            *answers.entry(answer(&access.method, &access.path, access.status)).or_default() += 1;
        }
        answers
    }
}

/// As [`Answers`] has it; segments of digits are ids.
pub fn answer(method: &str, path: &str, status: u16) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let is_id = |segment: &str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    let template: Vec<&str> = path.split('/').map(|segment| if is_id(segment) { "{id}" } else { segment }).collect();
    let status = if status < 400 { "ok".to_owned() } else { status.to_string() };
    format!("{method} {} {status}", template.join("/"))
}
