//! The live tests that run in a guest: those that ask for nothing but PostgreSQL (and no disk), at least one for each probe.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::test::Runner;

/// Programs that they start.
pub const PROGRAMS: [&str; 2] = ["stand-in", "workload"];

/// By the file in `tests/tests`.
const TESTS: &[(&str, &[&str])] = &[
    (
        "loading",
        &[
            "no_program_is_near_the_verifiers_limits",
            "copies_do_what_those_before_could_not",
            "what_was_skipped_leaves_a_gap",
            "programs_say_what_they_follow",
            "without_a_field_what_needs_it_is_off",
        ],
    ),
    (
        "counts",
        &[
            "psql_over_socket_and_tcp",
            "pgbench_simple_tcp",
            "pgbench_prepared_socket",
            "connections_from_before_simple",
        ],
    ),
    ("outcomes", &["errors_have_their_sqlstate", "ends_before_the_answer"]),
    ("processes", &["short_lives", "ends_by_signal", "syscalls_are_counted"]),
    ("sockets", &["exchanges"]),
    ("times", &["hits_that_share_a_thread_have_no_split", "requests_lie_unread"]),
    ("tls", &["from_the_first_connection"]),
];

/// A runner in the guest, and the tests that it runs.
pub struct Suite {
    /// Folder of its crate.
    pub folder: PathBuf,
    pub executable: PathBuf,
    pub tests: &'static [&'static str],
}

/// The files that they are in.
pub fn files() -> impl Iterator<Item = &'static str> {
    TESTS.iter().map(|(file, _)| *file)
}

/// The runners of these tests among those that were built.
pub fn suites(live: &[Runner]) -> Result<Vec<Suite>> {
    TESTS
        .iter()
        .map(|(target, tests)| {
            let runner = live.iter().find(|runner| runner.target == *target);
            let runner = runner.with_context(|| format!("no live tests `{target}` were built"))?;
            Ok(Suite { folder: runner.package.clone(), executable: runner.executable.clone(), tests })
        })
        .collect()
}

/// How many tests a guest runs.
pub fn count() -> u64 {
    TESTS.iter().map(|(_, tests)| tests.len() as u64).sum()
}
