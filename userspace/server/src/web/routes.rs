//! Every address of the API: one table that the router and the OpenAPI document are both made of.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{State, rejection::JsonRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use futures::stream;
use serde::Deserialize;

use super::{
    App, Failure, live, metrics, openapi,
    parameters::{Parameters, Time, filter, given, range, step_ns},
    status,
};
use hitscope_base::{Span, time};
use hitscope_engine::{
    question::{Form, Question},
    views,
    workers::{Answer, Lane},
};

/// One address.
pub struct Route {
    /// As in the router.
    pub path: &'static str,
    /// `get` or `post`.
    pub method: &'static str,
    /// What answers.
    pub handler: fn() -> MethodRouter<Arc<App>>,
    /// One sentence.
    pub doc: &'static str,
    /// What the answer is.
    pub answer: &'static str,
    /// The answer's content types.
    pub content: &'static [&'static str],
    /// Parameters in the address.
    pub parameters: &'static [Parameter],
}

/// One parameter.
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// A value that it takes.
    pub example: &'static str,
    /// Whether there is no answer without it.
    pub required: bool,
}

const fn optional(name: &'static str, example: &'static str, doc: &'static str) -> Parameter {
    Parameter { name, doc, example, required: false }
}

const fn required(name: &'static str, example: &'static str, doc: &'static str) -> Parameter {
    Parameter { name, doc, example, required: true }
}

const JSON: &[&str] = &["application/json"];
const TEXT: &[&str] = &["text/plain"];
const ARROW: &str = "application/vnd.apache.arrow.stream";
const ROWS: &[&str] = &["application/json", ARROW];

const FROM: Parameter = optional("from", "-1h", "First moment (default `-10m`).");
const TO: Parameter = optional("to", "now", "First moment after it (default `now`).");
const HOST: Parameter = optional("host", "db1", "Only this host.");
const SERVICE: Parameter = optional("service", "postgresql.service", "Only this service.");
const PROTOCOL: Parameter = optional("protocol", "postgres", "Only this protocol.");
const SIDE: Parameter = optional("side", "server", "Only `server` or `client`.");
const STEP: Parameter = optional(
    "step",
    "1m",
    "Length of a column, in whole windows of 5 s; left out, one that gives at most 720 columns.",
);

