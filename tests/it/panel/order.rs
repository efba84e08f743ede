//! Tests of the fields of an order that the panel shows, from any table, and of changes that the shop makes.

use serde_json::{Value, json};

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

/// A table with a column for every field. Its amounts are in major units of a currency with three decimal digits.
const CATERING: &str = "create table catering (id text primary key, store_id bigint not null, short_no text, status text not null default 'pending', \
     customer text, phone text, address text, note text, people int, pay text, paid boolean, change_from numeric, mode text, total numeric, due timestamptz, \
     dishes jsonb, hall text, prep int, created_at timestamptz default now())";

const MAPPING: &str = r#"
    table = "public.catering"
    kind = "order"
    key = "id"
    store = "store_id"
    number = "short_no"
    [status]
    column = "status"
    pending = ["pending"]
    preparing = ["preparing"]
    ready = ["ready"]
    delivering = ["delivering"]
    completed = ["completed"]
    rejected = ["rejected"]
    cancelled = ["cancelled"]
    [fields]
    customer_name = "customer"
    phone = "phone"
    address = "address"
    comment = "note"
    persons = "people"
    payment_method = "pay"
    paid = "paid"
    change_from = { column = "change_from", unit = "major" }
    type = { column = "mode", delivery = ["delivery"], pickup = ["pickup"], dine_in = ["hall"] }
    total = { column = "total", unit = "major", currency = "KWD" }
    due_at = "due"
    minutes = "prep"
    created_at = "created_at"
    [items]
    column = "dishes"
    [extra]
    "Зал" = "hall"
    [answer]
    minutes = "prep"
"#;

const WHOLE: &str = "insert into catering (id, store_id, short_no, customer, phone, address, note, people, pay, paid, change_from, mode, total, due, dishes, hall) values \
     ('c0ffee-0001', 7, 'A-17', 'Мария', '+7 (900) 123-45-67', 'Мира, 5', 'Аллергия на орехи', 4, 'cash', false, 20, 'delivery', 12.345, now() + interval '2 hours', \
     '[{\"name\": \"Плов\", \"quantity\": 2, \"price\": 5.5, \"options\": [\"острый\"], \"note\": \"без лука\"}]', 'веранда')";

impl App {
    /// Starts the reference shop with the table `catering` as a second source.
    async fn start_with_catering() -> Self {
        let app = Self::start().await;
        app.write(CATERING).await;
        app.database.attach(MAPPING).await;
        app
    }
}

impl Browser {
    pub async fn until_text(&self, selector: &str, words: &str) {
        self.until(&format!(
            "document.querySelector({selector:?})?.innerText.includes({words:?})"
        ))
        .await;
    }

