//! Many clients reconnect at the same time. The event cache must give the same events as the journal, and each client
//! must get all events that it has missed.

use std::sync::Arc;

use fastrand::Rng;
use futures::future::join_all;
use vestnik::domain::cursor::{Cursor, Position};
use vestnik::domain::event::StoreId;
use vestnik::domain::store_set::StoreSet;
use vestnik::fanout::router::{Router, Translation};
use vestnik::infra::db::{self, Client};
use vestnik::journal::{self, News, Page, Reader, Start};
use vestnik::sources::Sources;
use vestnik::sources::lookup_results::Lookups;

use crate::oracle::seed;
use crate::support::app::{App, Panel};
use crate::support::db::Database;

/// A journal with random writers, and a feed that reads only when the test calls it.
struct Trial {
    reader: Reader,
    router: Arc<Router>,
    pool: db::Pool,
    position: Position,
    /// The connections of the writers. The flag is true while the writer has an open transaction.
    writers: Vec<(Client, bool)>,
    given: Vec<String>,
    random: Rng,
}

const STORES: [&str; 2] = ["7", "8"];

impl Trial {
    async fn begin(database: &Database, seed: u64) -> Self {
        let config = database.config().database;
        let reader = Reader::connect(&config).await.unwrap();
        let mut writers = Vec::new();
        for _ in 0..4 {
            writers.push((database.client().await, false));
        }
        let position = reader.now().await.unwrap();
        let mut trial = Self {
            router: Arc::new(Router::new(1 << 20, 10, 10)),
            pool: vestnik::infra::db::pool(&config).unwrap(),
            reader,
            position,
            writers,
            given: Vec::new(),
            random: Rng::with_seed(seed),
        };
        // Before the node starts, some transactions have committed and some are open.
        for _ in 0..30 {
            trial.write().await;
            trial.position = trial.reader.now().await.unwrap();
            let here = Cursor::At(trial.position.clone()).encode(trial.reader.epoch());
            trial.given.push(here);
        }
        trial.router.reach(trial.reader.epoch(), &trial.position);
        trial
    }

    /// Makes one randomly chosen writer begin, write, commit or roll back.
    async fn write(&mut self) {
        let index = self.random.usize(..self.writers.len());
        let (client, within) = &mut self.writers[index];
        let store = STORES[self.random.usize(..2)];
        let insert = format!(
            "insert into orders (store_id) select {store} from generate_series(1, {})",
            self.random.u8(1..4)
        );
        let sql = match (*within, self.random.u8(..10)) {
            (false, 0..6) => insert,
            (false, _) => {
                *within = true;
                format!("begin; {insert}")
            }
            (true, 0..4) => insert,
            (true, word) => {
                *within = false;
                if word < 9 { "commit" } else { "rollback" }.to_owned()
            }
        };
        client.batch_execute(&sql).await.unwrap();
    }

    /// Reads the journal and publishes the events, as the feed does after a notification.
    async fn read(&mut self) {
        let News::Read {
            snapshot,
            events,
            newest,
            ..
        } = self.reader.news(&self.position).await.unwrap()
        else {
            panic!("few events are read at once")
        };
        let newest = newest.unwrap_or(self.position.newest()).max(self.position.newest());
        let next = Position::after(&snapshot, newest);
        let (before, after) = (Cursor::At(self.position.clone()), Cursor::At(next.clone()));
        let (sources, lookups) = (Sources::default(), Lookups::default());
        let translation = Translation {
            sources: &sources,
            lookups: &lookups,
            looked_up: None,
        };
        self.router
            .publish(self.reader.epoch(), &events, &before, &after, &translation)
            .unwrap();
        self.position = next;
        self.given.push(after.encode(self.reader.epoch()));
    }

    /// All events in the journal after a cursor: the id and the cursor of each event.
    async fn journal(&self, store: &StoreId, after: &str) -> Vec<(i64, String)> {
        let (mut after, mut events) = (after.to_owned(), Vec::new());
        loop {
            let page = journal::read_page(&self.pool, &StoreSet::One(store.clone()), Start::After(&after), 5)
                .await
                .unwrap();
            let Page::Events {
                events: page,
                cursor,
                end,
            } = page
            else {
                panic!("the cursor is of this epoch")
            };
            events.extend(page.into_iter().map(|event| (event.event.id.0, event.cursor)));
            after = cursor;
            if end.is_some() {
                return events;
            }
        }
    }

