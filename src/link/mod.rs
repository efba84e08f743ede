//! Which chats of Telegram belong to which stores, and the codes that link them.

mod code;

use std::time::Duration;

use crate::db::{Pool, Transaction};
use crate::db::Client;

use crate::db::{self, Failed};
use crate::domain::event::{EventType, StoreId};
use crate::domain::status::SubjectKind;
use crate::journal;

pub use code::{CODE_LIFE, Code, CodeError, create_code};

/// Codes that a chat may try within a minute.
const TRIES_A_MINUTE: i64 = 5;
/// Answers to commands that a chat gets within a minute: half of what Telegram allows a group.
const ANSWERS_A_MINUTE: i64 = 10;

/// What a chat is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything, as it happens.
    Mirror,
    /// What no panel could ring, and what nobody answered.
    Fallback,
    /// What nobody answered for still longer.
    Manager,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mirror, Self::Fallback, Self::Manager];

    /// Its name in the database and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Fallback => "fallback",
            Self::Manager => "manager",
        }
    }

    /// From the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// What became of a code that somebody sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// The chat is the store's.
    Done(Link),
    /// No such code, or no longer.
    Unknown,
    /// Too many tries.
    TooMany,
}

/// A chat's tie to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The store.
    pub store: String,
    /// What people call it.
    pub store_name: Option<String>,
    /// What the chat is for.
    pub mode: Mode,
    /// A language's name: `ru`.
    pub language: String,
    /// Minutes for which it is silent from now on; 0: it is not.
    pub muted_minutes: i32,
}

/// Who sent a code, and where.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The chat's number at Telegram.
    pub chat: i64,
    /// What the chat is called.
    pub title: Option<&'a str>,
    /// The person's number.
    pub person: i64,
}

/// Links a chat by a code.
pub async fn link(pool: &Pool, applicant: Applicant<'_>, code: &str) -> Result<Linked, Failed> {
    const TRY: &str = "insert into vestnik.vst_chat as c (telegram_id, title, tries) values ($1, $2, array[clock_timestamp()]) \
         on conflict (telegram_id) do update set title = coalesce($2, c.title), \
             tries = (select coalesce(array_agg(t order by t), '{}') from ( \
                 select t from unnest(c.tries) t where t > clock_timestamp() - interval '1 minute' \
                 union all select clock_timestamp() \
                   where (select count(*) from unnest(c.tries) t where t > clock_timestamp() - interval '1 minute') <= $3) recent(t)) \
         returning id, cardinality(tries)::bigint";
    const USE: &str = "update vestnik.vst_link_code set used_at = clock_timestamp() \
         where hash = $1 and used_at is null and expires_at > clock_timestamp() returning store_id, mode, language";
    const LINK: &str = "insert into vestnik.vst_chat_link (chat_id, store_id, mode, language, linked_by) values ($1, $2, $3, $4, $5) \
         on conflict (chat_id, store_id) do update set mode = excluded.mode, language = excluded.language, linked_by = excluded.linked_by";
    // A chat that had been given up takes part again.
    const REVIVE: &str =
        "update vestnik.vst_chat set disabled_at = null, disabled_why = null, failures = 0, tries = '{}' where id = $1";
    db::answered(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::bound_silence(&transaction).await?;
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
        transaction
            .execute(LINK, &[&chat, &store, &mode, &language, &applicant.person])
            .await?;
        transaction.execute(REVIVE, &[&chat]).await?;
        transaction.commit().await?;
        let link = links_of(&client, applicant.chat)
            .await?
            .into_iter()
            .find(|link| link.store == store);
        Ok(link.map_or(Linked::Unknown, Linked::Done))
    })
    .await
}

/// The stores of a chat.
pub async fn links(pool: &Pool, chat: i64) -> Result<Vec<Link>, Failed> {
    db::answered(async { links_of(&*pool.get().await?, chat).await }).await
}

