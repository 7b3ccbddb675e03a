//! What SQL decoders share: a statement's shape, and the table of the shapes seen.
mod message;
mod operations;
mod shape;

pub use message::strip_literals;
pub(crate) use operations::Statement;
pub use operations::{Operation, Operations};
