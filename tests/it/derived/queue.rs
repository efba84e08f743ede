//! The queue of changes: no order, and no number of orders, stops it or keeps the others waiting.

use crate::support::app::App;
use crate::support::db::Database;

const BILLS: &str = "create table bills (id bigint primary key, shop text, state text, guests text); \
    create table notes (entity text, note text)";
const MAPPING: &str = "table = 'public.bills'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = 'o.state'\n\
    comment = '(select n.note from notes n where n.entity = o.id::text limit 1)'\n\
    [[derived.watch]]\ntable = 'notes'\ncolumn = 'entity'\n";
const SETTLED: &str = "select not exists (select from vestnik.vst_change)";
/// A text of 4,800 characters that cannot be compressed.
const LONG: &str = "(select string_agg(md5(n::text), '') from generate_series(1, 150) n)";

/// A database with these tables, attached by this mapping.
async fn attached(tables: &str, mapping: &str) -> Database {
    let database = Database::fresh().await;
    database.client().await.batch_execute(tables).await.unwrap();
    database.attach(mapping).await;
    database
}

/// The lines of the health report about derived sources.
async fn troubles(database: &Database) -> String {
    let sources = vestnik::sources::health::check(&database.client().await).await.unwrap();
    let lines = sources.into_iter().flat_map(|source| source.troubles);
    lines.collect::<Vec<String>>().join("\n")
}

/// The name of the projection table of the source with this table.
async fn projection(database: &Database, table: &str) -> String {
    const NAME: &str = "select 'vestnik.vst_projection_' || id from vestnik.vst_source where table_name = $1";
    let row = database.client().await.query_one(NAME, &[&table]).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_status_or_a_store_that_is_too_long_for_an_index_delays_no_other_order() {
    let database = attached(BILLS, MAPPING).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write(&format!("insert into bills values (1, '7', 'error: ' || {LONG})"))
        .await;
    let event = panel.event().await;
    assert_eq!(event["type"], "new_order");
    app.write(&format!("insert into bills values (2, {LONG}, 'pending')"))
        .await;
    app.write("insert into bills values (3, '7', 'pending')").await;
    assert_eq!(panel.event().await["data"]["order_id"], "3");
    let said = troubles(&app.database).await;
    assert!(
        said.contains("open orders have no store") && said.contains("the newest with key 2"),
        "{said}"
    );
}

#[tokio::test]
async fn a_truncated_table_with_many_open_orders_stops_nothing() {
    let database = attached(BILLS, MAPPING).await;
    let app = App::start_on(database, |_| ()).await;
    app.database.until(SETTLED).await;
    let projection = projection(&app.database, "public.bills").await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write(&format!(
        "insert into {projection} (key, store_id, status, created_at, data, shop_status) \
         select n::text, '9', 'pending', now(), '{{}}', 'pending' from generate_series(1, 100000) n"
    ))
    .await;
    app.write("truncate notes").await;
    app.write("insert into bills values (1000001, '7', 'pending')").await;
    assert_eq!(panel.event().await["data"]["order_id"], "1000001");
    app.database
        .until("select not exists (select from vestnik.vst_change where watch > 0)")
        .await;
    app.write("insert into bills values (1000002, '7', 'pending')").await;
    assert_eq!(panel.event().await["data"]["order_id"], "1000002");
}