/// All of them.
pub const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/query",
        method: "post",
        handler: || post(query),
        doc: "Runs a read-only SQL statement, given as `{\"sql\": …}`, over the tables.",
        answer: "An array of row objects. An integer beyond ±(2^53 − 1) is a string; timestamps are RFC 3339 with all \
                 nanoseconds.",
        content: ROWS,
        parameters: &[],
    },
    Route {
        path: "/api/v1/hitmap",
        method: "get",
        handler: || get(hitmap),
        doc: "Hits counted by time, latency bucket, host, service, protocol and side.",
        answer: "`from`, `to`, `step_ms`, `newest` (ms since the epoch); `series` (objects); `buckets` ([low_ns, high_ns \
                 or null]); `cells`: equally long lists `window` (steps after `from`), `series` and `bucket` (indexes), \
                 `hits`, `errors`.",
        content: JSON,
        parameters: &[FROM, TO, HOST, SERVICE, PROTOCOL, SIDE, STEP],
    },
    Route {
        path: "/api/v1/live",
        method: "get",
        handler: || get(live::stream),
        doc: "Follows the newest windows: one server-sent event each second.",
        answer: "Each event's data is a hitmap of the newest windows in full, in the form of /api/v1/hitmap, with `data` as \
                 in /api/v1/status. An event named `failure` carries `error` and `hint`.",
        content: &["text/event-stream"],
        parameters: &[HOST, SERVICE, PROTOCOL, SIDE],
    },
    Route {
        path: "/api/v1/hits",
        method: "get",
        handler: || get(hits),
        doc: "The hits kept, slowest first.",
        answer: "An array of rows of the table `hits`.",
        content: ROWS,
        parameters: &[
            FROM,
            TO,
            HOST,
            SERVICE,
            PROTOCOL,
            SIDE,
            optional("min_ns", "1000000", "The shortest duration."),
            optional("max_ns", "5000000000", "The first duration that is too long."),
            optional("operation_id", "15237129073", "Only this operation."),
            optional("status", "error", "Only `ok`, `error` or `aborted`."),
            optional("pid", "4711", "Only this process."),
            optional("limit", "50", "At most so many (default 200, at most 10000)."),
        ],
    },
    Route {
        path: "/api/v1/processes",
        method: "get",
        handler: || get(processes),
        doc: "All processes in the 5-second interval that holds a moment, or in the nearest one that there is.",
        answer: "`at` and `time`, the interval's end (ms since the epoch; null when there are no samples); `hosts` and \
                 `processes`: rows of these tables, whoever used most CPU first.",
        content: JSON,
        parameters: &[optional("at", "-5m", "The moment (default `now`)."), HOST],
    },
    Route {
        path: "/api/v1/processes/history",
        method: "get",
        handler: || get(process_history),
        doc: "One process over time.",
        answer: "`from`, `to`, `step_ms`; `columns`: equally long lists by column, `time` among them (start of the step, \
                 ms since the epoch); sums of what is used, the largest of what is held.",
        content: JSON,
        parameters: &[
            required("pid", "4711", "The process."),
            required("start_time", "2026-01-31T12:00:00.123456789Z", "When it started, as in its rows."),
            FROM,
            TO,
            HOST,
            STEP,
        ],
    },
    Route {
        path: "/api/v1/cubes",
        method: "get",
        handler: || get(cubes),
        doc: "What times there is history of.",
        answer: "`cube_ms`; `tables`: for each table and host `files`, `open`, `bytes` and `ranges` ([from, to], ms since \
                 the epoch).",
        content: JSON,
        parameters: &[],
    },
    Route {
        path: "/api/v1/alerts",
        method: "get",
        handler: || get(alerts),
        doc: "The alert rules with their state, and the newest changes.",
        answer: "`telling`: whether this server tells people, and `why_not`; `rules`: `name`, `built_in`, `severity`, \
                 `interval`, `hold`, `sql`, `state` (ok, pending, firing; no_data: the collector is silent; failed: it could \
                 not be evaluated), `since`, `error`, `alerts`, `evaluations` (`last`, how long it took in `last_ms`, and \
                 since the start `count`, `failed`, `missed`, `no_data`, `rows_left_out`); `changes`: rows of the table \
                 `alerts`, newest first.",
        content: JSON,
        parameters: &[optional("limit", "50", "At most so many changes (default 100, at most 1000).")],
    },
    Route {
        path: "/api/v1/status",
        method: "get",
        handler: || get(status::get),
        doc: "What the collector and the server are doing.",
        answer: "`data` (none: nothing was ever recorded; stale: no collector is running; live), `stale_since` (ms since \
                 the epoch); `collector`: what it writes to status.json; `server`; `alerts`.",
        content: JSON,
        parameters: &[],
    },
    Route {
        path: "/api/v1/openapi.json",
        method: "get",
        handler: || get(|| async { Json(openapi::document()) }),
        doc: "This document.",
        answer: "OpenAPI 3.1.",
        content: JSON,
        parameters: &[],
    },
    Route {
        path: "/metrics",
        method: "get",
        handler: || get(metrics::get),
        doc: "The collector's and the server's own figures for Prometheus.",
        answer: "Text exposition format.",
        content: TEXT,
        parameters: &[],
    },
    Route {
        path: "/healthz",
        method: "get",
        handler: || get(|| async { "ok\n" }),
        doc: "Whether the server answers; needs no token.",
        answer: "`ok`.",
        content: TEXT,
        parameters: &[],
    },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    sql: String,
}

