//! Keys of orders in derived sources: a key that a shop uses again, and a `keys` query that gives no keys.

use serde_json::json;

use crate::support::app::{App, Panel};
use crate::support::db::Database;

const BILLS: &str = "create table bills (id text primary key, shop int, guests text, told boolean default true); \
    create table bill_lines (id serial primary key, bill_id text, name text)";
const MAPPING: &str = "table = 'public.bills'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
    status = \"case when o.told then 'pending' else 'hidden' end\"\ncomment = 'o.guests'\n";
const STATUS: &str = "/api/partner/stores/7/orders/t2/status";

/// A shop whose table of bills is attached, and a panel of its store.
async fn restaurant(mapping: &str) -> (App, Panel) {
    let database = Database::fresh().await;
    database.client().await.batch_execute(BILLS).await.unwrap();
    database.attach(mapping).await;
    let app = App::start_on(database, |_| ()).await;
    let panel = app.panel("7", None).await.live().await;
    (app, panel)
}

#[tokio::test]
async fn a_key_that_is_used_again_is_another_order_without_the_old_answer() {
    let (app, mut panel) = restaurant(MAPPING).await;
    let held = "update vestnik.vst_projector set holder = 'stranger', until = 'infinity'";
    let free = "update vestnik.vst_projector set holder = null, until = '-infinity'";
    for is_held in [true, false] {
        app.write("insert into bills values ('t2', 7, 'Anna')").await;
        assert_eq!(panel.event().await["type"], "new_order");
        let answer = json!({"status": "preparing", "by": "Kitchen"});
        assert_eq!(app.post(STATUS, &answer).await.status, 200);
        assert_eq!(panel.event().await["type"], "order_status_changed");
        // The first time, the projector sees both writes together, as after a standstill.
        if is_held {
            app.write(held).await;
        }
        app.write("delete from bills where id = 't2'").await;
        app.write("insert into bills values ('t2', 7, 'Boris')").await;
        app.write(free).await;
        assert_eq!(panel.event().await["type"], "order_removed", "held: {is_held}");
        let new = panel.event().await;
        assert_eq!(
            (&new["type"], &new["data"]["status"], &new["data"]["comment"]),
            (&json!("new_order"), &json!("pending"), &json!("Boris")),
            "held: {is_held}"
        );
        let list = app.get_json("/api/partner/stores/7/orders").await;
        assert_eq!(list["orders"][0]["status"], "pending", "{list}");
        app.write("delete from bills where id = 't2'").await;
        assert_eq!(panel.event().await["type"], "order_removed");
    }
}

#[tokio::test]
async fn a_row_that_is_saved_by_deleting_and_inserting_it_in_one_transaction_keeps_its_answer() {
    let (app, mut panel) = restaurant(MAPPING).await;
    app.write("insert into bills values ('t2', 7, 'Anna')").await;
    assert_eq!(panel.event().await["type"], "new_order");
    let answer = json!({"status": "preparing", "by": "Kitchen"});
    assert_eq!(app.post(STATUS, &answer).await.status, 200);
    assert_eq!(panel.event().await["type"], "order_status_changed");
    let saved = "begin; savepoint s; delete from bills where id = 't2'; release s; insert into bills values ('t2', 7, 'Anna and Boris'); commit";
    app.write(saved).await;
    let changed = panel.event().await;
    assert_eq!(
        (&changed["type"], &changed["data"]["status"]),
        (&json!("order_changed"), &json!("preparing")),
        "{changed}"
    );
}

#[tokio::test]
async fn an_order_that_nobody_saw_by_a_wrong_mapping_rings_when_the_mapping_is_mended() {
    let wrong = [
        MAPPING.replace("'o.shop'", "'null'"),
        MAPPING.replace("when o.told then", "when not o.told then"),
        MAPPING.replace(
            "[derived]\n",
            "[derived]\nfrom = 'join bill_lines l on l.bill_id = o.guests'\n",
        ),
        MAPPING.replace("'o.shop'", "'(1 / (o.shop - o.shop))::text'"),
    ];
    for wrong in wrong {
        let database = Database::fresh().await;
        let client = database.client().await;
        client.batch_execute(BILLS).await.unwrap();
        client
            .batch_execute("insert into bills values ('old', 7, 'Clara')")
            .await
            .unwrap();
        database.attach(&wrong).await;
        let app = App::start_on(database, |_| ()).await;
        let settled = "select not exists (select from vestnik.vst_change)";
        app.database.until(settled).await;
        app.write("insert into bills values ('t2', 7, 'Anna')").await;
        app.database.until(settled).await;
        let mut panel = app.panel("7", None).await.live().await;
        app.database.attach(MAPPING).await;
        let event = panel.event().await;
        assert_eq!(
            (&event["type"], &event["data"]["order_id"]),
            (&json!("new_order"), &json!("t2")),
            "{wrong}"
        );
        // The order from before the attachment is listed, and rings for nobody.
        app.database.until(settled).await;
        let list = app.get_json("/api/partner/stores/7/orders").await;
        assert_eq!(list["orders"].as_array().unwrap().len(), 2, "{wrong}: {list}");
        app.write("insert into bills values ('t3', 7, 'Dora')").await;
        assert_eq!(panel.event().await["data"]["order_id"], "t3", "{wrong}");
    }
}

