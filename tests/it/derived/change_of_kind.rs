//! A source that is detached and attached again, or whose mapping becomes derived or direct.

use serde_json::{Value, json};
use tokio::time::timeout;
use vestnik::sources::attach;

use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::Database;
use crate::support::look_again;

const TABLES: &str = "create table ticket (id int primary key generated always as identity, store int not null default 7, \
         state text not null default 'new', guest text); \
     create table line (id int primary key generated always as identity, ticket_id int not null, title text not null)";
const DIRECT: &str = r#"
table = "public.ticket"
kind = "order"
key = "id"
store = "store"
[status]
column = "state"
pending = ["new"]
preparing = ["accepted"]
rejected = ["refused"]
completed = ["done"]
[fields]
customer_name = "guest"
"#;
const DERIVED: &str = r#"
table = "public.ticket"
kind = "order"
key = "id"
[derived]
store = "o.store"
status = "case o.state when 'new' then 'pending' when 'accepted' then 'preparing' when 'refused' then 'rejected' else 'completed' end"
customer_name = "o.guest"
items = "select l.title as name from line l where l.ticket_id = o.id"
wait_for_items_ms = 0
[[derived.watch]]
table = "line"
column = "ticket_id"
"#;

/// Starts a shop with a source of this mapping.
async fn open(mapping: &str) -> App {
    let database = Database::without_shop().await;
    database.client().await.batch_execute(TABLES).await.unwrap();
    database.attach(mapping).await;
    App::start_on(database, |_| ()).await
}

async fn attach(app: &App, mapping: &str) {
    app.database.attach(mapping).await;
    app.database
        .until("select not exists (select from vestnik.vst_change)")
        .await;
}

async fn detach(app: &App) {
    attach::detach(&mut app.database.session().await, "ticket", &mut |_| ())
        .await
        .unwrap();
}

async fn press(app: &App, order: u32, wish: &Value) {
    let answer = app
        .post(&format!("/api/partner/stores/7/orders/{order}/status"), wish)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Waits until the list has these open orders: the id, the status and the promised minutes of each, ordered by id. A
/// node loads a mapping a moment after it is attached.
async fn until_open_orders(app: &App, expected: &[(&str, &str, Value)]) {
    let expected: Vec<Value> = expected
        .iter()
        .map(|(id, status, minutes)| json!([id, status, minutes]))
        .collect();
    let mut listed = Vec::new();
    let waited = timeout(PATIENCE, async {
        while listed != expected {
            look_again().await;
            let list = app.get_json("/api/partner/stores/7/orders").await;
            let orders = list["orders"].as_array().unwrap().iter();
            listed = orders
                .map(|order| json!([order["order_id"], order["status"], order["promised_minutes"]]))
                .collect();
            listed.sort_by_key(|order| order[0].to_string());
        }
    });
    if waited.await.is_err() {
        panic!("the list has {listed:?}, not {expected:?}");
    }
}

/// Lets the shop write a new order and change it, and expects an event of each write.
async fn expect_events(app: &App, panel: &mut Panel) {
    app.write("insert into ticket (guest) values ('Anna')").await;
    let event = panel.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["customer_name"]),
        (&json!("new_order"), &json!("Anna"))
    );
    app.write("update ticket set guest = 'Boris' where id = (select max(id) from ticket)")
        .await;
    let event = panel.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["customer_name"]),
        (&json!("order_changed"), &json!("Boris"))
    );
}

/// Expects these statuses of the earlier events, which have the words of the mapping of their time.
async fn expect_known_words(app: &App, statuses: &[&str]) {
    let events = app.get_json("/api/partner/stores/7/events").await;
    let data: Vec<&Value> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["data"])
        .collect();
    let told: Vec<&str> = data.iter().map(|data| data["status"].as_str().unwrap()).collect();
    assert_eq!(told, statuses, "{events:#}");
    assert!(data.iter().all(|data| data["status_word"].is_null()), "{events:#}");
    let sources = vestnik::sources::health::check(&app.database.client().await)
        .await
        .unwrap();
    let word = sources[0].troubles.iter().find(|line| line.contains("means nothing"));
    assert_eq!(word, None);
}

#[tokio::test]
async fn each_write_succeeds_and_makes_its_event_whatever_the_mapping_becomes() {
    let app = open(DIRECT).await;
    let mut panel = app.panel("7", None).await.live().await;
    expect_events(&app, &mut panel).await;
    for mapping in [DERIVED, DIRECT, DERIVED] {
        attach(&app, mapping).await;
        expect_events(&app, &mut panel).await;
    }
}

#[tokio::test]
async fn triggers_of_another_form_are_noticed_and_replaced() {
    let app = open(DIRECT).await;
    app.write(
        "create or replace trigger vestnik_record_insert after insert on ticket for each row execute function vestnik.vst_record_1()",
    )
    .await;
    let sources = vestnik::sources::health::check(&app.database.client().await)
        .await
        .unwrap();
    let troubles = sources[0].troubles.join("\n");
    assert!(troubles.contains("vestnik migrate"), "{troubles}");
    attach(&app, DIRECT).await;
    let mut panel = app.panel("7", None).await.live().await;
    expect_events(&app, &mut panel).await;
}

