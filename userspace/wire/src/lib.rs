//! Pure decoders: bytes, times and directions in, hits out. No I/O, no panic, bounded memory per connection.
//!
//! [`Connection`] takes the [`Segment`]s of one connection as one process saw them, finds out by content which
//! protocol they speak, and hands each finished exchange to the caller. A protocol is one module and one line in
//! `connection::PROTOCOLS`; what protocols share lies beside them: [`Stream offsets and holes`](reassembly), and
//! the [`shape`](sql) of SQL text.
mod connection;
mod outcome;
mod postgres;
pub mod reassembly;
mod segment;
mod settings;
pub mod sql;

pub use connection::Connection;
pub use outcome::{Exchange, Facts, Outcome, Protocol, Side, Status, Verdict};
pub use segment::{Direction, Mark, Segment};
pub use settings::Settings;
pub use sql::{Operation, Operations};
