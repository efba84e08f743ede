//! Generates the SQL of a source's trigger function and triggers. The template of the function is
//! `triggers/record.sql`; this file fills it in for one table. `install.rs` runs the SQL.

use super::catalog::{Shape, Table, TableColumn};
use super::mapping::{Mapping, StoreRef};
use super::sql::{ident, literal, quoted, short_columns};
use super::trigger_form::{Rows, TriggerForm, create_sql};
use crate::domain::event::SourceId;

const TEMPLATE: &str = include_str!("../../triggers/record.sql");
/// Maximum total size of a row's long values, bytes as stored by Postgres. A row up to this size is recorded as it is,
/// if all column types are built in. In a larger row, the trigger checks the size of each value.
const SMALL_ROW_BYTES: u32 = 65_536;
/// Each kind of write with the name of its trigger.
const TRIGGERS: [(&str, &str); 3] = [
    ("insert", "vestnik_record_insert"),
    ("update", "vestnik_record_update"),
    ("delete", "vestnik_record_delete"),
];
const TRUNCATE_TRIGGER: &str = "vestnik_record_truncate";

/// The name of a source's trigger function. The name contains the source's id, so it is unique.
pub fn function_name(source: SourceId) -> String {
    format!("vestnik.vst_record_{}", source.0)
}

/// The SQL that creates a source's trigger function. If a column no longer exists, the function records it as null.
pub fn function_sql(source: SourceId, table: &Table, mapping: &Mapping) -> String {
    let columns = mapping.recorded_columns();
    let idents: Vec<String> = columns.iter().map(|name| ident(name)).collect();
    // This condition names the table by its OID, so that Postgres makes a new plan for the statement after somebody
    // alters the table. A statement that reads a transition table does not need this condition.
    let is_fresh = format!(
        "(tg_relid operator(pg_catalog.=) '{}'::pg_catalog.regclass) is not null",
        table.oid
    );
    let (old_row, new_row) = ("(select old.*) old_row", "(select new.*) new_row");
    let (old_rows, new_rows, where_fresh) = match table.shape {
        Shape::Partitioned => (old_row, new_row, format!("\n        where {is_fresh}")),
        Shape::Plain => ("old_rows", "new_rows", String::new()),
    };
    let nulls: Vec<String> = idents
        .iter()
        .map(|name| format!("null::pg_catalog.text as {name}"))
        .collect();
    let row = Expressions::new(table, mapping, &columns);
    // A lateral join computes the values of a large row. This is faster than computing them in the select list.
    let recorded = |rows: &str, name: &str| {
        let (nulls, columns, large) = (nulls.join(", "), idents.join(", "), row.large(name));
        format!(
            "(select vst_row.* from (select {nulls}) vst_gone, lateral (select {columns} from {rows}) vst_row) {name}{large}"
        )
    };
    let mut sql = TEMPLATE
        .replace("{function}", &function_name(source))
        .replace("{source}", &source.0.to_string())
        .replace("{old_rows}", &recorded(old_rows, "o"))
        .replace("{new_rows}", &recorded(new_rows, "n"))
        .replace("{old_row}", &recorded(old_row, "o"))
        .replace("{new_row}", &recorded(new_row, "n"))
        .replace("{where_fresh}", &where_fresh)
        .replace("{is_fresh}", &is_fresh);
    for name in ["o", "n"] {
        sql = sql
            .replace(&format!("{{{name}.store}}"), &row.store(name))
            .replace(&format!("{{{name}.key}}"), &row.key(name))
            .replace(&format!("{{{name}.data}}"), &row.data(name));
    }
    for (form, old, new) in [("", "o", "n"), (":row", "old", "new")] {
        sql = sql
            .replace(&format!("{{same{form}}}"), &same(&columns, old, new))
            .replace(&format!("{{stays{form}}}"), &same(&row.identity(), old, new));
    }
    quoted(sql)
}

/// The body of a function, taken from its SQL. The body is compared with `pg_proc.prosrc`, to find out whether the
/// database has this version of the function.
pub fn body_of(function_sql: &str) -> &str {
    let quote = function_sql
        .find("$vst")
        .map(|at| &function_sql[at..])
        .and_then(|rest| Some(&rest[..=rest[1..].find('$')? + 1]));
    let Some(quote) = quote else { return function_sql };
    function_sql.split(quote).nth(1).unwrap_or(function_sql)
}

/// The triggers of a source on its table, and on the tables that inherit from it.
pub(super) fn triggers(table: &Table) -> Vec<TriggerForm> {
    let writes = TRIGGERS.iter().map(|(write, name)| {
        let rows = match (table.shape, *write) {
            (Shape::Plain, "insert") => Rows::New,
            (Shape::Plain, "delete") => Rows::Old,
            // A row trigger costs less than transition tables if an update changes no recorded column.
            _ => Rows::Each,
        };
        form(name, write, rows)
    });
    writes.chain([form(TRUNCATE_TRIGGER, "truncate", Rows::None)]).collect()
}

