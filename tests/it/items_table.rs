//! A direct source whose items are in a second table, beside a `[details]` query: what of them fails is named, costs
//! only itself, and is over when it is mended.

use serde_json::{Value, json};
use vestnik::infra::config::ShopSchema;
use vestnik::sources::health;

use crate::field_cases::vestnik;
use crate::mapping_mistakes::with_mapping;
use crate::support::app::App;
use crate::support::db::Database;

const SHOP: &str = "create table guests (id int primary key, name text); insert into guests values (1, 'Anna'); \
     create table \"tabSales Order\" (name text primary key, branch text, status text, guest int default 1); \
     create table \"tabSales Order Item\" (idx int primary key, parent text, item_name text, qty numeric, data jsonb); \
     create index on \"tabSales Order Item\" (parent)";

const MAPPING: &str = "table = 'public.\"tabSales Order\"'\nname = 'sales'\nkind = 'order'\nkey = 'name'\nstore = 'branch'\n\
     [status]\ncolumn = 'status'\npending = ['To Deliver']\npreparing = ['Cooking']\n\
     [items]\ntable = 'public.\"tabSales Order Item\"'\norder_key = 'parent'\nname = 'item_name'\nquantity = 'qty'\nnote = 'data.note'\n\
     [details]\nquery = '''select o.name as key, g.name as customer_name from public.\"tabSales Order\" o \
         join public.guests g on g.id = o.guest where o.name = any ($1)'''\n";

async fn sales() -> Database {
    let database = Database::without_shop().await;
    database.client().await.batch_execute(SHOP).await.unwrap();
    database.attach(MAPPING).await;
    database
}

fn order(number: u32) -> String {
    format!(
        "insert into \"tabSales Order\" values ('SO-{number}', '7', 'To Deliver'); \
         insert into \"tabSales Order Item\" (idx, parent, item_name, qty) values ({number}, 'SO-{number}', 'Soup', 2)"
    )
}

async fn troubles(database: &Database) -> Vec<String> {
    health::check(&database.client().await)
        .await
        .unwrap()
        .remove(0)
        .troubles
}

#[tokio::test]
async fn an_items_table_or_a_column_of_it_with_another_name_is_named_until_it_is_mended() {
    let database = sales().await;
    let client = database.client().await;
    client.batch_execute(&order(1)).await.unwrap();
    assert_eq!(troubles(&database).await, Vec::<String>::new());
    let table = "\"tabSales Order Item\"";
    for (change, mend, words) in [
        (
            format!("alter table {table} rename item_name to title"),
            format!("alter table {table} rename title to item_name"),
            "its table of items public.\"tabSales Order Item\" has no column item_name any more (items.name), so orders come without items: \
             `vestnik source edit sales` says which one stands for it",
        ),
        (
            format!("alter table {table} drop column qty"),
            format!("alter table {table} add column qty numeric"),
            "has no column qty any more (items.quantity)",
        ),
        (
            format!("alter table {table} rename parent to order_name"),
            format!("alter table {table} rename order_name to parent"),
            "has no column parent any more (items.order_key)",
        ),
        (
            format!("alter table {table} rename to lines"),
            format!("alter table lines rename to {table}"),
            "its table of items public.\"tabSales Order Item\" is not there any more, so orders come without items: \
             `vestnik source edit sales` says which one stands for it",
        ),
        (
            format!("alter table {table} alter data type point using null"),
            format!("alter table {table} alter data type jsonb using null"),
            "cannot cast type point to jsonb",
        ),
    ] {
        client.batch_execute(&change).await.unwrap();
        let (code, said) = vestnik(&database, &["source", "list"]);
        assert!(
            said.contains("FAIL   sales") && said.contains(words),
            "{words} is not in {code} {said}"
        );
        let (_, said) = vestnik(&database, &["doctor"]);
        assert!(said.contains(words), "{words} is not in {said}");
        assert_eq!(troubles(&database).await.len(), 1);
        client.batch_execute(&mend).await.unwrap();
        assert_eq!(troubles(&database).await, Vec::<String>::new(), "{mend}");
    }
    // The shop may put a view in the place of the table. It has no row numbers, and the look-up needs none.
    let view = format!("alter table {table} rename to lines; create view {table} as select * from lines");
    client.batch_execute(&view).await.unwrap();
    assert_eq!(troubles(&database).await, Vec::<String>::new());
}

