//! The form of the triggers that Vestnik creates on the shop's tables: what fires each of them, and which rows it
//! passes to the trigger function.

use crate::infra::db::GenericClient;

/// The rows that a trigger passes to its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// The function runs once for each row.
    Each,
    /// The function runs once for a statement, and reads no row.
    None,
    /// The function runs once for a statement, and reads the transition table `new_rows`.
    New,
    /// The function runs once for a statement, and reads the transition table `old_rows`.
    Old,
    /// The function runs once for a statement, and reads the transition tables `old_rows` and `new_rows`.
    Both,
}

impl Rows {
    fn has_old(self) -> bool {
        matches!(self, Self::Old | Self::Both)
    }

    fn has_new(self) -> bool {
        matches!(self, Self::New | Self::Both)
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Each => "for each row",
            Self::None => "for each statement",
            Self::New => "referencing new table as new_rows for each statement",
            Self::Old => "referencing old table as old_rows for each statement",
            Self::Both => "referencing old table as old_rows new table as new_rows for each statement",
        }
    }
}

/// A trigger on a table of the shop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TriggerForm {
    pub name: String,
    /// The kind of write that fires the trigger, such as `insert`.
    pub write: &'static str,
    pub rows: Rows,
}

/// The SQL that creates or replaces these triggers on these tables. The tables' names are quoted for SQL.
pub(super) fn create_sql(tables: &[&String], triggers: &[TriggerForm], function: &str) -> String {
    let mut sql = String::new();
    for table in tables {
        for TriggerForm { name, write, rows } in triggers {
            sql.push_str(&format!(
                "create or replace trigger {name} after {write} on {table}\n    {} execute function {function}();\n",
                rows.sql()
            ));
        }
    }
    sql
}

/// Whether each of these tables has all these triggers. Each trigger must have its form, call the function, and fire in
/// ordinary sessions (`tgenabled` is O or A).
pub(super) async fn are_installed(
    client: &impl GenericClient,
    tables: &[&String],
    triggers: &[TriggerForm],
    function: &str,
) -> Result<bool, tokio_postgres::Error> {
    // The lowest bit of `tgtype` is set if the trigger fires for each row. The tables are found by their names in the
    // catalog, because `to_regclass` fails for a role that may not use the schema.
    const TRIGGERS: &str = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             join pg_trigger g on g.tgrelid = c.oid \
             join unnest($2::text[], $3::bool[], $4::bool[], $5::bool[]) f (name, each_row, has_old, has_new) \
                 on f.name = g.tgname and f.each_row = (g.tgtype::int & 1 = 1) \
                     and f.has_old = (g.tgoldtable is not null) and f.has_new = (g.tgnewtable is not null) \
         where format('%I.%I', n.nspname, c.relname) = any ($1) and g.tgenabled in ('O', 'A') and g.tgfoid = to_regprocedure($6 || '()')";
    let names: Vec<&str> = triggers.iter().map(|trigger| trigger.name.as_str()).collect();
    let of = |is: fn(Rows) -> bool| triggers.iter().map(|trigger| is(trigger.rows)).collect::<Vec<bool>>();
    let (each, old, new) = (of(|rows| rows == Rows::Each), of(Rows::has_old), of(Rows::has_new));
    let row = client
        .query_one(TRIGGERS, &[&tables, &names, &each, &old, &new, &function])
        .await?;
    let count: i64 = row.try_get(0)?;
    Ok(count as usize == tables.len() * triggers.len())
}
