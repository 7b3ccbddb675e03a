//! What the pages show, each asked of the catalog.

pub mod alerts;
pub mod cubes;
pub mod hitmap;
pub mod hits;
pub mod processes;

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, TimeUnit, TimestampNanosecondType, UInt64Type},
};
use datafusion::{
    error::DataFusionError,
    prelude::{Expr, col, lit},
    scalar::ScalarValue,
};

use serde::{Deserialize, Serialize};

use crate::catalog::{Answer, Error};

/// The length of a hitmap window, and of a process sample's interval, in ns.
pub const WINDOW_NS: i64 = 5_000_000_000;
/// At most this many columns or points are given when the step is not asked for.
const COLUMNS: i64 = 720;
/// No answer has more columns or points than this.
const MOST_COLUMNS: i64 = 20_000;
/// Steps to choose from, in s.
const STEPS_S: [i64; 12] = [5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400];

/// A half-open range of time, in ns since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first moment.
    pub from_ns: i64,
    /// The first moment after it.
    pub to_ns: i64,
}

impl Range {
    /// The length of the range's columns: what was asked for, in whole windows, or what gives a readable number of them.
    pub fn step_ns(&self, asked_ns: Option<i64>) -> Result<i64, Error> {
        let length_ns = self.to_ns.saturating_sub(self.from_ns);
        let step_ns = match asked_ns {
            Some(asked_ns) => asked_ns.max(1).saturating_add(WINDOW_NS - 1) / WINDOW_NS * WINDOW_NS,
            None => {
                let fits = |step_s: &&i64| length_ns / (*step_s * 1_000_000_000) <= COLUMNS;
                STEPS_S.iter().find(fits).unwrap_or(&STEPS_S[STEPS_S.len() - 1]) * 1_000_000_000
            }
        };
        if length_ns / step_ns > MOST_COLUMNS {
            return Err(Error::Sql {
                message: format!("the range has more than {MOST_COLUMNS} steps of {} s", step_ns / 1_000_000_000),
                hint: Some("ask for a longer step or a shorter range".into()),
            });
        }
        Ok(step_ns)
    }

    /// The condition that a column of time lies in the range.
    pub fn holds(&self, column: &str) -> Expr {
        col(column).gt_eq(time(self.from_ns)).and(col(column).lt(time(self.to_ns)))
    }
}

/// Which hits or processes; what is none is not filtered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filter {
    /// Host.
    pub host: Option<String>,
    /// Service.
    pub service: Option<String>,
    /// Protocol.
    pub protocol: Option<String>,
    /// Side.
    pub side: Option<String>,
}

impl Filter {
    fn holds(&self) -> impl Iterator<Item = Expr> {
        let columns =
            [("host", &self.host), ("service", &self.service), ("protocol", &self.protocol), ("side", &self.side)];
        columns.into_iter().filter_map(|(column, value)| value.as_ref().map(|value| col(column).eq(lit(value.clone()))))
    }
}

/// A moment in a query.
fn time(time_ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(time_ns), Some("UTC".into())))
}

fn engine(error: DataFusionError) -> Error {
    Error::Engine(error.strip_backtrace())
}

fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef, Error> {
    let column = batch.column_by_name(name).ok_or_else(|| Error::Engine(format!("the answer has no `{name}`")))?;
    cast(column, data_type).map_err(|error| Error::Engine(error.to_string()))
}

/// A column's numbers; none where null.
fn unsigned(answer: &Answer, name: &str) -> Result<Vec<Option<u64>>, Error> {
    let mut values = Vec::with_capacity(answer.rows());
    for batch in &answer.batches {
        values.extend(column(batch, name, &DataType::UInt64)?.as_primitive::<UInt64Type>().iter());
    }
    Ok(values)
}

/// A column's times, in ns since the epoch; 0 where null.
fn times(answer: &Answer, name: &str) -> Result<Vec<i64>, Error> {
    let mut values = Vec::with_capacity(answer.rows());
    for batch in &answer.batches {
        let column = column(batch, name, &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))?;
        values.extend(column.as_primitive::<TimestampNanosecondType>().iter().map(Option::unwrap_or_default));
    }
    Ok(values)
}

/// A column's texts; empty where null.
fn texts(answer: &Answer, name: &str) -> Result<Vec<String>, Error> {
    let mut values = Vec::with_capacity(answer.rows());
    for batch in &answer.batches {
        let column = column(batch, name, &DataType::Utf8)?;
        values.extend(column.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_whole_windows_and_few_enough() {
        let range = |seconds: i64| Range { from_ns: 0, to_ns: seconds * 1_000_000_000 };
        assert_eq!(range(600).step_ns(None).unwrap(), WINDOW_NS);
        assert_eq!(range(3600).step_ns(None).unwrap(), WINDOW_NS);
        assert_eq!(range(86_400).step_ns(None).unwrap(), 120_000_000_000);
        assert_eq!(range(600).step_ns(Some(7_000_000_000)).unwrap(), 2 * WINDOW_NS);
        assert_eq!(range(600).step_ns(Some(0)).unwrap(), WINDOW_NS);
        assert!(range(86_400 * 30).step_ns(Some(1)).unwrap_err().hint().is_some());
    }
}
