//! The newest windows, once a second, to everyone who looks.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::stream;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use super::{
    App, Failure,
    parameters::{Parameters, filter},
    status,
};
use hitscope_base::time;

use hitscope_engine::{
    question::{Form, Question},
    views::{Filter, Range, WINDOW_NS},
    workers::Lane,
};

const PERIOD: Duration = Duration::from_secs(1);
/// An answer this young serves the next page, too.
const FRESH: Duration = Duration::from_millis(900);
/// Hits of a window may be written a little after its end, so the ones before it are sent again.
const WINDOWS: i64 = 3;

/// What was sent last for a filter, and when it was made.
type Latest = Arc<tokio::sync::Mutex<Option<(Instant, Arc<str>)>>>;

/// What was sent last, by filter, so that ten pages cost one query.
#[derive(Default)]
pub struct Live {
    latest: Mutex<HashMap<Filter, Latest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveQuery {
    host: Option<String>,
    service: Option<String>,
    protocol: Option<String>,
    side: Option<String>,
}

/// `GET /api/v1/live`. Ends when the server does.
pub async fn stream(State(app): State<Arc<App>>, Parameters(asked): Parameters<LiveQuery>) -> impl IntoResponse {
    let filter = filter(asked.host, asked.service, asked.protocol, asked.side);
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shutdown = app.shutdown.clone();
    let events = stream::unfold((app, filter, ticks, shutdown), |(app, filter, mut ticks, mut shutdown)| async {
        tokio::select! {
            _ = shutdown.wait_for(|ending| *ending) => return None,
            _ = ticks.tick() => {}
        }
        let event = match newest(&app, &filter).await {
            Ok(data) => Event::default().data(data),
            Err(failure) => Event::default().event("failure").data(failure.json().to_string()),
        };
        Some((Ok::<_, Infallible>(event), (app, filter, ticks, shutdown)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn newest(app: &App, filter: &Filter) -> Result<Arc<str>, Failure> {
    let place = Arc::clone(lock(&app.live.latest).entry(filter.clone()).or_default());
    // Of pages that ask at once, one asks, and the others take its answer.
    let mut latest = place.lock().await;
    if let Some((made, data)) = &*latest
        && made.elapsed() < FRESH
    {
        return Ok(data.clone());
    }
    let now_ns = time::now_ns();
    let to_ns = now_ns.div_euclid(WINDOW_NS) * WINDOW_NS + WINDOW_NS;
    let range = Range { from_ns: to_ns - WINDOWS * WINDOW_NS, to_ns };
    let question = Question::Hitmap { range, step_ns: Some(WINDOW_NS), filter: filter.clone() };
    let hitmap = app.workers.ask(Lane::Page, question, Form::Json).await?;
    let broken = |error: serde_json::Error| Failure::new(500, error.to_string());
    let mut event: serde_json::Value = serde_json::from_slice(&hitmap.bytes).map_err(broken)?;
    let workers = Arc::clone(&app.workers);
    let state = tokio::task::spawn_blocking(move || status::data(workers.data_dir(), workers.tables(), now_ns)).await;
    event["data"] = state.map_err(|error| Failure::new(500, error.to_string()))??.name().into();
    let data: Arc<str> = event.to_string().into();
    *latest = Some((Instant::now(), data.clone()));
    drop(latest);
    // Filters that nobody looks at any more: those that no page holds and that are old.
    lock(&app.live.latest).retain(|_, place| match place.try_lock() {
        Ok(latest) => latest.as_ref().is_some_and(|(made, _)| made.elapsed() < 10 * PERIOD),
        Err(_) => true,
    });
    Ok(data)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
