//! Detects that a database was put back to an earlier state. Postgres itself does not report this: after a data
//! directory was copied back, cluster and timeline are unchanged, and Postgres assigns the same transaction ids again.
//! A client's old cursor could then cover new transactions. A line of history is the time between two starts of
//! Postgres. Each start begins a new line, and closes the previous line at the newest event in the journal. A cursor
//! from a closed line is valid if it covers nothing after this event. The feed also checks that the events of its last
//! read are still in the journal.

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

/// Maximum number of events that a feed remembers of its last read.
const MOST_WITNESSES: usize = 1024;

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

/// An event that a feed has read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Witness {
    id: EventId,
    xid: Xid,
    at: OffsetDateTime,
}

/// The events that show whether the database has lost commits that a feed has read: one event of each transaction of
/// its last read. If commits are lost, the last of them is lost. It need not have the highest transaction id.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Witnesses(Vec<Witness>);

impl Witnesses {
    /// Replaces the witnesses by those of another read. Events of canaries (self-tests) do not count, because they are
    /// deleted soon. If the read has no other event, the witnesses stay.
    pub fn read(&mut self, events: &[JournalEvent]) {
        let mut read = Self::default();
        read.extend(events);
        *self = read.or(std::mem::take(self));
    }

    /// These witnesses, or `before` if there is none.
    pub fn or(self, before: Self) -> Self {
        if self.0.is_empty() { before } else { self }
    }

    /// Adds the witnesses of a further part of one read. At most `MOST_WITNESSES` are kept: those with the highest
    /// transaction ids.
    pub fn extend(&mut self, events: &[JournalEvent]) {
        let lasting = events.iter().filter(|event| !event.is_canary());
        self.0.extend(lasting.map(|event| Witness {
            id: event.id,
            xid: event.xid,
            at: event.at,
        }));
        self.0.sort_unstable_by_key(|event| std::cmp::Reverse(event.xid));
        self.0.dedup_by_key(|event| event.xid);
        self.0.truncate(MOST_WITNESSES);
    }
}

/// Reads the newest event of the journal. Events of canaries (self-tests) do not count, because they are deleted soon.
/// The result is empty if the journal has no event.
pub(super) async fn newest(client: &Client) -> Result<Witnesses, Error> {
    const NEWEST: &str =
        "select id, xid, at from vestnik.vst_event where source is distinct from 0 order by xid desc limit 1";
    let Some(row) = client.query_opt(NEWEST, &[]).await? else {
        return Ok(Witnesses::default());
    };
    Ok(Witnesses(vec![Witness {
        id: EventId(row.try_get(0)?),
        xid: row.try_get::<_, SqlXid>(1)?.0,
        at: row.try_get(2)?,
    }]))
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
        "select vestnik.vst_skip_event_ids({FREE_IDS} \
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

/// Whether a feed may continue at its position `read_to`. Checks that the journal still has the events `seen`, which
/// the feed has read. If one of them is gone, the database was restored, so all earlier cursors become invalid. Then a
/// new line of history begins, unless another node has already begun one.
pub(super) async fn continues(
    client: &mut Client,
    line: &mut HistoryLine,
    epoch: Epoch,
    read_to: &Position,
    seen: &Witnesses,
) -> Result<bool, Error> {
    const IS_SAME: &str = "select pg_snapshot_xmax(pg_current_snapshot()) >= $4 and not exists ( \
             select from unnest($1::int8[], $2::xid8[], $3::timestamptz[]) seen (id, xid, at) where seen.xid > trimmed_through \
                 and not exists (select from vestnik.vst_event e where e.id = seen.id and e.xid = seen.xid and e.at = seen.at)) \
         from vestnik.vst_retention";
    let of = lines(client).await?.into_iter().find(|(of, _)| *of == epoch);
    let kept = |through: Option<Xid>| through.is_none_or(|through| read_to.newest() <= through);
    if of.is_none_or(|(_, through)| !kept(through)) {
        return Ok(false);
    }
    if seen.0.is_empty() {
        return Ok(true);
    }
    let ids: Vec<i64> = seen.0.iter().map(|event| event.id.0).collect();
    let xids: Vec<SqlXid> = seen.0.iter().map(|event| SqlXid(event.xid)).collect();
    let times: Vec<OffsetDateTime> = seen.0.iter().map(|event| event.at).collect();
    let statement = client.prepare_cached(IS_SAME).await?;
    if client
        .query_one(&statement, &[&ids, &xids, &times, &SqlXid(read_to.end())])
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
