//! Checks each attached source for problems, such as a missing trigger or column, and says for each problem what to do.
//! `vestnik serve` logs and counts the problems; `vestnik doctor` and `vestnik source list` print them.

use crate::infra::db::GenericClient;

use super::RecordedColumn;
use super::access;
use super::attach::Kept;
use super::catalog::{self, NoTable, Table};
use super::derived::State;
use super::incomplete_events::{self, Incomplete};
use super::install::{has_right_triggers, tables_of, triggers_elsewhere};
use super::items_table;
use super::lookup_failure;
use super::mapping::Mapping;
use super::orders_without_store;
use super::recorder;
use super::replaced_table;
use super::trigger::{body_of, function_name, function_sql};
use super::unknown_words::UnknownWords;
use crate::domain::event::SourceId;
use crate::domain::status::SubjectKind;
use crate::infra::db::QueryError;

/// Number of newest journal rows that are searched for status words that the mapping does not contain.
const NEWEST_EVENTS: i64 = 500;

/// The result of checking one source for problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The source's name.
    pub name: String,
    /// The source's table, quoted and with its schema, as in `public."order"`.
    pub table: String,
    /// Whether the source has orders or bookings; `None`: the source's mapping could not be parsed.
    pub kind: Option<SubjectKind>,
    /// The problems of the source, one line each. Each line says what to do. Empty: the source is healthy.
    pub troubles: Vec<String>,
    /// Warnings for the source's owner, one line each. A source with warnings only is healthy.
    pub notes: Vec<String>,
    /// Whether Vestnik sends people's answers to the shop's API, as signed requests.
    pub calls_shop_api: bool,
}

impl Health {
    /// The health of a source before its check: no problems, and not known whether it has orders or bookings.
    fn unknown(name: String, table: String) -> Self {
        Self {
            name,
            table,
            kind: None,
            troubles: Vec::new(),
            notes: Vec::new(),
            calls_shop_api: false,
        }
    }
}

/// Checks every attached source for problems.
pub async fn check(client: &impl GenericClient) -> Result<Vec<Health>, QueryError> {
    const SOURCES: &str = "select id, name, table_name, mapping, columns::text, owner_trusted from vestnik.vst_source \
             where detached_at is null order by name";
    let journal = Journal {
        newest: newest(client).await?,
        incomplete: incomplete_events::search(client).await?,
    };
    let mut all = Vec::new();
    for row in client.query(SOURCES, &[]).await? {
        let kept = Kept {
            id: SourceId(row.try_get(0)?),
            name: row.try_get(1)?,
            table: row.try_get(2)?,
            mapping_toml: row.try_get(3)?,
            owner_trusted: row.try_get(5)?,
        };
        let columns: Vec<RecordedColumn> = serde_json::from_str(row.try_get(4)?).unwrap_or_default();
        let (name, table) = (kept.name.clone(), kept.table.clone());
        all.push(match check_one(client, kept, &columns, &journal).await {
            // If the check of one source fails, the error becomes a problem of that source. The check then continues
            // with the next source.
            Err(QueryError::Postgres(error)) if error.as_db_error().is_some() => {
                let reason = lookup_failure::reason(client, &error).await?;
                Health {
                    troubles: vec![format!("it cannot be looked at: {reason}")],
                    ..Health::unknown(name, table)
                }
            }
            looked => looked?,
        });
    }
    Ok(all)
}

/// Returns the text of a problem without the counts at its end. The counts change while the problem stays the same, so
/// a comparison of two reports must ignore them.
pub fn without_counts(trouble: &str) -> &str {
    trouble.split(super::derived::COUNTED).next().unwrap_or(trouble)
}

/// What the journal says of all sources.
struct Journal {
    newest: Vec<RecordedState>,
    /// The events without a store or a key.
    incomplete: Incomplete,
}

/// The latest state of one order, as the journal recorded it.
struct RecordedState {
    source: i32,
    /// The order's key. `None`: the row was recorded without a key.
    key: Option<String>,
    /// The order's recorded columns, a JSON object.
    data: String,
}

