//! All stores of one token: the list of these stores, and one stream for several stores.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use vestnik::infra::config::{Config, JwtKeys, ServedDatabase};
use vestnik::infra::db::Client;
use vestnik::token::{Scope, Stores};

use crate::oracle::seed;
use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::Database;
use crate::support::issuer::{Key, KeySet, believed, claims};
use crate::support::sse::Sse;

const STORES: &str = "/api/partner/stores";
const ORDER: &str = "insert into orders (store_id, customer_name) values";

fn these(stores: &[&str]) -> Stores {
    Stores::These(stores.iter().map(|store| (*store).to_owned()).collect())
}

/// All rows of the list of stores, read in pages of `limit` rows.
async fn listed(app: &App, token: &str, limit: usize) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = app.get(&format!("{STORES}?limit={limit}{after}"), Some(token)).await;
        assert_eq!(status, 200, "{page}");
        let page: Value = serde_json::from_str(&page).unwrap();
        let of_page = page["stores"].as_array().unwrap();
        assert!(of_page.len() <= limit, "{page}");
        rows.extend(of_page.iter().cloned());
        if page["more"] == false {
            assert_eq!(page.get("next_after"), None);
            return rows;
        }
        after = format!("&after={}", page["next_after"].as_str().unwrap());
    }
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_stores_that_a_token_opens_are_listed_page_by_page() {
    let app = App::start().await;
    app.write(
        "insert into orders (store_id) select 10 + i % 5 from generate_series(1, 20) i; \
         insert into vestnik.vst_store (id, name, time_zone) values ('7', 'Кафе', 'UTC'), ('8', null, 'UTC'); \
         insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) \
             select '7', day, '0:00', '0:00' from generate_series(1, 7) day; \
         insert into vestnik.vst_pause (store_id, since, until, paused_by) values \
             ('12', now(), now() + interval '1 hour', 'Кухня'), ('8', now() - interval '2 hours', now() - interval '1 hour', 'x')",
    )
    .await;
    let some = app.database.token_of(these(&["8", "7", "99"]), Scope::Panel).await;
    for limit in [1, 2, 3, 500] {
        let rows = listed(&app, &some, limit).await;
        assert_eq!(ids(&rows), ["7", "8", "99"], "{limit}");
        assert_eq!(
            rows[0],
            json!({"id": "7", "scope": "panel", "name": "Кафе", "open": true})
        );
        assert_eq!(
            rows[2],
            json!({"id": "99", "scope": "panel"}),
            "the store has no event and no settings yet"
        );
    }
    // A token of all stores lists each store that has an event, has settings, or is named by a token.
    for limit in [1, 3, 500] {
        let rows = listed(&app, &app.token, limit).await;
        let found: BTreeSet<&str> = ids(&rows).into_iter().collect();
        assert_eq!(found.len(), rows.len(), "each store is listed once");
        assert_eq!(
            found,
            BTreeSet::from(["7", "8", "99", "10", "11", "12", "13", "14"]),
            "{limit}"
        );
        let paused = rows.iter().find(|row| row["id"] == "12").unwrap();
        assert_eq!(paused["pause"]["by"], "Кухня");
        assert!(
            rows.iter().all(|row| row["id"] == "12" || row.get("pause").is_none()),
            "{rows:?}"
        );
    }
    for query in ["limit=0", "limit=501", "after=x", "after="] {
        assert_eq!(
            app.get(&format!("{STORES}?{query}"), Some(&app.token)).await.0,
            400,
            "{query}"
        );
    }
    assert_eq!(app.get(STORES, None).await.0, 401);
}

