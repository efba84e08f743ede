//! The recently published events, in memory. During a mass reconnect, this cache serves replays, so that they do not
//! load Postgres.
//!
//! A [`Position`] is the set of transactions that a reader has read. The position *covers* these transactions and their
//! events. A cursor is a position that a client keeps. The cache has a position `base`, and this invariant: **the cache
//! contains every published event that `base` does not cover.** So the cache serves a client's cursor only if the
//! cursor covers all of `base`. Then each event that the client misses is in the cache, or is published later.
//!
//! The cache groups the events by the reads of the feed. When the events of the oldest read are evicted, `base` moves
//! forward to the end of that read. When past events are read from the journal, `base` moves back, once
//! ([`EventCache::prepend_history`]). The cache does not serve a cursor that covers an event which this node has not
//! published yet. Such a cursor came from another node, so its replay reads the journal.
//!
//! A transaction that stays open does not prevent the use of the cache: neither `base` nor a client's cursor covers it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::domain::cursor::{Cursor, Epoch, Position, ReplayPlan};
use crate::domain::event::{JournalEvent, StoreId};

/// Maximum total size of the cached events, in bytes.
pub const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// If the capacity of a store's list is more than this many times its length, the list frees memory.
const ROOM_MOST: usize = 8;

/// The recently published events of all stores, in memory.
#[derive(Debug)]
pub struct EventCache {
    most_bytes: usize,
    /// The cached events. `None`: the feed has not set a position yet, or the last read of the journal was larger than
    /// the cache.
    cached: Option<Cached>,
    /// The events of an incomplete read of the journal, which is being published in chunks. `None`: no read is being
    /// published in chunks.
    streamed: Option<Streamed>,
    /// Whether the cache was filled with past events from the journal. This happens only once.
    warm: bool,
}

#[derive(Debug, Default)]
struct Streamed {
    events: Vec<Arc<JournalEvent>>,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    base: Position,
    reached: Position,
    reads: VecDeque<Read>,
    by_store: HashMap<StoreId, VecDeque<Arc<JournalEvent>>>,
    bytes: usize,
}

#[derive(Debug)]
struct Read {
    after: Position,
    events: Vec<Arc<JournalEvent>>,
}

/// A replay from memory, for one client: the events that the client missed.
#[derive(Debug)]
pub struct CachedReplay {
    /// The events, in the order of sending.
    pub events: Vec<Arc<JournalEvent>>,
    /// The position of the client after the replay: it covers the events of this replay and all earlier events.
    pub seen: Position,
    /// The epoch of the database, which is a part of each encoded cursor.
    pub epoch: Epoch,
    /// Computes the cursor that the client gets with each event.
    pub replay_plan: ReplayPlan,
}

