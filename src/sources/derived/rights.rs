//! Checks the rights that a derived source needs (a source whose orders come from SQL expressions). The role of
//! `vestnik serve` must be able to read the table of orders, and to run the SQL statements that save people's answers.
//! A second role runs the expressions, and row level security must not hide rows from this role.

use super::super::access::Access;
use super::super::catalog::Table;
use super::super::row_policy;
use super::super::sql::ident;
use super::super::statement_uses::{Columns, Command, Use, uses};
use super::object_rights::SERVING;
use super::watch::OF_ALL_ORDERS;
use super::{Derived, attached, function, object_rights, reader};
use crate::domain::event::SourceId;
use crate::infra::db::GenericClient;
use tokio_postgres::types::ToSql;

/// The letter for a command in the Postgres catalog's column `pg_policy.polcmd`, such as `r` for SELECT.
fn policy(command: Command) -> &'static str {
    match command {
        Command::Select => "r",
        Command::Insert => "a",
        Command::Update => "w",
        Command::Delete => "d",
    }
}

/// A right that the role of `vestnik serve` needs on a table.
struct Need {
    /// The prefix of the report: the mapping's key whose SQL needs the right, such as `answer.preparing: `. Empty: the
    /// source itself needs the right.
    place: String,
    /// The part of the report that says what fails without the right, such as `so the answer fails`.
    consequence: &'static str,
    /// Whether the source works now without the right. The report then has a note, and no problem.
    is_note: bool,
    /// Whether row level security can also forbid the command, so that the table's policies must be checked.
    is_by_row: bool,
    uses: Use,
}

/// When the role of `vestnik serve` reads the table of orders itself. The expressions of the mapping read it with the
/// rights of another role.
#[derive(Clone, Copy)]
enum Reading {
    /// To find all existing orders: the source is not attached yet, or its mapping has changed. Until then, no order is
    /// computed.
    AllOrders,
    /// Only to find rows that were written without triggers, because all existing orders were computed.
    MissedRows,
    /// In a statement that saves an answer.
    Answer,
}

impl Reading {
    /// What the source's table of orders is read for now.
    async fn of(client: &impl GenericClient, table: &Table) -> Result<Self, tokio_postgres::Error> {
        const MAY_READ: &str =
            "select coalesce(has_table_privilege(to_regclass('vestnik.vst_change'), 'select'), false)";
        const ALL_ROWS: &str = "select exists (select from vestnik.vst_change where source = $1 and watch = any ($2))";
        let Some(attached) = attached::find(client, table).await? else {
            return Ok(Self::AllOrders);
        };
        if !client.query_one(MAY_READ, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(Self::AllOrders);
        }
        let is_of_all: bool = client
            .query_one(ALL_ROWS, &[&attached.id.0, &OF_ALL_ORDERS.as_slice()])
            .await?
            .try_get(0)?;
        Ok(if is_of_all { Self::AllOrders } else { Self::MissedRows })
    }

    fn consequence(self) -> &'static str {
        match self {
            Self::AllOrders => "so no order is seen",
            Self::MissedRows => {
                "so orders that were written past the triggers are not found, and after a change of the mapping no order would be seen"
            }
            Self::Answer => "so the answer fails",
        }
    }
}

/// The rights that the role of `vestnik serve` needs: to read the table of orders, and to run the statements that save
/// people's answers.
fn needs(table: &Table, derived: &Derived, reading: Reading) -> Vec<Need> {
    let mut needs = vec![Need {
        place: String::new(),
        consequence: reading.consequence(),
        is_note: matches!(reading, Reading::MissedRows),
        is_by_row: false,
        uses: Use {
            name: table.quoted.clone(),
            command: Command::Select,
            // The projector reads the system column `xmin` of all rows, too.
            columns: Columns::All,
        },
    }];
    for (status, statements) in &derived.answers {
        let of_answer = |uses| Need {
            place: format!("answer.{}: ", status.as_str()),
            consequence: "so the answer fails",
            is_note: false,
            is_by_row: true,
            uses,
        };
        needs.extend(statements.iter().flat_map(|sql| uses(sql)).map(of_answer));
    }
    needs
}

/// Finds the rights that the source needs and that a role lacks. Checks the current role, and each role that may update
/// the journal, because `vestnik serve` probably runs with one of these roles.
pub(super) async fn of_serving_roles(
    client: &impl GenericClient,
    table: &Table,
    derived: &Derived,
) -> Result<Access, tokio_postgres::Error> {
    let reading = Reading::of(client, table).await?;
    rights_for(client, table, derived, reading).await
}

