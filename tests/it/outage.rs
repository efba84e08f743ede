//! A failure delays only the messages that it concerns. An outage of Telegram stops all sends of the bot; after the
//! outage, all chats continue at once. An edit, a button press, a 429 or an unreadable order delays no new order.

use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::node::Node;
use crate::support::proxy::Proxy;
use crate::support::telegram::{Call, Fault, On, Taken, Telegram, Times};
use crate::telegram_outcomes::start;

const CHAT: i64 = 911;
const OTHER: i64 = 912;
const GROUP: i64 = -91;
/// Makes the message about the newest order wait a minute less. On a slow machine, the bot would otherwise treat this
/// message as old, and put it into a digest.
const STAYS_FRESH: &str = "update vestnik.vst_delivery set waits_since = waits_since + interval '1 minute' \
     where event_id = (select max(event_id) from vestnik.vst_delivery)";

/// The longest wait until the bot has used the budget of a group for one minute.
const MINUTES_BUDGET: std::time::Duration = std::time::Duration::from_secs(120);

/// Links one chat to store 7 and another chat to store 8.
async fn two_chats() -> (Telegram, Database) {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.add_private(OTHER, "Boris");
    telegram.link(&database, "8", OTHER, "mirror").await;
    (telegram, database)
}

fn is_order(call: &Call, chat: i64, number: u32) -> bool {
    call.is_new_to(chat) && call.said == "ok" && call.text.contains(&format!("New order #{number}"))
}

