//! Finds everything that would make V23, the migration that renames statuses, fail: constraints and triggers of the
//! shop's tables, missing columns, and names that are in use. Each finding includes the statement that corrects it. The
//! checks only read, except the check of the shop's triggers. This check changes one row of each old status, and rolls
//! the change back.

use tokio_postgres::{Client, Row};

use super::Error;
use super::v23_names::{self, CONSTRAINTS, RENAMED, TABLES};
use crate::infra::db;

/// Columns without which a reference shop's table cannot be attached.
const NEEDED: [&str; 3] = ["id", "store_id", "status"];
/// Maximum wait for a lock when a row is changed as a test, milliseconds.
const LOCK_MS: u32 = 500;

/// Finds everything that would make the migration V23 fail. Each line is one finding. Empty: V23 can run.
pub async fn find(client: &Client) -> Result<Vec<String>, Error> {
    let (mut refusals, mut complete) = (Vec::new(), Vec::new());
    for table in TABLES {
        let there = client
            .query_one("select to_regclass($1) is not null", &[&table])
            .await?;
        if !there.try_get::<_, bool>(0)? {
            continue;
        }
        let missing = missing(client, table).await?;
        if missing.is_empty() {
            complete.push(table);
        }
        refusals.extend(missing);
        refusals.extend(taken(client, table).await?);
    }
    for table in complete {
        let rules = [
            checks(client, table).await?,
            references(client, table).await?,
            referenced(client, table).await?,
        ]
        .concat();
        if rules.is_empty() {
            refusals.extend(triggers(client, table).await?);
        }
        refusals.extend(rules);
    }
    Ok(refusals)
}

