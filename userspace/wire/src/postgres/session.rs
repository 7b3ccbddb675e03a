//! Which answer belongs to which request.

use std::sync::Arc;

use super::{
    message::{self, field, rows, text, u32_at},
    names::{Names, Prepared},
    queue::{Entry, Pending, Queue},
    stream::Message,
};
use crate::{
    outcome::{Exchange, Facts, Outcome, Protocol, Side, Status},
    segment::{Mark, Moment},
    settings::Settings,
    sql::{Operation, Statement, strip_literals},
};

/// What the session works with during one segment.
pub struct Context<'a> {
    pub settings: &'a Settings,
    pub facts: &'a mut Facts,
    pub sink: &'a mut dyn FnMut(Outcome),
}

impl Context<'_> {
    pub fn lost(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            (self.sink)(Outcome::Lost { reason, count });
        }
    }
}

/// The operation of what was prepared or bound unseen.
const UNRESOLVED: &str = "<unresolved>";

#[derive(Debug)]
pub struct Session {
    side: Side,
    statements: Names,
    portals: Names,
    queue: Queue,
    /// The last request in the queue can take more messages of the extended protocol.
    open: bool,
    /// Portal that the open request bound.
    open_portal: Option<Vec<u8>>,
    /// A hit that the answer to the `Sync` behind it may still turn into an error: that is where it is committed.
    held: Option<Exchange>,
    /// Answered so far, since the last completion.
    answer_bytes: u64,
    answer_rows: u64,
    rows_missed: bool,
    /// The server skips to the next `Sync`, and so do we.
    skips: bool,
    /// The client copies in.
    copies_in: bool,
    /// Requests or answers were missed, so the queue's head may be answered already.
    unsure: bool,
    /// `ReadyForQuery` was the last that the server said.
    ready: bool,
    backslashes: bool,
    last: Mark,
}

