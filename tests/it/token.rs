//! Tokens: how the engine looks them up, what their holders may do, and when they end.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;
use vestnik::http::ROUTES;
use vestnik::token::{self, New, Scope, Stores, TokenId, Which};

use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::{Database, until};
use crate::support::http::call;
use crate::support::in_rounds;
use crate::support::node::Node;

const SESSION: &str = "/api/partner/session/7";

/// A node must notice a change of a token within this time. It is less than the 30 s between two periodic checks, so a
/// node that noticed the change only in a check would be too late.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// A string in the format of a token. No database has this token.
fn made_up(number: usize) -> String {
    format!("vst_{number:042}A")
}

#[tokio::test]
async fn what_was_looked_up_is_kept_for_seconds_and_a_revocation_counts_at_once() {
    let app = App::start().await;
    app.until_listening().await;
    let client = app.database.client().await;
    let token = token::create(
        &client,
        &New {
            label: Some("brief"),
            ..New::of(&Stores::All)
        },
    )
    .await
    .unwrap();
    assert_eq!(app.get(SESSION, Some(token.reveal())).await.0, 200);
    // This change sends no notification, so the node does not read the token again.
    let silently = "alter table vestnik.vst_token disable trigger user; update vestnik.vst_token set label = 'other' where label = 'brief'; \
         alter table vestnik.vst_token enable trigger user";
    client.batch_execute(silently).await.unwrap();
    client
        .batch_execute("begin; lock table vestnik.vst_token")
        .await
        .unwrap();
    assert_eq!(app.get(SESSION, Some(token.reveal())).await.0, 200);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(token::revoke(&client, &Which::Label("other".into())).await.unwrap(), 1);
    let refused = async { while app.get(SESSION, Some(token.reveal())).await.0 != 401 {} };
    timeout(NOTICED_WITHIN, refused).await.expect("before the next check");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_take_few_connections_however_many_they_are() {
    const TRIES: usize = 500;
    let app = App::start_with(|config| config.http.requests_per_address = 1000).await;
    assert_eq!(app.get(SESSION, Some(&app.token)).await.0, 200);
    let locker = app.database.client().await;
    locker
        .batch_execute("begin; lock table vestnik.vst_token")
        .await
        .unwrap();
    let tries = join_all((0..TRIES).map(|number| {
        let (token, app) = (made_up(number), &app);
        async move { app.get(SESSION, Some(&token)).await.0 }
    }));
    let meanwhile = async {
        let client = app.database.client().await;
        // The periodic check of live sessions waits for the lock, too. It reads tokens by their ids.
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
                 and query like '%hash = %'";
        until(&client, &format!("select ({waiting}) > 0")).await;
        // The server answers requests with a known token, because the unknown tokens do not use all connections to
        // Postgres.
        let mut most = 0;
        for _ in 0..3 {
            let answered = async { while app.get("/api/partner/stores/7/orders", Some(&app.token)).await.0 != 200 {} };
            timeout(PATIENCE, answered).await.expect("an answer");
            most = most.max(client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0));
        }
        locker.batch_execute("rollback").await.unwrap();
        most
    };
    let (tries, waiting) = tokio::join!(tries, meanwhile);
    assert!(waiting <= 2, "{waiting} connections");
    // A look-up that waits for the lock for too long fails with 503.
    assert!(tries.iter().all(|status| matches!(status, 401 | 503)), "{tries:?}");
    assert_eq!(app.get(SESSION, Some(&made_up(TRIES))).await.0, 401);
}

