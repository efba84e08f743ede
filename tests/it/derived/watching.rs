//! What `source check` says about the watched tables of a mapping: whether their rows lead to orders.

use super::attaching::{ORDER, spree, vestnik};
use super::shop::mapping;
use crate::support::db::Database;

/// The output of `source check` for a mapping without errors.
async fn check(database: &Database, mapping: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mapping).unwrap();
    let (code, said) = vestnik(database, &["source", "check", file.path().to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{said}");
    said
}

#[tokio::test]
async fn keys_that_are_no_keys_of_orders_are_named() {
    let database = spree().await;
    let client = database.client().await;
    client.batch_execute(ORDER).await.unwrap();
    let right = mapping("spree");
    let wrong = right.replace("keys = \"select id from", "keys = \"select number from");
    assert!(
        !check(&database, &wrong).await.contains("derived.watch of"),
        "no address yet"
    );
    let address = "insert into spree_addresses (id, firstname, created_at, updated_at) values (7, 'Ann', now(), now()); update spree_orders set ship_address_id = 7";
    client.batch_execute(address).await.unwrap();
    let said = check(&database, &wrong).await;
    let named = "warning: derived.watch of spree_addresses: keys: gives `R1` for the newest rows, and public.spree_orders has no row with that id";
    assert!(said.contains(named), "{said}");
    assert!(!check(&database, &right).await.contains("derived.watch of"));

    let other = right.replace(
        "ship_address_id = any ($1::bigint[])",
        "bill_address_id = any ($1::bigint[])",
    );
    let said = check(&database, &other).await;
    let named = "warning: derived.watch of spree_addresses: keys: finds no order for the newest row";
    assert!(said.contains(named), "{said}");

    let fails = right.replace("$1::bigint[])\"", "$1::bigint[]) and 1 / (id - id) = 1\"");
    let said = check(&database, &fails).await;
    let named = "warning: derived.watch of spree_addresses: keys: division by zero";
    assert!(said.contains(named), "{said}");
}

#[tokio::test]
async fn a_watched_column_without_the_keys_of_orders_is_named() {
    let database = Database::fresh().await;
    let tables = "create table customer (id int primary key, name text); \
        create table purchase (id int primary key, shop int, customer int); \
        create table line (id int primary key, purchase text); \
        insert into customer values (501, 'Ann'); insert into purchase values (1, 7, 501)";
    let client = database.client().await;
    client.batch_execute(tables).await.unwrap();
    let with = |table: &str, column: &str| {
        format!(
            "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
             from = 'left join customer u on u.id = o.customer'\ncustomer_name = 'u.name'\n\
             [[derived.watch]]\ntable = '{table}'\ncolumn = '{column}'\n"
        )
    };
    let said = check(&database, &with("customer", "id")).await;
    let named = "warning: derived.watch of customer: its column id has `501` in the newest rows, and public.purchase has no row with that id: \
        a query in `keys` finds the keys of the orders";
    assert!(said.contains(named), "{said}");
    assert!(
        !check(&database, &with("line", "purchase"))
            .await
            .contains("derived.watch of line")
    );
    let rows = "insert into line select n, 'none' from generate_series(1, 9) n; insert into line values (10, '1')";
    client.batch_execute(rows).await.unwrap();
    let said = check(&database, &with("line", "purchase")).await;
    assert!(!said.contains("derived.watch of line"), "{said}");
    client.batch_execute("delete from line where id = 10").await.unwrap();
    let said = check(&database, &with("line", "purchase")).await;
    assert!(
        said.contains("its column purchase has `none` in the newest rows"),
        "{said}"
    );
}

#[tokio::test]
async fn a_watched_table_whose_name_is_no_sql_is_named() {
    let database = spree().await;
    let client = database.client().await;
    client
        .batch_execute("create table \"Line Items\" (id int, order_id bigint)")
        .await
        .unwrap();
    for (wrong, hint) in [
        ("Line Items", "did you mean table = 'public.\"Line Items\"'?"),
        ("a.b.c.d", "`\\dt *.*` in psql lists them"),
    ] {
        let mapping = mapping("spree").replace("table = \"spree_line_items\"", &format!("table = '{wrong}'"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &mapping).unwrap();
        let (code, said) = vestnik(&database, &["source", "check", file.path().to_str().unwrap()]).await;
        let named = format!("derived.watch of {wrong}: there is no table");
        assert!(
            code == Some(2) && said.contains(&named) && said.contains(hint),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_foreign_key_proves_that_a_watched_column_holds_the_keys_of_orders() {
    let database = Database::fresh().await;
    let tables = "create table receipts (id text primary key, money text); \
        create table tickets (id text primary key references receipts, shop int); \
        create table notes (id text primary key references tickets, note text); \
        create table names (id text primary key, name text)";
    database.client().await.batch_execute(tables).await.unwrap();
    let check = async |table: &str| {
        let mapping = format!(
            "table = 'public.tickets'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
             from = 'left join {table} r on r.id = o.id'\n[derived.extra]\n\"Row\" = 'r.id'\n\
             [[derived.watch]]\ntable = '{table}'\ncolumn = 'id'\n"
        );
        check(&database, &mapping).await
    };
    for proven in ["receipts", "notes"] {
        let said = check(proven).await;
        assert!(!said.contains("without `keys`"), "{said}");
    }
    let said = check("names").await;
    assert!(
        said.contains("derived.watch of names: without `keys`, its column id must hold the order's key"),
        "{said}"
    );
}

#[tokio::test]
async fn a_watched_column_beside_the_one_with_the_foreign_key_is_doubted() {
    let database = spree().await;
    let client = database.client().await;
    client
        .batch_execute("alter table spree_line_items add foreign key (order_id) references spree_orders (id)")
        .await
        .unwrap();
    let right = mapping("spree");
    let wrong = right.replacen("column = \"order_id\"", "column = \"variant_id\"", 1);
    assert_ne!(wrong, right);
    let said = check(&database, &wrong).await;
    let named = "column variant_id has no foreign key to public.spree_orders, and column order_id has one: \
         if that holds the order's key, write column = \"order_id\"";
    assert!(said.contains(named), "{said}");
    assert!(!check(&database, &right).await.contains("has no foreign key"));
}

#[tokio::test]
async fn a_watched_column_that_is_gone_is_reported_until_it_is_back() {
    let database = spree().await;
    database.attach(&mapping("spree")).await;
    let client = database.client().await;
    let rename = |from: &str, to: &str| format!("alter table spree_line_items rename {from} to {to}");
    client.batch_execute(&rename("order_id", "ord_id")).await.unwrap();
    let troubles = async || {
        let sources = vestnik::sources::health::check(&client).await.unwrap();
        let lines = sources.into_iter().flat_map(|source| source.troubles);
        lines
            .filter(|line| line.contains("has no column"))
            .collect::<Vec<String>>()
    };
    let lines = troubles().await;
    assert!(
        lines.len() == 1 && lines[0].contains("spree_line_items has no column order_id now"),
        "{lines:?}"
    );
    client.batch_execute(&rename("ord_id", "order_id")).await.unwrap();
    assert_eq!(troubles().await, [""; 0]);
}

/// Rows of a bulk write. If the trigger compared each row with each other row, the write would take hours.
const MANY_ROWS: usize = 20_000;

#[tokio::test]
async fn a_bulk_update_after_an_update_of_one_row_compares_no_row_with_all_others() {
    let database = spree().await;
    database.attach(&mapping("spree")).await;
    let client = database.client().await;
    let orders = format!(
        "insert into spree_orders (id, number, state, store_id, created_at, updated_at) \
         select n, 'R' || n, 'cart', 1, now(), now() from generate_series(1000, 999 + {MANY_ROWS}) n"
    );
    client.batch_execute(&orders).await.unwrap();
    let of_one = "update spree_orders set special_instructions = 'one' where id = 1000";
    client.batch_execute(of_one).await.unwrap();
    client.batch_execute("set statement_timeout = '60s'").await.unwrap();
    for column in ["special_instructions = 'all'", "updated_at = now()"] {
        let of_all = format!("update spree_orders set {column}");
        client.batch_execute(&of_all).await.unwrap();
    }
}
