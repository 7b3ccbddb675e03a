//! Messages that are still to be sent, kept on disk until Slack has taken them. No clock and no I/O of its own.
//!
//! A message is stored before the first attempt and taken out after Slack's answer. It is sent twice only where the server dies
//! between that answer and the file, or where an answer was lost on its way; the message's id, the same each time, lets Slack
//! recognise that. Messages of one rule keep their order. One that Slack does not take holds up no other rule's; what could not
//! be sent for an hour, or is too much, is folded into one message.

use std::{collections::VecDeque, mem, time::Duration};

use hitscope_base::time;
use hitscope_config::Severity;
use hitscope_slack::{Attachment, Block, Color, Markup, Message};
use ring::digest;
use serde::{Deserialize, Serialize};

use super::{
    book::{Change, State},
    clock::Now,
};

/// So many alerts are listed in one message.
const LISTED: usize = 20;
/// So many messages are listed in the one that they are folded into.
const FOLDED_LISTED: usize = 50;
/// When more messages wait, the oldest are folded.
const MOST_WAITING: usize = 1000;
/// A message that is older is folded.
const STALE_NS: i64 = 3600 * 1_000_000_000;
/// A message that failed so often, while Slack took others, is given up.
const MOST_FAILURES: u32 = 8;
/// Characters of a label's text.
const LABEL_LENGTH: usize = 200;

/// How messages look.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// Where they are posted; a webhook has its own.
    pub channel: Option<String>,
    /// Where people reach the page.
    pub public_url: Option<String>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Tells it from the others.
    #[serde(default)]
    pub id: u64,
    /// The message.
    pub message: Message,
    /// What it tells.
    pub changes: Vec<Change>,
    /// Whether the changes are in the table `alerts` already.
    pub recorded: bool,
    /// What was folded into it.
    #[serde(default)]
    pub folded: Option<Folded>,
    /// When it was written, ns by the steady clock.
    #[serde(default)]
    written_ns: i64,
    /// How often it has failed.
    #[serde(default)]
    failed: u32,
    /// Whether Slack took another since it failed first.
    #[serde(default)]
    overtaken: bool,
    /// The version of the state that has it; 0: it was on disk from the start.
    #[serde(skip)]
    pub version: u64,
}

/// Messages that became one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Folded {
    /// What they said, the oldest first.
    lines: Vec<String>,
    /// How many more there are.
    more: usize,
}

/// The messages, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outbox {
    /// Those that wait.
    pub letters: VecDeque<Letter>,
    /// The id of the newest.
    last_id: u64,
    /// How many attempts have failed since the last that did not.
    failed: u32,
    /// When the next attempt may be made, ns by the steady clock.
    paused_until_ns: i64,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The one that is being sent.
    #[serde(skip)]
    sending: Option<u64>,
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Nothing waits.
    Nothing,
    /// There is a pause.
    Wait(Duration),
    /// This is to be sent.
    Send(Box<Letter>),
}

/// What became of a failed attempt.
#[derive(Debug, PartialEq)]
pub enum Failed {
    /// The letter is no longer there.
    Gone,
    /// It is tried again. Its changes, if they are not recorded yet, are to be recorded.
    Again(Vec<Change>),
    /// It is given up.
    GivenUp(Box<Letter>),
}

impl Outbox {
    /// Makes what was stored fit for this process. After a start of the host, times are measured anew, from the wall clock.
    pub fn take_up(&mut self, same_boot: bool, now: Now) {
        for letter in &mut self.letters {
            if letter.id == 0 {
                self.last_id += 1;
                letter.id = self.last_id;
            }
            if !same_boot {
                let written = letter.changes.first().map_or(0, |change| change.time_ns);
                letter.written_ns = now.steady_ns.saturating_sub(now.wall_ns.saturating_sub(written).max(0));
            }
        }
        if !same_boot {
            self.paused_until_ns = 0;
        }
    }

    /// Begins anew after whoever was sending came to an end.
    pub fn interrupted(&mut self) {
        self.sending = None;
    }

