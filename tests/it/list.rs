//! The lists of orders and bookings: their rows, and their cursors. A stream that begins with a list's cursor must send
//! exactly the changes that are not in the list yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use vestnik::infra::db::Client;
use vestnik::token::Stores;

use crate::oracle::seed;
use crate::support::app::{App, PATIENCE};
use crate::support::look_again;

const ORDERS: &str = "/api/partner/stores/7/orders";

fn ids(list: &Value) -> Vec<&str> {
    let rows = list["orders"]
        .as_array()
        .or(list["bookings"].as_array())
        .expect("a list");
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_shows_what_events_show_and_how_each_order_stands() {
    let app = App::start().await;
    app.write(
        "insert into orders (store_id, customer_name, total, order_type, items, created_at) values \
         (7, 'Иван', 50000, 'delivery', '[{\"name\": \"Борщ\", \"note\": null}]', '2026-11-23 20:00:00.123+00'), \
         (8, 'Other', 1, null, null, now()); \
         insert into orders (store_id, status) values (7, 'completed'), (7, 'rejected')",
    )
    .await;
    let list = app.get_json(ORDERS).await;
    assert_eq!(ids(&list), ["1"]);
    assert_eq!(list["more"], false);
    let order = &list["orders"][0];
    let event = &app.get_json("/api/partner/stores/7/events").await["events"][0];
    for member in ["customer_name", "total", "order_type", "items", "status"] {
        assert_eq!(order[member], event["data"][member], "{member}");
    }
    assert_eq!(order["event_id"], event["id"]);
    assert_eq!(order["created_at"], "2026-11-23T20:00:00.123Z");
    assert_eq!(order["acknowledged"], false);
    assert_eq!(order["next"], json!(["preparing", "rejected"]));
    for member in ["answer", "reason", "customer_phone"] {
        assert!(order.get(member).is_none(), "{member}");
    }

    let all = app.get_json(&format!("{ORDERS}?status=all")).await;
    assert_eq!(ids(&all), ["4", "3", "1"], "the newest first");
    assert_eq!(all["orders"][0]["next"], json!([]));
    let some = app.get_json(&format!("{ORDERS}?status=pending,rejected")).await;
    assert_eq!(ids(&some), ["4", "1"]);
}

#[tokio::test]
async fn bookings_have_a_list_of_their_own() {
    let app = App::start().await;
    app.write(
        "insert into bookings (store_id, customer_name, guests, starts_at) values (7, 'Анна', 4, '2026-12-01 19:00+03'); \
         insert into bookings (store_id, status) values (7, 'completed'), (8, 'pending'); \
         insert into orders (store_id) values (7)",
    )
    .await;
    let list = app.get_json("/api/partner/stores/7/bookings").await;
    assert_eq!(ids(&list), ["1"]);
    let booking = &list["bookings"][0];
    assert_eq!(
        (&booking["customer_name"], &booking["guests"]),
        (&json!("Анна"), &json!(4))
    );
    assert_eq!(booking["next"], json!(["preparing", "rejected"]));
    let event = &app.get_json("/api/partner/stores/7/events").await["events"][0];
    assert_eq!(
        (&booking["event_id"], &booking["starts_at"]),
        (&event["id"], &event["data"]["starts_at"])
    );
}

/// Every id of a list, read page by page.
async fn walk(app: &App, path: &str, limit: usize) -> Vec<String> {
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let page = app.get_json(&format!("{path}&limit={limit}{before}")).await;
        let ids: Vec<String> = ids(&page).into_iter().map(str::to_owned).collect();
        assert!(ids.len() <= limit);
        before = ids.last().map(|id| format!("&before={id}")).unwrap_or_default();
        seen.extend(ids);
        if page["more"] == false {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page_without_gap_or_repeat() {
    let app = App::start().await;
    // One statement inserts these orders, so all of them have the same creation time.
    app.write("insert into orders (store_id) select 7 + i % 2 from generate_series(1, 30) i")
        .await;
    app.write("insert into orders (store_id, created_at) values (7, '2026-01-01'), (7, '2025-01-01')")
        .await;
    let expected: Vec<String> = (1..=15).rev().map(|order| (order * 2).to_string()).collect();
    let expected: Vec<String> = expected.into_iter().chain(["31".into(), "32".into()]).collect();
    for limit in [1, 4, 17, 500] {
        assert_eq!(
            walk(&app, &format!("{ORDERS}?status=all"), limit).await,
            expected,
            "{limit} a page"
        );
    }
    for (query, code) in [
        ("before=99999", "bad_parameter"),
        ("before=x", "bad_parameter"),
        ("before=1", "bad_parameter"),
        ("before=", "bad_parameter"),
        ("before=%00", "bad_parameter"),
        ("limit=0", "bad_limit"),
        ("limit=501", "bad_limit"),
        ("status=eaten", "bad_status"),
        ("status=", "bad_status"),
        ("status=pending,", "bad_status"),
    ] {
        let answer = app.ask(&format!("{ORDERS}?{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{query}");
    }
}

#[tokio::test]
async fn a_page_ends_where_its_bytes_do() {
    let app = App::start().await;
    app.write(
        "insert into orders (store_id, items) select 7, jsonb_build_array((select string_agg(md5(i::text || j::text), '') \
             from generate_series(1, 31000) j)) from generate_series(1, 7) i",
    )
    .await;
    let page = app.get_json(&format!("{ORDERS}?limit=500")).await;
    assert_eq!(
        (ids(&page).len(), &page["more"]),
        (5, &json!(true)),
        "each row has about 1 MB"
    );
    assert_eq!(walk(&app, &format!("{ORDERS}?status=all"), 500).await.len(), 7);
}

const TICKETS: &str = r#"
    table = 'public."Tickets"'
    kind = "order"
    key = "Ticket No"
    store = "shop"
    [status]
    column = "state"
    pending = ["pending"]
    preparing = ["preparing"]
    ready = ["ready"]
    completed = ["eaten"]
    [fields]
    total = { column = "total", unit = "major" }
"#;
const MEALS: &str = r#"
    table = "public.meals"
    kind = "booking"
    key = "code"
    store = "shop"
    [status]
    column = "status"
    pending = ["pending"]
    preparing = ["preparing"]
    [fields]
    customer_name = "customer_name"
    created_at = { column = "created_at", zone = "Europe/Moscow" }
"#;

#[tokio::test]
async fn a_shops_own_tables_are_read_by_their_own_names_and_types() {
    let app = App::start().await;
    app.write(
        "create type state as enum ('pending', 'preparing', 'ready', 'eaten'); \
         create table \"Tickets\" (\"Ticket No\" uuid primary key, shop text, state state not null default 'pending', total numeric); \
         create table meals (code text primary key, shop uuid, status varchar(20) default 'pending', created_at timestamp, customer_name text)",
    )
    .await;
    for mapping in [TICKETS, MEALS] {
        app.database.attach(mapping).await;
    }
    let (one, two) = (
        "00000000-0000-4000-8000-00000000000a",
        "00000000-0000-4000-8000-00000000000b",
    );
    app.write(&format!(
        "insert into \"Tickets\" values ('{one}', 'Кафе', 'pending', 12345678901234567890.125), ('{two}', 'Кафе', 'eaten', 1); \
         insert into meals values ('a/b', '{one}', 'pending', '2026-11-23 20:00', 'Иван'), ('c', '{two}', 'pending', null, null)"
    ))
    .await;
    let cafe = "/api/partner/stores/%D0%9A%D0%B0%D1%84%D0%B5/orders";
    let raw = app.ask(cafe).await;
    assert_eq!(ids(&raw.json()), [one]);
    let text = String::from_utf8(raw.body).unwrap();
    assert!(
        text.contains("12345678901234567890.125"),
        "no digit of it is lost: {text}"
    );
    assert_eq!(walk(&app, &format!("{cafe}?status=all"), 1).await, [two, one]);

    let meals = format!("/api/partner/stores/{one}/bookings");
    let list = app.get_json(&meals).await;
    assert_eq!(
        (ids(&list), &list["bookings"][0]["customer_name"]),
        (vec!["a/b"], &json!("Иван"))
    );

    let accept = json!({"status": "preparing", "reason": "a reason has no column here"});
    let path = format!("{meals}/a%2Fb/status");
    assert_eq!(app.post(&path, &accept).await.status, 200);
    assert_eq!(
        app.get_json(&meals).await["bookings"][0]["answer"]["status"],
        "preparing"
    );
    assert_eq!(app.post(&format!("{cafe}/{one}/status"), &accept).await.status, 200);
    let refused = app
        .post(&format!("{cafe}/{one}/status"), &json!({"status": "rejected"}))
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (422, "status_unknown_to_shop"),
        "the mapping has no word for this status"
    );
    let unknown = app.post(&format!("{cafe}/7/status"), &accept).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "unknown_order"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_category_of_an_item_is_in_events_and_lists_from_json_and_from_a_second_table() {
    const HALL: &str = "table = 'public.hall'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n[status]\ncolumn = 'status'\npending = ['new']\n\
        [items]\ntable = 'public.hall_lines'\norder_key = 'hall_id'\nname = 'title'\ncategory = 'kitchen.name'\n";
    const BAR: &str = "table = 'public.bar'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n[status]\ncolumn = 'status'\npending = ['new']\n\
        [items]\ncolumn = 'lines'\ncategory = 'made.at'\n";
    let app = App::start().await;
    app.write(
        "create table hall (id int primary key, store_id int, status text default 'new'); \
         create table hall_lines (id int primary key, hall_id int references hall, title text, kitchen jsonb); create index on hall_lines (hall_id); \
         create table bar (id int primary key, store_id int, status text default 'new', lines jsonb)",
    )
    .await;
    for mapping in [HALL, BAR] {
        app.database.attach(mapping).await;
    }
    let mut panel = app.panel("7", None).await.live().await;
    app.write(
        "begin; insert into hall (id, store_id) values (1, 7); \
         insert into hall_lines values (1, 1, 'Борщ', '{\"name\": \"Горячий\"}'), (2, 1, 'Чай', null); commit",
    )
    .await;
    app.write("insert into bar (id, store_id, lines) values (2, 7, '[{\"name\": \"Кофе\", \"made\": {\"at\": \"Бар\"}, \"category\": \"Напитки\"}]')")
        .await;
    let (hall, bar) = (
        json!([{"name": "Борщ", "quantity": 1, "category": "Горячий"}, {"name": "Чай", "quantity": 1}]),
        json!([{"name": "Кофе", "quantity": 1, "category": "Бар"}]),
    );
    for items in [&hall, &bar] {
        let event = panel.event().await;
        assert_eq!(&event["data"]["items"], items);
    }
    let list = app.get_json("/api/partner/stores/7/orders").await;
    let listed: Vec<_> = list["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| &order["items"])
        .collect();
    assert!(listed.contains(&&hall) && listed.contains(&&bar), "{list:#}");
}

#[tokio::test]
async fn the_longest_key_that_is_recorded_can_be_answered() {
    let app = App::start().await;
    app.write("create table meals (code text primary key, shop uuid, status varchar(20) default 'pending', created_at timestamp, customer_name text)")
        .await;
    app.database.attach(MEALS).await;
    let (store, longest) = ("00000000-0000-4000-8000-00000000000a", "ж".repeat(500));
    for key in [&longest, "ж"] {
        let key = format!("insert into meals (code, shop) values ('{key}', '{store}')");
        app.write(&key).await;
    }
    let meals = format!("/api/partner/stores/{store}/bookings");
    assert_eq!(ids(&app.get_json(&meals).await), [longest.as_str(), "ж"]);
    let key: String = longest.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let behind = app.get_json(&format!("{meals}?before={key}&before_source=meals")).await;
    assert_eq!(ids(&behind), ["ж"], "the key can be used in `before`");
    let accepted = app
        .post(&format!("{meals}/{key}/status"), &json!({"status": "preparing"}))
        .await;
    assert_eq!(accepted.status, 200);
}

#[tokio::test]
async fn orders_of_several_tables_are_one_list() {
    let app = App::start().await;
    app.write(
        "create table catering (id text primary key, store_id bigint, status text default 'pending', created_at timestamptz); \
         create table counter (id int primary key, store_id int, status text default 'pending')",
    )
    .await;
    let plain = |table: &str| {
        format!(
            "table = \"public.{table}\"\nkey = \"id\"\nstore = \"store_id\"\nkind = \"order\"\n[status]\ncolumn = \"status\"\npending = [\"pending\"]\n"
        )
    };
    app.database
        .attach(&(plain("catering") + "[fields]\ncreated_at = \"created_at\"\n"))
        .await;
    app.database.attach(&plain("counter")).await;
    app.write(
        "insert into catering select 'c' || i, 7, 'pending', '2026-01-01'::timestamptz + (i / 2) * interval '1 hour' from generate_series(1, 9) i; \
         insert into catering values ('none', 7, 'pending', null); \
         insert into counter select i, 7 from generate_series(1, 3) i; \
         insert into orders (store_id, created_at) select 7, '2026-01-01'::timestamptz + i * interval '1 hour' from generate_series(1, 5) i",
    )
    .await;
    let whole = walk(&app, &format!("{ORDERS}?status=all"), 500).await;
    assert_eq!(whole.len(), 18);
    let none = whole.iter().position(|id| id == "none").unwrap();
    assert!(none < 4, "orders without a time stand first");
    // Ids are unique only within one table, so the engine searches the id in `before` in one table after the other.
    app.write("update orders set id = id + 100").await;
    let whole = walk(&app, &format!("{ORDERS}?status=all"), 500).await;
    for limit in [1, 2, 5] {
        assert_eq!(
            walk(&app, &format!("{ORDERS}?status=all"), limit).await,
            whole,
            "{limit} a page"
        );
    }
}

#[tokio::test]
async fn an_order_that_waits_for_an_answer_again_has_no_promise_of_an_earlier_one() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7)").await;
    let wish = json!({"status": "preparing", "minutes": 33});
    assert_eq!(app.post(&format!("{ORDERS}/1/status"), &wish).await.status, 200);
    assert_eq!(app.get_json(ORDERS).await["orders"][0]["promised_minutes"], 33);
    // The shop's application saves its old row again.
    app.write("update orders set status = 'pending'").await;
    let order = app.get_json(ORDERS).await["orders"][0].clone();
    assert_eq!(
        (&order["status"], &order["promised_minutes"]),
        (&json!("pending"), &Value::Null)
    );
}

#[tokio::test]
async fn a_store_sees_its_own_rows_only() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7), (8)").await;
    let token = app.database.token(Stores::These(vec!["8".into()])).await;
    assert_eq!(app.get(ORDERS, Some(&token)).await.0, 403);
    assert_eq!(app.get(ORDERS, None).await.0, 401);
    // The store id in a URL must equal the store id in the table as text. A comparison as numbers would also find `07`.
    for store in ["07", "%207", "7.0", "+7", "x", "99999999999999999999"] {
        let list = app.get_json(&format!("/api/partner/stores/{store}/orders")).await;
        assert_eq!(ids(&list), [""; 0], "{store}");
    }
    assert_eq!(app.ask("/api/partner/stores/7%00/orders").await.status, 400);
}

#[tokio::test]
async fn what_is_active_is_found_by_the_index_however_many_are_done() {
    // With one connection for reads, one Postgres backend executes all lists, and counts their scans.
    let app = App::start_with(|config| config.database.read_pool_size = 1).await;
    let client = app.database.client().await;
    client
        .batch_execute(
            "set session_replication_role = replica; \
             insert into orders (store_id, status, created_at) select i % 50, 'completed', now() - i * interval '1 minute' \
                 from generate_series(1, 200000) i; \
             insert into orders (store_id, status) select i % 50, 'pending' from generate_series(1, 500) i; \
             reset session_replication_role; analyze orders",
        )
        .await
        .unwrap();
    let scans = async || {
        let scans = "select seq_scan, idx_scan, n_tup_ins from pg_stat_user_tables where relid = 'orders'::regclass";
        let row = client.query_one(scans, &[]).await.unwrap();
        [0, 1, 2].map(|column| row.get::<_, i64>(column))
    };
    // Postgres updates its statistics with a delay, so first wait until the statistics contain the inserts.
    let filled = until(async || Some(scans().await).filter(|[_, _, inserted]| *inserted == 200_500)).await;
    for _ in 0..3 {
        assert_eq!(ids(&app.get_json(&format!("{ORDERS}?limit=500")).await).len(), 10);
        let done = app.get_json(&format!("{ORDERS}?status=completed&limit=500")).await;
        assert_eq!((ids(&done).len(), &done["more"]), (500, &json!(true)));
    }
    let after = until(async || Some(scans().await).filter(|[_, by_index, _]| *by_index >= filled[1] + 6)).await;
    assert_eq!(after[0], filled[0], "no list has read the whole table");
}

/// Waits until `look` returns a value.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            look_again().await;
        }
    });
    found.await.expect("the value appears in time")
}

