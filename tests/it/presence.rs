//! Presence: which panels can ring, and which nodes are alive. An alarm is raised for a store without a panel that can
//! ring.

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use vestnik::delivery::unattended_alarm::{GRACE_S, watch_with};
use vestnik::domain::event::StoreId;
use vestnik::infra::db::Client;
use vestnik::infra::db::{self, Pool};
use vestnik::store::presence::Presence;

use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::telegram::Telegram;

/// Makes the store open around the clock, in any time zone.
const ALWAYS: &str =
    "insert into vestnik.vst_opening_hours select '7', weekday, '00:00', '00:00' from generate_series(1, 7) weekday";

async fn store(database: &Database) -> (Client, Pool) {
    let client = database.client().await;
    client
        .batch_execute("insert into vestnik.vst_store (id) values ('7')")
        .await
        .unwrap();
    (client, db::pool(&database.config().database).unwrap())
}

async fn alarms(client: &Client) -> Vec<Option<String>> {
    let rows = client
        .query("select cleared_by from vestnik.vst_alarm order by id", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

const PRESENT: &str = "select exists (select from vestnik.vst_presence where store_id = '7')";
const ABSENT: &str = "select not exists (select from vestnik.vst_presence where store_id = '7')";

#[tokio::test(flavor = "multi_thread")]
async fn an_open_store_without_a_panel_that_rings_is_one_alarm_and_one_all_clear() {
    let database = Database::fresh().await;
    let (client, pool) = store(&database).await;
    client.batch_execute(ALWAYS).await.unwrap();
    let other = db::pool(&database.config().database).unwrap();
    assert_eq!(
        watch_with(&pool, GRACE_S).await.unwrap(),
        0,
        "no alarm is raised while a panel's page may only be reloading"
    );
    let late = "update vestnik.vst_unattended set since = since - interval '61 s'";
    client.batch_execute(late).await.unwrap();
    let (here, there) = tokio::join!(watch_with(&pool, GRACE_S), watch_with(&other, GRACE_S));
    let again = watch_with(&other, GRACE_S).await.unwrap();
    assert_eq!(here.unwrap() + there.unwrap() + again, 1);
    assert_eq!(alarms(&client).await, [None]);

    let (presence, stop) = (Arc::new(Presence::default()), CancellationToken::new());
    let telling = tokio::spawn(Arc::clone(&presence).run(pool.clone(), stop.clone()));
    let present = [presence.enter(&StoreId::new("7")), presence.enter(&StoreId::new("7"))];
    until(&client, PRESENT).await;
    assert_eq!(watch_with(&pool, GRACE_S).await.unwrap(), 1);
    assert_eq!(watch_with(&other, GRACE_S).await.unwrap(), 0);
    assert_eq!(alarms(&client).await, [Some("panel".into())]);
    let [one, another] = present;
    drop(one);
    // Store 7 still has its second panel, so its row must stay. The row of store 8 shows when the presence has been
    // saved again.
    let eighth = presence.enter(&StoreId::new("8"));
    until(
        &client,
        "select exists (select from vestnik.vst_presence where store_id = '8')",
    )
    .await;
    until(&client, PRESENT).await;
    drop(another);
    until(&client, ABSENT).await;
    drop(eighth);
    stop.cancel();
    telling.await.unwrap();
    until(&client, "select not exists (select from vestnik.vst_node)").await;
}

#[tokio::test]
async fn a_node_that_dies_is_believed_no_more() {
    let database = Database::fresh().await;
    let (client, pool) = store(&database).await;
    client.batch_execute(ALWAYS).await.unwrap();
    let (presence, stop) = (Arc::new(Presence::default()), CancellationToken::new());
    let _present = presence.enter(&StoreId::new("7"));
    let telling = tokio::spawn(Arc::clone(&presence).run(pool.clone(), stop.clone()));
    until(&client, PRESENT).await;
    let life = "select max(until) between now() + interval '5 s' and now() + interval '20 s' from vestnik.vst_node";
    until(&client, life).await;
    telling.abort();
    let _ = telling.await;
    assert_eq!(watch_with(&pool, 0.0).await.unwrap(), 0, "the node may only be slow");
    client
        .batch_execute("update vestnik.vst_node set until = now() - interval '1 ms'")
        .await
        .unwrap();
    assert_eq!(watch_with(&pool, 0.0).await.unwrap(), 1);
    // The next node that reports itself as alive removes the rows of the dead node.
    let another = tokio::spawn(Arc::new(Presence::default()).run(pool.clone(), stop.clone()));
    until(&client, ABSENT).await;
    until(&client, "select count(*) = 1 from vestnik.vst_node").await;
    stop.cancel();
    another.await.unwrap();
}

#[tokio::test]
async fn a_node_that_was_removed_reports_all_its_panels_again() {
    let database = Database::fresh().await;
    let (client, pool) = store(&database).await;
    let (presence, stop) = (Arc::new(Presence::default()), CancellationToken::new());
    let _present = presence.enter(&StoreId::new("7"));
    let telling = tokio::spawn(Arc::clone(&presence).run(pool.clone(), stop.clone()));
    until(&client, PRESENT).await;
    client.batch_execute("delete from vestnik.vst_node").await.unwrap();
    until(&client, PRESENT).await;
    stop.cancel();
    telling.await.unwrap();
}

#[tokio::test]
async fn hours_go_on_after_midnight_and_closing_ends_an_alarm() {
    let database = Database::fresh().await;
    let (client, pool) = store(&database).await;
    // Choose a time zone in which it is between midnight and one o'clock.
    let zone = "update vestnik.vst_store set time_zone = case when h <= 12 then 'Etc/GMT+' || h else 'Etc/GMT-' || 24 - h end \
         from (select extract(hour from now() at time zone 'UTC')::int as h) now";
    client.batch_execute(zone).await.unwrap();
    let yesterday = "extract(isodow from (now() at time zone time_zone) - interval '1 day') from vestnik.vst_store";
    for (opens, closes, is_open) in [
        ("20:00", "03:00", true),
        ("20:00", "00:00", false),
        ("10:00", "22:00", false),
        ("00:00", "23:59", false),
    ] {
        client
            .batch_execute(&format!(
                "delete from vestnik.vst_opening_hours; delete from vestnik.vst_alarm; delete from vestnik.vst_unattended; \
                 insert into vestnik.vst_opening_hours select '7', {yesterday}",
                yesterday = yesterday.replace(
                    " from vestnik.vst_store",
                    &format!(", '{opens}', '{closes}' from vestnik.vst_store")
                )
            ))
            .await
            .unwrap();
        let raised = watch_with(&pool, 0.0).await.unwrap();
        assert_eq!(raised == 1, is_open, "{opens}-{closes} of yesterday");
    }
    let open = "delete from vestnik.vst_opening_hours; insert into vestnik.vst_opening_hours values ('7', 1, '00:00', '00:00')";
    client.batch_execute(open).await.unwrap();
    client.batch_execute(&ALWAYS.replace("(1, 7)", "(2, 7)")).await.unwrap();
    assert_eq!(watch_with(&pool, 0.0).await.unwrap(), 1);
    client
        .batch_execute("delete from vestnik.vst_opening_hours")
        .await
        .unwrap();
    assert_eq!(
        watch_with(&pool, 0.0).await.unwrap(),
        1,
        "a store without hours is never missed"
    );
    assert_eq!(alarms(&client).await, [Some("closing".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_muted_panel_counts_as_absent_and_the_chats_are_notified() {
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    telegram.add_private(11, "Anna");
    telegram.link(&app.database, "7", 11, "fallback").await;
    let mut panel = app.panel("7", None).await.live().await;
    panel.say(&json!({"type": "panel", "rings": false}).to_string()).await;
    client.batch_execute(ALWAYS).await.unwrap();
    until(&client, "select exists (select from vestnik.vst_unattended)").await;
    client
        .batch_execute("update vestnik.vst_unattended set since = since - interval '2 min'")
        .await
        .unwrap();
    let told = telegram.until_messages(11, 1).await;
    assert!(told[0].text.contains("no panel can ring"), "{}", told[0].text);

    panel.say(&json!({"type": "panel", "rings": true}).to_string()).await;
    let told = telegram.until_messages(11, 2).await;
    assert!(told[1].text.contains("a panel is back"), "{}", told[1].text);
    assert_eq!(alarms(&client).await, [Some("panel".into())]);

    panel.say(&json!({"type": "panel", "rings": false}).to_string()).await;
    until(&client, ABSENT).await;
    panel.say(&json!({"type": "panel", "rings": true}).to_string()).await;
    until(&client, PRESENT).await;
    drop(panel);
    until(&client, ABSENT).await;
    app.engine.shut_down().await;
}

#[tokio::test]
async fn a_store_that_has_chats_in_place_of_a_panel_is_missed_when_they_take_nothing() {
    let database = Database::fresh().await;
    let (client, pool) = store(&database).await;
    let telegram = Telegram::start().await;
    telegram.add_private(11, "Anna");
    telegram.link(&database, "7", 11, "mirror").await;
    client.batch_execute(ALWAYS).await.unwrap();
    assert_eq!(watch_with(&pool, 0.0).await.unwrap(), 1, "a panel is what is expected");
    client
        .batch_execute("update vestnik.vst_store set attended_by = 'chats'")
        .await
        .unwrap();
    assert_eq!(watch_with(&pool, 0.0).await.unwrap(), 1, "each order comes to the chat");
    for (change, back) in [
        (
            "update vestnik.vst_chat set disabled_at = now()",
            "update vestnik.vst_chat set disabled_at = null",
        ),
        (
            "update vestnik.vst_chat_link set blocked_at = now()",
            "update vestnik.vst_chat_link set blocked_at = null",
        ),
        (
            "update vestnik.vst_chat_link set mode = 'manager'",
            "update vestnik.vst_chat_link set mode = 'fallback'",
        ),
    ] {
        client.batch_execute(change).await.unwrap();
        assert_eq!(watch_with(&pool, 0.0).await.unwrap(), 1, "{change}");
        client.batch_execute(back).await.unwrap();
        assert_eq!(watch_with(&pool, 0.0).await.unwrap(), 1, "{back}");
    }
}
