//! Whether the sources are as they were attached: what is wrong with each, and what to do. `vestnik serve` looks, logs and
//! counts; `vestnik doctor` and `vestnik source list` say it.

use crate::infra::db::GenericClient;

use super::RecordedColumn;
use super::access;
use super::attach::Kept;
use super::catalog::{self, Table};
use super::install::has_right_triggers;
use super::json::{Json, at_path};
use super::mapping::Mapping;
use super::recorder;
use super::trigger::{body_of, function_name, function_sql};
use crate::domain::status::SubjectKind;
use crate::infra::db::QueryError;

/// The newest rows of the journal that are looked at for words that nobody mapped.
const NEWEST_EVENTS: i64 = 500;
/// Of which so many are named.
const NAMED_WORDS: usize = 10;

/// A source, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its name.
    pub name: String,
    /// Its table, as SQL writes it.
    pub table: String,
    /// What its rows are.
    pub kind: Option<SubjectKind>,
    /// What is wrong, and what to do, a line each; none: it is well.
    pub troubles: Vec<String>,
    /// What its owner should know although it is well.
    pub notes: Vec<String>,
}

/// Looks at all sources.
pub async fn check(client: &impl GenericClient) -> Result<Vec<Health>, QueryError> {
    const SOURCES: &str = "select id, name, table_name, mapping, columns::text, owner_trusted from vestnik.vst_source \
             where detached_at is null order by name";
    let newest = newest(client).await?;
    let mut all = Vec::new();
    for row in client.query(SOURCES, &[]).await? {
        let kept = Kept {
            id: crate::domain::event::SourceId(row.try_get(0)?),
            name: row.try_get(1)?,
            table: row.try_get(2)?,
            mapping_toml: row.try_get(3)?,
            owner_trusted: row.try_get(5)?,
        };
        let columns: Vec<RecordedColumn> = serde_json::from_str(row.try_get(4)?).unwrap_or_default();
        let (name, table) = (kept.name.clone(), kept.table.clone());
        all.push(match check_one(client, kept, &columns, &newest).await {
            // What is wrong with one source hides nothing of the others.
            Err(QueryError::Postgres(error)) if error.as_db_error().is_some() => Health {
                name,
                table,
                kind: None,
                troubles: vec![format!("it cannot be looked at: {}", crate::infra::db::reason(&error))],
                notes: Vec::new(),
            },
            looked => looked?,
        });
    }
    Ok(all)
}

/// An order as the journal has it last.
struct Newest {
    source: i32,
    /// The recorded columns.
    data: String,
}

/// The orders of the newest rows of the journal that are there still, each as its newest row has it: a word that was
/// mended is no trouble any more.
async fn newest(client: &impl GenericClient) -> Result<Vec<Newest>, tokio_postgres::Error> {
    const NEWEST: &str = "select source, data from ( \
             select distinct on (source, coalesce(key, 'id ' || id)) source, type, vestnik.vst_readable(data)::text as data from ( \
                 select source, key, id, type, data from vestnik.vst_event where type in ('insert', 'update', 'delete') \
                 order by id desc limit $1) recent \
             order by source, coalesce(key, 'id ' || id), id desc) latest where type <> 'delete'";
    let rows = client.query(NEWEST, &[&NEWEST_EVENTS]).await?;
    let newest = |row: &tokio_postgres::Row| {
        Ok(Newest {
            source: row.try_get(0)?,
            data: row.try_get(1)?,
        })
    };
    rows.iter().map(newest).collect()
}

fn failed(error: catalog::Error) -> QueryError {
    match error {
        catalog::Error::Failed(error) => error,
        // It was found a moment ago.
        catalog::Error::NoTable(_) => QueryError::Inconsistent("a table went while it was looked at"),
    }
}

