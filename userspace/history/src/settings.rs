//! `[history]` of the configuration.

use std::time::Duration;

use hitscope_base::{Size, Span};
use serde::{Deserialize, Serialize};

use crate::folder::Access;

/// How long and how much history is kept, and who may read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Cubes older than this are evicted.
    pub max_age: Span,
    /// Where all closed cubes of this host hold more, the oldest are evicted.
    pub max_bytes: Size,
    /// Who may read; not part of the configuration file.
    #[serde(skip)]
    pub access: Access,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_age: Span(Duration::from_secs(30 * 86_400)), max_bytes: Size(20 << 30), access: Access::default() }
    }
}

impl Settings {
    /// Nothing is evicted, however old and much: for replays.
    pub fn keep_all() -> Self {
        Self { max_age: Span(Duration::MAX), max_bytes: Size(u64::MAX), access: Access::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_keep_their_values_and_refuse_unknown_keys() {
        let settings = Settings { max_bytes: Size(5 << 20), ..Settings::default() };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"max_age":"30d","max_bytes":"5MiB"}"#);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<Settings>(r#"{"max_size": "1B"}"#).is_err());
    }
}
