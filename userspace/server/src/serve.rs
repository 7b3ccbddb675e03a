//! The server from start to end.

use std::{
    future::{Future, IntoFuture},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};

use crate::{
    Settings,
    alerts::{self, Alerts, Rule},
    catalog::{self, Catalog},
    units,
    web::{self, Access, App},
};

/// After this long, requests and messages that are still on their way are cut off.
const ENDING: Duration = Duration::from_secs(5);

/// What is served.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The host's name in the table `alerts`.
    pub host: String,
    /// `[server]`
    pub server: Settings,
    /// `[[rules]]`
    pub rules: Vec<Rule>,
    /// `[slack]`
    pub slack: hitscope_slack::Settings,
    /// `[history]`: how long the table `alerts` is kept.
    pub history: hitscope_history::Settings,
}

/// Why the server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// Another program listens there.
    #[error("{0} is in use by another program: stop it, or choose another port with --listen {ip}:{port}", ip = .0.ip(), port = if .0.port() == 7461 { 7462 } else { 7461 })]
    PortTaken(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The catalog cannot be opened.
    #[error("{0}")]
    Catalog(#[from] catalog::Error),
    /// The rules or Slack are configured wrongly.
    #[error("{0}")]
    Alerts(#[from] alerts::Error),
    /// The server broke down.
    #[error("the server ended: {0}")]
    Ended(io::Error),
}

/// Serves until `shutdown` is ready. `listening` is told the address, which matters where port 0 was asked for.
///
/// # Errors
/// What keeps it from starting; see [`Error`].
pub async fn serve(
    config: Config,
    listening: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Config { data_dir, host, server, rules, slack, history } = config;
    let token = server.token().map_err(Error::Setting)?;
    let asked = address(&server.listen).await?;
    if token.is_none() && !asked.ip().is_loopback() {
        return Err(Error::Token(asked));
    }
    let listener = TcpListener::bind(asked).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken(asked),
        _ => Error::Listen { address: asked, cause },
    })?;
    let address = listener.local_addr().map_err(|cause| Error::Listen { address: asked, cause })?;
    let access = Access::new(address, token, server.public_url.as_deref()).map_err(Error::Setting)?;

    let catalog = Arc::new(Catalog::open(&data_dir, server.catalog())?);
    let mut notes = Vec::new();
    if !address.ip().is_loopback() {
        notes.push(format!("The page is served on {address} without TLS: put a proxy with TLS in front of it."));
    }
    let public_url = server.public_url;
    let rules = alerts::Config { data_dir, host, rules, slack, public_url, history };
    let alerts = Arc::new(Alerts::open(rules, units::now_ns())?);

    let (end, ending) = watch::channel(false);
    let app = Arc::new(App::new(catalog.clone(), alerts.clone(), access, notes, ending.clone()));
    let mut evaluating = tokio::spawn(alerts.run(catalog, ending.clone()));
    let mut graceful = ending.clone();
    let serving = axum::serve(listener, web::router(app)).with_graceful_shutdown(async move {
        let _ = graceful.wait_for(|ending| *ending).await;
    });
    let mut serving = tokio::spawn(serving.into_future());
    listening(address);
    let ended = tokio::select! {
        () = shutdown => None,
        ended = &mut serving => Some(ended),
    };
    end.send_replace(true);
    let ended = match ended {
        Some(ended) => ended,
        None => match tokio::time::timeout(ENDING, &mut serving).await {
            Ok(ended) => ended,
            Err(_) => {
                serving.abort();
                Ok(Ok(()))
            }
        },
    };
    if tokio::time::timeout(ENDING, &mut evaluating).await.is_err() {
        evaluating.abort();
    }
    ended.map_err(io::Error::other).and_then(|ended| ended).map_err(Error::Ended)
}

async fn address(listen: &str) -> Result<SocketAddr, Error> {
    let wrong = |cause| Error::Address { listen: listen.into(), cause };
    let mut addresses = tokio::net::lookup_host(listen).await.map_err(wrong)?;
    addresses.next().ok_or_else(|| wrong(io::Error::other("the name has no address")))
}
