//! The bot during a day of a shop: the summary of the day, pauses, and messages about changed orders.

use time::{Duration, OffsetDateTime};

use super::{ANNA, BORIS, KITCHEN, ask, people, press, start, value};
use crate::support::telegram::Call;

fn told<'a>(words: &'a str, chat: i64) -> impl Fn(&Call) -> bool + 'a {
    move |call| call.is_new_to(chat) && call.said == "ok" && call.text.contains(words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_begun_by_a_button_and_all_chats_and_panels_are_notified() {
    let telegram = people().await;
    let app = start(&telegram).await;
    for (chat, mode) in [(KITCHEN, "mirror"), (BORIS, "manager")] {
        telegram.link(&app.database, "7", chat, mode).await;
    }
    app.write("update vestnik.vst_store set name = 'Bakery', time_zone = 'UTC'")
        .await;
    let mut panel = app.panel("7", None).await.live().await;
    // Boris is not an administrator of the group. Any member of a linked group may begin a pause.
    telegram.write(KITCHEN, BORIS, "/pause@vestnik_test_bot");
    let asked = telegram.until_call("how long", told("For how long", KITCHEN)).await;
    let labels: Vec<&str> = asked
        .buttons
        .iter()
        .flatten()
        .map(|(label, _)| label.as_str())
        .collect();
    assert_eq!(
        labels,
        ["15 min", "30 min", "60 min", "Until tomorrow", "▶️ Take orders"]
    );
    let (half_an_hour, message) = (asked.buttons[0][1].1.clone(), asked.message.unwrap());
    assert_eq!(
        press(&telegram, KITCHEN, BORIS, message, &half_an_hour).await,
        "New orders are paused"
    );

    let event = panel.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["by"]),
        (&"store_paused".into(), &format!("Person{BORIS}").into())
    );
    let minutes =
        "select round(extract(epoch from until - now()) / 60) from vestnik.vst_paused_now where store_id = '7'";
    assert_eq!(value(&app.database, minutes).await, "30");
    let until = value(
        &app.database,
        "select to_char(until at time zone 'UTC', 'HH24:MI') from vestnik.vst_paused_now",
    )
    .await;
    for chat in [KITCHEN, BORIS] {
        let notice = telegram
            .until_call("the pause", told("Bakery: new orders are paused", chat))
            .await;
        assert!(
            notice.text.contains(&until) && notice.text.contains(&format!("Person{BORIS}")),
            "{}",
            notice.text
        );
        assert!(notice.silent, "a notice of a pause makes no sound");
    }
    telegram.write(BORIS, BORIS, "/status");
    let status = telegram.until_call("the status", told("Mode:", BORIS)).await;
    assert!(status.text.contains("new orders are paused until"), "{}", status.text);

    let resume = asked.buttons[2][0].1.clone();
    assert_eq!(
        press(&telegram, KITCHEN, BORIS, message, &resume).await,
        "New orders are taken again"
    );
    telegram.until_call("the end", told("taken again", BORIS)).await;
    assert_eq!(panel.event().await["type"], "store_resumed");
    assert_eq!(
        press(&telegram, KITCHEN, BORIS, message, &resume).await,
        "▶️ New orders are not paused."
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_written_as_people_write_it_and_only_where_a_store_is_linked() {
    let telegram = people().await;
    let app = start(&telegram).await;
    assert!(ask(&telegram, BORIS, BORIS, "/pause 30").await.contains("not linked"));
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    assert_eq!(
        ask(&telegram, ANNA, ANNA, "/pause off").await,
        "▶️ New orders are not paused."
    );
    for (command, minutes) in [("/pause 15", "15"), ("/pause 2h", "120"), ("/pause 60 min", "60")] {
        let notice = ask(&telegram, ANNA, ANNA, command).await;
        assert!(notice.contains("paused"), "{notice}");
        let left = "select round(extract(epoch from until - now()) / 60) from vestnik.vst_paused_now";
        assert_eq!(value(&app.database, left).await, minutes, "{command}");
    }
    let notice = ask(&telegram, ANNA, ANNA, "/pause tomorrow").await;
    assert!(notice.contains("05:00"), "{notice}");
    assert!(
        ask(&telegram, ANNA, ANNA, "/pause a little")
            .await
            .contains("For how long")
    );
    assert!(ask(&telegram, ANNA, ANNA, "/pause off").await.contains("taken again"));
    assert_eq!(
        value(&app.database, "select count(*) from vestnik.vst_pause").await,
        "0"
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chats_are_notified_of_the_end_of_a_pause() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    ask(&telegram, ANNA, ANNA, "/pause 15").await;
    app.write("update vestnik.vst_pause set until = now()").await;
    let over = telegram.until_call("the end", told("taken again", ANNA)).await;
    assert_eq!(over.text, "▶️ 7: new orders are taken again.");
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn today_shows_the_figures_and_the_orders_of_the_stores_day() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    app.write("update vestnik.vst_store set name = 'Bakery'").await;
    assert!(
        ask(&telegram, ANNA, ANNA, "/today")
            .await
            .contains("No orders and no bookings yet.")
    );
    for total in [10_000, 25_050, 99_900, 5_000] {
        app.write(&format!("insert into orders (store_id, total) values (7, {total})"))
            .await;
    }
    app.write("insert into orders (store_id, total) values (8, 1); insert into bookings (store_id) values (7)")
        .await;
    app.write("update orders set status = 'preparing' where id in (1, 2)")
        .await;
    app.write("update orders set status = 'rejected' where id = 3").await;
    // The summary of today does not count an order of another day.
    app.write("insert into orders (store_id, total) values (7, 777)").await;
    app.write("update vestnik.vst_event set at = at - interval '2 days' where key = '6'")
        .await;
    telegram.write(ANNA, ANNA, "/today");
    let today = telegram.until_call("the day", told("Orders: 4", ANNA)).await;
    for words in [
        "Bakery",
        "Orders: 4, ₽400.50 in all",
        "waiting for an answer: 1 · accepted, being prepared: 2 · rejected: 1",
        "Bookings: 1",
        "#2, ₽250.50, accepted, being prepared",
        "#3, ₽999.00, rejected",
        "booking #1, waiting for an answer",
        "Usually answered within",
    ] {
        assert!(today.text.contains(words), "{words}: {}", today.text);
    }
    assert!(
        !today.text.contains("#6") && !today.text.contains("#5"),
        "{}",
        today.text
    );
    let labels: Vec<&str> = today
        .buttons
        .iter()
        .flatten()
        .map(|(label, _)| label.as_str())
        .collect();
    assert_eq!(labels, ["#4", "#1"], "what waits can be opened");
    app.engine.shut_down().await;
}

const WHOLE: &str = r#"table = "public.whole"
kind = "order"
key = "id"
store = "store_id"
[status]
column = "status"
pending = ["pending"]
preparing = ["preparing"]
[fields]
address = "address"
comment = "comment"
total = { column = "total", unit = "minor" }
due_at = "wanted_at"
[items]
column = "items"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_says_what_stood_there_and_what_stands_there_now() {
    let (telegram, database) = crate::support::telegram::Telegram::with_chat(ANNA).await;
    database
        .client()
        .await
        .batch_execute(
            "create table whole (id int primary key, store_id int not null, status text not null default 'pending', address text, comment text, \
                 total bigint, wanted_at timestamptz, items jsonb); \
             update vestnik.vst_store set time_zone = 'UTC'",
        )
        .await
        .unwrap();
    database.attach(WHOLE).await;
    let app = crate::support::app::App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    app.write(
        r#"insert into whole values (1, 7, 'pending', 'Mira 5', null, 50000, now() + interval '3 days',
            '[{"name": "Pizza", "quantity": 2}, {"name": "Soup"}, {"name": "Tea", "note": "<hot>"}]')"#,
    )
    .await;
    telegram.until_messages(ANNA, 1).await;
    app.write(
        r#"update whole set address = 'Mira 7', comment = 'call first', total = 65000, wanted_at = wanted_at + interval '1 day',
            items = '[{"name": "Pizza", "quantity": 3}, {"name": "Soup"}]'"#,
    )
    .await;
    telegram.until_messages(ANNA, 2).await;
    let (_, message) = telegram.messages(ANNA).pop().unwrap();
    // The bot writes a date in words, with the weekday.
    let in_words = |days| {
        let at = OffsetDateTime::now_utc() + Duration::days(days);
        format!("{}, {} {}, ", at.weekday(), at.month(), at.day())
    };
    for words in [
        "Changed:".to_owned(),
        "address: Mira 5 → Mira 7".to_owned(),
        "comment: call first".to_owned(),
        "total: ₽500.00 → ₽650.00".to_owned(),
        "− 2 × Pizza".to_owned(),
        "+ 3 × Pizza".to_owned(),
        "− Tea (<hot>)".to_owned(),
        format!("time: {}", in_words(3)),
        format!("→ {}", in_words(4)),
        format!("⏰ For {}", in_words(4)),
    ] {
        assert!(message.text.contains(&words), "{words}: {}", message.text);
    }
    assert!(
        !message.text.contains("− Soup") && !message.text.contains("+ Soup"),
        "{}",
        message.text
    );
    assert_eq!(message.edits, 1);
    app.engine.shut_down().await;
}
