//! Problems that users of similar software have reported, each reproduced with our own input. `P01` and so on are
//! the numbers of the reports. A case that needs only a table and its writes is a shop in `tests/shops`; the other
//! cases are in this file.
//!
//! | case | test |
//! |---|---|
//! | P01 a table is swapped | `a_swapped_table_*` |
//! | P03 other words for a status | shops prisma, django, rails, knex, cyrillic, supabase |
//! | P04 an order becomes pending later | shops plain, carts, reference |
//! | P06 major and minor units | shops django, prisma, knex, types, laravel (yen) |
//! | P08 the same key in two tables | shops two_tables, uuid_schemas |
//! | P11 timestamps without a zone | shops times, rails, typeorm |
//! | P12 rows that are deleted, or marked as deleted | shops plain, typeorm, laravel, sequelize |
//! | P13 an order changes after it was sent | shops plain, reference, laravel |
//! | P15 fields that a kitchen needs besides the items | shops cyrillic, prisma, knex |
//! | P16 formats of the column with items | shops plain, knex, sequelize; `sources::items` |
//! | P20 writers wait behind `attach` | `attach_and_detach_give_way_to_writers_and_say_who_holds_the_table` |
//! | P24 keys that are not unique | `a_key_that_does_not_tell_rows_apart_is_refused` |
//! | P25 one unreadable row | `a_byte_that_is_no_text_*` |
//! | P29 an import of old orders | shop reference |
//! | P31 names in mixed case | `a_name_in_mixed_case_is_found_and_quoted` |
//! | P35 a short order number for people | shops prisma, rails, supabase, cyrillic |
//! | P38 an order returns to an earlier status | shops plain, laravel, django |
//! | P46 large rows and unusual characters | `nothing_is_too_large_or_too_strange_to_be_written_and_sent` |
//! | P49 an enum type is replaced | `an_enum_that_is_exchanged_costs_nothing` |
//! | P51 partitions | shop partitioned |
//! | keys of every type | `a_key_of_any_type_can_be_answered` |
//! | row level security | `row_level_security_works_or_is_named` |
//! | columns that change | `what_becomes_of_a_column_is_said_and_mended` |
//! | a restored database | `a_restored_dump_goes_on` |

use std::process::{Command, Output};

use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::Client;
use vestnik::infra::config::ShopSchema;

use crate::support::app::{App, PATIENCE};
use crate::support::db::Database;
use crate::support::look_again;

/// The table that most cases use.
const STANDARD: &str = "create table orders (id bigserial primary key, store_id int not null, status text not null default 'pending', \
     customer_name text, total int, order_type text, items jsonb not null default '[]', reason text, created_at timestamptz not null default now(), \
     updated_at timestamptz)";

/// Runs the program in an empty directory, and returns its exit code and its output.
pub fn vestnik(database: &Database, arguments: &[&str]) -> (i32, String) {
    told(&vestnik_at(database.url(), arguments).output().unwrap())
}

/// The program in an empty directory, with the database at `url`.
pub fn vestnik_at(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    let directory = tempfile::tempdir().unwrap().keep();
    command
        .args(arguments)
        .env("DATABASE_URL", url)
        .env("VESTNIK_SHOP_SCHEMA", "own")
        .current_dir(directory);
    command
}

/// The exit code and the output of a program.
pub fn told(output: &Output) -> (i32, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
}

fn attach(database: &Database, arguments: &[&str]) -> String {
    let (code, said) = vestnik(database, &[&["attach"], arguments].concat());
    assert_eq!(code, 0, "{said}");
    said
}

/// Creates a database with this table, and attaches the table.
async fn shop(sql: &str, table: &str) -> (Database, Client) {
    let database = Database::without_shop().await;
    let client = database.session().await;
    client.batch_execute(sql).await.unwrap();
    attach(&database, &["--table", table, "--kind", "order"]);
    (database, client)
}

