//! Computes orders of a derived source (one whose orders come from SQL expressions). This is done by the projector, a
//! background task, and by the code that saves a person's answer. If an expression fails, only its own value is
//! missing, and all other values of the order are computed.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::Source;
use super::failure::Failure;
use super::function::OneValue;
use super::project::{Projected, PublishedResults, derive};
use super::savepoint_query::{Attempt, end};
use super::{Derived, function, shorter_limit};
use crate::infra::db::Transaction;

/// If the SQL expression of a value fails, the order has this JSON in place of the value.
const UNREADABLE: &str = "\"?\"";
/// If the query for an order's items fails, the order has this JSON in place of the items.
const UNREADABLE_ITEMS: &str = "[{\"name\": \"?\"}]";
/// Time limit of a query that computes several orders, milliseconds.
pub(super) const DERIVE_MS: u32 = 2000;

/// The results of computing orders: the orders, and the expressions that failed.
#[derive(Debug, Default)]
pub(super) struct Computed {
    /// The computed orders, with one entry for each store of an order.
    pub orders: Vec<Projected>,
    /// The keys of orders that no store receives: the expression of the store fails, and no store has received the
    /// order before.
    pub without_store: Vec<String>,
    /// The keys of orders that no store receives, because row level security hides their rows.
    pub hidden: Vec<String>,
    /// The expressions that failed, each with the key of its order.
    pub failures: Vec<Failure>,
}

/// Computes the orders with these keys. If an expression fails, each order is computed alone. If one order fails again,
/// its values are computed one by one. If the store of an order cannot be computed, the order keeps the stores of its
/// last published result.
pub(super) async fn compute(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
    published: &PublishedResults,
) -> Result<Computed, tokio_postgres::Error> {
    let mut computed = Computed::default();
    if keys.is_empty() {
        return Ok(computed);
    }
    if let Attempt::Done(orders) = whole(transaction, source, derived, keys).await? {
        computed.failures = of_several_rows(&orders);
        computed.orders = orders;
        return Ok(computed);
    }
    let limit = shorter_limit::begin(transaction).await?;
    for key in keys {
        if let Attempt::Done(orders) = whole(transaction, source, derived, std::slice::from_ref(key)).await? {
            computed.failures.extend(of_several_rows(&orders));
            computed.orders.extend(orders);
            continue;
        }
        let (orders, failures) = value_by_value(transaction, source, derived, key, published).await?;
        computed.failures.extend(failures);
        match orders {
            Some(orders) => computed.orders.extend(orders),
            None => computed.without_store.push(key.clone()),
        }
    }
    limit.restore(transaction).await?;
    Ok(computed)
}

/// Computes all values of all orders with these keys in one query.
async fn whole(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
) -> Result<Attempt<Vec<Projected>>, tokio_postgres::Error> {
    let savepoint = transaction.savepoint().await?;
    let orders = derive(&savepoint, source, derived, keys).await;
    end(savepoint, orders).await
}

/// Finds orders that are ambiguous: the mapping's joins return several rows with the same store but different values.
/// Returns a failure for each. The program cannot know which of these rows is right, so a person must correct the
/// mapping.
fn of_several_rows(orders: &[Projected]) -> Vec<Failure> {
    let (mut seen, mut of_several) = (HashMap::new(), HashSet::new());
    for order in orders {
        let values = (&order.status, &order.data);
        let first = *seen.entry((&order.key, &order.store)).or_insert(values);
        if first != values {
            of_several.insert(&order.key);
        }
    }
    of_several.into_iter().map(|key| Failure::several_rows(key)).collect()
}

/// Computes each value of one order in its own query. Returns one [`Projected`] for each store of the order, and the
/// failures. Returns `None` for the orders if the store cannot be computed and the order was never published.
async fn value_by_value(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    key: &str,
    published: &PublishedResults,
) -> Result<(Option<Vec<Projected>>, Vec<Failure>), tokio_postgres::Error> {
    let mut failures = Vec::new();
    let mut read = HashMap::new();
    let joins = working_joins(transaction, source, derived, key).await?;
    failures.extend(joins.failure);
    for (name, _) in function::all_values(derived) {
        match value(transaction, source, key, &name, joins.working.as_deref()).await? {
            Attempt::Done(rows) => drop(read.insert(name, rows)),
            Attempt::Failed(error) => failures.push(Failure::of(derived, &name, key, &error)),
        }
    }
    let stores: Vec<Option<String>> = match read.remove("store") {
        Some(rows) => rows.into_iter().map(|row| row.store).collect(),
        None => {
            let known = published.stores(key);
            if known.is_empty() {
                return Ok((None, failures));
            }
            known.into_iter().map(Some).collect()
        }
    };
    let orders = stores
        .into_iter()
        .map(|store| of_store(derived, key, store, &read, published))
        .collect();
    Ok((Some(orders), failures))
}

