//! Removes the customer's data from messages that were sent to Telegram. This module enqueues edits of the messages,
//! because only a node with the bot can edit them.

use super::find::CustomerData;
use crate::domain::event::SubjectId;
use crate::infra::db::{QueryError, Transaction};
use crate::telegram::erased;
use crate::text::value::inline;
use crate::text::{catalog, html};

/// Enqueues an edit of each sent message about the customer's orders. The new text has only the number and the status
/// of the order. Returns the number of edits.
pub(super) async fn rewrite(transaction: &Transaction<'_>, found: &CustomerData) -> Result<u64, QueryError> {
    const MESSAGES: &str = "select m.chat_id, m.store_id, m.subject, m.message_id, m.event_id, coalesce(l.language, 'ru') \
         from vestnik.vst_message m left join vestnik.vst_chat_link l using (chat_id, store_id) \
         where m.subject = any ($1) and m.message_id <> 0 order by m.chat_id, m.message_id";
    const REWRITE: &str = "with rewritten as ( \
             insert into vestnik.vst_delivery (chat_id, message_id, words, buttons, urgent) values ($1, $2, $3, $4, false)) \
         update vestnik.vst_chat set waiting = true where id = $1";
    // Delete an earlier edit that was not sent yet, because the new edit replaces it.
    const EARLIER: &str = "delete from vestnik.vst_delivery where chat_id = $1 and message_id = $2 and words is not null \
         and state in ('pending', 'retrying')";
    let mut count = 0;
    for row in transaction.query(MESSAGES, &[&found.written()]).await? {
        let (chat, store, subject): (i64, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (message, event, language): (i32, i64, &str) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        let is_it = |id: &SubjectId| SubjectId::from_text(subject).is_some_and(|subject| subject == *id);
        let newest = found
            .newest
            .iter()
            .filter(|(_, it, _)| is_it(&it.id))
            .max_by_key(|(of, _, id)| (of.as_str() == store, *id));
        let text = match newest {
            Some((_, it, _)) => erased(language, store, it, event),
            None => continue,
        };
        transaction.execute(EARLIER, &[&chat, &message]).await?;
        transaction
            .execute(
                REWRITE,
                &[&chat, &message, &text.text, &serde_json::json!(text.buttons)],
            )
            .await?;
        count += 1;
    }
    Ok(count)
}

/// Replaces the saved text of each answer of the bot that contains the customer's data. An answer that was already sent
/// stays in its chat. Returns the number of replaced texts.
pub(super) async fn blank_replies(transaction: &Transaction<'_>, found: &CustomerData) -> Result<u64, QueryError> {
    const BLANK: &str = "update vestnik.vst_delivery d set words = $2 where d.words is not null and d.message_id is null \
         and exists (select from unnest($1::text[]) w (word) where strpos(d.words, w.word) > 0)";
    let words: Vec<String> = found
        .words
        .iter()
        .filter(|word| !word.trim().is_empty())
        .map(|word| html::render_template("{word}", &[("word", &inline(word))]))
        .collect();
    let text = catalog::of("en").get("erased.reply");
    Ok(transaction.execute(BLANK, &[&words, &text]).await?)
}

/// Counts the deliveries about the customer's orders: first those that a node is sending now, then those that are dead
/// (never sent again).
pub(super) async fn under_way(transaction: &Transaction<'_>, found: &CustomerData) -> Result<(i64, i64), QueryError> {
    const UNDER_WAY: &str = "select count(*) filter (where state = 'sending'), count(*) filter (where state = 'dead') \
         from vestnik.vst_delivery where subject = any ($1)";
    let row = transaction.query_one(UNDER_WAY, &[&found.written()]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
