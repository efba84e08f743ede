//! Measures the panel on a cheap tablet, in a real Chromium with a slowed CPU. The bench has these parts:
//!
//! - `first`: the time until the first order is shown.
//! - `changes`: the time to draw a change, and the CPU time, with 500 open orders and 20 changes a second.
//! - `floor`: the same for a page of 500 plain cards, as the lowest possible cost of the changes.
//! - `alarm`: the CPU time of an alarm that nobody answers.
//! - `memory`: the memory that remains after an evening's orders.
//!
//! `cargo bench --bench panel -- memory` runs one part.

#[path = "../tests/it/panel/driver.rs"]
mod driver;
#[path = "support/engine.rs"]
mod engine;
#[path = "support/quantile.rs"]
mod quantile;
#[path = "support/shop.rs"]
mod shop;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fantoccini::{Client, ClientBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{Instant, MissedTickBehavior, interval};

use driver::{PATIENCE, Raw, capabilities, start_driver};
use quantile::quantile;
use shop::Shop;

/// The factor by which the bench slows the CPU, as a model of a cheap tablet.
const SLOWER: u32 = 4;
/// The round-trip time of the network, in milliseconds.
const ROUND_TRIP_MS: u32 = 60;
/// The page is loaded this many times with a cold cache, and then this many times with a warm cache.
const LOADS: usize = 5;
const OPEN: usize = 500;
const CHANGES_PER_SECOND: u64 = 20;
const CHANGING_S: u64 = 20;
/// Limits, milliseconds: `PAINTED_MS` for the time until a changed card is drawn, and `TASK_MS` for the longest task.
const PAINTED_MS: f64 = 120.0;
const TASK_MS: f64 = 100.0;
const ALARM_S: u64 = 10;
/// The largest share of the main thread's time that an alarm may use.
const ALARM_SHARE: f64 = 0.05;
/// The bench measures memory after these numbers of orders. At the first measurement, the page has already created
/// everything that it creates only once.
const CYCLES: [usize; 2] = [500, 3000];
/// The number of orders in one transaction.
const AT_ONCE: usize = 20;

/// The browser's metrics of a page by name: seconds, bytes and counts.
type Metrics = HashMap<String, f64>;

/// A browser with the panel's page.
struct Page {
    page: Client,
    _driver: Child,
    _profile: TempDir,
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|part| !part.starts_with("--"))
        .collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    println!("| what | measured | bound |\n|---|---|---|");
    if runs("first") {
        first().await;
    }
    if runs("floor") {
        floor().await;
    }
    if runs("changes") {
        changes().await;
    }
    if runs("alarm") {
        alarm().await;
    }
    if runs("memory") {
        memory().await;
    }
}

/// Measures the time from the beginning of a page load until the first order is shown. The device has saved the token.
async fn first() {
    let (running, page) = open(1).await;
    page.until("navigator.serviceWorker.controller !== null").await;
    page.cdp("Network.enable", json!({})).await;
    let network = json!({"offline": false, "latency": ROUND_TRIP_MS, "downloadThroughput": -1, "uploadThroughput": -1});
    page.cdp("Network.emulateNetworkConditions", network).await;
    page.slow_down().await;
    page.before_each_load(
        // Remove the saved board, because the page would show it before any order is loaded.
        "localStorage.removeItem('vestnik.board');
         new MutationObserver((_, self) => {
             if (!document.querySelector('#board-orders .card')) return;
             self.disconnect();
             requestAnimationFrame(() => setTimeout(() => { window.seenAt = performance.now(); }));
         }).observe(document, { childList: true, subtree: true });",
    )
    .await;
    for (how, is_cold) in [("nothing kept", true), ("kept by the browser", false)] {
        let mut seen = Vec::new();
        for _ in 0..LOADS {
            page.cdp("Network.setCacheDisabled", json!({"cacheDisabled": is_cold}))
                .await;
            page.cdp("Network.setBypassServiceWorker", json!({"bypass": is_cold}))
                .await;
            page.page.refresh().await.expect("a load");
            seen.push(page.until("window.seenAt").await.as_f64().expect("milliseconds"));
        }
        row(
            &format!("first order seen, {ROUND_TRIP_MS} ms there and back, {SLOWER}x slower, {how}"),
            &format!(
                "median {:.0} ms, worst {:.0} ms",
                quantile(&mut seen, 0.5),
                quantile(&mut seen, 1.0)
            ),
            "1000 ms",
        );
    }
    page.end(running).await;
}