/// Builds the order of one store from values that were computed one by one. The JSON has the same spacing as Postgres'
/// `json_build_object`. Otherwise the comparison with the last published result would report unchanged values as
/// changed.
fn of_store(
    derived: &Derived,
    key: &str,
    store: Option<String>,
    read: &HashMap<String, Vec<Row>>,
    published: &PublishedResults,
) -> Projected {
    // A value that was computed without the store may have several rows, for several stores. If these rows differ,
    // nobody knows which one belongs to this store, so the value is unreadable.
    let of = |name: &str| {
        let rows = read.get(name)?;
        let own = rows.iter().find(|row| row.store == store);
        let are_equal = rows.iter().all(|row| row.json == rows[0].json);
        match own.or_else(|| rows.first().filter(|_| are_equal)) {
            Some(row) => Some(row.json.as_str()),
            None if rows.is_empty() => Some("null"),
            None => None,
        }
    };
    let values = function::values(derived).into_iter().map(|(name, _)| {
        let unreadable = match name == "items" {
            true => UNREADABLE_ITEMS,
            false => UNREADABLE,
        };
        format!("\"{name}\" : {}", of(&name).unwrap_or(unreadable))
    });
    let data = format!("{{{}}}", values.collect::<Vec<_>>().join(", "));
    // A published order whose status is unreadable keeps the shop's last readable status, and a person's answer.
    // For a new order, the unreadable status is a word that the mapping does not know, so panels ring for the order.
    let known = published.shop_status(key, store.as_deref().unwrap_or_default());
    let status = match (of("status"), known) {
        (None, Some(last)) => Some(last.to_owned()),
        (json, _) => match serde_json::from_str(json.unwrap_or(UNREADABLE)).unwrap_or_default() {
            Value::String(word) => Some(word),
            Value::Null => None,
            other => Some(other.to_string()),
        },
    };
    Projected::new(key.to_owned(), store, status, data, derived)
}

/// One value of an order. If the mapping's joins give several rows for the order, this is the value in one of these
/// rows.
struct Row {
    /// The id of the row's store. `None`: the store is null, or the value was computed without the store.
    store: Option<String>,
    json: String,
}

/// The joins of a mapping that work for one order.
struct Joins {
    /// The numbers of these joins, counted from 1. `None`: all joins work.
    working: Option<Vec<usize>>,
    /// The failure of all joins together.
    failure: Option<Failure>,
}

/// Finds the joins of the mapping that work for the order with this key. If not all of them work together, each join is
/// tried together with the working joins before it.
async fn working_joins(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    key: &str,
) -> Result<Joins, tokio_postgres::Error> {
    let Attempt::Failed(error) = read(transaction, source, key, OneValue::none(None)).await? else {
        return Ok(Joins {
            working: None,
            failure: None,
        });
    };
    let mut working = Vec::new();
    for number in 1..=function::join_parts(derived).len() {
        working.push(number);
        if let Attempt::Failed(_) = read(transaction, source, key, OneValue::none(Some(&working))).await? {
            working.pop();
        }
    }
    Ok(Joins {
        working: Some(working),
        failure: Some(Failure::of(derived, "from", key, &error)),
    })
}

/// Computes one value of an order with the `working` joins (`None`: with all joins). If the query fails, retries
/// without the order's store, and then without joins.
async fn value(
    transaction: &mut Transaction<'_>,
    source: &Source,
    key: &str,
    name: &str,
    working: Option<&[usize]>,
) -> Result<Attempt<Vec<Row>>, tokio_postgres::Error> {
    // The query for the store itself always computes the store.
    let is_store = name == "store";
    let with = |with_store, joins| OneValue {
        name,
        with_store,
        joins,
    };
    let mut tries = vec![with(true, working)];
    if !is_store {
        tries.push(with(false, working));
    }
    tries.push(with(is_store, Some(&[])));
    for one in tries {
        if let Attempt::Done(rows) = read(transaction, source, key, one).await? {
            return Ok(Attempt::Done(rows));
        }
    }
    // With the store, the error may be that of the store's expression. With fewer joins, it may only say that a table
    // was left out. So the cause is the error of this query.
    read(transaction, source, key, with(is_store, None)).await
}

/// Computes one value of an order with one query.
async fn read(
    transaction: &mut Transaction<'_>,
    source: &Source,
    key: &str,
    one: OneValue<'_>,
) -> Result<Attempt<Vec<Row>>, tokio_postgres::Error> {
    let sql = format!("select {}(array[$1], $2)", function::name(source.id));
    let savepoint = transaction.savepoint().await?;
    let rows = savepoint.query(&sql, &[&key, &one.field()]).await;
    let rows = match end(savepoint, rows).await? {
        Attempt::Done(rows) => rows,
        Attempt::Failed(error) => return Ok(Attempt::Failed(error)),
    };
    let mut read = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut row: Vec<Option<String>> = row.try_get(0)?;
        let object = row.get_mut(3).and_then(Option::take).unwrap_or_default();
        let store = row.get_mut(1).and_then(Option::take);
        let value = object
            .strip_prefix(&format!("{{\"{}\" : ", one.name))
            .and_then(|rest| rest.strip_suffix('}'));
        let json = value.unwrap_or("null").to_owned();
        read.push(Row { store, json });
    }
    Ok(Attempt::Done(read))
}
