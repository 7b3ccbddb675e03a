use std::error::Error as _;
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Once;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{ApiError, Error, Message, RetryPolicy, Secret};

const API_URL: &str = "https://slack.com/api";
/// Longest time from connecting to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Waited when Slack limits the rate without saying for how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);
/// An answer echoes the message, which is at most some 200 kB; whatever is longer does not come from Slack.
const ANSWER_LIMIT: usize = 1 << 20;

/// A client of Slack's web API (with a token) or of one incoming webhook. Clones share their connections.
#[derive(Clone)]
pub struct Slack {
    http: reqwest::Client,
    access: Access,
    api_url: String,
    timeout: Duration,
}

#[derive(Clone)]
enum Access {
    Token(Secret),
    Webhook(Secret),
}

impl Access {
    fn secret(&self) -> &Secret {
        match self {
            Self::Token(secret) | Self::Webhook(secret) => secret,
        }
    }
}

impl fmt::Debug for Slack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Token(_) => "token",
            Access::Webhook(_) => "webhook",
        };
        f.debug_struct("Slack").field("access", &access).field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

impl Slack {
    /// A client that calls the web API with a bot token (`xoxb-…`, scope `chat:write`).
    ///
    /// # Errors
    /// `Error::Usage` when the token is empty, or the host has no CA certificates.
    pub fn with_token(token: Secret) -> Result<Self, Error> {
        if token.is_empty() {
            return Err(Error::Usage("the Slack token is empty".into()));
        }
        if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Usage("the Slack token has characters that no token has".into()));
        }
        Self::new(Access::Token(token))
    }

    /// A client that posts to one incoming webhook; its URL is a secret.
    ///
    /// # Errors
    /// `Error::Usage` when it is no URL, or the host has no CA certificates.
    pub fn with_webhook(url: Secret) -> Result<Self, Error> {
        match reqwest::Url::parse(url.expose()) {
            Ok(parsed) if matches!(parsed.scheme(), "https" | "http") && parsed.has_host() => {}
            _ => {
                return Err(Error::Usage("the Slack webhook is not a URL (https://hooks.slack.com/services/…)".into()));
            }
        }
        Self::new(Access::Webhook(url))
    }

    fn new(access: Access) -> Result<Self, Error> {
        install_crypto_provider();
        let http = reqwest::Client::builder()
            // Slack does not redirect, and whoever does shall not be sent the secret.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("hitscope/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                let reason = access.secret().hide_in(&causes(&error));
                Error::Usage(format!(
                    "cannot prepare TLS for Slack: {reason} (is the package ca-certificates installed?)"
                ))
            })?;
        Ok(Self { http, access, api_url: API_URL.into(), timeout: TIMEOUT })
    }

    /// The same client for another base URL in place of `https://slack.com/api`, for tests and for Slack's GovSlack
    /// (`https://slack-gov.com/api`). A webhook has its own URL and ignores this.
    #[must_use]
    pub fn api_url(mut self, url: impl Into<String>) -> Self {
        self.api_url = url.into().trim_end_matches('/').to_owned();
        self
    }

    /// The same client with another limit for the time from connecting to the end of the answer (30 s).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Posts a message: `chat.postMessage`, or the webhook. `.await` it, or call `send_with_retry`.
    pub fn post_message(&self, message: impl Into<Message>) -> PostMessage {
        PostMessage { slack: self.clone(), message: message.into() }
    }

    /// Asks whose token this is: `auth.test`.
    pub fn auth_test(&self) -> AuthTest {
        AuthTest { slack: self.clone() }
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, body: Option<&Message>) -> Result<T, Error> {
        let Access::Token(token) = &self.access else {
            return Err(Error::Usage(format!("{method} needs a token; an incoming webhook can only post")));
        };
        let mut request =
            self.http.post(format!("{}/{method}", self.api_url)).bearer_auth(token.expose()).timeout(self.timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        let (status, limit, body) = self.answer(request).await?;
        let Ok(head) = serde_json::from_slice::<Head>(&body) else {
            return Err(not_slacks(status, "the body is not the JSON that Slack documents"));
        };
        if head.ok {
            return serde_json::from_slice(&body)
                .map_err(|_| not_slacks(status, "a field that Slack documents is missing"));
        }
        match head.error.as_deref().and_then(error_word) {
            Some("ratelimited" | "rate_limited") => {
                Err(Error::RateLimited { retry_after: limit.unwrap_or(DEFAULT_RETRY_AFTER) })
            }
            Some(word) => Err(Error::Api(ApiError::from_code(word))),
            None => Err(not_slacks(status, "it says that it failed, but not why")),
        }
    }

    async fn call_webhook(&self, url: &Secret, message: &Message) -> Result<(), Error> {
        let (status, _, body) = self.answer(self.http.post(url.expose()).json(message).timeout(self.timeout)).await?;
        match std::str::from_utf8(&body).map(str::trim) {
            Ok("ok") if status.is_success() => Ok(()),
            Ok(word) if !status.is_success() && error_word(word).is_some() => {
                Err(Error::Api(ApiError::from_code(word)))
            }
            _ => Err(not_slacks(status, "the body is neither `ok` nor one of Slack's error words")),
        }
    }

    /// Sends, and reads the answer unless its status says all there is to know.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<(StatusCode, Option<Duration>, Vec<u8>), Error> {
        let mut response = request.send().await.map_err(|error| self.network_error(&error))?;
        let status = response.status();
        let wait = retry_after(&response);
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Error::RateLimited { retry_after: wait.unwrap_or(DEFAULT_RETRY_AFTER) });
        }
        if status.is_server_error() {
            return Err(Error::Server(status.as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.network_error(&error))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(not_slacks(status, "the body is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, wait, body))
    }

    fn network_error(&self, error: &reqwest::Error) -> Error {
        if error.is_timeout() && !error.is_connect() {
            return Error::Timeout;
        }
        if error.is_builder() {
            return Error::Usage(format!("cannot make the request: {}", self.access.secret().hide_in(&causes(error))));
        }
        Error::Network { reason: self.access.secret().hide_in(&causes(error)), sent: !error.is_connect() }
    }
}

/// What caused the error, from the outside in. The error itself is left out, because it names the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors repeat their cause's text.
        if !reasons.last().is_some_and(|outer| outer.contains(&cause_text)) {
            reasons.push(cause_text);
        }
        source = cause.source();
    }
    if reasons.is_empty() { "the request failed".into() } else { reasons.join(": ") }
}

