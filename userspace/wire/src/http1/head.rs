//! Lines of a message's head, and what looks like one.
//!
//! Source: RFC 9112 (HTTP/1.1), sections 2 to 6; RFC 9110 for field names.

use crate::stream::Credit;

/// Which end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Requests.
    Client,
    /// Answers.
    Server,
}

/// Methods that a message is known by where it is not known that one begins: IANA's registry, and what is in use.
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"SEARCH",
    b"REPORT",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"CHECKOUT",
    b"MERGE",
    b"M-SEARCH",
    b"NOTIFY",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"PURGE",
    b"LINK",
    b"UNLINK",
    b"BIND",
    b"UNBIND",
    b"ACL",
    b"QUERY",
];
const MAX_METHOD_BYTES: usize = 24;
/// `HTTP/1.1 200`
const STATUS_BYTES: usize = 12;
/// Of a request line of which the end is not there yet, so much makes one.
const TELLING_BYTES: usize = 512;

/// A request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
}

fn is_version(bytes: &[u8]) -> bool {
    matches!(bytes, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1'])
}

/// Reads a request line without its line end. `cut`: its end, with the version, was not kept.
pub fn request_line(line: &[u8], cut: bool) -> Option<RequestLine<'_>> {
    let blank = line.iter().take(MAX_METHOD_BYTES + 1).position(|byte| *byte == b' ')?;
    let (method, rest) = (&line[..blank], &line[blank + 1..]);
    let target = if cut {
        rest
    } else {
        let blank = rest.len().checked_sub(9).filter(|at| rest[*at] == b' ')?;
        is_version(&rest[blank + 1..]).then_some(&rest[..blank])?
    };
    let fits = is_method(method) && !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    fits.then_some(RequestLine { method, target })
}

/// The status and the reason of a status line without its line end.
pub fn status_line(line: &[u8]) -> Option<(u16, &[u8])> {
    let (version, rest) = line.split_at_checked(8)?;
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else { return None };
    let reason = match reason {
        [] => reason,
        [b' ', reason @ ..] => reason,
        _ => return None,
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    is_version(version).then(|| (100 * digit(a) + 10 * digit(b) + digit(c), reason))
}

/// Whether a start line can begin so; `begun`: a message begins here for sure.
pub fn is_prefix(end: End, bytes: &[u8], begun: bool) -> bool {
    if begun && bytes == b"\r" {
        return true;
    }
    match end {
        End::Server => {
            let version = b"HTTP/1.";
            let common = bytes.len().min(version.len());
            bytes[..common] == version[..common]
        }
        End::Client => {
            let front = &bytes[..bytes.len().min(MAX_METHOD_BYTES + 1)];
            let method = front.split(|byte| *byte == b' ').next().unwrap_or_default();
            let blank = method.len() < front.len();
            match (begun, blank) {
                (true, true) => is_method(method),
                (true, false) => front.is_empty() || (front.len() <= MAX_METHOD_BYTES && is_method(front)),
                (false, true) => METHODS.contains(&method) && is_target(method, &bytes[method.len() + 1..]),
                (false, false) => METHODS.iter().any(|known| known.starts_with(method)),
            }
        }
    }
}

fn is_method(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether a target can begin so.
fn is_target(method: &[u8], bytes: &[u8]) -> bool {
    match bytes.first() {
        None | Some(b'/') => true,
        Some(b'*') => bytes.get(1).is_none_or(|byte| *byte == b' '),
        Some(_) if method == b"CONNECT" => bytes[0].is_ascii_alphanumeric() || bytes[0] == b'[',
        Some(_) => {
            let common = |scheme: &[u8]| bytes.len().min(scheme.len());
            [&b"http://"[..], b"https://"].iter().any(|scheme| bytes[..common(scheme)] == scheme[..common(scheme)])
        }
    }
}

/// Judges what may be the begin of a message; `total`: so many bytes are there, and a hole follows those captured.
pub fn credit(end: End, bytes: &[u8], total: Option<u64>) -> Credit {
    if !is_prefix(end, bytes, false) {
        return Credit::No;
    }
    let line_end = memchr::memchr(b'\n', &bytes[..bytes.len().min(64 << 10)]);
    let credible = match (end, line_end) {
        (End::Server, Some(at)) => status_line(without_return(&bytes[..at])).is_some(),
        (End::Server, None) if bytes.len() > STATUS_BYTES => status_line(&bytes[..STATUS_BYTES]).is_some(),
        (End::Client, Some(at)) => request_line(without_return(&bytes[..at]), false).is_some(),
        (End::Client, None) if bytes.len() >= TELLING_BYTES || (total.is_some() && bytes.len() >= 32) => {
            request_line(bytes, true).is_some()
        }
        (_, None) => return if total.is_none() { Credit::Maybe } else { Credit::No },
    };
    if credible { Credit::Yes } else { Credit::No }
}

/// A line without the CR at its end.
pub fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What a protocol is changed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    Websocket,
    /// HTTP/2 without TLS, or anything else.
    Other,
}

/// What the fields of a head say that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub content_length: Option<u64>,
    /// The body has a transfer coding, and whether that ends in `chunked`.
    pub chunked: Option<bool>,
    pub upgrade: Option<Upgrade>,
    /// The head was not seen to its end.
    pub cut: bool,
}

