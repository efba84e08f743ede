//! Examines a database, and reports each problem with its remedy. The checks only read and wait for no locks, so
//! `vestnik doctor` may run at any time, even when the shop is busy.

mod bot;
mod canary;
mod notifications;
mod surroundings;
mod webhooks;

use std::time::Duration;

use secrecy::SecretString;
use tokio_postgres::Row;

use crate::domain::status::SubjectKind;
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::db::Client;
use crate::migrate;
use crate::sources::health::{self, Health};

/// The oldest supported major version of Postgres. Older versions lack functions that the SQL for reading the journal
/// uses.
const OLDEST_POSTGRES: i32 = 14;
/// Maximum number of old transactions that are reported.
const NAMED_TRANSACTIONS: i64 = 20;
/// If more than this share (0 to 1) of the server's connections is in use, there may be no connection left for another
/// node.
const CONNECTION_USAGE: f64 = 0.9;

/// Whether the operator must act on a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The checked part is in order.
    Ok,
    /// Nothing is wrong now, but the operator should know the finding.
    Note,
    /// The operator must act. The finding says what to do.
    Fail,
}

/// The result of one check, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the operator must act.
    pub severity: Severity,
    /// The name of the checked part, such as `connections` or a table.
    pub subject: String,
    /// The state of the checked part in one line, with the remedy if something is wrong.
    pub says: String,
}

fn ok(subject: &str, says: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Ok,
        subject: subject.into(),
        says: says.into(),
    }
}

fn note(subject: &str, says: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Note,
        ..ok(subject, says)
    }
}

fn fail(subject: &str, says: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Fail,
        ..ok(subject, says)
    }
}

/// Runs all checks on the configured database. Reports transactions that are older than `old`. An error means that the
/// checks could not run.
pub async fn examine(config: &Config, old: Duration) -> Result<Vec<Finding>, db::QueryError> {
    let url = config.database.url.as_ref().ok_or(db::Error::Missing)?;
    let client = db::connect_as(url, "doctor").await?;
    let mut findings = server(&client).await?;
    findings.extend(surroundings::settings(&client).await?);
    findings.push(surroundings::backups(config, &client).await?);
    findings.push(connection(url, &client).await?);
    let schema = schema(config, &client).await?;
    let is_migrated = schema.severity == Severity::Ok;
    findings.push(schema);
    if is_migrated {
        findings.extend(tables(config, &client).await?);
        findings.extend(notifications::examine(config, url, &client).await?);
        findings.extend(surroundings::silent_nodes(&client).await?);
        findings.push(canary::examine(&client).await?);
        findings.push(webhooks::examine(&client).await?);
        if let Some(telegram) = &config.telegram {
            findings.extend(bot::examine(telegram, &client).await?);
        }
    }
    findings.push(notifications::queue(config, &client).await?);
    if is_migrated {
        findings.push(notifications::locks(&client).await?);
    }
    findings.extend(surroundings::clocks(&client, is_migrated).await?);
    findings.extend(surroundings::prepared(config, &client).await?);
    findings.extend(transactions(&client, old).await?);
    Ok(findings)
}

async fn ask(client: &Client, sql: &str) -> Result<Row, db::QueryError> {
    db::with_timeout(async { Ok(client.query_one(sql, &[]).await?) }).await
}

/// Checks the server: its version, its free connections, and whether it keeps committed transactions after a crash.
async fn server(client: &Client) -> Result<Vec<Finding>, db::QueryError> {
    const SERVER: &str = "select current_setting('server_version'), current_setting('server_version_num')::int / 10000, \
         pg_is_in_recovery(), \
         array(select name from pg_settings where setting = 'off' and name in ('fsync', 'full_page_writes', 'synchronous_commit')), \
         (select sum(numbackends) from pg_stat_database)::float8, \
         (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)::float8";
    let row = ask(client, SERVER).await?;
    let (version, major): (&str, i32) = (row.try_get(0)?, row.try_get(1)?);
    let server = if major < OLDEST_POSTGRES {
        fail(
            "server",
            format!("PostgreSQL {version}: {OLDEST_POSTGRES} or newer is needed"),
        )
    } else if row.try_get(2)? {
        fail(
            "server",
            format!("PostgreSQL {version}, a standby: give the address of the primary"),
        )
    } else {
        ok("server", format!("PostgreSQL {version}"))
    };
    let off: Vec<&str> = row.try_get(3)?;
    let durability = match off.as_slice() {
        [] => ok("durability", "what is committed is on the disk"),
        off => fail(
            "durability",
            format!(
                "off: {}; a crash may take back orders that were delivered: turn it on",
                off.join(", ")
            ),
        ),
    };
    let (used, most): (f64, f64) = (row.try_get(4)?, row.try_get(5)?);
    let connections = format!("{used} of {most} are in use");
    let connections = match used / most > CONNECTION_USAGE {
        true => fail(
            "connections",
            format!("{connections}: raise max_connections, or let applications pool theirs"),
        ),
        false => ok("connections", connections),
    };
    Ok(vec![server, durability, connections])
}

