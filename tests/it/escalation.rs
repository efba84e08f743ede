//! The escalation of an order that nobody answers, step by step, until somebody answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vestnik::delivery::enqueue::{self, Enqueued};
use vestnik::delivery::escalation;
use vestnik::engine::Engine;
use vestnik::infra::db::Client;
use vestnik::infra::db::{self, Pool};
use vestnik::sources::registry::Registry;

use crate::escalation_webhook::{is_signed, start_posting};
use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::hook::{Answer, Hook};
use crate::support::http::call;
use crate::support::telegram::{Call, Telegram};

const SECRET: &str = "sixteen characters";

/// Records a panel of store 7 that can ring, on the node `here`.
const PANEL: &str = "insert into vestnik.vst_node values ('here', now() + interval '1 h'); \
    insert into vestnik.vst_presence values ('here', '7')";

/// The parts of the engine that escalate orders. No engine runs; the test itself decides when a step is due.
struct Shop {
    database: Database,
    client: Client,
    pool: Pool,
    sources: Arc<Registry>,
}

impl Shop {
    async fn with_store() -> Self {
        let shop = Self::bare().await;
        shop.run("insert into vestnik.vst_store (id) values ('7')").await;
        shop.run(PANEL).await;
        shop
    }

    async fn bare() -> Self {
        let database = Database::fresh().await;
        let client = database.client().await;
        let pool = db::pool(&database.config().database).unwrap();
        let sources = database.sources().await;
        Self {
            database,
            client,
            pool,
            sources,
        }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn enqueue(&self) {
        while enqueue::enqueue_batch(&self.pool, &self.sources, Duration::from_secs(1800))
            .await
            .unwrap()
            == Enqueued::Batch
        {}
    }

    /// Makes every escalation due now.
    async fn hurry(&self) {
        self.run("update vestnik.vst_escalation set due_at = now() - interval '1 s' where ended_at is null")
            .await;
    }

    async fn advance(&self) -> u64 {
        self.hurry().await;
        escalation::advance(&self.pool, &self.sources).await.unwrap()
    }

    async fn count(&self, what: &str) -> i64 {
        let sql = format!("select count(*) from {what}");
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    async fn steps(&self) -> Vec<(i16, Option<String>)> {
        let sql = "select step, outcome from vestnik.vst_escalation order by event_id";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

const UNANSWERED: &str = "vestnik.vst_event where type = 'order_unanswered'";

async fn until_step(client: &Client, step: i16) {
    until(
        client,
        &format!("select coalesce(max(step), 0) >= {step} from vestnik.vst_escalation"),
    )
    .await;
}

const HURRY: &str = "update vestnik.vst_escalation set due_at = now() - interval '1 s' where ended_at is null";

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_order_is_escalated_to_the_panels_then_the_chats_then_the_webhook() {
    let telegram = Telegram::start().await;
    let mut hook = Hook::start(&[]).await;
    let app = App::start_with(|config| {
        config.telegram = Some(telegram.settings());
        config.webhook.allow_private = true;
    })
    .await;
    let client = app.database.client().await;
    for (chat, mode) in [(11, "fallback"), (12, "manager"), (13, "manager")] {
        telegram.add_private(chat, "Anna");
        telegram.link(&app.database, "7", chat, mode).await;
    }
    let set = "update vestnik.vst_store set webhook_url = $1, webhook_secret = $2";
    client.execute(set, &[&hook.url(), &SECRET]).await.unwrap();
    let mut panel = app.panel("7", None).await.live().await;
    panel.say(&json!({"type": "panel", "rings": true}).to_string()).await;
    until(
        &client,
        "select exists (select from vestnik.vst_presence where store_id = '7')",
    )
    .await;

    app.write("insert into orders (store_id) values (7)").await;
    let order = panel.event().await;
    until(&client, "select exists (select from vestnik.vst_escalation)").await;
    assert_eq!(
        telegram
            .calls()
            .iter()
            .filter(|call| call.method == "sendMessage")
            .count(),
        0,
        "a panel rings"
    );

    client.batch_execute(HURRY).await.unwrap();
    let again = panel.event().await;
    assert_eq!(again["type"], "order_unanswered");
    assert_eq!(
        (&again["data"]["order_id"], &again["data"]["order_ids"]),
        (&json!("1"), &json!(["1"]))
    );
    assert_eq!(again["data"]["event_id"], order["id"]);
    until_step(&client, 1).await;

    client.batch_execute(HURRY).await.unwrap();
    let told = telegram.until_messages(11, 1).await;
    assert!(told[0].text.contains("New order #1"), "{}", told[0].text);
    until_step(&client, 2).await;

    client.batch_execute(HURRY).await.unwrap();
    telegram.until_messages(12, 1).await;
    telegram.until_messages(13, 1).await;
    until_step(&client, 3).await;

    client.batch_execute(HURRY).await.unwrap();
    let post = hook.until(1).await.remove(0);
    assert!(is_signed(&post, SECRET), "{post:?}");
    assert_eq!(post.path, "/hook?shop=7");
    let body: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!(
        (&body["type"], &body["store_id"], &body["order_id"], &body["event_id"]),
        (&json!("order_unanswered"), &json!("7"), &json!("1"), &order["id"])
    );
    until_step(&client, 4).await;

    client.batch_execute(HURRY).await.unwrap();
    until(&client, "select outcome = 'exhausted' from vestnik.vst_escalation").await;
    until(&client, "select state = 'sent' from vestnik.vst_webhook").await;
    let sent = telegram
        .calls()
        .iter()
        .filter(|call| call.method == "sendMessage")
        .count();
    assert_eq!((sent, hook.posts().len()), (3, 1), "each step once");
    app.engine.shut_down().await;
}

#[tokio::test]
async fn an_answer_of_any_kind_ends_the_escalation() {
    for answer in [
        "update orders set status = 'preparing'",
        "update orders set status = 'rejected'",
        "update orders set status = 'cancelled'",
    ] {
        for advanced_before in [0, 1] {
            let shop = Shop::with_store().await;
            shop.run("insert into orders (store_id) values (7)").await;
            shop.enqueue().await;
            for _ in 0..advanced_before {
                assert_eq!(shop.advance().await, 1);
            }
            shop.run(answer).await;
            assert_eq!(shop.advance().await, 0, "{answer}");
            assert_eq!(
                shop.steps().await,
                [(advanced_before, Some("answered".into()))],
                "{answer}"
            );
            assert_eq!(shop.advance().await, 0, "the escalation has ended");
            assert_eq!(shop.count(UNANSWERED).await, i64::from(advanced_before), "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_an_order_ends_no_escalation_and_answering_does() {
    let telegram = Telegram::start().await;
    let mut hook = Hook::start(&[]).await;
    let app = App::start_with(|config| {
        config.telegram = Some(telegram.settings());
        config.webhook.allow_private = true;
    })
    .await;
    let client = app.database.client().await;
    telegram.add_private(12, "Boris");
    telegram.link(&app.database, "7", 12, "manager").await;
    let set = "update vestnik.vst_store set webhook_url = $1, webhook_secret = $2";
    client.execute(set, &[&hook.url(), &SECRET]).await.unwrap();
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7)").await;
    // A person opens the order in a panel, and over HTTP, but does not answer it.
    let order = panel.event().await["id"].as_str().unwrap().to_owned();
    panel.acknowledge(&order).await;
    let bearer = format!("Bearer {}", app.token);
    let headers = [("Authorization", bearer.as_str())];
    let ack = format!("/api/partner/stores/7/events/{order}/ack?panel=till");
    assert_eq!(
        call(app.engine.address(), "POST", &ack, &headers, None).await.status,
        204
    );
    until(
        &client,
        "select count(*) = 1 from vestnik.vst_acknowledgement where event_id = (select min(id) from vestnik.vst_event)",
    )
    .await;
    until(&client, "select exists (select from vestnik.vst_escalation)").await;
    client.batch_execute(HURRY).await.unwrap();
    let told = telegram.until_messages(12, 1).await;
    assert!(told[0].text.contains("New order #1"), "{}", told[0].text);
    until_step(&client, 3).await;
    client.batch_execute(HURRY).await.unwrap();
    let post = hook.until(1).await.remove(0);
    assert!(post.body.contains("order_unanswered"), "{}", post.body);
    until_step(&client, 4).await;

    let status = "/api/partner/stores/7/orders/1/status";
    let answer = call(
        app.engine.address(),
        "POST",
        status,
        &headers,
        Some(r#"{"status":"preparing"}"#),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    until(&client, "select outcome = 'answered' from vestnik.vst_escalation").await;
    app.engine.shut_down().await;
}

#[tokio::test]
async fn only_events_that_need_an_answer_begin_an_escalation() {
    let shop = Shop::with_store().await;
    shop.run("insert into orders (store_id) values (8)").await;
    shop.enqueue().await;
    assert_eq!(
        shop.count("vestnik.vst_escalation").await,
        0,
        "a store that is not set up"
    );
    shop.run("insert into orders (store_id, status) values (7, 'preparing'), (7, 'completed'), (7, 'pending')")
        .await;
    shop.enqueue().await;
    assert_eq!(shop.advance().await, 1, "only the pending order is escalated");
    let subject = "vestnik.vst_event where type = 'order_unanswered' and data ->> 'order_id' = '4'";
    assert_eq!(shop.count(subject).await, 1);
}

#[tokio::test]
async fn an_escalation_of_a_store_without_settings_ends() {
    let shop = Shop::with_store().await;
    shop.run("insert into orders (store_id) values (7)").await;
    shop.enqueue().await;
    shop.run("delete from vestnik.vst_store").await;
    assert_eq!(shop.advance().await, 0);
    assert_eq!(shop.steps().await, [(0, Some("exhausted".into()))]);
    assert_eq!(shop.count(UNANSWERED).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_raise_one_alarm_and_many_due_escalations_advance_without_a_pause() {
    let shop = Shop::with_store().await;
    let other = db::pool(&shop.database.config().database).unwrap();
    let sources = Arc::clone(&shop.sources);
    shop.run("insert into orders (store_id) select 7 from generate_series(1, 400)")
        .await;
    shop.enqueue().await;
    shop.run("update orders set status = 'preparing' where id > 100").await;
    shop.hurry().await;
    let (here, there) = tokio::join!(
        escalation::advance(&shop.pool, &sources),
        escalation::advance(&other, &sources)
    );
    // A node skips the escalations that another node has locked.
    let advanced = here.unwrap() + there.unwrap() + escalation::advance(&shop.pool, &sources).await.unwrap();
    assert_eq!(advanced, 100);
    assert_eq!(shop.count(UNANSWERED).await, 100);
    let orders = "(select distinct data ->> 'order_id' from vestnik.vst_event where type = 'order_unanswered') o";
    assert_eq!(shop.count(orders).await, 100, "each order once");
    assert_eq!(
        shop.count("vestnik.vst_escalation where outcome = 'answered'").await,
        300
    );
    assert_eq!(escalation::advance(&other, &sources).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escalation_continues_at_its_step_after_a_restart() {
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    telegram.add_private(12, "Boris");
    telegram.link(&app.database, "7", 12, "manager").await;
    let mut panel = app.panel("7", None).await.live().await;
    panel.say(&json!({"type": "panel", "rings": true}).to_string()).await;
    until(&client, "select exists (select from vestnik.vst_presence)").await;
    app.write("insert into orders (store_id) values (7)").await;
    until(&client, "select exists (select from vestnik.vst_escalation)").await;
    client.batch_execute(HURRY).await.unwrap();
    until_step(&client, 1).await;
    let mut config = app.database.config();
    config.http.listen = app.engine.address();
    config.telegram = Some(telegram.settings());
    app.engine.shut_down().await;
    client.batch_execute(HURRY).await.unwrap();
    let engine = Engine::start(&config).await.unwrap();
    telegram.until_messages(12, 1).await;
    until_step(&client, 3).await;
    let unanswered = "select count(*) from vestnik.vst_event where type = 'order_unanswered'";
    assert_eq!(client.query_one(unanswered, &[]).await.unwrap().get::<_, i64>(0), 1);
    engine.shut_down().await;
}

#[tokio::test]
async fn what_no_panel_could_ring_goes_to_the_fallback_chat_at_once() {
    let shop = Shop::with_store().await;
    let telegram = Telegram::start().await;
    telegram.add_private(11, "Anna");
    telegram.link(&shop.database, "7", 11, "fallback").await;
    const ENQUEUED: &str = "vestnik.vst_delivery d join vestnik.vst_event e on e.id = d.event_id";
    shop.run("insert into orders (store_id) values (7)").await;
    shop.enqueue().await;
    assert_eq!(shop.count(ENQUEUED).await, 0, "a panel rings");
    shop.run("delete from vestnik.vst_node; insert into orders (store_id) values (7)")
        .await;
    shop.enqueue().await;
    assert_eq!(shop.count(&format!("{ENQUEUED} where e.key = '2'")).await, 1);
    // No panel can ring, so the escalation enqueues order 1 for the chat at once. It does not enqueue order 2 again,
    // because a message about order 2 already waits for the chat.
    assert_eq!(shop.advance().await, 2);
    assert_eq!(shop.count(ENQUEUED).await, 2);
    assert_eq!(shop.steps().await, [(2, None), (1, None)]);
    assert_eq!(shop.advance().await, 0, "no step is left");
    assert_eq!(
        shop.steps().await,
        [(2, Some("exhausted".into())), (1, Some("exhausted".into()))]
    );
}

#[tokio::test]
async fn a_fallback_chat_of_a_closed_store_is_not_woken() {
    let shop = Shop::with_store().await;
    let telegram = Telegram::start().await;
    telegram.add_private(11, "Anna");
    telegram.link(&shop.database, "7", 11, "fallback").await;
    // No panel can ring, and the store is closed at the current time.
    shop.run(
        "delete from vestnik.vst_node; update vestnik.vst_store set time_zone = 'UTC'; \
         insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) select '7', extract(isodow from at), \
             (at + interval '2 h')::time, (at + interval '3 h')::time from (select now() at time zone 'UTC' as at) now; \
         insert into orders (store_id) values (7)",
    )
    .await;
    shop.enqueue().await;
    assert_eq!(shop.count("vestnik.vst_delivery").await, 0);
    shop.run("delete from vestnik.vst_opening_hours; insert into orders (store_id) values (7)")
        .await;
    shop.enqueue().await;
    assert_eq!(shop.count("vestnik.vst_delivery").await, 1, "the store is open");
}

/// Creates a store with a webhook, and orders whose escalation has reached the step of the webhook.
async fn at_the_webhook(hook: &Hook, orders: usize) -> Shop {
    let shop = Shop::bare().await;
    let set = "insert into vestnik.vst_store (id, webhook_url, webhook_secret) values ('7', $1, $2)";
    shop.client.execute(set, &[&hook.url(), &SECRET]).await.unwrap();
    shop.run(&format!(
        "insert into orders (store_id) select 7 from generate_series(1, {orders})"
    ))
    .await;
    shop.enqueue().await;
    assert_eq!(
        shop.advance().await,
        orders as u64,
        "without a panel and a chat, their steps are skipped"
    );
    assert_eq!(shop.count("vestnik.vst_webhook").await, orders as i64);
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_or_hangs_is_posted_again() {
    let mut hook = Hook::start(&[Answer::Status(503), Answer::Status(302), Answer::Silence]).await;
    let shop = at_the_webhook(&hook, 1).await;
    // A trigger records each failure and its pause. The POST then waits until the test makes it due.
    shop.run(
        "create table failed (attempts int, reason text, pause interval); \
         create function hold() returns trigger language plpgsql as $$ begin \
             insert into failed values (new.attempts, new.reason, new.due_at - clock_timestamp()); \
             new.due_at := 'infinity'; return new; end $$; \
         create trigger hold before update on vestnik.vst_webhook for each row \
             when (new.state = 'retrying' and new.due_at > clock_timestamp()) execute function hold()",
    )
    .await;
    let (stop, running) = start_posting(&shop.pool, true);
    for (posts, reason) in [(1, "answered 503"), (2, "answered 302"), (3, "")] {
        hook.until(posts).await;
        let failed = format!(
            "select count(*) = 1 from failed where attempts = {posts} and position('{reason}' in reason) > 0 \
                 and pause between interval '3 s' and interval '1 min'"
        );
        until(&shop.client, &failed).await;
        shop.run("update vestnik.vst_webhook set due_at = now()").await;
    }
    let posts = hook.until(4).await;
    until(&shop.client, "select state = 'sent' from vestnik.vst_webhook").await;
    assert!(
        posts
            .iter()
            .all(|post| post.body == posts[0].body && post.id == posts[0].id && is_signed(post, SECRET))
    );
    assert_eq!(
        shop.count("vestnik.vst_receipt where channel = 'webhook' and recipient = '7' and sent_at is not null")
            .await,
        1
    );
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stores_webhook_holds_up_no_other_and_an_answered_order_is_not_posted() {
    let mut silent = Hook::start(&[Answer::Silence; 20]).await;
    let mut other = Hook::start(&[]).await;
    let shop = at_the_webhook(&silent, 12).await;
    // Three POSTs of other stores are due first. The store `gone` has no webhook any more, and somebody answers order
    // 21 of store 8.
    shop.run("insert into vestnik.vst_store (id) values ('gone'), ('8')")
        .await;
    let set = "update vestnik.vst_store set webhook_url = $1, webhook_secret = $2 where id = '8'";
    shop.client.execute(set, &[&other.url(), &SECRET]).await.unwrap();
    shop.run("insert into orders (id, store_id) values (21, 8), (22, 8)")
        .await;
    shop.run(
        "insert into vestnik.vst_event (store_id, source, key, type, data) select 'gone', source, '20', type, data \
             from vestnik.vst_event where key = '21'; \
         insert into vestnik.vst_webhook (event_id, store_id, due_at) select id, store_id, '-infinity' from vestnik.vst_event \
             where key in ('20', '21', '22')",
    )
    .await;
    shop.enqueue().await;
    shop.run("update orders set status = 'preparing' where id = 21").await;
    shop.enqueue().await;
    let (_, running) = start_posting(&shop.pool, true);
    let post = other.until(1).await.remove(0);
    assert!(post.body.contains("\"22\""), "{}", post.body);
    let dead = |order: &str, reason: &str| {
        format!(
            "select state = 'dead' and reason = '{reason}' from vestnik.vst_webhook w join vestnik.vst_event e on e.id = w.event_id \
             where e.type = 'insert' and e.key = '{order}'"
        )
    };
    until(&shop.client, &dead("20", "the store has no address any more")).await;
    until(&shop.client, &dead("21", "answered meanwhile")).await;
    assert_eq!(silent.until(1).await.len(), 1, "a store's posts go one at a time");
    running.abort();
}

#[tokio::test]
async fn an_order_that_an_older_transaction_accepts_is_not_escalated_further() {
    let shop = Shop::with_store().await;
    // With this booking, the transaction gets its transaction id before the transaction that inserts the order. Later
    // the same transaction accepts the order, so the acceptance has the lower transaction id.
    let older = shop.database.client().await;
    older
        .batch_execute("begin; insert into bookings (store_id) values (8)")
        .await
        .unwrap();
    shop.run("insert into orders (id, store_id) values (1, 7)").await;
    older
        .batch_execute("update orders set status = 'preparing' where id = 1; commit")
        .await
        .unwrap();
    shop.enqueue().await;
    assert_eq!(shop.advance().await, 0);
    assert_eq!(shop.steps().await, [(0, Some("answered".to_owned()))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_shop_is_reminded_where_its_order_is_and_with_a_sound() {
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    telegram.add_private(11, "Anna");
    telegram.link(&app.database, "7", 11, "mirror").await;
    app.write("insert into orders (store_id) values (7); insert into bookings (store_id) values (7)")
        .await;
    let told = telegram.until_messages(11, 2).await;
    until(&client, "select count(*) = 2 from vestnik.vst_escalation").await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    client
        .batch_execute("update vestnik.vst_event set at = at - interval '2 min' where type = 'insert'")
        .await
        .unwrap();
    client.batch_execute(HURRY).await.unwrap();
    let all = telegram.until_messages(11, 4).await;
    for (message, words) in [(&told[0], "Order #1"), (&told[1], "Booking #1")] {
        let reminder = all
            .iter()
            .find(|it| it.reply_to == message.message && it.reply_to.is_some());
        let reminder = reminder.unwrap_or_else(|| panic!("a reminder that leads to {words}: {all:?}"));
        assert!(
            reminder.text.contains(words) && reminder.text.contains("2 min"),
            "{}",
            reminder.text
        );
        assert!(!reminder.silent);
    }
    client.batch_execute(HURRY).await.unwrap();
    until(
        &client,
        "select bool_and(outcome = 'exhausted') from vestnik.vst_escalation",
    )
    .await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escalated_order_says_how_long_it_has_waited_and_who_has_it() {
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    for (chat, name, mode) in [(11, "Anna", "mirror"), (12, "Boris", "manager")] {
        telegram.add_private(chat, name);
        telegram.link(&app.database, "7", chat, mode).await;
    }
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(11, 1).await;
    until(&client, "select exists (select from vestnik.vst_escalation)").await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    client.batch_execute(HURRY).await.unwrap();
    telegram.until_messages(11, 2).await;
    until_step(&client, 1).await;
    client
        .batch_execute("update vestnik.vst_event set at = at - interval '3 min' where type = 'insert'")
        .await
        .unwrap();
    client.batch_execute(HURRY).await.unwrap();
    let told = telegram.until_messages(12, 1).await;
    for words in ["has waited for an answer for 3 min", "Anna", "New order #1"] {
        assert!(told[0].text.contains(words), "{words}: {}", told[0].text);
    }
    assert!(!told[0].silent);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_sounds_as_a_reply_to_its_order_in_a_muted_chat_too() {
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    telegram.add_private(11, "Anna");
    telegram.link(&app.database, "7", 11, "mirror").await;
    client
        .batch_execute("update vestnik.vst_chat_link set muted_until = 'infinity'")
        .await
        .unwrap();
    app.write("insert into orders (store_id) values (7)").await;
    let told = telegram.until_messages(11, 1).await;
    assert!(told[0].silent, "muted");
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    app.write("update orders set status = 'cancelled'").await;
    // The bot also edits the order's first message, before or after it sends this note.
    let note = telegram
        .until_call("a note", |call| {
            call.is_new_to(11) && call.text.contains("Order #1 cancelled")
        })
        .await;
    assert_eq!(note.reply_to, told[0].message);
    assert!(
        !note.silent,
        "the cancellation makes a sound, because the kitchen must stop"
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_of_a_standstill_sounds_where_the_order_was_told() {
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    telegram.add_private(11, "Anna");
    telegram.link(&app.database, "7", 11, "mirror").await;
    app.write("insert into orders (store_id) values (7)").await;
    let told = telegram.until_messages(11, 1).await;
    let client = app.database.client().await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    let mut config = app.database.config();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.telegram = Some(telegram.settings());
    app.engine.shut_down().await;
    for sql in [
        "update orders set status = 'cancelled'",
        "update vestnik.vst_event set at = at - interval '1 hour'",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let engine = vestnik::engine::Engine::start(&config).await.unwrap();
    let note = telegram
        .until_call("a note", |call| {
            call.is_new_to(11) && call.text.contains("Order #1 cancelled")
        })
        .await;
    assert_eq!((note.reply_to, note.silent), (told[0].message, false));
    engine.shut_down().await;
}

#[tokio::test]
async fn a_closed_store_is_woken_by_nobody_until_it_opens_unless_it_wants_to_be() {
    for (escalates, steps) in [("open", 0), ("always", 1)] {
        let shop = Shop::with_store().await;
        // The store is closed at the current time.
        shop.run(&format!(
            "update vestnik.vst_store set escalates = '{escalates}', time_zone = 'UTC'"
        ))
        .await;
        shop.run(
            "insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) select '7', extract(isodow from at), \
                 (at + interval '2 h')::time, (at + interval '3 h')::time from (select now() at time zone 'UTC' as at) now",
        )
        .await;
        shop.run("insert into orders (store_id) values (7)").await;
        shop.enqueue().await;
        assert_eq!(shop.advance().await, steps, "{escalates}");
        if steps == 0 {
            assert_eq!(shop.steps().await, [(0, None)], "it waits");
            shop.run("delete from vestnik.vst_opening_hours").await;
            assert_eq!(
                shop.advance().await,
                0,
                "after opening, the store has the usual time to answer"
            );
            assert_eq!(shop.advance().await, 1);
        }
    }
}

/// The mapping of a second table. Its orders have a column for the time at which the customer wants the order.
const LATER: &str = r#"table = "public.later"
kind = "order"
key = "id"
store = "store_id"
[status]
column = "status"
pending = ["pending"]
preparing = ["preparing"]
rejected = ["rejected"]
[fields]
due_at = "wanted_at"
"#;

async fn later(database: &Database) {
    let client = database.client().await;
    client
        .batch_execute(
            "create table later (id int primary key, store_id int not null, status text not null default 'pending', wanted_at timestamptz)",
        )
        .await
        .unwrap();
    database.attach(LATER).await;
}

/// The first order is wanted more than an hour from now, so its escalation begins an hour before that time. The other
/// orders are wanted sooner or have no such time, so their escalations begin at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_escalation_of_an_order_for_later_begins_an_hour_before_it_is_wanted() {
    let (telegram, database) = Telegram::with_chat(11).await;
    later(&database).await;
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    app.write(
        "insert into later (id, store_id, wanted_at) values (1, 7, now() + interval '3 hours'), (2, 7, now() + interval '30 minutes'), (3, 7, null)",
    )
    .await;
    telegram.until_messages(11, 3).await;
    until(&client, "select count(*) = 3 from vestnik.vst_escalation").await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    let begins = "select extract(epoch from l.due_at - e.at)::float8 from vestnik.vst_escalation l join vestnik.vst_event e on e.id = l.event_id order by e.key";
    let begins: Vec<f64> = client
        .query(begins, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    for (begins, expected) in begins.iter().zip([2.0 * 3600.0 + 60.0, 60.0, 60.0]) {
        assert!((begins - expected).abs() < 2.0, "{begins} for {expected}");
    }
    // Move the escalation's due time into the past.
    client
        .batch_execute("update vestnik.vst_escalation set due_at = due_at - interval '7261 seconds' where due_at > now() + interval '1 hour'")
        .await
        .unwrap();
    let reminder = telegram
        .until_call("a reminder", |call| {
            call.is_new_to(11) && call.text.contains("has waited for an answer")
        })
        .await;
    assert!(
        reminder.text.contains("Order #1") && !reminder.silent,
        "{}",
        reminder.text
    );
    until(
        &client,
        "select count(*) = 1 from vestnik.vst_escalation where step = 1",
    )
    .await;
    app.engine.shut_down().await;
}

#[tokio::test]
async fn an_order_for_later_of_a_shop_that_is_closed_now_begins_when_it_is_due_and_the_shop_is_open() {
    let shop = Shop::with_store().await;
    later(&shop.database).await;
    shop.sources.reload(&shop.database.client().await).await.unwrap();
    shop.run(
        "update vestnik.vst_store set time_zone = 'UTC'; \
         insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) select '7', extract(isodow from at), \
             (at + interval '2 h')::time, (at + interval '3 h')::time from (select now() at time zone 'UTC' as at) now; \
         insert into later (id, store_id, wanted_at) values (1, 7, now() + interval '150 minutes')",
    )
    .await;
    shop.enqueue().await;
    let looked_at = "vestnik.vst_escalation l join later on l.due_at = wanted_at - interval '60 minutes'";
    assert_eq!(
        shop.count(looked_at).await,
        1,
        "at that time the opening hours are checked"
    );
    // The escalation is due, but the shop is still closed, so the engine sends no message.
    assert_eq!(shop.advance().await, 0);
    assert_eq!(shop.steps().await, [(0, None)]);
    // After the shop has opened, the first step comes only after the usual time to answer.
    shop.run("update vestnik.vst_opening_hours set opens = '00:00', closes = '24:00'; \
        insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) select '7', d, '00:00', '24:00' from generate_series(1, 7) d on conflict do nothing")
        .await;
    assert_eq!(shop.advance().await, 0);
    assert_eq!(shop.advance().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_during_a_standstill_is_escalated_and_what_was_answered_in_it_is_not() {
    let (telegram, database) = Telegram::with_chat(11).await;
    telegram.add_private(12, "Boris");
    telegram.link(&database, "7", 12, "manager").await;
    let client = database.client().await;
    // No node runs, but the shop continues to write orders.
    client
        .batch_execute(
            "insert into orders (store_id) values (7); insert into orders (store_id) values (7); insert into bookings (store_id) values (7); \
             update vestnik.vst_store set created_at = created_at - interval '1 day'",
        )
        .await
        .unwrap();
    client
        .batch_execute("update orders set status = 'preparing' where id = 2")
        .await
        .unwrap();
    client
        .batch_execute("update vestnik.vst_event set at = at - interval '45 minutes'")
        .await
        .unwrap();
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    let digest = telegram.until_messages(11, 1).await.remove(0);
    assert!(digest.text.contains("Late news"), "{}", digest.text);
    until(&client, "select count(*) >= 2 from vestnik.vst_escalation").await;
    let waits = "select bool_and(due_at > clock_timestamp() + interval '30 s') from vestnik.vst_escalation where ended_at is null";
    assert!(
        client.query_one(waits, &[]).await.unwrap().get::<_, bool>(0),
        "after the standstill, somebody may still answer"
    );
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    client.batch_execute(HURRY).await.unwrap();
    until(
        &client,
        "select count(*) = 2 from vestnik.vst_escalation where step = 1 and ended_at is null",
    )
    .await;
    client.batch_execute(HURRY).await.unwrap();
    for title in ["New order #1", "New booking #1"] {
        let told = telegram
            .until_call(title, |call| call.is_new_to(12) && call.text.contains(title))
            .await;
        assert!(
            told.text.contains("has waited for an answer for 45 min"),
            "{}",
            told.text
        );
    }
    assert!(
        !telegram
            .calls()
            .iter()
            .any(|call| call.chat == 12 && call.text.contains("order #2")),
        "it was answered"
    );
    app.engine.shut_down().await;
}

#[tokio::test]
async fn an_order_that_came_before_closing_is_escalated_to_its_end() {
    let shop = Shop::with_store().await;
    shop.run(
        "update vestnik.vst_store set time_zone = 'UTC'; \
         insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) select '7', d, '00:00', '24:00' from generate_series(1, 7) d; \
         insert into orders (store_id) values (7)",
    )
    .await;
    shop.enqueue().await;
    // The shop closes, but the customer of the open order still waits.
    shop.run(
        "delete from vestnik.vst_opening_hours; \
         insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) select '7', extract(isodow from at), \
             (at + interval '2 h')::time, (at + interval '3 h')::time from (select now() at time zone 'UTC' as at) now",
    )
    .await;
    assert_eq!(shop.advance().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_an_escalation_could_not_reach_gets_the_order_when_it_is_back() {
    const KITCHEN: i64 = -11;
    const BORIS: i64 = 12;
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    telegram.add_group(KITCHEN, "Kitchen", &[BORIS]);
    telegram.add_private(BORIS, "Boris");
    telegram.link(&app.database, "7", KITCHEN, "fallback").await;
    telegram.link(&app.database, "7", BORIS, "manager").await;
    // The kitchen's chat refuses messages, and the manager has blocked the bot.
    app.write(
        "update vestnik.vst_chat_link set blocked_at = now(), blocked_until = 'infinity' where mode = 'fallback'; \
         insert into vestnik.vst_node values ('elsewhere', now() + interval '1 h'); \
         insert into vestnik.vst_presence values ('elsewhere', '7')",
    )
    .await;
    telegram.let_write(KITCHEN, false);
    telegram.change_membership(BORIS, BORIS, "kicked");
    until(
        &client,
        "select count(*) = 1 from vestnik.vst_chat where disabled_at is not null",
    )
    .await;
    let exhausted_before = app.metric("vestnik_escalations_exhausted_total").await;
    app.write("insert into orders (store_id) values (7), (7)").await;
    until(&client, "select count(*) = 2 from vestnik.vst_escalation").await;
    app.write("update orders set status = 'preparing' where id = 2").await;
    until(
        &client,
        "select count(*) = 1 from vestnik.vst_escalation where outcome = 'answered'",
    )
    .await;
    let over = "select count(*) = 1 from vestnik.vst_escalation where outcome = 'exhausted'";
    for step in [
        "select step = 1 from vestnik.vst_escalation where outcome is null",
        over,
    ] {
        client.batch_execute(HURRY).await.unwrap();
        until(&client, step).await;
    }
    assert!(app.metric("vestnik_escalations_exhausted_total").await > exhausted_before);
    telegram.let_write(KITCHEN, true);
    for chat in [BORIS, KITCHEN] {
        telegram.change_membership(chat, BORIS, "member");
        let order = |call: &Call| {
            let is_order = call.text.contains("New order #1") && call.text.contains("has waited");
            call.is_new_to(chat) && call.said == "ok" && is_order
        };
        telegram.until_call("the order", order).await;
    }
    let answered = |call: &Call| call.text.contains("New order #2");
    assert!(!telegram.calls().iter().any(answered), "somebody answered it");
    app.engine.shut_down().await;
}
