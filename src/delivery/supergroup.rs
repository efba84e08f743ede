//! Handles a Telegram group that became a supergroup. A supergroup has a new chat id.

use crate::infra::db::{Pool, Transaction};

use super::chat_state;
use super::lane::ChatId;
use crate::infra::db::{self, QueryError};
use crate::sources::registry::Registry;

/// Handles Telegram's message that the group `from` has the new chat id `to`. If the chat was disabled, it is enabled,
/// and gets the orders that it missed. Returns whether the database knows the old id.
pub async fn migrated(pool: &Pool, sources: &Registry, from: i64, to: i64) -> Result<bool, QueryError> {
    const CHAT: &str = "select id from vestnik.vst_chat where telegram_id = $1 for no key update";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let Some(row) = transaction.query_opt(CHAT, &[&from]).await? else {
            return Ok(false);
        };
        let chat = ChatId(row.try_get(0)?);
        let sources = sources.in_force(&transaction).await?;
        let chats = chat_state::back(&transaction, &sources, chat).await?;
        migrate(&transaction, chat, to).await?;
        transaction.commit().await?;
        chats.wake(&client).await?;
        Ok(true)
    })
    .await
}

/// Gives a chat its new id at Telegram. If another row of `vestnik.vst_chat` already has this id, the open deliveries
/// and links move to that row. Sent messages cannot be edited any more, because messages have new ids in the
/// supergroup.
pub(super) async fn migrate(transaction: &Transaction<'_>, chat: ChatId, telegram_id: i64) -> Result<(), QueryError> {
    for forget in [
        "update vestnik.vst_message set message_id = 0 where chat_id = $1",
        "delete from vestnik.vst_list_button where chat_id = $1",
    ] {
        transaction.execute(forget, &[&chat.0]).await?;
    }
    let there = "select id from vestnik.vst_chat where telegram_id = $1 and id <> $2 for no key update";
    let Some(row) = transaction.query_opt(there, &[&telegram_id, &chat.0]).await? else {
        let renumber = "update vestnik.vst_chat set telegram_id = $2, waiting = true where id = $1";
        transaction.execute(renumber, &[&chat.0, &telegram_id]).await?;
        return Ok(());
    };
    let other: i64 = row.try_get(0)?;
    for sql in [
        "update vestnik.vst_chat_link l set chat_id = $2 where chat_id = $1 \
           and not exists (select from vestnik.vst_chat_link o where o.chat_id = $2 and o.store_id = l.store_id)",
        "update vestnik.vst_delivery d set chat_id = $2 where chat_id = $1 and state in ('pending', 'sending', 'retrying') \
           and keyboard is null and not exists (select from vestnik.vst_delivery o where o.chat_id = $2 \
             and (o.event_id = d.event_id or o.about_id = d.about_id and o.note = d.note or o.alarm_id = d.alarm_id and o.alarm_ends = d.alarm_ends))",
        "update vestnik.vst_delivery set state = 'dead', reason = 'its chat ' || $2::bigint || ' has it, too', \
           completed_at = clock_timestamp() where chat_id = $1 and state in ('pending', 'sending', 'retrying')",
        "update vestnik.vst_chat set waiting = true, disabled_at = null, disabled_why = null \
           where id = $2 and $1::bigint is not null",
        "delete from vestnik.vst_chat_link where chat_id = $1 and $2::bigint is not null",
    ] {
        transaction.execute(sql, &[&chat.0, &other]).await?;
    }
    Ok(())
}
