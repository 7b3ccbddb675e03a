//! What of a path's segment is a name, and what an id.

use super::push;

/// A longer segment is no name.
const MAX_NAME_BYTES: usize = 64;

/// Appends `segment` with what is an id in it folded.
pub fn fold(text: &mut String, segment: &[u8]) {
    let end = segment.iter().position(|byte| *byte == b';').unwrap_or(segment.len());
    let segment = &segment[..end];
    if segment.is_empty() {
        return;
    }
    if let Some(placeholder) = whole(segment) {
        return text.push_str(placeholder);
    }
    if is_version(segment) {
        return push(text, segment);
    }
    let mut rest = segment;
    while !rest.is_empty() {
        let length = rest.iter().position(|byte| is_separator(*byte)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(length);
        fold_part(text, part);
        let separators = after.iter().position(|byte| !is_separator(*byte)).unwrap_or(after.len());
        push(text, &after[..separators]);
        rest = &after[separators..];
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.' | b'~' | b':' | b',' | b'=' | b'+' | b'@' | b'!' | b'(' | b')')
}

/// What a whole segment stands for, if it is no name.
fn whole(segment: &[u8]) -> Option<&'static str> {
    let bare = segment.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or(segment);
    if is_uuid(bare) {
        return Some("{uuid}");
    }
    if !segment.iter().any(u8::is_ascii_alphabetic) && segment.iter().any(u8::is_ascii_digit) {
        // Numbers, dates, coordinates, versions.
        return Some("{id}");
    }
    if is_hash(segment) {
        return Some("{hash}");
    }
    if is_email(segment) {
        return Some("{email}");
    }
    (segment.len() > MAX_NAME_BYTES || is_token(segment)).then_some("{token}")
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(segment: &[u8]) -> bool {
    segment.len() == 36
        && segment.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// At least 8 hexadecimal digits; a word is none (`deadbeef`, `facade`), unless it is a long one.
fn is_hash(segment: &[u8]) -> bool {
    let hex = segment.strip_prefix(b"0x").unwrap_or(segment);
    hex.len() >= 8 && hex.iter().all(u8::is_ascii_hexdigit) && (hex.iter().any(u8::is_ascii_digit) || hex.len() >= 16)
}

/// `name@host.domain`; not `@name`.
fn is_email(segment: &[u8]) -> bool {
    let at = segment.iter().position(|byte| *byte == b'@').map(|at| (at, at + 1));
    let encoded = || segment.windows(3).position(|window| window == b"%40").map(|at| (at, at + 3));
    let Some((name, host)) = at.or_else(encoded) else { return false };
    name > 0 && segment[host..].contains(&b'.')
}

/// Letters and digits mixed as no name mixes them, and long: base64, ULID, JWT, nanoid.
fn is_token(segment: &[u8]) -> bool {
    if is_random_letters(segment) {
        return true;
    }
    let in_alphabet =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=' | b'+' | b'~' | b':');
    let unpadded = segment.len() - segment.iter().rev().take_while(|byte| **byte == b'=').count();
    if unpadded < 16 || !segment.iter().all(in_alphabet) {
        return false;
    }
    let digits = segment.iter().any(u8::is_ascii_digit);
    let both_cases = segment.iter().any(u8::is_ascii_lowercase) && segment.iter().any(u8::is_ascii_uppercase);
    let in_one = !segment[..unpadded].iter().any(|byte| is_separator(*byte));
    mixes(segment) >= 4 || (digits && both_cases && in_one && unpadded >= 20)
}

/// Letters alone, of both cases as no name has them: `kJxQwErTyU`. In a name, large letters begin words or stand together.
fn is_random_letters(segment: &[u8]) -> bool {
    if segment.len() < 10 || !segment.iter().all(u8::is_ascii_alphabetic) {
        return false;
    }
    let large = segment.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let changes = segment.windows(2).filter(|two| two[0].is_ascii_uppercase() != two[1].is_ascii_uppercase()).count();
    (3 * segment.len()..=7 * segment.len()).contains(&(10 * large)) && 10 * changes >= 4 * (segment.len() - 1)
}

/// How often a letter follows a digit or the other way round.
fn mixes(bytes: &[u8]) -> usize {
    let mixed = |pair: &&[u8]| match **pair {
        [a, b] => (a.is_ascii_digit() && b.is_ascii_alphabetic()) || (a.is_ascii_alphabetic() && b.is_ascii_digit()),
        _ => false,
    };
    bytes.windows(2).filter(mixed).count()
}

/// `v1`, `v1.2`, `v1beta1`: which API it is.
fn is_version(segment: &[u8]) -> bool {
    segment.len() <= 12
        && matches!(segment, [b'v' | b'V', digit, ..] if digit.is_ascii_digit())
        && segment[1..].split(|byte| *byte == b'.').all(|part| part.len() <= 4 || mixes(part) == 2)
}

fn fold_part(text: &mut String, part: &[u8]) {
    let digits = part.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == part.len() && digits > 0 {
        text.push_str("{id}");
    } else if is_hash(part) {
        text.push_str("{hash}");
    } else if mixes(part) >= 3 && part.len() >= 6 && !part.contains(&b'%') {
        text.push_str("{id}");
    } else if digits >= 4 && !part.contains(&b'%') {
        push(text, &part[..part.len() - digits]);
        text.push_str("{id}");
    } else {
        push(text, part);
    }
}
