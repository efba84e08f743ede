//! Telegram's refusals, classified by HTTP status and error text. The tests check who is notified, which messages wait,
//! and which messages are dead-lettered. A refusal must not delay another order.

use serde_json::json;
use vestnik::delivery::chat_links;

use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::telegram::{Fault, GENERAL, On, Telegram, Times, Topic};
use crate::telegram_outcomes::start;

const CHAT: i64 = 801;
const MANAGER: i64 = 802;
const FORUM: i64 = -1_000_000_000_080;

/// Every status and error text with which Telegram says that a chat is gone for good. teloxide recognises only the
/// first three.
const GONE: [(u16, &str); 18] = [
    (403, "Forbidden: bot was blocked by the user"),
    (403, "Forbidden: user is deactivated"),
    (400, "Bad Request: chat not found"),
    (400, "Bad Request: private chat not found"),
    (403, "Forbidden: bot was kicked from the group chat"),
    (403, "Forbidden: bot was kicked from the supergroup chat"),
    (403, "Forbidden: bot was kicked from the channel chat"),
    (403, "Forbidden: bot is not a member of the group chat"),
    (403, "Forbidden: bot is not a member of the supergroup chat"),
    (403, "Forbidden: bot is not a member of the channel chat"),
    (403, "Forbidden: the group chat was deleted"),
    (403, "Forbidden: bot can't initiate conversation with a user"),
    (403, "Forbidden: bot can't send messages to bots"),
    (403, "Forbidden: something that nobody has heard of yet"),
    (400, "Bad Request: PEER_ID_INVALID"),
    (400, "Bad Request: CHANNEL_PRIVATE"),
    (400, "Bad Request: group chat was deactivated"),
    (400, "Bad Request: group is deactivated"),
];

/// Every status and error text with which Telegram says that the bot may not write to the chat now.
const NO_RIGHTS: [(u16, &str); 11] = [
    (400, "Bad Request: not enough rights to send text messages to the chat"),
    (400, "Bad Request: not enough rights to send messages to the chat"),
    (400, "Bad Request: have no rights to send a message"),
    (400, "Bad Request: need administrator rights in the channel chat"),
    (400, "Bad Request: have no write access to the chat"),
    (400, "Bad Request: CHAT_WRITE_FORBIDDEN"),
    (400, "Bad Request: CHAT_RESTRICTED"),
    (400, "Bad Request: CHAT_ADMIN_REQUIRED"),
    (400, "Bad Request: CHAT_SEND_PLAIN_FORBIDDEN"),
    (400, "Bad Request: USER_BANNED_IN_CHANNEL"),
    (403, "Forbidden: not enough rights to send messages to the channel"),
];

/// Every status and error text with which Telegram says that a topic accepts no messages.
const TOPIC: [(u16, &str); 4] = [
    (400, "Bad Request: TOPIC_CLOSED"),
    (400, "Bad Request: TOPIC_DELETED"),
    (400, "Bad Request: message thread not found"),
    (400, "Bad Request: TOPIC_ID_INVALID"),
];

/// Refusals that concern only one message.
const ONE_MESSAGE: [(u16, &str); 6] = [
    (
        400,
        "Bad Request: can't parse entities: Unsupported start tag \"x\" at byte offset 3",
    ),
    (400, "Bad Request: message is too long"),
    (400, "Bad Request: BUTTON_DATA_INVALID"),
    (400, "Bad Request: REPLY_MARKUP_TOO_LONG"),
    (400, "Bad Request: something that nobody has heard of yet"),
    (413, "Request Entity Too Large"),
];

/// Creates one store for each refusal. Telegram answers each message to the store's chat with this refusal. The chat of
/// the store's manager works.
async fn stores(refusals: &[(u16, &str)]) -> (Telegram, Database) {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    for (number, (status, text)) in (1_i64..).zip(refusals) {
        let (chat, manager) = (CHAT + 10 * number, MANAGER + 10 * number);
        telegram.add_private(chat, &format!("Kitchen {number}"));
        telegram.add_private(manager, "Manager");
        telegram.link(&database, &number.to_string(), chat, "mirror").await;
        telegram.link(&database, &number.to_string(), manager, "manager").await;
        telegram.fault(On::Chat(chat), Fault::says(*status, text), Times::Always);
    }
    (telegram, database)
}

