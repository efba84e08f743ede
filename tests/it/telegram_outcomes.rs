//! The outcome of a send, for every response and every failure of Telegram. Each test runs one engine.

use std::time::{Duration, Instant};

use vestnik::infra::db::Client;

use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::telegram::{Fault, On, Taken, Telegram, Times};

/// Two chats that get every message of store 7.
const CHAT: i64 = 601;
const OTHER: i64 = 602;
/// The chat id of a group before and after it becomes a supergroup.
const GROUP: i64 = -60;
const SUPERGROUP: i64 = -1_000_000_000_060;
/// The engine's deadline for a send, in tests that wait until a send has timed out.
const DEADLINE: Duration = Duration::from_secs(5);

pub async fn start(telegram: &Telegram, database: Database) -> App {
    App::start_on(database, |config| config.telegram = Some(telegram.settings())).await
}

/// Starts an app with the deadline [`DEADLINE`].
async fn start_impatient(telegram: &Telegram, database: Database) -> App {
    let settings = vestnik::infra::config::Telegram {
        deadline: DEADLINE,
        ..telegram.settings()
    };
    App::start_on(database, |config| config.telegram = Some(settings)).await
}

/// Makes all waiting messages due as soon as Telegram's limits permit.
pub async fn hurry(client: &Client) {
    // Update the two tables in separate transactions. One transaction could deadlock with a node that completes a send.
    client
        .batch_execute("update vestnik.vst_delivery set due_at = '-infinity'")
        .await
        .unwrap();
    client
        .batch_execute(
            "update vestnik.vst_chat set waiting = true, next_at = least(next_at, clock_timestamp() + interval '1.1 s'), \
                 edit_next_at = least(edit_next_at, clock_timestamp() + interval '1.1 s')",
        )
        .await
        .unwrap();
}

