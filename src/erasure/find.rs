//! Finds the orders of a customer, and all journal rows about these orders.

use std::collections::BTreeSet;

use tokio_postgres::types::{ToSql, Type};

use super::Error;
use crate::domain::Subject;
use crate::domain::event::{Body, EventId, JournalEvent, RowWrite, StoreId, SubjectId};
use crate::infra::db::Transaction;
use crate::journal;
use crate::sources::lookup_results::LookupResult;
use crate::sources::{Context, Sources};

/// The most journal rows that one query reads.
const PAGE_ROWS: i64 = 500;
/// The fewest digits that a given telephone number must have. A shorter number would match many customers.
pub(super) const MIN_PHONE_DIGITS: usize = 7;
/// Only this many digits at the end of a telephone number are compared. The digits before them are a country code, or a
/// digit that replaces it.
const COMPARED_DIGITS: usize = 10;

/// The customer whose data is erased.
#[derive(Debug, Clone)]
pub enum Whom {
    /// The customer of one order or booking.
    Order {
        /// The id of the order's store.
        store: StoreId,
        /// The number or the key of the order or booking.
        order: String,
    },
    /// All customers with this telephone number.
    Phone {
        /// The store in which orders are searched. `None`: all stores.
        store: Option<StoreId>,
        /// The telephone number, in any form that people write.
        phone: String,
    },
}

/// All that the journal has about a customer.
#[derive(Debug, Default)]
pub(super) struct CustomerData {
    /// The ids of the customer's orders and bookings.
    pub subjects: BTreeSet<SubjectId>,
    /// All journal rows about the customer's orders and bookings, sorted by id.
    pub events: Vec<JournalEvent>,
    /// For each order and booking of the customer: its store, its newest state, and the id of the event with this
    /// state.
    pub newest: Vec<(StoreId, Subject, EventId)>,
    /// Texts that identify the customer: name, telephone number, address.
    pub words: BTreeSet<String>,
}

impl CustomerData {
    /// The ids of the sources and the keys of the orders and bookings, in two arrays of the same length.
    pub fn subjects(&self) -> (Vec<i32>, Vec<&str>) {
        self.subjects.iter().map(|it| (it.source.0, &*it.key)).unzip()
    }

    /// The orders and bookings as the table of deliveries stores them: the source's id and the key, such as `1 123`.
    pub fn written(&self) -> Vec<String> {
        self.subjects.iter().map(ToString::to_string).collect()
    }

    /// For each order and booking: the name of its source, its number, and its key. The number is empty if it is not
    /// known.
    pub fn orders(&self) -> Vec<(String, String, String)> {
        let of = |id: &SubjectId| {
            let known = self.newest.iter().find(|(_, subject, _)| subject.id == *id);
            let (source, number) = known.map_or((id.source.0.to_string(), String::new()), |(_, it, _)| {
                (it.source.to_string(), it.number.clone())
            });
            (source, number, id.key.to_string())
        };
        self.subjects.iter().map(of).collect()
    }
}

/// Selects the journal rows that record a write to a shop's table. Returns each write with the id of its event.
pub(super) fn writes(events: &[JournalEvent]) -> impl Iterator<Item = (EventId, &RowWrite)> {
    events.iter().filter_map(|event| match &event.body {
        Body::Write(write) => Some((event.id, write)),
        Body::Engine(..) => None,
    })
}

/// Finds the customer's orders. Fails if the customer has no orders.
pub(super) async fn find(transaction: &Transaction<'_>, sources: &Sources, whom: &Whom) -> Result<CustomerData, Error> {
    let mut found = CustomerData::default();
    match whom {
        Whom::Order { store, order } => {
            super::known(transaction, store).await?;
            // SQL finds each row that contains the number anywhere. `is_meant` then keeps only rows whose order has
            // this number or key.
            let recorded = journal::as_recorded(order);
            let condition = "store_id = $1 and (key = $2 or strpos(data::text, $3) > 0)";
            let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
                (&store.as_str(), Type::TEXT),
                (&order, Type::TEXT),
                (&recorded, Type::TEXT),
            ];
            let is_meant =
                |key: &str, states: &[Subject]| key == order || states.iter().any(|subject| subject.number == *order);
            collect(transaction, sources, condition, &parameters, is_meant, &mut found).await?;
            if found.subjects.is_empty() {
                return Err(Error::NoOrder {
                    store: store.as_str().to_owned(),
                    order: order.clone(),
                });
            }
        }
        Whom::Phone { store, phone } => {
            if let Some(store) = store {
                super::known(transaction, store).await?;
            }
            let digits = only_digits(phone);
            if digits.len() < MIN_PHONE_DIGITS {
                return Err(Error::ShortPhone);
            }
            let store = store.as_ref().map(StoreId::as_str);
            let condition = "($1::text is null or store_id = $1) and \
                 strpos(regexp_replace(data::text || coalesce(old::text, ''), '[^0-9]', '', 'g'), $2) > 0";
            let end = end_of(&digits);
            let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&store, Type::TEXT), (&end, Type::TEXT)];
            let is_meant = |_: &str, states: &[Subject]| {
                let phones = states.iter().filter_map(|subject| subject.phone.as_deref());
                phones.map(only_digits).any(|known| is_same(&known, &digits))
            };
            collect(transaction, sources, condition, &parameters, is_meant, &mut found).await?;
            if found.subjects.is_empty() {
                return Err(Error::NoPhone);
            }
        }
    }
    rows(transaction, sources, &mut found).await?;
    Ok(found)
}

