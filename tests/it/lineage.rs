//! Cursors after Postgres has lost events, for example after a restore. The engine must refuse the cursor of a lost
//! event, even when new events have the transaction ids of the lost events.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::time::timeout;
use vestnik::domain::cursor::{Cursor, Unusable};
use vestnik::domain::store_set::StoreSet;
use vestnik::infra::db;
use vestnik::journal::{self, Page, Reader, Start};

use crate::field_cases::engine_role;
use crate::support::app::{App, PATIENCE};
use crate::support::db::{Database, Server};

const ORDERS: &str = "insert into orders (store_id) select 7 from generate_series(1, 5)";

async fn write(database: &Database, times: usize) {
    let client = database.client().await;
    for _ in 0..times {
        client.batch_execute(ORDERS).await.unwrap();
    }
}

/// The ids of the events that a client with this cursor receives, or the reason why the engine refuses the cursor.
async fn told(database: &Database, cursor: &str) -> Result<Vec<i64>, Unusable> {
    let pool = db::pool(&database.config().database).unwrap();
    let store = StoreSet::One(vestnik::domain::event::StoreId::new("7"));
    match journal::read_page(&pool, &store, Start::After(cursor), 500)
        .await
        .unwrap()
    {
        Page::Events { events, .. } => Ok(events.iter().map(|event| event.event.id.0).collect()),
        Page::Resync { reason, .. } => Err(reason),
    }
}

/// The current cursor of a node that starts now.
async fn cursor(database: &Database) -> String {
    let reader = Reader::connect(&database.config().database).await.unwrap();
    Cursor::At(reader.now().await.unwrap()).encode(reader.epoch())
}

