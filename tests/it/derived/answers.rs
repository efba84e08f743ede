//! Answers to orders of a derived source. The engine writes an answer to the shop's own tables, or keeps the answer
//! itself.

use serde_json::{Value, json};

use super::shop::{ORDER_OF_TWO_STORES, Shop, mapping};
use crate::support::app::App;
use crate::support::db::Database;

pub const ORDER: &str = "begin; \
    insert into spree_orders (number, state, status, currency, store_id, completed_at, payment_state, shipment_state, total, created_at, updated_at) \
        values ('R1', 'complete', 'placed', 'USD', 1, now(), 'paid', 'ready', 19.00, now(), now()); \
    insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) values (1, 1, 2, 9.50, 'USD', now(), now()); \
    commit";
pub const STATUS: &str = "/api/partner/stores/1/orders/1/status";

/// Starts the shop system Spree with one new order.
async fn spree() -> Shop {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.live(ORDER).await;
    shop
}

pub async fn shown(shop: &Shop) -> Value {
    shop.list("1").await.remove(0)
}

#[tokio::test]
async fn an_answer_without_a_place_in_the_shop_lies_over_its_status_until_that_moves_on() {
    let mut shop = spree().await;
    let answer = shop
        .app
        .post(STATUS, &json!({"status": "preparing", "minutes": 25, "by": "Кухня"}))
        .await;
    assert_eq!(
        (answer.status, &answer.json()["previous_status"]),
        (200, &json!("pending"))
    );
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["status"]),
        (&json!("order_status_changed"), &json!("preparing"))
    );
    assert_eq!(
        (&event["data"]["by"], &event["data"]["promised_minutes"]),
        (&json!("Кухня"), &json!(25))
    );
    let order = shown(&shop).await;
    assert_eq!(
        (&order["status"], &order["answer"]["by"], &order["promised_minutes"]),
        (&json!("preparing"), &json!("Кухня"), &json!(25))
    );

    // The shop changes a column that is not the status. The order keeps its status and its answer.
    shop.write("update spree_orders set special_instructions = 'Ring twice' where id = 1")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["status"]),
        (&json!("order_changed"), &json!("preparing"))
    );
    assert_eq!(shop.app.post(STATUS, &json!({"status": "ready"})).await.status, 200);
    assert_eq!(shop.event("1").await["data"]["status"], "ready");

    // The shop changes the order's status in its own table.
    shop.write("update spree_orders set shipment_state = 'shipped' where id = 1")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["data"]["status"], &event["data"]["previous_status"]),
        (&json!("completed"), &json!("ready"))
    );
    assert_eq!(shown(&shop).await["status"], "completed");
    let late = shop.app.post(STATUS, &json!({"status": "preparing"})).await;
    assert_eq!((late.status, late.code()), (409, "status_not_reachable".into()));
}

#[tokio::test]
async fn a_status_that_cannot_be_computed_discards_no_answer() {
    let mut shop = spree().await;
    shop.write(&ORDER.replace("'R1'", "'R2'").replace("values (1, 1,", "values (1, 2,"))
        .await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    assert_eq!(shop.app.post(STATUS, &json!({"status": "rejected"})).await.status, 200);
    assert_eq!(shop.event("1").await["data"]["status"], "rejected");

    shop.write("alter table spree_orders rename column shipment_state to shipping")
        .await;
    shop.write("update spree_orders set special_instructions = 'Ring twice' where id = 1")
        .await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["status"]),
        (&json!("order_changed"), &json!("rejected"))
    );
    let of_second = STATUS.replace("orders/1/", "orders/2/");
    let answer = shop.app.post(&of_second, &json!({"status": "preparing"})).await;
    assert_eq!(
        answer.status, 200,
        "an order is answered while its status is unreadable"
    );
    assert_eq!(shop.event("1").await["data"]["status"], "preparing");

    shop.write("alter table spree_orders rename column shipping to shipment_state")
        .await;
    shop.write(super::failing_sql::RETRY_NOW).await;
    shop.settle().await;
    let listed = shop.list("1").await;
    let status = |key: &str| {
        listed
            .iter()
            .find(|order| order["id"] == key)
            .map(|order| order["status"].clone())
    };
    assert_eq!(status("2"), Some(json!("preparing")));

    // The comparison is with the shop's last readable status, so a real change of the shop ends the answer.
    shop.write("update spree_orders set shipment_state = 'shipped' where id = 2")
        .await;
    assert_eq!(shop.event("1").await["data"]["status"], "completed");
}

