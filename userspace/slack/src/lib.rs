//! A typed client for what hitscope needs of Slack: posting messages, with a token or to an incoming webhook.
//!
//! ```no_run
//! # async fn alert() -> Result<(), hitscope_slack::Error> {
//! use hitscope_slack::{Attachment, Block, Color, Message, RetryPolicy, Secret, Slack};
//!
//! let slack = Slack::with_token(Secret::new("xoxb-…"))?;
//! println!("posting as {}", slack.auth_test().await?.user);
//! let alert = Message::new("db1: slow queries")
//!     .channel("#ops")
//!     .attachment(Attachment::new(Color::Danger).block(Block::section("*p99* is 2.1 s")));
//! let posted = slack.post_message(alert).send_with_retry(RetryPolicy::default()).await?;
//! if let Some(ts) = posted.ts {
//!     slack.post_message("resolved").channel("#ops").thread_ts(ts).await?;
//! }
//! # Ok(()) }
//! ```
//!
//! Tokens and webhook URLs are `Secret`s: no error, log line or `Debug` output shows them. What happened to a failed request, and
//! whether it is worth another attempt, is in `Error`.

mod client;
mod error;
mod message;
mod retry;

pub use client::{AuthTest, Identity, PostMessage, Posted, Slack};
pub use error::{ApiError, Error};
pub use hitscope_base::Secret;
pub use message::{Attachment, Block, Color, Markup, Message, Text, escape};
pub use retry::RetryPolicy;
