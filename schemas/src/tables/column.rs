//! The kinds of column: which Rust value, which Arrow type, and how values become an array.

use std::{sync::Arc, vec::Vec};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int32Array, ListBuilder, PrimitiveArray, StringArray,
        StringDictionaryBuilder, TimestampNanosecondArray, UInt64Builder,
    },
    datatypes::{DataType, Field, Int32Type, TimeUnit, UInt16Type, UInt32Type, UInt64Type},
};

use super::text::printable;

/// A kind of column.
pub trait Column {
    /// A row's value.
    type Value: 'static;
    /// Whether it may be null.
    const NULLABLE: bool = false;
    /// Arrow's type.
    fn data_type() -> DataType;
    /// Values in their order.
    fn array<'a>(values: impl ExactSizeIterator<Item = &'a Self::Value>) -> ArrayRef;
}

/// A kind whose values may be missing.
pub trait Optional: Column {
    /// Values in their order.
    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self::Value>>) -> ArrayRef;
}

/// May be null.
pub struct Opt<T>(core::marker::PhantomData<T>);

impl<T: Optional> Column for Opt<T> {
    type Value = Option<T::Value>;
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        T::data_type()
    }
    fn array<'a>(values: impl ExactSizeIterator<Item = &'a Self::Value>) -> ArrayRef {
        T::optional_array(values.map(Option::as_ref))
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $value:ty = $data_type:expr, |$values:ident| $array:expr;)*) => {$(
        $(#[$doc])*
        pub struct $kind;
        impl Optional for $kind {
            fn optional_array<'a>($values: impl ExactSizeIterator<Item = Option<&'a $value>>) -> ArrayRef {
                Arc::new($array)
            }
        }
        impl Column for $kind {
            type Value = $value;
            fn data_type() -> DataType {
                $data_type
            }
            fn array<'a>(values: impl ExactSizeIterator<Item = &'a $value>) -> ArrayRef {
                Self::optional_array(values.map(Some))
            }
        }
    )*};
}

kinds! {
    /// Wall clock, ns since the epoch.
    Timestamp: i64 = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        |values| values.map(|value| value.copied()).collect::<TimestampNanosecondArray>().with_timezone("UTC");
    /// Unsigned, 64 bits.
    U64: u64 = DataType::UInt64, |values| values.map(|value| value.copied()).collect::<PrimitiveArray<UInt64Type>>();
    /// Unsigned, 32 bits.
    U32: u32 = DataType::UInt32, |values| values.map(|value| value.copied()).collect::<PrimitiveArray<UInt32Type>>();
    /// Yes or no.
    Bool: bool = DataType::Boolean, |values| values.map(|value| value.copied()).collect::<BooleanArray>();
    /// Unsigned, 16 bits.
    U16: u16 = DataType::UInt16, |values| values.map(|value| value.copied()).collect::<PrimitiveArray<UInt16Type>>();
    /// Signed, 32 bits.
    I32: i32 = DataType::Int32, |values| values.map(|value| value.copied()).collect::<Int32Array>();
    /// Floating point.
    F64: f64 = DataType::Float64, |values| values.map(|value| value.copied()).collect::<Float64Array>();
    /// Text that repeats: dictionary-encoded.
    Text: Arc<str> = DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()), |values| {
        let mut builder = StringDictionaryBuilder::<Int32Type>::new();
        values.for_each(|value| builder.append_option(value.map(|text| printable(text, false))));
        builder.finish()
    };
    /// Text that seldom repeats.
    LongText: Arc<str> = DataType::Utf8, |values| values.map(|value| value.map(|text| printable(text, true))).collect::<StringArray>();
    /// Counts by bucket; trailing empty buckets left off.
    Histogram: Vec<u64> = DataType::List(Arc::new(Field::new_list_field(DataType::UInt64, true))), |values| {
        let mut builder = ListBuilder::new(UInt64Builder::new());
        values.for_each(|value| builder.append_option(value.map(|counts| counts.iter().copied().map(Some))));
        builder.finish()
    };
}

/// The type as a SQL user would name it.
pub fn sql_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Timestamp(..) => "timestamp(ns, UTC)",
        DataType::UInt64 => "unsigned bigint",
        DataType::UInt32 => "unsigned int",
        DataType::UInt16 => "unsigned smallint",
        DataType::Int32 => "int",
        DataType::Boolean => "boolean",
        DataType::Float64 => "double",
        DataType::Dictionary(..) => "text, dictionary",
        DataType::List(_) => "list of unsigned bigint",
        _ => "text",
    }
}
