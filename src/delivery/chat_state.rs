//! Saves whether a chat takes messages: it may be disabled (for good), blocked (for now), or enabled. Each change is
//! told to the other chats of the chat's stores. If the chat is disabled or blocked, the stores' panels get an event. A
//! chat that is enabled again gets the orders that it missed.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};

use super::channel::Block;
use super::chat_links;
use super::escalation::{self, MISSED_HOURS};
use super::lane::ChatId;
use crate::domain::event::{EventType, PartnerEvent, StoreId};
use crate::domain::status::Status;
use crate::infra::db::{self, Client, Pool, QueryError, Transaction};
use crate::journal;
use crate::sources::Sources;
use crate::sources::lookup_results::Lookups;
use crate::sources::registry::Registry;
use crate::text::catalog;
use crate::text::html::render_template;

/// Seconds between two attempts to send to a blocked chat. The first value applies in the first minute of the block,
/// the second in the first hour, and the third after that.
const BLOCKED_PAUSES_S: [f64; 3] = [5.0, 15.0, 60.0];
/// Maximum number of missed orders and bookings that a chat gets: the newest ones.
const MISSED: usize = 200;
/// To find missed orders, at most this many journal rows are read: the newest ones.
const MISSED_WRITES: i64 = 5000;

/// A change of a chat's state. The other chats of the chat's stores get a message about the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Gone,
    Blocked,
    Back,
}

/// The chats for which a message was enqueued: ids of rows in `vestnik.vst_chat`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatsToWake(Vec<i64>);

impl ChatsToWake {
    /// Whether a message was enqueued for at least one chat.
    pub fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Marks these chats as waiting for a send. Call this function after the commit of the transaction that enqueued
    /// the messages. Within that transaction, it could cause a deadlock with another transaction that disables a chat.
    pub(super) async fn wake(&self, client: &Client) -> Result<(), QueryError> {
        if self.is_any() {
            let wake = "update vestnik.vst_chat set waiting = true where id = any ($1)";
            client.execute(wake, &[&self.0]).await?;
        }
        Ok(())
    }
}

/// Disables a chat that takes no messages any more, and marks its open deliveries as dead. Tells the panels of the
/// chat's stores by an event, and the other chats of these stores by a message.
pub(super) async fn gone(transaction: &Transaction<'_>, chat: ChatId, why: &str) -> Result<ChatsToWake, QueryError> {
    const GONE: &str = "update vestnik.vst_chat set disabled_at = clock_timestamp(), disabled_why = $2, waiting = false, \
             wakes_at = null, edit_wakes_at = null \
         where id = $1 and disabled_at is null";
    const DEAD: &str = "update vestnik.vst_delivery set state = 'dead', reason = $2, completed_at = clock_timestamp() \
         where chat_id = $1 and state in ('pending', 'sending', 'retrying')";
    if transaction.execute(GONE, &[&chat.0, &why]).await? == 0 {
        return Ok(ChatsToWake::default());
    }
    transaction.execute(DEAD, &[&chat.0, &why]).await?;
    tracing::warn!(chat = chat.0, why, "a chat takes no messages any more");
    let stores = "select store_id from vestnik.vst_chat_link where chat_id = $1 order by 1";
    let rows = transaction.query(stores, &[&chat.0]).await?;
    let stores: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    enqueue_news(transaction, chat, &stores, News::Gone, Some(why)).await
}

