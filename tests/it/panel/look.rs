//! Tests of how the panel looks and sounds: accessibility, languages, sounds, and 500 open orders.

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::panel::ORDER;
use crate::panel::browser::{Browser, PATIENCE, SIZES};
use crate::support::app::App;

/// axe-core 4.14.1 by Deque Systems, under MPL-2.0 (see axe.LICENSE in this directory). Only the tests use it.
const AXE: &str = include_str!("axe.min.js");

/// SQL for a busy evening: orders in every column, and bookings.
const EVENING: &str = "insert into vestnik.vst_store (id, name, currency, time_zone) values ('7', 'Пиццерия «Вестник»', 'RUB', 'Europe/Moscow'); \
    insert into orders (store_id, customer_name, customer_phone, total, order_type, items) values \
    (7, 'Мария', '+7 900 123-45-67', 176000, 'pickup', '[{\"name\": \"Пицца Маргарита\", \"quantity\": 2, \"price\": 54000}, {\"name\": \"Борщ\", \"category\": \"Горячий\", \"comment\": \"без сметаны\", \"price\": 32000}, {\"name\": \"Чай\", \"quantity\": 3, \"price\": 12000}]'), \
    (7, 'Пётр', '+7 900 765-43-21', 86000, 'delivery', '[{\"name\": \"Пицца Четыре сыра\", \"price\": 54000}, {\"name\": \"Борщ\", \"price\": 32000}]'), \
    (7, 'Ольга', '+7 900 111-22-33', 39000, 'delivery', '[{\"name\": \"Салат Цезарь\", \"category\": \"Холодный\", \"price\": 39000}]'), \
    (7, 'Тимур', null, 54000, 'pickup', '[{\"name\": \"Борщ\", \"category\": \"Горячий\", \"price\": 32000}, {\"name\": \"Холодец\", \"category\": \"Холодный\", \"price\": 22000}]'), \
    (7, 'Анна', '+7 900 444-55-66', 28000, 'pickup', '[{\"name\": \"Сырники\", \"price\": 28000}]'); \
    insert into bookings (store_id, customer_name, guests, starts_at) values (7, 'Дарья', 5, now() + interval '5 hours'), (7, 'Олег', 2, now() + interval '2 hours'); \
    update orders set status = 'preparing' where id <= 4; update orders set status = 'ready' where id in (2, 3); update orders set status = 'delivering' where id = 3; \
    update bookings set status = 'preparing' where id = 2";

