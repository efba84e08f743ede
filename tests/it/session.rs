//! The session of one live client: it sends first the events that the client has missed, and then each new event.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use vestnik::token::{self, New, Stores, Which};

use crate::support::app::App;

/// A ping interval that is short for a test. A session whose client is silent for three intervals is closed, so a
/// shorter interval could close a session on a busy machine.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The lifetime of a token that ends during a test. It is long enough to connect on a busy machine.
const BRIEF: Duration = Duration::from_secs(20);
/// A node must notice a revoked token within this time. It is less than the 30 s between two periodic checks, so a node
/// that noticed the revocation only in a check would be too late.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_order_written_to_postgres_is_on_its_partners_screen() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let shop = app.database.client().await;
    shop.batch_execute(
        "insert into orders (store_id, customer_name, total, order_type, items) \
         values (8, 'Пётр', 1, 'pickup', '[]'), (7, 'Иван', 50000, 'delivery', '[{\"name\": \"Пицца\"}]')",
    )
    .await
    .unwrap();
    let event = panel.event().await;
    assert_eq!(event["type"], "new_order");
    assert_eq!(event["store_id"], "7");
    assert!(event["data"]["created_at"].is_string(), "{event}");
    let data = json!({"source": "orders", "order_ids": ["2"], "order_id": "2", "number": "2", "status": "pending",
        "next": ["preparing", "rejected"], "customer_name": "Иван", "total": 50000, "currency": "RUB", "currency_digits": 2,
        "order_type": "delivery", "items": [{"name": "Пицца", "quantity": 1}], "created_at": event["data"]["created_at"]});
    assert_eq!(event["data"], data);

    app.write("update orders set status = 'preparing' where id = 2").await;
    let event = panel.event().await;
    assert_eq!(event["type"], "order_status_changed");
    let said = ["order_id", "status", "previous_status"].map(|member| &event["data"][member]);
    assert_eq!(said, ["2", "preparing", "pending"]);
}

#[tokio::test]
async fn who_comes_back_gets_exactly_what_it_missed_and_then_what_happens() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7)").await;
    let seen = panel.event().await;
    drop(panel);
    app.write("insert into orders (store_id) select 7 from generate_series(1, 450)")
        .await;
    app.write("insert into orders (store_id) values (8)").await;

    let mut panel = app.panel("7", seen["cursor"].as_str()).await.live().await;
    let replayed: Vec<&str> = panel
        .before_live
        .iter()
        .map(|event| event["data"]["order_id"].as_str().unwrap())
        .collect();
    let missed: Vec<String> = (2..=451).map(|id| id.to_string()).collect();
    assert_eq!(replayed, missed);
    assert!(
        panel
            .before_live
            .iter()
            .all(|event| event["replayed"] == true && event["store_id"] == "7")
    );

    app.write("insert into orders (store_id) values (7)").await;
    let event = panel.event().await;
    assert_eq!(
        (&event["data"]["order_id"], event.get("replayed")),
        (&json!("453"), None)
    );
}

#[tokio::test]
async fn every_cursor_on_the_way_goes_on_exactly_there() {
    let app = App::start().await;
    let start = app.panel("7", None).await.live().await.cursor;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 30)")
        .await;
    let replay = app.panel("7", Some(&start)).await.live().await.before_live;
    assert_eq!(replay.len(), 30);
    for (index, event) in replay.iter().enumerate() {
        let rest = app.panel("7", event["cursor"].as_str()).await.live().await.before_live;
        let ids: Vec<_> = rest.iter().map(|event| &event["id"]).collect();
        let expected: Vec<_> = replay[index + 1..].iter().map(|event| &event["id"]).collect();
        assert_eq!(ids, expected, "behind event {index}");
    }
}

