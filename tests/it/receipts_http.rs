//! Receipts over HTTP: receipts from a panel without a WebSocket, the list of receipts, and the summary of a day.

use serde_json::{Value, json};
use tokio::time::timeout;
use vestnik::token::{self, New, Stores};

use crate::support::app::{App, PATIENCE};
use crate::support::db::{self, Database};
use crate::support::look_again;

const STORE: &str = "/api/partner/stores/7";

/// Waits until `is_so` returns true for the receipts of the store's events, and returns these receipts.
async fn until_receipts(app: &App, query: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let found = timeout(PATIENCE, async {
        loop {
            let told = app.get_json(&format!("{STORE}/receipts{query}")).await;
            if is_so(&told) {
                return told;
            }
            look_again().await;
        }
    });
    found.await.expect("the receipts are saved")
}

#[tokio::test]
async fn a_panel_that_polls_has_receipts_like_one_with_a_socket() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7), (7)").await;
    // A request without the parameter `panel` creates no receipt.
    app.get_json(&format!("{STORE}/events")).await;
    let page = app.get_json(&format!("{STORE}/events?panel=kitchen&limit=1")).await;
    let id = page["events"][0]["id"].as_str().unwrap().to_owned();
    let told = until_receipts(&app, "", |told| told["events"][0]["channels"] != json!([])).await;
    let [shown, other] = told["events"].as_array().unwrap().as_slice() else {
        panic!("two events: {told}");
    };
    assert_eq!((&shown["id"], &other["channels"]), (&json!(id), &json!([])));
    let channel = &shown["channels"][0];
    assert_eq!(
        (&channel["channel"], &channel["recipient"]),
        (&json!("polling"), &json!("kitchen"))
    );
    assert!(
        channel["sent"].is_string() && channel.get("rendered").is_none() && channel.get("sounded").is_none(),
        "{channel}"
    );

    let said = json!({"panel": "kitchen", "channel": "polling", "rendered": [id], "sounded": [id, "999999"]});
    assert_eq!(app.post(&format!("{STORE}/receipts"), &said).await.status, 204);
    let told = until_receipts(&app, "", |told| told["events"][0]["channels"][0]["sounded"].is_string()).await;
    assert!(told["events"][0]["channels"][0]["rendered"].is_string());
    assert_eq!(
        told["events"][0]["channels"].as_array().unwrap().len(),
        1,
        "both receipts are of one panel"
    );

    // This panel has no stream on this node, so its receipt is saved for the channel `polling` and not for `sse`.
    let said = json!({"panel": "bar", "channel": "sse", "rendered": [id]});
    assert_eq!(app.post(&format!("{STORE}/receipts"), &said).await.status, 204);
    let told = until_receipts(&app, "", |told| {
        told["events"][0]["channels"].as_array().unwrap().len() == 2
    })
    .await;
    let channels = told["events"][0]["channels"].as_array().unwrap();
    assert!(channels.iter().all(|channel| channel["channel"] == "polling"), "{told}");

    // A panel cannot create receipts for an event of another store.
    app.write("insert into orders (store_id) values (8)").await;
    let said = json!({"panel": "kitchen", "channel": "polling", "rendered": ["3"], "sounded": ["1"]});
    assert_eq!(app.post(&format!("{STORE}/receipts"), &said).await.status, 204);
    until_receipts(&app, "", |told| told["events"][1]["channels"][0]["sounded"].is_string()).await;
    let client = app.database.client().await;
    let foreign = client
        .query("select from vestnik.vst_receipt where event_id = 3", &[])
        .await
        .unwrap();
    assert!(foreign.is_empty());
}

