//! The parameters of the addresses.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::Failure;
use hitscope_base::{Span, time};

use hitscope_engine::views::{Filter, Range};

const DEFAULT_RANGE: &str = "-10m";

/// Reads the parameters into a struct; what does not fit is answered with status 400.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let Query(values) = Query::try_from_uri(&parts.uri).map_err(|error| {
            Failure::new(400, error.body_text()).hint("/api/v1/openapi.json lists the parameters of each address")
        })?;
        Ok(Self(values))
    }
}

/// A time as it was written.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Time(String);

impl Time {
    /// In ns since the epoch.
    pub fn ns(&self) -> Result<i64, Failure> {
        time::parse(&self.0, time::now_ns()).map_err(|error| Failure::new(400, error.to_string()))
    }
}

/// The range between two times; without the first, the last ten minutes.
pub fn range(from: Option<&Time>, to: Option<&Time>) -> Result<Range, Failure> {
    let now_ns = time::now_ns();
    let default = Time(DEFAULT_RANGE.into());
    let to_ns = to.map_or(Ok(now_ns), Time::ns)?;
    let from_ns = from.unwrap_or(&default).ns()?;
    if from_ns >= to_ns {
        return Err(Failure::new(400, "the range is empty").hint("`from` must lie before `to`"));
    }
    Ok(Range { from_ns, to_ns })
}

/// A step in ns.
pub fn step_ns(step: Option<Span>) -> Option<i64> {
    step.map(|Span(step)| i64::try_from(step.as_nanos()).unwrap_or(i64::MAX))
}

/// A filter; an empty parameter is none.
pub fn filter(host: Option<String>, service: Option<String>, protocol: Option<String>, side: Option<String>) -> Filter {
    Filter { host: given(host), service: given(service), protocol: given(protocol), side: given(side) }
}

/// A text that is not empty.
pub fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
