//! Tests of the panel in WebKit, the engine of all browsers on an iPad. They cover only the differences from
//! Chromium.

use std::net::Ipv4Addr;
use std::process::Stdio;

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, timeout};

use super::browser::{Browser, LOOK, PATIENCE};
use crate::panel::ORDER;
use crate::support::app::App;

/// Starts a virtual screen, and returns it with its name.
async fn start_screen() -> (Child, String) {
    let mut screen = Command::new("Xvfb")
        .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "1600x1400x24"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("Xvfb starts: `scripts/test` installs xvfb");
    let mut said = BufReader::new(screen.stdout.take().unwrap()).lines();
    let number = timeout(PATIENCE, said.next_line()).await.expect("a screen in time");
    (screen, format!(":{}", number.unwrap().expect("the screen's number")))
}

/// Starts a browser, its driver and its virtual screen.
pub async fn start() -> (Client, Child, Child) {
    let (screen, display) = start_screen().await;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let driver = Command::new("WebKitWebDriver")
        .arg(format!("--port={port}"))
        .env("DISPLAY", display)
        // Without this variable, the driver looks for a desktop session.
        .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("WebKitWebDriver starts: `scripts/test` installs webkit2gtk-driver");
    let capabilities = json!({"browserName": "MiniBrowser"});
    let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
    builder.capabilities(capabilities.as_object().unwrap().clone());
    let (begin, mut look) = (Instant::now(), interval(LOOK));
    loop {
        look.tick().await;
        match builder.connect(&format!("http://127.0.0.1:{port}")).await {
            Ok(page) => return (page, driver, screen),
            Err(error) if begin.elapsed() > PATIENCE => panic!("no WebKit: {error}"),
            Err(_) => {}
        }
    }
}

/// The smallest screenshot of a card with text, bytes. A card with text takes about 9,000 bytes. An empty card has
/// one colour, and takes about 500.
const CARD_WITH_WORDS: usize = 4000;

/// Waits until a screenshot of the order's card has text.
async fn until_card_is_drawn(browser: &Browser) {
    let (begin, mut look) = (Instant::now(), interval(LOOK));
    loop {
        look.tick().await;
        let card = browser
            .page
            .find(Locator::Css("[data-key='orders/7/orders/1']"))
            .await
            .unwrap();
        let picture = timeout(PATIENCE, card.screenshot()).await.expect("a picture in time");
        let bytes = picture.unwrap().len();
        if bytes > CARD_WITH_WORDS {
            return;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "the screenshot of the card has only {bytes} bytes: it has no text"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipad_rings_and_shows_its_orders_however_it_is_held() {
    let (app, browser) = (App::start().await, Browser::start_webkit().await);
    let (landscape, portrait) = ((1180, 820), (820, 1180));
    browser.page.set_window_size(landscape.0, landscape.1).await.unwrap();
    browser.page.goto(&app.panel_link()).await.unwrap();
    browser.press("#shift-start").await;
    browser.until_light("live").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    app.until_so("select sounded_at is not null from vestnik.vst_receipt where event_id = 1")
        .await;

    until_card_is_drawn(&browser).await;
    for (width, height) in [portrait, landscape, portrait] {
        browser.page.set_window_size(width, height).await.unwrap();
        browser.until(&format!("innerWidth === {width}")).await;
        until_card_is_drawn(&browser).await;
    }

    browser.page.set_window_size(390, 844).await.unwrap();
    browser.press("[data-key='orders/7/orders/1'] .card-open").await;
    browser.until("document.getElementById('order').open").await;
    let hidden =
        "const body = document.querySelector('#order .order-body'); return body.scrollHeight - body.clientHeight";
    assert_eq!(
        browser.js(hidden).await,
        0,
        "the dialog hides lines although it has room"
    );
    browser.press("#order .yes").await;
    app.until_so("select status = 'preparing' from orders").await;
    browser.until("vestnik.ringer.ringing.size === 0").await;
    browser.close().await;
}