#[tokio::test]
async fn a_long_read_is_streamed_in_order_and_every_cursor_of_it_goes_on() {
    let app = App::start_with(|config| config.session.send_queue_bytes = 64 * 1024 * 1024).await;
    let mut panel = app.panel("7", None).await.live().await;
    // The transaction has more events than one page of the journal, and half of them belong to another store.
    const ORDERS: usize = 5000;
    app.write("insert into orders (store_id) select 7 + i % 2 from generate_series(0, 9999) i")
        .await;
    let mut events = Vec::new();
    for _ in 0..ORDERS {
        events.push(panel.event().await);
    }
    let ids: Vec<u64> = events
        .iter()
        .map(|event| event["id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(ids.is_sorted() && ids.len() == ORDERS);
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(panel.event().await["id"], "10001", "no event was repeated");
    for index in [0, 700, 2500, ORDERS - 1] {
        let back = app
            .panel("7", events[index]["cursor"].as_str())
            .await
            .live()
            .await
            .before_live;
        let first: u64 = back[0]["id"].as_str().unwrap().parse().unwrap();
        // The server sends a large transaction in chunks. In a chunk, the cursor of the last event points to the end of
        // the chunk. The cursors of all other events point to its beginning, so the server may send events again.
        assert!(
            first <= ids.get(index + 1).copied().unwrap_or(10001),
            "none is missed behind event {index}"
        );
        assert_eq!(back.last().unwrap()["id"], "10001");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hand_over_from_replay_to_live_has_no_gap_and_no_repeat() {
    let app = App::start().await;
    let start = app.panel("7", None).await.live().await.cursor;
    const ORDERS: usize = 3000;
    let shop = app.database.client().await;
    let writing = tokio::spawn(async move {
        for _ in 0..ORDERS {
            shop.execute("insert into orders (store_id) values (7)", &[])
                .await
                .unwrap();
        }
    });
    // While the test writes orders, eight panels connect. Each panel must get every order once.
    let panels = (0..8).map(|_| async {
        let mut panel = app.panel("7", Some(&start)).await.live().await;
        let mut ids: Vec<u64> = Vec::new();
        let id = |event: &serde_json::Value| event["data"]["order_id"].as_str().unwrap().parse().unwrap();
        ids.extend(panel.before_live.iter().map(id));
        while ids.len() < ORDERS {
            ids.push(id(&panel.event().await));
        }
        ids
    });
    for ids in futures::future::join_all(panels).await {
        assert_eq!(ids, (1..=ORDERS as u64).collect::<Vec<_>>());
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn an_acknowledgement_is_stored_with_who_and_when() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (7), (8)").await;
    let event = panel.event().await;
    for _ in 0..2 {
        panel.acknowledge(event["id"].as_str().unwrap()).await;
        let response = panel.message().await.unwrap();
        assert_eq!(response, json!({"type": "acknowledged", "id": event["id"]}));
    }
    let row = app
        .database
        .client()
        .await
        .query_one(
            "select count(*), min(event_id), bool_and(at <= now() and session <> '') from vestnik.vst_acknowledgement",
            &[],
        )
        .await
        .unwrap();
    let stored: (i64, i64, bool) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(stored, (1, 1, true));

    panel.acknowledge("2").await;
    let error = panel.message().await.unwrap();
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("unknown_event"), &json!("2")),
        "an event of another store"
    );
}

#[tokio::test]
async fn nonsense_is_answered_with_an_error_and_the_session_goes_on() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    for nonsense in ["hello", "{}", r#"{"type":"subscribe"}"#, r#"{"type":"ack","id":"x"}"#] {
        panel.say(nonsense).await;
        let error = panel.message().await.unwrap();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!("bad_message")),
            "{nonsense}"
        );
    }
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(panel.event().await["type"], "new_order");
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code() {
    let app = App::start().await;
    let not_utf8 = Message::Frame(Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true));
    let cases = [
        (Message::binary(vec![1, 2, 3]), 1003),
        (not_utf8, 1007),
        (Message::text("x".repeat(4097)), 1009),
    ];
    for (message, code) in cases {
        let mut panel = app.panel("7", None).await.live().await;
        panel.socket.send(message).await.unwrap();
        assert_eq!(panel.message().await, Err(code));
    }
}

