//! Rows that one would not expect: a time of infinity, a key that is null, padded keys and words, a status in a text that
//! is no JSON. Each costs only itself.

use serde_json::json;
use vestnik::infra::config::ShopSchema;

use crate::support::app::App;
use crate::support::db::Database;

async fn shop(tables: &str, mapping: &str) -> App {
    let database = Database::without_shop().await;
    database.client().await.batch_execute(tables).await.unwrap();
    database.attach(mapping).await;
    App::start_on(database, |config| config.shop.schema = ShopSchema::Own).await
}

/// The keys of the orders in a list, after the query `rest`.
async fn keys(app: &App, rest: &str) -> Vec<String> {
    let list = app.get_json(&format!("/api/partner/stores/7/orders{rest}")).await;
    assert!(list["unavailable"].is_null(), "{list}");
    let orders = list["orders"].as_array().unwrap().iter();
    orders.map(|order| order["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_no_client_can_read_and_a_row_without_a_key_cost_no_list() {
    let app = shop(
        "create table orders (number text unique, store int, status text, at timestamptz); \
         insert into orders values ('A', 7, 'new', 'infinity'), ('B', 7, 'new', '12026-01-01'), ('C', 7, 'new', '-infinity'), \
             ('D', 7, 'new', now()), (null, 7, 'new', now())",
        "table = 'public.orders'\nkind = 'order'\nkey = 'number'\nstore = 'store'\n\
         [status]\ncolumn = 'status'\npending = ['new']\n[fields]\ncreated_at = 'at'\n",
    )
    .await;
    assert_eq!(keys(&app, "").await, ["A", "B", "D", "C"]);
    assert_eq!(keys(&app, "?before=B&limit=1").await, ["D"]);
    assert_eq!(keys(&app, "?before=D").await, ["C"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn padded_keys_and_words_find_their_items_pages_and_buttons() {
    let app = shop(
        "create table orders (id char(10) primary key, store int, status varchar(12)); \
         create table lines (id serial primary key, order_id char(10), name text); \
         insert into orders select 'A' || n, 7, rpad(case n when 3 then 'CART' else 'NEW' end, 10) from generate_series(1, 5) n; \
         insert into lines (order_id, name) select id, 'Soup' from orders",
        "table = 'public.orders'\nkind = 'order'\nkey = 'id'\nstore = 'store'\n\
         [status]\ncolumn = 'status'\npending = ['NEW       ']\npreparing = ['COOK      ']\nhidden = ['CART']\n\
         [items]\ntable = 'public.lines'\norder_key = 'order_id'\nname = 'name'\n",
    )
    .await;
    assert_eq!(keys(&app, "?limit=2").await, ["A5", "A4"]);
    assert_eq!(keys(&app, "?before=A4").await, ["A2", "A1"]);
    let list = app.get_json("/api/partner/stores/7/orders").await;
    assert_eq!(list["orders"][0]["items"][0]["name"], "Soup", "{list}");
    let press = json!({"status": "preparing"});
    let answer = app.post("/api/partner/stores/7/orders/A5/status", &press).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = app.get_json("/api/partner/stores/7/orders?status=preparing").await;
    assert_eq!(list["orders"][0]["id"], "A5", "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_another_case_beside_the_items_finds_them() {
    let app = shop(
        "create extension citext; \
         create table orders (id text primary key, store int, status text); \
         create table lines (id serial primary key, order_id citext, name text); \
         insert into orders values ('A5', 7, 'new'); insert into lines (order_id, name) values ('a5', 'Bread')",
        "table = 'public.orders'\nkind = 'order'\nkey = 'id'\nstore = 'store'\n\
         [status]\ncolumn = 'status'\npending = ['new']\n\
         [items]\ntable = 'public.lines'\norder_key = 'order_id'\nname = 'name'\n",
    )
    .await;
    let list = app.get_json("/api/partner/stores/7/orders").await;
    assert_eq!(list["orders"][0]["items"][0]["name"], "Bread", "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_in_a_text_that_is_no_json_costs_one_order() {
    let app = shop(
        "create table orders (id int primary key, store int, meta text, raw json); \
         insert into orders values (1, 7, '{\"status\":\"new\"}', '{}'), (2, 7, '', '{}'), (3, 7, '{\"status\":\"done\"}', '{}')",
        "table = 'public.orders'\nkind = 'order'\nkey = 'id'\nstore = 'store'\n\
         [status]\ncolumn = 'meta.status'\npending = ['new']\ncompleted = ['done']\n",
    )
    .await;
    assert_eq!(
        keys(&app, "").await,
        ["2", "1"],
        "an order whose status cannot be read is shown"
    );
    assert_eq!(keys(&app, "?status=completed").await, ["3"]);
}
