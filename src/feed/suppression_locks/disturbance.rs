//! Detects when other Postgres sessions disturb NOTIFY suppression: they fill the notification queue, or hold the
//! advisory locks of NOTIFY suppression. Any role that may connect to the database can do this.

use tokio_postgres::Row;

use crate::infra::db::{self, GenericClient, Pool, QueryError};

/// The result of one check of the notification queue and the writer lock. Each node checks once a second.
#[derive(Debug, Clone, Copy)]
pub struct QueueCheck {
    /// Used share of Postgres' notification queue, 0 to 1. All databases of the server share the queue, and a full
    /// queue makes COMMIT fail.
    pub queue_usage: f64,
    /// Whether a writer would be denied the writer lock now. It would then not notify, so an idle node would miss its
    /// event.
    pub is_refused: bool,
}

/// Checks the notification queue and the writer lock. The check requests the lock in the same way as a writer. Postgres
/// releases the lock when the statement ends.
pub async fn check_queue(pool: &Pool) -> Result<QueueCheck, QueryError> {
    const CHECK: &str = "select pg_notification_queue_usage(), \
         not pg_try_advisory_xact_lock_shared(vestnik.vst_notify_lock_key(), 1)";
    db::with_timeout(async {
        let row = pool.get().await?.query_one(CHECK, &[]).await?;
        Ok(QueueCheck {
            queue_usage: row.try_get(0)?,
            is_refused: row.try_get(1)?,
        })
    })
    .await
}

/// A Postgres backend that belongs to no node, but holds one of the two advisory locks of NOTIFY suppression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process id of the backend.
    pub pid: i32,
    /// The backend's application name and role, for the log. Neither is a customer's data.
    pub who: String,
    /// The effect of the held lock on nodes and writers, for the log, such as `no node can go idle`.
    pub effect: &'static str,
}

/// Lists the backends that belong to no node, but hold one of the two advisory locks of NOTIFY suppression. A backend
/// belongs to a node if it has a node's application name, and its role may read the journal. The name alone proves
/// nothing, because any client can choose it.
pub async fn holders(client: &impl GenericClient) -> Result<Vec<Holder>, QueryError> {
    const HOLDERS: &str = "select l.pid, format('%s, role %s', coalesce(nullif(a.application_name, ''), 'unnamed'), a.usename), \
           l.objid = 1, l.mode = 'ExclusiveLock' \
         from pg_locks l left join pg_stat_activity a using (pid) \
         where l.locktype = 'advisory' and l.objsubid = 2 and l.classid = vestnik.vst_notify_lock_key()::oid \
           and l.database = (select oid from pg_database where datname = current_database()) \
           and (l.objid = 1 and l.mode = 'ExclusiveLock' or l.objid = 2 and l.granted) \
           and not coalesce(a.application_name in ('vestnik listener', 'vestnik suppressor') \
                            and has_table_privilege(a.usesysid, 'vestnik.vst_event', 'select'), false) \
         order by l.pid, l.objid";
    let rows = db::with_timeout(async { Ok::<_, QueryError>(client.query(HOLDERS, &[]).await?) }).await?;
    let holder = |row: &Row| {
        Ok(Holder {
            pid: row.try_get(0)?,
            who: row.try_get(1)?,
            effect: match (row.try_get(2)?, row.try_get(3)?) {
                (true, _) => "writers do not notify, and nodes poll every 50 ms",
                (false, true) => "no node can go idle, and every node polls every 50 ms",
                (false, false) => {
                    "no node can suppress NOTIFY, neither under load nor when the notification queue fills up"
                }
            },
        })
    };
    rows.iter().map(holder).collect()
}

/// Describes the backend with the oldest transaction of the server, for the log. Such a backend may be the cause of a
/// full notification queue: a listening connection in an open transaction prevents the queue's cleanup. Postgres does
/// not show which connections listen. `None`: the role of this connection sees no transaction.
pub async fn oldest_transaction(client: &impl GenericClient) -> Result<Option<String>, QueryError> {
    const OLDEST: &str = "select format('pid %s (%s, role %s, database %s), in a transaction for %s s', pid, \
           coalesce(nullif(application_name, ''), 'unnamed'), usename, datname, extract(epoch from clock_timestamp() - xact_start)::bigint) \
         from pg_stat_activity where backend_type = 'client backend' and xact_start is not null and pid <> pg_backend_pid() \
         order by xact_start limit 1";
    let row = db::with_timeout(async { Ok::<_, QueryError>(client.query_opt(OLDEST, &[]).await?) }).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
