//! The page's files, built from `web/` and embedded in the binary.

use axum::{
    body::Body,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use ring::digest;

use super::Failure;

/// Names and contents, by name; `build.rs` makes the list.
static FILES: Files = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Files under this folder carry a hash of their content in their name.
const HASHED: &str = "assets/";

/// Everything that is no address of the API.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    answer(FILES, &method, &uri, &headers)
}

type Files = &'static [(&'static str, &'static [u8])];

fn answer(files: Files, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
    let file = |name: &str| files.binary_search_by_key(&name, |(name, _)| *name).ok().map(|index| files[index].1);
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") {
        return Failure::new(404, "there is no such address")
            .hint("/api/v1/openapi.json lists the addresses")
            .into_response();
    }
    if *method != Method::GET && *method != Method::HEAD {
        return Failure::new(405, "this address takes another method").into_response();
    }
    // What is no file is a view of the page, which finds its way itself.
    let (path, file) = match file(path) {
        Some(file) => (path, Some(file)),
        None if path.starts_with(HASHED) => (path, None),
        None => ("index.html", file("index.html")),
    };
    let Some(file) = file else {
        let failure = Failure::new(404, "there is no such file");
        let built = !files.is_empty();
        return if built { failure } else { failure.hint("the page is not in this binary: run `cargo xtask build`") }
            .into_response();
    };
    let hash = digest::digest(&digest::SHA256, file);
    let hash: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hash}\"");
    let caching = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let fields = [
        (header::CONTENT_TYPE, content_type(path).to_owned()),
        (header::CACHE_CONTROL, caching.to_owned()),
        (header::ETAG, tag.clone()),
    ];
    if known.is_some_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, Body::from(file)).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_file_has_a_content_type() {
        for (path, _) in FILES {
            assert_ne!(content_type(path), "application/octet-stream", "{path}");
        }
    }

    #[test]
    fn a_view_is_the_page_and_an_unknown_api_address_is_not() {
        const FILES: Files = &[("assets/a-1.js", b"1"), ("favicon.svg", b"2"), ("index.html", b"3")];
        let get = |path, headers| answer(FILES, &Method::GET, &Uri::from_static(path), &headers);
        let field = |answer: &Response, name| answer.headers()[name].to_str().unwrap().to_owned();
        let page = get("/hitmap", HeaderMap::new());
        assert_eq!(
            (page.status(), field(&page, header::CONTENT_TYPE)),
            (StatusCode::OK, "text/html; charset=utf-8".into())
        );
        assert_eq!(field(&page, header::CACHE_CONTROL), "no-cache");
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, page.headers()[header::ETAG].clone())]);
        assert_eq!(get("/", known).status(), StatusCode::NOT_MODIFIED);
        let script = get("/assets/a-1.js", HeaderMap::new());
        assert_eq!(field(&script, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
        assert!(field(&script, header::CACHE_CONTROL).contains("immutable"));
        assert_eq!(get("/api/v1/none", HeaderMap::new()).status(), StatusCode::NOT_FOUND);
        assert_eq!(get("/assets/none.js", HeaderMap::new()).status(), StatusCode::NOT_FOUND);
        assert_eq!(answer(FILES, &Method::POST, &Uri::from_static("/"), &HeaderMap::new()).status(), 405);
        assert_eq!(
            answer(&[], &Method::GET, &Uri::from_static("/"), &HeaderMap::new()).status(),
            StatusCode::NOT_FOUND
        );
    }
}
