//! Whether the sources are as they were attached: what is wrong with each, and what to do. `vestnik serve` looks, logs and
//! counts; `vestnik doctor` and `vestnik source list` say it.

use tokio_postgres::GenericClient;

use super::attach::Kept;
use super::catalog::{self, Table};
use super::install::has_right_triggers;
use super::json::{Json, at_path};
use super::mapping::Mapping;
use super::recorder;
use super::trigger::{body_of, function_name, function_sql};
use super::RecordedColumn;
use crate::db::Failed;
use crate::domain::status::SubjectKind;

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
pub async fn check(client: &impl GenericClient) -> Result<Vec<Health>, Failed> {
    const SOURCES: &str = "select id, name, table_name, mapping, columns::text, owner_trusted from vestnik.vst_source order by name";
    let newest = newest(client).await?;
    let mut all = Vec::new();
    for row in client.query(SOURCES, &[]).await? {
        let kept = Kept {
            id: crate::domain::event::SourceId(row.try_get(0)?),
            name: row.try_get(1)?,
            table: row.try_get(2)?,
            mapping_toml: row.try_get(3)?,
        };
        let columns: Vec<RecordedColumn> = serde_json::from_str(row.try_get(4)?).unwrap_or_default();
        all.push(check_one(client, kept, &columns, &newest, row.try_get(5)?).await?);
    }
    Ok(all)
}

/// The sources and recorded columns of the newest rows of the journal.
async fn newest(client: &impl GenericClient) -> Result<Vec<(i32, String)>, tokio_postgres::Error> {
    const NEWEST: &str = "select source, vestnik.vst_readable(data)::text from vestnik.vst_event where type in ('insert', 'update') \
         order by id desc limit $1";
    let rows = client.query(NEWEST, &[&NEWEST_EVENTS]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn check_one(
    client: &impl GenericClient,
    kept: Kept,
    columns: &[RecordedColumn],
    newest: &[(i32, String)],
    owner_trusted: bool,
) -> Result<Health, Failed> {
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
            health.troubles.push(format!("its mapping cannot be read ({problems}): `vestnik source edit {}`", kept.name));
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
    words(&table, &mapping, &kept, newest, &mut health);
    rights(client, &kept, &table, &mapping, owner_trusted, &mut health).await?;
    Ok(health)
}

/// Words of the status that nobody mapped, among the newest events.
fn words(table: &Table, mapping: &Mapping, kept: &Kept, newest: &[(i32, String)], health: &mut Health) {
    let column = &mapping.status.column;
    let mut unknown = Vec::new();
    for (_, data) in newest.iter().filter(|(source, _)| *source == kept.id.0) {
        let path: Vec<String> = std::iter::once(&column.name).chain(&column.path).cloned().collect();
        let value = at_path(data, &path);
        let word = value.as_deref().and_then(|value| Some(Json::read(value).plain()?.into_owned()));
        if let Some(word) = word.filter(|word| mapping.status.meaning(word).is_none()) {
            let word = format!("`{word}`");
            if !unknown.contains(&word) && unknown.len() < NAMED_WORDS {
                unknown.push(word);
            }
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
    owner_trusted: bool,
    health: &mut Health,
) -> Result<(), Failed> {
    const FUNCTION: &str = "select pg_get_userbyid(proowner)::text, prosrc from pg_proc where oid = to_regprocedure($1 || '()')";
    let function = function_name(kept.id);
    let Some(row) = client.query_opt(FUNCTION, &[&function]).await? else {
        health.troubles.push("its trigger function is gone: run `vestnik migrate`".to_owned());
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
        match owner_trusted {
            true => health.notes.push(format!("{says}; its owner is trusted (--trust-owner)")),
            false => health.troubles.push(says),
        }
    }
    Ok(())
}