fn not_slacks(status: StatusCode, what: &str) -> Error {
    Error::InvalidResponse(format!("HTTP status {}, {what}", status.as_u16()))
}

/// The text, if it looks like one of Slack's error codes. Anything else may be a proxy's page that repeats the URL, so it is not
/// passed on.
fn error_word(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(plain)).then_some(text)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// rustls wants one cryptography provider per process. Whoever installed another before us keeps it.
fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only when one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The part that every answer of the web API has.
#[derive(Deserialize)]
struct Head {
    ok: bool,
    error: Option<String>,
}

/// Where a message was posted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Posted {
    /// The channel's id; a webhook does not tell.
    pub channel: Option<String>,
    /// The message's id in its channel, to answer it in a thread; a webhook does not tell.
    pub ts: Option<String>,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// The workspace's address.
    pub url: String,
    pub team: String,
    pub user: String,
    pub team_id: String,
    pub user_id: String,
    /// Set for bot tokens.
    pub bot_id: Option<String>,
}

type Sending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// A message about to be posted; see `Slack::post_message`.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is awaited"]
pub struct PostMessage {
    slack: Slack,
    message: Message,
}

impl PostMessage {
    /// Where to post: a channel's id or name. A webhook has its own channel and ignores this.
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.message = self.message.channel(channel);
        self
    }

    /// Posts it as a reply in the thread of the message with that `ts`.
    pub fn thread_ts(mut self, ts: impl Into<String>) -> Self {
        self.message = self.message.thread_ts(ts);
        self
    }

    /// Posts it once.
    ///
    /// # Errors
    /// Each of `Error`; `Error::Usage` when a token's message has no channel.
    pub async fn send(self) -> Result<Posted, Error> {
        let Self { slack, mut message } = self;
        message.fit();
        match &slack.access {
            Access::Token(_) if message.channel.is_none() => {
                Err(Error::Usage("a message that is posted with a token needs a channel".into()))
            }
            Access::Token(_) => slack.call("chat.postMessage", Some(&message)).await,
            Access::Webhook(url) => slack.call_webhook(url, &message.for_webhook()).await.map(|()| Posted::default()),
        }
    }

    /// Posts it, and again after a pause for as long as the policy allows.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn send_with_retry(self, policy: RetryPolicy) -> Result<Posted, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.clone().send().await {
                Ok(posted) => return Ok(posted),
                Err(error) => error,
            };
            let Some(pause) = policy.pause(attempt, &error) else { return Err(error) };
            tracing::warn!(attempt, ?pause, %error, "a message to Slack failed, trying again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }
}

impl IntoFuture for PostMessage {
    type Output = Result<Posted, Error>;
    type IntoFuture = Sending<Posted>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A question whose token it is; see `Slack::auth_test`.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is awaited"]
pub struct AuthTest {
    slack: Slack,
}

impl IntoFuture for AuthTest {
    type Output = Result<Identity, Error>;
    type IntoFuture = Sending<Identity>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.slack.call("auth.test", None).await })
    }
}
