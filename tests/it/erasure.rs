//! Erasing a customer: afterwards no table, cache, replay or message of the engine identifies the customer.

use serde_json::Value;

use crate::derived::answers;
use crate::derived::shop::Shop;
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::telegram::Telegram;
use crate::telegram_outcomes::start;

const CHAT: i64 = 701;
/// Parts of the customer's data. After the erasure, no table and no message may contain them.
const SECRETS: [&str; 4] = ["Zacharias", "Quixote", "900000001", "allergic"];
const ORDER: &str = "insert into orders (store_id, customer_name, customer_phone, total, items) values \
     (7, 'Zacharias Quixote', '+7 (900) 000-00-01', 4200, '[{\"name\": \"tea\", \"note\": \"allergic to nuts\"}]')";
const OTHER: &str =
    "insert into orders (store_id, customer_name, customer_phone) values (7, 'Ann', '+7 900 000-00-02')";

/// Runs `vestnik erase`, and returns its standard output, its standard error and its exit code.
fn erase(database: &Database, arguments: &[&str]) -> (String, String, i32) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vestnik"))
        .arg("erase")
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// All rows of the engine's tables, as text.
async fn everything(database: &Database) -> String {
    let client = database.client().await;
    let tables = "select tablename::text from pg_tables where schemaname = 'vestnik'";
    let mut all = String::new();
    for row in client.query(tables, &[]).await.unwrap() {
        let table: &str = row.get(0);
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from vestnik.{table} t");
        all += client.query_one(&sql, &[]).await.unwrap().get::<_, &str>(0);
    }
    all
}

