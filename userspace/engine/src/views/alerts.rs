//! The newest changes of alerts.

use datafusion::prelude::col;

use super::engine;
use crate::catalog::{Answer, Catalog, Error};

/// Rows of the table `alerts`, newest first.
pub async fn read(catalog: &Catalog, limit: usize) -> Result<Answer, Error> {
    let frame = catalog.table("alerts").await?;
    let frame = frame.sort(vec![col("time").sort(false, false)]).and_then(|frame| frame.limit(0, Some(limit)));
    catalog.collect(frame.map_err(engine)?).await
}
