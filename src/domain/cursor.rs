//! Positions in the journal, and cursors. A position says which transactions a reader has read. A cursor is a position
//! encoded as an opaque string, which a client keeps.
//!
//! An event gets its id before its transaction commits. If a reader asked for "ids above N", it would skip events that
//! commit late. So a position records *transactions*: all transactions up to the newest one that was read, except those
//! that were still running. An event is new if the position does not cover its transaction, even if this transaction
//! stayed open for long.
//!
//! A Postgres snapshot would be enough, except after a crash. A snapshot also covers transactions that left nothing on
//! disk, because they were rolled back or not flushed. After an immediate restart, Postgres uses the ids of such
//! transactions again, and a reader would skip an order with such an id. So a position ends at the newest transaction
//! of which a reader has read an *event*. This event is on disk, so Postgres never uses an id up to it again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::domain::event::{EventId, Xid};

/// The maximum length of a cursor, characters. A position leaves out transactions that were still running. Each of
/// these transactions needs two or three characters.
pub const MAX_CURSOR_CHARS: usize = 8 * 1024;
const VERSION: u8 = 1;
const AT: u8 = 0;
const WITHIN: u8 = 1;

/// A snapshot as `pg_current_snapshot()` returns it. It says which transactions had ended, and which were still
/// running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The lowest transaction id that Postgres had not assigned yet.
    pub xmax: Xid,
    /// The transactions below `xmax` that were still running.
    pub running: Vec<Xid>,
}

impl Snapshot {
    /// The oldest transaction that had not ended when the snapshot was taken. All transactions with lower ids had
    /// ended.
    pub fn oldest(&self) -> Xid {
        self.running.iter().copied().min().unwrap_or(self.xmax).min(self.xmax)
    }
}

/// A position in the journal: the transactions that a reader has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    end: Xid,
    missing: Vec<Xid>,
}

impl Position {
    /// Returns the position of a reader that has read all events visible in `snapshot`. `newest` is the newest
    /// transaction of which the reader has read an event.
    pub fn after(snapshot: &Snapshot, newest: Xid) -> Self {
        let end = Xid((newest.0 + 1).min(snapshot.xmax.0));
        let mut missing: Vec<Xid> = snapshot.running.iter().copied().filter(|xid| *xid < end).collect();
        missing.sort_unstable();
        Self { end, missing }
    }

    /// The position of a reader that has read nothing.
    pub fn beginning() -> Self {
        Self {
            end: Xid(0),
            missing: Vec::new(),
        }
    }

    /// Whether the reader has read the events of this transaction.
    pub fn covers(&self, xid: Xid) -> bool {
        xid < self.end && self.missing.binary_search(&xid).is_err()
    }

    /// The first transaction id after the position. The reader has read no event of this transaction or of any later
    /// one.
    pub fn end(&self) -> Xid {
        self.end
    }

    /// The transactions before `end` that the position does not cover, usually because they were still running. The
    /// reader reads their events later.
    pub fn missing(&self) -> &[Xid] {
        &self.missing
    }

    /// The last transaction before `end`. The position covers no later transaction.
    pub fn newest(&self) -> Xid {
        Xid(self.end.0.saturating_sub(1))
    }

    /// Whether this position covers each transaction that `other` covers. If `other` ends later than this position, the
    /// result is always `false`, even if `other` covers no further transaction.
    pub fn covers_all_of(&self, other: &Self) -> bool {
        let below = |xid: &&Xid| **xid < other.end;
        other.end <= self.end
            && self
                .missing
                .iter()
                .take_while(below)
                .all(|xid| other.missing.binary_search(xid).is_ok())
    }

    /// Returns a copy of the position that does not cover these transactions, as if they were still running. The
    /// reader then reads the events of these transactions again.
    pub fn without(&self, xids: impl IntoIterator<Item = Xid>) -> Self {
        let mut missing = self.missing.clone();
        missing.extend(xids.into_iter().filter(|xid| *xid < self.end));
        missing.sort_unstable();
        missing.dedup();
        Self { end: self.end, missing }
    }

    /// The intersection of two positions: it covers only the transactions that both positions cover.
    pub fn intersection(&self, other: &Self) -> Self {
        let end = self.end.min(other.end);
        let both = self.missing.iter().chain(&other.missing);
        let mut missing: Vec<Xid> = both.copied().filter(|xid| *xid < end).collect();
        missing.sort_unstable();
        missing.dedup();
        Self { end, missing }
    }