/// Simulates an outage with `fault`. Asserts that the bot sends the messages as soon as the outage ends, and does not
/// wait for the time of their next retry.
async fn nothing_is_waited_out_after(fault: Fault) {
    let (telegram, database) = two_chats().await;
    let settings = vestnik::infra::config::Telegram {
        deadline: std::time::Duration::from_secs(1),
        ..telegram.settings()
    };
    let app = App::start_on(database, |config| config.telegram = Some(settings)).await;
    let client = app.database.client().await;
    telegram.fault(On::Everything, fault, Times::Always);
    app.write("insert into orders (store_id) values (7); insert into orders (store_id) values (8)")
        .await;
    until(&client, "select error is not null from vestnik.vst_bot").await;
    app.write("insert into orders (store_id) values (7)").await;
    until(&client, "select count(*) = 3 from vestnik.vst_delivery").await;
    // During the outage, the bot sends only probes (`getMe`).
    let count = |calls: &[Call], method: &str| calls.iter().filter(|call| call.method == method).count();
    let probes = count(&telegram.calls(), "getMe");
    telegram
        .until_calls("the sends that had begun end", |calls| {
            count(calls, "getMe") >= probes + 3
        })
        .await;
    let (probes, sends) = (
        count(&telegram.calls(), "getMe"),
        count(&telegram.calls(), "sendMessage"),
    );
    telegram
        .until_calls("more probes", |calls| count(calls, "getMe") >= probes + 6)
        .await;
    assert!(
        sends <= 2 && count(&telegram.calls(), "sendMessage") == sends,
        "{sends}"
    );
    until(
        &client,
        "select bool_and(leased_until = '-infinity') from vestnik.vst_chat",
    )
    .await;
    let pauses = "select count(*) from vestnik.vst_chat c, vestnik.vst_delivery d \
         where d.due_at > now() or d.failures > 0 or c.next_at > clock_timestamp() + interval '1.1 s' or c.failures > 0";
    assert_eq!(client.query_one(pauses, &[]).await.unwrap().get::<_, i64>(0), 0);
    telegram.heal();
    app.write("insert into orders (store_id) values (8)").await;
    for (chat, number) in [(CHAT, 1), (OTHER, 2), (CHAT, 3), (OTHER, 4)] {
        telegram
            .until_call("the order", |call| is_order(call, chat, number))
            .await;
    }
    until(&client, "select error is null from vestnik.vst_bot").await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_that_refuses_nothing_is_waited_out() {
    nothing_is_waited_out_after(Fault::bad_gateway()).await;
    nothing_is_waited_out_after(Fault::Reset(Taken::No)).await;
}

/// A node in its own process has its own metrics. The engines of other tests share one process.
#[tokio::test(flavor = "multi_thread")]
async fn the_gauge_of_telegram_follows_an_outage() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.fault(On::Everything, Fault::bad_gateway(), Times::Always);
    let node = Node::serving(&database, &telegram.url(), &[]).await;
    let insert = "insert into orders (store_id) values (7)";
    database.client().await.batch_execute(insert).await.unwrap();
    node.until_metric("vestnik_telegram_reached", |reached| reached == 0.0)
        .await;
    telegram.heal();
    node.until_metric("vestnik_telegram_reached", |reached| reached == 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_that_is_silent_nothing_is_waited_out() {
    nothing_is_waited_out_after(Fault::Hang(Taken::No)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_behind_an_outage_goes_out_before_the_orders_and_reminders_that_waited_through_it() {
    const WAITING: u32 = 8;
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 3)")
        .await;
    until(
        &client,
        "select count(*) = 3 from vestnik.vst_delivery where state = 'sent'",
    )
    .await;
    telegram.fault(On::Everything, Fault::bad_gateway(), Times::Always);
    app.write(&format!(
        "insert into orders (store_id) select 7 from generate_series(1, {WAITING})"
    ))
    .await;
    until(&client, "select error is not null from vestnik.vst_bot").await;
    let enqueued = |count| format!("select count(*) = {count} from vestnik.vst_delivery");
    until(&client, &enqueued(3 + WAITING)).await;
    // An hour passes, and nobody answers the earlier orders.
    app.write(
        "update vestnik.vst_event set at = at - interval '1 hour'; \
         update vestnik.vst_delivery set waits_since = waits_since - interval '1 hour'; \
         update vestnik.vst_escalation set due_at = due_at - interval '1 hour'",
    )
    .await;
    until(
        &client,
        "select count(*) = 3 from vestnik.vst_delivery where note = 'unanswered'",
    )
    .await;
    let before = telegram.calls().len();
    let new = 3 + WAITING + 1;
    app.write("insert into orders (store_id) values (7)").await;
    until(&client, &enqueued(3 + WAITING + 3 + 1)).await;
    app.write(STAYS_FRESH).await;
    telegram.heal();
    let is_told = |call: &Call| call.is_new_to(CHAT) && call.said == "ok";
    telegram
        .until_call("the new order", |call| is_order(call, CHAT, new))
        .await;
    let first = telegram.calls().into_iter().skip(before).find(is_told).unwrap();
    assert!(first.text.contains(&format!("New order #{new}")), "{}", first.text);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_behind_a_long_outage_is_in_the_first_digest() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    telegram.fault(On::Everything, Fault::bad_gateway(), Times::Always);
    app.write("insert into orders (store_id) select 7 from generate_series(1, 300)")
        .await;
    until(&client, "select count(*) = 300 from vestnik.vst_delivery").await;
    app.write("update vestnik.vst_delivery set waits_since = waits_since - interval '1 hour'")
        .await;
    app.write("insert into orders (store_id) values (7)").await;
    until(&client, "select count(*) = 301 from vestnik.vst_delivery").await;
    app.write(STAYS_FRESH).await;
    telegram.heal();
    let first = telegram.until_messages(CHAT, 1).await.remove(0);
    assert!(first.text.contains("#301"), "{}", first.text);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_right_behind_an_outage_is_taken_though_the_poll_of_before_is_still_open() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(CHAT, 1).await[0].message.unwrap();
    // Telegram never answers the open long poll. One failed send makes the bot notice the outage, and after three
    // failed probes the outage ends.
    telegram.fault(On::Method("getUpdates"), Fault::Hang(Taken::No), Times::Some(1));
    telegram.fault(On::Method("getMe"), Fault::bad_gateway(), Times::Some(3));
    telegram.fault(On::Messages, Fault::bad_gateway(), Times::Some(1));
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_call("the order", |call| is_order(call, CHAT, 2)).await;
    telegram.push_press(CHAT, CHAT, message, "s:1:preparing");
    telegram
        .until_call("the answer", |call| call.method == "answerCallbackQuery")
        .await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_telegram_takes_no_messages_at_all_the_first_that_goes_through_frees_all() {
    const CHATS: i64 = 5;
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    for chat in 1..=CHATS {
        telegram.add_private(chat, "Anna");
        telegram.link(&database, &chat.to_string(), chat, "mirror").await;
    }
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    telegram.fault(On::Messages, Fault::bad_gateway(), Times::Always);
    for chat in 1..=CHATS {
        app.write(&format!("insert into orders (store_id) values ({chat})"))
            .await;
    }
    app.write("insert into orders (store_id) values (7)").await;
    let failed = format!("select count(*) = {CHATS} + 1 from vestnik.vst_delivery where failures > 0");
    until(&client, &failed).await;
    // Simulate that the sends have failed nine times, so that their next retry is five minutes away.
    app.write("update vestnik.vst_delivery set due_at = now() + interval '5 minutes', failures = 9")
        .await;
    telegram.heal();
    app.write("insert into orders (store_id) values (7)").await;
    for chat in (1..=CHATS).chain([CHAT]) {
        let came = |call: &Call| call.is_new_to(chat) && call.said == "ok";
        telegram.until_call("the order", came).await;
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_hangs_or_is_throttled_delays_no_new_order() {
    for fault in [Fault::Hang(Taken::No), Fault::too_many(600)] {
        let (telegram, database) = Telegram::with_chat(CHAT).await;
        let settings = vestnik::infra::config::Telegram {
            deadline: std::time::Duration::from_secs(60),
            lease: std::time::Duration::from_secs(90),
            ..telegram.settings()
        };
        let app = App::start_on(database, |config| config.telegram = Some(settings)).await;
        let client = app.database.client().await;
        app.write("insert into orders (store_id) values (7)").await;
        telegram.until_messages(CHAT, 1).await;
        until(&client, "select state = 'sent' from vestnik.vst_delivery").await;
        telegram.fault(On::Edits(CHAT), fault, Times::Some(1));
        app.write("update orders set status = 'preparing'").await;
        telegram.until_call("the edit", Call::is_edit).await;
        app.write("insert into orders (store_id) values (7)").await;
        telegram.until_call("the order", |call| is_order(call, CHAT, 2)).await;
        let edit =
            "select count(*) = 1 from vestnik.vst_delivery where event_id = 2 and state in ('sending', 'retrying')";
        until(&client, edit).await;
        telegram.assert_no_violation();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_of_orders_leaves_edits_their_share_and_edits_leave_orders_theirs() {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_group(GROUP, "Kitchen", &[]);
    telegram.link(&database, "7", GROUP, "mirror").await;
    let settings = vestnik::infra::config::Telegram {
        digest_threshold: 1000,
        ..telegram.settings()
    };
    let app = App::start_on(database, |config| config.telegram = Some(settings)).await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 40)")
        .await;
    telegram.until_messages(GROUP, 3).await;
    app.write("update orders set status = 'preparing'").await;
    telegram
        .until_calls_within(MINUTES_BUDGET, "a minute's budget", |calls| {
            calls.iter().filter(|call| call.is_message_to(GROUP)).count() >= 20
        })
        .await;
    let calls = telegram.calls();
    let edits = calls.iter().filter(|call| call.is_edit()).count();
    assert!((3..=8).contains(&edits), "{edits} of 20 are edits");
    telegram.assert_no_violation();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reasons_come_though_their_edit_was_throttled_and_later_buttons_take_their_place() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(CHAT, 1).await[0].message.unwrap();
    telegram.fault(On::Edits(CHAT), Fault::too_many(1), Times::Some(1));
    telegram.push_press(CHAT, CHAT, message, "r:1");
    let swapped = |call: &Call| call.method == "editMessageReplyMarkup" && call.said == "ok";
    let reasons = telegram.until_call("the reasons", swapped).await;
    assert!(reasons.body.to_string().contains("x:1:1"), "{}", reasons.body);
    // A person presses three buttons before the bot sends the first edit. The bot must send only the edit for the last
    // press.
    crate::telegram_outcomes::hold(&client).await;
    for data in ["b:1", "r:1", "b:1"] {
        telegram.push_press(CHAT, CHAT, message, data);
    }
    let queued = "select count(*) filter (where state = 'dead') = 2 and count(*) filter (where state = 'pending') = 1 \
         from vestnik.vst_delivery where keyboard is not null and state <> 'sent'";
    until(&client, queued).await;
    crate::telegram_outcomes::hurry(&client).await;
    telegram
        .until_calls("the buttons before", |calls| {
            calls.iter().filter(|call| swapped(call)).count() == 2
        })
        .await;
    let (_, message) = telegram.messages(CHAT).pop().unwrap();
    assert_eq!(message.buttons[0][0].1, "s:1:preparing");
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buttons_of_a_message_that_is_gone_are_given_up() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(CHAT, 1).await[0].message.unwrap();
    telegram.fault(
        On::Edits(CHAT),
        Fault::refused("Bad Request: message to edit not found"),
        Times::Always,
    );
    telegram.push_press(CHAT, CHAT, message, "r:1");
    let given_up = "select count(*) = 1 and bool_and(state = 'dead' and reason = 'the message is gone') \
         from vestnik.vst_delivery where keyboard is not null";
    until(&client, given_up).await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_row_of_another_shop_or_for_telegrams_answer_to_somebody_else() {
    let (telegram, database) = two_chats().await;
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id) values (7); insert into orders (store_id) values (8)")
        .await;
    let here = telegram.until_messages(CHAT, 1).await[0].message.unwrap();
    let there = telegram.until_messages(OTHER, 1).await[0].message.unwrap();
    let locker = app.database.client().await;
    locker
        .batch_execute("begin; select from orders where store_id = 7 for update")
        .await
        .unwrap();
    telegram.push_press(CHAT, CHAT, here, "s:1:preparing");
    telegram.push_press(OTHER, OTHER, there, "s:2:preparing");
    app.database
        .until("select status = 'preparing' from orders where id = 2")
        .await;
    telegram
        .until_call("the answer", |call| call.method == "answerCallbackQuery")
        .await;
    locker.batch_execute("commit").await.unwrap();
    app.database
        .until("select status = 'preparing' from orders where id = 1")
        .await;
    telegram
        .until_calls("both answers", |calls| {
            calls.iter().filter(|call| call.method == "answerCallbackQuery").count() == 2
        })
        .await;
    // Telegram delays the answer to one button press.
    telegram.fault(
        On::Method("answerCallbackQuery"),
        Fault::Hang(Taken::Yes),
        Times::Some(1),
    );
    telegram.push_press(CHAT, CHAT, here, "s:1:ready");
    telegram.push_press(CHAT, CHAT, here, "s:1:completed");
    app.database
        .until("select status = 'completed' from orders where id = 1")
        .await;
    let said = |call: &Call| call.body["text"] == "Done: completed" && call.said == "ok";
    telegram.until_call("the second answer", said).await;
    app.engine.shut_down().await;
}

/// Starts an app whose group refused the first order, because the bot had no right to write there. Now the bot has the
/// right again, but Vestnik does not know this.
async fn blocked_for_an_hour() -> (Telegram, App) {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_group(GROUP, "Kitchen", &[CHAT]);
    telegram.link(&database, "7", GROUP, "mirror").await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    telegram.let_write(GROUP, false);
    app.write("insert into orders (store_id) values (7)").await;
    until(&client, "select blocked_at is not null from vestnik.vst_chat_link").await;
    app.write("update vestnik.vst_chat_link set blocked_until = now() + interval '1 hour'")
        .await;
    telegram.let_write(GROUP, true);
    (telegram, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_from_a_blocked_chat_or_gives_the_bot_its_rights_ends_the_pause() {
    for what in ["a message", "a code", "a right"] {
        let (telegram, app) = blocked_for_an_hour().await;
        let client = app.database.client().await;
        let _ = match what {
            "a message" => telegram.write(GROUP, CHAT, "/status"),
            "a code" => telegram.write(GROUP, CHAT, "/link WRONGCODE"),
            _ => telegram.change_membership(GROUP, CHAT, "member"),
        };
        telegram.until_call(what, |call| is_order(call, GROUP, 1)).await;
        until(&client, "select blocked_at is null from vestnik.vst_chat_link").await;
        if what != "a right" {
            let answer = |call: &Call| call.is_new_to(GROUP) && call.said == "ok" && !call.text.contains("order #");
            telegram.until_call("the answer", answer).await;
        }
        app.engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_order_tries_a_blocked_chat_at_once() {
    let (telegram, app) = blocked_for_an_hour().await;
    app.write("insert into orders (store_id) values (7)").await;
    for number in [1, 2] {
        telegram
            .until_call("the order", |call| is_order(call, GROUP, number))
            .await;
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_during_an_outage_of_postgres_is_answered_and_executed_after_it() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let (proxy, url) = Proxy::before(&database).await;
    let node = Node::start(&url, &telegram.url(), &[]);
    node.until_said("this node polls Telegram for all nodes").await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let message = telegram.until_messages(CHAT, 1).await[0].message.unwrap();
    until(&client, "select state = 'sent' from vestnik.vst_delivery").await;
    proxy.cut();
    telegram.push_press(CHAT, CHAT, message, "s:1:preparing");
    let told = telegram
        .until_call("an answer", |call| call.method == "answerCallbackQuery")
        .await;
    assert_eq!(
        told.body["text"],
        "The database is down. Your press is kept, and counts as soon as it is back"
    );
    until(&client, "select status = 'pending' from orders").await;
    proxy.mend();
    until(&client, "select status = 'preparing' from orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_was_sending_does_not_wait_for_its_lease() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    let long = [("TELEGRAM_LEASE_SECONDS", "600")];
    let mut node = Node::start(database.url(), &telegram.url(), &long);
    node.until_said("this node polls Telegram for all nodes").await;
    let pid: Pid = node.pid();
    let kill = move || {
        let _ = kill_process(pid, Signal::KILL);
    };
    telegram.fault(On::Messages, Fault::Run(Arc::new(kill)), Times::Some(1));
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    assert!(!node.ended().await.success());
    let _other = Node::serving(&database, &telegram.url(), &long).await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    telegram.until_call("the order", |call| is_order(call, CHAT, 2)).await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_read_blocks_no_other_and_is_sent_as_far_as_it_can_be_read() {
    let (telegram, database) = two_chats().await;
    let app = start(&telegram, database).await;
    for items in [
        r#"[{"name": "tea", "quantity": 1e400}]"#,
        &("[".repeat(200) + &"]".repeat(200)),
    ] {
        app.write(&format!(
            "insert into orders (store_id, customer_name, items) values (7, 'Anna', '{items}')"
        ))
        .await;
    }
    app.write("insert into orders (store_id) values (7); insert into orders (store_id) values (8)")
        .await;
    telegram
        .until_call("another store's", |call| is_order(call, OTHER, 4))
        .await;
    for number in 1..=3 {
        telegram
            .until_call("the order", |call| is_order(call, CHAT, number))
            .await;
    }
    let told = telegram
        .calls()
        .into_iter()
        .find(|call| is_order(call, CHAT, 1))
        .unwrap();
    assert!(
        told.text.contains("Anna") && told.text.contains("× tea"),
        "{}",
        told.text
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_means_nothing_stands_before_no_other() {
    let (telegram, database) = two_chats().await;
    let client = database.client().await;
    let app = start(&telegram, database).await;
    crate::telegram_outcomes::hold(&client).await;
    app.write("insert into orders (store_id) values (7), (7), (8)").await;
    until(&client, "select count(*) = 3 from vestnik.vst_delivery").await;
    app.write("update vestnik.vst_event set type = 'unheard_of' where id = 1")
        .await;
    crate::telegram_outcomes::hurry(&client).await;
    telegram
        .until_call("another store's", |call| is_order(call, OTHER, 3))
        .await;
    telegram
        .until_call("the next one", |call| is_order(call, CHAT, 2))
        .await;
    let is_dead =
        "select state = 'dead' and reason = 'it means nothing any more' from vestnik.vst_delivery where event_id = 1";
    until(&client, is_dead).await;
    app.engine.shut_down().await;
}
