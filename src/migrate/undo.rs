//! `vestnik migrate --undo v23`: restores the statuses from before V23, the migration that renamed `new` to `pending`,
//! and `confirmed` to `preparing`.
//!
//! A row that had one of the new statuses before V23, and still has it, is not changed. In every other row, `pending`
//! becomes `new`, and `preparing` becomes `confirmed`. So an unchanged row gets exactly its old status back. A row that
//! was written after V23 gets the status that the old application would have written.

use tokio_postgres::{Client, Transaction};

use super::reference_shop::{self, ShopWords};
use super::v23::{self, Rewrite};
use super::v23_names::{self, CONSTRAINTS, TABLES};
use super::{Error, Progress, SHOP, applied, connect, lock, triggers};
use crate::infra::config::Config;

/// Restores the statuses from before the migration V23. After an interruption, call it again.
pub async fn undo_v23(config: &Config, say: Progress<'_>) -> Result<(), Error> {
    let mut client = connect(config).await?;
    lock::acquire(&client, say).await?;
    let undone = undo(&mut client, config, say).await;
    lock::release(&client).await;
    undone
}

async fn undo(client: &mut Client, config: &Config, say: Progress<'_>) -> Result<(), Error> {
    // The table with the saved state exists even after an interrupted migration or undo.
    let kept = "select to_regclass('vestnik.vst_before_v23') is not null";
    let kept: bool = client.query_one(kept, &[]).await?.try_get(0)?;
    if !kept && !applied(client, &SHOP).await?.contains(&v23::VERSION) {
        return Err(Error::NotApplied);
    }
    lock::with_retries(client, say, async |client: &mut Client, _: Progress<'_>| {
        accept_old_statuses(client).await
    })
    .await?;
    for table in TABLES {
        for part in v23_names::parts(client, table).await? {
            let rewrite = Rewrite {
                set: "case status when 'pending' then 'new' else 'confirmed' end",
                which: which(table),
            };
            // The second pass changes rows that were locked during the first pass.
            let rewritten = v23::rewrite(client, &part, rewrite).await? + v23::rewrite(client, &part, rewrite).await?;
            say(&format!("{part}: put the old status of {rewritten} rows back"));
        }
    }
    let finished = lock::with_retries(client, say, async |client: &mut Client, _: Progress<'_>| {
        finish(client).await
    })
    .await?;
    if finished > 0 {
        say(&format!("put the old status of {finished} more rows back"));
    }
    // Install the functions, because an interrupted migration may not have done so. After that, attach the tables with
    // the old status words, which answers then write.
    lock::with_retries(client, say, async |client: &mut Client, say: Progress<'_>| {
        triggers::apply(client, &config.database, say).await
    })
    .await?;
    reference_shop::attach_as(client, ShopWords::BeforeV23, say).await?;
    say("V23 is undone; `vestnik migrate` would apply it again");
    Ok(())
}

/// Returns an SQL condition for the rows whose old status must be restored. These rows have a new status, but before
/// V23 they had another status, or did not exist.
fn which(table: &str) -> &'static str {
    match table {
        "public.orders" => {
            "status in ('pending', 'preparing') and not exists (select from vestnik.vst_before_v23 \
             where table_name = 'public.orders' and row_id = id::text and old_status = status::text)"
        }
        _ => {
            "status in ('pending', 'preparing') and not exists (select from vestnik.vst_before_v23 \
             where table_name = 'public.bookings' and row_id = id::text and old_status = status::text)"
        }
    }
}

/// Drops the constraints and defaults of the migration V23, so that the shop's tables accept the statuses from before
/// V23 again. Also deletes the record that V23 was applied, so that `vestnik migrate` applies V23 again. Changes no row of
/// the shop. Creates the table `vestnik.vst_before_v23` if it does not exist: it marks that an undo was started.
async fn accept_old_statuses(client: &mut Client) -> Result<(), Error> {
    // If V23 was interrupted, it has added no constraint. In this case, a constraint with this name belongs to the
    // shop.
    let was_applied = applied(client, &SHOP).await?.contains(&v23::VERSION);
    let transaction = client.transaction().await?;
    for (table, constraint) in CONSTRAINTS.iter().filter(|_| was_applied) {
        let sql = format!("alter table {table} drop constraint if exists {constraint}");
        transaction.batch_execute(&sql).await?;
    }
    for table in TABLES {
        let default = match old_default(&transaction, table).await? {
            Some(Some(expression)) => format!("set default {expression}"),
            Some(None) => "drop default".into(),
            None => "set default 'new'".into(),
        };
        transaction
            .batch_execute(&format!("alter table {table} alter column status {default}"))
            .await?;
    }
    transaction
        .batch_execute(
            "create table if not exists vestnik.vst_before_v23 (table_name text not null, row_id text not null, \
                 old_status text not null, primary key (table_name, row_id, old_status)); \
             delete from vestnik.vst_shop_history where version = 23",
        )
        .await?;
    Ok(transaction.commit().await?)
}

/// Reads the default status that the migration V23 saved. Outer `None`: no default is saved, so it was `new`. Inner
/// `None`: the column had no default.
async fn old_default(transaction: &Transaction<'_>, table: &str) -> Result<Option<Option<String>>, Error> {
    let kept = "select to_regclass('vestnik.vst_before_v23_default') is not null";
    if !transaction.query_one(kept, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let sql = "select expression from vestnik.vst_before_v23_default where table_name = $1";
    let row = transaction.query_opt(sql, &[&table]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Restores the old status of the rows that were locked until now, and drops the saved state. Returns the number of
/// changed rows.
async fn finish(client: &mut Client) -> Result<u64, Error> {
    let transaction = client.transaction().await?;
    let mut rewritten = 0;
    for table in TABLES {
        let which = which(table);
        let sql = format!(
            "update {table} set status = case status when 'pending' then 'new' else 'confirmed' end where {which}"
        );
        rewritten += transaction.execute(&sql, &[]).await?;
    }
    transaction
        .batch_execute("drop table vestnik.vst_before_v23; drop table if exists vestnik.vst_before_v23_default")
        .await?;
    transaction.commit().await?;
    Ok(rewritten)
}
