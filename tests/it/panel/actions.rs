//! Tests of what a person does with an order: by touch, with the keyboard, and with a printer.

use base64::Engine as _;
use serde_json::json;

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_its_way_and_only_a_delivery_is_on_its_way() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    app.write("insert into orders (store_id, order_type) values (7, 'pickup')")
        .await;
    for order in 1..=2 {
        browser.until_in("pending", order).await;
        browser
            .press(&format!("[data-key='orders/7/orders/{order}'] .yes"))
            .await;
        browser.until_in("preparing", order).await;
        browser
            .press(&format!("[data-key='orders/7/orders/{order}'] .yes"))
            .await;
        browser.until_in("ready", order).await;
        browser
            .press(&format!("[data-key='orders/7/orders/{order}'] .yes"))
            .await;
    }
    browser.until_in("delivering", 1).await;
    browser.until("!vestnik.items.has('orders/7/orders/2')").await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until("vestnik.items.size === 0").await;
    assert_eq!(
        app.value("select string_agg(status, ' ') from orders").await.unwrap(),
        "completed completed"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_opened_and_accepted_in_so_many_minutes_with_the_keyboard_alone() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    // Use only the keyboard: go from the alarm to the card, open the dialog, change the minutes, and press the button
    // "accept".
    browser.press("[data-view-of=settings]").await;
    browser.until("document.querySelector('.alarm-orders button')").await;
    browser
        .js("document.querySelector('.alarm-orders button').focus()")
        .await;
    keys(&browser, &["Enter"]).await;
    browser
        .until("document.activeElement.classList.contains('card-open')")
        .await;
    keys(&browser, &["Enter"]).await;
    browser
        .until("document.activeElement.innerText.includes('Принять · 20 мин')")
        .await;
    app.until_so("select count(*) = 1 from vestnik.vst_acknowledgement where event_id = 1")
        .await;
    browser.js("document.querySelector('#order .step-more').focus()").await;
    keys(&browser, &["Enter", "Enter", "Tab"]).await;
    browser
        .until("document.activeElement.innerText.includes('Принять · 30 мин')")
        .await;
    keys(&browser, &["Enter"]).await;
    browser.until_in("preparing", 1).await;
    browser.until("!document.getElementById('order').open").await;
    assert_eq!(
        app.value("select minutes from vestnik.vst_status_change")
            .await
            .unwrap(),
        "30"
    );
    // The chosen minutes were for the first order only: the next order gets the usual minutes.
    app.write(ORDER).await;
    browser
        .until("document.querySelector('[data-key=\"orders/7/orders/2\"] .yes')?.innerText.includes('20 мин')")
        .await;
    browser.close().await;
}

