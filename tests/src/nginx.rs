//! An nginx of Debian's, in a folder of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    host::{free_port, wait_until},
    process::{ends_with_us, signal},
};

const PROGRAM: &str = "/usr/sbin/nginx";

/// A running server; dropped, it ends and its folder goes.
pub struct Nginx {
    folder: TempDir,
    port: u16,
    server: Child,
}

impl Nginx {
    /// Listens on 127.0.0.1; `listen`: more for that directive, `server`: directives of the one server.
    pub fn start(listen: &str, server: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("hitscope-nginx-").tempdir_in("/tmp").expect("a temporary folder");
        let (path, port) = (folder.path().display(), free_port());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {path}/{name};\n"))
            .concat();
        let configuration = format!(
            "daemon off;\nuser root;\nworker_processes 2;\npid {path}/pid;\nerror_log {path}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\nlog_format counted '$request_method $uri $status';\naccess_log {path}/access.log counted;\n\
             keepalive_requests 1000000;\nsendfile on;\n{temporary}\
             server {{\nlisten 127.0.0.1:{port} {listen};\n{server}\n}}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).expect("its configuration");
        let errors = File::create(folder.path().join("start.log")).expect("its log");
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path()).args(["-e", "stderr"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        ends_with_us(&mut command, libc::SIGTERM);
        let mut server = command.spawn().expect("nginx starts");
        wait_until("nginx listens", || {
            let ended = server.try_wait().expect("its state");
            let said = || fs::read_to_string(folder.path().join("start.log")).unwrap_or_default();
            assert!(ended.is_none(), "nginx ended: {}", said());
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { folder, port, server }
    }

    /// Why it cannot be started, if so.
    pub fn missing() -> Option<&'static str> {
        (!std::path::Path::new(PROGRAM).exists()).then_some("no nginx: install nginx-light")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often it answered each request, by method, path and status, once it has logged so many.
    pub fn answers(&self, requests: u64) -> BTreeMap<String, u64> {
        wait_until("nginx has logged all requests", || {
            let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
            let mut answers = BTreeMap::new();
            for line in log.lines() {
                *answers.entry(line.to_owned()).or_default() += 1;
            }
            (answers.values().sum::<u64>() >= requests).then_some(answers)
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        signal(self.server.id(), libc::SIGTERM);
        let _ = self.server.wait();
    }
}
