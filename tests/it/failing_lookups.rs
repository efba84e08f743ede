//! Look-ups of items and details that fail: an order whose values cannot be read costs only itself, and panels reload
//! their lists when a failed look-up works again.

use serde_json::{Value, json};
use vestnik::infra::config::ShopSchema;

use crate::mapping_mistakes::with_mapping;
use crate::support::app::{App, Panel};
use crate::support::db::Database;

/// The orders of a bakery. The details divide by the weight, so an order without weight makes them fail.
const SHOP: &str = "create table orders (id serial primary key, store int not null, status text not null, grams int not null); \
     create table lines (id serial primary key, order_id int not null, name text not null, note text); \
     insert into orders (store, status, grams) values (7, 'new', 10), (7, 'new', 10), (7, 'new', 10); \
     insert into lines (order_id, name, note) select id, 'Soup', '{\"text\":\"hot\"}' from orders";
const MAPPING: &str = "table = 'public.orders'\nname = 'orders'\nkind = 'order'\nkey = 'id'\nstore = 'store'\n\
     [status]\ncolumn = 'status'\npending = ['new']\n\
     [items]\ntable = 'public.lines'\norder_key = 'order_id'\nname = 'name'\nnote = 'note.text'\n\
     [details]\nquery = '''select o.id::text as key, (100 / o.grams)::text as comment from public.orders o \
     where o.id = any ($1::int[])'''\n";
/// Two orders of one transaction. The values of the second make the items and the details fail.
const GOOD_AND_BAD: &str = "with o as (insert into orders (store, status, grams) values (7, 'new', 10), (7, 'new', 0) returning id, grams) \
     insert into lines (order_id, name, note) \
     select id, 'Bread', case grams when 0 then 'for Anna' else '{\"text\":\"cold\"}' end from o";

async fn bakery() -> App {
    let database = Database::without_shop().await;
    database.client().await.batch_execute(SHOP).await.unwrap();
    let (code, said) = with_mapping(&database, &["attach", "--map"], MAPPING);
    assert_eq!(code, 0, "{said}");
    App::start_on(database, |config| config.shop.schema = ShopSchema::Own).await
}

/// The key, comment, notes and unreadable fields of an order.
fn looked_up(order: &Value) -> Value {
    let fields = order["unreadable"].as_array().into_iter().flatten();
    let fields: Vec<&Value> = fields.map(|it| &it["field"]).collect();
    let items = order["items"].as_array().into_iter().flatten();
    let notes: Vec<&Value> = items.map(|item| &item["note"]).collect();
    json!([order["id"], order["comment"], notes, fields])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_values_cannot_be_looked_up_costs_only_itself() {
    let app = bakery().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write(GOOD_AND_BAD).await;
    for (key, expected) in [
        ("4", json!(["4", "10", ["cold"], []])),
        ("5", json!(["5", null, [], ["items", "details"]])),
    ] {
        let event = panel.event().await;
        assert_eq!(event["data"]["order_ids"][0], key, "{event}");
        let mut order = event["data"].clone();
        order["id"] = key.into();
        assert_eq!(looked_up(&order), expected, "{event}");
    }
    let list = app.get_json("/api/partner/stores/7/orders").await;
    let orders: Vec<Value> = list["orders"].as_array().unwrap().iter().map(looked_up).collect();
    let whole = |key: &str, note: &str| json!([key, "10", [note], []]);
    assert_eq!(
        orders,
        [
            json!(["5", null, [], ["items", "details"]]),
            whole("4", "cold"),
            whole("3", "hot"),
            whole("2", "hot"),
            whole("1", "hot")
        ]
    );
    let (_, said) = with_mapping(&app.database, &["source", "check"], MAPPING);
    assert!(
        said.contains("details.query: division by zero (22012), first for the order with key 5"),
        "{said}"
    );
    assert!(!said.contains("Anna"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_that_got_orders_without_items_reloads_its_list_when_they_can_be_read() {
    let app = bakery().await;
    let mut of_event = app.panel("7", None).await.live().await;
    let mut other = app.panel("8", None).await.live().await;
    app.write("alter table lines rename to order_lines").await;
    app.write("insert into orders (store, status, grams) values (7, 'new', 10)")
        .await;
    let event = of_event.event().await;
    assert_eq!(event["data"]["unreadable"][0]["field"], "items", "{event}");
    app.write("alter table order_lines rename to lines").await;
    until_reload(&mut of_event).await;
    // A list that was incomplete is loaded again, too, although no event came meanwhile.
    app.write("alter table lines rename to order_lines").await;
    let list = app.get_json("/api/partner/stores/8/orders").await;
    assert_eq!(list["orders"], json!([]));
    let list = app.get_json("/api/partner/stores/7/orders").await;
    assert_eq!(list["orders"][0]["unreadable"][0]["field"], "items", "{list}");
    app.write("alter table order_lines rename to lines").await;
    until_reload(&mut of_event).await;
    app.write("insert into orders (store, status, grams) values (8, 'new', 10)")
        .await;
    let first = other.message().await.unwrap();
    assert_eq!(
        first["type"], "new_order",
        "a store without incomplete orders loads nothing again: {first}"
    );
}

async fn until_reload(panel: &mut Panel) {
    while panel.message().await.unwrap()["type"] != "resync_required" {}
}
