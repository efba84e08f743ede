//! Tokens: how they are looked up, what their holders may do, and when they end.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use vestnik::token::{self, Stores, Which};

use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::http::call;
use crate::support::node::Node;

const SESSION: &str = "/api/partner/session/7";

/// Nobody's, each of them.
fn made_up(number: usize) -> String {
    format!("vst_{number:042}A")
}

#[tokio::test]
async fn what_was_looked_up_is_kept_for_seconds_and_a_revocation_counts_at_once() {
    let app = App::start().await;
    app.until_listening().await;
    let client = app.database.client().await;
    let token = token::create(&client, &Stores::All, Some("brief"), None).await.unwrap();
    assert_eq!(app.get(SESSION, Some(token.reveal())).await.0, 200);
    // As long as nobody says otherwise, Postgres is not asked again.
    let silently = "alter table vestnik.token disable trigger user; update vestnik.token set label = 'other' where label = 'brief'; \
         alter table vestnik.token enable trigger user";
    client.batch_execute(silently).await.unwrap();
    client.batch_execute("begin; lock table vestnik.token").await.unwrap();
    assert_eq!(app.get(SESSION, Some(token.reveal())).await.0, 200);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(token::revoke(&client, &Which::Label("other".into())).await.unwrap(), 1);
    let refused = async { while app.get(SESSION, Some(token.reveal())).await.0 != 401 {} };
    timeout(Duration::from_secs(1), refused).await.expect("within a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_take_few_connections_however_many_they_are() {
    const TRIES: usize = 500;
    let app = App::start_with(|config| config.http.requests_per_address = 1000).await;
    assert_eq!(app.get(SESSION, Some(&app.token)).await.0, 200);
    let locker = app.database.client().await;
    locker.batch_execute("begin; lock table vestnik.token").await.unwrap();
    let tries = join_all((0..TRIES).map(|number| {
        let (token, app) = (made_up(number), &app);
        async move { app.get(SESSION, Some(&token)).await.0 }
    }));
    let meanwhile = async {
        let client = app.database.client().await;
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        until(&client, &format!("select ({waiting}) > 0")).await;
        // What a token that is known asks for is answered: connections are free.
        for _ in 0..20 {
            let orders = app.get("/api/partner/stores/7/orders", Some(&app.token));
            assert_eq!(timeout(Duration::from_secs(2), orders).await.expect("an answer").0, 200);
        }
        let waiting: i64 = client.query_one(waiting, &[]).await.unwrap().get(0);
        locker.batch_execute("rollback").await.unwrap();
        waiting
    };
    let (tries, waiting) = tokio::join!(tries, meanwhile);
    assert!(waiting <= 2, "{waiting} connections");
    assert!(tries.iter().all(|status| *status == 401), "{tries:?}");
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
