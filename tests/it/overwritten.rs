//! The application of a shop loads a row, and then a person answers the order. After that, the application saves the
//! whole row with the old status.

use serde_json::{Value, json};

use crate::derived::answers::{STATUS, TICKET};
use crate::derived::shop::Shop;
use crate::support::app::App;

/// Starts an app with an order of store 7. A person has accepted the order.
async fn accepted() -> (App, crate::support::app::Panel) {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (id, store_id, customer_name) values (1, 7, 'old')")
        .await;
    assert_eq!(panel.event().await["type"], "new_order");
    answer(&app, "preparing").await;
    assert_eq!(panel.event().await["data"]["by"], "Anna");
    (app, panel)
}

async fn answer(app: &App, status: &str) {
    let path = "/api/partner/stores/7/orders/1/status";
    let answer = app.post(path, &json!({"status": status, "by": "Anna"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_whole_row_that_is_saved_over_an_answer_is_said_and_counted() {
    let (app, mut panel) = accepted().await;
    let before = app.metric("vestnik_answers_overwritten_total").await;
    app.write("update orders set status = 'pending', customer_name = 'new' where id = 1")
        .await;
    let event = panel.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["status"]),
        (&json!("order_status_changed"), &json!("pending"))
    );
    assert_eq!(
        event["data"]["overwritten_answer"],
        json!({"status": "preparing", "by": "Anna"})
    );
    app.until_metric("vestnik_answers_overwritten_total", |count| count > before)
        .await;

    // Although a person answers again, the journal keeps the note about the overwritten answer.
    answer(&app, "preparing").await;
    assert_eq!(panel.event().await["data"]["overwritten_answer"], Value::Null);
    let history = app.get_json("/api/partner/stores/7/events?limit=10").await;
    let said: Vec<&Value> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["data"]["overwritten_answer"]["by"])
        .filter(|by| !by.is_null())
        .collect();
    assert_eq!(said, [&json!("Anna")], "{history}");
}

#[tokio::test]
async fn a_rejection_that_is_saved_over_rings_again_and_is_said() {
    let (app, mut panel) = accepted().await;
    answer(&app, "rejected").await;
    panel.event().await;
    app.write("update orders set status = 'preparing' where id = 1").await;
    let event = panel.event().await;
    assert_eq!(
        event["data"]["overwritten_answer"],
        json!({"status": "rejected", "by": "Anna"})
    );
}

#[tokio::test]
async fn a_step_back_that_a_person_makes_and_a_step_that_nobody_answered_are_not_taken_for_it() {
    let (app, mut panel) = accepted().await;
    answer(&app, "pending").await;
    let undone = panel.event().await;
    assert_eq!(
        (&undone["data"]["status"], &undone["data"]["overwritten_answer"]),
        (&json!("pending"), &Value::Null)
    );
    for status in ["preparing", "ready", "preparing", "cancelled"] {
        app.write(&format!("update orders set status = '{status}' where id = 1"))
            .await;
        let event = panel.event().await;
        assert_eq!(event["data"]["status"], status);
        assert_eq!(event["data"]["overwritten_answer"], Value::Null, "{status}");
    }
}

#[tokio::test]
async fn an_order_that_the_shop_opens_again_long_after_the_answer_is_its_own_decision() {
    let (app, mut panel) = accepted().await;
    answer(&app, "rejected").await;
    panel.event().await;
    app.write("update vestnik.vst_status_change set at = at - interval '16 minutes'")
        .await;
    app.write("update orders set status = 'pending' where id = 1").await;
    let event = panel.event().await;
    assert_eq!(
        (&event["data"]["status"], &event["data"]["overwritten_answer"]),
        (&json!("pending"), &Value::Null)
    );
}

#[tokio::test]
async fn an_answer_to_a_derived_source_that_is_saved_over_is_said() {
    let mut shop = Shop::open("pretix", "read committed").await;
    shop.live(TICKET).await;
    let answer = shop
        .app
        .post(STATUS, &json!({"status": "preparing", "by": "Kasse"}))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(shop.event("1").await["data"]["status"], "preparing");
    shop.write("update pretixbase_order set require_approval = true, comment = 'whole'")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["data"]["status"], &event["data"]["overwritten_answer"]["by"]),
        (&json!("pending"), &json!("Kasse"))
    );
}
