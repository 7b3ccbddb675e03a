//! What strangers' files hold, found out by a child that can do nothing else.
//!
//! Programs and libraries of other users are parsed by code that may have faults. So the process with privileges only opens them,
//! and hands each to a child over a socket: no capability, no way to open a file, to start a program or to talk to anybody, and
//! bounded memory. What the child says is checked. One that takes too long, or ends, is killed and replaced; the file passes
//! for one that cannot be read.

mod child;
mod elf;
mod message;
mod parent;

pub use child::serve;
pub use parent::{Helper, use_program};
