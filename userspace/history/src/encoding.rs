//! How closed cubes are encoded. `examples/size.rs` measures what it comes to.

use arrow::datatypes::DataType;
use hitscope_schemas::tables::{Table, VERSION_KEY};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
    },
    schema::types::ColumnPath,
};

/// Key of the metadata that says how many parts of the open cube went into the file: those numbered below.
pub(crate) const PARTS_KEY: &str = "hitscope.parts";

/// Rows of a row group: what is held back, encoded, while a file is written.
const ROW_GROUP_ROWS: usize = 64 * 1024;
/// Rows of a page: what is decoded to get at one row. Half as many make files 2 % larger and are read no faster.
const PAGE_ROWS: usize = 16 * 1024;
/// Higher levels win nothing on columns of measures.
const ZSTD_LEVEL: i32 = 6;
/// A column of numbers is encoded by a dictionary until that is larger.
const NUMBER_DICTIONARY_BYTES: usize = 1024;
/// After so many values it is looked at how large the dictionary is.
const WRITE_BATCH_ROWS: usize = 256;

/// Properties of a closed cube's file.
pub(crate) fn properties(table: &Table, parts: u32) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_sorting_columns(Some(sorting(table)))
        .set_created_by(concat!("hitscope ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata(Some(vec![
            KeyValue::new(VERSION_KEY.into(), table.version.to_string()),
            KeyValue::new(PARTS_KEY.into(), parts.to_string()),
        ]));
    for column in &table.columns {
        let path = ColumnPath::from(column.name);
        let ascends = table.sort.first() == Some(&column.name);
        let encoding = match column.field.data_type() {
            // Measures have some leading bytes that are much alike and some trailing ones that are noise: apart from each
            // other they take less than the bits of their differences.
            DataType::UInt64 | DataType::Timestamp(..) if !ascends => Some(Encoding::BYTE_STREAM_SPLIT),
            DataType::UInt64 | DataType::Timestamp(..) | DataType::UInt32 | DataType::Int32 => {
                Some(Encoding::DELTA_BINARY_PACKED)
            }
            _ => None,
        };
        if let Some(encoding) = encoding {
            properties = properties
                .set_column_encoding(path.clone(), encoding)
                .set_column_dictionary_page_size_limit(path.clone(), NUMBER_DICTIONARY_BYTES);
        }
        if column.name == table.time || table.sort.contains(&column.name) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Page);
        }
    }
    Ok(properties.build())
}

fn sorting(table: &Table) -> Vec<SortingColumn> {
    let position = |name: &&str| table.columns.iter().position(|column| column.name == *name);
    // No column that is sorted by is nested, so that a column's position is its leaf's.
    let positions = table.sort.iter().filter_map(position).filter_map(|index| i32::try_from(index).ok());
    positions.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true }).collect()
}
