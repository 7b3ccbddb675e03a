use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands where a secret would be shown.
const HIDDEN: &str = "<hidden>";

/// A token or a webhook URL. It is read from configuration like a string, but is never shown: neither by `Debug` nor when
/// serialised. Surrounding white space (the newline at the end of a secret's file) is taken off.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret's text, without the white space around it.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().trim().to_owned())
    }

    /// The secret itself. Use it only to send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when there is nothing in it, as in an empty file or variable.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the secret out of a text that others wrote, such as an error of the HTTP library.
    pub fn hide_in(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, HIDDEN) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shown() {
        let secret = Secret::new("xoxb-1-2-three\n");
        assert_eq!(secret.expose(), "xoxb-1-2-three");
        assert_eq!(format!("{secret:?}"), "<hidden>");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    <hidden>,\n)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<hidden>\"");
        assert_eq!(secret.hide_in("at xoxb-1-2-three!"), "at <hidden>!");
        assert_eq!(Secret::new("").hide_in("as it was"), "as it was");
    }
}
