//! Cancels a statement in Postgres if its caller stops waiting, because nobody needs the result. The connection is not
//! used again, because a late cancellation could cancel the next statement on it.

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

/// Time limit of a cancellation. If Postgres cannot be reached in this time, the statement is not cancelled. It then
/// ends by itself, or when its connection ends.
const CANCEL_DEADLINE: Duration = Duration::from_secs(5);
/// Time limit of a cancellation through a pooler. A pooler ignores a cancellation whose sender disconnects early, as
/// tokio-postgres does. So the cancellation is sent repeatedly until the connection has ended.
const POOLED_CANCEL_DEADLINE: Duration = Duration::from_secs(30);
/// The first pause before a cancellation is sent to a pooler again. The pause doubles each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Cancels the running statement of one connection.
pub struct Canceller {
    token: CancelToken,
    connector: MakeRustlsConnect,
    /// The task that does the connection's network I/O. It ends after the client was dropped and the last statement has
    /// ended.
    driver: AbortHandle,
    is_pooled: bool,
    abandoned: AtomicBool,
}

impl Canceller {
    /// Creates the canceller of a connection. `token` identifies the connection in Postgres. The task `driver` does the
    /// connection's network I/O.
    pub fn new(token: CancelToken, connector: MakeRustlsConnect, driver: AbortHandle, is_pooled: bool) -> Self {
        Self {
            token,
            connector,
            driver,
            is_pooled,
            abandoned: AtomicBool::new(false),
        }
    }

    /// Whether the caller of a statement on this connection stopped waiting for its result.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn deadline(&self) -> Duration {
        match self.is_pooled {
            true => POOLED_CANCEL_DEADLINE,
            false => CANCEL_DEADLINE,
        }
    }

    fn abandon(self: &Arc<Self>) {
        self.abandoned.store(true, Ordering::Relaxed);
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let canceller = Arc::clone(self);
        runtime.spawn(async move {
            if let Ok(Err(error)) = timeout(canceller.deadline(), canceller.cancel()).await {
                tracing::debug!(error = super::reason(&error), "a statement could not be cancelled");
            }
        });
    }

    /// Sends the cancellation to Postgres. If there is a pooler, sends it repeatedly, until the connection has ended.
    async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            self.token.cancel_query(self.connector.clone()).await?;
            if !self.is_pooled {
                return Ok(());
            }
            sleep(pause).await;
            if self.driver.is_finished() {
                return Ok(());
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Closes the connection after a delay, if it is still open then. The delay is the time limit of a cancellation.
    /// `Client` calls this method when it is dropped, if the cancellation of a statement may not have ended.
    pub fn linger(&self) {
        let (driver, deadline) = (self.driver.clone(), self.deadline());
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                sleep(deadline).await;
                driver.abort();
            })),
            Err(_) => driver.abort(),
        }
    }
}

/// Waits for the result of a statement. If the caller drops this future, cancels the statement in Postgres.
pub async fn under_way<T>(canceller: &Arc<Canceller>, statement: impl Future<Output = T>) -> T {
    let flight = Flight(Some(canceller));
    let answer = statement.await;
    flight.land();
    answer
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

/// The rows of a statement as a stream. If the stream is dropped before its end, the statement is cancelled.
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

    /// Stops reading the rows without cancelling the statement.
    pub fn leave(mut self) {
        self.under_way = None;
    }
}

impl Stream for Rows {
    type Item = Result<Row, tokio_postgres::Error>;

    /// Returns the next row. If the caller polls the stream again after its end, returns `None` again, whereas the
    /// stream of tokio-postgres would report a closed connection.
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
