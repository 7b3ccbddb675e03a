//! `[server]`

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use hitscope_base::{Secret, Size, Span};
use serde::{Deserialize, Serialize};

/// How the server listens and what its queries may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
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

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7460".into(),
            token: None,
            token_file: None,
            user: "hitscope".into(),
            public_url: None,
            query_memory: Size(96 << 20),
            query_timeout: Span(Duration::from_secs(30)),
        }
    }
}

impl Server {
    /// The address to listen on; any but loopback needs a token.
    ///
    /// # Errors
    /// When it is none, or lacks a token.
    pub fn listen_address(&self) -> Result<SocketAddr, ListenError> {
        let wrong = |cause| ListenError::Address { listen: self.listen.clone(), cause };
        let address = self
            .listen
            .to_socket_addrs()
            .and_then(|mut all| all.next().ok_or_else(|| io::Error::other("the name has no address")))
            .map_err(wrong)?;
        if self.token().map_err(ListenError::Secret)?.is_none() && !address.ip().is_loopback() {
            return Err(ListenError::Token(address));
        }
        Ok(address)
    }

    /// Whether `public_url` can be part of a link.
    ///
    /// # Errors
    /// A sentence, where it cannot.
    pub fn check_public_url(&self) -> Result<(), String> {
        let Some(url) = &self.public_url else { return Ok(()) };
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        match host {
            Some(host) if !host.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
            _ => Err(format!("server.public_url {url:?} is no URL such as https://hitscope.example.org")),
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

/// Why the page cannot be served where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address makes no sense.
    #[error("server.listen {listen:?} is no address with a port, such as 127.0.0.1:7460: {cause}")]
    Address {
        /// As configured.
        listen: String,
        /// Why.
        cause: io::Error,
    },
    /// Others could reach it without a token.
    #[error(
        "{0} can be reached from other hosts, so a token is needed: set server.token or server.token_file (for instance \
         to what `openssl rand -hex 32` gives), or listen on 127.0.0.1"
    )]
    Token(SocketAddr),
    /// The token cannot be had.
    #[error("{0}")]
    Secret(String),
    /// Another program listens there.
    #[error("{0} is in use by another program: stop it, or choose another port with --listen {ip}:{port}", ip = .0.ip(), port = if .0.port() == 7461 { 7462 } else { 7461 })]
    Taken(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
}

impl ListenError {
    /// What came of trying to listen.
    pub fn of(address: SocketAddr, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::AddrInUse => Self::Taken(address),
            _ => Self::Refused { address, cause },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_serve_loopback_and_unknown_keys_are_refused() {
        let settings: Server = serde_json::from_str("{}").unwrap();
        assert_eq!(settings, Server::default());
        assert_eq!(settings.token().unwrap(), None);
        assert!(serde_json::from_str::<Server>(r#"{"listne": ""}"#).is_err());
    }

    #[test]
    fn the_token_may_lie_in_a_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let mut settings = Server { token_file: Some(path), ..Server::default() };
        assert_eq!(settings.token().unwrap(), Some(Secret::new("s3cret")));
        settings.token = Some(Secret::new("other"));
        assert_eq!(settings.token().unwrap(), Some(Secret::new("other")));
        assert!(!format!("{settings:?}").contains("other"));
        settings.token = Some(Secret::new(" "));
        assert!(settings.token().unwrap_err().contains("empty"));
        settings = Server { token_file: Some(dir.path().join("none")), ..Server::default() };
        assert!(settings.token().unwrap_err().contains("token_file"));
    }
}
