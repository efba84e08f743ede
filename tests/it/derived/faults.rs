//! Faults of a derived source: expressions of the mapping that fail, tables that the shop alters, and nodes that fail
//! while they compute orders.

use std::time::Duration;

use serde_json::json;
use vestnik::sources::derived::trim;
use vestnik::sources::health;

use super::shop::{ORDER_OF_TWO_STORES, Shop, mapping, parts};
use crate::support::app::App;
use crate::support::breakable::Breakable;
use crate::support::db::Database;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

/// SQL that inserts an order with one item into the tables of Spree, a shop system, in one transaction.
pub fn order(number: usize) -> String {
    format!(
        "begin; with made as (insert into spree_orders (number, state, status, currency, store_id, completed_at, payment_state, shipment_state, total, created_at, updated_at) \
             values ('R{number}', 'complete', 'placed', 'USD', 1, now(), 'paid', 'ready', 19.00, now(), now()) returning id) \
         insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) \
             select 1, id, 2, 9.50, 'USD', now(), now() from made; commit"
    )
}

/// The problems of the source that the health check reports.
async fn troubles(shop: &Shop) -> Vec<String> {
    let sources = health::check(&shop.writer).await.unwrap();
    sources
        .into_iter()
        .find(|source| source.name == shop.system)
        .unwrap()
        .troubles
}

