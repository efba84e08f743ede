//! Waits between two reads of the feed, and meanwhile executes the actions of [`SuppressionState`]. Lock requests and
//! reads use different Postgres sessions, so that no wait for a lock delays a read.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::in_flight::InFlightEstimator;
use super::precise_sleep::PreciseSleep;
use super::suppression_state::{Action, Input, SuppressionState};
use crate::domain::cursor::Snapshot;
use crate::domain::event::JournalEvent;
use crate::feed::listener::{ListenState, ListenerSignals};
use crate::feed::suppression_locks::{Broken, IdleLock, ListenSession, PeerMessage, SuppressorSession};

/// The reason why the feed reads the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A notification arrived, or the state of the LISTEN connection changed.
    Notified,
    /// An idle node reads, because the fallback interval has passed without a notification. If this read finds
    /// events, their notifications have not arrived.
    FallbackPoll,
    /// The node polls, and its pause has passed.
    Poll,
}

/// The result of a lock operation, as an input of the state machine. If the operation opened the Postgres session that
/// suppresses NOTIFY, the second value is this session.
type LockResult = (Input, Option<Arc<SuppressorSession>>);
type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Decides when the feed of a node reads, and which locks of NOTIFY suppression the node holds.
pub struct WakeupDriver {
    signals: Arc<ListenerSignals>,
    listen_state: watch::Receiver<ListenState>,
    listen_sessions: watch::Receiver<Option<Arc<ListenSession>>>,
    /// The direct address of Postgres, for the Postgres session that suppresses NOTIFY. A pooler would not keep the
    /// locks of this session.
    url: SecretString,
    /// Interval at which an idle node reads even without a notification.
    safety: Duration,
    state: SuppressionState,
    in_flight: InFlightEstimator,
    listen_session: Option<Arc<ListenSession>>,
    suppressor: Option<Arc<SuppressorSession>>,
    lock_operation: Pending<LockResult>,
    sending: Pending<()>,
    /// Messages that are to be sent to other nodes, at most one of each kind.
    outgoing: VecDeque<PeerMessage>,
    sleep: PreciseSleep,
}