    /// Asserts that the cache and the journal give the same events for random cursors and stores. The cache must serve
    /// at least `least` of these combinations.
    async fn compare(&mut self, least: usize) {
        self.read().await;
        let mut cursors: Vec<String> = (0..6)
            .map(|_| self.given[self.random.usize(..self.given.len())].clone())
            .collect();
        let mut recalled_ones = 0;
        while let Some(cursor) = cursors.pop() {
            for store in STORES.map(StoreId::new) {
                let from_journal = self.journal(&store, &cursor).await;
                let Some(recalled) = self.router.replay_from(&store, &cursor) else {
                    continue;
                };
                recalled_ones += 1;
                let ids: Vec<i64> = recalled.events.iter().map(|event| event.id.0).collect();
                let expected: Vec<i64> = from_journal.iter().map(|(id, _)| *id).collect();
                assert_eq!(ids, expected, "behind {cursor}");
                // The cache also serves the cursor of an event in the middle of a replay, and gives the events after
                // that event.
                let within = recalled.events.first().filter(|_| ids.len() > 1);
                if let Some(first) = within {
                    let behind = recalled.replay_plan.cursor_after(first.xid, first.id, &recalled.seen);
                    let rest = self
                        .router
                        .replay_from(&store, &behind.encode(recalled.epoch))
                        .expect("the cache serves the cursor");
                    let rest: Vec<i64> = rest.events.iter().map(|event| event.id.0).collect();
                    assert_eq!(rest, expected[1..]);
                }
            }
        }
        assert!(recalled_ones >= least, "{recalled_ones} were recalled");
    }
}

#[tokio::test]
async fn what_memory_recalls_is_what_the_journal_reads() {
    let database = Database::fresh().await;
    let mut trial = Trial::begin(&database, seed()).await;
    for _ in 0..4 {
        for _ in 0..trial.random.usize(1..8) {
            trial.write().await;
        }
        trial.compare(0).await;
    }
    // The node reads the history. Before it adds the history to the cache, more transactions commit.
    let wanted = trial.router.wants_history().expect("it was not read yet");
    for _ in 0..5 {
        trial.write().await;
    }
    let history = journal::read_history(&trial.pool, 1 << 20).await.unwrap();
    for _ in 0..5 {
        trial.write().await;
    }
    trial.router.prepend_history(&wanted, history);
    assert_eq!(trial.router.wants_history(), None);
    for _ in 0..12 {
        for _ in 0..trial.random.usize(1..8) {
            trial.write().await;
        }
        // The cache now has every event, except the events of transactions that were open while the node read the
        // history.
        trial.compare(12).await;
    }
}

