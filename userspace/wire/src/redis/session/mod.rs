//! Which answer belongs to which command.

mod answer;
mod effect;
mod queue;

use std::sync::Arc;

use self::{
    answer::{Answer, Ended, Held},
    effect::Effect,
    queue::{Pending, Queue},
};
use super::{
    commands::{self, Name},
    requests::{Arguments, Command},
    values::Value,
};
use crate::{
    connection::Context,
    outcome::{Exchange, Facts, Protocol, Side, Status},
    segment::{Mark, Moment},
    settings::Settings,
};

/// The operation of a command that was not captured.
const UNRESOLVED: &str = "<unresolved>";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Replies {
    On,
    Off,
    /// Of the next command.
    Skip,
}

#[derive(Debug)]
pub struct Session {
    side: Side,
    queue: Queue,
    /// Answers behind a hole.
    held: Held,
    /// Channels are subscribed to, so that messages come.
    subscribed: bool,
    replies: Replies,
    /// Where the present answer begins in its direction.
    answer_start: u64,
    /// Answers were missed within a call, from the present one on.
    cut: bool,
    /// Something was missed, so what is left in the queue may be answered already.
    unsure: bool,
    /// What was asked last is not complete yet.
    goes_on: bool,
    /// The mark of the latest call.
    shared: Option<Arc<Mark>>,
    /// The latest that was answered.
    answered: Moment,
    last: Mark,
    scratch: String,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    Goes,
    /// A stream without requests follows.
    Streams,
}