#[tokio::test]
async fn an_expression_that_fails_costs_no_other_value_and_is_reported() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.write("alter table spree_addresses rename column phone to phone_number")
        .await;
    shop.write(&order(1)).await;
    let event = shop.event("1").await;
    assert_eq!(event["type"], "new_order");
    assert_eq!(
        (&event["data"]["number"], &event["data"]["total"]),
        (&json!("R1"), &json!(1900))
    );
    assert_eq!(event["data"]["items"][0]["name"], "Burger");
    assert_eq!(event["data"]["phone"], "?");
    let troubles_now = troubles(&shop).await;
    assert!(
        troubles_now.iter().any(|line| line.contains("a.phone does not exist")),
        "{troubles_now:?}"
    );

    shop.write("alter table spree_addresses rename column phone_number to phone")
        .await;
    shop.write(&order(2)).await;
    assert!(
        shop.event("1").await["data"].get("phone").is_none(),
        "there is no address"
    );
    assert_eq!(
        troubles(&shop).await.len(),
        2,
        "the first order still shows an unreadable value"
    );
    shop.write(RETRY_NOW).await;
    assert_eq!(shop.event("1").await["type"], "order_changed");
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn changes_that_the_shop_makes_while_a_column_has_another_name_are_not_lost() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.write(&order(1)).await;
    shop.event("1").await;
    shop.write("alter table spree_orders rename column shipment_state to shipping")
        .await;
    shop.write("update spree_orders set shipping = 'shipped'").await;
    shop.settle().await;
    assert_eq!(shop.list("1").await[0]["status"], "pending");
    shop.write("alter table spree_orders rename column shipping to shipment_state")
        .await;
    shop.write(RETRY_NOW).await;
    assert_eq!(shop.event("1").await["data"]["status"], "completed");
    shop.settle().await;
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_open_order_without_a_store_is_reported_until_it_has_one() {
    let mut shop = Shop::open("spree", "read committed").await;
    for number in 1..=2 {
        shop.write(&order(number).replace("'USD', 1, now()", "'USD', null, now()"))
            .await;
    }
    shop.settle().await;
    let lines = troubles(&shop).await;
    assert!(
        lines.len() == 1
            && lines[0].starts_with("open orders have no store, so nobody sees them")
            && lines[0].ends_with("; now for 2 orders, the newest with key 2"),
        "{lines:?}"
    );
    shop.write("update spree_orders set store_id = 1").await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    shop.settle().await;
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_join_that_gives_several_rows_for_an_order_is_reported_and_the_order_is_told_once() {
    let mut shop = Shop::open("spree", "read committed").await;
    let joined = mapping("spree").replace(
        "from = \"left join",
        "from = \"cross join (values ('a'), ('b')) twice (word) left join",
    );
    let joined = joined.replace("comment = \"o.special_instructions\"", "comment = \"twice.word\"");
    shop.app.database.attach(&joined).await;
    shop.write(&order(1)).await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    let troubles = troubles(&shop).await;
    assert!(
        troubles
            .iter()
            .any(|line| line.contains("gives several rows for one order of a store")
                && line.contains("the order with key 1")),
        "{troubles:?}"
    );
    assert_eq!(shop.list("1").await.len(), 1);
}

#[tokio::test]
async fn a_source_is_unhealthy_while_one_order_fails_and_names_each_distinct_failure() {
    let mut shop = Shop::open("spree", "read committed").await;
    let fails = mapping("spree")
        .replace(
            "number = \"o.number\"",
            "number = \"o.number\"\npersons = \"case when o.number in ('R1', 'R3') then 1 / (o.id - o.id) end\"",
        )
        .replace(
            "store = \"o.store_id\"",
            "store = \"case when o.number = 'R2' then o.currency::int else o.store_id end\"",
        );
    shop.app.database.attach(&fails).await;
    for number in 1..=4 {
        shop.write(&order(number)).await;
        if number != 2 {
            assert_eq!(shop.event("1").await["type"], "new_order");
        }
    }
    shop.app
        .database
        .until("select not exists (select from vestnik.vst_change)")
        .await;
    assert_eq!(
        troubles(&shop).await,
        [
            "its expressions fail, correct them with `vestnik source edit spree`; now for 1 order that nobody sees, because its \
             store cannot be read, and 2 orders that are shown as far as possible",
            "derived.persons: division by zero (22012); now for 2 orders, the newest with key 3",
            "derived.store: invalid input syntax for type integer: \"...\" (22P02); now for the order with key 2",
        ]
    );
    // The shop corrects one of the two failing orders. The other order still fails.
    shop.write("update spree_orders set number = 'R5' where number = 'R1'")
        .await;
    assert_eq!(shop.event("1").await["data"]["number"], "R5");
    let now = troubles(&shop).await;
    assert!(now[1].ends_with("; now for the order with key 3"), "{now:?}");
    shop.app.database.attach(&mapping("spree")).await;
    shop.settle().await;
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
    assert_eq!(shop.list("1").await.len(), 4);
}

#[tokio::test]
async fn at_most_five_distinct_failures_are_named() {
    let shop = Shop::open("spree", "read committed").await;
    shop.write(
        "insert into vestnik.vst_projection_failure (source, key, place, reason, is_unseen) \
         select 3, n::text, 'derived.p' || n, 'division by zero', false from generate_series(1, 7) n",
    )
    .await;
    let lines = troubles(&shop).await;
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert!(lines[6].contains("2 more reasons"), "{lines:?}");
}

/// SQL that makes the engine compute the failed orders again at once. It moves the time of their last attempt an hour
/// into the past.
pub const RETRY_NOW: &str = "update vestnik.vst_projection_failure set tried_at = tried_at - interval '1 hour'";

#[tokio::test]
async fn a_right_that_is_granted_again_mends_the_orders_that_were_partly_unreadable() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.write("revoke select on spree_addresses, spree_products from vestnik_reader")
        .await;
    for number in 1..=25 {
        shop.write(&order(number)).await;
        let event = shop.event("1").await;
        assert_eq!(
            (&event["data"]["phone"], &event["data"]["items"][0]["name"]),
            (&json!("?"), &json!("?"))
        );
    }
    let lines = troubles(&shop).await;
    assert!(lines[1].contains("permission denied"), "{lines:?}");
    shop.write("grant select on spree_addresses, spree_products to vestnik_reader")
        .await;
    shop.write(RETRY_NOW).await;
    for _ in 1..=25 {
        let event = shop.event("1").await;
        assert_eq!(
            (&event["type"], event["data"].get("phone")),
            (&json!("order_changed"), None)
        );
        assert_eq!(event["data"]["items"][0]["name"], "Burger");
    }
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_query_for_keys_that_fails_is_reported_and_loses_no_change_of_its_table() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.write("insert into spree_addresses (firstname, created_at, updated_at) values ('Ann', now(), now())")
        .await;
    shop.write(&order(1)).await;
    shop.event("1").await;
    shop.write("update spree_orders set ship_address_id = 1").await;
    assert_eq!(shop.event("1").await["data"]["customer_name"], "Ann");
    shop.write("create table rest (id int); create or replace function missing(text) returns bool language sql as 'select true'")
        .await;
    let keys = "keys = \"select id from spree_orders where ship_address_id = any ($1::bigint[])";
    let fails = mapping("spree").replace(keys, &format!("{keys} and missing('x')"));
    shop.app.database.attach(&fails).await;
    shop.settle().await;
    shop.write("alter function missing(text) rename to gone").await;
    shop.write("update spree_addresses set firstname = 'Bob'").await;
    shop.app
        .database
        .until("select exists (select from vestnik.vst_projection_failure where key = '')")
        .await;
    let lines = troubles(&shop).await;
    assert!(
        lines[1].starts_with("derived.watch of spree_addresses: keys: function missing(unknown) does not exist"),
        "{lines:?}"
    );
    shop.write("alter function gone(text) rename to missing").await;
    shop.write(RETRY_NOW).await;
    assert_eq!(shop.event("1").await["data"]["customer_name"], "Bob");
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_value_for_which_keys_fails_delays_no_other_order() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.write("insert into spree_addresses (firstname, created_at, updated_at) select 'Ann', now(), now() from generate_series(1, 200)")
        .await;
    shop.write(&order(1)).await;
    shop.event("1").await;
    shop.write("update spree_orders set ship_address_id = 17").await;
    assert_eq!(shop.event("1").await["data"]["customer_name"], "Ann");
    let keys = "keys = \"select id from spree_orders where ship_address_id = any ($1::bigint[])";
    let fails = mapping("spree").replace(
        keys,
        &format!("{keys} and (select count(1 / (v - 3) / (v % 11 - 1)) from unnest($1::bigint[]) v) > 0"),
    );
    assert_ne!(fails, mapping("spree"));
    shop.app.database.attach(&fails).await;
    shop.settle().await;
    shop.write("update spree_addresses set firstname = 'Bob'").await;
    assert_eq!(shop.event("1").await["data"]["customer_name"], "Bob");
    let lines = troubles(&shop).await;
    assert!(
        lines.iter().any(|line| line.contains("keys: division by zero")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_expression_that_fails_mixes_no_values_of_two_stores() {
    let mut shop = Shop::open("coopcycle", "read committed").await;
    let fails = mapping("coopcycle").replace("[derived]\n", "[derived]\npersons = \"1 / (o.id - o.id)\"\n");
    shop.app.database.attach(&fails).await;
    shop.write(ORDER_OF_TWO_STORES).await;
    assert_eq!(shop.event("restaurant:1").await["data"]["total"], 1800);
    assert_eq!(shop.event("restaurant:2").await["data"]["total"], 450);
}

#[tokio::test]
async fn a_join_that_fails_hides_no_order_whose_store_comes_from_another_join() {
    let mut shop = Shop::open("coopcycle", "read committed").await;
    shop.write("alter table address rename column id to address_id").await;
    shop.write(ORDER_OF_TWO_STORES).await;
    for (store, total) in [("restaurant:1", 1800), ("restaurant:2", 450)] {
        let event = shop.event(store).await;
        assert_eq!(event["type"], "new_order");
        assert_eq!(
            (
                &event["data"]["total"],
                &event["data"]["status"],
                &event["data"]["address"]
            ),
            (&json!(total), &json!("pending"), &json!("?"))
        );
    }
    let lines = troubles(&shop).await;
    let names = |words: &str| lines.iter().any(|line| line.contains(words));
    assert!(names("derived.from: column a.id does not exist"), "{lines:?}");
    assert!(names("shown as far as possible") && !names("nobody sees"), "{lines:?}");

    shop.write("alter table address rename column address_id to id").await;
    shop.write(RETRY_NOW).await;
    let event = shop.event("restaurant:1").await;
    assert_eq!(event["type"], "order_changed");
    assert_ne!(event["data"]["address"], "?");
    assert_eq!(troubles(&shop).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_cannot_be_read_any_more_gets_no_values_of_another_store() {
    let mut shop = Shop::open("coopcycle", "read committed").await;
    shop.write(ORDER_OF_TWO_STORES).await;
    assert_eq!(shop.event("restaurant:1").await["data"]["total"], 1800);
    assert_eq!(shop.event("restaurant:2").await["data"]["total"], 450);
    // The expression of the store reads this table, too.
    shop.write(
        "alter table delivery rename column store_id to the_store_id; update sylius_order set notes = 'no onions'",
    )
    .await;
    for store in ["restaurant:1", "restaurant:2"] {
        let data = &shop.event(store).await["data"];
        assert_eq!(
            (&data["total"], &data["comment"], &data["status"]),
            (&json!(null), &json!("no onions"), &json!("pending")),
            "{store}: {data}"
        );
    }
    shop.write("alter table delivery rename column the_store_id to store_id")
        .await;
    shop.write(RETRY_NOW).await;
    assert_eq!(shop.event("restaurant:1").await["data"]["total"], 1800);
    assert_eq!(shop.event("restaurant:2").await["data"]["total"], 450);
}

#[tokio::test]
async fn an_order_is_shown_without_a_join_that_fails_for_this_order_only() {
    let mut shop = Shop::open("coopcycle", "read committed").await;
    let joins = "left join sylius_order_timeline t on t.order_id = o.id";
    let fails = "left join lateral (select 1 / (o.id % 2) as odd) one on true";
    let fails = mapping("coopcycle")
        .replace(joins, &format!("{fails} {joins}"))
        .replace("[derived]\n", "[derived]\npersons = \"one.odd\"\n");
    shop.app.database.attach(&fails).await;
    shop.write(ORDER_OF_TWO_STORES).await;
    let second = ORDER_OF_TWO_STORES
        .replace("'2'", "'3'")
        .replace("(1, 1, ", "(2, 1, ")
        .replace("(1, 2, ", "(2, 2, ");
    shop.write(&second).await;
    let events = [shop.event("restaurant:1").await, shop.event("restaurant:1").await];
    let persons = |event: &serde_json::Value| event["data"]["persons"].clone();
    assert_eq!((persons(&events[0]), persons(&events[1])), (json!(1), json!("?")));
}

#[tokio::test]
async fn a_watched_table_that_is_altered_or_dropped_makes_no_write_fail() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.write("alter table spree_line_items rename column order_id to the_order_id")
        .await;
    shop.write("insert into spree_line_items (variant_id, quantity, price, created_at, updated_at) values (1, 1, 1, now(), now())").await;
    shop.write("drop table spree_option_value_variants").await;
    shop.write(
        "insert into spree_orders (number, state, status, currency, store_id, completed_at, total, created_at, updated_at) \
         values ('R1', 'complete', 'placed', 'USD', 1, now(), 19.00, now(), now())",
    )
    .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["items"][0]["name"]),
        (&json!("new_order"), &json!("?"))
    );
}

#[tokio::test]
async fn an_order_that_cannot_be_read_costs_no_other_order() {
    let mut shop = Shop::open("vendure", "read committed").await;
    shop.write(
        "begin; insert into \"order\" (code, state, active, \"orderPlacedAt\", \"couponCodes\", \"shippingAddress\", \"billingAddress\", \"currencyCode\", \"subTotal\", \"subTotalWithTax\") \
             values ('A', 'PaymentSettled', false, now(), '', 'no JSON', '{}', 'EUR', 100, 110), ('B', 'PaymentSettled', false, now(), '', '{\"fullName\": \"Gianni\"}', '{}', 'EUR', 100, 110); \
         insert into order_channels_channel values (1, 1), (1, 2), (2, 1), (2, 2); \
         insert into order_line (quantity, \"listPriceIncludesTax\", adjustments, \"taxLines\", \"productVariantId\", \"listPrice\", \"orderId\") \
             values (1, true, '', '', 1, 110, 1), (1, true, '', '', 1, 110, 2); commit",
    )
    .await;
    let events = [shop.event("2").await, shop.event("2").await];
    let of = |number: &str| &events.iter().find(|event| event["data"]["number"] == number).unwrap()["data"];
    assert_eq!(
        (&of("A")["customer_name"], &of("A")["total"]),
        (&json!("?"), &json!(110))
    );
    assert_eq!(
        (&of("B")["customer_name"], &of("B")["total"]),
        (&json!("Gianni"), &json!(110))
    );
}

#[tokio::test]
async fn an_order_is_sent_with_the_items_that_are_written_after_it() {
    let mut shop = Shop::open("spree", "read committed").await;
    let patient = mapping("spree").replace("wait_for_items_ms = 100", "wait_for_items_ms = 60000");
    shop.app.database.attach(&patient).await;
    shop.write(
        "insert into spree_orders (number, state, status, currency, store_id, completed_at, total, created_at, updated_at) \
         values ('R1', 'complete', 'placed', 'USD', 1, now(), 19.00, now(), now())",
    )
    .await;
    shop.app
        .database
        .until("select exists (select from vestnik.vst_wait) and not exists (select from vestnik.vst_change)")
        .await;
    assert_eq!(shop.list("1").await.len(), 0);
    let client = shop.app.database.client().await;
    let since: time::OffsetDateTime = client
        .query_one("select since from vestnik.vst_wait", &[])
        .await
        .unwrap()
        .get(0);
    shop.write("insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) values (1, 1, 2, 9.50, 'USD', now(), now())")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["items"][0]["quantity"]),
        (&json!("new_order"), &json!(2))
    );
    // The event has the time at which the shop wrote the order, not the time at which the shop wrote the item.
    let newest = "select at from vestnik.vst_event order by id desc limit 1";
    let at: time::OffsetDateTime = client.query_one(newest, &[]).await.unwrap().get(0);
    assert_eq!(at, since);
    shop.settle().await;
}

