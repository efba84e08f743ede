//! The migration V23 gives the statuses of an old shop their unified names, completely or not at all. The undo of V23
//! restores the old statuses.

use std::path::{Path, PathBuf};

use vestnik::infra::config::ShopSchema;
use vestnik::infra::db::Client;
use vestnik::migrate::{self, Error, MigrateOutcome};
use vestnik::sources::lookup_results::Lookups;

use super::{count, old_shop, run, vestnik};
use crate::support::db::Database;

async fn statuses(client: &Client) -> Vec<String> {
    let sql = "select 'order ' || id || ' ' || status from orders union all select 'booking ' || store_id || ' ' || status \
         from bookings order by 1";
    client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn backup_in(directory: &Path) -> PathBuf {
    let files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// The number of events that a client receives when it reads the whole journal.
async fn partner_events(database: &Database) -> usize {
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    let sources = database.sources().await;
    let history = vestnik::journal::read_history(&pool, usize::MAX).await.unwrap();
    let rows: Vec<_> = history.events.iter().collect();
    sources.current().partner_events(&rows, &Lookups::default()).len()
}

#[tokio::test]
async fn an_old_shop_is_unified_and_comes_back_byte_for_byte() {
    let (database, backups, config) = old_shop().await;
    let client = database.client().await;
    let before = statuses(&client).await;

    let (outcome, said) = run(&config).await.unwrap();
    assert_eq!(outcome, MigrateOutcome::Migrated, "{said:?}");
    let unified = [
        "booking a pending",
        "booking a preparing",
        "booking b ready",
        "order 1 pending",
        "order 2 preparing",
        "order 3 delivering",
        "order 4 completed",
        "order 5 pending",
        "order 6 preparing",
        "order 7 cancelled",
    ];
    assert_eq!(statuses(&client).await, unified);
    assert_eq!(partner_events(&database).await, 0, "V23 creates no event for clients");

    let backup = std::fs::read_to_string(backup_in(backups.path())).unwrap();
    assert!(backup.contains("COPY public.orders"), "{backup}");
    assert_eq!(backup.matches("confirmed").count(), 2, "{backup}");

    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    assert_eq!(statuses(&client).await, before);
    assert_eq!(
        partner_events(&database).await,
        0,
        "the undo creates no event for clients"
    );
    client
        .execute("insert into orders (store_id) values (9)", &[])
        .await
        .unwrap();
    assert_eq!(
        count(&client, "select count(*) from orders where status = 'new'").await,
        2,
        "the old default is back"
    );

    let (outcome, _) = run(&config).await.unwrap();
    assert_eq!(outcome, MigrateOutcome::Migrated, "V23 can be applied again");
    assert_eq!(statuses(&client).await[..3], unified[..3]);
}

#[tokio::test]
async fn rows_written_since_are_undone_as_the_old_shop_would_have_written_them() {
    let (database, _backups, config) = old_shop().await;
    let client = database.client().await;
    run(&config).await.unwrap();
    client
        .batch_execute(
            "update orders set status = 'preparing' where id in (1, 5); update orders set status = 'completed' where id = 2; \
             insert into orders (store_id, status) values (4, 'pending'), (4, 'preparing'), (4, 'rejected')",
        )
        .await
        .unwrap();
    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    let orders: Vec<String> = statuses(&client)
        .await
        .into_iter()
        .filter(|row| row.starts_with("order"))
        .collect();
    let expected = [
        "order 1 confirmed",
        "order 10 rejected",
        "order 2 completed",
        "order 3 delivering",
        "order 4 completed",
        "order 5 confirmed",
        "order 6 preparing",
        "order 7 cancelled",
        "order 8 new",
        "order 9 confirmed",
    ];
    assert_eq!(orders, expected);
    assert!(matches!(
        migrate::undo_v23(&config, &mut |_| ()).await,
        Err(Error::NotApplied)
    ));
}

#[tokio::test]
async fn the_tables_refuse_the_old_statuses_and_deliveries_that_are_none() {
    let (database, _backups, config) = old_shop().await;
    let client = database.client().await;
    run(&config).await.unwrap();
    for refused in [
        "insert into orders (store_id, status) values (1, 'new')",
        "insert into orders (store_id, status, order_type) values (1, 'delivering', 'pickup')",
        "insert into orders (store_id, status, order_type) values (1, 'delivering', null)",
        "update bookings set status = 'confirmed'",
        "update bookings set status = 'delivering'",
    ] {
        let error = client.execute(refused, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23514", "{refused}");
    }
    client
        .execute(
            "insert into orders (store_id, status, order_type) values (1, 'delivering', 'delivery')",
            &[],
        )
        .await
        .unwrap();
    let unproven = "select count(*) from pg_constraint where conname like '%status_known' and not convalidated";
    assert_eq!(count(&client, unproven).await, 0);
    let indexes = "select count(*) from pg_indexes where indexname in ('idx_orders_status_created', 'idx_bookings_status_created')";
    assert_eq!(count(&client, indexes).await, 2);
}

#[tokio::test]
async fn a_status_of_neither_list_stops_it_before_anything_is_changed() {
    let (database, backups, config) = old_shop().await;
    let client = database.client().await;
    client
        .batch_execute(
            "update orders set status = 'New' where id = 1; update bookings set status = null where store_id = 'b'; \
             insert into orders (store_id, status, order_type) values (1, 'delivering', 'pickup')",
        )
        .await
        .unwrap();
    let error = run(&config).await.unwrap_err().to_string();
    assert!(error.contains("public.orders: 1 rows with status 'New'"), "{error}");
    assert!(
        error.contains("public.orders: 1 rows with status 'delivering', though they are no deliveries"),
        "{error}"
    );
    assert!(error.contains("public.bookings: 1 rows with status null"), "{error}");
    assert_eq!(
        count(&client, "select count(*) from pg_namespace where nspname = 'vestnik'").await,
        0
    );
    assert_eq!(std::fs::read_dir(backups.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_dry_run_reports_and_changes_nothing() {
    let (database, _backups, _) = old_shop().await;
    let client = database.client().await;
    let before = statuses(&client).await;
    let output = vestnik(&database, &["migrate", "--dry-run"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("public.orders: 1 rows would change from new to pending"),
        "{said}"
    );
    assert!(
        said.contains("public.bookings: 1 rows would change from confirmed to preparing"),
        "{said}"
    );
    assert!(said.contains("would apply shop V23__unify_statuses"), "{said}");
    assert_eq!(statuses(&client).await, before);
    assert_eq!(
        count(&client, "select count(*) from pg_namespace where nspname = 'vestnik'").await,
        0
    );
}

#[tokio::test]
async fn without_a_backup_nothing_is_changed() {
    let (database, _backups, mut config) = old_shop().await;
    let client = database.client().await;
    let before = statuses(&client).await;
    config.shop.backup_directory = "/nowhere/at/all".into();
    let error = run(&config).await.unwrap_err();
    assert!(matches!(error, Error::Backup { .. }), "{error}");
    assert_eq!(statuses(&client).await, before);
}

#[tokio::test]
async fn rewritten_rows_ring_nobody_where_the_triggers_are_there_already() {
    let (database, _backups, mut config) = old_shop().await;
    config.shop.schema = ShopSchema::Own;
    run(&config).await.unwrap();
    let client = database.client().await;
    for (table, kind) in [("orders", "order"), ("bookings", "booking")] {
        let mapping = format!(
            "table = \"public.{table}\"\nkind = \"{kind}\"\nkey = \"id\"\nstore = \"store_id\"\n[status]\ncolumn = \"status\"\n\
             pending = [\"pending\", \"new\"]\npreparing = [\"preparing\", \"confirmed\"]\nready = [\"ready\"]\n"
        );
        database.attach(&mapping).await;
    }
    config.shop.schema = ShopSchema::Reference;
    run(&config).await.unwrap();
    assert_eq!(
        count(&client, "select count(*) from orders where status = 'pending'").await,
        2
    );
    assert!(
        count(&client, "select count(*) from vestnik.vst_event").await > 0,
        "they are in the journal"
    );
    assert_eq!(partner_events(&database).await, 0);
    client
        .batch_execute("update orders set status = 'ready' where id = 1")
        .await
        .unwrap();
    assert_eq!(partner_events(&database).await, 1, "later orders create events");
}

#[tokio::test]
async fn a_partitioned_shop_is_unified_and_comes_back() {
    let database = Database::empty().await;
    let client = database.client().await;
    client
        .batch_execute(
            "create table orders (id bigint, store_id bigint not null, order_type text, status text not null default 'new', \
                 created_at timestamptz not null default now()) partition by range (created_at); \
             create table orders_a partition of orders for values from ('2000-01-01') to ('2026-01-01'); \
             create table orders_b partition of orders default partition by list (store_id); \
             create table \"Orders B\" partition of orders_b default; \
             create unique index on orders (id, created_at, store_id); \
             create table bookings (id bigint primary key, store_id bigint, status text); \
             insert into orders (id, store_id, status, created_at) values (1, 1, 'new', '2025-01-01'), \
                 (2, 1, 'pending', '2025-01-01'), (4, 1, 'pending', '2027-01-01'), (3, 1, 'confirmed', '2027-01-01'), \
                 (null, 1, 'ready', '2027-01-01');",
        )
        .await
        .unwrap();
    let backups = tempfile::tempdir().unwrap();
    let mut config = database.config();
    config.shop.backup_directory = backups.path().to_owned();
    let statuses = "select string_agg(concat(id, status), ' ' order by id, created_at) from orders";
    let statuses = async || client.query_one(statuses, &[]).await.unwrap().get::<_, String>(0);

    run(&config).await.unwrap();
    assert_eq!(statuses().await, "1pending 2pending 3preparing 4pending ready");
    let indexes = "select count(*) from pg_partition_tree('idx_orders_status_created') where isleaf";
    assert_eq!(count(&client, indexes).await, 2, "the partitions' indexes are its own");

    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    assert_eq!(statuses().await, "1new 2pending 3confirmed 4pending ready");
}

#[tokio::test]
async fn the_defaults_of_before_come_back_whatever_they_were() {
    let (database, _backups, config) = old_shop().await;
    let client = database.client().await;
    client
        .batch_execute("alter table orders alter status set default lower('CONFIRMED')")
        .await
        .unwrap();
    run(&config).await.unwrap();
    let defaults = "select string_agg(table_name || ' ' || coalesce(column_default, 'none'), ', ' order by table_name desc) \
         from information_schema.columns where table_schema = 'public' and column_name = 'status'";
    let defaults = async || client.query_one(defaults, &[]).await.unwrap().get::<_, String>(0);
    let unified = "orders 'pending'::text, bookings 'pending'::character varying";
    assert_eq!(defaults().await, unified);
    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    assert_eq!(defaults().await, "orders lower('CONFIRMED'::text), bookings none");
    let kept = "select count(*) from pg_tables where schemaname = 'vestnik' and tablename like 'before%'";
    assert_eq!(count(&client, kept).await, 0, "nothing is left behind");
}

#[tokio::test]
async fn what_was_broken_off_is_gone_on_with_or_undone() {
    // This trigger makes the migration fail in the middle. While orders with the status `new` exist, the trigger raises
    // no error. V23 changes the orders first, so the trigger raises its error when V23 changes the bookings.
    const SABOTAGE: &str = "create function sabotage() returns trigger language plpgsql as $$ begin \
             if exists (select from orders where status = 'new') then return new; end if; raise exception 'no'; end $$; \
         create trigger sabotage before update on bookings for each row execute function sabotage();";
    let (database, _backups, config) = old_shop().await;
    let client = database.client().await;
    let before = statuses(&client).await;
    client.batch_execute(SABOTAGE).await.unwrap();
    assert!(run(&config).await.is_err());
    assert_ne!(statuses(&client).await, before, "the orders are rewritten already");
    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    assert_eq!(
        statuses(&client).await,
        before,
        "the undo of an incomplete migration restores the statuses"
    );

    client.batch_execute("drop trigger sabotage on bookings").await.unwrap();
    run(&config).await.unwrap();
    let unified = statuses(&client).await;
    client
        .batch_execute(
            "create or replace function sabotage() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$; \
             create trigger sabotage before update on bookings for each row execute function sabotage()",
        )
        .await
        .unwrap();
    for _ in 0..2 {
        assert!(migrate::undo_v23(&config, &mut |_| ()).await.is_err());
    }
    client.batch_execute("drop trigger sabotage on bookings").await.unwrap();
    run(&config).await.unwrap();
    assert_eq!(
        statuses(&client).await,
        unified,
        "a migration after an incomplete undo unifies the statuses"
    );
    let constraints = "select count(*) from pg_constraint where conname like '%status_known' and convalidated";
    assert_eq!(count(&client, constraints).await, 2);
    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    assert_eq!(statuses(&client).await, before, "the second undo restores the statuses");
}

#[tokio::test]
async fn v23_itself_reads_by_the_index() {
    let (database, _backups, config) = old_shop().await;
    let client = database.client().await;
    client
        .batch_execute(
            "insert into orders (store_id, status) select 1, 'new' from generate_series(1, 50000); analyze orders",
        )
        .await
        .unwrap();
    run(&config).await.unwrap();
    let rows = client
        .query(
            "explain update orders set status = 'pending' where status in ('new', 'confirmed')",
            &[],
        )
        .await
        .unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("idx_orders_status_created"), "{plan}");
}

#[tokio::test]
async fn a_dry_run_refuses_what_a_run_would() {
    let database = Database::fresh().await;
    let newer = "insert into vestnik.vst_shop_history select 99, 'from_the_future', applied_on, checksum from vestnik.vst_shop_history limit 1";
    database.client().await.batch_execute(newer).await.unwrap();
    let output = vestnik(&database, &["migrate", "--dry-run"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("V99__from_the_future"), "{error}");
}
