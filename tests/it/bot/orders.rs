//! Many orders at the same time, promised times, and rejections for which a person writes the reason.

use super::{ANNA, ask, button, people, press, start, value};
use crate::support::app::App;
use crate::support::db::until;
use crate::support::telegram::Call;
use crate::telegram_outcomes::{hold, hurry};

fn new(calls: &[Call]) -> Vec<&Call> {
    calls
        .iter()
        .filter(|call| call.is_new_to(ANNA) && call.said == "ok")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_of_a_rush_can_be_opened_and_answered() {
    let telegram = people().await;
    let app = App::start_with(|config| {
        let mut settings = telegram.settings();
        settings.digest_threshold = 3;
        config.telegram = Some(settings);
    })
    .await;
    let client = app.database.client().await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    hold(&client).await;
    app.write("insert into orders (store_id, customer_name) select 7, 'Guest ' || n from generate_series(1, 12) n")
        .await;
    app.write("update orders set status = 'preparing' where id = 2").await;
    until(&client, "select count(*) = 13 from vestnik.vst_delivery").await;
    hurry(&client).await;
    let digest = telegram.until_messages(ANNA, 1).await[0].clone();
    assert!(digest.text.contains("Many orders at once"), "{}", digest.text);
    let labels: Vec<&str> = digest
        .buttons
        .iter()
        .flatten()
        .map(|(label, _)| label.as_str())
        .collect();
    assert!(
        !labels.contains(&"#2") && labels.contains(&"#1") && labels.contains(&"#12"),
        "{labels:?}"
    );
    let open = button(&digest, "#5");
    assert_eq!(
        press(&telegram, ANNA, ANNA, digest.message.unwrap(), &open).await,
        "Here it comes"
    );
    let order = telegram
        .until_call("the order", |call| {
            call.is_new_to(ANNA) && call.text.contains("Guest 5")
        })
        .await;
    assert!(order.text.starts_with("🔔 New order #5"), "{}", order.text);
    let accept = order.buttons[0][0].1.clone();
    press(&telegram, ANNA, ANNA, order.message.unwrap(), &accept).await;
    assert_eq!(
        value(&app.database, "select status from orders where id = 5").await,
        "preparing"
    );
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_listed_and_a_button_leads_to_it() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let client = app.database.client().await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    assert_eq!(ask(&telegram, ANNA, ANNA, "/orders").await, "There are no open orders.");
    for _ in 0..3 {
        app.write("insert into orders (store_id) values (7)").await;
    }
    telegram.until_messages(ANNA, 4).await;
    app.write("update orders set status = 'completed' where id = 1").await;
    app.write("update orders set status = 'preparing' where id = 2").await;
    until(
        &client,
        "select count(*) = 5 and bool_and(state = 'sent') from vestnik.vst_delivery where event_id is not null",
    )
    .await;
    telegram.write(ANNA, ANNA, "/orders");
    let list = telegram
        .until_call("the list", |call| call.text.starts_with("📋 Open: 2"))
        .await;
    assert!(
        list.text.contains("order #2 - accepted, being prepared") && !list.text.contains("#1"),
        "{}",
        list.text
    );
    let third = button(&list, "#3");
    let message = new(&telegram.calls())
        .iter()
        .find(|call| call.text.contains("order #3"))
        .unwrap()
        .message;
    for times in 1..=2 {
        press(&telegram, ANNA, ANNA, list.message.unwrap(), &third).await;
        telegram
            .until_calls("a reply that leads to it", |calls| {
                calls
                    .iter()
                    .filter(|call| call.is_new_to(ANNA) && call.reply_to == message)
                    .count()
                    == times
            })
            .await;
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_accepted_in_so_many_minutes_and_a_late_one_gets_a_note_with_a_sound() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let client = app.database.client().await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    for _ in 0..2 {
        app.write("insert into orders (store_id) values (7)").await;
    }
    let told = telegram.until_messages(ANNA, 2).await;
    for order in &told {
        let (label, in_half_an_hour) = order.buttons[1][1].clone();
        assert_eq!(label, "30 min");
        press(&telegram, ANNA, ANNA, order.message.unwrap(), &in_half_an_hour).await;
    }
    let minutes = "select string_agg(minutes::text, ',') from vestnik.vst_status_change";
    assert_eq!(value(&app.database, minutes).await, "30,30");
    telegram
        .until_call("the promise", |call| {
            call.is_edit() && call.text.contains("Promised for")
        })
        .await;
    // When the order changes, its promised time stays.
    until(&client, "select count(*) = 2 from vestnik.vst_promise").await;
    let promises = "select string_agg(due_at::text, ',' order by subject) from vestnik.vst_promise";
    let promised = value(&app.database, promises).await;
    app.write("update orders set customer_name = 'Somebody'").await;
    telegram
        .until_calls("the changes", |calls| {
            let is_change = |call: &&Call| call.is_edit() && call.text.contains("Somebody");
            let told = calls
                .iter()
                .filter(is_change)
                .filter(|call| call.text.contains("Promised for"));
            told.count() == 2
        })
        .await;
    assert_eq!(value(&app.database, promises).await, promised);
    // Order 1 is ready before its promised time.
    until(&client, "select count(*) = 2 from vestnik.vst_promise").await;
    app.write("update orders set status = 'ready' where id = 1").await;
    until(&client, "select count(*) = 1 from vestnik.vst_promise").await;
    app.write("update vestnik.vst_promise set due_at = clock_timestamp()")
        .await;
    let late = telegram
        .until_call("that it is late", |call| call.text.contains("is late"))
        .await;
    assert!(
        late.text.starts_with("⏰ Order #2 is late: it was promised for"),
        "{}",
        late.text
    );
    assert_eq!(late.reply_to, told[1].message);
    assert!(!late.silent);
    // The bot reports once that an order is late, even if the order changes again.
    app.write("update orders set customer_name = 'Nobody' where id = 2")
        .await;
    telegram
        .until_call("the change", |call| call.is_edit() && call.text.contains("Nobody"))
        .await;
    until(
        &client,
        "select count(*) = 1 and bool_and(is_told) from vestnik.vst_promise",
    )
    .await;
    app.write("update orders set status = 'ready' where id = 2").await;
    until(&client, "select count(*) = 0 from vestnik.vst_promise").await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_ready_before_its_note_goes_out_is_not_called_late() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let client = app.database.client().await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    app.write("insert into orders (store_id) values (7)").await;
    let order = telegram.until_messages(ANNA, 1).await.remove(0);
    press(&telegram, ANNA, ANNA, order.message.unwrap(), &order.buttons[1][1].1).await;
    until(&client, "select count(*) = 1 from vestnik.vst_promise").await;
    hold(&client).await;
    app.write("update vestnik.vst_promise set due_at = clock_timestamp()")
        .await;
    until(
        &client,
        "select count(*) = 1 from vestnik.vst_delivery where note = 'late'",
    )
    .await;
    app.write("update orders set status = 'ready'").await;
    until(&client, "select count(*) = 0 from vestnik.vst_promise").await;
    hurry(&client).await;
    let given_up =
        "select bool_and(state = 'dead' and reason = 'ready meanwhile') from vestnik.vst_delivery where note = 'late'";
    until(&client, given_up).await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_the_reason_of_a_rejection_where_one_was_asked_for_and_nothing_else() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(ANNA, 1).await[0].message.unwrap();
    telegram.reply(ANNA, ANNA, message, "who is that?");
    telegram.until_call("help", |call| call.text.contains("/orders")).await;
    assert_eq!(value(&app.database, "select status from orders").await, "pending");
    assert!(
        press(&telegram, ANNA, ANNA, message, "r:1")
            .await
            .starts_with("For what reason?")
    );
    telegram.reply(ANNA, ANNA, message, "No\ndough left");
    telegram
        .until_call("the answer", |call| call.text == "Done: rejected")
        .await;
    assert_eq!(
        value(&app.database, "select status || ': ' || reason from orders").await,
        "rejected: No dough left"
    );
    let told = telegram
        .until_call("the rejection", |call| {
            call.is_edit() && call.text.contains("No dough left")
        })
        .await;
    assert!(told.text.starts_with("✖️ Order #1 rejected"), "{}", told.text);
    app.engine.shut_down().await;
}
