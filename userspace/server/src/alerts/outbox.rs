//! Messages that are still to be sent, kept on disk until Slack has taken them.
//!
//! A message is stored before the first attempt and taken out after Slack's answer, in the order of the changes. It is
//! sent twice only where the server dies between that answer and the file, or where an answer was lost on its way; the
//! message's id, the same each time, lets Slack recognise that.

use std::collections::VecDeque;

use hitscope_slack::{Attachment, Block, Color, Markup, Message};
use ring::digest;
use serde::{Deserialize, Serialize};

use hitscope_base::time;
use hitscope_config::Severity;

use super::book::{Change, State};

/// So many alerts are listed in one message.
const LISTED: usize = 20;
/// When Slack cannot be reached for so long that more messages wait, the oldest go.
const MOST_WAITING: usize = 1000;

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// The message.
    pub message: Message,
    /// What it tells.
    pub changes: Vec<Change>,
    /// Whether the changes are in the table `alerts` already.
    pub recorded: bool,
}

/// The messages, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outbox {
    /// Those that wait.
    pub letters: VecDeque<Letter>,
    /// How often the first of them has failed.
    pub failed: u32,
    /// When the first is tried again, ns since the epoch.
    pub not_before_ns: i64,
    /// Why it failed last.
    pub error: Option<String>,
}

impl Outbox {
    /// Adds a message; gives the ones that had to go for it.
    pub fn push(&mut self, letter: Letter) -> Vec<Letter> {
        self.letters.push_back(letter);
        let excess = self.letters.len().saturating_sub(MOST_WAITING);
        if excess > 0 {
            self.failed = 0;
        }
        self.letters.drain(..excess).collect()
    }

    /// Takes the first out: it was sent, or never will be.
    pub fn done(&mut self) -> Option<Letter> {
        self.failed = 0;
        self.not_before_ns = 0;
        self.letters.pop_front()
    }
}

/// Changes of one rule to one state, as one message.
pub fn letter(changes: Vec<Change>, channel: Option<&str>, public_url: Option<&str>) -> Option<Letter> {
    let first = changes.first()?;
    let resolved = first.state == State::Resolved;
    let verb = if resolved { "resolved" } else { "firing" };
    let color = match (resolved, first.severity) {
        (true, _) => Color::Good,
        (false, Severity::Critical) => Color::Danger,
        (false, Severity::Warning) => Color::Warning,
        (false, Severity::Info) => Color::Rgb(0x25_63eb),
    };
    let count = if changes.len() > 1 { format!(" ({} alerts)", changes.len()) } else { String::new() };
    let title = format!("{}: {verb}{count}", first.rule);
    let mut lines: Vec<String> = changes.iter().take(LISTED).map(line).collect();
    if changes.len() > LISTED {
        lines.push(format!("and {} more", changes.len() - LISTED));
    }
    let mut attachment = Attachment::new(color).fallback(title.clone()).block(Block::section(lines.join("\n")));
    let mut footer = Markup::from(format!("{} · {}", first.severity.as_str(), time::format_seconds(first.time_ns)));
    if let Some(url) = public_url {
        footer = footer.then(" · ").then(Markup::link(url, "open hitscope"));
    }
    attachment = attachment.block(Block::context(footer));
    let mut message = Message::new(title).attachment(attachment).client_msg_id(id(first));
    if let Some(channel) = channel {
        message = message.channel(channel);
    }
    Some(Letter { message, changes, recorded: false })
}

fn line(change: &Change) -> String {
    let labels: Vec<String> = change.labels.iter().map(|(name, text)| format!("{name}={text}")).collect();
    let mut line = if labels.is_empty() { change.rule.clone() } else { labels.join(", ") };
    if let Some(value) = change.value {
        line += &format!(": {value}");
    }
    if change.labels.contains_key("problem") {
        line = change.message.clone();
    }
    line + &format!(" (since {})", time::format_seconds(change.since_ns))
}

/// A UUID made of what the message tells, so that it is the same at each attempt.
fn id(change: &Change) -> String {
    let text = format!("{} {} {} {:?}", change.time_ns, change.rule, change.state.as_str(), change.labels);
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