#[tokio::test]
async fn kept_answers_stay_when_the_table_is_attached_again() {
    let app = open(DERIVED).await;
    app.write("insert into ticket (guest) select 'Anna' from generate_series(1, 4)")
        .await;
    app.database
        .until("select count(*) = 4 from vestnik.vst_projection_1")
        .await;
    for order in [1, 3, 4] {
        press(&app, order, &json!({"status": "preparing", "minutes": 25})).await;
    }
    detach(&app).await;
    let left = "select count(*) = 3 and bool_and(data::text !~ 'Anna') from vestnik.vst_projection_1";
    app.database.until(left).await;
    app.write("delete from ticket where id = 3; update ticket set state = 'done' where id = 4")
        .await;
    attach(&app, DERIVED).await;
    until_open_orders(&app, &[("1", "preparing", json!(25)), ("2", "pending", Value::Null)]).await;
}

#[tokio::test]
async fn no_order_rings_again_and_no_answer_is_lost_when_a_derived_source_was_direct_for_a_while() {
    let app = open(DERIVED).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into ticket (guest) values ('Anna'), ('Boris')").await;
    for _ in ["Anna", "Boris"] {
        assert_eq!(panel.event().await["type"], "new_order");
    }
    press(&app, 1, &json!({"status": "preparing", "minutes": 25})).await;
    assert_eq!(panel.event().await["type"], "order_status_changed");
    attach(&app, DIRECT).await;
    app.write("insert into ticket (guest) values ('Clara')").await;
    assert_eq!(panel.event().await["type"], "new_order");
    expect_known_words(&app, &["pending", "pending", "preparing", "pending"]).await;
    attach(&app, DERIVED).await;
    expect_known_words(&app, &["pending", "pending", "preparing", "pending"]).await;
    let three = [
        ("1", "preparing", json!(25)),
        ("2", "pending", Value::Null),
        ("3", "pending", Value::Null),
    ];
    until_open_orders(&app, &three).await;
    // The next event is of a new order: none of the three rings again.
    app.write("insert into ticket (guest) values ('Dora')").await;
    let event = panel.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["customer_name"]),
        (&json!("new_order"), &json!("Dora"))
    );
}

#[tokio::test]
async fn what_no_projector_has_read_yet_has_its_events_when_the_source_becomes_direct() {
    let app = open(DERIVED).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into ticket (guest) values ('Anna'), ('Boris')").await;
    for _ in ["Anna", "Boris"] {
        assert_eq!(panel.event().await["type"], "new_order");
    }
    app.engine.shut_down().await;
    let database = app.database;
    let shop = database.client().await;
    for write in [
        "insert into ticket (guest) values ('Clara')",
        "update ticket set state = 'accepted' where id = 1",
        "delete from ticket where id = 2",
    ] {
        shop.batch_execute(write).await.unwrap();
    }
    database.attach(DIRECT).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", Some(&panel.cursor)).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = panel.event().await;
        told.push(json!([event["type"], event["data"]["order_id"]]));
    }
    told.sort_by_key(ToString::to_string);
    let expected = [
        json!(["new_order", "3"]),
        json!(["order_removed", "2"]),
        json!(["order_status_changed", "1"]),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_order_that_people_know_rings_no_second_time_and_its_end_is_told_when_the_source_becomes_derived() {
    let app = open(DIRECT).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into ticket (guest) values ('Anna'), ('Boris'), ('Clara')")
        .await;
    for _ in ["Anna", "Boris", "Clara"] {
        assert_eq!(panel.event().await["type"], "new_order");
    }
    app.engine.shut_down().await;
    let database = app.database;
    database.attach(DERIVED).await;
    let shop = database.client().await;
    for write in [
        "update ticket set state = 'accepted' where id = 1",
        "delete from ticket where id = 2",
        "update ticket set state = 'refused' where id = 3",
    ] {
        shop.batch_execute(write).await.unwrap();
    }
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", Some(&panel.cursor)).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = panel.event().await;
        told.push(json!([
            event["type"],
            event["data"]["order_id"],
            event["data"]["status"]
        ]));
    }
    told.sort_by_key(ToString::to_string);
    let expected = [
        json!(["order_removed", "2", "pending"]),
        json!(["order_status_changed", "1", "preparing"]),
        json!(["order_status_changed", "3", "rejected"]),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_erased_order_of_the_time_before_is_read_as_one_of_that_time() {
    let app = open(DERIVED).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into ticket (guest) values ('Anna')").await;
    assert_eq!(panel.event().await["type"], "new_order");
    press(&app, 1, &json!({"status": "rejected", "reason": "Anna is ill"})).await;
    assert_eq!(panel.event().await["type"], "order_status_changed");
    attach(&app, DIRECT).await;
    let erased = std::process::Command::new(env!("CARGO_BIN_EXE_vestnik"))
        .args(["erase", "--store", "7", "--order", "1"])
        .env("DATABASE_URL", app.database.url())
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));
    expect_known_words(&app, &["pending", "rejected"]).await;
    let is_erased = "select not exists (select from vestnik.vst_event e, vestnik.vst_projection_1 p \
         where e.data::text || p.data::text || coalesce(e.answer::text, '') ~ 'Anna')";
    app.database.until(is_erased).await;
}

#[tokio::test]
async fn a_database_that_is_not_prepared_is_named_as_such() {
    let database = Database::empty().await;
    database.client().await.batch_execute(TABLES).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), DERIVED).unwrap();
    let path = file.path().to_str().unwrap();
    for arguments in [&["attach", "--map", path][..], &["source", "list"]] {
        let (_, said) = super::attaching::vestnik(&database, arguments).await;
        let expected = "vestnik: this database is not prepared: run `vestnik migrate` first\n";
        assert_eq!(said, expected, "{arguments:?}");
    }
}
