//! Tests of typical scenes: a new order, many orders at once, a lost network, a restart, a hidden tab, and two
//! panels.

use std::time::Duration;

use crate::panel::ORDER;
use crate::panel::browser::{Browser, PATIENCE};
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_order_of_the_shift_rings_until_it_is_accepted() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.page.goto(&app.panel_link()).await.unwrap();
    browser.until("document.body.dataset.view === 'shift'").await;
    let address = browser.page.current_url().await.unwrap();
    assert_eq!(address.fragment(), None, "the page removes the token from its address");
    browser.picture("1-start").await;
    browser.start_shift(&app.panel_link()).await;
    browser.picture("2-calm").await;
    browser.until("document.title === 'Заказы'").await;

    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser
        .until("document.querySelector('.alarm-orders')?.innerText.startsWith('Новый заказ')")
        .await;
    browser.until_heard().await;
    browser.until("document.title === '(1) Новый заказ'").await;
    assert!(
        browser
            .js("return document.getElementById('favicon').href")
            .await
            .as_str()
            .unwrap()
            .starts_with("data:image/png")
    );
    browser
        .until("document.getElementById('badge-orders').innerText === '1'")
        .await;
    browser
        .until("['announcer-0', 'announcer-1'].some((id) => document.getElementById(id).innerText.includes('Новый заказ №1'))")
        .await;
    browser.picture("3-rings").await;
    app.until_so("select bool_and(sent_at is not null and rendered_at is not null and sounded_at is not null) from vestnik.vst_receipt where event_id = 1 and channel = 'websocket'").await;

    // The order continues to ring.
    let rounds = browser.js("return vestnik.ringer.rounds").await.as_u64().unwrap();
    browser.until(&format!("vestnik.ringer.rounds >= {}", rounds + 2)).await;
    browser.until_heard().await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.until_silent().await;
    app.until_so("select status = 'preparing' from orders").await;
    app.until_so("select minutes = 20 from vestnik.vst_status_change").await;
    app.until_so(
        "select acknowledged_at is not null from vestnik.vst_receipt where event_id = 1 and channel = 'websocket'",
    )
    .await;
    browser.until("document.title === 'Заказы'").await;
    assert_eq!(browser.alerts().await, [1]);
    browser.expect_clean(&app).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_orders_in_a_second_ring_until_the_last_is_answered() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    for _ in 0..10 {
        app.write(ORDER).await;
    }
    browser
        .until("document.querySelectorAll('[data-column=pending] .card').length === 10")
        .await;
    browser.until_heard().await;
    app.until_so("select count(*) = 10 from vestnik.vst_receipt where sounded_at is not null")
        .await;
    assert_eq!(browser.alerts().await, [1; 10]);
    browser.picture("4-ten").await;
    for order in 1..=9 {
        // Each rejection silences only its own order.
        // A card that has just moved ignores a press.
        let opened = format!(
            "(() => {{ if (document.querySelector('#order .reason')?.checkVisibility()) return true; \
                 document.querySelector(\"[data-key='orders/7/orders/{order}'] .no\")?.click(); return false; }})()"
        );
        browser.until(&opened).await;
        browser.press("#order .reason").await;
        browser
            .until(&format!("!vestnik.items.has('orders/7/orders/{order}')"))
            .await;
        browser
            .until(&format!("vestnik.ringer.ringing.size === {}", 10 - order))
            .await;
    }
    let rounds = browser.js("return vestnik.ringer.rounds").await.as_u64().unwrap();
    browser.until(&format!("vestnik.ringer.rounds >= {}", rounds + 2)).await;
    browser.until_heard().await;
    browser.press("[data-key='orders/7/orders/10'] .yes").await;
    browser.until_silent().await;
    assert_eq!(
        app.value("select count(*) from orders where status = 'rejected' and reason = 'Нет продуктов'")
            .await
            .unwrap(),
        "9"
    );
    assert_eq!(browser.alerts().await, [1; 10]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_the_network_was_cut_is_there_and_rings_once() {
    let app = App::start_with(|config| config.session.ping_interval = Duration::from_secs(1)).await;
    let proxy = Proxy::to(app.engine.address()).await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link_through(proxy.address)).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.until_silent().await;

    proxy.cut();
    browser.until_light("offline").await;
    app.write(ORDER).await;
    app.write("update orders set status = 'cancelled' where id = 1").await;
    app.write(ORDER).await;
    app.write("update orders set status = 'rejected' where id = 3").await;
    // The network is cut for longer than ten seconds. The page shows this, and plays the sound `offline`.
    browser
        .until("Date.now() - vestnik.connection.state.since > 10000")
        .await;
    browser.until_heard().await;
    browser.picture("5-offline").await;
    assert!(browser.text("#notices").await.contains("Нет связи с"));

    proxy.mend();
    browser.until_light("live").await;
    browser.until_in("pending", 2).await;
    // The kitchen was making order 1, so the panel rings for its cancellation. The panel has never shown order 3.
    browser
        .until("document.querySelector('.alarm-cancelled')?.innerText.includes('№1')")
        .await;
    assert!(
        !browser
            .js("return vestnik.items.has('orders/7/orders/3')")
            .await
            .as_bool()
            .unwrap()
    );
    app.until_so(
        "select count(*) = 2 from vestnik.vst_event e join vestnik.vst_receipt r on r.event_id = e.id \
         where (e.key = '2' and e.type = 'insert' or e.key = '1' and e.data ->> 'status' = 'cancelled') and r.sounded_at is not null",
    )
    .await;
    browser.picture("6-cancelled").await;
    let rang = browser.js("return [...vestnik.ringer.ringing.keys()].sort()").await;
    assert_eq!(
        rang,
        serde_json::json!(["cancelled/orders/7/orders/1", "orders/7/orders/2"])
    );
    assert!(browser.alerts().await.iter().all(|count| *count == 1));
    browser.press(".alarm-cancelled button").await;
    browser.press("[data-key='orders/7/orders/2'] .yes").await;
    browser.until_silent().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_loses_no_order_and_rings_none_twice() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.until_heard().await;
    let address = app.engine.address();
    app.engine.shut_down().await;
    browser.until_light("offline").await;
    let shop = app.database.client().await;
    shop.batch_execute(ORDER).await.unwrap();
    browser.picture("7-server-away").await;
    let again = App::start_on(Database::at(app.database.url().to_owned().into()), |config| {
        config.http.listen = address
    })
    .await;
    browser.until_light("live").await;
    browser.until_in("pending", 2).await;
    again.write(ORDER).await;
    browser.until_in("pending", 3).await;
    again.until_so("select count(*) = 3 from vestnik.vst_event e where exists (select from vestnik.vst_receipt r where r.event_id = e.id and r.sounded_at is not null)").await;
    assert_eq!(browser.alerts().await, [1; 3]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_tab_rings_and_shows_a_notification_for_a_minute() {
    let app = App::start().await;
    let browser = Browser::start().await;
    let origin = format!("http://{}", app.engine.address());
    let granted = serde_json::json!({"origin": origin, "permissions": ["notifications"]});
    browser.cdp("Browser.grantPermissions", granted).await;
    browser.start_shift(&app.panel_link()).await;
    // The service worker shows notifications. The page registers it only after the first orders.
    browser.until("navigator.serviceWorker.controller !== null").await;
    browser.page.minimize_window().await.unwrap();
    browser.until("document.hidden").await;

    app.write(ORDER).await;
    browser.until("document.title.startsWith('(1)')").await;
    browser.until_heard().await;
    app.until_so("select sounded_at is not null from vestnik.vst_receipt where event_id = 1")
        .await;
    let seen = "select rendered_at is not null from vestnik.vst_receipt where event_id = 1";
    assert_eq!(
        app.value(seen).await.unwrap(),
        "false",
        "a hidden page reports no `rendered` receipt"
    );
    // For a minute, the hidden page rings as often as a visible page: one round every four seconds.
    let begin = browser
        .js("return vestnik.ringer.context.currentTime")
        .await
        .as_f64()
        .unwrap();
    let rounds = browser.js("return vestnik.ringer.rounds").await.as_u64().unwrap();
    tokio::time::timeout(PATIENCE * 2, async {
        while browser
            .js("return vestnik.ringer.context.currentTime")
            .await
            .as_f64()
            .unwrap()
            < begin + 60.0
        {
            look_again().await;
        }
    })
    .await
    .expect("a minute passes");
    let rang = browser.js("return vestnik.ringer.rounds").await.as_u64().unwrap() - rounds;
    assert!((8..=16).contains(&rang), "{rang} rounds");
    browser.until_light("live").await;
    let shown = "const done = arguments[0]; navigator.serviceWorker.getRegistration() \
        .then((worker) => worker?.getNotifications()).then((all) => done((all ?? []).map((one) => one.title)))";
    assert_eq!(browser.js_later(shown).await, serde_json::json!(["Новый заказ №1"]));

    // When the page is visible again, it reports the order as rendered. It alerts nobody a second time.
    browser.page.maximize_window().await.unwrap();
    browser.until("!document.hidden").await;
    app.until_so(seen).await;
    assert_eq!(browser.alerts().await, [1]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_accepted_on_one_panel_is_silent_on_the_other() {
    let app = App::start().await;
    let [kitchen, counter] = Browser::start_some().await;
    kitchen.start_shift(&app.panel_link()).await;
    counter.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    app.write(ORDER).await;
    for browser in [&kitchen, &counter] {
        browser.until("vestnik.ringer.ringing.size === 2").await;
        browser.until_heard().await;
    }
    kitchen.press("[data-key='orders/7/orders/1'] .yes").await;
    counter.until_in("preparing", 1).await;
    counter
        .until("vestnik.ringer.ringing.size === 1 && vestnik.ringer.ringing.has('orders/7/orders/2')")
        .await;
    // The other panel also shows the promised time.
    counter
        .until("/^(20:00|19:\\d\\d)$/.test(document.querySelector('[data-key=\"orders/7/orders/1\"] .age').innerText)")
        .await;

    // Both panels accept the order at once. The first press wins, and the other panel shows who was first.
    for (browser, name) in [(&kitchen, "Анна"), (&counter, "Олег")] {
        browser.js(&format!("vestnik.settings.name = '{name}'")).await;
    }
    let shop = app.database.client().await;
    shop.batch_execute("begin; select from orders where id = 2 for update")
        .await
        .unwrap();
    // A script presses as soon as the button accepts presses, because the first press waits for only three seconds.
    let press = "(() => { const yes = document.querySelector('[data-key=\"orders/7/orders/2\"] .yes'); \
         if (!yes || yes.closest('[data-still]')?.dataset.still > performance.now()) return false; \
         yes.click(); return true; })()";
    tokio::join!(kitchen.until(press), counter.until(press));
    let waiting =
        "select count(*) >= 2 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    app.until_so(waiting).await;
    shop.batch_execute("rollback").await.unwrap();
    let told = "document.querySelector('.toast-problem')?.innerText";
    app.until_so("select status = 'preparing' from orders where id = 2")
        .await;
    let first = app
        .value("select by_whom from vestnik.vst_status_change where key = '2'")
        .await
        .unwrap();
    let second = if first == "Анна" { &counter } else { &kitchen };
    let said = second.until(told).await;
    let said = said.as_str().unwrap();
    assert!(
        said.contains("Заказ №2 уже готовится") && said.contains(&first),
        "{said}"
    );
    second.picture("8-second").await;
    for browser in [&kitchen, &counter] {
        browser.until_silent().await;
    }
    kitchen.close().await;
    counter.close().await;
}
