//! The server serves the files of the panel without a token, and no other file.

use crate::support::app::App;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     manifest-src 'self'; worker-src 'self'; media-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; connect-src ";

#[tokio::test]
async fn the_page_needs_no_token_and_says_what_it_may_do() {
    let app = App::start().await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/panel/index.html", "text/html; charset=utf-8"),
        ("/sw.js", "text/javascript; charset=utf-8"),
        ("/manifest.webmanifest", "application/manifest+json; charset=utf-8"),
    ] {
        let page = app.call("GET", path, &[("Host", "orders.example:8443")], None).await;
        assert_eq!((page.status, page.header("content-type")), (200, Some(kind)), "{path}");
        // A manifest needs no Content-Security-Policy, because it is neither a page nor a script.
        let policy = format!("{POLICY}'self' ws://orders.example:8443 wss://orders.example:8443");
        let policy = (path != "/manifest.webmanifest").then_some(policy.as_str());
        assert_eq!(page.header("content-security-policy"), policy, "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        assert_eq!(page.header("set-cookie"), None);
        assert!(!page.body.is_empty());
    }
    let odd = app.call("GET", "/", &[("Host", "x;script-src *")], None).await;
    let policy = format!("{POLICY}'self'");
    assert_eq!(
        odd.header("content-security-policy"),
        Some(policy.as_str()),
        "what is no host is not repeated"
    );
}

#[tokio::test]
async fn what_a_browser_has_already_is_not_sent_again() {
    let app = App::start().await;
    let page = app.call("GET", "/", &[], None).await;
    let tag = page.header("etag").expect("an ETag");
    let several = format!("\"x\", W/{tag}");
    for known in [tag, several.as_str(), "*"] {
        let again = app.call("GET", "/", &[("If-None-Match", known)], None).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{known}");
        assert_eq!(again.header("etag"), Some(tag));
        assert!(again.header("content-security-policy").is_some());
    }
    let other = app.call("GET", "/", &[("If-None-Match", "\"x\"")], None).await;
    assert_eq!((other.status, &other.body), (200, &page.body));
    let head = app.call("HEAD", "/", &[], None).await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(tag)));
    assert_eq!(
        head.header("content-length"),
        Some(page.body.len().to_string().as_str())
    );
}

#[tokio::test]
async fn texts_are_sent_compressed_to_whoever_takes_them() {
    use std::io::Read as _;
    let app = App::start().await;
    let plain = app.call("GET", "/panel/panel.js", &[], None).await;
    assert_eq!(
        (plain.header("content-encoding"), plain.header("vary")),
        (None, Some("accept-encoding"))
    );
    for (accepted, coding) in [
        ("gzip", "gzip"),
        ("br;q=0, GZIP;q=0.5", "gzip"),
        ("gzip, deflate, br", "br"),
    ] {
        let small = app
            .call("GET", "/panel/panel.js", &[("Accept-Encoding", accepted)], None)
            .await;
        assert_eq!(small.header("content-encoding"), Some(coding), "{accepted}");
        assert!(small.body.len() * 2 < plain.body.len());
        let mut text = Vec::new();
        if coding == "br" {
            brotli::Decompressor::new(&small.body[..], 4096).read_to_end(&mut text)
        } else {
            flate2::read::GzDecoder::new(&small.body[..]).read_to_end(&mut text)
        }
        .unwrap();
        assert_eq!(text, plain.body);
        // Each encoding (`gzip`, for example) has a different body, and therefore a different ETag.
        let tag = small.header("etag").unwrap();
        assert_ne!(Some(tag), plain.header("etag"));
        let known = [("Accept-Encoding", accepted), ("If-None-Match", tag)];
        assert_eq!(app.call("GET", "/panel/panel.js", &known, None).await.status, 304);
    }
    for accepted in ["", "deflate", "gzip;q=0", "gzipped"] {
        let asked = app
            .call("GET", "/panel/panel.js", &[("Accept-Encoding", accepted)], None)
            .await;
        assert_eq!(
            (asked.header("content-encoding"), &asked.body),
            (None, &plain.body),
            "{accepted}"
        );
    }
    let icon = app
        .call("GET", "/panel/icon-192.png", &[("Accept-Encoding", "gzip")], None)
        .await;
    assert_eq!(icon.header("content-encoding"), None, "it is compressed already");
}

#[tokio::test]
async fn nothing_but_the_panels_files_is_served() {
    let app = App::start().await;
    for path in [
        "/panel",
        "/panel/",
        "/panel/nothing.js",
        "/panel/board.js",
        "/panel/panel.js.br",
        "/panel/panel.js.gz",
        "/panel/../Cargo.toml",
        "/panel/..%2FCargo.toml",
        "/panel/%2e%2e/Cargo.toml",
        "/panel//etc/passwd",
        "/panel/%2Fetc%2Fpasswd",
        "/panel/%FF",
        "/panel/index.html%00",
        "/index.html",
        "/Cargo.toml",
        "/api",
        "/api/partner",
    ] {
        let answer = app.call("GET", path, &[], None).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    let post = app.call("POST", "/", &[], Some("x")).await;
    assert_eq!((post.status, post.code().as_str()), (405, "method_not_allowed"));
}

#[tokio::test]
async fn the_client_is_served_as_it_was_written_and_all_that_the_worker_keeps_is_there() {
    let app = App::start().await;
    let client = app.call("GET", "/panel/vestnik.js", &[], None).await;
    assert_eq!(client.body, include_bytes!("../../panel/vestnik.js"));
    let worker = app.call("GET", "/sw.js", &[], None).await;
    let worker = String::from_utf8(worker.body).unwrap();
    let list = worker
        .split_once("const FILES = [")
        .unwrap()
        .1
        .split_once(']')
        .unwrap()
        .0;
    let kept: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(
        kept.contains(&"/") && kept.contains(&"/panel/panel.js") && kept.len() == 11,
        "{kept:?}"
    );
    for path in kept {
        assert_eq!(app.call("GET", path, &[], None).await.status, 200, "{path}");
    }
}