async fn links_of(client: &db::Client, chat: i64) -> Result<Vec<Link>, Failed> {
    const LINKS: &str = "select l.store_id, s.name, l.mode, l.language, \
             coalesce(ceil(extract(epoch from nullif(greatest(l.muted_until, clock_timestamp()), clock_timestamp()) - clock_timestamp()) / 60), 0)::int \
         from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id join vestnik.vst_store s on s.id = l.store_id \
         where c.telegram_id = $1 order by 1";
    let rows = client.query(LINKS, &[&chat]).await?;
    let read = |row: &tokio_postgres::Row| {
        let mode: String = row.try_get(2)?;
        Ok(Link {
            store: row.try_get(0)?,
            store_name: row.try_get(1)?,
            mode: Mode::from_name(&mode).ok_or(Failed::Inconsistent("a link of an unknown mode"))?,
            language: row.try_get(3)?,
            muted_minutes: row.try_get(4)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Changes what a chat is for, for all of its stores.
pub async fn set_mode(pool: &Pool, chat: i64, mode: Mode) -> Result<(), Failed> {
    const MODE: &str =
        "update vestnik.vst_chat_link set mode = $2 where chat_id = (select id from vestnik.vst_chat where telegram_id = $1)";
    db::answered(async {
        pool.get().await?.execute(MODE, &[&chat, &mode.as_str()]).await?;
        Ok(())
    })
    .await
}

/// Messages come without a sound for so long.
pub async fn mute(pool: &Pool, chat: i64, time: Duration) -> Result<(), Failed> {
    const MUTE: &str = "update vestnik.vst_chat_link set muted_until = clock_timestamp() + make_interval(secs => $2) \
         where chat_id = (select id from vestnik.vst_chat where telegram_id = $1)";
    db::answered(async {
        pool.get().await?.execute(MUTE, &[&chat, &time.as_secs_f64()]).await?;
        Ok(())
    })
    .await
}

/// Ends all ties of a chat; what was planned for it is not sent.
pub async fn unlink(pool: &Pool, chat: i64) -> Result<(), Failed> {
    const UNLINK: &str = "with chat as (select id from vestnik.vst_chat where telegram_id = $1), \
         dead as (update vestnik.vst_delivery set state = 'dead', reason = 'unlinked', settled_at = clock_timestamp() \
             where chat_id in (select id from chat) and words is null and state in ('pending', 'retrying')) \
         delete from vestnik.vst_chat_link where chat_id in (select id from chat)";
    db::answered(async {
        pool.get().await?.execute(UNLINK, &[&chat]).await?;
        Ok(())
    })
    .await
}

/// The bot was thrown out of a chat, or blocked.
pub async fn disable(pool: &Pool, chat: i64, why: &str) -> Result<(), Failed> {
    const CHAT: &str = "select id from vestnik.vst_chat where telegram_id = $1 for update";
    db::answered(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::bound_silence(&transaction).await?;
        if let Some(row) = transaction.query_opt(CHAT, &[&chat]).await? {
            disable_in(&transaction, row.try_get(0)?, why).await?;
        }
        transaction.commit().await?;
        Ok(())
    })
    .await
}

/// Nothing more goes to this chat, by its row, and the panels of its stores are told.
pub async fn disable_in(transaction: &Transaction<'_>, chat: i64, why: &str) -> Result<(), Failed> {
    const DISABLED: &str = "update vestnik.vst_chat set disabled_at = clock_timestamp(), disabled_why = $2, waiting = false \
         where id = $1 and disabled_at is null returning title";
    const DEAD: &str = "update vestnik.vst_delivery set state = 'dead', reason = $2, settled_at = clock_timestamp() \
         where chat_id = $1 and state in ('pending', 'sending', 'retrying')";
    let Some(row) = transaction.query_opt(DISABLED, &[&chat, &why]).await? else {
        return Ok(());
    };
    let title: Option<String> = row.try_get(0)?;
    transaction.execute(DEAD, &[&chat, &why]).await?;
    let stores = "select store_id from vestnik.vst_chat_link where chat_id = $1";
    for row in transaction.query(stores, &[&chat]).await? {
        let store = StoreId::new(row.try_get(0)?);
        let data = serde_json::json!({"chat": title, "reason": why});
        journal::append(transaction, &store, EventType::ChatDisabled, &data).await?;
    }
    Ok(())
}

/// The bot is in a chat again: it takes messages from now on. What was planned meanwhile was given up.
pub async fn revive(pool: &Pool, chat: i64) -> Result<(), Failed> {
    const REVIVE: &str = "update vestnik.vst_chat set disabled_at = null, disabled_why = null, failures = 0 \
         where telegram_id = $1 and disabled_at is not null";
    db::answered(async {
        pool.get().await?.execute(REVIVE, &[&chat]).await?;
        Ok(())
    })
    .await
}

/// Queues an answer to somebody's command, so that answers keep Telegram's budgets, too. Whoever asks without end is
/// answered no more than `ANSWERS_A_MINUTE`: the bot's budget is for orders.
pub async fn answer(pool: &Pool, chat: i64, title: Option<&str>, html: &str) -> Result<(), Failed> {
    const ANSWER: &str = "with chat as ( \
             insert into vestnik.vst_chat as c (telegram_id, title, waiting) values ($1, $2, true) \
             on conflict (telegram_id) do update set title = coalesce($2, c.title), waiting = true returning id) \
         insert into vestnik.vst_delivery (chat_id, words, urgent) select id, $3, true from chat \
         where (select count(*) from vestnik.vst_delivery d where d.words is not null \
             and d.planned_at > clock_timestamp() - interval '1 minute' and d.chat_id = chat.id) < $4";
    db::answered(async {
        let client = pool.get().await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&chat, &title, &html, &ANSWERS_A_MINUTE];
        client.execute(ANSWER, &parameters).await?;
        Ok(())
    })
    .await
}

/// The order or booking that a button is about, if the chat is one of its store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pressed {
    /// The event that the message tells.
    pub event: i64,
    /// The store.
    pub store: StoreId,
    /// Order or booking.
    pub kind: SubjectKind,
    /// The source that it is in.
    pub source: String,
    /// Its key.
    pub key: String,
    /// The chat's language.
    pub language: String,
}

/// Finds it by the event that the message tells.
pub async fn pressed(pool: &Pool, chat: i64, event: i64) -> Result<Option<Pressed>, Failed> {
    const PRESSED: &str = "select e.store_id, o.kind, o.name, e.key, l.language \
         from vestnik.vst_event e join vestnik.vst_source o on o.id = e.source \
         join vestnik.vst_chat_link l on l.store_id = e.store_id \
         join vestnik.vst_chat c on c.id = l.chat_id where e.id = $2 and c.telegram_id = $1 and e.key is not null";
    db::answered(async {
        let client = pool.get().await?;
        let Some(row) = client.query_opt(PRESSED, &[&chat, &event]).await? else {
            return Ok(None);
        };
        let kind: &str = row.try_get(1)?;
        Ok(Some(Pressed {
            event,
            store: StoreId::new(row.try_get(0)?),
            kind: SubjectKind::from_name(kind).ok_or(Failed::Inconsistent("a source of an unknown kind"))?,
            source: row.try_get(2)?,
            key: row.try_get(3)?,
            language: row.try_get(4)?,
        }))
    })
    .await
}

/// A linked chat, as a list shows it.
#[derive(Debug)]
pub struct Listed {
    /// The store.
    pub store: String,
    /// What it is for.
    pub mode: String,
    /// A language's name.
    pub language: String,
    /// Its number at Telegram.
    pub telegram_id: i64,
    /// What it is called.
    pub title: Option<String>,
    /// Why it takes nothing any more.
    pub disabled_why: Option<String>,
    /// Deliveries that wait.
    pub open: i64,
}

/// Every link, by store.
pub async fn list(client: &Client) -> Result<Vec<Listed>, Failed> {
    const LIST: &str = "select l.store_id, l.mode, l.language, c.telegram_id, c.title, c.disabled_why, \
             (select count(*) from vestnik.vst_delivery d where d.chat_id = c.id and d.state in ('pending', 'sending', 'retrying')) \
         from vestnik.vst_chat_link l join vestnik.vst_chat c on c.id = l.chat_id order by l.store_id, l.linked_at";
    let rows = client.query(LIST, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Listed {
            store: row.try_get(0)?,
            mode: row.try_get(1)?,
            language: row.try_get(2)?,
            telegram_id: row.try_get(3)?,
            title: row.try_get(4)?,
            disabled_why: row.try_get(5)?,
            open: row.try_get(6)?,
        })
    };
    rows.iter().map(read).collect()
}