#[tokio::test]
async fn what_is_refused_is_logged_with_address_and_beginning_at_a_bounded_rate() {
    let database = Database::fresh().await;
    let node = Node::serving(&database, "http://127.0.0.1:9", &[]).await;
    let address = node.address().await;
    let bearer = "Bearer vst_Gu3ssing00000000000000000000000000000000000";
    for _ in 0..100 {
        let refused = call(address, "GET", SESSION, &[("Authorization", bearer)], None).await;
        assert_eq!(refused.status, 401);
    }
    let line = node.until_said("a token was refused").await;
    for part in ["WARN", "client=127.0.0.1", "why=\"unknown\"", "begins=\"Gu3ssi\""] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("Gu3ssin"), "no more of it than its beginning: {line}");
    let lines = node
        .log()
        .iter()
        .filter(|line| line.contains("a token was refused"))
        .count();
    assert!((10..=40).contains(&lines), "{lines} lines for 100 tries");
    let count = node.metric("vestnik_tokens_refused_total{why=\"unknown\"}").await;
    assert_eq!(count, Some(100.0));
}

#[tokio::test]
async fn each_route_takes_its_scope_and_says_so() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7)").await;
    let mut tokens = Vec::new();
    for scope in Scope::ALL {
        tokens.push((
            scope,
            app.database.token_of(Stores::These(vec!["7".into()]), scope).await,
        ));
    }
    for route in &ROUTES {
        let Some(needed) = route.scope() else { continue };
        let path = route.path.replace("{store}", "7").replace("{id}", "1");
        for (scope, token) in &tokens {
            let bearer = format!("Bearer {token}");
            let headers = [("Authorization", bearer.as_str())];
            // The response of a stream never ends. The test replaces the stream by a request that gets a response at
            // once.
            let path = path
                .replace("/sse/", "/session/")
                .replace("/stream", "/stream?types=none");
            let body = (route.method == "POST").then_some("{}");
            let answer = app.call(route.method.as_str(), &path, &headers, body).await;
            if *scope < needed {
                assert_eq!(answer.status, 403, "{} {path} with {scope:?}", route.method);
                let error = &answer.json()["error"];
                assert_eq!(
                    (&error["code"], &error["scope"]),
                    (&json!("forbidden_scope"), &json!(needed.as_str()))
                );
                assert!(error["message"].as_str().unwrap().contains(needed.as_str()), "{error}");
            } else {
                assert_ne!(answer.status, 403, "{} {path} with {scope:?}", route.method);
            }
        }
    }
}

#[tokio::test]
async fn a_screen_that_only_reads_answers_for_nothing_and_counts_as_nobody() {
    let app = App::start().await;
    let screen = app.database.token_of(Stores::All, Scope::Read).await;
    let mut panel = app.try_panel("7", None, &screen).await.unwrap().live().await;
    app.write("insert into orders (store_id) values (7)").await;
    let event = panel.event().await;
    let id = event["id"].as_str().unwrap();
    for word in [
        json!({"type": "panel", "rings": true}),
        json!({"type": "rendered", "id": id}),
        json!({"type": "sounded", "id": id}),
        json!({"type": "ack", "id": id}),
    ] {
        panel.say(&word.to_string()).await;
        let error = panel.message().await.unwrap();
        let expected = (&json!("forbidden_scope"), &json!("panel"));
        assert_eq!((&error["code"], &error["scope"]), expected, "{word}");
    }
    panel.say(r#"{"type":"ping"}"#).await;
    assert_eq!(panel.message().await.unwrap()["type"], "pong");
    let polled = app
        .get("/api/partner/stores/7/events?panel=screen", Some(&screen))
        .await;
    assert_eq!(polled.0, 200);
    // The engine saves receipts in their order. When this receipt is saved, all earlier receipts are saved as well.
    let mut other = app.panel("7", None).await.live().await;
    other.say(&json!({"type": "rendered", "id": id}).to_string()).await;
    let client = app.database.client().await;
    until(&client, "select count(*) > 0 from vestnik.vst_receipt").await;
    let words = "select count(*), (select count(*) from vestnik.vst_acknowledgement) from vestnik.vst_receipt";
    let row = client.query_one(words, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 0));
}

