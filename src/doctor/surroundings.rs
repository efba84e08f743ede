//! Checks the environment of Vestnik: settings of the role and the database, clocks, prepared transactions, backups,
//! and nodes that have stopped.

use std::time::Duration;

use super::{Finding, ask, fail, note, ok};
use crate::infra::config::{Config, Notify};
use crate::infra::db::{self, Client};

/// A clock is reported if it differs from Postgres' clock by more than this many seconds. With NTP, the difference is
/// much smaller. With a larger difference, people would read wrong times.
const CLOCK_OFF_S: f64 = 2.0;
/// The names of the Postgres settings that end statements or transactions after some time.
const TIMEOUTS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
];

/// Reports settings of this role and database that prevent writes, or that end statements.
pub(super) async fn settings(client: &Client) -> Result<Vec<Finding>, db::QueryError> {
    // Vestnik overrides these settings for its own connection. So select the value without the override, and the
    // statement that removes the setting.
    const SETTINGS: &str = "select s.name, s.reset_val || coalesce(s.unit, ''), coalesce( \
           (select case when d.setrole = 0 then format('alter database %I reset %s', current_database(), s.name) \
                        when d.setdatabase = 0 then format('alter role %I reset %s', session_user, s.name) \
                        else format('alter role %I in database %I reset %s', session_user, current_database(), s.name) end \
            from pg_db_role_setting d where d.setrole in (0, (select oid from pg_roles where rolname = session_user)) \
              and d.setdatabase in (0, (select oid from pg_database where datname = current_database())) \
              and exists (select from unnest(d.setconfig) c where starts_with(lower(c), s.name || '=')) \
            order by d.setrole <> 0 desc, d.setdatabase <> 0 desc limit 1), \
           format('alter system reset %s; select pg_reload_conf()', s.name)) \
         from pg_settings s where s.reset_val not in ('0', 'off') and (s.name = 'default_transaction_read_only' or s.name = any ($1)) \
         order by s.name";
    let rows =
        db::with_timeout(async { Ok::<_, db::QueryError>(client.query(SETTINGS, &[&TIMEOUTS.as_slice()]).await?) });
    let mut findings = Vec::new();
    for row in &rows.await? {
        let (name, value, reset): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        findings.push(match name {
            "default_transaction_read_only" => fail(
                "settings",
                format!(
                    "{name} is on: applications that do not override it cannot write, so no order arrives; some providers set it when the \
                     disk is full: free the disk, then {reset}"
                ),
            ),
            _ => note(
                "settings",
                format!(
                    "{name} is {value} for this role: nodes override it, but it ends statements that a person runs: {reset}"
                ),
            ),
        });
    }
    if findings.is_empty() {
        findings.push(ok(
            "settings",
            "no setting of the role or the database refuses writes or ends statements",
        ));
    }
    Ok(findings)
}

/// Compares the clocks of this machine and of each node with the clock of Postgres.
pub(super) async fn clocks(client: &Client, is_migrated: bool) -> Result<Vec<Finding>, db::QueryError> {
    const NODES: &str = "select id, clock_ahead_s from vestnik.vst_node where abs(clock_ahead_s) > $1 order by id";
    let began = std::time::SystemTime::now();
    let theirs: f64 = ask(client, "select extract(epoch from clock_timestamp())::float8")
        .await?
        .try_get(0)?;
    let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let ours = (since(began).as_secs_f64() + since(std::time::SystemTime::now()).as_secs_f64()) / 2.0;
    let mut findings: Vec<Finding> = off("this machine's clock", ours - theirs).into_iter().collect();
    if is_migrated {
        let nodes = db::with_timeout(async { Ok::<_, db::QueryError>(client.query(NODES, &[&CLOCK_OFF_S]).await?) });
        for row in &nodes.await? {
            let (node, ahead_s): (&str, f64) = (row.try_get(0)?, row.try_get(1)?);
            findings.extend(off(&format!("the clock of node {node}"), ahead_s));
        }
    }
    if findings.is_empty() {
        findings.push(ok(
            "clocks",
            "the clocks of this machine, of the nodes and of Postgres agree",
        ));
    }
    Ok(findings)
}

