//! Finds the rights on a source's tables that the current role lacks. The role of `vestnik serve` needs these rights.
//! The role that attached the table does not need them. Also checks whether row level security hides rows from the
//! current role.

use crate::infra::db::GenericClient;

use super::catalog::{self, Table};
use super::mapping::{ItemsRef, Mapping};
use super::row_policy;

/// The rights that a role lacks on the tables of a source, and warnings about row level security.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The rights that the current role lacks, one line each. Each line contains the GRANT statement for the right.
    pub missing: Vec<String>,
    /// Warnings about row level security policies that may hide rows, one line each.
    pub notes: Vec<String>,
}

/// Finds the rights that the current role needs and does not have. The role needs rights to list the orders of a source
/// and to change their status.
pub async fn check(client: &impl GenericClient, table: &Table, mapping: &Mapping) -> Result<Access, catalog::Error> {
    let mut access = Access::default();
    let mut read = mapping.recorded_columns();
    // A list finds its rows by these system columns.
    read.extend(["ctid", "tableoid"]);
    grants(client, table, "select", &read, "lists are empty", &mut access).await?;
    match (&mapping.answer.function, &mapping.answer.url) {
        (Some(function), _) => execute(client, function, &mut access).await?,
        (None, Some(_)) => {}
        (None, None) => grants(client, table, "update", &written(mapping), "answers fail", &mut access).await?,
    }
    access.extend(row_security(client, table, mapping).await?);
    if let Some(items) = &mapping.items
        && let ItemsRef::Table { table: name, order_key } = &items.from
    {
        // If the items table is missing, there are no rights to check. The validation of the mapping and the health
        // report name the missing table.
        let Ok(found) = Table::find(client, name).await else {
            return Ok(access);
        };
        let named = items.named_columns().map(|(_, column)| column.name.as_str());
        // The look-up sorts the items by the primary key of their table, or by their place in the table.
        let mut primary = primary_key(client, &found).await?;
        if primary.is_empty() {
            primary.push("ctid".to_owned());
        }
        let read = named
            .chain([order_key.as_str()])
            .chain(primary.iter().map(String::as_str));
        let read: Vec<&str> = read.collect();
        grants(client, &found, "select", &read, "items are missing", &mut access).await?;
        access.extend(policies(client, table, &found, &[("r", "select", "items are missing")]).await?);
    }
    Ok(access)
}

impl Access {
    fn extend(&mut self, other: Self) {
        self.missing.extend(other.missing);
        self.notes.extend(other.notes);
    }
}

/// The columns of the shop's table that Vestnik updates when a person changes an order's status.
fn written(mapping: &Mapping) -> Vec<&str> {
    std::iter::once(mapping.status.column.name.as_str())
        .chain(mapping.answer.columns().map(|(_, name)| name))
        .collect()
}

/// The columns of the table's primary key. Empty: the table has none.
async fn primary_key(client: &impl GenericClient, table: &Table) -> Result<Vec<String>, tokio_postgres::Error> {
    const PRIMARY: &str = "select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::int2[]) \
         where i.indrelid = $1 and i.indisprimary order by a.attnum";
    let rows = client.query(PRIMARY, &[&table.oid]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn grants(
    client: &impl GenericClient,
    table: &Table,
    privilege: &str,
    columns: &[&str],
    what: &str,
    access: &mut Access,
) -> Result<(), catalog::Error> {
    const GRANTS: &str = "select quote_ident(current_user), quote_ident(n.nspname), has_schema_privilege(n.oid, 'usage'), \
             array(select quote_ident(a.attname) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
                     and a.attname = any ($2) and not has_column_privilege(c.oid, a.attnum, $3) order by a.attnum), \
             exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum < 0 \
                     and a.attname = any ($2) and not has_column_privilege(c.oid, a.attnum, $3)) \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1";
    let row = client.query_one(GRANTS, &[&table.oid, &columns, &privilege]).await?;
    let (role, schema): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
    let usage = format!("grant usage on schema {schema} to {role}");
    if !row.try_get::<_, bool>(2)? && !access.missing.iter().any(|line| line.ends_with(&usage)) {
        access.missing.push(format!(
            "role {role} may not use the schema of {}, so {what}: {usage}",
            table.quoted
        ));
    }
    let denied: Vec<String> = row.try_get(3)?;
    // The right to read a system column comes with the right to read the table.
    let columns = match row.try_get(4)? {
        true => String::new(),
        false => format!(" ({})", denied.join(", ")),
    };
    if columns.is_empty() || !denied.is_empty() {
        access.missing.push(format!(
            "role {role} may not {privilege} all that it needs of {}, so {what}: grant {privilege}{columns} on {} to {role}",
            table.quoted, table.quoted,
        ));
    }
    Ok(())
}

