//! Which messages a chat gets, and in which order: enqueueing, digests and rate limits.

use std::time::Duration;

use vestnik::delivery::channel::{ChatChannel, SendOutcome, SentMessage};
use vestnik::delivery::choice::DigestRule;
use vestnik::delivery::enqueue::{self, Enqueued};
use vestnik::delivery::queue::{self, Claimed, Rules};
use vestnik::delivery::send_outcome::{self, Completion};
use vestnik::journal;

use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::telegram::{Call, TOKEN, Telegram};
use crate::telegram_outcomes::{hold, hurry, start};

/// A chat that gets every message of store 7.
const CHAT: i64 = 501;
const GROUP: i64 = -50;
/// An event that is older than this gets no separate message, but appears in a digest. The value is the default of the
/// setting `telegram.digest_after`.
const STALE: Duration = Duration::from_secs(30 * 60);
/// The longest wait until thousands of events are sent in digests.
const ALL_SENT_WITHIN: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_a_message_with_buttons_and_its_status_edits_it() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id, customer_name, total) values (7, 'Иван <b> & сын', 50000)")
        .await;
    telegram.until_messages(CHAT, 1).await;
    let (number, message) = telegram.messages(CHAT).remove(0);
    for part in ["New order #1", "Иван <b> & сын", "500.00"] {
        assert!(message.text.contains(part), "{part} in {}", message.text);
    }
    assert_eq!(message.buttons[0].len(), 2);

    app.write("update orders set status = 'preparing'").await;
    telegram.until_messages(CHAT, 2).await;
    let there = telegram.messages(CHAT);
    assert_eq!((there.len(), there[0].0, there[0].1.edits), (1, number, 1));
    assert!(there[0].1.text.contains("accepted"), "{}", there[0].1.text);

    app.write("delete from orders").await;
    let deleted = |call: &Call| call.is_edit() && call.text.contains("Order #1 deleted");
    telegram.until_call("the deletion", deleted).await;
    let there = telegram.messages(CHAT);
    assert!(there[0].1.buttons.is_empty(), "{:?}", there[0].1.buttons);
}

