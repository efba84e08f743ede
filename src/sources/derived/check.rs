//! Validates a derived mapping (a mapping with SQL expressions instead of columns) against its tables. Vestnik creates
//! a temporary view from the expressions. The Postgres catalog then shows the types of the expressions, and the tables
//! and columns that they read.

use std::collections::BTreeMap;

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::super::catalog::{self, Table};
use super::super::sql::ident;
use super::super::validate::{self, Findings};
use super::watch::Watched;
use super::{Derived, ITEM_COLUMNS, RecordedColumn, attached, function, remedy, rights, units, watch_column};
use crate::infra::db;

/// The prefix of the error texts about `from`, the mapping's SQL joins.
const FROM: &str = "derived.from:";
/// The SQL types that the mapping's expression `paid` may have: a boolean, or the time of the payment. A type fits if its
/// name starts with one of these names.
const PAID_TYPES: [&str; 3] = ["boolean", "timestamp", "date"];

/// The result of validating a derived mapping (a mapping with SQL expressions instead of columns): the findings, and
/// the data that the installation needs.
#[derive(Debug)]
pub struct Checked {
    /// The errors and warnings about the mapping.
    pub findings: Findings,
    /// The name and the SQL type of each expression of the mapping.
    pub columns: Vec<RecordedColumn>,
    /// The tables on which Vestnik installs triggers for the source. The first is the shop's table of orders.
    pub(super) watched: Vec<Watched>,
    /// Every table that the expressions read, quoted and with its schema, as in `public."order"`.
    pub(super) reads: Vec<String>,
}

impl Checked {
    /// The names of the tables on which Vestnik installs triggers, quoted and with their schemas.
    pub fn watched_tables(&self) -> impl Iterator<Item = String> {
        self.watched.iter().flat_map(Watched::tables).cloned()
    }
}

/// Validates a derived mapping (a mapping with SQL expressions instead of columns). `table` is the shop's table of
/// orders. The function rolls back to a savepoint after each check, so the database does not change.
pub async fn check(
    transaction: &mut Transaction<'_>,
    table: &Table,
    derived: &Derived,
) -> Result<Checked, catalog::Error> {
    let mut findings = Findings::default();
    if table.column(&derived.key).is_some() {
        validate::key(transaction, table, &derived.key, &mut findings).await?;
    } else {
        findings
            .problems
            .push(format!("key: {} has no column {}", table.quoted, derived.key));
    }
    let mut columns = Vec::new();
    let mut reads = BTreeMap::new();
    if findings.problems.is_empty() {
        values(transaction, table, derived, &mut columns, &mut reads, &mut findings).await?;
        paid(&columns, &mut findings);
    }
    // If the joins are wrong, every query with them fails, so checking the items would repeat the same error.
    if !findings.problems.iter().any(|problem| problem.starts_with(FROM)) {
        items(transaction, table, derived, &mut columns, &mut reads, &mut findings).await?;
    }
    findings.warnings.extend(units::warning(derived, &columns));
    let watched = watched(transaction, table, derived, &reads, &mut findings).await?;
    statements(transaction, table, derived, &mut findings).await?;
    let is_watched = |name: &str| watched.iter().any(|watched| watched.table.quoted == name);
    let unseen: Vec<&str> = reads
        .keys()
        .map(String::as_str)
        .filter(|name| !is_watched(name))
        .collect();
    if !unseen.is_empty() {
        findings.warnings.push(format!(
            "a write to {} alone makes no event: if an order follows from that table, name it in [[derived.watch]]",
            unseen.join(", ")
        ));
    }
    let source = attached::find(&*transaction, table).await?.map(|attached| attached.id);
    let of_expressions = rights::of_expressions(transaction, source, table, reads.keys()).await?;
    let of_serving = rights::of_serving_roles(transaction, table, derived).await?;
    for access in [of_expressions, of_serving] {
        findings.warnings.extend(access.missing.into_iter().chain(access.notes));
    }
    Ok(Checked {
        findings,
        columns,
        watched,
        reads: reads.into_keys().collect(),
    })
}

/// The columns that a view reads in each table, by the table's name.
type Reads = BTreeMap<String, Vec<String>>;

/// The result of `look`: Postgres accepted the query, or rejected it as invalid.
enum Look {
    /// The types of the query's columns, and the tables and columns that the query reads.
    Read(Vec<RecordedColumn>, Reads),
    /// Postgres rejected the query as invalid, with this error.
    Invalid(tokio_postgres::Error),
}

