//! Digests and lists of open orders. A person can open each order of a digest or list, sees its current status, and can
//! answer it.

use super::{ANNA, button, people, press};
use crate::support::app::App;
use crate::support::db::until;
use crate::support::telegram::{Call, Fault, On, Telegram, Times};
use crate::telegram_outcomes::{hold, hurry};

/// Starts an app with a linked chat. The bot sends a digest when more than two messages wait for the chat.
async fn start(telegram: &Telegram) -> App {
    let app = App::start_with(|config| {
        let mut settings = telegram.settings();
        settings.digest_threshold = 2;
        config.telegram = Some(settings);
    })
    .await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    app
}

/// Creates `orders` new orders, which the bot sends in digests, and returns the last digest.
async fn digests_of(app: &App, telegram: &Telegram, orders: usize) -> Call {
    let client = app.database.client().await;
    hold(&client).await;
    app.write(&format!(
        "insert into orders (store_id) select 7 from generate_series(1, {orders})"
    ))
    .await;
    until(
        &client,
        &format!("select count(*) = {orders} from vestnik.vst_delivery"),
    )
    .await;
    hurry(&client).await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    let calls = telegram.calls();
    calls.iter().rfind(|call| call.is_new_to(ANNA)).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_a_digest_is_opened_as_it_is_now() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let client = app.database.client().await;
    let digest = digests_of(&app, &telegram, 5).await;
    app.write("update orders set customer_name = 'Somebody else' where id = 3")
        .await;
    app.write("update orders set status = 'preparing' where id = 3").await;
    // No message in the chat is about order 3 alone, so the bot sends the order's new status as a new message.
    let status = |call: &Call| call.is_new_to(ANNA) && call.text.contains("Order #3 is being prepared");
    telegram.until_call("the status", status).await;
    app.write("update orders set customer_name = 'A third' where id = 4")
        .await;
    app.write("update orders set customer_phone = '+7 900 5' where id = 4")
        .await;
    let recorded = "select count(*) = 9 from vestnik.vst_event where source is not null";
    until(&client, recorded).await;
    press(&telegram, ANNA, ANNA, digest.message.unwrap(), &button(&digest, "#4")).await;
    let opened = |call: &Call| call.is_new_to(ANNA) && call.text.contains("New order #4");
    let opened = telegram.until_call("the order", opened).await;
    for part in ["A third", "+7 900 5"] {
        assert!(opened.text.contains(part), "{}", opened.text);
    }
    // The shop cancels order 4. Then a person presses the button of order 4 in the digest, and the bot shows the order
    // as cancelled.
    app.write("update orders set status = 'cancelled' where id = 4").await;
    let is_cancelled = |call: &&Call| call.is_new_to(ANNA) && call.text.contains("Order #4 cancelled");
    telegram
        .until_calls("the cancellation", |calls| {
            calls.iter().filter(is_cancelled).count() == 1
        })
        .await;
    press(&telegram, ANNA, ANNA, digest.message.unwrap(), &button(&digest, "#4")).await;
    telegram
        .until_calls("the order as it is now", |calls| {
            calls.iter().filter(is_cancelled).count() == 2
        })
        .await;
    // The bot reports the removal of order 5 in a message, although so far only the digest has shown this order.
    app.write("delete from orders where id = 5").await;
    let removed = |call: &Call| call.is_new_to(ANNA) && call.text.contains("Order #5 deleted");
    telegram.until_call("the removal", removed).await;
    app.engine.shut_down().await;
}

