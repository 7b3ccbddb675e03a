//! Sizes and spans of time as people write them, in the configuration, on the command line and in addresses.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! written {
    ($($(#[$doc:meta])* $name:ident($value:ty): $parse:path, $format:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $value);

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                $parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&$format(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

written! {
    /// A duration, written as a number with its unit: `250ms`, `30s`, `5m`, `1h`, `7d`.
    Span(Duration): parse_duration, format_duration;
    /// A size, written as a number with its unit: `96MiB`.
    Size(u64): parse_bytes, format_bytes;
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Also from a bare number, which is bytes: so the configuration's first sizes were written.
impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl de::Visitor<'_> for Written {
            type Value = Size;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size, such as \"20GiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom(format!("{bytes} is not a size: it is negative")))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl Size {
    /// For what is kept in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a duration such as `30d`, `12h`, `1m`, `30s`, `250ms`.
///
/// # Errors
/// A sentence that says what is expected.
fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &DURATIONS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration: write a number and d, h, m, s or ms, such as \"30s\""))
}

/// Reads a size such as `20GiB`, `500MB`, `4096B`.
///
/// # Errors
/// A sentence that says what is expected.
fn parse_bytes(text: &str) -> Result<u64, String> {
    parse(text, &SIZES)
        .ok_or_else(|| format!("{text:?} is not a size: write a number and TiB, GiB, MiB, KiB or B, such as \"20GiB\""))
}

/// Writes a duration as `parse_duration` reads it.
fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// Writes a size as `parse_bytes` reads it.
fn format_bytes(bytes: u64) -> String {
    format(bytes, &SIZES)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// In the largest unit that leaves no remainder.
fn format(value: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) =
        units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor)).unwrap_or(&units[units.len() - 1]);
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_as_they_are_written() {
        for text in ["30d", "36h", "90m", "45s", "250ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["20GiB", "3MiB", "1000B", "0B", "1TiB"] {
            let bytes = parse_bytes(text).unwrap();
            assert_eq!(parse_bytes(&format_bytes(bytes)).unwrap(), bytes, "{text}");
        }
        assert_eq!(parse_bytes("20 GiB").unwrap(), 20 << 30);
        for text in ["", "d", "30", "30x", "-1d", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_and_sizes_are_written_as_they_are_read() {
        assert_eq!(serde_json::from_str::<Span>("\"90s\"").unwrap(), Span(Duration::from_secs(90)));
        assert_eq!(serde_json::to_string(&Size(96 << 20)).unwrap(), "\"96MiB\"");
        assert!(serde_json::from_str::<Span>("\"soon\"").is_err());
    }

    #[test]
    fn a_size_may_be_a_bare_number_of_bytes() {
        assert_eq!(serde_json::from_str::<Size>("8388608").unwrap(), Size(8 << 20));
        assert_eq!(serde_json::from_str::<Size>("\"8MiB\"").unwrap(), Size(8 << 20));
        assert!(serde_json::from_str::<Size>("-1").unwrap_err().to_string().contains("negative"));
        assert!(serde_json::from_str::<Size>("true").unwrap_err().to_string().contains("such as"));
    }
}
