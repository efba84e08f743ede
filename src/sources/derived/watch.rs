//! Generates and installs the triggers of a derived source (one whose orders come from SQL expressions). Fills in the
//! template `triggers/watch.sql` for the shop's table of orders and for each watched table, whose rows affect orders.

use tokio_postgres::Transaction;

use super::super::attach_error::Error;
use super::super::catalog::{Shape, Table};
use super::super::install::Installed;
use super::super::recorder::{self, FunctionOwner};
use super::super::sql::{ident, literal, quoted};
use super::super::trigger::{body_of, function_name, same, text_of};
use super::super::trigger_form::{Rows, TriggerForm, are_installed, create_sql};
use crate::domain::event::SourceId;

const TEMPLATE: &str = include_str!("../../../triggers/watch.sql");
/// A trigger writes this value to the column `watch` of `vst_change`, the queue of changes. The value means that an
/// order's row was deleted or now has another key.
pub(super) const GONE: i16 = -2;
/// Vestnik writes this value to the column `watch` of `vst_change`. The value means that an order is to be computed
/// again, although nobody wrote its row. The row may have been deleted before.
pub(super) const AGAIN: i16 = -3;
/// Vestnik writes this value to the column `watch` of `vst_change`. The value means that all existing orders are to be
/// computed.
pub(super) const ALL_ORDERS: i16 = -1;
/// Vestnik writes this value to the column `watch` of `vst_change`. The value means that all existing orders are to be
/// computed, and that each change of an order becomes an event, because the triggers did not record the shop's writes.
/// The column `key` has the names of the values that tell one order from another, see `order_identity.rs`.
pub(super) const TELL_ALL: i16 = -4;
/// The values of the column `watch` after which the projector computes all existing orders.
pub(super) const OF_ALL_ORDERS: [i16; 2] = [ALL_ORDERS, TELL_ALL];
/// A trigger records this text as the key while the column that holds the key is missing, for example because the shop
/// has renamed the column. It is no key of an order.
pub(super) const NO_KEY: &str = "(vestnik: the column of the key is missing)";
const WRITES: [&str; 4] = ["insert", "update", "delete", "truncate"];

/// A table on which Vestnik installs triggers for a derived source, because the source's orders depend on the table's
/// rows.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// The table's number: 0 for the shop's table of orders, and 1 or more for each other table whose rows affect
    /// orders.
    pub number: usize,
    /// The table, as the Postgres catalog describes it.
    pub table: Table,
    /// The column that tells which orders a row affects. It holds the order's key, or a value that the mapping's `keys`
    /// query turns into keys of orders.
    pub column: String,
    /// The columns that the mapping reads. The triggers ignore an update of other columns.
    pub read: Vec<String>,
}

/// The name of the trigger function of a watched table. `number` is the table's number, counted from 1.
pub(super) fn watch_function(source: SourceId, number: usize) -> String {
    format!("vestnik.vst_watch_{}_{number}", source.0)
}

impl Watched {
    /// The name of the table's trigger function. For the shop's table of orders, it is the usual name of a source's
    /// trigger function, such as `vestnik.vst_record_7`.
    pub fn function(&self, source: SourceId) -> String {
        match self.number {
            0 => function_name(source),
            number => watch_function(source, number),
        }
    }

    /// The value that a trigger writes to the column `watch` of the projector's queue after a row was deleted or got
    /// another key. It is [`GONE`] for the shop's table of orders, and the table's number for every other table.
    fn gone(&self) -> i16 {
        match self.number {
            0 => GONE,
            number => i16::try_from(number).unwrap_or(i16::MAX),
        }
    }

    fn trigger(&self, source: SourceId, write: &str) -> String {
        match self.number {
            0 => format!("vestnik_record_{write}"),
            number => format!("vestnik_watch_{}_{number}_{write}", source.0),
        }
    }

