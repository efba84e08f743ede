//! Measures how fast the router passes reads of the journal to the queues of 1,000 sessions of one store. For
//! comparison, a loop only clones a pointer into the same number of channels.

use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;
use tokio::sync::mpsc;
use vestnik::domain::cursor::{Cursor, Epoch, Position, Snapshot};
use vestnik::domain::event::{Body, EventId, EventType, JournalEvent, StoreId, Xid};
use vestnik::fanout::router::{Router, Translation};
use vestnik::sources::Sources;
use vestnik::sources::lookup_results::Lookups;
use vestnik::token::{Holder, Scope, TokenId};

const SESSIONS: usize = 1000;
/// The number of reads in a round. The queue of a session has room for all of them.
const READS: u64 = 250;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    println!("events a read | router, deliveries/s | bare channels, batches/s | ratio of the batches");
    for events in [1, 10, 100] {
        let (mut routed, mut bare) = (0.0_f64, 0.0_f64);
        for _ in 0..ROUNDS {
            routed = routed.max(through_router(events).await);
            bare = bare.max(through_channels().await);
        }
        println!(
            "{events:13} | {:20.0} | {bare:24.0} | {:.2}",
            routed * events as f64,
            bare / routed
        );
    }
}

fn events(count: u64, read: u64) -> Vec<JournalEvent> {
    let event = |number| JournalEvent {
        id: EventId((read * count + number) as i64),
        xid: Xid(read),
        store: Some(StoreId::new("7")),
        at: OffsetDateTime::UNIX_EPOCH,
        body: Body::Engine(
            EventType::OrderUnanswered,
            r#"{"order_id": "1", "unanswered_for_s": 60}"#.into(),
        ),
    };
    (0..count).map(event).collect()
}

fn holder(number: usize) -> Holder {
    Holder {
        token: TokenId(number as i64),
        scope: Scope::Panel,
        ends: None,
    }
}

fn cursor(read: u64) -> Cursor {
    Cursor::At(Position::after(
        &Snapshot {
            xmax: Xid(read + 1),
            running: vec![],
        },
        Xid(read),
    ))
}

/// Publishes reads of the journal through the router, with `count` events in each read. Returns how many batches a
/// second all sessions together receive.
async fn through_router(count: u64) -> f64 {
    let router = Arc::new(Router::new(64 * 1024 * 1024, SESSIONS, SESSIONS));
    let epoch = Epoch::new(1, "1", 1);
    router.reach(epoch, cursor(0).base());
    let sessions = (0..SESSIONS).map(|number| {
        let mut subscription = router.subscribe(&StoreId::new("7"), holder(number)).expect("a place");
        tokio::spawn(async move {
            for _ in 0..READS {
                subscription.next().await.expect("a batch");
            }
        })
    });
    let sessions: Vec<_> = sessions.collect();
    let reads: Vec<_> = (1..=READS).map(|read| events(count, read)).collect();
    let (sources, lookups) = (Sources::default(), Lookups::default());
    let translation = Translation {
        sources: &sources,
        lookups: &lookups,
        looked_up: None,
    };
    let begin = Instant::now();
    for (read, events) in (1..).zip(&reads) {
        let published = router.publish(epoch, events, &cursor(read - 1), &cursor(read), &translation);
        published.expect("no store needs anything looked up");
        // In a node the feed waits for Postgres between two reads, so the sessions can run.
        tokio::task::yield_now().await;
    }
    for session in sessions {
        session.await.expect("a session");
    }
    (READS as usize * SESSIONS) as f64 / begin.elapsed().as_secs_f64()
}

async fn through_channels() -> f64 {
    let (mut senders, mut sessions) = (Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        let (sender, mut receiver) = mpsc::channel::<Arc<[u8]>>(1024);
        senders.push(sender);
        sessions.push(tokio::spawn(async move {
            for _ in 0..READS {
                receiver.recv().await.expect("a batch");
            }
        }));
    }
    let batch: Arc<[u8]> = vec![0; 256].into();
    let begin = Instant::now();
    for _ in 0..READS {
        for sender in &senders {
            sender.try_send(Arc::clone(&batch)).expect("room");
        }
        tokio::task::yield_now().await;
    }
    for session in sessions {
        session.await.expect("a session");
    }
    (READS as usize * SESSIONS) as f64 / begin.elapsed().as_secs_f64()
}
