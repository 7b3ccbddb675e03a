//! The words that all of hitscope shares: secrets, sizes and spans as people write them, times, failures as users read
//! them, and the one way to replace a file.

mod failure;
mod files;
pub mod manager;
mod secret;
pub mod time;
mod units;

pub use failure::{Explain, Failure};
pub use files::{Durability, replace_file};
pub use secret::Secret;
pub use units::{Size, Span};