/// Blocks the chat's links to stores, because the bot may not write to the chat (or to one topic of it) now. The
/// deliveries for a blocked link are tried again later. Deliveries for other topics are not delayed. Tells the panels
/// of these stores by an event, and their other chats by a message.
pub(super) async fn blocked(
    transaction: &Transaction<'_>,
    chat: ChatId,
    block: Block,
    topic: Option<i32>,
    why: &str,
) -> Result<ChatsToWake, QueryError> {
    const BLOCK: &str = "with before as (select store_id, blocked_at from vestnik.vst_chat_link \
             where chat_id = $1 and ($2 or thread_id is not distinct from $3) for no key update) \
         update vestnik.vst_chat_link l set blocked_at = coalesce(l.blocked_at, clock_timestamp()), blocked_why = $4, \
             thread_id = case when $8 then null else l.thread_id end, \
             blocked_until = clock_timestamp() + make_interval(secs => case when $8 and l.thread_id is not null then 0 \
                 when coalesce(l.blocked_at, clock_timestamp()) > clock_timestamp() - interval '1 minute' then $5::float8 \
                 when l.blocked_at > clock_timestamp() - interval '1 hour' then $6::float8 else $7::float8 end) \
         from before where l.chat_id = $1 and l.store_id = before.store_id \
         returning l.store_id, before.blocked_at is null";
    let [first, then, later] = BLOCKED_PAUSES_S;
    let (everywhere, is_gone) = (block == Block::Chat, block == Block::TopicGone);
    let parameters: [&(dyn ToSql + Sync); 8] = [&chat.0, &everywhere, &topic, &why, &first, &then, &later, &is_gone];
    let rows = transaction.query(BLOCK, &parameters).await?;
    let mut stores: Vec<String> = Vec::new();
    for row in &rows {
        if row.try_get(1)? {
            stores.push(row.try_get(0)?);
        }
    }
    if stores.is_empty() {
        return Ok(ChatsToWake::default());
    }
    stores.sort_unstable();
    tracing::warn!(chat = chat.0, why, "a chat takes no messages now");
    enqueue_news(transaction, chat, &stores, News::Blocked, Some(why)).await
}

/// Unblocks the chat's links whose messages go to this topic, because a message was sent there. Enqueues a message
/// about this for the other chats of the links' stores. Deliveries for the chat's other topics are tried at once.
pub(super) async fn unblocked(
    transaction: &Transaction<'_>,
    chat: ChatId,
    topic: Option<i32>,
) -> Result<ChatsToWake, QueryError> {
    const UNBLOCK: &str = "update vestnik.vst_chat_link set blocked_at = null, blocked_why = null, blocked_until = '-infinity' \
         where chat_id = $1 and thread_id is not distinct from $2 and blocked_at is not null returning store_id";
    // The chat's other blocked deliveries may be sent now, too: try them at once.
    const HURRY: &str =
        "update vestnik.vst_chat_link set blocked_until = '-infinity' where chat_id = $1 and blocked_at is not null";
    let rows = transaction.query(UNBLOCK, &[&chat.0, &topic]).await?;
    transaction.execute(HURRY, &[&chat.0]).await?;
    let stores: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if stores.is_empty() {
        return Ok(ChatsToWake::default());
    }
    tracing::info!(chat = chat.0, "a chat takes messages again");
    enqueue_news(transaction, chat, &stores, News::Back, None).await
}

/// Tells the other chats of these stores about the new state of `chat`: enqueues a message for each. The message makes
/// no sound in a muted chat. If `why` is not `None`, the stores' panels get an event with this reason.
async fn enqueue_news(
    transaction: &Transaction<'_>,
    chat: ChatId,
    stores: &[String],
    news: News,
    why: Option<&str>,
) -> Result<ChatsToWake, QueryError> {
    let others = format!(
        "select g.store_id, coalesce(s.name, g.store_id), coalesce(c.title, c.telegram_id::text), \
             l.chat_id, l.language, l.thread_id, not coalesce({}, false) \
         from vestnik.vst_chat_link g join vestnik.vst_store s on s.id = g.store_id join vestnik.vst_chat c on c.id = g.chat_id \
         join vestnik.vst_chat_link l on l.store_id = g.store_id and l.chat_id <> g.chat_id \
         join vestnik.vst_chat oc on oc.id = l.chat_id and oc.disabled_at is null \
         where g.chat_id = $1 and g.store_id = any ($2) order by 1, 4",
        chat_links::IS_SILENT
    );
    const ENQUEUE: &str =
        "insert into vestnik.vst_delivery (chat_id, words, thread_id, urgent) values ($1, $2, $3, $4)";
    let title = "select title from vestnik.vst_chat where id = $1";
    let title: Option<String> = transaction.query_one(title, &[&chat.0]).await?.try_get(0)?;
    for store in stores {
        if let Some(why) = why {
            let data = serde_json::json!({"chat": title, "reason": why});
            journal::append(transaction, &StoreId::new(store), EventType::ChatDisabled, &data).await?;
        }
    }
    let mut chats = ChatsToWake::default();
    for row in transaction.query(&others, &[&chat.0, &stores]).await? {
        let (store, name, other): (&str, &str, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let words = catalog::of_store(row.try_get(4)?, row.try_get(0)?);
        let text = match news {
            News::Gone => "chat.gone",
            News::Blocked => "chat.blocked",
            News::Back => "chat.back",
        };
        let text = render_template(words.get(text), &[("store", store), ("chat", name)]);
        let topic: Option<i32> = row.try_get(5)?;
        let sounds: bool = row.try_get(6)?;
        transaction.execute(ENQUEUE, &[&other, &text, &topic, &sounds]).await?;
        chats.0.push(other);
    }
    Ok(chats)
}

/// Disables a chat because Telegram reports that the bot was removed from it, or that the person in a private chat
/// blocked the bot. `chat` is the chat's id at Telegram.
pub async fn disable(pool: &Pool, chat: i64, why: &str) -> Result<ChatsToWake, QueryError> {
    const CHAT: &str = "select id from vestnik.vst_chat where telegram_id = $1 for no key update";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        db::limit_idle_in_transaction(&transaction).await?;
        let Some(row) = transaction.query_opt(CHAT, &[&chat]).await? else {
            return Ok(ChatsToWake::default());
        };
        let chats = gone(&transaction, ChatId(row.try_get(0)?), why).await?;
        transaction.commit().await?;
        chats.wake(&client).await?;
        Ok(chats)
    })
    .await
}

