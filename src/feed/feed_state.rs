//! State of the feed. It outlives a connection, so that no event in progress is lost.

use super::large_transactions::{LargeTransactions, TooMany};
use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::Xid;
use crate::journal::{Outline, Size, Witness};

/// State of the feed.
pub struct FeedState {
    /// The epoch of the database.
    pub epoch: Epoch,
    /// The position behind all read events. They are published, except those of large transactions.
    pub read: Position,
    /// Large transactions that are published in chunks between the reads.
    pub large_transactions: Option<LargeTransactions>,
    /// The cursor behind all published events.
    pub reached: Cursor,
    /// The newest event that was read, or one before it: proof of the history that the position belongs to.
    pub seen: Option<Witness>,
}

impl FeedState {
    /// A feed that has published everything up to `read`.
    pub fn new(epoch: Epoch, read: Position, seen: Option<Witness>) -> Self {
        Self {
            epoch,
            seen,
            reached: Cursor::At(read.clone()),
            read,
            large_transactions: None,
        }
    }

    /// Separates the large transactions, if there are any, so that the rest can be read: the position covers them
    /// from here on.
    pub fn separate_large(&mut self, outline: Outline) -> Result<(), TooMany> {
        let of = |size: Size| {
            let of_size = outline.transactions.iter().filter(move |(_, its)| *its == size);
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
        let xids = outline.transactions.iter().map(|(xid, _)| *xid);
        let newest = xids.fold(self.read.newest(), Xid::max);
        self.read = Position::after(&outline.snapshot, newest).without(small);
        Ok(())
    }

    /// Whether new events must wait for the large transactions. Otherwise their stream is given up, and all their
    /// events are new.
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

    /// The stream has ended: held transactions are new. Returns whether any chunk was published.
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

    /// Marks everything as published that was read, except large transactions. Returns the cursor before.
    pub fn advance(&mut self) -> Cursor {
        let reached = match &self.large_transactions {
            None => Cursor::At(self.read.clone()),
            Some(large_transactions) => large_transactions.cursor(&self.read),
        };
        std::mem::replace(&mut self.reached, reached)
    }
}