#[tokio::test]
async fn a_row_that_is_deleted_is_gone_for_its_panel_and_so_are_all_of_an_emptied_table() {
    let mut shop = Shop::open("spree", "read committed").await;
    for number in 1..=3 {
        shop.write(&order(number)).await;
        assert_eq!(shop.event("1").await["type"], "new_order");
    }
    shop.write("delete from spree_orders where id = 1").await;
    assert_eq!(shop.event("1").await["type"], "order_removed");
    assert_eq!(shop.list("1").await.len(), 2);
    shop.write("truncate spree_orders").await;
    shop.settle().await;
    assert_eq!(shop.list("1").await.len(), 0);
}

#[tokio::test]
async fn what_was_said_of_orders_that_are_over_is_trimmed_and_no_open_order_is_lost() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const STATUS: &str = "/api/partner/stores/1/orders/4/status";
    let mut shop = Shop::open("spree", "read committed").await;
    for number in 1..=4 {
        shop.write(&order(number)).await;
        assert_eq!(shop.event("1").await["type"], "new_order");
    }
    // Order 1 is completed and old. Order 2 is completed and new. Order 3 is open and old. Order 4 is old, and a
    // person has rejected it, but it is open in the shop's tables.
    shop.write("update spree_orders set shipment_state = 'shipped' where id in (1, 2)")
        .await;
    shop.event("1").await;
    shop.event("1").await;
    assert_eq!(shop.app.post(STATUS, &json!({"status": "rejected"})).await.status, 200);
    shop.event("1").await;
    shop.write("update vestnik.vst_projection_3 set told_at = now() - interval '31 day' where key <> '2'")
        .await;
    let pool = vestnik::infra::db::pool(&shop.app.database.config().database).unwrap();
    assert_eq!(trim::trim(&pool, 30 * DAY).await.unwrap(), 1);
    assert_eq!(trim::trim(&pool, 30 * DAY).await.unwrap(), 0);
    let list = shop.list("1").await;
    let mut kept: Vec<&str> = list.iter().map(|row| row["id"].as_str().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["2", "3", "4"]);

    // The shop writes all four orders again. Order 1 was trimmed, so it creates no event. Order 4 stays rejected.
    shop.write("update spree_orders set total = 20").await;
    for _ in 2..=4 {
        let event = shop.event("1").await;
        assert_eq!(event["type"], "order_changed", "{event}");
    }
    shop.write("update spree_orders set shipment_state = 'ready' where id = 1")
        .await;
    let again = shop.event("1").await;
    assert_eq!(
        (&again["data"]["order_id"], &again["data"]["status"]),
        (&json!("1"), &json!("pending"))
    );
}