/// The latest state of each order in the newest [`NEWEST_EVENTS`] journal rows, without deleted orders. Earlier states
/// do not count, because the shop may have corrected a wrong status word since then.
async fn newest(client: &impl GenericClient) -> Result<Vec<RecordedState>, tokio_postgres::Error> {
    const NEWEST: &str = "select source, key, data from ( \
             select distinct on (source, coalesce(key, 'id ' || id)) source, vestnik.vst_readable(key) as key, type, vestnik.vst_readable(data)::text as data from ( \
                 select source, key, id, type, data from vestnik.vst_event where type in ('insert', 'update', 'delete') and source <> 0 \
                 order by id desc limit $1) recent \
             order by source, coalesce(key, 'id ' || id), id desc) latest where type <> 'delete'";
    let rows = client.query(NEWEST, &[&NEWEST_EVENTS]).await?;
    let newest = |row: &tokio_postgres::Row| {
        Ok(RecordedState {
            source: row.try_get(0)?,
            key: row.try_get(1)?,
            data: row.try_get(2)?,
        })
    };
    rows.iter().map(newest).collect()
}

impl Journal {
    /// The recorded columns of the newest orders of a source, as JSON objects.
    fn of_source(&self, source: SourceId) -> impl Iterator<Item = &RecordedState> {
        self.newest.iter().filter(move |row| row.source == source.0)
    }
}

fn failed(error: catalog::Error) -> QueryError {
    match error {
        catalog::Error::Failed(error) => error,
        // The source's table was found earlier in this check. Another process has dropped the table since then.
        catalog::Error::NoTable(_) => QueryError::Inconsistent("a table went while it was looked at"),
    }
}

