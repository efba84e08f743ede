//! `triggers/*.sql` are code: each file is applied when its text differs from what the database remembers.

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, Transaction};

use super::{Error, Say, lock};
use crate::config::{Database, Notify};

/// In the order in which they need one another.
const FILES: [(&str, &str); 8] = [
    ("triggers/emit.sql", include_str!("../../triggers/emit.sql")),
    ("triggers/orders.sql", include_str!("../../triggers/orders.sql")),
    ("triggers/bookings.sql", include_str!("../../triggers/bookings.sql")),
    ("triggers/payload.sql", include_str!("../../triggers/payload.sql")),
    ("triggers/altered.sql", include_str!("../../triggers/altered.sql")),
    ("triggers/functions.sql", include_str!("../../triggers/functions.sql")),
    ("triggers/attach.sql", include_str!("../../triggers/attach.sql")),
    ("triggers/clock.sql", include_str!("../../triggers/clock.sql")),
];

const IN_FORCE: &str = "select from vestnik.code where file = $1 and fingerprint = $2";

/// Applies what changed, and then attaches again the tables for which that made a difference. All or nothing.
pub async fn apply(client: &mut Client, database: &Database, say: Say<'_>) -> Result<bool, Error> {
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
                "insert into vestnik.code (file, fingerprint) values ($1, $2) \
                 on conflict (file) do update set fingerprint = excluded.fingerprint, applied_at = now()",
                &[&file, &fingerprint],
            )
            .await?;
        say(&format!("applied {file}"));
        changed = true;
    }
    changed |= set_bell(&transaction, database, say).await?;
    let attached: i64 = transaction
        .query_one("select vestnik.reattach_all()", &[])
        .await?
        .try_get(0)?;
    if attached > 0 {
        say(&format!("attached {attached} tables again"));
        changed = true;
    }
    transaction.commit().await?;
    Ok(changed)
}

/// Writes what the settings say of the bell into functions, which cost the triggers nothing.
async fn set_bell(transaction: &Transaction<'_>, database: &Database, say: Say<'_>) -> Result<bool, Error> {
    let now = transaction
        .query_one("select vestnik.rings(), vestnik.bell_lock()", &[])
        .await?;
    let (rings, bell_lock): (bool, i32) = (now.try_get(0)?, now.try_get(1)?);
    let notify = database.notify == Notify::On;
    if rings != notify {
        let body = format!(
            "create or replace function vestnik.rings() returns boolean language sql immutable parallel safe \
             as 'select {notify}'"
        );
        transaction.batch_execute(&body).await?;
        say(if notify {
            "notifications are on"
        } else {
            "notifications are off: the engine polls"
        });
    }
    if bell_lock != database.bell_lock {
        let body = format!(
            "create or replace function vestnik.bell_lock() returns integer language sql immutable parallel safe \
             as 'select {}'",
            database.bell_lock
        );
        transaction.batch_execute(&body).await?;
        say(&format!("the bell's locks begin with {} now", database.bell_lock));
    }
    Ok(rings != notify || bell_lock != database.bell_lock)
}

/// Says what [`apply`] would apply.
pub async fn tell(client: &Client, say: Say<'_>) -> Result<(), Error> {
    let there = "select to_regclass('vestnik.code') is not null";
    let there: bool = client.query_one(there, &[]).await?.try_get(0)?;
    for (file, text) in FILES {
        let fingerprint = hex(&Sha256::digest(text));
        if !there || client.query_opt(IN_FORCE, &[&file, &fingerprint]).await?.is_none() {
            say(&format!("would apply {file}"));
        }
    }
    Ok(())
}

/// Attaches the reference shop's tables.
pub async fn attach_reference_shop(client: &mut Client, say: Say<'_>) -> Result<bool, Error> {
    const ATTACH: &str = "select vestnik.attach($1, $2)";
    let mut changed = false;
    for (table, kind) in [("public.orders", "order"), ("public.bookings", "booking")] {
        // Attached already, perhaps to other columns: that is the shop's choice.
        let there = client
            .query_opt("select from vestnik.attachment where table_name = $1", &[&table])
            .await?;
        if there.is_none() {
            lock::patiently(client, say, async |client: &mut Client, _: Say<'_>| {
                Ok(client.execute(ATTACH, &[&table, &kind]).await?)
            })
            .await?;
            say(&format!("attached {table}"));
            changed = true;
        }
    }
    Ok(changed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
