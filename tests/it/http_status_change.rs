//! Changing an order's status over HTTP: the permitted changes, conflicts between clients, and requests that a foreign
//! site forges.

use serde_json::{Value, json};
use vestnik::token::{self, New, Stores};

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::http::{self, Answer};
use crate::support::node::Node;
use crate::support::telegram::Telegram;
use crate::support::{LOCK_LIMIT, in_rounds, within};

type Headers<'a> = &'a [(&'a str, &'a str)];

const ORDER: &str = "/api/partner/stores/7/orders/1/status";

async fn with_order() -> App {
    let app = App::start().await;
    app.write("insert into orders (store_id, order_type) values (7, 'pickup'), (8, 'pickup')")
        .await;
    app
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn an_order_that_is_late_gets_a_new_promise_and_all_are_notified() {
    let app = with_order().await;
    app.post(ORDER, &json!({"status": "preparing", "minutes": 20})).await;
    let mut panel = app.panel("7", None).await.live().await;
    let again = json!({"status": "preparing", "from": "preparing", "minutes": 35, "by": "Кухня"});
    let answer = app.post(ORDER, &again).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["previous_status"], "preparing");
    let event = loop {
        let event = panel.event().await;
        if event["type"] == "order_changed" {
            break event;
        }
    };
    let data = &event["data"];
    assert_eq!(
        (
            &data["changed"],
            &data["promised_minutes"],
            &data["by"],
            &data["status"]
        ),
        (
            &json!(["promised_minutes"]),
            &json!(35),
            &json!("Кухня"),
            &json!("preparing")
        )
    );
    let order = &app.get_json("/api/partner/stores/7/orders").await["orders"][0];
    assert_eq!(
        (&order["promised_minutes"], &order["answer"]["minutes"]),
        (&json!(35), &json!(35))
    );
    // A second client that accepts the order gets a conflict. The engine does not save the second client's promised
    // time.
    for second in [
        json!({"status": "preparing", "minutes": 10}),
        json!({"status": "preparing", "from": "pending", "minutes": 10}),
    ] {
        assert_eq!(
            refused(&app.post(ORDER, &second).await),
            (409, "status_conflict".into())
        );
    }
    // The order can still return to the status that it had before it was accepted.
    assert_eq!(
        app.post(ORDER, &json!({"status": "pending", "from": "preparing"}))
            .await
            .status,
        200
    );
    assert_eq!(refused(&app.post(ORDER, &again).await), (409, "status_conflict".into()));
}

#[tokio::test]
async fn accepting_changes_the_order_and_the_event_comes_back() {
    let app = with_order().await;
    let mut panel = app.panel("7", None).await.live().await;
    let accept = json!({"status": "preparing", "minutes": 25, "by": "Кухня"});
    let answer = app.post(ORDER, &accept).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({"source": "orders", "id": "1", "status": "preparing", "previous_status": "pending"})
    );
    // The feed may read the order only after the panel has connected, so skip the event `new_order`.
    let event = loop {
        let event = panel.event().await;
        if event["type"] != "new_order" {
            break event;
        }
    };
    assert_eq!(
        (&event["type"], &event["data"]["status"]),
        (&json!("order_status_changed"), &json!("preparing"))
    );

    let order = &app.get_json("/api/partner/stores/7/orders").await["orders"][0];
    assert_eq!(order["next"], json!(["ready", "rejected"]));
    let said = &order["answer"];
    assert_eq!(
        (&said["by"], &said["status"], &said["minutes"]),
        (&json!("Кухня"), &json!("preparing"), &json!(25))
    );
    assert!(said["at"].as_str().unwrap().ends_with('Z'));

    let again = app.post(ORDER, &json!({"status": "preparing"})).await;
    assert_eq!(refused(&again), (409, "status_conflict".into()));
    let error = &again.json()["error"];
    assert_eq!((&error["status"], &error["by"]), (&json!("preparing"), &json!("Кухня")));
}