/// Creates a temporary view from the query `select`, reads the view's columns and dependencies from the Postgres
/// catalog, and rolls the view back.
async fn look(transaction: &mut Transaction<'_>, table: &Table, select: &str) -> Result<Look, tokio_postgres::Error> {
    // The type of a domain is the type on which the domain is based: it decides the unit of an amount.
    const COLUMNS: &str = "with recursive below as (select attnum, attname::text, atttypid as type, atttypmod as typmod, 0 as depth \
                 from pg_attribute where attrelid = 'pg_temp.vst_check'::regclass and attnum > 0 \
             union all select b.attnum, b.attname, t.typbasetype, t.typtypmod, b.depth + 1 \
                 from below b join pg_type t on t.oid = b.type where t.typtype = 'd') \
         select distinct on (attnum) attname, format_type(type, typmod) from below order by attnum, depth desc";
    const READS: &str = "select distinct format('%I.%I', n.nspname, c.relname), a.attname::text \
         from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
             and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class \
         join pg_class c on c.oid = d.refobjid join pg_namespace n on n.oid = c.relnamespace \
         left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid and d.refobjsubid > 0 \
         where r.ev_class = 'pg_temp.vst_check'::regclass and c.relkind in ('r', 'p', 'v', 'm', 'f')";
    let savepoint = transaction.transaction().await?;
    savepoint.batch_execute(&function_path(table)).await?;
    if let Err(error) = savepoint
        .batch_execute(&format!("create temporary view vst_check as {select}"))
        .await
    {
        savepoint.rollback().await?;
        return Ok(Look::Invalid(error));
    }
    let mut columns = Vec::new();
    for row in savepoint.query(COLUMNS, &[]).await? {
        columns.push(RecordedColumn {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
        });
    }
    let mut reads = Reads::new();
    for row in savepoint.query(READS, &[]).await? {
        let of_table = reads.entry(row.try_get(0)?).or_default();
        of_table.extend(row.try_get::<_, Option<String>>(1)?);
    }
    savepoint.rollback().await?;
    Ok(Look::Read(columns, reads))
}

async fn values(
    transaction: &mut Transaction<'_>,
    table: &Table,
    derived: &Derived,
    columns: &mut Vec<RecordedColumn>,
    reads: &mut Reads,
    findings: &mut Findings,
) -> Result<(), catalog::Error> {
    let from = super::from_clause(&table.quoted, derived);
    let mut all = function::all_values(derived);
    all.retain(|(name, _)| name != "items");
    let select = |values: &[(String, String)]| {
        let values: Vec<String> = values
            .iter()
            .map(|(name, sql)| format!("({sql}\n) as {}", ident(name)))
            .collect();
        format!(
            "select o.{} as vst_key, {} from {from}",
            ident(&derived.key),
            values.join(",\n")
        )
    };
    match look(transaction, table, &select(&all)).await? {
        Look::Read(found, read) => {
            columns.extend(found.into_iter().filter(|column| column.name != "vst_key"));
            merge(reads, read);
        }
        // The error does not say which expression is wrong, so each expression is tried alone.
        Look::Invalid(whole) => {
            if let Look::Invalid(error) = look(transaction, table, &format!("select 1 as one from {from}")).await? {
                findings
                    .problems
                    .push(format!("{FROM} {}", remedy::reason(&error, &derived.from)));
                return Ok(());
            }
            let before = findings.problems.len();
            for value in &all {
                if let Look::Invalid(error) = look(transaction, table, &select(std::slice::from_ref(value))).await? {
                    let (name, reason) = (function::place(derived, &value.0), remedy::reason(&error, &value.1));
                    findings.problems.push(format!("{name}: {reason}"));
                }
            }
            if findings.problems.len() == before {
                findings.problems.push(format!("derived: {}", db::reason(&whole)));
            }
        }
    }
    Ok(())
}

/// Reports an expression `paid` whose type is none of [`PAID_TYPES`]. A text or a number of a status, for example, does
/// not show whether the order is paid.
fn paid(columns: &[RecordedColumn], findings: &mut Findings) {
    let Some(column) = columns.iter().find(|column| column.name == "paid") else {
        return;
    };
    if !PAID_TYPES.iter().any(|kind| column.kind.starts_with(kind)) {
        findings.problems.push(format!(
            "derived.paid: is of type {}, and must be true or false, such as `p.state = 'captured'` or `o.payment_status >= 20`",
            column.kind
        ));
    }
}

async fn items(
    transaction: &mut Transaction<'_>,
    table: &Table,
    derived: &Derived,
    columns: &mut Vec<RecordedColumn>,
    reads: &mut Reads,
    findings: &mut Findings,
) -> Result<(), catalog::Error> {
    let Some(query) = &derived.items else {
        return Ok(());
    };
    let query = query.trim().trim_end_matches(';');
    let from = super::from_clause(&table.quoted, derived);
    let select = format!("select vst_i.* from {from} cross join lateral (\n{query}\n) vst_i");
    match look(transaction, table, &select).await? {
        Look::Read(found, read) => {
            for column in found {
                if !ITEM_COLUMNS.contains(&column.name.as_str()) {
                    let known = ITEM_COLUMNS.join(", ");
                    findings
                        .problems
                        .push(format!("derived.items: `{}` is none of {known}", column.name));
                }
                columns.push(RecordedColumn {
                    name: format!("items.{}", column.name),
                    kind: column.kind,
                });
            }
            if !columns.iter().any(|column| column.name == "items.name") {
                findings.problems.push("derived.items: has no column `name`".to_owned());
            }
            merge(reads, read);
        }
        Look::Invalid(error) => findings
            .problems
            .push(format!("derived.items: {}", remedy::reason(&error, query))),
    }
    Ok(())
}

