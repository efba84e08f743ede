//! Decides which transactions wait while large transactions are published. This file uses no database. The feed
//! publishes large transactions' events in chunks between the reads of all other events, so that unrelated stores do
//! not wait.
//!
//! The large transactions that are being published are *streamed* together, in the order of event ids. A later
//! transaction that touches a store of the stream may change the same rows. So it is *held*: the feed reads it again
//! after the stream ends. A transaction that touches a store of a held transaction is also held. A further large
//! transaction is also held. If one read finds large and small transactions of the same store, the small ones join the
//! stream. Within one read, the order of event ids is the correct order.
//!
//! Cursors do not cover streamed and held transactions, so a client that reconnects still receives them.

use std::collections::{BTreeSet, HashSet};

use crate::domain::cursor::{Cursor, Position};
use crate::domain::event::{EventId, JournalEvent, StoreId, Xid};

/// Maximum number of transactions that are streamed (published in chunks) or held (waiting for the end of the stream).
/// A cursor names each of these transactions in two or three characters, so this limit also limits the length of a
/// cursor.
pub const MAX_TRANSACTIONS: usize = 256;
/// Maximum number of different stores of all small transactions that are streamed or held.
pub const MAX_STORES: usize = 4096;

/// The progress of the stream, which is the publication of large transactions in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Transactions are still being added to the stream. None of its events is published yet.
    Collecting,
    /// The stream's events are being published. Later transactions that touch a store of the stream are held.
    Streaming,
    /// The stream's events are being published, and no further transaction can be held. The feed reads nothing else
    /// until the stream ends.
    Full,
}

/// The error if more than `MAX_TRANSACTIONS` transactions or `MAX_STORES` stores would have to be streamed or held.
/// Also the error if a read finds too many events, but none of its transactions is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The streamed transactions, which are being published in chunks, and the held transactions. The feed reads the held
/// transactions again after the stream ends.
#[derive(Debug)]
pub struct LargeTransactions {
    stage: Stage,
    streamed: BTreeSet<Xid>,
    held: BTreeSet<Xid>,
    /// The large transactions among the streamed and held transactions. `stores` does not contain their stores, because
    /// the feed does not read their events. A query to the journal finds out which stores they touch.
    large: Vec<Xid>,
    /// The stores of all small transactions that are streamed or held.
    stores: HashSet<StoreId>,
    /// The last published event of the stream; `None`: no event of the stream is published yet.
    through: Option<EventId>,
}

impl LargeTransactions {
    /// Creates a stream without transactions. The caller then adds transactions.
    pub fn new() -> Self {
        Self {
            stage: Stage::Collecting,
            streamed: BTreeSet::new(),
            held: BTreeSet::new(),
            large: Vec::new(),
            stores: HashSet::new(),
            through: None,
        }
    }

    /// Adds large transactions. Before the first event of the stream is published, they join the stream. Later, they
    /// are held until the stream ends.
    pub fn add_large(&mut self, xids: &[Xid]) -> Result<(), TooMany> {
        self.check_capacity(xids.len(), 0)?;
        self.large.extend(xids);
        self.current_set().extend(xids);
        Ok(())
    }

