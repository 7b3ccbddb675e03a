//! What is posted: text, blocks and coloured attachments, within Slack's limits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Characters of a message's text; Slack cuts longer ones itself, without a word.
const TEXT_LIMIT: usize = 40_000;
/// Blocks in one message or attachment.
const BLOCK_LIMIT: usize = 50;
/// Characters of a section's or context's text.
const BLOCK_TEXT_LIMIT: usize = 3_000;
/// Fields of a section, and elements of a context.
const FIELD_LIMIT: usize = 10;
/// Characters of one field.
const FIELD_TEXT_LIMIT: usize = 2_000;
/// Characters of a header.
const HEADER_LIMIT: usize = 150;
/// Attachments of a message.
const ATTACHMENT_LIMIT: usize = 100;

/// Text in Slack's `mrkdwn`. Made from a string it is escaped, so that what an operation or an error message says cannot
/// become a link or a mention; `*bold*` and `` `code` `` still work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Markup(String);

impl Markup {
    /// A link with a label.
    pub fn link(url: &str, label: &str) -> Self {
        // `|` and `>` end the URL; percent-encoded they mean the same to a browser.
        let url = url.replace('|', "%7C").replace('<', "%3C").replace('>', "%3E").replace('&', "&amp;");
        Self(format!("<{url}|{}>", escape(label)))
    }

    /// Text as it is, in which nothing is formatting: `` `*a_b*` ``. Line breaks become blanks.
    pub fn code(text: &str) -> Self {
        // A backtick would end it; this one looks much like it.
        let text = escape(text).replace('`', "ˋ").replace(['\n', '\r'], " ");
        Self(if text.is_empty() { text } else { format!("`{text}`") })
    }

    /// These texts, a line for each.
    pub fn lines(lines: impl IntoIterator<Item = Self>) -> Self {
        Self(lines.into_iter().map(|line| line.0).collect::<Vec<_>>().join("\n"))
    }

    /// This text followed by another.
    pub fn then(mut self, more: impl Into<Self>) -> Self {
        self.0.push_str(&more.into().0);
        self
    }

    /// The text as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn fit(&mut self, limit: usize) {
        if let Some(short) = truncated(&self.0, limit) {
            self.0 = short;
        }
    }
}

impl<T: AsRef<str>> From<T> for Markup {
    fn from(text: T) -> Self {
        Self(escape(text.as_ref()))
    }
}

/// Replaces the three characters that have a meaning in Slack's texts.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The text cut to `limit` characters with a mark at its end, or `None` when it fits. An entity is not cut in two, and code that
/// the cut left open is closed.
fn truncated(text: &str, limit: usize) -> Option<String> {
    const MARK: &str = "…";
    const CLOSE: &str = "\n```";
    text.chars().nth(limit)?;
    let keep = limit.saturating_sub(1 + CLOSE.len());
    let end = text.char_indices().nth(keep).map_or(text.len(), |(at, _)| at);
    let mut head = &text[..end];
    if let Some(at) = head.rfind('&')
        && !head[at..].contains(';')
    {
        head = &head[..at];
    }
    // A link that lost its end would be shown as raw text.
    if let Some(at) = head.rfind('<')
        && !head[at..].contains('>')
    {
        head = &head[..at];
    }
    let close = match head.rsplit("```").next().unwrap_or_default() {
        _ if head.matches("```").count() % 2 == 1 => CLOSE,
        after if after.matches('`').count() % 2 == 1 => "`",
        _ => "",
    };
    Some(format!("{head}{MARK}{close}"))
}

/// The bar at an attachment's left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    Good,
    Warning,
    Danger,
    /// `0xRRGGBB`
    Rgb(u32),
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Warning => f.write_str("warning"),
            Self::Danger => f.write_str("danger"),
            Self::Rgb(rgb) => write!(f, "#{:06x}", rgb & 0x00ff_ffff),
        }
    }
}

/// A text object inside a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Text {
    Mrkdwn { text: Markup },
    PlainText { text: String },
}

impl Text {
    fn fit(&mut self, limit: usize) {
        match self {
            Self::Mrkdwn { text } => text.fit(limit),
            Self::PlainText { text } => {
                if text.chars().nth(limit).is_some() {
                    *text = text.chars().take(limit.saturating_sub(1)).chain(['…']).collect();
                }
            }
        }
    }
}

/// A block of a message: the few kinds that messages of a monitor need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    Header {
        text: Text,
    },
    Section {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<Text>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fields: Vec<Text>,
    },
    Context {
        elements: Vec<Text>,
    },
    Divider,
}