async fn rights_for(
    client: &impl GenericClient,
    table: &Table,
    derived: &Derived,
    reading: Reading,
) -> Result<Access, tokio_postgres::Error> {
    let rights = format!(
        "with named as (select coalesce(to_regclass($1), to_regclass($2)) as oid), {SERVING} \
         select quote_ident(r.rolname), format('%I.%I', n.nspname, c.relname), quote_ident(n.nspname), \
             has_schema_privilege(r.oid, n.oid, 'usage'), \
             case when $3 = 'delete' or $5 then has_table_privilege(r.oid, c.oid, $3) else has_any_column_privilege(r.oid, c.oid, $3) end, \
             c.relrowsecurity and not r.sees_all and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage')) and not {}, \
             {}, \
             array(select quote_ident(a.attname) from (select attname, attnum, row_number() over (order by attnum) as place \
                     from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped) a \
                 where (a.attname::text = any ($6) or a.place = any ($7)) and $3 in ('insert', 'update') \
                     and not has_column_privilege(r.oid, c.oid, a.attnum, $3) order by a.attnum), {} \
         from named join pg_class c on c.oid = named.oid and c.relkind in ('r', 'p', 'v', 'm', 'f') \
         join pg_namespace n on n.oid = c.relnamespace cross join serving r order by r.rolname <> current_user, 1",
        row_policy::lets_every_row("c.oid", "$4", "r.oid"),
        row_policy::has_policy("c.oid", "$4", "r.oid"),
        row_policy::remedy("c.oid", "$4", "r.oid", "$8")
    );
    let mut access = Access::default();
    for need in needs(table, derived, reading) {
        let Use { name, command, columns } = &need.uses;
        let (names, places): (&[String], Vec<i64>) = match columns {
            Columns::Named(names) => (names, Vec::new()),
            Columns::At(places) => (&[], places.iter().copied().map(i64::from).collect()),
            Columns::All | Columns::Unknown => (&[], Vec::new()),
        };
        let is_all = *columns == Columns::All;
        let of_schema = format!("{}.{name}", ident(&table.schema));
        let first = if name.contains('.') { name } else { &of_schema };
        let (verb, policy) = (command.as_str(), policy(*command));
        let parameters: [&(dyn ToSql + Sync); 8] = [first, name, &verb, &policy, &is_all, &names, &places, &table.oid];
        for row in client.query(&rights, &parameters).await? {
            of_role(&row, &need, &mut access)?;
        }
    }
    for (status, statements) in &derived.answers {
        let place = format!("answer.{}: ", status.as_str());
        for sql in statements {
            object_rights::of_statement(client, table, &place, sql, &mut access).await?;
        }
    }
    Ok(access)
}

/// The rights that the current role lacks to save people's answers, one line each.
pub(in crate::sources) async fn of_current_role(
    client: &impl GenericClient,
    table: &Table,
    derived: &Derived,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let role: String = client
        .query_one("select quote_ident(current_user)", &[])
        .await?
        .try_get(0)?;
    let is_of_role = format!("role {role} ");
    let mut missing = rights_for(client, table, derived, Reading::Answer).await?.missing;
    missing.retain(|line| line.contains(&is_of_role));
    Ok(missing)
}