/// Presses keys one by one.
async fn keys(browser: &Browser, keys: &[&str]) {
    for key in keys {
        let text = if *key == "Enter" { "\r" } else { "" };
        let code = match *key {
            "Enter" => 13,
            "Tab" => 9,
            _ => 39,
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            browser.cdp("Input.dispatchKeyEvent", event).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_has_its_own_sound_and_is_confirmed() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write("insert into bookings (store_id, customer_name, guests, starts_at) values (7, 'Дарья', 5, now() + interval '1 day')").await;
    browser
        .until("document.querySelector('.alarm-bookings')?.innerText.startsWith('Новая бронь')")
        .await;
    browser.until_heard().await;
    assert_eq!(
        browser
            .js("return vestnik.ringer.ringing.get('bookings/7/bookings/1')")
            .await,
        "booking"
    );
    browser.press(".alarm-bookings button").await;
    browser.press("[data-key='bookings/7/bookings/1'] .yes").await;
    browser.until_silent().await;
    assert_eq!(app.value("select status from bookings").await.unwrap(), "preparing");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_a_reason_that_is_stored() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.press("[data-key='orders/7/orders/1'] .no").await;
    browser.press("#order .reason-own").await;
    let own = browser
        .page
        .find(fantoccini::Locator::Css("#order .reason-own"))
        .await
        .unwrap();
    own.send_keys("Сгорела печь").await.unwrap();
    browser.press("#order .no-full").await;
    browser.until("vestnik.items.size === 0").await;
    assert_eq!(
        app.value("select status || ': ' || reason from orders").await.unwrap(),
        "rejected: Сгорела печь"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_printed_on_arrival_where_that_was_chosen() {
    let (app, browser) = (App::start().await, Browser::start().await);
    let printer = "localStorage.setItem('vestnik.settings', JSON.stringify({ autoPrint: 'arrival' }));
        window.printed = [];
        window.print = () => printed.push(document.getElementById('ticket').innerText || document.getElementById('ticket').textContent);";
    browser
        .cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": printer}))
        .await;
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    // A print dialog would silence the ring. So while the order rings, the page does not print, unless it knows that
    // the browser shows no dialog.
    browser.until_heard().await;
    assert_eq!(browser.js("return printed.length").await, 0);
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    let ticket = browser.until("printed.length === 1 && printed[0]").await;
    let ticket = ticket.as_str().unwrap();
    for word in ["Заказ №1", "Доставка", "Иван", "2 × Пицца Маргарита", "500"] {
        assert!(ticket.contains(word), "{word}: {ticket}");
    }
    app.write(ORDER).await;
    browser.until("printed.length === 2").await;
    assert_eq!(
        browser.js("return vestnik.ringer.ringing.size").await,
        1,
        "without a print dialog, the ticket is printed while the order rings"
    );
    browser.press("[data-key='orders/7/orders/2'] .yes").await;
    browser.until_in("preparing", 2).await;
    // The print style sheet shows only the ticket, as wide as the paper.
    browser
        .cdp("Emulation.setEmulatedMedia", json!({"media": "print"}))
        .await;
    let on_paper = "[...document.body.children].filter((part) => part.checkVisibility()).map((part) => part.id).join()";
    assert_eq!(browser.js(&format!("return {on_paper}")).await, "ticket");
    let width = browser
        .js("return document.getElementById('ticket').getBoundingClientRect().width / 96 * 25.4")
        .await;
    assert!((71.0..=74.0).contains(&width.as_f64().unwrap()), "{width} mm");
    browser.cdp("Emulation.setEmulatedMedia", json!({"media": ""})).await;
    // The page of the PDF has the width of the paper and the height of the ticket.
    for (paper, width) in [(80, 80.0), (58, 58.0)] {
        browser.js(&format!("vestnik.settings.paper = {paper}")).await;
        browser.js("printed.length = 0").await;
        browser.press("[data-key='orders/7/orders/1'] .card-open").await;
        browser.press("#order .order-print").await;
        browser.until("printed.length === 1").await;
        browser.press("#order .order-close").await;
        let page = browser.cdp("Page.printToPDF", json!({"preferCSSPageSize": true})).await;
        let pdf = base64::engine::general_purpose::STANDARD
            .decode(page["data"].as_str().unwrap())
            .unwrap();
        let pages = media_boxes(&pdf);
        let [(wide, high)] = pages[..] else {
            panic!("one page: {pages:?}")
        };
        assert!(
            (wide - width).abs() < 1.0 && (40.0..200.0).contains(&high),
            "{wide} x {high} mm"
        );
    }
    browser.close().await;
}

/// The sizes of the pages of a PDF, millimetres.
fn media_boxes(pdf: &[u8]) -> Vec<(f64, f64)> {
    const MM_PER_POINT: f64 = 25.4 / 72.0;
    let text = String::from_utf8_lossy(pdf);
    let boxes = text
        .split("/MediaBox [")
        .skip(1)
        .filter_map(|rest| rest.split(']').next());
    boxes
        .map(|numbers| {
            let numbers: Vec<f64> = numbers
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect();
            (
                (numbers[2] - numbers[0]) * MM_PER_POINT,
                (numbers[3] - numbers[1]) * MM_PER_POINT,
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_kept_as_the_person_chose_and_forgotten_at_the_end() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    let kept =
        "return [localStorage, sessionStorage].map((place) => (place.getItem('vestnik.shift') ?? '').includes('vst_'))";
    assert_eq!(browser.js(kept).await, json!([false, true]));
    // The shift continues after a reload of the page.
    browser.page.refresh().await.unwrap();
    browser.until_light("live").await;
    browser.press("[data-view-of=settings]").await;
    browser.press("#end-shift").await;
    browser.press("#ask .ask-yes").await;
    browser.until("document.body.dataset.view === 'shift'").await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    browser.press("[data-view-of=settings]").await;
    browser.press("#forget").await;
    browser.press("#ask .ask-yes").await;
    browser
        .until("document.body.dataset.view === 'shift' && document.getElementById('shift-token').checkVisibility()")
        .await;
    assert_eq!(browser.js(kept).await, json!([false, false]));

    browser.page.goto(&app.panel_link()).await.unwrap();
    browser.press("#shift-remember").await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    assert_eq!(browser.js(kept).await, json!([true, false]));
    browser.expect_clean(&app).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shop_writes_in_its_own_way_is_shown_as_it_wrote_it() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write("alter table orders alter column total type text; alter table bookings alter column starts_at type text")
        .await;
    browser.start_shift(&app.panel_link()).await;
    app.write(
        "insert into orders (store_id, total, items) values \
             (7, 'по счёту', '[{\"name\": \"Сыр\", \"quantity\": \"200 г\", \"price\": 100}, {\"title\": \"Чай\", \"name\": \"\", \"quantity\": \"\"}, \"Кофе\", null]'); \
         insert into bookings (store_id, guests, starts_at) values (7, 2, 'завтра в семь')",
    )
    .await;
    // In the first pass, the page gets the order from an event. In the second pass, after a reload, the page gets the
    // order from a list.
    for _ in 0..2 {
        browser.until_in("pending", 1).await;
        let order = browser.text("[data-key='orders/7/orders/1']").await;
        assert!(
            order.contains("по счёту")
                && order.contains("200 г")
                && order.contains("Чай")
                && order.contains("Не удалось прочитать: сумма")
                && !order.contains("NaN"),
            "{order}"
        );
        browser.press("[data-key='orders/7/orders/1'] .card-open").await;
        browser.until("document.getElementById('order').open").await;
        let opened = browser.text("#order").await;
        assert!(opened.contains("по счёту") && !opened.contains("NaN"), "{opened}");
        browser.press("#order .order-close").await;
        browser.press("[data-view-of=bookings]").await;
        browser
            .until(
                "document.querySelector(\"[data-key='bookings/7/bookings/1']\")?.innerText.includes('завтра в семь')",
            )
            .await;
        browser.reload().await;
    }
    app.write("alter table orders alter column id drop identity; alter table orders alter column id type text")
        .await;
    app.write("insert into orders (id, store_id) values ('А/7:2', 7)").await;
    browser.press("[data-view-of=history]").await;
    browser.press("#receipts summary").await;
    browser
        .until("document.getElementById('history-list').innerText.includes('А/7:2')")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_answers_rings_harder_until_it_is_answered() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser
        .until("vestnik.ringer.ringing.get('orders/7/orders/1') === 'order'")
        .await;
    // Insert the event that the server writes if nobody has answered an order in time.
    app.write(
        "insert into vestnik.vst_event (store_id, type, data) values ('7', 'order_unanswered', \
         '{\"order_ids\": [\"1\"], \"order_id\": \"1\", \"source\": \"orders\", \"event_id\": \"1\", \"waited_seconds\": 60}'); \
         select pg_notify('vestnik', '{}')",
    )
    .await;
    browser
        .until("vestnik.ringer.ringing.get('orders/7/orders/1') === 'urgent'")
        .await;
    app.until_so(
        "select sounded_at is not null and rendered_at is not null from vestnik.vst_receipt where event_id = 2",
    )
    .await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_silent().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_another_store_begins_a_new_shift() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    let other = app.panel_link().replace("store=7", "store=8");
    browser.page.goto(&other).await.unwrap();
    browser.press("#ask .ask-yes").await;
    browser
        .until("document.getElementById('shift-known')?.innerText.includes('8')")
        .await;
    assert_eq!(browser.page.current_url().await.unwrap().fragment(), None);
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    app.write("insert into orders (store_id) values (8)").await;
    browser.until("vestnik.items.has('orders/8/orders/2')").await;
    browser
        .until("[...vestnik.ringer.ringing.keys()].join() === 'orders/8/orders/2'")
        .await;
    browser.expect_clean(&app).await;
    browser.close().await;
}
