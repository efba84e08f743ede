//! One live client: what it missed, then what happens.

use serde_json::json;

use crate::support::app::App;

#[tokio::test]
async fn an_order_written_to_postgres_is_on_its_partners_screen() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let shop = app.database.client().await;
    shop.batch_execute(
        "insert into orders (store_id, customer_name, total, order_type, items) \
         values (8, 'Пётр', 1, 'pickup', '[]'), (7, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\"}]')",
    )
    .await
    .unwrap();
    let event = panel.event().await;
    assert_eq!(event["type"], "new_order");
    assert_eq!(event["store_id"], "7");
    let data = json!({"order_ids": ["2"], "order_id": "2", "status": "pending", "customer_name": "Иван", "total": 50000,
        "order_type": "delivery", "items": [{"name": "Пицца"}]});
    assert_eq!(event["data"], data);

    shop.batch_execute("update orders set status = 'preparing' where id = 2")
        .await
        .unwrap();
    let event = panel.event().await;
    assert_eq!(event["type"], "order_status_changed");
    assert_eq!(
        event["data"],
        json!({"order_id": "2", "status": "preparing", "previous_status": "pending"})
    );
}