impl Fields {
    /// Takes a field line; hands back the value of `Host`. `false`: it contradicts itself.
    pub fn take<'a>(&mut self, line: &'a [u8]) -> (bool, Option<&'a [u8]>) {
        // Of other fields not even the colon is looked for.
        let name_bytes = match line.first() {
            Some(b'H' | b'h') => 4,
            Some(b'U' | b'u') => 7,
            Some(b'C' | b'c') => 14,
            Some(b'T' | b't') => 17,
            _ => return (true, None),
        };
        let Some((name, rest)) = line.split_at_checked(name_bytes) else { return (true, None) };
        let [b':', value @ ..] = rest else { return (true, None) };
        let value = value.trim_ascii();
        match name_bytes {
            4 if name.eq_ignore_ascii_case(b"host") => return (true, Some(value)),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                let websocket = value.len() >= 9 && value[..9].eq_ignore_ascii_case(b"websocket");
                self.upgrade = Some(if websocket { Upgrade::Websocket } else { Upgrade::Other });
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let Some(length) = length(value) else { return (false, None) };
                if self.content_length.is_some_and(|before| before != length) {
                    return (false, None);
                }
                self.content_length = Some(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                self.chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
            }
            _ => {}
        }
        (true, None)
    }
}

/// A length; a list of the same one (`5, 5`) is that one (RFC 9110, 8.6).
fn length(value: &[u8]) -> Option<u64> {
    let mut lengths = value.split(|byte| *byte == b',').map(|value| {
        let digits = value.trim_ascii();
        let number = |number: u64, digit: &u8| {
            number.checked_mul(10)?.checked_add(u64::from(digit.is_ascii_digit().then(|| digit - b'0')?))
        };
        (!digits.is_empty()).then(|| digits.iter().try_fold(0, number))?
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// The size in a chunk's first line, which may have extensions; `None`: it is none.
pub fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = without_return(line);
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if !(1..=15).contains(&digits) || !matches!(line.get(digits), None | Some(b';' | b' ' | b'\t')) {
        return None;
    }
    line[..digits].iter().try_fold(0_u64, |size, digit| Some(size << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_lines() {
        let line = request_line(b"GET /a?b HTTP/1.1", false).unwrap();
        assert_eq!((line.method, line.target), (&b"GET"[..], &b"/a?b"[..]));
        for not in [&b"GET /a"[..], b"GET  HTTP/1.1", b"GET /a HTTP/2.0", b"GET /a b HTTP/1.1", b"", b" / HTTP/1.1"] {
            assert_eq!(request_line(not, false), None, "{}", String::from_utf8_lossy(not));
        }
        assert_eq!(request_line(b"GET /long", true).unwrap().target, b"/long");
        assert_eq!(status_line(b"HTTP/1.1 404 Not Found"), Some((404, &b"Not Found"[..])));
        assert_eq!(status_line(b"HTTP/1.0 200"), Some((200, &b""[..])));
        for not in [&b"HTTP/1.1 40"[..], b"HTTP/1.1 4040", b"HTTP/2 200", b"HTTP/1.1 000 x", b""] {
            assert_eq!(status_line(not), None);
        }
    }

    #[test]
    fn what_looks_like_a_message() {
        use Credit::{Maybe, No, Yes};
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Yes),
            (b"GET / HTTP/1.1\nHost", Yes),
            (b"CONNECT example.org:443 HTTP/1.1\r\n", Yes),
            (b"OPTIONS * HTTP/1.1\r\n", Yes),
            (b"GET http://example.org/ HTTP/1.0\r\n", Yes),
            (b"", Maybe),
            (b"G", Maybe),
            (b"GET /abc", Maybe),
            (b"GET key\r\n", No),
            (b"GET / HTTP/2\r\n", No),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", No),
            (b"OPTIONS rtsp://x RTSP/1.0\r\n", No),
            (b"INVITE sip:x SIP/2.0\r\n", No),
            (b"*1\r\n$4\r\nPING\r\n", No),
        ] {
            assert_eq!(credit(End::Client, bytes, None), expected, "{}", String::from_utf8_lossy(bytes));
        }
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Yes),
            (b"HTTP/1.1 200 O", Yes),
            (b"HTTP/1.", Maybe),
            (b"HTTP/2 200\r\n", No),
            (b"HTTP/1.1 abc\r\n", No),
            (b"SSH-2.0-x\r\n", No),
        ] {
            assert_eq!(credit(End::Server, bytes, None), expected, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(credit(End::Client, b"GET /a/long/path/that/goes/on/and/on", Some(9000)), Yes);
        assert_eq!(credit(End::Client, b"GET /a", Some(9000)), No);
    }

    #[test]
    fn fields_that_matter() {
        let mut fields = Fields::default();
        for line in
            ["Host: a:80", "host:b", "Cookie: x", "Content-Length: 5, 5", "content-length:5", "Upgrade: WebSocket"]
        {
            assert!(fields.take(line.as_bytes()).0, "{line}");
        }
        assert_eq!(fields.take(b"HOST:  x ").1, Some(&b"x"[..]));
        let expected = Fields { content_length: Some(5), upgrade: Some(Upgrade::Websocket), ..Fields::default() };
        assert_eq!(fields, expected);
        for line in
            ["Content-Length: 6", "Content-Length: -1", "Content-Length:", "Content-Length: 99999999999999999999"]
        {
            assert!(!fields.take(line.as_bytes()).0, "{line}");
        }
        fields.take(b"Transfer-Encoding: gzip, Chunked");
        assert_eq!(fields.chunked, Some(true));
        fields.take(b"Transfer-Encoding: gzip");
        assert_eq!(fields.chunked, Some(false));
    }

    #[test]
    fn chunk_sizes() {
        assert_eq!(chunk_size(b"1aF\r"), Some(0x1af));
        assert_eq!(chunk_size(b"0;name=value"), Some(0));
        for not in [&b""[..], b"\r", b"xyz", b"12345678901234567", b"5x"] {
            assert_eq!(chunk_size(not), None);
        }
    }
}
