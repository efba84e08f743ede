//! Large transactions are put large_transactions, so that nobody waits for them who has nothing to do with them: their events are
//! published in chunks, between the reads of everything else. Bookkeeping only, no database.
//!
//! What is on its way is *streamed*, all together, by id. What touches a store of theirs and is read later must come
//! after them, for it may change their rows: it is *held*, and read once more when they are through. So is what touches
//! a store of something held, and a further large transaction. What touches one of their stores and is read together
//! with them may come before or after: it is streamed with them, for within one answer the order of ids is right.
//!
//! To everybody who holds a cursor, what is streamed and what is held is still running.

use std::collections::{BTreeSet, HashSet};

use crate::domain::cursor::{Cursor, Position};
use crate::domain::event::{EventId, JournalEvent, StoreId, Xid};

/// Transactions that are streamed or held, at most. A cursor names each of them, in two or three characters.
pub const ASIDE_TRANSACTIONS: usize = 256;
/// Stores of the small ones among them, at most.
pub const ASIDE_STORES: usize = 4096;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What belongs to it is still being looked for: nothing of it has been published.
    Gathering,
    /// Its events are on their way.
    UnderWay,
    /// The same, and no more can be held: nothing else is read until it is through.
    Full,
}

/// Too much would have to be held, or too much is new that is not large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// What is published beside the reads, and what waits for it.
#[derive(Debug)]
pub struct LargeTransactions {
    stage: Stage,
    streamed: BTreeSet<Xid>,
    held: BTreeSet<Xid>,
    /// The large ones of both. Which stores they touch, the journal is asked.
    large: Vec<Xid>,
    /// Which stores the small ones of both touch.
    stores: HashSet<StoreId>,
    /// The last event of it that was published.
    through: Option<EventId>,
}