/// Adds the customer's orders and bookings to `found`. `condition` is SQL that selects journal rows. `is_meant` gets
/// the key and the states of each selected row, and says whether the row belongs to the customer.
async fn collect(
    transaction: &Transaction<'_>,
    sources: &Sources,
    condition: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
    is_meant: impl Fn(&str, &[Subject]) -> bool,
    found: &mut CustomerData,
) -> Result<(), Error> {
    let mut after = 0_i64;
    loop {
        let (id, limit) = (parameters.len() + 1, parameters.len() + 2);
        let condition = format!("source <> 0 and {condition} and id > ${id} order by id limit ${limit}");
        let mut all: Vec<(&(dyn ToSql + Sync), Type)> = parameters.to_vec();
        all.push((&after, Type::INT8));
        all.push((&PAGE_ROWS, Type::INT8));
        let page = journal::read_where(transaction, &condition, &all).await?;
        for event in &page {
            let Body::Write(write) = &event.body else { continue };
            let Some(key) = &write.key else { continue };
            if is_meant(key, &states(sources, event, write)) {
                found.subjects.insert(SubjectId {
                    source: write.source,
                    key: key.clone(),
                });
            }
        }
        match page.last().filter(|_| page.len() as i64 == PAGE_ROWS) {
            Some(last) => after = last.id.0,
            None => return Ok(()),
        }
    }
}

/// Completes `found`, which already has the ids of the customer's orders. Reads all journal rows about these orders, in
/// any store. Also adds the newest states, and the texts that identify the customer.
async fn rows(transaction: &Transaction<'_>, sources: &Sources, found: &mut CustomerData) -> Result<(), Error> {
    let (of, keys) = found.subjects();
    let condition = "(source, key) in (select * from unnest($1::int[], $2::text[])) order by id";
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&of, Type::INT4_ARRAY), (&keys, Type::TEXT_ARRAY)];
    let events = journal::read_where(transaction, condition, &parameters).await?;
    for event in &events {
        let Body::Write(write) = &event.body else { continue };
        let states = states(sources, event, write);
        for state in &states {
            let texts = [&state.customer_name, &state.phone, &state.address];
            found.words.extend(texts.into_iter().flatten().cloned());
        }
        if let (Some(store), Some(subject)) = (&event.store, states.into_iter().next()) {
            found
                .newest
                .retain(|(of, known, _)| (of, &known.id) != (store, &subject.id));
            found.newest.push((store.clone(), subject, event.id));
        }
    }
    found.events = events;
    Ok(())
}

/// Returns the states of an order that a journal row records: after the write, and before the write if it is recorded.
/// Empty: the order's source is not attached any more.
fn states(sources: &Sources, event: &JournalEvent, write: &RowWrite) -> Vec<Subject> {
    let (Some(source), Some(key)) = (sources.get(write.source), &write.key) else {
        return Vec::new();
    };
    let currency = event.store.as_ref().map(|store| sources.currency_of(store));
    let context = Context {
        currency: currency.unwrap_or(crate::domain::money::Currency::DEFAULT),
        lookup: LookupResult::Nothing,
    };
    let recorded = std::iter::once(&write.data).chain(&write.old);
    recorded
        .map(|data| source.at_the_time_of(data).translate(key, data, context))
        .collect()
}

fn only_digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn end_of(digits: &str) -> &str {
    &digits[digits.len().saturating_sub(COMPARED_DIGITS)..]
}

/// Whether two telephone numbers are equal, however people write them. For example, `+7 900 000-00-01`, `89000000001`
/// and `9000000001` are equal.
fn is_same(one: &str, other: &str) -> bool {
    match one.len() < COMPARED_DIGITS || other.len() < COMPARED_DIGITS {
        true => one == other,
        false => end_of(one) == end_of(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telephone_number_is_the_same_however_it_is_written() {
        for same in ["+7 900 000-00-01", "8 (900) 000 00 01", "9000000001"] {
            assert!(is_same(&only_digits(same), "79000000001"), "{same}");
        }
        for other in ["+7 900 000-00-02", "0000001", "790000000011"] {
            assert!(!is_same(&only_digits(other), "79000000001"), "{other}");
        }
        assert!(is_same("5550123", "5550123") && !is_same("5550123", "15550123"));
    }
}