    /// Whether the position covers this transaction and all transactions before it.
    pub fn covers_through(&self, xid: Xid) -> bool {
        xid < self.end && self.missing.first().is_none_or(|first| *first > xid)
    }
}

/// The end of a replay: what the client has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayEnd {
    /// The transactions whose events the client has received.
    pub position: Position,
    /// The newest event of the journal at the end of the replay. If the database loses commits after that, Postgres
    /// assigns the ids of their transactions again, but an event never gets the id of a lost event.
    pub newest: EventId,
}

impl ReplayEnd {
    /// Whether the replay has sent the event `id` of the transaction `xid`.
    pub fn covers(&self, xid: Xid, id: EventId) -> bool {
        id <= self.newest && self.position.covers(xid)
    }
}

/// The epoch of a database. Transaction ids can be compared only within one epoch. The epoch is a hash of three values:
/// the cluster, the database, and its line of history. Each start of Postgres begins a new line of history (see
/// `journal/lineage.rs`), because after a restore Postgres may assign transaction ids again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// Builds the epoch from the cluster's system identifier, the name of the line of history (see
    /// `journal/lineage.rs`), and the OID of the database.
    pub fn new(system_identifier: i64, line: &str, database_oid: u32) -> Self {
        let digest = Sha256::digest(format!("{system_identifier}/{line}/{database_oid}"));
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(bytes))
    }
}

/// A cursor. A client sends it to the server, and the server continues after the events that the client has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// The client has received each event that the position covers.
    At(Position),
    /// The client has received only a part of a long response, which is sent in the order of event ids. It has received
    /// all events that `before` covers. Of the events that only `seen` covers, it has received those with ids up to
    /// `through`.
    Within {
        /// The position at the start of the response.
        before: Position,
        /// The position after the whole response.
        seen: Position,
        /// The id of the last event of the response that the client has received.
        through: EventId,
    },
}

/// The reason why the server rejects a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// The text is not a cursor.
    Unreadable,
    /// The cursor belongs to another database, or to this database before a restore or a failover.
    Epoch,
    /// The cursor covers transactions that do not exist yet.
    Future,
    /// Events after the cursor were deleted because of their age, so a replay would have a gap.
    Retention,
}

impl Unusable {
    /// The name of the reason in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Epoch => "epoch",
            Self::Future => "future",
            Self::Retention => "retention",
        }
    }
}