async fn query(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Json<Query>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(Query { sql }) = body.map_err(|error| {
        Failure::new(error.status().as_u16(), error.body_text())
            .hint("send {\"sql\": \"…\"} with content-type: application/json")
    })?;
    rows(&app, Lane::Statements, Question::Sql(sql), &headers).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HitmapQuery {
    from: Option<Time>,
    to: Option<Time>,
    host: Option<String>,
    service: Option<String>,
    protocol: Option<String>,
    side: Option<String>,
    step: Option<Span>,
}

async fn hitmap(
    State(app): State<Arc<App>>,
    Parameters(asked): Parameters<HitmapQuery>,
) -> Result<impl IntoResponse, Failure> {
    let range = range(asked.from.as_ref(), asked.to.as_ref())?;
    let filter = filter(asked.host, asked.service, asked.protocol, asked.side);
    json(&app, Question::Hitmap { range, step_ns: step_ns(asked.step), filter }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HitsQuery {
    from: Option<Time>,
    to: Option<Time>,
    host: Option<String>,
    service: Option<String>,
    protocol: Option<String>,
    side: Option<String>,
    min_ns: Option<u64>,
    max_ns: Option<u64>,
    operation_id: Option<u64>,
    status: Option<String>,
    pid: Option<u32>,
    limit: Option<usize>,
}

async fn hits(
    State(app): State<Arc<App>>,
    Parameters(asked): Parameters<HitsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wanted = views::hits::Wanted {
        range: range(asked.from.as_ref(), asked.to.as_ref())?,
        filter: filter(asked.host, asked.service, asked.protocol, asked.side),
        min_ns: asked.min_ns,
        max_ns: asked.max_ns,
        operation_id: asked.operation_id,
        status: given(asked.status),
        pid: asked.pid,
        limit: asked.limit.unwrap_or(200).min(10_000),
    };
    rows(&app, Lane::Page, Question::Hits(wanted), &headers).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessesQuery {
    at: Option<Time>,
    host: Option<String>,
}

async fn processes(
    State(app): State<Arc<App>>,
    Parameters(asked): Parameters<ProcessesQuery>,
) -> Result<impl IntoResponse, Failure> {
    let at_ns = asked.at.map_or(Ok(time::now_ns()), |at| at.ns())?;
    json(&app, Question::Processes { at_ns, host: given(asked.host) }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    pid: u32,
    start_time: Time,
    from: Option<Time>,
    to: Option<Time>,
    host: Option<String>,
    step: Option<Span>,
}

async fn process_history(
    State(app): State<Arc<App>>,
    Parameters(asked): Parameters<HistoryQuery>,
) -> Result<impl IntoResponse, Failure> {
    let range = range(asked.from.as_ref(), asked.to.as_ref())?;
    let process =
        views::processes::Identity { host: given(asked.host), pid: asked.pid, start_time_ns: asked.start_time.ns()? };
    json(&app, Question::Process { process, range, step_ns: step_ns(asked.step) }).await
}

async fn cubes(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Failure> {
    json(&app, Question::Cubes).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertsQuery {
    limit: Option<usize>,
}

async fn alerts(
    State(app): State<Arc<App>>,
    Parameters(asked): Parameters<AlertsQuery>,
) -> Result<impl IntoResponse, Failure> {
    let limit = asked.limit.unwrap_or(100).min(1000);
    let changes = app.workers.ask(Lane::Page, Question::Alerts(limit), Form::Json).await?;
    let changes: &serde_json::value::RawValue =
        serde_json::from_slice(&changes.bytes).map_err(|error| Failure::new(500, error.to_string()))?;
    let in_effect = app.alerts();
    let why_not = in_effect.why_not();
    let telling = why_not.is_none();
    let rules = in_effect.overview();
    Ok(Json(serde_json::json!({ "telling": telling, "why_not": why_not, "rules": rules, "changes": changes })))
}

/// Something that is no table, as JSON.
async fn json(app: &App, question: Question) -> Result<Response, Failure> {
    let answer = app.workers.ask(Lane::Page, question, Form::Json).await?;
    Ok(send(answer, "application/json"))
}

/// Rows as JSON, or as an Arrow stream for who accepts that.
async fn rows(app: &App, lane: Lane, question: Question, headers: &HeaderMap) -> Result<Response, Failure> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let arrow =
        accepted.flat_map(|value| value.split(',')).any(|kind| kind.split(';').next().unwrap_or("").trim() == ARROW);
    let (form, kind) = if arrow { (Form::Arrow, ARROW) } else { (Form::Json, "application/json") };
    Ok(send(app.workers.ask(lane, question, form).await?, kind))
}

/// An answer is handed over piece by piece; what it holds counts until the last piece is taken.
fn send(answer: Answer, kind: &'static str) -> Response {
    const PIECE_BYTES: usize = 256 << 10;
    let mut rest = answer.bytes.clone();
    let pieces = std::iter::from_fn(move || {
        let _held = &answer;
        (!rest.is_empty()).then(|| Ok::<_, Infallible>(rest.split_to(rest.len().min(PIECE_BYTES))))
    });
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(stream::iter(pieces))).into_response()
}
