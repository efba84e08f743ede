//! Finds the column that says whether an order is paid. If the column has words, such as `awaiting_payment`, the
//! proposal also tells a person that orders ring before they are paid.

use super::columns::{Columns, is_plain, is_time};
use super::words::ProposedWords;
use super::{Draft, synonyms};
use crate::domain::status::Status;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Maximum number of the newest pending orders whose payment words are counted.
const NEWEST_ROWS: i64 = 20;
/// Maximum number of payment words that a question lists.
const NAMED_WORDS: usize = 4;

/// Finds the column that says whether an order is paid, and adds it to the draft of the proposal. If some of the newest
/// pending orders are paid and others are not, adds a question. If no pending order is paid, adds a guess.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let is_yes_or_no = |column: &TableColumn| column.base == "boolean" || is_time(column);
    draft.put("paid", columns.take(synonyms::PAID, is_yes_or_no));
    let Some(payment) = columns.take(synonyms::PAYMENT_STATES, is_plain) else {
        return Ok(());
    };
    let mut known = payment.labels.clone();
    if let Some((status, words)) = &draft.status {
        let counted = pending_orders(client, table, status, words, payment, draft).await?;
        known.extend(counted.iter().map(|(word, _)| word.clone()));
        say(&counted, status.clone(), &payment.name, draft);
    }
    known.retain(|word| is_paid(word));
    known.dedup();
    let has_paid = draft.fields.iter().any(|(key, _)| *key == "paid");
    match known.is_empty() || has_paid {
        true => draft.extra.push((super::label(&payment.name), payment.name.clone())),
        false => draft.paid_words = Some((payment.name.clone(), known)),
    }
    Ok(())
}

/// Counts the payment words of the newest pending orders: each word with its number of orders, the most frequent first.
async fn pending_orders(
    client: &impl GenericClient,
    table: &Table,
    status: &str,
    words: &ProposedWords,
    payment: &TableColumn,
    draft: &Draft,
) -> Result<Vec<(String, i64)>, catalog::Error> {
    let pending = words.known.iter().find(|(known, _)| *known == Status::Pending);
    let Some((_, pending)) = pending else {
        return Ok(Vec::new());
    };
    let newest = ident(draft.key.as_ref().unwrap_or(&payment.name));
    let sql = format!(
        "select coalesce(word, 'null'), count(*) from (select {}::text as word from {} where {}::text = any ($1) \
             order by {newest} desc limit $2) newest group by word order by 2 desc, 1",
        ident(&payment.name),
        table.quoted,
        ident(status),
    );
    let rows = client.query(&sql, &[pending, &NEWEST_ROWS]).await?;
    let counted = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    Ok(counted.collect::<Result<_, tokio_postgres::Error>>()?)
}

/// Adds a question or a guess about pending orders that are not paid. `counted` has the payment words of the newest
/// pending orders.
fn say(counted: &[(String, i64)], status: String, payment: &str, draft: &mut Draft) {
    let paid: i64 = counted
        .iter()
        .filter(|(word, _)| is_paid(word))
        .map(|(_, rows)| rows)
        .sum();
    let all: i64 = counted.iter().map(|(_, rows)| rows).sum();
    let remedy = "A section [derived] hides an order until it is paid (docs/derived-sources.md)";
    if paid > 0 && paid < all {
        let named = counted.iter().take(NAMED_WORDS).enumerate();
        let named: Vec<String> = named
            .map(|(at, (word, rows))| match at {
                0 => format!("{rows} have `{word}`"),
                _ => format!("{rows} `{word}`"),
            })
            .collect();
        let question = format!(
            "do orders ring before they are paid? {payment} stands beside {status}: of the newest {all} orders with a word of \
             pending, {}. {remedy}",
            named.join(" and ")
        );
        draft.ask("status", question);
    } else if paid == 0 {
        draft.guess("status", format!("an order rings whatever {payment} says. {remedy}"));
    }
}

/// Whether a payment word means that the order is paid.
fn is_paid(word: &str) -> bool {
    synonyms::PAID_WORDS.contains(&&*synonyms::spaced(word))
}