#[tokio::test]
async fn what_is_answered_acknowledged_and_reported_keeps_whose_token_it_was() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7), (7)").await;
    let one = app.database.token(Stores::All).await;
    let two = app.database.token(Stores::All).await;
    // The holders of both tokens use the same panel name and the same person's name.
    for (token, order) in [(&one, 1), (&two, 2)] {
        let said = json!({"panel": "kitchen", "channel": "polling", "rendered": ["1"], "sounded": ["1"]});
        let path = "/api/partner/stores/7/receipts";
        assert_eq!(app.post_as(token, path, &said).await.status, 204);
        let path = format!("/api/partner/stores/7/orders/{order}/status");
        let wish = json!({"status": "rejected", "by": "The Owner"});
        assert_eq!(app.post_as(token, &path, &wish).await.status, 200);
        let path = "/api/partner/stores/7/events/2/ack?panel=counter";
        assert_eq!(app.post_as(token, path, &json!({})).await.status, 204);
    }
    let client = app.database.client().await;
    let ids = "select array_agg(id order by id) from vestnik.vst_token where id > 1";
    let ids: Vec<i64> = client.query_one(ids, &[]).await.unwrap().get(0);
    until(
        &client,
        "select count(*) = 2 from vestnik.vst_receipt where sounded_at is not null",
    )
    .await;
    for (what, sql) in [
        (
            "answers",
            "select array_agg(token_id order by id) from vestnik.vst_status_change where by_whom = 'The Owner'",
        ),
        (
            "receipts",
            "select array_agg(token_id order by token_id) from vestnik.vst_receipt where recipient = 'kitchen' and sounded_at is not null",
        ),
        (
            "acknowledgements",
            "select array_agg(token_id order by token_id) from vestnik.vst_receipt where recipient = 'counter' and acknowledged_at is not null",
        ),
        (
            "those who acknowledged",
            "select array_agg(token_id order by token_id) from vestnik.vst_acknowledgement",
        ),
    ] {
        let kept: Vec<i64> = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(kept, ids, "{what}");
    }
    let told = app.get_json("/api/partner/stores/7/receipts").await;
    let events = told["events"].as_array().unwrap();
    let channels = events.iter().find(|event| event["id"] == "1").unwrap()["channels"]
        .as_array()
        .unwrap();
    let tokens: Vec<&Value> = channels.iter().map(|channel| &channel["token"]).collect();
    assert_eq!(tokens, [&json!(ids[0].to_string()), &json!(ids[1].to_string())]);

    // `vestnik audit --token` reports the actions of one token, and no action of the other token.
    let audit = async |more: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_vestnik"))
            .arg("audit")
            .args(more)
            .current_dir(std::env::temp_dir())
            .env("DATABASE_URL", app.database.url())
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, none) = (ids[0].to_string(), "999999");
    let did = audit(&["--token", &one, "--store", "7"]).await;
    let lines: Vec<&str> = did.lines().collect();
    assert_eq!(lines.len(), 2, "{did}");
    assert!(did.contains("pending -> rejected, as The Owner"), "{did}");
    assert!(did.contains("acknowledged event 2, as"), "{did}");
    let json = audit(&["--token", &one, "--json"]).await;
    let act: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&act["what"], &act["key"], &act["status"]),
        (&json!("status"), &json!("1"), &json!("rejected"))
    );
    assert_eq!(audit(&["--token", &one, "--store", "8"]).await.lines().count(), 1);
    assert!(audit(&["--token", none]).await.contains("has done nothing"));
}

#[tokio::test]
async fn names_that_look_like_something_else_are_refused() {
    let app = App::start().await;
    app.write("insert into orders (store_id) values (7)").await;
    for by in ["a\nb", "a\u{1b}[2Jb", "\u{202e}renwO", " "] {
        let wish = json!({"status": "preparing", "by": by});
        let answer = app.post("/api/partner/stores/7/orders/1/status", &wish).await;
        assert_eq!(answer.status, 400, "{by:?}");
    }
    let wish = json!({"status": "rejected", "by": "Ольга 🙂", "reason": "sold\u{1b}out"});
    assert_eq!(
        app.post("/api/partner/stores/7/orders/1/status", &wish).await.status,
        400
    );
    let wish = json!({"status": "rejected", "by": "Ольга 🙂", "reason": "sold\nout"});
    assert_eq!(
        app.post("/api/partner/stores/7/orders/1/status", &wish).await.status,
        200
    );
}

