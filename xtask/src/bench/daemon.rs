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
    data_dir: PathBuf,
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
    fn status(&self) -> Value {
        let text = fs::read(self.data_dir.join("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // As an init system would.
        // SAFETY: sends a signal to our own child, which was not waited for yet.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
