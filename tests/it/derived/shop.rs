//! A running shop system: its database, the writes of its application, an engine, and a panel for each store.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use vestnik::infra::db::Client;
use vestnik::sources::derived::preset;

use super::truth::{self, Orders};
use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::Database;

/// If an order has no items, the engine waits this long for its items, milliseconds.
const WAIT_FOR_ITEMS_MS: u32 = 100;

/// SQL that writes an order of CoopCycle for two restaurants: 18.00 for the first restaurant, and 4.50 for the second.
pub const ORDER_OF_TWO_STORES: &str = "begin; \
    insert into sylius_order (state, number, takeaway, items_total, adjustments_total, total, created_at, updated_at) \
        values ('new', '2', true, 2250, 0, 2250, '2026-08-21 19:10:00', '2026-08-21 19:10:00'); \
    insert into sylius_order_item (order_id, quantity, unit_price, units_total, adjustments_total, total, is_immutable, variant_id) \
        values (1, 1, 1800, 1800, 0, 1800, false, 1), (1, 1, 450, 450, 0, 450, false, 2); \
    insert into sylius_order_vendor values (1, 1, 1800, 1600), (1, 2, 450, 400); commit";

/// A shop system, and an engine that reads its tables.
pub struct Shop {
    pub system: String,
    pub app: App,
    /// The connection with which the shop's application writes.
    pub writer: Client,
    panels: BTreeMap<String, Panel>,
    /// The orders that the panels should show now, as `truth.sql` gives them.
    known: Orders,
    /// The number of events that each panel has received, by store.
    had: BTreeMap<String, usize>,
}

/// The stores of a shop system for which the test opens a panel.
fn stores(system: &str) -> &'static [&'static str] {
    match system {
        "coopcycle" => &["restaurant:1", "restaurant:2", "store:1"],
        "odoo-pos" | "saleor" | "spree" => &["1", "2"],
        "vendure" => &["2"],
        _ => &["1"],
    }
}

