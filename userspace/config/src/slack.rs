//! `[slack]`

use std::path::PathBuf;

use hitscope_base::Secret;
use serde::{Deserialize, Serialize};

/// A token with a channel, or a webhook, or neither (nothing is sent).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slack {
    /// Bot token (`xoxb-…`, scope `chat:write`); also from `HITSCOPE_SLACK_TOKEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The channel to post to, by id or name; needed with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// An incoming webhook's URL, which is a secret; also from `HITSCOPE_SLACK_WEBHOOK_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// A file with the webhook's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
    /// Base URL of the web API in place of `https://slack.com/api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
}

impl Slack {
    /// Checks that there is one way to Slack, or none.
    ///
    /// # Errors
    /// A sentence, when the settings contradict each other.
    pub fn validate(&self) -> Result<(), &'static str> {
        match (&self.token, &self.webhook_url) {
            (Some(_), Some(_)) => Err("slack has both a token and a webhook; keep one of them"),
            (Some(_), None) if self.channel.is_none() => {
                Err("slack.channel is missing; a token needs to know where to post")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_to_slack_or_none() {
        assert_eq!(Slack::default().validate(), Ok(()));
        let token = Slack { token: Some(Secret::new("xoxb-1")), ..Slack::default() };
        assert!(token.validate().unwrap_err().contains("slack.channel is missing"));
        let with_channel = Slack { channel: Some("#ops".into()), ..token };
        assert_eq!(with_channel.validate(), Ok(()));
        let webhook_url = Some(Secret::new("https://hooks.slack.com/services/T/B/x"));
        let webhook = Slack { webhook_url: webhook_url.clone(), ..Slack::default() };
        assert_eq!(webhook.validate(), Ok(()));
        let both = Slack { webhook_url, ..with_channel };
        assert!(both.validate().unwrap_err().contains("both"));
    }
}
