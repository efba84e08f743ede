//! Derived sources: SQL expressions over several tables of the shop define the orders. The projector, a background
//! task, computes the orders whose rows were written. The projector saves the results in the source's projection table,
//! `vestnik.vst_projection_N`, and appends the changes to the journal. From the journal on, these orders take the same
//! path as the orders of other sources. Lists read the projection table instead of the shop's tables.

mod affected_orders;
mod answer;
mod answer_statements;
mod attached;
mod batch;
mod batch_entries;
mod check;
mod compute;
mod existing_orders;
mod failure;
mod fractions;
mod function;
mod hidden_items;
mod hidden_rows;
mod hidden_tables;
mod install;
mod joins;
mod kept_answer;
mod known_orders;
mod missed;
mod object_rights;
mod order_identity;
mod policy_changes;
pub mod preset;
mod preview;
mod project;
pub mod projector;
mod publish;
mod queue_progress;
mod queued_orders;
mod reader;
mod remedy;
mod rights;
mod savepoint_query;
mod seen_orders;
mod shorter_limit;
mod state;
mod trial;
pub mod trim;
pub(in crate::sources) mod unfinished;
mod units;
mod watch;
mod watch_column;
mod watched_rows;
mod write;
mod written_rows;

use super::mapping::Mapping;
use super::mapping::derived::{Derived, HIDDEN, extra_name};
use super::sql::ident;
use super::statement_uses::tables;
use super::{RecordedColumn, usual_unit};
use crate::domain::event::SourceId;
use crate::infra::db::GenericClient;

pub(super) use answer::{answer, taken};
pub(super) use answer_statements::{ANSWERING_STORE, reads};
pub use check::{Checked, check};
pub(super) use failure::COUNTED;
pub(super) use install::{Before, Earlier, drop_sql, install, install_sql};
pub use kept_answer::forget_kept_answer;
pub(super) use missed::{not_projected, project_again};
pub use preview::{NewestOrders, newest};
pub(super) use project::has_form;
pub(super) use rights::of_current_role;
pub(super) use state::{State, examine, published};

/// The status word of a new order whose status cannot be computed.
const UNREADABLE_STATUS: &str = "?";

/// The names of the columns that the mapping's query `items` may return.
pub(super) const ITEM_COLUMNS: [&str; 6] = ["name", "quantity", "price", "options", "note", "category"];

/// The name of the source's projection table, with its schema. For each order and store, the table holds the values
/// that clients last received.
pub fn projection(source: SourceId) -> String {
    format!("vestnik.vst_projection_{}", source.0)
}

/// The names of the tables that the mapping's expressions read, besides the shop's table of orders. A name in the result
/// may belong to no table.
fn tables_read(derived: &Derived) -> Vec<String> {
    let mut names: Vec<String> = derived.watch.iter().map(|watch| watch.table.clone()).collect();
    names.extend(tables(&derived.from));
    for (_, sql) in function::all_values(derived) {
        names.extend(tables(&sql));
    }
    names
}

/// Sets the unit of each amount in a derived mapping (one with SQL expressions), if the mapping names no unit. The SQL
/// type of the amount's expression decides whether the unit is major or minor, such as cents. `columns` has the names
/// and types of the expressions.
pub fn with_units(mut mapping: Mapping, columns: &[RecordedColumn]) -> Mapping {
    let unit = |name: &str| {
        columns
            .iter()
            .find(|column| column.name == name)
            .map(|column| usual_unit(&column.kind))
    };
    for (money, name) in [
        (&mut mapping.fields.total, "total"),
        (&mut mapping.fields.change_from, "change_from"),
    ] {
        if let Some(money) = money {
            money.unit = money.unit.or_else(|| unit(name));
        }
    }
    if let Some(items) = &mut mapping.items {
        items.unit = items.unit.or_else(|| unit("items.price"));
    }
    mapping
}

/// Whether the source has a projection table. It has one while it is derived, and while Vestnik keeps answers of that time.
async fn has_projection(client: &impl GenericClient, source: SourceId) -> Result<bool, tokio_postgres::Error> {
    const THERE: &str = "select to_regclass($1) is not null";
    client.query_one(THERE, &[&projection(source)]).await?.try_get(0)
}

/// The FROM clause of the expressions: the shop's table with the alias `o`, and the mapping's joins.
fn from_clause(table: &str, derived: &Derived) -> String {
    format!("{table} o\n{}", derived.from)
}

/// An SQL expression for the key of the shop's row `o` as text.
fn key_text(derived: &Derived) -> String {
    format!("(o.{})::pg_catalog.text", ident(&derived.key))
}
