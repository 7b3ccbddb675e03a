//! Calls per statement, as PostgreSQL counts them and as hitscope does.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{daemon::Daemon, host, postgres::Postgres};

/// How often each statement was run.
pub type Calls = BTreeMap<String, u64>;

/// A number that JSON holds as such, or as text because it is large.
pub fn number(value: &Value) -> u64 {
    let parsed = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    parsed.unwrap_or_else(|| panic!("no unsigned number: {value}"))
}

/// What statements of both sides are told apart by: without blanks and comments, and with `?` for what is a literal to either side.
/// PostgreSQL puts `$1` where hitscope has `?`, but leaves alone, for instance, the numbers of `ORDER BY 1`; and it counts
/// `SELECT 1 AS a` and `SELECT 1 AS b` as one.
pub fn normalise(statement: &str) -> String {
    let mut text = String::new();
    let mut rest = statement.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    let mut alias = None;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            '$' => 1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            _ if word(first) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let token = token.to_lowercase();
        let literal = first.is_ascii_digit() || matches!(first, '$' | '\'') || matches!(&*token, "true" | "false");
        let before = text.len();
        if literal {
            text.push('?');
        } else if !token.starts_with("--") {
            text.push_str(token.trim());
        }
        if token == "as" && !after.trim().contains(|c| !word(c)) {
            alias = Some(before);
        }
        rest = after;
    }
    text.truncate(alias.unwrap_or(text.len()));
    text
}

/// Statements that ask a server for its count are not counted.
const OURS: &[&str] = &["pg_stat_statements", "general_log", "performance_schema"];

pub(crate) fn add(calls: &mut Calls, statement: &str, count: u64) {
    if count > 0 && !OURS.iter().any(|ours| statement.contains(ours)) {
        *calls.entry(normalise(statement)).or_default() += count;
    }
}

impl Postgres {
    /// Has PostgreSQL count from zero.
    pub fn reset_calls(&self) {
        self.psql("select pg_stat_statements_reset()");
    }
}

/// Since [`Postgres::reset_calls`].
pub fn calls_by_postgres(postgres: &Postgres) -> Calls {
    let mut calls = Calls::new();
    for row in postgres.rows("select query, calls from pg_stat_statements") {
        add(&mut calls, row["query"].as_str().expect("a text"), number(&row["calls"]));
    }
    calls
}

/// PostgreSQL counts what went well; the logs of other servers have all that was asked.
fn counts_failed(protocol: &str) -> bool {
    protocol != "postgres"
}

/// Hits that a server counts, from the kept ones and their weights, on one side of a protocol's connections.
pub fn calls_by_hits(daemon: &Daemon, protocol: &str, side: &str) -> Calls {
    let status = if counts_failed(protocol) { "true" } else { "status = 'ok'" };
    by(daemon, &format!("SELECT operation, sum(weight) AS calls FROM hits WHERE {status}"), protocol, side)
}

/// Hits that a server counts, from the windows.
pub fn calls_by_operations(daemon: &Daemon, protocol: &str, side: &str) -> Calls {
    let calls = if counts_failed(protocol) { "sum(calls)" } else { "sum(calls) - sum(errors)" };
    by(daemon, &format!("SELECT operation, {calls} AS calls FROM operations WHERE true"), protocol, side)
}

fn by(daemon: &Daemon, sql: &str, protocol: &str, side: &str) -> Calls {
    let mut calls = Calls::new();
    for row in daemon.query(&format!("{sql} AND protocol = '{protocol}' AND side = '{side}' GROUP BY operation")) {
        add(&mut calls, row["operation"].as_str().expect("a text"), number(&row["calls"]));
    }
    calls
}

/// All three tables must count as many hits, in all and failed ones. Returns both sums, of one side.
pub fn assert_tables_agree(daemon: &Daemon, side: &str) -> (u64, u64) {
    let sums = |table: &str, hits: &str, errors: &str| {
        format!(
            "SELECT '{table}' AS t, coalesce(sum({hits}), 0) AS hits, coalesce(sum({errors}), 0) AS errors FROM {table} \
             WHERE side = '{side}'"
        )
    };
    // In one statement, so that all three are of one moment.
    let rows = daemon.query(
        &[
            sums("hits", "weight", "CASE WHEN status = 'ok' THEN 0 ELSE weight END"),
            sums("operations", "calls", "errors"),
            sums("hitmap", "hits", "errors"),
        ]
        .join(" UNION ALL "),
    );
    let counts: Vec<(u64, u64)> = rows.iter().map(|row| (number(&row["hits"]), number(&row["errors"]))).collect();
    assert!(counts.len() == 3 && counts.iter().all(|count| *count == counts[0]), "{side}: {rows:?}");
    counts[0]
}

/// Both sides' hits, in every table, are what PostgreSQL counted. Statements that PostgreSQL did not count are taken for
/// another server's of this host.
pub fn assert_calls(daemon: &mut Daemon, expected: &Calls, sides: &[&str]) {
    assert_calls_of(daemon, "postgres", expected, sides);
}

/// Both sides' hits of a protocol, in every table, are what its server counted.
pub fn assert_calls_of(daemon: &mut Daemon, protocol: &str, expected: &Calls, sides: &[&str]) {
    daemon.settle();
    for side in sides {
        let (hits, operations) = (calls_by_hits(daemon, protocol, side), calls_by_operations(daemon, protocol, side));
        for (table, calls) in [("hits", hits), ("operations", operations)] {
            let (ours, others): (Calls, Calls) =
                calls.into_iter().partition(|(statement, _)| expected.contains_key(statement));
            let lost = lost(daemon);
            if let Some(skipped) = lost["program_skipped"].as_u64().filter(|_| host::skips_programs()) {
                // The kernel's doing, and counted: a request or its answer each. Nothing is made up for them.
                let more = ours.iter().find(|(statement, count)| expected[*statement] < **count);
                assert_eq!(more, None, "{side}, {table}; others: {others:?}; lost: {lost}");
                let missing = sum(expected) - sum(&ours);
                assert!(missing <= skipped, "{side}, {table}: {missing} of {}; lost: {lost}", sum(expected));
                println!("{side}, {table}: {} of {}; lost: {lost}", sum(&ours), sum(expected));
                continue;
            }
            assert_eq!(&ours, expected, "{side}, {table}; others: {others:?}; lost: {lost}");
        }
        assert_tables_agree(daemon, side);
    }
    println!("{} statements, {} operations: compared", sum(expected), expected.len());
}

fn sum(calls: &Calls) -> u64 {
    calls.values().sum()
}

/// What hitscope dropped since its start.
pub fn lost(daemon: &Daemon) -> Value {
    daemon.status().map_or(Value::Null, |status| status["lost"].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_texts_become_one() {
        assert_eq!(normalise("SELECT a1 FROM b\n WHERE c = $12 AND d = 'x'; "), "selecta1frombwherec=?andd=?");
        assert_eq!(normalise("select a as b, c -- AS e\n AS d "), "selectaasb,c");
        assert_eq!(normalise("select ?, true order by 1"), normalise("SELECT $1,$2 order by ?"));
    }
}
