//! Projects orders: asks the mapping's expressions what they are now, compares that with what was said last, and appends
//! what has changed to the journal.

use std::collections::{BTreeMap, HashMap};

use crate::infra::db::Transaction;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::{Source, zone};
use super::write::{Event, Row, Writes, put};
use super::{Derived, HIDDEN, function, projection};
use crate::domain::status::Status;

/// What is shown of a value whose expression fails.
const UNREADABLE: &str = "?";

/// Who is told of what has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling<'a> {
    /// Everybody; but an order that has no items yet is waited for.
    Usual,
    /// Everybody, whether there are items or not: the wait is over.
    Now,
    /// Nobody: these orders were there before.
    Nobody,
    /// Everybody, of an answer that a person of this store gave. Where the shop's status is another one, the answer is laid
    /// over it.
    Answer(&'a str, Status),
}

/// An order of one store, as the expressions say it is now.
#[derive(Debug)]
pub(super) struct Said {
    pub key: String,
    pub store: String,
    pub status: String,
    /// The values, a JSON object.
    pub data: String,
    /// Whether there is an item at least.
    pub has_items: bool,
    pub created_at: Option<OffsetDateTime>,
}

impl Said {
    fn new(key: String, store: Option<String>, status: Option<String>, data: String, derived: &Derived) -> Self {
        let values: Value = serde_json::from_str(&data).unwrap_or_default();
        let created_at = values["created_at"]
            .as_str()
            .and_then(|text| zone::moment(text, &derived.zone));
        Self {
            key,
            store: store.unwrap_or_default(),
            status: status.unwrap_or_else(|| "null".to_owned()),
            has_items: values["items"].as_array().is_some_and(|items| !items.is_empty()),
            created_at,
            data,
        }
    }
}

/// What was said last of an order of one store.
#[derive(Debug)]
struct Before {
    status: String,
    shop_status: String,
    answered_over: Option<String>,
    data: String,
    created_at: OffsetDateTime,
}

/// What the expressions say of these orders. A row that comes twice for a store counts once.
pub(super) async fn derive(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
) -> Result<Vec<Said>, tokio_postgres::Error> {
    let sql = format!("select {}($1::text[], null)", function::name(source.id));
    let statement = transaction.prepare_cached(&sql).await?;
    let rows = transaction.query(&statement, &[&keys]).await?;
    let mut said = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut row: Vec<Option<String>> = row.try_get(0)?;
        let mut take = |at: usize| row.get_mut(at).and_then(Option::take);
        let (Some(key), store, status, Some(data)) = (take(0), take(1), take(2), take(3)) else {
            continue;
        };
        said.push(Said::new(key, store, status, data, derived));
    }
    Ok(said)
}

/// The same for one order, value by value: an expression that fails costs no other value. `None`: nothing of it can be read.
pub(super) async fn derive_parts(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    key: &str,
) -> Result<Option<Vec<Said>>, tokio_postgres::Error> {
    let Some(stores) = part(transaction, source, key, "store").await? else {
        return Ok(None);
    };
    let mut data = serde_json::Map::new();
    for (name, _) in function::values(derived) {
        let value = match part(transaction, source, key, &name).await? {
            Some(rows) => rows.into_iter().next().unwrap_or_default(),
            None if name == "items" => json!([{"name": UNREADABLE}]),
            None => UNREADABLE.into(),
        };
        data.insert(name, value);
    }
    let status = part(transaction, source, key, "status").await?;
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    // A status that cannot be read is a word that nobody knows: it rings.
    let status = match &status {
        Some(rows) => rows.first().and_then(text),
        None => Some(UNREADABLE.to_owned()),
    };
    let data = Value::Object(data).to_string();
    let said = stores
        .iter()
        .map(|store| Said::new(key.to_owned(), text(store), status.clone(), data.clone(), derived));
    Ok(Some(said.collect()))
}

