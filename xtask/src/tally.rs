//! Runs checks and test runners, and adds up what they counted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{describe, say};

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// What was run so far.
pub struct Tally {
    begun: Instant,
    steps: Vec<(String, Counts, Duration)>,
    skips: Vec<String>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { begun: Instant::now(), steps: Vec::new(), skips: Vec::new() }
    }
}

impl Tally {
    /// Something that passes or fails as a whole.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) -> bool {
        say!("── {name}");
        let start = Instant::now();
        let result = check();
        self.timed(name, (start.elapsed(), result))
    }

    /// The same of what was run elsewhere, and how long that took.
    pub fn timed(&mut self, name: &str, (time, result): (Duration, Result<()>)) -> bool {
        if let Err(error) = &result {
            say!("{name}: {error:#}");
        }
        let counts = Counts { passed: result.is_ok().into(), failed: result.is_err().into(), skipped: 0 };
        self.steps.push((name.to_owned(), counts, time));
        result.is_ok()
    }

    /// A test runner, whose closing lines are read. One that fails without saying that a test did counts as one failure.
    pub fn runner(&mut self, name: &str, limit: Duration, command: &mut Command) {
        let title = format!("{name}: {}", describe(command));
        say!("── {title}");
        let start = Instant::now();
        let result = run_counted(command, limit, show);
        self.counted(name, start.elapsed(), result);
    }

    /// What counted tests by itself, in this time, and said what is wrong beside failed ones.
    pub fn counted(&mut self, name: &str, time: Duration, result: Result<(Counts, Option<String>)>) {
        let counts = match result {
            Ok((mut counts, complaint)) => {
                if let Some(complaint) = complaint {
                    say!("{name}: {complaint}");
                    counts.failed = counts.failed.max(1);
                }
                counts
            }
            Err(error) => {
                say!("{name}: {error:#}");
                Counts { failed: 1, ..Counts::default() }
            }
        };
        self.steps.push((name.to_owned(), counts, time));
    }

    /// Something that cannot run here.
    pub fn skip(&mut self, name: &str, reason: &str) {
        say!("── {name}: skipped, {reason}");
        self.skips.push(format!("{name}: {reason}"));
        self.steps.push((name.to_owned(), Counts { skipped: 1, ..Counts::default() }, Duration::ZERO));
    }

    /// Tests that passed for their runner, but told us that they could not run here.
    pub fn passed_was_skipped(&mut self, reason: &str) {
        if let Some((_, counts, _)) = self.steps.last_mut() {
            counts.passed = counts.passed.saturating_sub(1);
            counts.skipped += 1;
        }
        self.skips.push(reason.to_owned());
    }

    /// Prints each step, the time of all, and, alone on the last line, the sum. Returns whether all is well.
    pub fn finish(self) -> bool {
        let mut sum = Counts::default();
        println!();
        for (name, counts, time) in &self.steps {
            let Counts { passed, failed, skipped } = counts;
            let mark = if *failed > 0 { "FAILED" } else { "ok" };
            println!(
                "{mark:6} {passed:5} passed {failed:3} failed {skipped:3} skipped {:7.1} s  {name}",
                time.as_secs_f64()
            );
            sum.add(*counts);
        }
        for skip in &self.skips {
            println!("skipped {skip}");
        }
        // Some steps run beside others: their times add up to more.
        println!("{:42}{:7.1} s  in all", "", self.begun.elapsed().as_secs_f64());
        println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
        sum.failed == 0
    }
}

/// Passes a line on.
pub fn show(line: &str) {
    // A closed stdout must not end the run.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs to the end with each line of stdout given to `show`; returns the counts, and what is wrong beside failed tests.
pub fn run_counted(
    command: &mut Command,
    limit: Duration,
    mut show: impl FnMut(&str),
) -> Result<(Counts, Option<String>)> {
    // coreutils' `timeout` also ends what the runner started.
    let mut timed = Command::new("timeout");
    timed.args(["--kill-after=10", &limit.as_secs().to_string()]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(key, value),
            None => timed.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    let mut child = timed.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting it under `timeout`")?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("reading its output")?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            show(line);
            counts.add(closing_line(line));
        }
    }
    let status = child.wait()?;
    let complaint = match status.code() {
        Some(0) => None,
        Some(124 | 137) => Some(format!("ended after {} s", limit.as_secs())),
        _ if counts.failed > 0 => None,
        _ => Some(format!("failed without a failed test ({status})")),
    };
    Ok((counts, complaint))
}

/// What cargo test (`test result: ok. 3 passed; 0 failed; 1 ignored; …`) or node (`# pass 3`, or `ℹ pass 3`) close with.
fn closing_line(line: &str) -> Counts {
    let mut counts = Counts::default();
    if let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) {
        for part in numbers.split("; ") {
            match part.split_once(' ').map(|(number, what)| (number.parse().unwrap_or(0), what)) {
                Some((number, "passed")) => counts.passed = number,
                Some((number, "failed")) => counts.failed = number,
                Some((number, "ignored")) => counts.skipped = number,
                _ => {}
            }
        }
    } else if let Some(rest) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) {
        match rest.split_once(' ').map(|(what, number)| (what, number.trim().parse().unwrap_or(0))) {
            Some(("pass", number)) => counts.passed = number,
            Some(("fail" | "cancelled", number)) => counts.failed = number,
            Some(("skipped" | "todo", number)) => counts.skipped = number,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners() {
        let line = "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(closing_line(line), Counts { passed: 7, failed: 2, skipped: 1 });
        assert_eq!(closing_line("# pass 4"), Counts { passed: 4, ..Counts::default() });
        assert_eq!(closing_line("ℹ cancelled 1"), Counts { failed: 1, ..Counts::default() });
        assert_eq!(closing_line("# Subtest: fails 2 times"), Counts::default());
        assert_eq!(closing_line("test result: soon"), Counts::default());
    }

    #[test]
    fn a_runner_that_dies_without_a_count_is_a_failure() {
        let (counts, complaint) =
            run_counted(Command::new("sh").args(["-c", "exit 3"]), Duration::from_secs(5), |_| {}).unwrap();
        assert_eq!(counts, Counts::default());
        assert!(complaint.unwrap().contains("without a failed test"));
        let (counts, complaint) =
            run_counted(Command::new("sh").args(["-c", "echo '# fail 1'; exit 1"]), Duration::from_secs(5), |_| {})
                .unwrap();
        assert_eq!((counts.failed, complaint), (1, None));
    }

    #[test]
    fn a_runner_that_hangs_is_ended() {
        let (_, complaint) = run_counted(Command::new("sleep").arg("60"), Duration::from_secs(1), |_| {}).unwrap();
        assert_eq!(complaint.unwrap(), "ended after 1 s");
    }
}
