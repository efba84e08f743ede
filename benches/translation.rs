//! Measures the cost of translating an event: from the recorded row to the canonical order, and to the JSON that
//! clients receive. For comparison, serde_json only parses the row and writes it again. The bench also measures how
//! the router handles one read of the journal. It does so for a store with a panel, and for stores without a panel,
//! whose events the router does not translate.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;
use vestnik::domain::cursor::{Cursor, Epoch, Position, Snapshot};
use vestnik::domain::event::{Body, EventId, JournalEvent, RowWrite, SourceId, StoreId, Write, Xid};
use vestnik::domain::money::Currency;
use vestnik::fanout::router::{Router, Translation};
use vestnik::sources::Context;
use vestnik::sources::lookup_results::{LookupResult, Lookups};
use vestnik::sources::mapping::Mapping;
use vestnik::sources::{RecordedColumn, Source, Sources};
use vestnik::token::{Holder, Scope, TokenId};

const MAPPING: &str = include_str!("../tests/shops/reference/mapping.toml");
const ROW: &str = r#"{"id":1234567,"store_id":7,"status":"pending","customer_name":"Иван Петров","customer_phone":"+79001234567","total":50000,"created_at":"2026-11-28T12:00:00.123456+03:00","items":[{"name": "Пицца", "count": 2, "price": 45000}, {"name": "Чай", "count": 1, "price": 5000}]}"#;
const ROUNDS: usize = 9;
const TRANSLATED: u32 = 20_000;
/// The number of events in one read. Each event has its own transaction.
const EVENTS: u64 = 256;
const READS: u64 = 60;

fn main() {
    let source = source();
    let context = Context {
        currency: Currency::DEFAULT,
        lookup: LookupResult::Nothing,
    };
    let (mut floor, mut ours) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        floor = floor.min(us_each(|| {
            let row: serde_json::Value = serde_json::from_str(black_box(ROW)).expect("a row");
            black_box(row.to_string());
        }));
        ours = ours.min(us_each(|| {
            let order = source.translate("1234567", black_box(ROW), context);
            black_box(serde_json::Value::Object(order.to_json()).to_string());
        }));
    }
    println!(
        "one row into an order and onto the wire: {ours:.2} us; read and written by serde_json: {floor:.2} us ({:.2} times)",
        ours / floor
    );

    let sources = Sources::new(1, vec![source], HashMap::new());
    let (mut attended, mut unattended) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        attended = attended.min(us_each_routed(&sources, "7"));
        unattended = unattended.min(us_each_routed(&sources, "8"));
    }
    println!("one event through the router: {attended:.2} us with a panel, {unattended:.3} us without one");
}

fn source() -> Source {
    let mapping = Mapping::from_toml(MAPPING).expect("a mapping");
    let columns = mapping.recorded_columns().into_iter().map(|name| RecordedColumn {
        name: name.to_owned(),
        kind: "text".to_owned(),
    });
    Source {
        id: SourceId(1),
        name: "orders".into(),
        table: mapping.table.clone(),
        columns: columns.collect(),
        mapping,
        former: None,
    }
}

fn us_each(work: impl Fn()) -> f64 {
    let begin = Instant::now();
    for _ in 0..TRANSLATED {
        work();
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(TRANSLATED)
}

/// Measures how the router handles a read of new orders of store 7, while a panel of the store `panel` is connected.
/// Returns microseconds for each event.
fn us_each_routed(sources: &Sources, panel: &str) -> f64 {
    let router = Arc::new(Router::new(1024 * 1024 * 1024, 1, 1));
    let epoch = Epoch::new(1, "1", 1);
    router.reach(epoch, cursor(0).base());
    let holder = Holder {
        token: TokenId(1),
        scope: Scope::Panel,
        ends: None,
    };
    let _panel = router.subscribe(&StoreId::new(panel), holder).expect("a place");
    let reads: Vec<Vec<JournalEvent>> = (1..=READS).map(events).collect();
    let lookups = Lookups::default();
    let translation = Translation {
        sources,
        lookups: &lookups,
        looked_up: None,
    };
    let begin = Instant::now();
    for (read, events) in (1..).zip(&reads) {
        let published = router.publish(epoch, events, &cursor(read - 1), &cursor(read), &translation);
        published.expect("no store needs anything looked up");
    }
    begin.elapsed().as_secs_f64() * 1e6 / (READS * EVENTS) as f64
}

fn events(read: u64) -> Vec<JournalEvent> {
    let event = |number| JournalEvent {
        id: EventId((read * EVENTS + number) as i64),
        xid: Xid(read * EVENTS + number),
        store: Some(StoreId::new("7")),
        at: OffsetDateTime::UNIX_EPOCH,
        body: Body::Write(RowWrite {
            source: SourceId(1),
            key: Some(u64::to_string(&(read * EVENTS + number)).into()),
            write: Write::Insert,
            data: ROW.to_owned(),
            old: None,
            answer: None,
        }),
    };
    (0..EVENTS).map(event).collect()
}

fn cursor(read: u64) -> Cursor {
    let snapshot = Snapshot {
        xmax: Xid((read + 1) * EVENTS),
        running: vec![],
    };
    Cursor::At(Position::after(&snapshot, Xid((read + 1) * EVENTS - 1)))
}
