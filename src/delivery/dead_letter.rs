//! Marks deliveries that cannot be read as dead, so that they do not block the chat's other deliveries.

use std::error::Error as _;

use crate::infra::db::{Client, Lent};

use super::event_view::is_readable;
use super::lane::ChatId;
use super::lane::Lane;
use crate::infra::db::{self, QueryError};
use crate::sources::Sources;

/// To find the unreadable deliveries of a chat, at most this many deliveries are checked, one by one.
const SUSPECTS: i64 = 200;
/// Sometimes no message can be chosen in a chat's lane (new messages, or edits), although each delivery of the lane can
/// be read. Then the lane pauses for this time, seconds.
const CHAT_PAUSE_S: f64 = 30.0;

/// Whether an error concerns all chats, because Postgres is busy or not reached. Any other error has its cause in the
/// chat's deliveries, and another attempt would fail, too.
pub(super) fn is_transient(error: &QueryError) -> bool {
    match error {
        QueryError::Postgres(error) => {
            error.is_closed()
                || error.code().is_none() && error.source().is_some_and(|source| source.is::<std::io::Error>())
        }
        QueryError::Inconsistent(_) => false,
        _ => true,
    }
}

/// Finds the deliveries of a chat in one lane (new messages, or edits) that cannot be read, and marks them as dead. If
/// all deliveries can be read, the lane pauses for `CHAT_PAUSE_S`. `error` is the error that occurred when the next
/// message was chosen.
pub(super) async fn dead_letter(
    client: &mut Lent,
    sources: &Sources,
    chat: ChatId,
    lane: Lane,
    error: &QueryError,
) -> Result<(), QueryError> {
    const DEAD: &str = "update vestnik.vst_delivery set state = 'dead', completed_at = clock_timestamp(), \
             reason = 'its event cannot be read' where id = any ($1)";
    let open = format!(
        "select d.id from vestnik.vst_delivery d where d.chat_id = $1 and d.state in ('pending', 'sending', 'retrying') and {} \
         order by d.urgent desc, d.id limit $2",
        lane.has()
    );
    let mut unreadable = Vec::new();
    for row in client.query(&open, &[&chat.0, &SUSPECTS]).await? {
        let delivery: i64 = row.try_get(0)?;
        if !can_be_read(client, sources, delivery).await? {
            unreadable.push(delivery);
        }
    }
    metrics::counter!("vestnik_telegram_sends_total", "outcome" => "dead_lettered").increment(unreadable.len() as u64);
    if unreadable.is_empty() {
        tracing::error!(%error, chat = chat.0, pause_s = CHAT_PAUSE_S, "what waits for a chat cannot be read: the chat waits");
        return postpone(client, chat, lane).await;
    }
    tracing::error!(%error, chat = chat.0, deliveries = ?unreadable, "deliveries of a chat cannot be read: they are dead letters");
    client.execute(DEAD, &[&unreadable]).await?;
    Ok(())
}

/// Whether a delivery can be read. `Err`: Postgres is busy or not reached, so the answer is not known.
async fn can_be_read(client: &mut Lent, sources: &Sources, delivery: i64) -> Result<bool, QueryError> {
    let mut transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    match is_readable(&mut transaction, sources, delivery).await {
        Ok(()) => Ok(true),
        Err(error) if is_transient(&error) => Err(error),
        Err(_) => Ok(false),
    }
}

async fn postpone(client: &Client, chat: ChatId, lane: Lane) -> Result<(), QueryError> {
    let postpone = format!(
        "update vestnik.vst_chat set {next_at} = greatest({next_at}, clock_timestamp() + make_interval(secs => $2)) where id = $1",
        next_at = lane.columns().next_at
    );
    client.execute(&postpone, &[&chat.0, &CHAT_PAUSE_S]).await?;
    Ok(())
}
