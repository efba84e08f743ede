//! The columns that an answer writes beside the status, and what becomes of them when the answer is taken back.

use std::time::Duration;

use vestnik::domain::event::StoreId;
use vestnik::sources::status_change::{StatusChange, StatusChangeOutcome};

use crate::status_change::{Shop, change, current, done, text};
use crate::support::db::Database;

const TABLE: &str = "create table tickets (id int primary key, place int, state text, why text default 'shop says', eta int, \
     accepted timestamptz, version int not null default 3); \
     insert into tickets (id, place, state) values (1, 7, 'new')";
const MAPPING: &str = r#"
    table = "public.tickets"
    kind = "order"
    key = "id"
    store = "place"
    status = { column = "state", pending = ["new"], preparing = ["cook"], ready = ["done"], rejected = ["no"] }
    answer = { accepted_at = "accepted", reason = "why", minutes = "eta", version = "version" }
"#;

async fn tickets() -> Shop {
    let database = Database::fresh().await;
    database.client().await.batch_execute(TABLE).await.unwrap();
    database.attach(MAPPING).await;
    let shop = Shop::of(database).await;
    shop.run("update tickets set eta = 5").await;
    shop
}

/// The columns of the ticket that an answer may write.
async fn row(shop: &Shop) -> String {
    let row = "select concat_ws(' ', state, why, eta, accepted is not null, version) from tickets";
    text(&shop.database, row).await
}

#[tokio::test]
async fn a_step_back_puts_the_reason_minutes_and_moment_back() {
    let (shop, store) = (tickets().await, StoreId::new("7"));
    let press = async |to: &str, minutes: Option<i32>, reason: Option<&str>| {
        let wanted = StatusChange {
            minutes,
            reason,
            step_back: Duration::from_secs(600),
            ..change(&store, "1", to, "Anna")
        };
        shop.change(&wanted).await
    };
    assert_eq!(press("preparing", Some(25), None).await, done("tickets", "pending"));
    assert_eq!(row(&shop).await, "cook shop says 25 t 4");
    assert_eq!(press("ready", None, None).await, done("tickets", "preparing"));
    assert_eq!(press("preparing", None, None).await, done("tickets", "ready"));
    assert_eq!(row(&shop).await, "cook shop says 25 t 6", "the promise stays");
    assert_eq!(
        press("rejected", None, Some("sold out")).await,
        done("tickets", "preparing")
    );
    assert_eq!(row(&shop).await, "no sold out 25 t 7");
    assert_eq!(press("preparing", None, None).await, done("tickets", "rejected"));
    assert_eq!(row(&shop).await, "cook shop says 25 t 8");

    shop.run("update tickets set state = 'new', eta = null, accepted = null")
        .await;
    assert_eq!(press("preparing", Some(40), None).await, done("tickets", "pending"));
    assert_eq!(press("pending", None, None).await, done("tickets", "preparing"));
    assert_eq!(row(&shop).await, "new shop says f 10");
}

#[tokio::test]
async fn an_answer_that_a_trigger_of_the_shop_undoes_is_refused() {
    let (shop, store) = (tickets().await, StoreId::new("7"));
    let accept = change(&store, "1", "preparing", "Anna");
    let refused = StatusChangeOutcome::Refused {
        current: current("tickets", "pending", None),
        message: None,
        rule: Some("a trigger of its table put the earlier status back"),
    };
    for (moment, undo) in [
        ("before", "new.state := old.state; return new"),
        (
            "after",
            "update tickets set state = 'new' where id = new.id; return null",
        ),
    ] {
        shop.run(&format!(
            "create function undo() returns trigger language plpgsql as $$ begin {undo}; end $$; \
             create trigger undo {moment} update on tickets for each row when (new.state = 'cook') execute function undo()"
        ))
        .await;
        assert_eq!(shop.change(&accept).await, refused, "{moment}");
        assert_eq!(row(&shop).await, "new shop says 5 f 3", "{moment}");
        shop.run("drop trigger undo on tickets; drop function undo()").await;
    }
    // The shop goes on at once: its own status counts.
    shop.run(
        "create function go_on() returns trigger language plpgsql as $$ begin new.state := 'done'; return new; end $$; \
         create trigger go_on before update on tickets for each row when (new.state = 'cook') execute function go_on()",
    )
    .await;
    assert_eq!(shop.change(&accept).await, done("tickets", "pending"));
    assert_eq!(row(&shop).await, "done shop says 5 t 4");
}
