//! Status words of derived sources that the mapping lacks: `source list` names them until the mapping has learnt them,
//! and `source check` names those of the newest rows.

use vestnik::infra::config::ShopSchema;
use vestnik::sources::health;

use super::attaching::vestnik;
use crate::support::app::App;
use crate::support::db::Database;

/// A shop whose statuses are rows of a table.
const SHOP: &str = "create table statuses (status_id int primary key, status_name text); \
    insert into statuses values (1, 'Received'), (10, 'Ready for collection'); \
    create table purchase (id int primary key, shop int, status_id int)";

/// A mapping with `more` as the first branches of the expression for the status.
fn mapping(more: &str) -> String {
    format!(
        "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\n\
         from = 'left join statuses s on s.status_id = o.status_id'\nstore = 'o.shop'\n\
         status = \"case {more} when s.status_name = 'Received' then 'pending' else s.status_name end\"\n"
    )
}

async fn troubles(app: &App) -> Vec<String> {
    let client = app.database.client().await;
    let sources = health::check(&client).await.unwrap();
    let source = sources.into_iter().find(|source| source.name == "purchase").unwrap();
    source.troubles
}

#[tokio::test]
async fn a_word_is_named_until_the_mapping_has_learnt_it() {
    const COMPUTED: &str = "select not exists (select from vestnik.vst_change)";
    for meaning in ["ready", "hidden"] {
        let database = Database::fresh().await;
        database.client().await.batch_execute(SHOP).await.unwrap();
        database.attach(&mapping("")).await;
        let app = App::start_on(database, |_| ()).await;
        let mut panel = app.panel("7", None).await.live().await;
        app.write("insert into purchase values (1, 7, 1)").await;
        panel.event().await;
        app.write("update purchase set status_id = 10").await;
        panel.event().await;
        let words = "public.purchase has the status `Ready for collection`, which means nothing in its mapping";
        for other in ["", "when o.id = 99 then 'ready'"] {
            app.database.attach(&mapping(other)).await;
            app.database.until(COMPUTED).await;
            let named = troubles(&app).await;
            assert!(named.len() == 1 && named[0].starts_with(words), "{named:#?}");
        }
        let learnt = format!("when s.status_name = 'Ready for collection' then '{meaning}'");
        app.database.attach(&mapping(&learnt)).await;
        app.database.until(COMPUTED).await;
        assert_eq!(troubles(&app).await, [""; 0], "{meaning}");
    }
}

#[tokio::test]
async fn a_word_of_the_newest_rows_that_no_literal_says_is_named_with_its_rows() {
    let database = Database::fresh().await;
    let rows = "insert into statuses values (11, 'Awaiting courier'); insert into purchase values (1, 7, 1), (2, 7, 11), (3, 7, 11)";
    let client = database.client().await;
    client.batch_execute(&format!("{SHOP}; {rows}")).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let run = async |more: &str, arguments: &[&str]| {
        std::fs::write(file.path(), mapping(more)).unwrap();
        let (code, said) = vestnik(&database, &[arguments, &[path.as_str()]].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let named = "warning: status: `Awaiting courier` is not mapped (2 of the newest orders have it, the newest is the order with key 3): \
        such an order rings, and is shown with this word";
    for arguments in [&["source", "check"][..], &["attach", "--map"]] {
        let said = run("", arguments).await;
        assert!(said.contains(named), "{said}");
    }
    let said = run("when s.status_id = 11 then 'Awaiting courier'", &["source", "check"]).await;
    assert!(
        said.contains("derived.status: `Awaiting courier` is no status"),
        "{said}"
    );
    assert!(!said.contains("is not mapped"), "it is named once: {said}");
    let said = run("when s.status_id = 11 then 'delivering'", &["source", "check"]).await;
    assert!(!said.contains("Awaiting courier"), "{said}");
}

/// The tables that the example in `docs/derived-sources.md` reads.
const RESTAURANT: &str = "create table statuses (status_id bigint primary key, status_name text); \
    insert into statuses values (1, 'Received'), (2, 'Pending'), (3, 'Preparation'), (4, 'Delivery'), (5, 'Completed'), (9, 'Canceled'); \
    create table status_history (object_id bigint, object_type text, status_id bigint, comment text); \
    create table order_menus (order_menu_id bigserial primary key, order_id bigint, name text, quantity int, price numeric(15, 4), comment text); \
    create table order_menu_options (order_option_id bigserial primary key, order_menu_id bigint, order_option_name text); \
    create table orders (order_id bigserial primary key, location_id bigint, status_id bigint, processed boolean, first_name text, last_name text, \
        telephone text, comment text, order_type text, order_total numeric(15, 4), order_date date, order_time time, created_at timestamp); \
    insert into orders (location_id, status_id, processed) \
        values (7, 1, true), (7, 2, true), (7, 3, true), (7, 4, true), (7, 5, true), (7, 9, true), (7, 1, false)";

#[tokio::test]
async fn the_example_with_statuses_of_rows_survives_that_the_owner_renames_them() {
    const COMPUTED: &str =
        "select not exists (select from vestnik.vst_change) and exists (select from vestnik.vst_projection_1)";
    const STATUSES: &str =
        "select string_agg(key || ' ' || status, ', ' order by key::int) from vestnik.vst_projection_1";
    let document = include_str!("../../../docs/derived-sources.md");
    let of_rows = document
        .split_once("statuses are rows that the owner may rename")
        .unwrap()
        .1;
    let (_, example) = of_rows.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let database = Database::without_shop().await;
    let client = database.client().await;
    client.batch_execute(RESTAURANT).await.unwrap();
    let warnings = database.attach(example).await;
    assert!(
        warnings.iter().all(|line| line.starts_with("a write to ")),
        "{warnings:#?}"
    );
    let app = App::start_on(database, |config| config.shop.schema = ShopSchema::Own).await;
    app.database.until(COMPUTED).await;
    let before = "1 pending, 2 pending, 3 preparing, 4 delivering, 5 completed, 6 cancelled";
    let shown: String = client.query_one(STATUSES, &[]).await.unwrap().get(0);
    assert_eq!(shown, before);
    app.write(
        "update statuses set status_name = 'Bestellung ' || status_id; insert into statuses values (10, 'Abholbereit')",
    )
    .await;
    app.write("update orders set telephone = '1'; insert into orders (location_id, status_id, processed) values (7, 10, true)")
        .await;
    app.database
        .until("select exists (select from vestnik.vst_projection_1 where key = '8')")
        .await;
    app.database.until(COMPUTED).await;
    let shown: String = client.query_one(STATUSES, &[]).await.unwrap().get(0);
    assert_eq!(shown, format!("{before}, 8 Abholbereit"));
}