impl Block {
    /// A large line of plain text.
    pub fn header(text: impl Into<String>) -> Self {
        Self::Header { text: Text::PlainText { text: text.into() } }
    }

    /// A paragraph.
    pub fn section(text: impl Into<Markup>) -> Self {
        Self::Section { text: Some(Text::Mrkdwn { text: text.into() }), fields: Vec::new() }
    }

    /// Short texts in two columns.
    pub fn fields<T: Into<Markup>>(fields: impl IntoIterator<Item = T>) -> Self {
        let fields = fields.into_iter().map(|text| Text::Mrkdwn { text: text.into() }).collect();
        Self::Section { text: None, fields }
    }

    /// A line of small text.
    pub fn context(text: impl Into<Markup>) -> Self {
        Self::Context { elements: vec![Text::Mrkdwn { text: text.into() }] }
    }

    fn fit(&mut self) {
        match self {
            Self::Header { text } => text.fit(HEADER_LIMIT),
            Self::Section { text, fields } => {
                if let Some(text) = text {
                    text.fit(BLOCK_TEXT_LIMIT);
                }
                fit_list(fields, FIELD_LIMIT, |more| Text::Mrkdwn { text: more.into() });
                fields.iter_mut().for_each(|field| field.fit(FIELD_TEXT_LIMIT));
            }
            Self::Context { elements } => {
                fit_list(elements, FIELD_LIMIT, |more| Text::Mrkdwn { text: more.into() });
                elements.iter_mut().for_each(|element| element.fit(BLOCK_TEXT_LIMIT));
            }
            Self::Divider => {}
        }
    }
}

/// Cuts a list to `limit`, the last place then saying how many are missing.
fn fit_list<T>(list: &mut Vec<T>, limit: usize, mark: impl FnOnce(String) -> T) {
    if list.len() > limit {
        let missing = list.len() - (limit - 1);
        list.truncate(limit - 1);
        list.push(mark(format!("… and {missing} more")));
    }
}

fn fit_blocks(blocks: &mut Vec<Block>) {
    fit_list(blocks, BLOCK_LIMIT, Block::context);
    blocks.iter_mut().for_each(Block::fit);
}

/// A secondary part of a message with a coloured bar; hitscope's alerts are one attachment in the severity's colour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    color: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Markup>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<Block>,
}

impl Attachment {
    /// An empty attachment with a bar of that colour.
    pub fn new(color: Color) -> Self {
        Self { color: Some(color.to_string()), ..Self::default() }
    }

    /// Its text, for an attachment without blocks.
    #[must_use]
    pub fn text(mut self, text: impl Into<Markup>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Plain text for places that show no attachments.
    #[must_use]
    pub fn fallback(mut self, text: impl Into<String>) -> Self {
        self.fallback = Some(text.into());
        self
    }

    /// Adds a block.
    #[must_use]
    pub fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }
}

/// A message, before it is sent. It can be stored (serialised) and sent later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    text: Markup,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<Block>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thread_ts: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_msg_id: Option<String>,
}

