//! What a server sends, as values of RESP2 and RESP3.

use super::requests::Credit;
use crate::segment::Moment;

/// Type bytes.
const KINDS: &[u8] = b"+-:$*_#,(!=%~>|;.";
/// Values are nested no deeper.
const MAX_DEPTH: usize = 64;
/// A line that holds a number is no longer.
const MAX_NUMBER: u64 = 64;
/// A line of text is no longer, bytes.
const MAX_LINE: u64 = 64 << 10;
/// Kept of an error.
const MAX_ERROR: usize = 512;
/// Kept of the first element, which tells the messages that nobody asked for.
const MAX_FIRST: usize = 16;
/// Elements of an aggregate at most, and bytes of a string.
const MAX_LENGTH: i64 = 1 << 32;
/// Kept of what may be the begin of a value after a hole.
const MAX_SOUGHT: usize = 1024;

/// A value that nothing encloses, whose last byte has passed.
pub struct Value<'a> {
    /// Its type byte.
    pub kind: u8,
    /// Elements of an aggregate (pairs of a map), 1 for a string, 0 for null.
    pub rows: Option<u64>,
    /// The front of the error that it is, or of its first element that is one.
    pub error: Option<&'a [u8]>,
    /// The error is an element's.
    pub within: bool,
    /// The front of the first element of an aggregate, or of a simple string.
    pub first: &'a [u8],
    /// When its last byte passed.
    pub last: &'a Moment,
    /// Where in the direction it ends.
    pub end: u64,
}

/// What the stream has to say.
pub enum Event<'a> {
    Value(Value<'a>),
    /// What came is no value.
    Unexpected,
    /// What came begins within something that was missed.
    Skipped,
}

/// What encloses values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    /// An aggregate with so many values to come, or as many as come.
    Aggregate(Option<u64>),
    /// Something about the value that follows.
    Attribute(u64),
    /// A string in chunks.
    Chunks,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Looking for a value. `front`: the bytes kept may begin with one.
    Seek {
        front: bool,
    },
    Line,
    /// Within a string: bytes left of it with its line end.
    Body {
        left: u64,
        keep: Keep,
    },
}

/// What is kept of a string.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keep {
    Nothing,
    First,
    Error,
}

/// The outermost value.
#[derive(Debug, Default)]
struct Top {
    /// 0: none has begun.
    kind: u8,
    rows: Option<u64>,
    /// Elements begun.
    elements: u64,
    first: [u8; MAX_FIRST],
    first_len: usize,
    failed: bool,
    within: bool,
}

/// The server's direction of a connection.
#[derive(Debug)]
pub struct Values {
    state: State,
    levels: Vec<Level>,
    /// The begin of a line that has not ended, or what may be the begin of a value.
    line: Vec<u8>,
    line_bytes: u64,
    top: Top,
    error: Vec<u8>,
    /// Bytes that went by.
    position: u64,
}