async fn check_one(
    client: &impl GenericClient,
    kept: Kept,
    columns: &[RecordedColumn],
    journal: &Journal,
) -> Result<Health, QueryError> {
    let mut health = Health::unknown(kept.name.clone(), kept.table.clone());
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
    health.calls_shop_api = mapping.answer.url.is_some();
    let table = match Table::find(client, &kept.table).await {
        Ok(table) => table,
        Err(catalog::Error::NoTable(reason)) => {
            health.troubles.push(without_table(&kept, reason));
            return Ok(health);
        }
        Err(catalog::Error::Failed(error)) => return Err(error),
    };
    if let Some(derived) = &mapping.derived {
        let State { troubles, notes } = super::derived::examine(client, kept.id, &kept.name, &table, derived).await?;
        health.troubles.extend(troubles);
        health.notes.extend(notes);
        // After a change of the mapping, the projector computes the orders again without events. So the journal still
        // has the words of the earlier mapping.
        let keys: Vec<&str> = journal
            .of_source(kept.id)
            .filter_map(|row| row.key.as_deref())
            .collect();
        let now = super::derived::published(client, kept.id, &keys).await?;
        let unknown = UnknownWords::find(&mapping, now.iter().map(|data| (None, data.as_str())));
        health.troubles.extend(unknown.trouble(&kept));
        return Ok(health);
    }
    if !has_right_triggers(client, &function_name(kept.id), &table).await? {
        let replaced = replaced_table::find(client, kept.id, &table.quoted).await?;
        let trouble = replaced.and_then(|replaced| replaced.trouble());
        health.troubles.push(trouble.unwrap_or_else(|| {
            "its triggers are gone or switched off, so its rows make no events: run `vestnik migrate`".to_owned()
        }));
    } else {
        health.troubles.extend(left_triggers(client, &kept, &table).await?);
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
    labels(&table, &mapping, &kept, &mut health);
    // If the status column is missing, the loop above has reported it.
    if table.column(&mapping.status.column.name).is_some() {
        let newest = journal
            .of_source(kept.id)
            .map(|row| (row.key.as_deref(), row.data.as_str()));
        let mut unknown = UnknownWords::find(&mapping, newest);
        unknown.forget_former_nulls(client, &table, &mapping).await?;
        health.troubles.extend(unknown.trouble(&kept));
    }
    rights(client, &kept, &table, &mapping, &mut health).await?;
    let access = access::check(client, &table, &mapping).await.map_err(failed)?;
    // Without the rights, the items cannot be read. The report then names the rights.
    if access.missing.is_empty() {
        let of_items = items_table::troubles(client, &kept.name, &mapping).await?;
        health.troubles.extend(of_items);
    }
    details(client, &kept, &mapping, &mut health).await?;
    // Without the rights, the rows cannot be read. The report then names the rights.
    if access.missing.is_empty() {
        incomplete(client, journal, &kept, &table, &mapping, &mut health).await?;
    }
    health.troubles.extend(access.missing);
    health.notes.extend(access.notes);
    Ok(health)
}

/// Says what to do about a source whose table is no table of its own any more.
fn without_table(kept: &Kept, reason: NoTable) -> String {
    match reason {
        NoTable::Partition { root, .. } => format!(
            "it is a partition of {root} now, and rows that are written to {root} make no events: `vestnik source edit {}` \
             with table = {root:?}",
            kept.name
        ),
        _ => "it is not there: attach it by the name that it has now, and detach this one".to_owned(),
    }
}

/// Reports tables that inherited from the source's table, and still have its triggers. Their rows come as orders, but
/// an answer finds no row in the source's table.
async fn left_triggers(
    client: &impl GenericClient,
    kept: &Kept,
    table: &Table,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut strange = triggers_elsewhere(client, &function_name(kept.id), table).await?;
    strange.retain(|trigger| trigger.root != Some(table.oid));
    let says = |other: &&String| {
        format!(
            "{other} is no part of it now and still has its triggers, so its rows come as orders that nobody can answer: \
             `vestnik migrate` takes the triggers off"
        )
    };
    Ok(tables_of(&strange).iter().map(says).collect())
}

/// Reports a `[details]` query that fails.
async fn details(
    client: &impl GenericClient,
    kept: &Kept,
    mapping: &Mapping,
    health: &mut Health,
) -> Result<(), QueryError> {
    let Some(query) = &mapping.details else { return Ok(()) };
    if let Some(error) = lookup_failure::of_details(client, query).await? {
        let reason = lookup_failure::reason(client, &error).await?;
        health.troubles.push(format!(
            "its details query fails, so orders come without what it says: {reason}; `vestnik source edit {}` changes the query",
            kept.name
        ));
    }
    Ok(())
}

/// Reports rows that were recorded without a store or a key: those that have both now, and the orders that have no
/// store yet.
async fn incomplete(
    client: &impl GenericClient,
    journal: &Journal,
    kept: &Kept,
    table: &Table,
    mapping: &Mapping,
    health: &mut Health,
) -> Result<(), QueryError> {
    let rows = journal.incomplete.count(client, kept.id, table, mapping).await?;
    if rows > 0 {
        health.troubles.push(format!(
            "rows were written while its store or its key had another name, and nobody was told of them: `vestnik serve` records \
             them within a minute (journal.reconcile_interval_seconds), and they ring late{}{rows} rows",
            super::derived::COUNTED
        ));
    }
    let unseen = orders_without_store::trouble(client, &journal.incomplete, kept, table, mapping).await?;
    health.troubles.extend(unseen);
    Ok(())
}

/// Reports columns that the mapping names for people's answers but that the table lacks. When Vestnik saves an answer,
/// it skips such a column without an error.
fn answer_columns(table: &Table, mapping: &Mapping, kept: &Kept, health: &mut Health) {
    let recorded = mapping.recorded_columns();
    let written = mapping.answer.columns().map(|(_, name)| name);
    for name in written.filter(|name| table.column(name).is_none() && !recorded.contains(name)) {
        health.troubles.push(format!(
            "it has no column {name} any more, which answers leave out: `vestnik source edit {}` says which one stands for it",
            kept.name
        ));
    }
}

/// Reports status words that a person's answer would write but that are not labels of the column's enum type. Such an
/// answer fails.
fn labels(table: &Table, mapping: &Mapping, kept: &Kept, health: &mut Health) {
    let column = table.column(&mapping.status.column.name);
    let Some(labels) = column.map(|column| &column.labels).filter(|labels| !labels.is_empty()) else {
        return;
    };
    let missing = |word: &&String| !labels.contains(word);
    // If the mapping has several words for a status, an answer writes the first of these words. So only the first word
    // must be a label.
    let written = mapping.status.words.iter().filter_map(|(_, words)| words.first());
    let gone: Vec<String> = written.filter(missing).map(|word| format!("`{word}`")).collect();
    if !gone.is_empty() {
        health.troubles.push(format!(
            "{} has no label {}, so an answer with it fails: `vestnik source edit {}`",
            mapping.status.column.name,
            gone.join(", "),
            kept.name
        ));
    }
}

/// Reports a trigger function that is missing, outdated, or runs with the rights of the wrong role.
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