impl Message {
    /// A message with this text. When it has blocks, the text is what notifications and screen readers say.
    pub fn new(text: impl Into<Markup>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Where to post: a channel's id or name. A webhook has its own channel and ignores this.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// Adds a block.
    #[must_use]
    pub fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// Adds an attachment.
    #[must_use]
    pub fn attachment(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// Posts it as a reply in the thread of the message with that `ts`.
    #[must_use]
    pub fn thread_ts(mut self, ts: impl Into<String>) -> Self {
        self.thread_ts = Some(ts.into());
        self
    }

    /// A UUID that stays the same over all attempts to send this message, for Slack to recognise a repetition. Slack documents
    /// it only by the errors it causes, so it is a help, not a promise.
    #[must_use]
    pub fn client_msg_id(mut self, id: impl Into<String>) -> Self {
        self.client_msg_id = Some(id.into());
        self
    }

    /// Cuts what exceeds Slack's limits, each cut with a mark.
    pub(crate) fn fit(&mut self) {
        self.text.fit(TEXT_LIMIT);
        fit_blocks(&mut self.blocks);
        fit_list(&mut self.attachments, ATTACHMENT_LIMIT, |more| Attachment::default().text(more));
        for attachment in &mut self.attachments {
            fit_blocks(&mut attachment.blocks);
            if let Some(text) = &mut attachment.text {
                text.fit(BLOCK_TEXT_LIMIT);
            }
            if let Some(short) = attachment.fallback.as_deref().and_then(|text| truncated(text, BLOCK_TEXT_LIMIT)) {
                attachment.fallback = Some(short);
            }
        }
    }

    /// The message as a webhook takes it: without what only `chat.postMessage` knows.
    pub(crate) fn for_webhook(mut self) -> Self {
        self.channel = None;
        self.client_msg_id = None;
        self
    }
}

impl<T: AsRef<str>> From<T> for Message {
    fn from(text: T) -> Self {
        Self::new(text.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_escaped_once() {
        assert_eq!(Markup::from("a < b && <!here>").as_str(), "a &lt; b &amp;&amp; &lt;!here&gt;");
        let linked = Markup::from("see ").then(Markup::link("http://h/?a=1&b=2|3", "R&D <page>"));
        assert_eq!(linked.as_str(), "see <http://h/?a=1&amp;b=2%7C3|R&amp;D &lt;page&gt;>");
    }

    #[test]
    fn long_texts_are_cut_with_a_mark() {
        assert_eq!(truncated("short", 5), None);
        assert_eq!(truncated("0123456789ab", 10).unwrap(), "01234…");
        // Neither an entity nor a link is cut in two.
        assert_eq!(truncated("0123&amp;456789", 12).unwrap(), "0123…");
        assert_eq!(truncated("01<http://h|x> and more", 13).unwrap(), "01…");
        let code = format!("```{}", "é".repeat(100));
        let cut = truncated(&code, 50).unwrap();
        assert!(cut.ends_with("…\n```") && cut.chars().count() <= 50, "{cut}");
        let code = Markup::lines([Markup::code("a"), Markup::code(&"b".repeat(100))]);
        assert_eq!(truncated(code.as_str(), 15).unwrap(), "`a`\n`bbbbb…`");
    }

    #[test]
    fn code_is_no_formatting() {
        let code = Markup::from("operation=").then(Markup::code("SELECT *\nFROM a_b WHERE `c` < ? /* _x_ */"));
        assert_eq!(code.as_str(), "operation=`SELECT * FROM a_b WHERE ˋcˋ &lt; ? /* _x_ */`");
        assert_eq!(Markup::code("").as_str(), "");
    }

    #[test]
    fn everything_fits_slacks_limits() {
        let mut message = Message::new("&".repeat(50_000)).attachment(
            (0..60).fold(Attachment::new(Color::Rgb(0xff_8800)), |all, n| all.block(Block::section(format!("{n}")))),
        );
        for _ in 0..70 {
            message = message.block(Block::header("h".repeat(200))).block(Block::section("x".repeat(4_000)));
        }
        message = message.attachment(Attachment::default().block(Block::fields(vec!["f".repeat(2_500); 12])));
        message.fit();
        let sent = serde_json::to_value(&message).unwrap();
        let length = |value: &serde_json::Value| value.as_str().unwrap().chars().count();
        assert!(length(&sent["text"]) <= TEXT_LIMIT);
        assert!(sent["text"].as_str().unwrap().ends_with("&amp;…"));
        let blocks = sent["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 50);
        assert_eq!(blocks[49]["elements"][0]["text"], "… and 91 more");
        assert_eq!(length(&blocks[0]["text"]["text"]), 150);
        assert!(length(&blocks[1]["text"]["text"]) <= 3_000);
        assert_eq!(sent["attachments"][0]["color"], "#ff8800");
        assert_eq!(sent["attachments"][0]["blocks"].as_array().unwrap().len(), 50);
        let fields = sent["attachments"][1]["blocks"][0]["fields"].as_array().unwrap();
        assert_eq!(fields.len(), 10);
        assert!(length(&fields[0]["text"]) <= 2_000);
    }

    #[test]
    fn sent_as_slack_documents_it() {
        let message = Message::new("db1: slow")
            .channel("#ops")
            .thread_ts("1.2")
            .block(Block::Divider)
            .attachment(Attachment::new(Color::Danger).fallback("slow").block(Block::context("5 > 2")));
        let sent = serde_json::to_value(&message).unwrap();
        assert_eq!(
            sent,
            json!({
                "channel": "#ops",
                "text": "db1: slow",
                "thread_ts": "1.2",
                "blocks": [{"type": "divider"}],
                "attachments": [{
                    "color": "danger",
                    "fallback": "slow",
                    "blocks": [{"type": "context", "elements": [{"type": "mrkdwn", "text": "5 &gt; 2"}]}],
                }],
            })
        );
        let stored: Message = serde_json::from_value(sent).unwrap();
        assert_eq!(stored, message);
    }
}
