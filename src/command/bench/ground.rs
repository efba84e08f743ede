//! The test environment of the bench: its own schema, three tables, and a token. The bench removes all of these at the
//! end.

use crate::infra::config::Config;
use crate::infra::db;
use crate::sources::attach::{self, Options};
use crate::token::{self, New, Scope, Stores};
use anyhow::bail;
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_postgres::Client;

/// Number of the bench's stores. Their ids look like `vestnik-bench-0`, which no real store has.
pub const STORES: usize = 16;
/// Number of single commits that are timed. The report shows their median as the commit latency.
const PROBES: usize = 50;
/// The comment on the schema of the bench. The bench never drops a schema without this comment.
const MARK: &str = "made by vestnik bench, and dropped by it";
const TOKEN_LIFE: std::time::Duration = std::time::Duration::from_secs(3600);

/// The mapping of the table that has Vestnik's triggers.
const MAPPING: &str = r#"
table = "vestnik_bench.watched"
kind = "order"
key = "id"
store = "store_id"
[status]
column = "status"
pending = ["pending"]
[fields]
customer_name = "customer_name"
type = "order_type"
total = { column = "total", unit = "minor" }
[items]
column = "items"
"#;

/// The three tables of the bench. They have the same columns, but differ in their triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The table without a trigger.
    Bare,
    /// The table whose trigger sends each order as a NOTIFY.
    Notifying,
    /// The table with Vestnik's triggers.
    Watched,
}

impl Table {
    /// The table's name with its schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "vestnik_bench.bare",
            Self::Notifying => "vestnik_bench.notifying",
            Self::Watched => "vestnik_bench.watched",
        }
    }
}

/// The test environment in the database.
pub struct Ground {
    client: Client,
    /// The database's URL, for the connections that write.
    pub url: SecretString,
    /// The token with which panels get the events of the bench's stores.
    pub token: String,
}

/// The ids of the bench's stores.
pub fn stores() -> Vec<String> {
    (0..STORES).map(|number| format!("vestnik-bench-{number}")).collect()
}

impl Ground {
    /// Creates the environment. If an interrupted run has left one, removes it first.
    pub async fn make(config: &Config) -> anyhow::Result<Self> {
        const TABLES: &str = "create schema vestnik_bench; \
             create table vestnik_bench.bare (id bigint generated always as identity primary key, store_id text not null, \
                 customer_name text, total bigint, order_type text, items jsonb, status text not null default 'pending'); \
             create table vestnik_bench.notifying (like vestnik_bench.bare including all); \
             create table vestnik_bench.watched (like vestnik_bench.bare including all); \
             create function vestnik_bench.notify() returns trigger language plpgsql as $$ begin \
                 perform pg_notify('vestnik_bench', json_build_object('id', new.id, 'store', new.store_id, \
                     'total', new.total, 'items', new.items)::text); \
                 return null; \
             end $$; \
             create trigger notify after insert on vestnik_bench.notifying for each row execute function vestnik_bench.notify()";
        let mut client = db::connect_directly(&config.database, "command").await?;
        let url = config.database.url.clone().ok_or(db::Error::Missing)?;
        if is_there(&client).await? {
            clear(&mut client).await?;
        }
        client.batch_execute(TABLES).await?;
        client
            .batch_execute(&format!("comment on schema vestnik_bench is '{MARK}'"))
            .await?;
        if let Err(error) = attach::attach(&mut client, MAPPING, Options::default(), &mut |_| ()).await {
            clear(&mut client).await?;
            return Err(error.into());
        }
        let new = New {
            stores: &Stores::These(stores()),
            scope: Scope::Panel,
            label: Some(MARK),
            expires_in: Some(TOKEN_LIFE),
        };
        let token = token::create(&db::connect(&config.database).await?, &new).await?;
        let token = token.reveal().to_owned();
        Ok(Self { client, url, token })
    }

    /// Empties the tables and deletes their events, so that all measurements start in the same state.
    pub async fn empty(&self) -> anyhow::Result<()> {
        let empty = "truncate vestnik_bench.bare, vestnik_bench.notifying, vestnik_bench.watched";
        self.client.batch_execute(empty).await?;
        delete_rows(&self.client).await
    }

    /// Describes the database's settings and the commit latency of the disk in one line, for the report.
    pub async fn describe(&self) -> anyhow::Result<String> {
        const SETTINGS: &str = "select current_setting('server_version'), current_setting('fsync'), \
             current_setting('synchronous_commit'), current_setting('commit_delay')";
        let row = self.client.query_one(SETTINGS, &[]).await?;
        let setting = |index| row.try_get::<_, String>(index);
        let mut commits = Vec::with_capacity(PROBES);
        for _ in 0..PROBES {
            let begin = Instant::now();
            let insert = "insert into vestnik_bench.bare (store_id) values ('vestnik-bench-0')";
            self.client.execute(insert, &[]).await?;
            commits.push(begin.elapsed());
        }
        commits.sort();
        Ok(format!(
            "Postgres {}, fsync {}, synchronous_commit {}, commit_delay {}: one commit after the other takes {:.2} ms here",
            setting(0)?,
            setting(1)?,
            setting(2)?,
            setting(3)?,
            commits[PROBES / 2].as_secs_f64() * 1e3
        ))
    }

    /// Removes the environment from the database.
    pub async fn clear(mut self) -> anyhow::Result<()> {
        clear(&mut self.client).await
    }
}

/// Whether an interrupted run has left the bench's schema. A schema with this name but without the bench's comment is
/// an error.
async fn is_there(client: &Client) -> anyhow::Result<bool> {
    const THERE: &str = "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = 'vestnik_bench'";
    match client.query_opt(THERE, &[]).await? {
        None => Ok(false),
        Some(row) if row.try_get::<_, Option<String>>(0)?.as_deref() == Some(MARK) => Ok(true),
        Some(_) => bail!("there is a schema vestnik_bench that this program did not make: rename it, or drop it"),
    }
}

async fn clear(client: &mut Client) -> anyhow::Result<()> {
    let attached = "select from vestnik.vst_source where table_name = $1 and detached_at is null";
    let source = "delete from vestnik.vst_source where table_name = $1";
    let table = Table::Watched.name();
    // A database that was never migrated has no table of sources. Then only the schema is dropped.
    match client.query_opt(attached, &[&table]).await {
        Ok(Some(_)) => {
            delete_rows(client).await?;
            attach::detach(client, table, &mut |_| ()).await.map(drop)?;
            client.execute(source, &[&table]).await?;
        }
        Ok(None) => {}
        Err(error) if error.as_db_error().is_some() => {
            client.batch_execute("drop schema vestnik_bench cascade").await?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    client
        .execute("delete from vestnik.vst_token where label = $1", &[&MARK])
        .await?;
    client.batch_execute("drop schema vestnik_bench cascade").await?;
    Ok(())
}

/// Deletes the bench's events. It finds them by their source and not by their store, because the event of a truncated
/// table has no store.
async fn delete_rows(client: &Client) -> anyhow::Result<()> {
    const EVENTS: &str =
        "delete from vestnik.vst_event e using vestnik.vst_source s where s.table_name = $1 and e.source = s.id";
    client.execute(EVENTS, &[&Table::Watched.name()]).await?;
    Ok(())
}