#[tokio::test]
async fn a_past_that_does_not_fit_is_read_as_far_as_it_does() {
    let database = Database::fresh().await;
    let client = database.client().await;
    for _ in 0..20 {
        client
            .batch_execute("insert into orders (store_id) values (7), (7), (7)")
            .await
            .unwrap();
    }
    let pool = vestnik::infra::db::pool(&database.config().database).unwrap();
    let all = journal::read_history(&pool, usize::MAX).await.unwrap();
    assert_eq!(all.events.len(), 60);
    let some = journal::read_history(&pool, 10 * all.events[0].weight()).await.unwrap();
    assert!((6..=15).contains(&some.events.len()), "{}", some.events.len());
    assert_eq!(some.events.len() % 3, 0, "whole transactions");
    let behind = |event: &&vestnik::domain::event::JournalEvent| !some.base.covers(event.xid);
    let expected: Vec<_> = all.events.iter().filter(behind).map(|event| event.id).collect();
    assert_eq!(some.events.iter().map(|event| event.id).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_back_at_once_gets_all_that_it_missed_and_then_what_happens() {
    let app = App::start().await;
    let start = app.panel("7", None).await.live().await.cursor;
    app.write("insert into orders (store_id) select 7 + i % 2 from generate_series(0, 599) i")
        .await;
    // Start a second node, whose event cache is empty.
    let node = App::start_on(app.database, |_| ()).await;
    const PANELS: usize = 60;
    let panels = join_all((0..PANELS).map(|_| async { node.panel("7", Some(&start)).await.live().await })).await;
    node.write("insert into orders (store_id) values (7)").await;
    for mut panel in panels {
        let missed: Vec<&str> = panel
            .before_live
            .iter()
            .map(|event| event["data"]["order_id"].as_str().unwrap())
            .collect();
        let expected: Vec<String> = (0..300).map(|index| (1 + 2 * index).to_string()).collect();
        assert_eq!(missed, expected);
        assert!(panel.before_live.iter().all(|event| event["replayed"] == true));
        assert_eq!(panel.event().await["data"]["order_id"], "601");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_are_open_before_the_first_request() {
    const CONNECTIONS: usize = 5;
    let app = App::start_with(|config| config.database.pool_size = CONNECTIONS).await;
    let open = format!(
        "select count(*) = {CONNECTIONS} from pg_stat_activity \
         where datname = current_database() and application_name = 'vestnik pool'"
    );
    app.database.until(&open).await;
}

/// A transaction that writes one order, then another one, and then the first one again.
const INTERLEAVED: &str = "begin; insert into orders (store_id, customer_name) values (7, 'Anna'); \
    insert into orders (store_id, customer_name) values (7, 'Boris'); \
    update orders set reason = 'late' where customer_name = 'Anna'; commit";

/// The name of the customer of each event until the session is live, or until there are `most`. All are new orders.
async fn names(panel: &mut Panel, most: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < most {
        let message = panel.message().await.unwrap();
        if message["type"] == "live" {
            break;
        }
        if let Some(name) = message["data"]["customer_name"].as_str() {
            assert_eq!(message["type"], "new_order", "{message}");
            names.push(name.to_owned());
        }
    }
    names
}

#[tokio::test]
async fn a_replay_that_breaks_between_the_rows_of_one_order_loses_nothing() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id, customer_name) values (7, 'first')")
        .await;
    let cursor = panel.event().await["cursor"].as_str().unwrap().to_owned();
    drop(panel);
    app.write(INTERLEAVED).await;
    let mut panel = app.panel("7", Some(&cursor)).await;
    assert_eq!(names(&mut panel, 1).await, ["Boris"]);
    let mut panel = app.panel("7", Some(&panel.cursor)).await;
    // The panel may get an event again, with the same id, but it must get each one.
    assert_eq!(names(&mut panel, 9).await, ["Boris", "Anna"]);
    assert!(
        names(&mut app.panel("7", Some(&panel.cursor)).await, 9)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_page_of_one_event_divides_no_event() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (store_id, customer_name) values (7, 'first')")
        .await;
    let mut cursor = panel.event().await["cursor"].as_str().unwrap().to_owned();
    app.write(
        "begin; insert into orders (store_id, customer_name) values (7, 'Anna'); \
         insert into orders (store_id, customer_name) values (7, 'Boris'); \
         update orders set status = 'preparing' where customer_name = 'Anna'; \
         insert into orders (store_id, customer_name) values (7, 'Clara'); \
         update orders set status = 'pending', reason = 'late' where customer_name = 'Anna'; \
         insert into orders (store_id, customer_name) values (7, 'Dora'); commit",
    )
    .await;
    let mut told = Vec::new();
    loop {
        let page = app
            .get_json(&format!("/api/partner/stores/7/events?after={cursor}&limit=1"))
            .await;
        for event in page["events"].as_array().unwrap() {
            let text = |field: &str| event["data"][field].as_str().unwrap_or_default().to_owned();
            told.push((text("customer_name"), text("reason")));
        }
        cursor = page["cursor"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    let expected = [("Boris", ""), ("Clara", ""), ("Anna", "late"), ("Dora", "")];
    assert_eq!(
        told,
        expected.map(|(name, reason)| (name.to_owned(), reason.to_owned()))
    );
}
