//! Amounts of the newest rows: the mistakes that `source check`, `attach` and `source edit` name.

use super::attaching::vestnik;
use crate::support::db::Database;

/// Runs a command for a file with this mapping.
async fn run(database: &Database, arguments: &[&str], mapping: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mapping).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, said) = vestnik(database, &[arguments, &[path]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    said
}

#[tokio::test]
async fn minor_units_over_amounts_with_a_fraction_are_named() {
    let database = Database::fresh().await;
    let tables = "create table purchase (id int primary key, shop int, total numeric(10, 2), cash text); \
        create table purchase_line (id serial primary key, order_id int, name text, price numeric(10, 2)); \
        insert into purchase values (1, 7, 24.99, '50'), (2, 7, 24, '20.50'), (3, 7, 10.25, null), (4, 7, 7, null); \
        insert into purchase_line (order_id, name, price) values (3, 'Tea', 2.50), (3, 'Cake', 7.75), (4, 'Tea', 7)";
    database.client().await.batch_execute(tables).await.unwrap();
    let mapping = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
        unit = 'minor'\ntotal = 'o.total'\nchange_from = 'o.cash'\ncurrency = \"'GBP'\"\n\
        items = 'select l.name, 1 as quantity, l.price from purchase_line l where l.order_id = o.id order by l.id'\n\
        [[derived.watch]]\ntable = 'purchase_line'\ncolumn = 'order_id'\n";
    for arguments in [&["source", "check"][..], &["attach", "--map"]] {
        let said = run(&database, arguments, mapping).await;
        for warning in [
            "warning: derived.total: 2 of the newest rows have a fraction, and `unit = \"minor\"` counts cents: 10.25 is read as 10 cents: \
             write unit = \"major\" where 10.25 is an amount of that size",
            "warning: derived.change_from: 1 of the newest rows has a fraction",
            "warning: derived.items: price: 1 of the newest rows has a fraction, and `unit = \"minor\"` counts cents: 2.5 is read as ",
        ] {
            assert!(said.contains(warning), "{warning} is not in {said}");
        }
    }
    let major = mapping.replace("unit = 'minor'", "unit = 'major'");
    assert!(!run(&database, &["source", "check"], &major).await.contains("fraction"));
    let direct = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\nstore = 'shop'\n[status]\ncolumn = 'cash'\npending = ['50']\n\
        [items]\ntable = 'public.purchase_line'\norder_key = 'order_id'\nname = 'name'\nprice = { column = 'price', unit = 'minor' }\n";
    let said = run(&database, &["source", "check"], direct).await;
    let warning = "warning: items.price: 2 of the newest rows have a fraction, and `unit = \"minor\"` counts cents: 2.50 is read as ";
    assert!(said.contains(warning), "{said}");
}
