//! Texts of the bot that an operator has written, for all stores or for one store.

use super::update_poller::Server;
use super::{ANNA, BORIS, command, people, text};
use crate::support::db::Database;

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_texts_are_sent_to_the_store_that_has_them_and_an_invalid_one_is_refused_at_start() {
    let (telegram, database) = (people().await, Database::fresh().await);
    telegram.link(&database, "7", ANNA, "mirror").await;
    telegram.link(&database, "8", BORIS, "mirror").await;
    let texts = std::env::temp_dir().join(format!("vestnik-own-texts-{}", std::process::id()));
    std::fs::create_dir_all(texts.join("7")).unwrap();
    std::fs::write(texts.join("en.toml"), "[button]\naccept = \"We cook it\"").unwrap();
    std::fs::write(
        texts.join("7/en.toml"),
        "[title]\norder_pending = \"<b>Cook #{number}!</b>\"",
    )
    .unwrap();
    std::fs::create_dir_all(texts.join("70")).unwrap();
    std::fs::copy(texts.join("7/en.toml"), texts.join("70/en.toml")).unwrap();
    let mut serve = command(&database, &telegram, &["serve"]);
    serve.env("VESTNIK_TELEGRAM_TEXTS", &texts);
    let server = Server::start(serve);
    server.until_log("no such store is set up").await;
    server.until_log("serving;").await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    client
        .batch_execute("insert into orders (store_id) values (8)")
        .await
        .unwrap();
    for (chat, title) in [(ANNA, "Cook #1!"), (BORIS, "🔔 New order #2")] {
        let told = telegram.until_messages(chat, 1).await.remove(0);
        assert!(told.text.starts_with(title), "{}", told.text);
        assert_eq!(told.buttons[0][0].0, "We cook it");
    }
    drop(server);
    std::fs::write(texts.join("en.toml"), "[button]\nacept = \"We cook it\"").unwrap();
    std::fs::write(texts.join("7/en.toml"), "[title]\norder_pending = \"<b>\"").unwrap();
    let refused = run_with(&database, &telegram, &texts).await;
    for problem in [
        "there is no text button.acept",
        "title.order_pending: a tag is not closed",
    ] {
        assert!(refused.contains(problem), "{refused}");
    }
    std::fs::remove_dir_all(&texts).unwrap();
}

/// Runs `serve` with a file of texts that the program must refuse, and returns its error output.
async fn run_with(
    database: &Database,
    telegram: &crate::support::telegram::Telegram,
    texts: &std::path::Path,
) -> String {
    let mut serve = command(database, telegram, &["serve"]);
    serve.env("VESTNIK_TELEGRAM_TEXTS", texts);
    let output = tokio::task::spawn_blocking(move || serve.output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    text(&output.stderr)
}
