use std::process::ExitCode;

use hitscope_collector::probes;

use hitscope_base::{Explain, Failure};
use hitscope_cli::print;

use crate::{
    cli::{self, ReportFormat},
    host::{self, Fact, Host, State},
};

/// `hitscope check`
pub fn check(arguments: &cli::Check) -> Result<ExitCode, Failure> {
    let config = arguments.place.sources(None)?.resolve()?;
    let host = Host::here();
    let mut facts = host::facts(&host);
    let possible = facts.iter().all(|fact| fact.state != State::Missing);
    facts.extend(if possible {
        match probes::check(&config.probes) {
            Ok(states) => states.iter().map(|state| host::probe(&host, state)).collect(),
            Err(error) => vec![host::not_loaded(&host, &error)],
        }
    } else {
        probes::REGISTRY.iter().map(|definition| untried(definition.name)).collect()
    });
    match arguments.format {
        ReportFormat::Json => println!("{}", serde_json::to_string(&facts).explain("cannot write the facts")?),
        ReportFormat::Table => print!("{}", table(&facts)),
    }
    let works = would_run(&facts);
    if arguments.format == ReportFormat::Table {
        println!("{}", verdict(works, &facts));
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The last line for people.
fn verdict(works: bool, facts: &[Fact]) -> String {
    let off: Vec<&str> =
        facts.iter().filter(|fact| fact.state != State::Ok).filter_map(|fact| fact.name.strip_prefix(PROBE)).collect();
    match (works, off.is_empty()) {
        (true, true) => "`hitscope run` works here.".into(),
        (true, false) => format!("`hitscope run` works here, without {}.", off.join(", ")),
        (false, _) => "`hitscope run` does not work here; the lines with \"missing\" say why, and what to do.".into(),
    }
}

/// Nothing that everything needs is missing, and at least one probe runs.
fn would_run(facts: &[Fact]) -> bool {
    let mut probes = facts.iter().filter(|fact| fact.name.starts_with(PROBE));
    facts.iter().all(|fact| fact.state != State::Missing) && probes.any(|fact| fact.state == State::Ok)
}

const PROBE: &str = "probe ";

fn untried(name: &str) -> Fact {
    Fact {
        name: format!("{PROBE}{name}"),
        state: State::Limited,
        reason: "not tried, because of what is missing".into(),
        mend: Some("see to that first, then check again".into()),
    }
}

fn table(facts: &[Fact]) -> String {
    let rows: Vec<Vec<String>> = facts
        .iter()
        .flat_map(|fact| {
            let state = match fact.state {
                State::Ok => "ok",
                State::Limited => "limited",
                State::Missing => "missing",
            };
            let line = vec![fact.name.clone(), state.into(), fact.reason.clone()];
            let mend = fact.mend.iter().map(|mend| vec![String::new(), String::new(), format!("mend: {mend}")]);
            std::iter::once(line).chain(mend)
        })
        .collect();
    print::columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(name: &str, state: State) -> Fact {
        Fact { name: name.into(), state, reason: "r".into(), mend: (state != State::Ok).then(|| "m".into()) }
    }

    #[test]
    fn one_probe_is_enough_to_run_and_none_is_not() {
        assert!(would_run(&[fact("kernel", State::Ok), fact("probe a", State::Limited), fact("probe b", State::Ok)]));
        assert!(!would_run(&[fact("kernel", State::Ok), fact("probe a", State::Limited)]));
        assert!(!would_run(&[fact("btf", State::Missing), fact("probe a", State::Ok)]));
    }

    #[test]
    fn the_verdict_names_what_does_not_run() {
        let facts = [fact("cgroup", State::Limited), fact("probe a", State::Ok), fact("probe b", State::Limited)];
        assert_eq!(verdict(true, &facts), "`hitscope run` works here, without b.");
        assert_eq!(verdict(true, &facts[..2]), "`hitscope run` works here.");
    }

    #[test]
    fn the_mend_stands_under_its_fact() {
        let text = table(&[fact("kernel", State::Ok), fact("btf", State::Missing)]);
        assert_eq!(text, "kernel  ok       r\nbtf     missing  r\n                 mend: m\n");
    }
}
