//! Saves failures of the SQL expressions of a derived source (one whose orders come from SQL expressions). Each row of
//! `vst_projection_failure` names an expression and the order for which it fails. A row stays until the expression
//! works for the order again. Until then, the source's health report names the failure.

use std::fmt;

use super::super::missing_right::grant_of;
use super::{Derived, function};
use crate::domain::event::SourceId;
use crate::infra::db::{self, GenericClient, Transaction};

/// Maximum number of distinct failures that the health report of a source lists.
const NAMED_FAILURES: i64 = 5;
/// Minimum time between two attempts to compute the same failing order, seconds.
pub(super) const RETRY_SECONDS: f64 = 10.0;
/// The value of [`Failure::place`] for an order whose row is hidden by row level security, or whose items may be.
pub(super) const ROW_SECURITY: &str = "row level security";
/// Maximum number of orders of a source that are saved as hidden by row level security. Of the orders that nobody sees,
/// the oldest ones are deleted first.
const HIDDEN_ORDERS: i64 = 10_000;
/// The value of [`Failure::key`] if a `keys` query failed. A `keys` query finds the orders that a row of a watched
/// table affects, so its failure belongs to no single order.
pub(super) const NO_ORDER: &str = "";

/// A failure to compute an order, usually because an expression of the mapping failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The key of the order. Empty: a `keys` query failed. A `keys` query finds the orders that a row of a watched
    /// table affects.
    pub key: String,
    /// The place of the expression in the mapping, such as `derived.total`, or [`ROW_SECURITY`].
    pub place: String,
    /// The error text of Postgres. In saved failures, values from the order are removed, because they may be a
    /// customer's data.
    pub reason: String,
}

impl Failure {
    /// The failure to compute the value `name` of the order `key`.
    pub fn of(derived: &Derived, name: &str, key: &str, error: &tokio_postgres::Error) -> Self {
        Self {
            key: key.to_owned(),
            place: function::place(derived, name),
            reason: db::reason_without_values(error),
        }
    }

