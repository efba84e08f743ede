//! Computes orders of a derived source with the mapping's SQL expressions, and compares them with the last published
//! results. If an order differs, appends an event to the journal. A published result is a row of the source's
//! projection table, with the values that clients last received.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::infra::db::Transaction;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::Source;
use super::super::json::Json;
use super::kept_answer::{KeptAnswer, holds};
use super::order_identity::{self, creation_time};
use super::publish::{Publish, is_open};
use super::write::{Event, Row, Writes, put};
use super::{Derived, HIDDEN, function, projection};
use crate::domain::status::Status;

/// Maximum length of a status word, characters. An index of the projection table has the word, and an index row of
/// Postgres has at most 2,704 bytes.
const STATUS_CHARACTERS: usize = 200;
/// Maximum length of a store's id, bytes. The journal has the same limit: an order with a longer one has no store.
const STORE_BYTES: usize = 200;

/// An order in one store, with the values that the mapping's SQL expressions give now.
#[derive(Debug)]
pub(super) struct Projected {
    pub key: String,
    pub store: String,
    pub status: String,
    /// The values of the order, as a JSON object.
    pub data: String,
    /// Whether the order has at least one item.
    pub has_items: bool,
    pub created_at: Option<OffsetDateTime>,
}

impl Projected {
    /// Creates an order of one store; `data` has the order's values as a JSON object.
    pub fn new(key: String, store: Option<String>, status: Option<String>, data: String, derived: &Derived) -> Self {
        let values: Value = serde_json::from_str(&data).unwrap_or_default();
        let created_at = creation_time(&values, derived);
        Self {
            key,
            store: store.filter(|store| store.len() <= STORE_BYTES).unwrap_or_default(),
            status: status.map_or_else(|| "null".to_owned(), short_status),
            has_items: values["items"].as_array().is_some_and(|items| !items.is_empty()),
            created_at,
            data,
        }
    }
}

/// The status word, cut to [`STATUS_CHARACTERS`].
fn short_status(mut word: String) -> String {
    if let Some((end, _)) = word.char_indices().nth(STATUS_CHARACTERS) {
        word.truncate(end);
    }
    word
}

/// An order in one store, with the values that clients last received. If a person set a status that the shop's tables
/// do not have, `answered_over` is the shop's status. Otherwise it is `None`.
#[derive(Debug)]
struct Before {
    status: String,
    shop_status: String,
    answered_over: Option<String>,
    data: String,
    created_at: OffsetDateTime,
}

/// Runs the mapping's SQL expressions for the orders with these keys. Returns one result for each order and store,
/// because an order may belong to several stores.
pub(super) async fn derive(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
) -> Result<Vec<Projected>, tokio_postgres::Error> {
    let sql = format!("select {}($1::text[], null)", function::name(source.id));
    let statement = transaction.prepare_cached(&sql).await?;
    let rows = transaction.query(&statement, &[&keys]).await?;
    let mut orders = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut row: Vec<Option<String>> = row.try_get(0)?;
        let mut take = |at: usize| row.get_mut(at).and_then(Option::take);
        let (Some(key), store, status, Some(data)) = (take(0), take(1), take(2), take(3)) else {
            continue;
        };
        orders.push(Projected::new(key, store, status, data, derived));
    }
    Ok(orders)
}

/// The results that clients last received for some orders. These rows of the projection table are locked until the
/// transaction ends. Lock them before computing the orders. Otherwise a person may answer between computing and
/// locking, and an older status would then replace the answer.
pub(super) struct PublishedResults {
    before: HashMap<(String, String), Before>,
}

impl PublishedResults {
    /// Reads and locks the values that clients last received for the orders with these keys.
    pub async fn lock(
        transaction: &Transaction<'_>,
        source: &Source,
        keys: &[String],
    ) -> Result<Self, tokio_postgres::Error> {
        let sql = format!(
            "select key, store_id, status, shop_status, answered_over, data::text, created_at from {} where key = any ($1) \
             order by key, store_id for update",
            projection(source.id)
        );
        let statement = transaction.prepare_cached(&sql).await?;
        let mut before = HashMap::new();
        for row in transaction.query(&statement, &[&keys]).await? {
            let published = Before {
                status: row.try_get(2)?,
                shop_status: row.try_get(3)?,
                answered_over: row.try_get(4)?,
                data: row.try_get(5)?,
                created_at: row.try_get(6)?,
            };
            before.insert((row.try_get(0)?, row.try_get(1)?), published);
        }
        Ok(Self { before })
    }

