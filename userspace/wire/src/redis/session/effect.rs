//! What a command does to the connection, once its answer is no error.

use std::sync::Arc;

use super::super::requests::Arguments;

#[derive(Debug)]
pub enum Effect {
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

impl Effect {
    /// That of a command, where it has one.
    pub fn of(name: &[u8], arguments: &Arguments) -> Option<Self> {
        let text = |index: usize| -> Option<Arc<str>> {
            arguments.whole(index).map(|text| String::from_utf8_lossy(text).into())
        };
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

    /// Memory that it takes in a box, bytes.
    pub fn memory_bytes(&self) -> usize {
        let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Self>()
            + match self {
                Effect::User(user, application) => length(user) + length(application),
                Effect::Database(text) | Effect::Application(text) => text.len(),
                _ => 0,
            }
    }
}
