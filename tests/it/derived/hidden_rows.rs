//! Rows that row level security hides from the role that computes the orders.

use serde_json::json;
use vestnik::sources::health;

use super::answers::STATUS;
use super::failing_sql::RETRY_NOW;
use super::faults::order;
use super::shop::Shop;

const HELD: &str = "update vestnik.vst_projector set holder = 'stranger', until = 'infinity'";
const FREE: &str = "update vestnik.vst_projector set holder = null, until = '-infinity'";

/// A shop with row level security on one of its tables. `condition` is the condition of its policy for the role that
/// reads.
async fn shop_with_policy(table: &str, condition: &str) -> Shop {
    let shop = Shop::open("spree", "read committed").await;
    shop.write(&format!(
        "alter table {table} enable row level security; create policy reads on {table} for select to vestnik_reader using ({condition})"
    ))
    .await;
    shop
}

async fn troubles(shop: &Shop) -> Vec<String> {
    let sources = health::check(&shop.writer).await.unwrap();
    let source = sources.into_iter().find(|source| source.name == shop.system).unwrap();
    source.troubles
}

#[tokio::test]
async fn an_order_that_is_deleted_a_moment_before_its_answer_is_not_taken_for_hidden() {
    let mut shop = shop_with_policy("spree_orders", "number is not null").await;
    shop.write(&order(1)).await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    shop.write(HELD).await;
    shop.write("delete from spree_line_items; delete from spree_orders")
        .await;
    let answer = shop.app.post(STATUS, &json!({"status": "preparing"})).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "unknown_order"),
        "{answer:?}"
    );
    shop.write(FREE).await;
    assert_eq!(shop.event("1").await["type"], "order_removed");
    shop.settle().await;
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn no_order_of_an_emptied_table_is_taken_for_hidden() {
    let shop = shop_with_policy("spree_orders", "number = 'R9'").await;
    shop.write(&order(1)).await;
    shop.settle().await;
    assert_eq!(troubles(&shop).await.len(), 1);
    shop.write(HELD).await;
    shop.write(&order(2)).await;
    shop.write("truncate spree_orders").await;
    shop.write(RETRY_NOW).await;
    shop.write(FREE).await;
    shop.settle().await;
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}
