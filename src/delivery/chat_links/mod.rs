//! The links between Telegram chats and stores, and the codes that create a link. A linked chat gets the store's
//! messages.

mod code;
mod list;

use std::time::Duration;

use crate::infra::db::Client;
use crate::infra::db::Pool;
use time::{OffsetDateTime, Time};
use tokio_postgres::types::ToSql;

use crate::domain::event::StoreId;
use crate::domain::status::SubjectKind;
use crate::infra::db::{self, QueryError};
use crate::store::hours::Span;

pub use code::{CODE_LIFE, Code, CodeError, create_code, looks_like_code};
pub use list::{LONG_PAUSE_S, ListedChat, Tried, give_up, list, test, throttled_s, tried};

/// The most codes that a chat may try per minute.
const TRIES_A_MINUTE: i64 = 5;
/// The most answers to commands that a chat gets per minute: half of Telegram's limit for a group.
const ANSWERS_A_MINUTE: i64 = 10;

/// An SQL condition: messages of a store make no sound in a chat now, because the chat is muted or has quiet hours. `l`
/// is the table alias of the chat's link to the store, and `s` of the store.
pub(crate) const IS_SILENT: &str = "(l.muted_until > clock_timestamp() or case \
     when l.quiet_from < l.quiet_to then (clock_timestamp() at time zone s.time_zone)::time >= l.quiet_from \
         and (clock_timestamp() at time zone s.time_zone)::time < l.quiet_to \
     else (clock_timestamp() at time zone s.time_zone)::time >= l.quiet_from \
         or (clock_timestamp() at time zone s.time_zone)::time < l.quiet_to end)";

/// The mode of a link: it decides which of the store's orders the chat gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The chat gets every event of every order, as it happens.
    Mirror,
    /// The chat gets orders that arrive while no panel of the store can ring, and orders that nobody answered in time.
    Fallback,
    /// The chat gets only orders that nobody answered in time. It gets them one escalation step later than chats with
    /// the mode `Fallback`.
    Manager,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Mirror, Self::Fallback, Self::Manager];

    /// The mode's name in the database and in the command `/mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Fallback => "fallback",
            Self::Manager => "manager",
        }
    }

    /// The mode with this name. `None`: no mode has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// The outcome of an attempt to link a chat with a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// The chat is linked to the store now.
    Done(ChatLink),
    /// The code does not exist, was used already, or has expired.
    Unknown,
    /// The chat has tried too many codes in the last minute.
    TooMany,
}

/// A chat's link to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatLink {
    /// The store's id.
    pub store: String,
    /// The store's display name. `None`: the store has none.
    pub store_name: Option<String>,
    /// Which of the store's orders the chat gets.
    pub mode: Mode,
    /// The language of the store's messages in this chat, such as `ru`.
    pub language: String,
    /// Minutes until messages in the chat make a sound again. 0: the chat is not muted.
    pub muted_minutes: i32,
    /// The quiet hours of each day, by the store's clock, in which messages make no sound. `None`: no quiet hours.
    pub quiet: Option<Span>,
    /// The id of the forum topic that messages go to. `None`: the chat itself, or its general topic.
    pub topic: Option<i32>,
    /// The IANA name of the store's time zone.
    pub time_zone: String,
    /// When the store's pause ends and the store takes new orders again. `None`: the store is not paused.
    pub paused_until: Option<OffsetDateTime>,
}

/// The chat that tries a code, and the person who sent the code.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The chat's id at Telegram.
    pub chat: i64,
    /// The chat's title at Telegram. `None`: the chat has none.
    pub title: Option<&'a str>,
    /// The id of the forum topic in which the code was sent. `None`: no topic.
    pub topic: Option<i32>,
    /// The person's id at Telegram.
    pub person: i64,
}

