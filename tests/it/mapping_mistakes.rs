//! Mistakes in the mapping of a direct source, and queries that fail: `source check`, `attach`, `source list` and doctor
//! name them.

use serde_json::json;
use vestnik::infra::config::ShopSchema;
use vestnik::token::Stores;

use crate::field_cases::{engine_role, told, vestnik, vestnik_at};
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::http;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

/// Room bookings whose status is a number: 1 asked, 2 confirmed, 3 over, 4 rejected, 5 cancelled.
const BOOKINGS: &str = "create table users (id int primary key, name text, phone text); \
     insert into users values (1, 'Anna', '+7 900'); \
     create table bookings (id serial primary key, room_id int not null, state smallint not null check (state in (1, 2, 3, 4, 5)), \
         user_id int default 1, price numeric(12,2), created_dt timestamp not null default now()); \
     insert into bookings (room_id, state, price) values (7, 1, 10), (7, 4, 10.50), (7, 4, 10.25), (7, 4, 12), (7, 2, 9)";

const MAPPING: &str = "table = 'public.bookings'\nname = 'rooms'\nkind = 'booking'\nkey = 'id'\nstore = 'room_id'\n\
     [status]\ncolumn = 'state'\npending = [1]\npreparing = [2]\ncompleted = [3]\nrejected = [4]\ncancelled = [5]\n\
     [fields]\ncreated_at = { column = 'created_dt', zone = 'UTC' }\n";

const DETAILS: &str = "[details]\nquery = '''select b.id::text as key, u.name as customer_name, u.phone from public.bookings b \
     join public.users u on u.id = b.user_id where b.id = any ($1::int[])'''\n";

async fn rooms() -> Database {
    let database = Database::without_shop().await;
    database.client().await.batch_execute(BOOKINGS).await.unwrap();
    database
}

/// Runs a command for a file with this mapping.
pub fn with_mapping(database: &Database, arguments: &[&str], mapping: &str) -> (i32, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mapping).unwrap();
    let path = file.path().to_str().unwrap();
    vestnik(database, &[arguments, &[path]].concat())
}

#[tokio::test]
async fn a_word_for_paid_that_its_column_never_holds_is_refused() {
    let database = rooms().await;
    let mapping = format!("{MAPPING}paid = {{ column = 'state', words = ['Paid'] }}\n");
    let (code, said) = with_mapping(&database, &["source", "check"], &mapping);
    assert_eq!(code, 2, "{said}");
    let words = "fields.paid: state is of type smallint and never holds `Paid`: write the values that it has";
    assert!(said.contains(words), "{said}");
}

#[tokio::test]
async fn a_status_word_of_the_newest_rows_without_a_meaning_is_named_with_its_rows() {
    let database = rooms().await;
    let mapping = MAPPING.replace("rejected = [4]\ncancelled = [5]\n", "");
    for arguments in [&["source", "check"][..], &["attach", "--map"]] {
        let (code, said) = with_mapping(&database, arguments, &mapping);
        assert_eq!(code, 0, "{said}");
        for words in [
            "status: `4` is not mapped (3 of the newest orders have it, the newest is the order with key 4): such an order rings, and is shown with this word",
            "status: `5` means nothing yet",
        ] {
            assert!(said.contains(words), "{words} is not in {said}");
        }
    }
    let (code, said) = with_mapping(&database, &["source", "check"], MAPPING);
    assert_eq!(code, 0, "{said}");
    assert!(
        !said.contains("means nothing") && !said.contains("not mapped"),
        "{said}"
    );
}

