//! What SQL decoders share: a statement's shape, and the table of the shapes seen.
mod message;
mod operations;
mod secrets;
mod shape;

pub use message::strip_literals;
pub use operations::{Operation, Operations};
pub(crate) use operations::{Statement, fnv1a};
pub use secrets::has_password;
pub(crate) use shape::Dialect;