/// Call this function when the bot gets an update from a chat, or when its rights in the chat change. Blocked
/// deliveries are then tried at once, but not before the end of a pause that Telegram asked for. A disabled chat is
/// enabled again, and gets the orders that it missed. `chat` is the chat's id at Telegram.
pub async fn enable(pool: &Pool, sources: &Registry, chat: i64) -> Result<ChatsToWake, QueryError> {
    const CHAT: &str = "select id, disabled_at is not null, \
             exists (select from vestnik.vst_chat_link l where l.chat_id = c.id and l.blocked_at is not null) \
         from vestnik.vst_chat c where telegram_id = $1";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let statement = client.prepare_cached(CHAT).await?;
        let Some(row) = client.query_opt(&statement, &[&chat]).await? else {
            return Ok(ChatsToWake::default());
        };
        let (chat, was_gone, is_blocked): (ChatId, bool, bool) =
            (ChatId(row.try_get(0)?), row.try_get(1)?, row.try_get(2)?);
        let mut chats = ChatsToWake::default();
        if was_gone {
            let transaction = client.transaction().await?;
            db::limit_idle_in_transaction(&transaction).await?;
            let sources = sources.in_force(&transaction).await?;
            chats = back(&transaction, &sources, chat).await?;
            transaction.commit().await?;
        } else if is_blocked {
            let retry_now =
                "update vestnik.vst_chat_link set blocked_until = '-infinity' where chat_id = $1 and blocked_at is not null";
            client.execute(retry_now, &[&chat.0]).await?;
            chats.0.push(chat.0);
        }
        chats.wake(&client).await?;
        Ok(chats)
    })
    .await
}

