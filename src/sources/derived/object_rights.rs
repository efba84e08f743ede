//! Finds the rights on functions and sequences that the mapping's statements for people's answers need. A sequence gives
//! the default of a column, such as `bigserial`, or is named in the statement.

use super::super::access::Access;
use super::super::catalog::Table;
use super::super::sql::ident;
use super::super::statement_uses::{Call, Columns, Command, Use, calls, sequences, uses};
use crate::infra::db::GenericClient;

/// SQL for a `with` clause: the roles with which `vestnik serve` probably runs. These are the current role and each role
/// that may update the journal.
pub(super) const SERVING: &str = "serving as (select r.oid, r.rolname, r.rolsuper or r.rolbypassrls as sees_all from pg_roles r \
     where r.rolname = current_user or r.oid in (select a.grantee from pg_class e, aclexplode(e.relacl) a \
         where e.oid = to_regclass('vestnik.vst_event') and a.privilege_type = 'UPDATE' and a.grantee <> e.relowner))";

/// Adds to `access` the rights on functions and sequences that the statement `sql` needs and that a serving role lacks.
/// `place` is the prefix of each line, such as `answer.preparing: `.
pub(super) async fn of_statement(
    client: &impl GenericClient,
    table: &Table,
    place: &str,
    sql: &str,
    access: &mut Access,
) -> Result<(), tokio_postgres::Error> {
    let mut lines = Vec::new();
    for inserted in uses(sql).into_iter().filter(|it| it.command == Command::Insert) {
        lines.extend(of_defaults(client, table, &inserted).await?);
    }
    for sequence in sequences(sql) {
        lines.extend(of_sequence(client, table, &sequence).await?);
    }
    for call in calls(sql) {
        lines.extend(of_call(client, table, &call).await?);
    }
    for line in lines {
        let line = format!("{place}{line}");
        if !access.missing.contains(&line) {
            access.missing.push(line);
        }
    }
    Ok(())
}

/// The text of a name: as it is written, and with the schema of the shop's table if it is written without a schema.
fn names<'a>(table: &Table, name: &'a str) -> (String, &'a str) {
    let of_schema = format!("{}.{name}", ident(&table.schema));
    (if name.contains('.') { name.to_owned() } else { of_schema }, name)
}

/// The missing rights on the sequences and functions behind the defaults of the columns to which an INSERT gives no
/// value. An identity column needs no right on its sequence.
async fn of_defaults(
    client: &impl GenericClient,
    table: &Table,
    inserted: &Use,
) -> Result<Vec<String>, tokio_postgres::Error> {
    // A default `nextval('name'::text)` finds its sequence by name, so `pg_depend` does not have this sequence.
    let defaults = format!(
        "with named as (select coalesce(to_regclass($1), to_regclass($2)) as oid), {SERVING}, \
             columns as (select a.attnum, a.attname, row_number() over (order by a.attnum) as place, a.attidentity, a.attrelid \
                 from pg_attribute a join named on a.attrelid = named.oid where a.attnum > 0 and not a.attisdropped), \
             defaults as (select d.oid, pg_get_expr(d.adbin, d.adrelid) as sql from pg_attrdef d \
                 join columns a on a.attrelid = d.adrelid and a.attnum = d.adnum \
                 where a.attidentity = '' and a.attname::text <> all ($3) and a.place <> all ($4)), \
             sequences as (select p.refobjid as oid from defaults d join pg_depend p on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid \
                     and p.refclassid = 'pg_class'::regclass \
                 union select to_regclass(substring(d.sql from 'nextval[(]+''([^'']+)''::text')) from defaults d), \
             functions as (select distinct p.refobjid as oid from defaults d join pg_depend p on p.classid = 'pg_attrdef'::regclass \
                 and p.objid = d.oid and p.refclassid = 'pg_proc'::regclass) \
         select quote_ident(r.rolname), 'sequence', format('%I.%I', n.nspname, c.relname), r.rolname <> current_user \
         from sequences s join pg_class c on c.oid = s.oid and c.relkind = 'S' join pg_namespace n on n.oid = c.relnamespace cross join serving r \
         where not has_sequence_privilege(r.oid, c.oid, 'usage, update') \
         union all select quote_ident(r.rolname), 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), \
             r.rolname <> current_user \
         from functions f join pg_proc p on p.oid = f.oid join pg_namespace n on n.oid = p.pronamespace cross join serving r \
         where not has_function_privilege(r.oid, p.oid, 'execute') order by 4, 1, 3"
    );
    let no_names = Vec::new();
    let (given, places): (&Vec<String>, Vec<i64>) = match &inserted.columns {
        Columns::Named(names) => (names, Vec::new()),
        Columns::At(places) => (&no_names, places.iter().copied().map(i64::from).collect()),
        Columns::Unknown | Columns::All => return Ok(Vec::new()),
    };
    let (first, name) = names(table, &inserted.name);
    let rows = client.query(&defaults, &[&first, &name, given, &places]).await?;
    rows.iter().map(line).collect()
}

