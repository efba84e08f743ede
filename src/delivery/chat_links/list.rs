//! The linked chats for an operator: the state of each, and a test message.

use crate::infra::db::Client;

use crate::infra::db::QueryError;

/// A linked chat in a list. Ages are in seconds.
#[derive(Debug)]
pub struct Listed {
    /// The store.
    pub store: String,
    /// What the chat is for.
    pub mode: String,
    /// The code of the chat's language.
    pub language: String,
    /// The chat's id at Telegram.
    pub telegram_id: i64,
    /// The chat's title; `None`: not known.
    pub title: Option<String>,
    /// The topic of a forum; `None`: no topic.
    pub topic: Option<i32>,
    /// Why and since when the chat takes no messages any more; `None`: it takes them.
    pub disabled: Option<(String, f64)>,
    /// Why and since when the bot may not write to the chat; `None`: it may.
    pub blocked: Option<(String, f64)>,
    /// Number of open deliveries.
    pub open: i64,
    /// Age of the oldest open delivery; 0: none is open.
    pub open_s: f64,
    /// The newest error and its age; `None`: no error.
    pub error: Option<(String, f64)>,
}

/// Every link, ordered by store.
pub async fn list(client: &Client) -> Result<Vec<Listed>, QueryError> {
    const LIST: &str = "select l.store_id, l.mode, l.language, c.telegram_id, c.title, l.thread_id, \
             c.disabled_why, extract(epoch from clock_timestamp() - c.disabled_at)::float8, \
             l.blocked_why, extract(epoch from clock_timestamp() - l.blocked_at)::float8, \
             o.count, coalesce(o.age_s, 0)::float8, c.error, extract(epoch from clock_timestamp() - c.error_at)::float8 \
         from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id cross join lateral ( \
             select count(*), extract(epoch from clock_timestamp() - min(d.planned_at)) as age_s from vestnik.vst_delivery d \
             where d.chat_id = c.id and d.state in ('pending', 'sending', 'retrying') \
               and coalesce(d.store_id, l.store_id) = l.store_id) o \
         order by l.store_id, l.linked_at";
    let rows = client.query(LIST, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let since = |what: usize| {
            let (why, since): (Option<String>, Option<f64>) = (row.try_get(what)?, row.try_get(what + 1)?);
            Ok::<_, tokio_postgres::Error>(why.zip(since))
        };
        Ok(Listed {
            store: row.try_get(0)?,
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
        })
    };
    rows.iter().map(read).collect()
}

/// Enqueues a test message for a store's chat, on the path of its orders. Returns the delivery; `None`: the chat is not
/// linked, or is disabled.
pub async fn test(client: &Client, store: &str, chat: i64, html: &str) -> Result<Option<i64>, QueryError> {
    const TEST: &str = "with link as (select l.chat_id, l.thread_id from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id \
             where l.store_id = $1 and c.telegram_id = $2 and c.disabled_at is null), \
         marked as (update vestnik.vst_chat set waiting = true where id in (select chat_id from link)) \
         insert into vestnik.vst_delivery (chat_id, words, thread_id, urgent) select chat_id, $3, thread_id, true from link returning id";
    let row = client.query_opt(TEST, &[&store, &chat, &html]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The outcome of a test message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The message was sent.
    Sent,
    /// The message was not sent yet, failed, or was given up; with the reason where one is known.
    Not(Option<String>),
}

/// Reads the outcome of a test message.
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

/// Gives up a test message that nobody waits for any more.
pub async fn give_up(client: &Client, delivery: i64) -> Result<(), QueryError> {
    const GIVE_UP: &str = "update vestnik.vst_delivery set state = 'dead', reason = 'nobody waits for it any more', \
             completed_at = clock_timestamp() where id = $1 and state in ('pending', 'retrying')";
    client.execute(GIVE_UP, &[&delivery]).await?;
    Ok(())
}
