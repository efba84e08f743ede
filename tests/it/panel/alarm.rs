//! Tests of the alarm for an order that waits. The order's card and the strip above the board show the alarm. The strip
//! must not cover other elements.

use serde_json::json;

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

/// The smallest screens in kitchens: a cheap tablet, a phone on its side, an old phone, and a tablet at 200 % zoom.
const SMALL: [(u32, u32); 4] = [(1024, 600), (844, 390), (320, 568), (640, 400)];

impl Browser {
    async fn height_of(&self, selector: &str) -> f64 {
        let height = format!("return document.querySelector({selector:?})?.getBoundingClientRect().height ?? 0");
        self.js(&height).await.as_f64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_in_sight_is_said_on_its_card_and_in_one_line_that_moves_nothing() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-notice=grants] button").await;
    app.write("insert into orders (store_id, status) values (7, 'preparing')")
        .await;
    browser.until_in("preparing", 1).await;
    browser
        .until("!document.querySelector('[data-notice=grants]') && document.getAnimations().every((one) => one.playState === 'finished')")
        .await;
    let top = "return document.querySelector('[data-column=preparing] .card').getBoundingClientRect().top";
    let before = browser.js(top).await;
    app.write(ORDER).await;
    // The button is there until the browser has reported that the card is visible.
    browser
        .until("document.querySelector('.alarm-orders')?.innerText.includes('№2') && !document.querySelector('.alarm-row button')")
        .await;
    assert_eq!(browser.js(top).await, before, "the ring moved a card of the board");
    assert_eq!(browser.height_of(".alarm-row").await, 44.0);
    assert_eq!(
        browser.js("return [document.querySelectorAll('.toast').length, document.querySelectorAll('.alarm-row button').length]").await,
        json!([0, 0]),
        "a visible order has no toast and no button in the strip"
    );
    let over = "return getComputedStyle(document.body, '::after').content";
    assert_eq!(browser.js(over).await, "none", "no frame covers the page");
    // When the card is not visible, the row of the strip is larger, and the button in the row leads to the card.
    browser.press("[data-view-of=settings]").await;
    browser.until("document.querySelector('.alarm-orders button')").await;
    assert_eq!(browser.height_of(".alarm-row").await, 64.0);
    browser.press(".alarm-orders button").await;
    browser
        .until("document.activeElement.closest('[data-key=\"orders/7/orders/2\"]')")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_strip_stays_while_its_words_change_and_other_cancellations_make_a_new_one() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    let row =
        |kind: &str, words: &str| format!("document.querySelector('.alarm-{kind}')?.innerText.includes('{words}')");
    app.write(&[ORDER; 8].join(";")).await;
    browser
        .until(&format!(
            "{} && document.querySelector('.alarm-orders button')",
            row("orders", "8")
        ))
        .await;
    browser
        .js("window.icon = document.querySelector('.alarm-orders .icon')")
        .await;
    app.write(ORDER).await;
    browser.until(&row("orders", "9")).await;
    // Inserted again, the icon would start its animation anew.
    assert_eq!(
        browser
            .js("return icon.getAnimations()[0].currentTime > 0 && icon.isConnected")
            .await,
        true
    );
    app.write("update orders set status = 'preparing'").await;
    browser.until("!document.querySelector('.alarm-orders')").await;
    app.write("update orders set status = 'cancelled' where id = 1").await;
    browser.until(&row("cancelled", "№1")).await;
    browser
        .js("window.row = document.querySelector('.alarm-cancelled')")
        .await;
    app.write("update orders set status = 'cancelled' where id = 2").await;
    browser.until(&row("cancelled", "№2")).await;
    assert_eq!(
        browser.js("return row.isConnected").await,
        false,
        "a press that has begun would count for order 2"
    );
    browser.press(".alarm-cancelled button").await;
    browser
        .until("!document.querySelector('.alarm-cancelled') && vestnik.ringer.ringing.size === 0")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_has_room_for_its_words_on_every_screen_whatever_else_rings() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write("insert into orders (store_id, status) values (7, 'preparing')")
        .await;
    browser.until_in("preparing", 1).await;
    app.write("update orders set status = 'cancelled' where id = 1").await;
    app.write(ORDER).await;
    app.write("insert into bookings (store_id, guests) values (7, 2)").await;
    browser
        .until("document.querySelectorAll('.alarm-row').length === 3")
        .await;
    for (width, height) in [(320, 568), (700, 900), (800, 600), (844, 390), (1024, 600), (1280, 800)] {
        browser.size(width, height).await;
        let room = "return document.querySelector('.alarm-cancelled p').clientWidth";
        let room = browser.js(room).await.as_u64().unwrap();
        assert!(room >= 90, "{room} px at {width}x{height}");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_card_stays_in_sight_on_the_smallest_screens_while_several_ring() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-notice=grants] button").await;
    for _ in 0..4 {
        app.write(ORDER).await;
    }
    app.write("insert into bookings (store_id, guests) values (7, 2)").await;
    browser.until("vestnik.ringer.ringing.size === 5").await;
    for (width, height) in SMALL {
        browser.size(width, height).await;
        // A whole card is inside the window and uncovered: at its middle and at its buttons, no other element is on
        // top.
        let whole = "[...document.querySelectorAll('[data-column=pending] .card')].some((card) => {
            const { top, bottom, left, right } = card.getBoundingClientRect();
            const own = (part) => { const at = part.getBoundingClientRect();
                return card.contains(document.elementFromPoint((at.left + at.right) / 2, (at.top + at.bottom) / 2)); };
            return top >= 0 && left >= 0 && right <= innerWidth && bottom <= innerHeight && own(card) && [...card.querySelectorAll('button:not(.card-open)')].every(own);
        })";
        let picture = browser.page.screenshot().await.unwrap();
        std::fs::create_dir_all("target/panel").unwrap();
        std::fs::write(format!("target/panel/24-small-{width}x{height}.png"), picture).unwrap();
        assert_eq!(browser.js(&format!("return {whole}")).await, true, "{width}x{height}");
        assert!(browser.height_of("#alarm").await <= 44.0, "{width}x{height}");
        // A person can scroll to the end of the form that rejects an order.
        browser.press("[data-column=pending] .card .no").await;
        browser
            .until("document.querySelector('#order .no-full')?.checkVisibility()")
            .await;
        browser
            .js("document.querySelector('#order .no-full').scrollIntoView({ block: 'nearest' })")
            .await;
        let picture = browser.page.screenshot().await.unwrap();
        std::fs::write(format!("target/panel/25-reject-{width}x{height}.png"), picture).unwrap();
        let reached = "return (() => { const { top, bottom, left, right } = document.querySelector('#order .no-full').getBoundingClientRect();
            return top >= 0 && bottom <= innerHeight + 1 && left >= 0 && right <= innerWidth; })()";
        assert_eq!(browser.js(reached).await, true, "the form at {width}x{height}");
        browser.js("document.getElementById('order').close()").await;
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellations_are_one_line_and_quiet_where_nobody_had_begun() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    for _ in 0..4 {
        app.write(ORDER).await;
    }
    browser.until("vestnik.ringer.ringing.size === 4").await;
    app.write("update orders set status = 'preparing' where id in (1, 2, 3)")
        .await;
    browser.until("vestnik.ringer.ringing.size === 1").await;
    app.write("update orders set status = 'cancelled' where id = 4").await;
    browser
        .until("document.querySelector('.toast')?.innerText.includes('Заказ №4 отменён')")
        .await;
    assert_eq!(
        browser.js("return vestnik.ringer.ringing.size").await,
        0,
        "order 4 was pending, so its cancellation is silent"
    );
    app.write("update orders set status = 'cancelled', reason = 'передумал' where id in (1, 2, 3)")
        .await;
    browser
        .until("/№1.*№2.*№3/.test(document.querySelector('.alarm-cancelled')?.innerText.replace(/\\n/g, ' ')) && vestnik.ringer.ringing.size === 3")
        .await;
    assert_eq!(browser.height_of("#alarm").await, 44.0);
    browser.picture("26-cancelled").await;
    browser.press(".alarm-cancelled button").await;
    browser
        .until("!document.querySelector('.alarm-cancelled') && vestnik.ringer.ringing.size === 0")
        .await;
    app.until_so("select count(*) = 3 from vestnik.vst_acknowledgement a join vestnik.vst_event e on e.id = a.event_id where e.data ->> 'status' = 'cancelled'")
        .await;
    // The message about a cancelled booking says that the table is free, and tells no cook to stop.
    app.write("insert into bookings (store_id, guests, status) values (7, 2, 'preparing')")
        .await;
    browser.until("vestnik.items.size === 1").await;
    app.write("update bookings set status = 'cancelled'").await;
    browser
        .until("document.querySelector('.alarm-cancelled')?.innerText.includes('Бронь №1 отменена')")
        .await;
    assert!(browser.text(".alarm-cancelled").await.contains("Стол свободен"));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_has_waited_too_long_rings_harder_though_nobody_says_so() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write("insert into vestnik.vst_store (id, answer_seconds) values ('7', 10); insert into orders (store_id, created_at) values (7, now() - interval '20 seconds')")
        .await;
    browser.start_shift(&app.panel_link()).await;
    browser
        .until("vestnik.ringer.ringing.get('orders/7/orders/1') === 'urgent'")
        .await;
    browser
        .until("document.querySelector('[data-key=\"orders/7/orders/1\"]')?.dataset.tone === 'late'")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_is_noticed_on_one_panel_is_silent_on_all() {
    let app = App::start().await;
    let [kitchen, counter] = Browser::start_some().await;
    for browser in [&kitchen, &counter] {
        browser.start_shift(&app.panel_link()).await;
    }
    app.write(ORDER).await;
    kitchen.until_in("pending", 1).await;
    kitchen.press("[data-key='orders/7/orders/1'] .yes").await;
    counter.until_in("preparing", 1).await;
    app.write("update orders set status = 'cancelled' where id = 1").await;
    for browser in [&kitchen, &counter] {
        browser
            .until("vestnik.ringer.ringing.has('cancelled/orders/7/orders/1')")
            .await;
    }
    kitchen.press(".alarm-cancelled button").await;
    counter
        .until("!document.querySelector('.alarm-cancelled') && vestnik.ringer.ringing.size === 0")
        .await;
    kitchen.close().await;
    counter.close().await;
}
