//! The HTTP API and the page.

mod access;
mod assets;
mod failure;
mod live;
mod metrics;
mod openapi;
mod parameters;
mod routes;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{Router, middleware, routing::get};
use tokio::sync::watch;

pub use self::access::Access;
use self::{failure::Failure, live::Live, routes::ROUTES};
use hitscope_engine::workers::Workers;

use crate::alerts::Alerts;

/// What every handler can use.
pub struct App {
    /// Who answers questions about the history.
    pub workers: Arc<Workers>,
    /// The alert rules in effect, of which there are others after each reload.
    pub alerts: watch::Sender<Arc<Alerts>>,
    /// Who may ask.
    pub access: Access,
    /// What the user should know, one sentence each.
    pub notes: Vec<String>,
    /// When the server started, ns since the epoch.
    pub started_ns: i64,
    /// Turns true when the server is to end.
    pub shutdown: watch::Receiver<bool>,
    live: Live,
}

impl App {
    /// Puts it together.
    pub fn new(
        workers: Arc<Workers>,
        alerts: Arc<Alerts>,
        access: Access,
        notes: Vec<String>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self {
            workers,
            alerts: watch::Sender::new(alerts),
            access,
            notes,
            started_ns: hitscope_base::time::now_ns(),
            shutdown,
            live: Live::default(),
        }
    }

    /// The alert rules in effect.
    pub fn alerts(&self) -> Arc<Alerts> {
        self.alerts.borrow().clone()
    }
}

/// Everything the server answers.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.handler)());
    }
    router
        .route("/login", get(access::login_page).post(access::login))
        .route("/logout", axum::routing::post(access::logout))
        .route("/login.css", get(access::login_style))
        .fallback(assets::serve)
        .method_not_allowed_fallback(|| async { Failure::new(405, "this address takes another method") })
        .layer(middleware::from_fn_with_state(app.clone(), access::guard))
        .with_state(app)
}
