//! How figures and tables are written for people.

use std::fmt::Write;

/// `15.2 MiB`
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `3 d 4 h`, `5 min 2 s`, `4.2 s`: the two largest units.
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{:.1} s", ns as f64 / 1e9),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Rows in columns that are as wide as they must be; the last one is not padded.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(20 << 30)], ["0 B", "1023 B", "1.5 KiB", "20.0 GiB"]);
        let seconds = |seconds: u64| duration(seconds * 1_000_000_000);
        assert_eq!(duration(4_210_000_000), "4.2 s");
        assert_eq!([seconds(302), seconds(11_100), seconds(273_600)], ["5 min 2 s", "3 h 5 min", "3 d 4 h"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "bé".into(), "c".into()], vec!["long".into(), "b".into()], vec![]];
        assert_eq!(columns(&rows), "a     bé  c\nlong  b\n\n");
    }
}