/// The number of concurrent writers in the test that reads lists while writers write.
const WRITERS: u64 = 3;
/// The number of transactions of each writer.
const TRANSACTIONS: usize = 80;
/// The number of lists that are read while the writers run.
const LISTS: usize = 12;

/// Inserts and changes orders. Some transactions are rolled back, and some stay open while other writers commit.
async fn write(client: Client, mut random: fastrand::Rng, committed: Arc<AtomicUsize>) {
    const STATUSES: [&str; 4] = ["preparing", "ready", "completed", "cancelled"];
    client.batch_execute("set lock_timeout = '200ms'").await.unwrap();
    for _ in 0..TRANSACTIONS {
        client.batch_execute("begin").await.unwrap();
        let mut broken = false;
        for _ in 0..random.usize(1..4) {
            let sql = if random.f32() < 0.4 {
                format!("insert into orders (store_id) values ({})", random.u8(7..=8))
            } else {
                let (order, status) = (random.u16(1..60), STATUSES[random.usize(0..4)]);
                format!("update orders set status = '{status}' where id = {order}")
            };
            broken |= client.batch_execute(&sql).await.is_err();
            if random.f32() < 0.2 {
                let reached = committed.load(Ordering::Relaxed) + random.usize(1..5);
                let others = async {
                    while committed.load(Ordering::Relaxed) < reached {
                        look_again().await;
                    }
                };
                // The other writers may have ended, or may wait for rows that this transaction has locked, so the wait
                // is limited.
                let _ = timeout(Duration::from_millis(50), others).await;
            }
        }
        let end = if broken || random.f32() < 0.2 {
            "rollback"
        } else {
            "commit"
        };
        client.batch_execute(end).await.unwrap();
        committed.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_over(status: &str) -> bool {
    ["completed", "cancelled"].contains(&status)
}

/// Applies an event to the statuses of a list. Asserts that the event's previous status is the status in the list.
fn apply(orders: &mut HashMap<String, String>, event: &Value) {
    let text = |member: &str| event["data"][member].as_str().unwrap().to_owned();
    let before = orders.insert(text("order_id"), text("status"));
    match event["type"].as_str().unwrap() {
        "new_order" => assert_eq!(before, None, "a repeated event: {event}"),
        // If one transaction inserts and ends an order, clients get no event of it. Then a later change of the ended order
        // is its first event.
        _ if before.is_none() => {
            assert!(is_over(&text("previous_status")), "a gap or a repeat: {event}");
        }
        _ => assert_eq!(before, Some(text("previous_status")), "a gap or a repeat: {event}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_the_stream_opened_with_its_cursor_meet_exactly() {
    let app = App::start().await;
    let seed = seed();
    let committed = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        writers.push(tokio::spawn(write(
            app.database.client().await,
            random,
            Arc::clone(&committed),
        )));
    }
    let mut met = Vec::new();
    for number in 0..LISTS {
        let reached = number * TRANSACTIONS * WRITERS as usize / LISTS;
        until(async || (committed.load(Ordering::Relaxed) >= reached).then_some(())).await;
        let list = app.get_json(&format!("{ORDERS}?status=all&limit=500")).await;
        assert_eq!(list["more"], false);
        let text = |row: &Value, member: &str| row[member].as_str().unwrap().to_owned();
        let rows = list["orders"].as_array().unwrap().iter();
        let mut orders: HashMap<String, String> = rows.map(|row| (text(row, "id"), text(row, "status"))).collect();
        let panel = app.panel("7", list["cursor"].as_str()).await;
        met.push(tokio::spawn(async move {
            let mut panel = panel.live().await;
            let missed: Vec<Value> = panel.before_live.drain(..).collect();
            missed.iter().for_each(|event| apply(&mut orders, event));
            loop {
                let event = panel.event().await;
                apply(&mut orders, &event);
                if event["data"]["customer_name"] == "the last" {
                    return orders;
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    app.write("insert into orders (store_id, customer_name) values (7, 'the last')")
        .await;
    let client = app.database.client().await;
    let rows = client
        .query("select id::text, status from orders where store_id = 7", &[])
        .await
        .unwrap();
    let end: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(end.len() > 20, "the writers wrote: {}", end.len());
    for orders in met {
        let orders = timeout(PATIENCE, orders).await.expect("the last event").unwrap();
        let mut told = end.clone();
        // An order that one transaction inserts and ends has no event, so only later lists have it.
        told.retain(|key, status| orders.contains_key(key) || !is_over(status));
        assert_eq!(orders, told);
    }
}
