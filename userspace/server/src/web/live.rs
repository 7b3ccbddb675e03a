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

use crate::views::{self, Filter, Range, WINDOW_NS};

const PERIOD: Duration = Duration::from_secs(1);
/// An answer this young serves the next page, too.
const FRESH: Duration = Duration::from_millis(900);
/// Hits of a window may be written a little after its end, so the ones before it are sent again.
const WINDOWS: i64 = 3;

/// What was sent last, by filter, so that ten pages cost one query.
#[derive(Default)]
pub struct Live {
    latest: Mutex<HashMap<Filter, (Instant, Arc<str>)>>,
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
    let latest = || app.live.latest.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((made, data)) = latest().get(filter)
        && made.elapsed() < FRESH
    {
        return Ok(data.clone());
    }
    let now_ns = time::now_ns();
    let to_ns = now_ns.div_euclid(WINDOW_NS) * WINDOW_NS + WINDOW_NS;
    let range = Range { from_ns: to_ns - WINDOWS * WINDOW_NS, to_ns };
    let hitmap = views::hitmap::read(&app.catalog, range, Some(WINDOW_NS), filter).await?;
    let mut event = serde_json::to_value(&hitmap).map_err(|error| Failure::new(500, error.to_string()))?;
    let state = status::data(app.catalog.data_dir(), app.catalog.tables(), now_ns)?;
    event["data"] = state.name().into();
    let data: Arc<str> = event.to_string().into();
    let mut latest = latest();
    latest.retain(|_, (made, _)| made.elapsed() < 10 * PERIOD);
    latest.insert(filter.clone(), (Instant::now(), data.clone()));
    Ok(data)
}