/// Starts an app with a linked chat. The bot sends a digest when more than three messages wait for the chat.
async fn with_digests_of_four() -> (Telegram, App) {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let settings = vestnik::infra::config::Telegram {
        digest_threshold: 3,
        ..telegram.settings()
    };
    let app = App::start_on(database, |config| config.telegram = Some(settings)).await;
    (telegram, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_order_is_a_message_of_its_own_among_many_changes() {
    let (telegram, app) = with_digests_of_four().await;
    let client = app.database.client().await;
    hold(&client).await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 5)")
        .await;
    until(&client, "select count(*) = 5 from vestnik.vst_delivery").await;
    hurry(&client).await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    hold(&client).await;
    app.write("update orders set status = 'preparing'; insert into orders (store_id) values (7)")
        .await;
    until(
        &client,
        "select count(*) = 6 from vestnik.vst_delivery where state = 'pending' and event_id is not null",
    )
    .await;
    hurry(&client).await;
    let came = telegram.until_messages(CHAT, 3).await;
    assert!(came[1].text.starts_with("🔔 New order #6"), "{}", came[1].text);
    assert!(came[2].text.contains("5 events"), "{}", came[2].text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_planned_stands_before_no_other() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let refuse = "alter table vestnik.vst_delivery add check (subject not like '% 2')";
    database.client().await.batch_execute(refuse).await.unwrap();
    for _ in 0..3 {
        let insert = "insert into orders (store_id) values (7)";
        database.client().await.batch_execute(insert).await.unwrap();
    }
    let app = start(&telegram, database).await;
    telegram.until_messages(CHAT, 2).await;
    let told: Vec<String> = telegram
        .messages(CHAT)
        .into_iter()
        .map(|(_, message)| message.text)
        .collect();
    assert!(told[0].contains("#1") && told[1].contains("#3"), "{told:?}");
    app.until_metric("vestnik_events_not_enqueued_total", |count| count >= 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_of_a_customer_arrives_as_it_is() {
    let names = [
        "</b><b>&amp;&lt;&#33;\"'",
        "\u{202e}перевёрнутый\u{200d}\u{feff}",
        "👩‍👩‍👧‍👦 e\u{301}\u{323} ﷽ \u{10ffff}",
        "{key} {name} <order>",
        "a\nb\tc",
    ];
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    let client = database.client().await;
    for (chat, name) in (1..).zip(names) {
        telegram.add_private(chat, "Anna");
        telegram.link(&database, &chat.to_string(), chat, "mirror").await;
        let insert = "insert into orders (store_id, customer_name, items) values ($1, $2, jsonb_build_array($2::text))";
        client.execute(insert, &[&chat, &name]).await.unwrap();
    }
    telegram.add_private(99, "Anna");
    telegram.link(&database, "99", 99, "mirror").await;
    let long = "insert into orders (store_id, customer_name) values (99, repeat('😀<&', 5000))";
    client.batch_execute(long).await.unwrap();
    let _app = start(&telegram, database).await;
    for (chat, name) in (1..).zip(names) {
        telegram.until_messages(chat, 1).await;
        let (_, message) = telegram.messages(chat).remove(0);
        // The message shows the name in one line, so line breaks and tabs in the name become spaces.
        let name = name.replace(['\n', '\t'], " ");
        assert_eq!(message.text.matches(&name).count(), 2, "{name} in {}", message.text);
    }
    telegram.until_messages(99, 1).await;
    let (_, message) = telegram.messages(99).remove(0);
    let units = message.text.encode_utf16().count();
    assert!(
        units <= 4096 && message.text.contains("more characters: see the panel"),
        "{units}"
    );
    assert_eq!(
        message.buttons[0].len(),
        2,
        "it can be answered though a fact of it is cut"
    );
}

/// This test waits for Telegram's real time limits. The bot sends 20 digests in the first half minute, and the other
/// digests one minute after the first. The test takes about 70 s.
#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_events_for_one_group_come_as_digests_within_the_limits_the_urgent_first() {
    const ORDERS: usize = 2_900;
    const CHANGES: usize = 100;
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_group(GROUP, "Kitchen", &[]);
    telegram.link(&database, "7", GROUP, "mirror").await;
    let client = database.client().await;
    client
        .batch_execute(&format!(
            "update vestnik.vst_store set answer_seconds = 86400; \
             insert into orders (store_id, total) select 7, 100 from generate_series(1, {CHANGES})"
        ))
        .await
        .unwrap();
    client
        .batch_execute("update orders set status = 'preparing'")
        .await
        .unwrap();
    client
        .batch_execute(&format!(
            "insert into orders (store_id, total) select 7, 100 from generate_series({CHANGES} + 1, {ORDERS})"
        ))
        .await
        .unwrap();
    let _app = start(&telegram, database).await;
    let told = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    telegram
        .until_calls_within(ALL_SENT_WITHIN, "all of them", |calls| {
            let lines = |call: &crate::support::telegram::Call| told(&call.text, "rder #");
            calls
                .iter()
                .filter(|call| call.is_message_to(GROUP))
                .map(lines)
                .sum::<usize>()
                >= ORDERS + CHANGES
        })
        .await;
    let sent =
        "select count(*) = 3000 and bool_and(state = 'sent') from vestnik.vst_delivery where event_id is not null";
    until(&client, sent).await;
    let calls: Vec<_> = telegram
        .calls()
        .into_iter()
        .filter(|call| call.is_message_to(GROUP))
        .collect();
    assert!((21..40).contains(&calls.len()), "{} messages", calls.len());
    for number in 1..=ORDERS {
        let line = format!("new order #{number},");
        assert_eq!(
            calls.iter().map(|call| told(&call.text, &line)).sum::<usize>(),
            1,
            "{line}"
        );
    }
    let first_change = calls.iter().position(|call| call.text.contains("accepted")).unwrap();
    let last_order = calls.iter().rposition(|call| call.text.contains("new order")).unwrap();
    assert!(first_change >= last_order, "a change of status came before a new order");
    telegram.assert_no_violation();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_hour_of_absence_the_fresh_come_one_by_one_before_one_digest_of_the_old() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    client
        .batch_execute(
            "insert into orders (store_id) select 7 from generate_series(1, 40); \
             update vestnik.vst_event set at = at - interval '1 hour'; \
             insert into orders (store_id) values (7); insert into orders (store_id) values (7)",
        )
        .await
        .unwrap();
    // Enqueue all events before the bot starts. Otherwise, the bot could send some of them before the others.
    let sources = database.sources().await;
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    while enqueue::enqueue_batch(&pool, &sources, STALE).await.unwrap() != Enqueued::All {}
    let app = start(&telegram, database).await;
    let came = telegram.until_messages(CHAT, 3).await;
    assert!(
        came[2].text.contains("Late news")
            && came[2].text.contains("40 events")
            && came[2].buttons.iter().flatten().count() == 40,
        "{}",
        came[2].text
    );
    for number in 1..=40 {
        assert!(
            came[2].text.lines().any(|line| line.ends_with(&format!("#{number}"))),
            "{number}"
        );
    }
    assert!(came[0].text.contains("New order #41") && came[1].text.contains("New order #42"));
    let advancing = "select count(*) = 2 from vestnik.vst_escalation";
    until(&app.database.client().await, advancing).await;
    assert_eq!(telegram.messages(CHAT).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_again_changes_nothing() {
    let (_telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) select 7 from generate_series(1, 700)")
        .await
        .unwrap();
    client
        .batch_execute("update orders set status = 'ready' where id <= 50")
        .await
        .unwrap();
    let sources = database.sources().await;
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    let what = "select (select json_agg(d order by id) from vestnik.vst_delivery d)::text || (select json_agg(e order by event_id) from vestnik.vst_escalation e)";
    let mut before: Option<String> = None;
    for _ in 0..3 {
        while enqueue::enqueue_batch(&pool, &sources, STALE).await.unwrap() != Enqueued::All {}
        let after: String = client.query_one(what, &[]).await.unwrap().get(0);
        assert_eq!(after.matches("\"event_id\"").count(), 750 + 700);
        assert!(before.is_none_or(|before| before == after));
        before = Some(after);
        // Reset the cursor of the enqueued events. This simulates a lost cursor, or a second node that enqueues the
        // same events at the same moment.
        client
            .batch_execute("update vestnik.vst_delivery_cursor set cursor = ''")
            .await
            .unwrap();
    }
    let (one, other) = tokio::join!(
        enqueue::enqueue_batch(&pool, &sources, STALE),
        enqueue::enqueue_batch(&pool, &sources, STALE)
    );
    assert!(one.is_ok() && other.is_ok());
    while enqueue::enqueue_batch(&pool, &sources, STALE).await.unwrap() != Enqueued::All {}
    let after: String = client.query_one(what, &[]).await.unwrap().get(0);
    assert_eq!(before.unwrap(), after);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_orders_overtake_status_news_and_keep_their_order() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(CHAT, 1).await;
    until(&client, "select state = 'sent' from vestnik.vst_delivery").await;
    hold(&client).await;
    app.write("update orders set status = 'preparing'").await;
    app.write("insert into orders (store_id) values (7)").await;
    app.write("insert into orders (store_id) values (7)").await;
    until(&client, "select count(*) = 4 from vestnik.vst_delivery").await;
    hurry(&client).await;
    let came: Vec<String> = telegram
        .until_messages(CHAT, 4)
        .await
        .into_iter()
        .map(|call| call.text)
        .collect();
    assert!(
        came[1].contains("New order #2") && came[2].contains("New order #3"),
        "{came:?}"
    );
    assert!(
        came[3].contains("Order #1 is being prepared") && came[3].contains("accepted"),
        "{came:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_is_far_behind_gets_a_digest() {
    let (telegram, app) = with_digests_of_four().await;
    let client = app.database.client().await;
    hold(&client).await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 4)")
        .await;
    until(&client, "select count(*) = 4 from vestnik.vst_delivery").await;
    hurry(&client).await;
    let came = telegram.until_messages(CHAT, 1).await;
    assert!(came[0].text.contains("4 events"), "{}", came[0].text);
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_muted_chat_gets_its_messages_without_a_sound() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    app.write("update vestnik.vst_chat_link set muted_until = now() + interval '1 hour'")
        .await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(CHAT, 1).await;
    app.write("update vestnik.vst_chat_link set muted_until = now()").await;
    app.write("insert into orders (store_id) values (7)").await;
    let silent: Vec<bool> = telegram
        .until_messages(CHAT, 2)
        .await
        .iter()
        .map(|call| call.silent)
        .collect();
    assert_eq!(silent, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_holds_up_nobody() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.link(&database, "8", CHAT, "mirror").await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    hold(&client).await;
    app.write("insert into orders (store_id) values (8)").await;
    app.write("insert into orders (store_id) values (7)").await;
    until(&client, "select count(*) = 2 from vestnik.vst_delivery").await;
    app.write("delete from vestnik.vst_store where id = '8'").await;
    hurry(&client).await;
    let came = telegram.until_messages(CHAT, 1).await;
    assert!(came[0].text.contains("#2"), "{}", came[0].text);
    until(
        &client,
        "select state = 'dead' from vestnik.vst_delivery where store_id = '8'",
    )
    .await;
}

fn rules(token: &str) -> Rules {
    use sha2::Digest as _;
    Rules {
        lease: Duration::from_secs(30),
        deadline: Duration::from_secs(10),
        digest: DigestRule {
            threshold: 30,
            that_fit: <vestnik::telegram::Client as ChatChannel>::that_fit,
        },
        idle: Duration::from_secs(1),
        bot: sha2::Sha256::digest(token).into(),
        node: "here".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_bot_claims_nothing_and_waits_and_a_new_token_goes_on() {
    let (_telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let sources = database.sources().await;
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    enqueue::enqueue_batch(&pool, &sources, STALE).await.unwrap();
    vestnik::delivery::shared_bot::stop_bot(&pool, TOKEN, "not let in")
        .await
        .unwrap();
    match queue::claim(&pool, &sources, &rules(TOKEN)).await.unwrap() {
        Claimed::Idle(wait) => assert_eq!(wait, rules(TOKEN).idle),
        other => panic!("{other:?}"),
    }
    let claimed = queue::claim(&pool, &sources, &rules("4242:a-new-token")).await.unwrap();
    assert!(matches!(claimed, Claimed::Work(_)), "{claimed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_comes_late_frees_nobody_elses_slot() {
    let (_telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let sources = database.sources().await;
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    enqueue::enqueue_batch(&pool, &sources, STALE).await.unwrap();
    let Claimed::Work(claim) = queue::claim(&pool, &sources, &rules(TOKEN)).await.unwrap() else {
        panic!("nothing claimed")
    };
    // Each send takes a slot, which limits the sends a second. Simulate that the lease of this send has ended, and that
    // another send has taken its slot.
    let taken = "update vestnik.vst_bot_slot set free_at = clock_timestamp() + interval '1 hour' where slot = $1";
    client.execute(taken, &[&claim.slot]).await.unwrap();
    assert_eq!(
        send_outcome::complete(
            &pool,
            &claim,
            &SendOutcome::Sent(Some(SentMessage {
                id: 1,
                opens: Vec::new()
            }))
        )
        .await
        .unwrap(),
        Completion::Saved(Default::default())
    );
    let held = "select free_at > clock_timestamp() + interval '50 minutes' from vestnik.vst_bot_slot where slot = $1";
    assert!(client.query_one(held, &[&claim.slot]).await.unwrap().get::<_, bool>(0));
    // If no other send has taken the slot, the slot is free again one second after the send.
    client
        .batch_execute("insert into orders (store_id) values (7); update vestnik.vst_chat set next_at = now()")
        .await
        .unwrap();
    enqueue::enqueue_batch(&pool, &sources, STALE).await.unwrap();
    let Claimed::Work(claim) = queue::claim(&pool, &sources, &rules(TOKEN)).await.unwrap() else {
        panic!("nothing claimed")
    };
    send_outcome::complete(
        &pool,
        &claim,
        &SendOutcome::Sent(Some(SentMessage {
            id: 2,
            opens: Vec::new(),
        })),
    )
    .await
    .unwrap();
    let soon = "select free_at < clock_timestamp() + interval '1.1 s' from vestnik.vst_bot_slot where slot = $1";
    assert!(client.query_one(soon, &[&claim.slot]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_commits_while_others_are_planned_is_planned_once() {
    let database = Database::fresh().await;
    let (shop, blocker) = (database.client().await, database.client().await);
    shop.batch_execute("insert into vestnik.vst_store (id) values ('7')")
        .await
        .unwrap();
    // Because of this lock, the enqueueing task waits after it has read its cursor and before it reads the events.
    blocker
        .batch_execute("begin; lock table vestnik.vst_store in access exclusive mode")
        .await
        .unwrap();
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    let enqueueing = tokio::spawn(async move {
        let mut client = pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let first = journal::read_due(&transaction, "", 10).await.unwrap();
        let second = journal::read_due(&transaction, &first.cursor, 10).await.unwrap();
        [first.events.len(), second.events.len()]
    });
    let waits = "select count(*) = 1 from pg_locks where not granted and relation = 'vestnik.vst_store'::regclass";
    until(&shop, waits).await;
    shop.batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    blocker.batch_execute("commit").await.unwrap();
    assert_eq!(enqueueing.await.unwrap(), [0, 1]);
}

/// While no node runs, the status of each order changes twice, and the test makes these changes an hour old. Then a
/// node starts, and edits each message in the chat to the order's final status.
#[tokio::test(flavor = "multi_thread")]
async fn each_message_that_is_there_is_edited_behind_a_standstill_and_keeps_no_old_buttons() {
    const ORDERS: usize = 5;
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let settings = || vestnik::infra::config::Telegram {
        digest_threshold: 2,
        ..telegram.settings()
    };
    let app = App::start_on(database, |config| config.telegram = Some(settings())).await;
    for number in 1..=ORDERS {
        app.write("insert into orders (store_id) values (7)").await;
        telegram.until_messages(CHAT, number).await;
    }
    let mut config = app.database.config();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.telegram = Some(settings());
    let client = app.database.client().await;
    app.engine.shut_down().await;
    client
        .batch_execute("update orders set status = 'preparing'")
        .await
        .unwrap();
    client
        .batch_execute("update orders set status = 'completed'")
        .await
        .unwrap();
    client
        .batch_execute("update vestnik.vst_event set at = at - interval '1 hour'")
        .await
        .unwrap();
    let engine = vestnik::engine::Engine::start(&config).await.unwrap();
    telegram
        .until_calls_within(Duration::from_secs(40), "an edit of each", |calls| {
            let edits = calls
                .iter()
                .filter(|call| call.method == "editMessageText" && call.said == "ok");
            edits.count() >= ORDERS
        })
        .await;
    let there = telegram.messages(CHAT);
    assert_eq!(there.len(), ORDERS, "no message is sent again: {there:?}");
    for (_, message) in there {
        assert!(
            message.text.starts_with('✅') && message.buttons.is_empty(),
            "{}",
            message.text
        );
    }
    engine.shut_down().await;
}