    /// Checks that the text of an element contains all of these words.
    async fn expect_words(&self, selector: &str, words: &[&str]) {
        let text = self.text(selector).await.replace(['\u{a0}', '\u{202f}'], " ");
        for word in words {
            assert!(text.contains(word), "{selector} does not say {word}: {text}");
        }
        assert!(
            !text.contains("[object") && !text.contains("undefined") && !text.contains("NaN"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_the_dialog_and_the_ticket_say_all_that_a_kitchen_and_a_courier_need() {
    let app = App::start_with_catering().await;
    let browser = Browser::start().await;
    let printer =
        "window.printed = []; window.print = () => printed.push(document.getElementById('ticket').textContent);";
    browser
        .cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": printer}))
        .await;
    browser.start_shift(&app.panel_link()).await;
    app.write(WHOLE).await;
    let card = "[data-key='orders/7/catering/c0ffee-0001']";
    let all = [
        "№A-17",
        "Доставка",
        "Мария",
        "+7 (900) 123-45-67",
        "Мира, 5",
        "Аллергия на орехи",
        "4 персоны",
        "Не оплачен",
        "наличными",
        "12,345",
        "20",
        "2×",
        "Плов",
        "острый",
        "без лука",
        "веранда",
    ];
    // In the first pass, the page gets the order from an event. In the second pass, after a reload, the page gets the
    // order from a list.
    for _ in 0..2 {
        browser.until_text(card, "A-17").await;
        browser.expect_words(card, &all).await;
        let links = "return [...document.querySelectorAll(\"[data-key='orders/7/catering/c0ffee-0001'] a\")].map((link) => link.getAttribute('href'))";
        let links: Vec<String> = serde_json::from_value(browser.js(links).await).unwrap();
        assert_eq!(links[0], "tel:+79001234567");
        assert!(links[1].ends_with("%D0%9C%D0%B8%D1%80%D0%B0%2C%205"), "{}", links[1]);
        // The text of the comment is at least as large as the text of the other fields.
        let size = |selector: &str| {
            format!("parseFloat(getComputedStyle(document.querySelector(\"{card} {selector}\")).fontSize)")
        };
        let louder = format!(
            "return {} >= {} && {} > {}",
            size(".comment"),
            size(".card-contact"),
            size(".lines"),
            size(".card-contact")
        );
        assert_eq!(browser.js(&louder).await, true);
        browser.press(&format!("{card} .card-open")).await;
        browser.until("document.getElementById('order').open").await;
        browser.expect_words("#order", &all).await;
        browser
            .expect_words("#order", &["Заказ №A-17", "c0ffee-0001", "Итого", "сдача с 20"])
            .await;
        browser.picture("22-whole").await;
        browser.press("#order .order-print").await;
        let ticket = browser.until("printed.at(-1)").await;
        let ticket = ticket.as_str().unwrap().replace(['\u{a0}', '\u{202f}'], " ");
        for word in [
            "Заказ №A-17",
            "Аллергия на орехи",
            "+7 (900) 123-45-67",
            "Мира, 5",
            "2 × Плов",
            "острый",
            "без лука",
            "сдача с 20",
            "Напечатано",
        ] {
            assert!(ticket.contains(word), "{word}: {ticket}");
        }
        browser.press("#order .order-close").await;
        browser.reload().await;
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_in_two_sources_is_two_orders() {
    let app = App::start_with_catering().await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    app.write("insert into catering (id, store_id, short_no) values ('1', 7, 'K-1')")
        .await;
    browser.until("vestnik.ringer.ringing.size === 2").await;
    browser.press("[data-key='orders/7/catering/1'] .yes").await;
    browser
        .until("document.querySelector('[data-column=preparing] [data-key=\"orders/7/catering/1\"]')")
        .await;
    browser.until_in("pending", 1).await;
    let rings = "return [...vestnik.ringer.ringing.keys()]";
    assert_eq!(browser.js(rings).await, json!(["orders/7/orders/1"]));
    assert_eq!(
        app.value("select status || prep from catering").await.unwrap(),
        "preparing20"
    );
    assert_eq!(app.value("select status from orders").await.unwrap(), "pending");
    browser.page.refresh().await.unwrap();
    browser.until_light("live").await;
    browser.until("vestnik.items.size === 2").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_shop_changes_is_marked_until_somebody_has_looked() {
    let app = App::start_with_catering().await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link()).await;
    app.write(WHOLE).await;
    let card = "[data-key='orders/7/catering/c0ffee-0001']";
    browser.press(&format!("{card} .yes")).await;
    browser
        .until("document.querySelector('[data-column=later] .card') && vestnik.ringer.ringing.size === 0")
        .await;
    assert_eq!(
        browser.js("return document.querySelector('.card-changed')").await,
        Value::Null,
        "a promise of this panel is not marked as a change"
    );
    app.write("update catering set note = null, dishes = '[\"Лагман\"]' where id = 'c0ffee-0001'")
        .await;
    browser
        .until_text(&format!("{card} .card-changed"), "комментарий, состав")
        .await;
    browser.expect_words(card, &["Лагман"]).await;
    assert!(
        !browser.text(card).await.contains("Аллергия"),
        "the card still shows a comment that the shop deleted"
    );
    // The change rings only once.
    browser.until_heard().await;
    browser.until_silent().await;
    // A change of the address is also marked if the status changes with it.
    app.write("update catering set status = 'ready', address = 'Мира, 7' where id = 'c0ffee-0001'")
        .await;
    browser
        .until_text("[data-column=ready] .card-changed", "комментарий, состав, адрес")
        .await;
    browser.expect_words(card, &["Мира, 7", "Лагман", "Мария"]).await;
    browser.picture("23-changed").await;
    browser.press(&format!("{card} .card-open")).await;
    browser.until("document.getElementById('order').open").await;
    browser.press("#order .order-close").await;
    browser
        .until("document.querySelector('.card .card-changed') === null")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_row_that_the_shop_saves_over_an_answer_rings_again_and_is_said_to_who_answered() {
    let app = App::start().await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link()).await;
    app.write("insert into orders (id, store_id, customer_name) values (12, 7, 'Анна')")
        .await;
    browser.press("[data-key='orders/7/orders/12'] .yes").await;
    browser
        .until("document.querySelector('[data-column=preparing] .card') && vestnik.ringer.ringing.size === 0")
        .await;
    app.write("update orders set status = 'pending', customer_name = 'Анна П.' where id = 12")
        .await;
    browser
        .until_text(".toast-problem", "Касса отменила «готовится»: Заказ №12")
        .await;
    browser.until_text(".toast-problem", "Ответьте ещё раз").await;
    browser.until("vestnik.ringer.ringing.size === 1").await;
    browser.picture("24-overwritten").await;
    browser.press("[data-key='orders/7/orders/12'] .yes").await;
    browser
        .until("document.querySelector('[data-column=preparing] .card') && vestnik.ringer.ringing.size === 0")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_deleted_stops_the_kitchen_that_is_at_it_and_is_quiet_where_nobody_was() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    app.write(ORDER).await;
    app.write(ORDER).await;
    browser.until("vestnik.ringer.ringing.size === 3").await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    app.write("delete from orders where id = 1").await;
    browser
        .until_text(".alarm-cancelled", "Заказ №1 удалён из системы")
        .await;
    app.write("delete from orders where id = 2").await;
    browser.until("!vestnik.items.has('orders/7/orders/2')").await;
    // An order that has moved to another store counts as removed.
    app.write("update orders set store_id = 8 where id = 3").await;
    browser.until("vestnik.items.size === 0").await;
    assert_eq!(
        browser.js("return [...vestnik.ringer.ringing.keys()]").await,
        json!(["cancelled/orders/7/orders/1"])
    );
    browser.press(".alarm-cancelled button").await;
    browser.until_silent().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_to_be_made_after_all_rings_again() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    app.write("update orders set status = 'cancelled' where id = 1").await;
    browser.until_text(".alarm-cancelled", "Заказ №1 отменён").await;
    app.write("update orders set status = 'pending' where id = 1").await;
    browser.until_in("pending", 1).await;
    browser
        .until("[...vestnik.ringer.ringing.keys()].join() === 'orders/7/orders/1' && !document.querySelector('.alarm-cancelled')")
        .await;
    browser.until_heard().await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.until_silent().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_emptied_in_the_middle_of_a_shift_empties_the_board() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    app.write("truncate orders").await;
    browser
        .until("vestnik.items.size === 0 && vestnik.ringer.ringing.size === 0")
        .await;
    app.write(ORDER).await;
    browser.until_in("pending", 2).await;
    browser.until_light("live").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_order_that_somebody_takes_back_is_whole_again() {
    let app = App::start_with_catering().await;
    let browser = Browser::start().await;
    app.write(WHOLE).await;
    app.write("update catering set status = 'completed'").await;
    browser.start_shift(&app.panel_link()).await;
    assert_eq!(browser.js("return vestnik.items.size").await, 0);
    // The event has only the status, because this page has never seen the order. So the page loads the lists.
    app.write("update catering set status = 'ready'").await;
    browser
        .until_text("[data-column=ready] [data-key='orders/7/catering/c0ffee-0001']", "Плов")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_found_by_its_number_its_customer_or_the_end_of_the_telephone_number() {
    let app = App::start_with_catering().await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link()).await;
    app.write(WHOLE).await;
    app.write(ORDER).await;
    browser.until("vestnik.items.size === 2").await;
    for (words, found) in [
        ("17", "A-17"),
        ("мар", "A-17"),
        ("4567", "A-17"),
        ("№1", "Заказ №1"),
        ("иван", "Заказ №1"),
        ("zzz", "Ничего не нашлось"),
    ] {
        browser.press("#find-open").await;
        browser.until("document.querySelector('#find').open").await;
        let field = browser
            .page
            .find(fantoccini::Locator::Css("#find-words"))
            .await
            .unwrap();
        field.send_keys(words).await.unwrap();
        browser.until_text("#find-list", found).await;
        browser.press("#find-close").await;
    }
    browser.press("#find-open").await;
    browser.until("document.querySelector('#find').open").await;
    let field = browser
        .page
        .find(fantoccini::Locator::Css("#find-words"))
        .await
        .unwrap();
    field.send_keys("4567\n").await.unwrap();
    browser.until("document.getElementById('order').open").await;
    browser.expect_words("#order", &["Заказ №A-17"]).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_later_stands_apart_and_rings_when_it_is_time_to_cook() {
    let app = App::start_with_catering().await;
    let browser = Browser::start().await;
    browser.start_shift(&app.panel_link()).await;
    app.write(WHOLE).await;
    let card = "[data-key='orders/7/catering/c0ffee-0001']";
    browser.press(&format!("{card} .yes")).await;
    browser
        .until(&format!("document.querySelector(\"[data-column=later] {card}\")"))
        .await;
    browser.until_silent().await;
    assert!(browser.text(&format!("{card} .age")).await.starts_with("к "));
    browser.picture("34-later").await;
    // The customer wants the order in two hours, and cooking takes twenty minutes. The script sets the server's clock
    // 101 minutes ahead, so the kitchen must begin now.
    browser
        .js("Object.defineProperty(vestnik.connection.api, 'clockAhead', { get: () => 101 * 60000, set: () => {} })")
        .await;
    browser
        .until(&format!("document.querySelector(\"[data-column=preparing] {card}\")"))
        .await;
    browser.until_text(".toast", "Пора готовить: Заказ №A-17").await;
    browser.until_heard().await;
    browser.until_silent().await;
    browser.close().await;
}
