//! What was published lately, in memory: when thousands come back at once, their replays are served from here and not
//! from Postgres.
//!
//! The invariant: **every event that has been published and is not behind `base` is here.** So a client's cursor is
//! served exactly when all of `base` is behind it: whatever it is owed is here, or not published yet, and then comes
//! live. `base` moves forward when the oldest read is dropped for want of room, to where that read ended; it moves back
//! once, when the past is read from the journal ([`Recent::remember`]). And only a cursor that is itself behind what was
//! published is served: one that covers more was given by a node that is ahead of this one, and the journal knows better.
//!
//! A transaction that stays open holds nothing up: it is not behind `base`, and not behind the cursor either.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cursor::{Cursor, Epoch, Onward, Position};
use crate::event::{Event, StoreId};

/// What the recent events may weigh, bytes.
pub const RECENT_BYTES: usize = 32 * 1024 * 1024;

/// The events that were published lately.
#[derive(Debug)]
pub struct Recent {
    most_bytes: usize,
    /// `None`: no position, or more was published at once than there is room for.
    known: Option<Known>,
    /// The parts that have come of a read that is streamed.
    streamed: Option<Vec<Arc<Event>>>,
    /// The past has been read from the journal, or there is none to read.
    warm: bool,
}

#[derive(Debug)]
struct Known {
    base: Position,
    reached: Position,
    reads: VecDeque<Read>,
    by_store: HashMap<StoreId, VecDeque<Arc<Event>>>,
    bytes: usize,
}

#[derive(Debug)]
struct Read {
    after: Position,
    events: Vec<Arc<Event>>,
}

/// What a client is owed, from memory.
#[derive(Debug)]
pub struct Recalled {
    /// In the order in which they are told.
    pub events: Vec<Arc<Event>>,
    /// What the client has been sent when it has these.
    pub seen: Position,
    /// The life of the database that these belong to.
    pub epoch: Epoch,
    /// Says where the client stands behind each.
    pub onward: Onward,
}

impl Recent {
    /// Knows nothing yet.
    pub fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            known: None,
            streamed: None,
            warm: false,
        }
    }

    /// Stands at a position, without events on the way; or at the end of a read that was streamed.
    pub fn reach(&mut self, position: &Position) {
        match (self.streamed.take(), self.known.take()) {
            (Some(events), Some(known)) => {
                self.known = Some(known);
                self.push(events, position);
            }
            _ => self.begin(position),
        }
    }

    /// Begins anew: all that this position does not cover will come.
    fn begin(&mut self, position: &Position) {
        self.streamed = None;
        self.known = Some(Known {
            base: position.clone(),
            reached: position.clone(),
            reads: VecDeque::new(),
            by_store: HashMap::new(),
            bytes: 0,
        });
    }

    /// Keeps what is published: all that was new behind `before`, or a part of it.
    pub fn keep(&mut self, events: &[Event], before: &Cursor, after: &Cursor) {
        let of_stores = events.iter().filter(|event| event.store.is_some());
        let events: Vec<Arc<Event>> = of_stores.map(|event| Arc::new(event.clone())).collect();
        if let Cursor::At(before) = before {
            // A read that was streamed and broke off begins again.
            self.streamed = None;
            if self.known.as_ref().is_none_or(|known| known.reached != *before) {
                self.begin(before);
            }
        }
        match after {
            Cursor::At(after) => self.push(events, after),
            Cursor::Within { .. } => self.stream(events),
        }
    }

    fn stream(&mut self, events: Vec<Arc<Event>>) {
        let streamed = self.streamed.get_or_insert_default();
        streamed.extend(events);
        if streamed.iter().map(|event| event.weight()).sum::<usize>() > self.most_bytes {
            // Begun anew at its end; until then the journal answers.
            self.known = None;
            streamed.clear();
        }
    }

    fn push(&mut self, events: Vec<Arc<Event>>, after: &Position) {
        let Some(known) = &mut self.known else { return };
        for event in &events {
            known.bytes += event.weight();
            if let Some(store) = &event.store {
                known.by_store.entry(store.clone()).or_default().push_back(Arc::clone(event));
            }
        }
        known.reached = after.clone();
        if let Some(last) = known.reads.back_mut().filter(|_| events.is_empty()) {
            // Nothing came: the read before it ends here, too.
            last.after = after.clone();
        } else {
            known.reads.push_back(Read {
                after: after.clone(),
                events,
            });
        }
        while known.bytes > self.most_bytes && known.drop_oldest() {}
    }

    /// Where the past would join, if it has not been read.
    pub fn wants_past(&self) -> Option<Position> {
        self.known.as_ref().filter(|_| !self.warm).map(|known| known.base.clone())
    }

    /// Puts the past before what is known: `events`, by id, are all of it that is not behind `past`. It was read after
    /// this began at `base`, so it has seen all that is behind `base`; what is not behind `base` is here already, and may
    /// not even have been published.
    pub fn remember(&mut self, base: &Position, past: &Position, events: Vec<Event>) {
        let Some(known) = self.known.as_mut().filter(|known| known.base == *base) else {
            return;
        };
        self.warm = true;
        let events = events.into_iter().filter(|event| event.store.is_some() && base.covers(event.xid));
        let events: Vec<Arc<Event>> = events.map(Arc::new).collect();
        for event in events.iter().rev() {
            known.bytes += event.weight();
            if let Some(store) = &event.store {
                known.by_store.entry(store.clone()).or_default().push_front(Arc::clone(event));
            }
        }
        known.reads.push_front(Read {
            after: base.clone(),
            events,
        });
        // What was running at `base` and has ended since is behind the past, but not behind `base`.
        known.base = base.common(past);
        while known.bytes > self.most_bytes && known.drop_oldest() {}
    }

    /// What this cursor's owner is owed of the store, if all of it is here.
    pub fn recall(&self, store: &StoreId, epoch: Epoch, cursor: &str) -> Option<Recalled> {
        let known = self.known.as_ref().filter(|_| self.streamed.is_none())?;
        let onward = Onward::from(Cursor::decode(cursor, epoch).ok()?);
        let exact = onward.before.covers_all_of(&known.base)
            && onward.middle.covers_all_of(&onward.before)
            && known.reached.covers_all_of(&onward.middle);
        if !exact {
            return None;
        }
        let of_store = known.by_store.get(store).into_iter().flatten();
        let mut events: Vec<Arc<Event>> = of_store
            .filter(|event| onward.owes(event.xid, event.id))
            .cloned()
            .collect();
        events.sort_by_key(|event| onward.order(event.xid, event.id));
        Some(Recalled {
            events,
            seen: known.reached.clone(),
            epoch,
            onward,
        })
    }
}

impl Known {
    /// Whether there was one to drop.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.reads.pop_front() else {
            return false;
        };
        // Each store's events stand in the order of the reads, so these are its first.
        for event in oldest.events {
            self.bytes -= event.weight();
            if let Some(store) = &event.store
                && let Some(events) = self.by_store.get_mut(store)
            {
                events.pop_front();
                if events.is_empty() {
                    self.by_store.remove(store);
                }
            }
        }
        self.base = oldest.after;
        true
    }
}
