//! Attaches tables as sources: installs the trigger function and the triggers, and saves the row of `vst_source`.
//! `detach.rs` does the reverse. No step waits longer for a lock than `infra/table_lock.rs` allows. If nothing has
//! changed, attaching a source again takes no lock on its table.

mod detach;
mod examine;

use tokio_postgres::{Client, Transaction};

pub use super::attach_error::Error;
use super::catalog::Table;
use super::derived;
use super::install::{Installed, install};
use super::mapping::Mapping;
use super::missed_writes::MissedWrites;
use super::recorder::{self, FunctionOwner};
use super::registry::bump_version;
use super::repair::{Lacked, repair};
use super::replaced_table;
use super::trigger::{function_sql, triggers_sql};
use super::validate::Findings;
use super::{RecordedColumn, Source};
use crate::domain::event::SourceId;
use crate::infra::table_lock::{Progress, with_lock_retries};
pub use detach::{Kept, detach, detach_sql, find};
use examine::check;
pub use examine::{Examined, examine};

/// The outcome of attaching a table, with the source's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// The table was not a source before. From now on, writes to its rows become events.
    New(String),
    /// The source existed with another mapping or trigger function, or was detached. It was updated.
    Changed(String),
    /// The table was a source already, and its mapping, trigger function and triggers are current. Nothing was changed.
    Unchanged(String),
}

/// Options for attaching a table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Attach the table even if another role owns it and Vestnik cannot use the recorder role, a role with few rights.
    /// The table's owner can then run functions with the rights of the role that attaches.
    pub trust_owner: bool,
    /// The id of the source to which the table belongs, if the table was renamed. `None`: the source is found by the
    /// table's name. If no source has the table's name, the table becomes a new source.
    pub renamed: Option<SourceId>,
}

/// Returns [`Error::NotMigrated`] if the database lacks Vestnik's tables.
pub async fn require_migrated(client: &Client) -> Result<(), Error> {
    const PREPARED: &str = "select to_regclass('vestnik.vst_source') is not null";
    match client.query_one(PREPARED, &[]).await?.try_get(0)? {
        true => Ok(()),
        false => Err(Error::NotMigrated),
    }
}

/// Attaches the table of a mapping, or updates its source if the table was attached before. Calls `progress` with each
/// warning, one line each.
pub async fn attach(
    client: &mut Client,
    mapping_toml: &str,
    options: Options,
    progress: Progress<'_>,
) -> Result<Attached, Error> {
    let mapping = Mapping::from_toml(mapping_toml)?;
    let table = Table::find(client, &mapping.table).await?;
    let (Findings { problems, warnings }, checked) = check(client, &table, &mapping).await?;
    if !problems.is_empty() {
        let table = table.quoted;
        return Err(Error::Unfit { table, problems });
    }
    warnings.iter().for_each(|warning| progress(warning));
    put(
        client,
        &table,
        &mapping,
        checked.as_ref(),
        mapping_toml,
        options,
        progress,
    )
    .await
}

/// Attaches a table whose mapping `check` has validated. Retries while the table is locked.
async fn put(
    client: &mut Client,
    table: &Table,
    mapping: &Mapping,
    checked: Option<&derived::Checked>,
    mapping_toml: &str,
    options: Options,
    progress: Progress<'_>,
) -> Result<Attached, Error> {
    let owner = recorder::prepare(client).await?;
    if owner == FunctionOwner::Attacher && !table.is_ours && !options.trust_owner {
        return Err(Error::ForeignOwner {
            table: table.quoted.clone(),
            owner: table.owner.clone(),
        });
    }
    let attempt = Attempt {
        table,
        mapping,
        checked,
        mapping_toml,
        options,
        owner,
    };
    let mut locked: Vec<String> = table.with_children().into_iter().cloned().collect();
    locked.extend(checked.iter().flat_map(|checked| checked.watched_tables()));
    let put = with_lock_retries(
        client,
        &locked,
        progress,
        async |client: &mut Client, progress: Progress<'_>| {
            let mut transaction = client.transaction().await?;
            let put = attempt.put(&mut transaction, progress).await?;
            transaction.commit().await?;
            Ok::<_, Error>(put)
        },
    );
    let (id, attached, lacked) = put.await?;
    if !matches!(attached, Attached::New(_)) && mapping.derived.is_none() {
        let source = Source {
            id,
            ..unattached(table, mapping)
        };
        let repaired = repair(client, &source, table, &lacked).await?;
        repaired.iter().for_each(|line| progress(line));
    }
    Ok(attached)
}

