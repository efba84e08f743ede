//! Sends orders again when a person asks for them. For one order, the person presses a button of a list or of an old
//! message. For all open orders, the person writes the command `/orders`.

use std::collections::HashMap;
use std::time::Duration;

use crate::infra::db::Pool;

use super::event_view::{self, Item, views_of};
use crate::delivery::chat_links::Pressed;
use crate::domain::event::SubjectId;
use crate::domain::status::Status;
use crate::infra::db::{self, QueryError};
use crate::sources::registry::Registry;

/// To find the open orders of a chat, at most this many orders are read: the newest ones.
const LOOKED_AT: i64 = 5000;
/// To find the open orders of a chat, only orders up to this age are read, hours.
const HOURS: i32 = 48;
/// The most orders in the list of open orders. If there are more, the list has those that have waited longest.
const LISTED: usize = 300;

/// The open orders and bookings of a chat.
#[derive(Debug)]
pub struct OpenOrders {
    /// The open orders and bookings, each in its current state. The order that has waited longest comes first. The list
    /// has at most `LISTED` entries.
    pub listed: Vec<Item>,
    /// The number of open orders and bookings that are not in `listed`.
    pub more: usize,
}

/// Enqueues an order or booking again for a chat. If the chat already has the order's message, a note replies to that
/// message. Otherwise the order gets a new message. `chat` is the chat's id at Telegram.
pub async fn bring(pool: &Pool, chat: i64, pressed: &Pressed) -> Result<(), QueryError> {
    const BRING: &str = "with chat as (update vestnik.vst_chat set waiting = true where telegram_id = $1 returning id), \
         there as (select m.chat_id from vestnik.vst_message m join chat on chat.id = m.chat_id \
             where m.store_id = $2 and m.subject = $3 and m.message_id <> 0), \
         noted as (insert into vestnik.vst_delivery as d (chat_id, store_id, about_id, note, subject, urgent) \
             select chat_id, $2, $4, 'shown', $3, true from there \
             on conflict (about_id, chat_id, note) do update set state = 'pending', completed_at = null, due_at = '-infinity', \
                 failures = 0, refusals = 0 where d.state in ('sent', 'dead')) \
         insert into vestnik.vst_delivery as d (chat_id, store_id, event_id, subject, urgent, alone) \
         select id, $2, $4, $3, true, true from chat where not exists (select from there) \
         on conflict (event_id, chat_id) do update set state = case d.state when 'sending' then d.state else 'pending' end, completed_at = null, due_at = '-infinity', \
             failures = 0, refusals = 0, urgent = true, stale = false, alone = true";
    db::with_timeout(async {
        let client = pool.get().await?;
        client
            .execute(
                BRING,
                &[&chat, &pressed.store.as_str(), &pressed.subject, &pressed.event],
            )
            .await?;
        Ok(())
    })
    .await
}

/// Reads the open orders and bookings of these stores that were sent to the chat before.
pub async fn open(pool: &Pool, sources: &Registry, chat: i64, stores: &[String]) -> Result<OpenOrders, QueryError> {
    const TOLD: &str = "select d.store_id, d.subject, (extract(epoch from clock_timestamp() - min(d.waits_since)))::float8, max(d.id) \
         from vestnik.vst_delivery d join vestnik.vst_chat c on c.id = d.chat_id \
         where c.telegram_id = $1 and d.event_id is not null and d.store_id = any ($2) \
           and d.waits_since > clock_timestamp() - make_interval(hours => $3) \
         group by d.store_id, d.subject order by 4 desc limit $4";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let mut transaction = client.transaction().await?;
        let rows = transaction.query(TOLD, &[&chat, &stores, &HOURS, &LOOKED_AT]).await?;
        let mut told: HashMap<String, HashMap<SubjectId, f64>> = HashMap::new();
        for row in &rows {
            if let Some(subject) = SubjectId::from_text(row.try_get(1)?) {
                told.entry(row.try_get(0)?)
                    .or_default()
                    .insert(subject, row.try_get(2)?);
            }
        }
        let sources = sources.in_force(&transaction).await?;
        let mut open: Vec<(f64, i64)> = Vec::new();
        for (store, ages) in &told {
            let subjects: Vec<SubjectId> = ages.keys().cloned().collect();
            let newest = event_view::newest_of(&transaction, &sources, store, &subjects).await?;
            let is_open = |status: Option<Status>| status.is_some_and(Status::is_open);
            let mut newest: Vec<_> = newest.into_iter().filter(|(_, (_, status))| is_open(*status)).collect();
            open.extend(newest.drain(..).map(|(subject, (event, _))| (ages[&subject], event)));
        }
        open.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        let more = open.len().saturating_sub(LISTED);
        open.truncate(LISTED);
        let ids: Vec<i64> = open.iter().map(|(_, event)| *event).collect();
        let mut views = views_of(&mut transaction, &sources, &ids).await?;
        let item = |(age_s, id)| {
            let age = Duration::try_from_secs_f64(age_s).unwrap_or_default();
            views.remove(&id).map(|event| Item { id, event, age })
        };
        let listed = open.into_iter().filter_map(item).collect();
        Ok(OpenOrders { listed, more })
    })
    .await
}