/// Links a chat to the store of a code, if the code is valid. A code is valid only once. The new link replaces an
/// existing link between this chat and this store.
pub async fn link(pool: &Pool, applicant: Applicant<'_>, code: &str) -> Result<Linked, QueryError> {
    const TRY: &str = "insert into vestnik.vst_chat as c (telegram_id, title, tries) values ($1, $2, array[clock_timestamp()]) \
         on conflict (telegram_id) do update set title = coalesce($2, c.title), \
             tries = (select coalesce(array_agg(t order by t), '{}') from ( \
                 select t from unnest(c.tries) t where t > clock_timestamp() - interval '1 minute' \
                 union all select clock_timestamp() \
                   where (select count(*) from unnest(c.tries) t where t > clock_timestamp() - interval '1 minute') <= $3) recent(t)) \
         returning id, cardinality(tries)::bigint";
    const USE: &str = "update vestnik.vst_link_code set used_at = clock_timestamp() \
         where hash = $1 and used_at is null and expires_at > clock_timestamp() returning store_id, mode, language";
    const LINK: &str = "insert into vestnik.vst_chat_link (chat_id, store_id, mode, language, linked_by, thread_id) values ($1, $2, $3, $4, $5, $6) \
         on conflict (chat_id, store_id) do update set mode = excluded.mode, language = excluded.language, \
             linked_by = excluded.linked_by, thread_id = excluded.thread_id, \
             blocked_at = null, blocked_why = null, blocked_until = '-infinity'";
    const FORGIVE: &str = "update vestnik.vst_chat set tries = '{}' where id = $1";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let row = transaction
            .query_one(TRY, &[&applicant.chat, &applicant.title, &TRIES_A_MINUTE])
            .await?;
        let (chat, tries): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let code = code::hash(code);
        let used = if tries > TRIES_A_MINUTE {
            None
        } else {
            transaction.query_opt(USE, &[&code.as_slice()]).await?
        };
        let Some(used) = used else {
            transaction.commit().await?;
            return Ok(if tries > TRIES_A_MINUTE {
                Linked::TooMany
            } else {
                Linked::Unknown
            });
        };
        let (store, mode, language): (String, String, String) = (used.try_get(0)?, used.try_get(1)?, used.try_get(2)?);
        let link: [&(dyn ToSql + Sync); 6] = [&chat, &store, &mode, &language, &applicant.person, &applicant.topic];
        transaction.execute(LINK, &link).await?;
        transaction.execute(FORGIVE, &[&chat]).await?;
        transaction.commit().await?;
        let link = links_of(&client, applicant.chat)
            .await?
            .into_iter()
            .find(|link| link.store == store);
        Ok(link.map_or(Linked::Unknown, Linked::Done))
    })
    .await
}

/// Reads the links of a chat to stores, ordered by the store's id. `chat` is the chat's id at Telegram.
pub async fn links(pool: &Pool, chat: i64) -> Result<Vec<ChatLink>, QueryError> {
    db::with_timeout(async { links_of(&*pool.get().await?, chat).await }).await
}

async fn links_of(client: &db::Client, chat: i64) -> Result<Vec<ChatLink>, QueryError> {
    const LINKS: &str = "select l.store_id, s.name, l.mode, l.language, \
             coalesce(ceil(extract(epoch from nullif(greatest(l.muted_until, clock_timestamp()), clock_timestamp()) - clock_timestamp()) / 60), 0)::int, \
             l.quiet_from, l.quiet_to, l.thread_id, s.time_zone, p.until \
         from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id join vestnik.vst_store s on s.id = l.store_id \
         left join vestnik.vst_paused_now p on p.store_id = s.id \
         where c.telegram_id = $1 order by 1";
    let rows = client.query(LINKS, &[&chat]).await?;
    let read = |row: &tokio_postgres::Row| {
        let mode: String = row.try_get(2)?;
        let (from, to): (Option<Time>, Option<Time>) = (row.try_get(5)?, row.try_get(6)?);
        Ok(ChatLink {
            store: row.try_get(0)?,
            store_name: row.try_get(1)?,
            mode: Mode::from_name(&mode).ok_or(QueryError::Inconsistent("a link of an unknown mode"))?,
            language: row.try_get(3)?,
            muted_minutes: row.try_get(4)?,
            quiet: from.zip(to).map(|(opens, closes)| Span { opens, closes }),
            topic: row.try_get(7)?,
            time_zone: row.try_get(8)?,
            paused_until: row.try_get(9)?,
        })
    };
    rows.iter().map(read).collect()
}

/// A change of one setting in a chat's links to stores, as a command requests it.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// Sets which of the stores' orders the chat gets.
    Mode(Mode),
    /// Mutes the chat for this long from now on. Zero: unmutes it.
    Mute(Duration),
    /// Sets the quiet hours of each day, by the store's clock. `None`: removes the quiet hours.
    Quiet(Option<Span>),
}