impl EventCache {
    /// Creates an empty cache. It caches nothing until the feed sets a position.
    pub fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            cached: None,
            streamed: None,
            warm: false,
        }
    }

    /// Sets the position of the feed, which says which transactions the feed has read. The router calls this method
    /// when the feed starts, and at the end of a read that was published in chunks.
    pub fn set_position(&mut self, position: &Position) {
        match (self.streamed.take(), self.cached.take()) {
            (Some(streamed), Some(cached)) => {
                self.cached = Some(cached);
                self.push(streamed.events, position);
            }
            _ => self.begin(position),
        }
    }

    /// Empties the cache, and sets `base` to this position. The cache then contains all published events after `base`,
    /// because none was published yet.
    fn begin(&mut self, position: &Position) {
        self.streamed = None;
        self.cached = Some(Cached {
            base: position.clone(),
            reached: position.clone(),
            reads: VecDeque::new(),
            by_store: HashMap::new(),
            bytes: 0,
        });
    }

    /// Removes every event. After this call, the cache serves only clients that miss none of the removed events; the
    /// journal serves all other replays.
    pub fn clear(&mut self) {
        match (&mut self.streamed, self.cached.take()) {
            (Some(streamed), _) => *streamed = Streamed::default(),
            (None, Some(cached)) => self.begin(&cached.reached),
            (None, None) => {}
        }
    }

    /// Adds events that were just published. `before` and `after` are the feed's cursors before and after these events.
    /// If the events are a chunk of an incomplete read, `after` is a [`Cursor::Within`].
    pub fn append(&mut self, events: &[JournalEvent], before: &Cursor, after: &Cursor) {
        let of_stores = events.iter().filter(|event| event.store.is_some());
        let events: Vec<Arc<JournalEvent>> = of_stores.map(|event| Arc::new(event.clone())).collect();
        if let Cursor::At(before) = before {
            // `before` is not within a read. So if `streamed` has events, their read failed before its end, and the
            // feed publishes these events again.
            self.streamed = None;
            if self.cached.as_ref().is_none_or(|cached| cached.reached != *before) {
                self.begin(before);
            }
        }
        match after {
            Cursor::At(after) => self.push(events, after),
            Cursor::Within { .. } => self.stream(events),
        }
    }

    fn stream(&mut self, events: Vec<Arc<JournalEvent>>) {
        let streamed = self.streamed.get_or_insert_default();
        if self.cached.is_none() {
            return;
        }
        streamed.bytes += events.iter().map(|event| event.weight()).sum::<usize>();
        streamed.events.extend(events);
        if streamed.bytes > self.most_bytes {
            // The read is larger than the cache. The cache starts again at the end of the read; until then the journal
            // serves replays.
            self.cached = None;
            *streamed = Streamed::default();
        }
    }

    fn push(&mut self, events: Vec<Arc<JournalEvent>>, after: &Position) {
        let Some(cached) = &mut self.cached else { return };
        for event in &events {
            cached.bytes += event.weight();
            if let Some(store) = &event.store {
                cached
                    .by_store
                    .entry(store.clone())
                    .or_default()
                    .push_back(Arc::clone(event));
            }
        }
        cached.reached = after.clone();
        if let Some(last) = cached.reads.back_mut().filter(|_| events.is_empty()) {
            // This read was empty, so the previous read now ends at this position.
            last.after = after.clone();
        } else {
            cached.reads.push_back(Read {
                after: after.clone(),
                events,
            });
        }
        while cached.bytes > self.most_bytes && cached.drop_oldest() {}
    }

    /// The position at which the cache begins, if past events should be added before this position. `None`: past events
    /// were added already, or the cache is not in use.
    pub fn wants_history(&self) -> Option<Position> {
        self.cached
            .as_ref()
            .filter(|_| !self.warm)
            .map(|cached| cached.base.clone())
    }

    /// Adds past events from the journal before the cached events. `base` is the result of
    /// [`EventCache::wants_history`]. `events` are all events in the journal after the position `past`, ordered by id.
    /// The caller must read them after it called `wants_history`, so that they include all events between `past` and
    /// `base`. Events after `base` are skipped, because they are cached already, or are published later.
    pub fn prepend_history(&mut self, base: &Position, past: &Position, events: Vec<JournalEvent>) {
        let Some(cached) = self.cached.as_mut().filter(|cached| cached.base == *base) else {
            return;
        };
        self.warm = true;
        let events = events
            .into_iter()
            .filter(|event| event.store.is_some() && base.covers(event.xid));
        let events: Vec<Arc<JournalEvent>> = events.map(Arc::new).collect();
        for event in events.iter().rev() {
            cached.bytes += event.weight();
            if let Some(store) = &event.store {
                cached
                    .by_store
                    .entry(store.clone())
                    .or_default()
                    .push_front(Arc::clone(event));
            }
        }
        cached.reads.push_front(Read {
            after: base.clone(),
            events,
        });
        // The cache now has every event that `base` does not cover, and every event that `past` does not cover. It may
        // lack only events that both positions cover.
        cached.base = base.intersection(past);
        while cached.bytes > self.most_bytes && cached.drop_oldest() {}
    }

    /// The replay for a client of the store: all published events that the client's `cursor` does not cover. `None`:
    /// the cache lacks some of these events.
    pub fn replay_from(&self, store: &StoreId, epoch: Epoch, cursor: &str) -> Option<CachedReplay> {
        let cached = self.cached.as_ref().filter(|_| self.streamed.is_none())?;
        let replay_plan = ReplayPlan::from(Cursor::decode(cursor, epoch).ok()?);
        let exact = replay_plan.before.covers_all_of(&cached.base)
            && replay_plan.middle.covers_all_of(&replay_plan.before)
            && cached.reached.covers_all_of(&replay_plan.middle);
        if !exact {
            return None;
        }
        let of_store = cached.by_store.get(store).into_iter().flatten();
        let mut events: Vec<Arc<JournalEvent>> = of_store
            .filter(|event| replay_plan.is_due(event.xid, event.id))
            .cloned()
            .collect();
        events.sort_by_key(|event| replay_plan.order(event.xid, event.id));
        Some(CachedReplay {
            events,
            seen: cached.reached.clone(),
            epoch,
            replay_plan,
        })
    }
}

