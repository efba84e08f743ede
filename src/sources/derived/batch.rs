//! One batch of a source's changes: taken away, projected and told in one transaction, so that what breaks in the middle is
//! done again, and nothing twice.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::infra::db::Transaction;

use super::super::Source;
use super::super::sql::ident;
use super::project::{Known, Telling, derive, derive_parts, tell};
use super::{Derived, function, projection};
use crate::infra::db::{self, QueryError};

/// Changes that are taken at once.
const BATCH_CHANGES: i64 = 200;
/// Orders of a table that are projected when it is attached, the newest.
const KNOWN_ORDERS: i64 = 20_000;
/// How many of them at once.
const KNOWN_CHUNK: usize = 500;
/// How long the expressions may take for a batch, milliseconds.
const DERIVE_MS: u32 = 2000;
/// The same for one order, when those of the batch have failed.
const DERIVE_ONE_MS: u32 = 300;
/// How long a lock is waited for, milliseconds: other sources' orders wait meanwhile.
const LOCK_MS: u32 = 1000;
/// When an order of which nothing can be read is looked at again.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// How far the changes of a source have been taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    /// No change up to here can come any more. So what was taken away costs no look at its dead rows while an old snapshot
    /// holds them.
    through: i64,
    /// The same from the moment on when no transaction below this number runs.
    next: Option<(i64, u64)>,
}

impl Mark {
    /// Behind which the next batch begins.
    pub fn through(self) -> i64 {
        self.through
    }

