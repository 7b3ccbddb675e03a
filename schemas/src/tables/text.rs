//! The door to every stored text: what a stranger wrote must not steer the terminal of who reads it.

use std::{borrow::Cow, string::String};

/// The text with what steers a terminal, or turns the direction of reading, replaced by U+FFFD. `lines`: may have line ends and
/// tabs.
pub fn printable(text: &str, lines: bool) -> Cow<'_, str> {
    if text.chars().all(|letter| stays(letter, lines)) {
        return Cow::Borrowed(text);
    }
    let replaced: String =
        text.chars().map(|letter| if stays(letter, lines) { letter } else { char::REPLACEMENT_CHARACTER }).collect();
    Cow::Owned(replaced)
}

fn stays(letter: char, lines: bool) -> bool {
    match letter {
        '\n' | '\t' => lines,
        ' '..='~' => true,
        // The marks that change direction (Unicode, UAX #9), and the two that end a line.
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        _ => !letter.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        assert_eq!(printable("api-\u{1b}[2J\u{7}x\u{9b}1m\u{7f}", false), "api-\u{fffd}[2J\u{fffd}x\u{fffd}1m\u{fffd}");
        assert_eq!(printable("evil\u{202e}txt.exe\u{2066}", false), "evil\u{fffd}txt.exe\u{fffd}");
        assert_eq!(printable("a\nb\tc\r", false), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(printable("a\nb\tc\r", true), "a\nb\tc\u{fffd}");
        for text in ["", "postgresql@15-main", "größe — 値 🦀"] {
            assert!(matches!(printable(text, false), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
