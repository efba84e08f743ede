//! Lists the linked chats for an operator, and sends a test message to a linked chat.

use crate::infra::db::Client;

use crate::infra::db::QueryError;

/// If a chat's pause is longer than this many seconds, Telegram has requested it with HTTP status 429 (too many
/// requests). Vestnik's own pauses are not longer than this.
pub const LONG_PAUSE_S: f64 = 60.5;
/// SQL for the seconds until the chat with table alias `c` may get its next message. 0: now.
const PAUSE_S: &str = "greatest(0, extract(epoch from c.next_at - clock_timestamp()))::float8";

/// A chat's link to a store, as the operator's list of chats shows it. Ages are in seconds.
#[derive(Debug)]
pub struct ListedChat {
    /// The store's id.
    pub store: String,
    /// The store's display name. `None`: the store has none.
    pub store_name: Option<String>,
    /// The name of the link's mode. The mode decides which of the store's orders the chat gets.
    pub mode: String,
    /// The language of the store's messages in this chat, such as `ru`.
    pub language: String,
    /// The chat's id at Telegram.
    pub telegram_id: i64,
    /// The chat's title at Telegram. `None`: the title is not known.
    pub title: Option<String>,
    /// The id of the forum topic that messages go to. `None`: no topic.
    pub topic: Option<i32>,
    /// The reason why the chat takes no messages any more, and the seconds since the chat was disabled. `None`: the
    /// chat is not disabled.
    pub disabled: Option<(String, f64)>,
    /// The reason why the bot may not write to the chat now, and the seconds since the chat was blocked. `None`: the
    /// bot may write.
    pub blocked: Option<(String, f64)>,
    /// The number of deliveries to the chat that are not sent yet.
    pub open: i64,
    /// The age of the oldest delivery that is not sent yet, seconds. 0: every delivery is sent.
    pub open_s: f64,
    /// The newest error of a send to the chat, and its age in seconds. `None`: no error.
    pub error: Option<(String, f64)>,
    /// Seconds until the chat may get its next message. 0: the chat may get a message now.
    pub throttled_s: f64,
}

/// Reads every link between a chat and a store, ordered by the store's id.
pub async fn list(client: &Client) -> Result<Vec<ListedChat>, QueryError> {
    let list = format!(
        "select l.store_id, l.mode, l.language, c.telegram_id, c.title, l.thread_id, \
             c.disabled_why, extract(epoch from clock_timestamp() - c.disabled_at)::float8, \
             l.blocked_why, extract(epoch from clock_timestamp() - l.blocked_at)::float8, \
             o.count, coalesce(o.age_s, 0)::float8, \
             case when c.error_thread is not distinct from l.thread_id then c.error end, extract(epoch from clock_timestamp() - c.error_at)::float8, \
             {PAUSE_S}, s.name \
         from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id \
         left join vestnik.vst_store s on s.id = l.store_id cross join lateral ( \
             select count(*), extract(epoch from clock_timestamp() - min(d.waits_since)) as age_s from vestnik.vst_delivery d \
             where d.chat_id = c.id and d.state in ('pending', 'sending', 'retrying') \
               and coalesce(d.store_id, l.store_id) = l.store_id) o \
         order by l.store_id, l.linked_at"
    );
    let rows = client.query(&list, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let since = |what: usize| {
            let (why, since): (Option<String>, Option<f64>) = (row.try_get(what)?, row.try_get(what + 1)?);
            Ok::<_, tokio_postgres::Error>(why.zip(since))
        };
        Ok(ListedChat {
            store: row.try_get(0)?,
            store_name: row.try_get(15)?,
            mode: row.try_get(1)?,
            language: row.try_get(2)?,
            telegram_id: row.try_get(3)?,
            title: row.try_get(4)?,
            topic: row.try_get(5)?,
            disabled: since(6)?,
            blocked: since(8)?,
            open: row.try_get(10)?,
            open_s: row.try_get(11)?,
            error: since(12)?,
            throttled_s: row.try_get(14)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Enqueues a test message for a store's chat, in the same queue as messages about orders. `chat` is the chat's id at
/// Telegram. Returns the id of the delivery. `None`: the chat is not linked to the store, or is disabled.
pub async fn test(client: &Client, store: &str, chat: i64, html: &str) -> Result<Option<i64>, QueryError> {
    const TEST: &str = "with link as (select l.chat_id, l.thread_id from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id \
             where l.store_id = $1 and c.telegram_id = $2 and c.disabled_at is null), \
         marked as (update vestnik.vst_chat set waiting = true where id in (select chat_id from link)) \
         insert into vestnik.vst_delivery (chat_id, words, thread_id, urgent) select chat_id, $3, thread_id, true from link returning id";
    let row = client.query_opt(TEST, &[&store, &chat, &html]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The state of the delivery of a test message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The test message was sent.
    Sent,
    /// The test message is not sent yet, or was given up. The field is the reason. `None`: no reason is known.
    Not(Option<String>),
}

/// Reads the state of a test message by the id of its delivery.
pub async fn tried(client: &Client, delivery: i64) -> Result<Tried, QueryError> {
    let row = client
        .query_opt(
            "select state, reason from vestnik.vst_delivery where id = $1",
            &[&delivery],
        )
        .await?;
    Ok(match row {
        Some(row) if row.try_get::<_, &str>(0)? == "sent" => Tried::Sent,
        Some(row) => Tried::Not(row.try_get(1)?),
        None => Tried::Not(None),
    })
}

/// Seconds until the chat of a delivery may get its next message. 0: the chat has no pause.
pub async fn throttled_s(client: &Client, delivery: i64) -> Result<f64, QueryError> {
    let pause = format!(
        "select {PAUSE_S} from vestnik.vst_delivery d join vestnik.vst_chat c on c.id = d.chat_id where d.id = $1"
    );
    let row = client.query_opt(&pause, &[&delivery]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0.0))
}

/// Marks a test message as dead, so that it is never sent. Changes nothing if the message was sent, or is being sent
/// now. `delivery` is the id of the message's delivery.
pub async fn give_up(client: &Client, delivery: i64) -> Result<(), QueryError> {
    const GIVE_UP: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'nobody waits for it any more', \
             completed_at = clock_timestamp() where id = $1 and state in ('pending', 'retrying')";
    client.execute(GIVE_UP, &[&delivery]).await?;
    Ok(())
}
