//! Where the feed stands: it outlives a connection, so that nothing is forgotten that is on its way.

use super::large_transactions::{LargeTransactions, TooMany};
use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::Xid;
use crate::journal::{Outline, Size};

/// Where the feed stands.
pub struct FeedState {
    /// The life of the database.
    pub epoch: Epoch,
    /// What has been read: published, but for what is large_transactions.
    pub read: Position,
    /// What is published beside the reads.
    pub large_transactions: Option<LargeTransactions>,
    /// What has been published.
    pub reached: Cursor,
}

impl FeedState {
    /// All of this has been published.
    pub fn new(epoch: Epoch, read: Position) -> Self {
        Self {
            epoch,
            reached: Cursor::At(read.clone()),
            read,
            large_transactions: None,
        }
    }

    /// Puts the large transactions large_transactions, if there are any, so that the rest can be read: they count as read from here on.
    pub fn put_aside(&mut self, outline: Outline) -> Result<(), TooMany> {
        let of = |size: Size| {
            let of_size = outline.transactions.iter().filter(move |(_, its)| *its == size);
            of_size.map(|(xid, _)| *xid).collect::<Vec<Xid>>()
        };
        let (large, small) = (of(Size::Large), of(Size::Small));
        if large.is_empty() {
            return Err(TooMany);
        }
        let mut large_transactions = self.large_transactions.take().unwrap_or_else(LargeTransactions::new);
        let taken = large_transactions.take_large(&large);
        self.large_transactions = Some(large_transactions);
        taken?;
        let xids = outline.transactions.iter().map(|(xid, _)| *xid);
        let newest = xids.fold(self.read.newest(), Xid::max);
        self.read = Position::after(&outline.snapshot, newest).without(small);
        Ok(())
    }

    /// Whether what is new waits for what is large_transactions. Otherwise that is given up: all of it is new.
    pub fn waits_for_aside(&mut self) -> bool {
        let Some(large_transactions) = &mut self.large_transactions else {
            return false;
        };
        if large_transactions.fill() {
            return true;
        }
        self.read = large_transactions.given_up(&self.read);
        self.large_transactions = None;
        false
    }

    /// What is large_transactions is through: what waited for it is new. Whether anything of it has been published.
    pub fn release(&mut self) -> bool {
        if let Some(large_transactions) = self.large_transactions.take() {
            self.read = large_transactions.released(&self.read);
        }
        let was_within = matches!(self.reached, Cursor::Within { .. });
        if was_within {
            self.reached = Cursor::At(self.read.clone());
        }
        was_within
    }

    /// All that has been read, and is not large_transactions, is published now. What had been published before.
    pub fn advance(&mut self) -> Cursor {
        let reached = match &self.large_transactions {
            None => Cursor::At(self.read.clone()),
            Some(large_transactions) => large_transactions.cursor(&self.read),
        };
        std::mem::replace(&mut self.reached, reached)
    }
}
