//! The role of `vestnik serve` may not read the table of orders of a derived source, whose expressions run with the rights
//! of another role.

use serde_json::json;
use vestnik::sources::health::{self, Health};

use crate::field_cases::{engine_role, told, vestnik_at};
use crate::support::app::App;
use crate::support::db::Database;

const TABLES: &str =
    "create table purchase (id int primary key, shop int, state text); insert into purchase values (1, 7, 'new')";
const MAPPING: &str = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
    status = \"case o.state when 'new' then 'pending' else 'preparing' end\"\n";
const ANSWER: &str = "[answer]\npreparing = \"update purchase set state = 'ok' where id = $1::int\"\n";

async fn health_of(url: &str) -> Health {
    let client = Database::at(url.to_owned().into()).client().await;
    let sources = health::check(&client).await.unwrap();
    sources.into_iter().find(|source| source.name == "purchase").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_read_the_orders_is_a_problem_only_where_something_fails() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    database.attach(MAPPING).await;
    let role = format!("vestnik_test_reading_{}", std::process::id());
    let rights = "grant usage on schema public to ROLE; grant execute on all functions in schema vestnik to ROLE; \
        grant select, update on orders, bookings to ROLE";
    let url = engine_role(&database, &role, rights).await;
    let grant = format!("grant select on public.purchase to {role}");
    // No order is computed yet: the existing orders must be found first.
    let before = health_of(&url).await;
    let line = format!("role {role} may not select public.purchase, so no order is seen: {grant}");
    assert_eq!(before.troubles, [line], "{before:#?}");

    client.batch_execute(&grant).await.unwrap();
    let app = App::start_on(Database::at(url.clone().into()), |_| ()).await;
    database
        .until("select not exists (select from vestnik.vst_change) and exists (select from vestnik.vst_projection_3)")
        .await;
    client
        .batch_execute(&format!("revoke select on purchase from {role}"))
        .await
        .unwrap();
    let mut panel = app.panel("7", None).await.live().await;
    client
        .batch_execute("insert into purchase values (2, 7, 'new')")
        .await
        .unwrap();
    assert_eq!(panel.event().await["data"]["order_id"], "2");
    let list = app.get_json("/api/partner/stores/7/orders").await;
    let keys: Vec<_> = list["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| &order["id"])
        .collect();
    assert!(keys.contains(&&json!("2")) && keys.contains(&&json!("1")), "{list}");
    let accepted = app
        .post("/api/partner/stores/7/orders/2/status", &json!({"status": "preparing"}))
        .await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    let now = health_of(&url).await;
    assert_eq!(now.troubles, Vec::<String>::new(), "{now:#?}");
    let note = format!(
        "role {role} may not select public.purchase, so orders that were written past the triggers are not found, and after a change of \
         the mapping no order would be seen: {grant}"
    );
    assert_eq!(now.notes, [note]);
    let (_, said) = told(&vestnik_at(&url, &["source", "list"]).output().unwrap());
    assert!(
        said.contains("ok     purchase") && !said.contains("no order is seen"),
        "{said}"
    );

    // A statement that saves answers reads the table with the rights of the role.
    database.attach(&format!("{MAPPING}{ANSWER}")).await;
    client
        .batch_execute(&format!("grant update on purchase to {role}"))
        .await
        .unwrap();
    let with_answer = health_of(&url).await.troubles;
    assert!(
        with_answer.iter().any(|line| line.ends_with(&grant)),
        "{with_answer:#?}"
    );
    app.engine.shut_down().await;
}