#[tokio::test]
async fn a_status_word_that_its_column_never_holds_is_refused() {
    let database = rooms().await;
    let mapping = MAPPING.replace("pending = [1]", "pending = ['pending']");
    for arguments in [&["source", "check"][..], &["attach", "--map"]] {
        let (code, said) = with_mapping(&database, arguments, &mapping);
        assert_eq!(code, 2, "{said}");
        let words = "state is of type smallint and never holds `pending`";
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn what_a_mapping_says_is_not_noted_and_what_it_counts_wrong_is() {
    let database = rooms().await;
    let function = "create function public.answer(key text, status text, reason text, minutes integer, by text) returns boolean \
         language sql as 'select true'";
    database.client().await.batch_execute(function).await.unwrap();
    let check = |mapping: &str| {
        let (code, said) = with_mapping(&database, &["source", "check"], mapping);
        assert_eq!(code, 0, "{said}");
        said
    };
    let without_words = MAPPING.replace("completed = [3]\n", "");
    assert!(check(&without_words).contains("status.completed: no word says it"));
    let said = check(&format!("{without_words}[answer]\nfunction = 'public.answer'\n"));
    assert!(!said.contains("no word says it"), "{said}");

    let zone = "created_at has no time zone";
    assert!(!check(MAPPING).contains(zone));
    assert!(!check(&format!("zone = 'UTC'\n{}", MAPPING.replace(", zone = 'UTC'", ""))).contains(zone));
    assert!(check(&MAPPING.replace(", zone = 'UTC'", "")).contains(zone));

    let said = check(&format!("{MAPPING}total = {{ column = 'price', unit = 'minor' }}\n"));
    let words = "fields.total: 2 of the newest rows have a fraction, and `unit = \"minor\"` counts cents: 10.25 is read as 10 cents";
    assert!(said.contains(words), "{said}");
    let said = check(&format!("{MAPPING}total = {{ column = 'price', unit = 'major' }}\n"));
    assert!(!said.contains("fraction"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_details_query_that_fails_is_named_with_its_grant_and_costs_only_the_details() {
    let database = rooms().await;
    let (code, said) = with_mapping(&database, &["attach", "--map"], &format!("{MAPPING}{DETAILS}"));
    assert_eq!(code, 0, "{said}");
    let client = database.client().await;
    let role = format!("vestnik_test_details_{}", std::process::id());
    let url = engine_role(&database, &role, "grant select, update on bookings to ROLE").await;
    let run = |arguments: &[&str]| told(&vestnik_at(&url, arguments).output().unwrap());
    let grant = format!("permission denied for table users (42501): grant select on public.users to {role}");
    for arguments in [&["source", "list"][..], &["doctor"], &["source", "check", "rooms"]] {
        let (_, said) = run(arguments);
        assert!(said.contains(&grant), "{grant} is not in {arguments:?}: {said}");
    }
    let (code, said) = run(&["source", "check", "rooms"]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("booking #5 of store 7") && said.contains("! details cannot be read: ?"),
        "{said}"
    );
    let app = App::start_on(Database::at(url.clone().into()), |config| {
        config.shop.schema = ShopSchema::Own
    })
    .await;
    app.until_metric("vestnik_sources_unhealthy", |sources| sources == 1.0)
        .await;
    let list = app.get_json("/api/partner/stores/7/bookings").await;
    let first = &list["bookings"][0];
    assert_eq!(
        first["unreadable"],
        json!([{"field": "details", "text": "?"}]),
        "{list}"
    );

    client
        .batch_execute(&format!("grant select on users to {role}"))
        .await
        .unwrap();
    let (code, said) = run(&["source", "check", "rooms"]);
    assert_eq!(code, 0, "{said}");
    let (_, said) = run(&["source", "list"]);
    assert!(said.contains("ok     rooms"), "{said}");
    client
        .batch_execute("alter table users rename phone to mobile")
        .await
        .unwrap();
    for arguments in [&["source", "list"][..], &["doctor"], &["source", "check", "rooms"]] {
        let (_, said) = run(arguments);
        assert!(said.contains("column u.phone does not exist"), "{arguments:?}: {said}");
    }
    app.engine.shut_down().await;
}

/// A details query that reads the table `users` in a scalar subquery only.
const SUBQUERY: &str = "[details]\nquery = '''select b.id::text as key, \
     (select u.name from public.users u where u.id = b.user_id) as customer_name from public.bookings b where b.id = any ($1::int[])'''\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_only_a_subquery_of_the_details_lacks_is_named_with_its_grant_before_and_after_it_fails() {
    let database = rooms().await;
    let (code, said) = with_mapping(&database, &["attach", "--map"], &format!("{MAPPING}{SUBQUERY}"));
    assert_eq!(code, 0, "{said}");
    let role = format!("vestnik_test_subquery_{}", std::process::id());
    let url = engine_role(&database, &role, "grant select, update on bookings to ROLE").await;
    let grant = format!("permission denied for table users (42501): grant select on public.users to {role}");
    for arguments in [&["source", "list"][..], &["doctor"], &["source", "check", "rooms"]] {
        let (_, said) = told(&vestnik_at(&url, arguments).output().unwrap());
        assert!(said.contains(&grant), "{grant} is not in {arguments:?}: {said}");
    }

    let telegram = Telegram::start().await;
    let served = Database::at(url.into());
    let node = Node::serving(&served, &telegram.url(), &[("SHOP_SCHEMA", "own")]).await;
    let bearer = format!("Bearer {}", database.token(Stores::All).await);
    let headers = [("Authorization", bearer.as_str())];
    let path = "/api/partner/stores/7/bookings";
    let listed = http::call(node.address().await, "GET", path, &headers, None).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    let line = node
        .until_said("a list has orders without their items or details")
        .await;
    assert!(line.contains(&grant), "{line}");
    let path = "/api/partner/stores/7/events";
    let events = http::call(node.address().await, "GET", path, &headers, None).await;
    assert_eq!(events.status, 200, "{}", events.text());
    let insert = "insert into bookings (room_id, state) values (7, 1)";
    database.client().await.batch_execute(insert).await.unwrap();
    let events = http::call(node.address().await, "GET", path, &headers, None).await;
    assert_eq!(events.status, 200, "{}", events.text());
    let line = node.until_said("items or details could not be looked up").await;
    assert!(line.contains(&grant), "{line}");
}

#[tokio::test]
async fn a_details_query_that_fails_for_some_rows_is_named_beside_an_items_table() {
    let database = rooms().await;
    let lines = "create table booking_lines (id serial primary key, booking_id int, name text); \
        insert into booking_lines (booking_id, name) values (5, 'Breakfast')";
    database.client().await.batch_execute(lines).await.unwrap();
    let items = "[items]\ntable = 'public.booking_lines'\norder_key = 'booking_id'\nname = 'name'\n";
    let details = "[details]\nquery = 'select b.id::text as key, (1 / (b.id - b.id))::text as comment from public.bookings b \
        where b.id = any ($1::int[])'\n";
    let check = |rest: &str| with_mapping(&database, &["source", "check"], &format!("{MAPPING}{rest}"));
    let (code, said) = check(&format!("{items}{details}"));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("details.query: division by zero"), "{said}");
    let (code, said) = check(&format!("{items}note = 'name.note'\n{DETAILS}"));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("items: invalid input syntax for type json"), "{said}");
    assert!(!said.contains("details.query:"), "{said}");
}

#[tokio::test]
async fn a_column_that_takes_no_number_is_refused_for_minutes_and_version() {
    let database = rooms().await;
    let columns = "alter table bookings add eta interval, add version text, add seen int, add note text";
    database.client().await.batch_execute(columns).await.unwrap();
    let check = |answer: &str| {
        with_mapping(
            &database,
            &["source", "check"],
            &format!("{MAPPING}[answer]\n{answer}\n"),
        )
    };
    let (code, said) = check("minutes = 'eta'\nversion = 'version'");
    assert_eq!(code, 2, "{said}");
    for words in [
        "answer.minutes: eta is of type interval, and an answer writes a number of minutes",
        "answer.version: version is of type text, and an answer writes a whole number",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let (code, said) = check("minutes = 'note'\nversion = 'seen'");
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn newest_rows_that_are_all_hidden_are_noted() {
    let database = rooms().await;
    let mapping = MAPPING
        .replace("pending = [1]\n", "hidden = [1, 2, 4]\n")
        .replace("rejected = [4]\n", "");
    let mapping = mapping
        .replace("preparing = [2]\n", "pending = [5]\n")
        .replace("cancelled = [5]\n", "");
    let words = "note: status: each of the newest 5 rows is hidden, so nobody sees them";
    let (_, said) = with_mapping(&database, &["source", "check"], &mapping);
    assert!(said.contains(words), "{said}");
    let (_, said) = with_mapping(&database, &["source", "check"], MAPPING);
    assert!(!said.contains(words), "{said}");
}
