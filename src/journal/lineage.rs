//! Detects that a database was put back to an earlier state. Postgres itself does not report this: after a data
//! directory was copied back, cluster and timeline are unchanged, and Postgres assigns the same transaction ids again.
//! A client's old cursor could then cover new transactions. A line of history is the time between two starts of
//! Postgres. Each start begins a new line, and closes the previous line at the newest event in the journal. A cursor
//! from a closed line is valid if it covers nothing after this event. The feed also checks that the newest event that
//! it has read is still in the journal.

use time::OffsetDateTime;
use tokio_postgres::Row;

use super::Error;
use super::sql_types::SqlXid;
use crate::domain::cursor::{Cursor, Epoch, Position, Unusable};
use crate::domain::event::{EventId, JournalEvent, Xid};
use crate::infra::db::{self, Client, GenericClient};

/// Number of event ids that are skipped after a start of Postgres. If a restore has removed events from the journal,
/// clients may still know these events, so their ids must not be used again.
const FREE_IDS: i64 = 1_000_000;
/// Number of further event ids that are skipped for each second between the newest event and the start of Postgres. A
/// journal cannot get as many events in a second.
const FREE_IDS_A_SECOND: i64 = 10_000;
/// Maximum number of seconds for which event ids are skipped (see `FREE_IDS_A_SECOND`): ten years.
const LOST_SECONDS: i64 = 315_360_000;

/// SQL of the columns from which [`epoch`] computes an [`Epoch`].
pub(super) const EPOCH_COLUMNS: &str = "(select system_identifier from pg_control_system()) as system_identifier, \
     (select line::text from vestnik.vst_lineage where through is null) as line, \
     (select oid from pg_database where datname = current_database()) as database_oid";
/// SQL for the name of the current line of history. The name is null if no node has begun a line since the last start
/// of Postgres.
pub(super) const LINE_HERE: &str = "(select line::text from vestnik.vst_lineage where through is null \
     and started_at = pg_postmaster_start_time())";
/// SQL that selects all lines of history. `through` is the newest transaction that a cursor from this line may cover;
/// null: any transaction. A line ends at the newest event before the next start of Postgres. A standby replays events
/// after its start. So if it becomes the primary, the line ends at the newest replayed event.
const LINES: &str = "select (select system_identifier from pg_control_system()) as system_identifier, line::text as line, \
     (select oid from pg_database where datname = current_database()) as database_oid, \
     case when through is not null then through when started_at <> pg_postmaster_start_time() then \
       greatest((select xid from vestnik.vst_event \
           where at < greatest(pg_postmaster_start_time(), pg_last_xact_replay_timestamp()) order by xid desc limit 1), \
         (select trimmed_through from vestnik.vst_retention)) end as through \
     from vestnik.vst_lineage";

pub(super) fn epoch(row: &Row) -> Result<Epoch, tokio_postgres::Error> {
    Ok(Epoch::new(
        row.try_get("system_identifier")?,
        row.try_get::<_, &str>("line")?,
        row.try_get("database_oid")?,
    ))
}

/// Reads the [`Epoch`] of the connected database.
pub async fn read_epoch(client: &Client) -> Result<Epoch, Error> {
    Ok(read(client).await?.epoch)
}

/// The current line of history, which is the time since the last start of Postgres.
#[derive(Debug)]
pub(super) struct HistoryLine {
    /// The name of the line of history, a UUID. Each start of Postgres begins a line with a new name.
    pub name: String,
    /// The epoch with which cursors are encoded now. See [`Epoch`].
    pub epoch: Epoch,
}

async fn read(client: &impl GenericClient) -> Result<HistoryLine, Error> {
    let row = client.query_one(&format!("select {EPOCH_COLUMNS}"), &[]).await?;
    Ok(HistoryLine {
        name: row.try_get("line")?,
        epoch: epoch(&row)?,
    })
}

/// The newest event that a feed has read. If this event is no longer in the journal, the database was put back to an
/// earlier state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    id: EventId,
    xid: Xid,
    at: OffsetDateTime,
}

impl Witness {
    /// Returns the event of the newest transaction among `before` and `events`. Events of canaries (self-tests) do not
    /// count, because they are deleted soon. `None`: there is no event.
    pub fn newest_of(before: Option<Self>, events: &[JournalEvent]) -> Option<Self> {
        let lasting = events.iter().filter(|event| !event.is_canary());
        let newest = lasting.max_by_key(|event| event.xid).map(|event| Self {
            id: event.id,
            xid: event.xid,
            at: event.at,
        });
        before.into_iter().chain(newest).max_by_key(|event| event.xid)
    }
}

/// Reads the newest event of the journal. Events of canaries (self-tests) do not count, because they are deleted soon.
/// `None`: the journal has no event.
pub(super) async fn newest(client: &Client) -> Result<Option<Witness>, Error> {
    const NEWEST: &str =
        "select id, xid, at from vestnik.vst_event where source is distinct from 0 order by xid desc limit 1";
    let Some(row) = client.query_opt(NEWEST, &[]).await? else {
        return Ok(None);
    };
    Ok(Some(Witness {
        id: EventId(row.try_get(0)?),
        xid: row.try_get::<_, SqlXid>(1)?.0,
        at: row.try_get(2)?,
    }))
}

/// Returns the current line of history, which is the time since the last start of Postgres. The first node that
/// connects after a start begins the line.
pub(super) async fn begin(client: &mut Client) -> Result<HistoryLine, Error> {
    let is_here = format!("select {LINE_HERE} is not null");
    if !client.query_one(&is_here, &[]).await?.try_get::<_, bool>(0)? {
        begin_line(client, EarlierCursors::Valid).await?;
    }
    read(client).await
}

