//! One guest: a kernel with the image of all guests, its serial line, and what it says there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::fetch::Kernel;
use super::image;
use super::machine::Accelerator;
use crate::process::say;
use crate::tally::{Counts, run_counted};
use crate::workspace::Workspace;

/// A guest that hangs is ended after this long.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// As long as a guest may take to its first line, where it is only tried whether there is one.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// What came of a guest.
#[derive(Default, Debug)]
pub struct Outcome {
    /// As `uname -r` says.
    pub release: String,
    pub counts: Counts,
    /// Name of each probe, and whether it is attached.
    pub probes: Vec<(String, bool)>,
    /// The verifier's account of each program.
    pub programs: Vec<Program>,
    /// Tests that could not run there, with the reason.
    pub skips: Vec<String>,
    /// What is wrong beside failed tests.
    pub complaint: Option<String>,
}

/// What the kernel's verifier found of a program.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Program {
    pub name: String,
    pub instructions: u64,
    pub stack_bytes: u64,
}

/// Boots a kernel with the image; `log` gets all that it says, `show` what its tests say.
pub fn run(
    kernel: &Kernel,
    image: &Path,
    accelerator: Accelerator,
    log: &Path,
    tests: u64,
    show: &mut dyn FnMut(&str),
) -> Result<Outcome> {
    for last in [false, true] {
        let mut lines = Lines::new(show);
        let (counts, complaint) = boot(kernel, image, accelerator, LIMIT, log, &mut |line| lines.take(line))?;
        let Lines { mut outcome, booted, ended, .. } = lines;
        if !booted && !last {
            say!("{} did not start; once more", kernel.release);
            continue;
        }
        outcome.counts = counts;
        // A test that is no more would be left out silently.
        let ran = counts.passed + counts.failed + counts.skipped;
        outcome.complaint = match (complaint, &ended) {
            (Some(complaint), _) => Some(complaint),
            (None, None) => Some("it ended without saying so".into()),
            (None, Some(_)) if ran != tests => Some(format!("{ran} of {tests} tests ran")),
            (None, Some(code)) if code != "0" && counts.failed == 0 => Some(format!("its tests ended with {code}")),
            _ => None,
        };
        if outcome.release.is_empty() {
            outcome.release.clone_from(&kernel.release);
        }
        return Ok(outcome);
    }
    bail!("a guest is started at most twice")
}

/// Whether this machine's KVM boots a kernel at all: not every one does that offers it.
pub fn probe_kvm(workspace: &Workspace, kernel: &Kernel) -> Result<Accelerator> {
    let image = workspace.kernels().join("kvm.cpio");
    image::write_bare(&image)?;
    let mut up = false;
    let log = log(&workspace.root, kernel, " by KVM");
    let result =
        boot(kernel, &image, Accelerator::Kvm, PROBE_LIMIT, &log, &mut |line| up |= line.starts_with("guest: up "));
    let _ = fs::remove_file(image);
    Ok(match result {
        Ok(_) if up => Accelerator::Kvm,
        _ => {
            say!("KVM boots no kernel here within {} s; emulating instead", PROBE_LIMIT.as_secs());
            Accelerator::Tcg
        }
    })
}

/// Runs a guest to its end. QEMU's own exit code says nothing of the guest.
fn boot(
    kernel: &Kernel,
    image: &Path,
    accelerator: Accelerator,
    limit: Duration,
    log: &Path,
    take: &mut dyn FnMut(&str),
) -> Result<(Counts, Option<String>)> {
    let mut command = kernel.machine.qemu(accelerator)?;
    command.args(["-m", "2048", "-smp", "2", "-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-serial", "stdio", "-no-reboot", "-kernel"]).arg(&kernel.vmlinux).arg("-initrd").arg(image);
    // A panic ends it. Of the kernel's own messages those come that name it, and what goes wrong. On a busy machine its check
    // of the timer fails, and it would not go on.
    let console = kernel.machine.serial();
    command.arg("-append").arg(format!("console={console} panic=-1 loglevel=6 mitigations=off no_timer_check"));
    let mut file = create(log)?;
    run_counted(&mut command, limit, |line| {
        // A full disk must not end the guest.
        let _ = writeln!(file, "{line}");
        take(line);
    })
}