    /// Adds a message.
    pub fn push(&mut self, mut letter: Letter, now: Now) {
        self.last_id += 1;
        (letter.id, letter.written_ns) = (self.last_id, now.steady_ns);
        self.letters.push_back(letter);
    }

    /// Folds what is stale or too much. Gives the letters that are no more of their own.
    pub fn fold(&mut self, style: &Style, now: Now) -> Vec<Letter> {
        let mut excess = self.letters.len().saturating_sub(MOST_WAITING);
        let sending = self.sending;
        let mut folds = |letter: &Letter| {
            if Some(letter.id) == sending {
                return false;
            }
            let stale = now.steady_ns.saturating_sub(letter.written_ns) > STALE_NS;
            if letter.folded.is_some() {
                return true;
            }
            let folds = stale || excess > 0;
            excess = excess.saturating_sub(usize::from(folds));
            folds
        };
        let (folding, letters): (Vec<_>, Vec<_>) = mem::take(&mut self.letters).into_iter().partition(|l| folds(l));
        self.letters = letters.into();
        if folding.iter().all(|letter| letter.folded.is_some()) && folding.len() < 2 {
            folding.into_iter().rev().for_each(|letter| self.letters.push_front(letter));
            return Vec::new();
        }
        let mut folded = Folded::default();
        for letter in &folding {
            match &letter.folded {
                Some(before) => {
                    folded.lines.extend(before.lines.iter().cloned());
                    folded.more += before.more;
                }
                None => folded.lines.push(summary(letter)),
            }
        }
        folded.more += folded.lines.len().saturating_sub(FOLDED_LISTED);
        folded.lines.truncate(FOLDED_LISTED);
        self.last_id += 1;
        let written_ns = folding.iter().map(|letter| letter.written_ns).min().unwrap_or(now.steady_ns);
        self.letters.push_front(Letter {
            id: self.last_id,
            message: late(&folded, style),
            changes: Vec::new(),
            recorded: true,
            folded: Some(folded),
            written_ns,
            failed: 0,
            overtaken: false,
            version: 0,
        });
        folding.into_iter().filter(|letter| letter.folded.is_none()).collect()
    }

    /// The letter to be sent now, which counts as being sent until [`Self::sent`] or [`Self::failed`].
    pub fn next(&mut self, now: Now) -> Next {
        let mut first_of = Vec::new();
        let mut next: Option<&Letter> = None;
        for letter in &self.letters {
            let rule = letter.changes.first().map_or("", |change| change.rule.as_str());
            if first_of.contains(&rule) {
                continue;
            }
            first_of.push(rule);
            if next.is_none_or(|next| letter.failed < next.failed) {
                next = Some(letter);
            }
        }
        let Some(letter) = next else { return Next::Nothing };
        if let Ok(wait_ns @ 1..) = u64::try_from(self.paused_until_ns.saturating_sub(now.steady_ns)) {
            return Next::Wait(Duration::from_nanos(wait_ns));
        }
        self.sending = Some(letter.id);
        Next::Send(Box::new(letter.clone()))
    }

    /// How many attempts will have failed in a row when the next fails.
    pub fn failures(&self) -> u32 {
        self.failed.saturating_add(1)
    }

    /// Slack took it.
    pub fn sent(&mut self, id: u64) -> Option<Letter> {
        (self.failed, self.paused_until_ns, self.error) = (0, 0, None);
        let letter = self.remove(id);
        for other in self.letters.iter_mut().filter(|other| other.failed > 0) {
            other.overtaken = true;
        }
        letter
    }

    /// Slack refuses it for good.
    pub fn refused(&mut self, id: u64, error: String) -> Option<Letter> {
        (self.failed, self.paused_until_ns, self.error) = (0, 0, Some(error));
        self.remove(id)
    }

