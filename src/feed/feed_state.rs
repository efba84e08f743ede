//! The state of the feed. It outlives a connection to the journal, so that the feed loses no event when it reconnects.

use super::large_transactions::{LargeTransactions, TooMany};
use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::Xid;
use crate::journal::{Size, TransactionSizes, Witnesses};

/// The state of the feed: what it has read and published.
pub struct FeedState {
    /// The epoch of the database. Transaction ids can be compared only within one epoch. A restore or failover begins a
    /// new epoch.
    pub epoch: Epoch,
    /// The feed's position: the next read skips these transactions. Their events are already published, or wait in
    /// `large_transactions`.
    pub read: Position,
    /// Large transactions that are being published in chunks between the reads; `None`: no large transaction is being
    /// published.
    pub large_transactions: Option<LargeTransactions>,
    /// The cursor that covers exactly the published events. Unlike `read`, it does not cover events that still wait in
    /// `large_transactions`.
    pub reached: Cursor,
    /// The events of the feed's last read. After a reconnect, the feed checks that the journal still has them;
    /// otherwise the journal was restored to an earlier state.
    pub seen: Witnesses,
}

impl FeedState {
    /// Creates the state of a feed that has published all events up to the position `read`.
    pub fn new(epoch: Epoch, read: Position, seen: Witnesses) -> Self {
        Self {
            epoch,
            seen,
            reached: Cursor::At(read.clone()),
            read,
            large_transactions: None,
        }
    }

    /// Called after a read that found too many events. Moves the large transactions to `large_transactions`, so that
    /// the next read returns only the events of small transactions. From now on, `read` covers the large transactions,
    /// although their events are published later. Fails if no transaction is large, or too many are.
    pub fn separate_large(&mut self, sizes: TransactionSizes) -> Result<(), TooMany> {
        let of = |size: Size| {
            let of_size = sizes.transactions.iter().filter(move |(_, its)| *its == size);
            of_size.map(|(xid, _)| *xid).collect::<Vec<Xid>>()
        };
        let (large, small) = (of(Size::Large), of(Size::Small));
        if large.is_empty() {
            return Err(TooMany);
        }
        let mut large_transactions = self.large_transactions.take().unwrap_or_else(LargeTransactions::new);
        let added = large_transactions.add_large(&large);
        self.large_transactions = Some(large_transactions);
        added?;
        let xids = sizes.transactions.iter().map(|(xid, _)| *xid);
        let newest = xids.fold(self.read.newest(), Xid::max);
        self.read = Position::after(&sizes.snapshot, newest).without(small);
        Ok(())
    }

    /// Called if no further transaction can wait for the stream of large transactions. `true`: the feed must finish the
    /// stream before it reads new events. `false`: the stream had published no event and was discarded, so the feed
    /// reads its events again.
    pub fn must_wait(&mut self) -> bool {
        let Some(large_transactions) = &mut self.large_transactions else {
            return false;
        };
        if large_transactions.mark_full() {
            return true;
        }
        self.read = large_transactions.position_before_stream(&self.read);
        self.large_transactions = None;
        false
    }

    /// Ends the stream of large transactions. The next read then also returns the transactions that had to wait for the
    /// end of the stream. Returns whether any chunk of the stream was published.
    pub fn finish_large(&mut self) -> bool {
        if let Some(large_transactions) = self.large_transactions.take() {
            self.read = large_transactions.position_after_stream(&self.read);
        }
        let was_within = matches!(self.reached, Cursor::Within { .. });
        if was_within {
            self.reached = Cursor::At(self.read.clone());
        }
        was_within
    }

    /// Advances the cursor `reached` to the end of the events that were read. The cursor leaves out large transactions
    /// whose events are not all delivered yet. Returns the previous cursor.
    pub fn advance(&mut self) -> Cursor {
        let reached = match &self.large_transactions {
            None => Cursor::At(self.read.clone()),
            Some(large_transactions) => large_transactions.cursor(&self.read),
        };
        std::mem::replace(&mut self.reached, reached)
    }
}