/// Changes a setting of the chat's links to these stores. `chat` is the chat's id at Telegram.
pub async fn change(pool: &Pool, chat: i64, stores: &[String], change: Change) -> Result<(), QueryError> {
    const LINKS: &str =
        "where chat_id = (select id from vestnik.vst_chat where telegram_id = $1) and store_id = any ($2)";
    db::with_timeout(async {
        let client = pool.get().await?;
        match change {
            Change::Mode(mode) => {
                let sql = format!("update vestnik.vst_chat_link set mode = $3 {LINKS}");
                client.execute(&sql, &[&chat, &stores, &mode.as_str()]).await?;
            }
            Change::Mute(time) => {
                let sql = format!(
                    "update vestnik.vst_chat_link set muted_until = clock_timestamp() + make_interval(secs => $3) {LINKS}"
                );
                client.execute(&sql, &[&chat, &stores, &time.as_secs_f64()]).await?;
            }
            Change::Quiet(span) => {
                let sql = format!("update vestnik.vst_chat_link set quiet_from = $3, quiet_to = $4 {LINKS}");
                let (from, to) = (span.map(|span| span.opens), span.map(|span| span.closes));
                client.execute(&sql, &[&chat, &stores, &from, &to]).await?;
            }
        }
        Ok(())
    })
    .await
}

/// Removes the chat's links to these stores. Open deliveries of these stores to the chat become dead, so they are never
/// sent.
pub async fn unlink(pool: &Pool, chat: i64, stores: &[String]) -> Result<(), QueryError> {
    db::with_timeout(async { end(&*pool.get().await?, chat, Some(stores)).await.map(drop) }).await
}

/// Removes the chat's links to these stores, as a part of the caller's transaction. `stores: None` removes all links of
/// the chat. Returns the number of removed links.
pub async fn end(client: &Client, chat: i64, stores: Option<&[String]>) -> Result<u64, QueryError> {
    const UNLINK: &str = "with ended as (delete from vestnik.vst_chat_link \
             where chat_id = (select id from vestnik.vst_chat where telegram_id = $1) and ($2::text[] is null or store_id = any ($2)) \
             returning chat_id, store_id), \
         dead as (update vestnik.vst_delivery d set state = 'dead', reason = 'unlinked', completed_at = clock_timestamp() from ended \
             where d.chat_id = ended.chat_id and d.store_id = ended.store_id and d.state in ('pending', 'retrying')) \
         select count(*) from ended";
    let row = client.query_one(UNLINK, &[&chat, &stores]).await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}

/// Enqueues new buttons for a sent message of a chat. Older buttons that are still queued for this message are not sent
/// any more.
pub async fn show(pool: &Pool, chat: i64, message: i32, rows: &serde_json::Value) -> Result<(), QueryError> {
    const SHOW: &str = "with chat as (update vestnik.vst_chat set waiting = true where telegram_id = $1 returning id), \
         over as (update vestnik.vst_delivery set state = 'dead', reason = 'other buttons came behind', completed_at = clock_timestamp() \
             where chat_id in (select id from chat) and message_id = $2 and keyboard is not null and state in ('pending', 'retrying')) \
         insert into vestnik.vst_delivery (chat_id, message_id, keyboard, urgent) select id, $2, $3, true from chat";
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(SHOW).await?;
        client.execute(&statement, &[&chat, &message, rows]).await?;
        Ok(())
    })
    .await
}

/// The chat, and the topic of the chat, to which the bot sends an answer.
#[derive(Debug, Clone, Copy)]
pub struct ChatTopic<'a> {
    /// The chat's id at Telegram.
    pub chat: i64,
    /// The chat's title at Telegram. `None`: the chat has none.
    pub title: Option<&'a str>,
    /// The id of the forum topic. `None`: no topic.
    pub topic: Option<i32>,
}

