//! What a client sends, as commands.

use super::{commands, values::number};
use crate::segment::Moment;

/// Arguments of a command that are kept, the name included, and bytes of all of them.
const MAX_ARGUMENTS: usize = 32;
const MAX_BYTES: usize = 4096;
/// The header of a command or argument is no longer.
const MAX_HEADER: usize = 32;
/// The server takes no longer inline command, bytes.
const MAX_INLINE: u64 = 64 << 10;
/// The server takes no longer argument where it is not configured to, bytes.
const MAX_ARGUMENT: u64 = 4 << 30;
/// Kept of what may be the begin of a command after a hole.
const MAX_SOUGHT: usize = 128;

/// The front of a command's arguments.
#[derive(Debug, Default)]
pub struct Arguments {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`, and whether it is there whole.
    ends: Vec<(usize, bool)>,
    /// How many there are, those not kept included.
    pub count: u64,
}

impl Arguments {
    /// The front of an argument; 0 is the command's name.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 { 0 } else { self.ends.get(index - 1)?.0 };
        self.bytes.get(start..self.ends.get(index)?.0)
    }

    /// An argument that is there whole.
    pub fn whole(&self, index: usize) -> Option<&[u8]> {
        self.get(index).filter(|_| self.ends.get(index).is_some_and(|end| end.1))
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.ends.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.count = 0;
    }
}

/// A command whose last byte has passed.
pub struct Command<'a> {
    pub arguments: &'a Arguments,
    pub bytes: u64,
    /// When its first byte passed.
    pub first: &'a Moment,
    /// When its last byte passed.
    pub last: &'a Moment,
    /// Its end was not captured, and passes later.
    pub cut: bool,
}

/// What the stream has to say.
pub enum Event<'a> {
    Command(Command<'a>),
    /// What came is no command.
    Unexpected,
    /// What came begins within something that was missed.
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Looking for a command. `front`: the bytes kept may begin with one.
    Seek { front: bool },
    /// A command begins.
    Begin,
    /// The header of an argument begins.
    Header,
    /// Within an argument: bytes left of it with its line end.
    Body { left: u64, holed: bool },
}

/// What bytes say about where they come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Credit {
    Yes,
    /// More bytes will tell.
    Maybe,
    No,
}

/// The client's direction of a connection.
#[derive(Debug)]
pub struct Requests {
    state: State,
    arguments: Arguments,
    /// Bytes kept of an argument at most.
    argument_bytes: usize,
    /// Arguments of the command that are still to come.
    left: u64,
    /// Bytes of the command so far.
    bytes: u64,
    first: Moment,
    /// The begin of a line that has not ended, or what may be the begin of a command.
    line: Vec<u8>,
    line_bytes: u64,
}

impl Requests {
    pub fn new(argument_bytes: usize) -> Self {
        Self {
            state: State::Seek { front: true },
            arguments: Arguments::default(),
            argument_bytes,
            left: 0,
            bytes: 0,
            first: Moment::default(),
            line: Vec::new(),
            line_bytes: 0,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let Arguments { bytes, ends, .. } = &self.arguments;
        bytes.capacity() + ends.capacity() * size_of::<(usize, bool)>() + self.line.capacity()
    }

    /// The server spoke in between: here a command may begin.
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
                State::Seek { front } => bytes = self.seek(bytes, front, moment, on),
                State::Body { left, holed } => bytes = self.body(bytes, left, holed, moment, on),
                State::Begin | State::Header => bytes = self.line(bytes, moment, on),
            }
        }
    }

    /// Takes note of bytes that did not come, by `call`: of the present call; `false`: commands were missed. What ended in
    /// another call may be answered by now.
    pub fn gap(&mut self, bytes: Option<u64>, call: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> bool {
        match (self.state, bytes) {
            (State::Body { left, .. }, Some(bytes)) if bytes < left + u64::from(call) => {
                self.bytes += bytes;
                self.state = State::Body { left: left - bytes, holed: true };
                if left == bytes {
                    self.end_argument(false, moment, on);
                }
                true
            }
            (State::Header | State::Body { .. }, Some(_)) if call && self.arguments.kept() > 0 => {
                // What command it is was there.
                let Self { arguments, bytes, first, .. } = self;
                on(Event::Command(Command { arguments, bytes: *bytes, first, last: moment, cut: true }));
                self.lose(false);
                false
            }
            _ => {
                self.lose(false);
                false
            }
        }
    }

    /// Whether its place in the stream is known.
    pub fn in_step(&self) -> bool {
        !matches!(self.state, State::Seek { .. })
    }

    fn lose(&mut self, front: bool) {
        self.state = State::Seek { front };
        self.line.clear();
        self.arguments.clear();
    }

    /// Takes a line, or what there is of it.
    fn line<'a>(&mut self, bytes: &'a [u8], moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        if self.state == State::Begin && self.line_bytes == 0 {
            self.first = *moment;
            self.bytes = 0;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        self.bytes += line.len() as u64;
        if end.is_some() && self.line.is_empty() {
            if !self.take(line, line.len() as u64, moment, on) {
                self.lose(false);
                on(Event::Unexpected);
            }
            return rest;
        }
        let inline = self.state == State::Begin && self.line.first().or(line.first()) != Some(&b'*');
        let (keep, limit) = if inline { (MAX_BYTES, MAX_INLINE) } else { (MAX_HEADER, MAX_HEADER as u64) };
        self.line_bytes += line.len() as u64;
        self.line.extend_from_slice(&line[..line.len().min(keep.saturating_sub(self.line.len()))]);
        let total = self.line_bytes;
        let mut good = total <= limit;
        if good && end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.line_bytes = 0;
            good = self.take(&line, total, moment, on);
            self.line = line;
            self.line.clear();
        }
        if !good {
            self.line_bytes = 0;
            self.lose(false);
            on(Event::Unexpected);
        }
        rest
    }

    /// Takes a whole line, or the front of a long one; `false`: it is none of a client.
    fn take(&mut self, line: &[u8], total: u64, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> bool {
        let whole = line.len() as u64 == total;
        let text = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        match (self.state, text.split_first()) {
            (State::Header, Some((b'$', digits))) => match number(digits) {
                Some(length) if (0..=MAX_ARGUMENT as i64).contains(&length) => {
                    self.state = State::Body { left: length as u64 + 2, holed: false };
                    true
                }
                _ => false,
            },
            (State::Begin, Some((b'*', digits))) => match number(digits) {
                Some(count) if count > i64::from(i32::MAX) => false,
                // The server takes no notice of an empty command.
                Some(..=0) => true,
                Some(count) => {
                    self.arguments.clear();
                    self.arguments.count = count as u64;
                    self.left = count as u64;
                    self.state = State::Header;
                    true
                }
                None => false,
            },
            (State::Begin, _) => {
                self.arguments.clear();
                if !inline(text, whole, self.argument_bytes, &mut self.arguments) {
                    return false;
                }
                if self.arguments.count > 0 {
                    self.command(moment, on);
                }
                true
            }
            _ => false,
        }
    }

    fn body<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        holed: bool,
        moment: &Moment,
        on: &mut dyn FnMut(Event<'_>),
    ) -> &'a [u8] {
        let (now, rest) = bytes.split_at(left.min(bytes.len() as u64) as usize);
        let text = left.saturating_sub(2).min(now.len() as u64) as usize;
        if self.arguments.ends.len() < MAX_ARGUMENTS && !holed {
            let Arguments { bytes, ends, .. } = &mut self.arguments;
            let start = ends.last().map_or(0, |end| end.0);
            let room = self.argument_bytes.saturating_sub(bytes.len() - start).min(MAX_BYTES - bytes.len());
            bytes.extend_from_slice(&now[..text.min(room)]);
            if text > room {
                self.state = State::Body { left, holed: true };
            }
        }
        let line_end = &b"\r\n"[2 - (left - text as u64).min(2) as usize..];
        if !line_end.starts_with(&now[text..]) {
            self.lose(false);
            on(Event::Unexpected);
            return rest;
        }
        self.bytes += now.len() as u64;
        let left = left - now.len() as u64;
        let State::Body { holed, .. } = self.state else { return rest };
        self.state = State::Body { left, holed };
        if left == 0 {
            self.end_argument(!holed, moment, on);
        }
        rest
    }

    fn end_argument(&mut self, whole: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        let Arguments { bytes, ends, .. } = &mut self.arguments;
        if ends.len() < MAX_ARGUMENTS {
            ends.push((bytes.len(), whole));
        }
        self.left = self.left.saturating_sub(1);
        self.state = State::Header;
        if self.left == 0 {
            self.command(moment, on);
        }
    }

    fn command(&mut self, last: &Moment, on: &mut dyn FnMut(Event<'_>)) {
        self.state = State::Begin;
        let Self { arguments, bytes, first, .. } = self;
        on(Event::Command(Command { arguments, bytes: *bytes, first, last, cut: false }));
    }

    /// Looks for the begin of a command; returns what is still to be taken.
    fn seek<'a>(&mut self, bytes: &'a [u8], front: bool, moment: &Moment, on: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let kept = self.line.len();
        if kept == 0 {
            self.first = *moment;
        }
        let joined;
        let sought: &[u8] = if kept == 0 {
            bytes
        } else {
            joined = [&self.line, bytes].concat();
            &joined
        };
        let (mut at, mut from) = (0, front);
        self.line.clear();
        loop {
            match if from { credit(&sought[at..], front && at == 0) } else { Credit::No } {
                Credit::Yes => {
                    self.state = State::Begin;
                    self.line_bytes = 0;
                    // What was kept of calls before.
                    let before = self.first;
                    let early = &sought[at.min(kept)..kept];
                    if !early.is_empty() {
                        self.data(early, &before, on);
                    }
                    return &bytes[at.saturating_sub(kept)..];
                }
                Credit::Maybe if sought.len() - at <= MAX_SOUGHT => {
                    self.line.extend_from_slice(&sought[at..]);
                    self.state = State::Seek { front: at == 0 && front };
                    if at > 0 {
                        self.first = *moment;
                    }
                    return &[];
                }
                _ => {}
            }
            self.state = State::Seek { front: false };
            match sought[at..].windows(2).position(|pair| pair == b"\n*") {
                Some(next) => (at, from) = (at + next + 1, true),
                None => {
                    if front {
                        on(Event::Skipped);
                    }
                    // The line may end here, and the next call begin with a command.
                    if sought.ends_with(b"\r\n") {
                        self.state = State::Seek { front: true };
                    }
                    return &[];
                }
            }
        }
    }
}

/// Splits an inline command at its blanks; `false`: this is no text.
fn inline(line: &[u8], whole: bool, argument_bytes: usize, arguments: &mut Arguments) -> bool {
    if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return false;
    }
    let mut rest = line.trim_ascii();
    while let Some(&first) = rest.first() {
        let quoted = matches!(first, b'"' | b'\'');
        let (argument, after) = if quoted {
            let end = (1..rest.len()).find(|at| rest[*at] == first && rest[*at - 1] != b'\\').unwrap_or(rest.len());
            (&rest[1..end], rest.get(end + 1..).unwrap_or_default())
        } else {
            rest.split_at(rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len()))
        };
        arguments.count += 1;
        rest = after.trim_ascii_start();
        let Arguments { bytes, ends, .. } = &mut *arguments;
        if ends.len() < MAX_ARGUMENTS {
            let keep = argument.len().min(argument_bytes).min(MAX_BYTES - bytes.len());
            bytes.extend_from_slice(&argument[..keep]);
            ends.push((bytes.len(), keep == argument.len() && (whole || !rest.is_empty())));
        }
    }
    true
}

/// Whether bytes begin with a command that is known. `inline`: also with one that is only a line.
pub fn credit(bytes: &[u8], inline: bool) -> Credit {
    match bytes.first() {
        None => Credit::Maybe,
        Some(b'*') => multibulk(bytes),
        Some(byte) if inline && byte.is_ascii_alphabetic() => {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                let word = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric());
                let plausible = match word {
                    Some(end) => bytes[end].is_ascii_whitespace() && commands::is_known(&bytes[..end]),
                    None => bytes.len() <= MAX_HEADER,
                };
                return if plausible && bytes.len() < MAX_SOUGHT { Credit::Maybe } else { Credit::No };
            };
            let line = bytes[..end].trim_ascii_end();
            let word = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            let text = line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            match text && commands::is_known(word) && !line.ends_with(b" HTTP/1.1") && !line.ends_with(b" HTTP/1.0") {
                true => Credit::Yes,
                false => Credit::No,
            }
        }
        Some(_) => Credit::No,
    }
}

/// `*2\r\n$3\r\nGET\r\n$…`: as much of it as is there must be so.
fn multibulk(bytes: &[u8]) -> Credit {
    let mut rest = &bytes[1..];
    let count = match header(&mut rest) {
        Ok(Some(count @ 1..)) => count,
        Ok(_) => return Credit::No,
        Err(credit) => return credit,
    };
    for index in 0..count.min(4) {
        match rest.split_first() {
            Some((b'$', after)) => rest = after,
            Some(_) => return Credit::No,
            None if index > 0 => return Credit::Yes,
            None => return Credit::Maybe,
        }
        let length = match header(&mut rest) {
            Ok(Some(length @ 0..)) => length as usize,
            Ok(_) => return Credit::No,
            Err(Credit::Maybe) if index > 0 => return Credit::Yes,
            Err(credit) => return credit,
        };
        let Some(text) = rest.get(..length) else {
            let name = index == 0 && (length > MAX_HEADER || !rest.iter().all(|byte| commands::in_name(*byte)));
            return if name {
                Credit::No
            } else if index > 0 {
                Credit::Yes
            } else {
                Credit::Maybe
            };
        };
        if index == 0 && !commands::is_known(text) {
            return Credit::No;
        }
        rest = &rest[length..];
        match rest {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] if index > 0 => return Credit::Yes,
            [] | [b'\r'] => return Credit::Maybe,
            _ => return Credit::No,
        }
    }
    Credit::Yes
}

/// The number of a header whose type byte was taken; the error says what to think of one that has not ended.
fn header(rest: &mut &[u8]) -> Result<Option<i64>, Credit> {
    let bytes = *rest;
    let Some(end) = bytes.iter().take(MAX_HEADER).position(|byte| *byte == b'\n') else {
        let digits = bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b'\r');
        return Err(if digits && bytes.len() < MAX_HEADER { Credit::Maybe } else { Credit::No });
    };
    *rest = &bytes[end + 1..];
    Ok(bytes[..end].strip_suffix(b"\r").and_then(number))
}
