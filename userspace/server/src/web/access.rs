//! Who may ask: the token, and the checks that keep other web pages from reaching a server through its user's browser.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Form,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};
use hitscope_base::Secret;
use ring::hmac;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{App, Failure};

const COOKIE: &str = "hitscope_session";
/// A day, in s.
const COOKIE_AGE_S: u32 = 86_400;
/// Slows down guessing.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(300);

/// Scripts, styles and data come from this server alone, and no other page may frame it.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Who may ask.
pub struct Access {
    token: Option<Secret>,
    /// What the cookie of someone who logged in holds: derived from the token, which it does not give away.
    session: Option<String>,
    /// The port, and the addresses that a loopback server is reached at.
    local: Option<SocketAddr>,
    /// Scheme and authority of `public_url`.
    public: Option<(String, String)>,
}

impl Access {
    /// For a server at this address.
    ///
    /// # Errors
    /// A sentence, when `public_url` is no URL.
    pub fn new(address: SocketAddr, token: Option<Secret>, public_url: Option<&str>) -> Result<Self, String> {
        let session = token.as_ref().map(|token| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, token.expose().as_bytes());
            let tag = hmac::sign(&key, b"hitscope session");
            tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        });
        let public = public_url.map(|url| {
            let uri: Uri = url.parse().map_err(|_| ())?;
            match (uri.scheme_str(), uri.authority()) {
                (Some(scheme @ ("http" | "https")), Some(authority)) => Ok((scheme.to_owned(), authority.to_string())),
                _ => Err(()),
            }
        });
        let public = public.transpose().map_err(|()| {
            format!("server.public_url {:?} is no URL such as https://hitscope.example.org", public_url.unwrap_or(""))
        })?;
        // With a token any name will do: a page under a foreign name has no cookie for it.
        let local = token.is_none().then_some(address);
        Ok(Self { token, session, local, public })
    }

    fn is_own_host(&self, host: &str) -> bool {
        let Some(local) = self.local else { return true };
        if self.public.as_ref().is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)) {
            return true;
        }
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        let own = ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
            || name.trim_matches(['[', ']']) == local.ip().to_string();
        own && authority.port_u16().unwrap_or(80) == local.port()
    }

    fn is_own_origin(&self, origin: &str, host: &str) -> bool {
        let own = [("http", host), ("https", host)];
        let public = self.public.iter().map(|(scheme, authority)| (scheme.as_str(), authority.as_str()));
        let own = own.into_iter().chain(public);
        own.into_iter().any(|(scheme, authority)| origin.eq_ignore_ascii_case(&format!("{scheme}://{authority}")))
    }

    fn is_token(&self, presented: &str) -> bool {
        self.token.as_ref().is_none_or(|token| equal(token.expose(), presented.trim()))
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let (Some(token), Some(session)) = (&self.token, &self.session) else { return true };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if bearer.is_some_and(|(_, presented)| equal(token.expose(), presented.trim())) {
            return true;
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(name, value)| name == COOKIE && equal(session, value))
    }
}

fn equal(secret: &str, presented: &str) -> bool {
    secret.as_bytes().ct_eq(presented.as_bytes()).into()
}

/// Stands before every handler.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&app.access, &request) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The answer to a request that may not pass.
fn refusal(access: &Access, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(Authority::as_str).or_else(|| text(header::HOST)).unwrap_or_default();
    if !access.is_own_host(host) {
        return Some(
            Failure::new(403, format!("the Host header {host:?} is not this server"))
                .hint("open it as localhost, or set server.public_url to the name it is reached at")
                .into_response(),
        );
    }
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or_default());
    // A link from another site may open the page. Anything else must come from the page itself, or from no browser.
    let opens_page =
        request.method() == Method::GET && text(HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
    let elsewhere = matches!(text(HeaderName::from_static("sec-fetch-site")), Some("cross-site" | "same-site"));
    if origin.is_some_and(|origin| !access.is_own_origin(origin, host)) || (elsewhere && !opens_page) {
        return Some(Failure::new(403, "requests from other web pages are refused").into_response());
    }
    let path = request.uri().path();
    if access.knows(headers) || matches!(path, "/healthz" | "/login" | "/login.css") {
        return None;
    }
    let accepts_page = text(header::ACCEPT).is_some_and(|accept| accept.contains("text/html"));
    if request.method() == Method::GET && accepts_page && !path.starts_with("/api/") {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        return Some(Redirect::to(&format!("/login?next={}", encode(target))).into_response());
    }
    let failure =
        Failure::new(401, "a token is needed").hint("send `Authorization: Bearer <token>`, or log in at /login");
    Some(([(header::WWW_AUTHENTICATE, "Bearer")], failure).into_response())
}

/// Percent-encodes what may not stand in a parameter.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A way back after the log-in that stays on this server.
fn way_back(next: Option<String>) -> String {
    // Browsers take `\` for `/`, and leave control characters out: `/<tab>/host` would be another host.
    let stays = |byte: u8| byte > b' ' && byte != b'\\' && byte != 0x7f;
    next.filter(|next| next.starts_with('/') && !next.starts_with("//") && next.bytes().all(stays))
        .unwrap_or_else(|| "/".into())
}