#[tokio::test]
async fn frames_of_every_kind_count_and_a_flood_of_them_is_closed() {
    let app = App::start().await;
    let ping = Message::Ping(Vec::new().into());
    let pong = Message::Pong(Vec::new().into());
    let begun = Message::Frame(Frame::message(Vec::new(), OpCode::Data(Data::Text), false));
    let more = Message::Frame(Frame::message(Vec::new(), OpCode::Data(Data::Continue), false));
    let text = Message::text(r#"{"type":"ping"}"#);
    for (first, next) in [(&text, &text), (&ping, &ping), (&pong, &pong), (&begun, &more)] {
        let mut panel = app.panel("7", None).await.live().await;
        panel.socket.feed(first.clone()).await.unwrap();
        let flood = (0..600).map(|_| Ok(next.clone()));
        // The server may close the socket during the flood.
        let _ = panel.socket.send_all(&mut futures::stream::iter(flood)).await;
        let code = loop {
            match panel.message().await {
                Ok(message) => assert_eq!(message["type"], "pong"),
                Err(code) => break code,
            }
        };
        assert_eq!(code, 4429, "{next:?}");
    }
}

#[tokio::test]
async fn what_is_sent_behind_the_handshake_counts_too() {
    let app = App::start().await;
    // Many empty ping frames with masks.
    let flood = [0x89, 0x80, 0, 0, 0, 0].repeat(600);
    let request = format!(
        "GET /api/partner/ws/partner/7 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        app.token
    );
    let received = app.exchange(&[request.as_bytes(), &flood].concat()).await;
    let code = 4429_u16.to_be_bytes();
    assert!(received.windows(2).any(|window| window == code), "closed with 4429");
}

#[tokio::test]
async fn no_token_takes_the_last_place_of_a_store() {
    let app = App::start_with(|config| {
        config.session.max_per_store = 4;
        config.session.max_per_token = 2;
    })
    .await;
    let leaked = app.database.token(Stores::All).await;
    let first = app.try_panel("7", None, &leaked).await.unwrap().live().await;
    let _second = app.try_panel("7", None, &leaked).await.unwrap().live().await;
    let bearer = format!("Bearer {leaked}");
    let mut third = app.raw_panel("7", &[("authorization", &bearer)]).await.unwrap();
    let close = third.next().await.unwrap().unwrap();
    // With a close code below 4500, the client reconnects later.
    assert!(matches!(close, Message::Close(Some(frame)) if u16::from(frame.code) == 4430));
    assert!(app.metric("vestnik_requests_refused_total{limit=\"sessions\"}").await >= 1.0);
    app.panel("7", None).await.live().await;
    app.try_panel("8", None, &leaked).await.unwrap().live().await;
    drop(first);
    let back = async { while app.try_panel_or_close("7", &leaked).await.is_err() {} };
    tokio::time::timeout(crate::support::app::PATIENCE, back)
        .await
        .expect("the place of the one that left");
}

#[tokio::test]
async fn a_session_is_pinged_and_gets_the_newest_cursor() {
    let app = App::start_with(|config| config.session.ping_interval = PING_INTERVAL).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) values (8)").await;
    let heartbeat = loop {
        let message = panel.message().await.unwrap();
        assert_eq!(message["type"], "heartbeat");
        let cursor = message["cursor"].as_str().unwrap().to_owned();
        let again = app
            .get_json(&format!("/api/partner/stores/8/events?after={cursor}"))
            .await;
        if again["events"] == json!([]) {
            break cursor;
        }
    };
    app.write("insert into orders (store_id) values (7)").await;
    let back = app.panel("7", Some(&heartbeat)).await.live().await;
    assert_eq!(back.before_live.len(), 1, "the cursor covers all events but the newest");
}

#[tokio::test]
async fn who_answers_no_ping_is_let_go() {
    let app = App::start_with(|config| config.session.ping_interval = Duration::from_millis(50)).await;
    // Every WebSocket library answers pings by itself. The test must not answer them, so it speaks the protocol itself.
    let request = format!(
        "GET /api/partner/ws/partner/7 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        app.token
    );
    let received = app.exchange(request.as_bytes()).await;
    let close = [
        &[0x88][..],
        &[2 + "too slow; come back with your cursor".len() as u8],
        &4408_u16.to_be_bytes(),
    ]
    .concat();
    assert!(
        received.windows(close.len()).any(|window| window == close),
        "the session is closed with 4408"
    );
}

