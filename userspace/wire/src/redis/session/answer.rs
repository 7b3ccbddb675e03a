//! What a hit takes from its answer, and answers whose commands are not yet told.

use std::{collections::VecDeque, sync::Arc};

use super::super::values::Value;
use crate::{connection::Context, outcome::Status, segment::Mark, sql::strip_literals};

#[derive(Debug)]
pub struct Answer {
    pub status: Status,
    pub code: Option<Arc<str>>,
    pub message: Option<Arc<str>>,
    pub rows: Option<u64>,
    pub bytes: u64,
}

impl Answer {
    /// One that says nothing more.
    pub fn bare(status: Status, rows: Option<u64>, bytes: u64) -> Self {
        Self { status, code: None, message: None, rows, bytes }
    }

    pub fn new(value: &Value<'_>, error: Option<&[u8]>, bytes: u64, context: &Context<'_>) -> Self {
        let Some(error) = error else { return Self::bare(Status::Ok, value.rows, bytes) };
        let text = String::from_utf8_lossy(error);
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let is_code = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        let (code, message) = if is_code { (word, rest) } else { ("ERR", &*text) };
        // Those say where else to ask, of a cluster.
        let kept = context.settings.keep_literals || matches!(code, "MOVED" | "ASK");
        let message = if kept { message.into() } else { strip_literals(message).into() };
        Self { status: Status::Error, code: Some(code.into()), message: Some(message), rows: None, bytes }
    }

    fn text_bytes(&self) -> usize {
        let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        length(&self.code) + length(&self.message)
    }
}

/// An answer, and when it ended.
#[derive(Debug)]
pub struct Ended {
    pub end: Mark,
    pub answer: Answer,
}

/// Answers kept up to the end of the turn, bounded in number and memory.
#[derive(Debug)]
pub struct Held {
    answers: VecDeque<Ended>,
    text_bytes: usize,
    max: usize,
    max_text_bytes: usize,
}

impl Held {
    pub fn new(max_bytes: usize, max_text_bytes: usize) -> Self {
        Self { answers: VecDeque::new(), text_bytes: 0, max: max_bytes / size_of::<Ended>(), max_text_bytes }
    }

    /// Answers that are kept at most.
    pub fn max(&self) -> usize {
        self.max
    }

    pub fn memory_bytes(&self) -> usize {
        self.answers.capacity() * size_of::<Ended>() + self.text_bytes
    }

    /// Returns the oldest one, where there is no room for both.
    pub fn push(&mut self, end: Mark, mut answer: Answer) -> Option<Ended> {
        if self.text_bytes + answer.text_bytes() > self.max_text_bytes {
            (answer.code, answer.message) = (None, None);
        }
        self.text_bytes += answer.text_bytes();
        let oldest = if self.answers.len() >= self.max { self.answers.pop_front() } else { None };
        self.text_bytes -= oldest.as_ref().map_or(0, |oldest| oldest.answer.text_bytes());
        if self.answers.len() == self.answers.capacity() {
            let grown = (2 * self.answers.len()).clamp(8, self.max);
            self.answers.reserve_exact(grown - self.answers.len());
        }
        self.answers.push_back(Ended { end, answer });
        oldest
    }

    /// All of them, in order.
    pub fn take(&mut self) -> VecDeque<Ended> {
        self.text_bytes = 0;
        std::mem::take(&mut self.answers)
    }
}
