//! The state machine of NOTIFY suppression: when a node polls, when it is idle, and when it suppresses NOTIFY.
//! docs/notify-suppression.md describes the protocol. This file uses no database: the caller reports inputs, and
//! executes the returned actions. At most one lock operation is in progress.

use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::Load;
use crate::domain::event::Xid;
use crate::feed::suppression_locks::{IdleLock, LockWait, PeerMessage};

/// Longest pause between two reads of a polling node.
pub const POLLING_PAUSE: Duration = Duration::from_millis(50);
/// Shortest pause between two reads of a polling node, or of a suppressing node that found no event. The pause is half
/// as long as an order's transaction, because the timer's delay and the read take about the other half.
pub const SUPPRESSING_PAUSE: Duration = Duration::from_micros(250);
/// Longest pause of a suppressing node after a read without events. After a long time without events, only few and long
/// transactions can be open, so more frequent reads would find nothing.
const MAX_SUPPRESSING_PAUSE: Duration = Duration::from_millis(2);
/// Longest pause of a suppressing node under load. Up to this limit, the pause grows with the load.
const MAX_BUSY_PAUSE: Duration = Duration::from_millis(5);
/// A polling node pauses for the time since it began to poll, divided by this number: after 40 ms, it pauses for 10 ms.
/// For a suppressing node, the time counts from the last read that found events. So reads are frequent at first,
/// because writers that were denied the lock commit soon.
const PAUSE_DIVISOR: u32 = 4;
/// Maximum number of successive waits for the idle lock. If all of them time out, another Postgres session evidently
/// keeps the lock. Then the node tries again after `SUPPRESS_RETRY`.
const MAX_IDLE_LOCK_WAITS: u32 = 10;
/// Pause after a failed attempt to suppress NOTIFY, before the next attempt.
const SUPPRESS_RETRY: Duration = Duration::from_secs(5);
/// Shortest time between two [`PeerMessage::PollingPeer`] messages of a node.
const POLLING_PEER_INTERVAL: Duration = Duration::from_secs(1);
/// For this time after a `PollingPeer` message, a suppressing node sends `EventsRead` after each read with events.
const PEER_TIMEOUT: Duration = Duration::from_secs(3);
/// For this time after a node begins to suppress NOTIFY, it sends [`PeerMessage::EventsRead`] after each read with
/// events. Within this time, every polling node has sent [`PeerMessage::PollingPeer`]. The time is short, because a
/// message after each read reduces the throughput of orders by a tenth.
const PEER_ANSWER_TIMEOUT: Duration = Duration::from_millis(250);
/// Shortest time between two [`PeerMessage::EventsRead`] messages of a suppressing node that knows of no polling node.
/// The messages wake nodes whose [`PeerMessage::PollingPeer`] message was lost.
const EVENTS_READ_INTERVAL: Duration = POLLING_PAUSE;

/// A state of one node in the protocol of NOTIFY suppression. A *writer* is a transaction that records an event. It
/// notifies only if it gets the shared writer lock. The idle lock shows which nodes rely on notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No notification reaches the node, so it polls.
    NotListening,
    /// The node polls and holds no lock. Notifications may wake it, too.
    Polling,
    /// The node polls, and has requested the idle lock. `release_requested`: meanwhile, another node has asked this
    /// node to release the lock.
    RequestingIdle { release_requested: bool },
    /// The node holds the idle lock, and has then allocated the transaction id `own_xid`. It polls until all
    /// transactions with a lower id have ended, because some of them may commit without a notification.
    Draining { own_xid: Xid },
    /// The node holds the idle lock, and reads only when it is notified, or at long intervals as a fallback.
    Idle,
    /// The node polls, and releases the idle lock. `to_suppress`: the node wants to suppress NOTIFY itself; otherwise
    /// another node requested the release.
    ReleasingIdle { to_suppress: bool },
    /// The node polls, and waits for the exclusive idle lock, which it gets when no other node is idle. `attempt` is
    /// the number of this wait, from 1; each wait has a time limit.
    WaitingForIdlePeers { attempt: u32 },
    /// The node holds the exclusive idle lock, and waits for the exclusive writer lock until every transaction that
    /// notifies has ended. No further writer notifies from the start of this wait on.
    WaitingForWriters,
    /// The node holds the idle lock and the writer lock exclusively, so no writer notifies.
    Suppressing,
}

