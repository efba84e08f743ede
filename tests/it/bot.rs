//! What people write to the bot and press, against a Bot API that keeps Telegram's rules.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use vestnik::db;
use vestnik::engine::Engine;
use vestnik::event::StoreId;
use vestnik::link::{self, Mode};
use vestnik::poll::{self, Lease};

use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::telegram::{Fault, On, TOKEN, Telegram, Times};

const ANNA: i64 = 11;
const BORIS: i64 = 22;
const KITCHEN: i64 = -12;

/// The Bot API with two people and a group, of which Anna is an administrator.
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
    let code = link::create_code(&mut client, &StoreId::new(store), mode, language).await;
    code.unwrap().reveal().to_owned()
}

/// Somebody writes, and reads what comes back.
async fn ask(telegram: &Telegram, chat: i64, person: i64, text: &str) -> String {
    let count = |telegram: &Telegram| telegram.calls().iter().filter(|call| call.is_message_to(chat)).count();
    let before = count(telegram);
    telegram.write(chat, person, text);
    telegram.until_messages(chat, before + 1).await.pop().unwrap().text
}

/// Somebody presses, and reads what flashes up.
async fn press(telegram: &Telegram, chat: i64, person: i64, message: i32, data: &str) -> String {
    let answers = |calls: &[crate::support::telegram::Call]| -> Vec<String> {
        let answers = calls.iter().filter(|call| call.method == "answerCallbackQuery");
        answers
            .map(|call| call.body["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let before = answers(&telegram.calls()).len();
    telegram.press(chat, person, message, data);
    telegram
        .until_calls("an answer to a press", |calls| answers(calls).len() > before)
        .await;
    answers(&telegram.calls()).pop().unwrap()
}

async fn value(database: &Database, sql: &str) -> String {
    let sql = format!("select coalesce(({sql})::text, '')");
    database.client().await.query_one(&sql, &[]).await.unwrap().get(0)
}

/// Waits until the bot has dealt with this update.
async fn until_dealt_with(database: &Database, update: i64) {
    database
        .until(&format!("select next_update > {update} from vestnik.bot"))
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
    app.write("update vestnik.link_code set expires_at = now() where store_id = '8'")
        .await;
    assert!(
        ask(&telegram, BORIS, BORIS, &format!("/link {used}"))
            .await
            .contains("linked")
    );
    let unknown = ask(&telegram, ANNA, ANNA, "/link ABCDEFGHJKLM").await;
    assert!(unknown.contains("does not fit"), "{unknown}");
    assert_eq!(ask(&telegram, ANNA, ANNA, &format!("/link {used}")).await, unknown);
    assert_eq!(ask(&telegram, ANNA, ANNA, &format!("/start {expired}")).await, unknown);
    assert_eq!(
        value(&app.database, "select string_agg(store_id, ',') from vestnik.link").await,
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
        assert!(ask(&telegram, ANNA, ANNA, "/link WRONG").await.contains("does not fit"));
    }
    assert!(
        ask(&telegram, ANNA, ANNA, &format!("/link {good}"))
            .await
            .contains("Too many tries")
    );
    assert_eq!(value(&app.database, "select count(*) from vestnik.link").await, "0");
    assert!(
        ask(&telegram, BORIS, BORIS, "/link WRONG")
            .await
            .contains("does not fit"),
        "another chat may try"
    );
    // A minute passes.
    app.write("update vestnik.chat set tries = (select array_agg(t - interval '61 s') from unnest(tries) t)")
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
    assert!(linked.contains("linked") && linked.contains("for long"), "{linked}");
    for command in ["/mode mirror", "/mute 30m", "/unlink"] {
        assert!(
            ask(&telegram, KITCHEN, BORIS, command)
                .await
                .contains("only an administrator"),
            "{command}"
        );
    }
    assert!(
        ask(&telegram, KITCHEN, BORIS, "/status").await.contains("for long"),
        "anybody may ask"
    );
    let link = "select mode || ' ' || (muted_until < now()) from vestnik.link";
    assert_eq!(value(&app.database, link).await, "manager true");
    // Telegram does not say who is an administrator: then nobody is.
    telegram.fault(
        On::Method("getChatMember"),
        Fault::refused("Bad Request: no"),
        Times::Some(1),
    );
    assert!(ask(&telegram, KITCHEN, ANNA, "/unlink").await.contains("did not work"));
    assert!(ask(&telegram, KITCHEN, ANNA, "/unlink").await.contains("unlinked"));
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_told_its_status_and_changes_its_mode_and_its_sound() {
    let telegram = people().await;
    let app = start(&telegram).await;
    app.write("insert into vestnik.store (id, name) values ('7', 'Пекарня <у дома>')")
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
    app.write("update vestnik.link set muted_until = now(); insert into orders (store_id) values (7)")
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
    let planned = "select count(*) from vestnik.delivery d join vestnik.chat c on c.id = d.chat_id \
         where c.telegram_id = 11 and d.event_id is not null";
    assert_eq!(value(&app.database, planned).await, "1", "the one before");
    app.engine.shut_down().await;
}

/// The statuses that a panel is told next.
async fn statuses(panel: &mut Panel, count: usize) -> Vec<String> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(panel.event().await["data"]["status"].as_str().unwrap().to_owned());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_changes_the_order_on_every_panel_and_a_second_one_is_told_by_whom() {
    let telegram = people().await;
    let app = start(&telegram).await;
    for chat in [ANNA, KITCHEN] {
        telegram.link(&app.database, "7", chat, "mirror").await;
    }
    let (mut here, mut there) = (
        app.panel("7", None).await.live().await,
        app.panel("7", None).await.live().await,
    );
    app.write("insert into orders (store_id, order_type) values (7, 'pickup')")
        .await;
    let message = telegram.until_messages(ANNA, 1).await[0].clone();
    let group = telegram.until_messages(KITCHEN, 1).await[0].message.unwrap();
    let labels: Vec<&str> = message.buttons[0].iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["✅ Accept", "✖️ Reject"]);
    let (accept, message) = (message.buttons[0][0].1.clone(), message.message.unwrap());

    let answer = press(&telegram, ANNA, ANNA, message, &accept).await;
    assert_eq!(answer, "Done: accepted, being prepared");
    let answer = press(&telegram, KITCHEN, BORIS, group, &accept).await;
    assert_eq!(answer, format!("Already: accepted, being prepared, by Person{ANNA}"));
    for panel in [&mut here, &mut there] {
        assert_eq!(statuses(panel, 2).await, ["pending", "preparing"]);
    }
    // The message says where it stands, and offers what comes next.
    telegram.until_messages(ANNA, 2).await;
    let standing = telegram.messages(ANNA).pop().unwrap().1;
    assert!(
        standing.text.contains(&format!("Person{ANNA}")) && standing.edits == 1,
        "{}",
        standing.text
    );
    assert_eq!(standing.buttons[0][0].1, "s:1:ready");
    // Asked for a reason, and back: the buttons are those of where it stands.
    assert_eq!(press(&telegram, ANNA, ANNA, message, "r:1").await, "For what reason?");
    assert!(
        telegram
            .messages(ANNA)
            .pop()
            .unwrap()
            .1
            .buttons
            .iter()
            .any(|row| row[0].1 == "x:1:2")
    );
    press(&telegram, ANNA, ANNA, message, "b:1").await;
    assert_eq!(telegram.messages(ANNA).pop().unwrap().1.buttons, standing.buttons);

    assert_eq!(press(&telegram, ANNA, ANNA, message, "s:1:ready").await, "Done: ready");
    let answer = press(&telegram, ANNA, ANNA, message, "r:1").await;
    assert_eq!(answer, format!("Not possible now. Status: ready, by Person{ANNA}"));
    let answer = press(&telegram, ANNA, ANNA, message, "s:1:preparing").await;
    assert_eq!(answer, format!("Not possible now. Status: ready, by Person{ANNA}"));
    assert_eq!(
        press(&telegram, ANNA, ANNA, message, "s:1:completed").await,
        "Done: completed"
    );
    assert_eq!(statuses(&mut here, 2).await, ["ready", "completed"]);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_has_a_reason_that_the_panels_are_told() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(ANNA, 1).await[0].message.unwrap();
    assert_eq!(press(&telegram, ANNA, ANNA, message, "r:1").await, "For what reason?");
    assert_eq!(press(&telegram, ANNA, ANNA, message, "x:1:2").await, "Done: rejected");
    panel.event().await;
    let rejected = panel.event().await;
    assert_eq!(
        (&rejected["data"]["status"], &rejected["data"]["reason"]),
        (&json!("rejected"), &json!("The kitchen is too busy"))
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_press_reaches_no_order_of_another_store_and_an_old_one_still_counts() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    telegram.link(&app.database, "8", BORIS, "mirror").await;
    app.write("insert into orders (store_id) values (7); insert into orders (store_id) values (8)")
        .await;
    let message = telegram.until_messages(ANNA, 1).await[0].message.unwrap();
    telegram.until_messages(BORIS, 1).await;
    for forged in [
        "s:2:preparing",
        "r:2",
        "x:2:1",
        "b:2",
        "s:999:preparing",
        "s:-1:rejected",
    ] {
        let answer = press(&telegram, ANNA, ANNA, message, forged).await;
        assert_eq!(answer, "There is no such order here", "{forged}");
    }
    // What is no press of ours is passed over.
    for nonsense in ["", "s:1:eaten", "{}", "s:1"] {
        telegram.press(ANNA, ANNA, message, nonsense);
    }
    assert_eq!(
        value(&app.database, "select string_agg(distinct status, ',') from orders").await,
        "pending"
    );
    // Too old for an answer, and its message no longer to be had: it was pressed all the same.
    let update = telegram.push(
        json!({"callback_query": {"id": "ancient", "chat_instance": "1", "data": "s:1:preparing",
        "from": {"id": ANNA, "is_bot": false, "first_name": "Anna"},
        "message": {"chat": {"id": ANNA, "type": "private"}, "message_id": message, "date": 0}}}),
    );
    until_dealt_with(&app.database, update).await;
    assert_eq!(
        value(&app.database, "select string_agg(status, ',' order by id) from orders").await,
        "preparing,pending"
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
    // What Boris writes, and who accepts, cannot be stored, whenever it is tried.
    app.write(
        "create function poison() returns trigger language plpgsql as $$ begin raise exception 'poison'; end $$; \
         create trigger poison before insert on vestnik.chat for each row when (new.telegram_id = 22) execute function poison(); \
         alter table vestnik.link rename to hidden",
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
    app.write("alter table vestnik.hidden rename to link").await;
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
        value(&app.database, "select count(*) from vestnik.delivery").await,
        "10"
    );
    assert!(
        ask(&telegram, ANNA, ANNA, "/help").await.contains("/link"),
        "another chat is answered"
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_throws_the_bot_out_is_disabled_and_the_panels_are_told() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", KITCHEN, "mirror").await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    let mut panel = app.panel("7", None).await.live().await;
    telegram.change_membership(KITCHEN, BORIS, "kicked");
    let told = panel.event().await;
    assert_eq!(told["type"], "chat_disabled");
    assert_eq!(told["data"]["chat"], "Kitchen");
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(ANNA, 1).await;
    assert_eq!(
        value(&app.database, "select count(*) from vestnik.delivery").await,
        "1",
        "none for the kitchen"
    );
    let status = text(&run(&app.database, &telegram, &["telegram", "status"]).await.stdout);
    assert!(status.contains("disabled: the bot was blocked, or removed"), "{status}");

    let update = telegram.change_membership(KITCHEN, BORIS, "member");
    until_dealt_with(&app.database, update).await;
    app.write("insert into orders (store_id) values (7)").await;
    let told = telegram.until_messages(KITCHEN, 1).await;
    assert!(told[0].text.contains("New order #2"), "{}", told[0].text);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_let_in_stops_the_bot_until_it_is() {
    let telegram = people().await;
    let database = Database::fresh().await;
    telegram.link(&database, "7", ANNA, "mirror").await;
    telegram.shut_out(TOKEN);
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    app.database
        .until("select stopped_at is not null from vestnik.bot")
        .await;
    app.write("insert into orders (store_id) values (7)").await;
    app.database.until("select count(*) = 1 from vestnik.delivery").await;
    let status = text(&run(&app.database, &telegram, &["telegram", "status"]).await.stdout);
    assert!(
        status.contains("bot: stopped: Telegram does not know this token"),
        "{status}"
    );
    let refused = run(&app.database, &telegram, &["telegram", "link", "--store", "7"]).await;
    assert!(
        text(&refused.stderr).contains("does not know this token"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(telegram.messages(ANNA), []);

    let mut config = app.database.config();
    config.http.listen = app.engine.address();
    config.telegram = Some(telegram.settings());
    app.engine.shut_down().await;
    telegram.let_in(TOKEN);
    let engine = Engine::start(&config).await.unwrap();
    telegram.until_messages(ANNA, 1).await;
    engine.shut_down().await;
}

/// A `vestnik serve`, and what it logs; killed with the test.
struct Server {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    async fn until_log(&self, part: &str) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !self.log().contains(part) {
                look_again().await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("never logged {part:?}: {}", self.log()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_polls_for_all_and_another_takes_over_when_it_dies() {
    let telegram = people().await;
    let database = Database::fresh().await;
    let server = Server::start(command(&database, &telegram, &["serve"]));
    server.until_log("this node hears the bot for all").await;
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    let poller = value(&app.database, "select poller from vestnik.bot").await;
    for _ in 0..3 {
        assert!(ask(&telegram, ANNA, ANNA, "/help").await.contains("/link"));
    }
    assert_eq!(value(&app.database, "select poller from vestnik.bot").await, poller);
    until_dealt_with(&app.database, 3).await;
    // What it has sent and not settled would hold the chat for the lease of a send, and come twice.
    let settled = "select count(*) filter (where settled_at is not null) = 3 from vestnik.delivery";
    app.database.until(settled).await;
    drop(server);
    telegram.write(ANNA, ANNA, "/help");
    // The time of its lease passes; what the dead one had asked of Postgres may still have prolonged it.
    let passes = format!("update vestnik.bot set polls_until = now() - interval '1 s' where poller = '{poller}'");
    tokio::time::timeout(PATIENCE, async {
        while value(&app.database, "select poller from vestnik.bot").await == poller {
            app.write(&passes).await;
        }
    })
    .await
    .expect("the other node polls");
    telegram.until_messages(ANNA, 4).await;
    assert_ne!(value(&app.database, "select poller from vestnik.bot").await, poller);
    // One that is shut down lets go at once.
    let server = Server::start(command(&app.database, &telegram, &["serve"]));
    server.until_log("another node hears the bot").await;
    let database = app.database;
    app.engine.shut_down().await;
    telegram.write(ANNA, ANNA, "/help");
    telegram.until_messages(ANNA, 5).await;
    server.until_log("this node hears the bot for all").await;
    until_dealt_with(&database, 5).await;
    assert_eq!(telegram.messages(ANNA).len(), 5, "each was answered once");
    assert!(
        !server.log().contains("WARN"),
        "no 409, and nothing else: {}",
        server.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_409_is_said_once_and_waited_for_and_no_log_shows_the_token() {
    let telegram = people().await;
    let database = Database::fresh().await;
    telegram.fault(On::Method("getUpdates"), Fault::conflict(), Times::Some(2));
    let server = Server::start(command(&database, &telegram, &["serve", "--set", "log.filter=trace"]));
    server.until_log("409 from Telegram").await;
    let answer = ask(&telegram, ANNA, ANNA, "/help").await;
    assert!(answer.contains("/link"));
    telegram.fault(On::Method("getUpdates"), Fault::bad_gateway(), Times::Some(1));
    telegram.shut_out(TOKEN);
    server.until_log("the bot is stopped").await;
    let log = server.log();
    assert_eq!(log.matches("409 from Telegram").count(), 1, "{log}");
    let secret = TOKEN.split_once(':').unwrap().1;
    assert!(
        !log.contains(secret),
        "{}",
        log.lines().find(|line| line.contains(secret)).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_of_it_runs_and_serve_says_so_in_one_line() {
    let telegram = people().await;
    let database = Database::fresh().await;
    telegram.link(&database, "7", ANNA, "mirror").await;
    let mut serve = command(&database, &telegram, &["serve"]);
    serve.env_remove("VESTNIK_TELEGRAM_TOKEN");
    let server = Server::start(serve);
    server.until_log("serving;").await;
    assert_eq!(server.log().matches("Telegram").count(), 1, "{}", server.log());
    assert!(server.log().contains("no bot token is configured"));
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    panel.say(&json!({"type": "panel", "rings": true}).to_string()).await;
    app.write("insert into orders (store_id) values (7)").await;
    panel.event().await;
    for table in ["delivery", "escalation", "node", "presence", "alarm"] {
        assert_eq!(
            value(&app.database, &format!("select count(*) from vestnik.{table}")).await,
            "0",
            "{table}"
        );
    }
    let mut link = command(&app.database, &telegram, &["telegram", "link", "--store", "7"]);
    let output = link.env_remove("VESTNIK_TELEGRAM_TOKEN").output().unwrap();
    assert!(
        text(&output.stderr).contains("get a token from @BotFather"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(telegram.calls().len(), 0);
    app.engine.shut_down().await;
}

#[tokio::test]
async fn only_who_holds_the_lease_moves_the_poll_on_and_another_bot_begins_anew() {
    let database = Database::fresh().await;
    let pool = db::pool(&database.config().database).unwrap();
    let life = Duration::from_secs(40);
    let ours = |next_update| Lease::Ours { next_update };
    poll::start_bot(&pool, "100:secret").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), ours(0));
    assert_eq!(poll::lease(&pool, "b", life).await.unwrap(), Lease::Elsewhere);
    assert!(poll::dealt_with(&pool, "a", 900, life).await.unwrap());
    assert!(!poll::dealt_with(&pool, "b", 950, life).await.unwrap());
    // After a quiet week Telegram numbers anew, and lower.
    assert!(poll::dealt_with(&pool, "a", 40, life).await.unwrap());
    poll::start_bot(&pool, "100:another-secret").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), ours(40));
    poll::release(&pool, "b").await.unwrap();
    assert_eq!(poll::lease(&pool, "b", life).await.unwrap(), Lease::Elsewhere);
    poll::stop_bot(&pool, "100:another-secret", "401").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), Lease::Stopped);
    poll::start_bot(&pool, "200:secret").await.unwrap();
    assert_eq!(poll::lease(&pool, "a", life).await.unwrap(), ours(0));
    poll::release(&pool, "a").await.unwrap();
    assert_eq!(poll::lease(&pool, "b", life).await.unwrap(), ours(0));
}
