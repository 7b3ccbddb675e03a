//! `[alerts]`

use std::time::Duration;

use hitscope_base::Span;
use serde::{Deserialize, Serialize};

/// What is alerted of beside the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// How long the collector must have been silent before `collector-silent` fires; 0 s is never.
    pub collector_silent: Span,
}

impl Default for Alerts {
    fn default() -> Self {
        Self { collector_silent: Span(Duration::from_secs(60)) }
    }
}
