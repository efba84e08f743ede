//! Translates journal rows into the events that clients receive. If a transaction writes an order several times,
//! clients receive at most one event for the order.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::lookup_results::Lookups;
use super::{Context, Source, Sources};
use crate::domain::Subject;
use crate::domain::event::{
    Body, EventType, JournalEvent, PartnerEvent, RowWrite, SourceId, StoreId, SubjectId, Write,
};
use crate::domain::event_group::EventGroup;
use crate::domain::status::{Status, SubjectKind};
use crate::domain::subject::Visibility;

/// Clients receive an order without a key under this text and the id of its event.
pub(super) const KEYLESS: &str = "event-";

/// All writes of one transaction to one order of a store, as one change.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// The last of the journal rows that make up the change.
    pub last: &'a JournalEvent,
    /// The source whose table was written.
    pub source: SourceId,
    /// The key of the written row, which identifies the order. `None`: the row has no readable key.
    pub key: Option<&'a Arc<str>>,
    /// The row's columns before the writes, a JSON object; `None`: the row did not exist.
    pub before: Option<&'a str>,
    /// The row's columns after the writes, a JSON object; `None`: the row no longer exists.
    pub after: Option<&'a str>,
    /// The answer of the person who changed the order with a button, as JSON text. `None`: the shop changed the order.
    pub answer: Option<&'a str>,
}

/// The answer of a person who changed an order with a button, as saved in the journal.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    by: Option<String>,
    minutes: Option<i32>,
    reason: Option<String>,
}

impl Sources {
    /// Translates journal rows into the events that clients receive, in the order of the rows.
    pub fn partner_events(&self, events: &[&JournalEvent], lookups: &Lookups) -> Vec<PartnerEvent> {
        pieces(events)
            .into_iter()
            .filter_map(|piece| self.partner_event(&piece, lookups))
            .collect()
    }

    /// The event for one group of journal rows; `None`: clients receive no event.
    fn partner_event(&self, piece: &Piece<'_>, lookups: &Lookups) -> Option<PartnerEvent> {
        let event = piece.last();
        let store = event.store.clone()?;
        let mut told = PartnerEvent {
            id: event.id,
            xid: event.xid,
            store,
            at: event.at,
            kind: EventType::OrderChanged,
            subject: None,
            previous: None,
            changed: Vec::new(),
            before: None,
            data: String::new(),
        };
        match piece {
            Piece::Engine(_, kind, data) => {
                told.kind = *kind;
                told.data = (*data).to_owned();
            }
            Piece::Change(change) => {
                let source = self.get(change.source)?;
                let meaning = self.meaning(source, &told.store, change, lookups)?;
                told.kind = meaning.kind;
                told.previous = meaning.previous;
                told.changed = meaning.changed;
                told.before = meaning.before.map(Arc::new);
                let mut data = meaning.data;
                if let Some(answer) = lookups.overwritten_by(event.id) {
                    data.insert("overwritten_answer".into(), answer.to_json());
                }
                told.data = Value::Object(data).to_string();
                told.subject = Some(Arc::new(meaning.subject));
            }
        }
        Some(told)
    }