impl Cached {
    /// Evicts the events of the oldest read of the journal. Returns `false` if the cache has no read.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.reads.pop_front() else {
            return false;
        };
        // Each store's list has the order of the reads, so an event of the oldest read is the first of its list.
        for event in oldest.events {
            self.bytes -= event.weight();
            if let Some(store) = &event.store
                && let Some(events) = self.by_store.get_mut(store)
            {
                events.pop_front();
                if events.is_empty() {
                    self.by_store.remove(store);
                } else if events.len() < events.capacity() / ROOM_MOST {
                    // The list is much shorter than its capacity, so it frees memory.
                    events.shrink_to(events.len() * 2);
                }
            }
        }
        self.base = oldest.after;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cursor::Snapshot;
    use crate::domain::event::{Body, EventId, EventType, Xid};
    use proptest::prelude::*;
    use time::OffsetDateTime;

    /// A model of a database with overlapping transactions, and of a feed that reads them.
    struct World {
        epoch: Epoch,
        next_xid: u64,
        next_id: i64,
        running: Vec<(Xid, Vec<JournalEvent>)>,
        committed: Vec<JournalEvent>,
        position: Position,
        recent: EventCache,
        /// The cursors that clients may have received, as encoded text.
        given: Vec<String>,
        /// Past events that were read from the journal, but not added to the cache yet. The values are: the result of
        /// `wants_history`, the position before the past events, and the past events.
        past: Option<(Position, Position, Vec<JournalEvent>)>,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        Write { transaction: usize, store: usize },
        End { transaction: usize, commit: bool },
        Read,
        ReadStreamed,
        ReadHistory { cut: usize },
        PrependHistory,
    }

    const STORES: [&str; 2] = ["7", "8"];

    impl World {
        fn new(most_bytes: usize) -> Self {
            let mut world = Self {
                epoch: Epoch::new(1, "00000001", 1),
                next_xid: 10,
                next_id: 1,
                running: Vec::new(),
                committed: Vec::new(),
                position: Position::beginning(),
                recent: EventCache::new(most_bytes),
                given: Vec::new(),
                past: None,
            };
            // Before the node starts, some transactions have committed, and one is still open.
            for (store, ends) in [(0, true), (1, true), (0, false)] {
                world.step(&Step::Begin);
                let transaction = world.running.len() - 1;
                world.step(&Step::Write { transaction, store });
                let here = world.snapshot_position();
                world.give(&Cursor::At(here));
                if ends {
                    let commit = true;
                    world.step(&Step::End { transaction, commit });
                }
            }
            world.position = world.snapshot_position();
            world.recent.set_position(&world.position);
            world
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot {
                xmax: Xid(self.next_xid),
                running: self.running.iter().map(|(xid, _)| *xid).collect(),
            }
        }

        fn snapshot_position(&self) -> Position {
            let newest = self.committed.iter().map(|event| event.xid).max();
            let newest = newest.unwrap_or(Xid(0)).max(self.position.newest());
            Position::after(&self.snapshot(), newest)
        }

        fn give(&mut self, cursor: &Cursor) {
            self.given.push(cursor.encode(self.epoch));
        }

        fn news(&self) -> Vec<JournalEvent> {
            let mut news: Vec<JournalEvent> = self
                .committed
                .iter()
                .filter(|e| !self.position.covers(e.xid))
                .cloned()
                .collect();
            news.sort_by_key(|event| event.id);
            news
        }

        fn step(&mut self, step: &Step) {
            match step {
                Step::Begin => {
                    self.running.push((Xid(self.next_xid), Vec::new()));
                    self.next_xid += 1;
                }
                Step::Write { transaction, store } => {
                    let count = self.running.len();
                    if count == 0 {
                        return;
                    }
                    let (xid, events) = &mut self.running[transaction % count];
                    events.push(JournalEvent {
                        id: EventId(self.next_id),
                        xid: *xid,
                        store: Some(StoreId::new(STORES[store % 2])),
                        at: OffsetDateTime::UNIX_EPOCH,
                        body: Body::Engine(EventType::NewOrder, String::new()),
                    });
                    self.next_id += 1;
                }
                Step::End { transaction, commit } => {
                    if self.running.is_empty() {
                        return;
                    }
                    let (_, events) = self.running.remove(transaction % self.running.len());
                    if *commit {
                        self.committed.extend(events);
                    }
                }
                Step::Read => {
                    let (before, events) = (Cursor::At(self.position.clone()), self.news());
                    self.position = self.snapshot_position();
                    let after = Cursor::At(self.position.clone());
                    self.recent.append(&events, &before, &after);
                    self.give(&after);
                }
                Step::ReadStreamed => {
                    let (events, seen) = (self.news(), self.snapshot_position());
                    let mut reached = Cursor::At(self.position.clone());
                    for chunk in events.chunks(2) {
                        let through = Cursor::Within {
                            before: self.position.clone(),
                            seen: seen.clone(),
                            through: chunk.last().unwrap().id,
                        };
                        self.recent.append(chunk, &reached, &through);
                        self.give(&through);
                        let asked = self.recent.replay_from(&StoreId::new("7"), self.epoch, &self.given[0]);
                        assert!(asked.is_none(), "a read is being published in chunks");
                        reached = through;
                    }
                    if !events.is_empty() {
                        self.recent.set_position(&seen);
                        self.position = seen;
                    }
                }
                Step::ReadHistory { cut } => {
                    if let Some(wanted) = self.recent.wants_history() {
                        let mut xids: Vec<Xid> = self.committed.iter().map(|event| event.xid).collect();
                        xids.sort();
                        let cut = xids.get(cut % (xids.len() + 1)).map_or(Xid(0), |xid| Xid(xid.0 - 1));
                        let base = Position::after(&self.snapshot(), cut);
                        let mut events: Vec<JournalEvent> =
                            self.committed.iter().filter(|e| e.xid > cut).cloned().collect();
                        events.sort_by_key(|event| event.id);
                        self.past = Some((wanted, base, events));
                    }
                }
                Step::PrependHistory => {
                    if let Some((wanted, base, events)) = self.past.take() {
                        self.recent.prepend_history(&wanted, &base, events);
                    }
                }
            }
        }

        /// Checks that the cache serves each client either exactly the events that it missed, or no replay. Returns the
        /// number of replays that the cache serves.
        fn check(&self) -> usize {
            let mut served = 0;
            for cursor in &self.given {
                let replay_plan = ReplayPlan::from(Cursor::decode(cursor, self.epoch).unwrap());
                for store in STORES.map(StoreId::new) {
                    let Some(cached) = self.recent.replay_from(&store, self.epoch, cursor) else {
                        continue;
                    };
                    served += 1;
                    assert_eq!(cached.seen, self.position);
                    let owed = |e: &&JournalEvent| {
                        e.store.as_ref() == Some(&store)
                            && self.position.covers(e.xid)
                            && replay_plan.is_due(e.xid, e.id)
                    };
                    let mut expected: Vec<&JournalEvent> = self.committed.iter().filter(owed).collect();
                    expected.sort_by_key(|event| replay_plan.order(event.xid, event.id));
                    let expected: Vec<EventId> = expected.into_iter().map(|event| event.id).collect();
                    let ids: Vec<EventId> = cached.events.iter().map(|event| event.id).collect();
                    assert_eq!(ids, expected, "{cursor}");
                }
            }
            served
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => Just(Step::Begin),
            4 => (0_usize..6, 0_usize..2).prop_map(|(transaction, store)| Step::Write { transaction, store }),
            3 => (0_usize..6, proptest::bool::weighted(0.8))
                .prop_map(|(transaction, commit)| Step::End { transaction, commit }),
            3 => Just(Step::Read),
            1 => Just(Step::ReadStreamed),
            1 => (0_usize..8).prop_map(|cut| Step::ReadHistory { cut }),
            1 => Just(Step::PrependHistory),
        ]
    }

    proptest! {
        #[test]
        fn a_cursor_is_recalled_exactly_or_not_at_all(
            steps in proptest::collection::vec(step(), 0..60), room in 1_usize..40,
        ) {
            let mut world = World::new(room * 200);
            for step in &steps {
                world.step(step);
                world.check();
            }
            prop_assert!(world.recent.cached.as_ref().is_none_or(|cached| cached.bytes <= room * 200 || cached.reads.is_empty()));
        }

        #[test]
        fn with_room_for_all_every_cursor_that_this_node_has_given_is_recalled(
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut world = World::new(usize::MAX);
            world.step(&Step::ReadHistory { cut: 0 });
            world.step(&Step::PrependHistory);
            let earlier = world.given.len();
            for step in steps.iter().filter(|step| !matches!(step, Step::ReadHistory { .. })) {
                world.step(step);
                // For both stores, the cache must serve each cursor that was given after the start. It may not have all
                // events after an earlier cursor: a transaction that was open at the start may have ended unread.
                prop_assert!(world.check() >= 2 * (world.given.len() - earlier));
            }
        }
    }

    #[test]
    fn a_store_keeps_no_room_of_its_busiest_hour() {
        let mut recent = EventCache::new(1000 * 200);
        let positions: Vec<Position> = (0..3)
            .map(|number| {
                let snapshot = Snapshot {
                    xmax: Xid(10 + number),
                    running: Vec::new(),
                };
                Position::after(&snapshot, Xid(9 + number))
            })
            .collect();
        recent.set_position(&positions[0]);
        let read = |recent: &mut EventCache, number: usize, stores: &[(&str, usize)]| {
            let event = |store: &str| JournalEvent {
                id: EventId(1),
                xid: Xid(9 + number as u64),
                store: Some(StoreId::new(store)),
                at: OffsetDateTime::UNIX_EPOCH,
                body: Body::Engine(EventType::NewOrder, String::new()),
            };
            let events = stores
                .iter()
                .flat_map(|(store, count)| (0..*count).map(|_| event(store)));
            let (before, after) = (positions[number - 1].clone(), positions[number].clone());
            recent.append(&events.collect::<Vec<_>>(), &Cursor::At(before), &Cursor::At(after));
        };
        read(&mut recent, 1, &[("7", 900)]);
        read(&mut recent, 2, &[("8", 900), ("7", 10)]);
        let cached = recent.cached.as_ref().unwrap();
        assert_eq!(cached.reads.len(), 1, "the cache must evict the first read");
        let of_store = &cached.by_store[&StoreId::new("7")];
        assert_eq!(of_store.len(), 10);
        assert!(of_store.capacity() < 200, "{}", of_store.capacity());
    }

    #[test]
    fn a_read_too_large_for_its_room_is_left_to_the_journal() {
        let mut world = World::new(4 * 200);
        for _ in 0..6 {
            world.step(&Step::Begin);
            world.step(&Step::Write {
                transaction: 1,
                store: 0,
            });
            world.step(&Step::End {
                transaction: 1,
                commit: true,
            });
        }
        world.step(&Step::ReadStreamed);
        assert_eq!(world.check(), 0);
        // The large read has ended, so the cache is complete again.
        world.step(&Step::Read);
        world.step(&Step::Begin);
        assert_eq!(world.check(), 2);
    }
}
