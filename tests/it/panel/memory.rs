//! Tests that the page releases the memory of closed orders. `cargo bench --bench panel -- memory` runs ten times as
//! many orders.

use serde_json::json;

use crate::panel::browser::Browser;
use crate::support::app::App;

/// The test measures memory after these numbers of orders. At the first measurement, the page has already created
/// everything that it creates only once.
const CYCLES: [usize; 2] = [150, 300];
const AT_ONCE: usize = 10;
/// The highest allowed growth between the two measurements. It is not zero, because the page keeps 50 closed orders and
/// its performance measures.
const BYTES: f64 = 600_000.0;
const NODES: f64 = 400.0;
const LISTENERS: f64 = 40.0;

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_came_and_went_leave_nothing_behind() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.start_shift(&app.panel_link()).await;
    browser.cdp("Performance.enable", json!({})).await;
    let mut made = 0;
    let mut counted = Vec::new();
    for until in CYCLES {
        while made < until {
            app.write(&format!("insert into orders (store_id, items) select 7, '[{{\"name\": \"Борщ\"}}, {{\"name\": \"Чай\"}}]' from generate_series(1, {AT_ONCE})"))
                .await;
            browser.until(&format!("vestnik.items.size === {AT_ONCE}")).await;
            for status in ["preparing", "ready", "completed"] {
                app.write(&format!(
                    "update orders set status = '{status}' where status not in ('{status}', 'completed')"
                ))
                .await;
            }
            browser.until("vestnik.items.size === 0").await;
            made += AT_ONCE;
        }
        browser
            .until("document.querySelector('[data-leaving]') === null && vestnik.ringer.ringing.size === 0")
            .await;
        browser.cdp("HeapProfiler.collectGarbage", json!({})).await;
        let metrics = browser.cdp("Performance.getMetrics", json!({})).await;
        let of = |name: &str| {
            let all = metrics["metrics"].as_array().unwrap();
            all.iter().find(|one| one["name"] == name).unwrap()["value"]
                .as_f64()
                .unwrap()
        };
        counted.push(["JSHeapUsedSize", "Nodes", "JSEventListeners"].map(of));
    }
    println!("heap, nodes, listeners after {CYCLES:?} orders: {counted:?}");
    for (number, bound) in [BYTES, NODES, LISTENERS].into_iter().enumerate() {
        let more = counted[1][number] - counted[0][number];
        assert!(more <= bound, "{more} more than after {}: {counted:?}", CYCLES[0]);
    }
    browser.close().await;
}