impl Cursor {
    /// Encodes the cursor as the opaque string that a client keeps.
    pub fn encode(&self, epoch: Epoch) -> String {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(VERSION);
        bytes.extend_from_slice(&epoch.0.to_be_bytes());
        match self {
            Self::At(position) => {
                bytes.push(AT);
                put_position(&mut bytes, position);
            }
            Self::Within { before, seen, through } => {
                bytes.push(WITHIN);
                put_position(&mut bytes, before);
                put_position(&mut bytes, seen);
                put(&mut bytes, through.0.unsigned_abs());
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Decodes a string that [`Cursor::encode`] wrote in the same epoch. The error is the reason why the server rejects
    /// the cursor.
    pub fn decode(text: &str, epoch: Epoch) -> Result<Self, Unusable> {
        if text.len() > MAX_CURSOR_CHARS {
            return Err(Unusable::Unreadable);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Unusable::Unreadable)?;
        let (head, rest) = bytes.split_at_checked(9).ok_or(Unusable::Unreadable)?;
        if head[0] != VERSION {
            return Err(Unusable::Unreadable);
        }
        // Parse the position before the epoch is checked, so that a damaged cursor is reported as unreadable.
        let mut rest = rest;
        let cursor = take_cursor(&mut rest)
            .filter(|_| rest.is_empty())
            .ok_or(Unusable::Unreadable)?;
        if head[1..] != epoch.0.to_be_bytes() {
            return Err(Unusable::Epoch);
        }
        Ok(cursor)
    }

    /// The client has certainly received each event that this position covers. It may have received further events.
    pub fn base(&self) -> &Position {
        match self {
            Self::At(position) | Self::Within { before: position, .. } => position,
        }
    }

    /// The client has certainly received no event of this transaction, or of any later transaction.
    pub fn end(&self) -> Xid {
        match self {
            Self::At(position) => position.end,
            Self::Within { before, seen, .. } => before.end.max(seen.end),
        }
    }
}

/// The plan of a replay from a cursor: which events the client still misses, in which order they are sent, and which
/// cursor the client has after each event. If a response was interrupted, the rest of that response comes first, then
/// newer events. Both groups are sorted by id. So the events of one order stay in the right sequence, because each
/// change of an order commits after the previous change.
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    /// The client has received each event that this position covers.
    pub before: Position,
    /// The position after the interrupted response. If no response was interrupted, this is equal to `before`.
    pub middle: Position,
    /// The id of the last event that the client received from the interrupted response.
    pub through: EventId,
}

impl From<Cursor> for ReplayPlan {
    fn from(cursor: Cursor) -> Self {
        match cursor {
            Cursor::At(position) => Self {
                before: position.clone(),
                middle: position,
                through: EventId(i64::MAX),
            },
            Cursor::Within { before, seen, through } => Self {
                before,
                middle: seen,
                through,
            },
        }
    }
}

impl ReplayPlan {
    /// Whether the client still misses the event `id` of transaction `xid`.
    pub fn is_due(&self, xid: Xid, id: EventId) -> bool {
        !(self.before.covers(xid) || self.middle.covers(xid) && id <= self.through)
    }

    /// The sort key of an event in the replay. The remaining events of an interrupted response come before newer
    /// events.
    pub fn order(&self, xid: Xid, id: EventId) -> (bool, EventId) {
        (!self.middle.covers(xid), id)
    }

    /// Returns the cursor of a client that has received this event and all events before it in the replay. The replay
    /// ends at the position `seen`.
    pub fn cursor_after(&self, xid: Xid, id: EventId, seen: &Position) -> Cursor {
        let (before, seen) = if self.middle.covers(xid) {
            (&self.before, &self.middle)
        } else {
            (&self.middle, seen)
        };
        Cursor::Within {
            before: before.clone(),
            seen: seen.clone(),
            through: id,
        }
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Writes the end of the position, the number of missing transactions, and these transactions from the newest to the
/// oldest. Each transaction is written as its distance from the previous one, because a small number needs fewer bytes.
fn put_position(bytes: &mut Vec<u8>, position: &Position) {
    put(bytes, position.end.0);
    put(bytes, position.missing.len() as u64);
    let mut above = position.end.0;
    for xid in position.missing.iter().rev() {
        put(bytes, above - xid.0);
        above = xid.0;
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(first & 0x7f);
        if part.checked_shl(shift)?.checked_shr(shift)? != part {
            return None;
        }
        number |= part << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_position(bytes: &mut &[u8]) -> Option<Position> {
    // Refuse an id above `i64::MAX`: transaction ids are unsigned in Postgres, but Vestnik passes them as bigint.
    let end = take(bytes).filter(|end| i64::try_from(*end).is_ok())?;
    let count = take(bytes)?;
    // Each missing transaction needs at least one byte.
    if count > bytes.len() as u64 {
        return None;
    }
    let mut missing = Vec::with_capacity(count as usize);
    let mut above = end;
    for _ in 0..count {
        above = above.checked_sub(take(bytes).filter(|step| *step > 0)?)?;
        missing.push(Xid(above));
    }
    missing.reverse();
    Some(Position { end: Xid(end), missing })
}

fn take_cursor(bytes: &mut &[u8]) -> Option<Cursor> {
    let (kind, rest) = bytes.split_first()?;
    *bytes = rest;
    let before = take_position(bytes)?;
    match *kind {
        AT => Some(Cursor::At(before)),
        WITHIN => {
            let seen = take_position(bytes)?;
            let through = EventId(i64::try_from(take(bytes)?).ok()?);
            Some(Cursor::Within { before, seen, through })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position(end: u64, missing: &[u64]) -> Position {
        Position {
            end: Xid(end),
            missing: missing.iter().copied().map(Xid).collect(),
        }
    }

    #[test]
    fn a_replay_has_not_sent_an_event_that_is_newer_than_its_end() {
        let end = ReplayEnd {
            position: Position::after(
                &Snapshot {
                    xmax: Xid(12),
                    running: vec![Xid(9)],
                },
                Xid(11),
            ),
            newest: EventId(50),
        };
        assert!(end.covers(Xid(11), EventId(50)));
        assert!(!end.covers(Xid(9), EventId(50)));
        // After a loss of commits, Postgres assigns the transaction id 11 again.
        assert!(!end.covers(Xid(11), EventId(1_000_051)));
    }

    #[test]
    fn a_position_ends_at_the_newest_transaction_of_which_an_event_was_read() {
        let snapshot = Snapshot {
            xmax: Xid(110),
            running: vec![Xid(108), Xid(101)],
        };
        let after = Position::after(&snapshot, Xid(105));
        assert_eq!(after, position(106, &[101]));
        assert!(after.covers(Xid(105)) && after.covers(Xid(100)));
        // These transactions run, or ended without an event. After a crash, Postgres may assign their ids again.
        assert!(!after.covers(Xid(101)) && !after.covers(Xid(107)) && !after.covers(Xid(108)));
    }

    #[test]
    fn nothing_is_owed_only_when_all_up_to_there_is_behind() {
        assert!(position(106, &[101]).covers_through(Xid(100)));
        assert!(!position(106, &[101]).covers_through(Xid(101)));
        assert!(!position(106, &[]).covers_through(Xid(106)));
        assert!(position(106, &[]).covers_through(Xid(105)));
    }

    #[test]
    fn a_cursor_of_another_epoch_is_distinguished_from_a_damaged_one() {
        let (here, there) = (Epoch::new(1, "00000001", 5), Epoch::new(1, "00000002", 5));
        let text = Cursor::At(position(900, &[700, 800])).encode(here);
        assert_eq!(Cursor::decode(&text, there), Err(Unusable::Epoch));
        assert_eq!(Cursor::decode(&text[..text.len() - 2], here), Err(Unusable::Unreadable));
        assert_eq!(Cursor::decode("", here), Err(Unusable::Unreadable));
        assert_eq!(Cursor::decode("не курсор", here), Err(Unusable::Unreadable));
        assert_eq!(
            Cursor::decode(&"A".repeat(MAX_CURSOR_CHARS + 1), here),
            Err(Unusable::Unreadable)
        );
    }

    fn any_position() -> impl Strategy<Value = Position> {
        (1_u64..1 << 62, proptest::collection::btree_set(0_u64..1 << 62, 0..20)).prop_map(|(end, below)| {
            let missing: Vec<u64> = below.into_iter().filter(|xid| *xid < end).collect();
            position(end, &missing)
        })
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_way_to_the_client_and_back(
            before in any_position(), seen in any_position(), through in 1_i64..i64::MAX, system in any::<i64>(),
        ) {
            let epoch = Epoch::new(system, "00000001", 1);
            for cursor in [Cursor::At(before.clone()), Cursor::Within { before, seen, through: EventId(through) }] {
                prop_assert_eq!(Cursor::decode(&cursor.encode(epoch), epoch), Ok(cursor));
            }
        }

        #[test]
        fn positions_are_compared_by_what_they_cover(
            one_end in 1_u64..30, one in proptest::collection::btree_set(0_u64..30, 0..10),
            other_end in 1_u64..30, other in proptest::collection::btree_set(0_u64..30, 0..10),
        ) {
            let below = |end: u64, xids: std::collections::BTreeSet<u64>| xids.into_iter().filter(|xid| *xid < end).collect::<Vec<_>>();
            let one = position(one_end, &below(one_end, one));
            let other = position(other_end, &below(other_end, other));
            let covered = |position: &Position| (0..40).map(Xid).filter(|xid| position.covers(*xid)).collect::<Vec<_>>();
            let all = covered(&other).iter().all(|xid| one.covers(*xid));
            // `covers_all_of` may be false although `one` covers every transaction. This occurs if `other` ends later,
            // but covers no transaction after the end of `one`.
            prop_assert!(!one.covers_all_of(&other) || all);
            prop_assert!(other.end > one.end || one.covers_all_of(&other) == all);
            let both: Vec<Xid> = covered(&one).into_iter().filter(|xid| other.covers(*xid)).collect();
            prop_assert_eq!(covered(&one.intersection(&other)), both);
            let without: Vec<Xid> = covered(&one).into_iter().filter(|xid| !covered(&other).contains(xid)).collect();
            prop_assert_eq!(covered(&one.without(covered(&other))), without);
        }

        #[test]
        fn no_text_makes_decoding_panic(text in "[A-Za-z0-9_-]{0,80}") {
            let _ = Cursor::decode(&text, Epoch::new(1, "00000001", 1));
        }
    }
}
