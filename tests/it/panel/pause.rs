//! Tests that the panels of a store show its pause.

use crate::panel::browser::Browser;
use crate::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_begun_on_one_panel_shown_on_all_and_ended_on_another() {
    let app = App::start().await;
    let [kitchen, counter] = Browser::start_some().await;
    for browser in [&kitchen, &counter] {
        browser.start_shift(&app.panel_link()).await;
    }
    kitchen.press("#pause-open").await;
    kitchen.picture("40-pause").await;
    kitchen.press("[data-pause='30']").await;
    for browser in [&kitchen, &counter] {
        browser
            .until("document.querySelector('[data-notice=pause]')?.innerText.includes('Пауза до')")
            .await;
    }
    app.until_so("select until between now() + interval '28 minutes' and now() + interval '31 minutes' from vestnik.vst_paused_now")
        .await;
    // The page shows the pause after a reload too.
    counter.reload().await;
    counter
        .until("document.querySelector('[data-notice=pause]') !== null")
        .await;
    counter.press(".pause-end").await;
    for browser in [&kitchen, &counter] {
        browser
            .until("document.querySelector('[data-notice=pause]') === null")
            .await;
    }
    assert_eq!(
        app.value("select count(*) from vestnik.vst_paused_now").await.unwrap(),
        "0"
    );
    kitchen.close().await;
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_whose_time_is_over_is_shown_no_longer() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    let until = app
        .value("to_char((now() + interval '20 seconds') at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        .await
        .unwrap();
    // The page itself records the notice, because the driver may be too slow to see it.
    browser
        .js("window.noticed = ''; new MutationObserver(() => {
                window.noticed ||= document.querySelector('[data-notice=pause]')?.innerText ?? '';
             }).observe(document.body, { childList: true, subtree: true })")
        .await;
    let pause = serde_json::json!({"until": until, "by": "Анна", "reason": "печь чинят"});
    let body = pause.to_string();
    let put = app
        .call(
            "PUT",
            "/api/partner/stores/7/pause",
            &[
                ("Authorization", &format!("Bearer {}", app.token)),
                ("Content-Type", "application/json"),
            ],
            Some(&body),
        )
        .await;
    assert_eq!(put.status, 200, "{}", String::from_utf8_lossy(&put.body));
    browser.until("window.noticed.includes('Анна · печь чинят')").await;
    browser
        .until("document.querySelector('[data-notice=pause]') === null")
        .await;
    browser.close().await;
}