impl Browser {
    /// Checks that axe finds no violation of WCAG AA on the page: light and dark, at three sizes.
    async fn expect_accessible(&self, what: &str) {
        self.js(AXE).await;
        for scheme in ["light", "dark"] {
            self.scheme(scheme).await;
            for (size, width, height) in SIZES {
                self.size(width, height).await;
                let run = "const done = arguments[0]; axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })
                    .then((found) => done(found.violations.map(({ id, help, nodes }) =>
                        ({ id, help, nodes: nodes.map(({ html, failureSummary }) => [html, failureSummary]) }))), (error) => done(String(error)))";
                let found = self.js_later(run).await;
                assert_eq!(found, json!([]), "{what}, {size}, {scheme}: {found:#}");
            }
        }
        self.scheme("light").await;
        self.size(SIZES[1].1, SIZES[1].2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_holds_wcag_aa_and_asks_nobody_else_for_anything() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser
        .page
        .goto(&format!("http://{}/", app.engine.address()))
        .await
        .unwrap();
    browser.until("document.body.dataset.view === 'shift'").await;
    // During an animation, axe would measure the contrast of intermediate colours. So turn animations off.
    let still = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
    browser.cdp("Emulation.setEmulatedMedia", still).await;
    browser.expect_accessible("the start without a link").await;
    app.write(EVENING).await;
    browser.start_shift(&app.panel_link()).await;
    browser.until_in("pending", 5).await;
    browser
        .until("document.querySelectorAll('#board-orders .card').length === 5")
        .await;
    browser.expect_accessible("orders").await;
    browser.press("[data-notice=grants] button").await;
    browser.picture("12-orders").await;
    browser.press("[data-key='orders/7/orders/5'] .card-open").await;
    browser.until("document.getElementById('order').open").await;
    browser.expect_accessible("an order").await;
    browser.picture("13-order").await;
    browser.press("#order .no").await;
    browser.expect_accessible("reasons").await;
    browser.picture("14-reasons").await;
    browser.press("#order .order-close").await;
    app.write("update orders set status = 'cancelled', reason = 'клиент передумал' where id = 1")
        .await;
    browser
        .until("document.querySelector('.alarm-cancelled') !== null")
        .await;
    browser.expect_accessible("a cancellation").await;
    browser.picture("15-cancelled").await;
    browser.press(".alarm-cancelled button").await;
    browser.press("[data-key='orders/7/orders/5'] .yes").await;
    browser.press("[data-view-of=bookings]").await;
    browser.expect_accessible("bookings").await;
    browser.picture("16-bookings").await;
    browser.press("[data-key='bookings/7/bookings/1'] .yes").await;
    browser.until_silent().await;
    browser.press("[data-view-of=history]").await;
    browser
        .until("document.querySelectorAll('#day .figure').length === 6")
        .await;
    browser.press("#receipts summary").await;
    browser
        .until("document.querySelectorAll('#history-list li.event').length > 5 && document.querySelector('.chart')")
        .await;
    browser
        .until("document.querySelector('#closed-list b')?.innerText === 'Заказ №1'")
        .await;
    browser.expect_accessible("history").await;
    browser
        .js("document.querySelector('#history-title').scrollIntoView()")
        .await;
    browser.picture("17-history").await;
    browser
        .js("document.querySelector('#history-list').scrollIntoView()")
        .await;
    browser.picture("17-proof").await;
    browser.press("[data-view-of=settings]").await;
    // The module of the settings may not listen to the first change yet.
    browser
        .until(
            "(() => { const printer = document.getElementById('set-printer'); printer.value = 'serial'; \
                 printer.dispatchEvent(new Event('change')); return document.getElementById('set-baud').checkVisibility(); })()",
        )
        .await;
    browser.press("#try-printer").await;
    browser
        .until("document.getElementById('print-result').innerText.includes('не подключён')")
        .await;
    browser.expect_accessible("settings").await;
    browser.picture("18-settings").await;
    // Check the dialogs that ask a person to confirm.
    for (opener, name) in [("#end-shift", "end of shift"), ("#handover", "another device")] {
        browser.press(opener).await;
        browser.until("document.getElementById('ask').open").await;
        browser.expect_accessible(name).await;
        browser.press("#ask .quiet").await;
    }
    browser.press("[data-view-of=orders]").await;
    browser.press("#pause-open").await;
    browser.until("document.getElementById('ask').open").await;
    browser.expect_accessible("pause").await;
    browser.press("#ask .card-actions .quiet").await;
    browser.press("#stock-open").await;
    browser
        .until("document.querySelector('#stock-dishes button') !== null")
        .await;
    browser.press("#stock-dishes button").await;
    browser.until("document.querySelector('.stopped') !== null").await;
    browser.expect_accessible("stop list").await;
    browser.press("#stock .stock-close").await;
    browser.press("#stations-open").await;
    browser.press("[data-station='Горячий']").await;
    browser
        .until("document.querySelector('[data-station=Горячий][aria-pressed=true]') !== null")
        .await;
    browser.expect_accessible("stations").await;
    browser.press("#ask .yes").await;
    browser.press("[data-key='orders/7/orders/4'] .card-open").await;
    browser
        .until("document.getElementById('order').open && document.querySelector('#order .line-other') !== null")
        .await;
    browser.expect_accessible("an order of several stations").await;
    browser.press("#order .order-close").await;
    browser.expect_accessible("the board of a station").await;
    browser.size(SIZES[0].1, SIZES[0].2).await;
    browser.press("#tools-open").await;
    browser
        .until("document.getElementById('tools').checkVisibility()")
        .await;
    browser.expect_accessible("the tools of a phone").await;
    browser.press("#find-open").await;
    browser.until("document.getElementById('find').open").await;
    browser
        .js("const field = document.getElementById('find-words'); field.value = '1'; field.dispatchEvent(new Event('input'))")
        .await;
    browser.until("document.querySelector('.found') !== null").await;
    browser.expect_accessible("find").await;
    browser.press("#find-close").await;
    browser.expect_clean(&app).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_language_has_the_same_words() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.page.goto(&app.panel_link()).await.unwrap();
    let keys = "const done = arguments[0];
        const plural = (words) => 'other' in words && Object.values(words).every((word) => typeof word === 'string' && word.includes('{n}') || word === words.one);
        const keys = (words, at) => typeof words === 'string' || (at !== '' && 'one' in words && plural(words)) ? [at] : Object.entries(words).flatMap(([name, word]) => keys(word, `${at}.${name}`));
        Promise.all([...document.querySelectorAll('#shift-languages [lang]')].map(({ lang }) => import(`/panel/lang/${lang}.js`)
            .then((words) => [lang, keys(words.default, '').sort()]))).then((all) => done(all))";
    browser
        .until("document.querySelectorAll('#shift-languages [lang]').length > 1")
        .await;
    let all = browser.js_later(keys).await;
    let all: Vec<(String, Vec<String>)> = serde_json::from_value(all).unwrap();
    assert!(all.len() >= 2 && all[0].1.len() > 150);
    for (language, keys) in &all[1..] {
        assert_eq!(keys, &all[0].1, "{language}");
    }
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-view-of=settings]").await;
    browser
        .until("document.querySelectorAll('#set-language option').length > 1")
        .await;
    browser.js("const choose = document.getElementById('set-language'); choose.value = 'en'; choose.dispatchEvent(new Event('change'))").await;
    browser.until("document.documentElement.lang === 'en' && document.querySelector('#settings-title').innerText === 'Settings'").await;
    app.write(ORDER).await;
    browser.press("[data-view-of=orders]").await;
    browser.until_in("pending", 1).await;
    // If a translation were missing, the page would show a key instead of these words.
    browser
        .until("document.body.innerText.includes('Accept · 20 min')")
        .await;
    browser.picture("19-english").await;
    // The page also translates the notices that it has already shown.
    let rest = browser
        .js("return document.querySelector('.bar').innerText + document.getElementById('notices').innerText")
        .await;
    assert!(
        !rest.as_str().unwrap().chars().any(|c| ('а'..='я').contains(&c)),
        "{rest}"
    );
    // On the narrowest and the widest screen, everything stays inside the screen.
    for width in [320, 1920] {
        browser.size(width, 1080).await;
        let picture = browser.page.screenshot().await.unwrap();
        std::fs::write(format!("target/panel/19-english-{width}.png"), picture).unwrap();
        let wide = "return [document.documentElement.scrollWidth <= innerWidth, [...document.querySelectorAll('.card, .card button, .strip, .bar')].every((part) => part.getBoundingClientRect().right <= innerWidth)]";
        assert_eq!(browser.js(wide).await, json!([true, true]), "{width}");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_alert_has_a_sound_of_its_own() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.page.goto(&app.panel_link()).await.unwrap();
    browser.until("window.vestnik !== undefined").await;
    // The script renders each sound without playing it. Each kind of sound has one main tone. In each rendered sound,
    // the script measures the strength of the tones of all kinds (Goertzel algorithm).
    let render = "const done = arguments[0];
        const kinds = { order: 1319, urgent: 1661, changed: 1047, cancelled: 740, booking: 784, offline: 392 };
        const power = (samples, hz, rate) => { let [a, b] = [0, 0]; const k = 2 * Math.cos(2 * Math.PI * hz / rate);
            for (const sample of samples) { const c = sample + k * a - b; b = a; a = c; } return (a * a + b * b - k * a * b) / samples.length; };
        Promise.all(Object.keys(kinds).map(async (kind) => {
            const context = new OfflineAudioContext(1, 48000 * 2, 48000);
            vestnik.perform(context, context.destination, kind, 0);
            const samples = (await context.startRendering()).getChannelData(0);
            return [kind, { peak: Math.max(...samples), loud: Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length), powers: Object.entries(kinds).map(([other, hz]) => [other, power(samples, hz, 48000)]) }];
        })).then(done)";
    let sounds: Vec<(String, Value)> = serde_json::from_value(browser.js_later(render).await).unwrap();
    assert_eq!(sounds.len(), 6);
    // A more urgent sound is louder.
    let loud = |kind: &str| {
        sounds.iter().find(|(name, _)| name == kind).unwrap().1["loud"]
            .as_f64()
            .unwrap()
    };
    for (more, less) in [("urgent", "order"), ("cancelled", "order"), ("order", "booking")] {
        assert!(loud(more) > loud(less), "{more} {} {less} {}", loud(more), loud(less));
    }
    for (kind, sound) in sounds {
        assert!(sound["peak"].as_f64().unwrap() > 0.2, "{kind} is loud");
        let powers: Vec<(String, f64)> = serde_json::from_value(sound["powers"].clone()).unwrap();
        let own = powers.iter().find(|(other, _)| *other == kind).unwrap().1;
        // In each sound, its own tone is much stronger than the tones of the other kinds. The sound `urgent` also has
        // the tone of `order`, so the test skips that pair.
        let others = powers
            .iter()
            .filter(|(other, _)| *other != kind && !(kind == "urgent" && other == "order"));
        for (other, power) in others {
            assert!(own > 5.0 * power, "{kind} sounds like {other}: {own} and {power}");
        }
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_five_hundred_orders_open_it_scrolls_and_takes_a_new_one() {
    let (app, browser) = (App::start().await, Browser::start().await);
    let many = "insert into orders (store_id, customer_name, total, order_type, items) select 7, 'Клиент ' || i, 100 * i, 'delivery', \
         '[{\"name\": \"Пицца Маргарита\", \"count\": 2}, {\"name\": \"Борщ\"}, {\"name\": \"Чай\", \"count\": 3}]' from generate_series(1, 500) i";
    app.write(many).await;
    app.write(
        "update orders set status = 'preparing' where id % 2 = 0; update orders set status = 'ready' where id % 4 = 0",
    )
    .await;
    browser.start_shift(&app.panel_link()).await;
    browser
        .until("[...document.querySelectorAll('#board-orders h2 .count-of')].map((count) => count.textContent).join() === '250,0,125,125,0'")
        .await;
    // A card is made only when a person scrolls near it.
    let made = "return document.querySelectorAll('#board-orders .card').length";
    assert_eq!(browser.js(made).await, 60);
    assert_eq!(browser.text("[data-column=pending] .cards-more").await, "Ещё 230");
    // Add twenty more orders, one by one. The page itself measures the time from the message of the event to the
    // painted card.
    for order in 501..=520 {
        app.write(ORDER).await;
        browser
            .until(&format!(
                "performance.getEntriesByType('measure').filter(({{ name }}) => name.startsWith('vestnik:painted')).length >= {}",
                order - 500
            ))
            .await;
    }
    browser
        .until("document.querySelector('[data-column=pending] .cards-more').innerText === 'Ещё 250'")
        .await;
    let handled = measures(&browser, "handled").await;
    let painted = measures(&browser, "painted").await;
    let scroll = "const done = arguments[0]; const body = document.querySelector('[data-column=pending] .column-body');
        const frames = []; let last = performance.now();
        const step = (now) => { frames.push(now - last); last = now; body.scrollTop += 400;
            if (body.scrollTop + body.clientHeight < body.scrollHeight - 2 && frames.length < 2000) requestAnimationFrame(step);
            else done({ frames: frames.slice(1).sort((a, b) => a - b), height: body.scrollHeight, top: body.scrollTop + body.clientHeight }); };
        requestAnimationFrame(step)";
    let scrolled = browser.js_later(scroll).await;
    let frames: Vec<f64> = serde_json::from_value(scrolled["frames"].clone()).unwrap();
    let at = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share) as usize];
    println!(
        "500 orders open, message to card: worked on for p50 {:.1} ms, worst {:.1} ms; painted after p50 {:.1} ms, worst {:.1} ms; frames while scrolling p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms",
        at(&handled, 0.5),
        at(&handled, 1.0),
        at(&painted, 0.5),
        at(&painted, 1.0),
        at(&frames, 0.5),
        at(&frames, 0.99),
        at(&frames, 1.0)
    );
    assert!(frames.len() > 20 && scrolled["top"].as_f64().unwrap() >= scrolled["height"].as_f64().unwrap() - 2.0);
    assert_eq!(
        browser
            .js("return document.querySelector('[data-column=pending] .card:last-child').dataset.key")
            .await,
        "orders/7/orders/520"
    );
    assert!(
        !browser
            .js("return document.querySelector('[data-column=pending] .cards-more').checkVisibility()")
            .await
            .as_bool()
            .unwrap()
    );
    browser.picture("20-five-hundred").await;
    // After the board is drawn again, each column has only its first cards. A button adds more cards to a column.
    browser.js("document.dispatchEvent(new Event('vestnik:look'))").await;
    assert_eq!(browser.js(made).await, 60);
    browser
        .js("document.querySelector('[data-column=ready] .cards-more').click()")
        .await;
    assert_eq!(browser.js(made).await, 80);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_has_no_card_yet_rings_is_counted_found_answered_and_scrolled_to() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    for _ in 0..60 {
        app.write(ORDER).await;
    }
    browser
        .until("document.querySelector('[data-column=pending] .count-of').textContent === '60' && vestnik.ringer.ringing.size === 60")
        .await;
    let cards = "document.querySelectorAll('[data-column=pending] .card').length";
    assert_eq!(browser.js(&format!("return {cards}")).await, 20);
    app.until_so("select count(*) = 60 from vestnik.vst_receipt where sounded_at is not null")
        .await;
    // An order without a card is not on the screen, so its event has no `rendered` receipt.
    let rendered = "select count(*) from vestnik.vst_receipt where rendered_at is not null";
    assert_eq!(app.value(rendered).await.unwrap(), "20");
    browser.press("#find-open").await;
    browser.until("document.querySelector('#find').open").await;
    browser
        .page
        .find(fantoccini::Locator::Css("#find-words"))
        .await
        .unwrap()
        .send_keys("60\u{e007}")
        .await
        .unwrap();
    browser.until("document.getElementById('order').open").await;
    assert!(browser.text("#order-title").await.contains("60"));
    browser.press("#order .yes").await;
    browser.until_in("preparing", 60).await;
    // The keys of the keyboard scroll the column, and it makes more cards.
    browser.until("!document.getElementById('order').open").await;
    browser
        .js("document.querySelector('[data-column=pending] .column-body').focus()")
        .await;
    let column = browser
        .page
        .find(fantoccini::Locator::Css("[data-column=pending] .column-body"))
        .await
        .unwrap();
    let scrolled = timeout(PATIENCE, async {
        while browser.js(&format!("return {cards}")).await != 59 {
            column.send_keys("\u{e010}").await.unwrap();
        }
    });
    scrolled.await.expect("the column makes all its cards");
    app.until_so("select count(*) = 60 from vestnik.vst_receipt where event_id <= 60 and rendered_at is not null")
        .await;
    browser.close().await;
}

/// The durations that the page itself has measured under this name, milliseconds, in ascending order.
async fn measures(browser: &Browser, name: &str) -> Vec<f64> {
    let script = format!(
        "return performance.getEntriesByType('measure').filter((entry) => entry.name.startsWith('vestnik:{name}')) \
         .map((entry) => entry.duration).sort((a, b) => a - b)"
    );
    serde_json::from_value(browser.js(&script).await).unwrap()
}