    /// The orders whose data must be looked up in other tables: for each source, the keys of its orders.
    pub fn to_look_up(&self, events: &[&JournalEvent]) -> HashMap<SourceId, Vec<Arc<str>>> {
        let mut wanted: HashMap<SourceId, Vec<Arc<str>>> = HashMap::new();
        for event in events {
            let Some(SubjectId { source, key }) = event.subject_id() else {
                continue;
            };
            if self.get(source).is_some_and(|source| source.mapping.needs_lookup()) {
                let keys = wanted.entry(source).or_default();
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        wanted
    }

    /// Whether a source of these events needs a look-up.
    pub fn needs_lookup(&self, events: &[&JournalEvent]) -> bool {
        events.iter().any(|event| match &event.body {
            Body::Write(write) => self
                .get(write.source)
                .is_some_and(|source| source.mapping.needs_lookup()),
            Body::Engine(..) => false,
        })
    }

    fn meaning(
        &self,
        source: &Source,
        store: &StoreId,
        change: &Change<'_>,
        lookups: &Lookups,
    ) -> Option<EventContent> {
        // Clients receive even an order with an unreadable key, so that they miss no order. But nobody can answer it.
        let key: Arc<str> = change
            .key
            .cloned()
            .unwrap_or_else(|| format!("{KEYLESS}{}", change.last.id).into());
        let subject = SubjectId {
            source: source.id,
            key: Arc::clone(&key),
        };
        let context = Context {
            currency: self.currency_of(store),
            lookup: lookups.get(&subject),
        };
        let translate = |data: &str| source.at_the_time_of(data).translate(&key, data, context);
        let (before, after) = (change.before.map(translate), change.after.map(translate));
        let answer = change
            .answer
            .and_then(|answer| serde_json::from_str::<Answer>(answer).ok());
        meaning(before, after, answer.unwrap_or_default())
    }
}

/// The content of the event that a change of an order causes.
struct EventContent {
    kind: EventType,
    subject: Subject,
    previous: Option<Status>,
    changed: Vec<&'static str>,
    /// The order before the change. `None`: the change is a new status, or the order appeared or was removed.
    before: Option<Subject>,
    data: Map<String, Value>,
}

/// Decides which event a change makes, from the order before and after the change. `None`: clients receive no event.
fn meaning(before: Option<Subject>, after: Option<Subject>, answer: Answer) -> Option<EventContent> {
    let visible = |subject: &Option<Subject>| subject.as_ref().and_then(Subject::visible_status);
    let (was, is) = (visible(&before), visible(&after));
    let Some(status) = is else {
        return removed(was?, before?, after);
    };
    let mut after = after?;
    after.promised_minutes = after.promised_minutes.or(answer.minutes);
    after.reason = after.reason.or(answer.reason);
    let Some((previous, before)) = was.zip(before) else {
        // A new row with a finished order makes no event, so that an import of old orders raises no alarm.
        return status.is_open().then(|| new(after, None));
    };
    if status == Status::Pending && matches!(previous, Status::Cancelled | Status::Rejected) {
        return Some(new(after, Some(previous)));
    }
    let mut changed = after.changed_fields(&before);
    // If a person promises a preparation time, the order always counts as changed. The new minutes may equal the old
    // ones, or the shop may have no column for minutes.
    if status == previous && answer.minutes.is_some() && !changed.contains(&"promised_minutes") {
        changed.push("promised_minutes");
    }
    if status == previous && after.status_word != before.status_word {
        changed.push("status_word");
    }
    if status == previous && changed.is_empty() {
        return None;
    }
    let kind = match status {
        _ if status == previous => of_kind(after.kind, EventType::OrderChanged, EventType::BookingChanged),
        // Only these cancellations get the event that makes the kitchen stop its work. If a person of the store
        // cancelled the order, the store knows it already. If the order was no longer open, the kitchen has no work to
        // stop.
        Status::Cancelled if answer.by.is_none() && previous.is_open() => {
            of_kind(after.kind, EventType::OrderCancelled, EventType::BookingCancelled)
        }
        _ => of_kind(
            after.kind,
            EventType::OrderStatusChanged,
            EventType::BookingStatusChanged,
        ),
    };
    let whole = status == previous || after.kind == SubjectKind::Booking;
    let mut data = if whole { after.to_json() } else { after.head() };
    if status != previous {
        data.insert("previous_status".into(), previous.as_str().into());
        if !whole {
            let all = after.to_json();
            data.extend(all.into_iter().filter(|(name, _)| changed.contains(&name.as_str())));
            // The promised minutes are part of the answer, so clients receive them even if no column holds them.
            data.extend(
                after
                    .promised_minutes
                    .map(|minutes| ("promised_minutes".to_owned(), minutes.into())),
            );
        }
    }
    if !changed.is_empty() {
        data.insert("changed".into(), changed.iter().copied().collect());
    }
    if let Some(by) = answer.by {
        data.insert("by".into(), by.into());
    }
    Some(EventContent {
        kind,
        subject: after,
        previous: Some(previous),
        before: (status == previous).then_some(before),
        changed,
        data,
    })
}

fn removed(previous: Status, before: Subject, after: Option<Subject>) -> Option<EventContent> {
    let mut data = before.head();
    data.insert("next".into(), Value::Array(Vec::new()));
    let kind = of_kind(before.kind, EventType::OrderRemoved, EventType::BookingRemoved);
    // After a deletion, `subject` is the order's last visible state, so it must be marked as deleted.
    let mut subject = after.unwrap_or(before);
    subject.visibility = Visibility::Deleted;
    Some(EventContent {
        kind,
        subject,
        previous: Some(previous),
        changed: Vec::new(),
        before: None,
        data,
    })
}

fn new(subject: Subject, previous: Option<Status>) -> EventContent {
    let mut data = subject.to_json();
    if subject.kind == SubjectKind::Order {
        let key: Value = subject.id.key.as_ref().into();
        data.insert("order_ids".into(), Value::Array(vec![key]));
    }
    // `previous` is set if the order was rejected or cancelled before, and is now pending again.
    if let Some(previous) = previous {
        data.insert("previous_status".into(), previous.as_str().into());
    }
    EventContent {
        kind: of_kind(subject.kind, EventType::NewOrder, EventType::NewBooking),
        subject,
        previous,
        changed: Vec::new(),
        before: None,
        data,
    }
}

fn of_kind(kind: SubjectKind, order: EventType, booking: EventType) -> EventType {
    match kind {
        SubjectKind::Order => order,
        SubjectKind::Booking => booking,
    }
}

/// A group of journal rows that together become at most one event for clients.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// The writes of one transaction to one order.
    Change(Change<'a>),
    /// A journal row that Vestnik itself wrote, with its event type and its JSON data.
    Engine(&'a JournalEvent, EventType, &'a str),
}

impl<'a> Piece<'a> {
    /// The last of the journal rows in this group. A group becomes at most one event.
    pub fn last(&self) -> &'a JournalEvent {
        match self {
            Self::Change(change) => change.last,
            Self::Engine(event, ..) => event,
        }
    }
}

/// Groups the journal rows that belong to one event. The groups are sorted by the position of their last row in
/// `events`.
pub(super) fn pieces<'a>(events: &[&'a JournalEvent]) -> Vec<Piece<'a>> {
    let mut pieces: Vec<(usize, Piece<'a>)> = Vec::with_capacity(events.len());
    let mut groups: HashMap<EventGroup<'a>, Group<'a>> = HashMap::new();
    for (place, event) in events.iter().enumerate() {
        match &event.body {
            Body::Engine(kind, data) => pieces.push((place, Piece::Engine(event, *kind, data))),
            Body::Write(write) if write.write == Write::Truncate => {}
            // Most reads of the journal return a single row, and a single row needs no group.
            Body::Write(write) => match event.group().filter(|_| events.len() > 1) {
                None => pieces.push((place, Piece::Change(change(&[(event, write)])))),
                Some(group) => {
                    let (last, writes) = groups.entry(group).or_default();
                    *last = place;
                    writes.push((event, write));
                }
            },
        }
    }
    pieces.extend(
        groups
            .into_values()
            .map(|(last, writes)| (last, Piece::Change(change(&writes)))),
    );
    pieces.sort_unstable_by_key(|(place, _)| *place);
    pieces.into_iter().map(|(_, piece)| piece).collect()
}