    /// Leaves out the orders with these keys, so that [`publish_changes`] does not change their results.
    pub fn leave_out(&mut self, keys: &HashSet<String>) {
        self.before.retain(|(key, _), _| !keys.contains(key));
    }

    /// The ids of the stores whose clients can see the order with this key.
    pub fn stores(&self, key: &str) -> Vec<String> {
        let of_key = self.before.keys().filter(|(known, _)| known == key);
        of_key.map(|(_, store)| store.clone()).collect()
    }

    /// The order with this key in each of its stores, with the values that clients last received. A person's answer is
    /// left out: [`publish_changes`] adds it again.
    pub fn kept(&self, key: &str, derived: &Derived) -> Vec<Projected> {
        let of_key = self.before.iter().filter(|((known, _), _)| known == key);
        let kept = of_key.map(|((_, store), before)| {
            let data = KeptAnswer::taken_off(&before.data).unwrap_or_else(|| before.data.clone());
            let (store, status) = (Some(store.clone()), Some(before.shop_status.clone()));
            Projected::new(key.to_owned(), store, status, data, derived)
        });
        kept.collect()
    }

    /// The ids of the stores whose clients can see the order with this key, and where it is open.
    pub fn open_stores(&self, key: &str) -> impl Iterator<Item = &str> {
        let of_key = self
            .before
            .iter()
            .filter(move |((known, _), before)| known == key && is_open(&before.status));
        of_key.map(|((_, store), _)| store.as_str())
    }

    /// Whether clients of any store can see the order with this key.
    pub fn is_known(&self, key: &str) -> bool {
        self.before.keys().any(|(known, _)| known == key)
    }

    /// Whether the computed order is another one than the published order with the same key.
    pub fn is_another(&self, order: &Projected, identity: &str, derived: &Derived) -> bool {
        let mut of_key = self.before.iter().filter(|((known, _), _)| *known == order.key);
        of_key.any(|(_, before)| order_identity::differs(&before.data, &order.data, identity, derived))
    }

    /// The status of an order in the shop's tables. Clients may see another status, which a person's answer set.
    /// `None`: the order is not published.
    pub fn shop_status(&self, key: &str, store: &str) -> Option<&str> {
        self.before
            .get(&(key.to_owned(), store.to_owned()))
            .map(|before| before.shop_status.as_str())
    }

    /// The published status of an order of a store; `None`: the order is not published, for example because it is
    /// hidden.
    pub fn status(&self, key: &str, store: &str) -> Option<&str> {
        self.before
            .get(&(key.to_owned(), store.to_owned()))
            .map(|before| before.status.as_str())
    }
}

/// Appends an event for each computed order in `projected` that differs from the last published result in `published`,
/// and updates the projection table. Returns the number of events.
pub(super) async fn publish_changes(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    mut published: PublishedResults,
    projected: Vec<Projected>,
    publish: Publish<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let mut writes = Writes {
        is_of_person: matches!(publish, Publish::Answer(..) | Publish::Taken(..)),
        ..Writes::default()
    };
    let mut now: BTreeMap<(String, String), Projected> = BTreeMap::new();
    for order in projected {
        now.entry((order.key.clone(), order.store.clone())).or_insert(order);
    }
    for ((key, store), order) in now {
        let before = published.before.remove(&(key.clone(), store.clone()));
        if order.status == HIDDEN {
            // Clients do not see hidden orders. If clients have seen this order before, put its result back into
            // `published`. The code below appends a `delete` event for each order that remains in `published`.
            if let Some(before) = before {
                published.before.insert((key, store), before);
            }
            continue;
        }
        let waits =
            matches!(publish, Publish::Usual(_)) && before.is_none() && derived.items.is_some() && !order.has_items;
        if waits && order.status == Status::Pending.as_str() && !derived.wait_for_items.is_zero() {
            writes.waiting.push((publish.at(&key), key));
            continue;
        }
        compare(&mut writes, order, before, publish);
    }
    for ((key, store), before) in published.before {
        if publish.tells_removal(&before.status) {
            let data = row_json(&key, &store, &before.status, before.created_at, &before.data);
            writes.events.push(Event {
                at: publish.at(&key),
                key: key.clone(),
                store: store.clone(),
                kind: "delete",
                data,
                old: None,
            });
        }
        writes.gone.push((key, store));
    }
    put(transaction, source, derived, &writes).await?;
    Ok(writes.events.len() as u64)
}

