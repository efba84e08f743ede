//! Holds the sources of a database in memory, and loads them again when their version changes. Each read of the journal
//! also returns the current version, so that no event is translated with an outdated mapping.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::infra::db::GenericClient;
use crate::infra::db::Pool;

use super::mapping::Mapping;
use super::{RecordedColumn, Source, Sources, derived};
use crate::domain::event::{SourceId, StoreId};
use crate::domain::money::Currency;
use crate::infra::db::{self, QueryError};

/// The sources of one database, as this node loaded them last.
#[derive(Debug, Default)]
pub struct Registry {
    current: RwLock<Arc<Sources>>,
}

impl Registry {
    /// The sources that this node loaded last.
    pub fn current(&self) -> Arc<Sources> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the current sources of the database. If the version in the database has changed, loads the sources
    /// first. Callers are tasks that must never use an outdated mapping, for example the computing of orders from SQL
    /// expressions.
    pub async fn in_force(&self, client: &impl GenericClient) -> Result<Arc<Sources>, QueryError> {
        let current = self.current();
        if version(client).await? == current.version {
            return Ok(current);
        }
        // Return `sources` and not `current()`. Another task may already have replaced the current sources with sources
        // that it read from the database earlier than this call.
        let sources = Arc::new(load(client).await?);
        self.replace(Arc::clone(&sources));
        Ok(sources)
    }

    /// The sources that this node loaded last. If it has loaded none yet, loads them from the database.
    pub async fn loaded(&self, pool: &Pool) -> Result<Arc<Sources>, QueryError> {
        if self.current().version == 0 {
            db::with_timeout(async { self.reload(&*pool.get().await?).await.map(drop) }).await?;
        }
        Ok(self.current())
    }

    /// Loads the sources from the database, and returns the sources that this node had in memory before.
    pub async fn reload(&self, client: &impl GenericClient) -> Result<Arc<Sources>, QueryError> {
        Ok(self.replace(Arc::new(load(client).await?)))
    }

    fn replace(&self, sources: Arc<Sources>) -> Arc<Sources> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, sources)
    }
}

/// Loads the sources of a database, and the currencies of its stores.
pub async fn load(client: &impl GenericClient) -> Result<Sources, QueryError> {
    const SOURCES: &str = "select id, name, table_name, mapping, columns::text, former_mapping, former_columns::text from vestnik.vst_source \
         where detached_at is null";
    const CURRENCIES: &str = "select id, currency from vestnik.vst_store";
    // The version is read before the sources. If the sources change between the two reads, the version in the database
    // is higher, so the next check loads the sources again.
    let version = version(client).await?;
    let mut sources = Vec::new();
    for row in client.query(SOURCES, &[]).await? {
        let name: &str = row.try_get(1)?;
        let mapping = match Mapping::from_toml(row.try_get(3)?) {
            Ok(mapping) => mapping,
            Err(problems) => {
                tracing::error!(source = name, %problems, "a mapping in the database cannot be read: `vestnik source edit` mends it");
                continue;
            }
        };
        let (id, table) = (SourceId(row.try_get(0)?), row.try_get(2)?);
        let mut source = source_of(id, name, table, mapping, row.try_get(4)?);
        // A former mapping that cannot be read any more translates nothing.
        let former = row.try_get::<_, Option<&str>>(5)?.map(Mapping::from_toml);
        if let Some(Ok(former)) = former {
            let columns: Option<&str> = row.try_get(6)?;
            source.former = Some(Arc::new(source_of(id, name, table, former, columns.unwrap_or("[]"))));
        }
        sources.push(source);
    }
    let mut currencies = HashMap::new();
    for row in client.query(CURRENCIES, &[]).await? {
        if let Some(currency) = Currency::from_code(row.try_get(1)?) {
            currencies.insert(StoreId::new(row.try_get(0)?), currency);
        }
    }
    Ok(Sources::new(version, sources, currencies))
}

/// A source with this mapping. `columns` has the recorded columns as JSON.
fn source_of(id: SourceId, name: &str, table: &str, mapping: Mapping, columns: &str) -> Source {
    let columns: Vec<RecordedColumn> = serde_json::from_str(columns).unwrap_or_default();
    // A derived source (one with SQL expressions) has a projection table with its computed orders. Lists and answers use
    // this table instead of the shop's table.
    let (table, mapping) = match mapping.derived {
        Some(_) => (derived::projection(id), derived::with_units(mapping, &columns)),
        None => (table.to_owned(), mapping),
    };
    Source {
        id,
        name: name.into(),
        table,
        mapping,
        columns,
        former: None,
    }
}

async fn version(client: &impl GenericClient) -> Result<i64, tokio_postgres::Error> {
    client
        .query_one("select version from vestnik.vst_source_version", &[])
        .await?
        .try_get(0)
}

/// Raises the version of the sources, and wakes every node, so that each node loads the sources again. The caller must
/// call this function in the transaction that changes sources or store settings.
pub async fn bump_version(client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
    const BUMP: &str = "update vestnik.vst_source_version set version = version + 1";
    client.execute(BUMP, &[]).await?;
    // The notification makes an idle node read the journal, and so find the new version.
    client.execute("select pg_notify('vestnik', '')", &[]).await?;
    Ok(())
}