/// Checks whether one role has the right `need`, and adds a missing right to `access`. `row` names the role, the table
/// and its schema, and says which rights the role has.
fn of_role(row: &tokio_postgres::Row, need: &Need, access: &mut Access) -> Result<(), tokio_postgres::Error> {
    let (role, table, schema): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let Need {
        place,
        consequence,
        is_note,
        is_by_row,
        uses: Use { command, .. },
    } = need;
    let verb = command.as_str();
    let add = |lines: &mut Vec<String>, line: String| {
        if !lines.contains(&line) {
            lines.push(line);
        }
    };
    if !row.try_get::<_, bool>(3)? {
        let says = format!(
            "{place}role {role} may not use the schema of {table}, {}: grant usage on schema {schema} to {role}",
            if *is_note {
                Reading::AllOrders.consequence()
            } else {
                consequence
            }
        );
        add(&mut access.missing, says);
    }
    let denied: Vec<String> = row.try_get(7)?;
    if !row.try_get::<_, bool>(4)? {
        let says =
            format!("{place}role {role} may not {verb} {table}, {consequence}: grant {verb} on {table} to {role}");
        let lines = if *is_note {
            &mut access.notes
        } else {
            &mut access.missing
        };
        add(lines, says);
    } else if !denied.is_empty() {
        let denied = denied.join(", ");
        let says = format!(
            "{place}role {role} may not {verb} {denied} of {table}, {consequence}: grant {verb} ({denied}) on {table} to {role}"
        );
        add(&mut access.missing, says);
    }
    match (*is_by_row && row.try_get::<_, bool>(5)?, row.try_get::<_, bool>(6)?) {
        (false, _) => {}
        (true, false) => {
            let says = format!(
                "{place}row level security of {table} lets role {role} {verb} no row, {consequence}: {}",
                row_policy::advice(row.try_get(8)?, role, row_policy::OWN_ROLE)
            );
            add(&mut access.missing, says);
        }
        (true, true) => {
            let says = format!(
                "{place}row level security of {table} holds for role {role}: its policies for {verb} must let it have every order"
            );
            add(&mut access.notes, says);
        }
    }
    Ok(())
}

/// Returns an SQL expression for the OID of the table with the name `name`, as a mapping writes it: first in the schema
/// `schema`. Both are SQL expressions for texts. Null: no table has this name.
pub(super) fn named_table(name: &str, schema: &str) -> String {
    format!(
        "coalesce(to_regclass(case when strpos({name}, '.') = 0 then {schema} || '.' || {name} end), to_regclass({name}))"
    )
}

/// Finds tables with row level security among the tables that the mapping's expressions read. A policy may hide rows
/// without an error, and then orders are missing. `source` is the id of the attached source. `None`: the source is not
/// attached yet. `orders` is the shop's table of orders.
pub(super) async fn of_expressions(
    client: &impl GenericClient,
    source: Option<SourceId>,
    orders: &Table,
    reads: impl Iterator<Item = &String>,
) -> Result<Access, tokio_postgres::Error> {
    // The role that runs the expressions is the owner of the source's function. Before the function exists, it is the
    // role that `reader::prepare` will use. Before Postgres 16, a role that may create roles may also join every role,
    // so it can use `vestnik_reader`.
    const READER: &str = "select coalesce( \
             (select quote_ident(r.rolname) from pg_proc p join pg_roles r on r.oid = p.proowner where p.oid = to_regprocedure($2)), \
             case when coalesce(pg_has_role(to_regrole($1), 'member'), false) \
                 or (select rolsuper or rolcreaterole and (to_regrole($1) is null or current_setting('server_version_num')::int < 160000) \
                     from pg_roles where rolname = current_user) \
             then $1 else quote_ident(current_user) end)";
    let row_security = format!(
        "select c.relrowsecurity and coalesce((select not (r.rolsuper or r.rolbypassrls) \
                 and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage')) from pg_roles r where r.oid = to_regrole($2)), true) \
                 and not {}, \
             {}, {}, format('%I.%I', n.nspname, c.relname) \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = {}",
        row_policy::lets_every_row("c.oid", "'r'", "to_regrole($2)"),
        row_policy::has_policy("c.oid", "'r'", "to_regrole($2)"),
        row_policy::remedy("c.oid", "'r'", "to_regrole($2)", "$3"),
        named_table("$1", "$4")
    );
    let signature = source.map(function::signature);
    let role: String = client
        .query_one(READER, &[&reader::ROLE, &signature])
        .await?
        .try_get(0)?;
    let mut access = Access::default();
    let mut seen = Vec::new();
    for name in reads {
        let parameters: [&(dyn ToSql + Sync); 4] = [name, &role, &orders.oid, &ident(&orders.schema)];
        let Some(row) = client.query_opt(&row_security, &parameters).await? else {
            continue;
        };
        let table: String = row.try_get(3)?;
        if seen.contains(&table) {
            continue;
        }
        seen.push(table.clone());
        match (row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?) {
            (false, _) => {}
            (true, true) => access.notes.push(format!(
                "row level security of {table} holds for role {role}, which reads the expressions: its policies for select must let it \
                 have every row, or orders are not seen"
            )),
            (true, false) => access.missing.push(format!(
                "row level security lets role {role}, which reads the expressions, select no row of {table}, so its orders are not seen: {}",
                row_policy::advice(row.try_get(2)?, &role, &reader::own_role(&role))
            )),
        }
    }
    Ok(access)
}
