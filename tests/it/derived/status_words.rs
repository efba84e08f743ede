//! Status words of derived sources that the mapping lacks: `source list` names them until the mapping has learnt them.

use vestnik::sources::health;

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
