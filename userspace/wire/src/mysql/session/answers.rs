//! What the server answers.

use super::{
    super::{
        entry::{Entry, Pending},
        login,
        packet::{
            self, Done, FULL_BYTES, Failure, HEADER_BYTES, PROGRESS, capability, columns, command, prepared, status,
        },
    },
    Gap, Phase, Session, UNRESOLVED,
};
use crate::{
    connection::Context,
    outcome::{Exchange, Protocol, Status},
    segment::Mark,
    sql::strip_literals,
    stream::{Message, Missed},
};

/// Of an answer's end, this much tells what it says.
const END_BYTES: u64 = 23;

/// By what packets are compressed.
#[derive(Clone, Copy, PartialEq)]
pub enum Compression {
    Zlib,
    Zstd,
}

/// Where answers are seen again.
pub struct Regained<'a> {
    /// What is there already.
    pub rest: &'a [u8],
    /// Where in the direction it begins.
    pub position: u64,
    /// It is the front of a segment.
    pub front: bool,
}

impl Session {
    /// The client's answer to the greeting came.
    pub fn logs_in(&mut self, capabilities: u64) {
        self.capabilities = capabilities;
        self.deprecates_eof = Some(capabilities & capability::DEPRECATE_EOF != 0);
        self.confirmed = true;
    }

    /// How the connection is compressed after the login. Where a client asks for both, it is by zlib.
    pub fn compression(&self) -> Option<Compression> {
        let can = |capability| self.capabilities & capability != 0;
        match (can(capability::COMPRESS), can(capability::ZSTD)) {
            (true, _) => Some(Compression::Zlib),
            (false, true) => Some(Compression::Zstd),
            (false, false) => None,
        }
    }

    pub fn answer(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let size = message.bytes - HEADER_BYTES as u64;
        if std::mem::replace(&mut self.answer_continues, size == FULL_BYTES) {
            return;
        }
        let body = message.body;
        if self.login {
            match body.first() {
                Some(0) => self.login = false,
                // Refused; the connection ends.
                Some(0xff) => {}
                _ => return,
            }
            self.answer_start = message.end;
            self.ready = true;
            return;
        }
        // What ends the definitions of a statement just prepared.
        if std::mem::take(&mut self.defined) && message.kind != 1 && size == 5 && Done::eof(body, size).is_some() {
            self.deprecates_eof = Some(false);
            self.answer_start = message.end;
            return;
        }
        // Said unasked: why the server ends the connection.
        let unasked = message.kind == 0 && self.queue.is_empty() && self.phase == Phase::First;
        if unasked || self.phase == Phase::Skipped {
            return;
        }
        let next = self.next.replace(message.kind.wrapping_add(1));
        if self.phase != Phase::First && message.kind == 1 && next.is_some_and(|next| next != 1) {
            // Another answer begins; the end of this one was missed.
            self.contradict(context);
            self.drop_skipped(&Gap { calls: true, turned: true, begun: false }, true, context);
            self.phase = Phase::First;
            self.answer_rows = 0;
        }
        self.ready = false;
        // Of a packet that was not captured whole, only a row or a definition is still known for one.
        if (body.len() as u64) < size.min(END_BYTES) {
            match (self.phase, body.first()) {
                (Phase::Columns { .. } | Phase::Prepared { .. }, _) => {}
                (Phase::Rows | Phase::ColumnsEnd, Some(0..=0xfd)) => {}
                _ => {
                    (self.unsure, self.end_missed, self.rows_missed) = (true, true, true);
                    self.phase = Phase::Skipped;
                    return;
                }
            }
        }
        if let Some(failure) = Failure::parse(body)
            && !matches!(self.phase, Phase::Tail { end } if !failure.is_credible() || message.end < end)
        {
            match failure.errno {
                PROGRESS => {}
                _ => self.error(&failure, message, context),
            }
            return;
        }
        match self.phase {
            Phase::First => self.first(body, size, message, context),
            Phase::Columns { left } => {
                self.phase = if left > 1 { Phase::Columns { left: left - 1 } } else { Phase::ColumnsEnd }
            }
            Phase::ColumnsEnd => match Done::eof(body, size) {
                Some(done) if size == 5 => {
                    self.deprecates_eof = Some(false);
                    match done.status & status::CURSOR_EXISTS {
                        0 => self.phase = Phase::Rows,
                        _ => self.rows_end(&done, message, context),
                    }
                }
                Some(done) => self.rows_end(&done, message, context),
                None => self.row(),
            },
            Phase::Rows => match Done::eof(body, size) {
                Some(done) => self.rows_end(&done, message, context),
                None => self.row(),
            },
            Phase::Prepared { left } => self.definition(left, body, size, message, context),
            Phase::Fields => {
                if Done::eof(body, size).is_some() {
                    self.result(None, true, false, message, context);
                }
            }
            Phase::Skipped => {}
            Phase::Tail { end } => {
                let last = message.end == end;
                if let Some(done) = Done::eof(body, size).filter(|done| last || done.more_results()) {
                    self.rows_end(&done, message, context);
                } else if let Some(done) = Done::ok(body, size).filter(|_| last) {
                    self.result(Some(done.affected), false, done.more_results(), message, context);
                }
            }
        }
    }