/// An event that the caller reports to the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// LISTEN works on a new Postgres session, which holds no lock yet.
    Listening,
    /// LISTEN does not work: no notification reaches this node.
    NotListening,
    /// The result of [`Action::RequestIdleLock`].
    IdleLockRequested(IdleLock),
    /// [`Action::ReleaseIdleLock`] has been executed.
    IdleLockReleased,
    /// The result of [`Action::WaitForIdleLock`] or [`Action::WaitForWriterLock`].
    LockWaitEnded(LockWait),
    /// The Postgres session that suppresses NOTIFY could not be opened, or has ended, or the journal cannot be read. So
    /// the node must not suppress NOTIFY.
    SuppressorLost,
    /// A message of another node arrived.
    Received(PeerMessage),
    /// A read of the journal has ended. It began after all earlier inputs.
    Read {
        /// The snapshot of the read shows that every transaction with a lower id than this value has ended. `None`: the
        /// read had no snapshot.
        oldest: Option<Xid>,
        /// Number of events that the read found.
        events: usize,
        /// The load on the database after the read.
        load: Load,
    },
}

/// A step that the caller must execute for the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Request the shared idle lock, which marks the node as idle, on the LISTEN session. The caller reports the result
    /// as [`Input::IdleLockRequested`].
    RequestIdleLock,
    /// Release the shared idle lock on the LISTEN session. The caller then reports [`Input::IdleLockReleased`].
    ReleaseIdleLock,
    /// Wait for the exclusive idle lock, until no node is idle. The wait runs on the Postgres session that suppresses
    /// NOTIFY. The caller reports [`Input::LockWaitEnded`].
    WaitForIdleLock,
    /// Wait for the exclusive writer lock, so that no writer notifies. The wait runs on the Postgres session that
    /// suppresses NOTIFY. The caller reports [`Input::LockWaitEnded`].
    WaitForWriterLock,
    /// End the Postgres session that suppresses NOTIFY. Postgres then releases the locks of this session.
    DropSuppressor,
    /// Send a message to the other nodes, with NOTIFY.
    Send(PeerMessage),
}

/// The state machine of one node in NOTIFY suppression.
#[derive(Debug)]
pub struct SuppressionState {
    state: State,
    /// When the node began to poll. The pauses between its reads grow from this time on.
    since: Instant,
    /// The node requests the idle lock at this time at the earliest.
    request_idle_at: Instant,
    /// The node tries to suppress NOTIFY at this time at the earliest.
    suppress_at: Instant,
    /// The node sends a `PollingPeer` message at this time at the earliest.
    polling_peer_at: Instant,
    /// Until this time, the node assumes that other nodes poll. So it sends `EventsRead` after each read that found
    /// events.
    peers_until: Instant,
    /// If no other node is known to poll, the node sends `EventsRead` at this time at the earliest.
    events_read_at: Instant,
    /// Whether the node must still send `EventsRead` after it stopped suppressing NOTIFY. A writer that was denied the
    /// writer lock may still be running, and does not notify.
    must_notify_peers: bool,
    load: Load,
    /// Whether the last read found events.
    found_events: bool,
    /// When a read last found events.
    found_events_at: Instant,
}

