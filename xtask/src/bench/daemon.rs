//! A running `hitscope run` for the time of a measurement.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::Workspace;

pub struct Daemon {
    child: Child,
    pub data_dir: PathBuf,
}

impl Daemon {
    /// Starts it over a new folder below `folder` and waits until every probe that is not disabled runs.
    pub fn start(workspace: &Workspace, folder: &Path, disabled: &[&str], arguments: &[&str]) -> Result<Self> {
        let data_dir = folder.join("data");
        let _ = fs::remove_dir_all(&data_dir);
        fs::create_dir_all(&data_dir)?;
        let config = folder.join("hitscope.toml");
        fs::write(&config, format!("[probes]\ndisabled = {disabled:?}\n"))?;
        let log_path = folder.join("hitscope.log");
        let log = File::create(&log_path)?;
        let child = Command::new(workspace.binary())
            .arg("run")
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(&data_dir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting hitscope")?;
        let mut daemon = Self { child, data_dir };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("hitscope ended ({status}): {}", fs::read_to_string(&log_path).unwrap_or_default());
            }
            let probes = daemon.status()["probes"].as_array().cloned().unwrap_or_default();
            let waits = |probe: &&Value| {
                let name = probe["name"].as_str().unwrap_or_default();
                !disabled.contains(&name) && probe["running"].as_bool() != Some(true)
            };
            match probes.iter().find(waits) {
                None if !probes.is_empty() => return Ok(daemon),
                Some(probe) if Instant::now() > deadline => bail!("a probe does not run: {probe}"),
                None if Instant::now() > deadline => bail!("hitscope wrote no status within 30 s"),
                _ => sleep(Duration::from_millis(100)),
            }
        }
    }

    /// `status.json` as it is now; null before there is one.
    pub fn status(&self) -> Value {
        let text = fs::read(self.data_dir.join("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Process of the collector.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the collector so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in parentheses; fields 14 and 15 of proc_pid_stat(5), in ticks.
        let (_, fields) = text.rsplit_once(')').context("/proc/<pid>/stat")?;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // SAFETY: has no preconditions.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Ok(ticks as f64 / per_second as f64)
    }

    /// Peak resident memory of the collector, and of the server beside it where there is one, in bytes.
    pub fn peak_bytes(&self) -> (u64, Option<u64>) {
        // Each thread has its own children.
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let server = children.flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).next());
        let server = server.map(peak_bytes).next();
        (peak_bytes(self.child.id()), server)
    }

    /// Ends it as an init system would.
    pub fn stop(mut self) -> Result<()> {
        self.terminate();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("hitscope did not end within 20 s of SIGTERM")
    }

    fn terminate(&self) {
        // SAFETY: sends a signal to our own child, which was not waited for yet.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            sleep(Duration::from_secs(1));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn peak_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