/// Delays all messages by an hour, or until a test calls [`hurry`].
pub async fn hold(client: &Client) {
    client
        .batch_execute(
            "update vestnik.vst_chat set next_at = clock_timestamp() + interval '1 hour', \
                 edit_next_at = clock_timestamp() + interval '1 hour'",
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_retry_after_for_one_chat_is_obeyed_and_delays_no_other() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.add_private(OTHER, "Boris");
    telegram.link(&database, "7", OTHER, "mirror").await;
    telegram.fault(On::Chat(CHAT), Fault::too_many(3600), Times::Some(1));
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    for number in 1..=3 {
        app.write("insert into orders (store_id) values (7)").await;
        telegram.until_messages(OTHER, number).await;
    }
    let (throttled, rest): (Vec<_>, Vec<_>) = telegram.calls().into_iter().partition(|call| call.is_message_to(CHAT));
    assert_eq!(
        (
            throttled.len(),
            rest.iter().filter(|call| call.is_message_to(OTHER)).count()
        ),
        (1, 3)
    );
    until(
        &client,
        "select next_at > now() + interval '59 minutes' from vestnik.vst_chat where telegram_id = 601",
    )
    .await;
    app.until_metric("vestnik_telegram_sends_total{outcome=\"throttled\"}", |count| {
        count >= 1.0
    })
    .await;

    telegram.let_speak(CHAT);
    hurry(&client).await;
    let came = telegram.until_messages(CHAT, 3).await;
    let order: Vec<bool> = (1..=3)
        .map(|number| came[number - 1].text.contains(&format!("#{number}")))
        .collect();
    assert_eq!(order, [true; 3], "all of them, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_accepts_no_messages_is_disabled_at_once_and_the_panels_are_notified() {
    for gone in [true, false] {
        let (telegram, database) = Telegram::with_chat(CHAT).await;
        if gone {
            telegram.fault(On::Chat(CHAT), Fault::chat_not_found(), Times::Always);
        } else {
            telegram.throw_out(CHAT);
        }
        let app = start(&telegram, database).await;
        let client = app.database.client().await;
        let mut panel = app.panel("7", None).await.live().await;
        app.write("insert into orders (store_id) values (7)").await;
        assert_eq!(panel.event().await["type"], "new_order");
        let told = panel.event().await;
        let reason = if gone {
            "Bad Request: chat not found"
        } else {
            "Forbidden: bot was blocked by the user"
        };
        assert_eq!(
            (&told["type"], &told["data"]["chat"]),
            (&"chat_disabled".into(), &"Anna".into())
        );
        assert_eq!(told["data"]["reason"], reason);
        let row = client
            .query_one(
                "select disabled_why, state, reason from vestnik.vst_chat c, vestnik.vst_delivery d",
                &[],
            )
            .await
            .unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), (reason, "dead", reason));

        app.write("insert into orders (store_id) values (7)").await;
        assert_eq!(panel.event().await["data"]["order_id"], "2");
        until(
            &client,
            "select count(*) = 1 from vestnik.vst_escalation where event_id = 3",
        )
        .await;
        assert_eq!(
            telegram.calls().iter().filter(|call| call.is_message_to(CHAT)).count(),
            1
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_a_new_number_gets_its_message_once_and_no_others_message_is_edited() {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_group(GROUP, "Kitchen", &[]);
    telegram.link(&database, "7", GROUP, "mirror").await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(GROUP, 1).await;

    telegram.migrate(GROUP, SUPERGROUP);
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(SUPERGROUP, 1).await;
    let number: i64 = client
        .query_one("select telegram_id from vestnik.vst_chat", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(number, SUPERGROUP);
    // This message has the same number in the supergroup as the message of the first order had in the old group.
    let second = telegram.messages(SUPERGROUP)[0].0;
    assert_eq!(second, telegram.messages(GROUP)[0].0);

    app.write("update orders set status = 'preparing' where id = 1").await;
    telegram.until_messages(SUPERGROUP, 2).await;
    let texts: Vec<String> = telegram
        .messages(SUPERGROUP)
        .into_iter()
        .map(|(_, message)| message.text)
        .collect();
    assert!(
        texts[0].contains("New order #2") && !texts[0].contains("accepted"),
        "{texts:?}"
    );
    assert!(
        texts[1].contains("Order #1 is being prepared") && texts[1].contains("accepted"),
        "{texts:?}"
    );
    app.write("update orders set status = 'ready' where id = 1").await;
    telegram.until_messages(SUPERGROUP, 3).await;
    assert_eq!(telegram.messages(SUPERGROUP)[1].1.edits, 1);
    assert_eq!(
        telegram.calls().iter().filter(|call| call.is_message_to(GROUP)).count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_linked_under_both_numbers_gets_each_order_once() {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_group(GROUP, "Kitchen", &[]);
    telegram.link(&database, "7", GROUP, "mirror").await;
    telegram.migrate(GROUP, SUPERGROUP);
    telegram.link(&database, "7", SUPERGROUP, "mirror").await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(SUPERGROUP, 1).await;
    until(
        &client,
        "select count(*) filter (where state = 'dead') = 1 and count(*) filter (where state = 'sent') = 1 from vestnik.vst_delivery",
    )
    .await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(SUPERGROUP, 2).await;
    until(&client, "select count(*) = 1 from vestnik.vst_chat_link").await;
    assert_eq!(
        telegram.calls().iter().filter(|call| call.is_message_to(GROUP)).count(),
        1
    );
}

/// Records each failure of a send at the moment when the engine saves it. The engine repeats the send soon.
const RECORD_FAILURES: &str = "create table failed (failures int, pause_s float8, state text, reason text); \
     create function record_failure() returns trigger language plpgsql as $$ begin insert into failed \
         values (new.failures, extract(epoch from new.due_at - clock_timestamp()), new.state, new.reason); return null; end $$; \
     create trigger record_failure after update on vestnik.vst_delivery for each row \
         when (new.failures > old.failures) execute function record_failure()";
/// The longest delay of the trigger of [`RECORD_FAILURES`] after its statement has computed the pause, s.
const TRIGGER_DELAY_S: f64 = 15.0;

/// The first two sends of a message get `fault`. The message must still arrive, and the chat must then have `copies`
/// copies of the message.
async fn comes_all_the_same(fault: Fault, copies: usize) {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.fault(On::Chat(CHAT), fault, Times::Some(2));
    let app = start_impatient(&telegram, database).await;
    let client = app.database.client().await;
    client.batch_execute(RECORD_FAILURES).await.unwrap();
    app.write("insert into orders (store_id) values (7)").await;
    for failures in [1, 2] {
        let recorded = format!("failed where failures = {failures}");
        until(&client, &format!("select count(*) = 1 from {recorded}")).await;
        let pause = format!("select pause_s, state, reason is not null from {recorded}");
        let row = client.query_one(&pause, &[]).await.unwrap();
        let pause_s: f64 = row.get(0);
        // After n failures, the next attempt is due at most n seconds later. The trigger may run late.
        assert!((-TRIGGER_DELAY_S..=f64::from(failures)).contains(&pause_s), "{pause_s}");
        assert_eq!((row.get(1), row.get(2)), ("retrying", true));
        hurry(&client).await;
    }
    telegram.until_messages(CHAT, 1).await;
    until(
        &client,
        "select c.failures = 0 and d.state = 'sent' from vestnik.vst_chat c, vestnik.vst_delivery d",
    )
    .await;
    assert_eq!(telegram.messages(CHAT).len(), copies);
    assert_eq!(
        telegram.calls().iter().filter(|call| call.is_message_to(CHAT)).count(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_gateway_is_tried_again() {
    comes_all_the_same(Fault::bad_gateway(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_ends_at_the_engines_own_deadline() {
    comes_all_the_same(Fault::Hang(Taken::No), 1).await;
    comes_all_the_same(Fault::Hang(Taken::Yes), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_behind_the_request_is_tried_again() {
    comes_all_the_same(Fault::Reset(Taken::No), 1).await;
    comes_all_the_same(Fault::Reset(Taken::Yes), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_json_is_tried_again() {
    comes_all_the_same(Fault::BrokenJson(Taken::No), 1).await;
    comes_all_the_same(Fault::BrokenJson(Taken::Yes), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_that_hang_delay_no_other() {
    const HANGING: i64 = 40;
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    for chat in 1..=HANGING {
        telegram.add_private(chat, "silent");
        telegram.link(&database, "8", chat, "mirror").await;
        telegram.fault(On::Chat(chat), Fault::Hang(Taken::No), Times::Always);
    }
    // Simulate that sends to these 40 chats have failed before, and are due longer than the send to `CHAT`.
    let client = database.client().await;
    let due = "update vestnik.vst_chat set failures = 3, next_at = now() - interval '1 minute' where telegram_id <= 40";
    client.batch_execute(due).await.unwrap();
    client
        .batch_execute("insert into orders (store_id) values (8)")
        .await
        .unwrap();
    let began = Instant::now();
    let app = start(&telegram, database).await;
    telegram
        .until_calls("sends that hang", |calls| {
            calls.iter().filter(|call| call.said == "silence").count() >= 10
        })
        .await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(CHAT, 1).await;
    let hanging = telegram.calls().iter().filter(|call| call.said == "silence").count();
    assert!(
        hanging == 10 || began.elapsed() > telegram.settings().deadline,
        "{hanging} hang at once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_with_its_chat_stays_so_though_its_send_ends_later() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.fault(On::Chat(CHAT), Fault::Hang(Taken::No), Times::Always);
    let app = start_impatient(&telegram, database).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_call("the send", |call| call.is_message_to(CHAT)).await;
    let pool = vestnik::infra::db::pool(&app.database.config().database).unwrap();
    vestnik::delivery::chat_state::disable(&pool, CHAT, "thrown out")
        .await
        .unwrap();
    until(&client, "select failures = 1 from vestnik.vst_chat").await;
    let row = client
        .query_one("select state, reason from vestnik.vst_delivery", &[])
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), ("dead", "thrown out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_holds_up_nothing_behind_it() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.fault(
        On::Chat(CHAT),
        Fault::refused("Bad Request: can't parse entities: x"),
        Times::Some(1),
    );
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id) values (7), (7)").await;
    let came = telegram.until_messages(CHAT, 2).await;
    assert!(came[0].text.contains("#2"), "{}", came[0].text);
    assert!(came[1].text.contains("#1") && !came[1].is_html, "{}", came[1].text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_is_replaced_by_a_new_one_about_the_same_order() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id, total) values (7, 12345)")
        .await;
    telegram.until_messages(CHAT, 1).await;
    telegram.fault(
        On::Chat(CHAT),
        Fault::refused("Bad Request: message to edit not found"),
        Times::Some(1),
    );
    app.write("update orders set status = 'preparing'").await;
    telegram.until_messages(CHAT, 2).await;
    let (_, new) = telegram.messages(CHAT).pop().unwrap();
    for part in ["Order #1 is being prepared", "123.45", "accepted"] {
        assert!(new.text.contains(part), "{part} in {}", new.text);
    }
}
