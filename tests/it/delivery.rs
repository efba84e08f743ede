//! Durable sends, against a Bot API that keeps Telegram's rules.

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::telegram::Telegram;

/// A chat of store 7 that gets everything.
const CHAT: i64 = 501;

/// A database with store 7 in one private chat, and the Bot API.
async fn mirrored() -> (Telegram, Database) {
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    telegram.add_private(CHAT, "Anna");
    telegram.link(&database, "7", CHAT, "mirror").await;
    (telegram, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_a_message_with_buttons_and_its_status_edits_it() {
    let (telegram, database) = mirrored().await;
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    app.write("insert into orders (store_id, customer_name, total) values (7, 'Иван <b> & сын', 50000)")
        .await;
    telegram.until_messages(CHAT, 1).await;
    let (number, message) = telegram.messages(CHAT).remove(0);
    assert!(
        message.text.contains("New order #1") && message.text.contains("Иван <b> & сын"),
        "{}",
        message.text
    );
    assert_eq!(message.buttons[0].len(), 2);

    app.write("update orders set status = 'preparing'").await;
    telegram.until_messages(CHAT, 2).await;
    let there = telegram.messages(CHAT);
    assert_eq!((there.len(), there[0].0, there[0].1.edits), (1, number, 1));
    assert!(there[0].1.text.contains("accepted"), "{}", there[0].1.text);
}