/// One attempt to attach a table, in one transaction with a short lock time-out.
struct Attempt<'a> {
    table: &'a Table,
    mapping: &'a Mapping,
    /// The result of validating a derived mapping (a mapping with SQL expressions instead of columns). The installation
    /// needs this result. `None`: the mapping is not derived.
    checked: Option<&'a derived::Checked>,
    mapping_toml: &'a str,
    options: Options,
    owner: FunctionOwner,
}

impl Attempt<'_> {
    async fn put(
        &self,
        transaction: &mut Transaction<'_>,
        progress: Progress<'_>,
    ) -> Result<(SourceId, Attached, Lacked), Error> {
        const KNOWN: &str = "select id, name, mapping, columns::text, detached_at is not null from vestnik.vst_source \
             where table_name = $1 or id = $2 order by id = $2 desc nulls last, detached_at desc nulls first limit 1 for update";
        const INSERT: &str = "insert into vestnik.vst_source (name, table_name, kind, mapping, columns, owner_trusted) \
             values ($1, $2, $3, $4, $5::text::jsonb, $6) returning id";
        const UPDATE: &str = "update vestnik.vst_source set name = $2, table_name = $3, kind = $4, mapping = $5, columns = $6::text::jsonb, \
                 owner_trusted = detached_at is null and owner_trusted or $7, detached_at = null, \
                 former_mapping = case when $9 then mapping else former_mapping end, \
                 former_columns = case when $9 then columns else former_columns end, \
                 attached_xid = case when detached_at is null and not $8 then attached_xid else pg_current_xact_id() end, \
                 attached_at = case when detached_at is null and not $8 then attached_at else now() end where id = $1";
        let (table, mapping_toml, trusted) = (&self.table.quoted, self.mapping_toml, self.options.trust_owner);
        let kind = self.mapping.kind.as_str();
        let now = match self.checked {
            Some(checked) => checked.columns.clone(),
            None => recorded(self.table, self.mapping),
        };
        let columns = serde_json::to_string(&now).unwrap_or_default();
        let moved = self.options.renamed.map(|id| id.0);
        let Some(row) = transaction.query_opt(KNOWN, &[table, &moved]).await? else {
            let name = self.free_name(transaction, None).await?;
            let row = transaction
                .query_one(INSERT, &[&name, table, &kind, &mapping_toml, &columns, &trusted])
                .await?;
            let id = SourceId(row.try_get(0)?);
            self.install(transaction, id, true, None, progress).await?;
            bump_version(transaction).await?;
            return Ok((id, Attached::New(name), Lacked::default()));
        };
        let id = SourceId(row.try_get(0)?);
        let name = self.free_name(transaction, Some(id)).await?;
        let before: Vec<RecordedColumn> = serde_json::from_str(row.try_get(3)?).unwrap_or_default();
        let (mapping_before, is_derived): (&str, _) = (row.try_get(2)?, self.mapping.derived.is_some());
        let changes_kind =
            Mapping::from_toml(mapping_before).is_ok_and(|before| before.derived.is_some() != is_derived);
        // People saw the orders of a direct source, so none of them rings because the source is derived now.
        let becomes_derived = changes_kind && is_derived;
        let was_detached: bool = row.try_get(4)?;
        let is_same = !was_detached
            && (row.try_get::<_, &str>(1)?, row.try_get::<_, &str>(2)?) == (name.as_str(), mapping_toml)
            && before == now;
        // The events that the earlier triggers recorded, and no longer record, must be complete.
        let mut unfinished = Vec::new();
        if changes_kind {
            for table in self.table.with_children() {
                transaction
                    .batch_execute(&format!("lock table {table} in share row exclusive mode"))
                    .await?;
            }
            unfinished = derived::unfinished::keys(transaction, id).await?;
        }
        let earlier = (!was_detached && !changes_kind && is_derived)
            .then(|| derived::Earlier::new(mapping_before == mapping_toml, &before, &now));
        let replaced = replaced_table::find(&*transaction, id, table).await?;
        let installed = self
            .install(transaction, id, !is_same, earlier.as_ref(), progress)
            .await?;
        if changes_kind && !is_derived && !was_detached {
            derived::unfinished::append(transaction, id, self.table, self.mapping, &unfinished).await?;
        }
        let is_new = |column: &&RecordedColumn| {
            self.table.column(&column.name).is_some() && before.iter().all(|known| known.name != column.name)
        };
        let reads_other_columns = self.reads_other_columns(mapping_before);
        // Earlier events of the other kind have another form, and no part of them is missing.
        let lacked = (!changes_kind).then(|| Lacked {
            columns: now.iter().filter(is_new).map(|column| column.name.clone()).collect(),
            // Writes to a table are not events while its source is detached. So the repair must not append events for
            // these writes later.
            rows: !was_detached && (installed.triggers || reads_other_columns),
            writes: (!was_detached && installed.triggers && !reads_other_columns).then(|| MissedWrites {
                replaced,
                columns: before.clone(),
            }),
        });
        let lacked = lacked.unwrap_or_default();
        if is_same && !installed.any() {
            return Ok((id, Attached::Unchanged(name), lacked));
        }
        transaction
            .execute(
                UPDATE,
                &[
                    &id.0,
                    &name,
                    table,
                    &kind,
                    &mapping_toml,
                    &columns,
                    &trusted,
                    &becomes_derived,
                    &changes_kind,
                ],
            )
            .await?;
        bump_version(transaction).await?;
        Ok((id, Attached::Changed(name), lacked))
    }

    async fn install(
        &self,
        transaction: &mut Transaction<'_>,
        id: SourceId,
        reads_other_columns: bool,
        earlier: Option<&derived::Earlier>,
        progress: Progress<'_>,
    ) -> Result<Installed, Error> {
        match (&self.mapping.derived, self.checked) {
            (Some(derived), Some(checked)) => {
                derived::install(
                    transaction,
                    id,
                    derived,
                    checked,
                    self.owner,
                    derived::Before {
                        reads_other_columns,
                        earlier,
                    },
                    progress,
                )
                .await
            }
            _ => {
                let left = derived::drop_sql(transaction, id).await?;
                transaction.batch_execute(&left).await?;
                install(transaction, id, self.table, self.mapping, self.owner, progress).await
            }
        }
    }

    /// Whether this mapping reads the key or the store's id from another column than the earlier mapping. `before` is
    /// the earlier mapping as TOML.
    fn reads_other_columns(&self, before: &str) -> bool {
        Mapping::from_toml(before)
            .is_ok_and(|before| before.key != self.mapping.key || before.store != self.mapping.store)
    }

    /// Returns the name for the source: the mapping's `name`, otherwise the table's name. The table's name gets its
    /// schema as a prefix, unless the schema is `public`. Fails if another attached source has this name.
    async fn free_name(&self, transaction: &Transaction<'_>, id: Option<SourceId>) -> Result<String, Error> {
        const TAKEN: &str = "select exists (select from vestnik.vst_source where name = $1 and id is distinct from $2 and detached_at is null)";
        let name = match &self.mapping.name {
            Some(name) => name.clone(),
            None if self.table.schema == "public" => self.table.name.clone(),
            None => format!("{}.{}", self.table.schema, self.table.name),
        };
        let taken: bool = transaction
            .query_one(TAKEN, &[&name, &id.map(|id| id.0)])
            .await?
            .try_get(0)?;
        if taken { Err(Error::NameTaken(name)) } else { Ok(name) }
    }
}

