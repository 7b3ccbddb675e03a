//! Pure decoders: bytes, times and directions in, hits out. No I/O, no panic, bounded memory per connection.
//!
//! [`Connection`] takes the [`Segment`]s of one connection as one process saw them, finds out by content which
//! protocol they speak, and hands each finished exchange to the caller. A protocol is one module and one line in
//! `connection::PROTOCOLS`; what protocols share lies beside them: stream offsets and holes ([`reassembly`]),
//! messages over segments (`stream`), requests under way (`queue`), names given to statements (`names`), the shape of
//! SQL text ([`sql`]), and of a request's path ([`Paths`]).
//!
//! Apart from them, [`dns`] reads the answers that tell the names of addresses.
//!
//! The reasons of [`Outcome::Lost`]:
//! - `request_missed`: an answer whose request was not seen;
//! - `answer_missed`: a request whose answer was not seen, so that its duration is not known;
//! - `answer_incomplete`: hits that were closed at the end of an answer without their own completion (these are
//!   told as hits, too, but without rows), or whose status was not seen;
//! - `unexpected_message`: bytes that are no message where one had to begin;
//! - `statement_evicted`, `portal_evicted`: names that had to make room, `pipeline_full`: requests that found none;
//! - `paths_over_limit`: hits whose path was folded coarsely, since their service has too many (these are told as
//!   hits, too);
//! - `compressed`: connections whose protocol goes on compressed, in a way that is not undone.
mod connection;
pub mod dns;
mod http1;
mod http2;
mod mysql;
mod names;
mod outcome;
mod path;
mod postgres;
mod queue;
pub mod reassembly;
mod redis;
mod segment;
mod settings;
pub mod sql;
mod stream;
#[cfg(test)]
mod testing;
mod tls;

pub use connection::{Connection, Sink};
pub use outcome::{Exchange, Facts, Outcome, Protocol, Side, Status, Verdict};
pub use path::{DEFAULT_MAX_OPERATIONS, InvalidPattern, PathPattern, Paths};
pub use segment::{Direction, Mark, Segment, Times};
pub use settings::Settings;
pub use sql::{Operation, Operations};