    /// Returns the arguments of the journal query that finds the stores of large transactions. The first argument lists
    /// the large transactions. The second lists the stores of `events` that are not in `self.stores`.
    pub fn stores_to_look_up<'a>(&self, events: &'a [JournalEvent]) -> (&[Xid], Vec<&'a str>) {
        let stores = events.iter().filter_map(|event| event.store.as_ref());
        let unknown: HashSet<&str> = stores
            .filter(|store| !self.stores.contains(*store))
            .map(StoreId::as_str)
            .collect();
        (&self.large, unknown.into_iter().collect())
    }

    /// Divides the events of a read, and returns those that the feed may publish at once. The other events belong to
    /// transactions that join the stream, or that are held until the stream ends. `touched` contains the stores of this
    /// read that large transactions also touch.
    pub fn remove_related(
        &mut self,
        events: Vec<JournalEvent>,
        touched: &HashSet<StoreId>,
    ) -> Result<Vec<JournalEvent>, TooMany> {
        let (xids, stores) = self.related(&events, touched);
        self.check_capacity(xids.len(), stores.len())?;
        self.current_set().extend(&xids);
        self.stores.extend(stores);
        if self.stage == Stage::Collecting {
            self.stage = Stage::Streaming;
        }
        Ok(events.into_iter().filter(|event| !xids.contains(&event.xid)).collect())
    }

    /// Finds the transactions of a read that must be streamed or held, because they may change the same rows as a large
    /// transaction. Each found transaction shares a store with a streamed or held transaction, or with another found
    /// one. Also returns the stores of the found transactions.
    fn related(&self, events: &[JournalEvent], touched: &HashSet<StoreId>) -> (HashSet<Xid>, HashSet<StoreId>) {
        let mut xids = HashSet::new();
        let mut stores = HashSet::new();
        loop {
            let before = (xids.len(), stores.len());
            for event in events {
                let Some(store) = &event.store else { continue };
                if xids.contains(&event.xid) {
                    stores.insert(store.clone());
                } else if self.stores.contains(store) || touched.contains(store) || stores.contains(store) {
                    xids.insert(event.xid);
                }
            }
            if (xids.len(), stores.len()) == before {
                return (xids, stores);
            }
        }
    }

    fn check_capacity(&self, transactions: usize, stores: usize) -> Result<(), TooMany> {
        let fits = self.streamed.len() + self.held.len() + transactions <= MAX_TRANSACTIONS
            && self.stores.len() + stores <= MAX_STORES;
        if fits { Ok(()) } else { Err(TooMany) }
    }

    fn current_set(&mut self) -> &mut BTreeSet<Xid> {
        match self.stage {
            Stage::Collecting => &mut self.streamed,
            Stage::Streaming | Stage::Full => &mut self.held,
        }
    }

    /// Stops holding further transactions: from now on, the feed reads nothing else until the stream ends. Returns
    /// `false` if no event of the stream is published yet; then the caller must discard the stream.
    pub fn mark_full(&mut self) -> bool {
        if self.stage == Stage::Collecting {
            return false;
        }
        self.stage = Stage::Full;
        true
    }

    /// Whether no further transaction can be held. Then the feed reads nothing else until the stream ends.
    pub fn is_full(&self) -> bool {
        self.stage == Stage::Full
    }

    /// The transactions of the stream, and the id of its last published event. The stream continues after this event.
    /// If no event is published yet, the id is lower than every event id.
    pub fn to_stream(&self) -> (Vec<Xid>, EventId) {
        let through = self.through.unwrap_or(EventId(i64::MIN));
        (self.streamed.iter().copied().collect(), through)
    }

    /// Records that all events of the stream up to this event are being published.
    pub fn advance_to(&mut self, event: EventId) {
        self.through = Some(event);
    }

    /// The cursor that covers exactly the published events. `read` is the position of the feed: it also covers the
    /// unpublished events of streamed and held transactions.
    pub fn cursor(&self, read: &Position) -> Cursor {
        let (seen, before) = (self.position_after_stream(read), self.position_before_stream(read));
        match self.through {
            None => Cursor::At(before),
            Some(through) => Cursor::Within { before, seen, through },
        }
    }

    /// Returns the feed's position after the whole stream is published. It does not cover held transactions, because
    /// the feed reads them again.
    pub fn position_after_stream(&self, read: &Position) -> Position {
        read.without(self.held.iter().copied())
    }

    /// Returns the feed's position before the stream. It covers neither streamed nor held transactions.
    pub fn position_before_stream(&self, read: &Position) -> Position {
        self.position_after_stream(read).without(self.streamed.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cursor::{ReplayPlan, Snapshot};
    use crate::domain::event::{Body, EventType};

    fn event(id: i64, xid: u64, store: &str) -> JournalEvent {
        JournalEvent {
            id: EventId(id),
            xid: Xid(xid),
            store: Some(StoreId::new(store)),
            at: time::OffsetDateTime::UNIX_EPOCH,
            body: Body::Engine(EventType::NewOrder, "{}".into()),
        }
    }

    fn read(through: u64) -> Position {
        let (xmax, running) = (Xid(through + 1), vec![]);
        Position::after(&Snapshot { xmax, running }, Xid(through))
    }

    fn ids(events: Vec<JournalEvent>) -> Vec<i64> {
        events.iter().map(|event| event.id.0).collect()
    }

    fn touched(stores: &[&str]) -> HashSet<StoreId> {
        stores.iter().map(|store| StoreId::new(store)).collect()
    }

    /// A stream of two transactions from one read: transaction 10 is large and touches store 1; transaction 11 is
    /// small and touches the same store.
    fn streaming() -> LargeTransactions {
        let mut large_transactions = LargeTransactions::new();
        large_transactions.add_large(&[Xid(10)]).unwrap();
        let together = vec![event(1, 11, "1"), event(2, 12, "2")];
        assert_eq!(
            ids(large_transactions.remove_related(together, &touched(&["1"])).unwrap()),
            [2]
        );
        large_transactions
    }

    #[test]
    fn transactions_of_the_same_read_are_streamed_and_later_ones_are_held() {
        let mut large_transactions = streaming();
        assert_eq!(large_transactions.to_stream().0, [Xid(10), Xid(11)]);
        let later = vec![event(3, 13, "1"), event(4, 14, "2")];
        assert_eq!(
            ids(large_transactions.remove_related(later, &touched(&["1"])).unwrap()),
            [4]
        );
        assert_eq!(large_transactions.to_stream().0, [Xid(10), Xid(11)]);
        let released = large_transactions.position_after_stream(&read(14));
        assert!(released.covers(Xid(10)) && released.covers(Xid(11)) && !released.covers(Xid(13)));
    }

    #[test]
    fn a_transaction_that_shares_a_store_with_a_held_one_is_held() {
        let mut large_transactions = streaming();
        // Transaction 13 touches stores 1 and 2. Transaction 14 comes earlier in this read, and touches stores 2 and 3.
        // Transaction 15 touches store 4.
        let later = vec![
            event(3, 14, "2"),
            event(4, 14, "3"),
            event(5, 13, "2"),
            event(6, 13, "1"),
            event(7, 15, "4"),
        ];
        assert_eq!(
            ids(large_transactions.remove_related(later, &touched(&["1"])).unwrap()),
            [7]
        );
        // A held transaction touches store 3, so transaction 16 is held without a look-up of this store.
        let next = vec![event(8, 16, "3"), event(9, 17, "4")];
        assert_eq!(large_transactions.stores_to_look_up(&next), (&[Xid(10)][..], vec!["4"]));
        assert_eq!(
            ids(large_transactions.remove_related(next, &touched(&[])).unwrap()),
            [9]
        );
        let released = large_transactions.position_after_stream(&read(17));
        assert_eq!(released.missing(), [Xid(13), Xid(14), Xid(16)]);
    }

    #[test]
    fn a_later_large_transaction_is_held_and_its_stores_are_looked_up() {
        let mut large_transactions = streaming();
        large_transactions.add_large(&[Xid(20)]).unwrap();
        assert_eq!(large_transactions.to_stream().0, [Xid(10), Xid(11)]);
        let later = [event(9, 21, "5")];
        assert_eq!(
            large_transactions.stores_to_look_up(&later),
            (&[Xid(10), Xid(20)][..], vec!["5"])
        );
        assert!(!large_transactions.position_after_stream(&read(21)).covers(Xid(20)));
    }

    #[test]
    fn a_cursor_excludes_exactly_the_unpublished_events() {
        let mut large_transactions = streaming();
        large_transactions
            .remove_related(vec![event(50, 13, "1")], &touched(&["1"]))
            .unwrap();
        let Cursor::At(position) = large_transactions.cursor(&read(14)) else {
            panic!("no event of the stream has been published")
        };
        assert_eq!(position.missing(), [Xid(10), Xid(11), Xid(13)]);
        assert_eq!(position, large_transactions.position_before_stream(&read(14)));
        large_transactions.advance_to(EventId(30));
        let replay_plan = ReplayPlan::from(large_transactions.cursor(&read(14)));
        assert!(!replay_plan.is_due(Xid(10), EventId(30)) && replay_plan.is_due(Xid(10), EventId(31)));
        assert!(!replay_plan.is_due(Xid(12), EventId(2)) && replay_plan.is_due(Xid(13), EventId(50)));
        assert_eq!(large_transactions.to_stream().1, EventId(30));
    }

    #[test]
    fn a_full_stream_is_given_up_before_it_begins_and_waited_for_afterwards() {
        let mut large_transactions = LargeTransactions::new();
        large_transactions.add_large(&[Xid(10)]).unwrap();
        assert!(!large_transactions.mark_full());
        let mut large_transactions = streaming();
        let most = MAX_TRANSACTIONS as u64;
        let too_many: Vec<JournalEvent> = (0..most).map(|n| event(100 + n as i64, 100 + n, "1")).collect();
        let before = large_transactions.position_after_stream(&read(1000));
        assert_eq!(
            large_transactions
                .remove_related(too_many, &touched(&["1"]))
                .unwrap_err(),
            TooMany
        );
        assert_eq!(
            large_transactions.position_after_stream(&read(1000)),
            before,
            "no transaction may be held after the error"
        );
        assert!(large_transactions.mark_full() && large_transactions.is_full());
    }
}