fn form(name: &str, write: &'static str, rows: Rows) -> TriggerForm {
    TriggerForm {
        name: name.to_owned(),
        write,
        rows,
    }
}

/// The SQL that creates or replaces all triggers of a source, on its table and on the tables that inherit from it.
pub fn triggers_sql(source: SourceId, table: &Table) -> String {
    create_sql(&table.with_children(), &triggers(table), &function_name(source))
}

/// Builds SQL expressions for the values that the trigger records. In each method, `place` is the alias of the row.
struct Expressions<'a> {
    key: &'a str,
    store: &'a StoreRef,
    columns: Vec<(&'a str, Option<&'a TableColumn>)>,
}

impl<'a> Expressions<'a> {
    fn new(table: &'a Table, mapping: &'a Mapping, columns: &[&'a str]) -> Self {
        Self {
            key: &mapping.key,
            store: &mapping.store,
            columns: columns.iter().map(|name| (*name, table.column(name))).collect(),
        }
    }

    /// The columns that identify an order: the key, and the store's id unless the mapping has a constant store.
    fn identity(&self) -> Vec<&'a str> {
        let store = match self.store {
            StoreRef::Column(name) => Some(name.as_str()),
            StoreRef::Constant(_) => None,
        };
        std::iter::once(self.key)
            .chain(store.filter(|store| *store != self.key))
            .collect()
    }

    fn text(&self, place: &str, name: &str) -> String {
        let column = self
            .columns
            .iter()
            .find(|(known, _)| *known == name)
            .and_then(|(_, column)| *column);
        text_of(place, name, column)
    }

    fn key(&self, place: &str) -> String {
        format!("vestnik.vst_key({})", self.text(place, self.key))
    }

    fn store(&self, place: &str) -> String {
        match self.store {
            StoreRef::Column(name) => format!("vestnik.vst_store_id({})", self.text(place, name)),
            StoreRef::Constant(store) => format!("{}::pg_catalog.text", literal(store)),
        }
    }

    /// An SQL expression for the recorded columns as JSON. A small row is converted directly. A large row passes
    /// through `vst_bounded`, which limits the size and catches errors. So does a row with a column type that is not
    /// built in.
    fn data(&self, place: &str) -> String {
        let sizes: Vec<String> = self
            .long()
            .map(|name| format!("vestnik.vst_size({place}.{})", ident(name)))
            .collect();
        let whole = format!("pg_catalog.row_to_json({place}.*)");
        let bounded = format!("vestnik.vst_bounded({place}_large.*)");
        match (self.has_foreign(), sizes.as_slice()) {
            (true, _) => bounded,
            (false, []) => whole,
            (false, sizes) => format!(
                "case when {} operator(pg_catalog.<=) {SMALL_ROW_BYTES} then {whole} else {bounded} end",
                sizes.join(" operator(pg_catalog.+) "),
            ),
        }
    }

    /// SQL for a lateral join that gives the row's columns, with a mark in place of each value that is far too long.
    /// Empty if no column can be long and every type is built in.
    fn large(&self, place: &str) -> String {
        if !self.has_foreign() && self.long().next().is_none() {
            return String::new();
        }
        // A value of a type that is not built in is converted inside `vst_bounded`, which catches errors. A column that
        // the table lacks is null in the row.
        let kind = |column: &Option<&'a TableColumn>| {
            column
                .filter(|column| column.is_builtin)
                .map_or("", |column| &column.base)
        };
        let columns = self.columns.iter().map(|(name, column)| (*name, Some(kind(column))));
        format!(", lateral (select {}) {place}_large", short_columns(place, columns))
    }

    /// The names of the columns whose values may be long, such as texts.
    fn long(&self) -> impl Iterator<Item = &'a str> {
        let is_long = |column: &TableColumn| column.is_builtin && column.is_long;
        let long = self
            .columns
            .iter()
            .filter(move |(_, column)| column.is_some_and(is_long));
        long.map(|(name, _)| *name)
    }

    /// Whether any column has a type that is not built in.
    fn has_foreign(&self) -> bool {
        self.columns
            .iter()
            .any(|(_, column)| column.is_some_and(|column| !column.is_builtin))
    }
}

/// An SQL expression for a column's value as text; `place` is the row's alias. A type that is not built in is converted
/// by its output function, and not by a cast. Such a cast may run code of the type's owner.
pub fn text_of(place: &str, name: &str, column: Option<&TableColumn>) -> String {
    let value = format!("{place}.{}", ident(name));
    match column {
        Some(column) if !column.is_builtin => {
            format!("case when {value} is not null then pg_catalog.concat({value}) end")
        }
        _ => format!("{value}::pg_catalog.text"),
    }
}

/// Returns an SQL condition: the rows with the aliases `one` and `other` have the same bytes in these columns.
pub fn same(columns: &[&str], one: &str, other: &str) -> String {
    let row = |place: &str| {
        let columns: Vec<String> = columns.iter().map(|name| format!("{place}.{}", ident(name))).collect();
        format!("row({})::pg_catalog.record", columns.join(", "))
    };
    format!("({} operator(pg_catalog.*=) {})", row(one), row(other))
}
