//! Tests of the client library `panel/vestnik.js` without the panel, as pages of other sites use it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use vestnik::token::{self, New, Stores};

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

/// Serves the example page and the client library, as the site of another company does.
async fn site() -> SocketAddr {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read(root.join("examples/watch.html")).unwrap();
    let client = std::fs::read(root.join("panel/vestnik.js")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut asked = vec![0; 8192];
            let read = socket.read(&mut asked).await.unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
            let (kind, body) = match asked.split(' ').nth(1) {
                Some("/watch.html") => ("text/html", &page),
                Some("/vestnik.js") => ("text/javascript", &client),
                _ => ("text/plain", &Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = socket.write_all(&[head.as_bytes(), body].concat()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_shows_orders_on_a_site_of_its_own_and_accepts_one() {
    let site = site().await;
    let app = App::start_with(|config| config.http.allowed_origins = vec![format!("http://{site}")]).await;
    let browser = Browser::start().await;
    let (server, token) = (app.engine.address(), &app.token);
    let link = format!("http://{site}/watch.html#server=http://{server}&store=7&token={token}");
    browser.page.goto(&link).await.unwrap();
    browser
        .until("document.getElementById('state').textContent === 'live'")
        .await;
    assert_eq!(browser.page.current_url().await.unwrap().fragment(), None);
    app.write(ORDER).await;
    browser.press("[data-order='1'] button").await;
    browser
        .until("document.querySelector('[data-order=\"1\"][data-status=preparing]') !== null")
        .await;
    assert_eq!(app.value("select status from orders").await.unwrap(), "preparing");
    app.until_so("select rendered_at is not null and sounded_at is null from vestnik.vst_receipt where event_id = 1")
        .await;
    browser.expect_clean(&app).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_alone_resumes_and_passes_each_event_once() {
    let (app, browser) = (App::start().await, Browser::start().await);
    // The script must run in a page of the server's origin. Any page of that origin is enough.
    browser
        .page
        .goto(&format!("http://{}/healthz", app.engine.address()))
        .await
        .unwrap();
    let script = format!(
        "import('/panel/vestnik.js').then(({{ connectWebSocket }}) => {{
            window.seen = [];
            window.open7 = (after) => connectWebSocket({{ store: '7', token: '{}', after,
                onEvent: (event) => seen.push(event.data.order_id), onState: (state) => (window.state = state.name) }});
            window.connection = open7(null);
        }})",
        app.token
    );
    browser.js(&script).await;
    browser.until("window.state === 'live'").await;
    app.write(ORDER).await;
    browser.until("seen.length === 1").await;
    browser
        .js("window.cursor = connection.cursor; connection.close()")
        .await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 450)")
        .await;
    browser.js("window.state = ''; window.connection = open7(cursor)").await;
    browser.until("window.state === 'live'").await;
    app.write(ORDER).await;
    browser.until("seen.at(-1) === '452'").await;
    let seen = browser.js("return seen").await;
    let expected: Vec<String> = (1..=452).map(|id| id.to_string()).collect();
    assert_eq!(seen, serde_json::json!(expected));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_forgets_passed_events_when_the_history_of_the_database_does_not_go_on() {
    let (app, browser) = (App::start().await, Browser::start().await);
    let healthz = format!("http://{}/healthz", app.engine.address());
    browser.page.goto(&healthz).await.unwrap();
    let script = format!(
        "import('/panel/vestnik.js').then(({{ connectWebSocket }}) => {{
            window.seen = []; window.loads = [];
            window.connection = connectWebSocket({{ store: '7', token: '{}',
                load: async (why) => (loads.push(why), connection.api.list('orders').then((list) => list.cursor)),
                onEvent: (event) => seen.push(event.id), onState: (state) => (window.state = state.name) }});
        }})",
        app.token
    );
    browser.js(&script).await;
    browser.until("window.state === 'live'").await;
    app.write(ORDER).await;
    browser.until("seen.length === 1").await;
    // Simulates a failover that loses the order. The next order gets the same event id.
    let lost = "delete from vestnik.vst_event; delete from orders; alter sequence vestnik.vst_event_id_seq restart with 1; \
         select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'vestnik feed' and datname = current_database()";
    app.write(lost).await;
    browser
        .until("loads.includes('epoch') && window.state === 'live'")
        .await;
    app.write("alter sequence vestnik.vst_event_id_seq restart with 1")
        .await;
    app.write(ORDER).await;
    browser.until("seen.length === 2").await;
    assert_eq!(browser.js("return seen").await, serde_json::json!(["1", "1"]));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_comes_back_at_once_and_then_less_and_less_often() {
    let (app, browser) = (App::start().await, Browser::start().await);
    let healthz = format!("http://{}/healthz", app.engine.address());
    browser.page.goto(&healthz).await.unwrap();
    // Record only the waits before reconnects. They are random, so they are the only delays that are not a whole
    // number of milliseconds.
    let script = format!(
        "const later = window.setTimeout; window.waits = [];
        window.setTimeout = (what, ms) => {{ if (ms % 1) waits.push(ms); return later(what, ms); }};
        import('/panel/vestnik.js').then(({{ connectWebSocket }}) => {{
            window.connection = connectWebSocket({{ store: '7', token: '{}', onEvent: () => {{}} }});
        }})",
        app.token
    );
    browser.js(&script).await;
    browser.until("window.connection?.state.name === 'live'").await;
    app.engine.shut_down().await;
    browser.until("waits.length >= 4").await;
    let waits: Vec<f64> = serde_json::from_value(browser.js("return waits.slice(0, 4)").await).unwrap();
    // For only one session, the server states a very short time to reconnect.
    assert!(waits[0] < 100.0, "{waits:?}");
    for (wait, least) in waits[1..].iter().zip([500.0, 1000.0, 2000.0]) {
        assert!((least..=least * 1.5).contains(wait), "{waits:?}");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_gives_a_new_token_before_the_old_one_ends() {
    let (app, browser) = (App::start().await, Browser::start().await);
    let healthz = format!("http://{}/healthz", app.engine.address());
    browser.page.goto(&healthz).await.unwrap();
    let brief = New {
        expires_in: Some(std::time::Duration::from_secs(20)),
        ..New::of(&Stores::All)
    };
    let brief = token::create(&app.database.client().await, &brief).await.unwrap();
    let script = format!(
        "import('/panel/vestnik.js').then(({{ connectWebSocket }}) => {{
            window.states = []; window.seen = [];
            window.connection = connectWebSocket({{ store: '7', token: '{}', onEvent: (event) => seen.push(event.id),
                onState: (state) => states.push(state.name), renew: async (seconds) => (window.left = seconds, '{}') }});
        }})",
        brief.reveal(),
        app.token
    );
    browser.js(&script).await;
    browser.until("window.left <= 20").await;
    app.database
        .until("select clock_timestamp() > expires_at + interval '1 second' from vestnik.vst_token where id = 2")
        .await;
    app.write(ORDER).await;
    browser.until("seen.length === 1").await;
    assert_eq!(
        browser.js("return states").await,
        serde_json::json!(["connecting", "catching_up", "live"])
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_finds_no_place_comes_back_later_and_does_not_stop() {
    let (app, browser) = (
        App::start_with(|config| config.session.max_per_store = 1).await,
        Browser::start().await,
    );
    let only = app.panel("7", None).await.live().await;
    let healthz = format!("http://{}/healthz", app.engine.address());
    browser.page.goto(&healthz).await.unwrap();
    let script = format!(
        "const later = window.setTimeout; window.waits = [];
        window.setTimeout = (what, ms) => {{ if (ms % 1) {{ waits.push(ms); ms = 100; }} return later(what, ms); }};
        import('/panel/vestnik.js').then(({{ connectWebSocket }}) => {{
            window.connection = connectWebSocket({{ store: '7', token: '{}', onEvent: () => {{}} }});
        }})",
        app.token
    );
    browser.js(&script).await;
    browser.until("waits.length >= 2").await;
    let waits: Vec<f64> = serde_json::from_value(browser.js("return waits.slice(0, 2)").await).unwrap();
    assert!(
        waits.iter().all(|wait| (15_000.0..30_000.0).contains(wait)),
        "{waits:?}"
    );
    drop(only);
    browser.until("window.connection.state.name === 'live'").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ping_a_second_at_most_asks_whether_the_receipts_have_arrived() {
    let (app, browser) = (App::start().await, Browser::start().await);
    let healthz = format!("http://{}/healthz", app.engine.address());
    browser.page.goto(&healthz).await.unwrap();
    let script = format!(
        "window.pings = [];
        const send = WebSocket.prototype.send;
        WebSocket.prototype.send = function (text) {{
            if (JSON.parse(text).type === 'ping') pings.push(performance.now());
            send.call(this, text);
        }};
        import('/panel/vestnik.js').then(({{ connectWebSocket }}) => {{
            window.connection = connectWebSocket({{ store: '7', token: '{}', onEvent: ({{ id }}) => connection.rendered(id) }});
        }})",
        app.token
    );
    browser.js(&script).await;
    browser.until("window.connection?.state.name === 'live'").await;
    for _ in 0..20 {
        app.write(ORDER).await;
    }
    app.until_so("select count(*) = 20 from vestnik.vst_receipt where rendered_at is not null")
        .await;
    browser.until("pings.length > 0").await;
    // A timer fires at its time or later, but the clock of a page is rounded.
    let waits = browser
        .js("return pings.slice(1).every((at, last) => at - pings[last] > 990)")
        .await;
    assert_eq!(waits, true);
    browser.close().await;
}
