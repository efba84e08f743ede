//! The HTTP API: authorization, the history of events, Server-Sent Events, TLS, and the health of the program.

use serde_json::json;
use tokio_tungstenite::tungstenite::Error;
use vestnik::infra::config::Tls;
use vestnik::token::Stores;

use crate::support::app::App;
use crate::support::sse::Sse;

type Headers<'a> = &'a [(&'static str, &'a str)];

/// The HTTP status of a refused WebSocket handshake, and the error code in its body.
async fn refusal(app: &App, store: &str, headers: Headers<'_>) -> (u16, String) {
    match app.raw_panel(store, headers).await {
        Err(Error::Http(response)) => {
            let body: serde_json::Value = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
            (
                response.status().as_u16(),
                body["error"]["code"].as_str().unwrap().to_owned(),
            )
        }
        other => panic!("no refusal: {other:?}"),
    }
}

#[tokio::test]
async fn a_socket_is_refused_for_the_right_reason() {
    let app = App::start().await;
    let other_stores = app.database.token(Stores::These(vec!["8".into()])).await;
    let good = format!("Bearer {}", app.token);
    let other = format!("Bearer {other_stores}");
    let unknown = "Bearer vst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let cases: [(&str, Headers<'_>, u16, &str); 10] = [
        ("7", &[], 401, "unauthorized"),
        ("7", &[("authorization", unknown)], 401, "unauthorized"),
        ("7", &[("authorization", "Basic dXNlcg==")], 401, "unauthorized"),
        ("7", &[("authorization", &other)], 403, "forbidden_store"),
        (
            "7",
            &[("authorization", &good), ("origin", "https://evil.example")],
            403,
            "forbidden_origin",
        ),
        ("7?token=x", &[("authorization", &good)], 400, "token_in_url"),
        (
            &format!("7?after={}", app.token),
            &[("authorization", &good)],
            400,
            "token_in_url",
        ),
        ("%FF", &[("authorization", &good)], 400, "bad_store"),
        (
            &format!("7?{}", app.token),
            &[("authorization", &good)],
            400,
            "token_in_url",
        ),
        (&app.token, &[("authorization", &good)], 400, "token_in_url"),
    ];
    for (store, headers, status, code) in cases {
        assert_eq!(
            refusal(&app, store, headers).await,
            (status, code.to_owned()),
            "{store} {headers:?}"
        );
    }
    // The script of a browser cannot read the reason of a refused handshake. The script therefore requests this route,
    // whose refusal has the same reason.
    assert_eq!(app.get("/api/partner/session/7", Some(&other_stores)).await.0, 403);
    assert_eq!(
        app.get_json("/api/partner/session/7").await,
        json!({"ok": true, "store_id": "7", "scope": "operator"})
    );
}

#[tokio::test]
async fn a_browser_sends_its_token_as_a_subprotocol_from_an_allowed_page() {
    let app = App::start_with(|config| config.http.allowed_origins = vec!["https://panel.example".into()]).await;
    let protocols = format!("vestnik.v1, bearer.{}", app.token);
    let headers = [
        ("sec-websocket-protocol", protocols.as_str()),
        ("origin", "https://panel.example"),
    ];
    app.raw_panel("7", &headers).await.expect("a socket");
    let own = format!("http://{}", app.engine.address());
    let headers = [("sec-websocket-protocol", protocols.as_str()), ("origin", own.as_str())];
    app.raw_panel("7", &headers).await.expect("a socket for the own page");
}

