//! What processes used: all of them at a moment, and one of them over time.

use datafusion::{
    functions::datetime::expr_fn::date_bin,
    functions_aggregate::expr_fn::{max, min, sum},
    logical_expr::ExprFunctionExt,
    prelude::{Expr, col, lit},
    scalar::ScalarValue,
};
use hitscope_history::CUBE_NS;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Range, WINDOW_NS, engine, texts, time, times, unsigned};
use crate::{
    catalog::{Catalog, Error},
    output,
};

/// How far from the moment an interval is looked for before the list of cubes is asked.
const NEAR_NS: i64 = 12 * WINDOW_NS;

/// All processes in the interval nearest to a moment.
#[derive(Debug, Serialize)]
pub struct Moment {
    /// The moment asked for, in ms since the epoch.
    pub at: i64,
    /// End of the interval, in ms since the epoch; of several hosts' the latest. None: there are no samples at all.
    pub time: Option<i64>,
    /// Rows of the table `hosts`.
    pub hosts: Box<RawValue>,
    /// Rows of the table `processes`; whoever used most CPU comes first.
    pub processes: Box<RawValue>,
}

/// The processes of the interval that holds the moment, or of the nearest one, on each host.
pub async fn at(catalog: &Catalog, at_ns: i64, host: Option<&str>) -> Result<Moment, Error> {
    let near = Range { from_ns: at_ns.saturating_sub(NEAR_NS), to_ns: at_ns.saturating_add(NEAR_NS) };
    let mut samples = samples(catalog, near, at_ns, host).await?;
    if samples.is_empty()
        && let Some(cube) = nearest_cube(catalog, at_ns, host)?
    {
        samples = self::samples(catalog, cube, at_ns, host).await?;
    }
    let none = || RawValue::from_string("[]".into()).map_err(|error| Error::Engine(error.to_string()));
    let Some(time_ns) = samples.iter().map(|(_, time_ns)| *time_ns).max() else {
        return Ok(Moment { at: at_ns / 1_000_000, time: None, hosts: none()?, processes: none()? });
    };

    // Rows of processes that ended in the interval carry the time of their end.
    let interval = |(host, end_ns): &(String, i64)| {
        let range = Range { from_ns: end_ns - WINDOW_NS + 1, to_ns: end_ns + 1 };
        col("host").eq(lit(host.clone())).and(range.holds("time"))
    };
    let intervals = samples.iter().map(interval).reduce(Expr::or).unwrap_or_else(|| lit(false));
    let most_cpu_first = vec![
        (col("cpu_user_ns") + col("cpu_system_ns")).sort(false, false),
        col("rss_bytes").sort(false, false),
        col("pid").sort(true, false),
    ];
    let processes = catalog.table("processes").await?;
    let processes = processes.filter(intervals.clone()).and_then(|frame| frame.sort(most_cpu_first)).map_err(engine)?;
    let hosts = catalog.table("hosts").await?;
    let hosts = hosts
        .filter(intervals)
        .and_then(|frame| frame.sort(vec![col("host").sort(true, false), col("time").sort(true, false)]))
        .map_err(engine)?;
    let rows = |answer: crate::catalog::Answer| {
        output::json_rows(&answer.batches).map_err(|error| Error::Engine(error.to_string()))
    };
    Ok(Moment {
        at: at_ns / 1_000_000,
        time: Some(time_ns / 1_000_000),
        hosts: rows(catalog.collect(hosts).await?)?,
        processes: rows(catalog.collect(processes).await?)?,
    })
}

/// For each host the end of the interval that holds the moment; or else of the last one before it, or else of the first
/// one after it.
async fn samples(catalog: &Catalog, range: Range, at_ns: i64, host: Option<&str>) -> Result<Vec<(String, i64)>, Error> {
    let mut frame = catalog.table("processes").await?;
    frame = frame.filter(range.holds("time").and(col("exited").eq(lit(false)))).map_err(engine)?;
    if let Some(host) = host {
        frame = frame.filter(col("host").eq(lit(host))).map_err(engine)?;
    }
    let after = min(col("time")).filter(col("time").gt_eq(time(at_ns))).build().map_err(engine)?;
    let before = max(col("time")).filter(col("time").lt(time(at_ns))).build().map_err(engine)?;
    let frame =
        frame.aggregate(vec![col("host")], vec![after.alias("after"), before.alias("before")]).map_err(engine)?;
    let answer = catalog.collect(frame).await?;
    let (after, before) = (times(&answer, "after")?, times(&answer, "before")?);
    let ends = after.into_iter().zip(before).map(|(after, before)| match (after, before) {
        (after, 0) => after,
        (after, _) if after != 0 && after - at_ns < WINDOW_NS => after,
        (_, before) => before,
    });
    Ok(texts(&answer, "host")?.into_iter().zip(ends).collect())
}

