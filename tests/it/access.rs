//! The rights that a direct source needs: the health check names each missing one with its GRANT, and these GRANTs are
//! all that a list and an answer need.

use serde_json::json;
use vestnik::infra::config::ShopSchema;
use vestnik::sources::health;

use crate::field_cases::engine_role;
use crate::support::app::App;
use crate::support::db::Database;

const SHOP: &str = "create schema shop; revoke all on schema shop from public; \
    create table orders (id int primary key, store_id int, status text, created_at timestamptz default now()); \
    create table lines (number int primary key, order_id int references orders, title text, amount int); \
    create index on lines (order_id); \
    insert into orders (id, store_id, status) values (1, 7, 'new'); insert into lines values (1, 1, 'Soup', 2); \
    create function shop.answer(key text, status text, reason text, minutes integer, by text) returns boolean \
        language sql security definer as 'update public.orders set status = $2 where id = $1::int returning true'; \
    revoke execute on function shop.answer from public";

const MAPPING: &str = "table = 'public.orders'\nname = 'orders'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n\
    [status]\ncolumn = 'status'\npending = ['new']\npreparing = ['preparing']\n\
    [items]\ntable = 'public.lines'\norder_key = 'order_id'\nname = 'title'\nquantity = 'amount'\n\
    [fields]\ncreated_at = 'created_at'\n[answer]\nfunction = 'shop.answer'\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_that_are_named_are_all_that_a_list_and_an_answer_need() {
    let database = Database::without_shop().await;
    let client = database.client().await;
    client.batch_execute(SHOP).await.unwrap();
    database.attach(MAPPING).await;
    let role = format!("vestnik_test_access_{}", std::process::id());
    // The role may read all columns of the mapping, but not the system columns by which a list finds its rows.
    let rights = "grant select (id, store_id, status, created_at) on orders to ROLE; \
        grant select (order_id, title, amount) on lines to ROLE";
    let url = engine_role(&database, &role, rights).await;
    let served = Database::at(url.into());
    let reader = served.client().await;
    let troubles = health::check(&reader).await.unwrap().remove(0).troubles;
    let grants: Vec<&str> = troubles.iter().map(|line| line.rsplit(": ").next().unwrap()).collect();
    let arguments = "key text, status text, reason text, minutes integer, by text";
    assert_eq!(
        grants,
        [
            format!("grant select on public.orders to {role}"),
            format!("grant usage on schema shop to {role}"),
            format!("grant execute on function shop.answer({arguments}) to {role}"),
            format!("grant select (number) on public.lines to {role}"),
        ],
        "{troubles:#?}"
    );
    client.batch_execute(&grants.join(";")).await.unwrap();
    let troubles = health::check(&reader).await.unwrap().remove(0).troubles;
    assert_eq!(troubles, Vec::<String>::new());

    let app = App::start_on(served, |config| config.shop.schema = ShopSchema::Own).await;
    let list = app.get_json("/api/partner/stores/7/orders").await;
    assert_eq!(list["orders"][0]["items"][0]["name"], "Soup", "{list}");
    let path = "/api/partner/stores/7/orders/1/status";
    let answer = app.post(path, &json!({"status": "preparing"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    app.engine.shut_down().await;
}