#[tokio::test]
async fn a_rejection_has_its_reason_and_the_name_of_the_token() {
    let app = with_order().await;
    let client = app.database.client().await;
    let token = token::create(
        &client,
        &New {
            label: Some("Касса 1"),
            ..New::of(&Stores::All)
        },
    )
    .await
    .unwrap();
    let reject = json!({"status": "rejected", "reason": "Нет борща"});
    assert_eq!(app.post_as(token.reveal(), ORDER, &reject).await.status, 200);
    let list = app.get_json("/api/partner/stores/7/orders?status=rejected").await;
    let order = &list["orders"][0];
    assert_eq!(
        (&order["reason"], &order["answer"]["by"]),
        (&json!("Нет борща"), &json!("Касса 1"))
    );
    assert!(order["answer"].get("minutes").is_none());
    let late = app.post(ORDER, &json!({"status": "preparing"})).await;
    assert_eq!(
        late.json()["error"]["status"],
        "rejected",
        "an ended order does not change"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_exactly_one_is_first() {
    let press = |number: usize| {
        let status = if number.is_multiple_of(2) {
            "preparing"
        } else {
            "rejected"
        };
        json!({"status": status, "from": "pending", "by": format!("panel {number}")})
    };
    let presses: Vec<Value> = (0..12).map(press).collect();
    let (app, answers) = in_rounds(async || {
        let app = with_order().await;
        let all = futures::future::join_all(presses.iter().map(|press| app.post(ORDER, press)));
        let answers = within(LOCK_LIMIT, all).await?;
        Some((app, answers))
    })
    .await;
    let (first, others): (Vec<_>, Vec<_>) = presses
        .iter()
        .zip(&answers)
        .partition(|(_, answer)| answer.status == 200);
    let [(first, _)] = first.as_slice() else {
        panic!("{} were first", first.len());
    };
    for (_, answer) in others {
        assert_eq!(refused(answer), (409, "status_conflict".into()));
        let error = &answer.json()["error"];
        assert_eq!((&error["status"], &error["by"]), (&first["status"], &first["by"]));
    }
    let client = app.database.client().await;
    let kept = client
        .query("select by_whom from vestnik.vst_status_change", &[])
        .await
        .unwrap();
    assert_eq!(kept.len(), 1, "only one change is saved");
}

#[tokio::test]
async fn only_what_is_allowed_from_where_it_stands_is_done() {
    let app = App::start().await;
    app.write("insert into orders (store_id, order_type) values (7, 'delivery'), (7, 'pickup'); insert into bookings (store_id) values (7)")
        .await;
    let ways = [
        (
            "orders/1",
            ["ready", "delivering", "completed"].as_slice(),
            "pending",
            409,
        ),
        ("orders/1", &["cancelled", "pending"], "pending", 409),
        ("orders/1", &["preparing", "ready"], "", 200),
        ("orders/1", &["completed"], "ready", 409),
        ("orders/1", &["delivering", "completed"], "", 200),
        ("orders/2", &["preparing", "ready"], "", 200),
        ("orders/2", &["delivering"], "ready", 409),
        ("orders/2", &["completed"], "", 200),
        ("bookings/1", &["delivering", "ready"], "pending", 409),
        ("bookings/1", &["preparing", "completed"], "", 200),
    ];
    for (row, statuses, stands, expected) in ways {
        for status in statuses {
            let path = format!("/api/partner/stores/7/{row}/status");
            let answer = app.post(&path, &json!({"status": status})).await;
            assert_eq!(answer.status, expected, "{row} {status}");
            if expected == 409 {
                assert_eq!(answer.json()["error"]["status"], stands, "{row} {status}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_order_of_this_store_is_not_found() {
    let app = with_order().await;
    let accept = json!({"status": "preparing"});
    for id in [
        "2",
        "99",
        "x",
        "007",
        "01",
        "%201",
        "1.0",
        "9999999999999999999999",
        "%00",
        "%FF",
        "1%27--",
    ] {
        let answer = app
            .post(&format!("/api/partner/stores/7/orders/{id}/status"), &accept)
            .await;
        assert_eq!(refused(&answer), (404, "unknown_order".into()), "{id}");
    }
    let booking = app.post("/api/partner/stores/7/bookings/1/status", &accept).await;
    assert_eq!(refused(&booking), (404, "unknown_order".into()));
    let token = app.database.token(Stores::These(vec!["8".into()])).await;
    assert_eq!(
        refused(&app.post_as(&token, ORDER, &accept).await),
        (403, "forbidden_store".into())
    );
    assert_eq!(
        app.get_json("/api/partner/stores/7/orders").await["orders"][0]["status"],
        "pending"
    );
}

#[tokio::test]
async fn a_body_that_is_none_changes_nothing() {
    let app = with_order().await;
    let long = "x".repeat(501);
    let cases = [
        (json!({"status": "eaten"}), "bad_status"),
        (json!({"status": "preparing", "from": "eaten"}), "bad_status"),
        (json!({}), "bad_body"),
        (json!([]), "bad_body"),
        (json!({"status": 1}), "bad_body"),
        (json!({"status": "preparing", "minutes": 0}), "bad_body"),
        (json!({"status": "preparing", "minutes": 601}), "bad_body"),
        (json!({"status": "preparing", "minutes": 1.5}), "bad_body"),
        (json!({"status": "preparing", "minutes": "5"}), "bad_body"),
        (json!({"status": "rejected", "reason": long}), "bad_body"),
        (json!({"status": "rejected", "reason": "a\u{0}b"}), "bad_body"),
        (json!({"status": "preparing", "by": ""}), "bad_body"),
        (json!({"status": "preparing", "minuts": 5}), "bad_body"),
        (json!({"status": "preparing", "by": "x".repeat(61)}), "bad_body"),
    ];
    for (body, code) in cases {
        let answer = app.post(ORDER, &body).await;
        assert_eq!(refused(&answer), (400, code.into()), "{body}");
    }
    let bearer = format!("Bearer {}", app.token);
    let authorized = [("Authorization", bearer.as_str())];
    for body in [None, Some(""), Some("status=preparing"), Some("{\"status\":")] {
        let answer = app.call("POST", ORDER, &authorized, body).await;
        assert_eq!(refused(&answer), (400, "bad_body".into()), "{body:?}");
    }
    let huge = json!({"status": "preparing", "x": "x".repeat(4096)}).to_string();
    let answer = app.call("POST", ORDER, &authorized, Some(&huge)).await;
    assert_eq!(refused(&answer), (413, "body_too_large".into()));
    // Send the body `huge` in chunks, without a `Content-Length`.
    let chunk = format!("{:x}\r\n{huge}\r\n0\r\n\r\n", huge.len());
    let request = format!(
        "POST {ORDER} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: {bearer}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    );
    assert_eq!(app.request(&request).await.0, 413);
    assert_eq!(
        app.get_json("/api/partner/stores/7/orders").await["orders"][0]["status"],
        "pending"
    );
    let most = json!({"status": "rejected", "reason": "я".repeat(500), "by": "ё".repeat(60), "minutes": 600});
    assert_eq!(app.post(ORDER, &most).await.status, 200);
}

#[tokio::test]
async fn a_refusal_of_the_shops_own_table_has_an_error_of_its_own() {
    let app = with_order().await;
    app.write("alter table orders add constraint short_reason check (length(reason) < 10)")
        .await;
    let answer = app
        .post(ORDER, &json!({"status": "rejected", "reason": "much too long"}))
        .await;
    assert_eq!(refused(&answer), (422, "status_refused".into()));
    let text = String::from_utf8(answer.body).unwrap();
    assert!(!text.contains("short_reason"), "nothing internal is shown: {text}");
    app.write(
        "alter table orders drop constraint short_reason; alter table orders alter column reason type varchar(5)",
    )
    .await;
    let answer = app
        .post(ORDER, &json!({"status": "rejected", "reason": "too long"}))
        .await;
    assert_eq!(refused(&answer), (422, "status_refused".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_shops_application_holds_has_an_error_of_its_own_and_a_log_line() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let purchase = "create table purchase (id int primary key, shop int, state text); insert into purchase values (1, 7, 'new'); \
        insert into orders (store_id, order_type) values (7, 'pickup')";
    client.batch_execute(purchase).await.unwrap();
    database
        .attach(
            "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
             status = \"case o.state when 'new' then 'pending' else 'preparing' end\"\n\
             [answer]\npreparing = \"update purchase set state = 'ok' where id = $1::int and state = 'new'\"\n",
        )
        .await;
    let telegram = Telegram::start().await;
    let node = Node::serving(&database, &telegram.url(), &[]).await;
    database
        .until("select not exists (select from vestnik.vst_change) and exists (select from vestnik.vst_projection_3)")
        .await;
    let holds = "begin; select from orders for update; select from purchase for update";
    client.batch_execute(holds).await.unwrap();
    let bearer = format!("Bearer {}", database.token(Stores::All).await);
    let address = node.address().await;
    let accept = async |source: &str| {
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", source),
        ];
        let body = json!({"status": "preparing", "source": source}).to_string();
        http::call(address, "POST", ORDER, &headers, Some(&body)).await
    };
    let (of_table, of_statements) = tokio::join!(accept("orders"), accept("purchase"));
    for (answer, source) in [(of_table, "orders"), (of_statements, "purchase")] {
        assert_eq!(refused(&answer), (503, "order_locked".into()), "{source}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        let text = answer.text();
        assert!(
            text.contains("the shop's application holds this order just now"),
            "{text}"
        );
    }
    for source in ["orders", "purchase"] {
        let line = node.until_said(&format!("source=\"{source}\" order=\"1\"")).await;
        assert!(
            line.contains("another transaction holds the lock on the order's row"),
            "{line}"
        );
    }
    client.batch_execute("commit").await.unwrap();
    for source in ["orders", "purchase"] {
        assert_eq!(accept(source).await.status, 200, "the same key is free: {source}");
    }
}

#[tokio::test]
async fn nothing_can_be_forged_across_sites() {
    let app = with_order().await;
    let bearer = format!("Bearer {}", app.token);
    let cookie = format!("token={0}; vestnik={0}; Authorization=Bearer {0}", app.token);
    let protocol = format!("vestnik.v1, bearer.{}", app.token);
    let form = format!("status=preparing&token={}&access_token={}", app.token, app.token);
    let accept = json!({"status": "preparing"}).to_string();
    let forged: [(Headers<'_>, &str, u16); 6] = [
        (&[("Cookie", &cookie)], &accept, 401),
        (
            &[
                ("Cookie", &cookie),
                ("Content-Type", "application/x-www-form-urlencoded"),
            ],
            &form,
            401,
        ),
        (&[("Content-Type", "text/plain")], &accept, 401),
        (&[("Sec-WebSocket-Protocol", &protocol)], &accept, 401),
        (
            &[("Authorization", &bearer), ("Origin", "https://evil.example")],
            &accept,
            403,
        ),
        (&[("Authorization", &bearer), ("Origin", "null")], &accept, 403),
    ];
    for (headers, body, status) in forged {
        let answer = app.call("POST", ORDER, headers, Some(body)).await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert_eq!(answer.header("set-cookie"), None);
        // A page of a refused origin can read the response that refuses the page, and no other response.
        let origin = headers
            .iter()
            .find(|(name, _)| *name == "Origin")
            .map(|(_, origin)| *origin);
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert!(origin.is_none() || answer.code() == "forbidden_origin");
    }
    assert_eq!(
        app.get_json("/api/partner/stores/7/orders").await["orders"][0]["status"],
        "pending"
    );
    let own = [("Authorization", bearer.as_str()), ("Origin", "http://test")];
    assert_eq!(app.call("POST", ORDER, &own, Some(&accept)).await.status, 200);
}
