//! Tests of button presses. A button that has just moved ignores presses. A person can undo a press. The page reports a
//! failed press. Without a connection, the page queues a press and sends it later.

use serde_json::json;

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn a_press_is_taken_back_within_six_seconds_and_a_step_later_in_the_order_itself() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    undo_when(
        &browser,
        "document.querySelector('#board-orders [data-column=preparing] .card')",
    )
    .await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    until_undone(&browser, 1).await;
    browser.until_in("pending", 1).await;
    assert_eq!(app.value("select status from orders").await.unwrap(), "pending");
    browser.until("vestnik.ringer.ringing.has('orders/7/orders/1')").await;

    // A rejection is undone too, and the order rings again.
    browser.press("[data-key='orders/7/orders/1'] .no").await;
    undo_when(&browser, "vestnik.items.size === 0").await;
    browser.press("#order .reason").await;
    until_undone(&browser, 1).await;
    browser.until_in("pending", 1).await;
    browser.until("vestnik.ringer.ringing.has('orders/7/orders/1')").await;

    // The page itself measures how long the button stays, because the driver may be slow.
    browser
        .js("window.shown = 0; window.gone = 0; new MutationObserver(() => {
                if (document.querySelector('#undo button')) window.shown ||= performance.now();
                else if (shown) window.gone ||= performance.now();
             }).observe(document.getElementById('undo'), { childList: true })")
        .await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.until("window.gone").await;
    let stayed = browser.js("return gone - shown").await.as_f64().unwrap();
    assert!(stayed >= 5900.0, "{stayed} ms");
    browser.press("[data-key='orders/7/orders/1'] .card-open").await;
    browser.until_text("#order .step-back", "Вернуть: новый").await;
    browser.press("#order .step-back").await;
    browser.until_in("pending", 1).await;
    browser.close().await;
}

/// Lets the page press the undo button as soon as the button is shown and `expression` is true. A test calls this
/// function before the press that is undone. The button stays for only six seconds, too short for a slow driver.
async fn undo_when(browser: &Browser, expression: &str) {
    let script = format!(
        "window.undone = ''; new MutationObserver((changes, observer) => {{
            const button = document.querySelector('#undo button');
            if (!button || !({expression})) return;
            observer.disconnect();
            window.undone = button.innerText;
            button.click();
        }}).observe(document.body, {{ childList: true, subtree: true, attributes: true }})"
    );
    browser.js(&script).await;
}

