//! Installs the functions in `triggers/*.sql`. A file is applied if its text differs from the text that the database
//! has recorded. `sources::trigger` installs the trigger functions of the attached tables.

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, Transaction};

use super::{Error, Progress};
use crate::infra::config::{Database, Notify};

/// Files in `triggers/` with their texts, in the order in which they are applied. A file may use functions of the files
/// before it.
const FILES: [(&str, &str); 2] = [
    ("triggers/notify.sql", include_str!("../../triggers/notify.sql")),
    ("triggers/values.sql", include_str!("../../triggers/values.sql")),
];

const IN_FORCE: &str = "select from vestnik.vst_code where file = $1 and fingerprint = $2";

/// Applies the changed files and settings in one transaction. Returns whether anything changed.
pub async fn apply(client: &mut Client, database: &Database, say: Progress<'_>) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    let mut changed = false;
    for (file, text) in FILES {
        let fingerprint = hex(&Sha256::digest(text));
        let there = transaction.query_opt(IN_FORCE, &[&file, &fingerprint]).await?;
        if there.is_some() {
            continue;
        }
        transaction.batch_execute(text).await?;
        transaction
            .execute(
                "insert into vestnik.vst_code (file, fingerprint) values ($1, $2) \
                 on conflict (file) do update set fingerprint = excluded.fingerprint, applied_at = now()",
                &[&file, &fingerprint],
            )
            .await?;
        say(&format!("applied {file}"));
        changed = true;
    }
    changed |= set_notify(&transaction, database, say).await?;
    transaction.commit().await?;
    Ok(changed)
}

/// Writes the settings of NOTIFY into SQL functions, so that the triggers need no query to read them. Returns whether a
/// setting changed.
async fn set_notify(transaction: &Transaction<'_>, database: &Database, say: Progress<'_>) -> Result<bool, Error> {
    let now = transaction
        .query_one(
            "select vestnik.vst_notify_enabled(), vestnik.vst_notify_lock_key()",
            &[],
        )
        .await?;
    let (notify_enabled, notify_lock_key): (bool, i32) = (now.try_get(0)?, now.try_get(1)?);
    let notify = database.notify == Notify::On;
    if notify_enabled != notify {
        let body = format!(
            "create or replace function vestnik.vst_notify_enabled() returns boolean language sql immutable parallel safe \
             as 'select {notify}'"
        );
        transaction.batch_execute(&body).await?;
        say(if notify {
            "notifications are on"
        } else {
            "notifications are off: the engine polls"
        });
    }
    if notify_lock_key != database.notify_lock_key {
        let body = format!(
            "create or replace function vestnik.vst_notify_lock_key() returns integer language sql immutable parallel safe \
             as 'select {}'",
            database.notify_lock_key
        );
        transaction.batch_execute(&body).await?;
        say(&format!(
            "the advisory locks of NOTIFY suppression begin with {} now",
            database.notify_lock_key
        ));
    }
    Ok(notify_enabled != notify || notify_lock_key != database.notify_lock_key)
}

/// Reports through `say` the files that [`apply`] would apply.
pub async fn describe_pending(client: &Client, say: Progress<'_>) -> Result<(), Error> {
    let there = "select to_regclass('vestnik.vst_code') is not null";
    let there: bool = client.query_one(there, &[]).await?.try_get(0)?;
    for (file, text) in FILES {
        let fingerprint = hex(&Sha256::digest(text));
        if !there || client.query_opt(IN_FORCE, &[&file, &fingerprint]).await?.is_none() {
            say(&format!("would apply {file}"));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