#[tokio::test]
async fn a_revoked_token_lists_nothing() {
    let app = App::start().await;
    let token = app.database.token(these(&["7"])).await;
    assert_eq!(app.get(STORES, Some(&token)).await.0, 200);
    app.until_listening().await;
    app.write("update vestnik.vst_token set revoked_at = now() where stores = array['7']")
        .await;
    let revoked = async { while app.get(STORES, Some(&token)).await.0 != 401 {} };
    tokio::time::timeout(crate::support::app::PATIENCE, revoked)
        .await
        .expect("401");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_of_two_thousand_stores_needs_one_socket() {
    const ALL: usize = 2000;
    let app = App::start().await;
    let mut stream = app.until_stream("?stores=*", &app.token).await.live().await;
    let insert = format!("insert into orders (store_id) select i from generate_series(1, {ALL}) i");
    app.write(&insert).await;
    let (mut stores, mut cursor) = (BTreeSet::new(), String::new());
    for number in 1..=ALL {
        let event = stream.event().await;
        stores.insert(event["store_id"].as_str().unwrap().to_owned());
        if number == ALL / 2 {
            cursor = event["cursor"].as_str().unwrap().to_owned();
        }
    }
    assert_eq!(stores.len(), ALL);
    assert_eq!(listed(&app, &app.token, 500).await.len(), ALL);
    // Another stream with the cursor of the middle event gets exactly the events after this cursor.
    let query = format!("?stores=*&after={cursor}");
    let mut again = app.until_stream(&query, &app.token).await;
    for _ in 0..ALL / 2 {
        assert!(stores.remove(again.event().await["store_id"].as_str().unwrap()));
    }
    assert_eq!(stores.len(), ALL / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_has_the_events_of_many_stores_and_of_no_other() {
    let app = App::start().await;
    let mut some = app.until_stream("?stores=7,8", &app.token).await.live().await;
    let mut new = app
        .until_stream("?stores=7,8,9&types=new_order", &app.token)
        .await
        .live()
        .await;
    let narrow = app.database.token(these(&["8", "9"])).await;
    let mut own = app.until_stream("?stores=*", &narrow).await.live().await;
    let mut all = app.until_stream("", &app.token).await.live().await;
    app.write(&format!("{ORDER} (7, 'a'), (8, 'b'), (9, 'c'), (10, 'd')"))
        .await;
    app.write("update orders set status = 'preparing' where store_id in (7, 9)")
        .await;
    app.write(&format!("{ORDER} (9, 'last'), (8, 'last')")).await;
    let expected = [
        (
            &mut some,
            vec!["7 new_order", "8 new_order", "7 order_status_changed", "8 new_order"],
        ),
        (
            &mut new,
            vec![
                "7 new_order",
                "8 new_order",
                "9 new_order",
                "9 new_order",
                "8 new_order",
            ],
        ),
        (
            &mut own,
            vec![
                "8 new_order",
                "9 new_order",
                "9 order_status_changed",
                "9 new_order",
                "8 new_order",
            ],
        ),
        (
            &mut all,
            vec!["7 new_order", "8 new_order", "9 new_order", "10 new_order"],
        ),
    ];
    for (stream, expected) in expected {
        for event in expected {
            let told = stream.event().await;
            let told = format!(
                "{} {}",
                told["store_id"].as_str().unwrap(),
                told["type"].as_str().unwrap()
            );
            assert_eq!(told, event);
        }
    }
    // A client that reconnects gets the missed events from the journal.
    let start = app.until_stream("?stores=7,8", &app.token).await.live().await.cursor;
    app.write(&format!("{ORDER} (9, 'missed'), (8, 'missed'), (7, 'missed')"))
        .await;
    let back = app
        .until_stream(&format!("?stores=7,8&types=new_order&after={start}"), &app.token)
        .await;
    let missed: Vec<_> = back
        .live()
        .await
        .before_live
        .iter()
        .map(|event| event["store_id"].clone())
        .collect();
    assert_eq!(missed, ["8", "7"]);
}

/// Writes orders in overlapping transactions. Some transactions write for one store, and some for several stores.
async fn write_at_random(clients: Vec<Client>, mut random: Rng, transactions: usize) {
    let mut within = vec![false; clients.len()];
    for _ in 0..transactions {
        let index = random.usize(..clients.len());
        let rows: Vec<String> = (0..random.usize(1..5))
            .map(|_| format!("({})", random.u8(1..7)))
            .collect();
        let insert = format!("insert into orders (store_id) values {}", rows.join(", "));
        let sql = match (within[index], random.u8(..4)) {
            (false, 0) => format!("begin; {insert}"),
            (false, _) => insert,
            (true, 0) => format!("{insert}; rollback"),
            (true, _) => format!("{insert}; commit"),
        };
        within[index] = sql.starts_with("begin");
        clients[index].batch_execute(&sql).await.unwrap();
    }
    for client in &clients {
        client.batch_execute("commit").await.unwrap();
    }
    // The last transaction writes one order for each store. When a client has received these orders, it has received
    // all events.
    let last = "insert into orders (store_id, customer_name) select i, 'last' from generate_series(1, 6) i";
    clients[0].batch_execute(last).await.unwrap();
}

/// Collects the events, replayed and live, until the last order of each of `stores` stores has arrived.
async fn until_last(panel: &mut Panel, stores: usize) -> Vec<Value> {
    let mut events = std::mem::take(&mut panel.before_live);
    events.retain(|message| message.get("data").is_some());
    let is_last = |event: &&Value| event["data"]["customer_name"] == "last";
    while events.iter().filter(is_last).count() < stores {
        events.push(panel.event().await);
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cursor_of_many_stores_hands_over_without_gap_or_repeat_and_goes_on_from_every_event() {
    let app = App::start().await;
    let start = app.until_stream("", &app.token).await.live().await.cursor;
    let mut random = Rng::with_seed(seed());
    let clients = futures::future::join_all((0..3).map(|_| app.database.client())).await;
    let writing = tokio::spawn(write_at_random(clients, random.fork(), 300));
    // The streams connect while the writers write orders.
    let selections = [("*", 6), ("1,2,3", 3), ("4", 1), ("2,5,6", 3), ("*", 6)];
    let streams = selections.map(|(stores, count)| {
        let (app, start) = (&app, &start);
        async move {
            let query = format!("?stores={stores}&after={start}");
            let mut stream = app.until_stream(&query, &app.token).await.live().await;
            (stores, until_last(&mut stream, count).await)
        }
    });
    let told = futures::future::join_all(streams).await;
    writing.await.unwrap();
    let rows = app.database.client().await;
    for (stores, events) in &told {
        let of = match *stores {
            "*" => "true".to_owned(),
            stores => format!("store_id in ({stores})"),
        };
        let sql = format!("select id::text from orders where {of} order by orders.id");
        let expected: BTreeSet<String> = rows
            .query(&sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let ids: Vec<&str> = events
            .iter()
            .map(|event| event["data"]["order_id"].as_str().unwrap())
            .collect();
        let distinct: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(distinct.len(), ids.len(), "{stores}: nothing twice");
        assert_eq!(distinct, expected, "{stores}: nothing is missing");
        // Reconnect with the cursor of a random event. The server must then send every event that is later than this
        // event.
        for _ in 0..4 {
            let index = random.usize(..events.len());
            let query = format!("?stores={stores}&after={}", events[index]["cursor"].as_str().unwrap());
            let back = app.until_stream(&query, &app.token).await.live().await;
            let rest: BTreeSet<_> = back.before_live.iter().map(|event| event["id"].as_str()).collect();
            let lost = events[index + 1..]
                .iter()
                .find(|event| !rest.contains(&event["id"].as_str()));
            assert!(lost.is_none(), "{stores}: {lost:?} is lost behind event {index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_without_events_still_moves_its_cursor() {
    let app = App::start_with(|config| config.session.ping_interval = std::time::Duration::from_secs(1)).await;
    let mut quiet = app
        .until_stream("?stores=7&types=order_cancelled", &app.token)
        .await
        .live()
        .await;
    let before = quiet.cursor.clone();
    app.write("insert into orders (store_id) values (7), (8)").await;
    let moved = timeout(PATIENCE, async {
        while quiet.cursor == before {
            let message = quiet.message().await.unwrap();
            assert_eq!(message["type"], "heartbeat", "{message}");
        }
    });
    moved.await.expect("a newer cursor");
    // The cursor also advances during a replay. If a page of the journal contains no selected event, the session sends
    // a heartbeat with a newer cursor.
    app.write("insert into orders (store_id) select 7 from generate_series(1, 4500)")
        .await;
    let query = format!("?stores=7&types=order_cancelled&after={before}");
    let back = app.until_stream(&query, &app.token).await.live().await;
    let kinds: Vec<_> = back.before_live.iter().map(|message| message["type"].clone()).collect();
    assert_eq!(kinds, ["heartbeat", "heartbeat"]);
    let cursors: BTreeSet<&str> = back
        .before_live
        .iter()
        .map(|message| message["cursor"].as_str().unwrap())
        .collect();
    assert_eq!(cursors.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_many_stores_comes_over_server_sent_events_too() {
    let app = App::start().await;
    let path = "/api/partner/stream?stores=7,8&types=new_order";
    let mut sse = Sse::open(&app, path, None).await;
    assert_eq!(sse.message().await.1["type"], "connected");
    let (cursor, live) = sse.message().await;
    assert_eq!(live["type"], "live");
    app.write(&format!("{ORDER} (9, 'x'), (8, 'y'), (7, 'z')")).await;
    let (first, second) = (sse.message().await, sse.message().await);
    assert_eq!(
        (&first.1["store_id"], &second.1["store_id"]),
        (&json!("8"), &json!("7"))
    );
    drop(sse);
    let mut back = Sse::open(&app, path, cursor.as_deref()).await;
    assert_eq!(back.message().await.1["type"], "connected");
    let (id, again) = back.message().await;
    assert_eq!((&again["id"], &again["replayed"]), (&first.1["id"], &json!(true)));
    let mut rest = Sse::open(&app, path, id.as_deref()).await;
    assert_eq!(rest.message().await.1["type"], "connected");
    assert_eq!(rest.message().await.1["id"], second.1["id"]);
}

#[tokio::test]
async fn an_acknowledgement_over_a_stream_of_many_stores_names_the_store() {
    let app = App::start().await;
    let mut stream = app.until_stream("?stores=7,8", &app.token).await.live().await;
    stream.say(r#"{"type":"panel","rings":true}"#).await;
    app.write("insert into orders (store_id) values (8), (9)").await;
    let id = stream.event().await["id"].clone();
    let attended = "select count(*) from vestnik.vst_presence";
    for (message, code) in [
        (json!({"type": "ack", "id": id}), "bad_message"),
        (json!({"type": "ack", "id": id, "store_id": "7"}), "unknown_event"),
        (json!({"type": "ack", "id": "2", "store_id": "9"}), "unknown_event"),
        (json!({"type": "rendered", "id": id}), "bad_message"),
    ] {
        stream.say(&message.to_string()).await;
        let error = stream.message().await.unwrap();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!(code)),
            "{message}"
        );
    }
    stream
        .say(&json!({"type": "rendered", "id": id, "store_id": "8"}).to_string())
        .await;
    stream
        .say(&json!({"type": "ack", "id": id, "store_id": "8"}).to_string())
        .await;
    assert_eq!(
        stream.message().await.unwrap(),
        json!({"type": "acknowledged", "id": id})
    );
    let reached = "select count(*) = 1 from vestnik.vst_receipt where event_id = 1 and channel = 'websocket' \
         and sent_at is not null and rendered_at is not null and acknowledged_at is not null";
    app.database.until(reached).await;
    let present: i64 = app
        .database
        .client()
        .await
        .query_one(attended, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(
        present, 0,
        "a stream of many stores counts as no presence in any of them"
    );
}

/// The close code with which a stream ends.
async fn closed(stream: &mut Panel) -> u16 {
    loop {
        if let Err(code) = stream.message().await {
            return code;
        }
    }
}

#[tokio::test]
async fn a_token_that_is_narrowed_ends_its_streams_and_no_others() {
    let app = App::start().await;
    app.until_listening().await;
    let client = app.database.client().await;
    let cases = [
        ("stores=7,8", "stores = array['8']", 4503),
        ("stores=7", "stores = array['7', '9']", 0),
        // The stream has all stores of the token. When these stores change, the server closes the stream with 1012.
        // Then the client reconnects, and the new stream has the new stores.
        ("stores=*", "stores = array['8']", 1012),
        ("stores=*", "stores = null", 1012),
        ("stores=*", "revoked_at = now()", 4503),
        ("stores=7", "expires_at = now()", 4401),
        ("stores=7,8", "scope = 'read'", 1012),
    ];
    for (query, change, code) in cases {
        let token = app.database.token(these(&["7", "8"])).await;
        let mut stream = app.until_stream(&format!("?{query}"), &token).await.live().await;
        let mut kept = app.until_stream("?stores=7,8", &app.token).await.live().await;
        let sql = format!("update vestnik.vst_token set {change} where id = (select max(id) from vestnik.vst_token)");
        client.batch_execute(&sql).await.unwrap();
        if code != 0 {
            assert_eq!(closed(&mut stream).await, code, "{query}: {change}");
        }
        app.write("insert into orders (store_id) values (7)").await;
        assert_eq!(kept.event().await["type"], "new_order", "{query}: {change}");
        if code == 0 {
            assert_eq!(stream.event().await["type"], "new_order", "{query}: {change}");
        }
    }
}

/// The HTTP status and error code with which a stream is refused.
async fn refusal(app: &App, query: &str, token: &str) -> (u16, String) {
    match app.stream(query, token).await {
        Err(Error::Http(response)) => {
            let body: Value = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
            (
                response.status().as_u16(),
                body["error"]["code"].as_str().unwrap().to_owned(),
            )
        }
        other => panic!("{query}: no refusal: {:?}", other.map(|_| ())),
    }
}

#[tokio::test]
async fn a_stream_of_many_stores_is_refused_for_the_right_reason() {
    let app = App::start_with(|config| config.session.max_per_token = 2).await;
    let token = app.database.token(these(&["7", "8"])).await;
    for (query, status, code) in [
        ("?stores=7,9", 403, "forbidden_store"),
        ("?stores=7,,8", 400, "bad_store"),
        ("?stores=", 400, "bad_store"),
        ("?types=new_ship", 400, "bad_parameter"),
        ("?types=", 400, "bad_parameter"),
        ("?database=two", 400, "bad_parameter"),
        (&format!("?stores={token}"), 400, "token_in_url"),
    ] {
        assert_eq!(refusal(&app, query, &token).await, (status, code.to_owned()), "{query}");
    }
    assert_eq!(
        refusal(&app, "", "vst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
            .await
            .0,
        401
    );
    let (one, two) = (
        app.until_stream("", &token).await,
        app.until_stream("?stores=7", &token).await,
    );
    assert!(
        matches!(app.stream("?stores=8", &token).await, Err(Error::ConnectionClosed)),
        "4430"
    );
    assert_eq!(app.get("/api/partner/stream", Some(&token)).await.0, 429);
    // The limit of streams is separate for each token, and does not apply to sessions of a single store.
    app.until_stream("", &app.token).await;
    app.try_panel("7", None, &token).await.unwrap();
    drop((one, two));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_of_all_databases_and_a_stream_is_of_one() {
    let (first, second) = (Database::fresh().await, Database::fresh().await);
    let key = Key::ed25519();
    let set = KeySet::serve(&[key.public("ed")]).await;
    let served = |name: &str, database: &Database, stores: Option<BTreeSet<String>>| ServedDatabase {
        name: name.into(),
        database: database.config().database,
        stores,
        telegram: None,
    };
    let databases = vec![
        served("one", &first, Some(BTreeSet::from(["1".to_owned(), "2".to_owned()]))),
        served("two", &second, None),
    ];
    let second_token = second.token(Stores::All).await;
    let keys: JwtKeys = set.url();
    let app = App::start_on(first, |config: &mut Config| {
        config.databases = databases;
        config.jwt = believed(keys);
    })
    .await;
    app.engine.until_fresh().await;
    let shop = second.client().await;
    shop.batch_execute(&format!("{ORDER} (1, 'not here'), (3, 'a'), (4, 'b')"))
        .await
        .unwrap();
    let named = |rows: &[Value]| -> Vec<String> {
        let name = |row: &Value| format!("{}/{}", row["database"].as_str().unwrap(), row["id"].as_str().unwrap());
        rows.iter().map(name).collect()
    };
    let jwt = |stores: Value| {
        let mut claims = claims(3600);
        claims["stores"] = stores;
        key.issue("ed", &claims)
    };
    for limit in [1, 2, 100] {
        assert_eq!(
            named(&listed(&app, &app.token, limit).await),
            ["one/1", "one/2"],
            "{limit}"
        );
        assert_eq!(
            named(&listed(&app, &second_token, limit).await),
            ["two/3", "two/4"],
            "{limit}"
        );
        let all = listed(&app, &jwt(json!("*")), limit).await;
        assert_eq!(named(&all), ["one/1", "one/2", "two/3", "two/4"], "{limit}");
        let some = listed(&app, &jwt(json!(["4", "2", "nowhere"])), limit).await;
        assert_eq!(named(&some), ["one/2", "two/4"], "{limit}");
    }
    let all = jwt(json!("*"));
    assert_eq!(
        refusal(&app, "", &all).await,
        (400, "bad_parameter".to_owned()),
        "which one?"
    );
    assert_eq!(
        refusal(&app, "?stores=1,3", &all).await,
        (400, "bad_parameter".to_owned())
    );
    assert_eq!(
        refusal(&app, "?stores=nowhere", &all).await,
        (404, "unknown_store".to_owned())
    );
    assert_eq!(
        refusal(&app, "?stores=3", &app.token).await,
        (403, "forbidden_store".to_owned())
    );
    let mut two = app.until_stream("?database=two", &all).await.live().await;
    let mut three = app.until_stream("?stores=3", &all).await.live().await;
    let mut own = app.until_stream("", &second_token).await.live().await;
    app.write(&format!("{ORDER} (1, 'elsewhere'), (3, 'elsewhere')")).await;
    shop.batch_execute(&format!("{ORDER} (1, 'not here'), (4, 'c'), (3, 'd')"))
        .await
        .unwrap();
    for stream in [&mut two, &mut own] {
        assert_eq!(stream.event().await["data"]["customer_name"], "c");
        assert_eq!(stream.event().await["data"]["customer_name"], "d");
    }
    assert_eq!(three.event().await["data"]["customer_name"], "d");
    // A cursor is valid only for its database.
    let other = app
        .until_stream(&format!("?database=one&after={}", two.cursor), &all)
        .await
        .live()
        .await;
    assert_eq!(other.before_live[0]["reason"], "epoch");
}
