//! Times as people write them, on the command line and in addresses.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;

use crate::Span;

/// Wall clock in ns since the epoch.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// A text is no time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no time: write RFC 3339 (2026-01-31T12:00:00Z), a number since the epoch, `now`, or `-10m`")]
pub struct NoTime(String);

/// A time, in ns since the epoch: RFC 3339; a number since the epoch in s, ms, µs or ns, told by its size; `now`; or as
/// far before now as `-10m` or `now-10m` says.
pub fn parse(text: &str, now_ns: i64) -> Result<i64, NoTime> {
    let text = text.trim();
    let wrong = || NoTime(text.into());
    if text == "now" {
        return Ok(now_ns);
    }
    if text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().map_err(|_| wrong())?;
        // Until the year 5138 a number of seconds has at most 11 digits, one of milliseconds 14, of microseconds 17.
        let unit = match text.len() {
            ..=11 => 1_000_000_000,
            12..=14 => 1_000_000,
            15..=17 => 1_000,
            _ => 1,
        };
        return number.checked_mul(unit).ok_or_else(wrong);
    }
    if let Some(ago) = text.strip_prefix("now").unwrap_or(text).strip_prefix('-')
        && let Ok(Span(ago)) = ago.trim().parse()
    {
        return i64::try_from(ago.as_nanos()).ok().and_then(|ago| now_ns.checked_sub(ago)).ok_or_else(wrong);
    }
    // A `+` of a time zone that was not encoded arrives as a blank.
    let time =
        DateTime::parse_from_rfc3339(&text.replacen(' ', "+", 1)).or_else(|_| DateTime::parse_from_rfc3339(text));
    time.ok().and_then(|time| time.timestamp_nanos_opt()).ok_or_else(wrong)
}

/// A time as RFC 3339, to the second.
pub fn format_seconds(time_ns: i64) -> String {
    DateTime::from_timestamp_nanos(time_ns).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    #[test]
    fn times_in_every_form() {
        assert_eq!(parse("now", NOW), Ok(NOW));
        assert_eq!(parse("-10m", NOW), Ok(NOW - 600_000_000_000));
        assert_eq!(parse("now-1h", NOW), Ok(NOW - 3_600_000_000_000));
        for number in ["1700000000", "1700000000000", "1700000000000000", "1700000000000000000"] {
            assert_eq!(parse(number, 0), Ok(NOW));
        }
        assert_eq!(parse("2023-11-14T22:13:20Z", 0), Ok(NOW));
        assert_eq!(parse("2023-11-14T23:13:20.000000001+01:00", 0), Ok(NOW + 1));
        assert_eq!(parse("2023-11-14T23:13:20 01:00", 0), Ok(NOW));
    }

    #[test]
    fn what_is_no_time_says_what_would_be() {
        for text in [
            "",
            "yesterday",
            "-",
            "-10",
            "-10y",
            "99999999999999999999",
            "2023-13-01T00:00:00Z",
            "now+1h",
            "-999999999999d",
        ] {
            let error = parse(text, NOW).unwrap_err();
            assert!(error.to_string().contains("RFC 3339"), "{text}");
        }
    }
}