#[derive(Deserialize)]
pub struct NextQuery {
    next: Option<String>,
}

/// `GET /login`
pub async fn login_page(State(app): State<Arc<App>>, headers: HeaderMap, Query(query): Query<NextQuery>) -> Response {
    let next = way_back(query.next);
    // The cookie is not sent along a link from another site. Coming from this page, it is.
    if app.access.knows(&headers) {
        return Redirect::to(&next).into_response();
    }
    login_form(StatusCode::OK, &next, "")
}

fn login_form(status: StatusCode, next: &str, message: &str) -> Response {
    let next = next.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let page = include_str!("login.html").replace("{next}", &next).replace("{message}", message);
    (status, Html(page)).into_response()
}

/// `GET /login.css`
pub async fn login_style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("login.css"))
}

#[derive(Deserialize)]
pub struct LoginForm {
    token: String,
    next: Option<String>,
}

/// `POST /login`
pub async fn login(State(app): State<Arc<App>>, headers: HeaderMap, Form(form): Form<LoginForm>) -> Response {
    let next = way_back(form.next);
    if !app.access.is_token(&form.token) {
        tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
        return login_form(StatusCode::UNAUTHORIZED, &next, "That is not the token.");
    }
    let session = app.access.session.as_deref().unwrap_or_default();
    ([(header::SET_COOKIE, cookie(&app.access, &headers, session, COOKIE_AGE_S))], Redirect::to(&next)).into_response()
}

/// `POST /logout`
pub async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    ([(header::SET_COOKIE, cookie(&app.access, &headers, "", 0))], Redirect::to("/login")).into_response()
}

fn cookie(access: &Access, headers: &HeaderMap, value: &str, age_s: u32) -> String {
    // Behind a proxy that speaks TLS the cookie never travels without.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let tls =
        access.public.as_ref().is_some_and(|(scheme, authority)| scheme == "https" && Some(authority.as_str()) == host);
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Access {
        Access::new("127.0.0.1:7460".parse().unwrap(), None, None).unwrap()
    }

    #[test]
    fn a_loopback_server_answers_under_its_own_names_only() {
        let access = loopback();
        for host in ["localhost:7460", "LOCALHOST:7460", "127.0.0.1:7460", "[::1]:7460"] {
            assert!(access.is_own_host(host), "{host}");
        }
        for host in ["", "localhost", "localhost:80", "evil.example:7460", "127.0.0.1.evil.example:7460", "a b"] {
            assert!(!access.is_own_host(host), "{host}");
        }
        let port_80 = Access::new("[::1]:80".parse().unwrap(), None, Some("https://h.example")).unwrap();
        assert!(port_80.is_own_host("localhost") && port_80.is_own_host("h.example"));
        let token = Access::new("0.0.0.0:7460".parse().unwrap(), Some(Secret::new("t")), None).unwrap();
        assert!(token.is_own_host("any.example:1"));
    }

    #[test]
    fn origins_are_compared_whole() {
        let access = Access::new("127.0.0.1:7460".parse().unwrap(), None, Some("https://h.example/")).unwrap();
        assert!(access.is_own_origin("http://localhost:7460", "localhost:7460"));
        assert!(access.is_own_origin("https://h.example", "localhost:7460"));
        for origin in
            ["null", "", "http://localhost:7461", "http://localhost:7460.evil.example", "https://evil.example"]
        {
            assert!(!access.is_own_origin(origin, "localhost:7460"), "{origin}");
        }
    }

    #[test]
    fn the_cookie_is_not_the_token() {
        let access = Access::new("0.0.0.0:1".parse().unwrap(), Some(Secret::new("s3cret")), None).unwrap();
        let session = access.session.clone().unwrap();
        assert!(!session.contains("s3cret") && session.len() == 64);
        let with = |name, value: String| HeaderMap::from_iter([(name, HeaderValue::from_str(&value).unwrap())]);
        assert!(access.knows(&with(header::COOKIE, format!("a=b; {COOKIE}={session}"))));
        assert!(access.knows(&with(header::AUTHORIZATION, "bearer s3cret".into())));
        assert!(!access.knows(&with(header::AUTHORIZATION, "Bearer s3cre".into())));
        assert!(!access.knows(&with(header::AUTHORIZATION, "s3cret".into())));
        assert!(!access.knows(&with(header::COOKIE, format!("{COOKIE}=s3cret"))));
        assert!(!access.knows(&HeaderMap::new()));
        assert!(loopback().knows(&HeaderMap::new()));
    }

    #[test]
    fn the_way_back_stays_here() {
        assert_eq!(way_back(Some("/hits?from=-1h".into())), "/hits?from=-1h");
        for next in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/ /evil.example",
            "",
            "/a\r\nb",
        ] {
            assert_eq!(way_back(Some(next.into())), "/", "{next:?}");
        }
        assert_eq!(encode("/a?b=c&d"), "/a%3Fb%3Dc%26d");
    }

    #[test]
    fn a_public_url_must_be_one() {
        let error = Access::new("127.0.0.1:1".parse().unwrap(), None, Some("hitscope")).err().unwrap();
        assert!(error.contains("public_url"), "{error}");
    }
}