#[tokio::test]
async fn a_panels_word_that_is_none_is_refused() {
    let app = App::start().await;
    let many: Vec<String> = (0..251).map(|id| id.to_string()).collect();
    let cases = [
        json!({"panel": "kitchen"}),
        json!({"channel": "polling"}),
        json!({"panel": "", "channel": "polling"}),
        json!({"panel": "x".repeat(65), "channel": "polling"}),
        json!({"panel": "a\nb", "channel": "polling"}),
        json!({"panel": "kitchen", "channel": "telegram"}),
        // The node cannot check whether this panel has ever had a WebSocket.
        json!({"panel": "kitchen", "channel": "websocket"}),
        json!({"panel": "a\u{202e}b", "channel": "polling"}),
        json!({"panel": "kitchen", "channel": "polling", "rendered": ["x"]}),
        json!({"panel": "kitchen", "channel": "polling", "rendered": [1]}),
        json!({"panel": "kitchen", "channel": "polling", "rendered": many, "sounded": many}),
        json!({"panel": "kitchen", "channel": "polling", "rings": "yes"}),
    ];
    for said in cases {
        let answer = app.post(&format!("{STORE}/receipts"), &said).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_body"), "{said}");
    }
    let ids = vec!["9".repeat(100); 400];
    let huge = json!({"panel": "kitchen", "channel": "polling", "rendered": ids});
    assert_eq!(app.post(&format!("{STORE}/receipts"), &huge).await.status, 413);
    let long = "x".repeat(65);
    for panel in ["", "%0A", long.as_str()] {
        let answer = app.ask(&format!("{STORE}/events?panel={panel}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "bad_parameter"),
            "{panel}"
        );
    }
}

/// The settings of a bot at an address where no Bot API listens. If a bot is configured, the engine runs the part that
/// sends durable messages. This part also reads which panels can ring, so the tests need it.
pub fn far_telegram() -> vestnik::infra::config::Telegram {
    vestnik::infra::config::Telegram {
        token: "1:aaaaaaaaaaaaaaaaaaaa".to_owned().into(),
        api_url: "http://127.0.0.1:9".into(),
        proxy: None,
        texts: None,
        digest_after: PATIENCE,
        digest_threshold: 10,
        deadline: std::time::Duration::from_secs(1),
        lease: std::time::Duration::from_secs(5),
    }
}

#[tokio::test]
async fn a_panel_that_polls_is_present_for_the_other_nodes() {
    let app = App::start_with(|config| config.telegram = Some(far_telegram())).await;
    let client = app.database.client().await;
    let until_present = async |present: bool| {
        let there = "exists (select from vestnik.vst_presence where store_id = '7')";
        db::until(&client, &format!("select {there} = {present}")).await;
    };
    until_present(false).await;
    for rings in [true, false] {
        let said = json!({"panel": "kitchen", "channel": "polling", "rings": rings});
        assert_eq!(app.post(&format!("{STORE}/receipts"), &said).await.status, 204);
        until_present(rings).await;
    }
}

#[tokio::test]
async fn somebody_has_seen_an_event_says_so_over_http() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7), (8)").await;
    let client = app.database.client().await;
    let token = token::create(
        &client,
        &New {
            label: Some("Касса"),
            ..New::of(&Stores::All)
        },
    )
    .await
    .unwrap();
    let list = app.get_json(&format!("{STORE}/orders")).await;
    assert_eq!(list["orders"][0]["acknowledged"], false);
    let id = list["orders"][0]["event_id"].as_str().unwrap().to_owned();
    for panel in ["?panel=kitchen", "", "?panel=kitchen"] {
        let answer = app
            .post_as(token.reveal(), &format!("{STORE}/events/{id}/ack{panel}"), &json!({}))
            .await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
    }
    assert_eq!(
        app.get_json(&format!("{STORE}/orders")).await["orders"][0]["acknowledged"],
        true
    );
    let told = app.get_json(&format!("{STORE}/receipts")).await;
    let channel = &told["events"][0]["channels"][1];
    assert_eq!(
        (&channel["recipient"], &channel["by"]),
        (&json!("kitchen"), &json!("Касса"))
    );
    assert!(
        channel["acknowledged"].is_string() && channel.get("sent").is_none(),
        "{channel}"
    );
    for id in ["2", "99", "x", "-1", "+1", "9999999999999999999999"] {
        let answer = app.post(&format!("{STORE}/events/{id}/ack"), &json!({})).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "unknown_event"), "{id}");
    }
}