/// The labels of a list's buttons, in their order.
fn labels(call: &Call) -> Vec<String> {
    call.buttons.iter().flatten().map(|(label, _)| label.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_loses_the_buttons_of_orders_that_are_answered_and_gets_them_back() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let digest = digests_of(&app, &telegram, 4).await;
    telegram.write(ANNA, ANNA, "/orders");
    let is_list = |call: &Call| call.is_new_to(ANNA) && call.text.contains("Open: 4");
    let list = telegram.until_call("the list", is_list).await;
    let all = labels(&digest);
    assert_eq!((all.len(), labels(&list)), (4, all.clone()));
    // The digest has a button for each order that waits for an answer. The list has a button for each open order.
    let shown = async |waiting: &[usize], open: &[usize]| {
        for (list, orders) in [(&digest, waiting), (&list, open)] {
            let expected: Vec<String> = orders.iter().map(|order| all[order - 1].clone()).collect();
            let of_list = |call: &&Call| call.is_edit() && call.message == list.message;
            telegram
                .until_calls("the list's buttons", |calls| {
                    calls.iter().rfind(of_list).is_some_and(|edit| labels(edit) == expected)
                })
                .await;
        }
    };
    app.write("update orders set status = 'preparing' where id in (1, 3)")
        .await;
    app.write("update orders set status = 'rejected' where id = 2").await;
    shown(&[4], &[1, 3, 4]).await;
    app.write("update orders set status = 'pending' where id = 3").await;
    shown(&[3, 4], &[1, 3, 4]).await;
    app.write("delete from orders where id = 4").await;
    shown(&[3], &[1, 3]).await;
    app.write("update orders set status = 'cancelled'").await;
    shown(&[], &[]).await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_answered_while_its_list_is_sent_loses_its_button() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let client = app.database.client().await;
    hold(&client).await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 4)")
        .await;
    until(&client, "select count(*) = 4 from vestnik.vst_delivery").await;
    let (may_answer, held) = tokio::sync::watch::channel(false);
    telegram.fault(On::Messages, Fault::Hold(held), Times::Some(1));
    hurry(&client).await;
    telegram.until_call("the list", |call| call.is_new_to(ANNA)).await;
    app.write("update orders set status = 'preparing' where id = 2").await;
    until(&client, "select count(*) = 5 from vestnik.vst_delivery").await;
    may_answer.send(true).unwrap();
    let edit = telegram.until_call("the edit of the list", Call::is_edit).await;
    let labels = labels(&edit);
    assert_eq!(labels.len(), 3, "{labels:?}");
    assert!(labels.iter().all(|label| !label.contains("#2")), "{labels:?}");
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_and_thirty_open_orders_are_all_listed_and_can_all_be_opened() {
    const ORDERS: usize = 130;
    let telegram = people().await;
    let app = start(&telegram).await;
    digests_of(&app, &telegram, ORDERS).await;
    let before = telegram.calls().len();
    telegram.write(ANNA, ANNA, "/orders");
    let pages = |calls: &[Call]| -> Vec<Call> {
        let pages = calls[before..]
            .iter()
            .filter(|call| call.is_new_to(ANNA) && call.text.contains("Open"));
        pages.cloned().collect()
    };
    telegram
        .until_calls("four pages", |calls| pages(calls).len() == 4)
        .await;
    let pages = pages(&telegram.calls());
    assert!(
        pages[0].text.starts_with(&format!("📋 Open: {ORDERS}\n• order #1 - ")),
        "{}",
        pages[0].text
    );
    let mut numbers: Vec<String> = pages
        .iter()
        .flat_map(|page| page.buttons.iter().flatten())
        .map(|it| it.0.clone())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), ORDERS);
    press(
        &telegram,
        ANNA,
        ANNA,
        pages[3].message.unwrap(),
        &button(&pages[3], "#130"),
    )
    .await;
    let opened = |call: &Call| call.is_new_to(ANNA) && call.text.contains("New order #130");
    telegram.until_call("the order", opened).await;
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_edit_shows_all_changes_that_it_covers() {
    let telegram = people().await;
    let app = start(&telegram).await;
    let client = app.database.client().await;
    app.write("insert into orders (store_id, customer_name, customer_phone) values (7, 'Anna', '5')")
        .await;
    telegram.until_messages(ANNA, 1).await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    hold(&client).await;
    for sql in [
        "update orders set customer_name = 'Boris'",
        "update orders set customer_phone = '7'",
        "update orders set customer_name = 'Clara', status = 'preparing'",
    ] {
        app.write(sql).await;
    }
    until(&client, "select count(*) = 4 from vestnik.vst_delivery").await;
    hurry(&client).await;
    let edit = telegram.until_call("the edit", Call::is_edit).await;
    for part in ["name: Anna → Clara", "phone: 5 → 7"] {
        assert!(edit.text.contains(part), "{part} in {}", edit.text);
    }
    assert!(!edit.text.contains("Boris"), "{}", edit.text);
    app.engine.shut_down().await;
}
