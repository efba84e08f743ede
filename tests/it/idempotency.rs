//! The engine executes a POST with an `Idempotency-Key` once, even if the client repeats the POST. A node or a
//! connection may end between two attempts.

use serde_json::{Value, json};
use tokio::net::TcpStream;
use vestnik::infra::db::Client;
use vestnik::token::Stores;

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::hook::{self, Hook};
use crate::support::http::{Answer, begin};
use crate::support::{LOCK_LIMIT, in_rounds, within};

const STATUS: &str = "/api/partner/stores/7/orders/1/status";

async fn with_order() -> App {
    let app = App::start().await;
    app.write("insert into orders (store_id, order_type) values (7, 'pickup'), (8, 'pickup')")
        .await;
    app
}

/// The headers of a POST with an idempotency key.
fn headers<'a>(bearer: &'a str, key: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("Authorization", bearer),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", key),
    ]
}

async fn send_as(app: &App, token: &str, key: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    app.call("POST", path, &headers(&bearer, key), Some(&body.to_string()))
        .await
}

async fn send(app: &App, key: &str, body: &Value) -> Answer {
    send_as(app, &app.token, key, STATUS, body).await
}

/// The status and the error code of an error response.
fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

async fn number(app: &App, sql: &str) -> i64 {
    app.database.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn changes(app: &App) -> i64 {
    number(app, "select count(*) from vestnik.vst_status_change").await
}

fn accept() -> Value {
    json!({"status": "preparing", "from": "pending", "by": "Кухня"})
}

#[tokio::test]
async fn a_repetition_gets_the_first_answer_and_changes_nothing() {
    let app = with_order().await;
    let first = send(&app, "k1", &accept()).await;
    assert_eq!((first.status, is_replayed(&first)), (200, false), "{}", first.text());
    assert_eq!(app.post(STATUS, &json!({"status": "ready"})).await.status, 200);
    for key in ["k1", "\"k1\""] {
        let again = send(&app, key, &accept()).await;
        assert_eq!((again.status, is_replayed(&again)), (200, true));
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("content-type"), Some("application/json"));
    }
    let order = &app.get_json("/api/partner/stores/7/orders").await["orders"][0];
    assert_eq!((&order["status"], changes(&app).await), (&json!("ready"), 2));

    // The engine also saves an error response, and repeats it.
    let late = send(&app, "k2", &accept()).await;
    assert_eq!(refused(&late), (409, "status_conflict".into()));
    app.write("update orders set status = 'pending'").await;
    let again = send(&app, "k2", &accept()).await;
    assert_eq!((again.status, again.body), (409, late.body));
}

