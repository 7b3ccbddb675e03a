//! Which answer belongs to which command.

use std::{collections::VecDeque, sync::Arc};

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
    sql::{Operation, strip_literals},
};

/// The operation of a command that was not captured.
const UNRESOLVED: &str = "<unresolved>";
/// A mark on the heap, with its counters.
const MARK_BYTES: usize = size_of::<Mark>() + 2 * size_of::<usize>();
/// Places of the queue that are kept when it is empty.
const IDLE_ENTRIES: usize = 32;

/// What a command does to the connection, once its answer is no error.
#[derive(Debug)]
enum Effect {
    /// The errors of its answer's elements are its own.
    Exec,
    /// It is confirmed once per channel.
    Subscribe(u64),
    Monitor,
    Reset,
    User(Option<Arc<str>>, Option<Arc<str>>),
    Database(Arc<str>),
    Application(Arc<str>),
}

#[derive(Debug)]
struct Pending {
    operation: Operation,
    text: Option<Arc<str>>,
    /// Shared by the commands of one call.
    start: Arc<Mark>,
    /// It is the first that shares it.
    first: bool,
    request_bytes: u64,
    effect: Option<Box<Effect>>,
}

#[derive(Debug)]
enum Entry {
    Pending(Pending),
    /// So many commands that there was no room for.
    Crowd(u64, Arc<Mark>),
    /// Something was missed here: commands, as from `start` on, or `answered` ones, one at least. What belongs to what
    /// behind it is found at the end of the turn.
    Hole {
        start: Option<Arc<Mark>>,
        answered: bool,
    },
}

impl Entry {
    fn text_bytes(&self) -> usize {
        match self {
            Entry::Pending(pending) => {
                let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
                let effect = pending.effect.as_deref().map_or(0, |effect| {
                    size_of::<Effect>()
                        + match effect {
                            Effect::User(user, application) => length(user) + length(application),
                            Effect::Database(text) | Effect::Application(text) => text.len(),
                            _ => 0,
                        }
                });
                pending.operation.text.len() + length(&pending.text) + effect + usize::from(pending.first) * MARK_BYTES
            }
            _ => 0,
        }
    }
}

/// An answer whose command is not yet told.
#[derive(Debug)]
struct Held {
    end: Mark,
    answer: Answer,
}

