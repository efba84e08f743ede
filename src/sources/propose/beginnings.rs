//! Checks whether the shop creates new orders with a status word that the proposal maps to `completed`. Panels would
//! not ring for these new orders, so the proposal asks a person.

use super::Draft;
use super::columns::{Columns, is_time};
use super::synonyms;
use super::words::ProposedWords;
use crate::domain::status::Status;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Maximum number of completed orders that are examined. The newest ones are chosen.
const NEWEST_ROWS: i64 = 20;
/// Minimum number of completed orders that must be examined before the proposal asks about their times. Fewer orders
/// may be test orders.
const FEWEST_ROWS: i64 = 3;
/// Maximum time between the creation and the last change of an order that the shop probably created as completed,
/// seconds. Nobody can prepare an order in this time.
const AT_ONCE_SECONDS: f64 = 60.0;

/// Adds a question to the draft if the table's rows suggest that the shop creates new orders with a word for
/// `completed`. `found` has each word of the status column, with the number of rows that contain the word.
pub(super) async fn ask(
    client: &impl GenericClient,
    table: &Table,
    columns: &Columns<'_>,
    status: &TableColumn,
    words: &ProposedWords,
    found: &[(String, i64)],
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let of = |status: Status| words.known.iter().find(|(known, _)| *known == status);
    let Some((_, completed)) = of(Status::Completed) else {
        return Ok(());
    };
    let rows = |words: &[String]| -> i64 {
        let counted = found.iter().filter(|(word, _)| words.contains(word));
        counted.map(|(_, rows)| rows).sum()
    };
    let rows_of = |status: Status| of(status).map_or(0, |(_, words)| rows(words));
    let begun = [Status::Preparing, Status::Ready, Status::Delivering];
    let named = completed.join(", ");
    let remedy = "If so, write it under pending: an order that begins with a word of completed never rings";
    let (examined, at_once) = at_once(client, table, columns, status, completed, draft).await?;
    if examined >= FEWEST_ROWS && at_once * 2 > examined {
        draft.ask(
            "status",
            format!(
                "are orders new to the store as {named}? {at_once} of the newest {examined} had no later change than {AT_ONCE_SECONDS} s \
                 after their creation. {remedy}"
            ),
        );
    } else if rows(completed) > 0
        && rows_of(Status::Pending) == 0
        && begun.into_iter().all(|status| of(status).is_none())
    {
        draft.ask(
            "status",
            format!(
                "are orders new to the store as {named}? {} rows have it, and no row waits for an answer or is prepared. {remedy}",
                rows(completed)
            ),
        );
    }
    Ok(())
}

/// Returns two counts: the examined completed orders (the newest ones), and how many of them were last changed within
/// [`AT_ONCE_SECONDS`] of their creation. Both are 0 if the table has no column for the creation time or for the time
/// of the last change.
async fn at_once(
    client: &impl GenericClient,
    table: &Table,
    columns: &Columns<'_>,
    status: &TableColumn,
    completed: &[String],
    draft: &Draft,
) -> Result<(i64, i64), catalog::Error> {
    let times = (
        columns.peek(synonyms::CREATED, is_time),
        columns.peek(synonyms::UPDATED, is_time),
    );
    let (Some(created), Some(updated)) = times else {
        return Ok((0, 0));
    };
    let newest = ident(draft.key.as_ref().unwrap_or(&created.name));
    let sql = format!(
        "select count(*), count(*) filter (where updated < created + $3::float8 * interval '1 second') \
         from (select {}::timestamptz as created, {}::timestamptz as updated from {} where {}::text = any ($1) \
             order by {newest} desc limit $2) newest",
        ident(&created.name),
        ident(&updated.name),
        table.quoted,
        ident(&status.name),
    );
    let row = client
        .query_one(&sql, &[&completed, &NEWEST_ROWS, &AT_ONCE_SECONDS])
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