/// Compares a computed order with its last published result, and adds the changed row and its event to `writes`.
/// `before` is the published result; `None`: the order was not published before.
fn compare(writes: &mut Writes, mut order: Projected, before: Option<Before>, publish: Publish<'_>) {
    let kept = before
        .as_ref()
        .filter(|before| {
            let over = before.answered_over.as_deref();
            over.is_some_and(|over| holds(&before.status, over, &order.status))
        })
        .map(|before| before.status.clone());
    let stays = |to: Status| {
        let before = before.as_ref().map(|before| before.shop_status.as_str());
        before.is_some_and(|before| holds(to.as_str(), before, &order.status))
    };
    let pressed = match publish {
        Publish::Answer(pressed) | Publish::Taken(pressed) if pressed.store != order.store => None,
        Publish::Answer(pressed) => Some(pressed),
        Publish::Taken(pressed) => (stays(pressed.to) || order.status == pressed.to.as_str()).then_some(pressed),
        Publish::Usual(_) | Publish::Now(_) | Publish::Existing { .. } => None,
    };
    let shown = match pressed {
        Some(pressed) => pressed.to.as_str().to_owned(),
        None => kept.unwrap_or_else(|| order.status.clone()),
    };
    let answer = KeptAnswer::now(before.as_ref().map(|before| before.data.as_str()), &shown, pressed);
    order.data = answer.laid_over(&order.data).unwrap_or(order.data);
    let answered_over = (shown != order.status).then(|| order.status.clone());
    let created_at = order
        .created_at
        .or_else(|| before.as_ref().map(|before| before.created_at));
    // Postgres stores times with microseconds. The next comparison reads this time from the table, so the time must
    // have the same precision here.
    let created_at = created_at
        .unwrap_or_else(OffsetDateTime::now_utc)
        .truncate_to_microsecond();
    let is_same = before.as_ref().is_some_and(|before| {
        (&before.status, &before.shop_status, &before.answered_over, &before.data)
            == (&shown, &order.status, &answered_over, &order.data)
    });
    if is_same {
        return;
    }
    let is_seen = before
        .as_ref()
        .is_none_or(|before| (&before.status, &before.data) != (&shown, &order.data));
    if is_seen && publish.tells(before.is_none(), (&order.key, &order.store), &shown) {
        let row = |status: &str, created_at, data: &str| row_json(&order.key, &order.store, status, created_at, data);
        writes.events.push(Event {
            at: publish.at(&order.key),
            kind: if before.is_some() { "update" } else { "insert" },
            data: row(&shown, created_at, &order.data),
            old: before
                .as_ref()
                .map(|before| row(&before.status, before.created_at, &before.data)),
            key: order.key.clone(),
            store: order.store.clone(),
        });
    }
    writes.rows.push(Row {
        key: order.key,
        store: order.store,
        status: shown,
        created_at,
        data: order.data,
        shop_status: order.status,
        answered_over,
    });
}

/// A row of the projection table, which holds the computed orders, as a JSON object. The object has the form that lists
/// and the journal use.
pub(super) fn row_json(key: &str, store: &str, status: &str, created_at: OffsetDateTime, data: &str) -> String {
    let created_at = created_at.format(&Rfc3339).unwrap_or_default();
    let text = |text: &str| Value::from(text).to_string();
    format!(
        "{{\"key\":{},\"store_id\":{},\"status\":{},\"created_at\":{},\"data\":{data}}}",
        text(key),
        text(store),
        text(status),
        text(&created_at)
    )
}

/// Whether a row of the journal has the form that [`row_json`] gives, and not the form of a direct source: the columns
/// of the shop's table. An erased row has its members in another order, and may lack `data`.
pub(in crate::sources) fn has_form(data: &str) -> bool {
    const MEMBERS: [&str; 5] = ["key", "store_id", "status", "created_at", "data"];
    let Json::Object(members) = Json::read(data) else {
        return false;
    };
    let has = |name: &&str| members.iter().any(|(known, _)| known == name);
    members.iter().all(|(name, _)| MEMBERS.contains(&name.as_str())) && MEMBERS[..4].iter().all(has)
}
