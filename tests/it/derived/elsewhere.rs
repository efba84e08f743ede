//! Derived sources in a database with an encoding other than UTF-8, and behind a pooler.

use secrecy::SecretString;
use serde_json::json;

use super::shop::{mapping, parts};
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::pooler::Pooler;

/// SQL that writes an order of Spree with one item. `instruction` is an SQL expression for the special instructions.
fn order(number: &str, instruction: &str) -> String {
    format!(
        "with made as (insert into spree_orders (number, state, status, currency, store_id, completed_at, payment_state, shipment_state, total, \
                 special_instructions, created_at, updated_at) \
             values ('{number}', 'complete', 'placed', 'USD', 1, now(), 'paid', 'ready', 19.00, {instruction}, now(), now()) returning id) \
         insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) \
             select 1, id, 2, 9.50, 'USD', now(), now() from made"
    )
}

#[tokio::test]
async fn a_byte_that_is_no_text_costs_no_other_order_in_any_encoding() {
    for (encoding, byte, shown) in [
        ("LATIN1", "\\xe9", "Café"),
        ("SQL_ASCII", "\\xe9", "Caf?"),
        ("WIN1251", "\\x98", "Caf?"),
    ] {
        let database = Database::encoded(encoding).await;
        let writer = database.session().await;
        writer
            .batch_execute(&format!("set client_encoding = '{encoding}'"))
            .await
            .unwrap();
        let ascii: String = parts("spree").0.chars().filter(char::is_ascii).collect();
        writer.batch_execute(&ascii).await.unwrap();
        let byte = format!("E'Caf{byte}'");
        // The shop writes this order before the table is attached.
        writer.batch_execute(&order("R0", &byte)).await.unwrap();
        database.attach(&mapping("spree")).await;
        let app = App::start_on(database, |_| ()).await;
        let mut panel = app.panel("1", None).await.live().await;
        writer.batch_execute(&order("R1", &byte)).await.unwrap();
        writer.batch_execute(&order("R2", "'plain'")).await.unwrap();
        for (number, comment) in [("R1", shown), ("R2", "plain")] {
            let event = panel.event().await;
            assert_eq!(
                (&event["data"]["number"], &event["data"]["comment"]),
                (&json!(number), &json!(comment)),
                "{encoding}"
            );
        }
        let list = app.get_json("/api/partner/stores/1/orders?status=all").await;
        assert_eq!(list["orders"].as_array().unwrap().len(), 3, "{encoding}: {list}");
        let path = "/api/partner/stores/1/orders/2/status";
        let answer = json!({"status": "rejected", "reason": "Кончилось: sold out", "by": "Кухня A"});
        assert_eq!(app.post(path, &answer).await.status, 200, "{encoding}");
        assert_eq!(panel.event().await["data"]["status"], "rejected", "{encoding}");
        app.engine.shut_down().await;
    }
}

#[tokio::test]
async fn behind_a_transaction_pooler_orders_are_projected_and_answered() {
    let database = Database::fresh().await;
    database.client().await.batch_execute(&parts("spree").0).await.unwrap();
    database.attach(&mapping("spree")).await;
    let pooler = Pooler::before(&database).await;
    let url = pooler.url(&database);
    let through = SecretString::from(url.clone());
    let app = App::start_on(database, |config| {
        config.database.url = Some(through);
        config.database.listen_url = None;
    })
    .await;
    let mut panel = app.panel("1", None).await.live().await;
    for number in 1..=20 {
        app.write(&order(&format!("R{number}"), "null")).await;
        assert_eq!(panel.event().await["type"], "new_order");
    }
    let path = "/api/partner/stores/1/orders/1/status";
    assert_eq!(app.post(path, &json!({"status": "preparing"})).await.status, 200);
    assert_eq!(panel.event().await["data"]["status"], "preparing");
    app.write("update spree_orders set special_instructions = 'Ring' where id = 1")
        .await;
    let event = panel.event().await;
    assert_eq!(
        (&event["data"]["status"], &event["data"]["comment"]),
        (&json!("preparing"), &json!("Ring"))
    );
    assert_eq!(crate::pooler::left_behind(&url).await, [""; 0]);
}