#[tokio::test]
async fn an_invalid_handshake_gets_the_reason() {
    let app = App::start().await;
    let bearer = format!("Authorization: Bearer {}", app.token);
    let plain = format!("GET /api/partner/ws/partner/7 HTTP/1.1\r\nHost: x\r\n{bearer}\r\nConnection: close\r\n\r\n");
    assert_eq!(app.request(&plain).await.0, 426);
    let old = format!(
        "GET /api/partner/ws/partner/7 HTTP/1.1\r\nHost: x\r\n{bearer}\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    let refused = String::from_utf8(app.exchange(old.as_bytes()).await).unwrap();
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    assert!(
        refused.to_lowercase().contains("\r\nsec-websocket-version: 13\r\n"),
        "{refused}"
    );
    assert_eq!(app.get("/nowhere", None).await.0, 404);
    let post = "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(app.request(post).await.0, 405);
    let huge = format!(
        "GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "x".repeat(100_000)
    );
    assert!((400..=431).contains(&app.request(&huge).await.0));
}

#[tokio::test]
async fn the_history_is_read_page_by_page_and_meets_the_stream() {
    let app = App::start().await;
    let start = app.get_json("/api/partner/stores/7/events").await;
    assert_eq!(start["events"], json!([]));
    app.write("insert into orders (store_id) select 7 + i % 2 from generate_series(1, 50) i")
        .await;
    let (mut after, mut ids) = (start["cursor"].as_str().unwrap().to_owned(), Vec::new());
    loop {
        let page = app
            .get_json(&format!("/api/partner/stores/7/events?after={after}&limit=10"))
            .await;
        ids.extend(
            page["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["data"]["order_id"].clone()),
        );
        page["cursor"].as_str().unwrap().clone_into(&mut after);
        if page["more"] == false {
            break;
        }
        assert_eq!(page["events"].as_array().unwrap().len(), 10);
    }
    let expected: Vec<_> = (1..=25).map(|order| json!((order * 2).to_string())).collect();
    assert_eq!(ids, expected);

    app.write("insert into orders (store_id) values (7)").await;
    let panel = app.panel("7", Some(&after)).await.live().await;
    assert_eq!(panel.before_live.len(), 1, "the stream goes on where the history ended");
    let newest = app.get_json("/api/partner/stores/7/events?limit=3").await;
    let ids: Vec<_> = newest["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["data"]["order_id"])
        .collect();
    assert_eq!(ids, ["48", "50", "51"]);
    assert!(app.metric("vestnik_deliveries_total{mode=\"polling\"}").await >= 25.0);
}

#[tokio::test]
async fn a_history_that_cannot_be_read_says_why() {
    let app = App::start().await;
    for limit in ["0", "501", "-1", "x"] {
        let (status, body) = app
            .get(&format!("/api/partner/stores/7/events?limit={limit}"), Some(&app.token))
            .await;
        assert_eq!(status, 400, "{limit}");
        assert!(body.contains("from 1 to 500"), "{body}");
    }
    let garbage = app
        .get("/api/partner/stores/7/events?after=garbage", Some(&app.token))
        .await;
    assert_eq!(garbage.0, 400);
    let body: serde_json::Value = serde_json::from_str(&garbage.1).unwrap();
    assert_eq!(body["error"]["code"], "cursor_unreadable");
    let fresh = body["error"]["cursor"].as_str().unwrap();
    let page = app
        .get_json(&format!("/api/partner/stores/7/events?after={fresh}"))
        .await;
    assert_eq!(page["events"], json!([]));

    let elsewhere = App::start().await;
    let foreign = elsewhere.panel("7", None).await.live().await.cursor;
    let (status, body) = app
        .get(
            &format!("/api/partner/stores/7/events?after={foreign}"),
            Some(&app.token),
        )
        .await;
    assert_eq!(status, 410);
    assert!(body.contains("resync_required") && body.contains("epoch"), "{body}");
}

#[tokio::test]
async fn server_sent_events_are_the_same_stream() {
    let app = App::start().await;
    let mut stream = Sse::open(&app, "/api/partner/sse/7", None).await;
    let connected = stream.message().await;
    assert_eq!(connected.1["type"], "connected");
    assert_eq!(stream.message().await.1["type"], "live");
    app.write("insert into orders (store_id) values (7), (8)").await;
    app.write("insert into orders (store_id) values (7)").await;
    let (first, event) = stream.message().await;
    assert_eq!(
        (event["id"].as_str(), first.as_deref()),
        (Some("1"), event["cursor"].as_str())
    );
    assert_eq!(stream.message().await.1["id"], "3");

    let mut back = Sse::open(&app, "/api/partner/sse/7", first.as_deref()).await;
    back.message().await;
    let (_, event) = back.message().await;
    assert_eq!((&event["id"], &event["replayed"]), (&json!("3"), &json!(true)));
    assert_eq!(back.message().await.1["type"], "live");
}

#[tokio::test]
async fn with_a_certificate_the_socket_is_secure() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let app = App::start_secure(Tls { certificate, key }, made.cert.der().clone()).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(panel.event().await["type"], "new_order");
}

#[tokio::test]
async fn the_program_says_how_it_is() {
    let app = App::start().await;
    assert_eq!(app.get("/healthz", None).await, (200, "ok\n".into()));
    app.until_listening().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7), (8)").await;
    panel.event().await;
    app.until_metric("vestnik_notification_queue_usage_ratio", |usage| usage >= 0.0)
        .await;
    let (_, metrics) = app.get_ops("/metrics").await;
    for name in [
        "vestnik_events_total{type=\"new_order\"}",
        "vestnik_event_delivery_seconds_bucket",
        "vestnik_sessions ",
        "vestnik_session_queue_max_bytes",
        "vestnik_journal_reads_total",
        "vestnik_oldest_transaction_age_seconds",
        "vestnik_deliveries_total{mode=\"live\"}",
    ] {
        assert!(metrics.contains(name), "{name} in\n{metrics}");
    }
    assert!(!metrics.contains("Иван"));
}

#[tokio::test]
async fn a_page_of_another_origin_reads_its_errors_and_is_told_why_it_is_refused() {
    let app = App::start_with(|config| config.http.allowed_origins = vec!["capacitor://localhost".into()]).await;
    let bearer = format!("Bearer {}", app.token);
    let session = "/api/partner/session/7";
    for origin in ["capacitor://localhost", "https://evil.example"] {
        let preflight = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let answer = app.call("OPTIONS", session, &preflight, None).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-max-age"), Some("7200"));
    }
    for (path, authorization, status) in [
        (session, bearer.as_str(), 200),
        (session, "Bearer x", 401),
        ("/api/partner/stores/7/events?limit=0", &bearer, 400),
        ("/api/partner/nothing", &bearer, 404),
        ("/api/partner/stores/7/events/1/ack/", &bearer, 404),
    ] {
        let headers = [("Origin", "capacitor://localhost"), ("Authorization", authorization)];
        let answer = app.call("GET", path, &headers, None).await;
        assert_eq!(answer.status, status, "{path}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("capacitor://localhost"), "{path}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("retry-after"), "{path}: {exposed}");
    }
    // A page of another origin can read the response that refuses the page, and no other response.
    let foreign = [("Origin", "https://evil.example"), ("Authorization", bearer.as_str())];
    let refused = app.call("GET", session, &foreign, None).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden_origin"));
    let allowed = refused.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://evil.example"));
    let page = app.call("GET", "/", &foreign, None).await;
    assert_eq!(page.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_method_that_an_address_does_not_have_is_answered_with_those_that_it_has() {
    let app = App::start().await;
    let bearer = format!("Bearer {}", app.token);
    for (method, path, allowed) in [
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/api/partner/stores/7/events", "GET, HEAD, OPTIONS"),
        (
            "PATCH",
            "/api/partner/stores/7/pause",
            "GET, PUT, DELETE, HEAD, OPTIONS",
        ),
        ("GET", "/api/partner/stores/7/orders/1/status", "POST, OPTIONS"),
    ] {
        let answer = app.call(method, path, &[("Authorization", &bearer)], None).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{path}");
        assert_eq!(answer.code(), "method_not_allowed");
    }
}
