//! Combines the partial rows of one key into one row.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListBuilder, PrimitiveArray, RecordBatch, UInt32Array, UInt64Builder},
    compute::take,
    datatypes::{DataType, UInt64Type},
    error::ArrowError,
};
use hitscope_schemas::tables::{Role, Table};

/// One row for each run of rows with equal keys; `starts` says where each begins, and is empty only if the batch is.
///
/// # Errors
/// Where a column that merges is neither an unsigned number of 64 bits nor a list of them.
pub(crate) fn combine(table: &Table, batch: &RecordBatch, starts: &[u32]) -> Result<RecordBatch, ArrowError> {
    if starts.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    let firsts = UInt32Array::from(starts.to_vec());
    let groups = Groups { starts, end: batch.num_rows() };
    let columns = table.columns.iter().zip(batch.columns()).map(|(column, array)| -> Result<ArrayRef, ArrowError> {
        match (column.role, array.data_type()) {
            (Role::Key, _) => take(array, &firsts, None),
            (role, DataType::UInt64) => {
                let values: &PrimitiveArray<UInt64Type> = array.as_primitive();
                let merged = groups.iter().map(|rows| {
                    rows.filter(|row| values.is_valid(*row)).map(|row| values.value(row)).reduce(|a, b| match role {
                        Role::Key | Role::Sum => a.saturating_add(b),
                        Role::Min => a.min(b),
                        Role::Max => a.max(b),
                    })
                });
                Ok(Arc::new(merged.collect::<PrimitiveArray<UInt64Type>>()))
            }
            (Role::Sum, DataType::List(_)) => Ok(sum_lists(array, &groups)),
            (role, other) => {
                Err(ArrowError::NotYetImplemented(format!("{role:?} of column {} of type {other}", column.name)))
            }
        }
    });
    RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)
}

struct Groups<'a> {
    starts: &'a [u32],
    end: usize,
}

impl Groups<'_> {
    fn iter(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let ends = self.starts.iter().skip(1).map(|start| *start as usize).chain([self.end]);
        self.starts.iter().zip(ends).map(|(start, end)| *start as usize..end)
    }
}

/// Element by element; a shorter list counts as zeros.
fn sum_lists(array: &ArrayRef, groups: &Groups<'_>) -> ArrayRef {
    let lists = array.as_list::<i32>();
    let mut merged = ListBuilder::new(UInt64Builder::new());
    let mut sums: Vec<u64> = Vec::new();
    for rows in groups.iter() {
        sums.clear();
        let mut null = true;
        for row in rows.filter(|row| lists.is_valid(*row)) {
            null = false;
            let list = lists.value(row);
            let counts = list.as_primitive::<UInt64Type>();
            sums.resize(sums.len().max(counts.len()), 0);
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.saturating_add(count.unwrap_or(0));
            }
        }
        merged.append_option((!null).then(|| sums.iter().copied().map(Some)));
    }
    Arc::new(merged.finish())
}

#[cfg(test)]
mod tests {
    use hitscope_schemas::tables::{self, Operation, Row, Syscall};

    use super::*;
    use crate::testing::{operation, syscall};

    #[test]
    fn sums_add_extremes_stay_and_unknown_is_not_zero() {
        let row = |calls, min_ns, max_ns, cpu_ns, lock_ns| Operation {
            calls,
            min_ns,
            max_ns,
            cpu_ns,
            lock_ns,
            ..operation(0, "select ?")
        };
        let partial = [
            row(1, 5, 9, Some(1), None),
            row(2, 4, 7, None, None),
            row(u64::MAX, 6, 8, Some(2), None),
            row(1, 1, 1, None, Some(3)),
        ];
        let merged = combine(&Operation::table(), &Row::batch(&partial), &[0, 3]).unwrap();
        assert_eq!(merged, Row::batch(&[row(u64::MAX, 4, 9, Some(3), None), row(1, 1, 1, None, Some(3))]));
    }

    #[test]
    fn histograms_add_up_whatever_their_lengths() {
        let row = |histogram: &[u64]| Syscall { histogram: histogram.to_vec(), calls: 1, ..syscall(0, 1, "read") };
        let partial = [row(&[1, 2]), row(&[]), row(&[1, 1, 1])];
        let merged = combine(&Syscall::table(), &Row::batch(&partial), &[0]).unwrap();
        assert_eq!(merged, Row::batch(&[Syscall { calls: 3, errors: 0, total_ns: 3, ..row(&[2, 3, 1]) }]));
    }

    #[test]
    fn every_table_has_only_columns_that_can_merge() {
        for table in tables::all() {
            for column in &table.columns {
                let number = column.field.data_type() == &DataType::UInt64;
                let list = matches!(column.field.data_type(), DataType::List(_)) && column.role == Role::Sum;
                assert!(column.role == Role::Key || number || list, "{}.{}", table.name, column.name);
            }
        }
    }
}
