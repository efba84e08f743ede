//! Reads the open deliveries of a chat: those that are neither sent nor dead. The module `choice` chooses the chat's
//! next message from them.

use super::lane::{self, ChatId, Lane};
use super::next_message::{Alarm, Note};
use crate::infra::db::{QueryError, Transaction};

/// Maximum number of open deliveries of a chat that are read to choose its next message.
const LOOK_AHEAD: i64 = 200;
/// An event, or a note about a cancellation, is recent if it is younger than this many seconds. Recent deliveries are
/// sent before older ones. So after an outage, a new order does not wait for the old ones.
const FRESH_S: f64 = 10.0;

/// One open delivery of a chat.
pub(super) struct OpenDelivery {
    pub id: i64,
    pub store: Option<String>,
    pub event: Option<i64>,
    pub note: Option<Note>,
    pub subject: Option<String>,
    pub alarm: Option<Alarm>,
    pub words: Option<String>,
    /// If this delivery is an edit: the id of the sent message. `words` then has the new text. `None`: a new message.
    pub message: Option<i32>,
    pub buttons: Option<serde_json::Value>,
    pub urgent: bool,
    pub stale: bool,
    /// Whether the chat took no messages at the time of the event.
    pub missed: bool,
    /// Whether a person asked for this order. If so, the order gets a separate message, and no digest lists it.
    pub alone: bool,
}

impl OpenDelivery {
    /// Whether both deliveries are about the same order of the same store. One key may be an order of several stores.
    pub fn is_about_same(&self, other: &Self) -> bool {
        self.store == other.store && self.subject == other.subject
    }
}

/// Reads the open deliveries of the chat in this lane that may be sent now. Urgent deliveries come first. Among equally
/// urgent ones, deliveries that a person asked for (`alone`) come first, then recent ones (see `FRESH_S`), then the
/// others. Ties are sorted by id.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    chat: ChatId,
    lane: Lane,
) -> Result<Vec<OpenDelivery>, QueryError> {
    let sql = format!(
        "select d.id, d.store_id, d.event_id, d.words, d.subject, d.stale, d.note, d.buttons, d.alone, d.urgent, d.missed, \
             case when d.alarm_id is null then null when not d.alarm_ends then 'raised' else a.cleared_by end, d.message_id \
         from vestnik.vst_delivery d left join vestnik.vst_alarm a on a.id = d.alarm_id \
         where d.chat_id = $1 and d.state in ('pending', 'sending', 'retrying') and d.keyboard is null and {} and {} \
         order by d.urgent desc, d.alone desc, ((d.event_id is not null or d.note = 'cancelled') \
             and d.waits_since > clock_timestamp() - make_interval(secs => $3)) desc, d.id limit $2",
        lane.has(),
        lane::is_due()
    );
    let statement = transaction.prepare_cached(&sql).await?;
    let mut open = Vec::new();
    for row in transaction.query(&statement, &[&chat.0, &LOOK_AHEAD, &FRESH_S]).await? {
        open.push(OpenDelivery {
            id: row.try_get(0)?,
            store: row.try_get(1)?,
            event: row.try_get(2)?,
            words: row.try_get(3)?,
            message: row.try_get(12)?,
            subject: row.try_get(4)?,
            stale: row.try_get(5)?,
            note: row.try_get::<_, Option<&str>>(6)?.and_then(Note::from_name),
            buttons: row.try_get(7)?,
            alone: row.try_get(8)?,
            urgent: row.try_get(9)?,
            missed: row.try_get(10)?,
            alarm: match row.try_get(11)? {
                None => None,
                Some("raised") => Some(Alarm::Raised),
                Some("closing") => Some(Alarm::ClearedByClosing),
                Some(_) => Some(Alarm::ClearedByPanel),
            },
        });
    }
    Ok(open)
}
