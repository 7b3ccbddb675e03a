//! `[server]` of the configuration.

use std::{path::PathBuf, time::Duration};

use hitscope_slack::Secret;
use serde::{Deserialize, Serialize};

use crate::{
    catalog,
    units::{Size, Span},
};

/// How the server listens and what its queries may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port. Any but a loopback address needs a token.
    pub listen: String,
    /// What clients must present, as `Authorization: Bearer` or at the login page.
    pub token: Option<Secret>,
    /// A file with the token, in place of `token`.
    pub token_file: Option<PathBuf>,
    /// The user that `hitscope run` starts the server as.
    pub user: String,
    /// Where people reach the page, for links in messages and, behind a proxy, for the check of the Host header.
    pub public_url: Option<String>,
    /// What all running queries may hold together.
    pub query_memory: Size,
    /// How long one query may take.
    pub query_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        let limits = catalog::Options::default();
        Self {
            listen: "127.0.0.1:7460".into(),
            token: None,
            token_file: None,
            user: "hitscope".into(),
            public_url: None,
            query_memory: Size(limits.memory_bytes as u64),
            query_timeout: Span(limits.timeout.unwrap_or(Duration::from_secs(30))),
        }
    }
}

impl Settings {
    /// The catalog's limits.
    pub fn catalog(&self) -> catalog::Options {
        catalog::Options {
            memory_bytes: usize::try_from(self.query_memory.0).unwrap_or(usize::MAX),
            timeout: Some(self.query_timeout.0),
            ..catalog::Options::default()
        }
    }

    /// The token, from where it is configured.
    ///
    /// # Errors
    /// A sentence, when its file cannot be read or it is empty.
    pub fn token(&self) -> Result<Option<Secret>, String> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read server.token_file {}: {error}", path.display()))?;
                Secret::new(text)
            }
            (None, None) => return Ok(None),
        };
        match token.is_empty() {
            true => {
                Err("the server's token is empty: remove it or set one, for instance of `openssl rand -hex 32`".into())
            }
            false => Ok(Some(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_serve_loopback_and_unknown_keys_are_refused() {
        let settings: Settings = serde_json::from_str("{}").unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.token().unwrap(), None);
        assert_eq!(settings.catalog().memory_bytes, 96 << 20);
        assert!(serde_json::from_str::<Settings>(r#"{"listne": ""}"#).is_err());
    }

    #[test]
    fn the_token_may_lie_in_a_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let mut settings = Settings { token_file: Some(path), ..Settings::default() };
        assert_eq!(settings.token().unwrap(), Some(Secret::new("s3cret")));
        settings.token = Some(Secret::new("other"));
        assert_eq!(settings.token().unwrap(), Some(Secret::new("other")));
        assert!(!format!("{settings:?}").contains("other"));
        settings.token = Some(Secret::new(" "));
        assert!(settings.token().unwrap_err().contains("empty"));
        settings = Settings { token_file: Some(dir.path().join("none")), ..Settings::default() };
        assert!(settings.token().unwrap_err().contains("token_file"));
    }
}