/// Enables a disabled chat again. Enqueues the deliveries that became dead when the chat was disabled, and the orders
/// and bookings since then. All of these are marked as stale, so that one message (a digest) lists many of them.
pub(super) async fn back(
    transaction: &Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
) -> Result<ChatsToWake, QueryError> {
    const BACK: &str = "with before as (select disabled_at, disabled_why from vestnik.vst_chat where id = $1 for no key update) \
         update vestnik.vst_chat c set disabled_at = null, disabled_why = null, failures = 0 from before \
         where c.id = $1 and c.disabled_at is not null returning before.disabled_at, before.disabled_why";
    const GIVEN_UP: &str = "update vestnik.vst_delivery set state = 'pending', reason = null, completed_at = null, stale = true, missed = true, \
             due_at = '-infinity', failures = 0, refusals = 0 \
         where chat_id = $1 and state = 'dead' and event_id is not null and completed_at >= $2::timestamptz - interval '1 minute' and reason = $3 \
           and store_id in (select store_id from vestnik.vst_chat_link where chat_id = $1)";
    let Some(row) = transaction.query_opt(BACK, &[&chat.0]).await? else {
        return Ok(ChatsToWake::default());
    };
    let (since, why): (OffsetDateTime, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    transaction.execute(GIVEN_UP, &[&chat.0, &since, &why]).await?;
    missed(transaction, sources, chat, since).await?;
    tracing::info!(chat = chat.0, "a chat takes messages again");
    let stores = "select store_id from vestnik.vst_chat_link where chat_id = $1 order by 1";
    let rows = transaction.query(stores, &[&chat.0]).await?;
    let stores: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    escalation::catch_up(transaction, chat, &stores).await?;
    let mut chats = enqueue_news(transaction, chat, &stores, News::Back, None).await?;
    chats.0.push(chat.0);
    Ok(chats)
}

/// Enqueues the newest event of each order and booking that the chat missed since the time `since`. Reads only stores
/// whose link to the chat has the mode `mirror`, because other modes get only escalated orders. A closed order is left
/// out if no message of the order was sent to the chat.
async fn missed(
    transaction: &Transaction<'_>,
    sources: &Sources,
    chat: ChatId,
    since: OffsetDateTime,
) -> Result<(), QueryError> {
    const SINCE: &str = "id in (select e.id from vestnik.vst_chat_link l join vestnik.vst_event e on e.store_id = l.store_id \
         where l.chat_id = $1 and l.mode = 'mirror' and e.source is not null \
           and e.at >= greatest($2, l.linked_at, clock_timestamp() - make_interval(hours => $3)) \
         order by e.id desc limit $4) order by id";
    db::read_by_index(transaction).await?;
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&chat.0, Type::INT8),
        (&since, Type::TIMESTAMPTZ),
        (&MISSED_HOURS, Type::INT4),
        (&MISSED_WRITES, Type::INT8),
    ];
    let rows = journal::read_where(transaction, SINCE, &parameters).await?;
    let rows: Vec<_> = rows.iter().collect();
    let mut missed: BTreeMap<(StoreId, String), PartnerEvent> = BTreeMap::new();
    for event in sources.partner_events(&rows, &Lookups::default()) {
        if let Some(subject) = event.subject.as_ref().map(|subject| subject.id.to_string()) {
            missed.insert((event.store.clone(), subject), event);
        }
    }
    let mut newest: Vec<((StoreId, String), PartnerEvent)> = missed.into_iter().collect();
    newest.sort_unstable_by_key(|(_, event)| event.id);
    let newest = newest.split_off(newest.len().saturating_sub(MISSED));
    tell_newest(transaction, chat, &newest).await
}

/// Enqueues these events, each of which is the newest of its order or booking. The new deliveries replace older open
/// deliveries of these orders and bookings.
async fn tell_newest(
    transaction: &Transaction<'_>,
    chat: ChatId,
    newest: &[((StoreId, String), PartnerEvent)],
) -> Result<(), QueryError> {
    const OLDER: &str = "update vestnik.vst_delivery d set state = 'dead', reason = 'the order has changed since', completed_at = clock_timestamp() \
         from unnest($2::bigint[], $3::text[], $4::text[]) m(id, store_id, subject) \
         where d.chat_id = $1 and d.store_id = m.store_id and d.subject = m.subject and d.event_id < m.id and d.state = 'pending' and d.stale";
    const ENQUEUE: &str = "insert into vestnik.vst_delivery (chat_id, store_id, event_id, subject, urgent, stale, missed) \
         select $1, m.store_id, m.id, m.subject, true, true, true \
         from unnest($2::bigint[], $3::text[], $4::text[], $5::boolean[]) m(id, store_id, subject, is_open) \
         where m.is_open or exists (select from vestnik.vst_message s \
             where s.chat_id = $1 and s.store_id = m.store_id and s.subject = m.subject and s.message_id <> 0) \
         order by m.id on conflict (event_id, chat_id) do nothing";
    let is_open = |event: &PartnerEvent| {
        let status = event.subject.as_ref().and_then(|subject| subject.visible_status());
        status.is_some_and(Status::is_open)
    };
    let ids: Vec<i64> = newest.iter().map(|(_, event)| event.id.0).collect();
    let stores: Vec<&str> = newest.iter().map(|((store, _), _)| store.as_str()).collect();
    let subjects: Vec<&str> = newest.iter().map(|((_, subject), _)| subject.as_str()).collect();
    let open: Vec<bool> = newest.iter().map(|(_, event)| is_open(event)).collect();
    transaction.execute(OLDER, &[&chat.0, &ids, &stores, &subjects]).await?;
    transaction
        .execute(ENQUEUE, &[&chat.0, &ids, &stores, &subjects, &open])
        .await?;
    Ok(())
}
