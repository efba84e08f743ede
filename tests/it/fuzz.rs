//! Fuzz tests for every input of the engine. If the engine cannot read an input, only that input fails: the error
//! reveals nothing internal, and the engine continues. The inputs are the files of `tests/corpus` with random changes.
//! Each test prints its seed; to repeat a failed run, set `VESTNIK_FUZZ_SEED` to the seed. `VESTNIK_FUZZ_SECONDS` sets
//! how long each test runs.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::SinkExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use vestnik::infra::config;
use vestnik::sources::mapping::Mapping;

use crate::support::app::{App, PATIENCE};
use crate::support::corpus::Corpus;
use crate::support::issuer::{Key, KeySet, believed, claims};
use crate::support::telegram::Telegram;

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02x}");
        text
    })
}

/// Asserts that a panel still gets a new order, which proves that the earlier inputs have not stopped the engine.
async fn assert_well(app: &App) {
    let mut panel = app.panel("7", None).await;
    app.write("insert into orders (store_id, customer_name) values (7, 'Still here')")
        .await;
    loop {
        let message = panel.message().await.expect("an event");
        if message["type"] == "new_order" && message["data"]["customer_name"] == "Still here" {
            return;
        }
    }
}

/// Asserts that an error response reveals nothing internal of the program.
fn assert_is_for_clients(status: u16, body: &str, input: &str) {
    assert!(status < 500, "{status} for {input:?}: {body}");
    for inside in ["panicked", "src/", "SQLSTATE", "vestnik.vst_", "relation \"", "tokio"] {
        assert!(
            !body.contains(inside) || input.contains(inside),
            "{inside} for {input:?}: {body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_message_of_a_client_is_answered_or_ends_only_its_own_session() {
    let app = App::start().await;
    let mut corpus = Corpus::of("client_messages");
    let mut over = false;
    while !over {
        let mut panel = app.panel("7", None).await;
        let mut sent = Vec::new();
        while sent.len() < 40 && !over {
            match corpus.text() {
                Some(text) => sent.push(text),
                None => over = true,
            }
        }
        for text in &sent {
            // The engine may have closed the session already. The loop below reads the messages that the engine sent
            // before.
            let _ = panel.socket.send(Message::text(text.clone())).await;
        }
        let _ = panel.socket.send(Message::text(r#"{"type":"ping"}"#)).await;
        loop {
            match panel.message().await {
                Ok(message) if message["type"] == "pong" => break,
                Ok(message) => assert_is_for_clients(200, &message.to_string(), &format!("{sent:?}")),
                Err(code) => {
                    assert!([1006, 1009, 4401, 4403].contains(&code), "{code} for {sent:?}");
                    break;
                }
            }
        }
    }
    assert_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_cursor_in_an_address_is_read_or_refused() {
    let app = App::start_with(|config| config.http.requests_per_token = 100_000).await;
    app.write("insert into orders (store_id) values (7)").await;
    let cursor = app.get_json("/api/partner/stores/7/events").await["cursor"].clone();
    let mut corpus = Corpus::of("cursors");
    corpus.inputs.push(cursor.as_str().unwrap().as_bytes().to_vec());
    for input in corpus {
        let after = escaped(&input);
        let (status, body) = app
            .get(&format!("/api/partner/stores/7/events?after={after}"), Some(&app.token))
            .await;
        assert_is_for_clients(status, &body, &String::from_utf8_lossy(&input));
        assert!([200, 400, 410, 431].contains(&status), "{status} for {after}: {body}");
    }
    assert_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_head_gets_an_answer_or_a_closed_socket() {
    let app = App::start_with(|config| config.http.requests_per_address = 100_000).await;
    for input in Corpus::of("heads") {
        let mut socket = TcpStream::connect(app.engine.address()).await.unwrap();
        let (mut read, mut write) = socket.split();
        let mut answer = Vec::new();
        // The server may answer and close the connection before it has read the whole input.
        let _ = write.write_all(&input).await;
        let _ = write.shutdown().await;
        let ended = timeout(PATIENCE, read.read_to_end(&mut answer)).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(ended.is_ok(), "no end for {:?}", String::from_utf8_lossy(&input));
        if !answer.is_empty() {
            let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
            let status = status.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
            assert_is_for_clients(status, &text, &String::from_utf8_lossy(&input));
        }
    }
    assert_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_jwt_opens_a_store() {
    let key = Key::ed25519();
    let set = KeySet::serve(&[key.public("ed")]).await;
    let app = App::start_with(|config| {
        config.jwt = believed(set.url());
        config.http.requests_per_address = 100_000;
    })
    .await;
    let jwt = key.issue("ed", &claims(3600));
    timeout(PATIENCE, async {
        while app.get("/api/partner/session/7", Some(&jwt)).await.0 != 200 {
            crate::support::look_again().await;
        }
    })
    .await
    .expect("the issuer's keys are known");
    let parts: Vec<&str> = jwt.split('.').collect();
    let mut corpus = Corpus::of("jwts");
    while let Some(input) = corpus.next() {
        let part = URL_SAFE_NO_PAD.encode(&input);
        let changed = match corpus.random.u8(..4) {
            0 => format!("{part}.{}.{}", parts[1], parts[2]),
            1 => format!("{}.{part}.{}", parts[0], parts[2]),
            2 => format!("{}.{}.{part}", parts[0], parts[1]),
            _ => format!("{part}.{part}."),
        };
        if changed == jwt {
            continue;
        }
        let (status, body) = app.get("/api/partner/session/7", Some(&changed)).await;
        assert_is_for_clients(status, &body, &changed);
        assert!([401, 429, 431].contains(&status), "{status} for {changed}: {body}");
    }
    assert_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_notification_of_anybody_stops_no_event() {
    let app = App::start().await;
    app.until_listening().await;
    let client = app.database.client().await;
    let mut corpus = Corpus::of("notifications");
    while let Some(text) = corpus.text() {
        let payload: String = text.chars().filter(|letter| *letter != '\0').take(1500).collect();
        let channel = *corpus.random.choice(&["vestnik", "vestnik_token"]).unwrap();
        client
            .execute("select pg_notify($1, $2)", &[&channel, &payload])
            .await
            .unwrap();
    }
    assert_well(&app).await;
}

#[test]
fn any_text_as_a_mapping_is_read_or_refused_with_a_reason() {
    let mut corpus = Corpus::of("mappings");
    while let Some(text) = corpus.text() {
        if let Err(error) = Mapping::from_toml(&text) {
            assert!(!error.to_string().is_empty(), "no reason for {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_row_is_listed_and_costs_no_other() {
    let app = App::start().await;
    let client = app.database.client().await;
    let mut corpus = Corpus::of("rows");
    let mut written = 0;
    while let Some(text) = corpus.text() {
        let text = text.replace('\0', "");
        const ITEMS: &str = "insert into orders (store_id, items) select 8, $1::text::json";
        const NAME: &str = "insert into orders (store_id, customer_name) select 8, $1";
        // Postgres refuses a text that is not JSON in the column `items`; the test then writes the text into the column
        // of the customer's name.
        written += match client.execute(ITEMS, &[&text]).await {
            Ok(count) => count,
            Err(_) => client.execute(NAME, &[&text]).await.unwrap(),
        };
    }
    let page = format!("/api/partner/stores/8/orders?limit={}", written.min(200));
    let orders = app.get_json(&page).await;
    assert_eq!(
        orders["orders"].as_array().map(Vec::len),
        Some(written.min(200) as usize)
    );
    assert_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_update_of_telegram_stops_none_behind_it() {
    const ANNA: i64 = 11;
    /// The test pushes at most this number of updates before it waits until the bot has handled them.
    const AT_ONCE: usize = 100;
    let handled = |last: i64| {
        format!("select next_update > {last} and not exists (select from vestnik.vst_bot_update) from vestnik.vst_bot")
    };
    let (telegram, database) = Telegram::with_chat(ANNA).await;
    let settings = telegram.settings();
    let app = App::start_on(database, |config| config.telegram = Some(settings)).await;
    app.write("insert into orders (store_id) values (7)").await;
    telegram.until_messages(ANNA, 1).await;
    let mut corpus = Corpus::of("telegram_updates");
    let mut pushed = 0;
    while let Some(text) = corpus.text() {
        let Ok(update) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        if update.is_object() {
            telegram.push(update);
            pushed += 1;
            if pushed % AT_ONCE == 0 {
                let last = telegram.write(ANNA, ANNA, "/help");
                app.database.until(&handled(last)).await;
            }
        }
    }
    assert!(pushed > 0, "no update was JSON");
    let last = telegram.write(ANNA, ANNA, "/help");
    app.database.until(&handled(last)).await;
    assert_well(&app).await;
    app.engine.shut_down().await;
}

#[test]
fn any_settings_file_is_read_or_refused_with_the_names_of_its_settings() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vestnik.toml");
    for input in Corpus::of("settings") {
        std::fs::write(&file, &input).unwrap();
        let sources = config::Sources {
            file: Some(file.clone()),
            ..config::Sources::default()
        };
        if let Err(problems) = config::load(&sources) {
            assert!(!problems.0.is_empty());
            for problem in problems.0 {
                assert!(!problem.allowed.is_empty(), "{problem:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_body_of_a_status_change_is_read_or_refused() {
    let app = App::start_with(|config| config.http.requests_per_token = 100_000).await;
    app.write("insert into orders (store_id) values (7)").await;
    for input in Corpus::of("status_changes") {
        let head = format!(
            "POST /api/partner/stores/7/orders/1/status HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            app.token,
            input.len()
        );
        let answer = app.exchange(&[head.as_bytes(), &input].concat()).await;
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        assert_is_for_clients(status, &text, &String::from_utf8_lossy(&input));
    }
    assert_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_path_is_refused_as_one_with_a_path_is() {
    let app = App::start().await;
    let (status, body) = app
        .request("CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(status, 405, "{body}");
}
