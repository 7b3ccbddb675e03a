//! Harness of the live tests: databases, a hitscope, and what their answers are compared by.
//!
//! The tests in `tests/` load probes, so they run as root, one at a time: they watch the whole host. `cargo xtask test`
//! does that. They wait for conditions, with limits that only a hang reaches, and never judge how long something took.

pub mod calls;
pub mod capture;
pub mod daemon;
pub mod differences;
pub mod host;
pub mod http;
pub mod mariadb;
pub mod nginx;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod redis;
#[cfg(test)]
mod replays;
pub mod server;
pub mod slack;
pub mod talk;

pub use calls::{Calls, assert_calls, assert_calls_of, calls_by_postgres, number};
pub use daemon::Daemon;
pub use host::wait_until;
pub use mariadb::Mariadb;
pub use postgres::{Postgres, Via};
pub use redis::Redis;
