//! A statement under way. One that nobody waits for any more is cancelled in Postgres, so that it stops working for
//! nobody; and its connection is not lent again, for the cancellation may reach it late.

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

/// How long a cancellation may take. Without it the statement ends by itself, or by its connection.
const CANCEL_DEADLINE: Duration = Duration::from_secs(5);
/// A pooler forgets a cancellation whose sender has gone before it is passed on, and tokio-postgres goes at once: after so
/// long it is sent again. One that comes when nothing is under way does nothing.
const AGAIN_TO_A_POOLER: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// Cancels what is under way on a connection.
pub struct Canceller {
    token: CancelToken,
    connector: MakeRustlsConnect,
    again: &'static [Duration],
    abandoned: AtomicBool,
}

impl Canceller {
    /// Of this connection.
    pub fn new(token: CancelToken, connector: MakeRustlsConnect, is_pooled: bool) -> Self {
        Self {
            token,
            connector,
            again: if is_pooled { &AGAIN_TO_A_POOLER } else { &[] },
            abandoned: AtomicBool::new(false),
        }
    }

    /// Whether a statement was abandoned.
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

/// Waits for a statement; cancels it where the wait is given up.
pub async fn under_way<T>(canceller: &Arc<Canceller>, statement: impl Future<Output = T>) -> T {
    let flight = Flight(Some(canceller));
    let answer = statement.await;
    flight.land();
    answer
}

/// Ends the connection of an abandoned statement that its cancellation has not ended.
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

/// Rows as they come.
pub struct Rows {
    rows: Pin<Box<RowStream>>,
    under_way: Option<Arc<Canceller>>,
}

impl Rows {
    /// Of a statement of this connection.
    pub fn new(rows: RowStream, canceller: Arc<Canceller>) -> Self {
        Self {
            rows: Box::pin(rows),
            under_way: Some(canceller),
        }
    }

    /// Needs no more of them: what there is of it is thrown away.
    pub fn leave(mut self) {
        self.under_way = None;
    }
}

impl Stream for Rows {
    type Item = Result<Row, tokio_postgres::Error>;

    /// Behind its end it goes on to have ended: tokio-postgres' own says that the connection is closed.
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