impl Session {
    pub fn new(side: Side, settings: &Settings) -> Self {
        let bytes = settings.connection_bytes();
        Self {
            side,
            statements: Names::new(bytes / 4),
            portals: Names::new(bytes / 8),
            queue: Queue::new(bytes / 4),
            open: false,
            open_portal: None,
            held: None,
            answer_bytes: 0,
            answer_rows: 0,
            rows_missed: false,
            skips: false,
            copies_in: false,
            unsure: false,
            ready: false,
            backslashes: false,
            last: Mark::default(),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.statements.memory_bytes()
            + self.portals.memory_bytes()
            + self.queue.memory_bytes()
            + self.open_portal.as_ref().map_or(0, Vec::capacity)
    }

    /// The client's turn to speak begins.
    pub fn turn(&mut self) {
        self.queue.turn = self.queue.turn.wrapping_add(1);
    }

    fn start(&self, first: Moment, last: Moment) -> Mark {
        match self.side {
            Side::Server => last.returned(),
            Side::Client => first.entered(),
        }
    }

    fn end(&self, moment: Moment) -> Mark {
        match self.side {
            Side::Server => moment.entered(),
            Side::Client => moment.returned(),
        }
    }

    // ---- requests ----

    pub fn request(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        if self.skips && !matches!(message.kind, b'S' | b'X') {
            return;
        }
        let start = self.start(message.first, message.last);
        self.last = message.last.returned();
        if matches!(message.kind, b'Q' | b'P' | b'B' | b'E' | b'F' | b'D' | b'C') && !self.open {
            self.doubt(context);
        }
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
            // During COPY FROM the server takes no notice of these.
            b'S' | b'H' if self.copies_in => {}
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

    /// Requests were missed; `within` a segment that began at this time, or with all their segment.
    pub fn requests_missed(&mut self, within: Option<Moment>, context: &mut Context<'_>) {
        self.close_request();
        if self.copies_in {
            return;
        }
        self.unsure = true;
        match within {
            Some(moment) => {
                if !self.skips && !matches!(self.queue.iter().last(), Some(Entry::Unknown(_))) {
                    let start = self.start(moment, moment);
                    self.push(Entry::Unknown(start), context);
                }
            }
            None => self.skips = false,
        }
    }

    fn push(&mut self, entry: Entry, context: &mut Context<'_>) {
        self.close_request();
        if !self.queue.push(entry) {
            self.unsure = true;
            context.lost("pipeline_full", 1);
        }
    }

    fn close_request(&mut self) {
        self.open = false;
    }

    /// A client that waits for its answers asks anew only when all before is answered. After something was missed
    /// that is taken for granted, so that no answer goes to an old request for good.
    fn doubt(&mut self, context: &mut Context<'_>) {
        if self.unsure && self.ready && !self.queue.is_empty() {
            self.drop_requests(usize::MAX, context);
        }
    }

    fn drop_requests(&mut self, count: usize, context: &mut Context<'_>) {
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
        let operations = context.settings.operations.clone();
        let (mut index, mut counted) = (None, 0);
        operations.statements(sql, cut, self.backslashes, &mut |Statement { operation, range }| {
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

    fn push_statement(
        &mut self,
        operation: Operation,
        text: Option<Arc<str>>,
        start: Mark,
        request_bytes: u64,
        context: &mut Context<'_>,
    ) {
        let operation = Some(operation);
        let pending = Pending { operation, text, start, request_bytes, replies: 0, executes: true, extended: false };
        self.push(Entry::Pending(pending), context);
    }

    fn prepare(&self, sql: &[u8], cut: bool, context: &Context<'_>) -> Prepared {
        let statement_bytes = context.settings.statement_bytes();
        let cut = cut || sql.len() > statement_bytes;
        let sql = &sql[..sql.len().min(statement_bytes)];
        let mut prepared = None;
        context.settings.operations.statements(sql, cut, self.backslashes, &mut |Statement { operation, range }| {
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
            && let Some(pending) = self.queue.last_pending()
            && of.as_ref().is_none_or(|of| {
                self.open_portal.is_none() && pending.operation.as_ref().is_some_and(|it| it.id == of.operation.id)
            })
        {
            pending.replies += 1;
            pending.request_bytes += bytes;
            return;
        }
        let (operation, text) = of.map(|of| (of.operation, of.text)).unzip();
        let text = text.flatten();
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
            && let Some(pending) = self.queue.last_pending()
        {
            pending.executes = true;
            pending.request_bytes += bytes;
            return self.close_request();
        }
        let Prepared { mut operation, text, .. } = self.portal(portal, context);
        if ran {
            operation = context.settings.operations.named(&format!("<resumed> {}", operation.text));
        }
        let pending = Pending {
            operation: Some(operation),
            text,
            start,
            request_bytes: bytes,
            replies: 0,
            executes: true,
            extended: true,
        };
        self.push(Entry::Pending(pending), context);
    }

    // ---- answers ----

    /// `false`: this is a replication stream.
    pub fn answer(&mut self, message: &Message<'_>, context: &mut Context<'_>) -> bool {
        if message.kind == b'D' {
            self.answer_rows += 1;
            self.answer_bytes += message.bytes;
            return true;
        }
        self.last = message.last.returned();
        if message.kind != b'E' {
            self.release(context);
        }
        self.ready = message.kind == b'Z';
        self.answer_bytes += message.bytes;
        match message.kind {
            b'1' | b'2' | b'3' | b'T' | b'n' => self.reply(),
            b'C' => self.complete(rows(message.body), message.last, context),
            b's' => {
                let rows = (!self.rows_missed).then_some(self.answer_rows);
                self.complete(rows, message.last, context);
            }
            b'I' | b'V' => self.complete(None, message.last, context),
            b'E' => self.error(message, context),
            b'Z' => self.finish(message.body.first().copied(), context),
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

    /// Bytes of an answer that were not seen as messages.
    pub fn answer_passed(&mut self, bytes: u64) {
        self.answer_bytes = self.answer_bytes.saturating_add(bytes);
    }

    /// Answers were missed.
    pub fn answers_missed(&mut self, context: &mut Context<'_>) {
        self.release(context);
        self.unsure = true;
        self.rows_missed = true;
        self.ready = false;
    }

    /// Answers are seen again, of which `rest` is there; `old`: what was asked in earlier turns was answered unseen.
    pub fn answers_regained(&mut self, rest: &[u8], old: bool, moment: Moment, context: &mut Context<'_>) {
        self.answer_bytes = self.answer_bytes.saturating_sub(rest.len() as u64);
        if old {
            let old = (0..self.queue.len()).take_while(|index| self.queue.is_old(*index)).count();
            self.drop_requests(old, context);
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
                    let exchange = self.exchange(pending, status, self.end(moment));
                    (context.sink)(Outcome::Hit(exchange));
                    break;
                }
            }
        }
        context.lost("answer_incomplete", unseen as u64);
    }

    fn reply(&mut self) {
        let alone = self.queue.len() == 1;
        let Some(Entry::Pending(pending)) = self.queue.front() else { return };
        pending.replies = pending.replies.saturating_sub(1);
        if pending.replies == 0 && !pending.executes {
            self.queue.pop();
            self.answer_bytes = 0;
            if alone {
                self.close_request();
            }
        }
    }

    fn complete(&mut self, rows: Option<u64>, moment: Moment, context: &mut Context<'_>) {
        let end = self.end(moment);
        self.copies_in = false;
        loop {
            match self.queue.front() {
                Some(Entry::Pending(pending)) if !pending.executes => {
                    self.queue.pop();
                }
                Some(Entry::Pending(_)) => {
                    let Some(Entry::Pending(pending)) = self.queue.pop() else { return };
                    let extended = pending.extended;
                    let exchange = Exchange { rows, ..self.exchange(pending, Status::Ok, end) };
                    if extended && matches!(self.queue.get(0), Some(Entry::Sync)) {
                        self.held = Some(exchange);
                    } else {
                        (context.sink)(Outcome::Hit(exchange));
                    }
                    return;
                }
                Some(Entry::Unknown(start)) => {
                    let pending = unknown(*start, context);
                    let exchange = Exchange { rows, ..self.exchange(pending, Status::Ok, end) };
                    (context.sink)(Outcome::Hit(exchange));
                    return;
                }
                Some(Entry::Sync | Entry::QueryEnd) | None => {
                    self.answer_bytes = 0;
                    self.answer_rows = 0;
                    return context.lost("request_missed", 1);
                }
            }
        }
    }

    fn error(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let end = self.end(message.last);
        let code = field(message.body, b'C').map(|code| String::from_utf8_lossy(code).into());
        let text = field(message.body, b'M').map(|text| {
            let text = String::from_utf8_lossy(text);
            if context.settings.keep_literals { text.into() } else { strip_literals(&text).into() }
        });
        if let Some(held) = self.held.take() {
            // The commit at the Sync failed.
            let failed = Exchange { status: Status::Error, error_code: code, error_message: text, end, ..held };
            return (context.sink)(Outcome::Hit(failed));
        }
        self.copies_in = false;
        let (pending, extended) = match self.queue.front() {
            Some(Entry::Pending(_)) => match self.queue.pop() {
                Some(Entry::Pending(pending)) => (Some(pending), None),
                _ => (None, None),
            },
            Some(Entry::Unknown(start)) => (Some(unknown(*start, context)), Some(self.queue.has_sync())),
            _ => (None, None),
        };
        let Some(pending) = pending else { return };
        let extended = extended.unwrap_or(pending.extended);
        let exchange = self.exchange(pending, Status::Error, end);
        (context.sink)(Outcome::Hit(Exchange { error_code: code, error_message: text, ..exchange }));
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
    fn finish(&mut self, state: Option<u8>, context: &mut Context<'_>) {
        let (mut unanswered, mut unknown) = (0, false);
        while let Some(entry) = self.queue.pop() {
            match entry {
                Entry::Pending(pending) => unanswered += u64::from(pending.executes && !unknown),
                Entry::Unknown(_) => unknown = true,
                Entry::Sync | Entry::QueryEnd => break,
            }
        }
        context.lost("answer_missed", unanswered);
        self.answer_bytes = 0;
        self.answer_rows = 0;
        self.rows_missed = false;
        self.copies_in = false;
        if self.queue.is_empty() {
            self.close_request();
            self.unsure = false;
            if state == Some(b'I') {
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
    fn release(&mut self, context: &mut Context<'_>) {
        if let Some(held) = self.held.take() {
            (context.sink)(Outcome::Hit(held));
        }
    }

    fn exchange(&mut self, pending: Pending, status: Status, end: Mark) -> Exchange {
        let Operation { text: operation, id: operation_id } =
            pending.operation.unwrap_or_else(|| Operation { text: UNRESOLVED.into(), id: 0 });
        let response_bytes = std::mem::take(&mut self.answer_bytes);
        self.answer_rows = 0;
        Exchange {
            protocol: Protocol::Postgres,
            side: self.side,
            start: pending.start,
            end,
            operation,
            operation_id,
            status,
            error_code: None,
            error_message: None,
            rows: None,
            request_bytes: pending.request_bytes,
            response_bytes,
            text: pending.text,
        }
    }

    /// The connection ended: what ran was aborted, and what waited behind it never ran.
    pub fn close(&mut self, time_ns: u64, context: &mut Context<'_>) {
        self.release(context);
        while let Some(entry) = self.queue.pop() {
            if let Entry::Pending(pending) = entry
                && pending.executes
            {
                let exchange = self.exchange(pending, Status::Aborted, Mark { time_ns, ..self.last });
                (context.sink)(Outcome::Hit(exchange));
                break;
            }
        }
        while self.queue.pop().is_some() {}
    }
}

/// A statement as written, where that may be kept.
fn literal(sql: &[u8], range: std::ops::Range<usize>, settings: &Settings) -> Option<Arc<str>> {
    settings.keep_literals.then(|| String::from_utf8_lossy(sql.get(range).unwrap_or_default()).into())
}

fn unseen(operation: &str, context: &Context<'_>) -> Prepared {
    Prepared { operation: context.settings.operations.named(operation), text: None, ran: false }
}

fn unknown(start: Mark, context: &Context<'_>) -> Pending {
    Pending {
        operation: Some(context.settings.operations.named(UNRESOLVED)),
        text: None,
        start,
        request_bytes: 0,
        replies: 0,
        executes: true,
        extended: true,
    }
}
