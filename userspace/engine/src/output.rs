//! Rows as a table for the terminal, CSV, JSON, Parquet or an Arrow stream; one set of writers for the command line
//! and the API.
//!
//! JSON is one array of row objects. Timestamps are RFC 3339 with all their nanoseconds, missing values are `null`, and
//! an integer beyond ±(2^53 − 1) is a string, so that no reader rounds it.

use std::{io::Write, str::FromStr, sync::Arc};

use arrow::{
    array::{Array, AsArray, PrimitiveArray, RecordBatch},
    compute::cast,
    csv,
    datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt64Type},
    error::ArrowError,
    ipc,
    json::{
        Encoder, EncoderFactory, EncoderOptions, WriterBuilder,
        writer::{JsonArray, NullableEncoder},
    },
    util::pretty::pretty_format_batches_with_schema,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

/// The largest integer that every JSON reader keeps exact.
const EXACT: u64 = (1 << 53) - 1;

/// A form that rows can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// With a header line.
    Csv,
    /// One array of row objects.
    Json,
    /// A Parquet file, zstd.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

/// The format has another name.
#[derive(Debug, thiserror::Error)]
#[error("unknown format `{0}`; it is one of table, csv, json, parquet, arrow")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Ok(match name {
            "table" => Self::Table,
            "csv" => Self::Csv,
            "json" => Self::Json,
            "parquet" => Self::Parquet,
            "arrow" => Self::Arrow,
            other => return Err(UnknownFormat(other.into())),
        })
    }
}

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value has no place in the format, or the output is closed.
    #[error("cannot write the rows: {0}")]
    Arrow(#[from] ArrowError),
    /// The same for Parquet.
    #[error("cannot write the rows: {0}")]
    Parquet(#[from] ParquetError),
    /// The output is closed or full.
    #[error("cannot write the rows: {0}")]
    Io(#[from] std::io::Error),
}

enum Kind<W: Write + Send> {
    Table { output: W, schema: SchemaRef, batches: Vec<RecordBatch> },
    Csv(Box<csv::Writer<W>>),
    Json(arrow::json::Writer<W, JsonArray>),
    Parquet(Box<ArrowWriter<W>>),
    Arrow(ipc::writer::StreamWriter<W>),
}

/// Writes batches of rows in one format.
pub struct Writer<W: Write + Send>(Kind<W>);

impl<W: Write + Send> Writer<W> {
    /// A writer of rows with the given columns. A table is only written at the end, since its widths depend on all rows.
    pub fn new(format: Format, schema: &SchemaRef, output: W) -> Result<Self, Error> {
        Ok(Self(match format {
            Format::Table => Kind::Table { output, schema: schema.clone(), batches: Vec::new() },
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(output);
                // So that the header is there when no rows are.
                writer.write(&flat(&RecordBatch::new_empty(schema.clone()))?)?;
                Kind::Csv(Box::new(writer))
            }
            Format::Json => Kind::Json(json(output)),
            Format::Parquet => {
                let properties =
                    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                Kind::Parquet(Box::new(ArrowWriter::try_new(output, schema.clone(), Some(properties))?))
            }
            Format::Arrow => Kind::Arrow(ipc::writer::StreamWriter::try_new(output, schema)?),
        }))
    }

    /// Writes the rows of a batch.
    pub fn write(&mut self, batch: RecordBatch) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Table { batches, .. } => batches.push(batch),
            Kind::Csv(writer) => writer.write(&flat(&batch)?)?,
            Kind::Json(writer) => writer.write(&batch)?,
            Kind::Parquet(writer) => writer.write(&batch)?,
            Kind::Arrow(writer) => writer.write(&batch)?,
        }
        Ok(())
    }

    /// Writes what belongs at the end.
    pub fn finish(self) -> Result<(), Error> {
        match self.0 {
            Kind::Table { mut output, schema, batches } => {
                let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
                writeln!(output, "{}", pretty_format_batches_with_schema(schema, &batches)?)?;
                writeln!(output, "{rows} {}", if rows == 1 { "row" } else { "rows" })?;
                output.flush()?;
            }
            Kind::Csv(writer) => writer.into_inner().flush()?,
            Kind::Json(mut writer) => {
                writer.finish()?;
                let mut output = writer.into_inner();
                output.write_all(b"\n")?;
                output.flush()?;
            }
            Kind::Parquet(writer) => writer.into_inner()?.flush()?,
            Kind::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?.flush()?;
            }
        }
        Ok(())
    }
}

/// Rows as one JSON array, a piece for each batch, so that a large answer need not be held twice.
pub fn json_pieces(batches: Vec<RecordBatch>) -> impl Iterator<Item = Result<Vec<u8>, ArrowError>> {
    let mut writer = json(Vec::new());
    let mut batches = batches.into_iter();
    let mut finished = false;
    std::iter::from_fn(move || {
        if finished {
            return None;
        }
        let written = match batches.next() {
            Some(batch) => writer.write(&batch),
            None => {
                finished = true;
                writer.finish()
            }
        };
        Some(written.map(|()| std::mem::take(writer.get_mut())))
    })
}