/// The time of the cube of process samples that lies nearest to the moment.
fn nearest_cube(catalog: &Catalog, at_ns: i64, host: Option<&str>) -> Result<Option<Range>, Error> {
    let files = hitscope_history::list(catalog.data_dir(), "processes", 0..u64::MAX)?;
    let starts =
        files.iter().filter(|file| host.is_none_or(|host| file.host == host)).map(|file| file.cube_start_ns as i64);
    let cube = |from_ns| Range { from_ns, to_ns: from_ns + CUBE_NS as i64 };
    let distance = |cube: &Range| (cube.from_ns - at_ns).max(at_ns - cube.to_ns).max(0);
    Ok(starts.map(cube).min_by_key(distance))
}

/// One process: its pid and when it started, since a pid is used again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Host; none when there is only one.
    pub host: Option<String>,
    /// Pid.
    pub pid: u32,
    /// In ns since the epoch, as in its rows.
    pub start_time_ns: i64,
}

/// What one process used over time, one element of each list for each step.
#[derive(Debug, Serialize)]
pub struct History {
    /// Start of the first step, in ms since the epoch.
    pub from: i64,
    /// End of the last, in ms since the epoch.
    pub to: i64,
    /// Length of a step, in ms.
    pub step_ms: i64,
    /// `time` is the start of a step, in ms since the epoch; the other lists are named as in the table.
    pub columns: serde_json::Map<String, serde_json::Value>,
}

/// Columns that add up over the samples of a step.
const SUMMED: [&str; 12] = [
    "interval_ns",
    "cpu_user_ns",
    "cpu_system_ns",
    "runqueue_ns",
    "read_bytes",
    "written_bytes",
    "received_bytes",
    "sent_bytes",
    "minor_faults",
    "major_faults",
    "voluntary_switches",
    "involuntary_switches",
];
/// Columns of which the largest counts.
const LARGEST: [&str; 6] = ["rss_bytes", "pss_bytes", "swap_bytes", "virtual_bytes", "threads", "open_files"];

/// One process over a range of time. The step is in ns; none leaves it to the length of the range.
pub async fn history(
    catalog: &Catalog,
    process: &Identity,
    range: Range,
    step_ns: Option<i64>,
) -> Result<History, Error> {
    let step_ns = range.step_ns(step_ns)?;
    let mut condition = col("pid").eq(lit(process.pid)).and(col("start_time").eq(time(process.start_time_ns)));
    if let Some(host) = &process.host {
        condition = condition.and(col("host").eq(lit(host.clone())));
    }
    // A sample's time is the interval's end, which belongs to the step before it.
    let samples = Range { from_ns: range.from_ns.saturating_add(1), to_ns: range.to_ns.saturating_add(1) };
    let step = lit(ScalarValue::new_interval_mdn(0, 0, step_ns));
    let interval_start = col("time") - lit(ScalarValue::new_interval_mdn(0, 0, 1));
    let sums = SUMMED.into_iter().map(|name| sum(col(name)).alias(name));
    let largest = LARGEST.into_iter().map(|name| max(col(name)).alias(name));
    let frame = catalog.table("processes").await?;
    let frame = frame
        .filter(condition.and(samples.holds("time")))
        .and_then(|frame| {
            frame.aggregate(vec![date_bin(step, interval_start, time(0)).alias("step")], sums.chain(largest).collect())
        })
        .and_then(|frame| frame.sort(vec![col("step").sort(true, false)]))
        .map_err(engine)?;
    let answer = catalog.collect(frame).await?;

    let mut columns = serde_json::Map::new();
    let steps: Vec<i64> = times(&answer, "step")?.into_iter().map(|step| step / 1_000_000).collect();
    columns.insert("time".into(), steps.into());
    for name in SUMMED.into_iter().chain(LARGEST) {
        columns.insert(name.into(), unsigned(&answer, name)?.into());
    }
    Ok(History { from: range.from_ns / 1_000_000, to: range.to_ns / 1_000_000, step_ms: step_ns / 1_000_000, columns })
}
