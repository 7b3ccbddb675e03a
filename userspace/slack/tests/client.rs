//! The client against a local server that answers as Slack's documentation says.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hitscope_slack::{ApiError, Attachment, Color, Error, Identity, Message, Posted, RetryPolicy, Secret, Slack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "xoxb-12345-67890-tokentokentoken";
const WEBHOOK_PATH: &str = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX";

/// What the server does with a request.
enum Answer {
    /// Status line, further header lines (each ended by CRLF) and body.
    Say(&'static str, &'static str, String),
    /// Reads the request, then closes the connection.
    Close,
    /// Never answers.
    Silence,
}

fn say(status: &'static str, body: &str) -> Answer {
    Answer::Say(status, "", body.to_owned())
}

/// A server that gives its answers in order, one per connection, and keeps what it was sent.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let request = read_request(&mut connection).await;
                seen.lock().unwrap().push(request);
                match answer {
                    Answer::Say(status, headers, body) => {
                        let text = format!(
                            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                            body.len()
                        );
                        connection.write_all(text.as_bytes()).await.unwrap();
                    }
                    Answer::Close => {}
                    Answer::Silence => silent.push(connection),
                }
            }
            // Holds the silent connections open until the test ends.
            std::future::pending::<()>().await;
        });
        Self { address, requests, task }
    }

    fn token_client(&self) -> Slack {
        Slack::with_token(Secret::new(TOKEN)).unwrap().api_url(format!("{}/api/", self.address))
    }

    fn webhook_client(&self) -> Slack {
        Slack::with_webhook(Secret::new(format!("{}{WEBHOOK_PATH}", self.address))).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(connection: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.parse().unwrap());
            if body.len() >= length {
                return text.into_owned();
            }
        }
        let read = connection.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "the client closed the connection inside a request");
        request.extend_from_slice(&buffer[..read]);
    }
}

fn body_of(request: &str) -> serde_json::Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

async fn post(server: &Server) -> Result<Posted, Error> {
    server.token_client().post_message("hello").channel("#ops").await
}

async fn post_to_webhook(server: &Server) -> Result<Posted, Error> {
    server.webhook_client().post_message("hello").await
}

/// A policy whose own pauses are too short to notice.
fn quick(attempts: u32) -> RetryPolicy {
    RetryPolicy { attempts, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(5) }
}

#[tokio::test]
async fn posts_a_message_with_a_token() {
    let answer = r#"{"ok":true,"channel":"C123456","ts":"1503435956.000247","message":{"text":"hello"}}"#;
    let server = Server::start(vec![say("200 OK", answer)]).await;
    let message = Message::new("a <b>").attachment(Attachment::new(Color::Danger).text("slow"));
    let posted = server.token_client().post_message(message).channel("#ops").thread_ts("1.2").await.unwrap();
    assert_eq!(posted, Posted { channel: Some("C123456".into()), ts: Some("1503435956.000247".into()) });
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /api/chat.postMessage HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains(&format!("authorization: bearer {TOKEN}\r\n")), "{request}");
    assert!(request.to_lowercase().contains("content-type: application/json\r\n"), "{request}");
    let body = body_of(request);
    assert_eq!(body["channel"], "#ops");
    assert_eq!(body["text"], "a &lt;b&gt;");
    assert_eq!(body["thread_ts"], "1.2");
    assert_eq!(body["attachments"][0]["color"], "danger");
}

