//! Sends a message to the chats of a store when the store is paused or takes orders again. The message makes no sound,
//! and is sent after urgent messages.

use std::time::Duration;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::types::{ToSql, Type};

use crate::domain::event::{Body, EventType};
use crate::infra::db::Transaction;
use crate::journal::Due;
use crate::text::catalog;
use crate::text::html::render_template;
use crate::text::value::{inline, moment};

/// Tells the chats of a store that the store is paused, or takes orders again: enqueues a message for each chat. If
/// `due` has several such events of a store, only the newest counts. An event older than `digest_after` gets no
/// message.
pub(super) async fn enqueue(
    transaction: &Transaction<'_>,
    due: &[Due],
    digest_after: Duration,
) -> Result<(), tokio_postgres::Error> {
    const CHATS: &str = "select l.chat_id, l.thread_id, l.language, coalesce(s.name, s.id), s.time_zone \
         from vestnik.vst_chat_link l join vestnik.vst_store s on s.id = l.store_id join vestnik.vst_chat c on c.id = l.chat_id \
         where l.store_id = $1 and c.disabled_at is null and l.blocked_at is null order by 1";
    const ENQUEUE: &str = "with enqueued as (insert into vestnik.vst_delivery (chat_id, words, thread_id, urgent) values ($1, $2, $3, false)) \
         update vestnik.vst_chat set waiting = true where id = $1";
    let mut last: Vec<(&str, bool, &str)> = Vec::new();
    for Due { event, age_s } in due {
        let (Body::Engine(kind @ (EventType::StorePaused | EventType::StoreResumed), data), Some(store)) =
            (&event.body, &event.store)
        else {
            continue;
        };
        last.retain(|(of, ..)| *of != store.as_str());
        if *age_s <= digest_after.as_secs_f64() {
            last.push((store.as_str(), *kind == EventType::StorePaused, data));
        }
    }
    for (store, is_paused, data) in last {
        for row in transaction.query(CHATS, &[&store]).await? {
            let (chat, topic): (i64, Option<i32>) = (row.try_get(0)?, row.try_get(1)?);
            let of = Notice {
                id: store,
                language: row.try_get(2)?,
                store: row.try_get(3)?,
                time_zone: row.try_get(4)?,
            };
            let text = notice(&of, is_paused, data);
            let parameters: [(&(dyn ToSql + Sync), Type); 3] =
                [(&chat, Type::INT8), (&text, Type::TEXT), (&topic, Type::INT4)];
            transaction.query_typed(ENQUEUE, &parameters).await?;
        }
    }
    Ok(())
}

/// What the text of a message about a store's pause depends on: the store and the language.
#[derive(Debug)]
struct Notice<'a> {
    /// The store's id.
    id: &'a str,
    /// The store's display name.
    store: &'a str,
    /// The IANA name of the store's time zone.
    time_zone: &'a str,
    /// The language of the store's messages in this chat, such as `ru`.
    language: &'a str,
}

/// Returns the text of a message about a store's pause. If `is_paused`, the text says that the store is paused,
/// otherwise that the store takes orders again. `data` is the event's data as JSON.
fn notice(notice: &Notice<'_>, is_paused: bool, data: &str) -> String {
    #[derive(Default, Deserialize)]
    struct Data {
        until: Option<String>,
        by: Option<String>,
        reason: Option<String>,
    }
    let data: Data = serde_json::from_str(data).unwrap_or_default();
    let words = catalog::of_store(notice.language, notice.id);
    let by = inline(data.by.as_deref().unwrap_or_default());
    let values = [("store", notice.store), ("by", by.as_str())];
    if !is_paused {
        let name = if by.is_empty() {
            "pause.resumed"
        } else {
            "pause.resumed_by"
        };
        return render_template(words.get(name), &values);
    }
    let until = data
        .until
        .and_then(|until| OffsetDateTime::parse(&until, &Rfc3339).ok());
    let time = until
        .map(|until| moment(until, notice.time_zone, words))
        .unwrap_or_default();
    let mut lines = vec![render_template(
        words.get("pause.paused"),
        &[values[0], values[1], ("time", &time)],
    )];
    if let Some(reason) = data.reason {
        lines.push(render_template(
            words.get("pause.reason"),
            &[("reason", &inline(&reason))],
        ));
    }
    lines.join("\n")
}
