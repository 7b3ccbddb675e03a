//! What the server answers.

use super::{
    super::{
        entry::{Entry, Pending},
        message::{self, field, rows, text},
    },
    Gap, Session, UNRESOLVED,
};
use crate::{
    connection::Context,
    outcome::{Exchange, Facts, Protocol, Status},
    segment::{Mark, Moment},
    sql::strip_literals,
    stream::{Message, Missed},
};

/// Where answers are seen again.
pub struct Regained<'a> {
    /// What is there already.
    pub rest: &'a [u8],
    /// Where in the direction it begins.
    pub position: u64,
    /// It is the front of a segment.
    pub front: bool,
    pub moment: &'a Moment,
}

impl Session {
    /// `false`: this is a replication stream.
    pub fn answer(&mut self, message: &Message<'_>, context: &mut Context<'_>) -> bool {
        if message.kind == b'D' {
            self.answer_rows += 1;
            return true;
        }
        if message.kind != b'E' {
            self.release(context);
        }
        self.ready = message.kind == b'Z';
        match message.kind {
            b'1' | b'2' | b'3' | b'T' | b'n' => self.reply(message.end),
            b'C' => self.complete(rows(message.body), message, context),
            b's' => {
                let rows = (!self.rows_missed).then_some(self.answer_rows);
                self.complete(rows, message, context);
            }
            b'I' | b'V' => self.complete(None, message, context),
            b'E' => self.error(message, context),
            b'Z' => self.finish(message, context),
            b'G' => {
                self.copies_in = true;
                while matches!(self.queue.get(1), Some(Entry::Sync)) {
                    self.queue.remove(1);
                }
            }
            b'W' => return false,
            b'S' => self.parameter(message.body, context.facts),
            _ => {}
        }
        true
    }

    /// The server's turn to speak begins.
    pub fn answers_turn(&mut self) {
        if let Some(gap) = &mut self.gap {
            gap.turned = true;
        }
    }

    /// Answers were missed, from `position` on.
    pub fn answers_missed(&mut self, why: Missed, position: u64, context: &mut Context<'_>) {
        context.lost("unexpected_message", u64::from(why == Missed::Unexpected));
        self.release(context);
        self.unsure = true;
        self.rows_missed = true;
        self.ready = false;
        let begun = position != self.answer_start;
        let gap = self.gap.get_or_insert(Gap { calls: false, turned: false, begun });
        gap.calls |= why == Missed::Calls;
    }

    /// Answers are seen again.
    pub fn answers_regained(&mut self, regained: &Regained<'_>, context: &mut Context<'_>) {
        let Regained { rest, position, moment, .. } = *regained;
        if let Some(gap) = self.gap.take()
            && (gap.calls || gap.turned)
        {
            self.drop_skipped(&gap, regained, context);
        }
        let (mut completions, mut error, mut state) = (0, false, None);
        for (kind, body) in message::messages(rest) {
            match kind {
                b'C' | b'I' | b's' | b'V' => completions += 1,
                b'E' => error = true,
                b'Z' => state = body.first().copied(),
                _ => {}
            }
            if state.is_some() {
                break;
            }
        }
        // The server is done with all before its ReadyForQuery. What it completed unseen went well, or else it
        // would not have gone on.
        let Some(state) = state.filter(|_| !error) else { return };
        let turn = self.queue.iter().take_while(|entry| !matches!(entry, Entry::Sync | Entry::QueryEnd));
        let executes = turn.filter(|entry| matches!(entry, Entry::Pending(pending) if pending.executes)).count();
        let unseen = executes.saturating_sub(completions);
        let status = if state == b'E' && completions == 0 { Status::Error } else { Status::Ok };
        for _ in 0..unseen {
            while let Some(entry) = self.queue.pop() {
                if let Entry::Pending(pending) = entry
                    && pending.executes
                {
                    let exchange = self.exchange(pending, status, self.side.end(moment), position);
                    context.hit(exchange);
                    break;
                }
            }
        }
        context.lost("answer_incomplete", unseen as u64);
    }

    /// Drops what was answered unseen.
    ///
    /// A client that waits for its answers has one query or pipeline under way, so what is regained answers the last
    /// ones in the queue. If there is only one, the missing bytes must be something's: an answer that begins only
    /// now answers a request that was missed with the answer before.
    fn drop_skipped(&mut self, gap: &Gap, regained: &Regained<'_>, context: &mut Context<'_>) {
        let answers = message::messages(regained.rest).filter(|(kind, _)| *kind == b'Z').count().max(1);
        let ends = |entry: &&Entry| matches!(entry, Entry::Sync | Entry::QueryEnd);
        // The last one may have no end yet.
        let open = self.queue.iter().last().is_some_and(|last| !ends(&last));
        let mut old = (self.queue.iter().filter(ends).count() + usize::from(open)).saturating_sub(answers);
        let begins = regained.front && !matches!(regained.rest.first(), Some(b'D' | b'd' | b'c' | b'Z'));
        if old == 0 && gap.calls && !gap.begun && begins && !self.requests_gone {
            return self.drop_requests(usize::MAX, context);
        }
        let is_old = |entry: &&Entry| {
            let is_old = old > 0;
            old -= usize::from(is_old && ends(entry));
            is_old
        };
        let count = self.queue.iter().take_while(is_old).count();
        self.drop_requests(count, context);
    }

