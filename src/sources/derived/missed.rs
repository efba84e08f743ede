//! Finds orders of a derived source that the projector has missed, because no trigger fired. The projector is the
//! background task that computes these orders. Either the triggers were off when the row was written, or the order
//! became visible through a table that the mapping does not watch.

use crate::infra::db::{GenericClient, Transaction};

use super::function::OneValue;
use super::savepoint_query::{Attempt, end};
use super::watch::{AGAIN, ALL_ORDERS, OF_ALL_ORDERS, TELL_ALL};
use super::{HIDDEN, function, projection};
use crate::domain::event::SourceId;

/// Time limit of the query that computes the statuses of orders, milliseconds.
const DERIVE_MS: u32 = 2000;

/// Returns the keys of the orders that the projector, a background task, has missed. `written` has the keys of rows
/// that the shop wrote. A missed order is not hidden, clients have not received it, and the projector's queue does not
/// contain it.
pub(in crate::sources) async fn not_projected(
    transaction: &mut Transaction<'_>,
    source: SourceId,
    written: Vec<String>,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let unknown = format!(
        "select k.key from unnest($1::text[]) k (key) where not exists (select from {} p where p.key = k.key)",
        projection(source)
    );
    // An order that is in the queue, or that waits for its items, is not missed, because the projector will publish it
    // soon. A queue row with one of [`OF_ALL_ORDERS`] means that the projector will compute all orders of the source soon.
    // Attaching a source or changing its mapping adds this row.
    const ON_THE_WAY: &str = "select key from vestnik.vst_change where source = $1 and watch in (0, $3::int2) and key = any ($2) \
         union select key from vestnik.vst_wait where source = $1 and key = any ($2) \
         union all select k from unnest($2::text[]) k where exists (select from vestnik.vst_change where source = $1 and watch = any ($4))";
    let mut keys = Vec::new();
    for row in transaction.query(&unknown, &[&written]).await? {
        keys.push(row.try_get::<_, String>(0)?);
    }
    if keys.is_empty() {
        return Ok(keys);
    }
    for row in transaction
        .query(ON_THE_WAY, &[&source.0, &keys, &AGAIN, &OF_ALL_ORDERS.as_slice()])
        .await?
    {
        let on_the_way: &str = row.try_get(0)?;
        keys.retain(|key| key != on_the_way);
    }
    // A hidden order (its status is `hidden`, as for a cart) has no row in the projection table, and is not missed. So
    // the statuses of the remaining orders are computed, to leave out the hidden orders.
    let limit = format!("set local jit = off; set local statement_timeout = {DERIVE_MS}");
    transaction.batch_execute(&limit).await?;
    if let Statuses::Read(visible) = visible(transaction, source, &keys).await? {
        return Ok(visible);
    }
    // An order whose status cannot be computed counts as visible, because panels must ring for it.
    let mut all = Vec::new();
    for key in keys {
        match visible(transaction, source, std::slice::from_ref(&key)).await? {
            Statuses::Read(visible) => all.extend(visible),
            Statuses::Failed => all.push(key),
        }
    }
    Ok(all)
}

/// The result of computing the statuses of orders.
enum Statuses {
    /// The keys of the orders whose status is not `hidden`.
    Read(Vec<String>),
    /// The mapping's expression of the status fails for at least one of the orders.
    Failed,
}

async fn visible(
    transaction: &mut Transaction<'_>,
    source: SourceId,
    keys: &[String],
) -> Result<Statuses, tokio_postgres::Error> {
    let sql = format!("select {}($1::text[], $2)", function::name(source));
    let savepoint = transaction.savepoint().await?;
    let status = OneValue {
        name: "status",
        with_store: false,
        joins: None,
    };
    let field = status.field();
    let rows = savepoint.query(&sql, &[&keys, &field]).await;
    let Attempt::Done(rows) = end(savepoint, rows).await? else {
        return Ok(Statuses::Failed);
    };
    let hidden = serde_json::json!({ "status": HIDDEN });
    let mut visible = Vec::new();
    for row in &rows {
        let row: Vec<Option<String>> = row.try_get(0)?;
        if let [Some(key), _, _, Some(status)] = &row[..]
            && serde_json::from_str::<serde_json::Value>(status).ok().as_ref() != Some(&hidden)
            && !visible.contains(key)
        {
            visible.push(key.clone());
        }
    }
    Ok(Statuses::Read(visible))
}

/// Puts into the queue `vst_change` that the projector computes all existing orders of the source.
pub(super) async fn project_all(client: &impl GenericClient, source: SourceId) -> Result<(), tokio_postgres::Error> {
    queue(client, source, ALL_ORDERS).await
}

/// Puts into the queue `vst_change` that the projector computes all existing orders of the source, and tells each change
/// of them, because the triggers did not record the shop's writes. `identity` has the names of the values that tell one
/// order from another, with spaces between them.
pub(super) async fn tell_all(
    client: &impl GenericClient,
    source: SourceId,
    identity: &str,
) -> Result<(), tokio_postgres::Error> {
    const QUEUE: &str = "insert into vestnik.vst_change (source, watch, key) values ($1, $2, $3)";
    client
        .execute(QUEUE, &[&source.0, &TELL_ALL, &identity])
        .await
        .map(drop)
}

/// Puts into the queue `vst_change` that the projector computes all open orders of the source, because any of them may
/// have changed.
pub(super) async fn project_open(client: &impl GenericClient, source: SourceId) -> Result<(), tokio_postgres::Error> {
    queue(client, source, AGAIN).await
}

/// Adds a change without a key.
async fn queue(client: &impl GenericClient, source: SourceId, watch: i16) -> Result<(), tokio_postgres::Error> {
    const QUEUE: &str = "insert into vestnik.vst_change (source, watch) values ($1, $2)";
    client.execute(QUEUE, &[&source.0, &watch]).await.map(drop)
}

/// Puts the orders with these keys into the queue `vst_change`, so that the projector (a background task) computes
/// them. This is no write of their rows: a row that is gone stays gone.
pub(in crate::sources) async fn project_again(
    client: &impl GenericClient,
    source: SourceId,
    keys: &[String],
) -> Result<(), tokio_postgres::Error> {
    const QUEUE: &str =
        "insert into vestnik.vst_change (source, watch, key) select $1, $3, key from unnest($2::text[]) key";
    client.execute(QUEUE, &[&source.0, &keys, &AGAIN]).await?;
    Ok(())
}
