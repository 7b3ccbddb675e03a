//! Whom the server runs as.

use hitscope_base::{Explain, Failure};

use crate::{
    capabilities::Capabilities,
    os::{self, Ids},
};

/// The user that the server runs as when the configuration names none.
const DEFAULT: &str = "hitscope";
/// Used where that does not exist.
const FALLBACK: &str = "nobody";

/// An unprivileged user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub ids: Ids,
}

impl Account {
    /// The account for the server: the configured user; `nobody` where that is the default one and does not exist; or `None`,
    /// which means the user that this process runs as, where that is not root and may not become another.
    ///
    /// # Errors
    /// When the configured user does not exist or is root.
    pub fn for_server(configured: &str, capabilities: Capabilities) -> Result<Option<Self>, Failure> {
        if os::own_ids().user != 0 && !capabilities.has(Capabilities::SETUID.and(Capabilities::SETGID)) {
            return Ok(None);
        }
        let account = match Self::find(configured)? {
            None if configured == DEFAULT => Self::find(FALLBACK)?,
            found => found,
        };
        match account {
            Some(account) if account.ids.user == 0 => {
                Err(Failure::new(format!("cannot run the server as {configured}: it must not have root's rights"))
                    .help("name an ordinary user in server.user"))
            }
            Some(account) => Ok(Some(account)),
            None => Err(Failure::new(format!("cannot run the server as {configured}: there is no such user"))
                .help("create it with `useradd --system hitscope`, or name another in server.user")),
        }
    }

    fn find(name: &str) -> Result<Option<Self>, Failure> {
        let ids = os::find_user(name).explain(format!("cannot look up the user {name}"))?;
        Ok(ids.map(|ids| Self { name: name.to_owned(), ids }))
    }

    /// True for the shared account that stands in for a missing one.
    pub fn is_fallback(&self) -> bool {
        self.name == FALLBACK
    }
}