impl LargeTransactions {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            stage: Stage::Gathering,
            streamed: BTreeSet::new(),
            held: BTreeSet::new(),
            large: Vec::new(),
            stores: HashSet::new(),
            through: None,
        }
    }

    /// Takes further large transactions.
    pub fn take_large(&mut self, xids: &[Xid]) -> Result<(), TooMany> {
        self.room_for(xids.len(), 0)?;
        self.large.extend(xids);
        self.place().extend(xids);
        Ok(())
    }

    /// The large transactions, and the stores of these events that are not known to be theirs: it must be asked which
    /// of them are.
    pub fn to_ask<'a>(&self, events: &'a [JournalEvent]) -> (&[Xid], Vec<&'a str>) {
        let stores = events.iter().filter_map(|event| event.store.as_ref());
        let unknown: HashSet<&str> = stores
            .filter(|store| !self.stores.contains(*store))
            .map(StoreId::as_str)
            .collect();
        (&self.large, unknown.into_iter().collect())
    }

    /// Takes from a read what must not be published yet; the rest is for everybody. `touched`: those of its stores that
    /// the large transactions touch.
    pub fn part(
        &mut self,
        events: Vec<JournalEvent>,
        touched: &HashSet<StoreId>,
    ) -> Result<Vec<JournalEvent>, TooMany> {
        let (xids, stores) = self.concerned(&events, touched);
        self.room_for(xids.len(), stores.len())?;
        self.place().extend(&xids);
        self.stores.extend(stores);
        if self.stage == Stage::Gathering {
            self.stage = Stage::UnderWay;
        }
        Ok(events.into_iter().filter(|event| !xids.contains(&event.xid)).collect())
    }

    /// The transactions among these that touch a store that is touched already, or that another one of them touches.
    fn concerned(&self, events: &[JournalEvent], touched: &HashSet<StoreId>) -> (HashSet<Xid>, HashSet<StoreId>) {
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

    fn room_for(&self, transactions: usize, stores: usize) -> Result<(), TooMany> {
        let room = self.streamed.len() + self.held.len() + transactions <= ASIDE_TRANSACTIONS
            && self.stores.len() + stores <= ASIDE_STORES;
        if room { Ok(()) } else { Err(TooMany) }
    }

    fn place(&mut self) -> &mut BTreeSet<Xid> {
        match self.stage {
            Stage::Gathering => &mut self.streamed,
            Stage::UnderWay | Stage::Full => &mut self.held,
        }
    }

    /// No more can be held. Whether it goes on all the same, alone: not where what belongs to it is not certain yet.
    pub fn fill(&mut self) -> bool {
        if self.stage == Stage::Gathering {
            return false;
        }
        self.stage = Stage::Full;
        true
    }

    /// Whether everything else waits for it.
    pub fn is_full(&self) -> bool {
        self.stage == Stage::Full
    }

    /// What is to be streamed, and the event behind which.
    pub fn to_stream(&self) -> (Vec<Xid>, EventId) {
        let through = self.through.unwrap_or(EventId(i64::MIN));
        (self.streamed.iter().copied().collect(), through)
    }

    /// A chunk that ends with this event is being published.
    pub fn reach(&mut self, event: EventId) {
        self.through = Some(event);
    }

    /// What has been published, where `read` is what has been read, this included.
    pub fn cursor(&self, read: &Position) -> Cursor {
        let (seen, before) = (self.released(read), self.given_up(read));
        match self.through {
            None => Cursor::At(before),
            Some(through) => Cursor::Within { before, seen, through },
        }
    }

    /// What has been published when all that is streamed has been: what is held is new then.
    pub fn released(&self, read: &Position) -> Position {
        read.without(self.held.iter().copied())
    }

    /// What has been published when nothing of it has been, and it is given up.
    pub fn given_up(&self, read: &Position) -> Position {
        self.released(read).without(self.streamed.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cursor::{Onward, Snapshot};
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

    /// Transaction 10 is large, of store 1; 11 of the same store was read with it.
    fn under_way() -> LargeTransactions {
        let mut large_transactions = LargeTransactions::new();
        large_transactions.take_large(&[Xid(10)]).unwrap();
        let together = vec![event(1, 11, "1"), event(2, 12, "2")];
        assert_eq!(ids(large_transactions.part(together, &touched(&["1"])).unwrap()), [2]);
        large_transactions
    }

    #[test]
    fn what_is_read_together_is_streamed_with_it_and_what_comes_later_is_held() {
        let mut large_transactions = under_way();
        assert_eq!(large_transactions.to_stream().0, [Xid(10), Xid(11)]);
        let later = vec![event(3, 13, "1"), event(4, 14, "2")];
        assert_eq!(ids(large_transactions.part(later, &touched(&["1"])).unwrap()), [4]);
        assert_eq!(large_transactions.to_stream().0, [Xid(10), Xid(11)]);
        let released = large_transactions.released(&read(14));
        assert!(released.covers(Xid(10)) && released.covers(Xid(11)) && !released.covers(Xid(13)));
    }

    #[test]
    fn what_builds_on_something_held_is_held_whichever_way_it_goes() {
        let mut large_transactions = under_way();
        // 13 joins stores 1 and 2; 14, before it in this read, joins 2 and 3; 15 is of another one.
        let later = vec![
            event(3, 14, "2"),
            event(4, 14, "3"),
            event(5, 13, "2"),
            event(6, 13, "1"),
            event(7, 15, "4"),
        ];
        assert_eq!(ids(large_transactions.part(later, &touched(&["1"])).unwrap()), [7]);
        // Store 3 is not asked for any more, and still held.
        let next = vec![event(8, 16, "3"), event(9, 17, "4")];
        assert_eq!(large_transactions.to_ask(&next), (&[Xid(10)][..], vec!["4"]));
        assert_eq!(ids(large_transactions.part(next, &touched(&[])).unwrap()), [9]);
        let released = large_transactions.released(&read(17));
        assert_eq!(released.missing(), [Xid(13), Xid(14), Xid(16)]);
    }

    #[test]
    fn a_large_one_that_comes_later_is_held_and_its_stores_are_asked_for() {
        let mut large_transactions = under_way();
        large_transactions.take_large(&[Xid(20)]).unwrap();
        assert_eq!(large_transactions.to_stream().0, [Xid(10), Xid(11)]);
        let later = [event(9, 21, "5")];
        assert_eq!(large_transactions.to_ask(&later), (&[Xid(10), Xid(20)][..], vec!["5"]));
        assert!(!large_transactions.released(&read(21)).covers(Xid(20)));
    }

    #[test]
    fn a_cursor_owes_what_has_not_been_published_and_nothing_else() {
        let mut large_transactions = under_way();
        large_transactions
            .part(vec![event(50, 13, "1")], &touched(&["1"]))
            .unwrap();
        let Cursor::At(position) = large_transactions.cursor(&read(14)) else {
            panic!("nothing of it has been published")
        };
        assert_eq!(position.missing(), [Xid(10), Xid(11), Xid(13)]);
        assert_eq!(position, large_transactions.given_up(&read(14)));
        large_transactions.reach(EventId(30));
        let onward = Onward::from(large_transactions.cursor(&read(14)));
        assert!(!onward.owes(Xid(10), EventId(30)) && onward.owes(Xid(10), EventId(31)));
        assert!(!onward.owes(Xid(12), EventId(2)) && onward.owes(Xid(13), EventId(50)));
        assert_eq!(large_transactions.to_stream().1, EventId(30));
    }

    #[test]
    fn it_is_given_up_before_it_has_begun_and_waited_for_afterwards() {
        let mut large_transactions = LargeTransactions::new();
        large_transactions.take_large(&[Xid(10)]).unwrap();
        assert!(!large_transactions.fill());
        let mut large_transactions = under_way();
        let most = ASIDE_TRANSACTIONS as u64;
        let too_many: Vec<JournalEvent> = (0..most).map(|n| event(100 + n as i64, 100 + n, "1")).collect();
        let before = large_transactions.released(&read(1000));
        assert_eq!(
            large_transactions.part(too_many, &touched(&["1"])).unwrap_err(),
            TooMany
        );
        assert_eq!(
            large_transactions.released(&read(1000)),
            before,
            "nothing of it is held"
        );
        assert!(large_transactions.fill() && large_transactions.is_full());
    }
}