fn ids(told: &Value) -> Vec<&str> {
    let events = told["events"].as_array().unwrap().iter();
    events.map(|event| event["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_became_of_events_is_found_by_order_and_time() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7), (8), (7)").await;
    app.write("update orders set status = 'preparing' where id = 1; insert into bookings (id, store_id) values (3, 7)")
        .await;
    // Order 1 has the events 1 and 4, order 2 of another store has event 2, order 3 has event 3, and booking 3 has
    // event 5.
    app.write(
        "update vestnik.vst_event set at = '2026-11-23 20:00+00'::timestamptz + id * interval '1 minute'; \
         insert into vestnik.vst_store (id) values ('7'); \
         insert into vestnik.vst_chat (telegram_id, title) values (-5, 'Кухня'); \
         insert into vestnik.vst_delivery (chat_id, store_id, event_id, urgent, state, attempts, completed_at) values (1, '7', 1, true, 'sent', 2, '2026-11-23 20:02+00'); \
         insert into vestnik.vst_escalation (event_id, store_id, subject, step, due_at, ended_at, outcome) \
             values (1, '7', 'order 1', 2, now(), '2026-11-23 20:09:00.5+00', 'answered')",
    )
    .await;
    let find = async |query: &str| app.get_json(&format!("{STORE}/receipts{query}")).await;
    let all = find("").await;
    assert_eq!((ids(&all), &all["more"]), (vec!["5", "4", "3", "1"], &json!(false)));
    assert_eq!(ids(&find("?order=1").await), ["4", "1"]);
    assert_eq!(
        ids(&find("?order=3").await),
        ["5", "3"],
        "an order and a booking of one id"
    );
    assert_eq!(ids(&find("?order=2").await), [""; 0], "an order of another store");
    assert_eq!(
        ids(&find("?from=2026-11-23T20:03:00Z&to=2026-11-23T20:05:00Z").await),
        ["4", "3"]
    );
    assert_eq!(ids(&find("?from=2026-11-23T23:04:00%2B03:00").await), ["5", "4"]);
    let page = find("?limit=3").await;
    assert_eq!((ids(&page), &page["more"]), (vec!["5", "4", "3"], &json!(true)));
    let page = find("?limit=3&before=3").await;
    assert_eq!((ids(&page), &page["more"]), (vec!["1"], &json!(false)));
    let first = &page["events"][0];
    assert_eq!(
        (&first["at"], &first["subject"]),
        (&json!("2026-11-23T20:01:00.000Z"), &json!("1"))
    );
    assert_eq!(
        first["chats"],
        json!([{"chat": "Кухня", "state": "sent", "attempts": 2, "completed": "2026-11-23T20:02:00.000Z"}])
    );
    assert_eq!(
        first["escalation"],
        json!({"step": 2, "outcome": "answered", "ended": "2026-11-23T20:09:00.500Z"})
    );
    assert_eq!(all["events"][0]["escalation"], json!({}));
    for (query, code) in [
        ("from=yesterday", "bad_parameter"),
        ("to=2026-11-23", "bad_parameter"),
        ("to=99999-01-01T00:00:00Z", "bad_parameter"),
        ("before=x", "bad_parameter"),
        ("order=%00", "bad_parameter"),
        ("limit=501", "bad_limit"),
    ] {
        let answer = app.ask(&format!("{STORE}/receipts?{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{query}");
    }
}

#[tokio::test]
async fn a_summary_counts_the_new_orders_of_its_span() {
    let app = App::start().await;
    app.write(
        "insert into orders (store_id) select 7 from generate_series(1, 8); insert into orders (store_id) values (8)",
    )
    .await;
    app.write(
        "update orders set status = 'cancelled' where id = 8; \
         update vestnik.vst_event set at = '2026-11-23 20:00+00' where id <> 7; \
         update vestnik.vst_event set at = '2026-11-24 20:00+00' where id = 7; \
         insert into vestnik.vst_receipt (event_id, channel, recipient, sent_at, rendered_at) values \
             (1, 'websocket', 's', '2026-11-23 20:00:01+00', null), (1, 'polling', 'p', '2026-11-23 20:00:02+00', null), \
             (2, 'polling', 'p', null, '2026-11-23 20:00:01+00'), (2, 'telegram', '1', '2026-11-23 20:00:09+00', null), \
             (3, 'telegram', '1', '2026-11-23 20:00:05+00', null), (3, 'webhook', 'w', '2026-11-23 20:00:01+00', null), \
             (4, 'sse', 's', '2026-11-23 20:00:05+00', null), (5, 'polling', 'http', null, null); \
         insert into vestnik.vst_token (hash) values (sha256('x')); \
         insert into vestnik.vst_acknowledgement (event_id, token_id, session, at) select e, t.id, 's', '2026-11-23 20:00+00'::timestamptz + s * interval '1 second' \
             from (values (1, 5.0), (2, 5.001), (3, 700.0)) a(e, s), vestnik.vst_token t; \
         insert into vestnik.vst_status_change (source, store_id, key, previous, status, channel, by_whom, at) values \
             (1, '7', '3', 'pending', 'preparing', 'telegram', 'Иван', '2026-11-23 20:00:30+00'), \
             (1, '7', '4', 'pending', 'rejected', 'panel', 'Иван', '2026-11-23 20:20:00+00'), \
             (2, '7', '5', 'pending', 'rejected', 'panel', 'Иван', '2026-11-23 20:01:00+00'), \
             (1, '8', '60', 'pending', 'rejected', 'panel', 'Иван', '2026-11-23 20:01:00+00'); \
         insert into vestnik.vst_escalation (event_id, store_id, subject, step, due_at) values (4, '7', '1 4', 1, now()), (5, '7', '1 5', 0, now())",
    )
    .await;
    let span = "from=2026-11-23T00:00:00Z&to=2026-11-24T00:00:00Z";
    let summary = app.get_json(&format!("{STORE}/summary?{span}")).await;
    assert_eq!(summary["orders"], 7);
    assert_eq!(
        summary["first_seen"],
        json!({"websocket": 1, "sse": 1, "polling": 1, "telegram": 1, "none": 3})
    );
    // The wait of an order ends with its acknowledgement or its answer. Orders 1 and 2 were acknowledged after 5 s;
    // orders 3 and 4 were answered after 30 s and 20 minutes.
    let waits = &summary["acknowledge_seconds"];
    let counts: Vec<_> = waits["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| (&bucket["le"], &bucket["count"]))
        .collect();
    let expected =
        [(5, 1), (15, 1), (30, 1), (60, 0), (120, 0), (300, 0), (600, 0)].map(|(le, count)| (json!(le), json!(count)));
    let expected: Vec<_> = expected.into_iter().chain([(json!(null), json!(1))]).collect();
    assert_eq!(
        counts,
        expected.iter().map(|(le, count)| (le, count)).collect::<Vec<_>>()
    );
    let seconds = |name: &str| waits[name].as_f64().unwrap();
    assert!((seconds("p50") - 17.5005).abs() < 0.01, "{}", seconds("p50"));
    assert!((seconds("p90") - 849.0).abs() < 0.01, "{}", seconds("p90"));
    assert_eq!(summary["escalated"], 1);

    let empty = app
        .get_json(&format!(
            "{STORE}/summary?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"
        ))
        .await;
    assert_eq!(
        (&empty["orders"], &empty["acknowledge_seconds"]["p50"]),
        (&json!(0), &json!(null))
    );
}

#[tokio::test]
async fn a_summary_wants_a_span_of_31_days_at_most() {
    let app = App::start().await;
    for query in [
        "",
        "?from=2026-11-23T00:00:00Z",
        "?to=2026-11-23T00:00:00Z",
        "?from=2026-11-23T00:00:00Z&to=2026-11-22T00:00:00Z",
        "?from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:01Z",
        "?from=now&to=later",
    ] {
        let answer = app.ask(&format!("{STORE}/summary{query}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "bad_parameter"),
            "{query}"
        );
    }
    let month = "?from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z";
    assert_eq!(app.ask(&format!("{STORE}/summary{month}")).await.status, 200);
}

#[tokio::test]
async fn neither_figures_nor_proof_read_the_whole_journal() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute(
            "insert into orders (store_id) select 100 + i % 50 from generate_series(1, 50000) i; \
             insert into orders (store_id) values (7), (7); analyze vestnik.vst_event",
        )
        .await
        .unwrap();
    let scans = async || {
        let scans =
            "select seq_scan, idx_scan, n_tup_ins from pg_stat_user_tables where relid = 'vestnik.vst_event'::regclass";
        let row = client.query_one(scans, &[]).await.unwrap();
        [0, 1, 2].map(|column| row.get::<_, i64>(column))
    };
    let until = async |is_so: &dyn Fn([i64; 3]) -> bool| {
        let found = timeout(PATIENCE, async {
            loop {
                let seen = scans().await;
                if is_so(seen) {
                    return seen;
                }
                look_again().await;
            }
        });
        found.await.expect("the figures come")
    };
    let filled = until(&|[_, _, inserted]| inserted >= 50_002).await;
    // With one connection for reads, one Postgres backend executes all requests, and counts their scans.
    let app = App::start_on(database, |config| config.database.read_pool_size = 1).await;
    let now = time::OffsetDateTime::now_utc();
    let wire = |at: time::OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let span = format!(
        "from={}&to={}",
        wire(now - time::Duration::days(30)),
        wire(now + time::Duration::days(1))
    );
    for _ in 0..3 {
        assert_eq!(app.get_json(&format!("{STORE}/summary?{span}")).await["orders"], 2);
        assert_eq!(ids(&app.get_json(&format!("{STORE}/receipts?{span}")).await).len(), 2);
        assert_eq!(
            ids(&app.get_json(&format!("{STORE}/receipts?order=50002")).await).len(),
            1
        );
        let list = app.get_json(&format!("{STORE}/orders")).await;
        assert_eq!(list["orders"][0]["event_id"], "50002", "{list}");
    }
    // A Postgres backend may report its last counts only when it ends, so first end all backends of the engine.
    app.engine.shut_down().await;
    let closed = "select count(*) = 0 from pg_stat_activity where datname = current_database() and application_name like 'vestnik %' \
         and pid <> pg_backend_pid()";
    db::until(&client, closed).await;
    let after = until(&|[_, by_index, _]| by_index >= filled[1] + 12).await;
    assert_eq!(after[0], filled[0], "no request has read the whole journal");
}

#[tokio::test]
async fn a_summary_says_how_long_preparation_took_and_how_many_were_late() {
    let app = App::start().await;
    app.write("insert into orders (store_id) select 7 from generate_series(1, 4)")
        .await;
    app.write(
        "update vestnik.vst_event set at = '2026-11-23 20:00+00'; \
         insert into vestnik.vst_status_change (source, store_id, key, previous, status, channel, by_whom, minutes, at) values \
             (1, '7', '1', 'pending', 'preparing', 'panel', 'A', 20, '2026-11-23 20:01:00+00'), \
             (1, '7', '1', 'preparing', 'ready', 'panel', 'A', null, '2026-11-23 20:11:00+00'), \
             (1, '7', '2', 'pending', 'preparing', 'panel', 'A', 20, '2026-11-23 20:01:00+00'), \
             (1, '7', '2', 'preparing', 'preparing', 'panel', 'A', 10, '2026-11-23 20:20:00+00'), \
             (1, '7', '2', 'preparing', 'ready', 'panel', 'A', null, '2026-11-23 20:31:00+00'), \
             (1, '7', '2', 'ready', 'completed', 'panel', 'A', null, '2026-11-23 21:31:00+00'), \
             (1, '7', '3', 'pending', 'preparing', 'panel', 'A', null, '2026-11-23 20:01:00+00'), \
             (1, '7', '3', 'preparing', 'completed', 'panel', 'A', null, '2026-11-23 20:21:00+00'), \
             (1, '7', '4', 'pending', 'preparing', 'panel', 'A', 5, '2026-11-23 20:01:00+00')",
    )
    .await;
    let span = "from=2026-11-23T00:00:00Z&to=2026-11-24T00:00:00Z";
    let summary = app.get_json(&format!("{STORE}/summary?{span}")).await;
    // The three orders were prepared in ten, thirty and twenty minutes. The second order got a new promised time, but
    // was still a minute late.
    let expected = json!({"orders": 3, "p50": 1200.0, "p90": 1680.0, "promised": 2, "late": 1});
    assert_eq!(summary["preparation_seconds"], expected);
}