#[tokio::test]
async fn an_acknowledgement_is_repeated_without_a_body() {
    let app = with_order().await;
    let path = "/api/partner/stores/7/events/1/ack";
    for replayed in [false, true] {
        let answer = send_as(&app, &app.token, "k1", path, &json!({})).await;
        assert_eq!(
            (answer.status, is_replayed(&answer)),
            (204, replayed),
            "{}",
            answer.text()
        );
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn a_key_of_another_request_is_refused_and_each_token_and_store_has_its_own_keys() {
    let app = with_order().await;
    assert_eq!(send(&app, "k1", &accept()).await.status, 200);
    let other_body = json!({"status": "rejected"});
    let reused = (422, "idempotency_key_reused".to_owned());
    assert_eq!(refused(&send(&app, "k1", &other_body).await), reused);
    for path in [
        "/api/partner/stores/7/orders/2/status",
        "/api/partner/stores/7/bookings/1/status",
        "/api/partner/stores/7/events/1/ack",
    ] {
        let answer = send_as(&app, &app.token, "k1", path, &accept()).await;
        assert_eq!(refused(&answer), reused, "{path}");
    }
    assert_eq!(changes(&app).await, 1);

    let elsewhere = "/api/partner/stores/8/orders/2/status";
    assert_eq!(send_as(&app, &app.token, "k1", elsewhere, &accept()).await.status, 200);
    let other = app.database.token(Stores::All).await;
    let answer = send_as(&app, &other, "k1", STATUS, &accept()).await;
    assert_eq!(refused(&answer), (409, "status_conflict".into()));
}

/// Locks the shop's table, and sends a POST that waits for this lock. Returns the connection that holds the lock, and
/// the socket of the POST.
async fn first_behind_a_lock(app: &App) -> (Client, TcpStream) {
    let held = app.database.client().await;
    held.batch_execute("begin; lock table orders in access exclusive mode")
        .await
        .unwrap();
    let bearer = format!("Bearer {}", app.token);
    let (server, body) = (app.engine.address(), accept().to_string());
    let first = begin(server, "POST", STATUS, &headers(&bearer, "k1"), Some(&body)).await;
    (held, first)
}

#[tokio::test]
async fn a_repetition_is_told_to_wait_while_the_first_request_is_under_way() {
    // The first request waits for the lock for only a few seconds.
    let (app, first, second, other_body) = in_rounds(async || {
        let app = with_order().await;
        let (first, second, other_body) = within(LOCK_LIMIT, async {
            let (held, first) = first_behind_a_lock(&app).await;
            app.database
                .until("select exists (select from vestnik.vst_idempotent_request where status is null)")
                .await;
            let second = send(&app, "k1", &accept()).await;
            let other_body = send(&app, "k1", &json!({"status": "rejected"})).await;
            held.batch_execute("rollback").await.unwrap();
            (Answer::read(first).await, second, other_body)
        })
        .await?;
        Some((app, first, second, other_body))
    })
    .await;
    assert_eq!(refused(&second), (409, "idempotency_key_in_use".into()));
    assert_eq!(second.header("retry-after"), Some("1"));
    assert_eq!(refused(&other_body), (422, "idempotency_key_reused".into()));
    assert_eq!(first.status, 200, "{}", first.text());
    let third = send(&app, "k1", &accept()).await;
    assert_eq!((third.status, is_replayed(&third), third.body), (200, true, first.body));
}

#[tokio::test]
async fn a_client_that_is_gone_before_the_answer_gets_it_with_its_repetition() {
    let app = in_rounds(async || {
        let app = with_order().await;
        within(LOCK_LIMIT, async {
            let (held, gone) = first_behind_a_lock(&app).await;
            app.database
                .until("select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')")
                .await;
            drop(gone);
            held.batch_execute("rollback").await.unwrap();
        })
        .await?;
        Some(app)
    })
    .await;
    app.database
        .until("select exists (select from vestnik.vst_idempotent_request where status = 200)")
        .await;
    let answer = send(&app, "k1", &accept()).await;
    assert_eq!((answer.status, is_replayed(&answer)), (200, true));
}

#[tokio::test]
async fn another_node_gives_the_same_answer() {
    let app = with_order().await;
    let other = App::start_on(Database::at(app.database.url().to_owned().into()), |_| ()).await;
    let first = send(&app, "k1", &accept()).await;
    let again = send_as(&other, &app.token, "k1", STATUS, &accept()).await;
    assert_eq!((again.status, is_replayed(&again), again.body), (200, true, first.body));
}

#[tokio::test]
async fn a_node_that_ended_before_it_saved_the_answer_makes_no_change_twice() {
    let app = with_order().await;
    let first = send(&app, "k1", &accept()).await;
    // Simulate that a node has ended after it committed the change and before it saved the response.
    app.write("update vestnik.vst_idempotent_request set status = null, body = null, until = now() - interval '1 s'")
        .await;
    let again = send(&app, "k1", &accept()).await;
    assert_eq!((again.status, is_replayed(&again)), (200, false), "{}", again.text());
    assert_eq!((again.body, changes(&app).await), (first.body, 1));
    assert!(is_replayed(&send(&app, "k1", &accept()).await));
}

#[tokio::test]
async fn a_failure_is_not_kept_and_a_request_that_was_not_begun_leaves_its_key_free() {
    let app = App::start_with(|config| {
        config.webhook.allow_private = true;
        config.answers.secrets = vec!["0123456789abcdef".to_owned().into()];
    })
    .await;
    let mut hook = Hook::start(&[503, 503, 503].map(hook::Answer::Status)).await;
    let mapping = format!(
        "table = 'public.orders'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n\
         status = {{ column = 'status', pending = ['pending'] }}\nanswer = {{ url = '{}' }}",
        hook.url()
    );
    app.database.attach(&mapping).await;
    app.write("insert into orders (store_id, order_type) values (7, 'pickup')")
        .await;
    let misspelt = json!({"status": "preparing", "minute": 5});
    assert_eq!(refused(&send(&app, "k1", &misspelt).await), (400, "bad_body".into()));
    let failed = send(&app, "k1", &accept()).await;
    assert_eq!(refused(&failed), (504, "shop_unavailable".into()));
    // The key stays tied to this request: another body with the same key is refused.
    let other_body = send(&app, "k1", &json!({"status": "rejected"})).await;
    assert_eq!(refused(&other_body), (422, "idempotency_key_reused".into()));
    let answer = send(&app, "k1", &accept()).await;
    assert_eq!((answer.status, is_replayed(&answer)), (200, false), "{}", answer.text());
    assert!(is_replayed(&send(&app, "k1", &accept()).await));
    assert_eq!(
        hook.until(4).await.len(),
        4,
        "a repeated response sends no request to the shop"
    );
}

#[tokio::test]
async fn a_token_is_checked_before_its_keys_and_a_key_has_bounds() {
    let app = with_order().await;
    let client = app.database.client().await;
    let token = app.database.token(Stores::These(vec!["7".into()])).await;
    assert_eq!(send_as(&app, &token, "k1", STATUS, &accept()).await.status, 200);
    for key in ["", "a b", &"k".repeat(256)] {
        assert_eq!(
            refused(&send(&app, key, &accept()).await),
            (400, "bad_parameter".into()),
            "{key}"
        );
    }
    let longest = "k".repeat(255);
    assert_eq!(
        refused(&send(&app, &longest, &accept()).await),
        (409, "status_conflict".into())
    );
    client
        .batch_execute("update vestnik.vst_token set revoked_at = now() where stores is not null")
        .await
        .unwrap();
    loop {
        let answer = send_as(&app, &token, "k1", STATUS, &accept()).await;
        if answer.status == 401 {
            break assert_eq!(refused(&answer), (401, "token_revoked".into()));
        }
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day() {
    let app = with_order().await;
    assert_eq!(send(&app, "k1", &accept()).await.status, 200);
    let pool = vestnik::infra::db::pool(&app.database.config().database).unwrap();
    let kept = "select count(*) from vestnik.vst_idempotent_request";
    app.write("update vestnik.vst_idempotent_request set asked_at = now() - interval '23 h'")
        .await;
    vestnik::delivery::cleanup::delete_old(&pool, std::time::Duration::from_secs(60))
        .await
        .unwrap();
    assert!(is_replayed(&send(&app, "k1", &accept()).await));
    app.write("update vestnik.vst_idempotent_request set asked_at = now() - interval '25 h'")
        .await;
    let anew = send(&app, "k1", &json!({"status": "ready"})).await;
    assert_eq!((anew.status, is_replayed(&anew)), (200, false), "{}", anew.text());
    app.write("update vestnik.vst_idempotent_request set asked_at = now() - interval '25 h'")
        .await;
    assert_eq!(number(&app, kept).await, 1);
    vestnik::delivery::cleanup::delete_old(&pool, std::time::Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(number(&app, kept).await, 0);
}
