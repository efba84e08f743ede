//! Streams the events of large transactions over a separate connection. Meanwhile the feed, the task that reads new
//! events for clients, continues to read other events.

use futures::TryStreamExt as _;
use futures::stream::{BoxStream, StreamExt as _, once, try_unfold};
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use super::lineage::read_epoch;
use super::reader::{Chunks, ConnectError, READ_DEADLINE, SESSION, SORT_DEADLINE};
use super::sql_types::xids;
use super::{EVENT_COLUMNS, Error};
use crate::domain::cursor::Epoch;
use crate::domain::event::{EventId, JournalEvent, Xid};
use crate::infra::config::Database;
use crate::infra::db;

/// A stream of chunks of events, sorted by id. If the future that waits for the next chunk is dropped, no event is
/// lost.
pub type LargeTransactionStream = BoxStream<'static, Result<Vec<JournalEvent>, ConnectError>>;

struct OpenStream {
    chunks: Chunks,
    _client: db::Client,
}

/// Streams events of the transactions `of` in chunks of limited size, beginning after the event `through`. The stream
/// connects to the database when it is first polled, and fails if the database's epoch is not `epoch`.
pub fn stream_large_transactions(
    database: &Database,
    epoch: Epoch,
    of: &[Xid],
    through: EventId,
) -> LargeTransactionStream {
    let open = open(database.clone(), epoch, of.to_vec(), through);
    let chunks = |open: OpenStream| {
        try_unfold(open, async |mut open| {
            let events = open.chunks.next().await?;
            Ok::<_, ConnectError>((!events.is_empty()).then_some((events, open)))
        })
    };
    once(open).map_ok(chunks).try_flatten().boxed()
}

async fn open(database: Database, epoch: Epoch, of: Vec<Xid>, through: EventId) -> Result<OpenStream, ConnectError> {
    let url = database.url.as_ref().ok_or(db::Error::Missing)?;
    let mut client = db::connect_as(url, "bulk").await?;
    let begin = async {
        client.set(&SESSION).await?;
        if read_epoch(&client).await? != epoch {
            return Err(Error::Elsewhere);
        }
        Ok(())
    };
    timeout(READ_DEADLINE, begin).await.map_err(|_| Error::TimedOut)??;
    let sql = format!(
        "select null::pg_snapshot, {EVENT_COLUMNS} from vestnik.vst_event where xid = any ($1) and id > $2 order by id"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&xids(&of), Type::XID8_ARRAY), (&through.0, Type::INT8)];
    let rows = timeout(SORT_DEADLINE, client.query_typed_raw(&sql, &parameters)).await;
    let chunks = Chunks::new(rows.map_err(|_| Error::TimedOut)?.map_err(Error::from)?);
    Ok(OpenStream {
        chunks,
        _client: client,
    })
}