/// Measures the lowest possible cost of the changes: a page with 500 plain cards changes the text of one card at a
/// time.
async fn floor() {
    let page = browser().await;
    page.page.goto("data:text/html,<body>").await.expect("a page");
    page.js(&format!(
        "document.body.style = 'display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px';
         for (let card = 0; card < {OPEN}; card += 1) document.body.append(Object.assign(document.createElement('p'), {{ textContent: `Order ${{card}}` }}));"
    ))
    .await;
    page.slow_down().await;
    page.watch_tasks().await;
    let changes = CHANGES_PER_SECOND * CHANGING_S;
    let (before, begin) = (page.metrics().await, Instant::now());
    let every_ms = 1000 / CHANGES_PER_SECOND;
    page.js(&format!(
        "window.painted = []; let made = 0;
         const timer = setInterval(() => {{
             const began = performance.now();
             document.body.children[made % {OPEN}].textContent = `Changed ${{made}}`;
             requestAnimationFrame(() => setTimeout(() => painted.push(performance.now() - began)));
             made += 1;
             if (made === {changes}) clearInterval(timer);
         }}, {every_ms})"
    ))
    .await;
    page.until(&format!("painted.length === {changes}")).await;
    let (after, took) = (page.metrics().await, begin.elapsed());
    let mut painted: Vec<f64> = serde_json::from_value(page.js("return painted").await).expect("milliseconds");
    let what = format!("floor, {OPEN} plain cards, {CHANGES_PER_SECOND} changes/s, {SLOWER}x slower");
    row(
        &format!("{what}: from the change to the painted text"),
        &p50_and_p95(&mut painted),
        "",
    );
    page.print_main_thread(&what, &before, &after, took, changes).await;
    page.page.close().await.expect("the browser ends");
}

/// Measures the time to draw a change, and the CPU time, with 500 open orders and 20 changes a second.
async fn changes() {
    let (running, page) = open(OPEN).await;
    let client = connect(&running.shop).await;
    client
        .batch_execute("update orders set status = 'preparing' where id % 3 = 0; update orders set status = 'ready' where id % 3 = 1")
        .await
        .expect("written");
    page.until("document.querySelector('[data-column=ready] h2 .count-of').textContent === '167'")
        .await;
    page.slow_down().await;
    page.watch_tasks().await;
    let before = page.metrics().await;
    let begin = Instant::now();
    let made = change(&client).await;
    page.until(&format!(
        "performance.getEntriesByType('measure').filter(({{ name }}) => name.startsWith('vestnik:painted')).length >= {made}"
    ))
    .await;
    let (after, took) = (page.metrics().await, begin.elapsed());
    let painted = page
        .js("return performance.getEntriesByType('measure').filter(({ name }) => name.startsWith('vestnik:painted')).map(({ name, duration, startTime }) => [name.split(':')[2], duration, performance.timeOrigin + startTime + duration])")
        .await;
    let painted: Vec<(String, f64, f64)> = serde_json::from_value(painted).expect("measures");
    let mut handled: Vec<f64> = painted.iter().map(|(_, duration, _)| *duration).collect();
    let rows = client
        .query(
            "select id::text, extract(epoch from at)::float8 * 1000 from vestnik.vst_event",
            &[],
        )
        .await
        .expect("the journal");
    let written: HashMap<String, f64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut whole: Vec<f64> = painted.iter().map(|(id, _, at)| at - written[id]).collect();
    let what = format!("{OPEN} open, {CHANGES_PER_SECOND} changes/s, {SLOWER}x slower");
    row(
        &format!("{what}: from the event to the painted card"),
        &p50_and_p95(&mut handled),
        &format!("p95 {PAINTED_MS} ms"),
    );
    row(
        &format!("{what}: from the INSERT to the painted card"),
        &p50_and_p95(&mut whole),
        "",
    );
    page.print_main_thread(&what, &before, &after, took, made).await;
    page.end(running).await;
}

fn p50_and_p95(ms: &mut [f64]) -> String {
    format!("p50 {:.0} ms, p95 {:.0} ms", quantile(ms, 0.5), quantile(ms, 0.95))
}

/// Adds new orders and moves older ones to the next status, so that the number of open orders stays the same. Returns
/// the number of events.
async fn change(client: &vestnik::infra::db::Client) -> u64 {
    let of = |rest: usize| {
        (1..=OPEN)
            .filter(|id| id % 3 == rest)
            .map(|id| id as i64)
            .collect::<VecDeque<i64>>()
    };
    let (mut pending, mut preparing, mut ready) = (of(2), of(0), of(1));
    let mut tick = interval(Duration::from_millis(1000 / CHANGES_PER_SECOND));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let changes = CHANGES_PER_SECOND * CHANGING_S;
    for number in 0..changes {
        tick.tick().await;
        let sql = match number % 4 {
            0 => ORDERS.replace("{many}", "1") + " returning id",
            1 => moved(&mut pending, &mut preparing, "preparing"),
            2 => moved(&mut preparing, &mut ready, "ready"),
            _ => {
                let id = ready.pop_front().expect("one that is ready");
                format!("update orders set status = 'completed' where id = {id} returning id")
            }
        };
        let row = client.query_one(&sql, &[]).await.expect("written");
        if number % 4 == 0 {
            pending.push_back(row.get::<_, i64>(0));
        }
    }
    changes
}