/// Checks that the role may call the shop's function for answers. The catalog finds the function also in a schema that
/// the role may not use, which `to_regprocedure` does not.
async fn execute(client: &impl GenericClient, function: &str, access: &mut Access) -> Result<(), catalog::Error> {
    const FUNCTION: &str = "select quote_ident(current_user), format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), \
             has_function_privilege(p.oid, 'execute'), quote_ident(n.nspname), has_schema_privilege(n.oid, 'usage') \
         from (select parse_ident($1) as parts) named \
         join pg_proc p on p.proname = parts[cardinality(parts)] and p.proargtypes::text = '25 25 25 23 25' \
         join pg_namespace n on n.oid = p.pronamespace \
         where case when cardinality(parts) > 1 then n.nspname = parts[cardinality(parts) - 1] else pg_function_is_visible(p.oid) end";
    let found = match client.query_opt(FUNCTION, &[&function]).await {
        Ok(found) => found,
        // `function` is not a valid function name.
        Err(error) if error.as_db_error().is_some() => None,
        Err(error) => return Err(error.into()),
    };
    let Some(row) = found else { return Ok(()) };
    let (role, function, schema): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
    let usage = format!("grant usage on schema {schema} to {role}");
    if !row.try_get::<_, bool>(4)? && !access.missing.iter().any(|line| line.ends_with(&usage)) {
        access.missing.push(format!(
            "role {role} may not use the schema of {function}, so answers fail: {usage}"
        ));
    }
    if !row.try_get::<_, bool>(2)? {
        let line = format!(
            "role {role} may not execute {function}, so answers fail: grant execute on function {function} to {role}"
        );
        access.missing.push(line);
    }
    Ok(())
}

/// Checks whether row level security lets the current role read and update the table's rows. Postgres gives no error
/// for a row that a policy hides, so without this check orders would be missing silently.
pub async fn row_security(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
) -> Result<Access, catalog::Error> {
    let select = ("r", "select", "lists are empty");
    let update = ("w", "update", "answers change nothing");
    match mapping.answer.has_own_words() {
        true => policies(client, table, table, &[select]).await,
        false => policies(client, table, table, &[select, update]).await,
    }
}

/// Checks the policies of `table`, one of the tables of a source. `orders` is its table of orders.
async fn policies(
    client: &impl GenericClient,
    orders: &Table,
    table: &Table,
    commands: &[(&str, &str, &str)],
) -> Result<Access, catalog::Error> {
    const ROLE: &str = "(select oid from pg_roles where rolname = current_user)";
    let policy = format!(
        "select row_security_active($1::oid) and not {}, quote_ident(current_user), {}, {}",
        row_policy::lets_every_row("$1", "$2", ROLE),
        row_policy::has_policy("$1", "$2", ROLE),
        row_policy::remedy("$1", "$2", ROLE, "$3")
    );
    let mut access = Access::default();
    for (code, command, what) in commands {
        let row = client.query_one(&policy, &[&table.oid, code, &orders.oid]).await?;
        let role: &str = row.try_get(1)?;
        match (row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(2)?) {
            (false, _) => {}
            (true, true) => access.notes.push(format!(
                "row level security of {} holds for {role}: its policies for {command} must let it have every order, or {what}",
                table.quoted
            )),
            (true, false) => access.missing.push(format!(
                "row level security of {} lets {role} {command} no row, so {what}: {}",
                table.quoted,
                row_policy::advice(row.try_get(3)?, role, row_policy::OWN_ROLE)
            )),
        }
    }
    Ok(access)
}
