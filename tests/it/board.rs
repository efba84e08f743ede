//! The lists of orders and bookings: what they show, and that they meet the stream exactly.

use serde_json::{Value, json};

use crate::support::app::App;

const ORDERS: &str = "/api/partner/stores/7/orders";

fn ids(list: &Value) -> Vec<&str> {
    let rows = list["orders"]
        .as_array()
        .or(list["bookings"].as_array())
        .expect("a list");
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_shows_what_events_show_and_how_each_order_stands() {
    let app = App::start().await;
    app.write(
        "insert into orders (store_id, customer_name, total, order_type, items, created_at) values \
         (7, 'Иван', 50000, 'delivery', '[{\"name\": \"Борщ\", \"note\": null}]', '2026-11-23 20:00:00.123+00'), \
         (8, 'Other', 1, null, null, now()); \
         insert into orders (store_id, status) values (7, 'completed'), (7, 'rejected')",
    )
    .await;
    let list = app.get_json(ORDERS).await;
    assert_eq!(ids(&list), ["1"]);
    assert_eq!(list["more"], false);
    let order = &list["orders"][0];
    let event = &app.get_json("/api/partner/stores/7/events").await["events"][0];
    for member in ["customer_name", "total", "order_type", "items", "status"] {
        assert_eq!(order[member], event["data"][member], "{member}");
    }
    assert_eq!(order["event_id"], event["id"]);
    assert_eq!(order["created_at"], "2026-11-23T20:00:00.123Z");
    assert_eq!(order["acknowledged"], false);
    assert_eq!(order["next"], json!(["preparing", "rejected"]));
    for member in ["answer", "reason", "order_ids", "order_id", "customer_phone"] {
        assert!(order.get(member).is_none(), "{member}");
    }

    let all = app.get_json(&format!("{ORDERS}?status=all")).await;
    assert_eq!(ids(&all), ["4", "3", "1"], "the newest first");
    assert_eq!(all["orders"][0]["next"], json!([]));
    let some = app.get_json(&format!("{ORDERS}?status=pending,rejected")).await;
    assert_eq!(ids(&some), ["4", "1"]);
}
