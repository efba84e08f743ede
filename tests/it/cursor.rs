//! A cursor must never cover an event that its session has not sent. In these tests the session has a fake transport.
//! The test can therefore publish events exactly between a heartbeat's ping and the heartbeat's cursor.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::timeout;
use vestnik::domain::cursor::{Cursor, Epoch, Position, Snapshot};
use vestnik::domain::event::{Body, EventId, EventType, JournalEvent, StoreId, Xid};
use vestnik::fanout::router::{Router, Translation};
use vestnik::fanout::session::{Close, Hub, Incoming, Outgoing, Session, Transport};
use vestnik::infra::config::Config;
use vestnik::sources::Sources;
use vestnik::sources::lookup::Lookup;
use vestnik::sources::lookup_results::Lookups;
use vestnik::sources::status_change::ShopApi;
use vestnik::token::{Grant, Scope, Stores, TokenId};

use crate::support::app::PATIENCE;

/// The size of the send queue, bytes. An event of the function [`event`] is larger.
const QUEUE_BYTES: usize = 1000;

/// A transport that accepts every message at once, and calls `when_pinged` for each ping that the session sends.
struct Pinged<F> {
    when_pinged: F,
    received: Arc<Mutex<Vec<Value>>>,
}

impl<F: FnMut() + Send> Transport for Pinged<F> {
    const ANSWERS_PINGS: bool = false;
    const CHANNEL: vestnik::receipts::writer::Channel = vestnik::receipts::writer::Channel::WebSocket;

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

/// The position of a reader that has read the events of every transaction up to `through`.
fn position(through: u64) -> Position {
    let snapshot = Snapshot {
        xmax: Xid(through + 1),
        running: vec![],
    };
    Position::after(&snapshot, Xid(through))
}

/// An event that is larger than the send queue.
fn event(xid: u64) -> JournalEvent {
    JournalEvent {
        id: EventId(i64::try_from(xid).unwrap()),
        xid: Xid(xid),
        store: Some(StoreId::new("7")),
        at: OffsetDateTime::UNIX_EPOCH,
        body: Body::Engine(
            EventType::OrderUnanswered,
            format!(r#"{{"order_id":"{}"}}"#, "x".repeat(QUEUE_BYTES)),
        ),
    }
}

/// Serves a session until it ends. Returns the reason, and the messages that the session has sent.
async fn serve(router: &Arc<Router>, when_pinged: impl FnMut() + Send) -> (Close, Vec<Value>) {
    let mut config = Config::default();
    // The session replays nothing, so nobody opens a connection to this URL.
    config.database.url = Some("postgres://nobody@127.0.0.1:1/nowhere".to_owned().into());
    let pool = vestnik::infra::db::pool(&config.database).unwrap();
    let hub = Arc::new(Hub {
        panel_streams: Arc::default(),
        sources: Arc::default(),
        lookup: Arc::new(Lookup::new(pool.clone())),
        shop_api: Arc::new(ShopApi::new(config.webhook, &config.answers).unwrap()),
        presence: Arc::default(),
        recorder: vestnik::receipts::writer::recorder().0,
        router: Arc::clone(router),
        tokens: Arc::new(vestnik::token::Tokens::new(pool.clone(), || false, Arc::default(), None).0),
        pool,
        token_pool: vestnik::infra::db::token_pool(&config.database).unwrap(),
        reads: vestnik::infra::db::reads(&config.database).unwrap(),
        changes: vestnik::infra::db::Turns::new(1, vestnik::infra::db::WAITING_PRESSES),
        ping_interval: Duration::from_millis(1),
    });
    let grant = Arc::new(Grant {
        id: TokenId(1),
        label: None,
        stores: Stores::All,
        scope: Scope::Panel,
        ends: None,
    });
    let received = Arc::default();
    let mut client = Pinged {
        when_pinged,
        received: Arc::clone(&received),
    };
    let session = Session::open(&hub, StoreId::new("7"), grant).unwrap();
    let why = timeout(PATIENCE, session.run(None, &mut client))
        .await
        .expect("the session ends");
    let received = std::mem::take(&mut *received.lock().unwrap());
    (why, received)
}

/// Publishes one read of the journal, with one event for each of these transactions.
fn publish(router: &Router, epoch: Epoch, xids: std::ops::RangeInclusive<u64>) {
    let before = Cursor::At(position(xids.start() - 1));
    let after = Cursor::At(position(*xids.end()));
    let (sources, lookups) = (Sources::default(), Lookups::default());
    let translation = Translation {
        sources: &sources,
        lookups: &lookups,
        looked_up: None,
    };
    let events: Vec<JournalEvent> = xids.map(event).collect();
    router.publish(epoch, &events, &before, &after, &translation).unwrap();
}

/// Asserts that every cursor covers only events that the client has already received, or receives in the same message.
/// `first` is the first published transaction.
fn assert_honest(received: &[Value], epoch: Epoch, first: u64) {
    let mut sent = first - 1;
    for message in received {
        if let Some(id) = message["id"].as_str() {
            sent = sent.max(id.parse().unwrap());
        }
        if let Some(cursor) = message["cursor"].as_str() {
            let Ok(Cursor::At(position)) = Cursor::decode(cursor, epoch) else {
                panic!("not a cursor of this epoch: {message}")
            };
            assert!(
                position.newest() <= Xid(sent),
                "it covers what was never sent: {message}"
            );
        }
    }
}

#[tokio::test]
async fn a_cursor_covers_nothing_that_has_not_been_sent() {
    let router = Arc::new(Router::new(100 * QUEUE_BYTES, 10, 10));
    let here = epoch("00000001");
    router.reach(here, &position(10));
    let mut newest = 10;
    let (why, received) = serve(&router, || {
        if newest == 40 {
            return router.drain();
        }
        publish(&router, here, newest + 1..=newest + 3);
        newest += 3;
    })
    .await;
    assert_eq!(why, Close::Draining);
    let events = received.iter().filter(|message| message.get("data").is_some());
    assert_eq!(events.count(), 30);
    assert_honest(&received, here, 11);
}

#[tokio::test]
async fn a_heartbeat_covers_nothing_that_a_full_queue_left_out() {
    let router = Arc::new(Router::new(QUEUE_BYTES, 10, 10));
    let here = epoch("00000001");
    router.reach(here, &position(10));
    let mut newest = 10;
    let (why, received) = serve(&router, || {
        // The second event does not fit into the session's send queue. The router therefore closes the session with the
        // reason `Lagged`: its client reads too slowly.
        for _ in 0..2 {
            newest += 1;
            publish(&router, here, newest..=newest);
        }
    })
    .await;
    assert_eq!(why, Close::Lagged);
    assert_honest(&received, here, 11);
}

#[tokio::test]
async fn a_stale_session_gets_nothing_until_the_journal_is_read_again() {
    let router = Arc::new(Router::new(QUEUE_BYTES, 10, 10));
    router.reach(epoch("00000001"), &position(10));
    let mut pings = 0;
    let (why, received) = serve(&router, || {
        pings += 1;
        if pings == 2 {
            return router.drain();
        }
        router.set_stale(true);
        let router = Arc::clone(&router);
        // The test has one thread, so the spawned task runs only when the session waits.
        tokio::spawn(async move { router.set_stale(false) });
    })
    .await;
    assert_eq!(why, Close::Draining);
    let said: Vec<_> = received
        .iter()
        .map(|message| message["type"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["connected", "live", "stale", "heartbeat"]);
}

#[tokio::test]
async fn no_session_outlives_the_life_of_its_database() {
    let router = Arc::new(Router::new(QUEUE_BYTES, 10, 10));
    let (before, after) = (epoch("00000001"), epoch("00000002"));
    router.reach(before, &position(10));
    let (why, received) = serve(&router, || router.reach(after, &position(20))).await;
    assert_eq!(why, Close::Draining);
    // The session must send no cursor with the new epoch. With such a cursor, the client would get no
    // `resync_required`, and would keep outdated lists.
    assert_honest(&received, before, 11);
}