    /// It failed, and nothing is sent for a while. `blamed`: it may be the letter's fault.
    pub fn failed(&mut self, id: u64, blamed: bool, pause: Duration, error: String, now: Now) -> Failed {
        self.sending = None;
        self.failed = self.failures();
        self.paused_until_ns = now.steady_ns.saturating_add(i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX));
        self.error = Some(error);
        let Some(letter) = self.letters.iter_mut().find(|letter| letter.id == id) else { return Failed::Gone };
        letter.failed += u32::from(blamed);
        if letter.failed >= MOST_FAILURES && letter.overtaken {
            return self.remove(id).map_or(Failed::Gone, |letter| Failed::GivenUp(Box::new(letter)));
        }
        // The change is recorded once, with what became of the first attempt.
        let first = !mem::replace(&mut letter.recorded, true);
        Failed::Again(if first { letter.changes.clone() } else { Vec::new() })
    }

    fn remove(&mut self, id: u64) -> Option<Letter> {
        self.sending = None;
        let index = self.letters.iter().position(|letter| letter.id == id)?;
        self.letters.remove(index)
    }
}

/// Changes of one rule to one state, as one message.
pub fn letter(changes: Vec<Change>, style: &Style) -> Option<Letter> {
    let first = changes.first()?;
    let color = match (first.state, first.severity) {
        (State::Resolved, _) => Color::Good,
        (_, Severity::Critical) => Color::Danger,
        (_, Severity::Warning) => Color::Warning,
        (_, Severity::Info) => Color::Rgb(0x25_63eb),
    };
    let title = title(&changes);
    let mut lines: Vec<Markup> = changes.iter().take(LISTED).map(line).collect();
    if changes.len() > LISTED {
        lines.push(format!("and {} more", changes.len() - LISTED).into());
    }
    let footer = Markup::from(format!("{} · {}", first.severity.as_str(), time::format_seconds(first.time_ns)));
    let id = format!("{} {} {} {:?}", first.time_ns, first.rule, first.state.as_str(), first.labels);
    let message = message(title, color, Markup::lines(lines), footer, &id, style);
    Some(Letter {
        id: 0,
        message,
        changes,
        recorded: false,
        folded: None,
        written_ns: 0,
        failed: 0,
        overtaken: false,
        version: 0,
    })
}

fn message(title: String, color: Color, text: Markup, mut footer: Markup, id: &str, style: &Style) -> Message {
    if let Some(url) = &style.public_url {
        footer = footer.then(" · ").then(Markup::link(url, "open hitscope"));
    }
    let attachment = Attachment::new(color).fallback(title.clone());
    let attachment = attachment.block(Block::section(text)).block(Block::context(footer));
    let message = Message::new(title).attachment(attachment).client_msg_id(uuid(id));
    match &style.channel {
        Some(channel) => message.channel(channel),
        None => message,
    }
}

fn title(changes: &[Change]) -> String {
    let Some(first) = changes.first() else { return String::new() };
    let count = if changes.len() > 1 { format!(" ({} alerts)", changes.len()) } else { String::new() };
    format!("{}: {}{count}", first.rule, first.state.as_str())
}

fn line(change: &Change) -> Markup {
    let mut line = Markup::default();
    for (name, text) in &change.labels {
        let separator = if line.as_str().is_empty() { "" } else { ", " };
        line = line.then(format!("{separator}{name}=")).then(code(text));
    }
    if change.labels.is_empty() {
        line = change.rule.as_str().into();
    }
    if let Some(value) = change.value {
        line = line.then(format!(": {value}"));
    }
    if let Some(detail) = &change.detail {
        line = line.then(" ").then(code(detail));
    }
    line.then(format!(" (since {})", time::format_seconds(change.since_ns)))
}

fn code(text: &str) -> Markup {
    match text.char_indices().nth(LABEL_LENGTH) {
        Some((end, _)) => Markup::code(&format!("{}…", &text[..end])),
        None => Markup::code(text),
    }
}

fn summary(letter: &Letter) -> String {
    let time = letter.changes.first().map_or(0, |change| change.time_ns);
    format!("{}, {}", title(&letter.changes), time::format_seconds(time))
}

