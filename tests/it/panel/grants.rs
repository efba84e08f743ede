//! Tests of permissions: what the panel does without sound, notifications or storage.

use std::time::Duration;

use vestnik::infra::config::Telegram;

use super::browser::Browser;
use super::{EAR, ORDER};
use crate::support::app::App;

impl Browser {
    /// Waits until the notice of this name contains these words.
    async fn until_notice(&self, name: &str, words: &str) {
        self.until(&format!(
            "document.querySelector('[data-notice={name}]')?.innerText.includes('{words}')"
        ))
        .await;
    }

    async fn until_no_notice(&self, name: &str) {
        self.until(&format!("document.querySelector('[data-notice={name}]') === null"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_may_not_sound_says_so_and_counts_as_absent() {
    // The server saves which panels can ring only if a bot is configured. This bot has no chat.
    let app = App::start_with(|config| {
        config.telegram = Some(Telegram {
            token: "1:aaaaaaaaaa".to_owned().into(),
            api_url: "http://127.0.0.1:1".into(),
            proxy: None,
            texts: None,
            digest_after: Duration::from_secs(1800),
            digest_threshold: 30,
            deadline: Duration::from_secs(10),
            lease: Duration::from_secs(30),
        });
    });
    let (app, browser) = (app.await, Browser::start().await);
    browser.open_shift(&app.panel_link()).await;
    // A script presses the button, not a person, so the browser does not allow sound.
    let press = "document.getElementById('shift-start').click()";
    let parameters = serde_json::json!({"expression": press, "userGesture": false});
    browser.cdp("Runtime.evaluate", parameters).await;
    browser.until_light("live").await;
    browser.until_notice("sound", "Звук выключен").await;
    app.until_so("select count(*) = 1 from vestnik.vst_node").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    app.until_so("select rendered_at is not null from vestnik.vst_receipt where event_id = 1")
        .await;
    assert_eq!(browser.js("return vestnik.ringer.context.state").await, "suspended");
    browser.picture("9-no-sound").await;
    assert_eq!(
        app.value("select count(*) from vestnik.vst_presence").await.unwrap(),
        "0"
    );
    assert_eq!(
        app.value("select sounded_at from vestnik.vst_receipt").await,
        None,
        "the page did not ring, so it must not report a sound"
    );

    browser.press("[data-notice=sound] button").await;
    browser.until_no_notice("sound").await;
    browser.js(EAR).await;
    browser.until_heard().await;
    app.until_so("select sounded_at is not null from vestnik.vst_receipt where event_id = 1")
        .await;
    app.until_so("select count(*) = 1 from vestnik.vst_presence").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shift_starts_though_nobody_answers_what_the_browser_asks() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.open_shift(&app.panel_link()).await;
    // Simulate a browser that shows its question, and a person who does not answer it. A real headless browser
    // answers at once.
    browser
        .js("let permission = 'default';
             Object.defineProperty(Notification, 'permission', { get: () => permission });
             Notification.requestPermission = () => new Promise((settle) => {
                 window.answer = (said) => settle((permission = said));
             });")
        .await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    browser.until("vestnik.ringer.sounds && window.answer").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    app.until_so("select sounded_at is not null from vestnik.vst_receipt where event_id = 1")
        .await;
    browser.press("[data-view-of=settings]").await;
    browser
        .until("document.querySelector('#grant-notifications').innerText.includes('не разрешены')")
        .await;
    browser.picture("21-unanswered").await;
    assert_eq!(
        browser
            .js("return document.querySelector('[data-notice=grants]') === null")
            .await,
        true
    );
    browser.js("answer('denied'); delete window.answer").await;
    browser.until_notice("grants", "Уведомления запрещены").await;
    // The person is asked again and allows notifications, so the notice disappears.
    browser.press("#ask-again").await;
    browser.until("window.answer").await;
    browser.js("answer('granted')").await;
    browser.until_no_notice("grants").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_knows_no_sound_shows_its_orders_all_the_same() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.open_shift(&app.panel_link()).await;
    browser.js("delete window.AudioContext").await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.until_notice("sound", "Звук не поддерживается").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_device_has_no_sound_to_give_the_shift_starts_and_a_press_asks_again() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.open_shift(&app.panel_link()).await;
    // Chromium throws this error if too many pages already play sound.
    browser
        .js("window.Sound = AudioContext;
             window.AudioContext = class { constructor() { throw new DOMException('no more', 'NotSupportedError'); } };")
        .await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.until_notice("sound", "Звук выключен").await;
    browser.js("window.AudioContext = window.Sound").await;
    browser.press("[data-notice=sound] button").await;
    browser.until_no_notice("sound").await;
    app.until_so("select sounded_at is not null from vestnik.vst_receipt where event_id = 1")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_anywhere_on_a_reloaded_tablet_gives_sound_back() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    let touch = serde_json::json!({"enabled": true, "maxTouchPoints": 1});
    browser.cdp("Emulation.setTouchEmulationEnabled", touch).await;
    // Load a blank page in between, because a browser remembers a press across a reload. The tab keeps the key.
    let page = format!("http://{}/", app.engine.address());
    browser.page.goto("about:blank").await.unwrap();
    browser.page.goto(&page).await.unwrap();
    browser.until_notice("sound", "Звук выключен").await;
    let at = |kind: &str, points: serde_json::Value| serde_json::json!({"type": kind, "touchPoints": points});
    let finger = serde_json::json!([{"x": 600, "y": 600}]);
    browser.cdp("Input.dispatchTouchEvent", at("touchStart", finger)).await;
    browser
        .cdp("Input.dispatchTouchEvent", at("touchEnd", serde_json::json!([])))
        .await;
    browser.until("vestnik.ringer.sounds").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_browser_keeps_nothing_the_shift_goes_on_until_the_page_is_closed() {
    let (app, browser) = (App::start().await, Browser::start_that_keeps_nothing().await);
    browser.open_shift(&app.panel_link()).await;
    assert_eq!(
        browser
            .js("return document.getElementById('shift-remember').checkVisibility()")
            .await,
        false,
        "without storage, the page does not offer to remember the key"
    );
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    browser.until("vestnik.ringer.sounds").await;
    browser.js(EAR).await;
    let forbidden = "try { localStorage.length; return false } catch (error) { return error.name }";
    assert_eq!(browser.js(forbidden).await, "SecurityError");
    app.write(ORDER).await;
    browser.until_heard().await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    app.until_so("select status = 'preparing' from orders").await;
    // The browser has not saved the key, so after a reload the page asks for it.
    browser.page.refresh().await.unwrap();
    browser
        .until("document.getElementById('shift-token')?.checkVisibility()")
        .await;
    browser.close().await;
}