    fn reply(&mut self, end: u64) {
        let alone = self.queue.len() == 1;
        let Some(Entry::Pending(pending)) = self.queue.front() else { return };
        pending.replies = pending.replies.saturating_sub(1);
        if pending.replies == 0 && !pending.executes {
            self.queue.pop();
            self.answer_start = end;
            if alone {
                self.close_request();
            }
        }
    }

    fn complete(&mut self, rows: Option<u64>, message: &Message<'_>, context: &mut Context<'_>) {
        let end = self.side.end(message.last);
        self.copies_in = false;
        loop {
            match self.queue.front() {
                Some(Entry::Pending(pending)) if !pending.executes => {
                    self.queue.pop();
                }
                Some(Entry::Pending(_)) => {
                    let Some(Entry::Pending(pending)) = self.queue.pop() else { return };
                    let extended = pending.extended;
                    let exchange = Exchange { rows, ..self.exchange(pending, Status::Ok, end, message.end) };
                    if extended && matches!(self.queue.get(0), Some(Entry::Sync)) {
                        self.held = Some(exchange);
                    } else {
                        context.hit(exchange);
                    }
                    return;
                }
                Some(Entry::Unknown(start)) => {
                    let pending = unknown(*start, context);
                    let exchange = Exchange { rows, ..self.exchange(pending, Status::Ok, end, message.end) };
                    context.hit(exchange);
                    return;
                }
                Some(Entry::Sync | Entry::QueryEnd) | None => {
                    self.answer_start = message.end;
                    self.answer_rows = 0;
                    return context.lost("request_missed", 1);
                }
            }
        }
    }

    fn error(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let end = self.side.end(message.last);
        let code = field(message.body, b'C').map(|code| String::from_utf8_lossy(code).into());
        let text = field(message.body, b'M').map(|text| {
            let text = String::from_utf8_lossy(text);
            if context.settings.keep_literals { text.into() } else { strip_literals(&text).into() }
        });
        if let Some(held) = self.held.take() {
            // The commit at the Sync failed.
            let failed = Exchange { status: Status::Error, error_code: code, error_message: text, end, ..held };
            return context.hit(failed);
        }
        self.copies_in = false;
        let (pending, extended) = match self.queue.front() {
            Some(Entry::Pending(_)) => match self.queue.pop() {
                Some(Entry::Pending(pending)) => (Some(pending), None),
                _ => (None, None),
            },
            Some(Entry::Unknown(start)) => {
                (Some(unknown(*start, context)), Some(self.queue.iter().any(|entry| matches!(entry, Entry::Sync))))
            }
            _ => (None, None),
        };
        let Some(pending) = pending else { return };
        let extended = extended.unwrap_or(pending.extended);
        let exchange = self.exchange(pending, Status::Error, end, message.end);
        context.hit(Exchange { error_code: code, error_message: text, ..exchange });
        // The rest of the query, or all up to the next Sync, never runs.
        loop {
            match self.queue.front() {
                Some(Entry::Sync) => break,
                Some(Entry::QueryEnd) if !extended => break,
                Some(_) => {
                    self.queue.pop();
                }
                None => {
                    self.skips = extended;
                    break;
                }
            }
        }
        if self.queue.is_empty() {
            self.close_request();
        }
    }

    /// `ReadyForQuery`.
    fn finish(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let (mut unanswered, mut unknown) = (0, false);
        while let Some(entry) = self.queue.pop() {
            match entry {
                Entry::Pending(pending) => unanswered += u64::from(pending.executes && !unknown),
                Entry::Unknown(_) => unknown = true,
                Entry::Sync | Entry::QueryEnd => break,
            }
        }
        context.lost("answer_missed", unanswered);
        self.answer_start = message.end;
        self.answer_rows = 0;
        self.rows_missed = false;
        self.copies_in = false;
        self.requests_gone = false;
        self.skips = false;
        if self.queue.is_empty() {
            self.close_request();
            self.unsure = false;
            if message.body == b"I" {
                self.portals.clear();
            }
        }
    }

    fn parameter(&mut self, body: &[u8], facts: &mut Facts) {
        let (name, rest) = text(body);
        let value = text(rest).0;
        match name {
            b"application_name" => facts.application = Some(String::from_utf8_lossy(value).into()),
            b"standard_conforming_strings" => self.backslashes = value == b"off",
            _ => {}
        }
    }

    /// Hands out the hit that waited for what follows it.
    pub(super) fn release(&mut self, context: &mut Context<'_>) {
        if let Some(held) = self.held.take() {
            context.hit(held);
        }
    }

    /// The hit of a request whose answer ended at `position`.
    pub(super) fn exchange(&mut self, pending: Pending, status: Status, end: Mark, position: u64) -> Exchange {
        let Pending { operation, text, start, request_bytes, .. } = pending;
        let response_bytes = position.saturating_sub(std::mem::replace(&mut self.answer_start, position));
        self.answer_rows = 0;
        let exchange = Exchange::new(Protocol::Postgres, self.side, operation, status, [start, end]);
        Exchange { request_bytes, response_bytes, text, ..exchange }
    }
}

fn unknown(start: Mark, context: &Context<'_>) -> Pending {
    Pending {
        operation: context.settings.operations.named(UNRESOLVED),
        text: None,
        start,
        request_bytes: 0,
        replies: 0,
        executes: true,
        extended: true,
    }
}
