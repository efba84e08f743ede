//! Tests that a shift does not end by accident, and that a QR code opens it on another device.

use serde_json::json;

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn back_and_closing_do_not_end_a_shift() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    let asks = "return !dispatchEvent(new Event('beforeunload', { cancelable: true }))";
    assert_eq!(
        browser.js(asks).await,
        true,
        "the browser asks before it closes the page"
    );
    // The browser's "back" first closes the dialog, then returns to the orders. After that, it shows a message that
    // tells how to end a shift.
    browser.press("[data-view-of=settings]").await;
    browser.press("[data-view-of=orders]").await;
    browser.press("[data-key='orders/7/orders/1'] .card-open").await;
    browser.until("document.getElementById('order').open").await;
    browser.page.back().await.unwrap();
    browser.until("!document.getElementById('order').open").await;
    browser.press("[data-view-of=settings]").await;
    browser.until("document.body.dataset.view === 'settings'").await;
    browser.page.back().await.unwrap();
    browser.until("document.body.dataset.view === 'orders'").await;
    browser.page.back().await.unwrap();
    browser
        .until("document.querySelector('.toast')?.innerText.includes('Смена идёт')")
        .await;
    browser.until_light("live").await;
    assert_eq!(browser.alerts().await, [1], "the page was not reloaded");
    // The page asks once before it ends the shift.
    browser.press("[data-view-of=settings]").await;
    browser.press("#end-shift").await;
    browser.press(".ask-yes").await;
    browser.until("document.body.dataset.view === 'shift'").await;
    assert_eq!(browser.js(asks).await, false);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_on_the_screen_opens_the_shift_on_another_device() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-view-of=settings]").await;
    browser.press("#handover").await;
    let drawn = browser
        .until("document.querySelector('.qr path')?.getAttribute('d')")
        .await;
    browser.picture("41-handover").await;
    let side = browser
        .js("return document.querySelector('.qr').viewBox.baseVal.width")
        .await;
    let side = side.as_u64().unwrap() as usize;
    let mut dark = vec![false; side * side];
    for module in drawn.as_str().unwrap().split('M').skip(1) {
        let (x, rest) = module.split_once(' ').unwrap();
        let y = rest.split_once('h').unwrap().0;
        dark[y.parse::<usize>().unwrap() * side + x.parse::<usize>().unwrap()] = true;
    }
    // Decode the QR code as a camera does, with eight pixels for each module.
    let mut seen = rqrr::PreparedImage::prepare_from_greyscale(side * 8, side * 8, |x, y| {
        if dark[y / 8 * side + x / 8] { 0 } else { 255 }
    });
    let (_, link) = seen.detect_grids()[0].decode().unwrap();
    assert_eq!(link, app.panel_link());
    // After the dialog is closed, the page does not contain the key.
    browser.press("#ask .quiet").await;
    browser.until("document.querySelector('.qr') === null").await;
    assert_eq!(
        browser
            .js("return document.documentElement.outerHTML.includes('token=')")
            .await,
        json!(false)
    );
    browser.close().await;
    let other = Browser::start().await;
    other.start_shift(&link).await;
    other.close().await;
}