#[tokio::test]
async fn a_subscriber_that_stops_reading_is_lagged_and_gets_all_with_its_cursor() {
    let app = App::start_with(|config| config.session.send_queue_bytes = 64 * 1024).await;
    let mut panel = app.panel("7", None).await.live().await;
    let cursor = panel.cursor.clone();
    let mut other = app.panel("7", None).await.live().await;
    // Write more data than the socket's buffers and the send queue can hold together.
    const ORDERS: usize = 400;
    for _ in 0..ORDERS / 20 {
        app.write(
            "insert into orders (store_id, items) \
             select 7, (select jsonb_agg(jsonb_build_object('name', repeat(md5(i || '-' || o), 30))) from generate_series(1, 50) i) \
             from generate_series(1, 20) o",
        )
        .await;
        // The other panel reads its messages, so its session continues.
        for _ in 0..20 {
            other.event().await;
        }
    }
    let mut received = std::collections::HashSet::new();
    let id = |event: &serde_json::Value| event["id"].as_str().unwrap().to_owned();
    let code = loop {
        match panel.message().await {
            Ok(event) => received.insert(id(&event)),
            Err(code) => break code,
        };
    };
    // The close frame (4408) waits behind the data that the client has not read. After a timeout the server closes the
    // socket without the close frame (1006).
    assert!(matches!(code, 4408 | 1006), "{code}");
    assert!(received.len() < ORDERS, "the session was closed on the way");
    let back = app.panel("7", Some(&panel.cursor)).await.live().await;
    received.extend(back.before_live.iter().map(id));
    assert_eq!(received.len(), ORDERS);
    let all = app.panel("7", Some(&cursor)).await.live().await;
    assert_eq!(all.before_live.len(), ORDERS);
}

#[tokio::test]
async fn a_revoked_token_closes_its_sessions_and_no_others() {
    let app = App::start().await;
    let client = app.database.client().await;
    let stores = Stores::These(vec!["7".into()]);
    let doomed = token::create(
        &client,
        &New {
            label: Some("doomed"),
            ..New::of(&stores)
        },
    )
    .await
    .unwrap();
    let mut closed = app.try_panel("7", None, doomed.reveal()).await.unwrap().live().await;
    let mut kept = app.panel("7", None).await.live().await;
    assert_eq!(token::revoke(&client, &Which::Label("doomed".into())).await.unwrap(), 1);
    let noticed = tokio::time::timeout(NOTICED_WITHIN, closed.message()).await;
    assert_eq!(noticed.expect("the session is closed"), Err(4503));
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(kept.event().await["type"], "new_order");
}

#[tokio::test]
async fn a_revocation_whose_notification_is_lost_is_found_by_looking() {
    // Without notifications, a node checks its sessions' tokens every second.
    let app = App::start_with(|config| config.database.notify = vestnik::infra::config::Notify::Off).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("update vestnik.vst_token set revoked_at = now()").await;
    assert_eq!(panel.message().await, Err(4503));
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let app = App::start_with(|config| config.session.ping_interval = PING_INTERVAL).await;
    let client = app.database.client().await;
    let brief = token::create(
        &client,
        &New {
            expires_in: Some(BRIEF),
            ..New::of(&Stores::All)
        },
    )
    .await
    .unwrap();
    let mut panel = app.try_panel("7", None, brief.reveal()).await.unwrap();
    let closed = async {
        loop {
            if let Err(code) = panel.message().await {
                return code;
            }
        }
    };
    let closed = tokio::time::timeout(crate::support::app::PATIENCE, closed).await;
    assert_eq!(closed.expect("the session ends"), 4401);
    // The session measures the token's lifetime from a moment before its query to Postgres, so the session ends a
    // little earlier than the token.
    let refused = async {
        loop {
            let (status, body) = app.get("/api/partner/session/7", Some(brief.reveal())).await;
            if status == 401 {
                break body;
            }
            crate::support::look_again().await;
        }
    };
    let body = tokio::time::timeout(crate::support::app::PATIENCE, refused)
        .await
        .expect("a refusal");
    assert!(body.contains("token_expired"), "{body}");
}

#[tokio::test]
async fn a_store_has_as_many_sessions_as_it_may() {
    let app = App::start_with(|config| config.session.max_per_store = 2).await;
    let first = app.panel("7", None).await.live().await;
    let _second = app.panel("7", None).await.live().await;
    let _another_stores = app.panel("8", None).await.live().await;
    let mut third = app
        .raw_panel("7", &[("authorization", &format!("Bearer {}", app.token))])
        .await
        .unwrap();
    let close = third.next().await.unwrap().unwrap();
    assert!(matches!(close, Message::Close(Some(frame)) if u16::from(frame.code) == 4430));
    drop(first);
    let back = async { while app.panel_or_close("7").await.is_err() {} };
    tokio::time::timeout(crate::support::app::PATIENCE, back)
        .await
        .expect("the place of the one that left");
}

