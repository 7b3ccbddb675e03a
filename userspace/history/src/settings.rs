//! `[history]` of the configuration, and the units that durations and sizes are written in.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::folder::Access;

/// How long and how much history is kept, and who may read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Cubes older than this are evicted.
    #[serde(serialize_with = "write_duration", deserialize_with = "read_duration")]
    pub max_age: Duration,
    /// Where all closed cubes of this host hold more, the oldest are evicted.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub max_bytes: u64,
    /// Who may read; not part of the configuration file.
    #[serde(skip)]
    pub access: Access,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(30 * 86_400), max_bytes: 20 << 30, access: Access::default() }
    }
}

impl Settings {
    /// Nothing is evicted, however old and much: for replays.
    pub fn keep_all() -> Self {
        Self { max_age: Duration::MAX, max_bytes: u64::MAX, access: Access::default() }
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
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &DURATIONS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration: write a number and d, h, m, s or ms, such as \"30s\""))
}

/// Reads a size such as `20GiB`, `500MB`, `4096B`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    parse(text, &SIZES)
        .ok_or_else(|| format!("{text:?} is not a size: write a number and TiB, GiB, MiB, KiB or B, such as \"20GiB\""))
}

/// Writes a duration as [`parse_duration`] reads it.
pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// Writes a size as [`parse_bytes`] reads it.
pub fn format_bytes(bytes: u64) -> String {
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

fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn write_bytes<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_bytes(*bytes))
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    parse_bytes(&String::deserialize(deserializer)?).map_err(D::Error::custom)
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
    fn settings_keep_their_values_and_refuse_unknown_keys() {
        let settings = Settings { max_bytes: 5 << 20, ..Settings::default() };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"max_age":"30d","max_bytes":"5MiB"}"#);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<Settings>(r#"{"max_size": "1B"}"#).is_err());
    }
}