/// The code with which a session is closed, and the messages before it.
async fn closed(panel: &mut Panel) -> (u16, Vec<Value>) {
    let mut before = Vec::new();
    loop {
        match panel.message().await {
            Ok(message) => before.push(message),
            Err(code) => return (code, before),
        }
    }
}

async fn brief(app: &App, seconds: u64) -> String {
    let new = New {
        expires_in: Some(Duration::from_secs(seconds)),
        ..New::of(&Stores::All)
    };
    let token = token::create(&app.database.client().await, &new).await.unwrap();
    token.reveal().to_owned()
}

#[tokio::test]
async fn a_session_is_closed_within_a_second_of_its_tokens_end_however_busy_its_store_is() {
    const LIFETIME: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);
    let app = App::start().await;
    let (token, before) = in_rounds(async || {
        let began = Instant::now();
        let token = brief(&app, LIFETIME.as_secs()).await;
        let created = Instant::now();
        let mut panel = app.try_panel("7", None, &token).await.ok()?.live().await;
        let shop = app.database.client().await;
        let busy = async {
            loop {
                let order = shop.batch_execute("insert into orders (store_id) values (7)");
                order.await.unwrap();
            }
        };
        let (code, before) = tokio::select! {
            closed = closed(&mut panel) => closed,
            () = busy => unreachable!("the loop has no end"),
        };
        assert_eq!(code, 4401);
        assert!(began.elapsed() >= LIFETIME - SECOND / 10, "after {:?}", began.elapsed());
        (created.elapsed() < LIFETIME + SECOND).then_some((token, before))
    })
    .await;
    assert!(before.iter().any(|message| message["type"] == "new_order"));
    let refused = app.get(SESSION, Some(&token)).await;
    assert!(refused.0 == 401 && refused.1.contains("token_expired"), "{refused:?}");
}

#[tokio::test]
async fn a_session_that_is_warned_goes_on_with_a_new_token() {
    let app = App::start().await;
    // The session sends a warning one minute before its token ends. This token ends earlier, so the warning comes at
    // once.
    let token = brief(&app, 30).await;
    let mut panel = app.try_panel("7", None, &token).await.unwrap().live().await;
    let warned = panel.message().await.unwrap();
    assert_eq!(warned["type"], "token_expires");
    assert!((1..=30).contains(&warned["expires_in"].as_u64().unwrap()), "{warned}");

    let say = |token: &str| json!({"type": "token", "token": token}).to_string();
    let others = app.database.token(Stores::These(vec!["8".into()])).await;
    for wrong in ["nonsense", &others, "vst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        panel.say(&say(wrong)).await;
        assert_eq!(panel.message().await.unwrap()["code"], "token_refused", "{wrong}");
    }
    let good = brief(&app, 3600).await;
    panel.say(&say(&good)).await;
    let accepted = panel.message().await.unwrap();
    assert_eq!(accepted["type"], "token_accepted");
    assert!(
        (3500..=3600).contains(&accepted["expires_in"].as_u64().unwrap()),
        "{accepted}"
    );
    // The session has the new token. The revocation of the old token does not end the session, and the revocation of
    // the new token does.
    let client = app.database.client().await;
    token::revoke(&client, &Which::Id(TokenId(2))).await.unwrap();
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(panel.event().await["type"], "new_order");
    token::revoke(&client, &Which::Id(TokenId(4))).await.unwrap();
    assert_eq!(closed(&mut panel).await.0, 4503);
}

