//! Which cubes can hold rows that a query asks for, told from their names: host, date and time.

use std::{collections::HashSet, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Date32Array, StringArray, TimestampNanosecondArray},
    datatypes::SchemaRef,
};
use datafusion::{
    catalog::Session,
    common::{Column, DFSchema, pruning::PruningStatistics},
    error::Result,
    logical_expr::{
        BinaryExpr, Expr, Operator,
        utils::{conjunction, split_conjunction},
    },
    physical_optimizer::pruning::PruningPredicateBuilder,
    scalar::ScalarValue,
};
use hitscope_history::{CUBE_NS, HistoryFile};

const DAY_NS: u64 = 86_400_000_000_000;

/// The `date` of a cube, in days since the epoch.
pub fn day(file: &HistoryFile) -> i32 {
    (file.cube_start_ns / DAY_NS) as i32
}

/// Drops the files that cannot hold a row that passes all filters.
pub fn retain(
    files: &mut Vec<HistoryFile>,
    filters: &[Expr],
    schema: &SchemaRef,
    time: &str,
    session: &dyn Session,
) -> Result<()> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(()) };
    let filter = session.create_physical_expr(filter, &DFSchema::try_from(schema.clone())?)?;
    // A filter that tells nothing about files is not an error: they are all read then.
    let predicate = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(filter);
    let Ok(predicate) = predicate else { return Ok(()) };
    let mut keep = predicate.prune(&Names { files, time })?.into_iter();
    files.retain(|_| keep.next().unwrap_or(true));
    Ok(())
}

/// The times that simple conditions on the column of time leave, in ns since the epoch, so that only their days' folders
/// are listed.
pub fn times(filters: &[Expr], time: &str) -> Range<u64> {
    let mut times = 0..u64::MAX;
    for filter in filters.iter().flat_map(split_conjunction) {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { continue };
        let (column, op, value) = match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => (column, Some(*op), value),
            (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap(), value),
            _ => continue,
        };
        let ScalarValue::TimestampNanosecond(Some(value), _) = value else { continue };
        let value = u64::try_from(*value).unwrap_or(0);
        match op {
            _ if column.name() != time => {}
            Some(Operator::Gt | Operator::GtEq) => times.start = times.start.max(value),
            Some(Operator::Lt | Operator::LtEq) => times.end = times.end.min(value.saturating_add(1)),
            Some(Operator::Eq) => {
                times = times.start.max(value)..times.end.min(value.saturating_add(1));
            }
            _ => {}
        }
    }
    times
}

struct Names<'a> {
    files: &'a [HistoryFile],
    time: &'a str,
}

impl Names<'_> {
    fn bound(&self, column: &Column, time_ns: impl Fn(u64) -> u64) -> Option<ArrayRef> {
        match column.name() {
            "host" => Some(Arc::new(StringArray::from_iter_values(self.files.iter().map(|file| &file.host)))),
            "date" => Some(Arc::new(Date32Array::from_iter_values(self.files.iter().map(day)))),
            name if name == self.time => {
                let times = self.files.iter().map(|file| time_ns(file.cube_start_ns) as i64);
                Some(Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")))
            }
            _ => None,
        }
    }
}

impl PruningStatistics for Names<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |start| start)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |start| start + CUBE_NS - 1)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