/// What a hit takes from its answer.
#[derive(Debug)]
struct Answer {
    status: Status,
    code: Option<Arc<str>>,
    message: Option<Arc<str>>,
    rows: Option<u64>,
    bytes: u64,
}

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
    queue: VecDeque<Entry>,
    text_bytes: usize,
    max_bytes: usize,
    /// The queue has a hole; never more than one.
    has_hole: bool,
    held: VecDeque<Held>,
    held_text_bytes: usize,
    /// Answers held, and commands behind a hole, at most.
    max_held: usize,
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
        Self {
            side,
            queue: VecDeque::new(),
            text_bytes: 0,
            max_bytes: settings.connection_bytes() / 16 * 7,
            has_hole: false,
            held: VecDeque::new(),
            held_text_bytes: 0,
            max_held: settings.connection_bytes() / 8 / size_of::<Held>(),
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
        self.queue.capacity() * size_of::<Entry>()
            + self.text_bytes
            + self.held.capacity() * size_of::<Held>()
            + self.held_text_bytes
            + self.scratch.capacity()
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
            operation,
            text: (!secret).then(|| literal(arguments, context.settings.statement_bytes())),
            start,
            first,
            request_bytes: command.bytes,
            effect: effect(name, arguments).map(Box::new),
        };
        self.push(pending, context);
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
        if self.goes_on
            && self.side == Side::Server
            && let Some(before) = self.hole().and_then(|hole| hole.checked_sub(1))
        {
            let start = self.share(moment.returned()).0;
            if let Some(Entry::Pending(pending)) = self.queue.get_mut(before) {
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
        // What stands between two holes cannot be told apart from what was missed.
        let mut since = start;
        if let Some(hole) = self.hole() {
            if let Some(Entry::Hole { start: first, .. }) = self.queue.get(hole) {
                since = first.as_ref().and(since.or(first.clone()));
            }
            self.truncate(hole);
        }
        self.has_hole = self.make_room(0);
        if self.has_hole {
            self.queue.push_back(Entry::Hole { start: since, answered: false });
        }
    }

    /// Answers were missed. `cut`: within a call; without, whole calls never came.
    pub fn answers_missed(&mut self, cut: bool) {
        self.unsure = true;
        if cut {
            self.cut = true;
        } else if !self.queue.is_empty() {
            // What was answered may be what was missed before.
            let old = self.hole().and_then(|hole| self.queue.remove(hole));
            let answered = matches!(old, None | Some(Entry::Hole { answered: true, .. }));
            self.has_hole = self.make_room(0);
            if self.has_hole {
                self.queue.push_front(Entry::Hole { start: None, answered });
            }
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
        if let Some(hole) = self.hole() {
            self.settle(hole, context);
        } else if std::mem::take(&mut self.unsure) && !self.queue.is_empty() {
            let missed = self.clear();
            context.lost("answer_missed", missed);
        }
    }

    /// Their answers ended somewhere in what was not captured: at the latest with the last call.
    fn close_cut(&mut self, begun: Option<Option<u64>>, position: u64, context: &mut Context<'_>) {
        let end = self.end(&self.answered);
        let mut incomplete = 0;
        let mut rows = begun;
        while let Some(Entry::Pending(_) | Entry::Crowd(..)) = self.queue.front() {
            let bytes = position.saturating_sub(std::mem::replace(&mut self.answer_start, position));
            // Of the first one it is known what it was.
            let known = rows.take();
            incomplete += u64::from(known.is_none());
            let answer = Answer { status: Status::Ok, code: None, message: None, rows: known.flatten(), bytes };
            self.complete(answer, end, context);
        }
        self.answer_start = position;
        context.lost("answer_incomplete", incomplete);
    }

    /// Gives the answers held to the commands behind the hole, the last one to the last.
    fn settle(&mut self, hole: usize, context: &mut Context<'_>) {
        let held = std::mem::take(&mut self.held);
        self.held_text_bytes = 0;
        let mut missed = 0;
        for _ in 0..hole {
            missed += self.pop().map_or(0, |entry| count(&entry));
        }
        let Some(Entry::Hole { start, answered }) = self.pop() else { return };
        self.has_hole = false;
        if answered {
            missed += u64::from(self.take_one(context).is_some());
        }
        let behind: u64 = self.queue.iter().map(count).sum();
        for _ in (held.len() as u64)..behind {
            missed += u64::from(self.take_one(context).is_some());
        }
        context.lost("answer_missed", missed);
        let mut unasked = (held.len() as u64).saturating_sub(behind);
        for Held { end, answer } in held {
            if unasked > 0 {
                unasked -= 1;
                self.unresolved(start.as_deref(), answer, end, context);
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
        let exec = matches!(self.front_effect(), Some(Effect::Exec));
        let error = value.error.filter(|_| !value.within || exec);
        let answer = answer(value, error, bytes, context);
        match self.queue.front() {
            Some(Entry::Hole { start, .. }) => {
                let start = start.clone();
                self.hold(start.as_deref(), answer, end, context);
                Next::Goes
            }
            Some(_) => self.complete(answer, end, context),
            None => {
                context.lost("request_missed", 1);
                Next::Goes
            }
        }
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
            if let Some(Effect::Subscribe(left)) = self.front_effect() {
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
        let answer = Answer { status: Status::Aborted, code: None, message: None, rows: None, bytes };
        self.complete(answer, Mark { time_ns, ..self.last }, context);
        let missed = self.clear();
        context.lost("answer_missed", missed);
    }

    /// Empties the queue; returns how many commands were in it.
    fn clear(&mut self) -> u64 {
        let mut missed = 0;
        while let Some(entry) = self.pop() {
            missed += count(&entry);
        }
        missed
    }

    /// The queue's first command is answered.
    fn complete(&mut self, answer: Answer, end: Mark, context: &mut Context<'_>) -> Next {
        let Some(pending) = self.take_one(context) else { return Next::Goes };
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

    /// Keeps an answer up to the end of the turn.
    fn hold(&mut self, start: Option<&Mark>, mut answer: Answer, end: Mark, context: &mut Context<'_>) {
        let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        if self.held_text_bytes + length(&answer.message) + length(&answer.code) > self.max_bytes / 6 {
            (answer.code, answer.message) = (None, None);
        }
        self.held_text_bytes += length(&answer.message) + length(&answer.code);
        if self.held.len() >= self.max_held
            && let Some(Held { end, answer }) = self.held.pop_front()
        {
            self.held_text_bytes -= length(&answer.message) + length(&answer.code);
            self.unresolved(start, answer, end, context);
        }
        if self.held.len() == self.held.capacity() {
            let grown = (2 * self.held.len()).clamp(8, self.max_held);
            self.held.reserve_exact(grown - self.held.len());
        }
        self.held.push_back(Held { end, answer });
    }

    fn front_effect(&mut self) -> Option<&mut Effect> {
        match self.queue.front_mut()? {
            Entry::Pending(pending) => pending.effect.as_deref_mut(),
            _ => None,
        }
    }

    /// An answer to a command within a hole.
    fn unresolved(&self, start: Option<&Mark>, answer: Answer, end: Mark, context: &mut Context<'_>) {
        match start {
            Some(start) => self.hit(unseen(Arc::new(*start), context), answer, end, context),
            None => context.lost("request_missed", 1),
        }
    }

    fn hit(&self, pending: Pending, answer: Answer, end: Mark, context: &mut Context<'_>) {
        let Pending { operation: Operation { text: operation, id: operation_id }, text, start, request_bytes, .. } =
            pending;
        let Answer { status, code: error_code, message: error_message, rows, bytes: response_bytes } = answer;
        context.hit(Exchange {
            protocol: Protocol::Redis,
            side: self.side,
            start: *start,
            end,
            shared: false,
            operation,
            operation_id,
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

    /// Where the hole is.
    fn hole(&self) -> Option<usize> {
        let is_hole = |entry: &Entry| matches!(entry, Entry::Hole { .. });
        if self.has_hole { self.queue.iter().position(is_hole) } else { None }
    }

    /// The first command, taken out; `None` at a hole.
    fn take_one(&mut self, context: &Context<'_>) -> Option<Pending> {
        match self.queue.front_mut()? {
            Entry::Pending(_) => match self.pop() {
                Some(Entry::Pending(pending)) => Some(pending),
                _ => None,
            },
            Entry::Crowd(count, start) => {
                let start = start.clone();
                *count -= 1;
                if *count == 0 {
                    self.pop();
                }
                Some(unseen(start, context))
            }
            Entry::Hole { .. } => None,
        }
    }

    fn push(&mut self, pending: Pending, context: &mut Context<'_>) {
        let start = pending.start.clone();
        let entry = Entry::Pending(pending);
        let bytes = entry.text_bytes();
        if matches!(self.queue.back(), Some(Entry::Crowd(..))) || !self.make_room(bytes) {
            context.lost("pipeline_full", 1);
            match self.queue.back_mut() {
                Some(Entry::Crowd(count, since)) => (*count, *since) = (*count + 1, start),
                _ => self.queue.push_back(Entry::Crowd(1, start)),
            }
            return;
        }
        self.text_bytes += bytes;
        self.queue.push_back(entry);
        if let Some(hole) = self.hole()
            && self.queue.len() - hole > self.max_held
        {
            let first = self.queue.remove(hole + 1);
            self.text_bytes -= first.map_or(0, |entry| entry.text_bytes());
        }
    }

    /// Makes room for one more; one place stays free for a crowd, and one for a hole.
    fn make_room(&mut self, bytes: usize) -> bool {
        let (length, capacity) = (self.queue.len(), self.queue.capacity());
        let fits = |capacity: usize, text: usize| capacity * size_of::<Entry>() + text + bytes <= self.max_bytes;
        if length + 3 <= capacity {
            return fits(capacity, self.text_bytes);
        }
        let most = self.max_bytes / size_of::<Entry>();
        let grown = (2 * capacity).clamp(8, most);
        if grown <= capacity || !fits(grown, self.text_bytes) {
            return false;
        }
        self.queue.reserve_exact(grown - length);
        true
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.text_bytes -= entry.text_bytes();
        if self.queue.is_empty() && self.queue.capacity() > 4 * IDLE_ENTRIES {
            self.queue.shrink_to(IDLE_ENTRIES);
        }
        Some(entry)
    }

    fn truncate(&mut self, length: usize) {
        while self.queue.len() > length {
            let entry = self.queue.pop_back();
            self.text_bytes -= entry.map_or(0, |entry| entry.text_bytes());
        }
    }
}

/// Commands that an entry stands for, where that is known.
fn count(entry: &Entry) -> u64 {
    match entry {
        Entry::Pending(_) => 1,
        Entry::Crowd(count, _) => *count,
        Entry::Hole { .. } => 0,
    }
}

fn unseen(start: Arc<Mark>, context: &Context<'_>) -> Pending {
    let operation = context.settings.operations.named(UNRESOLVED);
    Pending { operation, text: None, start, first: false, request_bytes: 0, effect: None }
}

fn answer(value: &Value<'_>, error: Option<&[u8]>, bytes: u64, context: &Context<'_>) -> Answer {
    let Some(error) = error else {
        return Answer { status: Status::Ok, code: None, message: None, rows: value.rows, bytes };
    };
    let text = String::from_utf8_lossy(error);
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let is_code = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let (code, message) = if is_code { (word, rest) } else { ("ERR", &*text) };
    let message = if context.settings.keep_literals { message.into() } else { strip_literals(message).into() };
    Answer { status: Status::Error, code: Some(code.into()), message: Some(message), rows: None, bytes }
}

/// What the command is to change.
fn effect(name: &[u8], arguments: &Arguments) -> Option<Effect> {
    let text =
        |index: usize| -> Option<Arc<str>> { arguments.whole(index).map(|text| String::from_utf8_lossy(text).into()) };
    Some(match name {
        b"EXEC" => Effect::Exec,
        b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE" | b"PUNSUBSCRIBE" | b"SUNSUBSCRIBE" => {
            Effect::Subscribe(arguments.count.saturating_sub(1).max(1))
        }
        b"MONITOR" => Effect::Monitor,
        b"RESET" => Effect::Reset,
        b"AUTH" if arguments.count == 2 => Effect::User(Some("default".into()), None),
        b"AUTH" => Effect::User(text(1), None),
        b"HELLO" => {
            let (mut user, mut application, mut index) = (None, None, 2);
            while let Some(option) = arguments.get(index) {
                if option.eq_ignore_ascii_case(b"AUTH") {
                    user = text(index + 1);
                    index += 3;
                } else if option.eq_ignore_ascii_case(b"SETNAME") {
                    application = text(index + 1);
                    index += 2;
                } else {
                    break;
                }
            }
            Effect::User(user, application)
        }
        b"SELECT" => Effect::Database(text(1)?),
        b"CLIENT" if arguments.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"SETNAME")) => {
            Effect::Application(text(2)?)
        }
        _ => return None,
    })
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
