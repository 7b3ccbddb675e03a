//! Errors as the API gives them: `{"error": …, "hint": …}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use hitscope_engine::question::{Kind, Refusal};

/// A refusal or failure.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

impl Failure {
    /// With a status, and a sentence that says what is wrong.
    pub fn new(status: u16, error: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error: error.into(), hint: None }
    }

    /// With what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The body.
    pub fn json(&self) -> serde_json::Value {
        json!({ "error": self.error, "hint": self.hint })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.json())).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            Kind::Statement => 400,
            Kind::Large => 413,
            Kind::Rows | Kind::Memory => 422,
            Kind::Busy => 503,
            Kind::Time => 504,
            Kind::Broken => 500,
        };
        if status == 500 {
            tracing::error!(%refusal, "a query failed");
        }
        Self { hint: refusal.hint, ..Self::new(status, refusal.message) }
    }
}

impl From<hitscope_history::Error> for Failure {
    fn from(error: hitscope_history::Error) -> Self {
        Self::new(500, format!("the history folder cannot be read: {error}"))
    }
}