/// The orders of store 7 in a list: the names of their dishes, the customer, and what could not be read.
async fn listed(app: &App, number: u32) -> (Value, Value, Value) {
    let list = app.get_json("/api/partner/stores/7/orders").await;
    let key = format!("SO-{number}");
    let order = list["orders"]
        .as_array()
        .unwrap()
        .iter()
        .find(|order| order["id"] == key);
    shown(order.unwrap_or_else(|| panic!("{list}")))
}

fn shown(order: &Value) -> (Value, Value, Value) {
    let unreadable = order["unreadable"].as_array().cloned().unwrap_or_default();
    let fields = unreadable.iter().map(|it| it["field"].clone()).collect();
    (
        order["items"][0]["name"].clone(),
        order["customer_name"].clone(),
        fields,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn items_and_details_fail_each_alone_in_events_and_in_lists() {
    const ITEMS_FAIL: &str = "alter table \"tabSales Order Item\" rename item_name to title";
    const DETAILS_FAIL: &str = "alter table guests rename name to title";
    for (change, of_order) in [
        (ITEMS_FAIL, (Value::Null, json!("Anna"), json!(["items"]))),
        (DETAILS_FAIL, (json!("Soup"), Value::Null, json!(["details"]))),
    ] {
        let app = App::start_on(sales().await, |config| config.shop.schema = ShopSchema::Own).await;
        let mut panel = app.panel("7", None).await.live().await;
        app.write(&format!("begin; {}; commit", order(1))).await;
        assert_eq!(
            shown(&panel.event().await["data"]),
            (json!("Soup"), json!("Anna"), json!([]))
        );
        let after = if change == ITEMS_FAIL {
            order(2).replace("item_name", "title")
        } else {
            order(2)
        };
        app.write(&format!("{change}; begin; {after}; commit")).await;
        assert_eq!(shown(&panel.event().await["data"]), of_order, "{change}: the event");
        assert_eq!(listed(&app, 2).await, of_order, "{change}: the list");
        let page = app.get_json("/api/partner/stores/7/events?limit=500").await;
        assert_eq!(shown(&page["events"][1]["data"]), of_order, "{change}: replayed");
        // Within the pause after the failure, only the part that failed is missing.
        app.write(&format!(
            "begin; {}; commit",
            after.replace("SO-2", "SO-3").replace("(2,", "(3,")
        ))
        .await;
        assert_eq!(
            shown(&panel.event().await["data"]),
            of_order,
            "{change}: the next event"
        );
        app.engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_details_query_that_takes_too_long_costs_no_items() {
    let database = sales().await;
    let app = App::start_on(database, |config| config.shop.schema = ShopSchema::Own).await;
    let mut panel = app.panel("7", None).await.live().await;
    let mut locking = app.database.session().await;
    let lock = locking.transaction().await.unwrap();
    lock.batch_execute("lock table guests").await.unwrap();
    app.write(&format!("begin; {}; commit", order(1))).await;
    let of_order = (json!("Soup"), Value::Null, json!(["details"]));
    assert_eq!(shown(&panel.event().await["data"]), of_order);
    lock.rollback().await.unwrap();
    assert_eq!(listed(&app, 1).await, (json!("Soup"), json!("Anna"), json!([])));
    app.engine.shut_down().await;
}

#[tokio::test]
async fn newest_orders_of_which_none_has_an_item_are_named_when_the_mapping_is_checked_or_attached() {
    let database = Database::without_shop().await;
    let client = database.client().await;
    client.batch_execute(SHOP).await.unwrap();
    for number in 1..=3 {
        client.batch_execute(&order(number)).await.unwrap();
    }
    let said = |arguments: &[&str], mapping: &str| {
        let (code, said) = with_mapping(&database, arguments, mapping);
        assert_eq!(code, 0, "{said}");
        said
    };
    let check = |mapping: &str| said(&["source", "check"], mapping);
    let wrong_key = MAPPING.replace("order_key = 'parent'", "order_key = 'item_name'");
    let derived = "table = 'public.\"tabSales Order\"'\nname = 'of_sql'\nkind = 'order'\nkey = 'name'\n[derived]\nstore = 'o.branch'\n\
        status = \"'pending'\"\nitems = '''select l.item_name as name from public.\"tabSales Order Item\" l where l.parent = o.name'''\n\
        [[derived.watch]]\ntable = 'public.\"tabSales Order Item\"'\ncolumn = 'parent'\n";
    let wrong_join = derived.replace("l.parent = o.name", "l.item_name = o.name");
    let of_table = "warning: items: none of the newest 3 orders has an item: check that item_name of public.\"tabSales Order Item\" (`order_key`) \
        holds the name of the order";
    let of_query = "warning: derived.items: none of the newest 3 orders has an item: check which column its WHERE compares with the order";
    for arguments in [&["source", "check"][..], &["attach", "--dry-run", "--map"]] {
        for (mapping, words) in [(&wrong_key, of_table), (&wrong_join, of_query)] {
            let said = said(arguments, mapping);
            assert!(said.contains(words), "{words} is not in {said}");
        }
    }
    for right in [MAPPING, derived] {
        let said = check(right);
        assert!(
            !said.contains("has an item") && !said.contains("names no items"),
            "{said}"
        );
    }
    // What fails is a problem of its own.
    let (code, failing) = with_mapping(
        &database,
        &["source", "check"],
        &wrong_key.replace("'item_name'\nname", "'gone'\nname"),
    );
    assert!(code == 2 && !failing.contains("has an item"), "{failing}");

    let (before, rest) = MAPPING.split_once("[items]").unwrap();
    let (_, details) = rest.split_once("[details]").unwrap();
    let said = check(before);
    let note = "note: the mapping names no items, so orders come without dishes: write [items]";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    let said = check(&format!("{before}[details]{details}"));
    let note = "note: neither the mapping nor its details query names items, so orders come without dishes";
    assert!(said.contains(note), "{said}");
    let with_items = "[details]\nquery = '''select parent as key, json_agg(json_build_object('name', item_name)) as items \
        from public.\"tabSales Order Item\" where parent = any ($1) group by 1'''\n";
    let said = check(&format!("{before}{with_items}"));
    assert!(!said.contains("without dishes"), "{said}");
    assert!(!check(&before.replace("'order'", "'booking'")).contains("without dishes"));

    // A few orders without an item are no mistake.
    client
        .batch_execute("delete from \"tabSales Order\" where name = 'SO-3'")
        .await
        .unwrap();
    assert!(!check(&wrong_key).contains("has an item"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_key_that_is_not_the_foreign_key_to_the_orders_is_doubted() {
    let database = Database::without_shop().await;
    let shop = "create table sales (id int primary key, branch int, status text); \
        create table lines (id int primary key, product_id int, sale_id int references sales, name text); \
        create index on lines (product_id); create index on lines (sale_id)";
    database.client().await.batch_execute(shop).await.unwrap();
    let mapping = "table = 'public.sales'\nkind = 'order'\nkey = 'id'\nstore = 'branch'\n[status]\ncolumn = 'status'\npending = ['new']\n\
        [items]\ntable = 'public.lines'\norder_key = 'product_id'\nname = 'name'\n";
    let doubt = "items.order_key: column product_id has no foreign key to public.sales, and column sale_id has one: \
        if that holds the order's key, write order_key = \"sale_id\"";
    for arguments in [&["source", "check"][..], &["attach", "--map"]] {
        let (_, said) = with_mapping(&database, arguments, mapping);
        assert!(said.contains(doubt), "{said}");
        let (_, said) = with_mapping(&database, arguments, &mapping.replace("product_id", "sale_id"));
        assert!(!said.contains("foreign key"), "{said}");
    }
}