async fn check_one(
    client: &impl GenericClient,
    kept: Kept,
    columns: &[RecordedColumn],
    newest: &[Newest],
) -> Result<Health, QueryError> {
    let mut health = Health {
        name: kept.name.clone(),
        table: kept.table.clone(),
        kind: None,
        troubles: Vec::new(),
        notes: Vec::new(),
    };
    let mapping = match Mapping::from_toml(&kept.mapping_toml) {
        Ok(mapping) => mapping,
        Err(problems) => {
            health.troubles.push(format!(
                "its mapping cannot be read ({problems}): `vestnik source edit {}`",
                kept.name
            ));
            return Ok(health);
        }
    };
    health.kind = Some(mapping.kind);
    let table = match Table::find(client, &kept.table).await {
        Ok(table) => table,
        Err(catalog::Error::NoTable(_)) => {
            let trouble = "it is not there: attach it by the name that it has now, and detach this one";
            health.troubles.push(trouble.to_owned());
            return Ok(health);
        }
        Err(catalog::Error::Failed(error)) => return Err(error),
    };
    if let Some(derived) = &mapping.derived {
        let troubles = super::derived::troubles(client, kept.id, &kept.name, &kept.table, derived).await?;
        health.troubles.extend(troubles);
        return Ok(health);
    }
    if !has_right_triggers(client, &function_name(kept.id), &table).await? {
        let trouble = "its triggers are gone or switched off, and nobody is told of its rows: run `vestnik migrate`";
        health.troubles.push(trouble.to_owned());
    }
    for column in columns {
        match table.column(&column.name) {
            None => health.troubles.push(format!(
                "it has no column {} any more, which is recorded as null: `vestnik source edit {}` says which one stands for it",
                column.name, kept.name
            )),
            Some(now) if now.base != column.kind => health.notes.push(format!(
                "{} is of type {} now, and was {} when it was attached: `vestnik source check {}` shows whether it is read well",
                column.name, now.kind, column.kind, kept.name
            )),
            Some(_) => {}
        }
    }
    answer_columns(&table, &mapping, &kept, &mut health);
    words(&table, &mapping, &kept, newest, &mut health);
    rights(client, &kept, &table, &mapping, &mut health).await?;
    let access = access::check(client, &table, &mapping).await.map_err(failed)?;
    health.troubles.extend(access.missing);
    health.notes.extend(access.notes);
    Ok(health)
}

/// Columns that an answer writes: what is gone is left out of it, and nobody would know.
fn answer_columns(table: &Table, mapping: &Mapping, kept: &Kept, health: &mut Health) {
    let (answer, recorded) = (&mapping.answer, mapping.recorded_columns());
    let written = [&answer.updated_at, &answer.accepted_at, &answer.reason, &answer.minutes]
        .into_iter()
        .flatten();
    for name in written.filter(|name| table.column(name).is_none() && !recorded.contains(&name.as_str())) {
        health.troubles.push(format!(
            "it has no column {name} any more, which answers leave out: `vestnik source edit {}` says which one stands for it",
            kept.name
        ));
    }
}

/// Words of the status that nobody mapped, as the newest events have them.
fn words(table: &Table, mapping: &Mapping, kept: &Kept, newest: &[Newest], health: &mut Health) {
    let column = &mapping.status.column;
    // What is gone is another trouble.
    if table.column(&column.name).is_none() {
        return;
    }
    let path: Vec<String> = std::iter::once(&column.name).chain(&column.path).cloned().collect();
    let mut unknown = Vec::new();
    for Newest { data, .. } in newest.iter().filter(|row| row.source == kept.id.0) {
        // A row that could not be recorded says nothing of its status.
        if at_path(data, &path[..1]).is_none() {
            continue;
        }
        let word = at_path(data, &path).and_then(|value| Some(Json::read(&value).plain()?.into_owned()));
        let told = match word {
            Some(word) if mapping.status.meaning(&word).is_some() => continue,
            Some(word) => format!("`{word}`"),
            None => "NULL".to_owned(),
        };
        if !unknown.contains(&told) && unknown.len() < NAMED_WORDS {
            unknown.push(told);
        }
    }
    if !unknown.is_empty() {
        health.troubles.push(format!(
            "{} has the status {}, which means nothing in its mapping, so such orders ring: `vestnik source edit {}`",
            table.quoted,
            unknown.join(", "),
            kept.name
        ));
    }
}

/// Whose rights the trigger function has, and whether it is this program's.
async fn rights(
    client: &impl GenericClient,
    kept: &Kept,
    table: &Table,
    mapping: &Mapping,
    health: &mut Health,
) -> Result<(), QueryError> {
    const FUNCTION: &str =
        "select pg_get_userbyid(proowner)::text, prosrc from pg_proc where oid = to_regprocedure($1 || '()')";
    let function = function_name(kept.id);
    let Some(row) = client.query_opt(FUNCTION, &[&function]).await? else {
        health
            .troubles
            .push("its trigger function is gone: run `vestnik migrate`".to_owned());
        return Ok(());
    };
    let owner: &str = row.try_get(0)?;
    if row.try_get::<_, &str>(1)? != body_of(&function_sql(kept.id, table, mapping)) {
        let note = "its trigger function is not the one that this program would write: run `vestnik migrate`";
        health.notes.push(note.to_owned());
    }
    if owner != recorder::ROLE && owner != table.owner {
        let says = format!(
            "types of {} could run functions of role {} with the rights of {owner}: attach it again as a role that may create the role {}",
            table.quoted,
            table.owner,
            recorder::ROLE
        );
        match kept.owner_trusted {
            true => health
                .notes
                .push(format!("{says}; its owner is trusted (--trust-owner)")),
            false => health.troubles.push(says),
        }
    }
    Ok(())
}
