//! The tables of `docs/kernels.md`.

use std::fmt::Write;

use super::guest::Outcome;

/// Markdown: what came of each guest, then the verifier's account of each program on each kernel.
pub fn tables(outcomes: &[Outcome]) -> String {
    let mut text =
        String::from("| kernel | probes attached | tests passed | not to be run there |\n|---|---|---|---|\n");
    for outcome in outcomes {
        let attached = outcome.probes.iter().filter(|(_, attached)| *attached).count();
        let missing: Vec<&str> =
            outcome.probes.iter().filter(|(_, attached)| !attached).map(|(name, _)| name.as_str()).collect();
        let but = if missing.is_empty() { String::new() } else { format!(", not {}", missing.join(", ")) };
        let tests =
            outcome.counts.passed + outcome.counts.failed - (outcome.skips.len() as u64).min(outcome.counts.passed);
        let skips: Vec<&str> = outcome.skips.iter().map(|skip| skip.rsplit(": ").next().unwrap_or(skip)).collect();
        let complaint = outcome.complaint.iter().map(String::as_str);
        let _ = writeln!(
            text,
            "| {} | {attached} of {}{but} | {} of {tests} | {} |",
            outcome.release,
            outcome.probes.len(),
            outcome.counts.passed.saturating_sub(outcome.skips.len() as u64),
            skips.into_iter().chain(complaint).collect::<Vec<_>>().join("; "),
        );
    }
    let mut names: Vec<&str> = Vec::new();
    for program in outcomes.iter().flat_map(|outcome| &outcome.programs) {
        if !names.contains(&&*program.name) {
            names.push(&program.name);
        }
    }
    text += "\n| program |";
    for outcome in outcomes {
        let series: Vec<&str> = outcome.release.splitn(3, '.').take(2).collect();
        let _ = write!(text, " {} |", series.join("."));
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(outcomes.len()));
    for name in names {
        let _ = write!(text, "| `{name}` |");
        for outcome in outcomes {
            let cell = outcome.programs.iter().find(|program| program.name == name);
            let cell = cell.map_or("–".to_owned(), |it| format!("{} / {}", it.instructions, it.stack_bytes));
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::guest::Program;
    use crate::tally::Counts;

    #[test]
    fn kernels_stand_side_by_side() {
        let program = |name: &str| Program { name: name.into(), instructions: 7, stack_bytes: 8 };
        let outcome = |release: &str, programs| Outcome {
            release: release.into(),
            counts: Counts { passed: 2, failed: 1, skipped: 0 },
            probes: vec![("a".into(), true), ("b".into(), false)],
            programs,
            skips: vec!["times::late: no tracepoint".into()],
            complaint: None,
        };
        let text =
            tables(&[outcome("5.10.0-1", vec![program("x")]), outcome("7.3.4", vec![program("x"), program("y")])]);
        assert!(text.contains("| 5.10.0-1 | 1 of 2, not b | 1 of 2 | no tracepoint |\n"), "{text}");
        assert!(
            text.contains("| program | 5.10 | 7.3 |\n|---|---:|---:|\n| `x` | 7 / 8 | 7 / 8 |\n| `y` | – | 7 / 8 |\n")
        );
    }
}
