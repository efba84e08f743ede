//! Tests of two aids for cooks: a cook ticks dishes that are done, and the page counts each dish.

use serde_json::json;

use crate::panel::browser::Browser;
use crate::support::app::App;

const PIZZAS: &str = "insert into orders (store_id, customer_name, total, order_type, items) values \
     (7, 'Иван', 50000, 'delivery', '[{\"name\": \"Маргарита\", \"count\": 2}, {\"name\": \"Борщ\"}]'), \
     (7, 'Анна', 50000, 'pickup', '[{\"name\": \"Маргарита\", \"count\": 3}, {\"name\": \"Чай\", \"count\": 2}]')";

#[tokio::test(flavor = "multi_thread")]
async fn dishes_are_ticked_and_what_is_to_be_cooked_now_is_counted_over_all_orders() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(PIZZAS).await;
    browser.until_in("pending", 2).await;
    browser.press("#all-day-open").await;
    // No order is accepted yet, so nothing must be cooked.
    browser
        .until("document.getElementById('all-day').innerText.includes('готовить нечего')")
        .await;
    for order in 1..=2 {
        browser
            .press(&format!("[data-key='orders/7/orders/{order}'] .yes"))
            .await;
        browser.until_in("preparing", order).await;
    }
    let counts =
        "[...document.querySelectorAll('#all-day li')].map((row) => row.innerText.replace(/\\s+/g, ' ')).join()";
    browser
        .until(&format!("{counts} === '5× Маргарита,2× Чай,1× Борщ'"))
        .await;
    browser.press("[data-key='orders/7/orders/2'] .tick").await;
    browser
        .until(&format!("{counts} === '2× Маргарита,2× Чай,1× Борщ'"))
        .await;
    browser.picture("42-all-day").await;
    // The dialog of the order shows the ticks of its card, and a reload keeps the ticks.
    browser.press("[data-key='orders/7/orders/2'] .card-open").await;
    let done = "[...document.querySelectorAll('#order .tick')].map((row) => row.getAttribute('aria-pressed')).join()";
    browser.until(&format!("{done} === 'true,false'")).await;
    browser.press("#order .tick:not([aria-pressed=true])").await;
    browser.until(&format!("{counts} === '2× Маргарита,1× Борщ'")).await;
    browser.press(".order-close").await;
    browser.reload().await;
    browser.until(&format!("{counts} === '2× Маргарита,1× Борщ'")).await;
    // A new dish has no tick, and the other dishes keep their ticks.
    app.write(
        "update orders set items = '[{\"name\": \"Суп\"}, {\"name\": \"Маргарита\", \"count\": 3}]' where id = 2",
    )
    .await;
    browser
        .until(&format!("{counts} === '2× Маргарита,1× Борщ,1× Суп'"))
        .await;
    // The presses on the ticks have not opened the dialog of the order.
    assert_eq!(
        browser.js("return document.getElementById('order').open").await,
        json!(false)
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_everything_is_chosen() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(PIZZAS).await;
    browser.until_in("pending", 2).await;
    browser.press("[data-view-of=settings]").await;
    browser
        .until("document.querySelectorAll('#set-density option').length === 3")
        .await;
    browser.press("[data-view-of=orders]").await;
    let height = "return document.querySelector('[data-key=\"orders/7/orders/1\"]').offsetHeight";
    let usual = browser.js(height).await.as_f64().unwrap();
    for (density, compare) in [("small", f64::lt as fn(&f64, &f64) -> bool), ("large", f64::gt)] {
        browser
            .js(&format!(
                "const choice = document.getElementById('set-density'); choice.value = '{density}'; choice.dispatchEvent(new Event('change'))"
            ))
            .await;
        let now = browser.js(height).await.as_f64().unwrap();
        assert!(compare(&now, &usual), "{density}: {now} and {usual}");
    }
    browser.close().await;
}
