//! Finds all existing orders of a derived source (one whose orders come from SQL expressions). They are computed after
//! the source was attached or its mapping changed.

use std::collections::HashSet;

use super::super::Source;
use super::super::sql::ident;
use super::publish::WrittenAt;
use super::{Derived, projection};
use crate::infra::db::{QueryError, Transaction};

/// Maximum number of existing orders that are computed when a table is attached. The newest orders are chosen, and
/// older ones are not computed.
const KNOWN_ORDERS: i64 = 20_000;
/// Maximum number of existing orders that are computed in one statement.
pub(super) const CHUNK: usize = 500;

/// The keys of the existing orders, the newest first, and then of the orders that clients know, although their rows are
/// gone or are older.
#[derive(Debug, Default)]
pub(super) struct ExistingOrders {
    /// The orders whose row was last written before the source was attached.
    pub older: Vec<String>,
    /// The orders whose row was written since then. If no client has received such an order, an earlier mapping was
    /// wrong.
    pub newer: Vec<String>,
}

/// Finds the existing orders, except those in `taken`: this batch computes them in the usual way.
pub(super) async fn find(
    transaction: &Transaction<'_>,
    source: &Source,
    derived: &Derived,
    taken: &WrittenAt,
) -> Result<ExistingOrders, QueryError> {
    let column = ident(&derived.key);
    let table = &source.mapping.table;
    let taken: Vec<&String> = taken.keys().collect();
    let sql = format!(
        "select vestnik.vst_readable(o.{column}::text), age(o.xmin) <= age(s.attached_xid::xid) \
         from {table} o, (select attached_xid from vestnik.vst_source where id = $1) s \
         where o.{column}::text <> all ($3) \
         order by o.{column} desc limit $2"
    );
    let mut existing = ExistingOrders::default();
    for row in transaction.query(&sql, &[&source.id.0, &KNOWN_ORDERS, &taken]).await? {
        let keys = match row.try_get(1)? {
            true => &mut existing.newer,
            false => &mut existing.older,
        };
        keys.extend(row.try_get::<_, Option<String>>(0)?);
    }
    let known = format!(
        "select distinct key from {} where key <> all ($1) limit $2",
        projection(source.id)
    );
    let found: HashSet<&String> = existing.older.iter().chain(&existing.newer).collect();
    let mut known_only = Vec::new();
    for row in transaction.query(&known, &[&taken, &KNOWN_ORDERS]).await? {
        let key: String = row.try_get(0)?;
        if !found.contains(&key) {
            known_only.push(key);
        }
    }
    existing.older.extend(known_only);
    Ok(existing)
}
