//! The collector's and the server's own figures in Prometheus's text form.

use std::{
    fmt::{Display, Write},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use axum::{extract::State, http::header, response::IntoResponse};
use hitscope_history::status;

use super::{App, status::usage};
use crate::alerts::{Figures, RuleFigures};
use hitscope_base::time;

/// `GET /metrics`
pub async fn get(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&app))
}

fn text(app: &App) -> String {
    let mut page = Page::default();
    if let Ok(Some(status)) = status::read(app.workers.data_dir()) {
        let age = status.age_ns(time::now_ns().unsigned_abs());
        page.metric("hitscope_collector_status_age_seconds", "gauge", "Since the collector last wrote its status.");
        page.value(&[], seconds(age));
        page.metric("hitscope_collector_cpu_seconds_total", "counter", "CPU that the collector used.");
        page.value(&[], seconds(status.cpu_ns));
        page.metric("hitscope_collector_resident_bytes", "gauge", "Memory that the collector holds.");
        page.value(&[], status.rss_bytes);
        page.metric("hitscope_probe_running", "gauge", "Whether a probe collects.");
        for probe in &status.probes {
            page.value(&[("probe", &probe.name)], u8::from(probe.running));
        }
        page.metric("hitscope_lost_total", "counter", "What the collector dropped, by reason.");
        for (reason, count) in &status.lost {
            page.value(&[("reason", reason)], count);
        }
        page.metric("hitscope_seen_total", "counter", "What the collector saw, by name.");
        for (name, count) in &status.counters {
            page.value(&[("name", name)], count);
        }
    }
    let usage = usage(Path::new("/proc"));
    let counters = app.workers.counters();
    page.metric("hitscope_server_cpu_seconds_total", "counter", "CPU that the server used.");
    page.value(&[], seconds(usage.cpu_ns));
    page.metric("hitscope_server_resident_bytes", "gauge", "Memory that the server holds.");
    page.value(&[], usage.rss_bytes);
    page.metric("hitscope_queries_total", "counter", "Queries begun.");
    page.value(&[], counters.asked.load(Ordering::Relaxed));
    page.metric("hitscope_query_failures_total", "counter", "Queries without an answer, by why.");
    for (kind, count) in counters.refused() {
        page.value(&[("why", kind.as_str())], count);
    }
    page.metric("hitscope_query_workers_started_total", "counter", "Processes started to answer queries.");
    page.value(&[], counters.started.load(Ordering::Relaxed));
    page.metric("hitscope_query_workers_killed_total", "counter", "Those of them that were killed amid a query.");
    page.value(&[], counters.killed.load(Ordering::Relaxed));
    alerts(&mut page, &app.alerts().figures());
    page.text
}

fn alerts(page: &mut Page, figures: &Figures) {
    page.metric("hitscope_alerts_telling", "gauge", "Whether this server tells people of alerts.");
    page.value(&[], u8::from(figures.telling));
    page.metric("hitscope_alerts", "gauge", "Alerts of a rule, by state.");
    for (rule, state, count) in &figures.alerts {
        page.value(&[("rule", rule), ("state", state)], count);
    }
    let mut counter = |name, help, value: fn(&RuleFigures) -> u64| {
        page.metric(name, "counter", help);
        for rule in &figures.rules {
            page.value(&[("rule", &rule.name)], value(rule));
        }
    };
    counter("hitscope_rule_evaluations_total", "Evaluations of a rule.", |rule| rule.evaluations);
    counter("hitscope_rule_evaluation_failures_total", "Evaluations that failed.", |rule| rule.failures);
    counter("hitscope_rule_evaluations_missed_total", "Evaluations not made in time for the next.", |rule| rule.missed);
    counter("hitscope_rule_evaluations_no_data_total", "Evaluations not made without data.", |rule| rule.without_data);
    counter("hitscope_rule_rows_left_out_total", "Rows beyond the alerts a rule may have.", |rule| rule.left_out);
    page.metric("hitscope_rule_last_evaluation_seconds", "gauge", "How long the last evaluation took.");
    for rule in figures.rules.iter().filter(|rule| rule.last_ns.is_some()) {
        page.value(&[("rule", &rule.name)], seconds(rule.took_ns));
    }
    page.metric("hitscope_rule_last_evaluation_timestamp_seconds", "gauge", "When the last evaluation was.");
    for (rule, last_ns) in figures.rules.iter().filter_map(|rule| Some((rule, rule.last_ns?))) {
        page.value(&[("rule", &rule.name)], seconds(last_ns.unsigned_abs()));
    }
    page.metric("hitscope_outbox_messages", "gauge", "Messages that wait to be sent.");
    page.value(&[], figures.waiting);
    page.metric("hitscope_messages_total", "counter", "Messages, and failed attempts, by what became of them.");
    for (result, count) in figures.messages {
        page.value(&[("result", result)], count);
    }
    page.metric("hitscope_alert_changes_unrecorded_total", "counter", "Changes that the table of alerts lacks.");
    page.value(&[], figures.not_recorded);
    page.metric("hitscope_alerts_panics_total", "counter", "How often the alerts broke down and began anew.");
    page.value(&[], figures.panics);
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn metric(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn value(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        let mut opening = '{';
        for (label, text) in labels {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{opening}{label}=\"{text}\"");
            opening = ',';
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.metric("a", "gauge", "Help.");
        page.value(&[], 1);
        page.value(&[("b", "x\"\\\n"), ("c", "d")], 2.5);
        assert_eq!(page.text, "# HELP a Help.\n# TYPE a gauge\na 1\na{b=\"x\\\"\\\\\\n\",c=\"d\"} 2.5\n");
    }
}
