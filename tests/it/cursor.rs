//! What a cursor may cover: never more than its session has been sent. Here the moments are made that a test with real
//! sockets would have to wait for: something happens between the ping of a heartbeat and its cursor.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::timeout;
use vestnik::config::Config;
use vestnik::cursor::{Cursor, Epoch, Position, Snapshot};
use vestnik::event::{Event, EventId, EventType, StoreId, Xid};
use vestnik::router::Router;
use vestnik::session::{Close, Hub, Incoming, Outgoing, Session, Transport};
use vestnik::token::{Grant, Stores, TokenId};

use crate::support::app::PATIENCE;

/// Bytes that may wait for a session here: less than one event of [`event`].
const QUEUE_BYTES: usize = 1000;

/// A client that takes everything at once; and what happens whenever it is pinged.
struct Pinged<F> {
    when_pinged: F,
    received: Arc<Mutex<Vec<Value>>>,
}

impl<F: FnMut() + Send> Transport for Pinged<F> {
    const ANSWERS_PINGS: bool = false;

    async fn feed(&mut self, message: Outgoing) -> Result<(), Close> {
        match message {
            Outgoing::WithCursor(_, text) | Outgoing::Message(text) => {
                let message = serde_json::from_str(&text).unwrap();
                self.received.lock().unwrap().push(message);
            }
            Outgoing::Ping => (self.when_pinged)(),
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Close> {
        Ok(())
    }

    async fn receive(&mut self) -> Incoming {
        std::future::pending().await
    }

    async fn close(&mut self, _: Close) {}
}

fn epoch(timeline: &str) -> Epoch {
    Epoch::new(1, timeline, 1)
}

/// Behind everything up to this transaction.
fn position(through: u64) -> Position {
    let snapshot = Snapshot {
        xmax: Xid(through + 1),
        running: vec![],
    };
    Position::after(&snapshot, Xid(through))
}

/// A large one.
fn event(xid: u64) -> Event {
    Event {
        id: EventId(i64::try_from(xid).unwrap()),
        xid: Xid(xid),
        store: Some(StoreId::new("7")),
        kind: EventType::NewOrder,
        at: OffsetDateTime::UNIX_EPOCH,
        data: format!(r#"{{"customer_name":"{}"}}"#, "x".repeat(QUEUE_BYTES)),
    }
}

/// Serves a session until it ends. Why it ended, and the last cursor that its client was given.
async fn serve(router: &Arc<Router>, when_pinged: impl FnMut() + Send) -> (Close, String) {
    let mut config = Config::default();
    // Never connected to: nothing is replayed here.
    config.database.url = Some("postgres://nobody@127.0.0.1:1/nowhere".to_owned().into());
    let hub = Arc::new(Hub {
        router: Arc::clone(router),
        pool: vestnik::db::pool(&config.database).unwrap(),
        ping_interval: Duration::from_millis(1),
    });
    let grant = Grant {
        id: TokenId(1),
        label: None,
        stores: Stores::All,
        expires_at: None,
    };
    let received = Arc::default();
    let mut client = Pinged {
        when_pinged,
        received: Arc::clone(&received),
    };
    let session = Session::open(&hub, StoreId::new("7"), grant).unwrap();
    let why = timeout(PATIENCE, session.run(None, &mut client))
        .await
        .expect("the session ends");
    let last = received
        .lock()
        .unwrap()
        .iter()
        .rev()
        .find_map(|message| message["cursor"].as_str().map(str::to_owned));
    (why, last.unwrap())
}

#[tokio::test]
async fn a_heartbeat_covers_nothing_that_a_full_queue_left_out() {
    let router = Arc::new(Router::new(QUEUE_BYTES, 10));
    let here = epoch("00000001");
    router.reach(here, &position(10));
    let mut newest = 10;
    let (why, last) = serve(&router, || {
        // The second does not fit: it is only published, and the session is let go as lagged.
        for _ in 0..2 {
            let (before, after) = (Cursor::At(position(newest)), Cursor::At(position(newest + 1)));
            newest += 1;
            router.publish(here, &[event(newest)], &before, &after);
        }
    })
    .await;
    assert_eq!(why, Close::Lagged);
    let Cursor::At(kept) = Cursor::decode(&last, here).unwrap() else {
        panic!("not where a read ended")
    };
    assert!(
        !kept.covers(Xid(newest)),
        "an event that was never sent would be missed"
    );
}

#[tokio::test]
async fn no_session_outlives_the_life_of_its_database() {
    let router = Arc::new(Router::new(QUEUE_BYTES, 10));
    let (before, after) = (epoch("00000001"), epoch("00000002"));
    router.reach(before, &position(10));
    let (why, last) = serve(&router, || router.reach(after, &position(20))).await;
    assert_eq!(why, Close::Draining);
    // With a cursor of the new life it would never learn that its lists are stale.
    assert!(Cursor::decode(&last, before).is_ok());
}
