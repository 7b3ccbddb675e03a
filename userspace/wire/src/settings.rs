use crate::{path::Paths, sql::Operations};

/// Settings of all connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keep statement texts and error messages whole, literals included.
    pub keep_literals: bool,
    /// Bound of memory per connection, bytes; at least [`Settings::MIN_CONNECTION_BYTES`] are taken.
    pub connection_bytes: usize,
    /// Bytes of a request's text that are looked at, a 32nd of `connection_bytes` at most; its operation ends in
    /// `…` where it is longer.
    pub statement_bytes: usize,
    /// The operations seen, shared by all connections of these settings.
    pub operations: Operations,
    /// How paths are folded into operations, and those seen.
    pub paths: Paths,
}

impl Settings {
    /// The least that [`Settings::connection_bytes`] can be.
    pub const MIN_CONNECTION_BYTES: usize = 64 << 10;

    pub(crate) fn connection_bytes(&self) -> usize {
        self.connection_bytes.max(Self::MIN_CONNECTION_BYTES)
    }

    pub(crate) fn statement_bytes(&self) -> usize {
        self.statement_bytes.clamp(64, self.connection_bytes() / 32)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_literals: false,
            connection_bytes: 1 << 20,
            statement_bytes: 8 << 10,
            operations: Operations::default(),
            paths: Paths::default(),
        }
    }
}