fn moved(from: &mut VecDeque<i64>, to: &mut VecDeque<i64>, status: &str) -> String {
    let id = from.pop_front().expect("one to go on with");
    to.push_back(id);
    format!("update orders set status = '{status}' where id = {id} returning id")
}

/// Measures the CPU time of an alarm that nobody answers, with one open order and with 500.
async fn alarm() {
    for open_orders in [1, OPEN] {
        let (running, page) = open(open_orders).await;
        if open_orders > 1 {
            let client = connect(&running.shop).await;
            client
                .batch_execute("update orders set status = 'preparing' where id > 1")
                .await
                .expect("written");
        }
        page.until("vestnik.ringer.ringing.size === 1").await;
        let before = page.metrics().await;
        let begin = Instant::now();
        tokio::time::sleep(Duration::from_secs(ALARM_S)).await;
        let after = page.metrics().await;
        let share = (after["TaskDuration"] - before["TaskDuration"]) / begin.elapsed().as_secs_f64();
        row(
            &format!("an alarm that nobody answers, {open_orders} open: main thread"),
            &format!("{:.1} %", share * 100.0),
            &format!("{} %", ALARM_SHARE * 100.0),
        );
        page.end(running).await;
    }
}

/// Measures the memory that remains after the orders of an evening are completed.
async fn memory() {
    let (running, page) = open(0).await;
    let client = connect(&running.shop).await;
    let mut made = 0;
    for until in CYCLES {
        while made < until {
            client
                .batch_execute(&ORDERS.replace("{many}", &AT_ONCE.to_string()))
                .await
                .expect("written");
            page.until(&format!("vestnik.items.size === {AT_ONCE}")).await;
            for status in ["preparing", "ready", "completed"] {
                let sql =
                    format!("update orders set status = '{status}' where status not in ('{status}', 'completed')");
                client.batch_execute(&sql).await.expect("written");
            }
            page.until("vestnik.items.size === 0").await;
            made += AT_ONCE;
        }
        // A card that leaves the board stays visible for a moment.
        page.until("document.querySelector('[data-leaving]') === null").await;
        page.cdp("HeapProfiler.collectGarbage", json!({})).await;
        let now = page.metrics().await;
        row(
            &format!("after {made} orders that came and went"),
            &format!(
                "heap {:.2} MB, {} nodes, {} listeners",
                now["JSHeapUsedSize"] / 1e6,
                now["Nodes"],
                now["JSEventListeners"]
            ),
            "",
        );
    }
    page.end(running).await;
}

const ORDERS: &str = "insert into orders (store_id, customer_name, customer_phone, total, order_type, items) \
     select 7, 'Клиент ' || i, '+7 900 123-45-67', 100 * i, 'delivery', \
     '[{\"name\": \"Пицца Маргарита\", \"count\": 2}, {\"name\": \"Борщ\", \"comment\": \"без сметаны\"}, {\"name\": \"Чай\", \"count\": 3}]' \
     from generate_series(1, {many}) i";

/// Opens a panel of a store with this number of orders, and starts a shift with sound.
async fn open(orders: usize) -> (Running, Page) {
    let shop = Shop::open().await;
    let token = engine::token(&shop).await;
    connect(&shop)
        .await
        .batch_execute(&ORDERS.replace("{many}", &orders.to_string()))
        .await
        .expect("written");
    let (engine, address) = engine::serve(&shop, &[]).await;
    let page = browser().await;
    page.page
        .goto(&format!("http://{address}/#store=7&token={token}"))
        .await
        .expect("the panel");
    page.until("document.body.dataset.view === 'shift'").await;
    page.press("#shift-remember").await;
    page.press("#shift-start").await;
    page.until("document.getElementById('light').dataset.state === 'live' && vestnik.ringer.sounds")
        .await;
    page.until(&format!(
        "[...document.querySelectorAll('#board-orders h2 .count-of')].reduce((sum, count) => sum + Number(count.textContent), 0) === {orders}"
    ))
    .await;
    (Running { shop, _engine: engine }, page)
}

