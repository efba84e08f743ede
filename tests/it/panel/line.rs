//! Tests of the panel when its WebSocket is blocked, lost or refused.

use std::time::Duration;

use vestnik::token::{self, Which};

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;
use crate::support::in_rounds;
use crate::support::proxy::Proxy;

/// Simulates a network that blocks WebSockets while `refuse` is true. The function `upgrade` makes the page try a
/// WebSocket now, instead of after 5 minutes.
const NO_SOCKETS: &str = "window.RealSocket = WebSocket;
    window.refuse = true;
    window.WebSocket = class {
        static OPEN = 1;
        constructor(...given) {
            if (!refuse) return new RealSocket(...given);
            setTimeout(() => this.onclose?.({ code: 1006 }));
        }
        close() {}
    };
    const wait = setTimeout;
    window.setTimeout = (act, ms, ...given) => {
        if (ms === 300000) window.upgrade = act;
        return wait(act, ms, ...given);
    };";

/// Makes the browser run a script before the scripts of each page.
async fn prepare(browser: &Browser, script: &str) {
    let script = serde_json::json!({"source": script});
    browser.cdp("Page.addScriptToEvaluateOnNewDocument", script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_network_lets_no_websocket_through_orders_are_streamed_and_count_as_such() {
    let app = App::start_with(|config| {
        config.session.ping_interval = Duration::from_secs(5);
        config.telegram = Some(crate::receipts_http::far_telegram());
    })
    .await;
    let browser = Browser::start().await;
    prepare(&browser, NO_SOCKETS).await;
    browser.page.goto(&app.panel_link()).await.unwrap();
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    browser.until_text("#light", "Резервная связь").await;
    browser.until("vestnik.ringer.sounds").await;
    browser.js(super::EAR).await;
    app.until_so("select exists (select from vestnik.vst_presence where store_id = '7')")
        .await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.until_heard().await;
    browser.picture("12-stream").await;
    app.until_so(
        "select count(*) = 1 and bool_and(channel = 'sse' and sent_at is not null and rendered_at is not null and sounded_at is not null) \
         from vestnik.vst_receipt where event_id = 1",
    )
    .await;
    // The event of a press also arrives over the HTTP stream.
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.until_silent().await;

    // The network allows WebSockets now. The new WebSocket continues from the newest cursor of the HTTP stream.
    browser.js("window.refuse = false; upgrade()").await;
    browser
        .until("document.getElementById('light').dataset.channel === 'websocket'")
        .await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 2).await;
    app.until_so(
        "select bool_and(r.channel = 'websocket') from vestnik.vst_receipt r join vestnik.vst_event e on e.id = r.event_id \
         where e.type = 'insert' and e.key = '2'",
    )
    .await;
    assert_eq!(browser.alerts().await, [1, 1]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_socket_can_be_had_orders_come_by_polling_and_count_as_such() {
    let (app, browser) = (App::start().await, Browser::start().await);
    // Simulate a network that also blocks HTTP streams. A setting makes the page poll every second.
    let no_streams = "localStorage.setItem('vestnik.settings', JSON.stringify({ pollSeconds: 1 }));
        const real = fetch;
        window.fetch = (address, ...given) => String(address).includes('/sse/') ? Promise.reject(new TypeError('blocked')) : real(address, ...given);";
    prepare(&browser, &format!("{NO_SOCKETS}{no_streams}")).await;
    browser.page.goto(&app.panel_link()).await.unwrap();
    browser.press("#shift-start").await;
    browser.until_light("polling").await;
    assert!(browser.text("[data-notice=line]").await.contains("до 1 секунд"));
    browser.js(super::EAR).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.until_heard().await;
    browser.picture("10-polling").await;
    app.until_so(
        "select bool_and(channel = 'polling' and sent_at is not null and rendered_at is not null and sounded_at is not null) \
         from vestnik.vst_receipt where event_id = 1",
    )
    .await;
    // The event of a press also arrives by polling.
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.until_silent().await;

    // The network allows WebSockets now. The new WebSocket continues from the newest cursor of the polls.
    browser.js("window.refuse = false").await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 2).await;
    app.until_so(
        "select exists (select from vestnik.vst_receipt r join vestnik.vst_event e on e.id = r.event_id \
         where e.type = 'insert' and e.key = '2' and r.channel = 'websocket')",
    )
    .await;
    assert_eq!(browser.alerts().await, [1, 1]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_stops_the_page_and_says_why() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    let client = app.database.client().await;
    assert_eq!(
        token::revoke(&client, &Which::Id(vestnik::token::TokenId(1)))
            .await
            .unwrap(),
        1
    );
    browser.until_light("stopped").await;
    assert!(browser.text("[data-notice=line]").await.contains("Ключ отозван"));
    browser.until_heard().await;
    browser.picture("11-stopped").await;
    // A page that starts with the revoked token also shows this.
    browser.page.goto("about:blank").await.unwrap();
    browser.page.goto(&app.panel_link()).await.unwrap();
    browser.press("#shift-start").await;
    browser
        .until("document.getElementById('shift-problem').innerText.includes('Ключ отозван')")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_cursor_is_too_old_loads_its_lists_and_rings_for_what_waits() {
    let app = App::start_with(|config| config.session.ping_interval = Duration::from_secs(1)).await;
    let proxy = Proxy::to(app.engine.address()).await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link_through(proxy.address)).await;
    app.write(ORDER).await;
    app.write(ORDER).await;
    browser.until("vestnik.ringer.ringing.size === 2").await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    proxy.cut();
    browser.until_light("offline").await;
    app.write("update orders set status = 'cancelled' where id = 1").await;
    app.write(ORDER).await;
    app.write("update vestnik.vst_event set at = now() - interval '40 days'")
        .await;
    let pool = vestnik::infra::db::pool(&app.database.config().database).unwrap();
    vestnik::journal::trim_batch(&pool, Duration::from_secs(30 * 24 * 3600))
        .await
        .unwrap();
    proxy.mend();
    browser.until_light("live").await;
    browser.until_in("pending", 3).await;
    let rings = "return [...vestnik.ringer.ringing.keys()].filter((key) => key.startsWith('orders')).sort()";
    assert_eq!(
        browser.js(rings).await,
        serde_json::json!(["orders/7/orders/2", "orders/7/orders/3"])
    );
    // The kitchen was making order 1. The event of its cancellation is deleted, so the page learns of the
    // cancellation from the lists.
    browser
        .until("document.querySelector('.alarm-cancelled')?.innerText.includes('№1')")
        .await;
    app.write(ORDER).await;
    browser.until_in("pending", 4).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_opens_without_a_server_and_shows_the_last_board_with_its_time() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    browser.until("navigator.serviceWorker.controller !== null").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    let kept = "const done = arguments[0]; caches.keys().then((names) => Promise.all(names.map((name) => caches.open(name)
        .then((cache) => cache.keys())))).then((all) => done(all.flat().map((request) => new URL(request.url).pathname)))";
    let kept = browser.js_later(kept).await;
    let kept: Vec<&str> = kept
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|path| path.as_str())
        .collect();
    assert!(
        kept.len() == 11 && kept.iter().all(|path| !path.contains("/api/")),
        "{kept:?}"
    );
    browser
        .until("(sessionStorage.getItem('vestnik.board') ?? '').includes('Пицца')")
        .await;
    app.engine.shut_down().await;
    browser.page.refresh().await.unwrap();
    browser.until_light("offline").await;
    // The saved board is grey, and shows when it was saved. No order of this board rings, because it may be closed by
    // now.
    browser
        .until("document.querySelector('[data-notice=line]')?.innerText.includes('На экране заказы на')")
        .await;
    browser.until_in("pending", 1).await;
    assert_eq!(
        browser
            .js("return ['kept' in document.body.dataset, vestnik.ringer.ringing.has('orders/7/orders/1')]")
            .await,
        serde_json::json!([true, false])
    );
    browser.picture("32-kept").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_changes_all_the_time_is_kept_all_the_same() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    browser.until("navigator.serviceWorker.controller !== null").await;
    // New orders arrive more often than the page saves its board, which is once a second.
    let rush = async {
        let mut next = tokio::time::interval(Duration::from_millis(200));
        loop {
            next.tick().await;
            app.write(ORDER).await;
        }
    };
    tokio::select! {
        () = rush => {}
        _ = browser.until("(sessionStorage.getItem('vestnik.board') ?? '').includes('orders/7/orders/9')") => {}
    }
    let shown = browser.js("return vestnik.items.size").await;
    app.engine.shut_down().await;
    browser.page.refresh().await.unwrap();
    browser.until_light("offline").await;
    // The page saves the board when it is closed, so the orders of the last second are on it too.
    browser.until(&format!("vestnik.items.size >= {shown}")).await;
    browser.until_in("pending", 9).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_over_a_line_that_had_died_is_said_again() {
    let app = App::start_with(|config| config.session.ping_interval = Duration::from_secs(1)).await;
    let proxy = Proxy::to(app.engine.address()).await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link_through(proxy.address)).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    // The connection is cut before the first sound has played. The receipt of the sound is lost, so the page must send
    // it again.
    proxy.cut();
    browser.until_heard().await;
    browser.until_light("offline").await;
    proxy.mend();
    browser.until_light("live").await;
    app.until_so("select bool_or(sounded_at is not null) and bool_or(rendered_at is not null) from vestnik.vst_receipt where event_id = 1")
        .await;
    assert_eq!(browser.alerts().await, [1]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_while_orders_are_open_is_red_within_ten_seconds() {
    // The server sends a heartbeat every 30 s, as usual.
    let app = App::start().await;
    let proxy = Proxy::to(app.engine.address()).await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link_through(proxy.address)).await;
    app.write("insert into orders (store_id, status) values (7, 'preparing')")
        .await;
    browser.until_in("preparing", 1).await;
    browser
        .js("new MutationObserver(() => {
                if (document.getElementById('light').dataset.state === 'offline') window.red ??= performance.now() - cut;
             }).observe(document.getElementById('light'), { attributes: true })")
        .await;
    in_rounds(async || {
        browser.js("window.red = null; window.cut = performance.now()").await;
        proxy.cut();
        let red = browser.until("window.red").await.as_f64().unwrap();
        proxy.mend();
        browser.until_light("live").await;
        (red < 10_500.0).then_some(())
    })
    .await;
    browser.close().await;
}