/// Checks whether an attacker on the network could read the traffic between Vestnik and Postgres. Also reports
/// parameters of the URL that Vestnik ignores.
async fn connection(url: &SecretString, client: &Client) -> Result<Finding, db::QueryError> {
    const ENCRYPTED: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let address = db::parse(url, "doctor")?;
    let mut says = address.tls.to_string();
    // Through a pooler, `pg_stat_ssl` describes only the connection between the pooler and Postgres.
    if client.is_pooled() {
        says = format!("{says}; a pooler stands before Postgres");
    } else if address.tls.is_open() && !ask(client, ENCRYPTED).await?.try_get::<_, bool>(0)? {
        says = format!("in plain text; {says}");
    }
    if !address.ignored.is_empty() {
        says = format!("{says}; ignored of the URL: {}", address.ignored.join(", "));
    }
    Ok(match address.tls.is_open() || !address.ignored.is_empty() {
        true => note("connection", says),
        false => ok("connection", says),
    })
}

async fn schema(config: &Config, client: &Client) -> Result<Finding, db::QueryError> {
    let there = ask(client, "select to_regclass('vestnik.vst_source') is not null").await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(fail(
            "schema",
            "there is none of ours in this database: run `vestnik migrate`",
        ));
    }
    let mut would = Vec::new();
    Ok(
        match migrate::dry_run(config, &mut |line| would.push(line.to_owned())).await {
            Err(error) => fail("schema", error.to_string().replace('\n', " ")),
            Ok(()) if would.is_empty() => ok("schema", "nothing to migrate"),
            Ok(()) => fail("schema", format!("`vestnik migrate` {}", would.join(", "))),
        },
    )
}

async fn tables(config: &Config, client: &Client) -> Result<Vec<Finding>, db::QueryError> {
    let sources = db::with_timeout(health::check(client)).await?;
    if sources.is_empty() {
        let none = "no table is attached, so there are no events: run `vestnik attach --table public.orders`";
        return Ok(vec![fail("sources", none)]);
    }
    let mut findings: Vec<Finding> = sources.iter().flat_map(source).collect();
    let unsigned: Vec<&str> = sources
        .iter()
        .filter(|source| source.calls_shop_api && config.answers.secrets.is_empty())
        .map(|source| source.name.as_str())
        .collect();
    if !unsigned.is_empty() {
        let says = "answers go to the shop's API, and no request is sent unsigned: set answers.secret on every node, and give it to the API";
        findings.push(fail("answers", format!("of {}: {says}", unsigned.join(", "))));
    }
    Ok(findings)
}

fn source(health: &Health) -> Vec<Finding> {
    let mut findings: Vec<Finding> = health
        .troubles
        .iter()
        .map(|trouble| fail(&health.table, trouble))
        .collect();
    if findings.is_empty() {
        let kind = health.kind.map_or("row", SubjectKind::as_str);
        findings.push(ok(
            &health.table,
            format!("each {kind} is an event of source {}", health.name),
        ));
    }
    findings.extend(health.notes.iter().map(|note| ok(&health.table, note)));
    findings
}

/// Reports old transactions and unused replication slots, because they keep vacuum from removing old rows. The report
/// leaves out the text of queries, because it may contain a customer's name.
async fn transactions(client: &Client, old: Duration) -> Result<Vec<Finding>, db::QueryError> {
    const OLD: &str = "select * from ( \
           select format('pid %s (%s), a transaction of role %s, %s', pid, coalesce(nullif(application_name, ''), 'unnamed'), usename, state), \
             extract(epoch from clock_timestamp() - xact_start)::float8 as age_s, format('select pg_terminate_backend(%s)', pid) \
           from pg_stat_activity where backend_type = 'client backend' and xact_start is not null \
           union all \
           select format('%L, a prepared transaction of role %s', gid, owner), \
             extract(epoch from clock_timestamp() - prepared)::float8, format('rollback prepared %L, or commit it', gid) \
           from pg_prepared_xacts) held \
         where age_s > $1 order by age_s desc limit $2";
    const SLOTS: &str = "select slot_name::text from pg_replication_slots \
         where not active and (xmin is not null or catalog_xmin is not null) order by slot_name";
    const SEES_ALL: &str = "select pg_has_role('pg_read_all_stats', 'usage')";
    let held = db::with_timeout(async {
        let limits: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&old.as_secs_f64(), &NAMED_TRANSACTIONS];
        Ok::<_, db::QueryError>((client.query(OLD, &limits).await?, client.query(SLOTS, &[]).await?))
    });
    let (transactions, slots) = held.await?;
    let mut findings = Vec::new();
    for row in &transactions {
        let (who, age_s, end): (&str, f64, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let says = format!("{who}, is {age_s:.0} s old, and vacuum waits for it: {end}");
        findings.push(fail("transactions", says));
    }
    for row in &slots {
        let slot: &str = row.try_get(0)?;
        let says = format!(
            "the replication slot {slot} has nobody who reads it, and vacuum waits for it: pg_drop_replication_slot"
        );
        findings.push(fail("transactions", says));
    }
    if findings.is_empty() {
        let age = old.as_secs();
        findings.push(match ask(client, SEES_ALL).await?.try_get(0)? {
            true => ok("transactions", format!("none is older than {age} s")),
            false => ok(
                "transactions",
                format!("none of this role's is older than {age} s; to see others', grant it pg_read_all_stats"),
            ),
        });
    }
    Ok(findings)
}
