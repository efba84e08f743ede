//! The sources of a database as this node knows them. Each read of the journal returns the version in force, so an
//! event is never translated with a mapping that has been replaced.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::infra::db::GenericClient;
use crate::infra::db::Pool;

use super::mapping::Mapping;
use super::{RecordedColumn, Source, Sources, derived};
use crate::domain::event::{SourceId, StoreId};
use crate::domain::money::Currency;
use crate::infra::db::{self, QueryError};

/// The sources that are in force.
#[derive(Debug, Default)]
pub struct Registry {
    current: RwLock<Arc<Sources>>,
}

impl Registry {
    /// The sources as this node knows them.
    pub fn current(&self) -> Arc<Sources> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sources in force in the database of this client. For work that is done once, and that an outdated mapping
    /// must not do.
    pub async fn in_force(&self, client: &impl GenericClient) -> Result<Arc<Sources>, QueryError> {
        let current = self.current();
        if version(client).await? == current.version {
            return Ok(current);
        }
        self.reload(client).await?;
        Ok(self.current())
    }

    /// The sources as this node knows them, or from the database if none were loaded yet.
    pub async fn loaded(&self, pool: &Pool) -> Result<Arc<Sources>, QueryError> {
        if self.current().version == 0 {
            db::with_timeout(async { self.reload(&*pool.get().await?).await.map(drop) }).await?;
        }
        Ok(self.current())
    }

    /// Reads the sources again. Returns the previous ones.
    pub async fn reload(&self, client: &impl GenericClient) -> Result<Arc<Sources>, QueryError> {
        let sources = Arc::new(load(client).await?);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *current, sources))
    }
}

/// Reads the sources of a database.
pub async fn load(client: &impl GenericClient) -> Result<Sources, QueryError> {
    const SOURCES: &str =
        "select id, name, table_name, mapping, columns::text from vestnik.vst_source where detached_at is null";
    const CURRENCIES: &str = "select id, currency from vestnik.vst_store";
    // Read the version first: a later change raises the version, so the sources are read again.
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
        let id = SourceId(row.try_get(0)?);
        let columns: Vec<RecordedColumn> = serde_json::from_str(row.try_get(4)?).unwrap_or_default();
        // Lists and answers of a derived source use the engine's own table.
        let (table, mapping) = match mapping.derived {
            Some(_) => (derived::projection(id), derived::with_units(mapping, &columns)),
            None => (row.try_get(2)?, mapping),
        };
        sources.push(Source {
            id,
            name: name.into(),
            table,
            mapping,
            columns,
        });
    }
    let mut currencies = HashMap::new();
    for row in client.query(CURRENCIES, &[]).await? {
        if let Some(currency) = Currency::from_code(row.try_get(1)?) {
            currencies.insert(StoreId::new(row.try_get(0)?), currency);
        }
    }
    Ok(Sources::new(version, sources, currencies))
}

async fn version(client: &impl GenericClient) -> Result<i64, tokio_postgres::Error> {
    client
        .query_one("select version from vestnik.vst_source_version", &[])
        .await?
        .try_get(0)
}

/// Notifies every node that sources or store settings have changed; call it in the transaction that changes them.
pub async fn bump_version(client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
    const BUMP: &str = "update vestnik.vst_source_version set version = version + 1";
    client.execute(BUMP, &[]).await?;
    // A node that waits for a notification reads, and finds the new version.
    client.execute("select pg_notify('vestnik', '')", &[]).await?;
    Ok(())
}
