use std::{
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use hitscope_base::{Explain, Failure};
use hitscope_cli::print;
use hitscope_history::status::{self, Status};
use serde::Serialize;

use crate::cli::{self, ReportFormat};

/// The collector writes each second; one that has not for this long hangs or is stopped.
const STALE_NS: u64 = 10_000_000_000;

/// A status with what only the reader knows.
#[derive(Serialize)]
struct Report<'a> {
    running: bool,
    #[serde(flatten)]
    status: &'a Status,
}

/// `hitscope status`
pub fn status(arguments: &cli::Status) -> Result<ExitCode, Failure> {
    let config = arguments.place.sources(None)?.resolve()?;
    let status = status::read(&config.data_dir).explain("cannot tell the status")?;
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let running = status.as_ref().is_some_and(|status| is_running(status, now_ns, Path::new("/proc")));
    match (arguments.format, &status) {
        (ReportFormat::Json, status) => {
            let reports: Vec<Report<'_>> = status.iter().map(|status| Report { running, status }).collect();
            println!("{}", serde_json::to_string(&reports).explain("cannot write the status")?);
        }
        (ReportFormat::Table, Some(status)) => print!("{}", table(status, running, now_ns)),
        (ReportFormat::Table, None) => {
            println!("not running: no collector has ever written to {}", config.data_dir.display());
        }
    }
    Ok(if running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True when the process still exists and is the one that wrote. A pid may be another process's by now; that one did not write
/// just now.
fn is_running(status: &Status, now_ns: u64, proc: &Path) -> bool {
    status.age_ns(now_ns) < STALE_NS && proc.join(status.pid.to_string()).exists()
}

fn table(status: &Status, running: bool, now_ns: u64) -> String {
    let age = print::duration(status.age_ns(now_ns));
    let state = if running {
        format!("running for {}", print::duration(now_ns.saturating_sub(status.started_ns)))
    } else {
        format!("not running, last seen {age} ago")
    };
    let alive_ns = status.updated_ns.saturating_sub(status.started_ns).max(1);
    let cpu = format!("{:.2} % of a core", status.cpu_ns as f64 / alive_ns as f64 * 100.0);
    let memory = format!("{}, at most {}", print::bytes(status.rss_bytes), print::bytes(status.peak_rss_bytes));
    let mut rows = vec![
        vec!["collector".into(), state],
        vec!["host".into(), status.host.clone()],
        vec!["version".into(), status.version.clone()],
        vec!["pid".into(), status.pid.to_string()],
        vec!["cpu".into(), cpu],
        vec!["memory".into(), memory],
    ];
    for probe in &status.probes {
        let state = if probe.running { "running" } else { "off" };
        let reason = probe.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        rows.push(vec![format!("probe {}", probe.name), format!("{state}{reason}")]);
    }
    for (name, count) in &status.counters {
        rows.push(vec![name.clone(), count.to_string()]);
    }
    let lost: Vec<_> = status.lost.iter().filter(|(_, count)| **count > 0).collect();
    if lost.is_empty() {
        rows.push(vec!["lost".into(), "nothing".into()]);
    }
    rows.extend(lost.into_iter().map(|(reason, count)| vec![format!("lost: {reason}"), count.to_string()]));
    rows.extend(status.notes.iter().map(|note| vec!["note".into(), note.clone()]));
    print::columns(&rows)
}

#[cfg(test)]
mod tests {
    use hitscope_history::status::ProbeStatus;

    use super::*;

    fn example() -> Status {
        Status {
            version: "0.1.0".into(),
            host: "db1".into(),
            pid: 42,
            started_ns: 1_000_000_000,
            updated_ns: 101_000_000_000,
            cpu_ns: 500_000_000,
            rss_bytes: 20 << 20,
            peak_rss_bytes: 30 << 20,
            probes: vec![ProbeStatus { name: "sched".into(), running: false, reason: Some("no BTF".into()) }],
            lost: [("ring_full".into(), 7), ("map_full".into(), 0)].into(),
            notes: vec!["the server ended once".into()],
            ..Status::default()
        }
    }

    #[test]
    fn running_means_written_just_now_by_a_process_that_exists() {
        let proc = tempfile::tempdir().unwrap();
        let now_ns = 102_000_000_000;
        assert!(!is_running(&example(), now_ns, proc.path()));
        std::fs::create_dir(proc.path().join("42")).unwrap();
        assert!(is_running(&example(), now_ns, proc.path()));
        assert!(!is_running(&example(), now_ns + STALE_NS, proc.path()));
    }

    #[test]
    fn the_table_tells_all() {
        let text = table(&example(), true, 102_000_000_000);
        for part in ["running for 1 min 41 s", "0.50 % of a core", "20.0 MiB, at most 30.0 MiB", "off: no BTF"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("lost: ring_full") && !text.contains("map_full"), "{text}");
        assert!(table(&example(), false, 701_000_000_000).contains("not running, last seen 10 min 0 s ago"));
    }
}