#[tokio::test]
async fn asks_whose_token_it_is() {
    let answer = r#"{"ok":true,"url":"https://t.slack.com/","team":"T","user":"bot","team_id":"T1","user_id":"U1","bot_id":"B1"}"#;
    let server =
        Server::start(vec![say("200 OK", answer), say("200 OK", r#"{"ok":false,"error":"invalid_auth"}"#)]).await;
    let identity: Identity = server.token_client().auth_test().await.unwrap();
    assert_eq!((identity.user.as_str(), identity.bot_id.as_deref()), ("bot", Some("B1")));
    assert_eq!(server.token_client().auth_test().await, Err(Error::Api(ApiError::InvalidAuth)));
    let refused = server.webhook_client().auth_test().await.unwrap_err();
    assert!(matches!(refused, Error::Usage(_)), "{refused:?}");
}

#[tokio::test]
async fn refusals_are_typed() {
    for (answer, expected) in [
        (r#"{"ok":false,"error":"channel_not_found"}"#, ApiError::ChannelNotFound),
        (r#"{"ok":false,"error":"not_in_channel"}"#, ApiError::NotInChannel),
        (r#"{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"x"}"#, ApiError::MissingScope),
        (r#"{"ok":false,"error":"a_new_one"}"#, ApiError::Other("a_new_one".into())),
    ] {
        let server = Server::start(vec![say("200 OK", answer)]).await;
        let error = post(&server).await.unwrap_err();
        assert!(!error.is_retryable() && !error.may_have_arrived(), "{error}");
        assert_eq!(error, Error::Api(expected));
    }
    let server = Server::start(vec![say("200 OK", r#"{"ok":false,"error":"internal_error"}"#)]).await;
    assert!(post(&server).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_message_without_channel_is_not_sent() {
    let server = Server::start(vec![]).await;
    let error = server.token_client().post_message("hello").await.unwrap_err();
    assert_eq!(error.to_string(), "a message that is posted with a token needs a channel");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn webhooks_answer_in_plain_text() {
    let server = Server::start(vec![say("200 OK", "ok")]).await;
    let message = Message::new("hello").channel("#ignored").client_msg_id("5f2b");
    assert_eq!(server.webhook_client().post_message(message).await, Ok(Posted::default()));
    let request = &server.requests()[0];
    assert!(request.starts_with(&format!("POST {WEBHOOK_PATH} HTTP/1.1\r\n")), "{request}");
    assert!(!request.to_lowercase().contains("authorization"), "{request}");
    assert_eq!(body_of(request), serde_json::json!({"text": "hello"}));

    for (status, body, expected) in [
        ("400 Bad Request", "invalid_payload", ApiError::InvalidPayload),
        ("403 Forbidden", "invalid_token", ApiError::InvalidToken),
        ("403 Forbidden", "action_prohibited", ApiError::ActionProhibited),
        ("404 Not Found", "no_service", ApiError::NoService),
        ("404 Not Found", "no_active_hooks", ApiError::NoActiveHooks),
        ("410 Gone", "channel_is_archived", ApiError::ChannelIsArchived),
    ] {
        let server = Server::start(vec![say(status, body)]).await;
        let error = post_to_webhook(&server).await.unwrap_err();
        assert!(!error.is_retryable());
        assert_eq!(error, Error::Api(expected));
    }
    let server = Server::start(vec![say("500 Internal Server Error", "rollup_error")]).await;
    assert_eq!(post_to_webhook(&server).await, Err(Error::Server(500)));
}

#[tokio::test]
async fn rate_limits_say_how_long_to_wait() {
    let limited = || {
        let body = r#"{"ok":false,"error":"ratelimited"}"#;
        Answer::Say("429 Too Many Requests", "Retry-After: 17\r\n", body.to_owned())
    };
    let server =
        Server::start(vec![limited(), limited(), say("200 OK", r#"{"ok":false,"error":"ratelimited"}"#)]).await;
    let expected = Error::RateLimited { retry_after: Duration::from_secs(17) };
    assert_eq!(post(&server).await, Err(expected.clone()));
    assert_eq!(post_to_webhook(&server).await, Err(expected));
    assert!(post(&server).await.unwrap_err().retry_after().unwrap() > Duration::ZERO);
}

#[tokio::test]
async fn faults_of_server_and_network_are_told_apart() {
    let server = Server::start(vec![
        say("503 Service Unavailable", "<html>"),
        say("200 OK", "{\"ok\":tru"),
        say("200 OK", "<html>sign in</html>"),
        say("302 Found", ""),
        Answer::Say("200 OK", "content-type: text/plain\r\n", "x".repeat(2 << 20)),
        Answer::Close,
    ])
    .await;
    assert_eq!(post(&server).await, Err(Error::Server(503)));
    for _ in 0..4 {
        let error = post(&server).await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert!(error.is_retryable() && error.may_have_arrived());
    }
    let closed = post(&server).await.unwrap_err();
    assert!(matches!(closed, Error::Network { sent: true, .. }), "{closed:?}");

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let slack = Slack::with_token(Secret::new(TOKEN)).unwrap().api_url(format!("http://{nobody}"));
    let refused = slack.post_message("hello").channel("#ops").await.unwrap_err();
    assert!(matches!(refused, Error::Network { sent: false, .. }), "{refused:?}");
    assert!(refused.to_string().contains("refused"), "{refused}");
}

#[tokio::test]
async fn slow_answers_time_out() {
    let server = Server::start(vec![Answer::Silence]).await;
    let slack = server.token_client().timeout(Duration::from_millis(50));
    assert_eq!(slack.post_message("hello").channel("#ops").await, Err(Error::Timeout));
}

#[tokio::test]
async fn retries_until_it_works_and_posts_once() {
    let server = Server::start(vec![
        say("500 Internal Server Error", ""),
        Answer::Say("429 Too Many Requests", "Retry-After: 0\r\n", String::new()),
        Answer::Close,
        say("200 OK", r#"{"ok":true,"channel":"C1","ts":"1.2"}"#),
    ])
    .await;
    let message = Message::new("hello").channel("#ops").client_msg_id("5f2b");
    let posted = server.token_client().post_message(message).send_with_retry(quick(10)).await.unwrap();
    assert_eq!(posted.ts.as_deref(), Some("1.2"));
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| body_of(request)["client_msg_id"] == "5f2b"));
}

#[tokio::test]
async fn retries_end() {
    let server = Server::start((0..3).map(|_| say("502 Bad Gateway", "")).collect()).await;
    let request = server.token_client().post_message("hello").channel("#ops");
    assert_eq!(request.send_with_retry(quick(3)).await, Err(Error::Server(502)));
    assert_eq!(server.requests().len(), 3);

    let server = Server::start(vec![say("200 OK", r#"{"ok":false,"error":"token_revoked"}"#)]).await;
    let request = server.token_client().post_message("hello").channel("#ops");
    assert_eq!(request.send_with_retry(quick(3)).await, Err(Error::Api(ApiError::TokenRevoked)));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn unusable_secrets_are_refused_without_showing_them() {
    for token in ["", "  \n", "xoxb-with space", "xoxb-ü"] {
        let error = Slack::with_token(Secret::new(token)).unwrap_err();
        assert!(matches!(&error, Error::Usage(text) if !text.contains("xoxb")), "{error:?}");
    }
    for url in ["", "hooks.slack.com/services/T0/B0/hushhush", "file:///services/hushhush", "https://"] {
        let error = Slack::with_webhook(Secret::new(url)).unwrap_err();
        assert!(matches!(&error, Error::Usage(text) if !text.contains("hushhush")), "{error:?}");
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every kind of failure, with every log line of every library: neither the token nor the webhook's path may show up, not even
/// when a proxy's page repeats them.
#[test]
fn no_secret_in_errors_or_logs() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_env_filter("trace").with_writer(move || writer.clone()).init();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut shown = String::new();
    runtime.block_on(async {
        let echo = format!("no such page: {WEBHOOK_PATH} for {TOKEN}");
        let echo_error = format!(r#"{{"ok":false,"error":"{TOKEN} {WEBHOOK_PATH}"}}"#);
        let answers = || {
            vec![
                say("200 OK", &echo),
                say("403 Forbidden", &echo),
                say("200 OK", &echo_error),
                say("502 Bad Gateway", &echo),
                say("429 Too Many Requests", &echo),
                Answer::Close,
                Answer::Silence,
            ]
        };
        let count = answers().len();
        let (by_token, by_webhook) = (Server::start(answers()).await, Server::start(answers()).await);
        let timeout = Duration::from_millis(200);
        let (token, webhook) = (by_token.token_client().timeout(timeout), by_webhook.webhook_client().timeout(timeout));
        shown += &format!("{token:?} {webhook:#?} {:?} {:?}", token.post_message("x"), webhook.auth_test());
        for _ in 0..count {
            for request in [token.post_message("x").channel("#ops"), webhook.post_message("x")] {
                let error = request.send().await.unwrap_err();
                shown += &format!("{error} {error:?}\n");
            }
        }
        drop((by_token, by_webhook));
        for request in [token.post_message("x").channel("#ops"), webhook.post_message("x")] {
            let error = request.send_with_retry(quick(2)).await.unwrap_err();
            shown += &format!("{error} {error:?}\n");
        }
    });
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("a message to Slack failed"), "{logged}");
    for text in [&shown, &logged] {
        for secret in [TOKEN, "tokentokentoken", WEBHOOK_PATH, "XXXXXXXX"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
