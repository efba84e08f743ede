//! The reason and the promised minutes of an answer that the engine keeps. They stay with the order, as in a shop whose
//! table has columns for them.

use serde_json::{Value, json};

use super::answers::{ORDER, STATUS, shown};
use super::shop::{Shop, mapping};

const NOTE: &str =
    "update spree_orders set special_instructions = coalesce(special_instructions, '') || '!' where id = 1";

async fn spree() -> Shop {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.live(ORDER).await;
    shop
}

async fn press(shop: &mut Shop, wish: &Value) -> Value {
    let answer = shop.app.post(STATUS, wish).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    shop.event("1").await
}

/// Lets the shop change the order's comment, and returns the event.
async fn change(shop: &mut Shop) -> Value {
    shop.write(NOTE).await;
    let event = shop.event("1").await;
    assert_eq!(event["type"], "order_changed", "{event}");
    event["data"].clone()
}

#[tokio::test]
async fn the_reason_of_a_kept_rejection_stays_with_the_order() {
    let mut shop = spree().await;
    let event = press(&mut shop, &json!({"status": "rejected", "reason": "oven broken"})).await;
    assert_eq!(event["data"]["reason"], "oven broken");
    assert_eq!(shown(&shop).await["reason"], "oven broken");
    let changed = change(&mut shop).await;
    assert_eq!(
        (&changed["reason"], &changed["changed"]),
        (&json!("oven broken"), &json!(["comment"]))
    );
    assert_eq!(shown(&shop).await["reason"], "oven broken");

    // The reason belongs to the rejection, so it ends with the rejection.
    let event = press(&mut shop, &json!({"status": "pending"})).await;
    assert_eq!(
        (&event["type"], &event["data"]["reason"]),
        (&json!("new_order"), &Value::Null)
    );
    press(&mut shop, &json!({"status": "preparing"})).await;
    assert_eq!(shown(&shop).await["reason"], Value::Null);
}

#[tokio::test]
async fn a_kept_answer_is_refused_if_the_shop_has_cancelled_the_order_before() {
    let mut shop = spree().await;
    // Without the triggers, the projector does not know of the cancellation when the person presses.
    shop.write("set session_replication_role = replica; update spree_orders set status = 'canceled'; reset session_replication_role")
        .await;
    let refused = shop.app.post(STATUS, &json!({"status": "preparing"})).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["status"]),
        (409, &json!("cancelled")),
        "{refused:?}"
    );
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["status"]),
        (&json!("order_cancelled"), &json!("cancelled"))
    );
    assert_eq!(shown(&shop).await["status"], "cancelled");
}

#[tokio::test]
async fn the_promise_of_a_kept_answer_stays_with_the_order() {
    let mut shop = spree().await;
    let event = press(&mut shop, &json!({"status": "preparing", "minutes": 25})).await;
    assert_eq!(event["data"]["promised_minutes"], 25);
    let changed = change(&mut shop).await;
    assert_eq!(
        (&changed["promised_minutes"], &changed["changed"]),
        (&json!(25), &json!(["comment"]))
    );
    let wish = json!({"status": "preparing", "from": "preparing", "minutes": 40});
    let event = press(&mut shop, &wish).await;
    assert_eq!(
        (
            &event["type"],
            &event["data"]["promised_minutes"],
            &event["data"]["changed"]
        ),
        (&json!("order_changed"), &json!(40), &json!(["promised_minutes"]))
    );
    assert_eq!(
        press(&mut shop, &wish).await["data"]["promised_minutes"],
        40,
        "the same promise again"
    );
    assert_eq!(change(&mut shop).await["promised_minutes"], 40);
    let event = press(&mut shop, &json!({"status": "ready"})).await;
    assert_eq!(event["data"]["promised_minutes"], 40);
    assert_eq!(change(&mut shop).await["promised_minutes"], 40);
    assert_eq!(shown(&shop).await["promised_minutes"], 40);

    // The shop's own status replaces the kept one. The promise is still that of the store.
    shop.write("update spree_orders set shipment_state = 'shipped' where id = 1")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["data"]["status"], &event["data"]["promised_minutes"]),
        (&json!("completed"), &json!(40))
    );
}

#[tokio::test]
async fn a_promise_that_the_shop_itself_has_counts_before_the_kept_one() {
    let with = mapping("spree").replace(
        "number = \"o.number\"",
        "number = \"o.number\"\nminutes = \"(select 15 where o.special_instructions is not null)\"",
    );
    let mut shop = Shop::open_as("spree", "read committed", &with, |_| ()).await;
    shop.live(ORDER).await;
    press(&mut shop, &json!({"status": "preparing", "minutes": 25})).await;
    assert_eq!(shown(&shop).await["promised_minutes"], 25);
    assert_eq!(change(&mut shop).await["promised_minutes"], 15);
    shop.write("update spree_orders set special_instructions = null where id = 1")
        .await;
    assert_eq!(shop.event("1").await["data"]["promised_minutes"], 25);
}

#[tokio::test]
async fn the_reason_of_a_kept_answer_is_erased_with_the_customers_data() {
    let mut shop = spree().await;
    press(&mut shop, &json!({"status": "rejected", "reason": "Ann is ill"})).await;
    let whom = vestnik::erasure::Whom::Order {
        store: vestnik::domain::event::StoreId::new("1"),
        order: "1".into(),
    };
    let mut client = shop.app.database.client().await;
    vestnik::erasure::erase(&mut client, &whom, false).await.unwrap();
    let row = shop
        .writer
        .query_one("select string_agg(data::text, '') from vestnik.vst_projection_3", &[])
        .await
        .unwrap();
    let data: String = row.get(0);
    assert!(!data.contains("Ann is ill"), "{data}");
    assert_eq!(shown(&shop).await["reason"], Value::Null);
}