    /// The SQL that creates the table's trigger function.
    pub fn function_sql(&self, source: SourceId) -> String {
        let is_partitioned = self.table.shape == Shape::Partitioned;
        let (old_rows, new_rows) = match is_partitioned {
            true => ("(select old.*) old_row", "(select new.*) new_row"),
            false => ("old_rows", "new_rows"),
        };
        // In a partitioned table, the statement needs this condition. The condition names the table by its OID, so
        // Postgres makes a new plan for the statement after somebody alters the table.
        let replan = format!(
            "(tg_relid operator(pg_catalog.=) '{}'::pg_catalog.regclass) is not null",
            self.table.oid
        );
        let (replan, and_replan) = match is_partitioned {
            true => (format!(" where {replan}"), format!(" and {replan}")),
            false => (String::new(), String::new()),
        };
        let mut columns: Vec<&str> = vec![&self.column];
        columns.extend(self.read.iter().map(String::as_str).filter(|name| *name != self.column));
        let idents: Vec<String> = columns.iter().map(|name| ident(name)).collect();
        // If the shop has dropped a column that the mapping reads, the trigger cannot compare this column. So every
        // update of a row then counts as a change. Without the column of the key, every order may have changed.
        let rows = |rows: &str, missing: &str| {
            let gone = columns
                .iter()
                .zip(&idents)
                .map(|(name, ident)| match *name == self.column {
                    true => format!("{}::pg_catalog.text as {ident}", literal(NO_KEY)),
                    false => format!("{missing}::pg_catalog.text as {ident}"),
                });
            let (gone, columns) = (gone.collect::<Vec<_>>().join(", "), idents.join(", "));
            format!("(select vst_row.* from (select {gone}) vst_gone, lateral (select {columns} from {rows}) vst_row)")
        };
        let key = |place: &str| {
            format!(
                "vestnik.vst_key({})",
                text_of(place, &self.column, self.table.column(&self.column))
            )
        };
        let sql = TEMPLATE
            .replace("{function}", &self.function(source))
            .replace("{source}", &source.0.to_string())
            .replace("{watch}", &self.number.to_string())
            .replace("{gone}", &self.gone().to_string())
            .replace("{old_rows}", &rows(old_rows, "''"))
            .replace("{new_rows}", &rows(new_rows, "null"))
            .replace("{replan}", &replan)
            .replace("{and_replan}", &and_replan)
            .replace("{o.key}", &key("o"))
            .replace("{n.key}", &key("n"))
            .replace("{o.key:x}", &key("(o.x)"))
            .replace("{n.key:x}", &key("(n.x)"))
            .replace("{same:x}", &same(&columns, "(o.x)", "(n.x)"));
        quoted(sql)
    }

    /// The triggers of the table, and of the tables that inherit from it.
    fn triggers(&self, source: SourceId) -> Vec<TriggerForm> {
        let writes = WRITES.iter().map(|write| TriggerForm {
            name: self.trigger(source, write),
            write,
            rows: match (self.table.shape, *write) {
                (_, "truncate") => Rows::None,
                (Shape::Partitioned, _) => Rows::Each,
                (Shape::Plain, "insert") => Rows::New,
                (Shape::Plain, "delete") => Rows::Old,
                (Shape::Plain, _) => Rows::Both,
            },
        });
        writes.collect()
    }

    /// The SQL that creates or replaces the triggers of the table, and of the tables that inherit from it.
    pub fn triggers_sql(&self, source: SourceId) -> String {
        create_sql(&self.tables(), &self.triggers(source), &self.function(source))
    }

    /// The names of the table and of the tables that inherit from it, quoted for SQL. All of them get the triggers.
    pub fn tables(&self) -> Vec<&String> {
        self.table.with_children()
    }

    /// Whether the table's trigger function is there, because the source was attached before.
    pub async fn has_function(&self, transaction: &Transaction<'_>, source: SourceId) -> Result<bool, Error> {
        const THERE: &str = "select to_regprocedure($1 || '()') is not null";
        Ok(transaction
            .query_one(THERE, &[&self.function(source)])
            .await?
            .try_get(0)?)
    }

    /// Installs the table's trigger function and triggers where they are missing or outdated.
    pub async fn put(
        &self,
        transaction: &Transaction<'_>,
        source: SourceId,
        owner: FunctionOwner,
    ) -> Result<Installed, Error> {
        const FUNCTION: &str =
            "select prosrc, pg_get_userbyid(proowner) from pg_proc where oid = to_regprocedure($1 || '()')";
        let (sql, function) = (self.function_sql(source), self.function(source));
        let mut done = Installed::default();
        let there = transaction.query_opt(FUNCTION, &[&function]).await?;
        let is_in_force = match &there {
            Some(row) => {
                let is_owned = owner == FunctionOwner::Attacher || row.try_get::<_, &str>(1)? == recorder::ROLE;
                is_owned && row.try_get::<_, &str>(0)? == body_of(&sql)
            }
            None => false,
        };
        if !is_in_force {
            transaction.batch_execute(&sql).await?;
            transaction
                .batch_execute(&format!("revoke all on function {function}() from public"))
                .await?;
            done.function = true;
        }
        if !are_installed(transaction, &self.tables(), &self.triggers(source), &function).await? {
            transaction.batch_execute(&self.triggers_sql(source)).await?;
            done.triggers = true;
        }
        if done.any() && owner == FunctionOwner::Role {
            recorder::own(transaction, &function).await?;
        }
        Ok(done)
    }
}