/// A group of journal rows that together become at most one event: the index of the group's last row in `events`, and
/// its rows.
type Group<'a> = (usize, Vec<(&'a JournalEvent, &'a RowWrite)>);

/// Merges several writes to one row in one transaction. Journal ids do not show the order of the writes, because a
/// nested write by a shop's trigger is recorded before the outer write. So the function compares the row's states
/// before and after each write. The first state is the one that no write produced. The final state is the one that no
/// write replaced.
fn change<'a>(writes: &[(&'a JournalEvent, &'a RowWrite)]) -> Change<'a> {
    let states = |write: &'a RowWrite| match write.write {
        Write::Insert | Write::Truncate => (None, Some(write.data.as_str())),
        Write::Update => (write.old.as_deref(), Some(write.data.as_str())),
        Write::Delete => (Some(write.data.as_str()), None),
    };
    let steps: Vec<(Option<&str>, Option<&str>)> = writes.iter().map(|(_, write)| states(write)).collect();
    let begins = steps
        .iter()
        .map(|(before, _)| before)
        .filter(|before| steps.iter().all(|(_, after)| after != *before));
    let ends = steps
        .iter()
        .map(|(_, after)| after)
        .filter(|after| steps.iter().all(|(before, _)| before != *after));
    let (begins, ends): (Vec<_>, Vec<_>) = (begins.collect(), ends.collect());
    let (first, last) = (
        steps.first().copied().unwrap_or_default(),
        steps.last().copied().unwrap_or_default(),
    );
    let (event, write) = writes[writes.len() - 1];
    Change {
        last: event,
        source: write.source,
        key: write.key.as_ref(),
        before: if let [begin] = begins[..] { *begin } else { first.0 },
        after: if let [end] = ends[..] { *end } else { last.1 },
        answer: writes.iter().rev().find_map(|(_, write)| write.answer.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EventId, Xid};
    use crate::sources::fixtures::{REFERENCE, source};
    use serde_json::json;

    fn sources() -> Sources {
        Sources::new(1, vec![source(REFERENCE, &[])], HashMap::new())
    }

    fn row(id: i64, xid: u64, write: Write, old: Option<Value>, data: Value) -> JournalEvent {
        JournalEvent {
            id: EventId(id),
            xid: Xid(xid),
            store: Some(StoreId::new("7")),
            at: time::OffsetDateTime::UNIX_EPOCH,
            body: Body::Write(RowWrite {
                source: SourceId(1),
                key: Some("5".into()),
                write,
                data: data.to_string(),
                old: old.map(|old| old.to_string()),
                answer: None,
            }),
        }
    }

    fn status(status: &str) -> Value {
        json!({"id": 5, "store_id": 7, "status": status, "total": 1200})
    }

    /// Translates journal rows, and returns the type and the JSON data of each event.
    fn told(rows: &[JournalEvent]) -> Vec<(EventType, Value)> {
        let rows: Vec<&JournalEvent> = rows.iter().collect();
        let events = sources().partner_events(&rows, &Lookups::default());
        events
            .into_iter()
            .map(|event| (event.kind, serde_json::from_str(&event.data).unwrap()))
            .collect()
    }

    fn kinds(rows: &[JournalEvent]) -> Vec<EventType> {
        told(rows).into_iter().map(|(kind, _)| kind).collect()
    }

    fn update(from: &str, to: &str) -> Vec<EventType> {
        kinds(&[row(1, 1, Write::Update, Some(status(from)), status(to))])
    }

    #[test]
    fn a_new_order_says_everything() {
        let order = json!({"id": 5, "store_id": 7, "status": "pending", "total": 1200, "customer_name": "Иван",
            "customer_phone": "+7 900", "order_type": "delivery", "items": [{"name": "Суп", "count": 2}]});
        let told = told(&[row(1, 1, Write::Insert, None, order)]);
        let expected = json!({"order_ids": ["5"], "order_id": "5", "source": "orders", "number": "5", "status": "pending",
            "next": ["preparing", "rejected"], "customer_name": "Иван", "phone": "+7 900", "order_type": "delivery",
            "total": 1200, "currency": "RUB", "currency_digits": 2, "items": [{"name": "Суп", "quantity": 2}]});
        assert_eq!(told, [(EventType::NewOrder, expected)]);
    }

    #[test]
    fn an_order_that_becomes_pending_is_new() {
        for from in ["cart", "cancelled", "rejected"] {
            assert_eq!(update(from, "pending"), [EventType::NewOrder], "{from}");
        }
        assert_eq!(update("cart", "preparing"), [EventType::NewOrder]);
        assert_eq!(update("preparing", "pending"), [EventType::OrderStatusChanged]);
    }

    #[test]
    fn a_change_of_status_says_where_it_was_and_what_can_be_made_of_it() {
        let told = told(&[row(1, 1, Write::Update, Some(status("pending")), status("preparing"))]);
        let expected = json!({"order_id": "5", "source": "orders", "number": "5", "status": "preparing",
            "previous_status": "pending", "next": ["ready", "rejected"]});
        assert_eq!(told, [(EventType::OrderStatusChanged, expected)]);
        assert_eq!(update("ready", "cancelled"), [EventType::OrderCancelled]);
    }

    #[test]
    fn what_nobody_sees_is_no_event() {
        assert_eq!(kinds(&[row(1, 1, Write::Insert, None, status("cart"))]), []);
        assert_eq!(kinds(&[row(1, 1, Write::Insert, None, status("completed"))]), []);
        assert_eq!(kinds(&[row(1, 1, Write::Delete, None, status("cart"))]), []);
        assert_eq!(update("cart", "cart"), []);
        assert_eq!(
            update("new", "pending"),
            [],
            "the word changes, but the status stays the same"
        );
        assert_eq!(update("cart", "cancelled"), []);
    }

    #[test]
    fn the_end_of_an_order_that_was_over_raises_no_alarm() {
        assert_eq!(update("completed", "cancelled"), [EventType::OrderStatusChanged]);
        assert_eq!(update("rejected", "cancelled"), [EventType::OrderStatusChanged]);
        assert_eq!(update("pending", "cancelled"), [EventType::OrderCancelled]);
    }

    #[test]
    fn what_is_gone_is_removed() {
        assert_eq!(
            kinds(&[row(1, 1, Write::Delete, None, status("ready"))]),
            [EventType::OrderRemoved]
        );
        assert_eq!(update("pending", "cart"), [EventType::OrderRemoved]);
    }

    #[test]
    fn a_word_that_nobody_mapped_rings_and_is_shown() {
        let told = told(&[row(1, 1, Write::Insert, None, status("on_hold"))]);
        assert_eq!(told[0].0, EventType::NewOrder);
        assert_eq!(
            (&told[0].1["status"], &told[0].1["status_word"]),
            (&json!("pending"), &json!("on_hold"))
        );
        assert_eq!(update("preparing", "on_hold"), [EventType::OrderStatusChanged]);
        assert_eq!(update("on_hold", "on_fire"), [EventType::OrderChanged]);
    }

    #[test]
    fn a_change_of_what_a_kitchen_sees_says_which_fields() {
        let mut after = status("pending");
        after["total"] = json!(1700);
        let told = told(&[row(1, 1, Write::Update, Some(status("pending")), after)]);
        assert_eq!(told[0].0, EventType::OrderChanged);
        assert_eq!(
            (&told[0].1["total"], &told[0].1["changed"]),
            (&json!(1700), &json!(["total"]))
        );
    }

    #[test]
    fn who_answered_and_what_was_promised_is_in_the_event() {
        let mut event = row(1, 1, Write::Update, Some(status("pending")), status("preparing"));
        if let Body::Write(write) = &mut event.body {
            write.answer = Some(r#"{"by": "Анна", "minutes": 25}"#.into());
        }
        let told = told(&[event]);
        assert_eq!(
            (&told[0].1["by"], &told[0].1["promised_minutes"]),
            (&json!("Анна"), &json!(25))
        );
    }

    #[test]
    fn a_new_promise_is_a_change_that_says_who_made_it() {
        let mut event = row(1, 1, Write::Update, Some(status("preparing")), status("preparing"));
        assert_eq!(kinds(std::slice::from_ref(&event)), []);
        if let Body::Write(write) = &mut event.body {
            write.answer = Some(r#"{"by": "Анна", "minutes": 35}"#.into());
        }
        let told = told(&[event]);
        assert_eq!(told[0].0, EventType::OrderChanged);
        assert_eq!(
            (&told[0].1["by"], &told[0].1["promised_minutes"], &told[0].1["changed"]),
            (&json!("Анна"), &json!(35), &json!(["promised_minutes"]))
        );
    }

    #[test]
    fn the_writes_of_a_transaction_to_an_order_are_one_event() {
        let insert = row(1, 1, Write::Insert, None, status("cart"));
        let pay = row(2, 1, Write::Update, Some(status("cart")), status("pending"));
        assert_eq!(kinds(&[insert, pay]), [EventType::NewOrder]);
        // A trigger of the shop updates the row during the insert. The update is recorded before the insert, so it has
        // the smaller id.
        let nested = row(1, 1, Write::Update, Some(status("pending")), status("preparing"));
        let outer = row(2, 1, Write::Insert, None, status("pending"));
        let told = told(&[nested, outer]);
        assert_eq!(
            (told.len(), told[0].0, &told[0].1["status"]),
            (1, EventType::NewOrder, &json!("preparing"))
        );
    }

    #[test]
    fn a_row_that_moves_between_partitions_is_changed() {
        let gone = row(1, 1, Write::Delete, None, status("pending"));
        let here = row(2, 1, Write::Insert, None, status("ready"));
        assert_eq!(kinds(&[gone.clone(), here]), [EventType::OrderStatusChanged]);
        let same = row(2, 1, Write::Insert, None, status("pending"));
        assert_eq!(kinds(&[gone, same]), []);
    }

    #[test]
    fn what_comes_and_goes_within_a_transaction_was_never_there() {
        let insert = row(1, 1, Write::Insert, None, status("pending"));
        let delete = row(2, 1, Write::Delete, None, status("pending"));
        assert_eq!(kinds(&[insert.clone(), delete.clone()]), []);
        let mut later = delete;
        later.xid = Xid(2);
        assert_eq!(kinds(&[insert, later]), [EventType::NewOrder, EventType::OrderRemoved]);
    }

    #[test]
    fn an_unreadable_row_is_an_order_all_the_same() {
        let told = told(&[row(1, 1, Write::Insert, None, json!({"vst_unreadable": "54000"}))]);
        assert_eq!(told[0].0, EventType::NewOrder);
        assert_eq!(told[0].1["unreadable"], json!([{"field": "order", "text": "54000"}]));
    }
}
