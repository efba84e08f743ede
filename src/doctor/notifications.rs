//! Checks notifications: whether they arrive, which nodes listen, and whether other programs disturb the queue or the
//! locks.

use secrecy::SecretString;

use super::{Finding, ask, fail, ok};
use crate::feed::listener;
use crate::feed::suppression_locks::disturbance;
use crate::infra::config::{Config, Notify};
use crate::infra::db::{self, Client};
use crate::migrate;

/// If more than this share (0 to 1) of Postgres' notification queue is in use, a listener probably does not read its
/// notifications.
const QUEUE_USAGE: f64 = 0.1;
/// If a node has run no query on its LISTEN connection for this many seconds, the node counts as stopped. A running
/// node runs a query every 2 s.
const OVERDUE_S: f64 = 8.0;

/// Checks that a node listens, and that a test notification arrives at the address that nodes use for LISTEN.
pub(super) async fn examine(
    config: &Config,
    url: &SecretString,
    client: &Client,
) -> Result<Vec<Finding>, db::QueryError> {
    if config.database.notify == Notify::Off {
        let off = "switched off (database.notify): nodes read every 50 ms";
        return Ok(vec![ok("notifications", off)]);
    }
    // Look for nodes first. A node is recognized by its LISTEN connection, and the test opens a LISTEN connection, too.
    let mut findings = nodes(client).await?;
    findings.push(
        match listener::check_notifications(config.database.listen_url.as_ref().unwrap_or(url), url).await {
            Ok(()) => ok("notifications", "a test notification arrived"),
            Err(lost) => fail("notifications", lost.to_string()),
        },
    );
    Ok(findings)
}

/// Checks that at least one node listens, and that no listening node has stopped. A node is recognized by the query
/// that each node runs regularly, because an operator may have changed the node's application name.
async fn nodes(client: &Client) -> Result<Vec<Finding>, db::QueryError> {
    const NODES: &str = "select pid, coalesce(extract(epoch from clock_timestamp() - query_start), 0)::float8 from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid() \
           and (application_name = 'vestnik listener' or query like '%pg_listening_channels()%') order by pid";
    let rows = db::with_timeout(async { Ok::<_, db::QueryError>(client.query(NODES, &[]).await?) }).await?;
    let mut findings = vec![match rows.len() {
        0 => fail("nodes", "no node listens to this database: start `vestnik serve`"),
        1 => ok("nodes", "one node listens"),
        many => ok("nodes", format!("{many} nodes listen")),
    }];
    for row in &rows {
        let (pid, silent_s): (i32, f64) = (row.try_get(0)?, row.try_get(1)?);
        if silent_s > OVERDUE_S {
            let says = format!(
                "the node behind pid {pid} has sent no query for {silent_s:.0} s instead of 2 s: its process is stopped, or its \
                 machine is gone; start it again, its panels move to another node"
            );
            findings.push(fail("nodes", says));
        }
    }
    Ok(findings)
}

/// Checks how full the notification queue is, and names the connection that probably keeps the queue from shrinking.
pub(super) async fn queue(config: &Config, client: &Client) -> Result<Finding, db::QueryError> {
    let usage: f64 = ask(client, "select pg_notification_queue_usage()").await?.try_get(0)?;
    let says = format!("{:.0} % of the notification queue are in use", usage * 100.0);
    if usage <= QUEUE_USAGE.min(config.database.notify_queue_limit) {
        return Ok(ok("queue", says));
    }
    let end = match disturbance::oldest_transaction(client).await? {
        Some(oldest) => format!("the oldest transaction is {oldest}: end it with pg_terminate_backend"),
        None => "this role may not see the transaction: grant it pg_read_all_stats".to_owned(),
    };
    Ok(fail(
        "queue",
        format!(
            "{says}: a backend that listens is in an old transaction, and does not read; {end}. Above {:.0} % orders do not notify, and \
             when it is full, Postgres refuses every other NOTIFY",
            config.database.notify_queue_limit * 100.0
        ),
    ))
}

/// Checks that no other program holds the locks of nodes or of migrations.
pub(super) async fn locks(client: &Client) -> Result<Finding, db::QueryError> {
    let holders = disturbance::holders(client).await?;
    let mut problems: Vec<String> = holders
        .iter()
        .map(|holder| {
            let disturbance::Holder { pid, who, effect } = holder;
            format!("pid {pid} ({who}) holds a lock of the nodes: {effect}; select pg_terminate_backend({pid})")
        })
        .collect();
    if let Some(holder) = migrate::holder(client).await?.filter(|holder| !holder.is_migration) {
        problems.push(holder.says);
    }
    Ok(match problems.as_slice() {
        [] => ok("locks", "no other client holds a lock of the nodes"),
        problems => fail("locks", problems.join("; ")),
    })
}
