//! Status words of derived sources that the mapping lacks: `source list` names them until the mapping has learnt them,
//! and `source check` names those of the newest rows.

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