#[tokio::test]
async fn a_shutdown_asks_every_client_to_reconnect() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let ((), said) = tokio::join!(app.engine.shut_down(), panel.message());
    assert_eq!(said, Err(1012));
}

#[tokio::test]
async fn a_cursor_that_cannot_be_honoured_is_answered_and_the_session_goes_on() {
    let app = App::start().await;
    let old = app.panel("7", None).await.live().await.cursor;
    let elsewhere = App::start().await;
    let foreign = elsewhere.panel("7", None).await.live().await.cursor;
    app.write("insert into orders (store_id) values (7)").await;
    let future = cursor_of_the_future(&old);
    app.write("update vestnik.vst_event set at = now() - interval '40 days'")
        .await;
    let pool = vestnik::infra::db::pool(&app.database.config().database).unwrap();
    vestnik::journal::trim_batch(&pool, Duration::from_secs(30 * 24 * 3600))
        .await
        .unwrap();
    let cases = [
        (old, "retention"),
        (foreign, "epoch"),
        (future, "future"),
        ("garbage!".to_owned(), "unreadable"),
    ];
    for (cursor, reason) in cases {
        let mut panel = app.panel("7", Some(&cursor)).await.live().await;
        let resync = &panel.before_live[0];
        assert_eq!(
            (&resync["type"], &resync["reason"]),
            (&json!("resync_required"), &json!(reason))
        );
        assert_eq!(panel.before_live.len(), 1);
        app.write("insert into orders (store_id) values (7)").await;
        assert_eq!(panel.event().await["type"], "new_order");
    }
}

/// Changes a cursor so that its position is after every existing transaction. The function keeps the first 10 bytes:
/// the version, the epoch and the kind. It appends a very high transaction id, and 0 as the number of missing
/// transactions.
fn cursor_of_the_future(cursor: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    bytes.truncate(10);
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn a_message_in_pieces_with_a_ping_between_them_is_understood_while_events_come() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 200)")
        .await;
    let piece =
        |text: &'static str, opcode, last| Message::Frame(Frame::message(text.as_bytes(), OpCode::Data(opcode), last));
    panel
        .socket
        .send(piece(r#"{"type":"#, Data::Text, false))
        .await
        .unwrap();
    panel.socket.send(Message::Ping("are you there".into())).await.unwrap();
    panel
        .socket
        .send(piece(r#""ping"}"#, Data::Continue, true))
        .await
        .unwrap();
    let (mut events, mut answers) = (0, Vec::new());
    while events < 200 || answers.len() < 2 {
        match panel.socket.next().await.unwrap().unwrap() {
            Message::Pong(said) => answers.push(String::from_utf8(said.to_vec()).unwrap()),
            Message::Text(text) if text.contains("\"pong\"") => answers.push(text.to_string()),
            Message::Text(text) => events += usize::from(text.contains("new_order")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, ["are you there", r#"{"type":"pong"}"#]);
}

#[tokio::test]
async fn messages_before_the_answer_to_the_handshake_are_read() {
    let app = App::start().await;
    // The client sends a masked ping message directly after the handshake, and then a close frame.
    let mut bytes = format!(
        "GET /api/partner/ws/partner/7 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        app.token
    )
    .into_bytes();
    for (head, payload) in [(0x81, r#"{"type":"ping"}"#), (0x88, "\u{3}\u{0}")] {
        bytes.extend([head, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
        bytes.extend(if head == 0x88 {
            vec![3, 0xe8]
        } else {
            payload.as_bytes().to_vec()
        });
    }
    let received = app.exchange(&bytes).await;
    let received = String::from_utf8_lossy(&received);
    assert!(received.contains(r#"{"type":"pong"}"#), "{received}");
}

#[tokio::test]
async fn connected_says_within_which_time_to_come_back() {
    let app = App::start().await;
    let bearer = format!("Bearer {}", app.token);
    let mut socket = app.raw_panel("7", &[("authorization", &bearer)]).await.unwrap();
    let Some(Ok(Message::Text(connected))) = socket.next().await else {
        panic!("connected")
    };
    let connected: serde_json::Value = serde_json::from_str(&connected).unwrap();
    let jitter = connected["reconnect_jitter_ms"].as_u64().unwrap();
    // `reconnect_jitter_ms` grows with the number of sessions on the node, and this node has one session.
    assert!((1..100).contains(&jitter), "{jitter}");
}
