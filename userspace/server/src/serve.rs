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

use hitscope_config::{ListenError, Rule, Server, Slack};
use hitscope_engine::workers::Workers;

use crate::{
    alerts::{self, Alerts, Now},
    web::{self, Access, App},
};

/// After this long, requests and messages that are still on their way are cut off.
const ENDING: Duration = Duration::from_secs(5);

/// What is served.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// hitscope-server, which is started again to answer queries.
    pub program: PathBuf,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The host's name in the table `alerts`.
    pub host: String,
    /// `[server]`
    pub server: Server,
    /// `[[rules]]`
    pub rules: Vec<Rule>,
    /// `[alerts]`
    pub alerts: hitscope_config::Alerts,
    /// `[slack]`
    pub slack: Slack,
    /// `[history]`: how long the table `alerts` is kept.
    pub history: hitscope_history::Settings,
}

/// Why the server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where it should listen.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The data folder cannot be told.
    #[error("cannot use the data folder: {0}")]
    Folder(io::Error),
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
    let Config { program, data_dir, host, server, rules, alerts: settings, slack, history } = config;
    let token = server.token().map_err(Error::Setting)?;
    let asked = server.listen_address()?;
    let refused = |cause| ListenError::of(asked, cause);
    let listener = TcpListener::bind(asked).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let access = Access::new(address, token, server.public_url.as_deref()).map_err(Error::Setting)?;

    let workers = Workers::new(&program, &data_dir, crate::limits(&server)).map_err(Error::Folder)?;
    let workers = Arc::new(workers);
    let mut notes = Vec::new();
    if !address.ip().is_loopback() {
        notes.push(format!("The page is served on {address} without TLS: put a proxy with TLS in front of it."));
    }
    let public_url = server.public_url;
    let rules = alerts::Config { data_dir, host, rules, settings, slack, public_url, history };
    let alerts = Arc::new(Alerts::open(rules, Now::read())?);

    let (end, ending) = watch::channel(false);
    let app = Arc::new(App::new(workers.clone(), alerts.clone(), access, notes, ending.clone()));
    let mut evaluating = tokio::spawn(alerts.run(workers, ending.clone()));
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
