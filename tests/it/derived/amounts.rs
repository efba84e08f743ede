//! Amounts and currencies of the newest rows: the mistakes that `source check`, `attach` and `source edit` name.

use super::attaching::vestnik;
use crate::support::app::App;
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

#[tokio::test]
async fn the_key_of_a_currency_is_not_advised_as_a_currency() {
    let database = Database::fresh().await;
    let tables = "create table res_currency (id int primary key, name text); \
        create table sale_order (id int primary key, shop int, state text, total numeric(10, 2), \
            currency int references res_currency); \
        create table numbered (id int primary key, shop int, state text, total numeric(10, 2), currency_no int); \
        create table worded (id int primary key, shop int, state text, total numeric(10, 2), currency_id int references res_currency, \
            pay_currency text); \
        insert into res_currency values (1, 'GBP'); insert into sale_order values (1, 7, 'new', 5, 1); \
        insert into numbered values (1, 7, 'new', 5, 826); insert into worded values (1, 7, 'new', 5, 1, 'GBP')";
    database.client().await.batch_execute(tables).await.unwrap();
    let direct = |table: &str| {
        format!(
            "table = 'public.{table}'\nkind = 'order'\nkey = 'id'\nstore = 'shop'\n[status]\ncolumn = 'state'\npending = ['new']\n\
             [fields]\ntotal = {{ column = 'total', unit = 'major' }}\n"
        )
    };
    let derived = |table: &str| {
        format!(
            "table = 'public.{table}'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\ntotal = 'o.total'\n"
        )
    };
    let check = async |mapping: String| run(&database, &["source", "check"], &mapping).await;
    let leads =
        "amounts are shown in RUB; the table has a column currency, which is a key of public.res_currency and no code";
    let said = check(direct("sale_order")).await;
    let remedy =
        "write a section [derived] that looks the code up (docs/derived-sources.md), or set the store's currency";
    assert!(said.contains(leads) && said.contains(remedy), "{said}");
    assert!(!said.contains("currency_column"), "{said}");
    let said = check(derived("sale_order")).await;
    let remedy = "join public.res_currency in `from`, and let `currency` be its column with the code of three letters, or set the store's currency";
    assert!(said.contains(leads) && said.contains(remedy), "{said}");
    assert!(!said.contains("o.currency"), "{said}");
    let said = check(direct("numbered")).await;
    assert!(
        said.contains("a column currency_no, which is a number and no code"),
        "{said}"
    );
    assert!(!said.contains("currency_column"), "{said}");
    let said = check(direct("worded")).await;
    assert!(
        said.contains("write currency_column = \"pay_currency\" of `total`"),
        "{said}"
    );

    let proposed = vestnik(&database, &["attach", "--dry-run", "--table", "sale_order"])
        .await
        .1;
    assert!(!proposed.contains("currency_column"), "{proposed}");
}

#[tokio::test]
async fn the_code_of_a_currency_that_is_the_key_of_its_table_is_advised_as_a_currency() {
    let database = Database::fresh().await;
    let tables = "create table currency (code text primary key); insert into currency values ('eur'), ('usd'); \
        create table cart (id int primary key, shop int, state text, total numeric(10, 2), currency_code text references currency); \
        create table money (id text primary key); insert into money values ('cur_01'); \
        create table keyed (id int primary key, shop int, state text, total numeric(10, 2), currency_code text references money); \
        insert into cart values (1, 7, 'new', 5, 'eur'), (2, 7, 'new', 5, null), (3, 7, 'new', 5, 'usd'); insert into keyed values (1, 7, 'new', 5, 'cur_01')";
    database.client().await.batch_execute(tables).await.unwrap();
    let direct = |table: &str| {
        format!(
            "table = 'public.{table}'\nkind = 'order'\nkey = 'id'\nstore = 'shop'\n[status]\ncolumn = 'state'\npending = ['new']\n\
             [fields]\ntotal = {{ column = 'total', unit = 'major' }}\n"
        )
    };
    let said = run(&database, &["source", "check"], &direct("cart")).await;
    let words = "the table has a column currency_code, so write currency_column = \"currency_code\" of `total`";
    assert!(said.contains(words) && !said.contains("no code"), "{said}");
    let derived = "table = 'public.cart'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\ntotal = 'o.total'\n";
    let said = run(&database, &["source", "check"], derived).await;
    assert!(said.contains("so write currency = 'o.\"currency_code\"'"), "{said}");
    let said = run(&database, &["source", "check"], &direct("keyed")).await;
    assert!(said.contains("which is a key of public.money and no code"), "{said}");
}

#[tokio::test]
async fn a_total_and_prices_that_count_different_units_are_named() {
    let database = Database::fresh().await;
    let tables = "create table purchase (id int primary key, shop int); \
        create table purchase_line (id serial primary key, order_id int, name text, price bigint); \
        insert into purchase values (1, 7); insert into purchase_line (order_id, name, price) values (1, 'Tea', 250), (1, 'Cake', 775)";
    database.client().await.batch_execute(tables).await.unwrap();
    let mapping = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
        total = '(select sum(l.price) from purchase_line l where l.order_id = o.id)'\ncurrency = \"'GBP'\"\n\
        items = 'select l.name, 1 as quantity, l.price as price from purchase_line l where l.order_id = o.id order by l.id'\n\
        [[derived.watch]]\ntable = 'purchase_line'\ncolumn = 'order_id'\n";
    let words = "derived.unit: without `unit` the types decide, and the amounts contradict each other 100-fold: \
        total (`(select sum(l.price) from purchase_line l where l.order_id = o.id)`, numeric) counts major units, and \
        items.price (`l.price`, bigint) counts cents: write unit = \"minor\"";
    for arguments in [&["source", "check"][..], &["attach", "--map"]] {
        let said = run(&database, arguments, mapping).await;
        assert!(said.contains(words), "{words} is not in {said}");
    }
    for agreed in [
        mapping.replace("status = ", "unit = 'minor'\nstatus = "),
        mapping.replace("l.order_id = o.id)'\ncurrency", "l.order_id = o.id)::bigint'\ncurrency"),
    ] {
        let said = run(&database, &["source", "check"], &agreed).await;
        assert!(!said.contains("derived.unit"), "{said}");
    }
}

#[tokio::test]
async fn an_amount_of_a_domain_counts_as_the_type_below_it() {
    let database = Database::fresh().await;
    let tables = "create domain cents as integer; create domain price as cents; \
        create domain euros as numeric(10, 2); \
        create table purchase (id int primary key, shop int, total price, cash euros); \
        insert into purchase values (1, 7, 1250, 20.50)";
    database.client().await.batch_execute(tables).await.unwrap();
    let mapping = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
        total = 'o.total'\nchange_from = 'o.cash'\ncurrency = \"'EUR'\"\n";
    database.attach(mapping).await;
    let app = App::start_on(database, |_| ()).await;
    app.database
        .until("select not exists (select from vestnik.vst_change)")
        .await;
    let list = app.get_json("/api/partner/stores/7/orders").await;
    let order = &list["orders"][0];
    assert_eq!(
        (&order["total"], &order["payment"]["change_from"]),
        (&1250.into(), &2050.into()),
        "{order}"
    );
}