/// The message that others were folded into.
fn late(folded: &Folded, style: &Style) -> Message {
    let count = folded.lines.len() + folded.more;
    let title = format!("hitscope: {count} message{} could not be sent in time", if count == 1 { "" } else { "s" });
    let mut lines: Vec<Markup> = folded.lines.iter().map(Markup::from).collect();
    if folded.more > 0 {
        lines.push(format!("and {} more", folded.more).into());
    }
    let footer = Markup::from("What they say may have changed since.");
    let id = format!("{} {:?}", folded.more, folded.lines);
    message(title, Color::Warning, Markup::lines(lines), footer, &id, style)
}

/// A UUID made of what a message tells, so that it is the same at each attempt.
fn uuid(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    // Version 8, variant 1: a UUID of one's own making (RFC 9562, 5.8).
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!(
        "{}-{}-{}-{}-{}",
        hex(&bytes[..4]),
        hex(&bytes[4..6]),
        hex(&bytes[6..8]),
        hex(&bytes[8..10]),
        hex(&bytes[10..])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn at(seconds: i64) -> Now {
        Now { wall_ns: (1_700_000_000 + seconds) * S, steady_ns: seconds * S }
    }

    fn change(rule: &str, state: State) -> Change {
        Change {
            time_ns: at(0).wall_ns,
            rule: rule.into(),
            severity: Severity::Warning,
            state,
            labels: [("operation".to_owned(), "SELECT *\nFROM a_b".to_owned())].into(),
            value: Some(2.5),
            since_ns: at(0).wall_ns,
            tell: true,
            message: String::new(),
            detail: None,
        }
    }

    fn outbox(letters: &[(&str, State)]) -> Outbox {
        let mut outbox = Outbox::default();
        for (rule, state) in letters {
            outbox.push(letter(vec![change(rule, *state)], &Style::default()).unwrap(), at(0));
        }
        outbox
    }

    fn text(letter: &Letter) -> String {
        serde_json::to_value(&letter.message).unwrap()["text"].as_str().unwrap().to_owned()
    }

    fn send(outbox: &mut Outbox, now: Now) -> Letter {
        match outbox.next(now) {
            Next::Send(letter) => *letter,
            next => panic!("{next:?}"),
        }
    }

    fn fail(outbox: &mut Outbox, id: u64, now: Now) -> Failed {
        outbox.failed(id, true, Duration::from_secs(1), "no".into(), now)
    }

    #[test]
    fn labels_are_code() {
        let letter = letter(vec![change("slow", State::Firing)], &Style::default()).unwrap();
        let text = serde_json::to_string(&letter.message).unwrap();
        assert!(text.contains("operation=`SELECT * FROM a_b`: 2.5 (since 2023-11-14T22:13:20Z)"), "{text}");
    }

    #[test]
    fn what_is_being_sent_is_neither_folded_nor_taken_for_another() {
        let mut outbox = outbox(&[("a", State::Firing); 3]);
        let first = send(&mut outbox, at(0));
        for _ in 0..2 * MOST_WAITING {
            outbox.push(letter(vec![change("b", State::Firing)], &Style::default()).unwrap(), at(0));
            outbox.fold(&Style::default(), at(0));
        }
        assert!(outbox.letters.len() <= MOST_WAITING + 1, "{}", outbox.letters.len());
        assert_eq!(outbox.sent(first.id).map(|letter| letter.id), Some(first.id));
        assert_eq!(outbox.sent(first.id), None, "no other goes in its place");
        let folded = send(&mut outbox, at(0));
        let all = 2 + 2 * MOST_WAITING;
        assert_eq!(
            text(&folded),
            format!("hitscope: {} messages could not be sent in time", all + 1 - outbox.letters.len())
        );
    }

    #[test]
    fn a_rules_messages_keep_their_order_and_hold_up_no_others() {
        let mut outbox = outbox(&[("a", State::Firing), ("a", State::Resolved), ("b", State::Firing)]);
        let first = send(&mut outbox, at(0));
        assert_eq!(text(&first), "a: firing");
        assert_eq!(fail(&mut outbox, first.id, at(0)), Failed::Again(vec![change("a", State::Firing)]));
        assert_eq!(outbox.next(at(0)), Next::Wait(Duration::from_secs(1)));
        let second = send(&mut outbox, at(1));
        assert_eq!(text(&second), "b: firing", "the one that failed waits behind the others");
        outbox.sent(second.id);
        let again = send(&mut outbox, at(1));
        assert_eq!(again.id, first.id);
        outbox.sent(again.id);
        let last = send(&mut outbox, at(1));
        assert_eq!(text(&last), "a: resolved");
        outbox.sent(last.id);
        assert_eq!(outbox.next(at(1)), Next::Nothing);
    }

    #[test]
    fn one_that_slack_never_takes_is_given_up_when_slack_takes_others() {
        let mut outbox = outbox(&[("a", State::Firing), ("b", State::Firing)]);
        let first = send(&mut outbox, at(0));
        fail(&mut outbox, first.id, at(0));
        let other = send(&mut outbox, at(1));
        outbox.sent(other.id);
        for attempt in 1..MOST_FAILURES {
            let now = at(i64::from(attempt) * 10);
            assert_eq!(send(&mut outbox, now).id, first.id);
            let failed = fail(&mut outbox, first.id, now);
            assert_eq!(matches!(failed, Failed::GivenUp(_)), attempt == MOST_FAILURES - 1, "{failed:?}");
        }
        assert_eq!(outbox.next(at(1000)), Next::Nothing);
    }

    #[test]
    fn none_is_given_up_while_slack_cannot_be_reached_and_what_is_stale_becomes_one() {
        let style = Style::default();
        let mut outbox = outbox(&[("a", State::Firing), ("b", State::Firing), ("a", State::Resolved)]);
        for minute in 0..60 {
            assert!(outbox.fold(&style, at(minute * 60)).is_empty());
            let letter = send(&mut outbox, at(minute * 60));
            assert!(matches!(fail(&mut outbox, letter.id, at(minute * 60)), Failed::Again(_)));
        }
        outbox.push(letter(vec![change("c", State::Firing)], &style).unwrap(), at(3601));
        assert_eq!(outbox.fold(&style, at(3601)).len(), 3);
        assert!(outbox.fold(&style, at(3602)).is_empty());
        let late = send(&mut outbox, at(3602));
        assert_eq!(text(&late), "hitscope: 3 messages could not be sent in time");
        let all = serde_json::to_string(&late.message).unwrap();
        for part in ["a: firing, 2023-11-14T22:13:20Z", "b: firing", "a: resolved"] {
            assert!(all.contains(part), "{part} in {all}");
        }
        outbox.sent(late.id);
        assert_eq!(text(&send(&mut outbox, at(3602))), "c: firing");
    }

    #[test]
    fn pauses_outlive_the_process_and_not_the_hosts_start() {
        let mut outbox = outbox(&[("a", State::Firing)]);
        let first = send(&mut outbox, at(0));
        outbox.failed(first.id, false, Duration::from_secs(3600), "limited".into(), at(0));
        let mut stored: Outbox = serde_json::from_str(&serde_json::to_string(&outbox).unwrap()).unwrap();
        stored.take_up(true, at(60));
        assert_eq!(stored.next(at(60)), Next::Wait(Duration::from_secs(3540)));
        // The host was off for half an hour; its steady clock says 5 s.
        stored.take_up(false, Now { wall_ns: at(1800).wall_ns, steady_ns: 5 * S });
        assert_eq!(send(&mut stored, Now { wall_ns: at(1800).wall_ns, steady_ns: 5 * S }).id, first.id);
        stored.interrupted();
        assert_eq!(stored.fold(&Style::default(), Now { wall_ns: 0, steady_ns: 1900 * S }).len(), 1);
    }
}
