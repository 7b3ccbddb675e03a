//! What a decoder says.

use std::sync::Arc;

use crate::{
    segment::{Mark, Moment},
    sql::Operation,
};

/// Protocols that a decoder exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Postgres,
    Mysql,
    Http1,
    Http2,
    Grpc,
    Redis,
    /// TLS from the first byte, with something inside that is not known from outside.
    Tls,
}

impl Protocol {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Postgres => "postgres",
            Protocol::Mysql => "mysql",
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Redis => "redis",
            Protocol::Tls => "tls",
        }
    }
}

/// Which end of the connection the observed process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It answered.
    Server,
    /// It asked.
    Client,
}

impl Side {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Server => "server",
            Side::Client => "client",
        }
    }

    /// Where a request's hit starts: see [`Exchange`].
    pub(crate) fn start(self, first: &Moment, last: &Moment) -> Mark {
        match self {
            Side::Server => last.returned(),
            Side::Client => first.entered(),
        }
    }

    /// Where a hit ends whose answer ended then: see [`Exchange`].
    pub(crate) fn end(self, last: &Moment) -> Mark {
        match self {
            Side::Server => last.entered(),
            Side::Client => last.returned(),
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Ok,
    /// The answer was an error.
    Error,
    /// The connection ended before the answer did.
    Aborted,
}

impl Status {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Error => "error",
            Status::Aborted => "aborted",
        }
    }
}

/// What is known of a connection after a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet told apart.
    Unknown,
    /// A decoder follows it.
    Decoded,
    /// Nothing we decode, or encrypted, or a replication stream: more segments are of no use.
    Ignored,
}

/// One finished exchange.
///
/// On the server side it starts at the return of the receive that completed the request's first message and
/// ends at the begin of the send that carried the completion. On the client side it starts at the begin of the
/// send that held the request's first byte and ends at the return of the receive that completed the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    pub protocol: Protocol,
    pub side: Side,
    pub start: Mark,
    pub end: Mark,
    /// Other requests of this connection, answered in any order, were under way meanwhile: what the thread did between start and
    /// end, it did for all of them.
    pub shared: bool,
    /// The request with its literals taken out.
    pub operation: Arc<str>,
    /// See [`Operation`](crate::Operation).
    pub operation_id: u64,
    pub status: Status,
    /// SQLSTATE, MySQL errno, HTTP status, gRPC status, the first word of a Redis error.
    pub error_code: Option<Arc<str>>,
    /// Without quoted literals, unless they are allowed.
    pub error_message: Option<Arc<str>>,
    /// Rows returned or changed, as the answer says.
    pub rows: Option<u64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Whom the request was addressed to: the `Host` header or `:authority`.
    pub authority: Option<Arc<str>>,
    /// The request as written; only where literals are allowed.
    pub text: Option<Arc<str>>,
}

impl Exchange {
    /// One of which no more is known.
    pub(crate) fn new(
        protocol: Protocol,
        side: Side,
        operation: Operation,
        status: Status,
        [start, end]: [Mark; 2],
    ) -> Self {
        Self {
            protocol,
            side,
            start,
            end,
            shared: false,
            operation: operation.text,
            operation_id: operation.id,
            status,
            error_code: None,
            error_message: None,
            rows: None,
            request_bytes: 0,
            response_bytes: 0,
            authority: None,
            text: None,
        }
    }
}

/// What came of a segment.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are hits, and a box would cost each an allocation")]
pub enum Outcome {
    Hit(Exchange),
    /// The connection went on encrypted; said once.
    Encrypted(Protocol),
    /// What could not be decoded, by reason.
    Lost {
        reason: &'static str,
        count: u64,
    },
}

/// What is known of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub protocol: Option<Protocol>,
    pub side: Option<Side>,
    pub user: Option<Arc<str>>,
    pub database: Option<Arc<str>>,
    pub application: Option<Arc<str>>,
    pub encrypted: bool,
}