#[tokio::test]
async fn orders_that_are_over_are_trimmed_in_batches() {
    let shop = Shop::open("spree", "read committed").await;
    let many = trim::BATCH_ORDERS + 1;
    shop.write(&format!(
        "insert into vestnik.vst_projection_3 (key, store_id, status, created_at, data, shop_status, told_at) \
             select 'x' || n, '1', 'completed', now(), '{{}}', 'completed', now() - interval '2 day' from generate_series(1, {many}) n"
    ))
    .await;
    let pool = vestnik::infra::db::pool(&shop.app.database.config().database).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(trim::trim(&pool, day).await.unwrap(), trim::BATCH_ORDERS.unsigned_abs());
    assert_eq!(trim::trim(&pool, day).await.unwrap(), 1);
}

#[tokio::test]
async fn nodes_that_are_killed_while_they_project_lose_nothing_and_publish_nothing_twice() {
    let (telegram, database) = Telegram::with_chat(701).await;
    let writer = database.client().await;
    writer.batch_execute(&parts("spree").0).await.unwrap();
    database.attach(&mapping("spree")).await;
    let mut written = 0;
    // No node runs yet, so these orders are not computed yet.
    for _ in 0..30 {
        written += 1;
        writer.batch_execute(&order(written)).await.unwrap();
    }
    let mut nodes = vec![Node::serving(&database, &telegram.url(), &[]).await];
    for _ in 0..3 {
        nodes.push(Node::serving(&database, &telegram.url(), &[]).await);
        for _ in 0..30 {
            written += 1;
            writer.batch_execute(&order(written)).await.unwrap();
        }
        nodes.remove(0).kill();
        for _ in 0..10 {
            written += 1;
            writer.batch_execute(&order(written)).await.unwrap();
        }
    }
    database
        .until("select not exists (select from vestnik.vst_change) and not exists (select from vestnik.vst_wait)")
        .await;
    const TOLD: &str =
        "select count(*), count(distinct key), count(*) filter (where type = 'insert') from vestnik.vst_event";
    let row = writer.query_one(TOLD, &[]).await.unwrap();
    let written = i64::try_from(written).unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)),
        (written, written, written)
    );
}