/// Whether earlier cursors stay valid when a new line of history begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EarlierCursors {
    /// A cursor of the previous line stays valid, unless it covers a transaction after the newest event of that line.
    Valid,
    /// No earlier cursor is valid.
    Void,
}

async fn begin_line(client: &mut Client, cursors: EarlierCursors) -> Result<(), Error> {
    const LOCK: &str =
        "select started_at = pg_postmaster_start_time() from vestnik.vst_lineage where through is null for update";
    const CLOSE: &str = "update vestnik.vst_lineage set through = lines.through from (";
    const VOID: &str = "delete from vestnik.vst_lineage";
    const BEGIN: &str = "insert into vestnik.vst_lineage default values";
    const FORGET: &str =
        "delete from vestnik.vst_lineage where through < (select trimmed_through from vestnik.vst_retention)";
    let skip_ids = format!(
        "select setval('vestnik.vst_event_id_seq', (select last_value from vestnik.vst_event_id_seq) + {FREE_IDS} \
         + {FREE_IDS_A_SECOND} * least({LOST_SECONDS}, greatest(0, extract(epoch from clock_timestamp() - coalesce( \
           (select at from vestnik.vst_event where at < greatest(pg_postmaster_start_time(), pg_last_xact_replay_timestamp()) order by xid desc limit 1), \
           clock_timestamp()))::bigint)))"
    );
    let transaction = client.transaction().await?;
    db::limit_idle_in_transaction(&transaction).await?;
    // Another node may have begun the new line before the lock was free.
    let Some(in_force) = transaction.query_opt(LOCK, &[]).await? else {
        return Ok(());
    };
    match cursors {
        EarlierCursors::Valid if in_force.try_get(0)? => return Ok(()),
        EarlierCursors::Valid => {
            let close = format!(
                "{CLOSE}{LINES}) lines where lines.line = vst_lineage.line::text and vst_lineage.through is null"
            );
            transaction.execute(&close, &[]).await?;
            transaction.execute(FORGET, &[]).await?;
        }
        EarlierCursors::Void => {
            transaction.execute(VOID, &[]).await?;
        }
    }
    transaction.execute(BEGIN, &[]).await?;
    transaction.execute(&skip_ids, &[]).await?;
    transaction.commit().await?;
    tracing::info!(
        void = cursors == EarlierCursors::Void,
        "a line of history begins: Postgres was started, or its history was put back"
    );
    Ok(())
}

/// Reads all lines of history. The result has the epoch of each line, and the newest transaction that a cursor of this
/// epoch may cover; `None`: any transaction.
async fn lines(client: &impl GenericClient) -> Result<Vec<(Epoch, Option<Xid>)>, Error> {
    let rows = client.query(LINES, &[]).await?;
    let line = |row: &Row| {
        Ok((
            epoch(row)?,
            row.try_get::<_, Option<SqlXid>>("through")?.map(|xid| xid.0),
        ))
    };
    rows.iter().map(line).collect()
}

/// The result of decoding a client's cursor.
pub(super) enum Decoded {
    /// The cursor is valid.
    Usable(Cursor),
    /// The cursor cannot be used, for this reason.
    Unusable(Unusable),
}

/// Decodes a client's cursor. A cursor from before the last start of Postgres may still be valid. `here` is the current
/// epoch. Does not check whether the journal still has the events after the cursor.
pub(super) async fn decode(client: &impl GenericClient, text: &str, here: Epoch) -> Result<Decoded, Error> {
    if Cursor::decode(text, here) == Err(Unusable::Unreadable) {
        return Ok(Decoded::Unusable(Unusable::Unreadable));
    }
    for (epoch, through) in lines(client).await? {
        if let Ok(cursor) = Cursor::decode(text, epoch)
            && through.is_none_or(|through| cursor.end().0 <= through.0 + 1)
        {
            return Ok(Decoded::Usable(cursor));
        }
    }
    Ok(Decoded::Unusable(Unusable::Epoch))
}

/// Whether a feed may continue at its position `read_to`. Checks that the journal still has `seen`, the newest event
/// that the feed has read. If this event is gone, the database was restored, so all earlier cursors become invalid.
/// Then a new line of history begins, unless another node has already begun one.
pub(super) async fn continues(
    client: &mut Client,
    line: &mut HistoryLine,
    epoch: Epoch,
    read_to: &Position,
    seen: Option<&Witness>,
) -> Result<bool, Error> {
    const IS_SAME: &str = "select pg_snapshot_xmax(pg_current_snapshot()) >= $4 and ($2 <= trimmed_through \
         or exists (select from vestnik.vst_event where id = $1 and xid = $2 and at = $3)) from vestnik.vst_retention";
    let of = lines(client).await?.into_iter().find(|(of, _)| *of == epoch);
    let kept = |through: Option<Xid>| through.is_none_or(|through| read_to.newest() <= through);
    if of.is_none_or(|(_, through)| !kept(through)) {
        return Ok(false);
    }
    let Some(seen) = seen else {
        return Ok(true);
    };
    let (id, xid, end) = (seen.id.0, SqlXid(seen.xid), SqlXid(read_to.end()));
    let statement = client.prepare_cached(IS_SAME).await?;
    if client
        .query_one(&statement, &[&id, &xid, &seen.at, &end])
        .await?
        .try_get(0)?
    {
        return Ok(true);
    }
    if line.epoch == epoch {
        begin_line(client, EarlierCursors::Void).await?;
        *line = read(client).await?;
    } else {
        // Another node has begun this line since the last read of `seen`. Its cursors are of the present history.
        client
            .execute("delete from vestnik.vst_lineage where through is not null", &[])
            .await?;
    }
    Ok(false)
}
