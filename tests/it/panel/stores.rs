//! Tests of several stores on one page.

use serde_json::json;
use vestnik::token::{self, Scope, Stores, Which};

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

/// A new order of store 8.
const OTHER: &str = "insert into orders (store_id, customer_name, total, order_type, items) values (8, 'Анна', 30000, 'pickup', \
     '[{\"name\": \"Рогалик\", \"count\": 3, \"price\": 10000}]')";

/// Opens a page with the named stores 7 and 8.
async fn start() -> (App, Browser) {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(
        "insert into vestnik.vst_store (id, name, time_zone) values ('7', 'Кафе', 'UTC'), ('8', 'Пекарня', 'UTC')",
    )
    .await;
    browser.start_shift(&link(&app, &app.token)).await;
    browser
        .until("document.querySelectorAll('[data-store-of]').length === 3")
        .await;
    browser
        .until("document.getElementById('store-name').innerText === 'Кафе, Пекарня'")
        .await;
    (app, browser)
}

fn link(app: &App, token: &str) -> String {
    app.panel_link()
        .replace("store=7", "store=7,8")
        .replace(&app.token, token)
}

async fn until_card(browser: &Browser, column: &str, key: &str) {
    browser
        .until(&format!(
            "document.querySelector('#board-orders [data-column={column}] [data-key=\"{key}\"]') !== null"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_ring_on_one_page_and_each_order_is_answered_in_its_own() {
    let (app, browser) = start().await;
    app.write(ORDER).await;
    app.write(OTHER).await;
    until_card(&browser, "pending", "orders/7/orders/1").await;
    until_card(&browser, "pending", "orders/8/orders/2").await;
    browser.until_heard().await;
    assert_eq!(
        browser.js("return [...vestnik.ringer.ringing.keys()].sort()").await,
        json!(["orders/7/orders/1", "orders/8/orders/2"])
    );
    assert_eq!(
        browser.text("[data-key='orders/8/orders/2'] .card-store").await,
        "Пекарня"
    );
    assert!(browser.text(".alarm-orders").await.contains("№2 (Пекарня)"));
    // Both orders have receipts, rendered and sounded, in their own stores.
    app.until_so("select count(distinct e.store_id) = 2 from vestnik.vst_receipt r join vestnik.vst_event e on e.id = r.event_id where r.rendered_at is not null and r.sounded_at is not null")
        .await;
    app.until_so("select count(distinct store_id) = 2 from vestnik.vst_presence")
        .await;
    for (width, height) in [(360, 740), (1024, 768), (1920, 1080)] {
        browser.size(width, height).await;
        let picture = browser.page.screenshot().await.unwrap();
        std::fs::write(format!("target/panel/60-stores-{width}.png"), picture).unwrap();
        let fits = browser
            .js("return document.documentElement.scrollWidth <= innerWidth")
            .await;
        assert_eq!(fits, true, "{width}");
    }
    browser.press("[data-key='orders/8/orders/2'] .yes").await;
    until_card(&browser, "preparing", "orders/8/orders/2").await;
    app.until_so("select string_agg(status, ',' order by id) = 'pending,preparing' from orders")
        .await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_silent().await;
    app.until_so("select bool_and(status = 'preparing') from orders").await;
    // After a reload, the board has both orders again.
    browser.reload().await;
    until_card(&browser, "preparing", "orders/7/orders/1").await;
    until_card(&browser, "preparing", "orders/8/orders/2").await;
    browser.expect_clean(&app).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_shows_one_store_and_never_hides_what_rings() {
    let (app, browser) = start().await;
    app.write(ORDER).await;
    app.write(OTHER).await;
    until_card(&browser, "pending", "orders/8/orders/2").await;
    browser.press("[data-key='orders/8/orders/2'] .yes").await;
    until_card(&browser, "preparing", "orders/8/orders/2").await;
    browser.press("[data-store-of='7']").await;
    browser
        .until("document.querySelector('[data-key=\"orders/8/orders/2\"]') === null")
        .await;
    until_card(&browser, "pending", "orders/7/orders/1").await;
    // Store 7 is selected. The page still shows a new order of store 8, and rings for it.
    app.write(OTHER).await;
    until_card(&browser, "pending", "orders/8/orders/3").await;
    browser.until("vestnik.ringer.ringing.has('orders/8/orders/3')").await;
    assert_eq!(browser.text("[data-store-of='8'] .badge").await, "1");
    // The history shows the store that is selected in the panel.
    browser.press("[data-store-of='8']").await;
    browser.press("[data-view-of=history]").await;
    app.write("update orders set status = 'completed' where id = 2").await;
    browser.press("#history-filter .yes").await;
    browser
        .until("document.getElementById('closed-list').innerText.includes('№2')")
        .await;
    browser.press("[data-store-of='7']").await;
    browser
        .until("!document.getElementById('closed-list').innerText.includes('№2')")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_line_is_lost_is_named_and_what_is_pressed_for_it_waits() {
    let (app, browser) = start().await;
    app.write(OTHER).await;
    until_card(&browser, "pending", "orders/8/orders/1").await;
    browser
        .until("(sessionStorage.getItem('vestnik.board') ?? '').includes('orders/8/orders/1')")
        .await;
    browser.cdp("Network.enable", json!({})).await;
    let blocked = json!({"urls": ["*/partner/stores/8/*", "*/partner/8*", "*/sse/8*", "*/session/8*"]});
    browser.cdp("Network.setBlockedURLs", blocked).await;
    browser.page.refresh().await.unwrap();
    browser.until_light("offline").await;
    browser
        .until("document.querySelector('[data-notice^=\"line 8\"]')?.innerText.includes('№8') || document.querySelector('[data-notice^=\"line 8\"]')?.innerText.includes('Пекарня')")
        .await;
    // The page still receives the orders of store 7.
    app.write(ORDER).await;
    until_card(&browser, "pending", "orders/7/orders/2").await;
    // The first press after the reload only unlocks the sound.
    browser.press("[data-notice=sound] button").await;
    browser.press("[data-key='orders/8/orders/1'] .yes").await;
    browser
        .until("document.querySelector('[data-key=\"orders/8/orders/1\"] .card-waits') !== null")
        .await;
    browser.press("[data-key='orders/7/orders/2'] .yes").await;
    app.until_so("select string_agg(status, ',' order by id) = 'pending,preparing' from orders")
        .await;
    browser.page.refresh().await.unwrap();
    browser
        .until("document.querySelector('[data-key=\"orders/8/orders/1\"] .card-waits') !== null")
        .await;
    browser.cdp("Network.setBlockedURLs", json!({"urls": []})).await;
    browser.until_light("live").await;
    app.until_so("select bool_and(status = 'preparing') from orders").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_of_one_store_leaves_the_other_ringing() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(
        "insert into vestnik.vst_store (id, name, time_zone) values ('7', 'Кафе', 'UTC'), ('8', 'Пекарня', 'UTC')",
    )
    .await;
    let other = app
        .database
        .token_of(Stores::These(vec!["8".to_owned()]), Scope::Panel)
        .await;
    let both = format!("{},{other}", app.token);
    browser.start_shift(&link(&app, &both)).await;
    let client = app.database.client().await;
    let revoked = token::revoke(&client, &Which::Id(token::TokenId(2))).await.unwrap();
    assert_eq!(revoked, 1);
    browser.until_light("stopped").await;
    browser
        .until("document.querySelector('[data-notice^=\"line 8\"]')?.innerText.includes('Ключ отозван')")
        .await;
    browser
        .until("document.getElementById('light-text').textContent.startsWith('Пекарня')")
        .await;
    app.write(ORDER).await;
    browser.until("vestnik.ringer.ringing.has('orders/7/orders/1')").await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    app.until_so("select status = 'preparing' from orders").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_a_stop_list_ask_for_their_store() {
    let (app, browser) = start().await;
    browser.press("#pause-open").await;
    browser.press("[data-in-store='8']").await;
    browser.press("[data-pause='30']").await;
    browser
        .until("document.querySelector('[data-notice^=pause]')?.innerText.includes('Пекарня: ')")
        .await;
    assert_eq!(
        app.value("select string_agg(store_id, ',') from vestnik.vst_paused_now")
            .await
            .unwrap(),
        "8"
    );
    browser.press("#stock-open").await;
    browser.press("[data-in-store='7']").await;
    browser
        .until("document.getElementById('stock-title')?.innerText.startsWith('Кафе: ')")
        .await;
    browser
        .page
        .find(fantoccini::Locator::Css("#stock-words"))
        .await
        .unwrap()
        .send_keys("Гуакамоле\u{e007}")
        .await
        .unwrap();
    app.until_so("select string_agg(store_id, ',') = '7' from vestnik.vst_out_of_stock_now")
        .await;
    browser.close().await;
}
