//! The server from start to end.

use std::{
    future::{Future, IntoFuture},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

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

/// Serves until `shutdown` is ready. `listening` is told the address, which matters where port 0 was asked for. Of each of
/// `reloads`, configurations that are valid, the rules, `[alerts]` and Slack take effect at once.
///
/// # Errors
/// What keeps it from starting; see [`Error`].
pub async fn serve(
    config: Config,
    listening: impl FnOnce(SocketAddr),
    reloads: mpsc::UnboundedReceiver<Config>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let lasting = Lasting::of(&config);
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
    let alerts = Arc::new(Alerts::open(rules.clone(), Now::read())?);

    let (end, ending) = watch::channel(false);
    let app = Arc::new(App::new(workers.clone(), alerts.clone(), access, notes, ending.clone()));
    let mut evaluating = Evaluating::start(alerts, &workers);
    let mut graceful = ending.clone();
    let serving = axum::serve(listener, web::router(app.clone())).with_graceful_shutdown(async move {
        let _ = graceful.wait_for(|ending| *ending).await;
    });
    let mut serving = tokio::spawn(serving.into_future());
    listening(address);
    let ended = tokio::select! {
        () = shutdown => None,
        ended = &mut serving => Some(ended),
        () = follow(reloads, lasting, rules, &mut evaluating, &app) => None,
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
    evaluating.end().await;
    ended.map_err(io::Error::other).and_then(|ended| ended).map_err(Error::Ended)
}

/// The task that evaluates the rules in effect.
struct Evaluating {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Evaluating {
    fn start(alerts: Arc<Alerts>, workers: &Arc<Workers>) -> Self {
        let (end, ending) = watch::channel(false);
        Self { end, task: tokio::spawn(alerts.run(workers.clone(), ending)) }
    }

    /// Lets it come to an end in order, which keeps the state of the alerts; one that takes too long is cut off.
    async fn end(&mut self) {
        self.end.send_replace(true);
        if !self.task.is_finished() && tokio::time::timeout(ENDING, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// What of the configuration is as it was at the start, as long as the server runs.
#[derive(PartialEq)]
struct Lasting {
    data_dir: PathBuf,
    host: String,
    server: Server,
    history: hitscope_history::Settings,
}

impl Lasting {
    fn of(config: &Config) -> Self {
        let Config { data_dir, host, server, history, .. } = config.clone();
        Self { data_dir, host, server, history }
    }
}

/// Puts new rules in the place of the old ones, and says what becomes of each new configuration. Ends with the server.
async fn follow(
    mut reloads: mpsc::UnboundedReceiver<Config>,
    lasting: Lasting,
    mut in_effect: alerts::Config,
    evaluating: &mut Evaluating,
    app: &App,
) {
    while let Some(config) = reloads.recv().await {
        if Lasting::of(&config) != lasting {
            tracing::warn!(
                "the configuration was read anew: all but rules, alerts and Slack takes effect at the next start"
            );
        }
        let next =
            alerts::Config { rules: config.rules, settings: config.alerts, slack: config.slack, ..in_effect.clone() };
        if let Err(error) = alerts::slack_client(&next.slack) {
            tracing::error!("the new configuration is refused, and the old one stays: {error}");
            continue;
        }
        // One at a time: the state of the alerts goes from the old to the new.
        evaluating.end().await;
        let opened = Alerts::open(next.clone(), Now::read()).map(|alerts| (alerts, next)).or_else(|error| {
            tracing::error!("the new configuration is refused, and the old one stays: {error}");
            Alerts::open(in_effect.clone(), Now::read()).map(|alerts| (alerts, in_effect.clone()))
        });
        match opened {
            Ok((alerts, config)) => {
                let alerts = Arc::new(alerts);
                in_effect = config;
                app.alerts.send_replace(alerts.clone());
                *evaluating = Evaluating::start(alerts, &app.workers);
                println!("the configuration was read anew; {} rules are in effect", in_effect.rules.len());
            }
            Err(error) => tracing::error!("no rules are in effect any more: {error}"),
        }
    }
    std::future::pending().await
}
