//! People write commands to the bot and press its buttons. A fake Bot API enforces Telegram's rules.

mod callback_query;
mod chats;
mod day;
mod open_orders;
mod orders;
mod own_texts;
mod pictures;
mod proxy;
mod update_poller;

use std::process::{Command, Output};

use serde_json::json;
use vestnik::delivery::chat_links::{self, Mode};
use vestnik::domain::event::StoreId;

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::telegram::{Call, Fault, On, TOKEN, Telegram, Times};

const ANNA: i64 = 11;
const BORIS: i64 = 22;
const KITCHEN: i64 = -12;

/// Starts a fake Bot API with two people and a group. Anna is an administrator of the group.
async fn people() -> Telegram {
    let telegram = Telegram::start().await;
    telegram.add_private(ANNA, "Anna");
    telegram.add_private(BORIS, "Boris");
    telegram.add_group(KITCHEN, "Kitchen", &[ANNA]);
    telegram
}

async fn start(telegram: &Telegram) -> App {
    App::start_with(|config| config.telegram = Some(telegram.settings())).await
}

fn command(database: &Database, telegram: &Telegram, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("DATABASE_URL", database.url())
        .env("VESTNIK_LISTEN", "127.0.0.1:0")
        .env("VESTNIK_OPS_LISTEN", "127.0.0.1:0")
        .env("VESTNIK_TELEGRAM_TOKEN", TOKEN)
        .env("VESTNIK_TELEGRAM_API_URL", telegram.url());
    command
}