impl Values {
    pub fn new() -> Self {
        Self {
            state: State::Seek { front: true },
            levels: Vec::new(),
            line: Vec::new(),
            line_bytes: 0,
            top: Top::default(),
            error: Vec::new(),
            position: 0,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.levels.capacity() * size_of::<Level>() + self.line.capacity() + self.error.capacity()
    }

    /// Bytes that went by.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Rows of the value that has begun and not ended; of a large aggregate they are known before its end.
    pub fn begun(&self) -> Option<Option<u64>> {
        (self.top.kind != 0).then_some(self.top.rows)
    }

    /// Whether more elements are waited for.
    pub fn within_aggregate(&self) -> bool {
        self.state == State::Line && !self.levels.is_empty()
    }

    /// The value that has begun does not end.
    pub fn give_up(&mut self) {
        self.lose();
        self.forget();
    }

    /// Here a value may begin.
    pub fn turn(&mut self) {
        if let State::Seek { front } = &mut self.state {
            *front = true;
            self.line.clear();
        }
    }

    /// Takes captured bytes.
    pub fn data(&mut self, mut bytes: &[u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        while !bytes.is_empty() {
            match self.state {
                State::Seek { front } => return self.seek(bytes, front, moment, on),
                State::Line => bytes = self.line(bytes, moment, on),
                State::Body { left, keep } => bytes = self.body(bytes, left, keep, moment, on),
            }
        }
    }

    /// Takes note of bytes that did not come, by `call`: of the present call; `false`: values were missed. Then nothing is taken for a value up to the
    /// next [`Self::turn`].
    pub fn gap(&mut self, bytes: Option<u64>, call: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> bool {
        self.position = self.position.wrapping_add(bytes.unwrap_or_default());
        match (self.state, bytes) {
            (State::Body { left, .. }, Some(bytes)) if bytes < left + u64::from(call) => {
                self.state = State::Body { left: left - bytes, keep: Keep::Nothing };
                if left == bytes {
                    self.end_body(moment, on);
                }
                true
            }
            _ => {
                self.lose();
                false
            }
        }
    }

    /// Forgets the value that has begun.
    pub fn forget(&mut self) {
        self.levels.clear();
        self.top = Top::default();
    }

    fn lose(&mut self) {
        self.state = State::Seek { front: false };
        self.line.clear();
        self.line_bytes = 0;
    }

    fn line<'a>(&mut self, bytes: &'a [u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        self.position = self.position.wrapping_add(line.len() as u64);
        let good = if end.is_some() && self.line.is_empty() {
            self.take(line, true, moment, on)
        } else {
            self.line_bytes += line.len() as u64;
            let room = (MAX_ERROR + 3).saturating_sub(self.line.len());
            self.line.extend_from_slice(&line[..line.len().min(room)]);
            let total = std::mem::take(&mut self.line_bytes);
            let text = matches!(self.line.first(), Some(b'+' | b'-' | b'('));
            let limit = if text { MAX_LINE } else { MAX_NUMBER };
            if total > limit || !self.line.first().is_some_and(|kind| KINDS.contains(kind)) {
                false
            } else if end.is_some() {
                let mut line = std::mem::take(&mut self.line);
                let good = self.take(&line, line.len() as u64 == total, moment, on);
                line.clear();
                self.line = line;
                good
            } else {
                self.line_bytes = total;
                true
            }
        };
        if !good {
            self.lose();
            on(Event::Unexpected);
        }
        rest
    }

    /// Takes a line, or the front of a long one; `false`: it is none of a server.
    fn take(&mut self, line: &[u8], whole: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> bool {
        let line = if whole { line.strip_suffix(b"\r\n") } else { Some(line) };
        let Some((&kind, text)) = line.and_then(|line| line.split_first()) else { return false };
        match self.levels.last() {
            Some(Level::Chunks) => return self.chunk(kind, text, moment, on),
            None if kind != b'|' => self.top = Top { kind, ..Top::default() },
            _ => {}
        }
        let about = matches!(self.levels.last(), Some(Level::Attribute(_)));
        let depth = if about { usize::MAX } else { self.levels.len() };
        let first = depth == 1 && self.top.elements == 0;
        self.top.elements += u64::from(depth == 1 && kind != b'.');
        match kind {
            b'+' | b'-' => {
                if text.contains(&b'\r') {
                    return false;
                }
                if kind == b'-' && self.fails(depth) {
                    self.keep(Keep::Error, text);
                } else if depth == 0 || first {
                    self.keep(Keep::First, text);
                }
            }
            b':' | b'_' | b'#' | b',' | b'(' => {
                if !scalar(kind, text, whole) {
                    return false;
                }
                if depth == 0 && kind == b'_' {
                    self.top.rows = Some(0);
                }
            }
            b'$' | b'=' | b'!' => {
                let length = number(text);
                if depth == 0 && kind != b'!' {
                    self.top.rows = Some(u64::from(length != Some(-1)));
                }
                match length {
                    Some(length @ 0..=MAX_LENGTH) => {
                        let keep = match kind {
                            b'!' if self.fails(depth) => Keep::Error,
                            _ if first => Keep::First,
                            _ => Keep::Nothing,
                        };
                        self.state = State::Body { left: length as u64 + 2, keep };
                        return true;
                    }
                    Some(-1) if kind == b'$' => {}
                    None if text == b"?" && kind == b'$' => return self.open(Level::Chunks),
                    _ => return false,
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let attribute = kind == b'|';
                let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                let count = match number(text) {
                    Some(count @ 0..=MAX_LENGTH) => count as u64,
                    Some(-1) if kind == b'*' => 0,
                    None if text == b"?" && !attribute => return self.open(Level::Aggregate(None)),
                    _ => return false,
                };
                if depth == 0 && !attribute {
                    self.top.rows = Some(count);
                }
                match (attribute, count) {
                    (true, 0) => return true,
                    (true, _) => return self.open(Level::Attribute(count * each)),
                    (false, 0) => {}
                    (false, _) => return self.open(Level::Aggregate(Some(count * each))),
                }
            }
            b'.' if text.is_empty() => match self.levels.pop() {
                Some(Level::Aggregate(None)) => {}
                _ => return false,
            },
            _ => return false,
        }
        self.end_value(moment, on);
        true
    }

    /// The header of a string's chunk; an empty one ends the string.
    fn chunk(&mut self, kind: u8, text: &[u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> bool {
        match number(text) {
            Some(0) if kind == b';' => {
                self.levels.pop();
                self.end_value(moment, on);
            }
            Some(length @ 1..=MAX_LENGTH) if kind == b';' => {
                self.state = State::Body { left: length as u64 + 2, keep: Keep::Nothing };
            }
            _ => return false,
        }
        true
    }

    fn open(&mut self, level: Level) -> bool {
        self.levels.push(level);
        self.levels.len() <= MAX_DEPTH
    }

    /// Takes note of an error; whether its text is to be kept.
    fn fails(&mut self, depth: usize) -> bool {
        let fails = depth <= 1 && !self.top.failed;
        if fails {
            self.top.failed = true;
            self.top.within = depth == 1;
            self.error.clear();
        }
        fails
    }

    fn keep(&mut self, keep: Keep, text: &[u8]) {
        match keep {
            Keep::Nothing => {}
            Keep::First => {
                let Top { first, first_len, .. } = &mut self.top;
                let take = text.len().min(MAX_FIRST - *first_len);
                first[*first_len..][..take].copy_from_slice(&text[..take]);
                *first_len += take;
            }
            Keep::Error => {
                let take = text.len().min(MAX_ERROR - self.error.len());
                self.error.extend_from_slice(&text[..take]);
            }
        }
    }

    fn body<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        keep: Keep,
        moment: &Moment,
        on: &mut dyn FnMut(Event<'_>),
    ) -> &'a [u8] {
        let (now, rest) = bytes.split_at(left.min(bytes.len() as u64) as usize);
        self.position = self.position.wrapping_add(now.len() as u64);
        let text = left.saturating_sub(2).min(now.len() as u64) as usize;
        self.keep(keep, &now[..text]);
        let line_end = &b"\r\n"[2 - (left - text as u64).min(2) as usize..];
        if !line_end.starts_with(&now[text..]) {
            self.lose();
            on(Event::Unexpected);
            return rest;
        }
        let left = left - now.len() as u64;
        self.state = State::Body { left, keep };
        if left == 0 {
            self.end_body(moment, on);
        }
        rest
    }

    fn end_body(&mut self, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        self.state = State::Line;
        if self.levels.last() != Some(&Level::Chunks) {
            self.end_value(moment, on);
        }
    }

    /// A value ended, and with it what encloses it where it was the last one there.
    fn end_value(&mut self, last: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        while let Some(level) = self.levels.last_mut() {
            let (Level::Aggregate(Some(left)) | Level::Attribute(left)) = level else { return };
            *left -= 1;
            if *left > 0 {
                return;
            }
            if let Some(Level::Attribute(_)) = self.levels.pop() {
                return;
            }
        }
        let Top { kind, rows, first, first_len, failed, within, elements } = std::mem::take(&mut self.top);
        // Of an aggregate that did not say.
        let rows = rows.or(matches!(kind, b'*' | b'~' | b'>').then_some(elements));
        let value = Value {
            kind,
            rows,
            error: failed.then_some(&self.error),
            within,
            first: &first[..first_len],
            last,
            end: self.position,
        };
        on(Event::Value(value));
    }

    /// Looks for the begin of a value, at the front of a call alone: within a large answer anything may look like one.
    fn seek(&mut self, bytes: &[u8], front: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        let kept = std::mem::take(&mut self.line);
        let credit = match (front, kept.is_empty()) {
            (false, _) => Credit::No,
            (true, true) => credit(bytes, &mut |_| {}),
            (true, false) => credit(&[&kept, bytes].concat(), &mut |_| {}),
        };
        match credit {
            Credit::Yes => {
                self.forget();
                self.line_bytes = 0;
                self.state = State::Line;
                self.position = self.position.wrapping_sub(kept.len() as u64);
                self.data(&kept, moment, on);
                self.data(bytes, moment, on);
            }
            Credit::Maybe if kept.len() + bytes.len() <= MAX_SOUGHT => {
                self.position = self.position.wrapping_add(bytes.len() as u64);
                self.line = kept;
                self.line.extend_from_slice(bytes);
            }
            _ => {
                self.position = self.position.wrapping_add(bytes.len() as u64);
                self.state = State::Seek { front: false };
                if front {
                    on(Event::Skipped);
                }
            }
        }
    }
}

/// Whether bytes are values, the last one perhaps not to its end; `each` gets the whole ones.
pub fn credit(bytes: &[u8], each: &mut dyn FnMut(&Value<'_>)) -> Credit {
    let mut values = Values { state: State::Line, ..Values::new() };
    let (mut unexpected, mut ended) = (false, false);
    values.data(bytes, &Moment::default(), &mut |event| match event {
        Event::Value(value) => {
            ended = true;
            each(&value);
        }
        Event::Unexpected | Event::Skipped => unexpected = true,
    });
    // What ends within a line may turn out to be none; what went before it counts.
    let begun = ended || !values.levels.is_empty();
    match values.state {
        _ if unexpected => Credit::No,
        State::Line if !values.line.is_empty() && !begun => Credit::Maybe,
        _ if bytes.is_empty() => Credit::Maybe,
        _ => Credit::Yes,
    }
}

fn scalar(kind: u8, text: &[u8], whole: bool) -> bool {
    match kind {
        b':' => number(text).is_some(),
        b'_' => text.is_empty(),
        b'#' => matches!(text, b"t" | b"f"),
        b'(' => {
            let digits = text.strip_prefix(b"-").unwrap_or(text);
            !digits.is_empty() && digits.iter().all(|byte| byte.is_ascii_digit() || (!whole && *byte == b'\r'))
        }
        _ => !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)),
    }
}

/// A decimal number as the protocol writes it.
pub fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_i64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_sub(digit)
    })?;
    if negative { Some(value) } else { value.checked_neg() }
}
