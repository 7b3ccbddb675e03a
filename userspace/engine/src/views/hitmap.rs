//! Hits counted by time and latency bucket, in columns, so that a page of thousands of cells is quick.

use std::collections::HashMap;
use std::hash::Hash;

use datafusion::{
    functions::datetime::expr_fn::date_bin,
    functions_aggregate::expr_fn::sum,
    prelude::{col, lit},
    scalar::ScalarValue,
};
use serde::Serialize;

use super::{Filter, Range, WINDOW_NS, engine, texts, time, times, unsigned};
use crate::catalog::{Catalog, Error};

/// Whose hits a cell counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Series {
    /// Host.
    pub host: String,
    /// Service.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// Side.
    pub side: String,
}

/// The cells with hits, one element of each list for each of them.
#[derive(Debug, Default, Serialize)]
pub struct Cells {
    /// How many steps after the hitmap's `from_ms`.
    pub window: Vec<i64>,
    /// Index in the hitmap's `series`.
    pub series: Vec<usize>,
    /// Index in the hitmap's `buckets`.
    pub bucket: Vec<usize>,
    /// Hits.
    pub hits: Vec<u64>,
    /// Those of them that failed.
    pub errors: Vec<u64>,
}

/// A hitmap of a range of time.
#[derive(Debug, Serialize)]
pub struct Hitmap {
    /// Start of the first column, in ms since the epoch.
    pub from: i64,
    /// End of the last, in ms since the epoch.
    pub to: i64,
    /// Length of a column, in ms.
    pub step_ms: i64,
    /// Start of the newest column that has hits, in ms since the epoch.
    pub newest: Option<i64>,
    /// Whose hits there are.
    pub series: Vec<Series>,
    /// Bounds of the buckets that have hits, in ns; the last bucket of all has no upper bound.
    pub buckets: Vec<(u64, Option<u64>)>,
    /// The cells with hits.
    pub cells: Cells,
}

/// The hitmap of a range, widened to whole steps. The step is in ns; none leaves it to the length of the range.
pub async fn read(catalog: &Catalog, range: Range, step_ns: Option<i64>, filter: &Filter) -> Result<Hitmap, Error> {
    let step_ns = range.step_ns(step_ns)?;
    let from_ns = range.from_ns.div_euclid(step_ns) * step_ns;
    let to_ns = range.to_ns.saturating_add(step_ns - 1).div_euclid(step_ns) * step_ns;
    let mut frame = catalog.table("hitmap").await?;
    for condition in filter.holds().chain([Range { from_ns, to_ns }.holds("window_start")]) {
        frame = frame.filter(condition).map_err(engine)?;
    }
    let window = if step_ns == WINDOW_NS {
        col("window_start")
    } else {
        date_bin(lit(ScalarValue::new_interval_mdn(0, 0, step_ns)), col("window_start"), time(0))
    };
    let keys = ["host", "service", "protocol", "side", "bucket_low_ns", "bucket_high_ns"];
    let keys = std::iter::once(window.alias("window")).chain(keys.map(col)).collect();
    let counts = vec![sum(col("hits")).alias("hits"), sum(col("errors")).alias("errors")];
    let answer = catalog.collect(frame.aggregate(keys, counts).map_err(engine)?).await?;

    let mut series = Index::default();
    let mut buckets = Index::default();
    let mut cells = Cells::default();
    for start_ns in times(&answer, "window")? {
        cells.window.push((start_ns - from_ns) / step_ns);
    }
    let names =
        [texts(&answer, "host")?, texts(&answer, "service")?, texts(&answer, "protocol")?, texts(&answer, "side")?];
    let [hosts, services, protocols, sides] = names;
    for (((host, service), protocol), side) in hosts.into_iter().zip(services).zip(protocols).zip(sides) {
        cells.series.push(series.of(Series { host, service, protocol, side }));
    }
    for (low, high) in unsigned(&answer, "bucket_low_ns")?.into_iter().zip(unsigned(&answer, "bucket_high_ns")?) {
        cells.bucket.push(buckets.of((low.unwrap_or_default(), high.filter(|high| *high != u64::MAX))));
    }
    cells.hits = unsigned(&answer, "hits")?.into_iter().map(Option::unwrap_or_default).collect();
    cells.errors = unsigned(&answer, "errors")?.into_iter().map(Option::unwrap_or_default).collect();
    let newest = cells.window.iter().max().map(|window| (from_ns + window * step_ns) / 1_000_000);
    Ok(Hitmap {
        from: from_ns / 1_000_000,
        to: to_ns / 1_000_000,
        step_ms: step_ns / 1_000_000,
        newest,
        series: series.items,
        buckets: buckets.items,
        cells,
    })
}

/// Distinct items in the order of their first use.
#[derive(Debug)]
struct Index<T> {
    items: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { items: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Index<T> {
    fn of(&mut self, item: T) -> usize {
        if let Some(place) = self.places.get(&item) {
            return *place;
        }
        self.items.push(item.clone());
        self.places.insert(item, self.items.len() - 1);
        self.items.len() - 1
    }
}