/// Rows as JSON values.
pub fn json_rows(batches: &[RecordBatch]) -> Result<Box<serde_json::value::RawValue>, ArrowError> {
    let mut writer = json(Vec::new());
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).map_err(|error| ArrowError::ExternalError(error.into()))?;
    serde_json::value::RawValue::from_string(text).map_err(|error| ArrowError::ExternalError(error.into()))
}

fn json<W: Write>(output: W) -> arrow::json::Writer<W, JsonArray> {
    WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(ExactIntegers)).build(output)
}

#[derive(Debug)]
struct ExactIntegers;

impl EncoderFactory for ExactIntegers {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::UInt64 => Box::new(Integers(array.as_primitive::<UInt64Type>())),
            DataType::Int64 => Box::new(Integers(array.as_primitive::<Int64Type>())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Integers<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Into<i128>>> Encoder for Integers<'_, T> {
    fn encode(&mut self, index: usize, output: &mut Vec<u8>) {
        let value: i128 = self.0.value(index).into();
        let exact = value.unsigned_abs() <= u128::from(EXACT);
        let written = if exact { write!(output, "{value}") } else { write!(output, "\"{value}\"") };
        written.expect("a vector takes all bytes");
    }
}

/// The batch with its lists as text, which CSV has no other form for.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if schema.fields().iter().all(|field| !field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let nested = field.data_type().is_nested();
        fields.push(if nested { Field::new(field.name(), DataType::Utf8, true).into() } else { field.clone() });
        columns.push(if nested { cast(column, &DataType::Utf8)? } else { column.clone() });
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, ListArray, StringArray, TimestampNanosecondArray, UInt64Array};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([
            (
                "time",
                Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789; 2]).with_timezone("UTC")) as _,
                false,
            ),
            ("id", Arc::new(UInt64Array::from(vec![EXACT, EXACT + 1])) as _, false),
            ("name", Arc::new(StringArray::from(vec![Some("a \"b\","), None])) as _, true),
            ("share", Arc::new(Float64Array::from(vec![0.5, f64::NAN])) as _, false),
            (
                "counts",
                Arc::new(ListArray::from_iter_primitive::<UInt64Type, _, _>([
                    Some(vec![Some(1), Some(u64::MAX)]),
                    Some(vec![]),
                ])) as _,
                false,
            ),
        ])
        .unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(format, &batch().schema(), &mut bytes).unwrap();
        for batch in batches {
            writer.write(batch.clone()).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn json_keeps_nanoseconds_and_large_integers() {
        let rows: serde_json::Value = serde_json::from_slice(&written(Format::Json, &[batch(), batch()])).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 4);
        assert_eq!(
            rows[0],
            serde_json::json!({
                "time": "2023-11-14T22:13:20.123456789Z", "id": EXACT, "name": "a \"b\",", "share": 0.5,
                "counts": [1, "18446744073709551615"],
            })
        );
        assert_eq!(rows[1]["id"], "9007199254740992");
        assert!(rows[1]["name"].is_null() && rows[1]["share"].is_null());
        assert_eq!(written(Format::Json, &[]), b"[]\n");
    }

    #[test]
    fn pieces_make_the_same_json() {
        let whole: Vec<u8> = json_pieces(vec![batch(), batch()]).flat_map(Result::unwrap).collect();
        assert_eq!([whole, b"\n".to_vec()].concat(), written(Format::Json, &[batch(), batch()]));
        let none: Vec<u8> = json_pieces(Vec::new()).flat_map(Result::unwrap).collect();
        assert_eq!(none, b"[]");
        assert_eq!(json_rows(&[]).unwrap().get(), "[]");
    }

    #[test]
    fn csv_has_one_header_and_lists_as_text() {
        let text = String::from_utf8(written(Format::Csv, &[batch(), batch()])).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], "time,id,name,share,counts");
        assert!(lines[1].contains("\"a \"\"b\"\",\"") && lines[1].contains("\"[1, 18446744073709551615]\""));
        assert_eq!(written(Format::Csv, &[]), b"time,id,name,share,counts\n");
    }

    #[test]
    fn a_table_says_how_many_rows_it_has() {
        let text = String::from_utf8(written(Format::Table, &[batch()])).unwrap();
        assert!(text.contains("2023-11-14T22:13:20.123456789Z") && text.ends_with("\n2 rows\n"), "{text}");
        let text = String::from_utf8(written(Format::Table, &[])).unwrap();
        assert!(text.contains("| time | id |") && text.ends_with("\n0 rows\n"), "{text}");
    }

    #[test]
    fn parquet_and_arrow_come_back_as_they_were() {
        let bytes = bytes::Bytes::from(written(Format::Parquet, &[batch()]));
        let read: Vec<_> =
            ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().map(Result::unwrap).collect();
        assert_eq!(read[0].columns()[..3], batch().columns()[..3]);
        let bytes = written(Format::Arrow, &[batch()]);
        let read: Vec<_> =
            ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read[0].columns()[..3], batch().columns()[..3]);
    }

    #[test]
    fn an_unknown_format_lists_the_known_ones() {
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert!(error.contains("`xml`") && error.contains("parquet"), "{error}");
    }
}
