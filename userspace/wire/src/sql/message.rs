//! Error messages without the values that they quote.

/// Words before a quoted name, which stays: `relation "orders" does not exist`. What else is quoted is a value,
/// or may be: `invalid input syntax for type integer: "abc"`.
const NAMES: &[&str] = &[
    "aggregate",
    "attribute",
    "collation",
    "column",
    "constraint",
    "conversion",
    "cursor",
    "database",
    "domain",
    "encoding",
    "extension",
    "function",
    "index",
    "key",
    "language",
    "method",
    "object",
    "operator",
    "option",
    "parameter",
    "partition",
    "policy",
    "portal",
    "procedure",
    "publication",
    "relation",
    "role",
    "rule",
    "schema",
    "sequence",
    "server",
    "slot",
    "statement",
    "subscription",
    "table",
    "tablespace",
    "trigger",
    "type",
    "user",
    "variable",
    "view",
];

/// Opening quotes and what closes each; servers quote as their messages' language does.
const QUOTES: &[(char, &str)] =
    &[('"', "\""), ('\'', "'"), ('«', "»"), ('»', "«"), ('„', "“”"), ('“', "”"), ('`', "`'")];

/// `message` with every quoted value replaced by `?`, and what is not quoted where it looks like a value: four digits or more, an
/// address of mail, a long word of letters and digits.
///
/// Servers do not escape quotes inside a quoted value, so a value is taken to reach to the last closing quote.
pub fn strip_literals(message: &str) -> String {
    let mut stripped = String::with_capacity(message.len());
    let mut rest = message;
    loop {
        let opening = rest.char_indices().find_map(|(at, char)| {
            let (_, closing) = QUOTES.iter().find(|(open, _)| *open == char)?;
            // An apostrophe within a word quotes nothing.
            let apostrophe = char == '\'' && rest[..at].ends_with(char::is_alphanumeric);
            (!apostrophe).then_some((at, char, *closing))
        });
        let Some((at, char, closing)) = opening else {
            push_plain(&mut stripped, rest);
            return stripped;
        };
        push_plain(&mut stripped, &rest[..at]);
        let inner = at + char.len_utf8();
        let closes = |c: char| closing.contains(c);
        let before = rest[..at].trim_end().rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if NAMES.iter().any(|name| before.eq_ignore_ascii_case(name))
            && let Some(length) = rest[inner..].find(closes)
        {
            let end = inner + length + rest[inner + length..].chars().next().map_or(0, char::len_utf8);
            stripped.push_str(&rest[at..end]);
            rest = &rest[end..];
        } else {
            stripped.push_str(&rest[at..inner]);
            stripped.push('?');
            match rest[inner..].rfind(closes) {
                Some(length) => rest = &rest[inner + length..],
                None => return stripped,
            }
            let close = rest.chars().next().map_or(0, char::len_utf8);
            stripped.push_str(&rest[..close]);
            rest = &rest[close..];
        }
    }
}

/// A number of fewer digits is a line, a place or an amount.
const VALUE_DIGITS: usize = 4;
/// A word of letters and digits that is at least as long is no name.
const TOKEN_BYTES: usize = 20;

/// Adds what is not quoted.
fn push_plain(stripped: &mut String, text: &str) {
    let in_word = |char: char| char.is_alphanumeric() || matches!(char, '@' | '.' | '_' | '-' | '+');
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|char| !in_word(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let has = |is: fn(char) -> bool| word.contains(is);
        let mail = word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
        let token = word.len() >= TOKEN_BYTES && has(|c| c.is_ascii_digit()) && has(|c| c.is_ascii_alphabetic());
        if mail || token {
            stripped.push('?');
        } else {
            push_without_numbers(stripped, word);
        }
        let between = after.find(in_word).unwrap_or(after.len());
        stripped.push_str(&after[..between]);
        rest = &after[between..];
    }
}

fn push_without_numbers(stripped: &mut String, word: &str) {
    let mut rest = word;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - start);
        stripped.push_str(&rest[..start]);
        stripped.push_str(if digits < VALUE_DIGITS { &rest[start..start + digits] } else { "?" });
        rest = &rest[start + digits..];
    }
    stripped.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::strip_literals;

    #[test]
    fn values_go_and_names_stay() {
        for (message, stripped) in [
            ("invalid input syntax for type integer: \"abc\"", "invalid input syntax for type integer: \"?\""),
            ("invalid input syntax for type integer: \"a\"b\"", "invalid input syntax for type integer: \"?\""),
            ("relation \"orders\" does not exist", "relation \"orders\" does not exist"),
            ("column \"x\" of relation \"t\" does not exist", "column \"x\" of relation \"t\" does not exist"),
            (
                "duplicate key value violates unique constraint \"pk\"",
                "duplicate key value violates unique constraint \"pk\"",
            ),
            ("invalid value for parameter \"TimeZone\": \"Mars\"", "invalid value for parameter \"TimeZone\": \"?\""),
            ("syntax error at or near \"secret\"", "syntax error at or near \"?\""),
            ("unterminated quoted string at or near \"'secret", "unterminated quoted string at or near \"?"),
            ("ungültige Eingabesyntax für Typ integer: »abc«", "ungültige Eingabesyntax für Typ integer: »?«"),
            ("syntaxe en entrée invalide : « abc »", "syntaxe en entrée invalide : «?»"),
            ("Table 'shop.nope' doesn't exist", "Table 'shop.nope' doesn't exist"),
            ("Duplicate entry 'o'neil' for key 'PRIMARY'", "Duplicate entry '?'"),
            (
                "Incorrect integer value: 'abc' for column `shop`.`t`",
                "Incorrect integer value: '?' for column `shop`.`?`",
            ),
            ("card 4111111111111111 declined", "card ? declined"),
            ("no account for ann@shop.example, code 12", "no account for ?, code 12"),
            ("bad session kJ8xQ2wErT5yUi9OpA3sDfG7!", "bad session ?!"),
            ("relation \"orders_2024\" has 12345 rows", "relation \"orders_2024\" has ? rows"),
            ("größe 1234 — x", "größe ? — x"),
            ("can't do that", "can't do that"),
            ("division by zero", "division by zero"),
            ("", ""),
        ] {
            assert_eq!(strip_literals(message), stripped);
        }
    }
}
