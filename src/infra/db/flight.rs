//! Cancels a statement in Postgres if its caller stops waiting, so that it does not use resources in vain. Its
//! connection is not lent again, because the cancellation may arrive late and hit the next statement.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{CancelToken, Row, RowStream};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Time limit of a cancellation. A statement that could not be cancelled ends by itself, or with its connection.
const CANCEL_DEADLINE: Duration = Duration::from_secs(5);
/// Delays after which a cancellation is sent again to a pooler. A pooler drops a cancellation whose sender disconnects
/// too early, and tokio-postgres disconnects at once. A cancellation without a running statement has no effect.
const AGAIN_TO_A_POOLER: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// Cancels the running statement of one connection.
pub struct Canceller {
    token: CancelToken,
    connector: MakeRustlsConnect,
    again: &'static [Duration],
    abandoned: AtomicBool,
}

impl Canceller {
    /// The canceller of the connection that `token` belongs to. Through a pooler it sends each cancellation several
    /// times.
    pub fn new(token: CancelToken, connector: MakeRustlsConnect, is_pooled: bool) -> Self {
        Self {
            token,
            connector,
            again: if is_pooled { &AGAIN_TO_A_POOLER } else { &[] },
            abandoned: AtomicBool::new(false),
        }
    }

    /// Whether the caller of a statement on this connection stopped waiting for it.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (token, connector, again) = (self.token.clone(), self.connector.clone(), self.again);
        let cancelled = async move {
            token.cancel_query(connector.clone()).await?;
            for pause in again {
                sleep(*pause).await;
                token.cancel_query(connector.clone()).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        runtime.spawn(async move {
            if let Ok(Err(error)) = timeout(CANCEL_DEADLINE, cancelled).await {
                tracing::debug!(error = super::reason(&error), "a statement could not be cancelled");
            }
        });
    }
}

/// Waits for a statement. If this future is dropped, cancels the statement in Postgres.
pub async fn under_way<T>(canceller: &Arc<Canceller>, statement: impl Future<Output = T>) -> T {
    let flight = Flight(Some(canceller));
    let answer = statement.await;
    flight.land();
    answer
}

/// Closes the connection of an abandoned statement after the time limit of the cancellation, unless the connection ends
/// earlier.
pub fn linger(connection: AbortHandle) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(async move {
            sleep(CANCEL_DEADLINE).await;
            connection.abort();
        })),
        Err(_) => connection.abort(),
    }
}

struct Flight<'a>(Option<&'a Arc<Canceller>>);

impl Flight<'_> {
    fn land(mut self) {
        self.0 = None;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(canceller) = self.0 {
            canceller.abandon();
        }
    }
}

/// The rows of a statement as a stream. Dropping the stream before its end cancels the statement.
pub struct Rows {
    rows: Pin<Box<RowStream>>,
    under_way: Option<Arc<Canceller>>,
}

impl Rows {
    /// Wraps the rows of a statement. `canceller` belongs to the statement's connection.
    pub fn new(rows: RowStream, canceller: Arc<Canceller>) -> Self {
        Self {
            rows: Box::pin(rows),
            under_way: Some(canceller),
        }
    }

    /// Stops reading without cancelling the statement.
    pub fn leave(mut self) {
        self.under_way = None;
    }
}

impl Stream for Rows {
    type Item = Result<Row, tokio_postgres::Error>;

    /// After its end this stream returns `None` again. The stream of tokio-postgres would report a closed connection.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.under_way.is_none() {
            return Poll::Ready(None);
        }
        let next = self.rows.as_mut().poll_next(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.under_way = None;
        }
        next
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if let Some(canceller) = self.under_way.take() {
            canceller.abandon();
        }
    }
}
