//! Receipts: how an event has reached a person, and how `vestnik audit` reports this.

use std::process::{Command, Output};

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use vestnik::domain::event::{EventId, StoreId};
use vestnik::infra::db;
use vestnik::receipts::writer::{self, Channel, Receipt, ReceiptKind};
use vestnik::token::{self, New, Stores, TokenId};

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::telegram::Telegram;

/// Runs `vestnik audit` for a store.
async fn audit(database: &Database, store: &str, from: &str, to: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(["audit", "--store", store, "--from", from, "--to", to])
        .args(more)
        .current_dir(std::env::temp_dir())
        .env("DATABASE_URL", database.url())
        .env_remove("VESTNIK_TELEGRAM_TOKEN");
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The times one hour ago and one hour from now, with their zone.
fn around_now() -> (String, String) {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let hour = |hours| {
        (OffsetDateTime::now_utc() + time::Duration::hours(hours))
            .format(&format)
            .unwrap()
    };
    (hour(-1), hour(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_tells_who_was_reached_and_who_answered() {
    let telegram = Telegram::start().await;
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    telegram.add_group(-12, "Kitchen", &[]);
    telegram.link(&app.database, "7", -12, "mirror").await;
    let client = app.database.client().await;
    let token = token::create(
        &client,
        &New {
            label: Some("Anna's tablet"),
            ..New::of(&Stores::All)
        },
    )
    .await
    .unwrap();
    let mut panel = app.try_panel("7", None, token.reveal()).await.unwrap().live().await;
    panel.say(&json!({"type": "panel", "rings": true}).to_string()).await;
    panel.say(&json!({"type": "ping"}).to_string()).await;
    assert_eq!(panel.message().await.unwrap()["type"], "pong");
    app.write("insert into orders (store_id) values (7), (8)").await;
    let order = panel.event().await;
    for what in ["rendered", "sounded", "ack"] {
        panel.say(&json!({"type": what, "id": order["id"]}).to_string()).await;
    }
    let message = telegram.until_messages(-12, 1).await[0].message.unwrap();
    telegram.push_press(
        -12,
        77,
        message,
        &format!("s:{}:preparing", order["id"].as_str().unwrap()),
    );
    telegram
        .until_call("an answer", |call| call.method == "answerCallbackQuery")
        .await;
    const ALL: &str = "select count(*) filter (where channel = 'websocket' and sent_at is not null and rendered_at is not null \
             and sounded_at is not null and acknowledged_by = 'Anna''s tablet' and acknowledged_at is not null) = 1 \
         and count(*) filter (where channel = 'telegram' and recipient = '-12' and sent_at is not null \
             and acknowledged_by = 'Person77') = 1 from vestnik.vst_receipt where event_id = (select min(id) from vestnik.vst_event)";
    app.database.until(ALL).await;
    app.database
        .until("select bool_and(state = 'sent') and count(*) = 2 from vestnik.vst_delivery")
        .await;

    let (from, to) = around_now();
    let output = audit(&app.database, "7", &from, &to, &["--json"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines.len(),
        2,
        "the order and its change, and nothing of store 8: {lines:?}"
    );
    let event = &lines[0];
    assert_eq!(
        (&event["id"], &event["type"], &event["subject"], &event["status"]),
        (&order["id"], &json!("new_order"), &json!("1"), &json!("pending"))
    );
    let channels = event["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 2, "{channels:?}");
    assert_eq!(
        (&channels[0]["channel"], &channels[0]["by"]),
        (&json!("telegram"), &json!("Person77"))
    );
    assert_eq!(
        (&channels[1]["channel"], &channels[1]["by"]),
        (&json!("websocket"), &json!("Anna's tablet"))
    );
    for part in ["sent", "rendered", "sounded", "acknowledged"] {
        assert_eq!(
            channels[1][part].as_str().map(str::len),
            Some(23),
            "{part} of {}",
            channels[1]
        );
    }
    assert_eq!(
        (&event["chats"][0]["chat"], &event["chats"][0]["state"]),
        (&json!("Kitchen"), &json!("sent"))
    );
    assert_eq!(event["escalation"]["step"], 0);

    let table = text(&audit(&app.database, "7", &from, &to, &[]).await.stdout);
    for part in [
        "new_order",
        "order_status_changed",
        "by Anna's tablet",
        "by Person77",
        "chat Kitchen",
        "sent after 1 attempts",
        "escalation: step 0, answered",
    ] {
        assert!(table.contains(part), "{part} in {table}");
    }
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_says_what_is_wrong_with_its_times_and_where_there_is_nothing() {
    let database = Database::fresh().await;
    for wrong in [
        "soon",
        "25:61",
        "2026-13-45 10:00",
        "2026-11-24T19:00:00+99",
        "2026-11-24 19:00 Mars/Phobos",
    ] {
        let output = audit(&database, "7", wrong, "20:00", &[]).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {said}");
        assert!(
            said.contains("a time looks like 19:00") && output.stdout.is_empty(),
            "{wrong}: {said}"
        );
    }
    for store in ["7", "no such store"] {
        let output = audit(&database, store, "19:00", "19:20", &[]).await;
        let said = text(&output.stdout);
        assert!(
            output.status.success() && said.contains("had no events between 19:00 and 19:20"),
            "{said}"
        );
        let output = audit(&database, store, "19:00", "19:20", &["--json"]).await;
        assert!(output.status.success() && output.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_its_span_in_a_long_journal_by_the_stores_clock() {
    let database = Database::fresh().await;
    let client = database.client().await;
    // Insert two days of events, one event a minute. Some events are out of order, as after a change of the clock.
    client
        .batch_execute(
            "insert into vestnik.vst_store (id, time_zone) values ('7', 'Asia/Tokyo'); \
             insert into vestnik.vst_event (source, store_id, key, type, at, data) \
             select (select id from vestnik.vst_source where name = 'orders'), case when i % 2 = 0 then '7' else '8' end, i, 'insert', \
                 date_trunc('day', now() at time zone 'Asia/Tokyo') at time zone 'Asia/Tokyo' - interval '1 day' \
                     + i * interval '1 min' - case when i % 100 = 0 then interval '5 min' else '0' end, \
                 json_build_object('id', i, 'status', 'pending') from generate_series(0, 2879) i",
        )
        .await
        .unwrap();
    let find = |from: &'static str, to: &'static str| {
        let database = &database;
        async move {
            let output = audit(database, "7", from, to, &["--json"]).await;
            let lines = text(&output.stdout);
            let read = |line: &str| {
                serde_json::from_str::<Value>(line).unwrap()["subject"]
                    .as_str()
                    .unwrap()
                    .parse::<i64>()
                    .unwrap()
            };
            lines.lines().map(read).collect::<Vec<_>>()
        }
    };
    // The number of an event is its minute since the beginning of yesterday. So the event of 19:00 today has the number
    // 1440 + 1140 = 2580. The time of event 2600 is five minutes earlier than its number says. Events with an odd
    // number belong to the other store.
    assert_eq!(find("19:00", "19:10").await, [2580, 2582, 2584, 2586, 2588]);
    assert_eq!(find("19:14", "19:16").await, [2594, 2600]);
    // A span across midnight includes events of yesterday.
    assert_eq!(find("23:56", "00:04").await, [1436, 1438, 1440, 1442]);
    let all = find("2000-01-01 00:00", "2100-01-01 00:00").await;
    assert_eq!((all.len(), all.is_sorted()), (1440, true), "over several pages");
}

#[tokio::test]
async fn the_first_word_of_a_kind_counts_and_another_stores_event_is_not_believed() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7), (8)")
        .await
        .unwrap();
    let pool = db::pool(&database.config().database).unwrap();
    let (recorder, receipt_writer) = writer::recorder();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(receipt_writer.run(pool.clone(), database.sources().await, stop.clone()));
    let now = OffsetDateTime::now_utc();
    let word = |event: i64, channel, recipient: &str, what, seconds: i64| Receipt {
        store: StoreId::new("7"),
        event: EventId(event),
        channel,
        token: TokenId(1),
        recipient: recipient.into(),
        what,
        at: now + time::Duration::seconds(seconds),
    };
    for channel in [Channel::WebSocket, Channel::Sse, Channel::Polling] {
        recorder.record(word(1, channel, "a", ReceiptKind::Sent, 5));
        recorder.record(word(1, channel, "a", ReceiptKind::Sent, 3));
        recorder.record(word(1, channel, "a", ReceiptKind::Sounded, 9));
        recorder.record(word(2, channel, "a", ReceiptKind::Sent, 1));
        recorder.record(word(999, channel, "a", ReceiptKind::Sent, 1));
    }
    database.until("select count(*) = 3 from vestnik.vst_receipt").await;
    recorder.record(word(1, Channel::Sse, "a", ReceiptKind::Sounded, 20));
    recorder.record(word(1, Channel::Sse, "a", ReceiptKind::Rendered, 7));
    recorder.record(word(1, Channel::Sse, "b", ReceiptKind::Sent, 8));
    // A shutdown saves the receipts that have arrived before it.
    stop.cancel();
    keeping.await.unwrap();
    let rows = client
        .query(
            "select channel, recipient, sent_at, rendered_at, sounded_at from vestnik.vst_receipt order by 1, 2",
            &[],
        )
        .await
        .unwrap();
    let read = |row: &tokio_postgres::Row, column| {
        row.get::<_, Option<OffsetDateTime>>(column)
            .map(|at| (at - now).as_seconds_f64().round())
    };
    let rows: Vec<(String, String, _, _, _)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), read(row, 2), read(row, 3), read(row, 4)))
        .collect();
    let row = |channel: &str, who: &str, sent, rendered, sounded| {
        (channel.to_owned(), who.to_owned(), sent, rendered, sounded)
    };
    let expected = [
        row("polling", "a", Some(3.0), None, Some(9.0)),
        row("sse", "a", Some(3.0), Some(7.0), Some(9.0)),
        row("sse", "b", Some(8.0), None, None),
        row("websocket", "a", Some(3.0), None, Some(9.0)),
    ];
    assert_eq!(rows, expected);
}