    /// A batch has been taken: `newest` is its last change, and the snapshot it was read in ends at `xmax`.
    fn pass(&mut self, newest: Option<i64>, (xmin, xmax): (u64, u64)) {
        if let Some((through, end)) = self.next
            && xmin >= end
        {
            (self.through, self.next) = (self.through.max(through), None);
        }
        // A number is given out a moment before its transaction has one: the changes of the last two batches are looked
        // for again.
        if let (None, Some(newest)) = (self.next, newest) {
            self.next = Some((newest - 2 * BATCH_CHANGES, xmax));
        }
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Changes and waits that were taken.
    pub taken: usize,
    /// Events that were appended.
    pub events: u64,
    /// What Postgres says of expressions that fail.
    pub failure: Option<String>,
}

/// What was taken.
#[derive(Debug, Default)]
struct Taken {
    keys: BTreeSet<String>,
    /// Orders whose wait for items is over.
    due: BTreeSet<String>,
    /// Values of watched tables that lead to keys, by the number of the table.
    leads: Vec<(usize, String)>,
    is_truncated: bool,
    is_watched_truncated: bool,
    all_rows: bool,
}

/// Takes the next changes of a source. The transaction is the caller's to commit.
pub(super) async fn batch(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    mark: &mut Mark,
) -> Result<Done, QueryError> {
    let limits =
        format!("set local jit = off; set local lock_timeout = {LOCK_MS}; set local statement_timeout = {DERIVE_MS}");
    transaction.batch_execute(&limits).await?;
    let (mut taken, count) = take(transaction, source, mark).await?;
    let mut done = Done {
        taken: count,
        ..Done::default()
    };
    if count == 0 {
        return Ok(done);
    }
    if taken.is_truncated {
        truncate(transaction, source).await?;
    }
    if taken.all_rows {
        all_rows(transaction, source, derived, &taken.keys, &mut done).await?;
    }
    lead(transaction, source, &mut taken, &mut done).await?;
    if taken.is_watched_truncated {
        taken.keys.extend(open_keys(transaction, source).await?);
    }
    let keys: Vec<String> = taken.keys.difference(&taken.due).cloned().collect();
    let due: Vec<String> = taken.due.into_iter().collect();
    project(transaction, source, derived, &keys, Telling::Usual, &mut done).await?;
    project(transaction, source, derived, &due, Telling::Now, &mut done).await?;
    Ok(done)
}

async fn take(transaction: &Transaction<'_>, source: &Source, mark: &mut Mark) -> Result<(Taken, usize), QueryError> {
    const CHANGES: &str = "delete from vestnik.vst_change where source = $1 and id = any (array( \
             select id from vestnik.vst_change where source = $1 and id > $2 order by id limit $3)) \
         returning id, watch, key";
    const DUE: &str = "delete from vestnik.vst_wait where source = $1 and key = any (array( \
             select key from vestnik.vst_wait where source = $1 and until <= clock_timestamp() order by until limit $2)) returning key";
    const SNAPSHOT: &str = "select pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text from pg_current_snapshot() s";
    let snapshot = transaction.query_one(SNAPSHOT, &[]).await?;
    let number = |at: usize| -> Result<u64, QueryError> {
        let text: &str = snapshot.try_get(at)?;
        text.parse()
            .map_err(|_| QueryError::Inconsistent("a snapshot is no number"))
    };
    let bounds = (number(0)?, number(1)?);
    let statement = transaction.prepare_cached(CHANGES).await?;
    let rows = transaction
        .query(&statement, &[&source.id.0, &mark.through, &BATCH_CHANGES])
        .await?;
    let mut taken = Taken::default();
    let mut newest = None;
    for row in &rows {
        newest = newest.max(Some(row.try_get::<_, i64>(0)?));
        let (watch, key): (i16, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
        match (watch, key) {
            (-1, _) => taken.all_rows = true,
            (0, None) => taken.is_truncated = true,
            (_, None) => taken.is_watched_truncated = true,
            (0, Some(key)) => drop(taken.keys.insert(key)),
            (number, Some(key)) => taken.leads.push((usize::from(number.unsigned_abs()), key)),
        }
    }
    mark.pass(newest, bounds);
    let statement = transaction.prepare_cached(DUE).await?;
    for row in transaction.query(&statement, &[&source.id.0, &BATCH_CHANGES]).await? {
        taken.due.insert(row.try_get(0)?);
    }
    let count = rows.len() + taken.due.len();
    Ok((taken, count))
}

/// Finds the keys behind the values of watched tables.
async fn lead(
    transaction: &mut Transaction<'_>,
    source: &Source,
    taken: &mut Taken,
    done: &mut Done,
) -> Result<(), QueryError> {
    let Some(derived) = &source.mapping.derived else {
        return Ok(());
    };
    for (at, watch) in derived.watch.iter().enumerate() {
        let values: Vec<String> = taken
            .leads
            .iter()
            .filter(|(number, _)| *number == at + 1)
            .map(|(_, value)| value.clone())
            .collect();
        if values.is_empty() {
            continue;
        }
        if watch.keys.is_none() {
            taken.keys.extend(values);
            continue;
        }
        let sql = format!("select {}($1::text[], $2)", function::name(source.id));
        let savepoint = transaction.savepoint().await?;
        match savepoint.query(&sql, &[&values, &function::watch_name(at + 1)]).await {
            Ok(rows) => {
                savepoint.commit().await?;
                for row in &rows {
                    taken
                        .keys
                        .extend(row.try_get::<_, Vec<Option<String>>>(0)?.into_iter().next().flatten());
                }
            }
            Err(error) if is_of_mapping(&error) => {
                savepoint.rollback().await?;
                done.failure = Some(db::reason(&error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Projects orders; where the expressions fail, one by one.
async fn project(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    keys: &[String],
    telling: Telling<'_>,
    done: &mut Done,
) -> Result<(), QueryError> {
    if keys.is_empty() {
        return Ok(());
    }
    let savepoint = transaction.savepoint().await?;
    let known = Known::lock(&savepoint, source, keys).await?;
    match derive(&savepoint, source, derived, keys).await {
        Ok(said) => {
            done.events += tell(&savepoint, source, derived, known, said, telling).await?;
            savepoint.commit().await?;
            return Ok(());
        }
        Err(error) if is_of_mapping(&error) => {
            savepoint.rollback().await?;
            done.failure = Some(db::reason(&error));
        }
        Err(error) => return Err(error.into()),
    }
    transaction
        .batch_execute(&format!("set local statement_timeout = {DERIVE_ONE_MS}"))
        .await?;
    for key in keys {
        project_one(transaction, source, derived, key, telling, done).await?;
    }
    transaction
        .batch_execute(&format!("set local statement_timeout = {DERIVE_MS}"))
        .await?;
    Ok(())
}

/// An order by itself, and where that fails, value by value. One of which nothing can be read is looked at again.
async fn project_one(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    key: &str,
    telling: Telling<'_>,
    done: &mut Done,
) -> Result<(), QueryError> {
    const AGAIN: &str = "insert into vestnik.vst_wait (source, key, until) \
         values ($1, $2, clock_timestamp() + $3::float8 * interval '1 second') on conflict do nothing";
    let keys = [key.to_owned()];
    let savepoint = transaction.savepoint().await?;
    let known = Known::lock(&savepoint, source, &keys).await?;
    match derive(&savepoint, source, derived, &keys).await {
        Ok(said) => {
            done.events += tell(&savepoint, source, derived, known, said, telling).await?;
            return Ok(savepoint.commit().await?);
        }
        Err(error) if is_of_mapping(&error) => savepoint.rollback().await?,
        Err(error) => return Err(error.into()),
    }
    let mut savepoint = transaction.savepoint().await?;
    let known = Known::lock(&savepoint, source, &keys).await?;
    match derive_parts(&mut savepoint, source, derived, key).await? {
        Some(said) => done.events += tell(&savepoint, source, derived, known, said, telling).await?,
        None => drop(
            savepoint
                .execute(AGAIN, &[&source.id.0, &key, &RETRY_PAUSE.as_secs_f64()])
                .await?,
        ),
    }
    Ok(savepoint.commit().await?)
}

/// Whether the expressions are the reason, and not Postgres that is busy, locked or going down.
fn is_of_mapping(error: &tokio_postgres::Error) -> bool {
    const PASSING: [&str; 5] = ["40", "53", "55", "57P", "58"];
    error
        .code()
        .is_some_and(|code| !PASSING.iter().any(|class| code.code().starts_with(class)))
}

/// All orders that were there before the source was attached, or before its mapping was another one. Those that were written
/// since have a change of their own, taken or not, and are told.
async fn all_rows(
    transaction: &mut Transaction<'_>,
    source: &Source,
    derived: &Derived,
    taken: &BTreeSet<String>,
    done: &mut Done,
) -> Result<(), QueryError> {
    let column = ident(&derived.key);
    let table = &source.mapping.table;
    let taken: Vec<&String> = taken.iter().collect();
    let sql = format!(
        "select o.{column}::text from {table} o where not exists \
             (select from vestnik.vst_change c where c.source = $1 and c.watch = 0 and c.key = o.{column}::text) \
             and o.{column}::text <> all ($3) \
         order by o.{column} desc limit $2"
    );
    transaction.batch_execute("set local statement_timeout = '60s'").await?;
    let mut keys = Vec::new();
    for row in transaction.query(&sql, &[&source.id.0, &KNOWN_ORDERS, &taken]).await? {
        keys.extend(row.try_get::<_, Option<String>>(0)?);
    }
    for chunk in keys.chunks(KNOWN_CHUNK) {
        project(transaction, source, derived, chunk, Telling::Nobody, done).await?;
    }
    let limit = format!("set local statement_timeout = {DERIVE_MS}");
    Ok(transaction.batch_execute(&limit).await?)
}

/// Orders that are not over yet, as people see them.
async fn open_keys(transaction: &Transaction<'_>, source: &Source) -> Result<Vec<String>, QueryError> {
    let sql = format!(
        "select distinct key from {} where status not in ('completed', 'rejected', 'cancelled')",
        projection(source.id)
    );
    let rows = transaction.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// The shop's table was emptied: panels load their lists anew.
async fn truncate(transaction: &Transaction<'_>, source: &Source) -> Result<(), QueryError> {
    const TRUNCATED: &str = "insert into vestnik.vst_event (source, type, data) values ($1, 'truncate', '{}')";
    transaction
        .execute(&format!("delete from {}", projection(source.id)), &[])
        .await?;
    transaction.execute(TRUNCATED, &[&source.id.0]).await?;
    transaction.execute("select vestnik.vst_notify()", &[]).await?;
    Ok(())
}