    fn row(&mut self) {
        self.answer_rows += 1;
        self.phase = Phase::Rows;
    }

    /// The first packet of an answer, or of one more result.
    fn first(&mut self, body: &[u8], size: u64, message: &Message<'_>, context: &mut Context<'_>) {
        let command = match self.queue.front() {
            Some(Entry::Pending(pending)) => Some(pending.command),
            _ => None,
        };
        let ok = Done::ok(body, size);
        let eof = Done::eof(body, size);
        match (command, body.first()) {
            (Some(command::STATISTICS), _) => self.result(None, false, false, message, context),
            (Some(command::FIELD_LIST), _) if eof.is_none() => self.phase = Phase::Fields,
            (Some(command::FETCH), _) => match eof {
                Some(done) => self.rows_end(&done, message, context),
                None => self.row(),
            },
            (Some(command::PREPARE), Some(0)) => self.prepare_answered(body, message, context),
            // An older end's whole answer; a packet that asks for more proof.
            (Some(command::CHANGE_USER), Some(first)) if *first != 0 => {}
            (Some(_), Some(0)) | (Some(_), Some(0xfe)) if ok.is_some() || eof.is_some() => {
                let Some(done) = ok.or(eof) else { return };
                self.done(&done, message, context);
            }
            (Some(command::QUERY) | None, Some(0xfb)) if size > 1 => self.copies_in = true,
            // Of a request that was not seen: an answer to a prepare looks like an OK packet without a sane status.
            (None, Some(0)) => match ok {
                Some(done) if done.status & (status::IN_TRANSACTION | status::AUTOCOMMIT) != 0 => {
                    self.done(&done, message, context);
                }
                _ if prepared(body).is_some() => self.prepare_answered(body, message, context),
                Some(done) => self.done(&done, message, context),
                None => self.unexpected(context),
            },
            (None, Some(0xfe)) if eof.is_some() => self.result(None, true, false, message, context),
            _ => match columns(body, self.capabilities & capability::OPTIONAL_METADATA != 0) {
                Some((left, true)) => self.phase = Phase::Columns { left },
                Some((_, false)) => self.phase = Phase::ColumnsEnd,
                None => self.unexpected(context),
            },
        }
    }

    /// No answer begins so: what follows up to the next request says nothing.
    fn unexpected(&mut self, context: &mut Context<'_>) {
        self.contradict(context);
        self.drop_requests(1, context);
        self.phase = Phase::Skipped;
    }