/// Waits until the page has pressed the undo button of an order.
async fn until_undone(browser: &Browser, order: u32) {
    assert_eq!(browser.until("window.undone").await, format!("Вернуть №{order}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_order_is_opened_from_the_history_and_comes_back() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write("insert into orders (store_id, status, order_type) values (7, 'preparing', 'pickup')")
        .await;
    browser.until_in("preparing", 1).await;
    for column in ["ready", "none"] {
        browser.press("[data-key='orders/7/orders/1'] .yes").await;
        if column == "ready" {
            browser.until_in("ready", 1).await;
        }
    }
    browser.until("vestnik.items.size === 0").await;
    browser.press("[data-view-of=history]").await;
    browser.press(".closed-open").await;
    browser.press("#order .step-back").await;
    browser
        .until("vestnik.items.get('orders/7/orders/1')?.status === 'ready'")
        .await;
    assert_eq!(app.value("select status from orders").await.unwrap(), "ready");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_takes_no_press_for_a_moment() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    app.write(ORDER).await;
    browser.until_in("pending", 2).await;
    browser.press("[data-key='orders/7/orders/1'] .card-open").await;
    browser.until("document.getElementById('order').open").await;
    // While a finger moves to "Accept", another panel accepts the order. Then "Ready" is where "Accept" was.
    browser
        .js("window.pressed = []; window.landed = 0;
             new MutationObserver(() => {
                 const yes = document.querySelector('#order .yes');
                 if (yes?.dataset.to === 'ready' && !landed) { landed = performance.now(); yes.click(); }
             }).observe(document.getElementById('order'), { childList: true, subtree: true });
             const send = window.fetch; window.fetch = (url, options) => { if (options?.method === 'POST') pressed.push(String(options.body)); return send(url, options); };")
        .await;
    app.write("update orders set status = 'preparing' where id = 1").await;
    browser.until("window.landed").await;
    assert_eq!(
        browser
            .js("return pressed.filter((body) => body.includes('ready'))")
            .await,
        json!([])
    );
    // After a moment, the button accepts presses again.
    browser.press("#order .yes").await;
    browser.until_in("ready", 1).await;

    // A card that leaves its column stays visible for a moment. The card that then moves to its position ignores
    // presses at first.
    app.write(ORDER).await;
    browser.until_in("pending", 3).await;
    browser.press("[data-key='orders/7/orders/3'] .step-more").await;
    browser
        .js("window.left = 0; window.before = pressed.length;
             new MutationObserver((changes) => {
                 const leaving = document.querySelector('[data-leaving]');
                 if (leaving?.inert) window.left ||= 1;
                 if (left === 1 && !leaving) {
                     window.left = 2;
                     document.querySelector('[data-key=\"orders/7/orders/3\"] .yes').click();
                 }
             }).observe(document.getElementById('board-orders'), { childList: true, subtree: true, attributes: true });")
        .await;
    app.write("update orders set status = 'preparing' where id = 2").await;
    browser.until("window.left === 2").await;
    assert_eq!(browser.js("return pressed.length - before").await, 0);
    browser.press("[data-key='orders/7/orders/3'] .yes").await;
    browser.until_in("preparing", 3).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_has_left_is_removed_together_with_the_next_change() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(&format!("{ORDER}; {ORDER}")).await;
    browser.until_in("pending", 2).await;
    browser
        .until("document.querySelector('.alarm-orders button') === null")
        .await;
    // A card has left at once, and the timer that removes it without another change never fires.
    browser
        .js("const later = window.setTimeout;
             window.setTimeout = (act, ms, ...given) => (ms === 1000 ? 0 : later(act, ms === 700 ? 0 : ms, ...given))")
        .await;
    app.write("update orders set status = 'preparing' where id = 1").await;
    browser.until("document.querySelector('[data-leaving]')").await;
    app.write(ORDER).await;
    browser.until_in("pending", 3).await;
    assert_eq!(
        browser.js("return document.querySelector('[data-leaving]')").await,
        json!(null)
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_order_that_changes_stays_where_it_was_read() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write("insert into orders (store_id, items) select 7, jsonb_agg(jsonb_build_object('name', 'Блюдо ' || i)) from generate_series(1, 60) i")
        .await;
    browser.press("[data-key='orders/7/orders/1'] .card-open").await;
    browser.until("document.getElementById('order').open").await;
    browser.js("document.querySelector('#order .order-body').scrollTop = 500; document.querySelector('#order .order-print').focus()").await;
    app.write("update orders set status = 'preparing'").await;
    browser
        .until("document.querySelector('#order .status').dataset.status === 'preparing'")
        .await;
    let stands = "return [document.querySelector('#order .order-body').scrollTop, document.activeElement.classList.contains('order-print')]";
    assert_eq!(browser.js(stands).await, json!([500, true]));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_sorts_by_when_orders_are_due_and_its_clocks_turn_amber_and_red() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    for minutes in [40, 10, 25] {
        app.write(ORDER).await;
        browser
            .until("document.querySelectorAll('[data-column=pending] .card').length === 1")
            .await;
        let key = browser
            .js("return document.querySelector('[data-column=pending] .card').dataset.key")
            .await;
        let steps = (minutes - 20) / 5;
        let step = if steps > 0 { "step-more" } else { "step-less" };
        for _ in 0..i32::abs(steps) {
            browser
                .press(&format!("[data-key='{}'] .{step}", key.as_str().unwrap()))
                .await;
        }
        browser
            .press(&format!("[data-key='{}'] .yes", key.as_str().unwrap()))
            .await;
        browser
            .until("document.querySelectorAll('[data-column=pending] .card').length === 0")
            .await;
    }
    let order = "return [...document.querySelectorAll('[data-column=preparing] .card')].map((card) => card.dataset.key.split('/').at(-1)).join()";
    assert_eq!(browser.js(order).await, "2,3,1");
    assert_eq!(
        app.value("select string_agg(minutes::text, ',' order by key) from vestnik.vst_status_change")
            .await
            .unwrap(),
        "40,10,25"
    );
    // Each order keeps the minutes that a person has promised for it.
    let clock = |order: u32| format!("document.querySelector('[data-key=\"orders/7/orders/{order}\"] .age').innerText");
    browser.until(&format!("/^(3[5-9]:|40:00)/.test({})", clock(1))).await;
    browser.until(&format!("/^([5-9]:|10:00)/.test({})", clock(2))).await;
    // Set the server's clock ahead, to simulate that time passes.
    let tone = |order: u32| format!("document.querySelector('[data-key=\"orders/7/orders/{order}\"]').dataset.tone");
    let ahead = |minutes: u32| {
        format!(
            "Object.defineProperty(vestnik.connection.api, 'clockAhead', {{ get: () => {minutes} * 60000, set: () => {{}}, configurable: true }})"
        )
    };
    browser.js(&ahead(6)).await;
    browser
        .until(&format!("{} === 'soon' && {} === ''", tone(2), tone(3)))
        .await;
    browser.js(&ahead(12)).await;
    browser
        .until(&format!("{} === 'late' && {}.startsWith('−')", tone(2), clock(2)))
        .await;
    browser.picture("28-clocks").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_named_by_its_number_and_tried_again() {
    let app = App::start().await;
    let proxy = Proxy::to(app.engine.address()).await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link_through(proxy.address)).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.until_still("[data-key='orders/7/orders/1'] .yes").await;
    proxy.cut();
    // A press by the driver could come only after the page has noticed the lost connection. Then the press would wait.
    browser
        .js("document.querySelector('[data-key=\"orders/7/orders/1\"] .yes').click()")
        .await;
    browser
        .until("document.querySelector('.toast-problem')?.innerText.includes('Заказ №1 не принят') && document.querySelector('.toast-problem').innerText.includes('Нет связи')")
        .await;
    // The connection light also shows the lost connection at once.
    browser.until_light("offline").await;
    browser.picture("29-failed").await;
    proxy.mend();
    browser.until_light("live").await;
    browser.press(".toast-action").await;
    browser.until_in("preparing", 1).await;

    // The toast shows the words of the shop's trigger, not an error text of the database.
    app.write("create function no() returns trigger language plpgsql as $$ begin if new.status = 'ready' then raise exception 'Заказ ещё не оплачен'; end if; return new; end $$; \
         create trigger no before update on orders for each row execute function no()")
        .await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser
        .until("document.querySelector('.toast-problem')?.innerText.includes('Касса отвечает: «Заказ ещё не оплачен»')")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pressed_while_the_line_is_out_waits_and_is_sent_when_it_is_back() {
    let app = App::start_with(|config| config.session.ping_interval = std::time::Duration::from_secs(1)).await;
    let proxy = Proxy::to(app.engine.address()).await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link_through(proxy.address)).await;
    for _ in 0..3 {
        app.write(ORDER).await;
    }
    browser.until_in("pending", 3).await;
    proxy.cut();
    browser.until_light("offline").await;
    for order in 1..=3 {
        browser
            .press(&format!("[data-key='orders/7/orders/{order}'] .yes"))
            .await;
        browser
            .until(&format!(
                "document.querySelector('[data-key=\"orders/7/orders/{order}\"] .card-waits')"
            ))
            .await;
    }
    browser.picture("33-queued").await;
    browser.press("[data-key='orders/7/orders/3'] .card-waits button").await;
    // Meanwhile, another person has rejected the second order.
    app.write("update orders set status = 'rejected' where id = 2").await;
    proxy.mend();
    browser.until_light("live").await;
    browser.until_in("preparing", 1).await;
    browser
        .until("document.querySelector('.toast-problem')?.innerText.includes('Заказ №2 уже отклонён')")
        .await;
    browser.until_in("pending", 3).await;
    let statuses = "select string_agg(status, ',' order by id) from orders";
    assert_eq!(app.value(statuses).await.unwrap(), "preparing,rejected,pending");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pressed_while_the_line_was_out_outlives_a_reload() {
    let app = App::start_with(|config| config.session.ping_interval = std::time::Duration::from_secs(1)).await;
    let proxy = Proxy::to(app.engine.address()).await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link_through(proxy.address)).await;
    browser.until("navigator.serviceWorker.controller !== null").await;
    for _ in 0..2 {
        app.write(ORDER).await;
    }
    browser.until_in("pending", 2).await;
    browser
        .until("(sessionStorage.getItem('vestnik.board') ?? '').includes('orders/7/orders/2')")
        .await;
    proxy.cut();
    browser.until_light("offline").await;
    for order in 1..=2 {
        browser
            .press(&format!("[data-key='orders/7/orders/{order}'] .yes"))
            .await;
    }
    let waits = "document.querySelectorAll('#board-orders .card-waits').length === 2";
    browser.until(waits).await;
    browser.page.refresh().await.unwrap();
    browser.until_light("offline").await;
    browser.until(waits).await;
    // Meanwhile, another person has rejected the second order.
    app.write("update orders set status = 'rejected' where id = 2").await;
    proxy.mend();
    browser.until_light("live").await;
    browser.until_in("preparing", 1).await;
    browser
        .until("document.querySelector('.toast-problem')?.innerText.includes('Заказ №2 уже отклонён')")
        .await;
    assert_eq!(
        app.value("select string_agg(status, ',' order by id) from orders")
            .await
            .unwrap(),
        "preparing,rejected"
    );
    let kept = "return sessionStorage.getItem('vestnik.queue') ?? localStorage.getItem('vestnik.queue')";
    assert_eq!(browser.js(kept).await, serde_json::Value::Null);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_takes_longer_gets_a_new_promise_on_all_panels() {
    let app = App::start().await;
    let [kitchen, counter] = Browser::start_some().await;
    for browser in [&kitchen, &counter] {
        browser.start_shift(&app.panel_link()).await;
    }
    app.write(ORDER).await;
    kitchen.until_in("pending", 1).await;
    kitchen.press("[data-key='orders/7/orders/1'] .yes").await;
    counter.until_in("preparing", 1).await;
    // A person has promised twenty minutes. Now the kitchen adds ten minutes.
    kitchen.press("[data-key='orders/7/orders/1'] .card-open").await;
    kitchen.press(".delay[data-delay='10']").await;
    for browser in [&kitchen, &counter] {
        browser
            .until("/^(2[5-9]|30):/.test(document.querySelector('[data-key=\"orders/7/orders/1\"] .age').textContent)")
            .await;
        // The page does not mark the new promised time as a change by the shop, and does not ring for it.
        assert_eq!(
            browser
                .js("return document.querySelector('.card-changed') === null && vestnik.ringer.ringing.size === 0")
                .await,
            true
        );
    }
    assert_eq!(
        app.value("select minutes from vestnik.vst_status_change order by id desc limit 1")
            .await
            .unwrap(),
        "30"
    );
    kitchen.close().await;
    counter.close().await;
}
