//! Attacks of every kind run at the same time. Existing sessions must still receive their orders, and a new panel must
//! be able to connect. `scripts/attack` measures the delays.

use vestnik::token::Stores;

use crate::support::app::Panel;
use crate::support::attackers::{Attack, Attackers};
use crate::support::db::Database;
use crate::support::node::Node;

/// Resident memory of a node, MB.
fn resident_mb(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn under_every_attack_at_once_sessions_get_their_orders_and_a_new_panel_gets_in() {
    let database = Database::fresh().await;
    let settings = [
        ("HTTP_MAX_UNAUTHENTICATED_PER_ADDRESS", "100"),
        // Limit the sessions of one token. A client that opens many sessions then leaves some sessions for the panels
        // of its store.
        ("SESSION_MAX_PER_TOKEN", "20"),
        ("LOG_FILTER", "info"),
    ];
    let node = Node::serving(&database, "http://127.0.0.1:9", &settings).await;
    let server = node.address().await;
    let mut panels = Vec::new();
    for _ in 0..5 {
        let token = database.token(Stores::These(vec!["7".into()])).await;
        panels.push(Panel::until_admitted(server, "7", &token).await);
    }
    let before_mb = resident_mb(&node);
    let (floods, slow) = (database.token(Stores::All).await, database.token(Stores::All).await);
    let attackers = [
        (Attack::SayNothing, &slow, 200),
        (Attack::SpeakHttp2, &slow, 20),
        (Attack::DripHeads, &slow, 50),
        (Attack::DripBodies, &slow, 50),
        (Attack::ReadNothing, &slow, 20),
        (Attack::TryTokens, &slow, 1000),
        (Attack::FloodPings, &floods, 2),
    ]
    .map(|(attack, token, count)| Attackers::begin(attack, server, token, count));
    for told in [
        "vestnik_connections_closed_for_others_total{limit=\"address\"}",
        "vestnik_tokens_refused_total{why=\"unknown\"}",
        "vestnik_requests_refused_total{limit=\"address\"}",
        "vestnik_sessions_closed_total{code=\"4429\"}",
    ] {
        node.until_metric(told, |count| count > 0.0).await;
    }
    let shop = database.client().await;
    for _ in 0..20 {
        shop.batch_execute("insert into orders (store_id) values (7)")
            .await
            .unwrap();
        for panel in &mut panels {
            assert_eq!(panel.event().await["type"], "new_order");
        }
    }
    for _ in 0..5 {
        let token = database.token(Stores::These(vec!["7".into()])).await;
        Panel::until_admitted(server, "7", &token).await.live().await;
    }
    node.until_said("a token was refused").await;
    node.until_said("connections that show no token fill their share").await;
    let grown_mb = resident_mb(&node).saturating_sub(before_mb);
    assert!(grown_mb < 64, "{grown_mb} MB");
    drop(attackers);
}
