use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Secret, Slack};

/// The `[slack]` section of the configuration: a token with a channel, or a webhook, or neither (nothing is sent).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
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

impl Settings {
    /// The client, or `None` when neither token nor webhook is set. The files must have been read into `token` and
    /// `webhook_url` before.
    ///
    /// # Errors
    /// `Error::Usage` when the settings contradict each other or a secret is malformed.
    pub fn client(&self) -> Result<Option<Slack>, Error> {
        let slack = match (&self.token, &self.webhook_url) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(Error::Usage("slack has both a token and a webhook; keep one of them".into()));
            }
            (Some(_), None) if self.channel.is_none() => {
                return Err(Error::Usage("slack.channel is missing; a token needs to know where to post".into()));
            }
            (Some(token), None) => Slack::with_token(token.clone())?,
            (None, Some(url)) => Slack::with_webhook(url.clone())?,
        };
        Ok(Some(match &self.api_url {
            Some(url) => slack.api_url(url),
            None => slack,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_to_slack_or_none() {
        assert!(Settings::default().client().unwrap().is_none());
        let token = Settings { token: Some(Secret::new("xoxb-1")), ..Settings::default() };
        assert!(token.client().unwrap_err().to_string().contains("slack.channel is missing"));
        let with_channel = Settings { channel: Some("#ops".into()), ..token };
        assert!(with_channel.client().unwrap().is_some());
        let webhook_url = Some(Secret::new("https://hooks.slack.com/services/T/B/x"));
        let webhook = Settings { webhook_url: webhook_url.clone(), ..Settings::default() };
        assert!(webhook.client().unwrap().is_some());
        let both = Settings { webhook_url, ..with_channel };
        assert!(both.client().unwrap_err().to_string().contains("both"));
    }
}