/// The columns that the trigger records, with their current types in the table. A missing column has an empty type.
fn recorded(table: &Table, mapping: &Mapping) -> Vec<RecordedColumn> {
    let recorded = mapping.recorded_columns().into_iter().map(|name| RecordedColumn {
        name: name.to_owned(),
        kind: table
            .column(name)
            .map_or_else(String::new, |column| column.base.clone()),
    });
    recorded.collect()
}

/// Attaches all sources again, for example after an upgrade. Returns the number of sources whose function or columns
/// changed. If a source cannot be attached again, it keeps its triggers, and `progress` receives a line with the error.
pub async fn reattach_all(client: &mut Client, progress: Progress<'_>) -> Result<u64, Error> {
    let rows = client
        .query(
            "select name, mapping, owner_trusted from vestnik.vst_source where detached_at is null order by id",
            &[],
        )
        .await?;
    let mut changed = 0;
    for row in &rows {
        let (name, mapping_toml): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let options = Options {
            trust_owner: row.try_get(2)?,
            renamed: None,
        };
        match reattach(client, mapping_toml, options, progress).await {
            Ok(Attached::Unchanged(_)) => {}
            Ok(_) => changed += 1,
            Err(error @ (Error::Postgres(_) | Error::NotMigrated)) => return Err(error),
            Err(error) => progress(&format!("{name} stays as it was attached: {error}")),
        }
    }
    Ok(changed)
}

