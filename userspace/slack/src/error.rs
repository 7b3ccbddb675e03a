use std::fmt;
use std::time::Duration;

/// Why a request to Slack failed. No variant carries a token or a webhook's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Slack understood the request and refused it.
    #[error("Slack refused: {0}")]
    Api(ApiError),
    /// Too many requests (HTTP 429); Slack says how long to wait.
    #[error("Slack asks to wait {} s before the next request", .retry_after.as_secs())]
    RateLimited { retry_after: Duration },
    /// Slack itself failed (HTTP 5xx).
    #[error("Slack failed with HTTP status {0}")]
    Server(u16),
    /// No connection, or it broke. `sent` is true when the request may have arrived before that.
    #[error("no connection to Slack: {reason}")]
    Network { reason: String, sent: bool },
    /// No answer within the client's time limit.
    #[error("no answer from Slack in time")]
    Timeout,
    /// The answer is not one that Slack's documentation describes (a proxy's page, for instance).
    #[error("an answer that is not Slack's: {0}")]
    InvalidResponse(String),
    /// The request cannot be made as asked, or the client cannot be built; nothing was sent.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// True when the same request may succeed later without anybody mending anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Api(error) => error.is_passing(),
            Self::RateLimited { .. }
            | Self::Server(_)
            | Self::Network { .. }
            | Self::Timeout
            | Self::InvalidResponse(_) => true,
            Self::Usage(_) => false,
        }
    }

    /// How long Slack asked to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// True when the message may have been posted although the request failed, so that sending it again may double it.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Network { sent, .. } => *sent,
            Self::Server(_) | Self::Timeout | Self::InvalidResponse(_) => true,
            // Slack's words for these two: some part of the request may have succeeded.
            Self::Api(error) => matches!(error, ApiError::FatalError | ApiError::InternalError),
            Self::RateLimited { .. } | Self::Usage(_) => false,
        }
    }
}

macro_rules! api_errors {
    ($($(#[$doc:meta])* $variant:ident = $code:literal: $meaning:literal,)*) => {
        /// The error codes that Slack documents for `chat.postMessage`, `auth.test` and incoming webhooks.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ApiError {
            $(#[doc = concat!("`", $code, "`: ", $meaning, ".")] $variant,)*
            /// A code that is not in this list.
            Other(String),
        }

        impl ApiError {
            /// The error of a code; one that is not known is kept in `Other`.
            pub fn from_code(code: &str) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }

            /// The code as Slack writes it.
            pub fn code(&self) -> &str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// What the code means, for a person.
            pub fn meaning(&self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($meaning),)*
                    Self::Other(_) => None,
                }
            }
        }

        #[cfg(test)]
        const CODES: &[&str] = &[$($code,)*];
    };
}

