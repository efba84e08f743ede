//! The promotion of a streaming standby. If no commit is lost, all cursors stay valid. If commits are lost, the engine
//! refuses the cursors of lost events, and sends no lost event again.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::time::timeout;
use vestnik::infra::db::Client;

use crate::support::app::{App, PATIENCE, exchange};
use crate::support::db::{Database, Server, until};
use crate::support::look_again;
use crate::support::node::Node;

/// A primary with its standby, and an app whose URL names both servers. The app connects to the server that accepts
/// writes.
struct Pair {
    server: Server,
    app: App,
    standby: Client,
    standby_url: String,
}

impl Pair {
    async fn start() -> Self {
        let mut server = Server::start(&[]);
        Database::on(&server).await;
        server.spare_port();
        let standby_url = server.standby();
        let (one, other) = (server.port().to_owned(), standby_url.rsplit_once(':').unwrap().1);
        let both =
            format!("postgres://postgres@127.0.0.1:{one},127.0.0.1:{other}/postgres?target_session_attrs=read-write");
        let app = App::start_on(Database::at(both.into()), |_| ()).await;
        let standby_url = format!("{standby_url}/postgres");
        let standby = Database::at(standby_url.clone().into()).client().await;
        Self {
            server,
            app,
            standby,
            standby_url,
        }
    }

    async fn order(&self, count: usize, customer: &str) {
        let sql = "insert into orders (store_id, customer_name) values (7, '";
        for _ in 0..count {
            self.app.write(&format!("{sql}{customer}')")).await;
        }
    }

    /// Waits until the standby has replayed everything that the primary has written.
    async fn until_replayed(&self) {
        let client = self.app.database.client().await;
        let now = "select pg_current_wal_flush_lsn()::text";
        let now: String = client.query_one(now, &[]).await.unwrap().get(0);
        until(&self.standby, &format!("select pg_last_wal_replay_lsn() >= '{now}'")).await;
    }

    /// Stops the replication, so that the standby misses later commits.
    async fn cut_off(&self) {
        self.standby
            .batch_execute("alter system set primary_conninfo = ''")
            .await
            .unwrap();
        self.standby.batch_execute("select pg_reload_conf()").await.unwrap();
        until(&self.standby, "select not exists (select from pg_stat_wal_receiver)").await;
    }

    /// Ends the primary for good, and promotes the standby.
    async fn promote(&mut self) {
        self.server.fail();
        self.standby.batch_execute("select pg_promote()").await.unwrap();
        until(&self.standby, "select not pg_is_in_recovery()").await;
    }
}

/// The next events of a panel: the customer's name and the id of each event.
async fn events(panel: &mut crate::support::app::Panel, count: usize) -> Vec<(String, i64)> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(of(&panel.event().await));
    }
    events
}

fn of(event: &Value) -> (String, i64) {
    let customer = event["data"]["customer_name"].as_str().unwrap_or_default().to_owned();
    (customer, event["id"].as_str().unwrap().parse().unwrap())
}

fn replayed(panel: &crate::support::app::Panel) -> Vec<(String, i64)> {
    let events = panel
        .before_live
        .iter()
        .filter(|message| message["type"] == "new_order");
    events.map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_without_loss_keeps_every_cursor_and_every_session_and_tells_nothing_twice() {
    let mut pair = Pair::start().await;
    let mut panel = pair.app.panel("7", None).await.live().await;
    pair.order(3, "before").await;
    let before = events(&mut panel, 3).await;
    let kept = panel.cursor.clone();
    pair.until_replayed().await;
    let since = Instant::now();
    pair.promote().await;
    pair.order(4, "after").await;
    let mut after = Vec::new();
    while after.len() < 4 {
        after.push(of(&pair.app.event_after_failure(&mut panel, "7", since).await));
    }
    assert!(after.iter().all(|(customer, _)| customer == "after"), "{after:?}");
    assert!(
        after.iter().all(|(_, id)| *id > before[2].1),
        "no id comes again: {before:?}, {after:?}"
    );
    let back = pair.app.panel("7", Some(&kept)).await.live().await;
    assert_eq!(replayed(&back), after, "exactly the missed events");
    assert!(
        back.before_live
            .iter()
            .all(|message| message["type"] != "resync_required")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_lost_commits_resyncs_who_saw_them_and_believes_nothing_of_them() {
    let mut pair = Pair::start().await;
    let mut panel = pair.app.panel("7", None).await.live().await;
    pair.order(3, "kept").await;
    let kept_ids = events(&mut panel, 3).await;
    let kept = panel.cursor.clone();
    pair.until_replayed().await;
    pair.cut_off().await;
    pair.order(5, "lost").await;
    let lost_ids = events(&mut panel, 5).await;
    let lost = panel.cursor.clone();
    pair.promote().await;
    // Write more transactions than were lost. The new transactions get the ids of the lost transactions.
    pair.order(12, "new").await;
    let closed = loop {
        match panel.message().await {
            Ok(message) => assert!(message["data"].is_null(), "{message}"),
            Err(code) => break code,
        }
    };
    assert_eq!(closed, 1012);
    pair.app.until_ready().await;
    let back = pair.app.panel("7", Some(&lost)).await.live().await;
    let first = &back.before_live[0];
    assert_eq!(
        (&first["type"], &first["reason"]),
        (&json!("resync_required"), &json!("epoch"))
    );
    let back = pair.app.panel("7", Some(&kept)).await.live().await;
    let new = replayed(&back);
    assert_eq!(new.len(), 12, "{new:?}");
    assert!(
        new.iter()
            .all(|(customer, id)| customer == "new" && *id > lost_ids[4].1),
        "{new:?}"
    );
    let history = pair.app.get_json("/api/partner/stores/7/events?limit=100").await;
    let all: Vec<(String, i64)> = history["events"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(all, [kept_ids, new].concat(), "no lost event is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_at_a_standby_is_not_ready_and_says_why() {
    let pair = Pair::start().await;
    let settings = [("OPS_CANARY_INTERVAL_SECONDS", "1")];
    let node = Node::start(&pair.standby_url, "http://127.0.0.1:1", &settings);
    let ops = node.ops_address().await;
    let ready = b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let answer = timeout(PATIENCE, async {
        loop {
            let answer = String::from_utf8(exchange(ops, ready).await).unwrap();
            if answer.contains("\"canary\":\"read_only\"") {
                return answer;
            }
            look_again().await;
        }
    });
    let answer = answer.await.expect("the canary sees the standby");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    node.until_said("give the address of the primary").await;
}