async fn run(database: &Database, telegram: &Telegram, arguments: &[&str]) -> Output {
    let mut command = command(database, telegram, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn code(database: &Database, store: &str, mode: Mode, language: &str) -> String {
    let mut client = database.client().await;
    let code = chat_links::create_code(&mut client, &StoreId::new(store), mode, language).await;
    code.unwrap().reveal().to_owned()
}

/// Writes a text in a chat as this person, and returns the bot's next message in the chat.
async fn ask(telegram: &Telegram, chat: i64, person: i64, text: &str) -> String {
    let count = |telegram: &Telegram| telegram.calls().iter().filter(|call| call.is_message_to(chat)).count();
    let before = count(telegram);
    telegram.write(chat, person, text);
    telegram.until_messages(chat, before + 1).await.pop().unwrap().text
}

/// Presses a button as this person, and returns the bot's answer to the press.
async fn press(telegram: &Telegram, chat: i64, person: i64, message: i32, data: &str) -> String {
    let answers = |calls: &[crate::support::telegram::Call]| -> Vec<String> {
        let answers = calls.iter().filter(|call| call.method == "answerCallbackQuery");
        answers
            .map(|call| call.body["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let before = answers(&telegram.calls()).len();
    telegram.push_press(chat, person, message, data);
    telegram
        .until_calls("an answer to a press", |calls| answers(calls).len() > before)
        .await;
    answers(&telegram.calls()).pop().unwrap()
}

/// The callback data of the button with this label.
fn button(call: &Call, label: &str) -> String {
    let mut buttons = call.buttons.iter().flatten();
    buttons.find(|(is, _)| is == label).unwrap().1.clone()
}

async fn value(database: &Database, sql: &str) -> String {
    let sql = format!("select coalesce(({sql})::text, '')");
    database.client().await.query_one(&sql, &[]).await.unwrap().get(0)
}

/// Waits until the bot has handled this update.
async fn until_dealt_with(database: &Database, update: i64) {
    database
        .until(&format!(
            "select next_update > {update} and not exists (select from vestnik.vst_bot_update where id = {update}) from vestnik.vst_bot"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_linked_by_the_code_that_the_command_prints() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let output = run(
        &app.database,
        &telegram,
        &["telegram", "link", "--store", "7", "--language", "en"],
    )
    .await;
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let code = said
        .lines()
        .next()
        .unwrap()
        .strip_prefix("Code:")
        .unwrap()
        .trim()
        .to_owned();
    assert!(
        said.contains(&format!("https://t.me/vestnik_test_bot?start={code}")),
        "{said}"
    );
    assert!(
        said.contains("15 minutes") && said.contains("store 7 (mirror)") && code.len() == 12,
        "{said}"
    );

    let answer = ask(&telegram, ANNA, ANNA, &format!("/start {}", code.to_lowercase())).await;
    assert!(
        answer.contains("This chat is linked: 7") && answer.contains("all orders"),
        "{answer}"
    );
    app.write("insert into orders (store_id) values (7), (8)").await;
    let messages = telegram.until_messages(ANNA, 2).await;
    assert!(messages[1].text.contains("New order #1"), "{}", messages[1].text);

    let status = text(&run(&app.database, &telegram, &["telegram", "status"]).await.stdout);
    assert!(
        status.contains("bot: on") && status.contains("store 7") && status.contains("mirror"),
        "{status}"
    );
    for wrong in [
        &["telegram", "link", "--store", "7", "--mode", "loud"][..],
        &["telegram", "link", "--store", "7", "--language", "xx"],
        &["telegram", "link"],
    ] {
        assert_eq!(
            run(&app.database, &telegram, wrong).await.status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_an_expired_and_an_unknown_code_get_the_same_answer() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let (used, expired) = (
        code(&app.database, "7", Mode::Mirror, "en").await,
        code(&app.database, "8", Mode::Mirror, "en").await,
    );
    app.write("update vestnik.vst_link_code set expires_at = now() where store_id = '8'")
        .await;
    assert!(
        ask(&telegram, BORIS, BORIS, &format!("/link {used}"))
            .await
            .contains("linked")
    );
    let unknown = ask(&telegram, ANNA, ANNA, "/link ABCDEFGHJKLM").await;
    assert!(unknown.contains("is not valid"), "{unknown}");
    assert_eq!(ask(&telegram, ANNA, ANNA, &format!("/link {used}")).await, unknown);
    assert_eq!(ask(&telegram, ANNA, ANNA, &format!("/start {expired}")).await, unknown);
    assert_eq!(
        value(
            &app.database,
            "select string_agg(store_id, ',') from vestnik.vst_chat_link"
        )
        .await,
        "7"
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_codes_a_minute_may_be_tried_and_then_not_even_a_good_one() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let good = code(&app.database, "7", Mode::Mirror, "en").await;
    for _ in 0..5 {
        assert!(ask(&telegram, ANNA, ANNA, "/link WRONG").await.contains("is not valid"));
    }
    assert!(
        ask(&telegram, ANNA, ANNA, &format!("/link {good}"))
            .await
            .contains("Too many tries")
    );
    assert_eq!(
        value(&app.database, "select count(*) from vestnik.vst_chat_link").await,
        "0"
    );
    assert!(
        ask(&telegram, BORIS, BORIS, "/link WRONG")
            .await
            .contains("is not valid"),
        "another chat may try"
    );
    // Simulate that a minute has passed.
    app.write("update vestnik.vst_chat set tries = (select array_agg(t - interval '61 s') from unnest(tries) t)")
        .await;
    assert!(
        ask(&telegram, ANNA, ANNA, &format!("/link {good}"))
            .await
            .contains("linked")
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_only_an_administrator_changes_anything() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let code = code(&app.database, "7", Mode::Manager, "en").await;
    let refused = ask(&telegram, KITCHEN, BORIS, &format!("/link {code}")).await;
    assert!(refused.contains("only an administrator"), "{refused}");
    telegram.write(KITCHEN, ANNA, &format!("/link@some_other_bot {code}"));
    let linked = ask(&telegram, KITCHEN, ANNA, &format!("/link@vestnik_test_bot {code}")).await;
    assert!(
        linked.contains("linked") && linked.contains("for a long time"),
        "{linked}"
    );
    for command in ["/mode mirror", "/mute 30m", "/unlink"] {
        assert!(
            ask(&telegram, KITCHEN, BORIS, command)
                .await
                .contains("only an administrator"),
            "{command}"
        );
    }
    assert!(
        ask(&telegram, KITCHEN, BORIS, "/status")
            .await
            .contains("for a long time"),
        "anybody may ask"
    );
    let link = "select mode || ' ' || (muted_until < now()) from vestnik.vst_chat_link";
    assert_eq!(value(&app.database, link).await, "manager true");
    // While Telegram refuses to say who the administrators are, nobody may change the link.
    telegram.fault(
        On::Method("getChatMember"),
        Fault::refused("Bad Request: no"),
        Times::Some(1),
    );
    assert!(
        ask(&telegram, KITCHEN, ANNA, "/unlink")
            .await
            .contains("who the administrators are")
    );
    assert!(ask(&telegram, KITCHEN, ANNA, "/unlink").await.contains("unlinked"));
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_told_its_status_and_changes_its_mode_and_its_sound() {
    let telegram = people().await;
    let app = start(&telegram).await;
    app.write("insert into vestnik.vst_store (id, name) values ('7', 'Пекарня <у дома>')")
        .await;
    assert!(ask(&telegram, ANNA, ANNA, "/status").await.contains("not linked"));
    let russian = code(&app.database, "7", Mode::Fallback, "ru").await;
    let linked = ask(&telegram, ANNA, ANNA, &format!("/link {russian}")).await;
    assert!(
        linked.contains("Чат подключён: Пекарня <у дома>"),
        "the language is the chat's: {linked}"
    );
    let modes = ask(&telegram, ANNA, ANNA, "/mode").await;
    assert!(
        modes.contains("/mode mirror") && modes.contains("/mode manager"),
        "{modes}"
    );
    assert!(ask(&telegram, ANNA, ANNA, "/mode mirror").await.contains("все заказы"));
    assert!(ask(&telegram, ANNA, ANNA, "/mute 30m").await.contains("30 мин"));
    let status = ask(&telegram, ANNA, ANNA, "/status").await;
    assert!(
        status.contains("Без звука ещё 30 мин") && status.contains("все заказы"),
        "{status}"
    );
    app.write("insert into orders (store_id) values (7)").await;
    let order = telegram
        .until_call("the order", |call| call.text.contains("Новый заказ"))
        .await;
    assert!(order.silent, "it comes without a sound");
    app.write("update vestnik.vst_chat_link set muted_until = now(); insert into orders (store_id) values (7)")
        .await;
    let order = telegram
        .until_call("the order", |call| call.text.contains("заказ №2"))
        .await;
    assert!(!order.silent);
    assert!(ask(&telegram, ANNA, ANNA, "/unlink").await.contains("Чат отключён"));
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_chat_gets_no_orders_and_presses_nothing() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    telegram.link(&app.database, "7", BORIS, "mirror").await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(ANNA, 1).await[0].message.unwrap();
    telegram.until_messages(BORIS, 1).await;
    assert!(ask(&telegram, ANNA, ANNA, "/unlink").await.contains("unlinked"));
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(BORIS, 2).await;
    let answer = press(&telegram, ANNA, ANNA, message, "s:1:preparing").await;
    assert_eq!(answer, "There is no such order here");
    assert_eq!(
        value(&app.database, "select string_agg(distinct status, ',') from orders").await,
        "pending"
    );
    let enqueued = "select count(*) from vestnik.vst_delivery d join vestnik.vst_chat c on c.id = d.chat_id \
         where c.telegram_id = 11 and d.event_id is not null";
    assert_eq!(
        value(&app.database, enqueued).await,
        "1",
        "only the order from before the chat was unlinked"
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_stops_those_behind_it() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(ANNA, 1).await[0].message.unwrap();
    // With these changes, the bot's SQL statements fail for each update from Boris, and for each press that accepts an
    // order, at every attempt.
    app.write(
        "create function poison() returns trigger language plpgsql as $$ begin raise exception 'poison'; end $$; \
         create trigger poison before insert on vestnik.vst_chat for each row when (new.telegram_id = 22) execute function poison(); \
         alter table vestnik.vst_chat_link rename to hidden",
    )
    .await;
    let given_up = app.metric("vestnik_telegram_updates_given_up_total").await;
    for unreadable in [
        json!({"message": {"nonsense": true}}),
        json!({"message": 5}),
        json!({"callback_query": {"id": [], "from": null}}),
        json!({"my_chat_member": "?", "brand_new": {"kind": 1}}),
    ] {
        telegram.push(unreadable);
    }
    let answer = press(&telegram, ANNA, ANNA, message, "s:1:preparing").await;
    assert_eq!(answer, "That did not work; press again in a minute");
    app.write("alter table vestnik.hidden rename to vst_chat_link").await;
    telegram.write(BORIS, BORIS, "/help");
    assert!(ask(&telegram, ANNA, ANNA, "/status").await.contains("all orders"));
    assert_eq!(
        press(&telegram, ANNA, ANNA, message, "s:1:preparing").await,
        "Done: accepted, being prepared"
    );
    assert_eq!(telegram.calls().iter().filter(|call| call.chat == BORIS).count(), 0);
    app.until_metric("vestnik_telegram_updates_given_up_total", |count| {
        count >= given_up + 2.0
    })
    .await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_without_end_is_not_answered_without_end() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let mut last = 0;
    for _ in 0..25 {
        last = telegram.write(BORIS, BORIS, "/help");
    }
    until_dealt_with(&app.database, last).await;
    assert_eq!(
        value(&app.database, "select count(*) from vestnik.vst_delivery").await,
        "10"
    );
    assert!(
        ask(&telegram, ANNA, ANNA, "/help").await.contains("/link"),
        "another chat is answered"
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_removes_the_bot_is_disabled_all_are_notified_and_it_gets_its_missed_orders_when_it_is_back() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", KITCHEN, "mirror").await;
    telegram.link(&app.database, "7", ANNA, "manager").await;
    let mut panel = app.panel("7", None).await.live().await;
    telegram.change_membership(KITCHEN, BORIS, "kicked");
    let told = panel.event().await;
    assert_eq!(told["type"], "chat_disabled");
    assert_eq!(told["data"]["chat"], "Kitchen");
    let told = telegram.until_messages(ANNA, 1).await;
    assert!(
        told[0].text.contains("“Kitchen” no longer gets orders"),
        "{}",
        told[0].text
    );
    app.write("insert into orders (store_id) values (7), (7)").await;
    let missed = "select count(*) = 2 from vestnik.vst_escalation";
    app.database.until(missed).await;
    let enqueued = "select count(*) from vestnik.vst_delivery where event_id is not null";
    assert_eq!(value(&app.database, enqueued).await, "0", "none for the kitchen");
    let status = text(&run(&app.database, &telegram, &["telegram", "status"]).await.stdout);
    assert!(status.contains("disabled: the bot was blocked, or removed"), "{status}");

    telegram.change_membership(KITCHEN, BORIS, "member");
    let told = telegram.until_messages(KITCHEN, 1).await;
    for part in ["2 events", "new order #1", "new order #2"] {
        assert!(told[0].text.contains(part), "{part} in {}", told[0].text);
    }
    let told = telegram.until_messages(ANNA, 2).await;
    assert!(told[1].text.contains("“Kitchen” gets orders again"), "{}", told[1].text);
    app.write("insert into orders (store_id) values (7)").await;
    let told = telegram.until_messages(KITCHEN, 2).await;
    assert!(told[1].text.contains("New order #3"), "{}", told[1].text);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_unblocks_the_bot_gets_the_missed_orders() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    telegram.throw_out(ANNA);
    app.write("insert into orders (store_id) values (7)").await;
    app.database
        .until("select count(*) = 1 from vestnik.vst_chat where disabled_at is not null")
        .await;
    for sql in [
        "insert into orders (store_id) values (7), (7), (7)",
        "update orders set status = 'preparing' where id = 1",
        "update orders set status = 'cancelled' where id = 3",
    ] {
        app.write(sql).await;
    }
    app.database
        .until("select count(*) = 4 and count(ended_at) = 2 from vestnik.vst_escalation")
        .await;
    telegram.take_back(ANNA);
    telegram.write(ANNA, ANNA, "hello, is anybody there?");
    let digest = |call: &Call| call.is_new_to(ANNA) && call.text.contains("new order #2") && call.said == "ok";
    let told = telegram.until_call("what was missed", digest).await.text;
    assert!(told.contains("new order #4") && told.contains("3 events"), "{told}");
    // The digest shows the current status of each order, and leaves out orders that have ended.
    assert!(told.contains("order #1") && !told.contains("new order #1"), "{told}");
    assert!(!told.contains("#3"), "{told}");
    app.engine.shut_down().await;
}