#[tokio::test]
async fn an_answer_can_be_taken_back() {
    let mut shop = spree().await;
    assert_eq!(
        shop.app
            .post(STATUS, &json!({"status": "rejected", "reason": "Sold out"}))
            .await
            .status,
        200
    );
    let event = shop.event("1").await;
    assert_eq!(
        (&event["data"]["status"], &event["data"]["reason"]),
        (&json!("rejected"), &json!("Sold out"))
    );
    assert_eq!(shop.app.post(STATUS, &json!({"status": "pending"})).await.status, 200);
    assert_eq!(shop.event("1").await["type"], "new_order");
    assert_eq!(shown(&shop).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_answer_at_once_one_is_first() {
    let shop = spree().await;
    let presses: Vec<Value> = ["preparing", "rejected"]
        .repeat(4)
        .into_iter()
        .map(|to| json!({"status": to, "from": "pending"}))
        .collect();
    let answers = futures::future::join_all(presses.iter().map(|press| shop.app.post(STATUS, press))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
}

#[tokio::test]
async fn a_store_of_several_answers_for_itself() {
    let mut shop = Shop::open("coopcycle", "read committed").await;
    shop.write(ORDER_OF_TWO_STORES).await;
    assert_eq!(shop.event("restaurant:2").await["data"]["total"], 450);
    let answer = shop
        .app
        .post(
            "/api/partner/stores/restaurant:1/orders/1/status",
            &json!({"status": "preparing"}),
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(shop.list("restaurant:1").await[0]["status"], "preparing");
    assert_eq!(shop.list("restaurant:2").await[0]["status"], "pending");
}

pub const TICKET: &str = "begin; \
    insert into pretixbase_order (code, status, valid_if_pending, testmode, organizer_id, event_id, secret, datetime, expires, total, comment, \
        checkin_attention, expiry_reminder_sent, download_reminder_sent, api_meta, last_modified, require_approval, sales_channel_id, email_known_to_work, invoice_dirty) \
        values ('FZ3KQ', 'n', false, false, 1, 1, 's1', now(), now(), 25, '', false, false, false, '{}', now(), true, 1, false, false); \
    insert into pretixbase_orderposition (positionid, order_id, item_id, price, attendee_name_parts, is_bundled, tax_rate, tax_value, secret, web_secret, pseudonymization_id, canceled) \
        values (1, 1, 1, 25, '{}', false, 19, 3.99, 'a', 'w', 'P1', false); commit";

#[tokio::test]
async fn an_answer_is_the_mappings_own_statement_where_it_has_one() {
    let mut shop = Shop::open("pretix", "read committed").await;
    shop.live(TICKET).await;
    assert_eq!(
        shop.app
            .post(STATUS, &json!({"status": "preparing", "by": "Kasse"}))
            .await
            .status,
        200
    );
    let event = shop.event("1").await;
    assert_eq!(
        (&event["data"]["status"], &event["data"]["by"]),
        (&json!("preparing"), &json!("Kasse"))
    );
    let row = shop
        .writer
        .query_one("select require_approval from pretixbase_order", &[])
        .await
        .unwrap();
    assert!(!row.get::<_, bool>(0), "the shop's own row has the answer");
    let kept = shop
        .writer
        .query_one("select answered_over from vestnik.vst_projection_3", &[])
        .await
        .unwrap();
    assert_eq!(
        kept.get::<_, Option<&str>>(0),
        None,
        "the engine keeps no answer of its own"
    );
}

#[tokio::test]
async fn a_statement_that_changes_no_row_is_a_failed_answer() {
    let mut shop = Shop::open("pretix", "read committed").await;
    let none = "[answer]\npreparing = \"update pretixbase_order set require_approval = false where id::text = $1 and status = 'x'\"\n";
    let (before, _) = mapping("pretix")
        .split_once("[answer]")
        .map(|(before, after)| (before.to_owned(), after.to_owned()))
        .unwrap();
    shop.app.database.attach(&format!("{before}\n{none}")).await;
    shop.live(TICKET).await;
    let refused = shop.app.post(STATUS, &json!({"status": "preparing"})).await;
    assert_eq!((refused.status, refused.code()), (422, "status_refused".into()));
    let why = "the shop refuses this change: no row of its table changed";
    let said = refused.json();
    assert!(said["error"]["message"].as_str().unwrap().starts_with(why), "{said}");
    assert_eq!(shown(&shop).await["status"], "pending");
}

#[tokio::test]
async fn an_answer_is_saved_while_other_expressions_of_its_order_fail() {
    let mut shop = spree().await;
    let press = async |shop: &Shop, status: &str| shop.app.post(STATUS, &json!({"status": status})).await;
    shop.write("alter table spree_addresses rename column phone to phone_number")
        .await;
    assert_eq!(press(&shop, "preparing").await.status, 200);
    assert_eq!(shop.event("1").await["data"]["status"], "preparing");
    let order = shown(&shop).await;
    assert_eq!(
        (&order["status"], &order["phone"], &order["total"]),
        (&json!("preparing"), &json!("?"), &json!(1900)),
        "{order}"
    );
    // Now the mapping's expression for the store fails as well. The order therefore keeps the store that it had.
    shop.write("alter table spree_orders rename column store_id to shop_id")
        .await;
    assert_eq!(press(&shop, "ready").await.status, 200);
    assert_eq!(shop.event("1").await["data"]["status"], "ready");
    assert_eq!(shown(&shop).await["status"], "ready");

    let mut shop = Shop::open("pretix", "read committed").await;
    shop.live(TICKET).await;
    let statements = "update pretixbase_order set require_approval = false where id::text = $1 and require_approval";
    let fails = answering(&format!("preparing = \"{statements}\"")).replace(
        "[derived]\n",
        "[derived]\npersons = \"(1 / (o.total - o.total))::text\"\n",
    );
    shop.app.database.attach(&fails).await;
    shop.settle().await;
    shop.write("alter table pretixbase_orderposition rename column attendee_name_cached to attendee")
        .await;
    assert_eq!(press(&shop, "preparing").await.status, 200);
    let row = shop
        .writer
        .query_one("select require_approval from pretixbase_order", &[])
        .await
        .unwrap();
    assert!(!row.get::<_, bool>(0), "the shop's own row has the answer");
}

/// The mapping of the ticket shop pretix, with `statements` in its section `[answer]`.
fn answering(statements: &str) -> String {
    let mapping = mapping("pretix");
    let before = mapping.split("[answer]").next().unwrap();
    format!("{before}\n[answer]\n{statements}\n")
}

#[tokio::test]
async fn an_answer_that_statements_wrote_is_taken_back_by_statements_only() {
    let mut shop = Shop::open("pretix", "read committed").await;
    shop.live(TICKET).await;
    let press = async |shop: &Shop, status: &str| shop.app.post(STATUS, &json!({"status": status})).await;
    assert_eq!(press(&shop, "preparing").await.status, 200);
    let back = press(&shop, "pending").await;
    assert_eq!((back.status, back.code()), (409, "status_not_reachable".into()));
    assert_eq!(shown(&shop).await["status"], "preparing", "the order is in no trap");
    assert_eq!(press(&shop, "ready").await.status, 200);
    assert_eq!(
        press(&shop, "preparing").await.status,
        200,
        "the engine kept `ready` itself"
    );

    let statements = "preparing = \"update pretixbase_order set require_approval = false where id::text = $1 and require_approval\"\n\
        pending = \"update pretixbase_order set require_approval = true where id::text = $1 and not require_approval\"";
    let mut shop = Shop::open_as("pretix", "read committed", &answering(statements), |_| ()).await;
    shop.live(TICKET).await;
    assert_eq!(press(&shop, "preparing").await.status, 200);
    assert_eq!(press(&shop, "pending").await.status, 200);
    assert_eq!(press(&shop, "preparing").await.status, 200);
}

#[tokio::test]
async fn a_statement_that_postgres_cannot_run_any_more_is_the_operators_and_is_reported() {
    let mut shop = Shop::open("pretix", "read committed").await;
    shop.live(TICKET).await;
    shop.write("alter table pretixbase_order rename column require_approval to needs_approval")
        .await;
    let answer = shop.app.post(STATUS, &json!({"status": "preparing"})).await;
    assert_eq!((answer.status, answer.code()), (422, "status_not_possible".into()));
    let sources = vestnik::sources::health::check(&shop.writer).await.unwrap();
    let troubles = sources.into_iter().flat_map(|source| source.troubles);
    let of_answer: Vec<String> = troubles.filter(|line| line.contains("answer.preparing")).collect();
    assert!(
        of_answer.len() == 1 && of_answer[0].contains("require_approval"),
        "{of_answer:?}"
    );
}

#[tokio::test]
async fn who_answers_while_the_shop_cancels_learns_that_the_shop_was_first() {
    let mut shop = Shop::open("pretix", "read committed").await;
    shop.live(TICKET).await;
    // The projector computes the orders from the shop's tables. It waits while this transaction is open, so it cannot
    // publish the cancellation before the answer.
    let mut other = shop.app.database.client().await;
    let cancelling = other.transaction().await.unwrap();
    cancelling
        .batch_execute("update pretixbase_order set status = 'c', require_approval = false")
        .await
        .unwrap();
    let app = &shop.app;
    let answer = async {
        app.post(STATUS, &json!({"status": "preparing", "from": "pending"}))
            .await
    };
    let cancel = async {
        app.database
            .until("select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%require_approval%')")
            .await;
        cancelling.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(answer, cancel);
    assert_eq!(
        (answer.status, answer.code()),
        (409, "status_conflict".into()),
        "{answer:?}"
    );
    assert_eq!(shop.event("1").await["type"], "order_cancelled");
}

#[tokio::test]
async fn names_in_a_statement_mean_the_schema_of_the_shops_table() {
    let database = Database::fresh().await;
    let writer = database.client().await;
    let shop = "create schema till; create table till.ticket (id int primary key, store int, state text, total numeric(8, 2)); \
        create table till.log (ticket text, what text); insert into till.ticket values (1, 1, 'new', 5)";
    writer.batch_execute(shop).await.unwrap();
    let mapping = "table = 'till.ticket'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.store'\n\
        status = \"case o.state when 'new' then 'pending' when 'ok' then 'preparing' else 'cancelled' end\"\n\
        [answer]\npreparing = [\"update ticket set state = 'ok' where id::text = $1 and state = 'new'\", \
        \"insert into log values ($1, $2)\"]\n";
    database.attach(mapping).await;
    let app = App::start_on(database, |_| ()).await;
    app.database
        .until("select not exists (select from vestnik.vst_change)")
        .await;
    let answer = app
        .post("/api/partner/stores/1/orders/1/status", &json!({"status": "preparing"}))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    app.database
        .until("select exists (select from till.log where what = 'preparing')")
        .await;
}

#[tokio::test]
async fn a_status_that_is_none_of_ours_makes_a_derived_source_unhealthy() {
    let shop = Shop::open("vendure", "read committed").await;
    let words =
        "update \"order\" set state = 'Awaiting courier', active = false, \"orderPlacedAt\" = now() where id = 1";
    for part in shop.life() {
        shop.write(&part).await;
    }
    shop.write(words).await;
    shop.settle().await;
    let sources = vestnik::sources::health::check(&shop.writer).await.unwrap();
    let troubles: Vec<String> = sources.into_iter().flat_map(|source| source.troubles).collect();
    assert!(
        troubles.iter().any(|line| line.contains("`Awaiting courier`")),
        "{troubles:?}"
    );
}
