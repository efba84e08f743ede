//! One order of several stores: a marketplace whose partners are stores. Each store has a part of the order, and all
//! parts have the same key. Nothing of one part reaches, ends or answers another part.

use serde_json::{Value, json};
use vestnik::infra::db::Client;

use super::attaching::vestnik;
use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::telegram::Telegram;
use crate::telegram_outcomes::{hold, hurry};

const TABLES: &str = "create table deal (id int primary key, note text); \
    create table line (id int generated always as identity primary key, deal_id int not null references deal, \
        partner int not null, title text not null, state text not null default 'new', answered_by text); \
    insert into vestnik.vst_store (id) values ('1'), ('2'), ('3')";

const MAPPING: &str = r#"
table = "public.deal"
kind = "order"
key = "id"

[derived]
wait_for_items_ms = 100
from = "join (select deal_id, partner, min(state) as state from line group by 1, 2) p on p.deal_id = o.id"
store = "p.partner"
status = "case p.state when 'new' then 'pending' when 'accepted' then 'preparing' when 'done' then 'completed' else 'cancelled' end"
comment = "o.note"
items = "select l.title as name from line l where l.deal_id = o.id and l.partner = p.partner and l.title <> '' order by l.id"

[[derived.watch]]
table = "line"
column = "deal_id"
"#;

/// An order of the stores 1 and 2.
const DEAL: &str = "begin; insert into deal values (18); insert into line (deal_id, partner, title) values (18, 1, 'Tea'), (18, 2, 'Cake'); commit";

const HURRY: &str = "update vestnik.vst_escalation set due_at = now() - interval '1 s' where ended_at is null";

/// A marketplace with three stores.
struct Market {
    app: App,
    client: Client,
}

impl Market {
    async fn open(mapping: &str) -> Self {
        Self::open_with(mapping, &Telegram::start().await).await
    }

    /// Starts a marketplace with a bot, because a node without one escalates nothing.
    async fn open_with(mapping: &str, telegram: &Telegram) -> Self {
        let database = Database::fresh().await;
        let client = database.client().await;
        client.batch_execute(TABLES).await.unwrap();
        database.attach(mapping).await;
        let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
        Self { app, client }
    }

    /// Starts a marketplace whose stores 1 and 2 have the chat 12, in these modes.
    async fn with_chat(telegram: &Telegram, modes: [&str; 2]) -> Self {
        let market = Self::open_with(MAPPING, telegram).await;
        telegram.add_private(12, "Anna");
        for (store, mode) in ["1", "2"].into_iter().zip(modes) {
            telegram.link(&market.app.database, store, 12, mode).await;
        }
        market
    }

