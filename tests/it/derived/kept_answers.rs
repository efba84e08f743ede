//! The reason and the promised minutes of an answer that the engine keeps. They stay with the order, as in a shop whose
//! table has columns for them.

use serde_json::{Value, json};
use vestnik::sources::health;

use super::answers::{ORDER, STATUS, shown};
use super::failing_sql::RETRY_NOW;
use super::shop::{Shop, mapping};
use crate::support::app::App;
use crate::support::db::Database;

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

const STATUSES: &str = "create table words (id int primary key, word text); \
    insert into words values (1, 'new'), (2, 'made'); create table sales (id int primary key, shop int, word_id int)";
const SALES: &str = "table = 'public.sales'\nkind = 'order'\nkey = 'id'\n[derived]\nfrom = 'left join words w on w.id = o.word_id'\n\
    store = 'o.shop'\nstatus = \"case w.word when 'new' then 'pending' when 'made' then 'ready' else w.word end\"\n";

#[tokio::test]
async fn an_answer_given_while_the_status_was_unreadable_stays_once_it_is_readable() {
    // Without SQL, the mapping lacks a word at first.
    for (lose, regain) in [
        (
            "alter table words rename word to title",
            "alter table words rename title to word",
        ),
        (
            "revoke select on words from vestnik_reader",
            "grant select on words to vestnik_reader",
        ),
        ("", ""),
    ] {
        let database = Database::fresh().await;
        database.client().await.batch_execute(STATUSES).await.unwrap();
        let is_word_missing = lose.is_empty();
        let mapping = match is_word_missing {
            true => SALES.replace("when 'new' then 'pending'", ""),
            false => SALES.to_owned(),
        };
        database.attach(&mapping).await;
        let app = App::start_on(database, |_| ()).await;
        let mut panel = app.panel("7", None).await.live().await;
        app.write(lose).await;
        for (id, wish) in [
            (1, json!({"status": "preparing", "minutes": 25})),
            (2, json!({"status": "rejected", "reason": "oven broken"})),
            (3, json!({"status": "preparing"})),
        ] {
            app.write(&format!("insert into sales values ({id}, 7, 1)")).await;
            let new = panel.event().await;
            assert_eq!(new["type"], "new_order", "{lose}: {new}");
            let said = troubles(&app).await;
            assert_eq!(
                said.contains("which means nothing in its mapping"),
                is_word_missing,
                "{lose}: {said}"
            );
            let path = format!("/api/partner/stores/7/orders/{id}/status");
            assert_eq!(app.post(&path, &wish).await.status, 200, "{lose}: {id}");
            assert_eq!(panel.event().await["data"]["status"], wish["status"], "{lose}");
        }
        app.write("update sales set word_id = 2 where id = 3").await;
        app.write(regain).await;
        if is_word_missing {
            app.database.attach(SALES).await;
        }
        app.write(RETRY_NOW).await;
        app.database
            .until("select not exists (select from vestnik.vst_projection_failure) and not exists (select from vestnik.vst_change)")
            .await;
        app.write("insert into sales values (4, 7, 1)").await;
        let done = panel.event().await;
        assert_eq!(
            (
                &done["data"]["order_id"],
                &done["data"]["status"],
                &done["data"]["overwritten_answer"]
            ),
            (&json!("3"), &json!("ready"), &Value::Null),
            "{lose}: {done}"
        );
        assert_eq!(panel.event().await["data"]["order_id"], "4", "{lose}");
        let list = app.get_json("/api/partner/stores/7/orders?status=all").await;
        let of = |key: &str| {
            let orders = list["orders"].as_array().unwrap();
            orders.iter().find(|order| order["id"] == key).unwrap().clone()
        };
        assert_eq!(
            (of("1")["status"].clone(), of("1")["promised_minutes"].clone()),
            (json!("preparing"), json!(25)),
            "{lose}"
        );
        assert_eq!(
            (of("2")["status"].clone(), of("2")["reason"].clone()),
            (json!("rejected"), json!("oven broken")),
            "{lose}"
        );
        // From now on, the answer lies over `pending`, so the shop's next status ends it.
        app.write("update sales set word_id = 2 where id = 1").await;
        assert_eq!(panel.event().await["data"]["status"], "ready", "{lose}");
    }
}

/// The problems of the source, as `source list` and doctor say them.
async fn troubles(app: &App) -> String {
    let sources = health::check(&app.database.client().await).await.unwrap();
    let sales = sources.into_iter().find(|source| source.name == "sales").unwrap();
    sales.troubles.join("\n")
}