impl SuppressionState {
    /// Creates the state of a node that has just started, and does not listen yet.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::NotListening,
            since: now,
            request_idle_at: now,
            suppress_at: now,
            polling_peer_at: now,
            peers_until: now,
            events_read_at: now,
            must_notify_peers: false,
            load: Load::Between,
            found_events: false,
            found_events_at: now,
        }
    }

    /// Whether the node is idle: it reads only when it is notified, or at long intervals as a fallback.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether this node holds the writer lock exclusively or waits for it, so that writers do not notify.
    pub fn is_suppressing(&self) -> bool {
        matches!(self.state, State::WaitingForWriters | State::Suppressing)
    }

    /// Returns the pause until the next read if no notification arrives; `None`: read at once. `safety` is the interval
    /// of an idle node's fallback reads.
    pub fn pause(&self, safety: Duration, now: Instant) -> Option<Duration> {
        match (self.state, self.load) {
            (State::Idle, _) => Some(safety),
            (State::NotListening, _) => Some(POLLING_PAUSE),
            (State::WaitingForWriters | State::Suppressing, _) if !self.found_events => {
                Some(self.suppressing_pause(now))
            }
            (State::WaitingForWriters | State::Suppressing, Load::Busy(pause)) => Some(pause.min(MAX_BUSY_PAUSE)),
            (State::WaitingForWriters | State::Suppressing, _) => None,
            _ => Some(self.polling_pause(now)),
        }
    }

    fn polling_pause(&self, now: Instant) -> Duration {
        ((now - self.since) / PAUSE_DIVISOR).clamp(SUPPRESSING_PAUSE, POLLING_PAUSE)
    }

    fn suppressing_pause(&self, now: Instant) -> Duration {
        ((now - self.found_events_at) / PAUSE_DIVISOR).clamp(SUPPRESSING_PAUSE, MAX_SUPPRESSING_PAUSE)
    }

    /// Returns the action that is due at the time `now`, although no input has arrived. `None`: no action is due.
    pub fn due_action(&mut self, now: Instant) -> Option<Action> {
        if self.state != State::Polling || now < self.request_idle_at {
            return None;
        }
        self.state = State::RequestingIdle {
            release_requested: false,
        };
        Some(Action::RequestIdleLock)
    }

    /// Applies an input. Returns the actions that the caller must execute, in order.
    pub fn apply(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Listening => self.start_polling(now),
            Input::NotListening => {
                let acts = self.start_polling(now);
                self.state = State::NotListening;
                acts
            }
            Input::SuppressorLost => match self.state {
                State::WaitingForIdlePeers { .. } | State::WaitingForWriters | State::Suppressing => {
                    self.suppress_at = now + SUPPRESS_RETRY;
                    self.start_polling(now)
                }
                _ => Vec::new(),
            },
            Input::IdleLockRequested(result) => self.idle_lock_requested(result, now),
            Input::IdleLockReleased => self.idle_lock_released(now),
            Input::LockWaitEnded(wait) => self.lock_wait_ended(wait, now),
            Input::Received(message) => self.received(message, now),
            Input::Read { oldest, events, load } => self.read(oldest, events, load, now),
        }
    }

    /// Returns to the state `Polling`. If the node has a Postgres session that suppresses NOTIFY, the returned action
    /// ends this session, which releases its locks.
    fn start_polling(&mut self, now: Instant) -> Vec<Action> {
        let has_suppressor = matches!(
            self.state,
            State::WaitingForIdlePeers { .. } | State::WaitingForWriters | State::Suppressing
        );
        self.must_notify_peers |= self.is_suppressing();
        self.state = State::Polling;
        self.since = now;
        self.request_idle_at = now;
        if has_suppressor {
            vec![Action::DropSuppressor]
        } else {
            Vec::new()
        }
    }

    fn idle_lock_requested(&mut self, result: IdleLock, now: Instant) -> Vec<Action> {
        let State::RequestingIdle { release_requested } = self.state else {
            return Vec::new();
        };
        match result {
            IdleLock::Shared(_) if release_requested => {
                self.state = State::ReleasingIdle { to_suppress: false };
                vec![Action::ReleaseIdleLock]
            }
            IdleLock::Shared(own_xid) => {
                self.state = State::Draining { own_xid };
                Vec::new()
            }
            IdleLock::Refused => {
                self.state = State::Polling;
                self.request_idle_at = now + self.polling_pause(now);
                self.announce_polling(now)
            }
        }
    }

    fn announce_polling(&mut self, now: Instant) -> Vec<Action> {
        // After this node has suppressed NOTIFY, it sends no `PollingPeer` message. Its own old session may be the
        // reason why a lock was denied, because Postgres releases that session's locks with a delay.
        if self.must_notify_peers || now < self.polling_peer_at {
            return Vec::new();
        }
        self.polling_peer_at = now + POLLING_PEER_INTERVAL;
        vec![Action::Send(PeerMessage::PollingPeer)]
    }

    fn idle_lock_released(&mut self, now: Instant) -> Vec<Action> {
        match self.state {
            State::ReleasingIdle { to_suppress: true } => {
                self.state = State::WaitingForIdlePeers { attempt: 1 };
                vec![Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
            }
            State::ReleasingIdle { to_suppress: false } => {
                self.state = State::Polling;
                // The node that sent the request has perhaps not begun to wait for the exclusive idle lock. So this
                // node does not request the idle lock again at once: it could get it before that node.
                self.request_idle_at = now + POLLING_PAUSE;
                self.announce_polling(now)
            }
            _ => Vec::new(),
        }
    }

    fn lock_wait_ended(&mut self, wait: LockWait, now: Instant) -> Vec<Action> {
        match (self.state, wait) {
            // The load has become low during the wait, so NOTIFY suppression is not needed any more.
            (State::WaitingForIdlePeers { .. } | State::WaitingForWriters, _) if self.load == Load::Calm => {
                self.start_polling(now)
            }
            (State::WaitingForIdlePeers { .. }, LockWait::Held) => {
                self.state = State::WaitingForWriters;
                // This node does not know yet whether other nodes poll, so it sends `EventsRead` for each read at
                // first.
                self.peers_until = self.peers_until.max(now + PEER_ANSWER_TIMEOUT);
                vec![Action::WaitForWriterLock]
            }
            (
                State::WaitingForIdlePeers {
                    attempt: MAX_IDLE_LOCK_WAITS,
                },
                LockWait::TimedOut,
            ) => {
                self.suppress_at = now + SUPPRESS_RETRY;
                self.start_polling(now)
            }
            (State::WaitingForIdlePeers { attempt }, LockWait::TimedOut) => {
                self.state = State::WaitingForIdlePeers { attempt: attempt + 1 };
                vec![Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
            }
            (State::WaitingForWriters, LockWait::Held) => {
                self.state = State::Suppressing;
                Vec::new()
            }
            // A long transaction holds the writer lock. No other writer notifies, so the node simply waits again.
            (State::WaitingForWriters, LockWait::TimedOut) => vec![Action::WaitForWriterLock],
            _ => Vec::new(),
        }
    }

    fn received(&mut self, message: PeerMessage, now: Instant) -> Vec<Action> {
        if message == PeerMessage::ReleaseRequest && !self.is_suppressing() {
            // The sender begins to suppress NOTIFY. It sends `EventsRead` only if it knows that this node polls, so
            // this node must tell it with `PollingPeer` soon.
            self.must_notify_peers = false;
            self.polling_peer_at = now;
        }
        match (message, self.state) {
            (PeerMessage::ReleaseRequest, State::RequestingIdle { .. }) => {
                self.state = State::RequestingIdle {
                    release_requested: true,
                };
                Vec::new()
            }
            (PeerMessage::ReleaseRequest, State::Draining { .. } | State::Idle) => {
                self.state = State::ReleasingIdle { to_suppress: false };
                self.since = now;
                vec![Action::ReleaseIdleLock]
            }
            // The sender was first to release the idle lock. This node lets the sender suppress NOTIFY, so that the two
            // nodes do not block each other.
            (PeerMessage::ReleaseRequest, State::ReleasingIdle { to_suppress: true }) => {
                self.state = State::ReleasingIdle { to_suppress: false };
                Vec::new()
            }
            (PeerMessage::PollingPeer, _) => {
                self.peers_until = now + PEER_TIMEOUT;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn read(&mut self, oldest: Option<Xid>, events: usize, load: Load, now: Instant) -> Vec<Action> {
        self.load = load;
        self.found_events = events > 0;
        if self.found_events {
            self.found_events_at = now;
        }
        let mut acts = Vec::new();
        let must_tell_peers = now < self.peers_until || now >= self.events_read_at;
        if self.found_events && must_tell_peers && (self.is_suppressing() || self.must_notify_peers) {
            self.events_read_at = now + EVENTS_READ_INTERVAL;
            acts.push(Action::Send(PeerMessage::EventsRead));
        }
        match self.state {
            State::Draining { own_xid } if oldest.is_some_and(|oldest| oldest >= own_xid) => {
                self.state = State::Idle;
                self.must_notify_peers = false;
            }
            State::Suppressing if load == Load::Calm => acts.extend(self.start_polling(now)),
            _ => {}
        }
        let may_suppress = matches!(self.state, State::Draining { .. } | State::Idle) && now >= self.suppress_at;
        if may_suppress && matches!(load, Load::Busy(_)) {
            self.state = State::ReleasingIdle { to_suppress: true };
            self.since = now;
            acts.push(Action::ReleaseIdleLock);
        }
        acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFETY: Duration = Duration::from_secs(1);
    const BUSY: Load = Load::Busy(Duration::from_millis(4));

    fn read(node: &mut SuppressionState, oldest: u64, load: Load, now: Instant) -> Vec<Action> {
        let oldest = Some(Xid(oldest));
        node.apply(
            Input::Read {
                oldest,
                events: 1,
                load,
            },
            now,
        )
    }

    /// A node that is idle at `now`.
    fn idle_node(now: Instant) -> SuppressionState {
        let mut node = SuppressionState::new(now);
        assert_eq!(
            node.due_action(now),
            None,
            "a node that does not listen must not request the idle lock"
        );
        node.apply(Input::Listening, now);
        assert_eq!(node.due_action(now), Some(Action::RequestIdleLock));
        node.apply(Input::IdleLockRequested(IdleLock::Shared(Xid(9))), now);
        assert!(
            !node.is_idle(),
            "the events of a writer that was denied the lock must be read first"
        );
        read(&mut node, 8, Load::Between, now);
        assert!(!node.is_idle(), "transaction 8 may have been denied the lock");
        read(&mut node, 9, Load::Between, now);
        assert!(node.is_idle());
        node
    }

    /// A node that suppresses NOTIFY at `now`.
    fn suppressing_node(now: Instant) -> SuppressionState {
        let mut node = idle_node(now);
        assert_eq!(read(&mut node, 9, BUSY, now), [Action::ReleaseIdleLock]);
        assert_eq!(
            node.apply(Input::IdleLockReleased, now),
            [Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
        );
        assert_eq!(
            node.apply(Input::LockWaitEnded(LockWait::Held), now),
            [Action::WaitForWriterLock]
        );
        assert!(
            node.is_suppressing(),
            "a wait for the writer lock already denies the lock to writers"
        );
        assert_eq!(node.apply(Input::LockWaitEnded(LockWait::Held), now), []);
        node
    }

    #[test]
    fn a_suppressing_node_reads_without_pause_unless_the_load_is_high() {
        let now = Instant::now();
        let mut node = suppressing_node(now);
        assert_eq!(node.pause(SAFETY, now), Some(Duration::from_millis(4)));
        read(&mut node, 9, Load::Between, now);
        assert_eq!(node.pause(SAFETY, now), None);
        let mut node = suppressing_node(now);
        node.apply(
            Input::Read {
                oldest: None,
                events: 0,
                load: BUSY,
            },
            now,
        );
        let pause = |after: u64| node.pause(SAFETY, now + Duration::from_millis(after));
        assert_eq!(
            [pause(0), pause(4), pause(60_000)],
            [
                Some(SUPPRESSING_PAUSE),
                Some(Duration::from_millis(1)),
                Some(MAX_SUPPRESSING_PAUSE)
            ]
        );
        assert_eq!(idle_node(now).pause(SAFETY, now), Some(SAFETY));
    }

    #[test]
    fn a_polling_node_reads_often_at_first_and_backs_off_to_a_limit() {
        let now = Instant::now();
        let mut node = SuppressionState::new(now);
        node.apply(Input::Listening, now);
        let pause = |after: u64| node.pause(SAFETY, now + Duration::from_millis(after)).unwrap();
        assert_eq!(pause(0), SUPPRESSING_PAUSE);
        assert_eq!(pause(40), Duration::from_millis(10));
        assert_eq!(pause(60_000), POLLING_PAUSE);
    }

    #[test]
    fn an_idle_node_releases_the_lock_on_a_release_request() {
        let now = Instant::now();
        let mut node = idle_node(now);
        assert_eq!(
            node.apply(Input::Received(PeerMessage::ReleaseRequest), now),
            [Action::ReleaseIdleLock]
        );
        assert!(!node.is_idle());
        assert_eq!(
            node.apply(Input::IdleLockReleased, now),
            [Action::Send(PeerMessage::PollingPeer)]
        );
        assert_eq!(
            node.due_action(now),
            None,
            "the other node possibly does not wait for the lock yet"
        );
        assert_eq!(node.due_action(now + POLLING_PAUSE), Some(Action::RequestIdleLock));
        let denied =
            |node: &mut SuppressionState| node.apply(Input::IdleLockRequested(IdleLock::Refused), now + POLLING_PAUSE);
        assert_eq!(denied(&mut node), [], "the node has sent `PollingPeer` already");
        node.apply(Input::Received(PeerMessage::ReleaseRequest), now + POLLING_PAUSE);
        assert_eq!(node.due_action(now + 2 * POLLING_PAUSE), Some(Action::RequestIdleLock));
        assert_eq!(
            denied(&mut node),
            [Action::Send(PeerMessage::PollingPeer)],
            "the suppressing node has not received the message yet"
        );
    }

    #[test]
    fn a_release_request_during_the_lock_request_is_executed_after_it() {
        let now = Instant::now();
        let mut node = SuppressionState::new(now);
        node.apply(Input::Listening, now);
        node.due_action(now);
        assert_eq!(node.apply(Input::Received(PeerMessage::ReleaseRequest), now), []);
        assert_eq!(
            node.apply(Input::IdleLockRequested(IdleLock::Shared(Xid(9))), now),
            [Action::ReleaseIdleLock]
        );
    }

    #[test]
    fn of_two_nodes_that_want_to_suppress_one_gives_way() {
        let now = Instant::now();
        let mut node = idle_node(now);
        read(&mut node, 9, BUSY, now);
        node.apply(Input::Received(PeerMessage::ReleaseRequest), now);
        assert_eq!(
            node.apply(Input::IdleLockReleased, now),
            [Action::Send(PeerMessage::PollingPeer)]
        );
    }

    #[test]
    fn writers_notify_again_when_the_load_is_low() {
        let now = Instant::now();
        let mut node = suppressing_node(now);
        assert!(read(&mut node, 9, Load::Calm, now).contains(&Action::DropSuppressor));
        assert!(!node.is_suppressing() && !node.is_idle());
        assert_eq!(node.due_action(now), Some(Action::RequestIdleLock));
    }

    #[test]
    fn a_long_transaction_delays_suppression_and_the_node_keeps_waiting() {
        let now = Instant::now();
        let mut node = idle_node(now);
        read(&mut node, 9, BUSY, now);
        node.apply(Input::IdleLockReleased, now);
        node.apply(Input::LockWaitEnded(LockWait::Held), now);
        for _ in 0..100 {
            assert_eq!(
                node.apply(Input::LockWaitEnded(LockWait::TimedOut), now),
                [Action::WaitForWriterLock]
            );
        }
        assert_eq!(
            node.pause(SAFETY, now),
            Some(Duration::from_millis(4)),
            "the node polls meanwhile"
        );
    }

    #[test]
    fn a_peer_that_keeps_the_idle_lock_delays_suppression_for_a_while() {
        let now = Instant::now();
        let mut node = idle_node(now);
        read(&mut node, 9, BUSY, now);
        node.apply(Input::IdleLockReleased, now);
        for _ in 1..MAX_IDLE_LOCK_WAITS {
            assert_eq!(
                node.apply(Input::LockWaitEnded(LockWait::TimedOut), now),
                [Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
            );
        }
        assert_eq!(
            node.apply(Input::LockWaitEnded(LockWait::TimedOut), now),
            [Action::DropSuppressor]
        );
        node.due_action(now);
        node.apply(Input::IdleLockRequested(IdleLock::Shared(Xid(9))), now);
        assert_eq!(read(&mut node, 9, BUSY, now), []);
        assert_eq!(
            read(&mut node, 9, BUSY, now + SUPPRESS_RETRY),
            [Action::ReleaseIdleLock]
        );
    }

    #[test]
    fn a_suppressing_node_without_peers_seldom_sends_events_read() {
        let start = Instant::now();
        let mut node = suppressing_node(start);
        let sends = |node: &mut SuppressionState, after| !read(node, 9, Load::Between, start + after).is_empty();
        assert!(
            sends(&mut node, Duration::ZERO) && sends(&mut node, Duration::ZERO),
            "there may be peers"
        );
        assert!(
            sends(&mut node, PEER_ANSWER_TIMEOUT) && !sends(&mut node, PEER_ANSWER_TIMEOUT),
            "there are no peers"
        );
        node.apply(Input::Received(PeerMessage::PollingPeer), start + PEER_ANSWER_TIMEOUT);
        assert!(
            sends(&mut node, PEER_TIMEOUT) && sends(&mut node, PEER_TIMEOUT),
            "there are peers"
        );
        let gone = PEER_ANSWER_TIMEOUT + PEER_TIMEOUT;
        assert!(sends(&mut node, gone) && !sends(&mut node, gone), "the peers are gone");
    }

    #[test]
    fn a_node_polls_after_a_broken_session() {
        let now = Instant::now();
        for broken in [Input::NotListening, Input::SuppressorLost] {
            let mut node = suppressing_node(now);
            assert_eq!(node.apply(broken, now), [Action::DropSuppressor]);
            assert!(!node.is_idle() && !node.is_suppressing());
        }
        let mut node = idle_node(now);
        node.apply(Input::NotListening, now);
        assert!(!node.is_idle());
        assert_eq!(node.pause(SAFETY, now), Some(POLLING_PAUSE));
    }
}
