//! A person presses a button of the message about an order. The tests check the change of the order and the bot's
//! answer.

use serde_json::json;

use super::{ANNA, BORIS, KITCHEN, people, press, start, until_dealt_with, value};
use crate::support::app::Panel;
use crate::support::telegram::Call;

/// The statuses in the next `count` events of a panel.
async fn statuses(panel: &mut Panel, count: usize) -> Vec<String> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(panel.event().await["data"]["status"].as_str().unwrap().to_owned());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_changes_the_order_on_every_panel_and_a_second_one_learns_who_was_first() {
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
    // The message now shows the new status, and its buttons offer the next statuses.
    telegram.until_messages(ANNA, 2).await;
    let shown = telegram.messages(ANNA).pop().unwrap().1;
    assert!(
        shown.text.contains(&format!("Person{ANNA}")) && shown.edits == 1,
        "{}",
        shown.text
    );
    assert_eq!(shown.buttons[0][0].1, "s:1:ready");
    // A person opens the list of reasons and goes back. Afterwards the buttons fit the order's status again.
    assert!(
        press(&telegram, ANNA, ANNA, message, "r:1")
            .await
            .starts_with("For what reason?")
    );
    let swaps = |call: &Call| call.method == "editMessageReplyMarkup" && call.said == "ok";
    let asked = telegram.until_call("the reasons", swaps).await;
    assert!(asked.body.to_string().contains("x:1:2"), "{}", asked.body);
    press(&telegram, ANNA, ANNA, message, "b:1").await;
    telegram
        .until_calls("the buttons before", |calls| {
            calls.iter().filter(|call| swaps(call)).count() == 2
        })
        .await;
    assert_eq!(telegram.messages(ANNA).pop().unwrap().1.buttons, shown.buttons);

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
async fn a_rejection_has_a_reason_that_the_panels_show() {
    let telegram = people().await;
    let app = start(&telegram).await;
    telegram.link(&app.database, "7", ANNA, "mirror").await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7)").await;
    let message = telegram.until_messages(ANNA, 1).await[0].message.unwrap();
    assert!(
        press(&telegram, ANNA, ANNA, message, "r:1")
            .await
            .starts_with("For what reason?")
    );
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
    // The bot ignores callback data that Vestnik did not create.
    for nonsense in ["", "s:1:eaten", "{}", "s:1"] {
        telegram.push_press(ANNA, ANNA, message, nonsense);
    }
    assert_eq!(
        value(&app.database, "select string_agg(distinct status, ',') from orders").await,
        "pending"
    );
    // The press is old. Telegram accepts no answer to it, and the update lacks the text of the message, but the press
    // still changes the status.
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
