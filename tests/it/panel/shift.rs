//! Tests of the shift, during which a page receives orders. A person must confirm the end of a shift. A shift continues
//! after a restart of the tablet. If the page's token is revoked, the page shows a field for a new token.

use serde_json::json;
use vestnik::token::{self, Which};

use crate::panel::browser::Browser;
use crate::panel::{EAR, ORDER};
use crate::support::app::App;

/// Returns two booleans: whether the local storage contains the token, and whether the session storage contains it.
const REMEMBERED: &str =
    "return [localStorage, sessionStorage].map((place) => (place.getItem('vestnik.shift') ?? '').includes('vst_'))";

impl Browser {
    /// Simulates a restart of the tablet: opens the panel in a new tab, without a press.
    async fn restart(&self, app: &App) {
        self.page.goto("about:blank").await.unwrap();
        let old = self.page.window().await.unwrap();
        let new = self.page.new_window(true).await.unwrap();
        self.page.switch_to_window(new.handle).await.unwrap();
        let here = self.page.window().await.unwrap();
        self.page.switch_to_window(old).await.unwrap();
        self.page.close_window().await.unwrap();
        self.page.switch_to_window(here).await.unwrap();
        self.page
            .goto(&format!("http://{}/", app.engine.address()))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_shift_asks_warns_and_keeps_a_remembered_key() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.open_shift(&app.panel_link()).await;
    browser.press("#shift-remember").await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.press("[data-view-of=settings]").await;
    browser.press("#end-shift").await;
    browser.until_text("#ask", "Закончить смену?").await;
    browser.until_text("#ask", "Открыто: 1 заказ.").await;
    browser.picture("30-end").await;
    browser.press("#ask .quiet").await;
    browser.until("!document.getElementById('ask').open").await;
    browser.until_light("live").await;
    browser.press("#end-shift").await;
    browser.press("#ask .ask-yes").await;
    browser.until("document.body.dataset.view === 'shift'").await;
    assert_eq!(
        browser.js(REMEMBERED).await,
        json!([true, false]),
        "the remembered key stays on the device"
    );
    // After a person has ended a shift, the next shift does not start without a press.
    browser.restart(&app).await;
    browser.until("document.body.dataset.view === 'shift'").await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    // Another button removes the key from the device. The page asks for a confirmation first.
    browser.press("[data-view-of=settings]").await;
    browser.press("#forget").await;
    browser.press("#ask .ask-yes").await;
    browser
        .until("document.getElementById('shift-token')?.checkVisibility()")
        .await;
    assert_eq!(browser.js(REMEMBERED).await, json!([false, false]));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablet_that_restarts_shows_its_orders_at_once_and_asks_for_the_one_tap_that_sound_needs() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.open_shift(&app.panel_link()).await;
    browser.press("#shift-remember").await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.restart(&app).await;
    browser.until_light("live").await;
    browser.until_in("pending", 1).await;
    browser
        .until("document.querySelector('[data-notice=sound]')?.innerText.includes('иначе заказ не услышат')")
        .await;
    assert_eq!(browser.js("return vestnik.ringer.sounds").await, false);
    browser.picture("31-one-tap").await;
    // The first press only unlocks the sound, even if it hits the button of an order.
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until("vestnik.ringer.sounds").await;
    browser.js(EAR).await;
    browser.until_heard().await;
    assert_eq!(app.value("select status from orders").await.unwrap(), "pending");
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_leads_to_a_field_for_another_one() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    let client = app.database.client().await;
    token::revoke(&client, &Which::Id(token::TokenId(1))).await.unwrap();
    browser.until_light("stopped").await;
    browser.press("[data-notice=line] button").await;
    browser
        .until("document.getElementById('shift-token').checkVisibility()")
        .await;
    assert!(browser.text("#shift-problem").await.contains("Ключ отозван"));
    let other = app.database.token(token::Stores::All).await;
    browser
        .js(&format!("document.getElementById('shift-token').value = '{other}'"))
        .await;
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_looks_has_no_buttons_and_a_panels_key_no_receipts() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(ORDER).await;
    app.write("insert into orders (store_id, status) values (7, 'completed')")
        .await;
    let link = |token: &str| format!("http://{}/#store=7&token={token}", app.engine.address());
    let key = app.database.token_of(token::Stores::All, token::Scope::Read).await;
    browser.start_shift(&link(&key)).await;
    browser.until_in("pending", 1).await;
    browser.until("document.body.dataset.scope === 'read'").await;
    assert_eq!(
        browser
            .js("return document.querySelector('.card .yes').checkVisibility()")
            .await,
        false
    );
    browser.page.goto("about:blank").await.unwrap();
    let key = app.database.token_of(token::Stores::All, token::Scope::Panel).await;
    browser.start_shift(&link(&key)).await;
    browser.until("document.body.dataset.scope === 'panel'").await;
    browser.press("[data-view-of=history]").await;
    browser
        .until("document.querySelector('.closed-open')?.checkVisibility()")
        .await;
    assert_eq!(
        browser
            .js("return document.getElementById('day').checkVisibility() || document.getElementById('receipts').checkVisibility()")
            .await,
        false
    );
    browser.press("[data-view-of=orders]").await;
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until_in("preparing", 1).await;
    browser.close().await;
}
