//! The live tests that run in a guest: those that ask for nothing but PostgreSQL (and no disk), at least one for each probe.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::test::Runner;

/// Programs that they start.
pub const PROGRAMS: [&str; 2] = ["stand-in", "workload"];

/// Which of them a guest runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All: `cargo xtask test-kernels`.
    Whole,
    /// Without those that ask the kernel nothing new: `cargo xtask test`, for the oldest kernel and the newest.
    Ends,
}

/// By the file in `tests/tests`: those of both extents, and those of the whole alone.
const TESTS: &[(&str, &[&str], &[&str])] = &[
    (
        "loading",
        &[
            "no_program_is_near_the_verifiers_limits",
            "copies_do_what_those_before_could_not",
            "what_was_skipped_leaves_a_gap",
            "programs_say_what_they_follow",
            "without_a_field_what_needs_it_is_off",
        ],
        &[],
    ),
    (
        "counts",
        &["pgbench_simple_tcp", "connections_from_before_simple"],
        &["psql_over_socket_and_tcp", "pgbench_prepared_socket"],
    ),
    ("outcomes", &["ends_before_the_answer"], &["errors_have_their_sqlstate"]),
    ("processes", &["ends_by_signal", "syscalls_are_counted"], &["short_lives"]),
    ("sockets", &["exchanges"], &[]),
    ("times", &["requests_lie_unread"], &["hits_that_share_a_thread_have_no_split"]),
    ("tls", &["from_the_first_connection"], &[]),
];

/// A runner in the guest, and the tests that it runs.
pub struct Suite {
    /// Folder of its crate.
    pub folder: PathBuf,
    pub executable: PathBuf,
    pub tests: Vec<&'static str>,
}

/// The files that they are in.
pub fn files() -> impl Iterator<Item = &'static str> {
    TESTS.iter().map(|(file, ..)| *file)
}

/// The runners of these tests among those that were built.
pub fn suites(live: &[Runner], extent: Extent) -> Result<Vec<Suite>> {
    TESTS
        .iter()
        .map(|(target, both, whole)| {
            let runner = live.iter().find(|runner| runner.target == *target);
            let runner = runner.with_context(|| format!("no live tests `{target}` were built"))?;
            let mut tests = both.to_vec();
            if extent == Extent::Whole {
                tests.extend_from_slice(whole);
            }
            Ok(Suite { folder: runner.package.clone(), executable: runner.executable.clone(), tests })
        })
        .collect()
}
