//! What the client asks.

use std::{ops::Range, sync::Arc};

use super::{
    super::{
        entry::{Entry, Pending},
        login,
        packet::{FULL_BYTES, HEADER_BYTES, after_attributes, command, u32_at},
    },
    Phase, Session, UNRESOLVED,
};
use crate::{
    connection::Context,
    names::Prepared,
    segment::{Mark, Moment},
    settings::Settings,
    sql::{Dialect, Operation, Statement, has_password},
    stream::{Message, Missed},
};

impl Session {
    /// `false`: from here on this is a replication stream. `wraps`: by its number the packet goes on where the last
    /// one left off.
    pub fn request(&mut self, message: &Message<'_>, wraps: bool, context: &mut Context<'_>) -> bool {
        let size = message.bytes - HEADER_BYTES as u64;
        if std::mem::replace(&mut self.request_continues, size == FULL_BYTES) {
            let start = self.side.start(message.first, message.last);
            let server = self.side == crate::Side::Server;
            if let Some(Entry::Pending(pending)) = self.queue.back() {
                pending.request_bytes += message.bytes;
                if server {
                    pending.start = start;
                }
            }
            return true;
        }
        if message.kind != 0 || (self.copies_in && wraps) {
            if self.copies_in
                && let Some(Entry::Pending(pending)) = self.queue.front()
            {
                pending.request_bytes += message.bytes;
            }
            return true;
        }
        self.copies_in = false;
        if self.phase == Phase::Skipped {
            self.phase = Phase::First;
        }
        let start = self.side.start(message.first, message.last);
        let Some((command, body)) = message.body.split_first() else {
            match size {
                0 => self.contradict(context),
                _ => {
                    self.unsure = true;
                    self.push(Entry::Unknown(start), context);
                }
            }
            return true;
        };
        let operations = &context.settings.operations;
        let id = u32_at(body, 0).unwrap_or_default();
        match *command {
            command::QUERY => self.query(message, start, context),
            command::PREPARE => {
                let prepared = self.prepare(body, message.whole, context);
                let operation = operations.named(&format!("<prepare> {}", prepared.operation.text));
                let text = prepared.text.clone();
                let pending = Pending { text, ..pending(*command, operation, start, message.bytes) };
                self.push(Entry::Pending(Pending { prepares: Some(prepared), ..pending }), context);
            }
            command::EXECUTE | command::BULK_EXECUTE | command::FETCH | command::RESET => {
                let Prepared { mut operation, text, .. } = self.statement(id, context);
                match *command {
                    command::FETCH => operation = operations.named(&format!("<resumed> {}", operation.text)),
                    command::RESET => operation = operations.named(&format!("<reset> {}", operation.text)),
                    _ => {}
                }
                let bytes = message.bytes + std::mem::take(&mut self.long_data_bytes);
                let pending = Pending { text, ..pending(*command, operation, start, bytes) };
                self.push(Entry::Pending(pending), context);
            }
            command::LONG_DATA => self.long_data_bytes += message.bytes,
            command::CLOSE => self.statements.remove(&id.to_le_bytes()),
            command::QUIT => {}
            command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::TABLE_DUMP | command::REGISTER_REPLICA => {
                return false;
            }
            _ => {
                let Some(name) = command::name(*command) else {
                    self.contradict(context);
                    return true;
                };
                let mut pending = pending(*command, operations.named(name), start, message.bytes);
                match *command {
                    command::INIT_DB => pending.schema = login::name(body),
                    command::CHANGE_USER => self.change = Some(login::change_user(body, self.capabilities)),
                    _ => {}
                }
                self.push(Entry::Pending(pending), context);
            }
        }
        true
    }

    /// Requests were missed.
    pub fn requests_missed(&mut self, why: Missed, moment: &Moment, context: &mut Context<'_>) {
        if why == Missed::Unexpected {
            self.contradict(context);
        }
        self.request_continues = false;
        if self.copies_in {
            return;
        }
        self.unsure = true;
        if why == Missed::Uncaptured {
            if !matches!(self.queue.back(), Some(Entry::Unknown(_))) {
                let start = self.side.start(moment, moment);
                self.push(Entry::Unknown(start), context);
            }
        } else {
            // Their answers may have gone by already.
            self.requests_gone = true;
        }
    }

    fn push(&mut self, entry: Entry, context: &mut Context<'_>) {
        if !self.queue.push(entry) {
            self.unsure = true;
            context.lost("pipeline_full", 1);
        }
    }

