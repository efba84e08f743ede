//! The log lines of a node.

use vestnik::token::Stores;

use crate::support::app::Panel;
use crate::support::db::Database;
use crate::support::node::Node;

#[tokio::test]
async fn what_comes_from_outside_stays_on_its_line() {
    let database = Database::fresh().await;
    let node = Node::serving(&database, "http://127.0.0.1:9", &[]).await;
    let token = database.token(Stores::All).await;
    let forged = "zz%0A2026-11-28T00:00:00.000000Z%20ERROR%20forged%1B%5B2J";
    drop(
        Panel::connect(node.address().await, forged, None, &token)
            .await
            .unwrap(),
    );
    let line = node.until_said("session ended").await;
    assert!(
        line.contains(r"store=zz\n2026-11-28T00:00:00.000000Z ERROR forged\u{1b}[2J"),
        "{line}"
    );
    assert!(
        !node
            .log()
            .iter()
            .any(|line| line.starts_with("2026-11-28T00:00:00.000000Z"))
    );
}