    /// An OK packet.
    fn done(&mut self, done: &Done<'_>, message: &Message<'_>, context: &mut Context<'_>) {
        let Some(Entry::Pending(pending)) = self.queue.front() else {
            return self.result(Some(done.affected), false, done.more_results(), message, context);
        };
        let command = pending.command;
        if let Some(schema) = done.schema().map(login::name).or_else(|| pending.schema.clone().map(Some)) {
            context.facts.database = schema;
        }
        if matches!(command, command::CHANGE_USER | command::RESET_CONNECTION) {
            self.statements.clear();
            self.last_prepared = None;
        }
        if let Some(change) = self.change.take().filter(|_| command == command::CHANGE_USER) {
            context.facts.user = change.user;
            context.facts.database = change.database;
            context.facts.application = change.application.or_else(|| context.facts.application.take());
        }
        let statement = matches!(command, command::QUERY | command::EXECUTE | command::BULK_EXECUTE);
        self.result(statement.then_some(done.affected), false, done.more_results(), message, context);
    }

    fn prepare_answered(&mut self, body: &[u8], message: &Message<'_>, context: &mut Context<'_>) {
        let Some((id, columns, parameters)) = prepared(body) else { return self.unexpected(context) };
        if let Some(Entry::Pending(Pending { prepares: Some(prepared), .. })) = self.queue.front() {
            let evicted = self.statements.insert(&id.to_le_bytes(), prepared.clone());
            self.last_prepared = Some(id);
            context.lost("statement_evicted", evicted);
        }
        match u64::from(columns) + u64::from(parameters) {
            0 => self.result(None, false, false, message, context),
            left => self.phase = Phase::Prepared { left },
        }
    }

    /// Takes a packet of what describes a prepared statement: parameters, then columns, each with an EOF packet
    /// behind them for older ends.
    fn definition(&mut self, left: u64, body: &[u8], size: u64, message: &Message<'_>, context: &mut Context<'_>) {
        let eof = size == 5 && Done::eof(body, size).is_some();
        let left = left.saturating_sub(u64::from(!eof));
        self.phase = Phase::Prepared { left };
        if eof {
            self.deprecates_eof = Some(false);
        }
        if left == 0 && (eof || self.deprecates_eof != Some(false)) {
            self.result(None, false, false, message, context);
            self.defined = !eof && self.deprecates_eof.is_none();
        }
    }

    fn rows_end(&mut self, done: &Done<'_>, message: &Message<'_>, context: &mut Context<'_>) {
        self.result(Some(0), true, done.more_results(), message, context);
    }

    /// A result is complete. `set`: it had columns. `rows`: changed. `more`: another one follows.
    fn result(&mut self, rows: Option<u64>, set: bool, more: bool, message: &Message<'_>, context: &mut Context<'_>) {
        let tail = matches!(self.phase, Phase::Tail { .. });
        self.phase = Phase::First;
        self.copies_in = false;
        self.answer_rows = self.answer_rows.saturating_add(rows.unwrap_or_default());
        if more {
            match self.queue.front() {
                Some(Entry::Pending(pending)) if pending.followed && !(pending.calls && set) => {}
                _ => return,
            }
        }
        let rows = rows.is_some().then_some(self.answer_rows).filter(|_| !self.rows_missed);
        let end = self.side.end(message.last);
        let mut unseen = 0;
        while let Some(entry) = self.queue.pop() {
            let pending = match entry {
                Entry::Pending(pending) => pending,
                Entry::Unknown(start) => unknown(start, context),
            };
            let followed = pending.followed;
            // The end of the last result was seen, those of the results before were not. They went well, or else
            // the server would not have gone on.
            let skipped = tail && !more && followed;
            let exchange = self.exchange(pending, Status::Ok, end, message.end);
            context.hit(Exchange { rows: rows.filter(|_| !skipped), ..exchange });
            if skipped {
                unseen += 1;
                continue;
            }
            // Fewer results than the text seemed to have statements: the rest is none.
            if !more && followed {
                self.drop_followers();
            }
            context.lost("answer_incomplete", unseen);
            self.confirmed = true;
            self.contradictions = 0;
            return self.answered(message, more);
        }
        context.lost("request_missed", 1);
        self.answered(message, more);
    }

    fn drop_followers(&mut self) {
        while let Some(Entry::Pending(pending)) = self.queue.pop() {
            if !pending.followed {
                break;
            }
        }
    }

    fn answered(&mut self, message: &Message<'_>, more: bool) {
        self.answer_rows = 0;
        self.rows_missed = false;
        self.end_missed = false;
        self.answer_start = message.end;
        if !more {
            self.requests_gone = false;
            self.ready = true;
            self.unsure &= !self.queue.is_empty();
        }
    }

