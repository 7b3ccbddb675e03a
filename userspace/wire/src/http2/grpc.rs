//! What gRPC puts into the fields of HTTP/2: its [protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).

/// `application/grpc`, alone or with more: `+proto`, `-web`, `;charset`.
pub fn is_content_type(value: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    value.get(..TYPE.len()).is_some_and(|value| value.eq_ignore_ascii_case(TYPE))
        && value.get(TYPE.len()).is_none_or(|next| matches!(next, b'+' | b'-' | b';' | b' '))
}

/// A DATA frame of `length` bytes begins with a message: compressed or not, and its length.
pub fn is_message(data: &[u8], length: u32) -> bool {
    let &[0 | 1, a, b, c, d, ..] = data else { return false };
    u32::from_be_bytes([a, b, c, d]).checked_add(5).is_some_and(|size| size <= length)
}

const NAMES: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub const OK: u16 = 0;

/// A status as its name, or as a number where it has none.
pub fn status_name(status: u16) -> String {
    NAMES.get(usize::from(status)).map_or_else(|| status.to_string(), |name| (*name).to_owned())
}

/// What clients make of an answer without a `grpc-status`, by its HTTP status.
pub fn status_of_http(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The text of a `grpc-message`, in which what is not printable ASCII is percent-encoded.
pub fn message(value: &[u8]) -> String {
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                text.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => {
                text.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC;charset=utf-8", true),
            ("application/grpc-web+proto", true),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_content_type(value.as_bytes()), is, "{value}");
        }
    }

    #[test]
    fn messages_are_decoded() {
        assert_eq!(message(b"no%20such%3A %C3%A4%"), "no such: ä%");
        assert_eq!(message(b"%zz%4"), "%zz%4");
        assert_eq!(message(b"%ff"), "\u{fffd}");
    }

    #[test]
    fn names() {
        assert_eq!((status_name(5).as_str(), status_name(99).as_str()), ("NOT_FOUND", "99"));
    }
}