/// Attaches one source again. Only a derived source (its mapping has SQL expressions) is validated. In any other
/// source, a column may be missing: the triggers then record it as null, and the health report names it.
async fn reattach(
    client: &mut Client,
    mapping_toml: &str,
    options: Options,
    progress: Progress<'_>,
) -> Result<Attached, Error> {
    let mapping = Mapping::from_toml(mapping_toml)?;
    let table = Table::find(client, &mapping.table).await?;
    if mapping.derived.is_some() {
        return attach(client, mapping_toml, options, &mut |_| ()).await;
    }
    put(client, &table, &mapping, None, mapping_toml, options, progress).await
}

/// Returns the SQL that [`attach`] would run, so that a person can read it first. If the table was never attached, the
/// SQL contains the next free source id.
pub async fn attach_sql(client: &mut Client, mapping: &Mapping) -> Result<String, Error> {
    const NEXT: &str = "select coalesce((select id from vestnik.vst_source where table_name = $1 order by detached_at desc nulls first limit 1), \
         (select coalesce(max(id), 0) + 1 from vestnik.vst_source))";
    let table = Table::find(client, &mapping.table).await?;
    let (Findings { problems, .. }, checked) = check(client, &table, mapping).await?;
    if !problems.is_empty() {
        let table = table.quoted;
        return Err(Error::Unfit { table, problems });
    }
    let id = SourceId(client.query_one(NEXT, &[&table.quoted]).await?.try_get(0)?);
    if let (Some(derived), Some(checked)) = (&mapping.derived, &checked) {
        return Ok(derived::install_sql(id, derived, checked));
    }
    Ok(format!(
        "{}\n{}",
        function_sql(id, &table, mapping),
        triggers_sql(id, &table)
    ))
}

/// Creates a source for a mapping whose table is not attached yet. Commands use it to preview the table's orders.
pub fn unattached(table: &Table, mapping: &Mapping) -> Source {
    Source {
        id: SourceId(0),
        name: mapping.name.clone().unwrap_or_else(|| table.name.clone()).into(),
        table: table.quoted.clone(),
        columns: recorded(table, mapping),
        mapping: mapping.clone(),
        former: None,
    }
}
