//! Chooses how a preview runs the expressions of a mapping. They should have the rights that they have after attaching.

use tokio_postgres::Transaction;

use super::super::catalog::Table;
use super::super::missing_right::{DENIED, grant_of};
use super::super::sql::ident;
use super::function::OneValue;
use super::{Derived, attached, check, from_clause, function, reader};
use crate::domain::event::SourceId;

/// How a preview runs the expressions.
#[derive(Debug)]
pub(super) struct Trial {
    /// The source whose function runs the expressions, as the projector does. `None`: they run as queries of the preview.
    function: Option<SourceId>,
    /// The role with whose rights the expressions run, quoted.
    role: String,
    /// What a person can do besides giving the role a right that it lacks. Empty: the role is the one that runs the
    /// expressions after attaching.
    remedy: String,
}

impl Trial {
    /// Makes the rest of the transaction read-only, with the search path that the expressions will have after attaching.
    /// The expressions run as `vestnik_reader` if the current role can become it. Otherwise they run by the function of
    /// the attached source, if it has the same expressions, or with the rights of the current role. `reads` are the
    /// tables that the expressions read.
    pub async fn begin(
        transaction: &mut Transaction<'_>,
        table: &Table,
        derived: &Derived,
        reads: &[String],
    ) -> Result<Self, tokio_postgres::Error> {
        const ROLE: &str = "select quote_ident(current_user)";
        if reader::prepare(transaction, reads).await? {
            reader::become_it(transaction, table).await?;
            return Ok(Self {
                function: None,
                role: reader::ROLE.to_owned(),
                remedy: String::new(),
            });
        }
        let current: String = transaction.query_one(ROLE, &[]).await?.try_get(0)?;
        let attached = attached::find(transaction, table).await?;
        let path = check::function_path(table);
        transaction
            .batch_execute(&format!("{path}; set local transaction_read_only = on"))
            .await?;
        Ok(match attached {
            Some(attached) if attached.can_run(table, derived) => Self {
                function: Some(attached.id),
                role: attached.runs_as,
                remedy: String::new(),
            },
            Some(attached) if !attached.is_own => Self {
                function: None,
                remedy: format!(
                    "role {current} cannot try these expressions as {}, which is to run them: run this command as role {}",
                    attached.runs_as, attached.attached_by
                ),
                role: current,
            },
            Some(_) => Self {
                function: None,
                role: current,
                remedy: String::new(),
            },
            None => Self {
                function: None,
                role: current,
                remedy: "or run this command as the role that is to attach the table".to_owned(),
            },
        })
    }

    /// Adds to each problem about a missing right what to do: a GRANT for the role that runs the expressions, or another
    /// role for the command.
    pub async fn with_remedies(
        &self,
        transaction: &Transaction<'_>,
        problems: Vec<String>,
        schema: &str,
    ) -> Result<Vec<String>, tokio_postgres::Error> {
        let mut with_remedies = Vec::with_capacity(problems.len());
        for problem in problems {
            let is_wrong_role = self.remedy.starts_with("role ");
            if is_wrong_role && problem.contains(DENIED) {
                with_remedies.push(format!("{problem}: {}", self.remedy));
                continue;
            }
            with_remedies.push(match grant_of(transaction, &problem, &self.role, schema).await? {
                Some(grant) if self.remedy.is_empty() => format!("{problem}: {grant}"),
                Some(grant) => format!("{problem}: {grant}, {}", self.remedy),
                None => problem,
            });
        }
        Ok(with_remedies)
    }

    /// SQL that selects the newest rows of the shop's table, the newest first; `rows` is the maximum number. The columns
    /// are the row's key, and whether the mapping's joins keep the row. An inner join of the mapping may leave out rows.
    pub fn newest_rows(&self, table: &Table, derived: &Derived, rows: i64) -> String {
        let key = ident(&derived.key);
        let kept = match self.function {
            Some(source) => format!(
                "select from {}(array[(vst_newest.{key})::pg_catalog.text], '{}')",
                function::name(source),
                OneValue::none(None).field()
            ),
            None => format!(
                "select from {} where o.{key} = vst_newest.{key}",
                from_clause(&table.quoted, derived)
            ),
        };
        format!(
            "select (vst_newest.{key})::pg_catalog.text, exists ({kept}) \
             from (select {key} from {table} where {key} is not null order by {key} desc limit {rows}) vst_newest \
             order by vst_newest.{key} desc",
            table = table.quoted,
        )
    }

    /// SQL that computes the orders with the keys in the array `$1`.
    pub fn orders(&self, table: &Table, derived: &Derived) -> String {
        match self.function {
            Some(source) => format!("select {}($1::text[], null)", function::name(source)),
            None => function::select(&table.quoted, derived, &function::has_key(table, derived, "$1::text[]")),
        }
    }

    /// SQL that computes one value of the order with the key `$1`. `name` is the value's name, and `sql` its expression.
    pub fn value(&self, table: &Table, derived: &Derived, name: &str, sql: &str) -> String {
        match self.function {
            Some(source) => {
                let value = OneValue {
                    name,
                    with_store: false,
                    joins: None,
                };
                format!(
                    "select {}(array[$1::text], '{}')",
                    function::name(source),
                    value.field()
                )
            }
            None => format!(
                "select ({sql}\n)::text from {} where {}",
                from_clause(&table.quoted, derived),
                function::has_key(table, derived, "array[$1::text]")
            ),
        }
    }

    /// SQL that runs the `keys` query of a watched table for the values in the array `$1`. `number` is the table's
    /// number, counted from 1.
    pub fn keys(&self, number: usize, sql: &str) -> String {
        match self.function {
            Some(source) => format!(
                "select vst_k.found[1] as key from {}($1::text[], '{}') vst_k (found)",
                function::name(source),
                function::watch_name(number)
            ),
            None => sql.trim().trim_end_matches(';').to_owned(),
        }
    }
}