#[tokio::test]
async fn a_keys_query_that_gives_no_keys_is_named_and_ends_when_it_is_mended() {
    let database = Database::fresh().await;
    let tables = "create table sales (id int primary key, shop int, number text, address_id int); \
        create table addresses (id int primary key, street text); \
        insert into addresses values (1, 'Nevsky 1')";
    database.client().await.batch_execute(tables).await.unwrap();
    let mapping = "table = 'public.sales'\nkind = 'order'\nkey = 'id'\n[derived]\nfrom = 'left join addresses a on a.id = o.address_id'\n\
        store = 'o.shop'\nstatus = \"'pending'\"\naddress = 'a.street'\n[[derived.watch]]\ntable = 'public.addresses'\ncolumn = 'id'\n\
        keys = 'select id::text from sales where address_id = any ($1::int[])'\n";
    database.attach(&mapping.replace("id::text from", "number from")).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into sales values (1, 7, 'R2001', 1)").await;
    assert_eq!(panel.event().await["type"], "new_order");
    app.write("update addresses set street = 'Nevsky 2'").await;
    let failed = "select exists (select from vestnik.vst_projection_failure)";
    app.database.until(failed).await;
    let troubles = async || {
        let sources = vestnik::sources::health::check(&app.database.client().await)
            .await
            .unwrap();
        let of_sales = sources.into_iter().filter(|source| source.name == "sales");
        of_sales
            .flat_map(|source| source.troubles)
            .collect::<Vec<String>>()
            .join("\n")
    };
    let said = troubles().await;
    assert!(
        said.contains("derived.watch of public.addresses: keys")
            && !said.contains("derived.address")
            && !said.contains("that nobody sees"),
        "{said}"
    );
    app.database.attach(mapping).await;
    app.database
        .until("select not exists (select from vestnik.vst_projection_failure) and not exists (select from vestnik.vst_change)")
        .await;
    app.write("update addresses set street = 'Nevsky 3'").await;
    assert_eq!(panel.event().await["data"]["address"], "Nevsky 3");
    assert_eq!(troubles().await, "");
}

#[tokio::test]
async fn a_change_that_the_shop_makes_while_all_orders_are_computed_again_is_told() {
    const WAITS: &str = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%for update%' \
         and datname = current_database())";
    const KEYS: &str = "keys = 'select unnest($1::text[])'\n";
    const COMMENT: &str =
        "\"concat_ws(' ', o.guests, (select string_agg(name, ' ') from bill_lines where bill_id = o.id))\"";
    let order = "update bills set guests = 'Bob'";
    let line = "insert into bill_lines (bill_id, name) values ('t1', 'Pie')";
    for (change, keys) in [(order, ""), (line, ""), (line, KEYS)] {
        let watch = format!("[[derived.watch]]\ntable = 'public.bill_lines'\ncolumn = 'bill_id'\n{keys}");
        let mapping = MAPPING.replace("'o.guests'", COMMENT) + &watch;
        let database = Database::fresh().await;
        let client = database.client().await;
        client.batch_execute(BILLS).await.unwrap();
        database.attach(&mapping).await;
        let app = App::start_on(database, |_| ()).await;
        let mut panel = app.panel("7", None).await.live().await;
        app.write("insert into bills values ('t1', 7, 'Anna')").await;
        assert_eq!(panel.event().await["type"], "new_order");
        // The projector waits for this lock before it computes the order again by the new mapping.
        let lock = "begin; select from vestnik.vst_projection_3 for update";
        client.batch_execute(lock).await.unwrap();
        app.database
            .attach(&mapping.replace("[derived]\n", "[derived]\npersons = '5'\n"))
            .await;
        app.database.until(WAITS).await;
        app.write(change).await;
        client.batch_execute("commit").await.unwrap();
        assert_eq!(panel.event().await["type"], "order_changed", "{change}; {keys}");
    }
}