async fn order_in_each(app: &App, stores: usize) {
    let insert = format!("insert into orders (store_id) select s from generate_series(1, {stores}) s");
    app.write(&insert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panels_and_the_stores_other_chats_are_notified_at_once_of_a_chat_that_is_gone() {
    let (telegram, database) = stores(&GONE).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    let mut panel = app.panel("5", None).await.live().await;
    order_in_each(&app, GONE.len()).await;
    for (number, (_, text)) in (1_i64..).zip(&GONE) {
        let (chat, manager) = (CHAT + 10 * number, MANAGER + 10 * number);
        let told = telegram
            .until_call(text, |call| {
                call.is_new_to(manager) && call.text.contains(&format!("Kitchen {number}"))
            })
            .await;
        assert!(
            told.text.contains("no longer gets orders") && !told.silent,
            "{}",
            told.text
        );
        let tries = telegram.calls().iter().filter(|call| call.is_message_to(chat)).count();
        assert_eq!(tries, 1, "{text}: nothing more goes there");
        until(
            &client,
            &format!("select disabled_at is not null from vestnik.vst_chat where telegram_id = {chat}"),
        )
        .await;
    }
    assert_eq!(panel.event().await["type"], "new_order");
    let told = panel.event().await;
    assert_eq!(
        (&told["type"], &told["data"]["chat"], &told["data"]["reason"]),
        (&json!("chat_disabled"), &json!("Kitchen 5"), &json!(GONE[4].1))
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_and_a_closed_topic_are_reported_at_once_and_waiting_messages_come_when_they_are_over() {
    let refusals: Vec<(u16, &str)> = NO_RIGHTS.iter().chain(&TOPIC).copied().collect();
    let (telegram, database) = stores(&refusals).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    let mut panel = app.panel("1", None).await.live().await;
    order_in_each(&app, refusals.len()).await;
    for (number, (_, text)) in (1_i64..).zip(&refusals) {
        let manager = MANAGER + 10 * number;
        let told = telegram
            .until_call(text, |call| {
                call.is_new_to(manager) && call.text.contains(&format!("Kitchen {number}"))
            })
            .await;
        assert!(told.text.contains("gets no orders now"), "{text}: {}", told.text);
    }
    assert_eq!(panel.event().await["type"], "new_order");
    let told = panel.event().await;
    assert_eq!(
        (&told["type"], &told["data"]["chat"], &told["data"]["reason"]),
        (&json!("chat_disabled"), &json!("Kitchen 1"), &json!(NO_RIGHTS[0].1))
    );
    let given_up = "select not exists (select from vestnik.vst_chat where disabled_at is not null) \
         and not exists (select from vestnik.vst_delivery where state = 'dead')";
    assert!(client.query_one(given_up, &[]).await.unwrap().get::<_, bool>(0));
    telegram.heal();
    for (number, (_, text)) in (1_i64..).zip(&refusals) {
        let (chat, manager) = (CHAT + 10 * number, MANAGER + 10 * number);
        let order = format!("New order #{number}");
        telegram
            .until_call(text, |call| {
                call.is_new_to(chat) && call.text.contains(&order) && call.said == "ok"
            })
            .await;
        telegram
            .until_call(text, |call| {
                call.is_new_to(manager) && call.text.contains("gets orders again")
            })
            .await;
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_comes_as_plain_text_and_one_that_is_always_refused_stands_before_no_other_order() {
    let (telegram, database) = stores(&ONE_MESSAGE).await;
    let app = start(&telegram, database).await;
    let client = app.database.client().await;
    let dead_lettered = app
        .metric("vestnik_telegram_sends_total{outcome=\"dead_lettered\"}")
        .await;
    // Telegram refuses every send of each store's first order, and accepts the second order.
    telegram.heal();
    for (number, (status, text)) in (1_i64..).zip(&ONE_MESSAGE) {
        telegram.fault(
            On::Text(CHAT + 10 * number, "customer one"),
            Fault::says(*status, text),
            Times::Always,
        );
    }
    let stores = ONE_MESSAGE.len();
    for name in ["customer one", "customer two"] {
        let insert = format!(
            "insert into orders (store_id, customer_name) select s, '{name}' from generate_series(1, {stores}) s"
        );
        app.write(&insert).await;
    }
    for (number, (_, text)) in (1_i64..).zip(&ONE_MESSAGE) {
        let chat = CHAT + 10 * number;
        telegram
            .until_call(text, |call| {
                call.is_new_to(chat) && call.text.contains("customer two") && call.said == "ok"
            })
            .await;
    }
    until(
        &client,
        &format!("select count(*) = {stores} from vestnik.vst_delivery where state = 'dead'"),
    )
    .await;
    let calls = telegram.calls();
    for (number, (_, text)) in (1_i64..).zip(&ONE_MESSAGE) {
        let of_first = |call: &&crate::support::telegram::Call| {
            call.is_new_to(CHAT + 10 * number) && call.body["text"].as_str().unwrap().contains("customer one")
        };
        let tries: Vec<bool> = calls.iter().filter(of_first).map(|call| call.is_html).collect();
        assert_eq!(
            tries,
            [true, false, false],
            "{text}: with markup, without, and without buttons"
        );
    }
    app.until_metric("vestnik_telegram_sends_total{outcome=\"dead_lettered\"}", |count| {
        count >= dead_lettered + stores as f64
    })
    .await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_markup_is_refused_comes_as_plain_text_with_its_buttons() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let why = "Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"b\"";
    telegram.fault(On::Chat(CHAT), Fault::says(400, why), Times::Some(1));
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id, customer_name) values (7, 'Anna & <b>Co')")
        .await;
    let came = telegram.until_messages(CHAT, 1).await;
    assert!(!came[0].is_html, "without markup");
    assert!(
        came[0].text.contains("New order #1") && came[0].text.contains("Anna & <b>Co"),
        "{}",
        came[0].text
    );
    assert_eq!(came[0].buttons[0].len(), 2);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_refused_is_replaced_or_over_and_no_order_waits_for_it() {
    for (text, is_replaced) in [
        ("Bad Request: message to edit not found", true),
        ("Bad Request: MESSAGE_ID_INVALID", true),
        ("Bad Request: message can't be edited", true),
        ("Bad Request: MESSAGE_AUTHOR_REQUIRED", true),
        ("Bad Request: MESSAGE_EDIT_TIME_EXPIRED", true),
        ("Bad Request: there is no text in the message to edit", true),
        ("Bad Request: MESSAGE_NOT_MODIFIED", false),
        (
            "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as \
             a current content and reply markup of the message",
            false,
        ),
    ] {
        let (telegram, database) = Telegram::with_chat(CHAT).await;
        let app = start(&telegram, database).await;
        let client = app.database.client().await;
        app.write("insert into orders (store_id, total) values (7, 12345)")
            .await;
        telegram.until_messages(CHAT, 1).await;
        until(&client, "select state = 'sent' from vestnik.vst_delivery").await;
        telegram.fault(On::Edits(CHAT), Fault::says(400, text), Times::Some(1));
        app.write("update orders set status = 'preparing'").await;
        if is_replaced {
            telegram.until_messages(CHAT, 2).await;
            let (_, new) = telegram.messages(CHAT).pop().unwrap();
            for part in ["Order #1 is being prepared", "123.45", "accepted"] {
                assert!(new.text.contains(part), "{text}: {part} in {}", new.text);
            }
        }
        until(
            &client,
            "select bool_and(state = 'sent') and count(*) = 2 from vestnik.vst_delivery",
        )
        .await;
        assert_eq!(telegram.messages(CHAT).len(), if is_replaced { 2 } else { 1 }, "{text}");
        app.engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_closed_stops_the_orders_of_no_other_topic() {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_forum(FORUM, "Shops", &[], &[7, 8]);
    for store in ["7", "8"] {
        telegram.link(&database, store, FORUM, "mirror").await;
    }
    let client = database.client().await;
    client
        .batch_execute("update vestnik.vst_chat_link set thread_id = store_id::int")
        .await
        .unwrap();
    telegram.set_topic(FORUM, 7, Topic::Closed);
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id) values (7); insert into orders (store_id) values (8)")
        .await;
    let came = telegram.until_messages(FORUM, 1).await;
    assert!(came[0].text.contains("#2") && came[0].topic == Some(8), "{:?}", came[0]);
    until(&client, "select error is not null from vestnik.vst_chat").await;
    let listed = chat_links::list(&client).await.unwrap();
    let errors: Vec<Option<&str>> = listed
        .iter()
        .map(|link| link.error.as_ref().map(|(error, _)| error.as_str()))
        .collect();
    assert_eq!(errors, [Some("Bad Request: TOPIC_CLOSED"), None]);
    telegram.set_topic(FORUM, 7, Topic::Open);
    let came = telegram.until_messages(FORUM, 2).await;
    assert!(came[1].text.contains("#1") && came[1].topic == Some(7), "{:?}", came[1]);
    // The general topic is closed. A chat link to the general topic is paused and reported in the same way as any other
    // link.
    telegram.set_topic(FORUM, GENERAL, Topic::Closed);
    app.write("update vestnik.vst_chat_link set thread_id = null where store_id = '8'")
        .await;
    let mut panel = app.panel("8", None).await.live().await;
    app.write("insert into orders (store_id) values (8)").await;
    assert_eq!(panel.event().await["type"], "new_order");
    assert_eq!(panel.event().await["data"]["reason"], "Bad Request: TOPIC_CLOSED");
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_meant_for_a_topic_that_is_deleted_goes_to_the_chat_itself() {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_forum(FORUM, "Shops", &[], &[7]);
    telegram.add_private(MANAGER, "Manager");
    telegram.link(&database, "7", FORUM, "mirror").await;
    telegram.link(&database, "7", MANAGER, "manager").await;
    let client = database.client().await;
    client
        .batch_execute("update vestnik.vst_chat_link set thread_id = 7 where mode = 'mirror'")
        .await
        .unwrap();
    telegram.set_topic(FORUM, 7, Topic::Deleted);
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id) values (7)").await;
    let came = telegram.until_messages(FORUM, 1).await;
    assert!(came[0].text.contains("#1") && came[0].topic.is_none(), "{:?}", came[0]);
    let told = telegram.until_messages(MANAGER, 2).await;
    assert!(told[0].text.contains("gets no orders now") && told[1].text.contains("gets orders again"));
    app.engine.shut_down().await;
}

/// The bot loses access to its chats, one chat of each kind. A person has blocked the bot or removed it, or the chat
/// was deleted. Telegram reports each loss with a different error text.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_chat_loses_the_bot_in_its_own_words() {
    const CHATS: [i64; 5] = [811, -82, -1_000_000_000_083, -1_000_000_000_084, -85];
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_private(CHATS[0], "Anna");
    telegram.add_group(CHATS[1], "Group", &[]);
    telegram.add_group(CHATS[2], "Supergroup", &[]);
    telegram.add_channel(CHATS[3], "Channel");
    telegram.add_group(CHATS[4], "Old group", &[]);
    for chat in CHATS {
        telegram.link(&database, "7", chat, "mirror").await;
    }
    CHATS[..4].iter().for_each(|chat| telegram.throw_out(*chat));
    telegram.delete(CHATS[4]);
    let app = start(&telegram, database).await;
    app.write("insert into orders (store_id) values (7)").await;
    let client = app.database.client().await;
    until(
        &client,
        "select bool_and(disabled_at is not null) from vestnik.vst_chat",
    )
    .await;
    let reasons = "select string_agg(disabled_why, '; ' order by telegram_id desc) from vestnik.vst_chat";
    let reasons: String = client.query_one(reasons, &[]).await.unwrap().get(0);
    assert_eq!(
        reasons,
        "Forbidden: bot was blocked by the user; Forbidden: bot was kicked from the group chat; \
         Forbidden: the group chat was deleted; Forbidden: bot was kicked from the supergroup chat; \
         Forbidden: bot was kicked from the channel chat"
    );
    app.engine.shut_down().await;
}
