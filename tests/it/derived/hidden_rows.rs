//! Rows that row level security hides from the role that computes the orders: rows of orders, and rows of their items.

use serde_json::json;
use vestnik::sources::health;

use super::answers::STATUS;
use super::failing_sql::RETRY_NOW;
use super::faults::order;
use super::shop::Shop;

const TOUCH: &str = "update spree_orders set special_instructions = 'Ring twice'";
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

/// Hides all rows of the table from the role that reads.
async fn hide(shop: &Shop, table: &str) {
    shop.write(&format!(
        "create policy hides on {table} as restrictive for select to vestnik_reader using (current_user <> 'vestnik_reader')"
    ))
    .await;
}

async fn troubles(shop: &Shop) -> Vec<String> {
    let sources = health::check(&shop.writer).await.unwrap();
    let source = sources.into_iter().find(|source| source.name == shop.system).unwrap();
    source.troubles
}

/// Executes the statement that the health check prints, so that the role can read the rows again.
async fn mend(shop: &Shop, table: &str) {
    let troubles = troubles(shop).await;
    let begin = format!("alter policy hides on public.{table} using (current_user = 'vestnik_reader' or ");
    let at = troubles[0].find(&begin).unwrap_or_else(|| panic!("{troubles:#?}"));
    let statement = troubles[0][at..].split(';').next().unwrap();
    shop.write(statement).await;
    shop.write(RETRY_NOW).await;
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

#[tokio::test]
async fn an_order_that_a_policy_shows_rings_although_hundreds_of_carts_stay_hidden() {
    let mut shop = shop_with_policy("spree_orders", "number = 'R0'").await;
    shop.write(&order(1)).await;
    shop.write(
        "insert into spree_orders (number, state, status, currency, store_id, completed_at, total, created_at, updated_at) \
         select 'C' || n, 'complete', 'placed', 'USD', 1, now(), 19.00, now(), now() from generate_series(1, 400) n",
    )
    .await;
    shop.settle().await;
    shop.write(RETRY_NOW).await;
    shop.write("update vestnik.vst_projection_failure set tried_at = tried_at + interval '1 minute' where key = '1'")
        .await;
    shop.write("alter policy reads on spree_orders using (number like 'R%')")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["number"]),
        (&json!("new_order"), &json!("R1"))
    );
}

#[tokio::test]
async fn an_order_that_people_see_keeps_its_values_and_its_answer_while_a_policy_hides_its_row() {
    let mut shop = shop_with_policy("spree_orders", "true").await;
    for number in [1, 2] {
        shop.write(&order(number)).await;
        assert_eq!(shop.event("1").await["type"], "new_order");
    }
    let answer = json!({"status": "preparing", "minutes": 25});
    assert_eq!(shop.app.post(STATUS, &answer).await.status, 200);
    assert_eq!(shop.event("1").await["data"]["status"], "preparing");
    hide(&shop, "spree_orders").await;
    shop.write(TOUCH).await;
    shop.settle().await;
    let found = troubles(&shop).await;
    let kept = "row level security of public.spree_orders hides orders that people see from role vestnik_reader";
    assert!(
        found.len() == 1 && found[0].starts_with(kept) && found[0].contains("; now for 2 orders"),
        "{found:#?}"
    );

    // The row is still hidden, but its delete is recorded.
    shop.write("delete from spree_line_items where order_id = 2; delete from spree_orders where id = 2")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["number"]),
        (&json!("order_removed"), &json!("R2"))
    );
    let answer = json!({"status": "ready"});
    assert_eq!(shop.app.post(STATUS, &answer).await.status, 200);
    let event = shop.event("1").await;
    assert_eq!(
        (
            &event["type"],
            &event["data"]["status"],
            &event["data"]["promised_minutes"]
        ),
        (&json!("order_status_changed"), &json!("ready"), &json!(25))
    );
    assert_eq!(troubles(&shop).await.len(), 1);

    mend(&shop, "spree_orders").await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["status"], &event["data"]["comment"]),
        (&json!("order_changed"), &json!("ready"), &json!("Ring twice"))
    );
    assert_eq!(event["data"]["promised_minutes"], 25);
    shop.settle().await;
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn items_that_a_policy_hides_are_reported_and_come_when_it_shows_them() {
    let mut shop = shop_with_policy("spree_line_items", "true").await;
    shop.write(&order(1)).await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    hide(&shop, "spree_line_items").await;
    shop.write(TOUCH).await;
    assert_eq!(shop.event("1").await["type"], "order_changed");
    shop.write(&order(2)).await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    shop.settle().await;
    let found = troubles(&shop).await;
    let hides = "row level security of public.spree_line_items holds for role vestnik_reader, which reads the expressions, and open orders have no items";
    assert!(
        found.len() == 1 && found[0].starts_with(hides) && found[0].contains("; now for 2 orders"),
        "{found:#?}"
    );

    mend(&shop, "spree_line_items").await;
    for _ in 0..2 {
        let event = shop.event("1").await;
        assert_eq!(
            (&event["type"], &event["data"]["items"][0]["name"]),
            (&json!("order_changed"), &json!("Burger"))
        );
    }
    shop.settle().await;
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}