async fn assert_nowhere(database: &Database) {
    let all = everything(database).await;
    for secret in SECRETS {
        assert!(!all.contains(secret), "{secret} is still in the schema vestnik");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_customer_is_in_no_table_no_cache_no_replay_and_no_message() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    let before = app.panel("7", None).await.live().await.cursor.clone();
    app.write(ORDER).await;
    app.write(OTHER).await;
    telegram.until_messages(CHAT, 2).await;
    app.write("update orders set status = 'rejected', reason = 'Zacharias Quixote is unknown' where id = 1")
        .await;
    telegram.until_messages(CHAT, 3).await;
    // Vestnik never erases rows of the shop, so the shop erases its row first.
    app.write(
        "update orders set customer_name = null, customer_phone = null, items = '[]', reason = null where id = 1",
    )
    .await;
    let (dry, _, code) = erase(&app.database, &["--store", "7", "--order", "1", "--dry-run"]);
    assert_eq!(code, 0);
    assert!(
        dry.contains("would erase the customer in 3 rows of the journal"),
        "{dry}"
    );
    assert!(
        everything(&app.database).await.contains("Zacharias"),
        "a dry run changes nothing"
    );

    let (said, error, code) = erase(&app.database, &["--store", "7", "--order", "1"]);
    assert_eq!((code, error.as_str()), (0, ""), "{said}");
    assert!(
        said.contains("orders 1 (key 1)") && said.contains("1 messages in Telegram will be edited"),
        "{said}"
    );
    assert!(
        said.contains("not erased") && said.contains("the shop's own tables"),
        "{said}"
    );
    assert_nowhere(&app.database).await;

    // The event cache no longer has these events. A replay and an HTTP request read them from the journal, without the
    // customer's data.
    app.write("insert into orders (store_id, customer_name) values (7, 'Bob')")
        .await;
    let mut live = app.panel("7", Some(&before)).await.live().await;
    let mut told: Vec<Value> = std::mem::take(&mut live.before_live);
    while !told.iter().any(|event| event["data"]["customer_name"] == "Bob") {
        told.push(live.event().await);
    }
    let history = app.get_json("/api/partner/stores/7/events?limit=50").await;
    let receipts = app.get_json("/api/partner/stores/7/receipts").await;
    for text in [Value::from(told.clone()), history, receipts] {
        let text = text.to_string();
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert_eq!(told[0]["data"]["number"], "1", "the order is still told");
    assert!(told.iter().any(|event| event["data"]["customer_name"] == "Ann"));

    let edited =
        |text: &str| text.contains("the customer's data was erased") && text.contains("#1") && text.contains("ejected");
    telegram
        .until_call("the message was edited", |call| {
            call.is_edit() && call.body["text"].as_str().is_some_and(edited)
        })
        .await;
    for (_, message) in telegram.messages(CHAT) {
        for secret in SECRETS {
            assert!(!message.text.contains(secret), "{secret} in {}", message.text);
        }
    }
    // The row still exists without the customer's data. Its next change creates an event, and the bot edits the
    // message.
    app.write("update orders set status = 'pending' where id = 1").await;
    let event = live.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["order_id"]),
        (&"new_order".into(), &"1".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telephone_number_finds_every_order_of_the_customer_however_it_is_written() {
    let app = App::start().await;
    app.write(ORDER).await;
    app.write(OTHER).await;
    app.write("insert into orders (store_id, customer_name, customer_phone) values (8, 'Z. Quixote', '89000000001')")
        .await;
    app.write("update orders set customer_phone = 'none' where store_id = 7 and customer_name <> 'Ann'")
        .await;
    let (said, _, code) = erase(&app.database, &["--phone", "8 900 000 00 01"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("orders 1 (key 1)") && said.contains("orders 3 (key 3)") && !said.contains("orders 2"),
        "{said}"
    );
    assert_nowhere(&app.database).await;
    let all = everything(&app.database).await;
    assert!(
        all.contains("Ann") && all.contains("900 000-00-02"),
        "nobody else is touched"
    );
    let (_, error, code) = erase(&app.database, &["--phone", "8 900 000 00 01"]);
    assert_eq!(code, 1);
    assert!(error.contains("no order with this telephone number"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_is_said() {
    let app = App::start().await;
    app.write(ORDER).await;
    for (arguments, code, says) in [
        (
            &["--store", "nosuch", "--order", "1"][..],
            1,
            "no store is called nosuch",
        ),
        (
            &["--store", "7", "--order", "99"],
            1,
            "no order or booking 99 of store 7",
        ),
        (&["--phone", "123"], 1, "7 digits at least"),
        (&["--order", "1"], 2, "--store"),
        (&["--store", "7"], 2, "--order"),
    ] {
        let (_, error, exit) = erase(&app.database, arguments);
        assert_eq!(exit, code, "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    assert!(everything(&app.database).await.contains("Zacharias"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_the_nodes_may_erase_and_a_role_without_rights_is_told() {
    let app = App::start().await;
    app.write(ORDER).await;
    let name = app.database.url().rsplit_once('/').unwrap().1.to_owned();
    let (server, stranger) = (format!("server_{name}"), format!("stranger_{name}"));
    app.write(&format!(
        "create role {server} login; create role {stranger} login; grant usage on schema vestnik to {server}; \
         grant select, insert, update, delete on all tables in schema vestnik to {server}; \
         grant usage on all sequences in schema vestnik to {server}; grant execute on all functions in schema vestnik to {server}"
    ))
    .await;
    let as_role = |role: &str| Database::at(app.database.url().replace("postgres@", &format!("{role}@")).into());
    let (_, error, code) = erase(&as_role(&stranger), &["--store", "7", "--order", "1"]);
    assert_eq!(code, 1);
    assert!(error.contains("permission denied"), "{error}");
    let (said, error, code) = erase(&as_role(&server), &["--store", "7", "--order", "1"]);
    assert_eq!(code, 0, "{said}{error}");
    assert_nowhere(&app.database).await;
}

#[tokio::test]
async fn the_own_table_of_a_derived_source_loses_the_customer_too() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.live(answers::ORDER).await;
    shop.write("update spree_orders set special_instructions = 'Zacharias is allergic' where id = 1")
        .await;
    shop.event("1").await;
    let database = &shop.app.database;
    assert!(everything(database).await.contains("Zacharias"));
    let (said, error, code) = erase(database, &["--store", "1", "--order", "R1"]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("in 1 rows of derived sources"), "{said}");
    assert_nowhere(database).await;
    let order = answers::shown(&shop).await;
    assert_eq!((&order["number"], &order["status"]), (&"R1".into(), &"pending".into()));
}
