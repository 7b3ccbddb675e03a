//! Recorded sessions, gone through again.