/// One value of an order, for each of its rows; without the joins of the mapping where they fail. `None`: it cannot be read.
async fn part(
    transaction: &mut Transaction<'_>,
    source: &Source,
    key: &str,
    name: &str,
) -> Result<Option<Vec<Value>>, tokio_postgres::Error> {
    let sql = format!("select {}(array[$1], $2)", function::name(source.id));
    for suffix in ["", function::BARE] {
        let savepoint = transaction.savepoint().await?;
        let field = format!("{name}{suffix}");
        match savepoint.query(&sql, &[&key, &field]).await {
            Ok(rows) => {
                savepoint.commit().await?;
                let mut values = Vec::new();
                for row in &rows {
                    let row: Vec<Option<String>> = row.try_get(0)?;
                    let object = row.into_iter().nth(3).flatten().unwrap_or_default();
                    let mut object: Value = serde_json::from_str(&object).unwrap_or_default();
                    values.push(object[name].take());
                }
                return Ok(Some(values));
            }
            Err(error) if error.as_db_error().is_some() => savepoint.rollback().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Locks what was said of these orders last, before it is asked what they are now: so nothing that is older than an answer is
/// said behind it.
pub(super) struct Known {
    before: HashMap<(String, String), Before>,
}

impl Known {
    /// Reads and locks it.
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
            let known = Before {
                status: row.try_get(2)?,
                shop_status: row.try_get(3)?,
                answered_over: row.try_get(4)?,
                data: row.try_get(5)?,
                created_at: row.try_get(6)?,
            };
            before.insert((row.try_get(0)?, row.try_get(1)?), known);
        }
        Ok(Self { before })
    }

    /// Where an order of a store stands, as people see it.
    pub fn status(&self, key: &str, store: &str) -> Option<&str> {
        self.before
            .get(&(key.to_owned(), store.to_owned()))
            .map(|before| before.status.as_str())
    }
}

/// Says what has become of these orders. How many events that made.
pub(super) async fn tell(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    mut known: Known,
    said: Vec<Said>,
    telling: Telling<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let mut writes = Writes::default();
    let mut now: BTreeMap<(String, String), Said> = BTreeMap::new();
    for said in said {
        now.entry((said.key.clone(), said.store.clone())).or_insert(said);
    }
    for ((key, store), said) in now {
        let before = known.before.remove(&(key.clone(), store.clone()));
        if said.status == HIDDEN {
            // Carts are not kept; one that people saw is gone for them.
            if let Some(before) = before {
                known.before.insert((key, store), before);
            }
            continue;
        }
        let waits = telling == Telling::Usual && before.is_none() && derived.items.is_some() && !said.has_items;
        if waits && said.status == Status::Pending.as_str() && !derived.wait_for_items.is_zero() {
            writes.waiting.push(key);
            continue;
        }
        one(&mut writes, said, before, telling);
    }
    for ((key, store), before) in known.before {
        let data = row_json(&key, &store, &before.status, before.created_at, &before.data);
        writes.events.push(Event {
            key: key.clone(),
            store: store.clone(),
            kind: "delete",
            data,
            old: None,
        });
        writes.gone.push((key, store));
    }
    if telling == Telling::Nobody {
        writes.events.clear();
    }
    put(transaction, source, derived, &writes).await?;
    Ok(writes.events.len() as u64)
}

/// Compares an order with what was said of it last.
fn one(writes: &mut Writes, said: Said, before: Option<Before>, telling: Telling<'_>) {
    let kept = before
        .as_ref()
        .filter(|before| before.answered_over.as_ref() == Some(&said.status))
        .map(|before| before.status.clone());
    let shown = match telling {
        Telling::Answer(store, to) if store == said.store => to.as_str().to_owned(),
        _ => kept.unwrap_or_else(|| said.status.clone()),
    };
    let answered_over = (shown != said.status).then(|| said.status.clone());
    let created_at = said
        .created_at
        .or_else(|| before.as_ref().map(|before| before.created_at));
    let created_at = created_at.unwrap_or_else(OffsetDateTime::now_utc);
    let is_same = before.as_ref().is_some_and(|before| {
        (&before.status, &before.shop_status, &before.answered_over, &before.data)
            == (&shown, &said.status, &answered_over, &said.data)
    });
    if is_same {
        return;
    }
    let is_seen = before
        .as_ref()
        .is_none_or(|before| (&before.status, &before.data) != (&shown, &said.data));
    if is_seen {
        let row = |status: &str, created_at, data: &str| row_json(&said.key, &said.store, status, created_at, data);
        writes.events.push(Event {
            kind: if before.is_some() { "update" } else { "insert" },
            data: row(&shown, created_at, &said.data),
            old: before
                .as_ref()
                .map(|before| row(&before.status, before.created_at, &before.data)),
            key: said.key.clone(),
            store: said.store.clone(),
        });
    }
    writes.rows.push(Row {
        key: said.key,
        store: said.store,
        status: shown,
        created_at,
        data: said.data,
        shop_status: said.status,
        answered_over,
    });
}

/// A row of the engine's own table as JSON, as lists read it.
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
