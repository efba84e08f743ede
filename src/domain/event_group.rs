//! Groups of journal rows. The rows that one transaction wrote about one order become one event for clients, whose id
//! is that of the last row. Rows of other orders may stand between them, because transactions write at the same time.
//! So a reader of the journal may not stop anywhere: if it went on after the first row of a group, it would miss this
//! row.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::{Body, JournalEvent, SourceId, StoreId, Write, Xid};

/// What the rows of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventGroup<'a> {
    xid: Xid,
    source: SourceId,
    store: Option<&'a StoreId>,
    key: &'a Arc<str>,
}

impl JournalEvent {
    /// The group of the row. `None`: the row belongs to no group. It becomes an event by itself, or none.
    pub fn group(&self) -> Option<EventGroup<'_>> {
        match &self.body {
            Body::Write(write) if write.write != Write::Truncate => Some(EventGroup {
                xid: self.xid,
                source: write.source,
                store: self.store.as_ref(),
                key: write.key.as_ref()?,
            }),
            Body::Write(_) | Body::Engine(..) => None,
        }
    }
}

/// For each of these rows, whether a reader may stop after it: no group has rows both up to here and after it. `is_all`
/// says whether no row follows the last one; otherwise its group may have further rows. `None` in place of a row: it
/// becomes no event.
pub fn stops<'a>(rows: impl IntoIterator<Item = Option<&'a JournalEvent>>, is_all: bool) -> Vec<bool> {
    let groups: Vec<Option<EventGroup<'a>>> = rows.into_iter().map(|row| row?.group()).collect();
    let mut last_rows = HashMap::new();
    for (place, group) in groups.iter().enumerate() {
        if let Some(group) = group {
            last_rows.insert(*group, place);
        }
    }
    let mut open_until = 0;
    let stop = |(place, group): (usize, &Option<EventGroup<'a>>)| {
        let last = group.map_or(place, |group| last_rows[&group]);
        open_until = open_until.max(last);
        open_until == place && (is_all || place + 1 < groups.len())
    };
    groups.iter().enumerate().map(stop).collect()
}

/// The number of rows that a reader takes, if it wants `wanted` rows, at least one. `stops` is the result of [`stops`]
/// for all rows that it has read, which may be more. If it may stop nowhere, the reader divides a group.
pub fn take(stops: &[bool], wanted: usize) -> usize {
    let stop = |place: &usize| stops[*place];
    let after = (wanted.saturating_sub(1)..stops.len()).find(stop);
    let before = || (0..wanted.min(stops.len())).rev().find(stop);
    after.or_else(before).map_or(wanted.min(stops.len()), |place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EventId, RowWrite};

    /// A row of the transaction `xid` about the order `key`. Without a key, the row belongs to no group.
    fn row(xid: u64, key: &str) -> JournalEvent {
        JournalEvent {
            id: EventId(1),
            xid: Xid(xid),
            store: Some(StoreId::new("7")),
            at: time::OffsetDateTime::UNIX_EPOCH,
            body: Body::Write(RowWrite {
                source: SourceId(1),
                write: Write::Update,
                key: Some(key).filter(|key| !key.is_empty()).map(Arc::from),
                data: "{}".into(),
                old: None,
                answer: None,
            }),
        }
    }

    fn stops_of(rows: &[(u64, &str)]) -> Vec<bool> {
        let rows: Vec<JournalEvent> = rows.iter().map(|(xid, key)| row(*xid, key)).collect();
        stops(rows.iter().map(Some), true)
    }

    #[test]
    fn a_reader_may_not_stop_between_the_rows_of_one_transaction_about_one_order() {
        assert_eq!(
            stops_of(&[(1, "a"), (1, "b"), (1, "a"), (1, "c")]),
            [false, false, true, true]
        );
        assert_eq!(stops_of(&[(1, "a"), (2, "a"), (1, ""), (1, "")]), [true; 4]);
        assert_eq!(
            stops_of(&[(1, "a"), (2, "b"), (1, "a"), (2, "b")]),
            [false, false, false, true]
        );
        assert!(stops([None, None], true).into_iter().all(|stop| stop));
        assert_eq!(
            stops([None, None], false),
            [true, false],
            "a row may follow that belongs to the last one"
        );
    }

    #[test]
    fn a_reader_takes_what_it_wants_and_the_rest_of_the_open_groups() {
        let (no, yes) = (false, true);
        assert_eq!(take(&[yes, no, no, yes, yes], 1), 1);
        assert_eq!(take(&[yes, no, no, yes, yes], 2), 4);
        assert_eq!(take(&[no, yes, no, no], 3), 2, "no group ends after the wanted rows");
        assert_eq!(take(&[no, no, no], 2), 2, "a group is divided");
        assert_eq!(take(&[yes], 9), 1);
        assert_eq!(take(&[], 9), 0);
    }
}
