//! Row level security of a table that the expressions read, besides the shop's table of orders: its hidden rows give no
//! error, but another status.

use serde_json::json;
use tokio::time::timeout;
use vestnik::sources::health;

use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::Database;
use crate::support::look_again;

const ROLE: &str = "do $$ begin create role vestnik_reader nologin; exception when duplicate_object or unique_violation then null; end $$";
const TABLES: &str = "create table bills (id text primary key, shop int, guests text); \
    create table bill_lines (id serial primary key, bill_id text, name text); \
    alter table bill_lines enable row level security; \
    create policy reads on bill_lines for select to vestnik_reader using (true)";
const MAPPING: &str = "table = 'public.bills'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
    status = \"case when exists (select from bill_lines l where l.bill_id = o.id) then 'pending' else 'hidden' end\"\n\
    comment = 'o.guests'\n[[derived.watch]]\ntable = 'bill_lines'\ncolumn = 'bill_id'\n";

/// A shop whose tables are attached, with one order, and a panel of its store that has received the order.
async fn restaurant() -> (App, Panel) {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(ROLE).await.unwrap();
    client.batch_execute(TABLES).await.unwrap();
    database.attach(MAPPING).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write(&order("t1")).await;
    assert_eq!(panel.event().await["data"]["order_id"], "t1");
    (app, panel)
}

fn order(id: &str) -> String {
    format!(
        "begin; insert into bills values ('{id}', 7, 'Anna'); insert into bill_lines (bill_id, name) values ('{id}', 'Soup'); commit"
    )
}

/// The type, the id and the comment of the next event.
async fn told(panel: &mut Panel) -> (String, String, String) {
    let event = panel.event().await;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&event["type"]),
        text(&event["data"]["order_id"]),
        text(&event["data"]["comment"]),
    )
}

/// The next two events, sorted: the projector computes the two orders in any order.
async fn both_told(panel: &mut Panel) -> [(String, String, String); 2] {
    let mut both = [told(panel).await, told(panel).await];
    both.sort();
    both
}

fn event(kind: &str, id: &str, comment: &str) -> (String, String, String) {
    (kind.to_owned(), id.to_owned(), comment.to_owned())
}

/// Waits until the condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds().await {
            look_again().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

#[tokio::test]
async fn no_order_is_removed_because_no_policy_lets_the_role_read_a_joined_table() {
    let (app, mut panel) = restaurant().await;
    app.write("drop policy reads on bill_lines").await;
    app.write("update bills set guests = 'Anna, Boris'").await;
    app.write(&order("t2")).await;
    until("the order keeps its values", async || {
        let client = app.database.client().await;
        let sources = health::check(&client).await.unwrap();
        let kept = "row level security of public.bill_lines hides every row from role vestnik_reader";
        sources[0].troubles.iter().any(|line| line.starts_with(kept))
    })
    .await;
    let answer = json!({"status": "preparing"});
    let answered = app.post("/api/partner/stores/7/orders/t1/status", &answer).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(told(&mut panel).await, event("order_status_changed", "t1", ""));
    app.write("create policy reads on bill_lines for select to vestnik_reader using (true)")
        .await;
    assert_eq!(
        both_told(&mut panel).await,
        [
            event("new_order", "t2", "Anna"),
            event("order_changed", "t1", "Anna, Boris")
        ]
    );
}

#[tokio::test]
async fn orders_that_a_policy_hid_for_a_while_come_back_when_it_changes() {
    let (app, mut panel) = restaurant().await;
    app.write("alter policy reads on bill_lines using (name <> 'Soup')")
        .await;
    app.write("update bills set guests = 'Anna, Boris'").await;
    assert_eq!(told(&mut panel).await.0, "order_removed");
    app.write(&order("t2")).await;
    app.write("alter policy reads on bill_lines using (true)").await;
    assert_eq!(
        both_told(&mut panel).await,
        [
            event("new_order", "t1", "Anna, Boris"),
            event("new_order", "t2", "Anna")
        ]
    );
}

#[tokio::test]
async fn an_order_that_was_seen_does_not_ring_again_after_a_mistake_in_the_mapping() {
    let (app, mut panel) = restaurant().await;
    let hides = MAPPING.replace("then 'pending' else", "then 'hidden' else");
    for mapping in [&hides, MAPPING] {
        app.database.attach(mapping).await;
        let is_listed = mapping == MAPPING;
        until("the orders are computed again", async || {
            let list = app.get_json("/api/partner/stores/7/orders").await;
            list["orders"]
                .as_array()
                .is_some_and(|orders| orders.is_empty() != is_listed)
        })
        .await;
    }
    app.write(&order("t2")).await;
    let event = panel.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["order_id"]),
        (&json!("new_order"), &json!("t2"))
    );
}

#[tokio::test]
async fn no_order_moves_to_nobody_because_no_policy_lets_the_role_read_the_table_of_its_store() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(ROLE).await.unwrap();
    client
        .batch_execute(
            "create table sale (id int primary key, note text); create schema crm; \
             create table crm.place (sale_id int, shop int); alter table crm.place enable row level security; \
             create policy reads on crm.place for select to vestnik_reader using (true)",
        )
        .await
        .unwrap();
    let mapping = "table = 'public.sale'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'p.shop'\nstatus = \"'pending'\"\n\
        from = 'left join crm.place p on p.sale_id = o.id'\ncomment = 'o.note'\n";
    database.attach(mapping).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("begin; insert into crm.place values (1, 7); insert into sale values (1, 'Tea'); commit")
        .await;
    assert_eq!(told(&mut panel).await, event("new_order", "1", "Tea"));
    app.write("drop policy reads on crm.place").await;
    app.write("update sale set note = 'Coffee'").await;
    app.write("create policy reads on crm.place for select to vestnik_reader using (true)")
        .await;
    assert_eq!(told(&mut panel).await, event("order_changed", "1", "Coffee"));
}
