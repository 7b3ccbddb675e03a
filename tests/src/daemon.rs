//! A `hitscope run` with its own folder and port.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use seccompiler::BpfProgram;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    confined,
    host::{binary, free_port, wait_until},
    http,
    postgres::succeed,
    process::{ends_with_us, signal},
};

/// A data folder, and the hitscope that writes it; dropped, it ends and the folder goes.
pub struct Daemon {
    folder: TempDir,
    data_dir: PathBuf,
    address: String,
    /// What the command line starts with, before the program.
    start: Vec<String>,
    program: PathBuf,
    arguments: Vec<String>,
    filter: Option<BpfProgram>,
    child: Option<Child>,
}

impl Daemon {
    /// Runs with the defaults; returns when all probes collect.
    pub fn start() -> Self {
        Self::with("")
    }

    /// With a configuration.
    pub fn with(config: &str) -> Self {
        let mut daemon = Self::prepare(config);
        daemon.run();
        daemon
    }

    /// A folder, with nothing running yet.
    pub fn prepare(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("hitscope-test-").tempdir_in("/tmp").expect("a temporary folder");
        // The server runs as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder open to all");
        let data_dir = folder.path().join("data");
        let address = format!("127.0.0.1:{}", free_port());
        let (start, arguments) = (Vec::new(), Vec::new());
        let daemon = Self { folder, data_dir, address, start, program: binary(), arguments, filter: None, child: None };
        daemon.configure(config);
        daemon
    }

    /// Replaces the configuration, for the next run.
    pub fn configure(&self, config: &str) {
        fs::write(self.folder.path().join("hitscope.toml"), config).expect("the configuration");
    }

    /// `hitscope run` shall have these arguments, too.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// It shall run by a command line that starts so.
    #[must_use]
    pub fn under(mut self, start: Vec<String>) -> Self {
        self.start = start;
        self
    }

    /// It shall run under a filter of system calls.
    #[must_use]
    pub fn under_filter(mut self, filter: BpfProgram) -> Self {
        self.filter = Some(filter);
        self
    }

    /// It shall run as what it runs as by now, with the mounts that systemd makes of the unit: everything but the data folder
    /// read-only, and no homes.
    #[must_use]
    pub fn with_units_mounts(self) -> Self {
        let data_dir = self.data_dir.display();
        let script = format!(
            "mount --bind {data_dir} {data_dir}\nmount -o remount,bind,ro /\nmount -o remount,bind,ro /sys\n\
             mount --bind /proc/sys /proc/sys\nmount -o remount,bind,ro /proc/sys\n\
             for home in /home /root; do mount -t tmpfs -o ro,mode=0 none $home; done"
        );
        let start = confined::with_mounts(&script).into_iter().chain(self.start.clone()).collect();
        self.under(start)
    }

    /// It shall run as [`confined::STRANGER`] with these capabilities, over a data folder of that user.
    #[must_use]
    pub fn under_as_stranger(mut self, capabilities: &[&str]) -> Self {
        self.data_dir = confined::strangers_folder(self.folder.path());
        self.program = confined::binary_for_all(self.folder.path());
        self.under(confined::stranger(capabilities))
    }

    /// Starts, and waits until all probes collect.
    pub fn run(&mut self) {
        let off = self.run_with_what_works();
        assert!(off.iter().all(|(_, reason)| reason.starts_with("turned off")), "{off:?}");
    }

    /// Starts, and waits until it collects. Gives the probes that do not run, with the reasons.
    pub fn run_with_what_works(&mut self) -> Vec<(String, String)> {
        let log = || File::options().create(true).append(true).open(self.log_path()).expect("the log");
        let mut command = confined::command(&self.start, &self.program);
        command.arg("run").arg("--config").arg(self.folder.path().join("hitscope.toml")).arg("--data-dir");
        command.arg(&self.data_dir).args(["--listen", &self.address]).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log()).stderr(log()).env("RUST_BACKTRACE", "1");
        ends_with_us(&mut command, libc::SIGTERM);
        if let Some(filter) = self.filter.clone() {
            confined::under(&mut command, filter);
        }
        let pid = self.child.insert(command.spawn().expect("hitscope starts")).id();
        let status = wait_until("hitscope collects", || {
            assert!(self.ended().is_none(), "hitscope ended:\n{}", self.log());
            let status = self.status().filter(|status| status["pid"] == pid)?;
            // One that runs, but not yet in full, says so.
            let ready = |probe: &Value| probe["running"] == false || probe["reason"].is_null();
            status["probes"].as_array().is_some_and(|probes| probes.iter().all(ready)).then_some(status)
        });
        let probes = status["probes"].as_array().expect("probes");
        assert!(!probes.is_empty());
        let text = |probe: &Value, key: &str| probe[key].as_str().unwrap_or_default().to_owned();
        let off = probes.iter().filter(|probe| probe["running"] != true);
        off.map(|probe| (text(probe, "name"), text(probe, "reason"))).collect()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("its state")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// `status.json`, where it is there.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.data_dir.join("status.json")).ok()?).ok()
    }

    /// Waits until everything that has happened by now is on disk.
    pub fn settle(&mut self) {
        let now_ns = now_ns();
        let mut updates = Vec::new();
        // The first status later than now may belong to a turn of the loop that began before.
        wait_until("hitscope has written twice", || {
            assert!(self.ended().is_none(), "hitscope ended:\n{}", self.log());
            let updated_ns = self.status()?["updated_ns"].as_u64()?;
            if updated_ns > now_ns && updates.last() != Some(&updated_ns) {
                updates.push(updated_ns);
            }
            // What waits for whom it belongs to waits up to two seconds.
            let held = self.status()?["counters"]["rows_held"].as_u64()?;
            (updates.len() >= if held == 0 { 2 } else { 5 }).then_some(())
        });
    }

    /// The rows of a statement, by `hitscope query`, on what has happened by now.
    pub fn settled(&mut self, sql: &str) -> Vec<Value> {
        self.settle();
        self.query(sql)
    }

    /// The rows of a statement, by `hitscope query`.
    pub fn query(&self, sql: &str) -> Vec<Value> {
        query(&self.data_dir, sql)
    }

    /// Waits until a statement has rows.
    pub fn wait_for(&self, sql: &str) -> Vec<Value> {
        wait_until(sql, || Some(self.query(sql)).filter(|rows| !rows.is_empty()))
    }

    /// The answer of the server.
    pub fn get(&self, path: &str) -> http::Answer {
        wait_until("the server answers", || http::get(&self.address, path))
    }

    /// Process of the server.
    pub fn server_pid(&self) -> u32 {
        let status = self.get("/api/v1/status").json();
        status["server"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("the server's pid")
    }

    /// SIGTERM, and the end that follows.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        signal(child.id(), libc::SIGTERM);
        for _ in 0..600 {
            if let Some(status) = child.try_wait().expect("its state") {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let status = self.stop();
        if thread::panicking() {
            println!(
                "hitscope's end: {status:?}\nits status: {}\nits log:\n{}",
                self.status().unwrap_or_default(),
                self.log()
            );
        }
    }
}

/// The rows of a statement over a folder.
pub fn query(data_dir: &Path, sql: &str) -> Vec<Value> {
    let mut command = Command::new(binary());
    command.args(["query", sql, "--format", "json", "--data-dir"]).arg(data_dir);
    let output = succeed(&mut command);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Wall clock, ns since the epoch.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos() as u64
}