/// Opens a browser with the screen of a tablet.
async fn browser() -> Page {
    let (driver, port) = start_driver().await;
    let profile = tempfile::tempdir().expect("a directory");
    let mut wished = capabilities(&profile, &json!({}));
    // Do not write the browser's log, because that uses CPU time.
    wished.remove("goog:loggingPrefs");
    let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
    builder.capabilities(wished);
    let page = builder
        .connect(&format!("http://127.0.0.1:{port}"))
        .await
        .expect("a Chromium");
    let page = Page {
        page,
        _driver: driver,
        _profile: profile,
    };
    // Thread ticks count only the page's CPU time, not that of other programs.
    page.cdp("Performance.enable", json!({"timeDomain": "threadTicks"}))
        .await;
    let size = json!({"width": 1180, "height": 820, "deviceScaleFactor": 1, "mobile": false});
    page.cdp("Emulation.setDeviceMetricsOverride", size).await;
    page.cdp("Emulation.setTouchEmulationEnabled", json!({"enabled": true}))
        .await;
    page
}

/// The program and its Postgres. The fields are dropped in this order, so the program ends first.
struct Running {
    _engine: shop::Ended,
    shop: Shop,
}

async fn connect(shop: &Shop) -> vestnik::infra::db::Client {
    vestnik::infra::db::connect_as(&shop.url, "bench")
        .await
        .expect("a connection")
}

impl Page {
    async fn js(&self, script: &str) -> Value {
        self.page
            .execute(script, Vec::new())
            .await
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an expression in the page is true, and returns its value. Each check uses CPU time of the page, so
    /// the checks are rare.
    async fn until(&self, expression: &str) -> Value {
        let begin = Instant::now();
        let mut look = interval(Duration::from_millis(100));
        loop {
            look.tick().await;
            let value = self.js(&format!("return {expression}")).await;
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the expression did not become true: {expression}"
            );
        }
    }

    /// Touches an element, as on a tablet. With a mouse, the browser would search for the element under the pointer
    /// after each change, which uses CPU time.
    async fn press(&self, selector: &str) {
        let middle = format!(
            "const {{ x, y, width, height }} = document.querySelector('{selector}').getBoundingClientRect();
             return {{ x: x + width / 2, y: y + height / 2 }}"
        );
        let middle = self.js(&middle).await;
        for (kind, points) in [("touchStart", json!([middle])), ("touchEnd", json!([]))] {
            self.cdp("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points}))
                .await;
        }
    }

    /// Records the long tasks from now on.
    async fn watch_tasks(&self) {
        self.js(
            "window.tasks = []; performance.clearMeasures();
             new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask' })",
        )
        .await;
    }

    /// Prints the longest task since `watch_tasks`, and what the main thread did between two measurements.
    async fn print_main_thread(&self, what: &str, before: &Metrics, after: &Metrics, took: Duration, changes: u64) {
        let tasks = self.js("return tasks").await;
        let mut tasks: Vec<f64> = serde_json::from_value(tasks).expect("tasks");
        let longest = if tasks.is_empty() {
            "none over 50 ms".to_owned()
        } else {
            format!("{:.0} ms ({} over 50 ms)", quantile(&mut tasks, 1.0), tasks.len())
        };
        row(&format!("{what}: longest task"), &longest, &format!("{TASK_MS} ms"));
        let share = |name: &str| (after[name] - before[name]) / took.as_secs_f64() * 100.0;
        row(
            &format!("{what}: main thread"),
            &format!(
                "{:.1} ms of CPU a change; {:.0} % of the time (script {:.0}, layout {:.0}, style {:.0})",
                (after["TaskDuration"] - before["TaskDuration"]) * 1000.0 / changes as f64,
                share("TaskDuration"),
                share("ScriptDuration"),
                share("LayoutDuration"),
                share("RecalcStyleDuration")
            ),
            "",
        );
    }

    async fn cdp(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        let path = "goog/cdp/execute";
        self.page
            .issue_cmd(Raw { path, body })
            .await
            .expect("a command of the browser's own")
    }

    async fn before_each_load(&self, script: &str) {
        self.cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}))
            .await;
    }

    async fn slow_down(&self) {
        self.cdp("Emulation.setCPUThrottlingRate", json!({"rate": SLOWER}))
            .await;
    }

    async fn metrics(&self) -> Metrics {
        let counted = self.cdp("Performance.getMetrics", json!({})).await;
        let named = |metric: &Value| Some((metric["name"].as_str()?.to_owned(), metric["value"].as_f64()?));
        counted["metrics"]
            .as_array()
            .expect("metrics")
            .iter()
            .filter_map(named)
            .collect()
    }

    /// Closes the browser before its server ends.
    async fn end(self, running: Running) {
        self.page.close().await.expect("the browser ends");
        drop(running);
    }
}

/// Prints one result as a row of a table: what was measured, the value, and its limit.
fn row(what: &str, measured: &str, bound: &str) {
    println!("| {what} | {measured} | {bound} |");
}