fn create(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create(path).with_context(|| format!("creating {}", path.display()))
}

/// Where the serial line of a guest is kept; `how` it differs from the others of its kernel.
pub fn log(root: &Path, kernel: &Kernel, how: &str) -> PathBuf {
    root.join("target/kernels").join(format!("{}{}.log", kernel.release, how.replace(' ', "-")))
}

/// Reads a serial line.
struct Lines<'a> {
    show: &'a mut dyn FnMut(&str),
    outcome: Outcome,
    /// The kernel came to its first program: emulated, now and then one fails before.
    booted: bool,
    /// With which code the tests ended.
    ended: Option<String>,
}

impl<'a> Lines<'a> {
    fn new(show: &'a mut dyn FnMut(&str)) -> Self {
        Self { show, outcome: Outcome::default(), booted: false, ended: None }
    }

    fn take(&mut self, line: &str) {
        let Some(news) = line.strip_prefix("guest: ") else {
            if let Some(program) = line.strip_prefix("verifier: ").and_then(program) {
                self.outcome.programs.push(program);
            }
            // What the kernel says is in the log.
            if !line.starts_with('[') {
                (self.show)(line);
            }
            return;
        };
        self.booted = true;
        match news.split_once(' ') {
            Some(("up", release)) => self.outcome.release = release.to_owned(),
            Some(("check", facts)) => self.outcome.probes = probes(facts),
            Some(("skipped", reason)) => self.outcome.skips.push(reason.to_owned()),
            Some(("ended", code)) => self.ended = Some(code.to_owned()),
            _ => {}
        }
    }
}

/// `sched_switch 1234 instructions 56 bytes`
fn program(line: &str) -> Option<Program> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        [name, instructions, "instructions", bytes, "bytes"] => Some(Program {
            name: name.to_owned(),
            instructions: instructions.parse().ok()?,
            stack_bytes: bytes.parse().ok()?,
        }),
        _ => None,
    }
}

/// The probes in what `hitscope check --format json` prints.
fn probes(facts: &str) -> Vec<(String, bool)> {
    let facts: Vec<Value> = serde_json::from_str(facts).unwrap_or_default();
    let probe = |fact: &Value| Some((fact["name"].as_str()?.strip_prefix("probe ")?.to_owned(), fact["state"] == "ok"));
    facts.iter().filter_map(probe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_line_is_understood() {
        let mut shown = Vec::new();
        let mut show = |line: &str| shown.push(line.to_owned());
        let mut lines = Lines::new(&mut show);
        lines.take("[    0.0] Linux version 6.1.0");
        assert!(!lines.booted && lines.ended.is_none());
        for line in [
            "guest: up 6.1.0-56-cloud-amd64",
            r#"guest: check [{"name":"kernel","state":"ok"},{"name":"probe tls","state":"limited"}]"#,
            "verifier: sched_switch 1234 instructions 56 bytes",
            "verifier: nonsense",
            "guest: skipped times::requests: no tracepoint",
            "guest: ended 1",
        ] {
            lines.take(line);
        }
        assert_eq!(lines.outcome.release, "6.1.0-56-cloud-amd64");
        assert_eq!(lines.outcome.probes, [("tls".to_owned(), false)]);
        let program = Program { name: "sched_switch".into(), instructions: 1234, stack_bytes: 56 };
        assert_eq!(lines.outcome.programs, [program]);
        assert_eq!((lines.outcome.skips.len(), lines.ended.as_deref()), (1, Some("1")));
        assert_eq!(shown, ["verifier: sched_switch 1234 instructions 56 bytes", "verifier: nonsense"]);
    }
}