impl Session {
    pub fn new(side: Side, settings: &Settings) -> Self {
        let max_bytes = settings.connection_bytes() / 16 * 7;
        let held = Held::new(settings.connection_bytes() / 8, max_bytes / 6);
        Self {
            side,
            queue: Queue::new(max_bytes, held.max()),
            held,
            subscribed: false,
            replies: Replies::On,
            answer_start: 0,
            cut: false,
            unsure: false,
            goes_on: false,
            shared: None,
            answered: Moment::default(),
            last: Mark::default(),
            scratch: String::new(),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.queue.memory_bytes() + self.held.memory_bytes() + self.scratch.capacity()
    }

    /// The latest that is known of the thread.
    pub fn seen(&mut self, mark: &Mark) {
        self.last = *mark;
    }

    /// A segment of answers came.
    pub fn answered(&mut self, moment: &Moment) {
        self.answered = *moment;
    }

    pub fn command(&mut self, command: &Command<'_>, context: &mut Context<'_>) -> Next {
        let arguments = command.arguments;
        let name = arguments.get(0).and_then(Name::new);
        let name = name.as_ref().map_or(&b""[..], Name::as_bytes);
        if matches!(name, b"PSYNC" | b"SYNC") {
            return Next::Streams;
        }
        let sub = |word: &[u8]| arguments.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(word));
        if name == b"CLIENT" && sub(b"REPLY") {
            let on = arguments.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"ON"));
            let skip = arguments.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"SKIP"));
            self.replies = match (on, skip, self.replies) {
                (true, _, _) => Replies::On,
                (_, true, Replies::On) => Replies::Skip,
                _ => Replies::Off,
            };
            if !on {
                return Next::Goes;
            }
        } else if self.replies != Replies::On {
            // Nothing will answer it, so there is no exchange.
            if self.replies == Replies::Skip {
                self.replies = Replies::On;
            }
            return Next::Goes;
        }
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        commands::operation(&mut text, arguments);
        let operation = context.settings.operations.named(&text);
        self.scratch = text;
        let start = match self.side {
            Side::Server => command.last.returned(),
            Side::Client => command.first.entered(),
        };
        let (start, first) = self.share(start);
        self.goes_on |= command.cut;
        let secret = !context.settings.keep_literals || commands::has_secrets(name, arguments);
        let pending = Pending {
            operation: Some(operation),
            text: (!secret).then(|| literal(arguments, context.settings.statement_bytes())),
            start,
            first,
            request_bytes: command.bytes,
            effect: Effect::of(name, arguments).map(Box::new),
        };
        if !self.queue.push(pending) {
            context.lost("pipeline_full", 1);
        }
        Next::Goes
    }

    /// The mark, shared with what came in the same call, and whether it is the first of it.
    fn share(&mut self, mark: Mark) -> (Arc<Mark>, bool) {
        if let Some(shared) = self.shared.as_ref().filter(|shared| ***shared == mark) {
            return (shared.clone(), false);
        }
        let shared = Arc::new(mark);
        self.shared = Some(shared.clone());
        (shared, true)
    }

    /// More of what was asked last comes, whose end was not captured: it is complete only now.
    pub fn goes_on(&mut self, moment: &Moment) {
        if self.goes_on && self.side == Side::Server && self.queue.has_hole() {
            let start = self.share(moment.returned()).0;
            if let Some(pending) = self.queue.before_hole() {
                pending.start = start;
            }
        }
    }

    /// Commands were missed. `moment`: within that call; without, whole calls never came.
    pub fn commands_missed(&mut self, moment: Option<&Moment>) {
        let start = moment.map(|moment| match self.side {
            Side::Server => moment.returned(),
            Side::Client => moment.entered(),
        });
        let start = start.map(|start| self.share(start).0);
        self.unsure = true;
        self.queue.hole_at_back(start);
    }

    /// Answers were missed. `cut`: within a call; without, whole calls never came.
    pub fn answers_missed(&mut self, cut: bool) {
        self.unsure = true;
        if cut {
            self.cut = true;
        } else {
            self.queue.hole_at_front();
        }
    }

    /// Answers were missed within a call.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The client's turn to speak begins. `begun`: the rows of an answer that has begun.
    ///
    /// After something was missed it is taken for granted that all before is answered, so that no answer goes to an
    /// old command for good.
    pub fn turn(&mut self, begun: Option<Option<u64>>, position: u64, context: &mut Context<'_>) {
        self.goes_on = false;
        if std::mem::take(&mut self.cut) {
            self.close_cut(begun, position, context);
        }
        if self.queue.has_hole() {
            self.settle(context);
        } else if std::mem::take(&mut self.unsure) {
            context.lost("answer_missed", self.queue.clear());
        }
    }

    /// Their answers ended somewhere in what was not captured: at the latest with the last call.
    fn close_cut(&mut self, begun: Option<Option<u64>>, position: u64, context: &mut Context<'_>) {
        let end = self.end(&self.answered);
        let mut incomplete = 0;
        let mut rows = begun;
        while !self.queue.is_empty() && self.queue.front_hole().is_none() {
            let bytes = position.saturating_sub(std::mem::replace(&mut self.answer_start, position));
            // Of the first one it is known what it was.
            let known = rows.take();
            incomplete += u64::from(known.is_none());
            self.complete(Answer::bare(Status::Ok, known.flatten(), bytes), end, context);
        }
        self.answer_start = position;
        context.lost("answer_incomplete", incomplete);
    }

    /// Gives the answers held to the commands behind the hole, the last one to the last.
    fn settle(&mut self, context: &mut Context<'_>) {
        let held = self.held.take();
        let Some((mut missed, hole)) = self.queue.take_hole() else { return };
        if hole.answered {
            missed += u64::from(self.queue.take().is_some());
        }
        let behind = self.queue.count();
        for _ in (held.len() as u64)..behind {
            missed += u64::from(self.queue.take().is_some());
        }
        context.lost("answer_missed", missed);
        let mut unasked = (held.len() as u64).saturating_sub(behind);
        for Ended { end, answer } in held {
            if unasked > 0 {
                unasked -= 1;
                self.unresolved(hole.start.as_ref(), answer, end, context);
            } else {
                self.complete(answer, end, context);
            }
        }
    }

    pub fn value(&mut self, value: &Value<'_>, context: &mut Context<'_>) -> Next {
        let bytes = value.end.saturating_sub(std::mem::replace(&mut self.answer_start, value.end));
        let end = self.end(value.last);
        if matches!(value.kind, b'>' | b'*') && self.is_message(value) {
            return Next::Goes;
        }
        // Each second a replica says how far it is.
        if value.kind == b'*' && value.first.eq_ignore_ascii_case(b"REPLCONF") {
            return Next::Streams;
        }
        let exec = matches!(self.queue.front_effect(), Some(Effect::Exec));
        let error = value.error.filter(|_| !value.within || exec);
        let answer = Answer::new(value, error, bytes, context);
        if let Some(hole) = self.queue.front_hole() {
            let start = hole.start.clone();
            if let Some(Ended { end, answer }) = self.held.push(end, answer) {
                self.unresolved(start.as_ref(), answer, end, context);
            }
            return Next::Goes;
        }
        if self.queue.is_empty() {
            context.lost("request_missed", 1);
        }
        self.complete(answer, end, context)
    }

    /// Whether this is a message of a channel, or told unasked, or one of several confirmations.
    fn is_message(&mut self, value: &Value<'_>) -> bool {
        let confirms = |word: &[u8]| {
            let word = word.strip_prefix(b"p").or(word.strip_prefix(b"s").filter(|_| word.len() > 9)).unwrap_or(word);
            matches!(word, b"subscribe" | b"unsubscribe")
        };
        let told = match (value.first, value.rows) {
            (b"message" | b"smessage", Some(3)) | (b"pmessage", Some(4)) => true,
            (word, Some(3)) => confirms(word),
            _ => false,
        };
        if told && value.first.ends_with(b"subscribe") {
            if let Some(Effect::Subscribe(left)) = self.queue.front_effect() {
                *left = left.saturating_sub(1);
                return *left > 0;
            }
            return value.kind == b'>' || self.subscribed || self.queue.is_empty();
        }
        value.kind == b'>' || (told && (self.subscribed || self.queue.is_empty()))
    }

    /// The connection ended: what ran was aborted; what waited behind it is not known.
    pub fn close(&mut self, time_ns: u64, begun: Option<Option<u64>>, position: u64, context: &mut Context<'_>) {
        self.turn(begun, position, context);
        let bytes = position.saturating_sub(self.answer_start);
        self.complete(Answer::bare(Status::Aborted, None, bytes), Mark { time_ns, ..self.last }, context);
        context.lost("answer_missed", self.queue.clear());
    }

    /// The queue's first command is answered.
    fn complete(&mut self, answer: Answer, end: Mark, context: &mut Context<'_>) -> Next {
        let Some(pending) = self.queue.take() else { return Next::Goes };
        let good = answer.status == Status::Ok;
        let effect = pending.effect.as_deref().filter(|_| good);
        let next = effect.map_or(Next::Goes, |effect| self.takes_effect(effect, context.facts));
        self.hit(pending, answer, end, context);
        next
    }

    fn takes_effect(&mut self, effect: &Effect, facts: &mut Facts) -> Next {
        match effect {
            Effect::Exec => {}
            Effect::Subscribe(_) => self.subscribed = true,
            Effect::Monitor => return Next::Streams,
            Effect::Reset => {
                self.subscribed = false;
                (facts.user, facts.database) = (None, None);
            }
            Effect::User(user, application) => {
                facts.user = user.clone().or(facts.user.take());
                facts.application = application.clone().or(facts.application.take());
            }
            Effect::Database(database) => facts.database = Some(database.clone()),
            Effect::Application(application) => facts.application = Some(application.clone()),
        }
        Next::Goes
    }

    /// An answer to a command within a hole.
    fn unresolved(&self, start: Option<&Arc<Mark>>, answer: Answer, end: Mark, context: &mut Context<'_>) {
        match start {
            Some(start) => self.hit(Pending::unseen(start.clone()), answer, end, context),
            None => context.lost("request_missed", 1),
        }
    }

    fn hit(&self, pending: Pending, answer: Answer, end: Mark, context: &mut Context<'_>) {
        let Pending { operation, text, start, request_bytes, .. } = pending;
        let operation = operation.unwrap_or_else(|| context.settings.operations.named(UNRESOLVED));
        let Answer { status, code: error_code, message: error_message, rows, bytes: response_bytes } = answer;
        context.hit(Exchange {
            protocol: Protocol::Redis,
            side: self.side,
            start: *start,
            end,
            shared: false,
            operation: operation.text,
            operation_id: operation.id,
            status,
            error_code,
            error_message,
            rows,
            request_bytes,
            response_bytes,
            authority: None,
            text,
        });
    }

    fn end(&self, moment: &Moment) -> Mark {
        match self.side {
            Side::Server => moment.entered(),
            Side::Client => moment.returned(),
        }
    }
}

/// A command as written, its arguments separated by blanks.
fn literal(arguments: &Arguments, max_bytes: usize) -> Arc<str> {
    let mut text = String::new();
    let mut cut = arguments.count > arguments.kept() as u64;
    for index in 0..arguments.kept() {
        let argument = String::from_utf8_lossy(arguments.get(index).unwrap_or_default());
        if text.len() + argument.len() >= max_bytes {
            cut = true;
            break;
        }
        if index > 0 {
            text.push(' ');
        }
        text.push_str(&argument);
        cut |= arguments.whole(index).is_none();
    }
    if cut {
        text.push_str(" …");
    }
    text.into()
}
