//! The chats of a store: forum topics, channels, and groups that become supergroups with a new chat id. Other tests are
//! about texts that are not commands, about sounds, and about an operator's commands for chats.

use std::time::Instant;

use serde_json::json;
use vestnik::delivery::chat_links::Mode;

use super::{ANNA, BORIS, KITCHEN, ask, code, people, press, run, start, text, until_dealt_with, value};
use crate::support::app::App;
use crate::support::telegram::{Call, Fault, On, Taken, Telegram, Times, Topic};

const FORUM: i64 = -1_000_000_000_040;
const CHANNEL: i64 = -1_000_000_000_041;
const SUPERGROUP: i64 = -1_000_000_000_012;

fn order(chat: i64, number: u32) -> impl Fn(&Call) -> bool {
    move |call| call.is_new_to(chat) && call.said == "ok" && call.text.contains(&format!("New order #{number}"))
}

async fn answer(telegram: &Telegram, chat: i64, words: &str) -> Call {
    telegram
        .until_call(words, |call| {
            call.is_new_to(chat) && call.said == "ok" && call.text.contains(words)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topic_has_its_store_and_is_answered_where_it_asks() {
    let telegram = people().await;
    telegram.add_forum(FORUM, "Shops", &[ANNA], &[7, 8, 9]);
    let app = start(&telegram).await;
    for (store, topic) in [("7", 7), ("8", 8)] {
        let code = code(&app.database, store, Mode::Mirror, "en").await;
        telegram.write_in(FORUM, topic, ANNA, &format!("/link@vestnik_test_bot {code}"));
        let linked = answer(&telegram, FORUM, &format!("linked: {store}")).await;
        assert_eq!(linked.topic, Some(topic));
    }
    app.write("insert into orders (store_id) values (7); insert into orders (store_id) values (8)")
        .await;
    for (number, topic) in [(1, 7), (2, 8)] {
        assert_eq!(
            telegram.until_call("the order", order(FORUM, number)).await.topic,
            Some(topic)
        );
    }
    // A command in a topic applies only to the store that is linked to this topic.
    telegram.write_in(FORUM, 8, ANNA, "/mute 30m");
    assert_eq!(answer(&telegram, FORUM, "No sound for 30 min").await.topic, Some(8));
    let muted = "select string_agg(store_id, ',') from vestnik.vst_chat_link where muted_until > now()";
    assert_eq!(value(&app.database, muted).await, "8");
    for (before, command) in ["/unlink", "/mode manager", "/mute 30", "/pause 30"].iter().enumerate() {
        telegram.write_in(FORUM, 9, ANNA, command);
        let refused = |calls: &[Call]| {
            let there = calls
                .iter()
                .filter(|call| call.is_new_to(FORUM) && call.topic == Some(9));
            there
                .filter(|call| call.text.contains("This topic is not linked"))
                .count()
        };
        telegram.until_calls("a refusal", |calls| refused(calls) > before).await;
    }
    let unchanged = "select count(*) filter (where mode = 'mirror') = 2 and count(*) filter (where muted_until > now()) = 1 \
        and not exists (select from vestnik.vst_pause) from vestnik.vst_chat_link";
    assert_eq!(value(&app.database, unchanged).await, "true");
    telegram.write_in(FORUM, 7, ANNA, "/unlink");
    answer(&telegram, FORUM, "unlinked").await;
    assert_eq!(
        value(
            &app.database,
            "select string_agg(store_id, ',') from vestnik.vst_chat_link"
        )
        .await,
        "8"
    );
    // A new code that somebody uses in another topic moves the store to that topic.
    let again = code(&app.database, "8", Mode::Mirror, "en").await;
    telegram.write_in(FORUM, 7, ANNA, &format!("/link@vestnik_test_bot {again}"));
    app.database
        .until("select thread_id = 7 from vestnik.vst_chat_link")
        .await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_opened_again_gets_its_orders_at_once() {
    let telegram = people().await;
    telegram.add_forum(FORUM, "Shops", &[ANNA], &[7]);
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", FORUM, "mirror").await;
    app.write("update vestnik.vst_chat_link set thread_id = 7").await;
    telegram.set_topic(FORUM, 7, Topic::Closed);
    app.write("insert into orders (store_id) values (7)").await;
    app.database
        .until("select blocked_at is not null from vestnik.vst_chat_link")
        .await;
    app.write("update vestnik.vst_chat_link set blocked_until = now() + interval '1 hour'")
        .await;
    telegram.set_topic(FORUM, 7, Topic::Open);
    telegram.push(
        json!({"message": {"message_id": 5, "date": 1_790_000_000, "message_thread_id": 7, "is_topic_message": true,
        "chat": {"id": FORUM, "type": "supergroup", "title": "Shops", "is_forum": true},
        "from": {"id": ANNA, "is_bot": false, "first_name": "Anna"}, "forum_topic_reopened": {}}}),
    );
    telegram.until_call("the order", order(FORUM, 1)).await;
    app.engine.shut_down().await;
}

/// The last update of the group under its old chat id. The update contains the new chat id.
fn moved_away() -> serde_json::Value {
    json!({"message": {"message_id": 16, "date": 1_790_000_000, "migrate_to_chat_id": SUPERGROUP,
        "chat": {"id": KITCHEN, "type": "group", "title": "Kitchen"},
        "from": {"id": ANNA, "is_bot": false, "first_name": "Anna"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_says_that_it_moved_is_followed_whichever_message_comes() {
    for (says_old, says_new, deleted) in [
        (true, false, false),
        (false, true, false),
        (true, true, false),
        (true, true, true),
        (true, false, true),
        (false, true, true),
    ] {
        let telegram = people().await;
        let app = start(&telegram).await;
        telegram.link(&app.database, "7", KITCHEN, "mirror").await;
        app.write("insert into orders (store_id) values (7)").await;
        telegram.until_call("the order", order(KITCHEN, 1)).await;
        telegram.add_group(SUPERGROUP, "Kitchen", &[ANNA]);
        if deleted {
            // The bot learns from a failed send that the chat is deleted, before any update tells the bot the new
            // number.
            telegram.delete(KITCHEN);
            app.write("insert into orders (store_id) values (7)").await;
            app.database
                .until("select disabled_at is not null from vestnik.vst_chat")
                .await;
        }
        if says_old {
            telegram.push(moved_away());
        }
        if says_new {
            telegram.push(json!({"message": {"message_id": 1, "date": 1_790_000_000, "migrate_from_chat_id": KITCHEN,
                "chat": {"id": SUPERGROUP, "type": "supergroup", "title": "Kitchen"},
                "sender_chat": {"id": SUPERGROUP, "type": "supergroup", "title": "Kitchen"},
                "from": {"id": 1_087_968_824, "is_bot": true, "first_name": "Group", "username": "GroupAnonymousBot"}}}));
        }
        app.database
            .until(&format!("select count(*) = 1 from vestnik.vst_chat c join vestnik.vst_chat_link l on l.chat_id = c.id where telegram_id = {SUPERGROUP}"))
            .await;
        let status = ask(&telegram, SUPERGROUP, ANNA, "/status").await;
        let mut came = vec![status];
        app.write("insert into orders (store_id) values (7)").await;
        let last = if deleted { 3 } else { 2 };
        telegram.until_call("the order", order(SUPERGROUP, last)).await;
        if deleted {
            let is_digest = |call: &Call| call.is_new_to(SUPERGROUP) && call.text.contains("new order #2");
            telegram.until_call("what it missed", is_digest).await;
        }
        came.extend(
            telegram
                .messages(SUPERGROUP)
                .into_iter()
                .map(|(_, message)| message.text),
        );
        assert!(came.iter().any(|text| text.contains("all orders")), "{came:?}");
        app.engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_moved_to_a_number_that_was_disabled_gets_what_it_missed_there() {
    let telegram = people().await;
    telegram.add_group(SUPERGROUP, "Kitchen", &[ANNA]);
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", KITCHEN, "mirror").await;
    telegram.link(&app.database, "8", SUPERGROUP, "mirror").await;
    telegram.change_membership(SUPERGROUP, ANNA, "kicked");
    telegram.delete(KITCHEN);
    app.write("insert into orders (store_id) values (7)").await;
    app.database
        .until("select count(disabled_at) = 2 from vestnik.vst_chat")
        .await;
    telegram.take_back(SUPERGROUP);
    telegram.push(moved_away());
    let missed = |call: &Call| call.is_new_to(SUPERGROUP) && call.said == "ok" && call.text.contains("order #1");
    telegram.until_call("what it missed", missed).await;
    app.database
        .until("select count(disabled_at) = 0 from vestnik.vst_chat where telegram_id < -12")
        .await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_linked_by_a_post_and_its_buttons_work() {
    let telegram = people().await;
    telegram.add_channel(CHANNEL, "Orders");
    let app = start(&telegram).await;
    let code = code(&app.database, "7", Mode::Mirror, "en").await;
    telegram.post(CHANNEL, "two pizzas, please");
    telegram.post(CHANNEL, &format!("/link@vestnik_test_bot {code}"));
    answer(&telegram, CHANNEL, "linked: 7").await;
    assert_eq!(
        telegram.messages(CHANNEL).len(),
        1,
        "a post without a command gets no reply"
    );
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram
        .until_call("the order", order(CHANNEL, 1))
        .await
        .message
        .unwrap();
    assert_eq!(
        press(&telegram, CHANNEL, BORIS, message, "s:1:preparing").await,
        "Done: accepted, being prepared"
    );
    assert_eq!(
        value(&app.database, "select title from vestnik.vst_chat").await,
        "Orders"
    );
    // A post in a channel has no author. The bot takes the person's name from the signature of the post.
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram
        .until_call("the order", order(CHANNEL, 2))
        .await
        .message
        .unwrap();
    assert!(
        press(&telegram, CHANNEL, BORIS, message, "r:3")
            .await
            .contains("For what reason")
    );
    telegram.post_reply(CHANNEL, message, "the oven is broken");
    app.database
        .until("select status = 'rejected' from orders where id = 2")
        .await;
    let answer = "select by_whom || ': ' || (select reason from orders where id = 2) from vestnik.vst_status_change \
        order by id desc limit 1";
    assert_eq!(value(&app.database, answer).await, "Clara: the oven is broken");
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_for_groups_adds_the_bot_greets_and_links_in_one_go() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let arguments = ["telegram", "link", "--store", "7", "--language", "en"];
    let said = text(&run(&app.database, &telegram, &arguments).await.stdout);
    let group = said
        .lines()
        .find(|line| line.contains("?startgroup="))
        .expect("a link for groups");
    let code = group.rsplit_once('=').unwrap().1;
    assert!(said.contains(&format!("/link@vestnik_test_bot {code}")), "{said}");
    telegram.join(KITCHEN, ANNA);
    telegram.write(KITCHEN, ANNA, &format!("/start@vestnik_test_bot {code}"));
    let greeting = answer(&telegram, KITCHEN, "Hello!").await;
    assert!(greeting.text.contains("/link@vestnik_test_bot"), "{}", greeting.text);
    answer(&telegram, KITCHEN, "linked: 7").await;
    // Somebody adds the bot to the group again. The group is still linked, so the bot sends no second greeting.
    telegram.change_membership(KITCHEN, ANNA, "kicked");
    let joined = telegram.join(KITCHEN, ANNA);
    until_dealt_with(&app.database, joined).await;
    let greetings = telegram
        .calls()
        .iter()
        .filter(|call| call.text.contains("Hello!"))
        .count();
    assert_eq!(greetings, 1);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_said_in_a_private_chat_has_an_answer_and_a_bare_code_links() {
    let telegram = people().await;
    let app = start(&telegram).await;
    for said in ["hello", "/weather", "/link@another_bot X"] {
        assert!(ask(&telegram, ANNA, ANNA, said).await.contains("not linked"), "{said}");
    }
    let photo = json!({"message": {"message_id": 7, "date": 1_790_000_000, "chat": {"id": ANNA, "type": "private", "first_name": "Anna"},
        "from": {"id": ANNA, "is_bot": false, "first_name": "Anna", "language_code": "en"},
        "sticker": {"file_id": "x", "file_unique_id": "x", "type": "regular", "width": 1, "height": 1, "is_animated": false, "is_video": false}}});
    let before = telegram.messages(ANNA).len();
    telegram.push(photo);
    telegram.until_messages(ANNA, before + 1).await;
    let code = code(&app.database, "7", Mode::Mirror, "en").await;
    assert!(
        ask(&telegram, ANNA, ANNA, &format!(" {} ", code.to_lowercase()))
            .await
            .contains("linked: 7")
    );
    let help = ask(&telegram, ANNA, ANNA, "and now?").await;
    assert!(help.contains("/status") && help.contains("/quiet"), "{help}");
    assert_eq!(value(&app.database, "select title from vestnik.vst_chat").await, "Anna");
    // In a group, the bot ignores texts that are not commands, unknown commands, and commands for another bot.
    for said in ["hello", "/weather", "/weather@another_bot", &code] {
        telegram.write(KITCHEN, ANNA, said);
    }
    assert!(
        ask(&telegram, KITCHEN, ANNA, "/weather@vestnik_test_bot")
            .await
            .contains("not linked")
    );
    assert_eq!(telegram.messages(KITCHEN).len(), 1);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_comes_back_by_a_word_and_goes_by_the_clock() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    for back in ["/unmute", "/mute off", "/mute 0"] {
        app.write("update vestnik.vst_chat_link set muted_until = now() + interval '2 hours'")
            .await;
        assert!(
            ask(&telegram, ANNA, ANNA, back).await.contains("With sound again"),
            "{back}"
        );
        assert_eq!(
            value(
                &app.database,
                "select muted_until <= clock_timestamp() from vestnik.vst_chat_link"
            )
            .await,
            "true"
        );
    }
    assert!(
        ask(&telegram, ANNA, ANNA, "/quiet")
            .await
            .contains("/quiet 23:00-07:00")
    );
    // The quiet hours include the current time in the store's time zone. They may also include midnight.
    let hours = "select to_char(now() at time zone time_zone - interval '1 hour', 'HH24:MI') || '-' \
         || to_char(now() at time zone time_zone + interval '1 hour', 'HH24:MI') from vestnik.vst_store";
    let hours = value(&app.database, hours).await;
    let set = ask(&telegram, ANNA, ANNA, &format!("/quiet {hours}")).await;
    assert!(set.contains("No sound from"), "{set}");
    assert!(ask(&telegram, ANNA, ANNA, "/status").await.contains("No sound from"));
    app.write("insert into orders (store_id) values (7)").await;
    assert!(telegram.until_call("the order", order(ANNA, 1)).await.silent);
    let (from, to) = hours.split_once('-').unwrap();
    ask(&telegram, ANNA, ANNA, &format!("/quiet {to}-{from}")).await;
    app.write("insert into orders (store_id) values (7)").await;
    assert!(
        !telegram.until_call("the order", order(ANNA, 2)).await.silent,
        "the time is outside the quiet hours"
    );
    assert!(
        ask(&telegram, ANNA, ANNA, "/quiet off")
            .await
            .contains("Quiet hours are off")
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_another_chat_makes_no_sound_in_a_muted_one() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", KITCHEN, "mirror").await;
    for chat in [ANNA, BORIS] {
        telegram.link(&app.database, "7", chat, "manager").await;
    }
    app.write(
        "update vestnik.vst_chat_link l set muted_until = 'infinity' from vestnik.vst_chat c \
         where c.id = l.chat_id and c.telegram_id = 11",
    )
    .await;
    telegram.change_membership(KITCHEN, BORIS, "kicked");
    for (chat, is_silent) in [(ANNA, true), (BORIS, false)] {
        let news = telegram.until_messages(chat, 1).await.remove(0);
        assert!(news.text.contains("no longer gets orders"), "{}", news.text);
        assert_eq!(news.silent, is_silent, "{chat}");
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_menu_has_the_commands_in_each_language() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram
        .until_calls("a menu for each", |calls| {
            calls.iter().filter(|call| call.method == "setMyCommands").count() == 3
        })
        .await;
    let menus: Vec<Call> = telegram
        .calls()
        .into_iter()
        .filter(|call| call.method == "setMyCommands")
        .collect();
    let languages: Vec<&str> = menus
        .iter()
        .map(|call| call.body["language_code"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(languages, ["", "en", "ru"]);
    for menu in &menus {
        let commands = menu.body["commands"].as_array().unwrap();
        assert!(commands.iter().any(|command| command["command"] == "unmute"));
        assert!(
            commands
                .iter()
                .all(|command| command["description"].as_str().unwrap().chars().count() >= 3)
        );
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_hang_leave_the_orders_their_budget() {
    const STRANGERS: i64 = 40;
    let (telegram, database) = Telegram::with_chat(ANNA).await;
    for chat in 1001..=1000 + STRANGERS {
        telegram.add_private(chat, "Stranger");
        telegram.fault(On::Chat(chat), Fault::Hang(Taken::No), Times::Always);
    }
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    let began = Instant::now();
    for chat in 1001..=1000 + STRANGERS {
        telegram.write(chat, chat, "/start");
    }
    telegram
        .until_calls("answers that hang", |calls| {
            calls.iter().filter(|call| call.said == "silence").count() >= 10
        })
        .await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_call("the order", order(ANNA, 1)).await;
    let hanging = telegram.calls().iter().filter(|call| call.said == "silence").count();
    // Answers that have reached their deadline make room for others.
    assert!(
        hanging == 10 || began.elapsed() > telegram.settings().deadline,
        "{hanging} of {STRANGERS} hang at once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_tries_the_chats_sees_how_they_are_and_ends_links() {
    let telegram = people().await;
    let app = start(&telegram).await;
    for chat in [ANNA, BORIS] {
        telegram.link(&app.database, "7", chat, "mirror").await;
    }
    app.write("update vestnik.vst_store set name = 'Bakery' where id = '7'")
        .await;
    let test = ["telegram", "test", "--store", "7"];
    let output = run(&app.database, &telegram, &test).await;
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.matches("sent within").count() == 2,
        "{said}"
    );
    assert!(
        telegram.messages(ANNA)[0]
            .1
            .text
            .contains("A test: orders of store Bakery")
    );
    let status = async || text(&run(&app.database, &telegram, &["telegram", "status"]).await.stdout);
    let well = status().await;
    assert!(
        well.contains("bot: on") && well.contains("poll: node") && well.matches("up to date").count() == 2,
        "{well}"
    );

    telegram.throw_out(BORIS);
    let output = run(&app.database, &telegram, &test).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("NOT sent: Forbidden: bot was blocked by the user"),
        "{said}"
    );
    telegram.fault(On::Chat(ANNA), Fault::too_many(600), Times::Some(1));
    app.write("insert into orders (store_id) values (7)").await;
    app.database
        .until("select error is not null from vestnik.vst_chat where telegram_id = 11")
        .await;
    telegram.fault(On::Method("getUpdates"), Fault::conflict(), Times::Some(2));
    telegram.write(KITCHEN, BORIS, "/status");
    app.database
        .until("select conflict_at is not null from vestnik.vst_bot")
        .await;
    let ill = status().await;
    for part in [
        "disabled: Forbidden: bot was blocked by the user",
        " waiting, the oldest for",
        "last error",
        "Telegram asks to wait 600 s",
        "another program polled with this token",
    ] {
        assert!(ill.contains(part), "{part} in {ill}");
    }
    let unlink = ["telegram", "unlink", "--chat", "22", "--store", "7"];
    assert!(run(&app.database, &telegram, &unlink).await.status.success());
    assert_eq!(run(&app.database, &telegram, &unlink).await.status.code(), Some(1));
    assert_eq!(
        value(&app.database, "select count(*) from vestnik.vst_chat_link").await,
        "1"
    );
    let nobody = run(&app.database, &telegram, &["telegram", "test", "--store", "sevn"]).await;
    assert!(
        text(&nobody.stderr).contains("has no such chat"),
        "{}",
        text(&nobody.stderr)
    );
    telegram.let_speak(ANNA);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_when_nobody_sends_it_and_a_store_that_nobody_knows_is_warned_of() {
    let telegram = people().await;
    let database = crate::support::db::Database::fresh().await;
    telegram.link(&database, "7", ANNA, "mirror").await;
    let output = run(&database, &telegram, &["telegram", "test", "--store", "7"]).await;
    let said = text(&output.stdout);
    assert!(
        output.status.code() == Some(1) && said.contains("is `vestnik serve` running?"),
        "{said}"
    );
    assert_eq!(
        value(&database, "select state from vestnik.vst_delivery").await,
        "dead",
        "nobody gets it later"
    );
    let output = run(&database, &telegram, &["telegram", "link", "--store", "sevn"]).await;
    let said = text(&output.stderr);
    assert!(said.contains("store \"sevn\"") && said.contains("known: 7"), "{said}");
    let known = run(&database, &telegram, &["telegram", "link", "--store", "7"]).await;
    assert_eq!(text(&known.stderr), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_without_a_name_in_one_chat_are_distinguished() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    app.write("insert into orders (store_id) values (7)").await;
    let alone = telegram.until_call("the order", order(ANNA, 1)).await;
    assert!(
        !alone.text.contains("🏪"),
        "there is nothing to tell apart: {}",
        alone.text
    );
    telegram.link(&app.database, "8", ANNA, "mirror").await;
    for (number, store) in [(2, "7"), (3, "8")] {
        app.write(&format!("insert into orders (store_id) values ({store})"))
            .await;
        let told = telegram.until_call("the order", order(ANNA, number)).await;
        assert!(told.text.contains(&format!("🏪 {store}\n")), "{}", told.text);
    }
    app.engine.shut_down().await;
}
