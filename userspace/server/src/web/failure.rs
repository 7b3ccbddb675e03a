//! Errors as the API gives them: `{"error": …, "hint": …}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use hitscope_engine::catalog;

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

impl From<catalog::Error> for Failure {
    fn from(error: catalog::Error) -> Self {
        let status = match &error {
            error if error.is_users() => 400,
            catalog::Error::Timeout(_) => 504,
            catalog::Error::Busy => 503,
            _ => 500,
        };
        if status == 500 {
            tracing::error!(%error, "a query failed");
        }
        Self { hint: error.hint(), ..Self::new(status, error.to_string()) }
    }
}

impl From<hitscope_history::Error> for Failure {
    fn from(error: hitscope_history::Error) -> Self {
        catalog::Error::from(error).into()
    }
}
