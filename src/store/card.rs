//! The card of a store: what a panel shows about the store.

use super::pause::{self, Pause};
use crate::domain::event::StoreId;
use crate::infra::db::{self, Pool, QueryError};

/// What a panel shows about a store. If the store is not set up, the fields have default values.
#[derive(Debug)]
pub struct Card {
    /// The store's display name. `None`: the store has none.
    pub name: Option<String>,
    /// The currency of the store's amounts: three letters of ISO 4217.
    pub currency: String,
    /// The IANA name of the store's time zone.
    pub time_zone: String,
    /// How long to wait for an answer before each escalation step, seconds. A step rings the panels again, or tells
    /// further people about the order.
    pub answer_seconds: i32,
    /// Whether the Telegram bot is stopped, because Telegram refuses its token.
    pub bot_stopped: bool,
    /// The store's Telegram chats to which no messages are sent, now or for good.
    pub chats_disabled: Vec<DisabledChat>,
    /// The current pause of the store. `None`: the store is not paused, and takes orders.
    pub pause: Option<Pause>,
}

/// A chat of the store that takes no messages.
#[derive(Debug)]
pub struct DisabledChat {
    /// The chat's title, or its id at Telegram if it has no title.
    pub chat: String,
    /// The reason why the chat takes no messages. `None`: the reason is not known.
    pub reason: Option<String>,
}

/// Reads what a panel shows about a store.
pub async fn read(pool: &Pool, store: &StoreId) -> Result<Card, QueryError> {
    // The defaults are those of the columns of `vestnik.vst_store`.
    const CARD: &str = "select s.name, coalesce(s.currency, 'RUB'), coalesce(s.time_zone, 'Europe/Moscow'), \
         coalesce(s.answer_seconds, 60), b.stopped_at is not null \
         from vestnik.vst_bot b left join vestnik.vst_store s on s.id = $1";
    const DISABLED: &str = "select coalesce(c.title, c.telegram_id::text), coalesce(c.disabled_why, l.blocked_why) \
         from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id \
         where l.store_id = $1 and (c.disabled_at is not null or l.blocked_at is not null) order by c.id";
    let pause = pause::current(pool, store).await?;
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(CARD).await?;
        let row = client.query_one(&statement, &[&store.as_str()]).await?;
        let statement = client.prepare_cached(DISABLED).await?;
        let chats = client.query(&statement, &[&store.as_str()]).await?;
        let chat = |row: &tokio_postgres::Row| {
            Ok::<_, tokio_postgres::Error>(DisabledChat {
                chat: row.try_get(0)?,
                reason: row.try_get(1)?,
            })
        };
        Ok(Card {
            name: row.try_get(0)?,
            currency: row.try_get(1)?,
            time_zone: row.try_get(2)?,
            answer_seconds: row.try_get(3)?,
            bot_stopped: row.try_get(4)?,
            chats_disabled: chats.iter().map(chat).collect::<Result<_, _>>()?,
            pause,
        })
    })
    .await
}