/// The missing rights on a sequence that the statement names.
async fn of_sequence(
    client: &impl GenericClient,
    table: &Table,
    sequence: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rights = format!(
        "with named as (select coalesce(to_regclass($1), to_regclass($2)) as oid), {SERVING} \
         select quote_ident(r.rolname), 'sequence', format('%I.%I', n.nspname, c.relname) \
         from named join pg_class c on c.oid = named.oid and c.relkind = 'S' join pg_namespace n on n.oid = c.relnamespace cross join serving r \
         where not has_sequence_privilege(r.oid, c.oid, 'usage, update') order by r.rolname <> current_user, 1"
    );
    let (first, name) = names(table, sequence);
    let rows = client.query(&rights, &[&first, &name]).await?;
    rows.iter().map(line).collect()
}

/// The missing right on a function that the statement calls. Of several functions with this name and this number of
/// arguments, the statement may call any, so a role that may execute one of them lacks nothing.
async fn of_call(
    client: &impl GenericClient,
    table: &Table,
    call: &Call,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rights = format!(
        "with {SERVING} select quote_ident(r.rolname), case when p.prokind = 'p' then 'procedure' else 'function' end, \
             format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) \
         from (select r.oid, (array_agg(p.oid order by p.oid))[1] as function \
             from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join serving r \
             where p.proname = $1 and case when $2::text is null then n.nspname = $3 or pg_function_is_visible(p.oid) else n.nspname = $2 end \
                 and (p.pronargs - p.pronargdefaults <= $4::int and $4::int <= p.pronargs or p.provariadic <> 0) \
             group by r.oid having not bool_or(has_function_privilege(r.oid, p.oid, 'execute'))) denied \
         join serving r on r.oid = denied.oid join pg_proc p on p.oid = denied.function join pg_namespace n on n.oid = p.pronamespace \
         order by r.rolname <> current_user, 1"
    );
    let (schema, name) = match call.name.split_once('.') {
        Some((schema, name)) => (Some(unquoted(schema)), unquoted(name)),
        None => (None, unquoted(&call.name)),
    };
    let rows = client
        .query(&rights, &[&name, &schema, &table.schema, &call.arguments])
        .await?;
    rows.iter().map(line).collect()
}

fn unquoted(name: &str) -> String {
    name.trim_matches('"').replace("\"\"", "\"")
}

/// One line of the report. `row` has the role, the kind of the object, and the object's name.
fn line(row: &tokio_postgres::Row) -> Result<String, tokio_postgres::Error> {
    let (role, kind, object): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(match kind {
        "sequence" => format!(
            "role {role} may not use the sequence {object}, so the answer fails: grant usage on sequence {object} to {role}"
        ),
        _ => format!(
            "role {role} may not execute {object}, so the answer fails: grant execute on {kind} {object} to {role}"
        ),
    })
}