impl WakeupDriver {
    /// Creates the driver of a node that does not listen yet. `safety` is the interval of an idle node's fallback
    /// reads.
    pub fn new(
        signals: Arc<ListenerSignals>,
        listen_state: watch::Receiver<ListenState>,
        url: SecretString,
        safety: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            listen_sessions: signals.session.subscribe(),
            signals,
            listen_state,
            url,
            safety,
            state: SuppressionState::new(now),
            in_flight: InFlightEstimator::new(now),
            listen_session: None,
            suppressor: None,
            lock_operation: None,
            sending: None,
            outgoing: VecDeque::new(),
            sleep: PreciseSleep::new(),
        }
    }

    /// Records a read of the journal. `snapshot` is the snapshot of the read, with the database's time. `None`: there
    /// were too many events, so the read returned none.
    pub fn record_read(&mut self, snapshot: Option<(&Snapshot, OffsetDateTime)>, events: &[JournalEvent]) {
        let now = Instant::now();
        if let Some((_, clock)) = snapshot {
            self.in_flight
                .record_read(events, clock, self.state.is_suppressing(), now);
        }
        let input = Input::Read {
            oldest: snapshot.map(|(snapshot, _)| snapshot.oldest()),
            events: events.len(),
            load: self.in_flight.level(),
        };
        self.apply(input);
    }

    /// Reports that the journal cannot be read. The node stops suppressing NOTIFY, so that writers notify the other
    /// nodes.
    pub fn journal_lost(&mut self) {
        self.apply(Input::SuppressorLost);
    }

    /// Waits until the feed must read again, and returns why.
    pub async fn wait(&mut self) -> WakeReason {
        let begin = Instant::now();
        loop {
            self.refresh_sessions();
            if let Some(action) = self.state.due_action(Instant::now()) {
                self.execute(action);
            }
            let pause = self.state.pause(self.safety, Instant::now());
            let timeout_reason = if self.state.is_idle() {
                WakeReason::FallbackPoll
            } else {
                WakeReason::Poll
            };
            tokio::select! {
                biased;
                result = completed(&mut self.lock_operation) => {
                    self.lock_operation = None;
                    let (input, suppressor) = result;
                    self.suppressor = suppressor.or(self.suppressor.take());
                    self.apply(input);
                    if matches!(input, Input::IdleLockRequested(IdleLock::Shared(_))) {
                        // The state is `Draining` now. The node becomes idle only after a read, so the feed reads at
                        // once.
                        return WakeReason::Poll;
                    }
                }
                () = completed(&mut self.sending) => self.send_next(),
                () = self.signals.release_request.notified() => {
                    self.apply(Input::Received(PeerMessage::ReleaseRequest));
                }
                () = self.signals.polling_peer.notified() => self.apply(Input::Received(PeerMessage::PollingPeer)),
                () = self.signals.journal.notified() => return WakeReason::Notified,
                Ok(()) = self.listen_state.changed() => {
                    self.refresh_sessions();
                    return WakeReason::Notified;
                }
                () = sleep_until(&mut self.sleep, begin, pause) => return timeout_reason,
            }
        }
    }

    /// Tells the state machine if the LISTEN session was replaced, or if the Postgres session that suppresses NOTIFY
    /// has ended.
    fn refresh_sessions(&mut self) {
        let listen_session = self.listen_sessions.borrow_and_update().clone();
        let same = match (&self.listen_session, &listen_session) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            // Pending operations on the old session are dropped, because that session has ended.
            self.lock_operation = None;
            self.sending = None;
            self.outgoing.clear();
            self.apply(Input::NotListening);
            self.listen_session = listen_session;
            if self.listen_session.is_some() {
                self.apply(Input::Listening);
            }
        }
        if self.suppressor.as_ref().is_some_and(|suppressor| suppressor.is_lost()) {
            self.apply(Input::SuppressorLost);
        }
    }

    fn apply(&mut self, input: Input) {
        let was_suppressing = self.state.is_suppressing();
        for action in self.state.apply(input, Instant::now()) {
            self.execute(action);
        }
        if self.state.is_suppressing() != was_suppressing {
            let suppressing = self.state.is_suppressing();
            tracing::debug!(suppressing, "NOTIFY suppression changed");
            let gauge = metrics::gauge!("vestnik_notify_suppressed");
            if suppressing {
                gauge.increment(1.0);
                metrics::counter!("vestnik_notify_suppressions_total").increment(1);
            } else {
                gauge.decrement(1.0);
            }
        }
    }

    /// Executes an action. If a lock operation on the LISTEN session fails, the future of the operation never
    /// completes. `refresh_sessions` then handles the end of this session.
    fn execute(&mut self, action: Action) {
        match action {
            Action::RequestIdleLock => self.on_listen_session(|session| {
                Box::pin(async move {
                    match session.try_acquire_idle_lock().await {
                        Ok(lock) => (Input::IdleLockRequested(lock), None),
                        Err(Broken) => pending().await,
                    }
                })
            }),
            Action::ReleaseIdleLock => self.on_listen_session(|session| {
                Box::pin(async move {
                    match session.release_idle_lock().await {
                        Ok(()) => (Input::IdleLockReleased, None),
                        Err(Broken) => pending().await,
                    }
                })
            }),
            Action::WaitForIdleLock => self.wait_for_idle_lock(),
            Action::WaitForWriterLock => {
                if let Some(suppressor) = self.suppressor.clone() {
                    self.lock_operation = Some(Box::pin(async move {
                        (lock_wait_ended(suppressor.wait_for_writer_lock().await), None)
                    }));
                }
            }
            Action::DropSuppressor => {
                self.suppressor = None;
                self.lock_operation = None;
            }
            Action::Send(message) => {
                if !self.outgoing.contains(&message) {
                    self.outgoing.push_back(message);
                }
                if self.sending.is_none() {
                    self.send_next();
                }
            }
        }
    }

    fn on_listen_session(
        &mut self,
        action: impl FnOnce(Arc<ListenSession>) -> Pin<Box<dyn Future<Output = LockResult> + Send>>,
    ) {
        // Without a LISTEN session the state machine is in the state `NotListening`, and requests no lock.
        self.lock_operation = self.listen_session.clone().map(action);
    }

    fn wait_for_idle_lock(&mut self) {
        let (suppressor, url) = (self.suppressor.clone(), self.url.clone());
        let Some(key) = self.listen_session.as_ref().map(|session| session.key()) else {
            return;
        };
        self.lock_operation = Some(Box::pin(async move {
            let suppressor = match suppressor {
                Some(suppressor) => suppressor,
                None => match SuppressorSession::connect(&url, key).await {
                    Ok(suppressor) => Arc::new(suppressor),
                    Err(error) => return (lock_wait_ended(Err(error)), None),
                },
            };
            (lock_wait_ended(suppressor.wait_for_idle_lock().await), Some(suppressor))
        }));
    }

    fn send_next(&mut self) {
        self.sending = None;
        let (Some(session), Some(message)) = (self.listen_session.clone(), self.outgoing.pop_front()) else {
            return;
        };
        let node = self.signals.node;
        self.sending = Some(Box::pin(async move { session.send(message, node).await }));
    }
}

fn lock_wait_ended(wait: Result<crate::feed::suppression_locks::LockWait, crate::infra::db::QueryError>) -> Input {
    match wait {
        Ok(wait) => Input::LockWaitEnded(wait),
        Err(error) => {
            tracing::warn!(%error, "could not suppress NOTIFY; every order notifies");
            Input::SuppressorLost
        }
    }
}

/// Waits for the pending operation, and returns its result. Without a pending operation the future never completes.
async fn completed<T>(lock_operation: &mut Pending<T>) -> T {
    match lock_operation {
        Some(lock_operation) => lock_operation.await,
        None => pending().await,
    }
}

async fn sleep_until(sleep: &mut PreciseSleep, begin: Instant, pause: Option<Duration>) {
    match pause {
        // The feed reads again at once, but lets other tasks run first.
        None => tokio::task::yield_now().await,
        Some(pause) => sleep.sleep(pause.saturating_sub(begin.elapsed())).await,
    }
}