    pub(super) fn drop_requests(&mut self, count: usize, context: &mut Context<'_>) {
        let mut dropped = 0;
        for _ in 0..count {
            match self.queue.pop() {
                Some(Entry::Pending(_)) => dropped += 1,
                Some(Entry::Unknown(_)) => {}
                None => break,
            }
        }
        self.phase = Phase::First;
        self.copies_in = false;
        self.end_missed = false;
        context.lost("answer_missed", dropped);
    }

    fn query(&mut self, message: &Message<'_>, start: Mark, context: &mut Context<'_>) {
        let statement_bytes = context.settings.statement_bytes();
        let body = message.body.get(1..).unwrap_or_default();
        let sql = after_attributes(body).unwrap_or_default();
        let cut = !message.whole || sql.len() > statement_bytes;
        let sql = &sql[..sql.len().min(statement_bytes)];
        let settings = context.settings;
        let (mut counted, first, mut follows) = (0, self.queue.len(), false);
        settings.operations.statements(sql, cut, Dialect::Mysql, &mut |Statement { operation, range }| {
            if std::mem::replace(&mut follows, true)
                && let Some(Entry::Pending(before)) = self.queue.back()
            {
                before.followed = true;
            }
            counted += range.len() as u64;
            let pending = Pending {
                calls: begins(&operation.text, "call"),
                schema: begins(&operation.text, "use").then(|| login::name(unquoted(&sql[range.clone()]))).flatten(),
                text: literal(sql, range.clone(), settings),
                ..pending(command::QUERY, operation, start, range.len() as u64)
            };
            self.push(Entry::Pending(pending), context);
        });
        if !follows {
            let operation = settings.operations.named(if cut { UNRESOLVED } else { "<empty>" });
            self.push(Entry::Pending(pending(command::QUERY, operation, start, 0)), context);
        }
        // The first one takes the message's other bytes.
        if let Some(Entry::Pending(pending)) = self.queue.get_mut(first) {
            pending.request_bytes += message.bytes.saturating_sub(counted);
        }
    }

    fn prepare(&self, sql: &[u8], whole: bool, context: &Context<'_>) -> Prepared {
        let statement_bytes = context.settings.statement_bytes();
        let cut = !whole || sql.len() > statement_bytes;
        let sql = &sql[..sql.len().min(statement_bytes)];
        let mut prepared = None;
        context.settings.operations.statements(sql, cut, Dialect::Mysql, &mut |Statement { operation, range }| {
            prepared.get_or_insert_with(|| {
                let text = literal(sql, range, context.settings);
                Prepared { operation, text, ran: false }
            });
        });
        prepared.unwrap_or_else(|| unseen(if cut { UNRESOLVED } else { "<empty>" }, context))
    }

    /// What a number stands for on this connection. All ones: what was prepared last, be it answered or not.
    fn statement(&mut self, id: u32, context: &Context<'_>) -> Prepared {
        let mut id = id;
        if id == u32::MAX {
            let pending = self.queue.iter().rev().find_map(|entry| match entry {
                Entry::Pending(pending) => pending.prepares.clone(),
                Entry::Unknown(_) => None,
            });
            match (pending, self.last_prepared) {
                (Some(prepared), _) => return prepared,
                (None, Some(last)) => id = last,
                (None, None) => {}
            }
        }
        self.statements.get(&id.to_le_bytes()).cloned().unwrap_or_else(|| unseen(UNRESOLVED, context))
    }
}

fn pending(command: u8, operation: Operation, start: Mark, request_bytes: u64) -> Pending {
    Pending {
        command,
        operation,
        text: None,
        start,
        request_bytes,
        followed: false,
        calls: false,
        prepares: None,
        schema: None,
    }
}

fn begins(operation: &str, word: &str) -> bool {
    operation.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
        && operation.as_bytes().get(word.len()).is_some_and(|byte| matches!(byte, b' ' | b'`'))
}

/// The name that a `USE` goes to.
fn unquoted(sql: &[u8]) -> &[u8] {
    let name = sql.get(3..).unwrap_or_default().trim_ascii();
    name.strip_prefix(b"`").and_then(|name| name.strip_suffix(b"`")).unwrap_or(name)
}

/// A statement as written, where that may be kept; never one with a password.
fn literal(sql: &[u8], range: Range<usize>, settings: &Settings) -> Option<Arc<str>> {
    let text = sql.get(range).unwrap_or_default();
    (settings.keep_literals && !has_password(text)).then(|| String::from_utf8_lossy(text).into())
}

fn unseen(operation: &str, context: &Context<'_>) -> Prepared {
    Prepared { operation: context.settings.operations.named(operation), text: None, ran: false }
}
