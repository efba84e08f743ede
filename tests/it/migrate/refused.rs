//! Properties of a shop's tables that prevent the migration V23. The program reports each of them before it writes
//! anything.

use vestnik::migrate;

use super::{count, old_shop, run, vestnik};
use crate::support::db::Database;

/// Applies `change` to an old shop, and migrates. Asserts that the migration and its dry run are refused with the same
/// error, and change nothing. Returns the database and the error.
async fn refused(change: &str) -> (Database, String) {
    let (database, backups, config) = old_shop().await;
    let client = database.client().await;
    client.batch_execute(change).await.unwrap();
    let output = vestnik(&database, &["migrate", "--dry-run"]);
    let dry = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{change}: {dry}");
    let error = run(&config).await.expect_err(change).to_string();
    assert!(dry.contains(&error), "{change}: {dry} {error}");
    let made = "select count(*) from pg_namespace where nspname = 'vestnik'";
    assert_eq!(count(&client, made).await, 0, "{change}");
    assert_eq!(std::fs::read_dir(backups.path()).unwrap().count(), 0, "{change}");
    (database, error)
}

/// Changes that prevent V23, each with the statement that the error suggests. An empty statement means that only the
/// shop can find a solution.
const REFUSED: [(&str, &str); 9] = [
    (
        "alter table orders add constraint words check (status in ('new', 'confirmed', 'pending', 'delivering', 'completed', 'cancelled', 'preparing') \
             and (status <> 'preparing' or total is not null)) not valid",
        "alter table public.orders drop constraint words",
    ),
    (
        "delete from bookings; alter table bookings add constraint \"Words\" check (status in ('new', 'confirmed', 'ready'))",
        "alter table public.bookings drop constraint \"Words\"",
    ),
    (
        "create table states (name text primary key); insert into states select distinct status from orders where status <> 'pending'; \
         update orders set status = 'new' where status = 'pending'; alter table orders add foreign key (status) references states",
        "insert into states (name) values ('pending')",
    ),
    (
        "create function keep() returns trigger language plpgsql as 'begin new.status := old.status; return new; end'; \
         create trigger frozen before update on orders for each row execute function keep()",
        "alter table public.orders disable trigger frozen",
    ),
    (
        "create function refuse() returns trigger language plpgsql as 'begin raise exception ''not so''; end'; \
         create trigger frozen before update on orders for each row execute function refuse()",
        "alter table public.orders disable trigger frozen",
    ),
    (
        "alter table orders rename store_id to \"storeId\"",
        "alter table public.orders rename column \"storeId\" to store_id",
    ),
    (
        "alter table orders add constraint orders_status_known check (id > 0)",
        "alter table public.orders rename constraint orders_status_known to orders_status_known_of_shop",
    ),
    (
        "create index idx_orders_status_created on orders (store_id)",
        "alter index public.idx_orders_status_created rename to idx_orders_status_created_of_shop",
    ),
    (
        "create table idx_bookings_status_created ()",
        "alter table public.idx_bookings_status_created rename to idx_bookings_status_created_of_shop",
    ),
];

#[tokio::test]
async fn what_would_refuse_it_is_found_before_anything_is_written_with_the_line_that_mends_it() {
    for (change, mend) in REFUSED {
        let (database, error) = refused(change).await;
        assert!(error.contains(mend), "{change}: {error}");
        // After the suggested statement, the migration is possible.
        let client = database.client().await;
        client.batch_execute(mend).await.unwrap();
        let output = vestnik(&database, &["migrate", "--dry-run"]);
        assert!(output.status.success(), "{change}: {output:?}");
    }
}

#[tokio::test]
async fn undoing_what_was_broken_off_drops_nothing_of_the_shops() {
    let (database, _backups, config) = old_shop().await;
    let client = database.client().await;
    run(&config).await.unwrap();
    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    client
        .batch_execute(
            "create table vestnik.vst_before_v23 (table_name text, row_id text, old_status text); \
             alter table orders add constraint orders_status_known check (id > 0)",
        )
        .await
        .unwrap();
    migrate::undo_v23(&config, &mut |_| ()).await.unwrap();
    let kept = "select count(*) from pg_constraint where conname = 'orders_status_known'";
    assert_eq!(count(&client, kept).await, 1);
}
