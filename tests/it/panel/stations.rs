//! Tests of a screen that shows only some stations of the kitchen.

use serde_json::json;

use crate::panel::browser::Browser;
use crate::support::app::App;

/// SQL that adds store 7, in which orders must be answered within this many seconds.
fn store(answer_seconds: u32) -> String {
    format!("insert into vestnik.vst_store (id, answer_seconds) values ('7', {answer_seconds})")
}

/// SQL that adds an order of these dishes. Each pair has the name of a dish and its station. The order has waited for
/// 20 s.
fn order(dishes: &[(&str, &str)]) -> String {
    let items: Vec<_> = dishes
        .iter()
        .map(|(name, station)| json!({"name": name, "category": station}))
        .collect();
    format!(
        "insert into orders (store_id, created_at, items) values (7, now() - interval '20 seconds', '{}')",
        json!(items)
    )
}

const RINGS: &str = "[...vestnik.ringer.ringing.keys()].map((key) => key.split('/').at(-1)).sort().join()";
const CARDS: &str = "[...document.querySelectorAll('#board-orders [data-key]')].map((card) => card.dataset.key.split('/').at(-1)).sort().join()";

impl Browser {
    /// Makes the screen show only the station of the oven.
    async fn choose_oven(&self) {
        self.press("#stations-open").await;
        self.press("[data-station='Печь']").await;
        self.until("document.querySelector('[data-station=Печь]').getAttribute('aria-pressed') === 'true'")
            .await;
        self.picture("50-stations").await;
        self.press("#ask .yes").await;
        self.until("!document.getElementById('ask').open").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_of_a_station_shows_rings_and_counts_for_its_own_dishes_only() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(&store(600)).await;
    browser.start_shift(&app.panel_link()).await;
    app.write(&order(&[("Маргарита", "Печь"), ("Чай", "Бар"), ("Чай", "Бар")]))
        .await;
    app.write(&order(&[("Кофе", "Бар")])).await;
    // The soup has no station, so it belongs to all screens.
    app.write("insert into orders (store_id, items) values (7, '[{\"name\": \"Суп\"}]')")
        .await;
    browser.until(&format!("{RINGS} === '1,2,3'")).await;
    browser.choose_oven().await;
    browser.until(&format!("{CARDS} === '1,3' && {RINGS} === '1,3'")).await;
    assert_eq!(browser.page.title().await.unwrap(), "(2) 2 новых заказа");
    assert_eq!(browser.text("#badge-orders").await, "2");
    let bar = browser.text("#station-bar").await;
    assert!(
        bar.contains("Печь") && bar.contains("Ещё 1 заказ на других станциях"),
        "{bar}"
    );
    let dishes = browser.text("[data-key='orders/7/orders/1'] .lines").await;
    assert!(dishes.contains("Другие станции: 2× Чай"), "{dishes}");
    browser.picture("51-station").await;

    // The screen also hides later orders of other stations. It reports no receipts for a hidden order.
    app.write(&order(&[("Лимонад", "Бар")])).await;
    app.write(&order(&[("Пепперони", "Печь")])).await;
    browser
        .until(&format!("{CARDS} === '1,3,5' && {RINGS} === '1,3,5'"))
        .await;
    app.until_so("select sounded_at is not null and rendered_at is not null from vestnik.vst_receipt r join vestnik.vst_event e on e.id = r.event_id where e.key = '5'")
        .await;
    let told = "select coalesce(sounded_at, rendered_at) is null from vestnik.vst_receipt r join vestnik.vst_event e on e.id = r.event_id where e.key = '4'";
    assert_eq!(app.value(told).await.unwrap(), "true");

    browser.press("#all-day-open").await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    let counts =
        "[...document.querySelectorAll('#all-day li')].map((row) => row.innerText.replace(/\\s+/g, ' ')).join()";
    browser.until(&format!("{counts} === '1× Маргарита'")).await;

    // The cancellation of another station's order does not ring here.
    app.write("update orders set status = 'preparing' where id = 2").await;
    browser
        .until("vestnik.items.get('orders/7/orders/2').status === 'preparing'")
        .await;
    app.write("update orders set status = 'cancelled' where id = 2").await;
    app.write("update orders set status = 'cancelled' where id = 1").await;
    let stop = browser
        .until("document.querySelector('.alarm-cancelled')?.innerText")
        .await;
    assert!(stop.as_str().unwrap().contains("Заказ №1 отменён"), "{stop}");
    browser.press(".alarm-cancelled button").await;
    browser.until(&format!("{RINGS} === '3,5'")).await;

    // One press shows the orders of all stations. The new cards do not ring.
    browser.press("#stations-look").await;
    browser.until(&format!("{CARDS} === '3,4,5'")).await;
    assert_eq!(browser.js(&format!("return {RINGS}")).await, "3,5");
    browser.press("#stations-look").await;
    browser.until(&format!("{CARDS} === '3,5'")).await;

    // The choice of stations is saved on the device, so a reload keeps it.
    browser.reload().await;
    browser.until(&format!("{CARDS} === '3,5' && {RINGS} === '3,5'")).await;
    browser.press("#stations-open").await;
    browser.press(".stations-all").await;
    browser
        .until(&format!("{CARDS} === '3,4,5' && {RINGS} === '3,4,5'"))
        .await;
    browser.press("#ask .yes").await;
    browser
        .until("document.getElementById('station-bar').hidden && !document.getElementById('ask').open")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_its_station_does_not_answer_comes_to_every_screen() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(&store(10)).await;
    browser.start_shift(&app.panel_link()).await;
    app.write(&order(&[("Маргарита", "Печь")])).await;
    browser.until_in("pending", 1).await;
    browser.choose_oven().await;
    app.write(&order(&[("Кофе", "Бар")])).await;
    browser.until_in("pending", 2).await;
    browser
        .until("vestnik.ringer.ringing.get('orders/7/orders/2') === 'urgent'")
        .await;
    app.until_so("select bool_and(sounded_at is not null and rendered_at is not null) from vestnik.vst_receipt r join vestnik.vst_event e on e.id = r.event_id where e.key = '2'")
        .await;
    // After the answer, the order belongs to its own station only.
    browser.press("[data-key='orders/7/orders/2'] .yes").await;
    browser
        .until(&format!(
            "{CARDS} === '1' && !vestnik.ringer.ringing.has('orders/7/orders/2')"
        ))
        .await;
    browser.close().await;
}