// https://docs.slack.dev/reference/methods/chat.postMessage, .../auth.test and
// https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
api_errors! {
    AccessDenied = "access_denied": "access to the resource is denied",
    AccountInactive = "account_inactive": "the token's user or workspace was deleted",
    ActionProhibited = "action_prohibited": "an administrator restricts posting by this webhook",
    CannotReplyToMessage = "cannot_reply_to_message": "that message cannot have a thread",
    ChannelIsArchived = "channel_is_archived": "the webhook's channel is archived",
    ChannelNotFound = "channel_not_found": "no such channel, or the app may not see it; invite the app to it",
    DuplicateChannelNotFound = "duplicate_channel_not_found": "the channel of the given client_msg_id is invalid",
    DuplicateMessageNotFound = "duplicate_message_not_found": "no message exists with the given client_msg_id",
    EkmAccessDenied = "ekm_access_denied": "administrators have suspended posting",
    EnterpriseIsRestricted = "enterprise_is_restricted": "this method cannot be called from an Enterprise workspace",
    FatalError = "fatal_error": "Slack failed while it handled the request",
    InternalError = "internal_error": "Slack failed while it handled the request",
    InvalidArguments = "invalid_arguments": "the request's arguments are not valid",
    InvalidAuth = "invalid_auth": "the token is wrong, or used from an address that is not allowed",
    InvalidBlocks = "invalid_blocks": "the message's blocks are not valid",
    InvalidBlocksFormat = "invalid_blocks_format": "the message's blocks are not a JSON array of objects",
    InvalidPayload = "invalid_payload": "the webhook's request is malformed",
    InvalidToken = "invalid_token": "the webhook's URL is wrong or was revoked",
    IsArchived = "is_archived": "the channel is archived",
    MessageLimitExceeded = "message_limit_exceeded": "the workspace's message limit is reached",
    MissingScope = "missing_scope": "the token lacks a scope; the app needs chat:write",
    MsgBlocksTooLong = "msg_blocks_too_long": "the message's blocks are too long",
    MsgTooLong = "msg_too_long": "the message's text is too long",
    NoActiveHooks = "no_active_hooks": "the webhook is disabled",
    NoPermission = "no_permission": "the app may not post there",
    NoService = "no_service": "the webhook is disabled, removed, or its URL is wrong",
    NoServiceId = "no_service_id": "the webhook's URL lacks a part",
    NoTeam = "no_team": "the webhook's URL names no workspace",
    NoText = "no_text": "the message is empty",
    NotAllowedTokenType = "not_allowed_token_type": "the token is of a kind that may not post",
    NotAuthed = "not_authed": "no token was given",
    NotInChannel = "not_in_channel": "the app is not in the channel; invite it",
    OrgLoginRequired = "org_login_required": "the workspace is being moved to an Enterprise organisation",
    PostingToGeneralChannelDenied = "posting_to_general_channel_denied":
        "an administrator restricts posting to #general",
    RequestTimeout = "request_timeout": "Slack did not get the whole request in time",
    RestrictedAction = "restricted_action": "a workspace setting forbids posting there",
    RestrictedActionReadOnlyChannel = "restricted_action_read_only_channel": "the channel is read-only",
    RestrictedActionThreadLocked = "restricted_action_thread_locked": "the thread is locked",
    RestrictedActionThreadOnlyChannel = "restricted_action_thread_only_channel":
        "only replies are allowed in that channel",
    RollupError = "rollup_error": "Slack failed while it handled the webhook's request",
    ServiceUnavailable = "service_unavailable": "Slack is unavailable for the moment",
    TeamAccessNotGranted = "team_access_not_granted": "the token has no access to that workspace",
    TeamAddedToOrg = "team_added_to_org": "the workspace is being moved to an Enterprise organisation",
    TeamDisabled = "team_disabled": "the webhook's workspace is disabled",
    TokenExpired = "token_expired": "the token has expired",
    TokenRevoked = "token_revoked": "the token was revoked or the app removed",
    TooManyAttachments = "too_many_attachments": "the message has more than 100 attachments",
    TwoFactorSetupRequired = "two_factor_setup_required": "the token's user must set up a second factor",
    UserNotFound = "user_not_found": "the webhook's user does not exist",
}

impl ApiError {
    /// True for those that go away by themselves.
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::FatalError
                | Self::InternalError
                | Self::RequestTimeout
                | Self::RollupError
                | Self::ServiceUnavailable
                | Self::TeamAddedToOrg
        )
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())?;
        match self.meaning() {
            Some(meaning) => write!(f, " ({meaning})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in CODES {
            let error = ApiError::from_code(code);
            assert!(!matches!(error, ApiError::Other(_)), "{code}");
            assert_eq!(error.code(), *code);
        }
        assert_eq!(ApiError::from_code("brand_new").to_string(), "brand_new");
        assert_eq!(ApiError::IsArchived.to_string(), "is_archived (the channel is archived)");
    }

    #[test]
    fn what_is_worth_another_attempt() {
        let wait = Duration::from_secs(7);
        let limited = Error::RateLimited { retry_after: wait };
        assert!(limited.is_retryable() && !limited.may_have_arrived());
        assert_eq!(limited.retry_after(), Some(wait));
        assert!(Error::Server(503).is_retryable() && Error::Server(503).may_have_arrived());
        assert!(Error::Timeout.is_retryable());
        let refused = Error::Network { reason: "refused".into(), sent: false };
        assert!(refused.is_retryable() && !refused.may_have_arrived());
        assert!(Error::Api(ApiError::InternalError).is_retryable());
        assert!(!Error::Api(ApiError::InvalidAuth).is_retryable());
        assert!(!Error::Api(ApiError::Other("new".into())).is_retryable());
        assert!(!Error::Usage("no channel".into()).is_retryable());
    }
}