/// Enqueues an answer to a person's message: the text `html`, with rows of `buttons` below it. If the chat already got
/// `ANSWERS_A_MINUTE` answers in the last minute, drops the answer. Otherwise answers would use up Telegram's rate
/// limit, and delay orders.
pub async fn answer(
    pool: &Pool,
    topic: ChatTopic<'_>,
    html: &str,
    buttons: Option<&serde_json::Value>,
) -> Result<(), QueryError> {
    const ANSWER: &str = "with chat as ( \
             insert into vestnik.vst_chat as c (telegram_id, title, waiting) values ($1, $2, true) \
             on conflict (telegram_id) do update set title = coalesce($2, c.title), waiting = true returning id) \
         insert into vestnik.vst_delivery (chat_id, words, thread_id, buttons, urgent) select id, $3, $5, $6, true from chat \
         where (select count(*) from vestnik.vst_delivery d where d.words is not null \
             and d.waits_since > clock_timestamp() - interval '1 minute' and d.chat_id = chat.id) < $4";
    db::with_timeout(async {
        let client = pool.get().await?;
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &topic.chat,
            &topic.title,
            &html,
            &ANSWERS_A_MINUTE,
            &topic.topic,
            &buttons,
        ];
        client.execute(ANSWER, &parameters).await?;
        Ok(())
    })
    .await
}

/// The order or booking to which a pressed button belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pressed {
    /// The id of the journal event that the button's message shows.
    pub event: i64,
    /// The id of the order's or booking's store.
    pub store: StoreId,
    /// Whether the subject is an order or a booking.
    pub kind: SubjectKind,
    /// The name of the order's or booking's source.
    pub source: String,
    /// The key of the order or booking in its source.
    pub key: String,
    /// The source's id and the key in one text, such as `1 123`. The engine's tables store the order or booking in this
    /// form.
    pub subject: String,
    /// The language of the store's messages in this chat, such as `ru`.
    pub language: String,
}

/// Finds the order or booking whose button was pressed. `event` is the event that the button's message shows. `None`:
/// the event is unknown, or the chat has no link to the event's store.
pub async fn pressed(pool: &Pool, chat: i64, event: i64) -> Result<Option<Pressed>, QueryError> {
    const PRESSED: &str = "select e.store_id, o.kind, o.name, e.key, o.id || ' ' || e.key, l.language \
         from vestnik.vst_event e join vestnik.vst_source o on o.id = e.source \
         join vestnik.vst_chat_link l on l.store_id = e.store_id \
         join vestnik.vst_chat c on c.id = l.chat_id where e.id = $2 and c.telegram_id = $1 and e.key is not null";
    db::with_timeout(async {
        let client = pool.get().await?;
        let Some(row) = client.query_opt(PRESSED, &[&chat, &event]).await? else {
            return Ok(None);
        };
        let kind: &str = row.try_get(1)?;
        Ok(Some(Pressed {
            event,
            store: StoreId::new(row.try_get(0)?),
            kind: SubjectKind::from_name(kind).ok_or(QueryError::Inconsistent("a source of an unknown kind"))?,
            source: row.try_get(2)?,
            key: row.try_get(3)?,
            subject: row.try_get(4)?,
            language: row.try_get(5)?,
        }))
    })
    .await
}

/// Records that the bot asked for the reason of a rejection in this message. If a person replies to the message within
/// ten minutes, the reply is the reason.
pub async fn ask_why(pool: &Pool, chat: i64, message: i32) -> Result<(), QueryError> {
    const ASK: &str = "update vestnik.vst_message set asked_at = clock_timestamp() \
         where chat_id = (select id from vestnik.vst_chat where telegram_id = $1) and message_id = $2";
    db::with_timeout(async {
        pool.get().await?.execute(ASK, &[&chat, &message]).await?;
        Ok(())
    })
    .await
}

/// Deletes the record that the bot asked for a reason in this message. Returns the id of the event whose order the
/// person wants to reject. `None`: the bot did not ask in the last ten minutes, or a reply has already come.
pub async fn asked_why(pool: &Pool, chat: i64, message: i32) -> Result<Option<i64>, QueryError> {
    const ASKED: &str = "update vestnik.vst_message set asked_at = null \
         where chat_id = (select id from vestnik.vst_chat where telegram_id = $1) and message_id = $2 \
           and asked_at > clock_timestamp() - interval '10 minutes' returning event_id";
    db::with_timeout(async {
        let row = pool.get().await?.query_opt(ASKED, &[&chat, &message]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    })
    .await
}