#[tokio::test]
async fn after_an_hour_without_a_node_each_order_is_told_once_as_it_is_by_then() {
    let database = Database::fresh().await;
    let writer = database.client().await;
    writer.batch_execute(&parts("spree").0).await.unwrap();
    database.attach(&mapping("spree")).await;
    for number in 1..=20 {
        writer.batch_execute(&order(number)).await.unwrap();
    }
    let meanwhile = "update spree_orders set state = 'canceled', status = 'canceled' where number = 'R5'; \
         delete from spree_line_items where order_id = (select id from spree_orders where number = 'R6'); \
         delete from spree_orders where number = 'R6'; \
         update spree_orders set total = 20.00 where number = 'R7'; \
         update vestnik.vst_change set at = at - interval '1 hour'";
    writer.batch_execute(meanwhile).await.unwrap();
    let app = App::start_on(database, |_| ()).await;
    app.database
        .until("select not exists (select from vestnik.vst_change) and not exists (select from vestnik.vst_wait)")
        .await;
    let open = app.get_json("/api/partner/stores/1/orders").await;
    let numbers: Vec<String> = (1..=20)
        .filter(|number| ![5, 6].contains(number))
        .map(|number| format!("R{number}"))
        .collect();
    let mut listed: Vec<&str> = open["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| order["number"].as_str().unwrap())
        .collect();
    listed.sort_by_key(|number| number[1..].parse::<u32>().unwrap());
    assert_eq!(listed, numbers);
    // Before the node started, the shop cancelled order R5 and removed order R6. Clients never saw order R6, so it must
    // have no event. The comparison below leaves out order R5.
    let history = app.get_json("/api/partner/stores/1/events?limit=100").await;
    let mut told: Vec<(&str, &str, i64)> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let data = &event["data"];
            let number = data["number"].as_str().unwrap();
            (
                event["type"].as_str().unwrap(),
                number,
                data["total"].as_i64().unwrap_or_default(),
            )
        })
        .filter(|(_, number, _)| *number != "R5")
        .collect();
    told.sort_by_key(|(_, number, _)| number[1..].parse::<u32>().unwrap());
    let wanted: Vec<(&str, &str, i64)> = numbers
        .iter()
        .map(|number| ("new_order", number.as_str(), if number == "R7" { 2000 } else { 1900 }))
        .collect();
    assert_eq!(told, wanted, "{history}");
    let times = "select bool_and(at < now() - interval '59 minutes') from vestnik.vst_event where type = 'insert' and source <> 0";
    let are_the_shops: bool = app.database.client().await.query_one(times, &[]).await.unwrap().get(0);
    assert!(are_the_shops, "the events have the times of the shop's writes");
}

#[tokio::test]
async fn a_restart_of_postgres_while_orders_are_projected_loses_nothing_and_publishes_nothing_twice() {
    let (mut postgres, database) = Breakable::start().await;
    database.client().await.batch_execute(&parts("spree").0).await.unwrap();
    database.attach(&mapping("spree")).await;
    let app = App::start_on(database, |_| ()).await;
    let mut written = 0;
    for restart in 0..2 {
        let writer = app.database.client().await;
        for _ in 0..20 {
            written += 1;
            writer.batch_execute(&order(written)).await.unwrap();
        }
        match restart {
            0 => postgres.restart_immediate().await,
            _ => postgres.restart_fast().await,
        }
    }
    app.database
        .until("select not exists (select from vestnik.vst_change) and not exists (select from vestnik.vst_wait)")
        .await;
    let writer = app.database.client().await;
    let row = writer
        .query_one("select count(*), count(distinct key) from vestnik.vst_event", &[])
        .await
        .unwrap();
    let written = i64::try_from(written).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (written, written));
    drop(writer);
    app.engine.shut_down().await;
    postgres.stop().await;
}
