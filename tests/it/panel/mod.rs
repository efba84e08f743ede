//! Tests of the panel in a real Chromium and in a WebKit, with the real engine and a real Postgres.

mod actions;
mod alarm;
mod bookings;
mod browser;
mod client;
mod day;
mod driver;
mod files;
mod grants;
mod guard;
mod kitchen;
mod line;
mod look;
mod memory;
mod order;
mod pause;
mod press;
mod printing;
mod scenes;
mod shift;
mod stations;
mod stock;
mod stores;
mod webkit;
mod weight;

use serde_json::Value;

use crate::support::app::App;
use crate::support::db::until_within;
use browser::Browser;

/// A probe on the audio graph. Its function `listen()` returns the seconds since the page last made a sound.
const EAR: &str = "const { context, master } = vestnik.ringer;
    const ear = context.createAnalyser();
    ear.fftSize = 32768;
    master.connect(ear);
    const samples = new Float32Array(ear.fftSize);
    window.heardAt = -Infinity;
    window.listen = () => {
        ear.getFloatTimeDomainData(samples);
        if (samples.some((sample) => Math.abs(sample) > 0.05)) window.heardAt = context.currentTime;
        return context.currentTime - window.heardAt;
    };";

/// A new order of store 7.
const ORDER: &str = "insert into orders (store_id, customer_name, total, order_type, items) values (7, 'Иван', 50000, 'delivery', \
     '[{\"name\": \"Пицца Маргарита\", \"count\": 2, \"price\": 25000}]')";

impl App {
    /// The link that opens the panel with a token for store 7.
    fn panel_link(&self) -> String {
        self.panel_link_through(self.engine.address())
    }

    /// The link that opens the panel through a proxy at this address.
    fn panel_link_through(&self, address: std::net::SocketAddr) -> String {
        format!("http://{address}/#store=7&token={}", self.token)
    }

    /// The value of an SQL expression, as text. `None` if the value is null.
    async fn value(&self, sql: &str) -> Option<String> {
        let row = self
            .database
            .client()
            .await
            .query_opt(&format!("select ({sql})::text"), &[])
            .await
            .unwrap();
        row.and_then(|row| row.get(0))
    }

    /// Waits until an SQL condition is true.
    async fn until_so(&self, condition: &str) {
        let client = self.database.client().await;
        until_within(&client, browser::PATIENCE, &format!("select ({condition})")).await;
    }
}

impl Browser {
    /// Opens the panel by a link, in a window of a tablet's size. Does not press any button.
    async fn open_shift(&self, link: &str) {
        self.size(browser::SIZES[1].1, browser::SIZES[1].2).await;
        self.page.goto(link).await.unwrap();
        self.until("document.body.dataset.view === 'shift'").await;
    }

    /// Opens the panel by a link, starts the shift, and waits until the connection is live and the page can play
    /// sound.
    async fn start_shift(&self, link: &str) {
        self.open_shift(link).await;
        self.press("#shift-start").await;
        self.until_light("live").await;
        self.until("vestnik.ringer.sounds").await;
        self.until_complete().await;
        self.js(EAR).await;
    }

    /// Waits until the page has loaded the modules that it loads after the first orders. After this, a test may cut
    /// the network.
    async fn until_complete(&self) {
        self.until("performance.getEntriesByType('resource').some(({ name, responseStatus }) => name.endsWith('/later.js') && responseStatus === 200)")
            .await;
    }

    /// Reloads the page, and presses the button that unlocks the sound.
    async fn reload(&self) {
        self.page.refresh().await.unwrap();
        self.until_light("live").await;
        self.press("[data-notice=sound] button").await;
        self.until("vestnik.ringer.sounds").await;
    }

    async fn until_light(&self, state: &str) {
        self.until(&format!("document.getElementById('light').dataset.state === '{state}'"))
            .await;
    }

    /// Waits until the page makes a sound.
    async fn until_heard(&self) {
        self.until("listen() === 0").await;
    }

    /// Waits until no order rings, and the page has made no sound for longer than the pause between two rounds of the
    /// sound.
    async fn until_silent(&self) {
        self.until("listen() > 5 && vestnik.ringer.ringing.size === 0").await;
    }

    /// Waits until the card of an order is in a column.
    async fn until_in(&self, column: &str, order: u64) {
        self.until(&format!(
            "document.querySelector('#board-orders [data-column={column}] [data-key=\"orders/7/orders/{order}\"]') !== null"
        ))
        .await;
    }

    /// The number of alerts that each event has caused.
    async fn alerts(&self) -> Vec<u64> {
        let alerts: Value = self.js("return [...vestnik.alerted.values()]").await;
        alerts
            .as_array()
            .unwrap()
            .iter()
            .map(|count| count.as_u64().unwrap())
            .collect()
    }

    /// Checks that the browser has blocked nothing, no script has failed, the page has contacted only this host, and
    /// no URL has a token.
    async fn expect_clean(&self, app: &App) {
        let log = self.log("browser").await;
        let wrong: Vec<_> = log
            .iter()
            .filter(|entry| entry["level"] == "SEVERE" && !is_of_the_network(entry))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let addresses = self.addresses().await;
        assert!(!addresses.is_empty());
        for address in addresses {
            let is_own = [
                "http://127.0.0.1:",
                "ws://127.0.0.1:",
                "data:",
                "blob:",
                "about:",
                "chrome:",
            ];
            assert!(
                is_own.iter().any(|own| address.starts_with(own)),
                "another host: {address}"
            );
            // A browser does not send the fragment of a URL.
            let sent = address.split('#').next().unwrap();
            assert!(
                !sent.contains(&app.token) && !sent.contains("vst_"),
                "a token in {address}"
            );
        }
    }
}

/// Whether a log entry is about a failed or refused request. The tests cause such requests on purpose.
fn is_of_the_network(entry: &Value) -> bool {
    entry["source"] == "network"
        || entry["message"]
            .as_str()
            .is_some_and(|text| text.contains("WebSocket connection to"))
}
