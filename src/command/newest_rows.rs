//! Prints the newest rows of a table as the people of a store would see them, and what is remarkable about the mapping.
//! `vestnik attach` and `vestnik source check` use the same functions, so they say the same.

use std::collections::HashMap;

use anyhow::bail;
use tokio_postgres::error::SqlState;

use super::refusal::unfit;
use crate::domain::subject::Visibility;
use crate::infra::db;
use crate::sources::attach::{self, Examined};
use crate::sources::catalog::{self, Table};
use crate::sources::mapping::Mapping;
use crate::sources::newest_rows::{self, Advice};
use crate::sources::preview::{self, Preview};
use crate::sources::validate::warnings_of_rows;
use crate::sources::{assumptions, derived, shifted_defaults};

/// Number of the table's newest rows that are translated as a check. The command prints some of them.
const LOOKED_AT: i64 = 20;

/// The result of translating the newest rows of a table with a mapping.
#[derive(Debug, Default)]
pub struct NewestRows {
    /// Whether a printed order has no store, so that nobody would receive it. Hidden orders, such as carts, do not
    /// count.
    pub has_no_store: bool,
    /// One line for each expression of the mapping that fails for one of the rows.
    pub problems: Vec<String>,
    /// Whether the table has rows, and the mapping fails for all of them.
    pub all_fail: bool,
    /// One line for each status word that is probably misspelled.
    pub misspelt: Vec<String>,
    /// Whether the amounts of the newest rows are in the default currency; `None`: the table has no rows.
    pub has_default_currency: Option<bool>,
}

impl NewestRows {
    /// Prints the failing expressions as warnings. Returns an error only if the mapping fails for every row, because
    /// the owner must be able to attach a table with a single bad row.
    pub fn unless_all_fail(self, table: &Table) -> anyhow::Result<Self> {
        if self.all_fail {
            return Err(unfit(table, self.problems));
        }
        for problem in &self.problems {
            super::say!("warning: {problem}: such a value is shown as ?");
        }
        for misspelt in &self.misspelt {
            super::say!("warning: {misspelt}");
        }
        Ok(self)
    }
}

/// Prints at most `most` of the table's newest rows as the people of a store would see them. Hidden rows, such as
/// carts, come last.
pub async fn show_newest(
    client: &mut tokio_postgres::Client,
    table: &Table,
    mapping: &Mapping,
    most: usize,
) -> anyhow::Result<NewestRows> {
    let known = crate::sources::registry::load(client).await.ok();
    let currencies = known.map_or_else(HashMap::new, |known| known.currencies().clone());
    let found = match &mapping.derived {
        Some(derived) => derived::newest(client, table, mapping, derived, &currencies, LOOKED_AT).await,
        None => {
            let source = attach::unattached(table, mapping);
            let rows = preview::newest(client, &source, table, &currencies, LOOKED_AT).await;
            rows.map(|(orders, problems)| {
                Some(derived::NewestOrders {
                    orders,
                    problems,
                    ..derived::NewestOrders::default()
                })
            })
        }
    };
    let derived::NewestOrders {
        mut orders,
        problems,
        all_fail,
        warnings: of_rows,
    } = match found {
        Ok(Some(found)) => found,
        // An error in the mapping is not reported here, because attaching the table reports it later.
        Ok(None) => return Ok(NewestRows::default()),
        Err(catalog::Error::Failed(db::QueryError::Postgres(error))) if error.as_db_error().is_some() => {
            // Other errors are of the mapping, such as a missing column.
            let is_denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            let reason = format!("the rows of {} cannot be read: {}", table.quoted, db::reason(&error));
            return Ok(NewestRows {
                problems: is_denied.then_some(reason).into_iter().collect(),
                ..NewestRows::default()
            });
        }
        Err(error) => bail!(error),
    };
    let Advice {
        mut warnings,
        notes,
        misspelt,
        has_default_currency,
    } = newest_rows::advice(client, table, mapping, &orders).await?;
    if mapping.derived.is_none() {
        warnings.extend(warnings_of_rows(client, table, mapping).await?);
    }
    warnings.extend(shifted_defaults::warnings(client, table, mapping).await?);
    let is_seen = |row: &Preview| row.subject.visibility == Visibility::Visible;
    orders.sort_by_key(|row| !is_seen(row));
    orders.truncate(most);
    // A warning about the rows means that the table has rows, although they give no order.
    if orders.is_empty() && problems.is_empty() && of_rows.is_empty() {
        super::say!("{} has no rows yet", table.quoted);
    } else if !orders.is_empty() {
        super::say!("the newest of {}, as a partner would see it:", table.quoted);
        orders
            .iter()
            .flat_map(preview::lines)
            .for_each(|line| super::say!("  {line}"));
    }
    warnings.extend(of_rows);
    for warning in warnings {
        super::say!("warning: {warning}");
    }
    notes.iter().for_each(|note| super::say!("note: {note}"));
    Ok(NewestRows {
        misspelt,
        has_no_store: orders.iter().any(|row| row.store.is_none() && is_seen(row)),
        problems,
        all_fail,
        has_default_currency,
    })
}

/// Prints the warnings about a mapping, and what Vestnik assumes where the mapping says nothing.
pub fn say_notes(table: &Table, mapping: &Mapping, examined: &Examined, newest: &NewestRows) {
    examined
        .findings
        .warnings
        .iter()
        .for_each(|warning| super::say!("{warning}"));
    assumptions::lines(table, mapping, &examined.expressions, newest.has_default_currency)
        .iter()
        .for_each(|line| super::say!("note: {line}"));
}
