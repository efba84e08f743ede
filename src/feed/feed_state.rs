//! Where the feed stands: it outlives a connection, so that nothing is forgotten that is on its way.

use super::large_transactions::{Aside, TooMany};
use crate::domain::cursor::{Cursor, Epoch, Position};
use crate::domain::event::Xid;
use crate::journal::{Outline, Size};

/// Where the feed stands.
pub struct Place {
    /// The life of the database.
    pub epoch: Epoch,
    /// What has been read: published, but for what is aside.
    pub read: Position,
    /// What is published beside the reads.
    pub aside: Option<Aside>,
    /// What has been published.
    pub reached: Cursor,
}

impl Place {
    /// All of this has been published.
    pub fn new(epoch: Epoch, read: Position) -> Self {
        Self {
            epoch,
            reached: Cursor::At(read.clone()),
            read,
            aside: None,
        }
    }

    /// Puts the large transactions aside, if there are any, so that the rest can be read: they count as read from here on.
    pub fn put_aside(&mut self, outline: Outline) -> Result<(), TooMany> {
        let of = |size: Size| {
            let of_size = outline.transactions.iter().filter(move |(_, its)| *its == size);
            of_size.map(|(xid, _)| *xid).collect::<Vec<Xid>>()
        };
        let (large, small) = (of(Size::Large), of(Size::Small));
        if large.is_empty() {
            return Err(TooMany);
        }
        let mut aside = self.aside.take().unwrap_or_else(Aside::new);
        let taken = aside.take_large(&large);
        self.aside = Some(aside);
        taken?;
        let xids = outline.transactions.iter().map(|(xid, _)| *xid);
        let newest = xids.fold(self.read.newest(), Xid::max);
        self.read = Position::after(&outline.snapshot, newest).without(small);
        Ok(())
    }

    /// Whether what is new waits for what is aside. Otherwise that is given up: all of it is new.
    pub fn waits_for_aside(&mut self) -> bool {
        let Some(aside) = &mut self.aside else { return false };
        if aside.fill() {
            return true;
        }
        self.read = aside.given_up(&self.read);
        self.aside = None;
        false
    }

    /// What is aside is through: what waited for it is new. Whether anything of it has been published.
    pub fn release(&mut self) -> bool {
        if let Some(aside) = self.aside.take() {
            self.read = aside.released(&self.read);
        }
        let was_within = matches!(self.reached, Cursor::Within { .. });
        if was_within {
            self.reached = Cursor::At(self.read.clone());
        }
        was_within
    }

    /// All that has been read, and is not aside, is published now. What had been published before.
    pub fn advance(&mut self) -> Cursor {
        let reached = match &self.aside {
            None => Cursor::At(self.read.clone()),
            Some(aside) => aside.cursor(&self.read),
        };
        std::mem::replace(&mut self.reached, reached)
    }
}