async fn newest_id(database: &Database) -> i64 {
    let newest = "select max(id) from vestnik.vst_event";
    database.client().await.query_one(newest, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_put_back_refuses_the_cursors_of_what_it_lost_and_gives_no_id_again() {
    let mut server = Server::start(&[]);
    let database = Database::on(&server).await;
    write(&database, 1).await;
    let kept = cursor(&database).await;
    server.keep();
    write(&database, 2).await;
    let (lost, lost_id) = (cursor(&database).await, newest_id(&database).await);
    server.put_back();
    // Write more events than were lost, before any node has noticed the restore. The new events have the transaction
    // ids of the lost events.
    write(&database, 10).await;
    assert_eq!(
        told(&database, &lost).await,
        Err(Unusable::Epoch),
        "no node has noticed the restore yet"
    );
    assert_eq!(told(&database, &kept).await.map(|ids| ids.len()), Ok(50));
    let before = newest_id(&database).await;
    let here = cursor(&database).await;
    write(&database, 1).await;
    assert_eq!(told(&database, &lost).await, Err(Unusable::Epoch));
    assert_eq!(
        told(&database, &kept).await.map(|ids| ids.len()),
        Ok(55),
        "a cursor of kept events stays valid"
    );
    assert_eq!(told(&database, &here).await.map(|ids| ids.len()), Ok(5));
    assert!(
        newest_id(&database).await > before.max(lost_id) + 1_000_000 - 1,
        "new events get no id of a lost event"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_loses_nothing_keeps_every_cursor_and_every_session() {
    let mut server = Server::start(&[]);
    let app = App::start_on(Database::on(&server).await, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write(ORDERS).await;
    let mut event = Value::Null;
    for _ in 0..5 {
        event = panel.event().await;
    }
    for _ in 0..2 {
        let since = Instant::now();
        server.restart();
        app.write(ORDERS).await;
        for _ in 0..5 {
            let event = app.event_after_failure(&mut panel, "7", since).await;
            assert_eq!(event["type"], "new_order");
        }
    }
    let cursor = event["cursor"].as_str().unwrap();
    assert_eq!(told(&app.database, cursor).await.map(|ids| ids.len()), Ok(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_only_the_documented_rights_goes_on_after_a_restart_of_postgres() {
    let mut server = Server::start(&[]);
    let database = Database::on(&server).await;
    let url = engine_role(
        &database,
        "vestnik_test_restart",
        "grant select, update on orders to ROLE",
    )
    .await;
    let app = App::start_on(Database::at(url.into()), |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    server.restart();
    write(&database, 1).await;
    for _ in 0..5 {
        assert_eq!(panel.event().await["type"], "new_order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_running_node_start_over_when_a_snapshot_is_put_back() {
    let mut server = Server::start(&[]);
    let app = App::start_on(Database::on(&server).await, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    let since = Instant::now();
    server.keep();
    app.write(ORDERS).await;
    let mut lost = Value::Null;
    for _ in 0..5 {
        lost = app.event_after_failure(&mut panel, "7", since).await;
    }
    server.put_back();
    let closed = loop {
        match panel.message().await {
            Ok(message) => assert!(message["data"].is_null(), "{message}"),
            Err(code) => break code,
        }
    };
    assert_eq!(closed, 1012);
    app.until_ready().await;
    app.write(ORDERS).await;
    let panel = app.panel("7", lost["cursor"].as_str()).await.live().await;
    let resync = &panel.before_live[0];
    assert_eq!(
        (&resync["type"], &resync["reason"]),
        (&json!("resync_required"), &json!("epoch"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_node_has_seen_and_that_is_not_the_same_any_more_ends_the_line() {
    let changes = [
        "update vestnik.vst_event set at = at + interval '1 second'",
        "update vestnik.vst_event set xid = '3'",
        "delete from vestnik.vst_event",
    ];
    for change in changes {
        let database = Database::fresh().await;
        write(&database, 1).await;
        let before = cursor(&database).await;
        let mut reader = Reader::connect(&database.config().database).await.unwrap();
        let (seen, read, epoch) = (
            reader.witness().await.unwrap(),
            reader.now().await.unwrap(),
            reader.epoch(),
        );
        assert!(reader.continues(epoch, &read, &seen).await.unwrap());
        database.client().await.batch_execute(change).await.unwrap();
        assert!(!reader.continues(epoch, &read, &seen).await.unwrap(), "{change}");
        assert_ne!(reader.epoch(), epoch);
        assert_eq!(told(&database, &before).await, Err(Unusable::Epoch), "{change}");
        // After a loss of events, a node begins a new line of history, with a new epoch. Another node that notices the
        // same loss does not begin a second line.
        let mut other = Reader::connect(&database.config().database).await.unwrap();
        let now = other.epoch();
        assert!(!other.continues(epoch, &read, &seen).await.unwrap());
        assert_eq!((other.epoch(), reader.epoch()), (now, now));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_of_the_last_commit_is_noticed_although_its_transaction_began_before_a_kept_one() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let client = app.database.client().await;
    client
        .batch_execute("begin; insert into orders (store_id, customer_name) values (7, 'Anna')")
        .await
        .unwrap();
    app.write("insert into orders (store_id, customer_name) values (7, 'Boris')")
        .await;
    assert_eq!(panel.event().await["data"]["customer_name"], "Boris");
    client.batch_execute("commit").await.unwrap();
    assert_eq!(panel.event().await["data"]["customer_name"], "Anna");
    app.write(
        "delete from vestnik.vst_event where data::text like '%Anna%'; \
         select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'vestnik feed' and datname = current_database()",
    )
    .await;
    let ended = timeout(PATIENCE, async { while panel.message().await.is_ok() {} });
    ended.await.expect("every session starts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_finds_a_loss_later_keeps_the_line_that_another_node_has_begun() {
    let database = Database::fresh().await;
    write(&database, 1).await;
    let before = cursor(&database).await;
    let reader = Reader::connect(&database.config().database).await.unwrap();
    let (seen, read, epoch) = (
        reader.witness().await.unwrap(),
        reader.now().await.unwrap(),
        reader.epoch(),
    );
    // The database loses the event. Another node then closes the earlier line, and begins a new one.
    let lose = "delete from vestnik.vst_event; update vestnik.vst_lineage set through = '9000000'; \
         insert into vestnik.vst_lineage default values";
    database.client().await.batch_execute(lose).await.unwrap();
    let begun = cursor(&database).await;
    let mut late = Reader::connect(&database.config().database).await.unwrap();
    let line = late.epoch();
    assert_ne!(line, epoch);
    assert!(!late.continues(epoch, &read, &seen).await.unwrap());
    assert_eq!(late.epoch(), line);
    assert_eq!(told(&database, &begun).await, Ok(vec![]));
    assert_eq!(told(&database, &before).await, Err(Unusable::Epoch));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_node_has_seen_and_that_was_trimmed_ends_no_line() {
    let database = Database::fresh().await;
    write(&database, 1).await;
    let mut reader = Reader::connect(&database.config().database).await.unwrap();
    let (seen, read, epoch) = (
        reader.witness().await.unwrap(),
        reader.now().await.unwrap(),
        reader.epoch(),
    );
    let old = "update vestnik.vst_event set at = now() - interval '40 days'";
    database.client().await.batch_execute(old).await.unwrap();
    let pool = db::pool(&database.config().database).unwrap();
    journal::trim_batch(&pool, std::time::Duration::from_secs(30 * 24 * 3600))
        .await
        .unwrap();
    assert!(reader.continues(epoch, &read, &seen).await.unwrap());
    let mut after = seen.clone();
    after.read(&[]);
    assert_eq!(after, seen, "a read without events changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_notices_a_line_that_another_node_began_though_its_connection_goes_on() {
    let database = Database::fresh().await;
    let reader = Reader::connect(&database.config().database).await.unwrap();
    let read = reader.now().await.unwrap();
    assert!(reader.news(&read).await.is_ok());
    let another = "update vestnik.vst_lineage set through = '0'; insert into vestnik.vst_lineage default values";
    database.client().await.batch_execute(another).await.unwrap();
    assert!(matches!(reader.news(&read).await, Err(journal::Error::NewLine)));
    assert!(matches!(reader.backlog(&read).await, Err(journal::Error::NewLine)));
}