/// Reads a file of `tests/shops/derived/SYSTEM`.
pub fn file(system: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/shops/derived")
        .join(system)
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The program's preset mapping of a shop system, with a short wait for the items of an order.
pub fn mapping(system: &str) -> String {
    let preset = preset::mapping(system).unwrap();
    let preset = preset.replace(
        "# comment = 'o.\"customFieldsComment\"'",
        "comment = 'o.\"customFieldsComment\"'",
    );
    preset.replace(
        "[derived]\n",
        &format!("[derived]\nwait_for_items_ms = {WAIT_FOR_ITEMS_MS}\n"),
    )
}

/// The two parts of `life.sql`: the statements that create the tables, and the writes of the application.
pub fn parts(system: &str) -> (String, String) {
    let life = file(system, "life.sql");
    let (tables, life) = life.split_once("-- @@ life").unwrap();
    (tables.to_owned(), life.to_owned())
}

impl Shop {
    /// Starts a shop system without orders. `isolation` is the isolation level of its application's transactions.
    pub async fn open(system: &str, isolation: &str) -> Self {
        Self::open_as(system, isolation, &mapping(system), |_| ()).await
    }

    /// Starts a shop system with this mapping; `change` edits the engine's settings first.
    pub async fn open_as(
        system: &str,
        isolation: &str,
        mapping: &str,
        change: impl FnOnce(&mut vestnik::infra::config::Config),
    ) -> Self {
        let database = Database::fresh().await;
        let writer = database.client().await;
        writer.batch_execute(&parts(system).0).await.unwrap();
        writer
            .batch_execute(&format!("set default_transaction_isolation = '{isolation}'"))
            .await
            .unwrap();
        database.attach(mapping).await;
        let app = App::start_on(database, |config| {
            // The test does not read the panels for minutes, so they answer no ping.
            config.session.ping_interval = Duration::from_secs(600);
            change(config);
        })
        .await;
        let mut panels = BTreeMap::new();
        for store in stores(system) {
            panels.insert((*store).to_owned(), app.panel(store, None).await.live().await);
        }
        Self {
            system: system.to_owned(),
            app,
            writer,
            panels,
            known: Orders::new(),
            had: BTreeMap::new(),
        }
    }

    /// The writes of the shop's application; each string is one transaction.
    pub fn life(&self) -> Vec<String> {
        let mut transactions = Vec::new();
        let (mut statement, mut open) = (String::new(), false);
        for line in parts(&self.system).1.lines() {
            let line = line.trim_end();
            if line.trim_start().starts_with("--") || line.is_empty() {
                continue;
            }
            statement.push_str(line);
            statement.push('\n');
            let ends = line.split(" -- ").next().unwrap().trim_end().ends_with(';');
            open |= line.starts_with("begin");
            open &= !line.starts_with("commit");
            if ends && !open {
                transactions.push(std::mem::take(&mut statement));
            }
        }
        assert!(statement.is_empty(), "{statement}");
        transactions
    }

    /// Waits until the engine has computed the changed orders, and written their events.
    pub async fn settle(&self) {
        const SETTLED: &str =
            "select not exists (select from vestnik.vst_change) and not exists (select from vestnik.vst_wait)";
        self.app.database.until(SETTLED).await;
    }

    /// Executes SQL as the system's application does.
    pub async fn write(&self, sql: &str) {
        self.writer.batch_execute(sql).await.unwrap();
    }

    /// The next event of a store's panel.
    pub async fn event(&mut self, store: &str) -> Value {
        self.panels.get_mut(store).unwrap().event().await
    }

    /// Executes a transaction. Asserts that the lists and the new events agree with `truth.sql`.
    pub async fn live(&mut self, transaction: &str) {
        let written = self.writer.batch_execute(transaction).await;
        written.unwrap_or_else(|error| panic!("{}: {error:?}\n{transaction}", self.system));
        self.settle().await;
        let now = truth::orders(&self.writer, &self.system).await;
        let expected = truth::events(&self.known, &now);
        for (store, events) in &expected {
            let panel = self
                .panels
                .get_mut(store)
                .unwrap_or_else(|| panic!("a panel of {store}"));
            for _ in events {
                let event = timeout(PATIENCE / 2, panel.event()).await;
                let event = event
                    .unwrap_or_else(|_| panic!("{}: not all of {events:?} came after\n{transaction}", self.system));
                let got = (
                    event["data"]["order_id"].as_str().unwrap().to_owned(),
                    event["type"].as_str().unwrap().to_owned(),
                );
                assert!(
                    events.contains(&got),
                    "{}: {got:?} is not among {events:?} after\n{transaction}",
                    self.system
                );
            }
            *self.had.entry(store.clone()).or_default() += events.len();
        }
        self.compare(&now, transaction).await;
        self.known = now;
    }

    async fn compare(&self, now: &Orders, transaction: &str) {
        for store in self.panels.keys() {
            let list = self.list(store).await;
            let shown: BTreeMap<String, Value> = list
                .iter()
                .map(|row| {
                    (
                        row["id"].as_str().unwrap().to_owned(),
                        truth::of_list(row, now.members()),
                    )
                })
                .collect();
            let expected = now.of_store(store);
            assert_eq!(shown, expected, "{} in store {store} after\n{transaction}", self.system);
        }
    }

    /// All orders of a store, as the HTTP API lists them.
    pub async fn list(&self, store: &str) -> Vec<Value> {
        let list = self
            .app
            .get_json(&format!("/api/partner/stores/{store}/orders?status=all"))
            .await;
        list["orders"].as_array().unwrap_or_else(|| panic!("{list}")).clone()
    }

    /// Ends the test, and asserts that no panel has received more events than expected.
    pub async fn close(self) {
        for store in self.panels.keys() {
            let history = self
                .app
                .get_json(&format!("/api/partner/stores/{store}/events?limit=500"))
                .await;
            let events = history["events"].as_array().unwrap().len();
            assert_eq!(
                events,
                self.had.get(store).copied().unwrap_or_default(),
                "{} in store {store}",
                self.system
            );
        }
    }
}