async fn run(client: &Client, statements: &[&str]) {
    for sql in statements {
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

async fn start(database: Database) -> App {
    App::start_on(database, |config| config.shop.schema = ShopSchema::Own).await
}

/// The type, key and status of each event of a store.
async fn events(app: &App, store: &str) -> Vec<(String, String, String)> {
    let page = app
        .get_json(&format!("/api/partner/stores/{store}/events?limit=500"))
        .await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = page["events"].as_array().unwrap_or_else(|| panic!("{page}"));
    events
        .iter()
        .map(|event| {
            (
                text(&event["type"]),
                text(&event["data"]["order_id"]),
                text(&event["data"]["status"]),
            )
        })
        .collect()
}

fn is(event: &(String, String, String), kind: &str, key: &str) -> bool {
    (event.0.as_str(), event.1.as_str()) == (kind, key)
}

async fn press(app: &App, store: &str, key: &str, wish: Value) -> (u16, Value) {
    let answer = app
        .post(&format!("/api/partner/stores/{store}/orders/{key}/status"), &wish)
        .await;
    (answer.status, answer.json())
}

// P01: the shop replaces a table with another table of the same name.

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_table_takes_every_write_and_its_rows_make_events_once_it_is_attached_again() {
    for mend in [
        &["attach", "--table", "public.orders", "--kind", "order"][..],
        &["migrate"],
    ] {
        let (database, client) = shop(STANDARD, "public.orders").await;
        run(
            &client,
            &[
                "insert into orders (store_id) values (7)",
                "alter table orders rename to orders_old",
                "create table orders (like orders_old including all)",
                "insert into orders (store_id) values (7)",
                "insert into orders_old (store_id) values (7)",
            ],
        )
        .await;
        let (_, said) = vestnik(&database, &["doctor"]);
        assert!(said.contains("the triggers are on public.orders_old"), "{said}");
        let (code, said) = vestnik(&database, mend);
        assert_eq!(code, 0, "{said}");
        run(
            &client,
            &[
                "insert into orders (store_id) values (8)",
                "insert into orders_old (store_id) values (8)",
            ],
        )
        .await;
        let (_, said) = vestnik(&database, &["doctor"]);
        assert!(!said.contains("the triggers are"), "{mend:?}: {said}");
        let app = start(database).await;
        assert_eq!(events(&app, "8").await.len(), 1, "{mend:?}: the old table is no source");
        let told = events(&app, "7").await;
        assert!(is(&told[0], "new_order", "1") && told.len() == 3, "{told:?}");
        let (code, said) = vestnik(&app.database, &["detach", "--table", "public.orders"]);
        assert_eq!(code, 0, "{said}");
        run(
            &client,
            &[
                "insert into orders (store_id) values (8)",
                "insert into orders_old (store_id) values (8)",
            ],
        )
        .await;
        let recorded = "select count(*) from vestnik.vst_event where store_id = '8'";
        assert_eq!(client.query_one(recorded, &[]).await.unwrap().get::<_, i64>(0), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_table_may_be_of_another_shape_and_be_attached_by_each_name() {
    let (database, client) = shop(STANDARD, "public.orders").await;
    // The shop renames the table and keeps the new name. A person attaches the table by the new name and detaches the
    // old name. Then the shop creates another table with the old name.
    run(&client, &["alter table orders rename to purchases"]).await;
    attach(&database, &["--table", "public.purchases", "--kind", "order"]);
    let (code, said) = vestnik(&database, &["detach", "--table", "public.orders"]);
    assert_eq!(code, 0, "{said}");
    run(&client, &[
        "create table orders (id int generated by default as identity, store_id text, status text default 'pending', total numeric(10,2), \
             primary key (store_id, id)) partition by hash (store_id)",
        "create table orders_0 partition of orders for values with (modulus 1, remainder 0)",
        "insert into purchases (store_id) values (7)",
        "insert into orders (store_id) values ('7')",
    ])
    .await;
    let told = attach(&database, &["--table", "public.orders"]);
    assert!(told.contains("as source orders"), "{told}");
    run(
        &client,
        &[
            "insert into purchases (store_id) values (7)",
            "insert into orders (store_id, total) values ('7', 12.50)",
        ],
    )
    .await;
    let app = start(database).await;
    assert_eq!(events(&app, "7").await.len(), 3);
    run(&client, &["drop table orders", "drop table purchases"]).await;
}

// P20: `attach` waits for a lock, and all writers of the table wait behind `attach`.

#[tokio::test(flavor = "multi_thread")]
async fn attach_and_detach_give_way_to_writers_and_say_who_holds_the_table() {
    let database = Database::without_shop().await;
    let client = database.session().await;
    client.batch_execute(STANDARD).await.unwrap();
    let holder = database.session().await;
    for (held, command) in [
        (
            "insert into orders (store_id) values (1)",
            &["attach", "--table", "public.orders", "--kind", "order"][..],
        ),
        ("select count(*) from orders", &["detach", "--table", "public.orders"]),
    ] {
        holder.batch_execute(&format!("begin; {held}")).await.unwrap();
        let mut child = vestnik_at(database.url(), command)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        database
            .until("select exists (select from pg_stat_activity where application_name like 'vestnik%' and datname = current_database() and wait_event_type = 'Lock')")
            .await;
        for _ in 0..5 {
            let write = client.batch_execute("insert into orders (store_id) values (2)");
            timeout(PATIENCE, write)
                .await
                .expect("a writer waits for long")
                .unwrap();
            let read = client.batch_execute("select count(*) from orders");
            timeout(PATIENCE, read).await.expect("a reader waits for long").unwrap();
        }
        assert!(child.try_wait().unwrap().is_none(), "{command:?} waits");
        holder.batch_execute("commit").await.unwrap();
        let waited = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let (code, said) = told(&timeout(PATIENCE, waited).await.expect("the lock comes").unwrap());
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("shop") && said.contains("public.orders"), "{said}");
    }
}

// P24: no single column has a unique value in each row, so the table has no valid key.

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_tell_rows_apart_is_refused() {
    let database = Database::without_shop().await;
    let client = database.session().await;
    run(&client, &[
        "create table tickets (day date, no int, store_id int, status text not null default 'pending', primary key (store_id, day, no))",
        "insert into tickets values ('2020-11-27', 1, 7), ('2020-11-28', 1, 7)",
        "create table views_of (id int, store_id int, status text)",
        "create view v as select * from tickets",
    ])
    .await;
    let (code, said) = vestnik(&database, &["attach", "--table", "public.tickets", "--kind", "order"]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("key: which column tells one row from all others?"),
        "{said}"
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("map.toml");
    let mapping = "table = 'public.tickets'\nkind = 'order'\nkey = 'no'\nstore = 'store_id'\n[status]\ncolumn = 'status'\npending = ['pending']\n";
    std::fs::write(&file, mapping).unwrap();
    let (code, said) = vestnik(&database, &["attach", "--map", file.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("key: no is not unique: 2 rows have 1"), "{said}");
    let (code, said) = vestnik(&database, &["attach", "--table", "public.v", "--kind", "order"]);
    assert!(code == 2 && said.contains("public.v is a view, not a table"), "{said}");
    let (code, said) = vestnik(&database, &["attach", "--table", "public.views_of", "--kind", "order"]);
    assert!(code == 2 && said.contains("unique index"), "{said}");
    assert_eq!(
        client.query("select from vestnik.vst_source", &[]).await.unwrap().len(),
        0,
        "nothing was changed"
    );
}

// P25: one row has bytes that are not text in the encoding of the database.

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_no_text_costs_nobody_else_theirs() {
    for (encoding, bytes) in [
        ("SQL_ASCII", "\\xe9"),
        ("WIN1251", "\\x98"),
        ("LATIN1", "\\xe9"),
        ("SQL_ASCII", "\\xff\\xfe\\x80"),
    ] {
        let database = Database::encoded(encoding).await;
        let client = database.session().await;
        let insert = |store: i32| {
            format!(
                "set client_encoding = '{encoding}'; insert into orders (store_id, customer_name, items) values \
                 ({store}, E'Caf{bytes}', ('[{{\"name\": \"T' || E'{bytes}' || '\"}}]')::jsonb)"
            )
        };
        run(&client, &[STANDARD]).await;
        // The shop writes these rows before the table is attached.
        run(&database.session().await, &[&insert(6)]).await;
        attach(&database, &["--table", "public.orders", "--kind", "order"]);
        run(&database.session().await, &[&insert(9)]).await;
        run(&client, &["insert into orders (store_id) values (7)"]).await;
        let app = start(database).await;
        let mut panel = app.panel("7", None).await.live().await;
        run(
            &app.database.session().await,
            &[&insert(9), "insert into orders (store_id) values (7)"],
        )
        .await;
        loop {
            let event = panel.event().await;
            if event["data"]["order_id"] == "5" {
                break;
            }
        }
        let told = events(&app, "9").await;
        assert!(
            is(&told[0], "new_order", "2") && is(&told[1], "new_order", "4"),
            "{encoding}: {told:?}"
        );
        let list = app.get_json("/api/partner/stores/9/orders").await;
        assert_eq!(list["orders"].as_array().map(Vec::len), Some(2), "{encoding}: {list}");
        let name = list["orders"][0]["customer_name"].as_str().unwrap();
        assert!(name.starts_with("Caf"), "{encoding}: {name}");
        assert!(encoding != "LATIN1" || name == "Café", "{name}");
        // A person's answer may contain characters that the database's encoding cannot represent.
        let (status, body) = press(
            &app,
            "9",
            "2",
            json!({"status": "rejected", "reason": "нет 🍕 café", "by": "Кухня 🍕"}),
        )
        .await;
        assert_eq!(status, 200, "{encoding}: {body}");
        let told = events(&app, "9").await;
        assert!(is(&told[2], "order_status_changed", "2"), "{encoding}: {told:?}");
    }
}

// P31: the names of the table and its columns are in mixed case.

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_mixed_case_is_found_and_quoted() {
    let database = Database::without_shop().await;
    let client = database.session().await;
    run(&client, &["create table \"Order\" (id serial primary key, \"storeId\" int, status text default 'pending')", "create schema \"My Shop\"",
        "create table \"My Shop\".\"Customer Orders\" (id serial primary key, \"storeId\" int, status text default 'pending')"]).await;
    for name in ["Order", "public.Order", "order", "PUBLIC.ORDER"] {
        let (code, said) = vestnik(&database, &["attach", "--table", name]);
        assert_eq!(code, 2, "{name}: {said}");
        assert!(said.contains("--table 'public.\"Order\"'"), "{name}: {said}");
    }
    let (code, said) = vestnik(&database, &["attach", "--table", "My Shop.Customer Orders"]);
    assert!(
        code == 2 && said.contains("--table '\"My Shop\".\"Customer Orders\"'"),
        "{said}"
    );
    assert!(attach(&database, &["--table", "public.\"Order\""]).contains("as source Order"));
    assert!(
        attach(&database, &["--table", "\"My Shop\".\"Customer Orders\""])
            .contains("as source My Shop.Customer Orders")
    );
    run(
        &client,
        &["insert into \"My Shop\".\"Customer Orders\" (\"storeId\") values (7)"],
    )
    .await;
    let app = start(database).await;
    assert_eq!(
        press(
            &app,
            "7",
            "1",
            json!({"status": "preparing", "source": "My Shop.Customer Orders"})
        )
        .await
        .0,
        200
    );
}

// P46: some rows are very large or contain unusual characters.

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_too_large_or_too_strange_to_be_written_and_sent() {
    let table = STANDARD
        .replace("items jsonb", "items json")
        .replace("total int", "total double precision");
    let (database, client) = shop(&table, "public.orders").await;
    let app = start(database).await;
    let mut panel = app.panel("7", None).await.live().await;
    let mut numbers = 0;
    for values in [
        "(7, repeat('x', 9000), 1, '[]')",
        "(7, repeat('y', 60000000), 1, '[]')",
        "(7, 'A', 1, ('[' || repeat('{\"name\": \"Soup\", \"count\": 1},', 200000) || '{\"name\": \"Tea\"}]')::json)",
        "(7, E'\\x01\\x1f', 'NaN', '[{\"name\": \"a\\u0000b\", \"price\": 1e400}]')",
        "(7, 'A', 'Infinity', '{\"name\": \"\\ud800\"}')",
        "(7, 'A', 1e300, (repeat('[', 6000) || repeat(']', 6000))::json)",
        "(7, '<b>&amp;</b>', -0.0, '[{\"name\": \"<script>\"}]')",
        "(7, '\u{202e}evil', 1, '[{\"name\": \"👩‍👩‍👧‍👦\", \"quantity\": 99999999999999999999}]')",
    ] {
        run(
            &client,
            &[&format!(
                "insert into orders (store_id, customer_name, total, items) values {values}"
            )],
        )
        .await;
        numbers += 1;
        let event = panel.event().await;
        let what = format!(
            "{} {}",
            &values[..30.min(values.len())].chars().take(30).collect::<String>(),
            event["data"]["unreadable"]
        );
        assert_eq!(
            (&event["type"], &event["data"]["order_id"]),
            (&json!("new_order"), &json!(numbers.to_string())),
            "{what}"
        );
        // A change of the large row reaches the client, too.
        run(
            &client,
            &[&format!("update orders set order_type = 'pickup' where id = {numbers}")],
        )
        .await;
        assert_eq!(panel.event().await["type"], "order_changed", "{what}");
        assert_eq!(
            press(&app, "7", &numbers.to_string(), json!({"status": "preparing"}))
                .await
                .0,
            200,
            "{what}"
        );
        assert_eq!(panel.event().await["data"]["status"], "preparing", "{what}");
    }
    let list = app.get_json("/api/partner/stores/7/orders").await;
    // Lists and events leave out values of several megabytes.
    let rows = list["orders"].as_array().map(Vec::len);
    assert_eq!((rows, &list["more"]), (Some(numbers), &json!(false)));
}

// P49: the shop replaces an enum type with another enum type.

#[tokio::test(flavor = "multi_thread")]
async fn an_enum_that_is_exchanged_costs_nothing() {
    let (database, client) = shop(
        "create type state as enum ('PENDING', 'ACCEPTED', 'DONE', 'CANCELLED'); \
         create table orders (id serial primary key, store_id int, status state not null default 'PENDING')",
        "public.orders",
    )
    .await;
    let app = start(database).await;
    let mut panel = app.panel("7", None).await.live().await;
    run(&client, &["insert into orders (store_id) values (7)"]).await;
    assert_eq!(panel.event().await["data"]["order_id"], "1");
    // The tools Prisma and TypeORM replace an enum type with these statements.
    run(&client, &[
        "begin; create type state_new as enum ('PENDING', 'ACCEPTED', 'COOKING', 'DONE', 'CANCELLED'); \
         alter table orders alter status drop default; alter table orders alter status type state_new using status::text::state_new; \
         alter type state rename to state_old; alter type state_new rename to state; drop type state_old; \
         alter table orders alter status set default 'PENDING'; commit",
        "insert into orders (store_id) values (7)",
        "update orders set status = 'COOKING' where id = 1",
    ])
    .await;
    assert_eq!(panel.event().await["data"]["order_id"], "2");
    let event = panel.event().await;
    assert_eq!(
        (&event["data"]["order_id"], &event["data"]["status_word"]),
        (&json!("1"), &json!("COOKING")),
        "{event}"
    );
    assert_eq!(press(&app, "7", "2", json!({"status": "preparing"})).await.0, 200);
    let (_, said) = vestnik(&app.database, &["doctor"]);
    assert!(said.contains("`COOKING`"), "{said}");
    // Then the shop renames a value of the enum.
    run(
        &client,
        &[
            "alter type state rename value 'ACCEPTED' to 'CONFIRMED'",
            "insert into orders (store_id, status) values (7, 'CONFIRMED')",
        ],
    )
    .await;
    assert_eq!(
        events(&app, "7").await.last().map(|event| event.1.clone()),
        Some("3".into())
    );
    let (status, body) = press(&app, "7", "3", json!({"status": "preparing"})).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (422, &json!("status_not_possible")),
        "a word that the table does not take any more: {body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_with_another_name_and_a_check_are_told_apart_and_said() {
    let (database, client) = shop(
        "create type stage as enum ('pending', 'accepted', 'completed', 'cancelled'); \
         create table orders (id bigserial primary key, store_id int not null, status stage not null default 'pending', \
             check (id <> 2 or status <> 'accepted')); insert into orders (store_id) values (7), (7)",
        "public.orders",
    )
    .await;
    let app = start(database).await;
    let (status, body) = press(&app, "7", "2", json!({"status": "preparing"})).await;
    assert_eq!(
        (status, &body["error"]["code"], &body["error"]["message"]),
        (
            422,
            &json!("status_refused"),
            &json!("the shop refuses this change: a check of its table forbids the new values")
        )
    );
    run(&client, &["alter type stage rename value 'accepted' to 'taken'"]).await;
    let (status, body) = press(&app, "7", "1", json!({"status": "preparing"})).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (422, &json!("status_not_possible")),
        "{body}"
    );
    let sources = vestnik::sources::health::check(&app.database.client().await)
        .await
        .unwrap();
    let says = "status has no label `accepted`, so an answer with it fails: `vestnik source edit orders`";
    assert!(sources[0].troubles.iter().any(|line| line == says), "{sources:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_any_type_can_be_answered() {
    let database = Database::without_shop().await;
    let client = database.session().await;
    run(
        &client,
        &[
            "create extension if not exists citext",
            "create domain code as varchar(40) check (value <> 'x')",
        ],
    )
    .await;
    let keys = [
        ("bigint", "9007199254740993", "9007199254740993"),
        ("numeric(20)", "12345678901234567890", "12345678901234567890"),
        ("char(8)", "'ab'", "ab"),
        ("code", "'2026/11-7'", "2026%2F11-7"),
        ("text", "'50% & #1 ?'", "50%25%20%26%20%231%20%3F"),
        ("text", "'../x'", "..%2Fx"),
        ("text", "'🍕'", "%F0%9F%8D%95"),
        ("citext", "'AbC'", "AbC"),
        (
            "uuid",
            "'c0ffee00-0000-4000-8000-00000000000a'",
            "c0ffee00-0000-4000-8000-00000000000a",
        ),
        ("smallint", "-7", "-7"),
        ("text", "repeat('k', 300)", &"k".repeat(300)),
        ("text", "' a b '", "%20a%20b%20"),
        ("numeric(10,2)", "1.50", "1.50"),
        ("date", "'2020-11-28'", "2020-11-28"),
        ("timestamptz", "'2020-11-28 12:00+00'", "2020-11-28%2012%3A00%3A00%2B00"),
        ("oid", "4000000000", "4000000000"),
        ("inet", "'10.0.0.1'", "10.0.0.1%2F32"),
        ("double precision", "1e-7", "1e-07"),
        ("bytea", "'\\xc0ffee'", "%5Cxc0ffee"),
        ("text", "'~'", "~"),
    ];
    for (number, (kind, value, _)) in keys.iter().enumerate() {
        run(
            &client,
            &[&format!(
                "create table orders_{number} (id {kind} primary key, store_id int, status text default 'pending')"
            )],
        )
        .await;
        attach(&database, &["--table", &format!("public.orders_{number}")]);
        run(
            &client,
            &[&format!(
                "insert into orders_{number} (id, store_id) values ({value}, {number})"
            )],
        )
        .await;
    }
    let app = start(database).await;
    for (number, (kind, value, path)) in keys.iter().enumerate() {
        let what = format!("{kind} {value}");
        let (status, body) = press(&app, &number.to_string(), path, json!({"status": "preparing"})).await;
        assert_eq!(status, 200, "{what}: {body}");
        let told = events(&app, &number.to_string()).await;
        assert_eq!(told.len(), 2, "{what}: {told:?}");
        assert_eq!(
            (told[0].1.as_str(), told[1].2.as_str()),
            (told[1].1.as_str(), "preparing"),
            "{what}"
        );
        let list = app.get_json(&format!("/api/partner/stores/{number}/orders")).await;
        assert_eq!(
            (&list["orders"][0]["id"], &list["orders"][0]["status"]),
            (&json!(told[0].1), &json!("preparing")),
            "{what}: {list}"
        );
    }
}

/// Creates a role with the rights that `docs/operations.md` lists for the engine. On the shop's tables, the role has
/// only `rights`.
pub async fn engine_role(database: &Database, role: &str, rights: &str) -> String {
    let client = database.session().await;
    let sql = format!(
        "do $$ begin create role {role} login; exception when duplicate_object then null; end $$; \
         grant usage on schema vestnik to {role}; \
         grant select, insert, update, delete on all tables in schema vestnik to {role}; \
         grant usage on all sequences in schema vestnik to {role}; grant execute on all functions in schema vestnik to {role}; {}",
        rights.replace("ROLE", role)
    );
    client.batch_execute(&sql).await.unwrap();
    database.url().replace("postgres@", &format!("{role}@"))
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_works_or_is_named() {
    let database = Database::without_shop().await;
    let client = database.session().await;
    run(
        &client,
        &[
            STANDARD,
            "alter table orders enable row level security; alter table orders force row level security",
        ],
    )
    .await;
    let role = format!("vestnik_test_engine_{}", std::process::id());
    let url = engine_role(
        &database,
        &role,
        "grant select, update, trigger on orders to ROLE; grant postgres to ROLE with admin option",
    )
    .await;
    run(&client, &[&format!("revoke postgres from {role}")]).await;
    let checked = told(&vestnik_at(&url, &["source", "list"]).output().unwrap());
    assert_eq!(checked.0, 0, "{checked:?}");
    attach(&database, &["--table", "public.orders", "--kind", "order"]);
    run(&client, &["insert into orders (store_id) values (7)"]).await;
    let (_, said) = told(&vestnik_at(&url, &["source", "check", "orders"]).output().unwrap());
    for part in [
        "lists are empty",
        &format!(
            "create policy vestnik_select_{role} on public.orders for select to {role} using (current_user = '{role}')"
        ),
        "answers change nothing",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let doctor = told(&vestnik_at(&url, &["doctor"]).output().unwrap()).1;
    assert!(doctor.contains("create policy vestnik_select"), "{doctor}");
    // This policy lets the engine's role read the rows, but not update them. So the answer to the order must fail, and
    // the program must not report success.
    run(
        &client,
        &[&format!("create policy a on orders for select to {role} using (true)")],
    )
    .await;
    let app = start(Database::at(url.clone().into())).await;
    assert_eq!(events(&app, "7").await.len(), 1);
    let (status, body) = press(&app, "7", "1", json!({"status": "preparing"})).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (422, &json!("status_refused")),
        "{body}"
    );
    run(
        &client,
        &[&format!("create policy b on orders for update to {role} using (true)")],
    )
    .await;
    assert_eq!(press(&app, "7", "1", json!({"status": "preparing"})).await.0, 200);
    let doctor = told(&vestnik_at(&url, &["doctor"]).output().unwrap()).1;
    assert!(!doctor.contains("create policy"), "{doctor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_are_deleted_or_withdrawn_are_proposed_to_be_left_out() {
    for (kind, deleted, mark) in [
        ("timestamp", "now()", "deleted_at"),
        ("boolean not null default false", "true", "is_deleted"),
        ("boolean", "true", "removed"),
        ("boolean", "true", "archived"),
    ] {
        let sql = format!(
            "{STANDARD}; alter table orders drop column items; create table order_items (id bigserial primary key, order_id bigint references orders, \
                 title text, quantity int, {mark} {kind}); create index on order_items (order_id)"
        );
        let database = Database::without_shop().await;
        let client = database.session().await;
        run(&client, &[&sql]).await;
        let said = attach(&database, &["--table", "public.orders", "--kind", "order"]);
        let guess = format!("items: a guess to confirm: an item with {mark} is not to be prepared, and nobody sees it");
        assert_eq!(said.contains(&guess), mark == "archived", "{said}");
        run(
            &client,
            &[
                "begin",
                "insert into orders (store_id) values (7)",
                "insert into order_items (order_id, title, quantity) values (1, 'Soup', 1), (1, 'Tea', 2)",
                &format!("update order_items set {mark} = {deleted} where title = 'Tea'"),
                "commit",
            ],
        )
        .await;
        let app = start(database).await;
        let list = app.get_json("/api/partner/stores/7/orders").await;
        assert_eq!(
            list["orders"][0]["items"],
            json!([{"name": "Soup", "quantity": 1}]),
            "{mark}: {list}"
        );
    }
}

// The shop renames columns, or changes their types.

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_column_is_said_and_mended() {
    let (database, client) = shop(STANDARD, "public.orders").await;
    let app = start(database).await;
    run(
        &client,
        &["insert into orders (store_id, customer_name, total) values (7, 'Ann', 500)"],
    )
    .await;
    run(
        &client,
        &[
            "alter table orders rename customer_name to guest",
            "alter table orders alter total type numeric(10,2) using total / 100.0",
        ],
    )
    .await;
    run(
        &client,
        &["insert into orders (store_id, guest, total) values (7, 'Bob', 12.50)"],
    )
    .await;
    let list = app.get_json("/api/partner/stores/7/orders").await;
    assert_eq!(list["orders"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(list["orders"][0]["customer_name"], Value::Null);
    let doctor = vestnik(&app.database, &["doctor"]).1;
    assert!(
        doctor.contains("no column customer_name any more") && doctor.contains("total is of type numeric(10,2) now"),
        "{doctor}"
    );
    assert_eq!(press(&app, "7", "2", json!({"status": "preparing"})).await.0, 200);
    // The operator changes the mapping, so that it names the new column. After that, the engine also translates earlier
    // events with the new mapping.
    let (_, shown) = vestnik(&app.database, &["source", "show", "orders"]);
    let mended = shown
        .replace("\"customer_name\"", "\"guest\"")
        .replace("unit = \"minor\"", "unit = \"major\"");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("map.toml");
    std::fs::write(&file, mended).unwrap();
    let said = attach(&app.database, &["--map", file.to_str().unwrap()]);
    assert!(said.contains("earlier events have guest now"), "{said}");
    // The node loads the new mapping after a notification, so the test repeats the request until the name appears.
    let told = timeout(PATIENCE, async {
        loop {
            let told = app.get_json("/api/partner/stores/7/events").await;
            if told["events"][1]["data"]["customer_name"] == "Bob" {
                break told;
            }
            look_again().await;
        }
    })
    .await
    .expect("the mended mapping counts");
    assert_eq!(told["events"][1]["data"]["total"], 1250, "{told}");
    assert!(!vestnik(&app.database, &["doctor"]).1.contains("orders:"), "well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_goes_on() {
    let (database, client) = shop(STANDARD, "public.orders").await;
    if !database.can_be_dumped().await {
        return;
    }
    run(&client, &["insert into orders (store_id) values (7), (7)"]).await;
    let directory = tempfile::tempdir().unwrap();
    let dump = directory.path().join("dump");
    for arguments in [&["-Fc"][..], &["-Fp"]] {
        let dumped = Command::new("pg_dump")
            .args(arguments)
            .arg("-f")
            .arg(&dump)
            .arg(database.url())
            .output()
            .unwrap();
        assert!(dumped.status.success(), "{dumped:?}");
        let restored = Database::empty().await;
        let restore = match arguments {
            ["-Fc"] => Command::new("pg_restore")
                .args(["-j2", "--exit-on-error", "-d", restored.url()])
                .arg(&dump)
                .output()
                .unwrap(),
            _ => Command::new("psql")
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=on", "-f"])
                .arg(&dump)
                .arg(restored.url())
                .output()
                .unwrap(),
        };
        assert!(restore.status.success(), "{restore:?}");
        // The shop writes to the restored database before anybody has run a command of Vestnik there.
        let shop = restored.session().await;
        run(
            &shop,
            &[
                "insert into orders (store_id) values (7)",
                "update orders set status = 'ready' where id = 1",
            ],
        )
        .await;
        let (code, said) = vestnik(&restored, &["migrate"]);
        assert_eq!(code, 0, "{said}");
        run(&shop, &["insert into orders (store_id) values (7)"]).await;
        let app = start(restored).await;
        let told = events(&app, "7").await;
        assert!(is(told.last().unwrap(), "new_order", "4"), "{told:?}");
        assert!(told.iter().any(|event| is(event, "new_order", "3")), "{told:?}");
        assert_eq!(press(&app, "7", "4", json!({"status": "preparing"})).await.0, 200);
    }
    // Load a dump that contains only data into existing tables. The triggers create one event for each row, and no
    // statement fails.
    let dumped = Command::new("pg_dump")
        .args(["--data-only", "-t", "public.orders", "-f"])
        .arg(&dump)
        .arg(database.url())
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    run(&client, &["truncate orders"]).await;
    let restore = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=on", "-f"])
        .arg(&dump)
        .arg(database.url())
        .output()
        .unwrap();
    assert!(restore.status.success(), "{restore:?}");
}