    fn error(&mut self, failure: &Failure<'_>, message: &Message<'_>, context: &mut Context<'_>) {
        self.phase = Phase::First;
        self.copies_in = false;
        let pending = match self.queue.pop() {
            Some(Entry::Pending(pending)) => pending,
            Some(Entry::Unknown(start)) => unknown(start, context),
            None => {
                self.answered(message, false);
                return context.lost("request_missed", 1);
            }
        };
        if pending.followed {
            self.drop_followers();
        }
        if pending.command == command::CHANGE_USER {
            self.change = None;
        }
        let text = String::from_utf8_lossy(failure.message);
        let text = if context.settings.keep_literals { text } else { strip_literals(&text).into() };
        let text = match failure.state {
            Some(state) => format!("({}) {text}", String::from_utf8_lossy(state)),
            None => text.into_owned(),
        };
        let exchange = self.exchange(pending, Status::Error, self.side.end(message.last), message.end);
        context.hit(Exchange {
            error_code: Some(failure.errno.to_string().into()),
            error_message: Some(text.into()),
            ..exchange
        });
        self.confirmed = true;
        self.contradictions = 0;
        self.answered(message, false);
    }

    /// The server's turn to speak begins.
    pub fn answers_turn(&mut self) {
        if let Some(gap) = &mut self.gap {
            gap.turned = true;
        }
    }

    /// Answers were missed, from `position` on.
    pub fn answers_missed(&mut self, why: Missed, position: u64, context: &mut Context<'_>) {
        if why == Missed::Unexpected {
            self.contradict(context);
        }
        self.answer_continues = false;
        self.unsure = true;
        self.rows_missed = true;
        self.ready = false;
        let begun = position != self.answer_start;
        let gap = self.gap.get_or_insert(Gap { calls: false, turned: false, begun });
        gap.calls |= why == Missed::Calls;
    }

    /// Answers are seen again.
    pub fn answers_regained(&mut self, regained: &Regained<'_>, context: &mut Context<'_>) {
        let Regained { rest, position, front, .. } = *regained;
        self.next = None;
        let begins = front && packet::header(rest).is_some_and(|(_, number)| number == 1);
        if let Some(gap) = self.gap.take()
            && (gap.calls || gap.turned)
        {
            self.drop_skipped(&gap, begins, context);
        }
        if begins {
            self.phase = Phase::First;
            self.answer_rows = 0;
            self.rows_missed = false;
            self.answer_start = position;
        } else {
            self.rows_missed = true;
            self.phase = Phase::Tail { end: position.wrapping_add(rest.len() as u64) };
        }
    }

    /// Drops what was answered unseen.
    ///
    /// A client that waits for its answers has one request under way, so what is regained answers the last one in
    /// the queue. If there is only one, the missing bytes must be something's: an answer that begins only now
    /// answers a request that was missed with the answer before.
    fn drop_skipped(&mut self, gap: &Gap, begins: bool, context: &mut Context<'_>) {
        let ends = |entry: &&Entry| !matches!(entry, Entry::Pending(pending) if pending.followed);
        let mut old = self.queue.iter().filter(ends).count().saturating_sub(1);
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

    /// The hit of a request whose answer ended at `position`.
    pub(super) fn exchange(&mut self, pending: Pending, status: Status, end: Mark, position: u64) -> Exchange {
        let Pending { operation, text, start, request_bytes, .. } = pending;
        let response_bytes = position.saturating_sub(std::mem::replace(&mut self.answer_start, position));
        let exchange = Exchange::new(Protocol::Mysql, self.side, operation, status, [start, end]);
        Exchange { request_bytes, response_bytes, text, ..exchange }
    }
}

fn unknown(start: Mark, context: &Context<'_>) -> Pending {
    Pending {
        command: command::QUERY,
        operation: context.settings.operations.named(UNRESOLVED),
        text: None,
        start,
        request_bytes: 0,
        followed: false,
        calls: false,
        prepares: None,
        schema: None,
    }
}
