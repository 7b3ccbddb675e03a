use super::*;
use crate::{Facts, Outcome};

fn fold(target: &str) -> String {
    let mut text = String::new();
    template(&mut text, target.as_bytes(), false, &[]);
    text
}

#[test]
fn names_stay_and_ids_fold() {
    for (target, expected) in [
        ("/", "/"),
        ("", "/"),
        ("*", "*"),
        ("/?a=1", "/"),
        ("/api/v1/users/17?tab=a#b", "/api/v1/users/{id}"),
        ("/api/v1beta1/namespaces/kube-system/pods", "/api/v1beta1/namespaces/kube-system/pods"),
        ("/v2.1/things/-12", "/v2.1/things/{id}"),
        ("/users/00000000-0000-4000-8000-000000000001/", "/users/{uuid}/"),
        ("/users/%7Babc%7D", "/users/%7Babc%7D"),
        ("/commits/9fceb02d0ae598e95dc970b74767f19372d61af8", "/commits/{hash}"),
        ("/commits/9fceb02d", "/commits/{hash}"),
        ("/words/deadbeef/facade", "/words/deadbeef/facade"),
        ("/static/app.3f2a1b9c.js", "/static/app.{hash}.js"),
        ("/static/jquery-3.7.1.min.js", "/static/jquery-{id}.{id}.{id}.min.js"),
        ("/calendar/2026-11-23", "/calendar/{id}"),
        ("/at/52.5,13.4", "/at/{id}"),
        ("/orders/order-12345/lines", "/orders/order-{id}/lines"),
        ("/orders/A1B2C3", "/orders/{id}"),
        ("/img/image_0042.png", "/img/image_{id}.png"),
        ("/user12345", "/user{id}"),
        ("/oauth2/sha256/ipv4/i18n/x86", "/oauth2/sha256/ipv4/i18n/x86"),
        ("/mail/ann@example.org", "/mail/{email}"),
        ("/mail/ann%40example.org", "/mail/{email}"),
        ("/npm/@types/node", "/npm/@types/node"),
        ("/s/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/s/{token}"),
        ("/s/V1StGXR8_Z5jdHi6B-myT", "/s/{token}"),
        ("/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/sendMessage", "/{token}/sendMessage"),
        ("/reset/kJxQwErTyU", "/reset/{token}"),
        ("/api/getUserById/HTTPServerURL", "/api/getUserById/HTTPServerURL"),
        ("/s/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1r", "/s/{token}"),
        ("/s/dGhpcyBpcyBhIHRlc3Q0Mg==", "/s/{token}"),
        ("/blog/my-great-article-about-getCustomerOrders", "/blog/my-great-article-about-getCustomerOrders"),
        ("/app;jsessionid=ABCDEF/view", "/app/view"),
        ("//a//b", "//a//b"),
        ("http://ann:secret@example.org:8080/users/1?x", "/users/{id}"),
        ("http://example.org?x", "/"),
        ("/a b\u{7f}é", "/a?b???"),
    ] {
        assert_eq!(fold(target), expected, "{target}");
    }
    assert_eq!(fold(&format!("/a/{}", "long".repeat(40))), "/a/{token}");
    assert_eq!(fold(&"/a".repeat(400)), format!("{}/…", "/a".repeat(24)));
    assert!(fold(&"/a%20".repeat(20_000)).len() < 400);
    assert_eq!(authority(b"http://ann:secret@example.org:8080/u"), Some(&b"example.org:8080"[..]));
    assert_eq!(authority(b"/http://x"), None);
}

#[test]
fn what_was_cut_is_marked() {
    for (target, expected) in [("/users/12", "/users/…"), ("/users/12?a", "/users/{id}"), ("", "…")] {
        let mut text = String::new();
        template(&mut text, target.as_bytes(), true, &[]);
        assert_eq!(text, expected);
    }
}

fn pattern(text: &str) -> PathPattern {
    PathPattern::try_from(text.to_owned()).unwrap()
}

#[test]
fn patterns_come_first() {
    let patterns = ["/users/me", "/users/{user}/orders", "/files/**", "/a/*"].map(pattern);
    for (target, expected) in [
        ("/users/me", "/users/me"),
        ("/users/ann/orders?x=1", "/users/{user}/orders"),
        ("/users/ann/orders/", "/users/ann/orders/"),
        ("/users//orders", "/users//orders"),
        ("/files/a/b/1", "/files/**"),
        ("/files", "/files"),
        ("/a/b", "/a/*"),
        ("http://x/a/b", "/a/*"),
    ] {
        let mut text = String::new();
        template(&mut text, target.as_bytes(), false, &patterns);
        assert_eq!(text, expected, "{target}");
    }
    for (text, why) in [("users", "begin"), ("/a?b", "query"), ("/a b", "blanks"), ("/**/a", "last")] {
        let error = PathPattern::try_from(text.to_owned()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn operations_of_a_service_are_bounded() {
    let settings = Settings { paths: Paths::new(Vec::new(), 3), ..Settings::default() };
    let mut over = 0;
    let mut ask = |scope, target: &str, time_ns| {
        let mut facts = Facts::default();
        let mut sink = |outcome: Outcome, _: &Facts| match outcome {
            Outcome::Lost { reason: "paths_over_limit", count } => over += count,
            other => panic!("{other:?}"),
        };
        let mut context = Context { settings: &settings, scope, facts: &mut facts, sink: &mut sink };
        operation(b"GET", target.as_bytes(), false, time_ns, &mut context).text
    };
    for target in ["/a/x", "/a/y", "/b", "/a/x"] {
        assert_eq!(&*ask(1, target, 0), format!("GET {target}"));
    }
    assert_eq!(&*ask(1, "/a/z/z", IDLE_NS / 2), "GET /a/{rest}");
    assert_eq!(&*ask(1, "/c", IDLE_NS / 2), "GET /{rest}");
    assert_eq!(&*ask(1, "/a/x", IDLE_NS / 2), "GET /a/x");
    // Another service has its own.
    assert_eq!(&*ask(2, "/c", 0), "GET /c");
    // The ones that nobody used for long make room.
    assert_eq!(&*ask(1, "/c", IDLE_NS + 1), "GET /c");
    assert_eq!(&*ask(1, "/a/x", IDLE_NS + 1), "GET /a/x");
    assert_eq!(over, 2);
}

#[test]
fn whatever_a_peer_sends_the_table_is_bounded() {
    let settings = Settings::default();
    for n in 0..200_000_u64 {
        let word: String = (0..5).map(|digit| char::from(b'g' + ((n >> (4 * digit)) & 15) as u8)).collect();
        find(&settings, n % 1000, b"GET", format!("/{word}").as_bytes(), false, n);
    }
    let table = settings.paths.0.table.lock().unwrap();
    assert!(table.total <= MAX_TOTAL && table.scopes.len() <= 1000);
}