async fn missing(client: &Client, table: &str) -> Result<Vec<String>, Error> {
    const MISSING: &str = "select needed, (select quote_ident(attname) from pg_attribute where attrelid = to_regclass($1) \
             and attnum > 0 and not attisdropped and lower(replace(attname, '_', '')) = replace(needed, '_', '') limit 1) \
         from unnest($2::text[]) needed where not exists ( \
             select from pg_attribute where attrelid = to_regclass($1) and attname = needed and not attisdropped)";
    let rows = client.query(MISSING, &[&table, &NEEDED.as_slice()]).await?;
    let line = |row: &Row| {
        let (needed, alike): (&str, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
        let mend = match alike {
            Some(alike) => format!("alter table {table} rename column {alike} to {needed}"),
            None => format!("alter table {table} add column {needed} ..."),
        };
        Ok(format!(
            "{table} has no column {needed}: {mend}; or keep the table as it is with shop.schema = \"own\""
        ))
    };
    rows.iter().map(line).collect()
}

/// Finds names that the shop already uses for other objects, but that the migration V23 needs for its constraints and
/// indexes.
async fn taken(client: &Client, table: &str) -> Result<Vec<String>, Error> {
    const CONSTRAINT: &str =
        "select exists (select from pg_constraint where conrelid = to_regclass($1) and conname = $2)";
    const RELATION: &str = "select c.relkind in ('i', 'I'), coalesce(x.indrelid = to_regclass($2) and x.indpred is null and x.indexprs is null \
             and array(select a.attname::text from unnest(x.indkey) with ordinality k(n, i) \
                       join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.n order by k.i) \
                 = array['status'] || array(select attname::text from pg_attribute \
                       where attrelid = to_regclass($2) and attname = 'created_at' and not attisdropped), false) \
         from pg_class c left join pg_index x on x.indexrelid = c.oid where c.oid = to_regclass($1)";
    let mut lines = Vec::new();
    for (_, constraint) in CONSTRAINTS.iter().filter(|(of, _)| *of == table) {
        if client.query_one(CONSTRAINT, &[&table, constraint]).await?.try_get(0)? {
            lines.push(format!(
                "{table} has a constraint {constraint} already, a name of V23's: \
                 alter table {table} rename constraint {constraint} to {constraint}_of_shop"
            ));
        }
    }
    let mut indexes = vec![(
        table.to_owned(),
        format!("public.idx_{}_status_created", table.trim_start_matches("public.")),
    )];
    for part in v23_names::parts(client, table).await? {
        let (schema, index) = v23_names::index_name(client, &part).await?;
        let index = format!("{schema}.{index}");
        if !indexes.iter().any(|(_, known)| *known == index) {
            indexes.push((part, index));
        }
    }
    for (of, index) in indexes {
        let Some(row) = client.query_opt(RELATION, &[&index, &of]).await? else {
            continue;
        };
        let (is_index, is_right): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !is_right {
            let kind = if is_index { "index" } else { "table" };
            let name = index.rsplit('.').next().unwrap_or(&index).trim_matches('"');
            lines.push(format!(
                "{index} is there already, and is not the index of {of} that V23 builds under this name: alter {kind} {index} rename to {name}_of_shop"
            ));
        }
    }
    Ok(lines)
}

/// Returns SQL that selects the table's rows with an old status, as they would be after the migration V23.
fn rewritten(table: &str) -> String {
    let whens: Vec<String> = RENAMED
        .iter()
        .map(|(old, new)| format!("when '{old}' then '{new}'"))
        .collect();
    let olds: Vec<String> = RENAMED.iter().map(|(old, _)| format!("'{old}'")).collect();
    format!(
        "(select changed.* from {table} t, json_populate_record(t, json_build_object('status', case t.status::text {} end)) changed \
          where t.status::text in ({}))",
        whens.join(" "),
        olds.join(", ")
    )
}

/// Returns SQL that makes one row for each new status. All other columns of these rows are null. These rows are enough
/// to test a constraint that reads only the status.
fn words(table: &str) -> String {
    let news: Vec<String> = RENAMED.iter().map(|(_, new)| format!("('{new}')")).collect();
    format!(
        "(select bare.* from (values {}) words(word), json_populate_record(null::{table}, json_build_object('status', word)) bare)",
        news.join(", "),
    )
}

/// Finds CHECK constraints that reject the new statuses.
async fn checks(client: &Client, table: &str) -> Result<Vec<String>, Error> {
    const CHECKS: &str = "select quote_ident(c.conname), pg_get_expr(c.conbin, c.conrelid), cardinality(c.conkey) = 1 from pg_constraint c \
         join pg_attribute a on a.attrelid = c.conrelid and a.attname = 'status' and a.attnum = any (c.conkey) \
         where c.conrelid = to_regclass($1) and c.contype = 'c' and c.conname <> all ($2) order by 1";
    let ours: Vec<&str> = CONSTRAINTS.iter().map(|(_, name)| *name).collect();
    let mut lines = Vec::new();
    for row in client.query(CHECKS, &[&table, &ours]).await? {
        let (name, rule, is_alone): (&str, &str, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let rows = rewritten(table);
        let mut refused = format!("exists (select from {rows} r where ({rule}) is false)");
        if is_alone {
            refused = format!(
                "{refused} or exists (select from {} r where ({rule}) is false)",
                words(table)
            );
        }
        if client.query_one(&format!("select {refused}"), &[]).await?.try_get(0)? {
            lines.push(format!(
                "{table}: the constraint {name} refuses the new statuses: alter table {table} drop constraint {name}"
            ));
        }
    }
    Ok(lines)
}

/// Finds foreign keys of the column `status` to a table that lacks a new status.
async fn references(client: &Client, table: &str) -> Result<Vec<String>, Error> {
    const KEYS: &str = "select quote_ident(c.conname), c.confrelid::regclass::text, \
             (select string_agg(format('k.%I::text = r.%I::text', f.attname, a.attname), ' and ' order by i) \
              from unnest(c.conkey, c.confkey) with ordinality k(a, f, i) \
              join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.a \
              join pg_attribute f on f.attrelid = c.confrelid and f.attnum = k.f), \
             cardinality(c.conkey) = 1, \
             (select quote_ident(f.attname) from unnest(c.conkey, c.confkey) k(a, f) join pg_attribute f on f.attrelid = c.confrelid and f.attnum = k.f \
              where k.a = s.attnum) \
         from pg_constraint c join pg_attribute s on s.attrelid = c.conrelid and s.attname = 'status' and s.attnum = any (c.conkey) \
         where c.conrelid = to_regclass($1) and c.contype = 'f' order by 1";
    let mut lines = Vec::new();
    for row in client.query(KEYS, &[&table]).await? {
        let (name, other, pairs): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (is_alone, column): (bool, &str) = (row.try_get(3)?, row.try_get(4)?);
        let rows = match is_alone {
            true => words(table),
            false => rewritten(table),
        };
        let sql = format!(
            "select distinct r.status::text from {rows} r where not exists (select from {other} k where {pairs}) order by 1"
        );
        for row in client.query(&sql, &[]).await? {
            let word: &str = row.try_get(0)?;
            let mend = match is_alone {
                true => format!("insert into {other} ({column}) values ('{word}')"),
                false => format!("add to {other} the rows with {column} = '{word}'"),
            };
            lines.push(format!(
                "{table}: the foreign key {name} refuses the status {word}, which {other} does not have: {mend}"
            ));
        }
    }
    Ok(lines)
}

/// Finds foreign keys of other tables that reference the column `status`, and so prevent a change of its values.
async fn referenced(client: &Client, table: &str) -> Result<Vec<String>, Error> {
    const KEYS: &str = "select c.conrelid::regclass::text, quote_ident(c.conname) from pg_constraint c \
         join pg_attribute s on s.attrelid = c.confrelid and s.attname = 'status' and s.attnum = any (c.confkey) \
         where c.confrelid = to_regclass($1) and c.contype = 'f' and c.confupdtype <> 'c' and c.conparentid = 0 order by 1, 2";
    let rows = client.query(KEYS, &[&table]).await?;
    let line = |row: &Row| {
        let (other, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        Ok(format!(
            "{table}: the foreign key {name} of {other} holds its statuses as they are: alter table {other} drop constraint {name}"
        ))
    };
    rows.iter().map(line).collect()
}

/// Finds triggers of the shop that reject or undo the change of a status. For this, it changes one row of each old
/// status, and rolls the change back.
async fn triggers(client: &Client, table: &str) -> Result<Vec<String>, Error> {
    // The bit with the value 16 in `tgtype` marks a trigger for UPDATE.
    const TRIGGERS: &str = "select coalesce(string_agg(distinct quote_ident(tgname), ', '), '') from pg_trigger \
         where tgrelid in (select to_regclass($1) union select relid from pg_partition_tree(to_regclass($1))) and not tgisinternal \
           and tgenabled in ('O', 'A') and tgtype & 16 <> 0 and tgname not like 'vestnik\\_%'";
    let row = client.query_one(TRIGGERS, &[&table]).await?;
    let names: &str = row.try_get(0)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let first = names.split(", ").next().unwrap_or(names);
    let mend = format!(
        "switch it off meanwhile, alter table {table} disable trigger {first}, and on again after `vestnik migrate`"
    );
    let mut lines = Vec::new();
    for part in v23_names::parts(client, table).await? {
        for (old, new) in RENAMED {
            let why = match attempt(client, &part, old, new).await {
                Ok(true) => continue,
                Ok(false) => format!("keeps the status {old}, which becomes {new}"),
                Err(error) if error.as_db_error().is_some() => {
                    format!("refuses the status {new}: {}", db::reason(&error))
                }
                Err(error) => return Err(error.into()),
            };
            lines.push(format!("{part}: a trigger ({names}) {why}: {mend}"));
        }
    }
    Ok(lines)
}

/// Changes the status of one row from `old` to `new`, and rolls the change back. Returns whether the row got the new
/// status. Also returns `true` if no row has the old status.
async fn attempt(client: &Client, part: &str, old: &str, new: &str) -> Result<bool, tokio_postgres::Error> {
    let attempted = async {
        client
            .batch_execute(&format!("begin read write; set local lock_timeout = {LOCK_MS}"))
            .await?;
        let sql = format!(
            "update {part} set status = '{new}' where ctid = (select ctid from {part} where status = '{old}' limit 1 for update skip locked) \
             returning status::text"
        );
        let row = client.query_opt(&sql, &[]).await?;
        client.batch_execute("set constraints all immediate").await?;
        Ok(match row {
            Some(row) => row.try_get::<_, Option<&str>>(0)? == Some(new),
            // Either no row has this status, or a trigger suppressed the update. A suppressed update counts as a
            // failure.
            None => {
                let sql = format!("select not exists (select from {part} where status = '{old}')");
                client.query_one(&sql, &[]).await?.try_get(0)?
            }
        })
    }
    .await;
    let ended = client.batch_execute("rollback").await;
    let attempted = attempted?;
    ended?;
    Ok(attempted)
}