fn merge(reads: &mut Reads, more: Reads) {
    for (table, columns) in more {
        let known = reads.entry(table).or_default();
        known.extend(columns);
        known.sort();
        known.dedup();
    }
}

/// The tables on which Vestnik installs triggers: the shop's table of orders, and the watched tables, whose rows affect
/// orders. Each table has the columns that the mapping reads.
async fn watched(
    transaction: &Transaction<'_>,
    table: &Table,
    derived: &Derived,
    reads: &Reads,
    findings: &mut Findings,
) -> Result<Vec<Watched>, catalog::Error> {
    let read = |name: &str| reads.get(name).cloned().unwrap_or_default();
    let mut watched = vec![Watched {
        number: 0,
        read: read(&table.quoted),
        column: derived.key.clone(),
        table: table.clone(),
    }];
    for (at, watch) in derived.watch.iter().enumerate() {
        let number = at + 1;
        let place = place(&watch.table);
        // A table name without a schema means a table in the schema of the shop's table of orders.
        let name = match watch.table.contains('.') {
            true => watch.table.clone(),
            false => format!("{}.{}", ident(&table.schema), watch.table),
        };
        let found = match Table::find(transaction, &name).await {
            Ok(found) => found,
            Err(catalog::Error::NoTable(no)) => {
                // The advice names the option of `vestnik attach`; a mapping has a key instead.
                let advice = no.to_string().replace("--table '", "table = '");
                findings.problems.push(format!("{place}: {advice}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        if found.column(&watch.column).is_none() {
            findings
                .problems
                .push(format!("{place}: {} has no column {}", found.quoted, watch.column));
        }
        if watch.keys.is_none() {
            let doubt = watch_column::doubt(&found, &watch.column, table, &derived.key);
            findings.warnings.extend(doubt.map(|doubt| format!("{place}: {doubt}")));
        }
        watched.push(Watched {
            number,
            read: read(&found.quoted),
            column: watch.column.clone(),
            table: found,
        });
    }
    Ok(watched)
}

/// The name of the mapping's section about a watched table, as error messages show it.
pub(super) fn place(table: &str) -> String {
    format!("derived.watch of {table}")
}

/// Prepares two kinds of SQL statements of the mapping: the `keys` queries, and the statements that save people's
/// answers. Reports each statement that Postgres rejects. A `keys` query finds the orders that a row of a watched table
/// affects.
async fn statements(
    transaction: &mut Transaction<'_>,
    table: &Table,
    derived: &Derived,
    findings: &mut Findings,
) -> Result<(), catalog::Error> {
    findings.problems.extend(super::answer_statements::without_key(derived));
    let mut all: Vec<(String, &str, &[Type], SearchPath)> = Vec::new();
    for watch in &derived.watch {
        let keys = watch.keys.as_deref();
        all.extend(keys.map(|sql| {
            let name = format!("{}: keys", place(&watch.table));
            (name, sql, &[Type::TEXT_ARRAY][..], SearchPath::Function)
        }));
    }
    for (status, statements) in &derived.answers {
        all.extend(statements.iter().map(|sql| {
            (
                format!("answer.{}", status.as_str()),
                sql.as_str(),
                &super::answer::PARAMETERS[..],
                SearchPath::Answer,
            )
        }));
    }
    for (name, sql, types, path) in all {
        let savepoint = transaction.transaction().await?;
        match path {
            SearchPath::Function => savepoint.batch_execute(&function_path(table)).await?,
            SearchPath::Answer => drop(savepoint.query(super::answer::NAMES, &[&table.quoted]).await?),
        }
        match savepoint.prepare_typed(sql, types).await {
            Err(error) => findings
                .problems
                .push(format!("{name}: {}", remedy::of_statement(&error, sql))),
            Ok(statement) if statement.params().len() > types.len() => findings.problems.push(format!(
                "{name}: has the parameter ${}, and gets {}",
                statement.params().len(),
                path.parameters()
            )),
            Ok(_) => {}
        }
        savepoint.rollback().await?;
    }
    Ok(())
}

/// The search path of an SQL statement of the mapping: the schemas in which Postgres looks for names without a schema.
#[derive(Clone, Copy)]
enum SearchPath {
    /// The search path of the source's SQL function. The function runs the `keys` queries, which find the orders that a
    /// row of a watched table affects.
    Function,
    /// The search path for the statements that save a person's answer: the table's schema, then the role's own search
    /// path.
    Answer,
}

impl SearchPath {
    /// The parameters that Vestnik passes to a statement with this search path, as a text for error messages.
    fn parameters(self) -> &'static str {
        match self {
            Self::Function => "only $1",
            Self::Answer => "$1 to $6",
        }
    }
}

/// SQL that sets the search path of the current transaction to the search path of the source's function.
pub(super) fn function_path(table: &Table) -> String {
    format!("set local search_path = {}, pg_temp", ident(&table.schema))
}
