//! What others can do to notifications: fill their queue, and hold the two locks. Both take no more than the right to connect.

use tokio_postgres::Row;

use crate::infra::db::{self, GenericClient, Pool, QueryError};

/// What every node looks at each second.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Share of the notification queue in use, 0 to 1. It is one for the whole cluster, and a full one refuses COMMITs.
    pub queue_usage: f64,
    /// Whether a writer that asked now would not notify. Then no node may be asleep.
    pub is_refused: bool,
}

/// Looks once. The lock is asked for as a writer does it, and let go at once.
pub async fn look(pool: &Pool) -> Result<Look, QueryError> {
    const LOOK: &str = "select pg_notification_queue_usage(), \
         not pg_try_advisory_xact_lock_shared(vestnik.vst_notify_lock_key(), 1)";
    db::with_timeout(async {
        let row = pool.get().await?.query_one(LOOK, &[]).await?;
        Ok(Look {
            queue_usage: row.try_get(0)?,
            is_refused: row.try_get(1)?,
        })
    })
    .await
}

/// A backend that holds one of the two locks, and is no node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process.
    pub pid: i32,
    /// What it calls itself, and its role. Neither is a customer's.
    pub who: String,
    /// What comes of it.
    pub effect: &'static str,
}

/// Who holds them. A node's session is known by its name and by a role that may read the journal: a name alone anybody can have.
pub async fn holders(client: &impl GenericClient) -> Result<Vec<Holder>, tokio_postgres::Error> {
    const HOLDERS: &str = "select l.pid, format('%s, role %s', coalesce(nullif(a.application_name, ''), 'unnamed'), a.usename), \
           l.objid = 1, l.mode = 'ExclusiveLock' \
         from pg_locks l left join pg_stat_activity a using (pid) \
         where l.locktype = 'advisory' and l.objsubid = 2 and l.classid = vestnik.vst_notify_lock_key()::oid \
           and l.database = (select oid from pg_database where datname = current_database()) \
           and (l.objid = 1 and l.mode = 'ExclusiveLock' or l.objid = 2 and l.granted) \
           and not coalesce(a.application_name in ('vestnik listener', 'vestnik bell') \
                            and has_table_privilege(a.usesysid, 'vestnik.vst_event', 'select'), false) \
         order by l.pid, l.objid";
    let rows = client.query(HOLDERS, &[]).await?;
    let holder = |row: &Row| {
        Ok(Holder {
            pid: row.try_get(0)?,
            who: row.try_get(1)?,
            effect: match (row.try_get(2)?, row.try_get(3)?) {
                (true, _) => "no order notifies, and nodes read every 50 ms",
                (false, true) => "no node waits for notifications, and each reads every 50 ms",
                (false, false) => {
                    "no node can suppress notifications, neither under load nor when their queue fills up"
                }
            },
        })
    };
    rows.iter().map(holder).collect()
}

/// The backend whose transaction is the oldest, in any database of the cluster: a session that listens, and stays in a
/// transaction, keeps the queue from being emptied. Postgres does not say which sessions listen. `None`: this role sees none.
pub async fn oldest_transaction(client: &impl GenericClient) -> Result<Option<String>, tokio_postgres::Error> {
    const OLDEST: &str = "select format('pid %s (%s, role %s, database %s), in a transaction for %s s', pid, \
           coalesce(nullif(application_name, ''), 'unnamed'), usename, datname, extract(epoch from clock_timestamp() - xact_start)::bigint) \
         from pg_stat_activity where backend_type = 'client backend' and xact_start is not null and pid <> pg_backend_pid() \
         order by xact_start limit 1";
    let row = client.query_opt(OLDEST, &[]).await?;
    row.map(|row| row.try_get(0)).transpose()
}