    /// The failure that the order `key` is ambiguous: the mapping's joins return several rows with the same store but
    /// different values.
    pub fn several_rows(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            place: "derived.from".to_owned(),
            reason: "gives several rows for one order of a store, and only one counts: let each join find one row"
                .to_owned(),
        }
    }

    /// The failure that row level security hides the row of the order `key`, or may hide the rows of its items.
    pub fn hidden_row(key: &str, reason: &str) -> Self {
        Self {
            key: key.to_owned(),
            place: ROW_SECURITY.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Whether the order failed because row level security hides its row or may hide its items, and not because an
    /// expression of the mapping failed.
    pub fn is_hidden_row(&self) -> bool {
        self.place == ROW_SECURITY
    }

    /// The failure of the `keys` query of the watched table `table`. The query finds the orders that a row of the table
    /// affects.
    pub fn of_watch(table: &str, error: &tokio_postgres::Error) -> Self {
        Self {
            key: NO_ORDER.to_owned(),
            place: place_of_watch(table),
            reason: db::reason_without_values(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, place, reason } = self;
        match key.as_str() {
            NO_ORDER => write!(f, "{place}: {reason}"),
            key => write!(f, "{place}: {reason}, for the order with key {key}"),
        }
    }
}

/// The name of the `keys` query of the watched table `table`, as error messages show it. The query finds the orders
/// that a row of the table affects.
pub(super) fn place_of_watch(table: &str) -> String {
    format!("derived.watch of {table}: keys")
}

/// Saves the failures of the orders with these keys, and deletes earlier failures that no longer occur. `unseen` has
/// the keys of orders that no client sees, because their store cannot be computed or their row is hidden. It has the
/// key [`NO_ORDER`] if a `keys` query fails for all values. Returns the number of deleted failures.
pub(super) async fn save(
    transaction: &Transaction<'_>,
    source: SourceId,
    keys: &[String],
    failures: &[Failure],
    unseen: &[String],
) -> Result<usize, tokio_postgres::Error> {
    const ENDED: &str = "delete from vestnik.vst_projection_failure f where source = $1 and key = any ($2) \
         and not exists (select from unnest($3::text[], $4::text[]) now (key, place) where now.key = f.key and now.place = f.place) \
         returning key";
    const SAVE: &str = "insert into vestnik.vst_projection_failure (source, key, place, reason, is_unseen) \
         select $1, f.key, f.place, f.reason, f.key = any ($5) \
         from unnest($2::text[], $3::text[], $4::text[]) f (key, place, reason) order by 2, 3 \
         on conflict (source, key, place) do update set reason = excluded.reason, is_unseen = excluded.is_unseen, \
             tried_at = clock_timestamp()";
    const OLDEST: &str = "delete from vestnik.vst_projection_failure where source = $1 and place = $2 and key in ( \
             select key from vestnik.vst_projection_failure where source = $1 and place = $2 order by is_unseen, at desc, key offset $3)";
    let column = |of: fn(&Failure) -> &str| failures.iter().map(of).collect::<Vec<&str>>();
    let (failed, places) = (column(|failure| &failure.key), column(|failure| &failure.place));
    let statement = transaction.prepare_cached(ENDED).await?;
    let ended = transaction
        .query(&statement, &[&source.0, &keys, &failed, &places])
        .await?;
    if !failures.is_empty() {
        let reasons = column(|failure| &failure.reason);
        transaction
            .execute(SAVE, &[&source.0, &failed, &places, &reasons, &unseen])
            .await?;
        if failures.iter().any(Failure::is_hidden_row) {
            transaction
                .execute(OLDEST, &[&source.0, &ROW_SECURITY, &HIDDEN_ORDERS])
                .await?;
        }
    }
    Ok(ended.len())
}

/// The end of the failure of a `keys` query. A `keys` query finds the orders that a row of a watched table affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchFailure {
    /// The query failed for some values only.
    OfValues,
    /// The query failed for all values, so each order of the source may have changed.
    OfAll,
}

/// Deletes the saved failure of the `keys` query of the watched table `table`, because the query works again. Returns
/// the failure; `None`: the query did not fail before.
pub(super) async fn end_of_watch(
    transaction: &Transaction<'_>,
    source: SourceId,
    table: &str,
) -> Result<Option<WatchFailure>, tokio_postgres::Error> {
    const ENDED: &str =
        "delete from vestnik.vst_projection_failure where source = $1 and key = '' and place = $2 returning is_unseen";
    let ended = transaction
        .query_opt(ENDED, &[&source.0, &place_of_watch(table)])
        .await?;
    let is_of_all = ended.map(|row| row.try_get::<_, bool>(0)).transpose()?;
    Ok(is_of_all.map(|is_of_all| match is_of_all {
        true => WatchFailure::OfAll,
        false => WatchFailure::OfValues,
    }))
}

/// Failed SQL expressions and `keys` queries that the current batch runs again.
#[derive(Debug, Default)]
pub(super) struct Retried {
    /// The keys of the orders to compute again.
    pub keys: Vec<String>,
    /// The `keys` queries to run again, each named by its place in the mapping. A `keys` query finds the orders that a
    /// row of a watched table affects.
    pub watches: Vec<String>,
}

/// Chooses at most `most` failures whose last attempt is older than [`RETRY_SECONDS`], the oldest attempt first.
pub(super) async fn retry(
    transaction: &Transaction<'_>,
    source: SourceId,
    most: i64,
) -> Result<Retried, tokio_postgres::Error> {
    const RETRY: &str = "update vestnik.vst_projection_failure f set tried_at = clock_timestamp() \
         from (select key, place from vestnik.vst_projection_failure \
             where source = $1 and tried_at < clock_timestamp() - $2::float8 * interval '1 second' \
             order by tried_at limit $3 for update skip locked) old \
         where f.source = $1 and f.key = old.key and f.place = old.place returning vestnik.vst_readable(f.key), f.place";
    let mut retried = Retried::default();
    for row in transaction.query(RETRY, &[&source.0, &RETRY_SECONDS, &most]).await? {
        let (key, place): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        match key.as_str() {
            NO_ORDER => retried.watches.push(place),
            _ => retried.keys.push(key),
        }
    }
    Ok(retried)
}

/// Separates the two parts of a line in a health report. The first part names the problem and stays the same while the
/// problem lasts. The second part has counts and keys, which change.
pub(in crate::sources) const COUNTED: &str = "; now for ";

/// The lines of a health report about the failures of a source: the number of affected orders, then the most frequent
/// failures. `name` is the source's name; `schema` is the schema of the shop's table.
pub(super) async fn lines(
    client: &impl GenericClient,
    source: SourceId,
    name: &str,
    schema: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const ORDERS: &str = "select count(distinct key) filter (where key <> '' and not is_unseen), \
             count(distinct key) filter (where key <> '' and is_unseen), count(*) \
         from vestnik.vst_projection_failure where source = $1 and place <> $2";
    const DISTINCT: &str = "select place, reason, count(*) filter (where key <> ''), \
             (array_agg(vestnik.vst_readable(key) order by at desc, length(key) desc, key desc))[1], count(*) over () \
         from vestnik.vst_projection_failure where source = $1 and place <> $3 group by place, reason \
         order by count(*) desc, place, reason limit $2";
    const READER: &str = "select quote_ident(pg_get_userbyid(proowner)) from pg_proc where oid = to_regprocedure($1)";
    let mut lines = hidden_lines(client, source).await?;
    let row = client.query_one(ORDERS, &[&source.0, &ROW_SECURITY]).await?;
    let (shown, unseen, all): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if all == 0 {
        return Ok(lines);
    }
    let orders = |count: i64| match count {
        1 => "1 order".to_owned(),
        _ => format!("{count} orders"),
    };
    let mut of = Vec::new();
    if unseen > 0 {
        let whose = if unseen == 1 { "its store" } else { "their store" };
        of.push(format!(
            "{} that nobody sees, because {whose} cannot be read",
            orders(unseen)
        ));
    }
    if shown > 0 {
        let verb = if shown == 1 { "is" } else { "are" };
        of.push(format!("{} that {verb} shown as far as possible", orders(shown)));
    }
    if of.is_empty() {
        of.push("a watched table".to_owned());
    }
    lines.push(format!(
        "its expressions fail, correct them with `vestnik source edit {name}`{COUNTED}{}",
        of.join(", and ")
    ));
    let reader = client.query_opt(READER, &[&function::signature(source)]).await?;
    let reader: String = reader.map_or(Ok(String::new()), |row| row.try_get(0))?;
    let rows = client
        .query(DISTINCT, &[&source.0, &NAMED_FAILURES, &ROW_SECURITY])
        .await?;
    let mut more = 0;
    for row in &rows {
        let (place, reason, count): (&str, &str, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (newest, distinct): (&str, i64) = (row.try_get(3)?, row.try_get(4)?);
        let grant = grant_of(client, reason, &reader, schema).await?;
        let reason = grant.map_or_else(|| reason.to_owned(), |grant| format!("{reason}: {grant}"));
        more = distinct - i64::try_from(rows.len()).unwrap_or(NAMED_FAILURES);
        lines.push(match count {
            0 => format!("{place}: {reason}"),
            1 => format!("{place}: {reason}{COUNTED}the order with key {newest}"),
            _ => format!("{place}: {reason}{COUNTED}{count} orders, the newest with key {newest}"),
        });
    }
    if more > 0 {
        lines.push(format!("its other expressions that fail{COUNTED}{more} more reasons"));
    }
    Ok(lines)
}

/// The lines of a health report about orders whose rows are hidden by row level security.
async fn hidden_lines(client: &impl GenericClient, source: SourceId) -> Result<Vec<String>, tokio_postgres::Error> {
    const HIDDEN: &str = "select reason, count(*), (array_agg(vestnik.vst_readable(key) order by at desc, length(key) desc, key desc))[1] \
         from vestnik.vst_projection_failure where source = $1 and place = $2 group by reason order by 2 desc, 1 limit $3";
    let rows = client
        .query(HIDDEN, &[&source.0, &ROW_SECURITY, &NAMED_FAILURES])
        .await?;
    let line = |row: &tokio_postgres::Row| {
        let (reason, count, newest): (&str, i64, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(match count {
            1 => format!("{reason}{COUNTED}the order with key {newest}"),
            _ => format!("{reason}{COUNTED}{count} orders, the newest with key {newest}"),
        })
    };
    rows.iter().map(line).collect()
}
