//! Events that are larger than the limit for clients. The stream sends a shortened event and continues, and the client
//! can request the whole event over HTTP.

use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::sse::Sse;

/// The default of `session.max_event_kib`, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The largest size of an event without its data, in bytes: type, ids, time and cursor.
const ENVELOPE_BYTES: usize = 1024;

/// Three orders: a small order, an order of 400 dishes with long names, and another small order.
const ORDERS: [&str; 3] = [
    "insert into orders (store_id, customer_name) values (7, 'before')",
    "insert into orders (store_id, customer_name, items) select 7, 'large', \
         (select json_agg(json_build_object('name', repeat('борщ', 50) || i, 'quantity', 1)) from generate_series(1, 400) i)",
    "insert into orders (store_id, customer_name) values (7, 'behind')",
];

fn check(events: &[Value]) {
    let names: Vec<&Value> = events.iter().map(|event| &event["data"]["customer_name"]).collect();
    assert_eq!(names, ["before", "large", "behind"]);
    let [before, large, behind] = events else {
        panic!("three events")
    };
    assert!(large.to_string().len() <= MAX_BYTES + ENVELOPE_BYTES);
    let data = &large["data"];
    assert_eq!(
        (&data["omitted"], data.get("items")),
        (&json!(["items"]), None),
        "{data}"
    );
    assert_eq!(
        data["whole"],
        format!("/api/partner/stores/7/events/{}", large["id"].as_str().unwrap())
    );
    for small in [before, behind] {
        assert_eq!(
            (small["data"].get("omitted"), &small["data"]["items"]),
            (None, &json!([]))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_event_goes_out_without_its_large_parts_and_the_cursor_moves_on() {
    let app = App::start().await;
    let mut live = app.panel("7", None).await.live().await;
    let mut many = app.until_stream("", &app.token).await.live().await;
    let mut sse = Sse::open(&app, "/api/partner/sse/7", None).await;
    let start = live.cursor.clone();
    while sse.message().await.1["type"] != "live" {}
    for order in ORDERS {
        app.write(order).await;
    }
    let (mut of_live, mut of_many, mut of_sse) = (Vec::new(), Vec::new(), Vec::new());
    for _ in ORDERS {
        of_live.push(live.event().await);
        of_many.push(many.event().await);
        of_sse.push(sse.message().await.1);
    }
    let replayed = app.panel("7", Some(&start)).await.live().await.before_live;
    let history = app
        .get_json(&format!("/api/partner/stores/7/events?after={start}"))
        .await;
    for events in [
        &of_live,
        &of_many,
        &of_sse,
        &replayed,
        history["events"].as_array().unwrap(),
    ] {
        check(events);
    }
    // A client that disconnects after the large event continues with the next event.
    let back = app
        .panel("7", replayed[1]["cursor"].as_str())
        .await
        .live()
        .await
        .before_live;
    assert_eq!(back.len(), 1);

    let whole = app.get_json(of_live[1]["data"]["whole"].as_str().unwrap()).await;
    assert_eq!(whole["data"]["items"].as_array().unwrap().len(), 400);
    let members = |event: &Value| ["type", "id", "store_id", "at"].map(|name| event[name].clone());
    assert_eq!(members(&whole), members(&of_live[1]));
    assert_eq!((whole.get("cursor"), whole["data"].get("omitted")), (None, None));
    for path in ["8/events/2", "7/events/99", "7/events/x"] {
        let (status, body) = app.get(&format!("/api/partner/stores/{path}"), Some(&app.token)).await;
        assert!(
            status == 404 && body.contains("unknown_event"),
            "{path}: {status} {body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_from_which_events_are_shortened_is_a_setting() {
    let app = App::start_with(|config| config.session.max_event_bytes = 2048).await;
    let mut live = app.panel("7", None).await.live().await;
    app.write(
        "insert into orders (store_id, customer_name, items) values (7, repeat('x', 3000), '[{\"name\": \"tea\"}]')",
    )
    .await;
    let event = live.event().await;
    assert_eq!(event["data"]["omitted"], json!(["items", "customer_name"]));
    assert_eq!(event["data"]["order_ids"], json!(["1"]));
    let whole = app.get_json(event["data"]["whole"].as_str().unwrap()).await;
    assert_eq!(whole["data"]["customer_name"].as_str().unwrap().len(), 3000);
}