fn off(whose: &str, ahead_s: f64) -> Option<Finding> {
    let way = if ahead_s > 0.0 { "ahead of" } else { "behind" };
    (ahead_s.abs() > CLOCK_OFF_S).then(|| {
        fail(
            "clocks",
            format!(
                "{whose} is {:.0} s {way} that of Postgres: times and vestnik_event_delivery_seconds are wrong; run an NTP client on both",
                ahead_s.abs()
            ),
        )
    })
}

/// Reports that the server allows prepared transactions (two-phase commit), because Postgres cannot prepare a
/// transaction that has executed NOTIFY. `None`: the server does not allow them, or writers do not notify.
pub(super) async fn prepared(config: &Config, client: &Client) -> Result<Option<Finding>, db::QueryError> {
    const MOST: &str = "select current_setting('max_prepared_transactions')::int";
    let most: i32 = ask(client, MOST).await?.try_get(0)?;
    Ok((most > 0 && config.database.notify != Notify::Off).then(|| {
        note(
            "two-phase",
            "max_prepared_transactions is above 0, and PREPARE TRANSACTION is refused after a NOTIFY: if an application prepares \
             transactions that write orders, set database.notify = \"off\"",
        )
    }))
}

/// Reports how the server's data is backed up, and how long the journal keeps events.
pub(super) async fn backups(config: &Config, client: &Client) -> Result<Finding, db::QueryError> {
    const COPIES: &str = "select current_setting('archive_mode') <> 'off', \
         coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), \
         (select count(*) from pg_stat_replication) from pg_stat_archiver";
    let days = config.journal.retention.as_secs() / (24 * 60 * 60);
    let kept = format!(
        "the journal keeps {days} days (journal.retention_days): restoring an older backup loses all events of the journal"
    );
    let row = ask(client, COPIES).await?;
    let (archives, fails, standbys): (bool, bool, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(match (archives, fails, standbys) {
        (true, true, _) => fail(
            "backup",
            format!("the newest WAL could not be archived: see archive_command in the server's log; {kept}"),
        ),
        (true, false, _) => ok("backup", format!("Postgres archives its WAL; {kept}")),
        (false, _, 1..) => note(
            "backup",
            format!(
                "{standbys} standbys replicate this server, but no WAL is archived, and a DELETE by mistake is replicated, too; {kept}"
            ),
        ),
        (false, ..) => note(
            "backup",
            format!(
                "Postgres archives no WAL and has no standby: if this disk fails, all data since your last dump is lost; set \
                 archive_mode, or dump more often; {kept}"
            ),
        ),
    })
}

/// Reports nodes that have not renewed their row in `vestnik.vst_node` in time.
pub(super) async fn silent_nodes(client: &Client) -> Result<Vec<Finding>, db::QueryError> {
    const SILENT: &str = "select id, extract(epoch from clock_timestamp() - until)::float8 from vestnik.vst_node \
         where until < clock_timestamp() order by id";
    let rows = db::with_timeout(async { Ok::<_, db::QueryError>(client.query(SILENT, &[]).await?) }).await?;
    let silent = |row: &tokio_postgres::Row| {
        let (node, overdue_s): (&str, f64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(fail(
            "nodes",
            format!(
                "node {node} is overdue for {overdue_s:.0} s: its process is stopped or was killed, or it cannot write to this \
                 database; start it again"
            ),
        ))
    };
    rows.iter().map(silent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_named_with_its_difference_and_small_ones_are_not() {
        assert_eq!(off("this machine's clock", 0.4), None);
        assert_eq!(off("this machine's clock", -1.9), None);
        let behind = off("the clock of node a", -7200.0).unwrap();
        assert!(
            behind
                .says
                .starts_with("the clock of node a is 7200 s behind that of Postgres"),
            "{}",
            behind.says
        );
        let ahead = off("this machine's clock", 3.0).unwrap();
        assert!(
            ahead
                .says
                .starts_with("this machine's clock is 3 s ahead of that of Postgres"),
            "{}",
            ahead.says
        );
    }
}