#[tokio::test]
async fn what_is_changed_in_the_tokens_row_counts_at_once() {
    let app = App::start().await;
    app.until_listening().await;
    let client = app.database.client().await;
    let cases = [
        ("delete from vestnik.vst_token where id = $1", 4503, 401),
        (
            "update vestnik.vst_token set stores = array['8'] where id = $1",
            4503,
            403,
        ),
        (
            "update vestnik.vst_token set revoked_at = now() where id = $1",
            4503,
            401,
        ),
        (
            "update vestnik.vst_token set expires_at = now() where id = $1",
            4401,
            401,
        ),
        ("update vestnik.vst_token set scope = 'read' where id = $1", 1012, 200),
        (
            "update vestnik.vst_token set expires_at = now() + interval '1 hour' where id = $1",
            1012,
            200,
        ),
    ];
    for (change, code, status) in cases {
        let token = app.database.token(Stores::These(vec!["7".into()])).await;
        let id = "select max(id) from vestnik.vst_token";
        let id: i64 = client.query_one(id, &[]).await.unwrap().get(0);
        let mut panel = app.try_panel("7", None, &token).await.unwrap().live().await;
        let mut kept = app.panel("7", None).await.live().await;
        let changed = Instant::now();
        client.execute(change, &[&id]).await.unwrap();
        assert_eq!(closed(&mut panel).await.0, code, "{change}");
        assert!(changed.elapsed() < NOTICED_WITHIN, "{change}: {:?}", changed.elapsed());
        assert_eq!(app.get(SESSION, Some(&token)).await.0, status, "{change}");
        app.write("insert into orders (store_id) values (7)").await;
        assert_eq!(kept.event().await["type"], "new_order", "{change}");
    }
}

#[tokio::test]
async fn a_token_that_ends_at_infinity_takes_no_other_with_it() {
    let app = App::start().await;
    let endless = app.database.token(Stores::All).await;
    let over = app.database.token(Stores::All).await;
    app.write(
        "update vestnik.vst_token set expires_at = 'infinity' where id = 2; \
         update vestnik.vst_token set expires_at = '-infinity' where id = 3",
    )
    .await;
    assert_eq!(app.get(SESSION, Some(&endless)).await.0, 200);
    assert_eq!(app.get(SESSION, Some(&over)).await.0, 401);
    app.try_panel("7", None, &endless).await.unwrap().live().await;
    assert_eq!(token::list(&app.database.client().await).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_list_says_what_each_token_is_for_when_it_was_used_and_its_sessions() {
    let app = App::start().await;
    let client = app.database.client().await;
    let used = app.database.token_of(Stores::All, Scope::Read).await;
    app.database.token(Stores::All).await;
    let sessions = [
        app.try_panel("7", None, &used).await.unwrap().live().await,
        app.try_panel("8", None, &used).await.unwrap().live().await,
    ];
    let listed = async |sessions: i64| {
        loop {
            let listed = token::list(&client).await.unwrap();
            if listed[1].sessions == sessions && listed[1].used.is_some() {
                return listed;
            }
        }
    };
    let now = timeout(PATIENCE, listed(2)).await.expect("its sessions");
    assert_eq!((now[1].scope, now[2].scope), (Scope::Read, Scope::Operator));
    assert!(now[2].used.is_none() && now[2].sessions == 0);
    drop(sessions);
    timeout(PATIENCE, listed(0)).await.expect("they are gone");
}

#[tokio::test]
async fn a_token_is_followed_by_another_and_lives_a_little_longer() {
    let app = App::start().await;
    app.until_listening().await;
    let mut client = app.database.client().await;
    let old = app
        .database
        .token_of(Stores::These(vec!["7".into()]), Scope::Manager)
        .await;
    let new = token::rotate(&mut client, TokenId(2), Duration::from_secs(10))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(app.get(SESSION, Some(&old)).await.0, 200);
    let (_, told) = app.get(SESSION, Some(new.reveal())).await;
    assert!(told.contains("manager"), "{told}");
    assert_eq!(app.get("/api/partner/session/8", Some(new.reveal())).await.0, 403);
    let ended = async { while app.get(SESSION, Some(&old)).await.0 != 401 {} };
    timeout(PATIENCE, ended).await.expect("its end");
    assert_eq!(app.get(SESSION, Some(new.reveal())).await.0, 200);
    assert!(
        token::rotate(&mut client, TokenId(2), Duration::ZERO)
            .await
            .unwrap()
            .is_none()
    );
}
