//! The hits behind a part of the hitmap, slowest first.

use datafusion::prelude::{Expr, col, lit};

use serde::{Deserialize, Serialize};

use super::{Filter, Range, engine};
use crate::catalog::{Answer, Catalog, Error};

/// Which hits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// When they ended.
    pub range: Range,
    /// Host, service, protocol and side.
    pub filter: Filter,
    /// The shortest duration, in ns.
    pub min_ns: Option<u64>,
    /// The first duration that is too long, in ns.
    pub max_ns: Option<u64>,
    /// The operation.
    pub operation_id: Option<u64>,
    /// `ok`, `error` or `aborted`.
    pub status: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// At most so many.
    pub limit: usize,
}

/// Rows of the table `hits`, slowest first.
pub async fn read(catalog: &Catalog, wanted: &Wanted) -> Result<Answer, Error> {
    let mut frame = catalog.table("hits").await?;
    let conditions: [Option<Expr>; 5] = [
        wanted.min_ns.map(|min_ns| col("duration_ns").gt_eq(lit(min_ns))),
        wanted.max_ns.map(|max_ns| col("duration_ns").lt(lit(max_ns))),
        wanted.operation_id.map(|id| col("operation_id").eq(lit(id))),
        wanted.status.as_ref().map(|status| col("status").eq(lit(status.clone()))),
        wanted.pid.map(|pid| col("pid").eq(lit(pid))),
    ];
    let conditions = conditions.into_iter().flatten().chain(wanted.filter.holds());
    for condition in conditions.chain([wanted.range.holds("end_time")]) {
        frame = frame.filter(condition).map_err(engine)?;
    }
    let slowest_first = vec![col("duration_ns").sort(false, false), col("end_time").sort(false, false)];
    let frame = frame.sort(slowest_first).and_then(|frame| frame.limit(0, Some(wanted.limit))).map_err(engine)?;
    catalog.collect(frame).await
}
