//! What the client asks.

use std::{ops::Range, sync::Arc};

use super::{
    super::{
        entry::{Entry, Pending},
        message::{text, u32_at},
    },
    Session, UNRESOLVED,
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
    pub fn request(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        if self.skips && !matches!(message.kind, b'S' | b'X') {
            return;
        }
        // A client that copies in sends nothing else but Sync and Flush, of which the server takes no
        // notice; what looks so is data after a hole.
        if self.copies_in && !matches!(message.kind, b'd' | b'c' | b'f') {
            return;
        }
        let start = self.side.start(message.first, message.last);
        let body = message.body;
        match message.kind {
            b'Q' => self.query(message, start, context),
            b'P' => {
                let (name, rest) = text(body);
                // What follows the text may be cut off, but then its NUL is there.
                let cut = !message.whole && !rest.contains(&0);
                let statement = self.prepare(text(rest).0, cut, context);
                let evicted = self.statements.insert(name, statement.clone());
                context.lost("statement_evicted", evicted);
                self.join(false, Some(statement), message.bytes, start, context);
            }
            b'B' => {
                let (portal, rest) = text(body);
                let bound = self.statement(text(rest).0, context);
                let evicted = self.portals.insert(portal, bound.clone());
                context.lost("portal_evicted", evicted);
                self.join(true, Some(bound), message.bytes, start, context);
                let open_portal = self.open_portal.get_or_insert_default();
                open_portal.clear();
                open_portal.extend_from_slice(portal);
            }
            b'D' => {
                let name = text(body.get(1..).unwrap_or_default()).0;
                let described = match body.first() {
                    _ if self.open => None,
                    Some(b'S') => Some(self.statement(name, context)),
                    _ => Some(self.portal(name, context)),
                };
                self.join(true, described, message.bytes, start, context);
            }
            b'C' => {
                let name = text(body.get(1..).unwrap_or_default()).0;
                match body.first() {
                    Some(b'S') => self.statements.remove(name),
                    _ => self.portals.remove(name),
                }
                self.join(true, None, message.bytes, start, context);
            }
            b'E' => self.execute(text(body).0, message.bytes, start, context),
            b'S' => {
                self.skips = false;
                self.push(Entry::Sync, context);
            }
            b'H' => self.close_request(),
            b'F' => {
                let function = u32_at(body, 0).unwrap_or_default();
                let operation = context.settings.operations.named(&format!("<function> {function}"));
                self.push_statement(operation, None, start, message.bytes, context);
                self.push(Entry::QueryEnd, context);
            }
            b'd' | b'c' | b'f' if self.copies_in => {
                if let Some(Entry::Pending(pending)) = self.queue.front() {
                    pending.request_bytes += message.bytes;
                }
                self.copies_in = message.kind == b'd';
            }
            _ => {}
        }
    }

    /// Requests were missed.
    pub fn requests_missed(&mut self, why: Missed, moment: &Moment, context: &mut Context<'_>) {
        context.lost("unexpected_message", u64::from(why == Missed::Unexpected));
        self.close_request();
        if self.copies_in {
            return;
        }
        self.unsure = true;
        if why == Missed::Uncaptured {
            if !self.skips && !matches!(self.queue.iter().last(), Some(Entry::Unknown(_))) {
                let start = self.side.start(moment, moment);
                self.push(Entry::Unknown(start), context);
            }
        } else {
            // Their answers may have gone by already, and a Sync with them.
            self.requests_gone = true;
            self.skips = false;
        }
    }

    fn push(&mut self, entry: Entry, context: &mut Context<'_>) {
        self.close_request();
        if !self.queue.push(entry) {
            self.unsure = true;
            context.lost("pipeline_full", 1);
        }
    }

    pub(super) fn close_request(&mut self) {
        self.open = false;
    }

    pub(super) fn drop_requests(&mut self, count: usize, context: &mut Context<'_>) {
        let mut dropped = 0;
        for _ in 0..count {
            match self.queue.pop() {
                Some(Entry::Pending(pending)) => dropped += u64::from(pending.executes),
                Some(_) => {}
                None => break,
            }
        }
        self.close_request();
        context.lost("answer_missed", dropped);
    }

    fn query(&mut self, message: &Message<'_>, start: Mark, context: &mut Context<'_>) {
        let statement_bytes = context.settings.statement_bytes();
        let sql = text(&message.body[..message.body.len().min(statement_bytes)]).0;
        let cut = message.bytes - 6 > sql.len() as u64;
        let operations = &context.settings.operations;
        let (mut index, mut counted) = (None, 0);
        operations.statements(sql, cut, self.dialect(), &mut |Statement { operation, range }| {
            let bytes = range.len() as u64;
            let text = literal(sql, range, context.settings);
            counted += bytes;
            index.get_or_insert(self.queue.len());
            self.push_statement(operation, text, start, bytes, context);
        });
        if index.is_none() && !cut {
            let operation = operations.named("<empty>");
            index = Some(self.queue.len());
            self.push_statement(operation, None, start, 0, context);
        }
        // The first one takes the message's other bytes.
        if let Some(Entry::Pending(pending)) = index.and_then(|index| self.queue.get_mut(index)) {
            pending.request_bytes += message.bytes - counted;
        }
        if cut {
            // More statements may follow where the text was not seen.
            self.push(Entry::Unknown(start), context);
        }
        self.push(Entry::QueryEnd, context);
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres { backslashes: self.backslashes }
    }

    fn push_statement(
        &mut self,
        operation: Operation,
        text: Option<Arc<str>>,
        start: Mark,
        request_bytes: u64,
        context: &mut Context<'_>,
    ) {
        let pending = Pending { operation, text, start, request_bytes, replies: 0, executes: true, extended: false };
        self.push(Entry::Pending(pending), context);
    }

    fn prepare(&self, sql: &[u8], cut: bool, context: &Context<'_>) -> Prepared {
        let statement_bytes = context.settings.statement_bytes();
        let cut = cut || sql.len() > statement_bytes;
        let sql = &sql[..sql.len().min(statement_bytes)];
        let mut prepared = None;
        context.settings.operations.statements(sql, cut, self.dialect(), &mut |Statement { operation, range }| {
            prepared.get_or_insert_with(|| {
                let text = literal(sql, range, context.settings);
                Prepared { operation, text, ran: false }
            });
        });
        prepared.unwrap_or_else(|| unseen(if cut { UNRESOLVED } else { "<empty>" }, context))
    }

    fn statement(&mut self, name: &[u8], context: &Context<'_>) -> Prepared {
        match self.statements.get(name) {
            Some(prepared) => prepared.clone(),
            None if name.is_empty() => unseen(UNRESOLVED, context),
            None => unseen(&format!("{UNRESOLVED} {}", String::from_utf8_lossy(name)), context),
        }
    }

    /// Portals often have names made up per use, so the name of an unseen one says nothing.
    fn portal(&mut self, name: &[u8], context: &Context<'_>) -> Prepared {
        self.portals.get(name).cloned().unwrap_or_else(|| unseen(UNRESOLVED, context))
    }

    /// Adds a message of the extended protocol to the open request, or begins one with it.
    ///
    /// A `Parse` begins a request. So does a `Bind`, but for one to the statement just parsed.
    fn join(&mut self, joins: bool, of: Option<Prepared>, bytes: u64, start: Mark, context: &mut Context<'_>) {
        if self.open
            && joins
            && let Some(Entry::Pending(pending)) = self.queue.back()
            && of.as_ref().is_none_or(|of| self.open_portal.is_none() && pending.operation.id == of.operation.id)
        {
            pending.replies += 1;
            pending.request_bytes += bytes;
            return;
        }
        let Prepared { operation, text, .. } = of.unwrap_or_else(|| unseen("<close>", context));
        let pending =
            Pending { operation, text, start, request_bytes: bytes, replies: 1, executes: false, extended: true };
        self.push(Entry::Pending(pending), context);
        self.open = true;
        self.open_portal = None;
    }

    fn execute(&mut self, portal: &[u8], bytes: u64, start: Mark, context: &mut Context<'_>) {
        let ran = self.portals.get(portal).is_some_and(|portal| std::mem::replace(&mut portal.ran, true));
        if self.open
            && !ran
            && self.open_portal.as_deref() == Some(portal)
            && let Some(Entry::Pending(pending)) = self.queue.back()
        {
            pending.executes = true;
            pending.request_bytes += bytes;
            return self.close_request();
        }
        let Prepared { mut operation, text, .. } = self.portal(portal, context);
        if ran {
            operation = context.settings.operations.named(&format!("<resumed> {}", operation.text));
        }
        let pending =
            Pending { operation, text, start, request_bytes: bytes, replies: 0, executes: true, extended: true };
        self.push(Entry::Pending(pending), context);
    }
}

/// A statement as written, where that may be kept; never one with a password.
fn literal(sql: &[u8], range: Range<usize>, settings: &Settings) -> Option<Arc<str>> {
    let text = sql.get(range).unwrap_or_default();
    (settings.keep_literals && !has_password(text)).then(|| String::from_utf8_lossy(text).into())
}

fn unseen(operation: &str, context: &Context<'_>) -> Prepared {
    Prepared { operation: context.settings.operations.named(operation), text: None, ran: false }
}
