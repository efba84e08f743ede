//! Finds answers that the shop's application overwrote by mistake. The application loads a row, a person answers, and
//! the application then saves the whole row with the old status.

use std::collections::HashMap;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio_postgres::types::Type;

use super::changes::{Change, Piece, pieces};
use super::overwritten_answer::OverwrittenAnswer;
use super::{Source, Sources};
use crate::domain::event::{Body, EventId, JournalEvent, SourceId, StoreId, Write};
use crate::domain::status::Status;
use crate::infra::db::GenericClient;

/// Maximum time between a person's answer and a write that overwrites it by mistake, minutes. An application loads and
/// saves a row within one request or one open form. A later return to the old status counts as the application's own
/// decision.
const STALE_ROW_MINUTES: i32 = 15;

/// A write that changes an order's status from `from` back to the earlier status `to`. The write may have overwritten a
/// person's answer by mistake.
#[derive(Debug, Clone)]
pub struct StepBack {
    /// The id of the last journal row that records the write.
    pub event: EventId,
    source: SourceId,
    store: StoreId,
    key: Arc<str>,
    at: OffsetDateTime,
    from: Status,
    to: Status,
}

impl StepBack {
    /// Returns the write as a [`StepBack`] if it changes the order back to an earlier status; otherwise `None`.
    /// `before` and `after` are the columns of the row before and after the write, each as a JSON object.
    pub(super) fn of(source: &Source, last: &JournalEvent, key: &Arc<str>, before: &str, after: &str) -> Option<Self> {
        let [from, to] = [before, after].map(|data| source.at_the_time_of(data).status_of(data));
        let (from, to) = (from?, to?);
        let may_return = |now: Status| now.can_return_to(to, source.mapping.kind, source.mapping.reachable());
        // If the shop has the same word for rejected and cancelled, a rejected order has the status `Cancelled`. So a
        // write that changes a cancelled order back may also have overwritten a rejection.
        let is_back = may_return(from) || from == Status::Cancelled && may_return(Status::Rejected);
        is_back.then(|| {
            Some(Self {
                event: last.id,
                source: source.id,
                store: last.store.clone()?,
                key: Arc::clone(key),
                at: last.at,
                from,
                to,
            })
        })?
    }
}

impl Sources {
    /// Finds writes in these journal rows that changed an order back to an earlier status. Writes that a person made
    /// with a button are left out. Each of the other writes may have overwritten a person's answer.
    pub fn steps_back(&self, events: &[&JournalEvent]) -> Vec<StepBack> {
        // Only an update can change an order back to an earlier status. Most reads of the journal contain only inserts,
        // so return early.
        let may_be = |event: &&JournalEvent| matches!(&event.body, Body::Write(write) if write.write == Write::Update);
        if !events.iter().any(may_be) {
            return Vec::new();
        }
        let step = |piece: Piece<'_>| match piece {
            Piece::Change(Change {
                last,
                source,
                key: Some(key),
                before: Some(before),
                after: Some(after),
                answer: None,
            }) => StepBack::of(self.get(source)?, last, key, before, after),
            _ => None,
        };
        pieces(events).into_iter().filter_map(step).collect()
    }
}

/// Finds the writes in `steps` that undid a person's newest answer to the order, and returns the answers. The map's key
/// is the id of the write's journal row.
pub async fn find(
    client: &impl GenericClient,
    steps: &[StepBack],
) -> Result<HashMap<EventId, OverwrittenAnswer>, tokio_postgres::Error> {
    const NEWEST: &str = "select c.place, a.previous, a.status, vestnik.vst_readable(a.by_whom) \
         from unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[]) with ordinality c (source, store, key, at, place) \
         cross join lateral (select * from vestnik.vst_status_change a where a.source = c.source and a.key = c.key \
             and a.store_id = c.store and a.at <= c.at order by a.id desc limit 1) a \
         where a.at > c.at - make_interval(mins => $5)";
    let mut found = HashMap::new();
    if steps.is_empty() {
        return Ok(found);
    }
    let sources: Vec<i32> = steps.iter().map(|step| step.source.0).collect();
    let stores: Vec<&str> = steps.iter().map(|step| step.store.as_str()).collect();
    let keys: Vec<&str> = steps.iter().map(|step| &*step.key).collect();
    let times: Vec<OffsetDateTime> = steps.iter().map(|step| step.at).collect();
    let rows = client
        .query_typed(
            NEWEST,
            &[
                (&sources, Type::INT4_ARRAY),
                (&stores, Type::TEXT_ARRAY),
                (&keys, Type::TEXT_ARRAY),
                (&times, Type::TIMESTAMPTZ_ARRAY),
                (&STALE_ROW_MINUTES, Type::INT4),
            ],
        )
        .await?;
    for row in &rows {
        let place: i64 = row.try_get(0)?;
        let Some(step) = usize::try_from(place - 1).ok().and_then(|place| steps.get(place)) else {
            continue;
        };
        let [previous, status] = [row.try_get(1)?, row.try_get(2)?].map(Status::from_name);
        if (previous, status) == (Some(step.to), Some(step.from)) {
            let answer = OverwrittenAnswer {
                source: step.source,
                key: Arc::clone(&step.key),
                status: step.from,
                by: row.try_get(3)?,
            };
            found.insert(step.event, answer);
        }
    }
    Ok(found)
}

/// Reports an overwritten answer to the operator, in a metric and in the log.
pub fn report(sources: &Sources, answer: &OverwrittenAnswer) {
    metrics::counter!("vestnik_answers_overwritten_total").increment(1);
    let source = sources.get(answer.source).map(|source| source.name.to_string());
    tracing::error!(
        source,
        key = &*answer.key,
        status = answer.status.as_str(),
        "the shop's application wrote the old status over an answer: it saves whole rows that it had loaded before; let it update \
         only the columns that it changed, or lock optimistically"
    );
}
