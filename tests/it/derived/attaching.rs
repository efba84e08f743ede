//! Attaching a derived source: which checks `attach` makes, what it creates in the database, and what `detach` leaves
//! there.

use std::path::Path;
use std::process::Command;

use vestnik::sources::attach::{self, Error, Options};
use vestnik::sources::catalog::Table;
use vestnik::sources::derived::preset;

use super::shop::{Shop, mapping, parts};
use crate::support::app::App;
use crate::support::db::Database;

pub const ORDER: &str = "insert into spree_orders (number, state, status, currency, store_id, completed_at, total, created_at, updated_at) \
    values ('R1', 'complete', 'placed', 'USD', 1, now(), 19.00, now(), now())";

pub async fn spree() -> Database {
    let database = Database::fresh().await;
    database.client().await.batch_execute(&parts("spree").0).await.unwrap();
    database
}

#[tokio::test]
async fn orders_that_existed_before_are_listed_and_notify_nobody() {
    let database = spree().await;
    let writer = database.client().await;
    writer.batch_execute(ORDER).await.unwrap();
    database.attach(&mapping("spree")).await;
    let app = App::start_on(database, |_| ()).await;
    app.database
        .until("select not exists (select from vestnik.vst_change)")
        .await;
    let list = app.get_json("/api/partner/stores/1/orders").await;
    assert_eq!(list["orders"][0]["number"], "R1");
    let mut panel = app.panel("1", None).await.live().await;
    writer
        .batch_execute("update spree_orders set shipment_state = 'shipped'")
        .await
        .unwrap();
    let event = panel.event().await;
    assert_eq!(
        event["type"], "order_status_changed",
        "the first that anybody is told of it"
    );
    assert_eq!(
        app.get_json("/api/partner/stores/1/events").await["events"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn another_mapping_counts_for_the_orders_that_are_there() {
    let mut shop = Shop::open("spree", "read committed").await;
    shop.write(ORDER).await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    let other = mapping("spree").replace("number = \"o.number\"", "number = \"'No. ' || o.number\"");
    shop.app.database.attach(&other).await;
    shop.settle().await;
    shop.app
        .database
        .until("select exists (select from vestnik.vst_projection_3 where data ->> 'number' = 'No. R1')")
        .await;
    assert_eq!(shop.list("1").await[0]["number"], "No. R1");
}

#[tokio::test]
async fn every_expression_that_postgres_cannot_read_is_named() {
    let database = spree().await;
    let wrong = mapping("spree")
        .replace("total = \"o.total\"", "total = \"o.totl\"")
        .replace("phone = \"a.phone\"", "phone = \"a.phone ||\"")
        .replace("column = \"order_id\"", "column = \"order\"");
    let attached = attach::attach(&mut database.session().await, &wrong, Options::default(), &mut |_| ()).await;
    let Err(Error::Unfit { problems, .. }) = attached else {
        panic!("{attached:?}");
    };
    for expected in [
        "derived.total: column o.totl does not exist",
        "derived.phone: syntax error",
        "derived.watch of spree_line_items: public.spree_line_items has no column order",
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(expected)),
            "{expected} in {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 3, "{problems:#?}");
}

#[tokio::test]
async fn expressions_run_as_a_role_that_may_read_what_they_read_and_nothing_else() {
    let database = spree().await;
    database.attach(&mapping("spree")).await;
    const RIGHTS: &str = "select pg_get_userbyid(proowner) = 'vestnik_reader' and prosecdef and provolatile = 's' \
            and has_table_privilege('vestnik_reader', 'spree_orders', 'select') \
            and not has_table_privilege('vestnik_reader', 'spree_orders', 'update') \
            and not has_table_privilege('vestnik_reader', 'spree_payments', 'select') \
            and not has_table_privilege('vestnik_reader', 'vestnik.vst_token', 'select') \
            and not has_function_privilege('public', p.oid, 'execute') \
        from pg_proc p where proname = 'vst_derive_3'";
    let row = database.client().await.query_one(RIGHTS, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn a_source_that_is_detached_leaves_nothing() {
    const LEFT: &str = "select (select count(*) from pg_trigger where tgrelid::regclass::text like 'spree%' and not tgisinternal) \
        + (select count(*) from pg_proc where proname similar to 'vst_(record|watch|derive)_3%') \
        + (select count(*) from pg_class where relname like 'vst_projection_3%')";
    let database = spree().await;
    let mut client = database.session().await;
    database.attach(&mapping("spree")).await;
    assert!(client.query_one(LEFT, &[]).await.unwrap().get::<_, i64>(0) > 10);
    attach::detach(&mut client, "spree", &mut |_| ()).await.unwrap();
    assert_eq!(client.query_one(LEFT, &[]).await.unwrap().get::<_, i64>(0), 0);
    client.batch_execute(ORDER).await.unwrap();
}

#[tokio::test]
async fn what_is_attached_just_so_is_not_attached_again() {
    let database = spree().await;
    let mut client = database.session().await;
    let mut attach = async |toml: &str| {
        attach::attach(&mut client, toml, Options::default(), &mut |_| ())
            .await
            .unwrap()
    };
    assert_eq!(attach(&mapping("spree")).await, attach::Attached::New("spree".into()));
    assert_eq!(
        attach(&mapping("spree")).await,
        attach::Attached::Unchanged("spree".into())
    );
}

#[tokio::test]
async fn a_preset_is_attached_by_its_name_and_shows_what_a_partner_would_see() {
    let database = spree().await;
    database.client().await.batch_execute(ORDER).await.unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vestnik"))
            .args(arguments)
            .env("DATABASE_URL", database.url())
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let attached = run(&["attach", "--preset", "spree"]);
    assert!(attached.contains("order #R1 of store 1: pending"), "{attached}");
    assert!(
        attached.contains("attached public.spree_orders as source spree"),
        "{attached}"
    );
    assert!(run(&["source", "check", "spree"]).contains("total        19.00 USD"));
    assert!(run(&["source", "list"]).contains("ok     spree"));
}

#[tokio::test]
async fn a_table_of_a_known_system_is_recognised_by_its_columns() {
    for (system, table) in [
        ("spree", "spree_orders"),
        ("openfoodnetwork", "spree_orders"),
        ("vendure", "\"order\""),
        ("evershop", "\"order\""),
    ] {
        let database = Database::fresh().await;
        database.client().await.batch_execute(&parts(system).0).await.unwrap();
        let mut client = database.session().await;
        let table = Table::find(&client, table).await.unwrap();
        assert_eq!(preset::recognise(&mut client, &table).await.unwrap(), Some(system));
    }
}

#[tokio::test]
async fn whoever_serves_has_rights_on_what_a_derived_source_adds() {
    let database = spree().await;
    let client = database.client().await;
    client
        .batch_execute(
            "do $$ begin create role derived_server nologin; exception when duplicate_object then null; end $$; \
             grant usage on schema vestnik to derived_server; grant select, insert, update, delete on all tables in schema vestnik to derived_server",
        )
        .await
        .unwrap();
    database.attach(&mapping("spree")).await;
    const RIGHTS: &str = "select has_table_privilege('derived_server', 'vestnik.vst_projection_3', 'delete') \
        and has_function_privilege('derived_server', 'vestnik.vst_derive_3(text[], text)', 'execute')";
    let row = client.query_one(RIGHTS, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn a_preset_that_meets_another_version_says_what_is_missing() {
    let database = spree().await;
    database
        .client()
        .await
        .batch_execute("alter table spree_orders rename column shipment_state to fulfillment_status")
        .await
        .unwrap();
    let (code, said) = vestnik(&database, &["attach", "--preset", "spree"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("derived.status: column o.shipment_state does not exist"),
        "{said}"
    );
}

#[tokio::test]
async fn the_text_of_a_preset_for_another_version_is_kept_for_correction() {
    let database = spree().await;
    let client = database.client().await;
    client.batch_execute(ORDER).await.unwrap();
    let other = "alter table spree_orders rename column shipment_state to fulfillment_status";
    client.batch_execute(other).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spree_orders.mapping.toml");
    let (code, said) = vestnik_in(
        directory.path(),
        &database,
        &["attach", "--dry-run", "--preset", "spree"],
    )
    .await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(preset::mapping("spree").unwrap().trim_end()), "{said}");
    let last = "Save the mapping above as FILE, correct it there, then: vestnik attach --map FILE";
    assert!(said.contains(last) && !file.exists(), "{said}");

    let (code, said) = vestnik_in(directory.path(), &database, &["attach", "--preset", "spree"]).await;
    assert_eq!(code, Some(2), "{said}");
    let missing = "derived.status: column o.shipment_state does not exist";
    let last = "The mapping is in spree_orders.mapping.toml: correct it there, then: vestnik attach --map spree_orders.mapping.toml";
    assert!(said.contains(missing) && said.trim_end().ends_with(last), "{said}");

    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, preset::mapping("spree").unwrap());
    std::fs::write(&file, text.replace("o.shipment_state", "o.fulfillment_status")).unwrap();
    let attach = ["attach", "--map", "spree_orders.mapping.toml"];
    let (code, said) = vestnik_in(directory.path(), &database, &attach).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_table_of_another_version_of_a_known_system_is_said_to_look_like_it() {
    let database = spree().await;
    let other = "alter table spree_orders rename column shipment_state to fulfillment_status; \
        create table \"order\" (id serial primary key, store_id int, state text, total int)";
    database.client().await.batch_execute(other).await.unwrap();
    let propose = async |table: &str| vestnik(&database, &["attach", "--dry-run", "--table", table]).await.1;
    let said = propose("spree_orders").await;
    let named =
        "public.spree_orders looks like spree, another version: vestnik attach --preset spree names what is missing";
    assert!(said.contains(named), "{said}");
    let said = propose("\"order\"").await;
    assert!(!said.contains("looks like"), "{said}");
}

/// Runs the program on this database, and returns its exit code and its output.
pub async fn vestnik(database: &Database, arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    vestnik_in(directory.path(), database, arguments).await
}

/// Runs the program in this directory.
async fn vestnik_in(directory: &Path, database: &Database, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .env("VESTNIK_SHOP_SCHEMA", "own")
        .current_dir(directory);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_right_that_attach_or_edit_lacks_is_named_with_its_grant() {
    let database = spree().await;
    database.client().await.batch_execute(ORDER).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mapping("spree")).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let role = format!("vestnik_test_attaches_{}", std::process::id());
    let url = crate::field_cases::engine_role(
        &database,
        &role,
        "grant all on schema vestnik to ROLE; grant select, trigger on spree_orders to ROLE",
    )
    .await;
    let served = Database::at(url.into());
    let attach = async || vestnik(&served, &["attach", "--trust-owner", "--map", &path]).await;
    let (code, said) = attach().await;
    let grant = format!(
        "permission denied for table spree_addresses (42501): grant select on public.spree_addresses to {role}"
    );
    assert!(code == Some(2) && said.contains(&grant), "{said}");
    let client = database.client().await;
    let grants = format!("grant select on all tables in schema public to {role}");
    client.batch_execute(&grants).await.unwrap();
    let (code, said) = attach().await;
    let trigger = format!("as role {role}: grant select, trigger on spree_line_items to {role}");
    assert!(code == Some(2) && said.contains(&trigger), "{said}");
}

#[tokio::test]
async fn a_watched_table_that_becomes_a_partition_is_named_until_migrate_watches_the_partitioned_one() {
    let database = spree().await;
    database.attach(&mapping("spree")).await;
    let client = database.client().await;
    let shop = async |sql: &str| client.batch_execute(sql).await.unwrap();
    let said = async || {
        let health = vestnik::sources::health::check(&client).await.unwrap();
        let spree = health.into_iter().find(|health| health.table == "public.spree_orders");
        spree.unwrap().troubles.join("\n")
    };
    assert_eq!(said().await, "");
    shop(
        "alter table spree_line_items rename to spree_line_items_1; \
         create table spree_line_items (like spree_line_items_1 including defaults) partition by range (id); \
         alter table spree_line_items attach partition spree_line_items_1 for values from (0) to (1000)",
    )
    .await;
    assert!(said().await.contains("the triggers of"), "{}", said().await);
    vestnik::migrate::run(&database.config(), &mut |_| ()).await.unwrap();
    assert_eq!(said().await, "");
    shop("delete from vestnik.vst_change").await;
    shop(
        "insert into spree_line_items (variant_id, order_id, quantity, price, currency, created_at, updated_at) \
             values (1, 1, 2, 9.50, 'USD', now(), now())",
    )
    .await;
    let queued = client
        .query("select from vestnik.vst_change where key = '1'", &[])
        .await
        .unwrap();
    assert_eq!(queued.len(), 1);
}
