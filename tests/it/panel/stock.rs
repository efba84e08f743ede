//! Tests of the stop list, which panels show and change.

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_dish_is_stopped_by_a_tap_on_one_panel_counted_on_all_and_put_back_on_another() {
    let app = App::start().await;
    // The dialog also offers the dishes of a closed order.
    app.write(ORDER).await;
    app.write("update orders set status = 'completed'").await;
    let [kitchen, counter] = Browser::start_some().await;
    for browser in [&kitchen, &counter] {
        browser.start_shift(&app.panel_link()).await;
    }
    kitchen.press("#stock-open").await;
    kitchen.press("[data-dish='Пицца Маргарита']").await;
    kitchen
        .until("document.querySelector('[data-stopped=\"Пицца Маргарита\"]')?.innerText.includes('до ')")
        .await;
    app.until_so("select until > now() from vestnik.vst_out_of_stock_now where item = 'Пицца Маргарита'")
        .await;
    // A person types an item that no order contains. Without an end time, the item stays on the list until a person
    // takes it off.
    kitchen.press("[data-stock-span=open]").await;
    kitchen
        .page
        .find(fantoccini::Locator::Css("#stock-words"))
        .await
        .unwrap()
        .send_keys("Гуакамоле\u{e007}")
        .await
        .unwrap();
    kitchen
        .until("document.querySelector('[data-stopped=Гуакамоле]')?.innerText.includes('пока не вернёте')")
        .await;
    kitchen.picture("41-stock").await;
    for browser in [&kitchen, &counter] {
        browser
            .until("document.getElementById('badge-stock').textContent === '2'")
            .await;
    }
    app.until_so("select until is null from vestnik.vst_out_of_stock_now where item = 'Гуакамоле'")
        .await;
    // The page shows the number of items after a reload too.
    counter.reload().await;
    counter
        .until("document.getElementById('badge-stock').textContent === '2'")
        .await;
    counter.press("#stock-open").await;
    counter.press("[data-stopped=Гуакамоле] button").await;
    // An open list shows changes that other panels make.
    kitchen
        .until("document.querySelector('[data-stopped=Гуакамоле]') === null")
        .await;
    kitchen.press(".stock-close").await;
    kitchen
        .until("document.getElementById('badge-stock').textContent === '1'")
        .await;
    assert_eq!(
        app.value("select string_agg(item, ',') from vestnik.vst_out_of_stock_now")
            .await
            .unwrap(),
        "Пицца Маргарита"
    );
    kitchen.close().await;
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_list_and_the_pause_are_at_hand_on_a_phone_while_an_order_rings() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    for width in [320, 390] {
        browser.size(width, 640).await;
        browser
            .until("document.querySelector('.alarm-orders')?.checkVisibility()")
            .await;
        for (tool, dialog) in [("#stock-open", "stock"), ("#pause-open", "ask")] {
            let closed = format!(
                "!document.getElementById('tools').hasAttribute('data-open') && !document.querySelector('{tool}').checkVisibility()"
            );
            browser.until(&closed).await;
            browser.press("#tools-open").await;
            browser
                .until(&format!("document.querySelector('{tool}').checkVisibility()"))
                .await;
            let picture = browser.page.screenshot().await.unwrap();
            std::fs::write(format!("target/panel/52-tools-{width}.png"), picture).unwrap();
            let inside = "return [...document.querySelectorAll('#tools button')].filter((tool) => tool.checkVisibility()).every((tool) => { const { left, right } = tool.getBoundingClientRect(); return left >= 0 && right <= innerWidth; })";
            assert_eq!(browser.js(inside).await, true, "{width}");
            browser.press(tool).await;
            browser
                .until(&format!("document.getElementById('{dialog}').open"))
                .await;
            browser.press(&format!("#{dialog} .card-actions .quiet")).await;
            browser
                .until(&format!("!document.getElementById('{dialog}').open"))
                .await;
        }
    }
    browser.close().await;
}