    async fn write(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn until(&self, sql: &str) {
        until(&self.client, sql).await;
    }

    async fn value(&self, sql: &str) -> String {
        let row = self.client.query_one(sql, &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// Answers the part of a store.
    async fn answer(&self, store: &str, wish: &Value) {
        let path = format!("/api/partner/stores/{store}/orders/18/status");
        let answer = self.app.post(&path, wish).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The stores whose escalation has not ended, or has ended without an answer.
    async fn waiting(&self) -> String {
        let waiting = "select string_agg(store_id, ',' order by store_id) from vestnik.vst_escalation \
             where ended_at is null or outcome = 'exhausted'";
        self.value(waiting).await
    }

    /// Waits until the escalation of a store has ended with this outcome.
    async fn until_ended(&self, store: &str, outcome: &str) {
        let ended = format!(
            "select exists (select from vestnik.vst_escalation where store_id = '{store}' and outcome = '{outcome}')"
        );
        self.until(&ended).await;
    }

    async fn until_escalations(&self, count: usize) {
        self.until(&format!("select count(*) = {count} from vestnik.vst_escalation"))
            .await;
    }

    /// The figures of a store for yesterday and today.
    async fn summary(&self, store: &str) -> Value {
        const SPAN: &str = "select 'from=' || to_char(day - 1, form) || '&to=' || to_char(day + 1, form) \
             from (select (now() at time zone 'utc')::date as day, 'YYYY-MM-DD\"T00:00:00Z\"' as form) span";
        let span = self.value(SPAN).await;
        let path = format!("/api/partner/stores/{store}/summary?{span}");
        self.app.get_json(&path).await
    }

    async fn list(&self, store: &str) -> Value {
        let path = format!("/api/partner/stores/{store}/orders?status=all");
        self.app.get_json(&path).await["orders"][0].clone()
    }
}

#[tokio::test]
async fn each_store_is_waited_for_until_it_answers_its_own_part() {
    let market = Market::open(MAPPING).await;
    market.write(DEAL).await;
    market.until_escalations(2).await;
    market
        .answer("1", &json!({"status": "preparing", "minutes": 35, "by": "Anna"}))
        .await;
    market.until_ended("1", "answered").await;
    assert_eq!(market.waiting().await, "2");

    market.write(HURRY).await;
    let escalated = "select exists (select from vestnik.vst_event where type = 'order_unanswered' and store_id = '2')";
    market.until(escalated).await;
    market.answer("2", &json!({"status": "rejected"})).await;
    market.until_ended("2", "answered").await;
    let escalated = "select string_agg(store_id, ',') from vestnik.vst_event where type = 'order_unanswered'";
    assert_eq!(market.value(escalated).await, "2");
}

#[tokio::test]
async fn a_part_that_the_shop_cancels_ends_only_its_own_escalation() {
    let market = Market::open(MAPPING).await;
    market.write(DEAL).await;
    market.until_escalations(2).await;
    market.write("update line set state = 'void' where partner = 1").await;
    market.until_ended("1", "answered").await;
    assert_eq!(market.waiting().await, "2");
}

#[tokio::test]
async fn an_order_that_moves_to_another_store_is_waited_for_there() {
    let market = Market::open(MAPPING).await;
    market
        .write("begin; insert into deal values (18); insert into line (deal_id, partner, title) values (18, 1, 'Tea'); commit")
        .await;
    market.until_escalations(1).await;
    market.write("update line set partner = 3").await;
    market.until_ended("1", "removed").await;
    market.until_escalations(2).await;
    assert_eq!(market.waiting().await, "3");
}

#[tokio::test]
async fn a_part_without_items_is_published_although_another_part_has_items() {
    let market = Market::open(MAPPING).await;
    market.write(&DEAL.replace("'Cake'", "''")).await;
    market.until_escalations(2).await;
    assert_eq!(market.list("2").await["status"], "pending");
}

#[tokio::test]
async fn a_list_shows_no_answer_of_another_store() {
    let market = Market::open(MAPPING).await;
    market.write(DEAL).await;
    market.until_escalations(2).await;
    market
        .answer("1", &json!({"status": "preparing", "minutes": 35, "by": "Anna"}))
        .await;
    let (first, second) = (market.list("1").await, market.list("2").await);
    assert_eq!(
        (&first["answer"]["by"], &first["promised_minutes"]),
        (&json!("Anna"), &json!(35))
    );
    assert_eq!(
        (&second["status"], &second["answer"], &second["promised_minutes"]),
        (&json!("pending"), &Value::Null, &Value::Null),
        "{second}"
    );

    // The shop accepts the other part itself, so the person of the first store has nothing to do with it.
    market
        .write("update line set state = 'accepted' where partner = 2")
        .await;
    let accepted =
        "select exists (select from vestnik.vst_event where store_id = '2' and data->>'status' = 'preparing')";
    market.until(accepted).await;
    let path = "/api/partner/stores/2/orders/18/status";
    let late = market
        .app
        .post(path, &json!({"status": "preparing", "from": "pending"}))
        .await;
    assert_eq!((late.status, late.code()), (409, "status_conflict".into()));
    assert!(!late.json().to_string().contains("Anna"), "{late:?}");
    let (first, second) = (market.summary("1").await, market.summary("2").await);
    assert!(first["acknowledge_seconds"]["p50"].is_number(), "{first}");
    assert_eq!(
        (&second["orders"], &second["acknowledge_seconds"]["p50"]),
        (&json!(1), &Value::Null),
        "{second}"
    );
}

#[tokio::test]
async fn a_chat_that_has_one_part_is_not_told_of_another_stores_part() {
    let telegram = Telegram::start().await;
    let market = Market::with_chat(&telegram, ["mirror", "manager"]).await;
    market.write(DEAL).await;
    market.until_escalations(2).await;
    telegram.until_messages(12, 1).await;
    market
        .until("select exists (select from vestnik.vst_delivery where state = 'sent')")
        .await;
    market.write("update line set state = 'void' where partner = 2").await;
    market.until_ended("2", "answered").await;
    let told = "select string_agg(distinct store_id, ',') from vestnik.vst_delivery";
    assert_eq!(market.value(told).await, "1");
}

#[tokio::test]
async fn a_message_names_the_person_of_its_own_store_only() {
    let telegram = Telegram::start().await;
    let market = Market::with_chat(&telegram, ["mirror", "mirror"]).await;
    market.write(DEAL).await;
    telegram.until_messages(12, 2).await;
    market.answer("1", &json!({"status": "preparing", "by": "Boris"})).await;
    telegram.until_messages(12, 3).await;
    market
        .write("update line set state = 'accepted' where partner = 2")
        .await;
    telegram.until_messages(12, 4).await;
    let messages = telegram.messages(12);
    let named = messages
        .iter()
        .filter(|(_, message)| message.text.contains("Boris"))
        .count();
    assert_eq!((messages.len(), named), (2, 1), "{messages:?}");
}

#[tokio::test]
async fn a_reminder_of_one_store_is_sent_although_a_part_of_another_store_is_new() {
    let telegram = Telegram::start().await;
    let market = Market::with_chat(&telegram, ["mirror", "mirror"]).await;
    market
        .write("begin; insert into deal values (18); insert into line (deal_id, partner, title) values (18, 2, 'Cake'); commit")
        .await;
    telegram.until_messages(12, 1).await;
    market.until_escalations(1).await;
    market
        .until("select bool_and(state = 'sent') from vestnik.vst_delivery")
        .await;
    hold(&market.client).await;
    market.write(HURRY).await;
    market
        .until("select exists (select from vestnik.vst_delivery where note = 'unanswered')")
        .await;
    market
        .write("insert into line (deal_id, partner, title) values (18, 1, 'Tea')")
        .await;
    market
        .until("select exists (select from vestnik.vst_delivery where store_id = '1')")
        .await;
    hurry(&market.client).await;
    let told = telegram.until_messages(12, 3).await;
    let order = told[0].message;
    assert!(told.iter().any(|call| call.reply_to == order), "{told:?}");
}

#[tokio::test]
async fn a_promise_of_one_store_is_kept_although_another_part_is_ready() {
    let market = Market::open(MAPPING).await;
    market.write(DEAL).await;
    market.until_escalations(2).await;
    // While this transaction holds the cursor, no node enqueues, so all answers are enqueued together.
    let mut other = market.app.database.client().await;
    let holding = other.transaction().await.unwrap();
    holding
        .batch_execute("select from vestnik.vst_delivery_cursor for update")
        .await
        .unwrap();
    market.answer("2", &json!({"status": "preparing", "minutes": 30})).await;
    market.answer("1", &json!({"status": "preparing"})).await;
    market.answer("1", &json!({"status": "ready"})).await;
    holding.commit().await.unwrap();
    market.until_ended("1", "answered").await;
    market.until_ended("2", "answered").await;
    let promised = "select string_agg(store_id || ' ' || minutes, ',') from vestnik.vst_promise";
    assert_eq!(market.value(promised).await, "2 30");
}

#[tokio::test]
async fn a_list_of_orders_loses_the_button_of_the_part_that_is_closed() {
    let telegram = Telegram::start().await;
    let market = Market::with_chat(&telegram, ["mirror", "mirror"]).await;
    market.write(DEAL).await;
    telegram.until_messages(12, 2).await;
    market
        .until("select count(*) = 2 and bool_and(state = 'sent') from vestnik.vst_delivery")
        .await;
    telegram.write(12, 12, "/orders");
    let list = telegram
        .until_call("the list", |call| call.text.contains("Open: 2"))
        .await;
    let buttons = |buttons: &[Vec<crate::support::telegram::Button>]| -> Vec<String> {
        buttons.iter().flatten().map(|(_, data)| data.clone()).collect()
    };
    assert_eq!(buttons(&list.buttons).len(), 2);
    market.until("select count(*) = 2 from vestnik.vst_list_button").await;
    market.write("update line set state = 'void' where partner = 2").await;
    let edit = telegram
        .until_call("the edit of the list", |call| {
            call.is_edit() && call.message == list.message
        })
        .await;
    let store_1 = market
        .value("select min(event_id)::text from vestnik.vst_list_button where store_id = '1'")
        .await;
    let left = buttons(&edit.buttons);
    assert!(left.len() == 1 && left[0].contains(&store_1), "{left:?}");
}

/// Statements that write the answer to the part of one store.
const STATEMENTS: &str = "\n[answer]\npreparing = \"update line set state = 'accepted', answered_by = $5 \
    where deal_id = $1::int and partner = $6::int and state = 'new'\"\n";

#[tokio::test]
async fn a_statement_gets_the_store_whose_person_answers() {
    let market = Market::open(&format!("{MAPPING}{STATEMENTS}")).await;
    market.write(DEAL).await;
    market.until_escalations(2).await;
    market.answer("2", &json!({"status": "preparing", "by": "Anna"})).await;
    let answered = "select string_agg(partner || ' ' || state || ' ' || coalesce(answered_by, '-'), ', ' order by partner) from line";
    assert_eq!(market.value(answered).await, "1 new -, 2 accepted Anna");
    assert_eq!(market.list("1").await["status"], "pending");
    assert_eq!(market.list("2").await["status"], "preparing");
}

#[tokio::test]
async fn source_check_warns_of_a_statement_that_cannot_know_the_store() {
    let market = Market::open(MAPPING).await;
    market.write(DEAL).await;
    let check = async |answers: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{MAPPING}{answers}")).unwrap();
        let path = file.path().to_str().unwrap();
        vestnik(&market.app.database, &["source", "check", path]).await
    };
    let (code, said) = check(&STATEMENTS.replace("partner = $6::int and ", "")).await;
    assert_eq!(code, Some(0), "{said}");
    let warning = "answer.preparing: one key is an order of several stores, as with key 18, and no statement says `$6`, the store that answers";
    assert!(said.contains(warning), "{said}");
    let (code, said) = check(STATEMENTS).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("$6"), "{said}");
}
